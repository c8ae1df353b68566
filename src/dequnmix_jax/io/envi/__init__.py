"""envi."""
