"""Scenes that come with the package, are found or downloaded, or are simulated.

* `registry`: named scenes and their references, `load("hysu")`, with a hash check of each download.
* `hysu`: the targets of the HySU scene, 25 squares of known area, and how to score an unmixing against them.
* `synthetic`: linearly mixed scenes y = s a E + noise with known abundances, endmembers and brightness.
"""
