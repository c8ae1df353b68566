"""Train the learned spatial operator (`dequnmix_jax.abundances.learned_smoothing`), and judge it on unseen families."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import dequnmix_jax as dq
from dequnmix_jax import datasets
from dequnmix_jax.abundances import learned_smoothing, map_statistics
from dequnmix_jax.abundances.learned_smoothing import SpatialWeights
from dequnmix_jax.abundances.smoothing import smooth_linearly
from dequnmix_jax.datasets import SceneShape
from dequnmix_jax.mixing import project_simplex
from dequnmix_jax.solvers.config import Adjoint, Solver
from dequnmix_jax.training import stages
from dequnmix_jax.training.smoothing_gain import smoothing_gain
from experiments.shared import results_table
from experiments.shared.map_corpus import MapSet, map_sets

SIDE = 32
"""Rows and columns of the windows of training; the statistics are those of the whole scene."""

GIVEN = 0.85
"""Share of the scenes in training whose maps by even and odd bands are given."""

TRAINED = Solver(tolerance=3e-3, max_steps=40), Adjoint(tolerance=3e-2, max_steps=40)
"""The solvers in training: less accurate than the operator's, which is enough for a gradient."""


class Prepared(NamedTuple):
    """Scenes of one size, ready for training; what does not depend on the weights is computed once.

    Attributes:
        maps, truth: (N, H, W, R).
        seen: (2, N, D, S), statistics without and with halves.
        directions, back: (2, N, R, D), (2, N, D, R).
        varies: (2, N).
        family: (N,), NumPy.
    """

    maps: jax.Array
    truth: jax.Array
    seen: jax.Array
    directions: jax.Array
    back: jax.Array
    varies: jax.Array
    family: np.ndarray


@jax.jit
def _seen(A: jax.Array, even: jax.Array, odd: jax.Array) -> tuple[jax.Array, ...]:
    valid = jnp.ones(A.shape[1:3], bool)

    def one(scene: tuple[jax.Array, ...]) -> Any:
        A, even, odd = scene
        both = [learned_smoothing.look(A, d, valid) for d in (None, (even - odd) / 2)]
        return jax.tree.map(lambda *x: jnp.stack(x), *both)

    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), jax.lax.map(one, (A, even, odd)))


def prepare(maps: MapSet) -> Prepared:
    """Compute what training needs of some maps."""
    return Prepared(jnp.asarray(maps.whole), jnp.asarray(maps.truth), *_seen(*maps[:3]), maps.family)


def ratios(weights: SpatialWeights, scenes: tuple[jax.Array, ...], solvers: tuple[Solver, Adjoint]) -> jax.Array:
    """Return the logarithm of the aRMSE of smoothed maps over that of the maps, (N,)."""

    def one(A: jax.Array, truth: jax.Array, *parts: jax.Array) -> jax.Array:
        prior = learned_smoothing.assemble(weights, *parts)
        valid = jnp.ones(A.shape[:2], bool)
        smoothed = project_simplex(A + learned_smoothing.correction(A, valid, prior, *solvers))
        return jnp.log(dq.metrics.armse(smoothed, truth) / dq.metrics.armse(A, truth))

    return jax.vmap(one)(*scenes)


def loss(weights: SpatialWeights, scenes: tuple[jax.Array, ...], harm: float) -> jax.Array:
    """Return the mean of the ratios, where harm counts more."""
    r = ratios(weights, scenes, TRAINED)
    return jnp.mean(r + harm * jnp.maximum(r, 0))


@partial(jax.jit, static_argnums=0)
def _step(
    optimiser: optax.GradientTransformation,
    weights: SpatialWeights,
    state: Any,
    scenes: tuple[jax.Array, ...],
    harm: float,
) -> tuple[SpatialWeights, Any, jax.Array]:
    value, gradient = jax.value_and_grad(loss)(weights, scenes, harm)
    fine = jnp.all(jnp.stack([jnp.all(jnp.isfinite(g)) for g in gradient]))
    gradient = jax.tree.map(lambda g: jnp.where(fine, g, 0), gradient)
    change, state = optimiser.update(gradient, state, weights)
    return optax.apply_updates(weights, change), state, value


def train(
    seed: int, sets: Sequence[Prepared], families: Sequence[int], steps: int, batch: int, rate: float, harm: float
) -> tuple[SpatialWeights, np.ndarray]:
    """Train on some families, and return the weights and the loss of each step."""
    draw = np.random.default_rng(seed)
    allowed = [np.flatnonzero(np.isin(part.family, families)) for part in sets]
    optimiser = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(rate, steps), b2=0.99)
    )
    weights = learned_smoothing.init_weights(jax.random.key(seed))
    state = optimiser.init(weights)
    values = []
    for step in range(steps):
        part, rows = sets[step % len(sets)], allowed[step % len(sets)]
        chosen = draw.choice(rows, batch, replace=False)
        given = draw.random(batch) < GIVEN
        top = tuple(int(draw.integers(0, n - SIDE + 1)) for n in part.maps.shape[1:3])
        window = (slice(top[0], top[0] + SIDE), slice(top[1], top[1] + SIDE))
        scenes = (part.maps[(chosen, *window)], part.truth[(chosen, *window)])
        scenes += tuple(x[given.astype(int), chosen] for x in part[2:6])
        weights, state, value = _step(optimiser, weights, state, scenes, harm)
        values.append(value)
        if step%100==99: print(step, float(np.nanmean(np.asarray(values[-100:]))), time.process_time(), flush=True)
    return weights, np.asarray(values)


class Judged(NamedTuple):
    """What is found on scenes, (N,) each: aRMSE of the maps; of each way of smoothing over that of the maps; the
    estimated gain of smoothing in standard errors, by three forms of the guard."""

    raw: jax.Array
    smooth: jax.Array
    learned: jax.Array
    alone: jax.Array
    stein: jax.Array
    crossed: jax.Array
    stein_smooth: jax.Array


@jax.jit
def judge(weights: SpatialWeights, maps: jax.Array, even: jax.Array, odd: jax.Array, truth: jax.Array) -> Judged:
    """Smooth and judge the maps of scenes (N, H, W, R)."""
    valid = jnp.ones(maps.shape[1:3], bool)

    def one(scene: tuple[jax.Array, ...]) -> Judged:
        A, even, odd, truth = scene
        raw = dq.metrics.armse(A, truth)
        prior = learned_smoothing.learned_smoother(A, (even, odd), weights=weights)
        old = dq.abundances.smoother(A)

        def learned(x: jax.Array) -> jax.Array:
            return x + learned_smoothing.correction(x, valid, prior)

        gains = [
            smoothing_gain(A, even, odd, learned),
            sum(jnp.sum(jnp.square(x - y) - jnp.square(learned(x) - y), axis=-1) for x, y in ((even, odd), (odd, even))),
            smoothing_gain(A, even, odd, lambda x: smooth_linearly(x, valid, old)),
        ]
        ratios = [
            dq.metrics.armse(x, truth) / raw
            for x in (
                dq.abundances.smooth(A, old),
                learned_smoothing.smooth_learned(A, prior),
                learned_smoothing.smooth_learned(A, learned_smoothing.learned_smoother(A, weights=weights)),
            )
        ]
        return Judged(raw, *ratios, *(stages.standard_errors(gain, valid) for gain in gains))

    return jax.lax.map(one, (maps, even, odd, truth))
