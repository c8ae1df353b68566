"""Basis of every picture: figures without global state, colours, names, and saving."""

import os
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dequnmix_jax.checks import InputError, pip_hint
from dequnmix_jax.escaping import shown
from dequnmix_jax.io.atomic import replacing_file
from dequnmix_jax.io.remote import as_local

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# Okabe & Ito 2008 without yellow, which is faint on white: distinct under every common colour blindness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
ON_DARK = ("#5AAFEA", "#FF8B45", "#2CCB9D", "#E79CCB", "#F4B63C", "#A6DDFA", "#FFFFFF")
"""Lighter versions of the same hues for a dark page."""

GREY = "0.7"  # masked pixels: no colour of viridis is neutral
# Inches of a map: usual width, greatest height, smallest of each; a title needs its width.
_WIDE, _HIGH, _LEAST_WIDE, _LEAST_HIGH = 2.3, 3.2, 1.1, 0.45
_DPI = 150


def require() -> None:
    """Raise InputError unless matplotlib can be imported; called before long work that ends with pictures."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise InputError(f"Pictures need matplotlib, which is not installed: {pip_hint('plots')}.") from error


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of `width` by `height` inches, without pyplot and its list of open windows."""
    require()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def panel(shape: tuple[int, ...]) -> tuple[float, float]:
    """Return width and height in inches of a map of (rows, columns) pixels."""
    rows, columns = shape[:2]
    height = min(_WIDE * rows / columns, _HIGH)
    return max(min(_WIDE, height * columns / rows), _LEAST_WIDE), max(height, _LEAST_HIGH)


def wrapped(text: str, inches: float, lines: int) -> str:
    """Return text wrapped to a width in inches at 9 points, in at most `lines` lines."""
    letters = max(int(inches * 72 / 5.2), 8)
    return "\n".join(textwrap.wrap(shown(text), letters, max_lines=lines, placeholder=" …"))


def save(figure: "Figure", path: str | os.PathLike[str], overwrite: bool = False) -> Path:
    """Write a figure to a file, atomically.

    Args:
        figure: from a function of `plots`.
        path: its suffix sets the format: .png, .pdf, .svg, ...
        overwrite: replace an existing file.

    Returns:
        The path written.

    Raises:
        InputError: the format is unknown, or the file exists and `overwrite` is False.
    """
    target = as_local(path)
    known = figure.canvas.get_supported_filetypes()
    kind = target.suffix.lower().removeprefix(".")
    if kind not in known:
        raise InputError(
            f"{target} ends in {target.suffix or 'nothing'!r}; expected one of .{', .'.join(sorted(known))}."
        )
    with replacing_file(target, overwrite=overwrite) as temporary:
        write_figure(figure, temporary, kind, _DATES.get(kind))
    return target


_DATES: dict[str, dict[str, str | None]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
"""Entries that omit the time of writing, by format; PNG holds no time."""


def write_figure(figure: "Figure", place: Any, kind: str, metadata: Mapping[str, str | None] | None) -> None:
    """Write a figure so that equal figures give equal bytes (names inside an SVG are random by default).

    Args:
        figure: from `new_figure`.
        place: a path or a binary file.
        kind: the format.
        metadata: for matplotlib's writer; a value of None omits an entry.
    """
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "dequnmix_jax"}):
        figure.savefig(place, format=kind, dpi=_DPI, metadata=None if metadata is None else dict(metadata))
