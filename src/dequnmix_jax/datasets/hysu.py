"""The targets of the HySU scene: 25 squares of known area, the reference for an unmixing of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.io import npz
from dequnmix_jax.metrics import match
from dequnmix_jax.scenes.scene import Array

LARGEST_ANGLE = 0.15
"""Radians. A larger angle to the nearest library spectrum leaves an endmember unnamed."""


@dataclass(frozen=True, eq=False)
class Naming:
    """The materials of a library that the endmembers match.

    Attributes:
        names: R names; "unnamed 1" and so on for endmembers without a match.
        angles: (R,), radians, angle to the matching material, NaN if unnamed.
        rows: (R,) int, row of the library, -1 if unnamed.
    """

    names: tuple[str, ...]
    angles: Array
    rows: Array


def name_endmembers(endmembers: Any, library: Array, names: Sequence[str], largest: float = LARGEST_ANGLE) -> Naming:
    """Name each endmember after a library spectrum, using each name at most once.

    The matching minimises the sum of min(angle, largest). Because of the minimum, a material that is absent from the
    scene cannot displace another one.

    Args:
        endmembers: (R, B), estimated.
        library: (K, B); R and K may differ.
        names: K names.
        largest: radians, the largest angle of a match.

    Returns:
        A Naming.
    """
    import jax.numpy as jnp

    from dequnmix_jax.metrics import spectral_angle

    angles = np.asarray(spectral_angle(jnp.asarray(endmembers)[:, None, :], jnp.asarray(library)[None, :, :]))
    cost = np.minimum(np.nan_to_num(angles, nan=np.pi), largest)
    rows = np.full(len(angles), -1)
    for i, k in zip(*match(cost), strict=True):
        if angles[i, k] <= largest:
            rows[i] = k
    labels, unnamed = [], 0
    for row in rows:
        unnamed += row < 0
        labels.append(names[row] if row >= 0 else f"unnamed {unnamed}")
    distance = np.where(rows >= 0, angles[np.arange(len(rows)), rows], np.nan)
    return Naming(tuple(labels), distance, rows)


def areas_found(abundances: Any, names: Sequence[str]) -> Array:
    """Return the target areas as `target_areas` does, with rows of NaN for materials without a map."""
    missing = [material for material in MATERIALS if material not in names]
    maps = np.concatenate([np.asarray(abundances), np.full((*abundances.shape[:2], len(missing)), np.nan)], axis=2)
    return target_areas(maps, [*names, *missing])


MATERIALS = ("bitumen", "red_metal", "blue_fabric", "red_fabric", "green_fabric")


@dataclass(frozen=True, eq=False)
class Targets:
    """Positions and sizes of the targets.

    Attributes:
        materials: the five names, in the order of `roi_material`.
        roi_material: (H, W, 5) bool, the regions of each material, for all sizes.
        roi_size: (H, W) uint8, 1 for the largest targets to 5 for the smallest, 0 elsewhere.
        side_m: (5,) metres, 3 to 0.25.
        area_m2: (5,) square metres, 9 to 0.0625.
        pixel_size_m: metres, side of a pixel, 0.7.
    """

    materials: tuple[str, ...]
    roi_material: Array
    roi_size: Array
    side_m: Array
    area_m2: Array
    pixel_size_m: float


def hysu_targets() -> Targets:
    """Return the targets of the shipped HySU scene (Cerra et al. 2021)."""
    with as_file(files("dequnmix_jax") / "data" / "hysu.npz") as path:
        arrays = npz.load(path)
    return Targets(
        MATERIALS,
        arrays["roi_material"].astype(np.bool_),
        arrays["roi_size"],
        arrays["target_side_m"],
        arrays["target_area_m2"],
        float(arrays["pixel_size_m"]),
    )


def target_areas(abundances: Array, names: Sequence[str]) -> Array:
    """Return the area of each target according to an unmixing.

    The area is the abundance of the target's material, summed over its region, times the area of a pixel. The regions
    of the data set are wider than the targets (30 pixels or 15 square metres for a target of 9), so they include the
    light that the sensor spreads over neighbouring pixels; they are used unchanged.

    Args:
        abundances: (86, 123, R) maps of the whole scene, in [0, 1]; numpy or jax.
        names: R names of the maps, the five of `MATERIALS` among them.

    Returns:
        (5, 5) square metres, materials in the order of `MATERIALS`, sizes from the largest to the smallest.

    Raises:
        InputError: maps of another shape, or a material without a map.
    """
    targets = hysu_targets()
    maps = np.asarray(abundances, np.float64)
    if maps.shape != (*targets.roi_size.shape, len(names)):
        raise InputError(
            f"abundances have shape {maps.shape} and {len(names)} names; expected {targets.roi_size.shape} and one "
            "map a name, those of the whole HySU scene."
        )
    missing = [material for material in MATERIALS if material not in names]
    if missing:
        raise InputError(f"No map is named {', '.join(missing)} among {', '.join(names)}; expected all of {MATERIALS}.")
    areas = np.zeros((len(MATERIALS), targets.side_m.size))
    for row, material in enumerate(MATERIALS):
        for column in range(targets.side_m.size):
            region = (targets.roi_size == column + 1) & targets.roi_material[:, :, row]
            areas[row, column] = maps[region, list(names).index(material)].sum()
    return areas * targets.pixel_size_m**2
