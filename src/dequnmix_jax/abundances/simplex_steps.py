"""Quadratic problems on the simplex, each pixel with a matrix of its own, and the derivative of their answers."""

import jax
import jax.numpy as jnp
from jax import lax

from dequnmix_jax.abundances.active_set import active_set
from dequnmix_jax.ops import small_systems
from dequnmix_jax.ops.guards import divide, nonzero, positive

RIDGE = 1e-6
"""Of the Jacobian's Gram matrix, relative to its mean diagonal: it slows the steps and does not move their end."""


def simplex_step(J: jax.Array, a: jax.Array, rest: jax.Array) -> jax.Array:
    """Return argmin over x on the simplex of |rest - (x - a) J|^2, each pixel with its own J (n, R, B)."""
    G = jnp.einsum("nrb,nsb->rsn", J, J, precision="highest")
    g = jnp.einsum("nrb,nb->rn", J, rest, precision="highest")
    return simplex_minimum(G, g, a)


def simplex_minimum(G: jax.Array, g: jax.Array, a: jax.Array) -> jax.Array:
    """Return argmin over x on the simplex of (x - a) G (x - a)^T / 2 - (x - a) g, in each pixel.

    In coordinates of the Cholesky factor of G: rounding of the factor slows the steps and does not move their end,
    where g decides.

    Args:
        G: (R, R, n), symmetric positive semidefinite.
        g: (R, n).
        a: (n, R), on the simplex.
    """
    R = G.shape[0]
    level = jnp.mean(jnp.diagonal(G, axis1=0, axis2=1), axis=1)
    G = G + (RIDGE * nonzero(level))[None, None] * jnp.eye(R, dtype=G.dtype)[:, :, None]
    order = jnp.arange(R, dtype=jnp.int32)
    places = order[:, None]

    def one(carry: tuple, k: jax.Array) -> tuple[tuple, tuple]:
        left, g = carry
        row = left[k]
        root = jnp.sqrt(positive(row[k]))
        column = jnp.where(places >= k, row / root[None], 0)
        w = g[k] / root
        return (left - column[:, None] * column[None], g - column * w[None]), (column, w)

    _, (columns, w) = lax.scan(one, (G, g), order)  # columns (D, R, n), w (D, n)
    target = w + jnp.sum(columns * a.T[None], axis=1)
    return active_set(jnp.swapaxes(columns, 0, 1), target.T, True)


def on_face(H: jax.Array, free: jax.Array, g: jax.Array, R: int) -> jax.Array:
    """Return d (n, m) with H d = g on what is free, 0 elsewhere, and the first R of d summing to zero."""
    m = H.shape[1]
    ones = (jnp.arange(m) < R).astype(H.dtype)
    # k 1 1^T changes nothing where the sum is zero, and makes the matrix definite.
    diagonal = jnp.max(jnp.abs(jnp.diagonal(H, axis1=1, axis2=2)), axis=1)
    H = H + nonzero(diagonal)[:, None, None] * (ones[:, None] * ones[None])[None]
    inside = free.T.astype(H.dtype)
    H = jnp.moveaxis(H, 0, -1) * inside[:, None] * inside[None]
    H = H + (1 - inside)[:, None] * jnp.eye(m, dtype=H.dtype)[:, :, None]

    def product(x: jax.Array) -> jax.Array:
        return jnp.sum(H * x[None], axis=1)

    def solved(_: object, b: jax.Array) -> jax.Array:
        return small_systems.eliminate(H, b[:, None])[:, 0]

    def solve(b: jax.Array) -> jax.Array:
        return lax.custom_linear_solve(product, b * inside, solved, symmetric=True)

    u, v = solve(g.T), solve(jnp.broadcast_to(ones[:, None], inside.shape))
    return (u - v * divide(jnp.sum(u[:R], axis=0), jnp.sum(v[:R], axis=0))[None]).T
