"""Find the support of each pixel's answer by trying all of them: for a few endmembers.

For a support (which coefficients are positive) both the coefficients on it and the multipliers off it are linear in the
pixel. The support of the answer is the one for which all of these are >= 0, so that a pixel costs one product with a
table of 2^R times R rows, and no objective is compared. `projection` also tries all supports (`supports`), in R
whitened coordinates and differentiably; it compares objectives.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dequnmix_jax.abundances.active_set import least_squares
from dequnmix_jax.ops.xla import computed, least, least_where

LARGEST = 6
"""Endmembers up to which all supports are tried: their number doubles with each. No condition number is squared here,
so that ill-conditioned endmembers (cond 460) need no repair. Above how many the pivoting search is faster was not
measured."""


class Table(NamedTuple):
    """The linear functions of a pixel t on each of the S supports.

    Attributes:
        solve: (S, R, D), coefficients x = solve t + start; zero rows off the support.
        start: (S, R).
        signs: (S, R, D), coefficients on the support and multipliers off it, signs t + level: all >= 0 at the answer.
        level: (S, R).
    """

    solve: jax.Array
    start: jax.Array
    signs: jax.Array
    level: jax.Array


def supports(count: int, sum_to_one: bool) -> np.ndarray:
    """Return all supports of `count` abundances, (S, R) bool; the empty one belongs to the cone only."""
    codes = np.arange(1 if sum_to_one else 0, 2**count)
    return (codes[:, None] >> np.arange(count)[None, :]) % 2 == 1


def table(points: jax.Array, sum_to_one: bool) -> Table:
    """Return the table of points (R, D), each column of it by orthogonalisation.

    A point that depends on others of its support gets 0 there: the support is then a smaller one.
    """
    R, D = points.shape
    inside = supports(R, sum_to_one)
    S = inside.shape[0]
    first = np.argmax(inside, axis=1)
    origin = points[first] if sum_to_one else jnp.zeros((S, D), points.dtype)
    others = inside & (np.arange(R)[None] != first[:, None]) if sum_to_one else inside
    M = points[None] - origin[:, None]  # (S, R, D)
    # One least squares problem for every support and every unit vector.
    units = jnp.broadcast_to(jnp.eye(D, dtype=points.dtype)[:, None, :], (D, S, D)).reshape(D, S * D)
    columns = jnp.broadcast_to(M.transpose(2, 1, 0)[..., None], (D, R, S, D)).reshape(D, R, S * D)
    z, r = least_squares(columns, units, jnp.repeat(jnp.asarray(others.T), D, axis=1))
    Z = z.reshape(R, S, D).transpose(1, 0, 2)
    across = r.reshape(D, S, D).transpose(1, 2, 0)  # I - projection, for each support
    if sum_to_one:
        is_first = jnp.asarray(np.arange(R)[None] == first[:, None])
        Z = jnp.where(is_first[..., None], -jnp.sum(Z, axis=1, keepdims=True), Z)
        base = is_first.astype(points.dtype)
    else:
        base = jnp.zeros((S, R), points.dtype)
    dual = -jnp.matmul(M, across, precision="highest")
    signs = jnp.where(jnp.asarray(inside)[..., None], Z, dual)
    at_origin = lambda K: jnp.einsum("srd,sd->sr", K, origin, precision="highest")  # noqa: E731
    return Table(Z, base - at_origin(Z), signs, jnp.where(jnp.asarray(inside), base, 0.0) - at_origin(signs))


def search(tab: Table, t: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return coefficients x (R, n) of pixels t (D, n), and the matrix of x = matrix t + ... of each, (R, D, n)."""
    S, R, D = tab.signs.shape
    signs = jnp.matmul(tab.signs.transpose(1, 0, 2).reshape(R * S, D), t, precision="highest")
    worst = least(signs.reshape(R, S, -1) + tab.level.T[:, :, None])
    support = computed(least_where(-worst)[1], worst.shape[0] * jnp.abs(t[0, 0]) != -1.0)
    pick = lambda a: jnp.take(a, support, axis=-1, mode="clip")  # noqa: E731
    W = pick(tab.solve.transpose(1, 2, 0).reshape(R * D, S)).reshape(R, D, -1)
    return apply(W, t) + pick(tab.start.T), W


def apply(W: jax.Array, t: jax.Array) -> jax.Array:
    """Return the product of each pixel's own matrix (R, D, n) and t (D, n), as (R, n)."""
    x = W[:, 0] * t[0][None]
    for d in range(1, W.shape[1]):
        x = x + W[:, d] * t[d][None]
    return x
