"""Read polygons of a shapefile (ESRI Shapefile Technical Description, 1998): .shp, and .dbf and .prj beside it."""

import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.escaping import reason_of
from dequnmix_jax.io.vectors.features import Feature, Polygons, collected, not_a_polygon, ring

_POLYGONS = (5, 15, 25)  # plain, with heights, with measures
_NAMES = {1: "point", 3: "line", 8: "set of points", 11: "point", 13: "line", 18: "set of points", 31: "multipatch"}


def read(path: Path) -> Polygons:
    """Read the polygons of a shapefile.

    Raises:
        InputError: the file is damaged, or holds other geometries than polygons.
    """
    data = path.read_bytes()
    try:
        if struct.unpack_from(">i", data)[0] != 9994:
            raise ValueError("it does not begin with the number 9994")
        records = _attributes(path)
        features = []
        place, number = 100, 0
        while place + 12 <= len(data):
            length = 2 * struct.unpack_from(">i", data, place + 4)[0]
            kind = struct.unpack_from("<i", data, place + 8)[0]
            if kind in _POLYGONS:
                rings = tuple(ring(points, path, number) for points in _rings(data, place + 8))
                features.append(Feature(rings, records[number] if number < len(records) else {}))
            elif kind != 0:  # no shape
                raise not_a_polygon(path, number, _NAMES.get(kind, f"shape of kind {kind}"))
            if length < 4:
                raise ValueError("a record has no length")
            place, number = place + 8 + length, number + 1
    except (struct.error, ValueError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path} cannot be read as a shapefile ({reason_of(error)}); expected polygons. Export it again."
        ) from error
    prj = _beside(path, ".prj")
    return collected(features, "" if prj is None else prj.read_text(encoding="utf-8", errors="replace").strip(), path)


def _rings(data: bytes, place: int) -> list[Any]:
    parts, points = struct.unpack_from("<2i", data, place + 36)
    if parts < 0 or points < 0:
        raise ValueError("a shape has a negative number of points")
    starts = [*struct.unpack_from(f"<{parts}i", data, place + 44), points]
    values = np.frombuffer(data, "<f8", 2 * points, place + 44 + 4 * parts).reshape(points, 2)
    return [values[a:b] for a, b in pairwise(starts)]


def _beside(path: Path, suffix: str) -> Path | None:
    for candidate in (path.with_suffix(suffix), path.with_suffix(suffix.upper())):
        if candidate.is_file():
            return candidate
    return None


def _attributes(path: Path) -> list[dict[str, Any]]:
    """Return the rows of the dBASE table beside a shapefile; none if there is no table."""
    table = _beside(path, ".dbf")
    if table is None:
        return []
    data = table.read_bytes()
    count, header, size = struct.unpack_from("<IHH", data, 4)
    page = _beside(path, ".cpg")
    encoding = "utf-8" if page is None or "8" in page.read_text(errors="replace") else "latin-1"
    fields, place, offset = [], 32, 1
    while place + 32 <= header and data[place] != 0x0D:
        name = data[place : place + 11].split(b"\0")[0].decode(encoding, "replace")
        width = data[place + 16]
        fields.append((name, offset, offset + width))
        place, offset = place + 32, offset + width
    rows = [data[header + i * size : header + (i + 1) * size] for i in range(count)]
    return [{name: row[a:b].decode(encoding, "replace").strip().strip("\0") for name, a, b in fields} for row in rows]
