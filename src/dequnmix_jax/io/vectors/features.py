"""Polygons and their attributes, as every reader of a vector format returns them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.scenes.scene import Array

MOST_BYTES = 512 * 2**20
"""Size of a file above which it is not read as polygons."""


class Feature(NamedTuple):
    """An area.

    Attributes:
        rings: (N, 2) float64 coordinates each, N >= 3; a point is inside if it is inside an odd number of them, so that
            holes and separate parts need no mark.
        attributes: of the file, by name.
    """

    rings: tuple[Array, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Polygons:
    """The areas of a file.

    Attributes:
        features: at least one.
        crs: coordinate reference system of the coordinates as WKT or a code; "" when the file names none.
        source: the file.
    """

    features: tuple[Feature, ...]
    crs: str
    source: Path

    def bounds(self) -> tuple[float, float, float, float]:
        """Return the smallest x and y and the largest x and y."""
        points = np.concatenate([ring for feature in self.features for ring in feature.rings])
        (left, low), (right, high) = points.min(axis=0), points.max(axis=0)
        return float(left), float(low), float(right), float(high)


def ring(points: Any, path: Path, number: int) -> Array:
    """Return a ring as (N, 2) float64; raise InputError unless it has three finite points."""
    try:
        values = np.asarray([point[:2] for point in points], np.float64).reshape(-1, 2)
    except (TypeError, ValueError, IndexError, KeyError):
        values = np.full((1, 2), np.nan)
    if len(values) < 3 or not np.isfinite(values).all():
        raise InputError(
            f"Feature {number} of {path} has a ring of {len(values)} points, or with coordinates that are no numbers; "
            "expected three or more points. Repair the geometry."
        )
    return values


def not_a_polygon(path: Path, number: int, kind: str) -> InputError:
    """Return the error about a geometry of another kind."""
    return InputError(
        f"Feature {number} of {path} is a {kind}; expected polygons only. Buffer points and lines to polygons, or "
        "leave them out."
    )


def collected(features: Sequence[Feature], crs: str, path: Path) -> Polygons:
    """Return the polygons of a file; raise InputError if there are none."""
    if not features:
        raise InputError(f"{path} holds no polygon; expected at least one.")
    return Polygons(tuple(features), crs, path)
