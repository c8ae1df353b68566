"""The georeference of a scene: coordinate reference system, affine transform, lookup table of an unrectified swath."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError

Array = np.ndarray[Any, Any]

Transform = tuple[float, float, float, float, float, float]


@dataclass(frozen=True, eq=False)
class Georeference:
    """Coordinate reference system and transform of a raster.

    Pixel corners (column c, row r) have the coordinates x = a c + b r + x0, y = d c + e r + y0.

    Attributes:
        crs: coordinate reference system as WKT or as a code such as "EPSG:32632"; empty when unknown.
        transform: (a, b, x0, d, e, y0), the order of rasterio and of the affine package.
        lookup: None when the scene's own pixels have this transform. For a swath in sensor geometry: (H', W', 2)
            integers, the row and column of the scene seen in each pixel of the rectified raster, which has this
            transform; -1 where nothing is seen.
    """

    crs: str
    transform: Transform
    lookup: Array | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Convert the fields to their documented types; raise InputError if that is impossible."""
        numbers = tuple(float(value) + 0.0 for value in self.transform)  # -0.0 becomes 0.0
        if len(numbers) != 6 or not np.isfinite(numbers).all():
            raise InputError(f"The transform is {numbers}; expected six finite numbers (a, b, x0, d, e, y0).")
        object.__setattr__(self, "transform", numbers)
        if self.lookup is not None and (np.ndim(self.lookup) != 3 or np.shape(self.lookup)[2] != 2):
            raise InputError(f"lookup has shape {np.shape(self.lookup)}; expected (rows, columns, 2).")

    def check_fits(self, shape: tuple[int, int]) -> None:
        """Raise InputError if the lookup table names pixels outside a scene of shape (H, W)."""
        if self.lookup is not None and self.lookup.size and (self.lookup.max(axis=(0, 1)) >= np.array(shape)).any():
            highest = tuple(int(value) for value in self.lookup.max(axis=(0, 1)))
            raise InputError(f"lookup names the pixel {highest} and the scene has {shape}; expected pixels inside it.")


def rectify(values: Array, georeference: Georeference | None, fill: float) -> Array:
    """Return a map in the pixels of its transform: a swath is rectified by its lookup table (nearest neighbour).

    Args:
        values: (H, W, K), in the scene's own pixels.
        georeference: of the scene, or None.
        fill: value of pixels in which nothing is seen.

    Returns:
        (H', W', K); `values` itself when there is no lookup table.
    """
    if georeference is None or georeference.lookup is None:
        return values
    rows, columns = georeference.lookup[:, :, 0], georeference.lookup[:, :, 1]
    seen = (rows >= 0) & (columns >= 0)
    picture = np.full((*rows.shape, values.shape[2]), fill, values.dtype)
    picture[seen] = values[rows[seen], columns[seen]]
    return picture


def from_gdal(numbers: Any) -> Transform:
    """Return the transform for six numbers in GDAL's order (x0, a, b, y0, d, e)."""
    x0, a, b, y0, d, e = (float(value) for value in numbers)
    return (a, b, x0, d, e, y0)


def pixel_area(georeference: Georeference | None, envi_fields: Mapping[str, str]) -> float | None:
    """Return the area of a pixel in square metres; None if it is unknown or the coordinates are not in metres.

    A swath has no single pixel area: the result is None.

    Args:
        georeference: of the scene, or None.
        envi_fields: ENVI header fields, used when `georeference` is None.
    """
    if georeference is not None:
        a, b, _, d, e, _ = georeference.transform
        metres = _in_metres(georeference.crs) and georeference.lookup is None
        return abs(a * e - b * d) or None if metres else None
    entries = [entry.strip().lower() for entry in envi_fields.get("map info", "").strip("{} \n").split(",")]
    units = next((entry.partition("=")[2].strip() for entry in entries if entry.startswith("units")), "")
    if not (units.startswith("met") or (not units and entries[0] == "utm")) or len(entries) < 7:
        return None
    try:
        area = abs(float(entries[5]) * float(entries[6]))
    except ValueError:
        return None
    return area if 0 < area < np.inf else None


def _in_metres(crs: str) -> bool:
    """Return whether a CRS is certainly a projection in metres."""
    text = crs.strip().upper()
    if re.fullmatch(r"EPSG:32[67]\d\d", text):  # UTM on WGS 84
        return True
    # In WKT 2 the ellipsoid is always in metres, so a foot anywhere decides.
    return (
        text.startswith(("PROJCS", "PROJCRS")) and "FOOT" not in text and bool(re.search(r'UNIT\["MET(RE|ER)"', text))
    )
