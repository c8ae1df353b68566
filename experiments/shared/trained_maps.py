"""Shared by the figures on the equilibrium: partly trained maps, and the loss for any way to solve them."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax import metrics
from dequnmix_jax.datasets import registry
from dequnmix_jax.equilibrium import fixed_point_map, model
from dequnmix_jax.training import fitting
from experiments.plans import EVERY_STAGE_AND_RATES

# The paper's map, as far as it is known: a free network with CBAM instead of the gradient, softmax on abundances,
# eta 0.01, ten iterations, memory 5 (numbers of the first author's script for the sibling paper).
LITERAL = dq.Model(
    gradient=dq.equilibrium.Residual(), init="random", constraint=dq.equilibrium.Softmax(gamma=1.0), step=0.01,
    forward=dq.Solver(max_steps=10), backward=dq.Adjoint(max_steps=10),
)  # fmt: skip

Plan = tuple[dq.Model, dq.Training, dq.Rates]

MAPS: dict[str, Plan] = {
    "energy, data metric": (dq.Model(), *EVERY_STAGE_AND_RATES),
    "energy, euclidean metric": (dq.Model(metric="euclidean"), *EVERY_STAGE_AND_RATES),
    "literal": (LITERAL, dq.Training(), dq.Rates()),
}
"""Ours, ours without the metric, and the literal map of the paper, each with its training in `blind_table`."""


def samson(crop: int | None) -> jax.Array:
    """Return the scene, or its upper left corner."""
    cube = jnp.asarray(registry.load("samson_zhu")[0].cube)
    return cube if crop is None else cube[:crop, :crop]


def snapshots(cube: jax.Array, plan: Plan, epochs: Sequence[int], count: int = 3, seed: int = 0) -> list[Any]:
    """Return the parameters of one training run after each of `epochs` steps, in ascending order."""
    config, schedule, rates = plan
    schedule = replace(schedule, epochs=max(epochs))
    begin = jax.jit(functools.partial(fitting.begin, config=config, count=count))
    advance = jax.jit(fitting.advance, static_argnums=(2, 3, 5))
    state = begin(jax.random.key(seed), cube)
    states, done = [], 0
    for epoch in epochs:
        if epoch > done:
            state, _ = advance(state, cube, config, schedule, rates, epoch - done)
            done = epoch
        states.append(state.params)
    return states


def objective(
    params: Any, cube: jax.Array, config: dq.Model, solve: Callable[[Any, jax.Array], jax.Array]
) -> jax.Array:
    """Return the paper's loss, with the equilibrium found by `solve(theta, start)`.

    Equals `objective.loss` with `Rates()` if solve is `fixed_point`, as a test checks.
    """
    theta = fixed_point_map.factor(params, cube, config)
    state = solve(theta, fixed_point_map.initial_state(params, cube, config))
    return head(params, state, cube, config)


def head(params: Any, state: jax.Array, cube: jax.Array, config: dq.Model) -> jax.Array:
    """Return the paper's loss of an equilibrium: mean spectral angle + 0.2 mean squared error at maximum one."""
    rebuilt = model.reconstruct(model.read_state(params, state, cube, config))
    peak = jnp.max(jnp.abs(cube))
    return jnp.mean(metrics.spectral_angle(cube, rebuilt)) + 0.2 * jnp.mean(jnp.square(rebuilt - cube)) / peak**2


def distance(gradient: Any, truth: Any) -> float:
    """Return the relative error of a gradient: the larger of that in E and that in the network, each by its own norm.

    They have different units and learning rates.
    """
    return max(
        norm(jax.tree.map(lambda a, b: a.astype(b.dtype) - b, gradient[part], truth[part])) / norm(truth[part])
        for part in truth
    )


def norm(tree: Any) -> float:
    """Return the Euclidean norm of all leaves together."""
    return float(sum(float(jnp.sum(jnp.square(x))) for x in jax.tree.leaves(tree)) ** 0.5)


LEVELS = (1e-2, 1e-4, 1e-6)
"""Relative residuals for which the tables count applications of the map."""


def reached(curve: np.ndarray, level: float) -> int | None:
    """Return the number of applications of the map after which a curve is first at or below a level."""
    below = np.flatnonzero(curve <= level)
    return int(below[0]) + 1 if below.size else None
