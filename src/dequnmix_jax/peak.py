"""The largest entry, with a derivative that finds it by its place and not by comparing values.

The derivative that jax gives to a maximum looks for the entries equal to it. Where the array is an expression, XLA may
compute it once for the maximum and again for the comparison, rounded differently: then no entry is equal, and the
derivative is 0 / 0. The place of the largest is an integer.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax


def largest(x: jax.Array, axis: int | None = None) -> jax.Array:
    """Return the maximum along an axis, or of all entries.

    Args:
        x: (...), floating point.
        axis: the one that is left out of the answer; None: all.

    Returns:
        The maximum; NaN where there is one. Its derivative is that of the first entry that has it.
    """
    return _along(x.reshape(-1), 0) if axis is None else _along(x, axis % x.ndim)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _along(x: jax.Array, axis: int) -> jax.Array:
    return jnp.max(x, axis=axis)


@_along.defjvp
def _along_jvp(axis: int, primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    (x,), (change,) = primals, tangents
    place = jnp.expand_dims(jnp.argmax(x, axis=axis), axis)
    here = lax.broadcasted_iota(place.dtype, x.shape, axis) == place
    return _along(x, axis), jnp.sum(jnp.where(here, change, 0), axis=axis)
