"""Division that is safe at zero, for values and for derivatives.

`jnp.where(q == 0, 0, p / q)` is not: its derivative multiplies an infinite number by 0. The denominator is therefore
replaced before the division.
"""

import jax
import jax.numpy as jnp


def nonzero(x: jax.Array) -> jax.Array:
    """Return x with 1 in the place of 0, as a denominator."""
    return jnp.where(x == 0, 1, x)


def positive(x: jax.Array) -> jax.Array:
    """Return x with 1 in the place of numbers <= 0 and of NaN, as a denominator or under a root or a logarithm."""
    return jnp.where(x > 0, x, 1)


def divide(p: jax.Array | float, q: jax.Array) -> jax.Array:
    """Return p / q, and 0 where q is 0."""
    return jnp.where(q == 0, 0, p / nonzero(q))


def row_lengths(x: jax.Array) -> jax.Array:
    """Return the Euclidean length of each row (..., B) of x, as (..., 1)."""
    square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    return jnp.where(square == 0, 0, jnp.sqrt(nonzero(square)))  # the root has no derivative at 0


def unit_rows(x: jax.Array) -> jax.Array:
    """Divide each row (..., B) by its Euclidean length; a row of zeros stays as it is."""
    return x / nonzero(row_lengths(x))
