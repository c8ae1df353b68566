"""Read polygons of a GeoPackage (OGC 12-128r19), an SQLite database."""

import sqlite3
import struct
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dequnmix_jax.checks import InputError
from dequnmix_jax.escaping import reason_of
from dequnmix_jax.io.vectors import wkb
from dequnmix_jax.io.vectors.features import Feature, Polygons, collected, not_a_polygon, ring

_ENVELOPES = {0: 0, 1: 32, 2: 48, 3: 48, 4: 64}
"""Bytes of the envelope that a geometry carries, by its code."""


def read(path: Path, layer: str | None = None) -> Polygons:
    """Read the polygons of a layer of a GeoPackage.

    Args:
        path: the file.
        layer: its name; None: the only one.

    Raises:
        InputError: the file is damaged, holds several layers, or other geometries than polygons.
    """
    try:
        # Read-only and unchanging: no journal is made beside the file.
        with closing(sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1", uri=True)) as base:
            return _read(base, path, layer)
    except (sqlite3.Error, struct.error, ValueError, TypeError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path} cannot be read as a GeoPackage ({reason_of(error)}); expected polygons. Export it again."
        ) from error


def _read(base: sqlite3.Connection, path: Path, layer: str | None) -> Polygons:
    tables = {name: (column, srs) for name, column, srs in base.execute(
        "SELECT table_name, column_name, srs_id FROM gpkg_geometry_columns")}  # fmt: skip
    if layer is None and len(tables) == 1:
        layer = next(iter(tables))
    if layer is None or layer not in tables:
        asked = "no layer is named" if layer is None else f"the layer {layer!r} is asked for"
        raise InputError(
            f"{path} holds the layers {', '.join(map(str, tables)) or '(none)'}, and {asked}; expected one of them. "
            f"Write it after the file, as in {path.name}:LAYER."
        )
    column, srs = tables[layer]
    cursor = base.execute(f"SELECT * FROM {_quoted(layer)}")
    names = [entry[0] for entry in cursor.description]
    place = names.index(column)
    features = []
    for number, row in enumerate(cursor):
        blob = row[place]
        if blob is None:
            continue
        attributes = {name: value for name, value in zip(names, row, strict=True) if name != column}
        try:
            rings = wkb.rings_of(_geometry(bytes(blob)))
        except wkb.NotAPolygonError as error:
            raise not_a_polygon(path, number, str(error)) from error
        if rings:
            features.append(Feature(tuple(ring(points, path, number) for points in rings), attributes))
    return collected(features, _crs(base, srs), path)


def _geometry(blob: bytes) -> bytes:
    """Return the well-known binary inside a GeoPackage geometry."""
    if blob[:2] != b"GP":
        raise ValueError("a geometry does not begin with GP")
    return blob[8 + _ENVELOPES[(blob[3] >> 1) & 7] :]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _crs(base: sqlite3.Connection, srs: Any) -> str:
    row = base.execute(
        "SELECT organization, organization_coordsys_id, definition FROM gpkg_spatial_ref_sys WHERE srs_id = ?", (srs,)
    ).fetchone()
    if row is None or (isinstance(srs, int) and srs <= 0):  # undefined
        return ""
    organisation, code, definition = row
    return f"EPSG:{code}" if str(organisation).upper() == "EPSG" else str(definition)
