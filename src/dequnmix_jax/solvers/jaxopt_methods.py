"""Adapter for jaxopt: Broyden and Anderson as it provides them. The only module that imports jaxopt."""

from typing import Any

import jax
import jax.numpy as jnp

from dequnmix_jax.ops.guards import positive
from dequnmix_jax.solvers.anderson import Vector, relative, rms
from dequnmix_jax.solvers.config import Broyden, JaxoptAnderson
from dequnmix_jax.types import Trace


def walk_with_jaxopt(
    f: Vector, method: Broyden | JaxoptAnderson, max_steps: int, x0: jax.Array, goal: jax.Array, kept: Any
) -> tuple[jax.Array, Trace]:
    """Solve by jaxopt, and measure its result here: jaxopt does not report its own error after a NaN."""
    import jaxopt

    # jaxopt's Anderson keeps float32 and float64 branches apart when x64 is on: iterate in the wider of the two.
    wide = jnp.zeros((), jnp.float64 if jax.dtypes.canonicalize_dtype(float) == jnp.float64 else jnp.float32).dtype

    def widened(x: jax.Array) -> jax.Array:
        return f(x.astype(x0.dtype)).astype(wide)

    first = f(x0)
    # Its tolerance is an absolute L2 norm and its ridge is absolute too: both are scaled to the size of the state.
    length = max(x0.size, 1) ** 0.5
    scale = positive(rms(first)).astype(wide)
    tol = goal.astype(wide) * length * scale
    if isinstance(method, Broyden):
        walker = jaxopt.Broyden(
            fun=lambda x: widened(x) - x,
            maxiter=max_steps,
            tol=tol,
            history_size=method.memory * 4,
            stepsize=1.0,  # its line search fails (error 0.4 on a linear map); full steps converge
            implicit_diff=False,
        )
    else:
        walker = jaxopt.AndersonAcceleration(
            fixed_point_fun=widened,
            history_size=method.memory,
            mixing_frequency=1,
            beta=method.damping,
            maxiter=max_steps,
            tol=tol,
            ridge=tol * tol,
            implicit_diff=False,
        )
    x, info = walker.run(x0.astype(wide))
    x = x.astype(x0.dtype)
    last = f(x)
    ends = jnp.stack([relative(rms(first - x0), rms(first)), relative(rms(last - x), rms(last))])
    improved = ends[1] <= ends[0]  # False where NaN: x0 is then the best iterate known
    z = jnp.where(improved, last, first).astype(kept).astype(x0.dtype)
    image = f(z)
    sound = rms(image) <= jnp.maximum(rms(x0), rms(first)) / float(jnp.finfo(x0.dtype).eps)
    residual = jnp.where(sound, relative(rms(image - z), rms(image)), jnp.nan)
    steps = jnp.asarray(info.iter_num, jnp.int32) + 3
    return z, Trace(steps, residual, residual <= goal)
