"""What is typed behind an option: numbers, and ranges of them; the complaints are argparse's."""

import argparse
from functools import partial
from typing import Any


def wavelengths(text: str) -> tuple[float, float]:
    """Return the two ends of a range of wavelengths, such as 1310:1490."""
    return _range(text, float, "wavelengths, such as 1310:1490", "write the shorter wavelength first")


def band_numbers(text: str) -> tuple[int, int]:
    """Return the two ends of a range of band numbers, such as 0:119."""
    low, high = _range(text, int, "band numbers, such as 0:119", "write the lower number first")
    if low < 0:
        raise argparse.ArgumentTypeError(f"{text!r} begins below 0; bands are counted from 0")
    return low, high


def _range(text: str, number: Any, what: str, order: str) -> tuple[Any, Any]:
    try:
        low, high = (number(part) for part in text.split(":"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no range of {what}") from None
    if not low <= high:  # NaN is refused too
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
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
    if value < least:
        raise argparse.ArgumentTypeError(f"{value} is less than {least}")
    return value


positive, not_negative = partial(_at_least, 1), partial(_at_least, 0)
