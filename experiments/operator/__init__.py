"""The learned operator: its spectra, its scenes, and how it is trained and judged."""
