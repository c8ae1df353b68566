"""Gradients of training through the equilibrium: at a tolerance, in float64, and compared."""

import functools
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

import dequnmix_jax as dq
from dequnmix_jax.equilibrium import fixed_point_map
from dequnmix_jax.solvers import implicit
from experiments.shared.trained_maps import distance, head, norm, objective


def at_tolerance(
    params: Any, cube: jax.Array, tolerance: jax.Array, config: dq.Model, adjoint: dq.Adjoint
) -> tuple[Any, jax.Array, jax.Array]:
    """Return the gradient, the applications of f and the products with J^T, both solves at one tolerance."""
    f = fixed_point_map.state_map(config)
    forward = replace(config.forward, max_steps=2000)

    def solve(theta: Any, start: jax.Array) -> jax.Array:
        return dq.fixed_point(f, forward, adjoint, theta, start, tolerance)[0]

    gradient = jax.grad(objective)(params, cube, config, solve)
    theta = fixed_point_map.factor(params, cube, config)
    state, trace = dq.solvers.solve(f, forward, theta, fixed_point_map.initial_state(params, cube, config), tolerance)
    cotangent = jax.grad(lambda z: head(params, z, cube, config))(state)
    _, back = implicit.adjoint_trace(f, adjoint, theta, state, cotangent, tolerance)
    return gradient, trace.steps, back.steps - 1  # one product measures the residual


def true_gradient(params: Any, cube: jax.Array, config: dq.Model) -> Any:
    """Return the implicit gradient in float64, as float64."""
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), params)
        compute = jax.jit(functools.partial(at_tolerance, config=config, adjoint=dq.Adjoint()))
        return compute(wide, jnp.asarray(cube, jnp.float64), jnp.asarray(1e-11, jnp.float64))[0]


def compare(gradient: Any, truth: Any) -> dict[str, float]:
    """Return the error and the cosine of the angle, each the worse of E and the network."""
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), gradient)
        cosines = [
            sum(float(jnp.vdot(a, b)) for a, b in zip(*map(jax.tree.leaves, (wide[part], truth[part])), strict=True))
            / (norm(wide[part]) * norm(truth[part]))
            for part in truth
        ]
        return {"error": distance(wide, truth), "cosine": min(cosines)}
