"""Choose spectra of a library for a scene: by name, on the scene's bands, with their classes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dequnmix_jax.checks import InputError, how_many
from dequnmix_jax.libraries.library import Library
from dequnmix_jax.libraries.resampling import resample
from dequnmix_jax.scenes.scene import Array

_MOST_NAMED = 12
"""Names that a message lists."""


class Chosen(NamedTuple):
    """Spectra of a library on the bands of a scene.

    Attributes:
        names: R names, each once; spectra of one name are numbered.
        classes: the class of each, R words, or () without classes.
        spectra: (R, C) float32, on the covered bands, finite.
        covered: (B,) bool, bands of the scene that every spectrum covers.
        notes: one sentence for each assumption.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    spectra: Array
    covered: Array
    notes: tuple[str, ...]


def choose_spectra(
    library: Library,
    wavelengths_nm: Array | None,
    fwhm_nm: Array | None = None,
    *,
    good: Array | None = None,
    spectra: Sequence[str] | None = None,
    classes: str | None = None,
    fewest: int = 2,
) -> Chosen:
    """Return spectra of a library as the sensor of a scene measures them (`resampling.resample`).

    Args:
        library: its wavelengths must increase.
        wavelengths_nm, fwhm_nm: (B,) of the scene, nanometres; the widths None when unknown.
        good: (B,) bool, bands of the scene in use; None: all.
        spectra: names; a name that several spectra share stands for all of them, and "soil,grass" for two names where
            no spectrum has a comma in its name so. None: all spectra.
        classes: the column of the library that holds the class of each spectrum; "name": spectra of one name are a
            class. None: no classes.
        fewest: smallest number of spectra.

    Returns:
        A Chosen. Bands that some spectrum does not cover are left out, with a note.

    Raises:
        InputError: the scene has no wavelengths, an unknown name or column, fewer than `fewest` spectra or two
            covered bands, or a spectrum that is unknown in half of the bands that the others cover.
    """
    if wavelengths_nm is None:
        raise InputError(
            "The scene has no wavelengths, so that the spectra of a library cannot be brought to its bands; expected "
            "one wavelength a band in the file. Add them to it (wavelengths_nm in a .npz, wavelength in an ENVI "
            "header)."
        )
    names = numbered(library.names)
    words = () if classes is None else _classes(library, classes)
    rows = list(range(len(names))) if spectra is None else _rows(library.names, names, spectra)
    if len(rows) < fewest:
        raise InputError(
            f"{_label(library)} gives {how_many(len(rows), 'spectrum')} to unmix with; expected at least two, because "
            "the fraction of a single one is 1 everywhere. Add spectra, such as a shade of zeros."
        )
    here = resample(library, wavelengths_nm, fwhm_nm)
    used = np.ones(here.wavelengths_nm.size, np.bool_) if good is None else good
    values = here.spectra[rows]
    known = np.isfinite(values) & used
    _check_known(known, [names[row] for row in rows], library)
    covered = np.asarray(known.all(axis=0))
    # Bands outside the range are told below, with the gaps.
    notes = [f"Library: {note}" for note in here.notes if not note.endswith("and are NaN.")]
    missing = used & ~covered
    if covered.sum() < 2:
        raise InputError(
            f"{_label(library)} and the scene share {how_many(int(covered.sum()), 'band')} in which every spectrum is "
            "known; expected at least two. Choose spectra of one spectrometer by name, or correct the units of the "
            "wavelengths."
        )
    if missing.any():
        notes.append(
            f"{int(missing.sum())} of {int(used.sum())} bands are not covered by every spectrum and are left out: "
            f"{_ranges(here.wavelengths_nm, missing)}."
        )
    return Chosen(
        tuple(names[row] for row in rows),
        tuple(words[row] for row in rows) if words else (),
        np.ascontiguousarray(values[:, covered], np.float32),
        covered,
        tuple(notes),
    )


def choose_fixed(
    library: Library,
    wavelengths_nm: Array | None,
    fwhm_nm: Array | None = None,
    *,
    good: Array | None = None,
    names: Sequence[str] | None = None,
) -> Chosen:
    """Return the spectra of a library that are fixed in an unmixing whose other spectra are found in the scene.

    Args:
        library, wavelengths_nm, fwhm_nm, good: as for `choose_spectra`.
        names: of the spectra, as `spectra` there; None: all.

    Raises:
        InputError: as `choose_spectra`; or a band of the scene is not covered by all of them.
    """
    chosen = choose_spectra(library, wavelengths_nm, fwhm_nm, good=good, spectra=names, fewest=1)
    used = np.ones(chosen.covered.size, np.bool_) if good is None else good
    missing = used & ~chosen.covered
    if missing.any():
        raise InputError(
            f"The fixed spectra do not cover {int(missing.sum())} of {int(used.sum())} bands of the scene "
            f"({_ranges(np.asarray(wavelengths_nm), missing)}); expected all, because the others are found there. "
            "Leave these bands out: ignore=[(from, to)] (--ignore FROM:TO)."
        )
    return chosen


def numbered(names: Sequence[str]) -> tuple[str, ...]:
    """Return names with a number after each that occurs more than once.

    >>> numbered(["soil", "grass", "soil"])
    ('soil 1', 'grass', 'soil 2')
    """
    seen: dict[str, int] = {}
    taken = set(names)
    result = []
    for name in names:
        if sum(other == name for other in names) == 1:
            result.append(name)
            continue
        number = seen.get(name, 0) + 1
        while f"{name} {number}" in taken:
            number += 1
        seen[name] = number
        result.append(f"{name} {number}")
    return tuple(result)


def _label(library: Library) -> str:
    return "The library" if library.source is None else str(library.source)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _classes(library: Library, column: str) -> tuple[str, ...]:
    """Return the class of each spectrum of a library."""
    if column in library.columns:
        words = library.columns[column]
    else:
        alike = [key for key in library.columns if key.lower() == column.lower()]
        if len(alike) == 1:
            words = library.columns[alike[0]]
        elif column.lower() == "name":
            words = library.names
        else:
            there = ", ".join([*library.columns, "name (the names themselves)"])
            raise InputError(
                f"{_label(library)} has no column {column!r} of classes; expected one of: {there}. A table with a "
                "spectrum in each row has its columns of text before the values."
            )
    empty = [name for name, word in zip(numbered(library.names), words, strict=True) if not word.strip()]
    if empty:
        raise InputError(
            f"{_label(library)} gives no class for {_listed(empty)}; expected one for each spectrum in the column "
            f"{column!r}. Fill it in."
        )
    return tuple(word.strip() for word in words)


def _rows(names: Sequence[str], unique: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Return the numbers of the spectra that names mean, each once, in the order of the names."""
    found: list[int] = []
    for entry in wanted:
        whole = _of_name(entry, names, unique)
        parts = [whole] if whole else [_of_name(part.strip(), names, unique) for part in entry.split(",")]
        unknown = [part.strip() for part, rows in zip(entry.split(","), parts, strict=False) if not rows]
        if unknown and not whole:
            raise InputError(
                f"The library has no spectrum {', '.join(map(repr, unknown))}; expected names among: "
                f"{_listed(list(dict.fromkeys([*names])))}."
            )
        found += [row for rows in parts for row in rows]
    return list(dict.fromkeys(found))


def _of_name(name: str, names: Sequence[str], unique: Sequence[str]) -> list[int]:
    return [row for row, pair in enumerate(zip(names, unique, strict=True)) if name in pair]


def _check_known(known: Array, names: Sequence[str], library: Library) -> None:
    """Raise InputError where a spectrum lacks half of the bands that another one has."""
    each = known.sum(axis=1)
    short = [name for name, count in zip(names, each, strict=True) if 2 * count < each.max()]
    if each.max() == 0 or not short:
        return
    raise InputError(
        f"{_label(library)}: {_listed(short)} {'is' if len(short) == 1 else 'are'} known in {int(each.min())} of the "
        f"{int(each.max())} bands that other spectra cover; expected spectra over one range. Name the others by "
        "spectra=[...] (--spectra)."
    )


def _ranges(wavelengths: Array, bands: Array) -> str:
    """Return runs of bands as ranges of wavelengths."""
    at = np.flatnonzero(bands)
    runs = np.split(at, np.flatnonzero(np.diff(at) > 1) + 1)
    texts = [f"{wavelengths[run[0]]:.0f} to {wavelengths[run[-1]]:.0f} nm" for run in runs]
    return _listed(texts)
