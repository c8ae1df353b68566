"""Reduce over the rows of an array whose last axis holds pixels.

XLA on a CPU runs a reduction over a leading axis one number at a time: 2 ns an entry, measured on one core at (9, 9, 512)
float32, against 0.07 ns for the same sum written out row by row, which becomes vector code. With at most some dozens of
rows, writing them out costs little to compile.
"""

from functools import reduce

import jax
import jax.numpy as jnp


def total(x: jax.Array) -> jax.Array:
    """Return the sum over the first axis."""
    return reduce(jnp.add, [x[r] for r in range(x.shape[0])])


def least(x: jax.Array) -> jax.Array:
    """Return the minimum over the first axis; NaN where there is one."""
    return reduce(jnp.minimum, [x[r] for r in range(x.shape[0])])


def most(x: jax.Array) -> jax.Array:
    """Return the maximum over the first axis; NaN where there is one."""
    return reduce(jnp.maximum, [x[r] for r in range(x.shape[0])])


def least_where(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the minimum over the first axis and the first row that holds it."""
    value, row = x[0], jnp.zeros(x.shape[1:], jnp.int32)
    for r in range(1, x.shape[0]):
        smaller = x[r] < value
        value, row = jnp.where(smaller, x[r], value), jnp.where(smaller, jnp.int32(r), row)
    return value, row
