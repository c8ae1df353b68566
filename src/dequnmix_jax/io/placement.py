"""The georeference of a cube in the conventions of xarray, from its coordinates and its transform."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dequnmix_jax.checks import pip_hint
from dequnmix_jax.io import xarrays
from dequnmix_jax.scenes.georeference import Georeference, Transform, from_gdal
from dequnmix_jax.scenes.scene import Array

_GRID_MAPPINGS = ("spatial_ref", "crs")

# Units of latitude and longitude of the CF conventions.
_NORTH = ("degrees_north", "degree_north", "degrees_n", "degree_n", "degreesn", "degreen")
_EAST = ("degrees_east", "degree_east", "degrees_e", "degree_e", "degreese", "degreee")

_NEAR = 0.1
"""Largest difference between coordinates and transform, in pixels."""


class Variable(NamedTuple):
    """An array with its metadata.

    Attributes:
        values: anything with a shape that numpy can convert.
        dims: names of its axes, empty when they have none.
        attributes: its attributes by name.
    """

    values: Any
    dims: tuple[str, ...]
    attributes: Mapping[str, Any]


def georeference_of(
    variable: Variable, others: Mapping[str, Variable], axes: Sequence[str], shape: tuple[int, int], notes: list[str]
) -> Georeference | None:
    """Return the georeference of a cube: by its coordinates, or else by its transform.

    A part of a larger raster keeps the transform of the whole, while its coordinates are its own.

    Args:
        variable: the cube.
        others: the arrays beside it, by name.
        axes: the names of the coordinates of rows and columns.
        shape: (H, W).
        notes: gets a sentence when coordinates and transform differ.

    Returns:
        The georeference, or None when there is neither.
    """
    own = str(variable.attributes.get("grid_mapping", "")).partition(":")[0].split()
    mappings = [others[name].attributes for name in (*own, *_GRID_MAPPINGS) if name in others] + [variable.attributes]
    crs = _crs(mappings, [others[axis] for axis in axes if axis in others], notes)
    stated = _stated(mappings)
    centres = [_centres(others.get(axis), size) for axis, size in zip(axes, shape, strict=True)]
    if stated is None:
        # Coordinates without a CRS may be numbers of rows and columns.
        transform = _spaced(centres, None) if crs else None
        return None if transform is None else Georeference(crs, transform)
    if any(centre is None for centre in centres) or stated[1] or stated[3]:
        return Georeference(crs, stated)  # a rotated raster has no coordinate for each row
    a, _, x0, _, e, y0 = stated
    height, width = shape
    y, x = (np.asarray(centre) for centre in centres)
    gaps = [
        np.abs(values - first - step * (np.arange(size) + 0.5)).max()
        for values, first, step, size in ((x, x0, a, width), (y, y0, e, height))
    ]
    tolerances = [_NEAR * abs(step) + _rounding(others[axis]) for axis, step in zip(axes[::-1], (a, e), strict=True)]
    if gaps[0] <= tolerances[0] and gaps[1] <= tolerances[1]:
        return Georeference(crs, stated)
    if _counts_pixels(x, a) and _counts_pixels(y, e):
        notes.append(
            f"The coordinates {axes[1]} and {axes[0]} count pixels and do not fit the transform, which was taken."
        )
        return Georeference(crs, stated)
    transform = _spaced(centres, stated)
    if transform is None:
        notes.append(
            f"The coordinates {axes[1]} and {axes[0]} are not evenly spaced and do not fit the transform; outputs are "
            "not placed on the ground."
        )
        return None
    notes.append(
        f"The coordinates {axes[1]} and {axes[0]} lie up to {gaps[0]:.6g} and {gaps[1]:.6g} from where the transform "
        "(GeoTransform) has them, as in a part of a larger raster; the coordinates were taken."
    )
    return Georeference(crs, transform)


def _crs(mappings: Sequence[Mapping[str, Any]], coordinates: Sequence[Variable], notes: list[str]) -> str:
    """Return the coordinate reference system as WKT or as a code, or ""; `notes` gets what was assumed."""
    texts = [mapping.get(name) for mapping in mappings for name in ("crs_wkt", "spatial_ref", "crs")]
    texts = [text.decode() if isinstance(text, bytes) else text for text in texts]
    for text in texts:
        if isinstance(text, str) and text:
            return text
    for mapping in mappings:
        if "grid_mapping_name" in mapping:
            crs = xarrays.crs_from_cf(mapping)
            if crs:
                return crs
            name = mapping["grid_mapping_name"]
            cure = "it was not understood" if crs is not None else f"pyproj reads it ({pip_hint('xarray')})"
            notes.append(f"The grid mapping {name} comes without WKT, and {cure}; outputs have no CRS.")
            return ""
    units = [str(coordinate.attributes.get("units", "")).lower() for coordinate in coordinates]
    if len(units) == 2 and units[0].startswith(_NORTH) and units[1].startswith(_EAST):
        notes.append("The coordinates are degrees of latitude and longitude without a datum; WGS 84 was taken.")
        return "EPSG:4326"
    return ""


def _rounding(coordinate: Variable) -> float:
    """Return the spacing of floating point numbers at the largest coordinate: half a metre for UTM in float32."""
    values = np.asarray(coordinate.values[...])
    return float(np.spacing(np.abs(values).max())) if values.dtype.kind == "f" else 0.0


def _stated(mappings: Sequence[Mapping[str, Any]]) -> Transform | None:
    """Return the first transform in some attributes, or None."""
    for mapping in mappings:
        for name in ("GeoTransform", "transform"):
            value = mapping.get(name)
            numbers = value.split() if isinstance(value, str) else value
            try:
                values = [float(number) for number in numbers or ()]
            except (TypeError, ValueError):
                continue
            if len(values) >= 6:
                a, b, x0, d, e, y0 = values[:6]
                return from_gdal(values[:6]) if name == "GeoTransform" else (a, b, x0, d, e, y0)
    return None


def _centres(coordinate: Variable | None, size: int) -> Array | None:
    """Return a coordinate as (size,) finite float64, or None."""
    if coordinate is None or tuple(coordinate.values.shape) != (size,):
        return None
    values = np.asarray(coordinate.values[...])
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        return None
    return values.astype(np.float64)


def _counts_pixels(centres: Array, step: float) -> bool:
    """Return whether coordinates are pixel numbers although the pixels have another size."""
    return centres.size > 1 and abs(step) != 1 and bool((np.diff(centres) == 1).all())


def _spaced(centres: Sequence[Array | None], stated: Transform | None) -> Transform | None:
    """Return the transform of evenly spaced pixel centres (y, x), or None if they are not evenly spaced.

    The pixel size of a single row or column is that of the stated transform.
    """
    ends = []
    for values, step in zip(centres, (None, None) if stated is None else (stated[4], stated[0]), strict=True):
        if values is None or (values.size == 1 and step is None):
            return None
        if values.size > 1:
            steps = np.diff(values)
            step = float(values[-1] - values[0]) / (values.size - 1)
            # Steps of degrees in float32 vary by a hundredth.
            if not step or np.abs(steps - step).max() > 0.05 * abs(step):
                return None
        assert step is not None  # of one pixel, or of several
        ends.append((step, float(values[0]) - step / 2))
    (down, y0), (across, x0) = ends
    return (across, 0.0, x0, 0.0, down, y0)
