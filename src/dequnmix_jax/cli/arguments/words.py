"""From the words of the command line to values."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from dequnmix_jax.checks import InputError
from dequnmix_jax.io.remote import as_local, as_place


def wavelengths(text: str) -> tuple[float, float]:
    """Return the two ends of a range of wavelengths, such as 1310:1490."""
    return _range(text, float, "wavelengths, such as 1310:1490", "write the shorter wavelength first")


def band_numbers(text: str) -> tuple[tuple[int, int], ...]:
    """Return ranges of band numbers, such as 0:119 or 0:9,12,20:29."""
    ranges = []
    for part in text.split(","):
        both = part if ":" in part else f"{part}:{part}"
        low, high = _range(both, int, "band numbers, such as 0:119 or 0:9,20:29", "write the lower number first")
        if low < 0:
            raise argparse.ArgumentTypeError(f"{part!r} begins below 0; bands are counted from 0")
        ranges.append((low, high))
    return tuple(ranges)


def values(text: str) -> tuple[float, ...]:
    """Return numbers separated by commas, such as 4,5."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers, such as 4,5") from None


def fractions(text: str) -> tuple[float, float]:
    """Return the two ends of a range of fractions, such as -0.05:1.05."""
    return _range(text, float, "fractions, such as -0.05:1.05", "write the smaller fraction first")


def _range(text: str, number: Any, what: str, order: str) -> tuple[Any, Any]:
    try:
        low, high = (number(part) for part in text.split(":"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a range of {what}") from None
    if not low <= high:  # also refuses NaN
        raise argparse.ArgumentTypeError(f"{text!r} ends before it begins; {order}")
    return low, high


def number_or_auto(text: str) -> int | str:
    """Return a whole number, or the word auto."""
    try:
        return text if text == "auto" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a whole number nor auto") from None


def _at_least(least: int, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if value < least:
        raise argparse.ArgumentTypeError(f"{value} is less than {least}")
    return value


def place(text: str) -> Path:
    """Return the path, or the `Remote` of a URL."""
    return _converted(as_place, text)


def local_file(text: str) -> Path:
    """Return the path of a file on this machine."""
    return _converted(as_local, text)


def _converted(convert: Callable[[str], Path], text: str) -> Path:
    try:
        return convert(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def number_or_library(text: str) -> int | Path:
    """Return a whole number, or the path of a spectral library."""
    try:
        return int(text)
    except ValueError:
        return place(text)


def number_auto_or_library(text: str) -> int | str | Path:
    """Return a whole number, the word auto, or the path of a spectral library."""
    return text if text == "auto" else number_or_library(text)


def number_or_noise(text: str) -> float | str:
    """Return a number, or a word for a noise."""
    try:
        return float(text)
    except ValueError:
        return text


positive, not_negative = partial(_at_least, 1), partial(_at_least, 0)
