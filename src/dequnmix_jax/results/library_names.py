"""Names of the endmembers of a result from a library, for its files: band names, columns, headings, summary.json.

Names of files never change: they hold the maps of all endmembers, in the order of the endmembers.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.libraries.library import Library
from dequnmix_jax.libraries.matching import Matches, match
from dequnmix_jax.libraries.naming import Naming, named
from dequnmix_jax.libraries.resampling import resample
from dequnmix_jax.results.maps import endmember_names
from dequnmix_jax.results.result import Result
from dequnmix_jax.scenes.scene import Array

_NEAREST = 3
"""Library spectra that are looked at for each endmember."""


def nearest_in(
    endmembers: Array, wavelengths: Array | None, fwhm: Array | None, library: Library
) -> tuple[Matches, Library]:
    """Return the nearest library spectra of endmembers, and the library on the bands of the scene.

    Args:
        endmembers: (R, B).
        wavelengths, fwhm: (B,) nm, or None.
        library: spectra.

    Raises:
        InputError: the scene has no wavelengths, or nothing in the library can be compared.
    """
    if wavelengths is None:
        raise InputError(
            "The scene has no wavelengths, so that its spectra cannot be compared with a library; expected wavelengths "
            "in the file. Report without a library."
        )
    here = resample(library, wavelengths, fwhm)
    return match(endmembers, here, count=min(_NEAREST, len(here.names))), here


def with_library_names(result: Result, library: Library) -> Result:
    """Return a result whose endmembers have names from a library where they match it (`libraries.naming`).

    Args:
        result: names of the form "endmember 2" are replaced, others stay.
        library: spectra.

    Raises:
        InputError: as from `nearest_in`.
    """
    matches, _ = nearest_in(result.endmembers, result.wavelengths_nm, result.fwhm_nm, library)
    naming = named(result.names, matches)
    entries = {"endmembers": list(naming.labels), **names_record(result.names, naming, matches)}
    return replace(result, names=naming.labels, summary={**result.summary, **entries})


def library_names(
    endmembers: Array,
    wavelengths: Array | None,
    fwhm: Array | None,
    library: Library,
    names: Sequence[str] | None = None,
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return names for endmembers by a library, and the entry of summary.json about them; as `with_library_names`."""
    matches, _ = nearest_in(endmembers, wavelengths, fwhm, library)
    words = endmember_names(names, len(endmembers))
    naming = named(words, matches)
    return naming.labels, names_record(words, naming, matches)


def names_record(names: Sequence[str], naming: Naming, matches: Matches) -> dict[str, Any]:
    """Return the entry "library_names": of each endmember its number as a name, the nearest spectrum and how sure."""
    angles = [float(angle) if np.isfinite(angle) else None for angle in matches.angles[:, 0]]
    nearest = [texts[0] for texts in matches.names]
    words = ("endmember", "nearest", "angle", "sure")
    rows = zip(names, nearest, angles, naming.sure, strict=True)
    return {"library_names": [dict(zip(words, row, strict=True)) for row in rows]}
