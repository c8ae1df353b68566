"""ENVI files: headers (`header`), images and spectral libraries (`image`, `writer`)."""
