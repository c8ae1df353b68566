"""Damaged files, ended processes, mutants of the code, large scenes."""
