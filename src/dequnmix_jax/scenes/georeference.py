"""Where a scene lies: its coordinate system, its affine transform, and the table of an unrectified swath."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Ground:
    """The place of a picture on the ground.

    Pixel corners (column c, row r) lie at x = a c + b r + x0, y = d c + e r + y0.

    Attributes:
        projection: the coordinate system, as WKT or "EPSG:32632"; empty when unknown.
        transform: (a, b, x0, d, e, y0), the order of the affine package and of rasterio.
        lookup: None where the scene's own pixels have that transform. For a swath as the sensor saw it: (H', W', 2)
            integers, the row and the column of the scene that is seen in each pixel of the rectified picture, which
            has that transform; -1 where nothing is seen.
    """

    projection: str
    transform: tuple[float, float, float, float, float, float]
    lookup: Array | None = None

    def __post_init__(self) -> None:
        """Bring the fields to their documented types, or raise InputError."""
        numbers = tuple(float(value) + 0.0 for value in self.transform)  # -0.0 becomes 0.0
        if len(numbers) != 6 or not np.isfinite(numbers).all():
            raise InputError(f"The transform is {numbers}; expected six finite numbers (a, b, x0, d, e, y0).")
        object.__setattr__(self, "transform", numbers)
        if self.lookup is not None and (np.ndim(self.lookup) != 3 or np.shape(self.lookup)[2] != 2):
            raise InputError(f"lookup has shape {np.shape(self.lookup)}; expected (rows, columns, 2).")

    def check_fits(self, shape: tuple[int, int]) -> None:
        """Raise InputError where the table names pixels that a scene of this shape (H, W) does not have."""
        if self.lookup is not None and self.lookup.size and (self.lookup.max(axis=(0, 1)) >= np.array(shape)).any():
            highest = tuple(int(value) for value in self.lookup.max(axis=(0, 1)))
            raise InputError(f"lookup names the pixel {highest} and the scene has {shape}; expected pixels inside it.")


def on_the_ground(values: Array, ground: Ground | None, hole: float) -> Array:
    """Return a map as its place on the ground shows it: a swath is rectified by its table, nearest pixel.

    Args:
        values: (H, W, K) in the scene's own pixels.
        ground: where the scene lies, or None.
        hole: the value of pixels where nothing is seen.

    Returns:
        (H', W', K), or the very values when there is no table.
    """
    if ground is None or ground.lookup is None:
        return values
    rows, columns = ground.lookup[:, :, 0], ground.lookup[:, :, 1]
    seen = (rows >= 0) & (columns >= 0)
    picture = np.full((*rows.shape, values.shape[2]), hole, values.dtype)
    picture[seen] = values[rows[seen], columns[seen]]
    return picture


def from_gdal(numbers: Any) -> tuple[float, float, float, float, float, float]:
    """Return the transform for GDAL's order (x0, a, b, y0, d, e)."""
    x0, a, b, y0, d, e = (float(value) for value in numbers)
    return (a, b, x0, d, e, y0)


def pixel_area(ground: Ground | None, fields: Mapping[str, str]) -> float | None:
    """Return the area of a pixel in square metres, or None where the place is unknown or not measured in metres.

    A swath has none: its pixels differ in size.

    Args:
        ground: coordinate system and transform, or None.
        fields: ENVI's ground fields, which are asked when there is no `ground`.
    """
    if ground is not None:
        a, b, _, d, e, _ = ground.transform
        metres = _in_metres(ground.projection) and ground.lookup is None
        return abs(a * e - b * d) or None if metres else None
    entries = [entry.strip().lower() for entry in fields.get("map info", "").strip("{} \n").split(",")]
    units = next((entry.partition("=")[2].strip() for entry in entries if entry.startswith("units")), "")
    if not (units.startswith("met") or (not units and entries[0] == "utm")) or len(entries) < 7:
        return None
    try:
        area = abs(float(entries[5]) * float(entries[6]))
    except ValueError:
        return None
    return area if 0 < area < np.inf else None


def _in_metres(projection: str) -> bool:
    """Return whether a coordinate system is a projection measured in metres; when in doubt it is not."""
    text = projection.strip().upper()
    if re.fullmatch(r"EPSG:32[67]\d\d", text):  # UTM on WGS 84
        return True
    # The ellipsoid of WKT 2 is always in metres, so that a foot anywhere decides.
    return (
        text.startswith(("PROJCS", "PROJCRS")) and "FOOT" not in text and bool(re.search(r'UNIT\["MET(RE|ER)"', text))
    )
