"""Draw abundances, spectra, training and scenes: each function returns a Figure and touches no global state.

Pictures show row 0 at the top and column 0 at the left, as the arrays are stored.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.report.style import COLOURS, GREY, new_figure, panel, require, save, wrapped
from dequnmix_jax.results.maps import class_bands, colour_composite, composite_words, endmember_names
from dequnmix_jax.results.result import Result
from dequnmix_jax.scenes.scene import Array, Scene

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dequnmix_jax.types import History


__all__ = [
    "abundance_maps", "compared_maps", "composite", "convergence", "endmember_spectra", "found_areas", "require",
    "save", "save_pictures",
]  # fmt: skip


def save_pictures(folder: Path, result: Result, **reference: Any) -> list[Path]:
    """Draw the abundances, spectra and colours of a result into a folder, and return the files.

    Args:
        folder: an existing folder.
        result: from `result_of`, or of a tiled unmixing.
        **reference: `reference` and `reference_name` of `endmember_spectra`.
    """
    spectra = endmember_spectra(
        result.endmembers,
        result.names,
        wavelengths=result.wavelengths_nm,
        unit=str(result.summary["unit"]),
        **reference,
    )
    figures = {
        "abundances.png": abundance_maps(result.abundances, result.names, mask=result.mask),
        "endmembers.png": spectra,
    }
    if result.classes is not None:
        figures["classes.png"] = abundance_maps(result.classes, class_bands(result.class_of), mask=result.mask)
    if result.composite is not None:
        colours = result.composite / np.float64(255)
        figures["composite.png"] = _colour_figure(colours, result.valid, str(result.composite_bands))
    return [save(figure, folder / name) for name, figure in figures.items()]


def pixel_ticks(axes: Any, shape: tuple[int, ...], wide: float, high: float) -> None:
    """Number rows and columns, as densely as fits into a map of `wide` by `high` inches."""
    from matplotlib.ticker import MaxNLocator

    inches = min(wide / shape[1], high / shape[0])  # of one pixel
    for axis, pixels in ((axes.xaxis, shape[1]), (axes.yaxis, shape[0])):
        axis.set_major_locator(MaxNLocator(max(1, min(4, int(inches * pixels / 0.3))), integer=True, min_n_ticks=1))
    axes.tick_params(labelsize=8)


def _with_axes(values: Any, name: str, axes: tuple[str, ...]) -> Array:
    """Return values as float64; raise InputError unless they have these axes, none of them empty."""
    array = np.asarray(values, np.float64)
    if array.ndim != len(axes) or 0 in array.shape:
        raise InputError(f"The {name} have shape {array.shape}; expected ({', '.join(axes)}).")
    return array


def abundance_maps(
    abundances: Any,
    names: Sequence[str] | None = None,
    *,
    mask: Array | None = None,
    truth: Any | None = None,
    reference: str = "",
) -> "Figure":
    """Draw one map per endmember, all on one scale from 0 to 1.

    Args:
        abundances: (H, W, R), fractions in [0, 1]; numpy or jax.
        names: R titles; None: "endmember 1" and so on.
        mask: (H, W) bool, True where the pixel is valid; masked pixels are grey.
        truth: (H, W, R) in the same order, drawn below each row of maps, or None.
        reference: the origin of `truth`, for the label of its rows.

    Returns:
        A Figure.

    Raises:
        InputError: the shapes do not fit, or matplotlib is missing.
    """
    values = _with_axes(abundances, "abundances", ("rows", "columns", "endmembers"))
    sets = [("estimate" if truth is not None else "", values)]
    if truth is not None:
        sets.append((f"reference: {reference}" if reference else "reference", np.asarray(truth, np.float64)))
    for what, entry in sets:
        if entry.shape != values.shape:
            raise InputError(f"The {what} has shape {entry.shape}; expected that of the estimate, {values.shape}.")
    if mask is not None and np.shape(mask) != values.shape[:2]:
        raise InputError(f"mask has shape {np.shape(mask)}; expected one value a pixel, {values.shape[:2]}.")
    titles = endmember_names(names, values.shape[2])
    return _grid_of_maps(sets, titles, mask, math.ceil(len(titles) / 4))


def compared_maps(
    maps: Mapping[str, Any], names: Sequence[str] | None = None, *, mask: Array | None = None
) -> "Figure":
    """Draw several sets of maps of the same endmembers below each other, all on one scale from 0 to 1.

    Args:
        maps: (H, W, R) fractions of each set, by the label of its row.
        names: R titles; None: "endmember 1" and so on.
        mask: (H, W) bool, True where the pixel is valid; masked pixels are grey.

    Returns:
        A Figure.

    Raises:
        InputError: there is no set, the shapes differ, or matplotlib is missing.
    """
    sets = [(label, _with_axes(values, label, ("rows", "columns", "endmembers"))) for label, values in maps.items()]
    shapes = {values.shape for _, values in sets}
    if len(shapes) != 1:
        raise InputError(f"The maps have the shapes {sorted(shapes)}; expected one or more sets of one shape.")
    return _grid_of_maps(sets, endmember_names(names, sets[0][1].shape[2]), mask, 1)


def _grid_of_maps(
    sets: Sequence[tuple[str, Array]], titles: Sequence[str], mask: Array | None, blocks: int
) -> "Figure":
    """Draw sets of maps (H, W, R) in `blocks` blocks of rows, one row of maps for each set in a block."""
    shape, count = sets[0][1].shape, len(titles)
    columns = math.ceil(count / blocks)
    wide, high = panel(shape)
    lines = blocks * len(sets)
    # Around the maps: tick labels and axis labels at the left, colour bar at the right, titles above.
    figure = new_figure(columns * (wide + 0.12) + 1.9, max(lines * (high + 0.3) + blocks * 0.35 + 0.5, 2.6))
    grid = figure.add_gridspec(lines, columns)
    hidden = np.zeros(shape, bool)[:, :, 0] if mask is None else ~np.asarray(mask, bool)
    drawn = []
    for index, title in enumerate(titles):
        block, column = divmod(index, columns)
        for offset, (label, maps) in enumerate(sets):
            axes = figure.add_subplot(grid[block * len(sets) + offset, column])
            picture = np.ma.masked_array(maps[:, :, index], hidden | ~np.isfinite(maps[:, :, index]))
            image = axes.imshow(picture, _map_colours(), vmin=0, vmax=1, origin="upper", interpolation="nearest")
            pixel_ticks(axes, shape, wide, high)
            if offset == 0:
                axes.set_title(wrapped(title, wide, 2), fontsize=9, parse_math=False)
            if column == 0:
                above = wrapped(label, high, 3)
                axes.set_ylabel(f"{above}\nrow" if above else "row", fontsize=9, parse_math=False)
            else:
                axes.tick_params(labelleft=False)
            lowest = offset == len(sets) - 1 and index + columns >= count
            axes.tick_params(labelbottom=lowest)
            if lowest:
                axes.set_xlabel("column", fontsize=9)
            drawn.append(axes)
    bar = figure.colorbar(image, ax=drawn, shrink=min(1.0, 4.0 / (lines * high)), pad=0.02)
    bar.set_label("abundance (fraction of the pixel)", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    return figure


def found_areas(true: Any, found: Mapping[str, Any], names: Sequence[str], unit: str = "m²") -> "Figure":
    """Draw areas found against true areas, one panel for each material, both axes logarithmic.

    Args:
        true: (S,), the true areas of S targets of each material.
        found: (M, S) areas, NaN where a material was not found, by the name of the method.
        names: M materials.
        unit: of the areas.

    Returns:
        A Figure.

    Raises:
        InputError: the shapes do not fit, or matplotlib is missing.
    """
    sizes = np.asarray(true, np.float64)
    for method, values in found.items():
        if np.shape(values) != (len(names), sizes.size):
            raise InputError(
                f"The areas of {method} have shape {np.shape(values)}; expected {(len(names), sizes.size)}."
            )
    figure = new_figure(2.2 * len(names) + 0.8, 3.4)
    panels = np.atleast_1d(figure.subplots(1, len(names), sharex=True, sharey=True))
    least = sizes.min() / 4
    for row, (axes, name) in enumerate(zip(panels, names, strict=True)):
        axes.plot(sizes, sizes, color="0.4", linewidth=1.0, label="true")
        for number, (method, values) in enumerate(found.items()):
            areas = np.maximum(np.asarray(values, np.float64)[row], least)
            style = {"marker": "os^D"[number % 4], "color": COLOURS[number % 7], "markersize": 5, "linewidth": 1.0}
            axes.plot(sizes, areas, label=method, **style)
        axes.set(xscale="log", yscale="log", xlabel=f"true area ({unit})")
        axes.set_title(wrapped(name, 2.0, 2), fontsize=9, parse_math=False)
        axes.grid(color="0.9", linewidth=0.6)
    panels[0].set_ylabel(f"area found ({unit})")
    panels[0].legend(fontsize=7)
    return figure


def _map_colours() -> Any:
    from matplotlib import colormaps

    return colormaps["viridis"].with_extremes(bad=GREY)


def with_gaps(places: Array, spectra: Array) -> tuple[Array, Array]:
    """Insert NaN where bands are missing, so that no line crosses the gap."""
    steps = np.diff(places)
    gaps = np.flatnonzero(steps > 3 * np.median(steps)) + 1 if steps.size else np.empty(0, int)
    return np.insert(places, gaps, np.nan), np.insert(spectra, gaps, np.nan, axis=1)


def endmember_spectra(
    endmembers: Any,
    names: Sequence[str] | None = None,
    *,
    wavelengths: Array | None = None,
    reference: Any | None = None,
    reference_name: str = "reference",
    unit: str = "reflectance",
) -> "Figure":
    """Draw the spectra of the endmembers.

    Args:
        endmembers: (R, B); numpy or jax.
        names: R names; None: "endmember 1" and so on.
        wavelengths: (B,) nm; None: band numbers, counted from 0.
        reference: (R, B) in the same order, dashed, NaN in rows without a reference; or None.
        reference_name: label of the dashed lines in the legend.
        unit: label of the vertical axis.

    Returns:
        A Figure.

    Raises:
        InputError: the shapes do not fit, or matplotlib is missing.
    """
    from_estimate = _with_axes(endmembers, "endmembers", ("endmembers", "bands"))
    count, bands = from_estimate.shape
    labels = endmember_names(names, count)
    places = np.arange(bands, dtype=float) if wavelengths is None else np.asarray(wavelengths, np.float64)
    dashed = None if reference is None else np.asarray(reference, np.float64)
    if places.shape != (bands,) or (dashed is not None and dashed.shape != from_estimate.shape):
        raise InputError(
            f"The endmembers have shape {from_estimate.shape}, the wavelengths {places.shape} and the reference "
            f"{np.shape(dashed) if dashed is not None else 'none'}; expected the same bands in all."
        )
    order = np.argsort(places)  # bands of overlapping detectors are not in order
    figure = new_figure(8.0, 4.2)
    axes = figure.add_subplot()
    handles, texts = [], []
    for spectra, style in ((from_estimate, None), (dashed, (0, (4, 2)))):
        if spectra is None:
            continue
        x, lines = with_gaps(places[order], spectra[:, order])
        for i, y in enumerate(lines):
            # After seven colours they repeat, dotted.
            again = "-" if i < len(COLOURS) else (0, (1, 1))
            (line,) = axes.plot(x, y, color=COLOURS[i % 7], linestyle=style or again, linewidth=1.0 if style else 1.6)
            if style is None:
                handles.append(line)
                texts.append(wrapped(labels[i], 1.6, 2))
    if dashed is not None:
        handles.append(axes.plot([], [], color="0.3", linestyle=(0, (4, 2)), linewidth=1.0)[0])
        texts.append(wrapped(f"dashed: {reference_name}", 1.6, 3))
    axes.set_xlabel("band (counted from 0)" if wavelengths is None else "wavelength (nm)")
    axes.set_ylabel(unit)
    axes.margins(x=0.01)
    axes.grid(color="0.9", linewidth=0.6)
    legend = figure.legend(handles, [f"{i}" for i in range(len(texts))], loc="outside right upper", fontsize=9)
    # Set afterwards: a legend omits names that begin with "_" and reads "$" as a formula.
    for entry, text in zip(legend.get_texts(), texts, strict=True):
        entry.set_parse_math(False)
        entry.set_text(text)
    # 9 points per line plus the spacing of the legend, in inches.
    figure.set_figheight(max(4.2, 0.5 + sum(0.16 * (text.count("\n") + 1) + 0.08 for text in texts)))
    return figure


def convergence(history: "History", *, tolerance: float | None = None) -> "Figure":
    """Draw the loss, spectral angle, residual and solver steps at each training step.

    Args:
        history: one entry per training step; numpy or jax.
        tolerance: of the relative residual, drawn as a line, or None.

    Returns:
        A Figure.

    Raises:
        InputError: the history is empty, or matplotlib is missing.
    """
    loss = np.asarray(history.loss, np.float64)
    if loss.size == 0:
        raise InputError("The history is empty; expected at least one training step. Train for one or more epochs.")
    steps = np.arange(loss.size)
    figure = new_figure(8.0, 5.0)
    panels = figure.subplots(2, 2, sharex=True)
    residual = np.asarray(history.residual, np.float64)
    residual = np.where(residual > 0, residual, np.nan)  # an exact solution has no logarithm
    curves = (
        (loss, "loss"),
        (np.asarray(history.angle, np.float64), "mean spectral angle (rad)"),
        (residual, "relative residual"),
        (np.asarray(history.steps, np.float64), "solver steps"),
    )
    for axes, (values, label) in zip(panels.flat, curves, strict=True):
        axes.plot(steps, values, color=COLOURS[0], linewidth=1.3, marker="." if loss.size <= 40 else "")
        axes.set_ylabel(label)
        axes.grid(color="0.9", linewidth=0.6)
    _residual_panel(panels[1, 0], steps, residual, np.asarray(history.converged, bool), tolerance)
    panels[1, 1].set_ylim(0, max(1.0, 1.1 * np.max(history.steps)))
    for axes in panels[1]:
        axes.set_xlabel("training step")
    return figure


def _residual_panel(axes: Any, steps: Array, residual: Array, converged: Array, tolerance: float | None) -> None:
    finite = np.isfinite(residual)
    if finite.any():
        axes.set_yscale("log")
    if tolerance:
        axes.axhline(tolerance, color=COLOURS[1], linestyle="--", linewidth=1.0, label=f"tolerance {tolerance:g}")
    failed = ~converged & finite
    if failed.any():
        label = f"not converged: {int((~converged).sum())} of {converged.size}"
        axes.plot(steps[failed], residual[failed], "x", color=COLOURS[1], label=label)
    if tolerance or failed.any():
        axes.legend(fontsize=8)


def composite(scene: Scene, *, low: float = 2.0, high: float = 98.0) -> "Figure":
    """Draw a scene in colour: the bands nearest to red, green and blue, each stretched between two percentiles.

    Args:
        scene: any scene; masked pixels are grey.
        low, high: percentiles of the valid pixels that become black and full colour.

    Returns:
        A Figure.

    Raises:
        InputError: the percentiles are not a range, or matplotlib is missing.
    """
    colours, bands = colour_composite(scene, low, high)
    return _colour_figure(colours, scene.valid, composite_words(bands, scene.wavelengths))


def _colour_figure(colours: Array, valid: Array, bands: str) -> "Figure":
    """Draw colours (H, W, 3) in [0, 1] of the bands named; masked pixels are grey."""
    colours = np.where(valid[:, :, None], colours, float(GREY))
    wide, high_inches = panel(colours.shape)
    figure = new_figure(1.8 * wide + 0.9, 1.8 * high_inches + 0.9)
    axes = figure.add_subplot()
    axes.imshow(colours, origin="upper", interpolation="nearest")
    title = f"{bands} as red, green, blue"
    axes.set_title(wrapped(title, 1.8 * wide, 2), fontsize=9)
    axes.set_xlabel("column", fontsize=9)
    axes.set_ylabel("row", fontsize=9)
    pixel_ticks(axes, colours.shape, 1.8 * wide, 1.8 * high_inches)
    return figure
