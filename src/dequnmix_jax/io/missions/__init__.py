"""HDF5 files of missions: EMIT and PRISMA. `detect` chooses the module; a new mission is a module and a line there."""
