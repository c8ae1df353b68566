"""The ways that the shipped operator is compared with, each blind: VCA + FCLS to training on the scene after it."""

from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax.baselines import MethodResult
from dequnmix_jax.endmembers.selection import select_endmembers
from dequnmix_jax.results import score
from dequnmix_jax.scenes.truth import Truth
from dequnmix_jax.training.config import RECOMMENDED
from dequnmix_jax.training.recipe import model_for
from dequnmix_jax.training.stages import without_training
from experiments.shared.hysu_areas import areas

METHODS = (
    "VCA + FCLS", "minimum volume + FCLS", "start", "start + neighbours", "learned operator without prior",
    "learned operator", "fine-tuned",
)  # fmt: skip

AT_HAND = (
    "samson", "dc1, 20 dB", "dc1, 30 dB", "misicnet_sim1, 20 dB", "misicnet_sim1, 30 dB", "hapke_relab",
    "recipe, 15 dB", "recipe, 30 dB", "apex stand-in, 25 dB", "hapke_sim1, 20 dB", "hapke_sim1, 30 dB", "hysu",
)  # fmt: skip
"""Measured scenes and those that others simulated, on which the operator is judged."""

Answer = tuple[Any, Any, Any, dq.Model]


@cache
def _unmix(config: dq.Model) -> Any:
    return jax.jit(lambda params, cube: dq.unmix(params, cube, config)[0])


def solved(cube: jax.Array, E: jax.Array, config: dq.Model) -> Answer:
    """Unmix with spectra that stay as they are, and a prior where the scene shows that it helps."""
    params, _ = without_training(jax.random.key(0), cube, config, E)
    estimate = _unmix(config)(params, cube)
    return estimate.abundances, estimate.endmembers, estimate.brightness, config


def answer(method: str, key: jax.Array, cube: jax.Array, count: int) -> Answer:
    """Return what a method finds."""
    analytic = dq.Model(gradient=dq.equilibrium.Analytic(), constraint=dq.equilibrium.Simplex())
    if method == "VCA + FCLS":
        return solved(cube, jnp.maximum(dq.endmembers.vca(key, cube, count), 0), analytic)
    if method == "minimum volume + FCLS":
        return solved(cube, jnp.maximum(dq.endmembers.minimum_volume(key, cube, count)[0], 0), analytic)
    if method in ("start", "start + neighbours"):
        chosen = select_endmembers(key, cube, count, abundances=False)
        config = model_for(chosen, dq.Model(gradient=dq.equilibrium.Analytic()))
        return solved(cube, chosen.endmembers, replace(config, prior="none" if method == "start" else "neighbours"))
    training = RECOMMENDED[0] if method == "fine-tuned" else None
    result = dq.run(np.asarray(cube), count, key, training=training)
    if method == "learned operator without prior":
        return solved(cube, jnp.asarray(result.endmembers), replace(result.config, prior="none"))
    return result.abundances, result.params["endmembers"], result.brightness, result.config


def errors_of(A: Any, E: Any, brightness: Any, config: dq.Model, truth: Truth, cube: jax.Array) -> dict[str, float]:
    """Return "armse" and "msad" of an answer, as `dequnmix score` does; without abundances the errors of the areas."""
    if truth.abundances is None:
        found = areas(MethodResult(jnp.asarray(A), jnp.asarray(E)), config.constraint.word, cube, truth, False)
        return {"armse": found["area_error"], "msad": found["msad"]}
    estimate = score.as_estimate(A, E, brightness, config.convention)
    return score.compare(estimate, truth, cube=np.asarray(cube))
