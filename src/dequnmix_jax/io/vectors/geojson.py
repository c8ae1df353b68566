"""Read GeoJSON (RFC 7946): longitude and latitude on WGS 84, unless the member "crs" of old files names another."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dequnmix_jax.checks import InputError
from dequnmix_jax.escaping import reason_of
from dequnmix_jax.io.vectors.features import Feature, Polygons, collected, not_a_polygon, ring
from dequnmix_jax.scenes.scene import Array

_DEGREES = "EPSG:4326"


def read(path: Path) -> Polygons:
    """Read the polygons of a GeoJSON file.

    Raises:
        InputError: the file is not GeoJSON, or holds other geometries than polygons.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({reason_of(error)}); expected GeoJSON. Export it again.") from error
    if not isinstance(content, Mapping) or not isinstance(content.get("type"), str):
        raise InputError(f"{path} is JSON and not GeoJSON; expected an object with a type, such as FeatureCollection.")
    members = content.get("features") if content["type"] == "FeatureCollection" else [content]
    features = []
    for number, member in enumerate(members if isinstance(members, list) else []):
        if not isinstance(member, Mapping):
            raise not_a_polygon(path, number, "value without a type")
        inside = member.get("geometry") if member.get("type") == "Feature" else member
        rings = tuple(_rings(inside, path, number))
        attributes = member.get("properties")
        attributes = dict(attributes) if isinstance(attributes, Mapping) else {}
        if rings:  # a feature may have no geometry
            features.append(Feature(rings, ({"id": member["id"]} if "id" in member else {}) | attributes))
    return collected(features, _crs(content), path)


def _rings(geometry: Any, path: Path, number: int) -> Iterator[Array]:
    if geometry is None:
        return
    kind = geometry.get("type") if isinstance(geometry, Mapping) else None
    parts: Any
    if kind == "GeometryCollection":
        for inside in geometry.get("geometries") or []:
            yield from _rings(inside, path, number)
        return
    if kind == "Polygon":
        parts = [geometry.get("coordinates")]
    elif kind == "MultiPolygon":
        parts = geometry.get("coordinates")
    else:
        raise not_a_polygon(path, number, str(kind)[:40])
    for part in parts if isinstance(parts, list) else []:
        for points in part if isinstance(part, list) else [None]:
            yield ring(points, path, number)


def _crs(content: Mapping[str, Any]) -> str:
    named = content.get("crs")
    properties = named.get("properties") if isinstance(named, Mapping) else None
    name = properties.get("name") if isinstance(properties, Mapping) else None
    return name if isinstance(name, str) and name and "CRS84" not in name else _DEGREES
