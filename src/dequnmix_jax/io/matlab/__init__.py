"""MATLAB files: versions 5 to 7.2 (`mat5`), all versions (`variables`), and the layouts of papers (`scene`)."""
