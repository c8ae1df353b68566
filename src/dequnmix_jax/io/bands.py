"""The spectral axis of a file: units of wavelength, and the bands that the user leaves out."""

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.scenes.read_options import ReadOptions
from dequnmix_jax.scenes.scene import LONGEST_WAVELENGTH, Array, first_invalid_length

# Bands of imaging spectrometers lie between 0.2 and 15 micrometres, so 100 separates the two units clearly.
_LARGEST_MICROMETRES = 100.0

_MICROMETRES = ("um", "µm", "μm", "micron", "microns")
_NANOMETRES = ("nm",)


def valid_lengths(values: Array | None, subject: str, what: str = "wavelengths") -> tuple[Array | None, list[str]]:
    """Return wavelengths or widths (B,) in nm unchanged, or None and a note if one lies outside (0, 1e6] nm."""
    band = None if values is None else first_invalid_length(values)
    if values is None or band is None:
        return values, []
    return None, [
        f"{subject} gives {what} that are not above 0 and at most {LONGEST_WAVELENGTH:g} nm, the first of them "
        f"{values[band]:g} nm in band {band} (counted from 0); they were left out."
    ]


def nanometres(values: Array, unit: str, subject: str = "The file") -> tuple[Array | None, list[str]]:
    """Return band centres in nanometres.

    Args:
        values: (B,) float64, in the unit of the file.
        unit: the name of the unit in the file, or "".
        subject: the first words of a note, such as "The header".

    Returns:
        (B,) float64 nm, or None if the unit is not a wavelength or a value lies outside (0, 1e6] nm; and notes about a
        unit that was guessed or values that were left out.
    """
    unit = unit.strip().lower()
    if unit in ("index", "ghz", "mhz"):
        return None, [
            f"{subject} gives band centres in '{unit}', which is not a unit of wavelength; they were left out."
        ]
    if unit == "wavenumber":
        if not (values > 0).all():
            return None, [f"{subject} gives wavenumbers that are not positive; they were left out."]
        centres, notes = valid_lengths(1e7 / values, subject)
        return centres, notes or ["Wavenumbers (1/cm) were turned into wavelengths."]
    centres, notes = valid_lengths(values, subject)  # before the unit is guessed from them
    if centres is None:
        return None, notes
    micro = unit.startswith("micro") or unit in _MICROMETRES
    # Libraries in micrometres reach 216: a file that says micrometres is overruled only by its median.
    small = bool((np.median(values) if micro else values.max()) <= _LARGEST_MICROMETRES)
    guess = "micrometres" if small else "nanometres"
    known = "micrometres" if micro else "nanometres"
    if not (micro or unit.startswith("nano") or unit in _NANOMETRES):
        what = f"unit '{unit}'" if unit else "no unit"
        guessed = [f"{subject} gives {what} for the wavelengths; {guess} were assumed from their size."]
    elif guess != known:
        guessed = [f"{subject} says {known}, but the wavelengths end at {values.max():g}; {guess} were assumed."]
    else:
        guessed = []
    centres, notes = valid_lengths(values * (1000.0 if small else 1.0), subject)
    return centres, notes or guessed


def bands_to_use(
    good: Array | None, wavelengths: Array | None, bands: int, options: ReadOptions, name: str
) -> tuple[Array | None, list[str]]:
    """Mark the bands that `options.bands` and `options.ignore` leave out as bad.

    Args:
        good: (B,) bool as the file has it, True for good, or None.
        wavelengths: (B,) nm, or None.
        bands: number of bands B.
        options: bands to keep and ranges of wavelength to ignore.
        name: the file, for messages.

    Returns:
        (B,) bool, or None when neither file nor options mark a band; a note for each option.

    Raises:
        InputError: bands that the file does not have, an empty range, or ranges for a file without wavelengths.
    """
    notes: list[str] = []
    if options.bands is None and not options.ignore:
        return good, notes
    kept = np.ones(bands, np.bool_) if good is None else np.array(good, np.bool_)
    if options.bands is not None:
        first, last = options.bands
        if not 0 <= first <= last < bands:
            raise InputError(
                f"Bands {first} to {last} of {name} are asked for, which has {bands}; expected numbers from 0 to "
                f"{bands - 1}, the lower one first."
            )
        kept[:first] = kept[last + 1 :] = False
        notes.append(f"Bands {first} to {last} (counted from 0) are used and no others.")
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
        notes.append(f"{count} band{'' if count == 1 else 's'} between {low:g} and {high:g} nm ignored.")
    return kept, notes
