"""Look at single pixels of a result in a notebook."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from dequnmix_jax.abundances.methods import NONLINEAR
from dequnmix_jax.checks import InputError, pip_hint
from dequnmix_jax.io.formats import read
from dequnmix_jax.report.style import COLOURS, GREY, new_figure
from dequnmix_jax.results.result import Result
from dequnmix_jax.scenes.band_order import scene_in_order
from dequnmix_jax.scenes.scene import Scene

_MOST_NAMED = 12
"""Letters of a name under a bar."""


class Explorer:
    """A picture of a result that follows the mouse: a map, and beside it the pixel under the pointer.

    Attributes:
        canvas: the widget; a notebook displays it.
        row, column: of the pixel that is shown.
        endmember: number of the map that is shown.
        pinned: whether the pixel stays when the pointer moves.
    """

    def __init__(self, result: Result, scene: Scene | None, canvas_of: Any) -> None:
        """Draw the first map and the pixel of its largest fraction."""
        self._result, self._scene = result, scene
        self.pinned, self.endmember = False, 0
        self._linear = _method(result) not in NONLINEAR
        best = np.where(result.valid, result.abundances[:, :, 0], -1)
        self.row, self.column = (int(i) for i in np.unravel_index(int(np.argmax(best)), best.shape))
        figure = new_figure(9.5, 4.4)
        figure.set_dpi(100)
        self.canvas = canvas_of(figure)
        grid = figure.add_gridspec(2, 2, width_ratios=(1, 1.35), height_ratios=(1.5, 1))
        places = (grid[:, 0], grid[0, 1], grid[1, 1])
        self._map, self._spectrum, self._bars = (figure.add_subplot(place) for place in places)
        hidden = ~result.valid
        self._maps = [np.ma.masked_array(result.abundances[:, :, i], hidden) for i in range(len(result.names))]
        self._image = self._map.imshow(self._maps[0], "viridis", vmin=0, vmax=1, interpolation="nearest")
        self._map.set_facecolor(GREY)
        self._map.set_xlabel("column")
        self._map.set_ylabel("row")
        (self._cross,) = self._map.plot([self.column], [self.row], "w+", markersize=12, markeredgewidth=1.5)
        figure.colorbar(self._image, ax=self._map, shrink=0.7, label="abundance")
        self.canvas.mpl_connect("motion_notify_event", self._moved)
        self.canvas.mpl_connect("button_press_event", self._pressed)
        self.show(self.row, self.column)

    def show(self, row: int, column: int, endmember: int | None = None) -> None:
        """Show a pixel, and another map if its number is given."""
        result = self._result
        height, width, count = result.abundances.shape
        numbers = [row, column, *([] if endmember is None else [endmember])]
        whole = all(isinstance(number, int | np.integer) for number in numbers)
        at = 0 if endmember is None else endmember
        if not whole or not (0 <= row < height and 0 <= column < width and 0 <= at < count):
            raise InputError(
                f"row {row}, column {column}, endmember {endmember} is not in the result; expected rows 0 to "
                f"{height - 1}, columns 0 to {width - 1} and endmembers 0 to {count - 1}."
            )
        self.row, self.column = row, column
        if endmember is not None:
            self.endmember = endmember
        self._image.set_data(self._maps[self.endmember])
        self._map.set_title(f"{result.names[self.endmember]} (click a bar for another)", fontsize=9, parse_math=False)
        self._cross.set_data([column], [row])
        self._draw_spectrum()
        self._draw_fractions()
        self.canvas.draw_idle()

    def _draw_spectrum(self) -> None:
        result, row, column = self._result, self.row, self.column
        axes = self._spectrum
        axes.clear()
        named = result.wavelengths_nm is not None
        places = result.wavelengths_nm if result.wavelengths_nm is not None else np.arange(result.endmembers.shape[1])
        if not result.valid[row, column]:
            axes.set_title(f"row {row}, column {column}: masked", fontsize=9)
            return
        text = f"row {row}, column {column}, brightness {result.brightness[row, column]:.3g}"
        if self._scene is not None:
            axes.plot(places, self._scene.cube[row, column], color="black", linewidth=1.2, label="measured")
        if self._linear:
            fit = result.brightness[row, column] * (result.abundances[row, column] @ result.referred)
            axes.plot(places, fit, color=COLOURS[1], linewidth=1.2, label="fit")
        else:
            text += ", mixing not linear: no fit"
        if result.residual is not None:
            text += f", residual {result.residual[row, column]:.3g}"
        axes.set_title(f"{text}{', pinned' if self.pinned else ''}", fontsize=9)
        axes.set_xlabel("wavelength, nm" if named else "band", fontsize=8)
        axes.set_ylabel(str(result.summary.get("unit", "")), fontsize=8)
        axes.tick_params(labelsize=8)
        if axes.lines:
            axes.legend(fontsize=8, frameon=False)

    def _draw_fractions(self) -> None:
        result, row, column = self._result, self.row, self.column
        axes = self._bars
        axes.clear()
        fractions = result.abundances[row, column]
        deviations = None if result.abundances_sd is None else result.abundances_sd[row, column]
        colours = [COLOURS[i % len(COLOURS)] for i in range(fractions.size)]
        axes.bar(np.arange(fractions.size), fractions, color=colours, yerr=deviations, ecolor="0.3", capsize=3)
        axes.set_ylim(min(0, float(fractions.min())), max(1, float(fractions.max())))
        names = [name[:_MOST_NAMED] for name in result.names]
        axes.set_xticks(np.arange(fractions.size), names, fontsize=8, rotation=20)
        axes.set_ylabel("fraction" if deviations is None else "fraction, sd", fontsize=8)
        axes.tick_params(labelsize=8)

    def _pixel(self, event: Any) -> tuple[int, int] | None:
        if event.inaxes is not self._map or event.xdata is None:
            return None
        row, column = round(event.ydata), round(event.xdata)
        height, width = self._result.abundances.shape[:2]
        return (row, column) if 0 <= row < height and 0 <= column < width else None

    def _moved(self, event: Any) -> None:
        pixel = self._pixel(event)
        if pixel is not None and not self.pinned and pixel != (self.row, self.column):
            self.show(*pixel)

    def _pressed(self, event: Any) -> None:
        pixel = self._pixel(event)
        if pixel is not None:
            self.pinned = not self.pinned or pixel != (self.row, self.column)
            self.show(*pixel)
        elif event.inaxes is self._bars and event.xdata is not None:
            number = min(max(round(event.xdata), 0), len(self._result.names) - 1)
            self.show(self.row, self.column, number)


def _method(result: Result) -> str:
    """Return the word of the method of known spectra, or ""."""
    configuration = result.summary.get("configuration")
    method = configuration.get("method") if isinstance(configuration, Mapping) else None
    return str(method.get("method", "")) if isinstance(method, Mapping) else ""


def _on_the_bands_of(result: Result, scene: Scene) -> Scene:
    """Return a scene with the bands of a result, in its order, where both know their wavelengths."""
    if result.wavelengths_nm is None or scene.wavelengths is None:
        return scene
    scene = scene_in_order(scene, result.wavelengths_nm) if scene.cube.shape[2] == result.endmembers.shape[1] else scene
    if scene.cube.shape[2] <= result.endmembers.shape[1]:
        return scene
    assert scene.wavelengths is not None  # sorting keeps them
    used = np.abs(scene.wavelengths[:, None] - result.wavelengths_nm[None]).min(axis=1) < 1e-3
    return replace(scene, good_bands=used).with_good_bands() if used.sum() == result.endmembers.shape[1] else scene


def explore(result: Result, scene: Any = None) -> Any:
    """Show a result in a notebook: the pixel under the mouse with its spectrum, its fit and its fractions.

    Moving over the map shows the pixel; a click pins it, and a second one frees it; a click on a bar shows the map of
    that endmember. Bars have the standard deviations of the fractions where the result has them.

    Args:
        result: from `run`, `unmix_with` or `read_result`.
        scene: what was unmixed, for the measured spectra: a `Scene`, or anything that `read` takes; None: that of an
            `Unmixing`, or else only the fit is drawn.

    Returns:
        A widget, which a notebook displays; `.explorer.show(row, column)` shows a pixel from Python.

    Raises:
        InputError: the scene is another one, or the extra `explore` is not installed.
    """
    try:
        from ipympl.backend_nbagg import Canvas, FigureManager
    except ImportError as error:
        raise InputError(f"explore needs ipympl, which is not installed: {pip_hint('explore')}.") from error
    if not isinstance(result, Result):
        raise InputError(
            f"explore got {type(result).__name__}; expected a Result, as run, unmix_with and read_result return it."
        )
    scene = getattr(result, "scene", None) if scene is None else scene
    if scene is not None and not isinstance(scene, Scene):
        scene = read(scene)
    if scene is not None:
        scene = _on_the_bands_of(result, scene.with_good_bands())
        expected = (*result.abundances.shape[:2], result.endmembers.shape[1])
        if scene.cube.shape != expected:
            raise InputError(
                f"The scene has shape {scene.cube.shape} and the result {expected} (rows, columns, bands); expected "
                "the scene that was unmixed, read with the same options."
            )

    def canvas_of(figure: Any) -> Any:
        with warnings.catch_warnings():  # ipympl passes what traitlets no longer takes
            warnings.simplefilter("ignore", DeprecationWarning)
            canvas = Canvas(figure)
            FigureManager(canvas, 0)
        canvas.header_visible = canvas.footer_visible = False
        return canvas

    explorer = Explorer(result, scene, canvas_of)
    explorer.canvas.explorer = explorer  # lives as long as the widget
    return explorer.canvas
