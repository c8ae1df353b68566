"""Spectral libraries: read, resample to the bands of a scene, match.

* `read_library`: ENVI, CSV and USGS files; `Library`: spectra (N, B), names, wavelengths in nanometres.
* `resample`: to other bands, by Gaussian responses of the given widths.
* `choose_spectra`: some of its spectra, by name, on the bands of a scene, with their classes.
* `prune`: of each class those that stand for the others best (EAR, MASA, CoB).
* `match`: the library spectra with the smallest spectral angle to each endmember.
"""

from typing import TYPE_CHECKING

from dequnmix_jax.lazy import attach

if TYPE_CHECKING:
    from dequnmix_jax.libraries.chosen import Chosen, choose_spectra
    from dequnmix_jax.libraries.library import Library
    from dequnmix_jax.libraries.matching import Matches, match
    from dequnmix_jax.libraries.pruning import prune
    from dequnmix_jax.libraries.reading import read_library
    from dequnmix_jax.libraries.resampling import resample

__all__ = ["Chosen", "Library", "Matches", "choose_spectra", "match", "prune", "read_library", "resample"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "libraries.chosen": ["Chosen", "choose_spectra"],
        "libraries.library": ["Library"],
        "libraries.matching": ["Matches", "match"],
        "libraries.pruning": ["prune"],
        "libraries.reading": ["read_library"],
        "libraries.resampling": ["resample"],
    },
)
