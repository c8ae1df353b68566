"""Check that the spectra of a library and a scene have one unit."""

from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.scenes.scene import Array

_OTHER_UNIT = 30.0
"""Ratio of spectra to scene above which they have different units, if the larger of them is no reflectance."""

REFLECTANCE = 1.5
"""Largest value of a reflectance, as for the warnings about a scene."""


def check_units(
    spectra: Array,
    rms: float,
    highest: float,
    scene: str,
    option: tuple[str, str] = ("--library-scale", "library_scale"),
) -> None:
    """Raise InputError where spectra and scene have different units.

    Args:
        spectra: (R, B).
        rms, highest: root mean square and largest value of the valid pixels of the scene, or of a sample.
        scene: its name.
        option: that divides the library, on the command line and in Python.
    """
    own, top = float(np.sqrt(np.mean(np.square(spectra, dtype=np.float64)))), float(spectra.max())
    if not (own > 0 and rms > 0):
        return
    ratio = own / rms
    if top > REFLECTANCE >= highest and ratio > _OTHER_UNIT:
        word, (line, python) = "library", option
    elif highest > REFLECTANCE >= top and ratio < 1 / _OTHER_UNIT:
        word, line, python = "scene", "--scale", "scale"
        ratio = 1 / ratio
    else:
        return
    power = f"{10.0 ** round(np.log10(ratio)):.10g}"
    raise InputError(
        f"The spectra of the library reach {top:.4g} and {scene or 'the scene'} {highest:.4g}; expected both in one "
        f"unit. Divide the {word}, for example by {power} ({line} {power}, or {python}={power})."
    )


def rms_and_highest(cube: Any, valid: Any) -> tuple[float, float]:
    """Return root mean square and largest value of the valid pixels of a cube; (0, 0) without any."""
    squares, count, highest = 0.0, 0, -np.inf
    for row, seen in zip(cube, valid, strict=True):  # row by row: no second cube is held
        values = row[seen].astype(np.float64)
        squares, count = squares + float(np.sum(np.square(values))), count + values.size
        highest = max(highest, float(values.max(initial=-np.inf)))
    return ((squares / count) ** 0.5, highest) if count else (0.0, 0.0)
