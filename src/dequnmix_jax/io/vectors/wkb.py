"""Read polygons in well-known binary (OGC 06-103r4, section 8)."""

import struct

import numpy as np

from dequnmix_jax.scenes.scene import Array

_POLYGON, _MULTIPOLYGON = 3, 6
_NAMES = {
    1: "Point",
    2: "LineString",
    4: "MultiPoint",
    5: "MultiLineString",
    7: "GeometryCollection",
    10: "CurvePolygon",
}


class NotAPolygonError(ValueError):
    """The geometry is of another kind, which the message names."""


def rings_of(data: bytes) -> tuple[Array, ...]:
    """Return the rings (N, 2) of a Polygon or MultiPolygon, with or without heights and measures.

    Raises:
        NotAPolygonError: another geometry.
        ValueError, struct.error: damaged data.
    """
    rings, end = _read(data, 0)
    if end > len(data):
        raise ValueError("the geometry ends early")
    return tuple(rings)


def _read(data: bytes, place: int) -> tuple[list[Array], int]:
    order = "<" if data[place] == 1 else ">"
    code = struct.unpack_from(order + "I", data, place + 1)[0]
    place += 5
    extra = bool(code & 0x80000000) + bool(code & 0x40000000)  # EWKB's flags of heights and measures
    if code & 0x20000000:
        place += 4  # EWKB's identifier of the coordinate system
    kind = code & 0x1FFFFFFF
    thousands, kind = divmod(kind, 1000)
    size = 2 + max(extra, {0: 0, 1: 1, 2: 1, 3: 2}.get(thousands, 0))
    if kind not in (_POLYGON, _MULTIPOLYGON):
        raise NotAPolygonError(_NAMES.get(kind, f"geometry of kind {kind}"))
    count = struct.unpack_from(order + "I", data, place)[0]
    place += 4
    rings: list[Array] = []
    for _ in range(count):
        if kind == _MULTIPOLYGON:
            inside, place = _read(data, place)
            rings += inside
            continue
        points = struct.unpack_from(order + "I", data, place)[0]
        place += 4
        numbers = np.frombuffer(data, order + "f8", points * size, place)
        rings.append(numbers.reshape(points, size)[:, :2].astype(np.float64))
        place += 8 * points * size
    return rings, place
