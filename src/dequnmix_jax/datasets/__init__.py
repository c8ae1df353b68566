"""Scenes that come with the package or are made: `registry` (download and check), `hysu` (the demo), `synthetic`."""
