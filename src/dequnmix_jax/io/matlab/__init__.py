"""matlab."""
