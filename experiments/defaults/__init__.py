"""How the defaults were chosen, on generated scenes."""
