"""The spectral axis of a file: units of wavelength, and bands that the user sets aside."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.scenes.scene import LONGEST, Array, wrong_length

# Bands of imaging spectrometers lie between 0.2 and 15 micrometres, so 100 separates the two units by far.
_LARGEST_MICROMETRES = 100.0

_MICROMETRES = ("um", "µm", "μm", "micron", "microns")
_NANOMETRES = ("nm",)


class BandNumbers(NamedTuple):
    """Bands to use, all others being set aside; `first` and `last` are counted from 0, both included."""

    first: int
    last: int


def lengths(values: Array | None, said: str, what: str = "wavelengths") -> tuple[Array | None, list[str]]:
    """Return wavelengths or widths (B,) in nm as they are, or None and a note where one lies outside (0, 1e6] nm."""
    band = None if values is None else wrong_length(values)
    if values is None or band is None:
        return values, []
    return None, [
        f"{said} gives {what} that are not above 0 and at most {LONGEST:g} nm, the first of them {values[band]:g} nm "
        f"in band {band} (counted from 0); they were left out."
    ]


def nanometres(values: Array, unit: str, said: str = "The file") -> tuple[Array | None, list[str]]:
    """Return band centres in nanometres.

    Args:
        values: (B,) float64, in the unit of the file.
        unit: what the file calls the unit, or "".
        said: who says so, to begin the notes with.

    Returns:
        (B,) float64 nm, or None where the unit is no wavelength or a value is not above 0 and at most a millimetre,
        and notes about a unit that was guessed or about what was left out.
    """
    unit = unit.strip().lower()
    if unit in ("index", "ghz", "mhz"):
        return None, [f"{said} gives band centres in '{unit}', which is no wavelength; they were left out."]
    if unit == "wavenumber":
        if not (values > 0).all():
            return None, [f"{said} gives wavenumbers that are not positive; they were left out."]
        found, wrong = lengths(1e7 / values, said)
        return found, wrong or ["Wavenumbers (1/cm) were turned into wavelengths."]
    found, wrong = lengths(values, said)  # before the unit is guessed from them
    if found is None:
        return None, wrong
    micro = unit.startswith("micro") or unit in _MICROMETRES
    # Libraries in micrometres reach 216; where the file says micrometres, most of its values must deny it.
    small = bool((np.median(values) if micro else values.max()) <= _LARGEST_MICROMETRES)
    guess = "micrometres" if small else "nanometres"
    known = "micrometres" if micro else "nanometres"
    if not (micro or unit.startswith("nano") or unit in _NANOMETRES):
        what = f"unit '{unit}'" if unit else "no unit"
        notes = [f"{said} gives {what} for the wavelengths; {guess} were assumed from their size."]
    elif guess != known:
        notes = [f"{said} says {known}, but the wavelengths end at {values.max():g}; {guess} were assumed."]
    else:
        notes = []
    found, wrong = lengths(values * (1000.0 if small else 1.0), said)
    return found, wrong or notes


def without_ignored(
    good: Array | None, wavelengths: Array | None, bands: int, ignore: Sequence[tuple[float, float]], name: str
) -> tuple[Array | None, list[str]]:
    """Mark the bands inside some ranges of wavelength as bad.

    Args:
        good: (B,) bool as the file has it, True for good, or None.
        wavelengths: (B,) nm, or None.
        bands: number of bands B.
        ignore: ranges (shortest, longest) in nm, both ends included, or BandNumbers to keep.
        name: the file, for messages.

    Returns:
        (B,) bool, or None when the file marks none and nothing is ignored; a note for each range.

    Raises:
        InputError: a range that is none, or a file without wavelengths.
    """
    notes: list[str] = []
    if not ignore:
        return good, notes
    kept = np.ones(bands, np.bool_) if good is None else np.array(good, np.bool_)
    ranges = [entry for entry in ignore if not isinstance(entry, BandNumbers)]
    for entry in ignore:
        if isinstance(entry, BandNumbers):
            if not 0 <= entry.first <= entry.last < bands:
                raise InputError(
                    f"Bands {entry.first} to {entry.last} of {name} are asked for, which has {bands}; expected numbers "
                    f"from 0 to {bands - 1}, the lower one first."
                )
            kept[: entry.first] = kept[entry.last + 1 :] = False
            notes.append(f"Bands {entry.first} to {entry.last} (counted from 0) are used alone, as asked.")
    if not ranges:
        return kept, notes
    if wavelengths is None:
        raise InputError(
            f"{name} has no wavelengths, so bands cannot be ignored by their range; expected wavelengths in the file. "
            "Keep bands by their numbers instead: bands=(first, last) (--bands FIRST:LAST)."
        )
    for low, high in ranges:
        if not (np.isfinite(low) and np.isfinite(high) and low <= high):
            raise InputError(
                f"The range to ignore is {low:g} to {high:g} nm; expected the shorter wavelength first, like 1310:1490."
            )
        inside = (wavelengths >= low) & (wavelengths <= high)
        kept &= ~inside
        count = int(inside.sum())
        notes.append(f"{count} band{'' if count == 1 else 's'} between {low:g} and {high:g} nm ignored, as asked.")
    return kept, notes
