"""Units of wavelength: their names in files, and conversion to nanometres.

| unit | words |
| --- | --- |
| nanometres | nm, nanometers |
| micrometres | um, µm, microns, micrometers |
| angstroms | Å, angstroms |
| millimetres, centimetres, metres | mm, cm, and their names; m by itself or in brackets |
| wavenumbers | cm-1, 1/cm, cm^-1, wavenumber |

A word counts only if it stands by itself, so that "Spectrum", "Number" and "Column" name no unit.
"""

import re

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.scenes.scene import Array

FACTORS = {
    "nanometres": 1.0,
    "micrometres": 1e3,
    "angstroms": 0.1,
    "millimetres": 1e6,
    "centimetres": 1e7,
    "metres": 1e9,
}
"""Nanometres in each unit of length."""

WAVENUMBERS = "wavenumbers"
"""In 1/cm; the wavelength is 1e7 / v nm."""

SHORT = {"nm": "nanometres", "um": "micrometres", "angstrom": "angstroms", "cm-1": WAVENUMBERS}
"""The names of units in options."""

# In this order, because "cm-1" begins with "cm".
_WORDS = (
    (WAVENUMBERS, r"wave ?numbers?|cm ?\^? ?\(?[-−⁻] ?[1¹]\)?|1 ?/ ?cm|per cm|kaysers?"),
    ("nanometres", r"nm|nano|nanomet\w*"),
    ("micrometres", r"[uµμ]m|micro|microns?|micromet\w*"),
    ("angstroms", r"å|[aå]ngstr[oöø]ms?"),
    ("millimetres", r"mm|millimet\w*"),
    ("centimetres", r"cm|centimet\w*"),
    ("metres", r"met(?:er|re)s?"),
)
_PATTERN = re.compile(
    "|".join(f"(?P<u{i}>(?<![^\\W\\d_])(?:{words})(?![^\\W_]))" for i, (_, words) in enumerate(_WORDS))
)
_METRE_ALONE = re.compile(r"^\s*m\s*$|[(\[]\s*m\s*[)\]]")

LENGTH = re.compile(
    r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)[\s_]*(nm|nanomet\w*|um|µm|μm|micromet\w*|microns?|å|angstroms?)(?![^\W_])",
    re.IGNORECASE,
)
"""A wavelength with its unit in the name of a band."""

_BRACKETED = re.compile(r"[(\[]\s*(\d+(?:\.\d+)?(?:e[+-]?\d+)?)\s*[)\]]\s*$", re.IGNORECASE)

# No imaging spectrometer has a band below this wavelength (nm): smaller plain numbers are band numbers.
_SHORTEST = 200.0
_LONGEST_MICROMETRES = 100.0


def units_in(text: str) -> tuple[str, ...]:
    """Return the units of wavelength that a text names, in order, each once.

    >>> units_in("Wavelength [µm]"), units_in("Wavenumber (cm-1)"), units_in("Spectrum")
    (('micrometres',), ('wavenumbers',), ())
    """
    lowered = text.lower()
    found = [_WORDS[int(str(match.lastgroup)[1:])][0] for match in _PATTERN.finditer(lowered)]
    if not found and _METRE_ALONE.search(lowered):
        found = ["metres"]
    return tuple(dict.fromkeys(found))


def unit_in(text: str, subject: str) -> str:
    """Return the unit that a text names, or "".

    Raises:
        InputError: the text names several units.
    """
    units = units_in(text)
    if len(units) > 1:
        raise InputError(
            f"{subject} names {' and '.join(units)} in {text.strip()[:60]!r}; expected one unit. Correct it."
        )
    return units[0] if units else ""


def to_nanometres(values: Array, unit: str) -> Array:
    """Return wavelengths in nanometres.

    Args:
        values: positive.
        unit: a key of `FACTORS`, or `WAVENUMBERS`.
    """
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        return np.asarray(1e7 / values if unit == WAVENUMBERS else values * FACTORS[unit])


def widths_in_nanometres(values: Array, centres: Array, unit: str) -> Array:
    """Return full widths at half maximum in nanometres; for wavenumbers d(1e7 / v) = 1e7 / v^2 dv.

    Args:
        values: (B,), in the unit.
        centres: (B,) nm.
        unit: a key of `FACTORS`, or `WAVENUMBERS`.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(centres**2 * values / 1e7 if unit == WAVENUMBERS else values * FACTORS[unit])


def lengths_in_names(names: list[str]) -> tuple[Array, str] | None:
    """Return the wavelengths that the names of bands hold, and their unit or "".

    Read are a number with a unit ("450.0 nm", "band 19 (0.513 Micrometers)"), a number in brackets at the end
    ("Band 1 (402.44)") and a plain number ("402.44"). Without a unit, numbers that may be counts are not wavelengths:
    whole numbers below 200, and numbers that repeat.

    Args:
        names: one for each band.

    Returns:
        (B,) and the unit in words; None unless every name holds a wavelength of the same unit.
    """
    if not names:
        return None
    matches = [LENGTH.search(name) for name in names]
    if all(matches):
        units = {units_in(match[2])[0] for match in matches if match}
        return (np.array([float(match[1]) for match in matches if match]), units.pop()) if len(units) == 1 else None
    plain = [match[1] if (match := _BRACKETED.search(name)) else name for name in names]
    try:
        values = np.array([float(text) for text in plain])
    except ValueError:
        return None
    if not np.isfinite(values).all() or values.min() <= 0 or np.unique(values).size < values.size:
        return None
    nanometres = values.min() >= _SHORTEST
    whole = bool((values == np.round(values)).all())
    micrometres = not whole and values.min() >= _SHORTEST / 1000 and values.max() <= _LONGEST_MICROMETRES
    return (values, "") if nanometres or micrometres else None
