"""Summaries of the maps of a result inside polygons: mean fractions, areas and their uncertainty."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.io import georaster
from dequnmix_jax.io.atomic import replacing_file
from dequnmix_jax.io.envi import image
from dequnmix_jax.io.formats import open_source
from dequnmix_jax.io.vectors import polygons
from dequnmix_jax.results.areas import above_error, csv_text
from dequnmix_jax.results.record import read_record
from dequnmix_jax.results.result import Result, read_result
from dequnmix_jax.scenes.georeference import rectify
from dequnmix_jax.scenes.scene import Array
from dequnmix_jax.scenes.source import Source, Stored, Window


class Zone(NamedTuple):
    """A material inside a polygon; None where a number is unknown.

    Attributes:
        polygon: its name.
        endmember: its name.
        pixels: valid pixels with their centres inside.
        mean_fraction: mean over these pixels.
        mean_fraction_sd: standard deviation of the mean by independent noise, where the result has deviations.
        area_m2, area_m2_sd: the mean times the area of the pixels.
        mean_fraction_above_error, area_m2_above_error: of the fractions above their error (`areas.above_error`).
    """

    polygon: str
    endmember: str
    pixels: int
    mean_fraction: float | None = None
    mean_fraction_sd: float | None = None
    area_m2: float | None = None
    area_m2_sd: float | None = None
    mean_fraction_above_error: float | None = None
    area_m2_above_error: float | None = None


def zones(
    folder: str | os.PathLike[str], areas: str | os.PathLike[str] | polygons.Polygons, *, field: str | None = None
) -> list[Zone]:
    """Return mean fractions and areas of each material in each polygon.

    A pixel belongs to a polygon if its centre lies inside; masked pixels belong to none. Polygons may overlap. The maps
    are read from the files of the result (of a swath: rectified), window by window.

    Args:
        folder: that `write`, `dequnmix unmix` or `unmix_tiled` made, or a NetCDF file of a result.
        areas: file of polygons, or what `io.vectors.polygons.read_polygons` returns.
        field: attribute that names the polygons; None: name, label, id, class or fid, or else their numbers from 1.

    Returns:
        A Zone for each polygon and material, polygons first. A polygon without a valid pixel has pixels = 0.

    Raises:
        InputError: the folder is no result or has no place, the polygons cannot be read or all lie elsewhere.
    """
    folder = Path(folder)
    record, spectra, files = _stored(folder)
    found = areas if isinstance(areas, polygons.Polygons) else polygons.read_polygons(areas)
    labels = polygons.labels_of(found, field)
    maps = files["abundances"]
    place, shape = georaster.georeference_for(maps), maps.shape[:2]
    there = polygons.placed(found, place, f"The result {folder}")
    pixel, _ = georaster.pixel_area_and_note(maps, shape)
    names = tuple(str(name) for name in record["endmembers"])
    others = {name: source for name, source in files.items() if name != "abundances"}
    rows: list[Zone] = []
    for label, feature in zip(labels, there.features, strict=True):
        (lines, columns), part = polygons.inside(feature.rings, shape)
        if not part.any():
            rows += [Zone(label, name, 0) for name in names]
            continue
        window = Window(lines, columns)
        fractions, valid = maps.read(window)
        part &= valid
        more = {name: source.read(window)[0] for name, source in others.items()}
        convention, by_model = str(record.get("convention")), "models" in record
        rows += _rows(label, names, fractions, part, more, spectra, convention, pixel, by_model)
    if not any(row.pixels for row in rows):
        if not any(polygons.inside(feature.rings, shape)[1].any() for feature in there.features):
            raise polygons.elsewhere(found, there, shape, f"the result {folder}")
        raise InputError(
            f"All pixels of {folder} inside the polygons of {found.source} are masked; expected valid ones. Draw them "
            "elsewhere, or unmix without the mask."
        )
    return rows


def _rows(
    label: str,
    names: Sequence[str],
    fractions: Array,
    part: Array,
    more: dict[str, Array],
    spectra: Array,
    convention: str,
    pixel: float | None,
    by_model: bool,
) -> list[Zone]:
    count = int(part.sum())
    if not count:
        return [Zone(label, name, 0) for name in names]
    means: Array = np.asarray(fractions[part], np.float64).mean(axis=0)
    sd: Array | None = None
    above: Array | None = None
    if "abundances_sd" in more:
        sd = np.sqrt(np.square(more["abundances_sd"][part].astype(np.float64)).sum(axis=0)) / count
    if {"brightness", "residual"} <= set(more):
        light, residual = (more[name][:, :, 0] for name in ("brightness", "residual"))
        above = above_error(fractions, light, residual, part, spectra, convention, by_model) / count
    whole = None if pixel is None else pixel * count

    def at(values: Array | None, r: int) -> float | None:
        return None if values is None else float(values[r])

    def area(values: Array | None, r: int) -> float | None:
        return None if values is None or whole is None else float(values[r]) * whole

    return [
        Zone(label, name, count, at(means, r), at(sd, r), area(means, r), area(sd, r), at(above, r), area(above, r))
        for r, name in enumerate(names)
    ]


_MAPS = ("abundances", "brightness", "residual", "abundances_sd")


def _stored(place: Path) -> tuple[Mapping[str, Any], Array, dict[str, Source]]:
    """Return record, spectra and maps of a result: of its files of maps, or of its arrays where it has no such files.

    Args:
        place: the folder, or the NetCDF file of a result.
    """
    if place.is_dir():
        record, paths = read_record(place), {name: _file(place, name) for name in _MAPS}
        found = {name: open_source(path) for name, path in paths.items() if path is not None}
        if "abundances" in found:
            return record, image.read_library(place / "endmembers.sli")[0], found
        if not any((place / name).is_file() for name in _ALL_MAPS):
            raise InputError(
                f"{place} holds no map of the abundances (abundances.img, abundances.tif, {' or '.join(_ALL_MAPS)}); "
                "expected the output of `dequnmix unmix`. Unmix the scene again."
            )
    result = read_result(place)
    arrays = {name: getattr(result, name) for name in _MAPS}
    return (
        {**result.summary, "endmembers": result.names, "convention": result.convention},
        result.endmembers,
        {name: _in_memory(values, result) for name, values in arrays.items() if values is not None},
    )


_ALL_MAPS = ("maps.nc", "maps.mat")


def _file(folder: Path, name: str) -> Path | None:
    paths = (folder / f"{name}.{kind}" for kind in ("img", "tif"))
    return next((path for path in paths if path.is_file()), None)


def _in_memory(values: Array, result: Result) -> Source:
    """Return a map of a result as a source, rectified."""
    place = result.georeference
    picture = rectify(values if values.ndim == 3 else values[:, :, None], place, 0)
    seen = rectify(result.valid[:, :, None], place, False)[:, :, 0]

    def stored(window: Window | None) -> Stored:
        part = (slice(None), slice(None)) if window is None else (window.rows, window.columns)
        return Stored(picture[part], seen[part])

    return Source(picture.shape, stored, georeference=None if place is None else replace(place, lookup=None))


def zones_text(rows: Sequence[Zone]) -> str:
    """Return zones as CSV text; columns without any number are left out, an unknown number is an empty cell."""
    columns = {name: [getattr(row, name) for row in rows] for name in Zone._fields}
    return csv_text({name: column for name, column in columns.items() if any(value is not None for value in column)})


def write_zones(
    path: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    areas: str | os.PathLike[str] | polygons.Polygons,
    *,
    field: str | None = None,
    overwrite: bool = False,
) -> list[Zone]:
    """Write `zones` as a table, and return them.

    Args:
        path: the file to make, .csv.
        folder, areas, field: as for `zones`.
        overwrite: replace an existing file.

    Raises:
        InputError: as from `zones`; or the file exists and `overwrite` is False.
    """
    rows = zones(folder, areas, field=field)
    with replacing_file(Path(path), overwrite=overwrite) as temporary:
        temporary.write_text(zones_text(rows), encoding="utf-8")
    return rows
