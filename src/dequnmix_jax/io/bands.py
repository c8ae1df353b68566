"""The spectral axis of a file: units of wavelength, and the bands that the user leaves out."""

from collections.abc import Sequence

import numpy as np

from dequnmix_jax.checks import InputError, how_many
from dequnmix_jax.io import units
from dequnmix_jax.scenes.read_options import ReadOptions
from dequnmix_jax.scenes.scene import LONGEST_WAVELENGTH, Array, first_invalid_length

# Bands of imaging spectrometers lie between 0.2 and 15 micrometres, so 100 separates the two units clearly.
_LARGEST_MICROMETRES = 100.0

# Nanometres between which the median of the bands of any imaging spectrometer lies.
_PLAUSIBLE = (100.0, 1e5)

# Widths per distance of neighbouring bands: from 0.03 (few lines of a library) to 10 (oversampled spectra). Widths in
# another unit are off by 1000.
_WIDTHS_PER_STEP = (0.005, 30.0)
_USUAL_WIDTHS_PER_STEP = (0.03, 30.0)

_NO_LENGTHS = ("index", "ghz", "mhz", "thz", "hz")


LONGEST_UNNAMED = 3500.0
"""Largest number without a unit that is taken as nanometres: 2500 nm are 25,000 angstroms and 4000/cm."""


def unnamed(values: Array, subject: str, what: str) -> str:
    """Return the sentence about wavelengths without a unit that may be nanometres, angstroms or wavenumbers."""
    return (
        f"{subject}, {values.min():g} to {values.max():g}, which may be nanometres, angstroms or wavenumbers (1/cm); "
        f"they {what}."
    )


def valid_lengths(values: Array | None, subject: str, what: str = "wavelengths") -> tuple[Array | None, list[str]]:
    """Return wavelengths or widths (B,) in nm unchanged, or None and a note if one lies outside (0, 1e6] nm."""
    band = None if values is None else first_invalid_length(values)
    if values is None or band is None:
        return values, []
    return None, [
        f"{subject} gives {what} that are not above 0 and at most {LONGEST_WAVELENGTH:g} nm, the first of them "
        f"{np.ravel(values)[band]:g} nm in band {band} (counted from 0); they were left out."
    ]


def nanometres(values: Array, unit: str, subject: str = "The file") -> tuple[Array | None, list[str]]:
    """Return band centres in nanometres, and notes; see `spectral_axis`."""
    centres, _, notes = spectral_axis(values, unit, subject)
    return centres, notes


def spectral_axis(
    values: Array,
    unit: str,
    subject: str = "The file",
    widths: Array | None = None,
    width_unit: str = "",
    *,
    sure: bool = False,
) -> tuple[Array | None, Array | None, list[str]]:
    """Return band centres and widths in nanometres.

    A unit that the numbers contradict is corrected, with a note: wavelengths of a median outside 0.1 to 100
    micrometres, and widths that are off the distances of the bands by about 1000.

    Args:
        values: (B,) float64, in the unit of the file.
        unit: the name of the unit in the file (`units.units_in`), or "".
        subject: the first words of a note, such as "The header".
        widths: (B,) full widths at half maximum, or None.
        width_unit: the name of their unit, or "", which means that of the wavelengths.
        sure: the unit is the user's, and is not corrected.

    Returns:
        (B,) float64 nm, or None if the unit is not a wavelength or a value lies outside (0, 1e6] nm; the same of the
        widths; and notes about a unit that was guessed or values that were left out.
    """
    centres, known, notes = _centres(values, unit.strip(), subject, sure)
    if centres is None or widths is None:
        return centres, None, notes
    stated = units.units_in(width_unit)
    fwhm, width_notes = _widths(widths, centres, stated[0] if len(stated) == 1 else known, subject)
    return centres, fwhm, notes + width_notes


def _centres(values: Array, unit: str, subject: str, sure: bool) -> tuple[Array | None, str, list[str]]:
    """Return the wavelengths, their unit in the words of `units`, and notes."""
    if unit.lower() in _NO_LENGTHS:
        why = (
            f"{subject} gives band centres in '{unit.lower()}', which is not a unit of wavelength; they were left out."
        )
        return None, "", [why]
    named = units.units_in(unit)
    if len(named) > 1:
        why = (
            f"{subject} gives the wavelengths in {' and '.join(named)} ('{unit}'), not in one unit; they were left out."
        )
        return None, "", [why]
    if named == (units.WAVENUMBERS,):
        if not (values > 0).all():
            return None, "", [f"{subject} gives wavenumbers that are not positive; they were left out."]
        centres, notes = valid_lengths(units.to_nanometres(values, units.WAVENUMBERS), subject)
        return centres, units.WAVENUMBERS, notes or ["Wavenumbers (1/cm) were turned into wavelengths."]
    # A length may be below 1e-6 in its unit, such as 4.5e-7 m, and not negative.
    centres, notes = valid_lengths(values, subject)  # before the unit is guessed from them
    if centres is None:
        return None, "", notes
    # Libraries in micrometres reach 216: a file that says micrometres is overruled only by its median.
    small = bool((np.median(values) if named == ("micrometres",) else values.max()) <= _LARGEST_MICROMETRES)
    guess = "micrometres" if small else "nanometres"
    known, contradicted = guess, False
    guessed: list[str] = []
    if not named:
        what = f"unit '{unit.lower()}'" if unit else "no unit"
        if values.max() > LONGEST_UNNAMED:
            return None, "", [unnamed(values, f"{subject} gives {what} for the wavelengths", "were left out")]
        guessed = [f"{subject} gives {what} for the wavelengths; {guess} were assumed from their size."]
    elif named[0] in ("nanometres", "micrometres"):
        contradicted = named[0] != guess
    else:
        middle = float(np.median(units.to_nanometres(values, named[0])))
        contradicted = not _PLAUSIBLE[0] <= middle <= _PLAUSIBLE[1]
    if named and contradicted and not sure:
        guessed = [f"{subject} says {named[0]}, but the wavelengths end at {values.max():g}; {guess} were assumed."]
    elif named:
        known = named[0]
    centres, notes = valid_lengths(units.to_nanometres(values, known), subject)
    return centres, known, notes or guessed


def _widths(values: Array, centres: Array, unit: str, subject: str) -> tuple[Array | None, list[str]]:
    """Return widths in nanometres, in the unit whose widths go with the distances of the bands, and notes."""
    widths = units.widths_in_nanometres(values, centres, unit)
    steps = np.abs(np.diff(np.sort(centres)))
    steps = steps[steps > 0]
    notes = []
    if steps.size:
        step = float(np.median(steps))

        def fits(candidate: Array, limits: tuple[float, float]) -> bool:
            return bool(limits[0] <= np.median(candidate) / step <= limits[1])

        if not fits(widths, _WIDTHS_PER_STEP):
            for other in ("nanometres", "micrometres"):
                candidate = units.widths_in_nanometres(values, centres, other)
                if other != unit and fits(candidate, _USUAL_WIDTHS_PER_STEP):
                    notes = [
                        f"{subject} gives widths (fwhm) of {np.median(values):g}, which in {unit} do not go with bands "
                        f"{step:g} nm apart; {other} were assumed."
                    ]
                    widths = candidate
    fwhm, left_out = valid_lengths(widths, subject, "widths (fwhm)")
    return fwhm, left_out or notes


def bands_to_use(
    good: Array | None, wavelengths: Array | None, bands: int, options: ReadOptions, name: str
) -> tuple[Array | None, list[str]]:
    """Mark the bands that `options.bands`, `drop_bands` and `ignore` leave out as bad.

    Args:
        good: (B,) bool as the file has it, True for good, or None.
        wavelengths: (B,) nm, or None.
        bands: number of bands B.
        options: bands to keep, bands to drop and ranges of wavelength to ignore.
        name: the file, for messages.

    Returns:
        (B,) bool, or None when neither file nor options mark a band; a note for each option.

    Raises:
        InputError: bands that the file does not have, an empty range, or ranges for a file without wavelengths.
    """
    notes: list[str] = []
    if options.bands is None and not options.ignore and not options.drop_bands:
        return good, notes
    kept = np.ones(bands, np.bool_) if good is None else np.array(good, np.bool_)
    if options.bands is not None:
        kept &= _within(options.bands, bands, name)
        notes.append(f"Bands {_said(options.bands)} (counted from 0) are used and no others.")
    if options.drop_bands:
        dropped = _within(options.drop_bands, bands, name)
        kept &= ~dropped
        plural = "s are" if dropped.sum() > 1 else " is"
        notes.append(f"Band{plural} left out: {_said(options.drop_bands)} (counted from 0).")
    if not options.ignore:
        return kept, notes
    if wavelengths is None:
        raise InputError(
            f"{name} has no wavelengths, so bands cannot be ignored by their range; expected wavelengths in the file. "
            "Keep bands by their numbers instead: bands=(first, last) (--bands FIRST:LAST)."
        )
    for low, high in options.ignore:
        if not (np.isfinite(low) and np.isfinite(high) and low <= high):
            raise InputError(
                f"The range to ignore is {low:g} to {high:g} nm; expected the shorter wavelength first, like 1310:1490."
            )
        inside = (wavelengths >= low) & (wavelengths <= high)
        kept &= ~inside
        count = int(inside.sum())
        notes.append(f"{how_many(count, 'band')} between {low:g} and {high:g} nm ignored.")
    return kept, notes


def _within(ranges: Sequence[tuple[int, int]], bands: int, name: str) -> Array:
    """Return (B,) bool, True for the bands of some ranges; raise InputError for bands that the file does not have."""
    inside = np.zeros(bands, np.bool_)
    for first, last in ranges:
        if not 0 <= first <= last < bands:
            raise InputError(
                f"Bands {first} to {last} of {name} are asked for, which has {bands}; expected numbers from 0 to "
                f"{bands - 1}, the lower one first."
            )
        inside[first : last + 1] = True
    return inside


def _said(ranges: Sequence[tuple[int, int]]) -> str:
    """Return ranges in words.

    >>> _said([(0, 9), (12, 12)])
    '0 to 9, 12'
    """
    return ", ".join(f"{first}" if first == last else f"{first} to {last}" for first, last in ranges)
