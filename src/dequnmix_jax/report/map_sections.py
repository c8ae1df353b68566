"""Sections of a report with maps: the scene, abundances, errors, brightness and convergence."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dequnmix_jax.conventions import MEANINGS, other
from dequnmix_jax.report import charts, html
from dequnmix_jax.report.html import Coloured, Number, Row
from dequnmix_jax.report.spectra_section import NO_NAME, Matched, degrees
from dequnmix_jax.results.areas import MEANING as AREAS_MEANING
from dequnmix_jax.results.maps import CLASSES, DEVIATION, KINDS
from dequnmix_jax.results.result import Result
from dequnmix_jax.results.words import area_words
from dequnmix_jax.scenes.scene import Array

_MUCH = 0.05
"""Root mean square difference of the maps of two conventions above which the page shows both."""


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a mapping as it is, and an empty one for anything else; other versions may write other records."""
    return value if isinstance(value, Mapping) else {}


def short(value: Any) -> str:
    """Return a float in three digits, and anything else as text; None stands for a number that is not finite."""
    return f"{value:.3g}" if isinstance(value, float) else "not finite" if value is None else str(value)


def scene_part(result: Result) -> str:
    """Return the section with the scene in colour and its metadata."""
    summary = result.summary
    source = mapping(summary.get("source"))
    valid = int(result.valid.sum())
    span, area = summary.get("wavelengths_nm"), summary.get("pixel_area_m2")
    rows: list[Row] = [
        ["file", str(source.get("file", "not from a file"))],
        ["pixels", f"{valid} of {result.valid.size} valid" if valid < result.valid.size else f"{valid}, all valid"],
        ["pixel", f"{area:.4g} m² on the ground" if isinstance(area, int | float) else "size on the ground unknown"],
        ["bands", f"{summary.get('bands', '?')}" + (f", {span[0]:.0f} to {span[1]:.0f} nm" if span else "")],
    ]
    picture = ""
    if result.composite is not None:
        uri = charts.colour_picture(result.composite, result.valid)
        height, width = result.valid.shape
        words = f"The scene in colour, {height} rows by {width} columns, row 0 at the top."
        bands = f"{result.composite_bands} as red, green, blue; each stretched from its 2nd to its 98th percentile"
        picture = html.map_figure("Colour composite", bands, uri, words, ground=ground_part(result))
    text = "All maps show row 0 at the top and column 0 at the left, in the pixels of the file" + (
        "; hatched pixels are masked." if valid < result.valid.size else "."
    )
    table = html.table("The scene", [], rows)
    return html.section("scene", "The scene", html.paragraph(text), f'<div class="scene">{picture}{table}</div>')


def _labels(scale: charts.Scale) -> list[str]:
    return [f"{value:.3g}" for value in (scale.low, scale.middle(), scale.high)]


def _where(values: Array, valid: Array) -> str:
    """Return the place of the largest value of a map, for readers who cannot see it."""
    shown = np.where(valid & np.isfinite(values), values, -np.inf)
    row, column = (int(i) for i in np.unravel_index(int(np.argmax(shown)), shown.shape))
    return f"largest at row {row}, column {column}"


def ground_part(result: Result) -> str:
    """Return the scale bar and the arrow to the north of the maps of a result; "" where the place is unknown."""
    place = mapping(result.summary.get("place"))
    step, north = place.get("metres_per_column"), place.get("north")
    columns = result.summary.get("columns")  # of a tiled result more than are at hand
    if not isinstance(step, int | float) or not isinstance(columns, int) or not 0 < step * columns < np.inf:
        return ""
    metres = round_length(_BAR * step * columns)
    label = f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"
    turned = float(north) if isinstance(north, int | float) and np.isfinite(north) else None
    return html.ground_scale(metres / (step * columns), label, turned)


_BAR = 0.4
"""Largest share of the width of a map that its scale bar covers."""


def round_length(most: float) -> float:
    """Return the largest of 1, 2 and 5 times a power of ten that is not above a length.

    >>> round_length(49.0), round_length(5.0), round_length(0.3)
    (20.0, 5.0, 0.2)
    """
    power = 10.0 ** np.floor(np.log10(most) + 1e-12)
    return float(next(step * power for step in (5, 2, 1) if step * power <= most * (1 + 1e-9)))


def _map(
    title: str,
    values: Array,
    valid: Array,
    scale: charts.Scale,
    unit: str,
    detail: str,
    ground: str = "",
    colour: int | None = None,
) -> str:
    seen = values[valid]
    words = f"{title}: {seen.min():.3g} to {seen.max():.3g}, mean {seen.mean():.3g}, {_where(values, valid)}."
    picture = charts.map_picture(values, valid, scale)
    bar = html.colour_bar(charts.stops(scale), _labels(scale), unit + (", logarithmic" if scale.logarithmic else ""))
    return html.map_figure(title, detail, picture, words, bar, ground=ground, colour=colour)


def _nearest(nearest: Matched, row: int) -> str:
    """Return the library spectrum nearest to an endmember, and how far it is."""
    name = nearest.matches.names[row][0]
    return f"{name}, {degrees(nearest, row)} away" if name else NO_NAME


def abundance_part(result: Result, nearest: Matched | None) -> str:
    """Return the section with the abundance maps and their means."""
    scale, valid = charts.Scale(0.0, 1.0, "viridis"), result.valid
    area = result.summary.get("pixel_area_m2")
    pixels = result.summary.get("valid_pixels", int(valid.sum()))  # of a tiled result more than are at hand
    above, ground = means_above_error(result), ground_part(result)
    figures = []
    rows: list[Row] = []
    for i, name in enumerate(result.names):
        values = result.abundances[:, :, i]
        seen = values[valid].astype(np.float64)
        match = "" if nearest is None else f"; nearest: {_nearest(nearest, i)}"
        detail = f"mean {seen.mean():.3f}{match}"
        figures.append(_map(name, values, valid, scale, KINDS["abundances"].unit, detail, ground, i))
        row: Row = [
            Coloured(name, i),
            Number(f"{seen.mean():.4f}"),
            Number(f"{seen.max():.3f}"),
            Number(f"{int((seen > 0.5).sum())}"),
        ]
        if isinstance(area, int | float):
            row.append(Number(area_words(seen.mean() * area * pixels)))
        if above is not None:
            row.append(Number(f"{above[i]:.4f}"))
            if isinstance(area, int | float):
                row.append(Number(area_words(above[i] * area * pixels)))
        rows.append(row)
    heads: Row = ["endmember", Number("mean abundance"), Number("largest"), Number("pixels above half")]
    if isinstance(area, int | float):
        heads.append(Number("area"))
    if above is not None:
        heads.append(Number("mean above its error"))
        if isinstance(area, int | float):
            heads.append(Number("area above its error"))
    return html.section(
        "abundances",
        "Abundances",
        html.paragraph(KINDS["abundances"].meaning + " All maps have the same colours."),
        html.paragraph(f"Convention: {result.convention}. {MEANINGS[result.convention]}"),
        f'<div class="maps">{"".join(figures)}</div>',
        html.table("Mean abundances over the valid pixels" + (", and areas" if area else ""), heads, rows),
        html.paragraph(AREAS_MEANING, "soft") if above is not None else "",
        *_other_convention(result),
    )


def means_above_error(result: Result) -> list[float] | None:
    """Return the mean fractions above their error that summary.json holds, R numbers, or None."""
    means = mapping(result.summary.get("above_error")).get("mean_abundances")
    if not isinstance(means, list) or len(means) != len(result.names):
        return None
    return means if all(isinstance(mean, int | float) for mean in means) else None


def class_part(result: Result) -> str:
    """Return the section with the maps of classes and their means; "" without classes."""
    classes = result.classes
    if classes is None:
        return ""
    scale, valid = charts.Scale(0.0, 1.0, "viridis"), result.valid
    area = result.summary.get("pixel_area_m2")
    pixels = result.summary.get("valid_pixels", int(valid.sum()))
    figures = []
    rows: list[Row] = []
    for i, name in enumerate(result.class_names):
        values = classes[:, :, i]
        inside = values[valid].astype(float)
        members = [spectrum for spectrum, word in zip(result.names, result.class_of, strict=True) if word == name]
        detail = f"mean {inside.mean():.3f}"
        figures.append(_map(f"class {name}", values, valid, scale, CLASSES.unit, detail, ground_part(result)))
        row: Row = [name, ", ".join(members), Number(f"{inside.mean():.4f}"), Number(f"{int((inside > 0.5).sum())}")]
        if isinstance(area, int | float):
            row.append(Number(area_words(area * inside.mean() * pixels)))
        rows.append(row)
    heads: Row = ["class", "spectra", Number("mean fraction"), Number("pixels above half")]
    if isinstance(area, int | float):
        heads.append(Number("area"))
    return html.section(
        "classes",
        "Classes",
        html.paragraph(f"{CLASSES.meaning} Convention: {result.convention}."),
        f'<div class="maps">{"".join(figures)}</div>',
        html.table(
            "Mean fractions of the classes over the valid pixels" + (", and areas" if area else ""), heads, rows
        ),
    )


def uncertainty_part(result: Result) -> str:
    """Return the section with the deviations of fractions, of classes where there are any; "" without deviations."""
    by_class = result.classes_sd is not None
    deviations = result.classes_sd if by_class else result.abundances_sd
    if deviations is None:
        return ""
    names = tuple(f"class {name}" for name in result.class_names) if by_class else result.names
    valid = result.valid
    highest = max(float(deviations[valid].max()), 1e-6)
    scale = charts.Scale(0.0, highest, "magma")
    figures = [
        _map(name, deviations[:, :, i], valid, scale, DEVIATION.unit, f"mean {deviations[valid][:, i].mean():.3g}")
        for i, name in enumerate(names)
    ]
    text = str(mapping(result.summary.get("uncertainty")).get("meaning", ""))
    return html.section(
        "uncertainty",
        "Uncertainty of the fractions",
        html.paragraph(f"{DEVIATION.meaning} {text}"),
        f'<div class="maps">{"".join(figures)}</div>',
    )


def _other_convention(result: Result) -> list[str]:
    """Return a sentence and a table of mean abundances in both conventions where the maps differ much."""
    if result.levels.min() <= 0 or not result.valid.any():
        return []
    converted = result.in_convention(other(result.convention))
    pair = [maps.abundances[result.valid].astype(np.float64) for maps in (result, converted)]
    difference = float(np.sqrt(np.mean(np.square(pair[0] - pair[1]))))
    if difference <= _MUCH:
        return []
    means = [values.mean(axis=0) for values in pair]
    rows: list[Row] = [
        [name, Number(f"{means[0][i]:.4f}"), Number(f"{means[1][i]:.4f}"), Number(f"{result.levels[i]:.3g}")]
        for i, name in enumerate(result.names)
    ]
    heads: Row = ["endmember", Number(result.convention), Number(converted.convention), Number("level of the spectrum")]
    text = (
        f"The same mixtures have other fractions in the convention {converted.convention!r}: the maps differ by "
        f"{difference:.2f} (root mean square), because the spectra have different levels. "
        f"{converted.convention.capitalize()}: {MEANINGS[converted.convention]}"
    )
    return [html.paragraph(text), html.table("Mean abundances in both conventions", heads, rows)]


def fit_part(result: Result) -> str:
    """Return the section with residual and brightness."""
    valid, figures = result.valid, []
    if result.residual is not None:
        scale = charts.scale_of(result.residual, valid, "magma")
        seen = result.residual[valid]
        detail = f"mean {seen.mean():.3g}, 95 % of the pixels below {np.percentile(seen, 95):.3g}"
        figures.append(_map("Residual", result.residual, valid, scale, KINDS["residual"].unit, detail))
    light = result.brightness[valid]
    if float(np.ptp(light)) > 1e-6:
        scale = charts.scale_of(result.brightness, valid, "cividis")
        detail = f"mean {light.mean():.3g}, from {light.min():.3g} to {light.max():.3g}"
        figures.append(_map("Brightness", result.brightness, valid, scale, KINDS["brightness"].unit, detail))
        meaning = KINDS["brightness"].meaning
    else:
        meaning = "The mixing model has no brightness: it is 1 in every pixel."
    comment = (
        " The output holds no residual map: name its scene to get one."
        if result.residual is None
        else " Where it is large, a material is missing, or its spectrum varies."
    )
    texts = [f"Residual: {KINDS['residual'].meaning}{comment}", f"Brightness: {meaning}"]
    return html.section(
        "fit", "Residual and brightness", html.bullets(texts), f'<div class="maps">{"".join(figures)}</div>'
    )


def convergence_part(result: Result) -> str:
    """Return the section about the equilibrium and the training."""
    summary = result.summary
    trace, history = mapping(summary.get("trace")), mapping(summary.get("history"))
    parts = []
    model = mapping(mapping(summary.get("configuration")).get("model"))
    tolerance = mapping(model.get("forward")).get("tolerance")
    tolerance = float(tolerance) if isinstance(tolerance, int | float) else None
    if trace:
        beside = "" if tolerance is None else f" (tolerance {tolerance:g})"
        method = mapping(mapping(summary.get("configuration")).get("method")).get("method")
        rows: list[Row] = [
            ["solver steps", str(trace.get("steps"))],
            ["relative residual", f"{short(trace.get('residual'))}{beside}"],
            ["converged", "yes" if trace.get("converged") is True else "no"],
        ]
        if method is not None:  # known spectra, whose fractions are the solution of a problem and no equilibrium
            rows = [["method", str(method)], ["change by a further step, relative", short(trace.get("residual"))]]
            rows.append(["optimal", "yes" if trace.get("converged") is True else "no"])
        reached = history.get("converged")
        if isinstance(reached, list) and reached:
            solved = sum(bool(entry) for entry in reached)
            rows.append(["solves of the training", f"{solved} of {len(reached)} converged"])
        parts.append(html.table("The equilibrium" if method is None else "The solution", [], rows))
    if result.convergence is not None:
        scale = charts.scale_of(result.convergence, result.valid, "magma", logarithmic=True)
        seen = result.convergence[result.valid]
        detail = f"largest {seen.max():.2g}"
        figure = _map("Convergence", result.convergence, result.valid, scale, KINDS["convergence"].unit, detail)
        parts += [html.paragraph(KINDS["convergence"].meaning), f'<div class="maps">{figure}</div>']
    start = summary.get("start")
    if isinstance(start, str):
        parts.append(html.paragraph(start))
    stages = summary.get("stages")
    if isinstance(stages, list):
        parts += [html.paragraph(text) for text in stages if isinstance(text, str)]
    drawn = charts.training_chart(history, tolerance)
    if drawn is not None:
        losses = history["loss"]
        words = f"Loss from {short(losses[0])} to {short(losses[-1])} in {len(losses)} training steps."
        detail = "loss, relative residual of the equilibrium and solver steps, at each training step"
        parts.append(html.themed_figure("Training", detail, drawn, words))
    return html.section("convergence", "Convergence", *parts) if parts else ""
