"""Where a cube in the conventions of xarray lies: its coordinates, and the transform of its coordinate system."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dequnmix_jax.scenes.georeference import Georeference, from_gdal
from dequnmix_jax.scenes.scene import Array

Transform = tuple[float, float, float, float, float, float]

_PLACES = ("spatial_ref", "crs")

_NEAR = 0.1
"""Pixels by which coordinates and transform may differ."""


class Variable(NamedTuple):
    """An array with what is known of it.

    Attributes:
        values: anything with a shape that numpy can take.
        dims: names of its axes, empty when they have none.
        attributes: what is said of it.
    """

    values: Any
    dims: tuple[str, ...]
    attributes: Mapping[str, Any]


def georeference_of(
    variable: Variable, others: Mapping[str, Variable], axes: Sequence[str], shape: tuple[int, int], notes: list[str]
) -> Georeference | None:
    """Return where the cube lies: where its coordinates say, or else its transform.

    What is cut out of a larger raster keeps the transform of the whole, while its coordinates are those of the part.

    Args:
        variable: the cube.
        others: what lies beside it, by name.
        axes: the names of the coordinates of rows and columns.
        shape: (H, W).
        notes: gets a sentence where coordinates and transform differ.

    Returns:
        The place, or None where nothing says it.
    """
    places = [others[name].attributes for name in _PLACES if name in others] + [variable.attributes]
    said = [place.get(name) for place in places for name in ("crs_wkt", "spatial_ref", "crs")]
    projection = next((text for text in said if isinstance(text, str) and text), "")
    stated = _stated(places)
    centres = [_centres(others.get(axis), size) for axis, size in zip(axes, shape, strict=True)]
    if stated is None:
        # Coordinates alone may be numbers of rows and columns; beside a coordinate system they are places.
        found = _spaced(centres, None) if projection else None
        return None if found is None else Georeference(projection, found)
    if any(centre is None for centre in centres) or stated[1] or stated[3]:
        return Georeference(projection, stated)  # a turned raster has no coordinate for each row
    a, _, x0, _, e, y0 = stated
    height, width = shape
    y, x = (np.asarray(centre) for centre in centres)
    apart = [
        np.abs(values - first - step * (np.arange(size) + 0.5)).max()
        for values, first, step, size in ((x, x0, a, width), (y, y0, e, height))
    ]
    fine = [_NEAR * abs(step) + _rounding(others[axis]) for axis, step in zip(axes[::-1], (a, e), strict=True)]
    if apart[0] <= fine[0] and apart[1] <= fine[1]:
        return Georeference(projection, stated)
    if _numbered(x, a) and _numbered(y, e):
        notes.append(
            f"The coordinates {axes[1]} and {axes[0]} count pixels and do not fit the transform, which was taken."
        )
        return Georeference(projection, stated)
    found = _spaced(centres, stated)
    if found is None:
        notes.append(
            f"The coordinates {axes[1]} and {axes[0]} are not evenly spaced and do not fit the transform; outputs are "
            "not placed on the ground."
        )
        return None
    notes.append(
        f"The coordinates {axes[1]} and {axes[0]} lie up to {apart[0]:.6g} and {apart[1]:.6g} from where the transform "
        "(GeoTransform) has them, as in a part of a larger raster; the coordinates were taken."
    )
    return Georeference(projection, found)


def _rounding(held: Variable) -> float:
    """Return by how much the largest of some coordinates may be rounded: half a metre in UTM and float32."""
    values = np.asarray(held.values[...])
    return float(np.spacing(np.abs(values).max())) if values.dtype.kind == "f" else 0.0


def _stated(places: Sequence[Mapping[str, Any]]) -> Transform | None:
    """Return the first transform of some attributes, or None."""
    for place in places:
        for name in ("GeoTransform", "transform"):
            held = place.get(name)
            numbers = held.split() if isinstance(held, str) else held
            try:
                values = [float(number) for number in numbers or ()]
            except (TypeError, ValueError):
                continue
            if len(values) >= 6:
                a, b, x0, d, e, y0 = values[:6]
                return from_gdal(values[:6]) if name == "GeoTransform" else (a, b, x0, d, e, y0)
    return None


def _centres(held: Variable | None, size: int) -> Array | None:
    """Return a coordinate as (size,) finite float64, or None where there is none."""
    if held is None or tuple(held.values.shape) != (size,):
        return None
    values = np.asarray(held.values[...])
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        return None
    return values.astype(np.float64)


def _numbered(centres: Array, step: float) -> bool:
    """Return whether coordinates count pixels one by one, where pixels have another size."""
    return centres.size > 1 and abs(step) != 1 and bool((np.diff(centres) == 1).all())


def _spaced(centres: Sequence[Array | None], stated: Transform | None) -> Transform | None:
    """Return the transform of evenly spaced coordinates (y, x), centres of pixels, or None where they are not.

    One row or one column has the size of the stated transform's pixels.
    """
    ends = []
    for values, step in zip(centres, (None, None) if stated is None else (stated[4], stated[0]), strict=True):
        if values is None or (values.size == 1 and step is None):
            return None
        if values.size > 1:
            steps = np.diff(values)
            step = float(values[-1] - values[0]) / (values.size - 1)
            # In float32 degrees the steps wander by a hundredth.
            if not step or np.abs(steps - step).max() > 0.05 * abs(step):
                return None
        assert step is not None  # of one pixel, or of several
        ends.append((step, float(values[0]) - step / 2))
    (down, y0), (across, x0) = ends
    return (across, 0.0, x0, 0.0, down, y0)
