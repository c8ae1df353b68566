"""Damaged files, killed processes, mutants of the code, large scenes."""
