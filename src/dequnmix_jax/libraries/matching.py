"""Name endmembers by the nearest spectra of a library."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError, check_endmembers
from dequnmix_jax.libraries.library import Library
from dequnmix_jax.scenes.scene import Array

_SAME = 1e-6
"""Radians. Smaller differences of angles count as ties: rounding a spectrum to float32 turns it by less."""


@dataclass(frozen=True, eq=False)
class Matches:
    """The nearest library spectra of each endmember, the nearest first.

    Attributes:
        names: R tuples of k names; "" where fewer than k spectra can be compared.
        rows: (R, k) int, rows of the library, -1 where the name is "".
        angles: (R, k), radians in [0, pi], NaN where the name is "".
        bands: (R, k) int, number of compared bands: those known on both sides.
        ties: (R,) int, number of library spectra at the smallest angle; 1 if the first name is unique.
    """

    names: tuple[tuple[str, ...], ...]
    rows: Array
    angles: Array
    bands: Array
    ties: Array


def match(endmembers: Any, library: Library, *, count: int = 1, overlap: float = 0.5) -> Matches:
    """Return the library spectra with the smallest spectral angles to each endmember.

    angle(e, l) = 2 arctan2(|u - v|, |u + v|), u and v the unit vectors of the bands in which both are known. The angle
    does not depend on brightness. Each endmember is matched independently: two of them may get the same name.

    Args:
        endmembers: (R, B), on the bands of the library (see `resample`); NaN where unknown.
        library: N spectra.
        count: k, number of names for each spectrum, at most N.
        overlap: smallest share of a spectrum's known bands that a library spectrum must have, in (0, 1], because an
            angle over few bands tends to be small. Two bands are required in any case.

    Returns:
        Matches. Library spectra that are zero in every common band are never named, and an endmember that is zero in
        every known band (shade) gets no name.

    Raises:
        InputError: the bands differ, a count or an overlap is out of range, a spectrum is unknown, or no
            library spectrum can be compared with it.

    Reference:
        Kruse et al., The spectral image processing system (SIPS), Remote Sensing of Environment 44, 1993.
    """
    endmembers = np.asarray(endmembers)
    check_endmembers(endmembers, library.spectra.shape[1])
    if endmembers.dtype.kind not in "biuf":
        raise InputError(f"The endmembers have the data type {endmembers.dtype}; expected real numbers.")
    if not 1 <= count <= len(library.names):
        raise InputError(
            f"{count} names are asked for and the library holds {len(library.names)}; expected at least 1 and at most "
            "as many as it holds."
        )
    if not 0.0 < overlap <= 1.0:
        raise InputError(f"overlap is {overlap}; expected a share of the bands in (0, 1], such as 0.5.")
    known = np.isfinite(endmembers)
    empty = np.flatnonzero(~known.any(axis=1))
    if empty.size:
        raise InputError(f"Endmember {empty[0]} is NaN in every band; expected a spectrum. Leave it out.")
    black = ~(np.where(known, endmembers, 0.0) != 0.0).any(axis=1)
    angles, bands = _angles(endmembers.astype(np.float64), known, library.spectra.astype(np.float64), library.valid)
    few = bands < np.maximum(2, np.ceil(overlap * known.sum(axis=1)))[:, None]
    angles = np.where(few, np.nan, angles)
    lost = np.flatnonzero(np.isnan(angles).all(axis=1) & ~black)
    if lost.size:
        raise InputError(
            f"Endmember {lost[0]} can be compared with no library spectrum: none is known, and not zero, in "
            f"{overlap:g} of its {known[lost[0]].sum()} bands. Check the range of the library, or lower the overlap."
        )
    order = np.argsort(angles, axis=1, kind="stable")[:, :count]  # NaN comes last
    nearest = np.take_along_axis(angles, order, axis=1)
    rows = np.where(np.isnan(nearest), -1, order)
    return Matches(
        names=tuple(tuple(library.names[row] if row >= 0 else "" for row in line) for line in rows.tolist()),
        rows=rows,
        angles=nearest,
        bands=np.where(rows >= 0, np.take_along_axis(bands, order, axis=1), 0),
        ties=(angles <= nearest[:, :1] + _SAME).sum(axis=1),
    )


def _angles(endmembers: Array, known: Array, spectra: Array, valid: Array) -> tuple[Array, Array]:
    """Return angles (R, N), NaN where a side is zero in the common bands, and the number of common bands (R, N)."""
    angles = np.empty((len(endmembers), len(spectra)))
    bands = np.empty(angles.shape, np.int64)
    for r, (spectrum, own) in enumerate(zip(endmembers, known, strict=True)):
        both = valid & own[None, :]
        u = np.where(both, spectrum[None, :], 0.0)
        v = np.where(both, spectra, 0.0)
        lengths = [np.linalg.norm(x, axis=1, keepdims=True) for x in (u, v)]
        zero = (lengths[0] == 0.0) | (lengths[1] == 0.0)
        u, v = (x / np.where(zero, 1.0, length) for x, length in zip((u, v), lengths, strict=True))
        angle = 2.0 * np.arctan2(np.linalg.norm(u - v, axis=1), np.linalg.norm(u + v, axis=1))
        angles[r] = np.where(zero[:, 0], np.nan, angle)
        bands[r] = both.sum(axis=1)
    return angles, bands
