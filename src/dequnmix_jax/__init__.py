"""Hyperspectral unmixing by deep equilibrium models, in JAX."""

__version__ = "0.1.0"
