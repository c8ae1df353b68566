"""Polygons on the pixels of a scene: read any format, bring them into its coordinates, find the pixels inside."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.io import georaster
from dequnmix_jax.io.vectors import geojson, geopackage, shapefile
from dequnmix_jax.io.vectors.features import MOST_BYTES, Feature, Polygons
from dequnmix_jax.scenes.georeference import Georeference
from dequnmix_jax.scenes.scene import Array

SUFFIXES = (".geojson", ".json", ".gpkg", ".shp")
"""Of files of polygons."""

_LABELS = ("name", "label", "id", "class", "fid")
"""Attributes that name a polygon, in any case, if none is asked for."""


def split_layer(path: Path) -> tuple[Path, str | None]:
    """Return a file and the layer written after it, as in areas.gpkg:fields, or None."""
    text = str(path)
    head, colon, layer = text.rpartition(":")
    return (Path(head), layer) if colon and head.lower().endswith(".gpkg") and not path.exists() else (path, None)


def are_polygons(path: Path) -> bool:
    """Return whether the name of a file is one of polygons."""
    return split_layer(path)[0].suffix.lower() in SUFFIXES


def read_polygons(path: str | os.PathLike[str]) -> Polygons:
    """Read polygons: GeoJSON (.geojson, .json), GeoPackage (.gpkg) or shapefile (.shp).

    Args:
        path: the file; of a GeoPackage with several layers, with the layer as in areas.gpkg:fields.

    Raises:
        InputError: the file is missing, damaged, of another format, or holds other geometries than polygons.
    """
    path, layer = split_layer(Path(path))
    suffix = path.suffix.lower()
    if not path.is_file():
        raise InputError(
            f"{path} does not exist; expected polygons ({', '.join(SUFFIXES)}). Check the spelling of the file."
        )
    if suffix not in SUFFIXES:
        raise InputError(f"{path} ends in {suffix or 'nothing'!r}; expected polygons ({', '.join(SUFFIXES)}).")
    if path.stat().st_size > MOST_BYTES:
        raise InputError(f"{path} has {path.stat().st_size} bytes, too many for polygons; cut out a part of it.")
    if suffix == ".gpkg":
        return geopackage.read(path, layer)
    return shapefile.read(path) if suffix == ".shp" else geojson.read(path)


def labels_of(polygons: Polygons, field: str | None = None) -> tuple[str, ...]:
    """Return a name for each polygon: an attribute, or else its number from 1; equal names stay equal.

    Args:
        polygons: of a file.
        field: the attribute; None: the first of name, label, id, class, fid that all polygons have.

    Raises:
        InputError: a polygon has no such attribute.
    """
    tables = [feature.attributes for feature in polygons.features]
    shared = [name for name in tables[0] if all(name in table for table in tables)]
    if field is None:
        usual = {name.lower(): name for name in reversed(shared)}
        field = next((usual[label] for label in _LABELS if label in usual), None)
        if field is None:
            return tuple(str(number) for number in range(1, len(tables) + 1))
    if field not in shared:
        raise InputError(
            f"Not every polygon of {polygons.source} has an attribute {field!r}; expected one of "
            f"{', '.join(shared) or '(none)'}."
        )
    return tuple(str(table[field]) for table in tables)


def placed(polygons: Polygons, georeference: Georeference | None, label: str) -> Polygons:
    """Return polygons in pixel coordinates (column, row), 0 at the outer corner of the first pixel.

    Args:
        polygons: in any coordinate reference system.
        georeference: of the pixels.
        label: the scene, for messages.

    Raises:
        InputError: the scene has no place, or the systems cannot be compared.
    """
    if georeference is None:
        raise InputError(
            f"{label} has no place on the ground, so polygons have no place in it; expected a georeference (map info, "
            "a transform). Mask by a raster of the same grid instead."
        )
    a, b, x0, d, e, y0 = georeference.transform
    inverse = np.linalg.inv([[a, b], [d, e]])
    features = []
    for feature in polygons.features:
        rings = feature.rings
        if polygons.crs and georeference.crs and polygons.crs != georeference.crs:
            rings = tuple(georaster.reprojected(points, polygons.crs, georeference.crs) for points in rings)
        features.append(Feature(tuple((points - (x0, y0)) @ inverse.T for points in rings), feature.attributes))
    return replace(polygons, features=tuple(features), crs="")


def inside(rings: Sequence[Array], shape: tuple[int, int]) -> tuple[tuple[slice, slice], Array]:
    """Return which pixels have their centres inside rings, by the even-odd rule.

    Along a row, a pixel is inside if an odd number of edges lies to the left of its centre.

    Args:
        rings: (N, 2) pixel coordinates (column, row) each; closed or not.
        shape: (H, W).

    Returns:
        Rows and columns of the smallest window that holds all such pixels, and (h, w) bool.
    """
    height, width = shape
    points = np.concatenate(rings)
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    rows = slice(int(np.clip(np.floor(top), 0, height)), int(np.clip(np.ceil(bottom), 0, height)))
    columns = slice(int(np.clip(np.floor(left), 0, width)), int(np.clip(np.ceil(right), 0, width)))
    size = (max(rows.stop - rows.start, 0), max(columns.stop - columns.start, 0))
    crossings = np.zeros((size[0], size[1] + 1), np.uint8)
    if 0 in size:
        return (rows, columns), crossings[:, :-1] > 0
    for ring in rings:
        start, end = ring - (columns.start, rows.start), np.roll(ring, -1, axis=0) - (columns.start, rows.start)
        for (x1, y1), (x2, y2) in zip(start, end, strict=True):
            if y1 == y2:
                continue
            # The rows whose centres r + 1/2 lie in [low, high).
            low, high = (y1, y2) if y1 < y2 else (y2, y1)
            first, last = (int(np.clip(np.ceil(y - 0.5), 0, size[0])) for y in (low, high))
            y = np.arange(first, last) + 0.5
            x = x1 + (y - y1) * (x2 - x1) / (y2 - y1)
            column = np.clip(np.ceil(x - 0.5), 0, size[1]).astype(np.intp)
            crossings[np.arange(first, last), column] ^= 1
    return (rows, columns), (np.bitwise_xor.accumulate(crossings, axis=1)[:, :-1]) > 0


def covered(polygons: Polygons, georeference: Georeference | None, shape: tuple[int, int], label: str) -> Array:
    """Return (H, W) bool, True where the centre of a pixel is inside any polygon.

    Args:
        polygons: in any coordinate reference system.
        georeference: of the pixels, whose transform is that of these pixels.
        shape: (H, W).
        label: the scene, for messages.

    Raises:
        InputError: as from `placed`; or all polygons lie elsewhere.
    """
    there = placed(polygons, georeference, label)
    found = np.zeros(shape, np.bool_)
    for feature in there.features:
        (rows, columns), part = inside(feature.rings, shape)
        found[rows, columns] |= part
    if not found.any():
        raise elsewhere(polygons, there, shape, label)
    return found


def elsewhere(polygons: Polygons, there: Polygons, shape: tuple[int, int], label: str) -> InputError:
    """Return the error about polygons that contain no pixel of a scene.

    Args:
        polygons: as they are in the file.
        there: in pixel coordinates.
        shape: (H, W).
        label: the scene.
    """
    left, top, right, bottom = there.bounds()
    x1, y1, x2, y2 = polygons.bounds()
    # Each by itself: polygons on both sides of a scene have it between them.
    meets = any(
        (points.max(axis=0) > 0).all() and (points.min(axis=0) < shape[::-1]).all()
        for points in (np.concatenate(feature.rings) for feature in there.features)
    )
    cure = (
        "They are smaller than a pixel and contain no centre of one."
        if meets
        else "Check their coordinate system, and whether longitude comes before latitude."
    )
    return InputError(
        f"No pixel of {label} lies in the polygons of {polygons.source} (x {x1:g} to {x2:g}, y {y1:g} to {y2:g} in "
        f"{polygons.crs[:40] or 'an unnamed system'}), which are at rows {top:.0f} to {bottom:.0f} and columns "
        f"{left:.0f} to {right:.0f} of {shape[0]} x {shape[1]}; expected polygons on the scene. {cure}"
    )
