"""Pictures for an HTML page as data: URIs, for light and dark pages and for wide and narrow screens.

Maps show row 0 at the top and column 0 at the left, as the arrays are stored. Curves come in four forms, one for
each kind of page, because a picture cannot follow the colours of its page.
"""

import base64
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dequnmix_jax.report.plots import with_gaps
from dequnmix_jax.report.style import COLOURS, ON_DARK, new_figure, wrapped, write_figure
from dequnmix_jax.scenes.scene import Array

# Larger maps are averaged down to about this many pixels, so that a page of ten maps has a few megabytes; pixels of
# smaller maps are enlarged to squares, so that no program smooths them.
_MOST_PIXELS, _LEAST_SIDE = 640_000, 480


class Theme(NamedTuple):
    """Style of curves on one kind of page."""

    name: str
    ink: str
    grid: str
    colours: tuple[str, ...]
    inches: float


THEMES = (
    Theme("light", "#1b1f24", "#d7dbe0", COLOURS, 10.5),
    Theme("dark", "#e8eaed", "#444a52", ON_DARK, 10.5),
    Theme("light narrow", "#1b1f24", "#d7dbe0", COLOURS, 4.4),
    Theme("dark narrow", "#e8eaed", "#444a52", ON_DARK, 4.4),
)
"""Light and dark, wide and narrow."""


class Scale(NamedTuple):
    """Mapping from values to colours.

    Attributes:
        low, high: values at the ends.
        colours: name of a colour map of matplotlib.
        logarithmic: whether the scale is logarithmic.
    """

    low: float
    high: float
    colours: str
    logarithmic: bool = False

    def middle(self) -> float:
        """Return the value at the middle colour."""
        return math.sqrt(self.low * self.high) if self.logarithmic else (self.low + self.high) / 2


def scale_of(values: Array, valid: Array, colours: str, logarithmic: bool = False) -> Scale:
    """Return a scale from 0, or from the smallest positive value, to the 99th percentile of the valid pixels."""
    seen = np.asarray(values, np.float64)[valid]
    seen = seen[np.isfinite(seen)]
    if logarithmic:
        seen = seen[seen > 0]
        if not seen.size:
            return Scale(1e-7, 1e-6, colours, True)
        low, high = np.percentile(seen, [1, 99.9])
        return Scale(float(low), float(max(high, 10 * low)), colours, True)
    high = float(np.percentile(seen, 99)) if seen.size else 0.0
    return Scale(0.0, high if high > 0 else 1.0, colours)


def stops(scale: Scale, count: int = 16) -> list[str]:
    """Return the colours of a scale from low to high, as #rrggbb."""
    table = np.round(255 * _table(scale.colours)(np.linspace(0, 1, count))[:, :3]).astype(int)
    return ["#{:02x}{:02x}{:02x}".format(*row) for row in table]


def _table(name: str) -> Any:
    from matplotlib import colormaps

    return colormaps[name]


def map_picture(values: Array, valid: Array, scale: Scale) -> tuple[str, int, int]:
    """Return a map as a PNG in a data: URI, its width and its height; masked pixels are transparent.

    Args:
        values: (H, W).
        valid: (H, W) bool.
        scale: from values to colours.
    """
    seen = valid & np.isfinite(values)
    number = np.where(seen, np.asarray(values, np.float64), 0.0)
    (number,), seen = _reduced((number,), seen)
    if scale.logarithmic:
        number = np.log(np.maximum(number, scale.low))
        low, high = math.log(scale.low), math.log(scale.high)
    else:
        low, high = scale.low, scale.high
    colours = _table(scale.colours)(np.clip((number - low) / (high - low), 0, 1))
    colours[..., 3] = seen
    return _png(colours)


def colour_picture(colours: Array, valid: Array) -> tuple[str, int, int]:
    """Return a picture (H, W, 3) of uint8 as `map_picture` does."""
    planes, seen = _reduced(tuple(np.moveaxis(np.asarray(colours, np.float64) / 255, 2, 0)), valid)
    return _png(np.dstack([*planes, seen]))


def _reduced(planes: Sequence[Array], seen: Array) -> tuple[list[Array], Array]:
    """Average planes over squares until they are small enough; a square is valid if any of its pixels is."""
    height, width = seen.shape
    side = math.ceil(math.sqrt(max(height * width / _MOST_PIXELS, 1)))
    if side == 1:
        return list(planes), seen
    rows, columns = np.arange(0, height, side), np.arange(0, width, side)

    def summed(values: Array) -> Array:
        return np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)

    count = summed(seen.astype(np.float64))
    return [summed(np.where(seen, plane, 0)) / np.maximum(count, 1) for plane in planes], count > 0


def _png(colours: Array) -> tuple[str, int, int]:
    from matplotlib.image import imsave

    height, width = colours.shape[:2]
    larger = max(1, _LEAST_SIDE // max(height, width))
    pixels = np.round(255 * colours).astype(np.uint8).repeat(larger, axis=0).repeat(larger, axis=1)
    file = io.BytesIO()
    imsave(file, np.ascontiguousarray(pixels), format="png")
    return _uri("image/png", file.getvalue()), pixels.shape[1], pixels.shape[0]


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def spectra_chart(
    spectra: Array,
    names: Sequence[str],
    wavelengths: Array | None,
    unit: str,
    matched: Array | None = None,
) -> dict[str, str]:
    """Return the endmembers, and library spectra dashed, as SVG for each theme by its name.

    Args:
        spectra: (R, B).
        names: R names.
        wavelengths: (B,) nm, or None.
        unit: label of the vertical axis.
        matched: (R, B), library spectra, NaN in rows without one; or None.
    """
    places = np.arange(spectra.shape[1], dtype=float) if wavelengths is None else np.asarray(wavelengths, float)
    order = np.argsort(places)
    x, curves = with_gaps(places[order], np.asarray(spectra, float)[:, order])
    dashed = None if matched is None else with_gaps(places[order], np.asarray(matched, float)[:, order])[1]

    def draw(theme: Theme) -> Any:
        wide = theme.inches > 6
        lines = math.ceil(len(names) / (4 if wide else 2))
        figure = new_figure(theme.inches, 4.0 + 0.24 * lines)
        axes = figure.add_subplot()
        handles = []
        for i, y in enumerate(curves):
            colour, style = theme.colours[i % 7], "-" if i < 7 else (0, (1, 1))
            handles += axes.plot(x, y, color=colour, linewidth=1.8, linestyle=style)
            if dashed is not None:
                axes.plot(x, dashed[i], color=colour, linewidth=1.1, linestyle=(0, (4, 2)))
        axes.set_xlabel("band (counted from 0)" if wavelengths is None else "wavelength (nm)")
        axes.set_ylabel(wrapped(unit, 3.5, 2), parse_math=False)
        axes.margins(x=0.01)
        _style(axes, theme)
        texts = [wrapped(name, 1.7, 2) for name in names]
        legend = figure.legend(
            handles,
            [str(i) for i in range(len(texts))],
            loc="outside upper left",
            ncols=4 if wide else 2,
            frameon=False,
            labelcolor=theme.ink,
            fontsize=10,
        )
        for entry, text in zip(legend.get_texts(), texts, strict=True):  # a name may hold "_" or "$"
            entry.set_parse_math(False)
            entry.set_text(text)
        return figure

    return _each(draw)


def training_chart(history: Mapping[str, Any], tolerance: float | None) -> dict[str, str] | None:
    """Return loss, residual and solver steps over the training as SVG for each theme, or None without a history.

    Args:
        history: lists by the names of `History`, as a checkpoint holds them.
        tolerance: of the relative residual, drawn as a line; or None.
    """
    columns = [
        np.array(history.get(name) or (), float) for name in ("loss", "residual", "steps")
    ]  # None means not finite
    if not columns[0].size or len({column.size for column in columns}) != 1:
        return None
    from matplotlib.ticker import NullFormatter

    labels = ("loss", "relative residual", "solver steps")

    def draw(theme: Theme) -> Any:
        wide = theme.inches > 6
        figure = new_figure(theme.inches, 2.7 if wide else 6.4)
        panels = figure.subplots(*((1, 3) if wide else (3, 1)), sharex=True)
        for axes, label, values in zip(panels, labels, columns, strict=True):
            shown = np.where(values > 0, values, np.nan) if label == labels[1] else values
            axes.plot(shown, color=theme.colours[0], linewidth=1.5, marker="." if values.size < 3 else "")
            axes.set_ylabel(label)
            if label == labels[1] and np.isfinite(shown).any():
                axes.set_yscale("log")
                axes.yaxis.set_minor_formatter(NullFormatter())
                if tolerance:
                    axes.axhline(tolerance, color=theme.colours[1], linestyle="--", linewidth=1.2)
            if label == labels[2]:
                axes.set_ylim(0, max(1.0, 1.1 * float(np.nanmax(values))))
            _style(axes, theme)
        for axes in panels if wide else panels[-1:]:
            axes.set_xlabel("training step")
        return figure

    return _each(draw)


def _style(axes: Any, theme: Theme) -> None:
    axes.set_facecolor("none")
    axes.grid(color=theme.grid, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=theme.ink, which="both", labelsize=10)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(theme.ink)
        label.set_fontsize(11)
    for side, spine in axes.spines.items():
        spine.set_color(theme.ink)
        spine.set_visible(side in ("left", "bottom"))


def _each(draw: Callable[[Theme], Any]) -> dict[str, str]:
    """Return a chart in every theme. Light and dark share a drawing and differ in colours alone."""
    drawn = {}
    # The dark one is drawn, because matplotlib leaves black, a light theme's colour, out of the file.
    for theme in {theme.inches: theme for theme in THEMES}.values():
        figure = draw(theme)
        figure.patch.set_alpha(0)
        file = io.BytesIO()
        write_figure(figure, file, "svg", {"Date": None, "Creator": None})
        drawn[theme.inches] = theme, file.getvalue().decode()
    return {theme.name: _uri("image/svg+xml", _recoloured(*drawn[theme.inches], theme).encode()) for theme in THEMES}


def _recoloured(old: Theme, svg: str, new: Theme) -> str:
    """Return a drawing of one theme in the colours of another."""
    before, after = ([colour.lower() for colour in (t.ink, t.grid, *t.colours)] for t in (old, new))
    others = dict(zip(before, after, strict=True))
    return re.sub("#[0-9a-f]{6}", lambda match: others.get(match.group(), match.group()), svg)
