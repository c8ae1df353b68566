"""HDF5 files of missions. `detect` chooses the reader; a new mission is a row in `table`, about 10 lines.

EMIT (a lookup table of its map) and PRISMA (two detectors, error matrices) have modules of their own.
"""
