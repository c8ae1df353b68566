"""The two maps of the comparisons, and our way of solving them.

"network": z = W2 tanh(W1 z + x), norms of W1 and W2 below one. "energy": ours in the Euclidean metric on the cone,
A = max(A - eta (A H - b + W^T s d tanh((W A - v) / d)), 0), with a data term as stiff as that of a real scene.

jax is imported inside the functions, because a process must restrict its cores before.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

ENDMEMBERS, BANDS = 3, 156
MOST_STEPS = 200
ALONE = (
    "The map alone: as many applications as our steps, in a loop without a solver (with the gradient, as many products "
    "with its transposed Jacobian, and one derivative in the parameters); no solver can be faster than that share."
)
"""The note on `without_solver` for tables."""


def problems(side: int, width: int) -> dict[str, tuple[Any, dict[str, Any], Any]]:
    """Return (map of ours, its parameters, start) of both maps."""
    import jax
    import jax.numpy as jnp

    import dequnmix_jax as dq
    from dequnmix_jax.datasets import synthetic
    from dequnmix_jax.equilibrium import curvature, fixed_point_map
    from dequnmix_jax.equilibrium.energy import EnergyWeights
    from dequnmix_jax.ops import convolution

    keys = iter(jax.random.split(jax.random.key(0), 10))

    def kernel(channels: int, out: int) -> jax.Array:
        w = jax.random.normal(next(keys), (3, 3, channels, out))
        return 0.9 * w / jnp.sqrt(curvature.convolution_bound(w))

    def contraction(theta: dict[str, Any], z: jax.Array) -> jax.Array:
        return convolution.convolve(jnp.tanh(convolution.convolve(z, theta["W1"]) + theta["x"]), theta["W2"])

    theta = {
        "W1": kernel(width, width),
        "W2": kernel(width, width),
        "x": jax.random.normal(next(keys), (side, side, width)),
    }

    config = dq.Model(metric="euclidean", constraint=dq.equilibrium.Cone(), gradient=dq.equilibrium.Energy(width=width))
    # As stiff as a real scene: E E^T has a condition number near 40 (Samson: 62).
    E = jax.random.uniform(next(keys), (ENDMEMBERS, BANDS), minval=0.3, maxval=0.9)
    cube = synthetic.linear_scene(next(keys), (side, side), E, 30.0, brightness=0.2).cube
    params = dq.init(next(keys), cube, config, endmembers=E)
    energy = params["network"]["energy"]
    params["network"]["energy"] = energy | {"gain": jnp.full_like(energy["gain"], 0.5)}
    last = params["network"]["net"]["last"]
    last["kernel"] = 0.1 * jax.random.normal(next(keys), last["kernel"].shape)
    full = fixed_point_map.factor(params, cube, config)
    weights = full.energy.weights
    flat = {
        "H": full.data.H, "b": full.data.b, "v": full.energy.drive, "eta": full.eta,
        "W": weights.filters, "s": weights.gain, "d": weights.scale,
    }  # fmt: skip
    literal = fixed_point_map.state_map(config)

    def energy_map(theta: dict[str, Any], A: jax.Array) -> jax.Array:
        # Every window counts here, so that it makes no difference which filters see one pixel only.
        ones = jnp.ones((side, side, 1))
        weights = EnergyWeights(theta["W"], jnp.zeros(width), theta["s"], theta["d"])
        energy = fixed_point_map.EnergyTerm(weights, theta["v"], ones)
        data = fixed_point_map.DataTerm(theta["H"], theta["b"])
        return literal(full._replace(mask=ones, eta=theta["eta"], data=data, energy=energy), A)

    return {
        "network": (contraction, theta, jnp.zeros((side, side, width))),
        "energy": (energy_map, flat, jnp.zeros((side, side, ENDMEMBERS))),
    }


def ours(f: Any, theta: Any, start: Any, weights: np.ndarray, tolerance: float) -> dict[str, Callable[[], Any]]:
    """Return our forward solve and our gradient, compiled."""
    import jax
    import jax.numpy as jnp

    import dequnmix_jax as dq
    from benchmarks.timing import compiled
    from dequnmix_jax.solvers import implicit

    forward = dq.Solver(tolerance=tolerance, max_steps=MOST_STEPS)
    backward = dq.Adjoint(tolerance=tolerance, max_steps=MOST_STEPS)

    def solve(theta: Any, start: jax.Array) -> tuple[jax.Array, jax.Array]:
        z, trace = implicit.fixed_point(f, forward, backward, theta, start)
        return z, trace.steps

    def gradient(theta: Any, start: jax.Array, c: jax.Array) -> tuple[Any, jax.Array]:
        def value(theta: Any) -> tuple[jax.Array, jax.Array]:
            z, _ = solve(theta, start)
            return jnp.sum(z * c), z

        (_, z), slope = jax.value_and_grad(value, has_aux=True)(theta)
        return slope, z

    return {
        "forward": compiled(solve, theta, start),
        "with gradient": compiled(gradient, theta, start, jnp.asarray(weights)),
    }


def without_solver(f: Any, theta: Any, start: Any, weights: np.ndarray, steps: int) -> dict[str, Callable[[], Any]]:
    """Return what every solver has to compute, compiled: `steps` applications of the map, in a loop, and nothing else.

    With the gradient as many products with the transposed Jacobian are added, and one derivative in the parameters. For
    the network this is convolutions: a ratio above that of this time to ours is out of reach.
    """
    import jax
    import jax.numpy as jnp
    from jax import lax

    from benchmarks.timing import compiled

    def apply(theta: Any, start: jax.Array) -> jax.Array:
        return lax.fori_loop(0, steps, lambda _, z: f(theta, z), start)

    def differentiate(theta: Any, start: jax.Array, c: jax.Array) -> Any:
        z = apply(theta, start)
        transposed = jax.vjp(lambda z: f(theta, z), z)[1]
        u = lax.fori_loop(0, steps, lambda _, u: c + transposed(u)[0], c)
        return jax.vjp(lambda theta: f(theta, z), theta)[1](u)

    return {
        "forward": compiled(apply, theta, start),
        "with gradient": compiled(differentiate, theta, start, jnp.asarray(weights)),
    }


def distance(a: dict[str, Any], b: dict[str, Any]) -> float:
    """Return the largest |a - b| / |b| among the leaves."""
    return max(float(np.linalg.norm(a[k] - np.asarray(b[k])) / np.linalg.norm(np.asarray(b[k]))) for k in b)
