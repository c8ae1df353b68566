"""Scenes that come with the package, are found or downloaded, or are simulated.

* `registry`: named scenes and their references, `load("hysu")`, with a hash check of each download.
* `hysu`: the targets of the HySU scene, 25 squares of known area, and how to score an unmixing against them.
* `synthetic`: linearly mixed scenes y = s a E + noise with known abundances, endmembers and brightness.
"""

from typing import TYPE_CHECKING

from dequnmix_jax.lazy import attach

if TYPE_CHECKING:
    from dequnmix_jax.datasets import hysu, registry, synthetic

__all__ = ["hysu", "registry", "synthetic"]

__getattr__, __dir__ = attach(__name__, {}, __all__)
