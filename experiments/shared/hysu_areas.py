"""Errors on HySU, whose truth is the areas of its targets."""

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax.baselines import MethodResult
from dequnmix_jax.datasets import hysu
from dequnmix_jax.scenes.truth import Truth
from experiments.shared import side_by_side


def areas(result: MethodResult, constraint: str, cube: jax.Array, truth: Truth, exact: bool) -> side_by_side.Figures:
    """Return the errors of the areas."""
    targets = hysu.hysu_targets()
    naming = hysu.name_endmembers(result.endmembers, truth.endmembers, truth.names)
    error = np.abs(hysu.areas_found(result.abundances, naming.names) / targets.area_m2[None] - 1)
    by_side = np.where(np.isfinite(error), error, 1.0).mean(axis=0)
    E = jnp.asarray(truth.endmembers)
    angles = np.asarray(dq.metrics.spectral_angle(result.endmembers[dq.metrics.align(result.endmembers, E)], E))
    return (
        {"area_error": float(by_side[targets.area_m2 >= targets.pixel_size_m**2].mean())}
        | {f"{side:g} m": float(value) for side, value in zip(targets.side_m, by_side, strict=True)}
        | {"found": float(np.isfinite(error).all(axis=1).sum()), "msad": float(angles.mean())}
        | {f"sad_{r + 1}": float(angle) for r, angle in enumerate(angles)}
    )
