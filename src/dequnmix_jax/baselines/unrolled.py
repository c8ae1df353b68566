"""The unrolled twin: the map of DEQ-Unmix applied K times and differentiated through all K applications.

    A_0 = start,  A_k = f_k(A_(k-1); Y),  k = 1 .. K,  the answer is A_K

f_k is `dequnmix_jax.equilibrium.fixed_point_map.state_map`. Tied: the same weights in all layers, as in the
equilibrium. Untied: a network for each layer, as in deep unrolling (Monga, Li and Eldar, Algorithm unrolling, IEEE SPM
38(2), 2021); E is one for all. Loss, optimiser, schedule and start are those of `fit`; reverse mode goes through all
layers and keeps their states.

Guessed: a fair twin starts each pass from the same state (`warm_start` off), because a network that continues from its
last output has no defined depth; and the untied layers draw their weights independently.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from dequnmix_jax.baselines.method import Method, MethodResult
from dequnmix_jax.equilibrium import fixed_point_map, model
from dequnmix_jax.equilibrium.config import Model
from dequnmix_jax.training import fitting, objective
from dequnmix_jax.training.config import RECOMMENDED, Rates, Training
from dequnmix_jax.types import Trace

EVERY_STAGE = replace(RECOMMENDED[0], judged=False)
"""Keeps every stage, to show what training does."""


def forward(
    params: Any, cube: jax.Array, config: Model, layers: int, tied: bool, seen: jax.Array | None = None
) -> tuple[jax.Array, Trace]:
    """Return the state A_K and the relative change by the last layer."""
    f = fixed_point_map.state_map(config)
    start = fixed_point_map.initial_state(params, cube, config)
    if tied:
        theta = fixed_point_map.factor(params, cube, config, None, seen)
        before, after = lax.scan(lambda z, _: (f(theta, z), z), start, None, length=layers)
    else:
        E = params["endmembers"]
        thetas = jax.vmap(lambda w: fixed_point_map.factor({"endmembers": E, "network": w}, cube, config, None, seen))(
            params["network"]
        )
        before, after = lax.scan(lambda z, theta: (f(theta, z), z), start, thetas)
    state, last = before, lax.stop_gradient(after[-1])
    size = jnp.sqrt(jnp.mean(jnp.square(lax.stop_gradient(state))))
    moved = jnp.sqrt(jnp.mean(jnp.square(lax.stop_gradient(state) - last))) / jnp.where(size > 0, size, 1)
    return state, Trace(jnp.asarray(layers, jnp.int32), moved, moved <= config.forward.tolerance)


def loss(
    params: Any,
    cube: jax.Array,
    config: Model,
    rates: Rates,
    layers: int,
    tied: bool,
    held_out: jax.Array | None = None,
) -> tuple[jax.Array, dict[str, Any]]:
    """Return the objective of `fit` at the K-th state in the place of the equilibrium."""
    seen = None if held_out is None else (~held_out).astype(cube.dtype)
    state, trace = forward(params, cube, config, layers, tied, seen)
    total, parts = objective.misfit(model.read_state(params, state, cube, config), cube, rates, held_out=held_out)
    return total, parts | {"trace": trace, "state": state}


def unrolled(
    layers: int,
    tied: bool,
    config: Model | None = None,
    schedule: Training = EVERY_STAGE,
    rates: Rates = RECOMMENDED[1],
) -> Method:
    """Return the twin with `layers` layers."""
    config = Model() if config is None else config
    schedule = replace(schedule, warm_start=False)

    def estimate(key: jax.Array, cube: jax.Array, start: jax.Array) -> MethodResult:
        def value(
            params: Any, cube: jax.Array, config: Model, rates: Rates, *, initial: Any, mask: Any, held_out: Any,
            probes: Any, tolerance: Any,
        ) -> tuple[jax.Array, dict[str, Any]]:  # fmt: skip
            return loss(params, cube, config, rates, layers, tied, held_out)  # the others belong to an equilibrium

        state = fitting.begin(key, cube, config, endmembers=start)
        if not tied:
            draw = jax.vmap(lambda k: model.init(k, cube, config, endmembers=start)["network"])
            params = state.params | {"network": draw(jax.random.split(jax.random.fold_in(key, 1), layers))}
            state = state._replace(params=params, moments=optax.scale_by_adam().init(params))
        state, _ = fitting.advance(state, cube, config, schedule, rates, schedule.epochs, objective=value)
        final, _ = forward(state.params, cube, config, layers, tied)
        estimated = model.read_state(state.params, final, cube, config)
        return MethodResult(estimated.abundances, estimated.endmembers)

    name = f"unrolled, {layers} layers, {'tied' if tied else 'untied'}"
    return Method(name, estimate, config.constraint.word)
