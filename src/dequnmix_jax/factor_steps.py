"""Steps of nonnegative factorisation, Y = A E with A >= 0 and E >= 0: each of them lowers its objective, or keeps it.

Pixels stand in rows: Y (N, B), A (N, R), E (R, B).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dequnmix_jax import lapack

_BISECTIONS = 40
"""Halvings of the bracket of one number: float32 has 24 binary digits, and the bracket may be wider than the root."""


class Volume(NamedTuple):
    """The prior weight / 2 det(Z)^2 on the simplex of the endmembers, row r of Z being (1, (e_r - mean) axes / unit).

    Attributes:
        weight: (), >= 0.
        mean: (B,), of the pixels.
        axes: (B, R - 1), their principal axes, divided by a unit of length.
    """

    weight: jax.Array
    mean: jax.Array
    axes: jax.Array


def coordinates(E: jax.Array, volume: Volume) -> jax.Array:
    """Return Z, (R, R)."""
    inside = jnp.matmul(E - volume.mean[None, :], volume.axes, precision="highest")
    return jnp.concatenate([jnp.ones_like(E[:, :1]), inside], axis=1)


def size(E: jax.Array, volume: Volume) -> jax.Array:
    """Return weight / 2 det(Z)^2."""
    return 0.5 * volume.weight * jnp.square(lapack.determinant(coordinates(E, volume)))


def endmember_sweep(E: jax.Array, A: jax.Array, Y: jax.Array, volume: Volume | None) -> jax.Array:
    r"""Minimise |Y - A E|^2 / 2 + weight / 2 det(Z)^2 over e_r >= 0, exactly, for one endmember after the other.

    The determinant is affine in each endmember, det(Z) = c + v . e, so that the objective is a quadratic of it,

        g |e|^2 / 2 - b . e + weight (c + v . e)^2 / 2,

    with the minimum e = max(0, (b - weight t v) / g), t being the one root of t = c + v . e(t), which lies between zero
    and the determinant without the prior. Without the prior this is hierarchical least squares.

    Args:
        E: (R, B), >= 0.
        A: (N, R).
        Y: (N, B), 0 in masked pixels, as A is.
        volume: the prior, or None.

    Returns:
        (R, B), >= 0. An endmember that no pixel holds stays as it is.

    Reference:
        Cichocki, Zdunek and Amari, Hierarchical ALS algorithms for nonnegative matrix and 3D tensor factorization, ICA
        2007 (the case without prior).
    """
    G = jnp.matmul(A.T, A, precision="highest")
    F = jnp.matmul(A.T, Y, precision="highest")

    def one(E: jax.Array, r: jax.Array) -> tuple[jax.Array, None]:
        g = G[r, r]
        safe = jnp.where(g > 0, g, 1)
        b = F[r] - jnp.matmul(G[r], E, precision="highest") + g * E[r]
        e = jnp.maximum(b / safe, 0)
        if volume is not None:
            row = _cofactors(coordinates(E, volume), r)
            v = jnp.matmul(volume.axes, row[1:], precision="highest")
            e = _pulled(b, safe, row[0] - jnp.sum(v * volume.mean), v, volume.weight, e)
        return E.at[r].set(jnp.where(g > 0, e, E[r])), None

    return lax.scan(one, E, jnp.arange(E.shape[0]))[0]


def _pulled(b: jax.Array, g: jax.Array, c: jax.Array, v: jax.Array, weight: jax.Array, free: jax.Array) -> jax.Array:
    """Return argmin over e >= 0 of g |e|^2 / 2 - b . e + weight (c + v . e)^2 / 2; `free` is that for weight 0."""

    def at(t: jax.Array) -> jax.Array:
        return jnp.maximum((b - weight * t * v) / g, 0)

    end = c + jnp.sum(v * free)

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends  # t - c - v . e(t) has the sign of -end at low and that of end at high
        t = 0.5 * (low + high)
        beyond = (t - c - jnp.sum(v * at(t))) * end >= 0
        return jnp.where(beyond, low, t), jnp.where(beyond, t, high)

    low, high = lax.fori_loop(0, _BISECTIONS, halve, (jnp.zeros_like(end), end))
    return at(0.5 * (low + high))


def _cofactors(Z: jax.Array, r: jax.Array) -> jax.Array:
    """Return the cofactors of row r of a square matrix, up to one sign for all; defined for singular matrices too.

    By the singular values: adj(Z) = det(U) det(V) V diag(products of all others) U^T.
    """
    U, s, Vt = lapack.svd(Z)
    others = jnp.where(jnp.eye(s.size, dtype=jnp.bool_), 1, s[None, :])
    return jnp.matmul(Vt.T, jnp.prod(others, axis=1) * U[r], precision="highest")


def multiplicative(
    A: jax.Array, E: jax.Array, Y: jax.Array, sums: jax.Array, slope: Callable[[jax.Array], jax.Array], steps: int
) -> jax.Array:
    r"""Lower |Y - A E|^2 / 2 + sum over pixels of d (1 - sum_r a_r)^2 / 2 + h(A) by multiplicative steps.

    a <- a max(0, y E^T + d) / (a E E^T + d sum a + h'(a)). A step lowers the objective where a paraboloid k a^2 / 2
    with k = h'(a) / a touches h from above: then it is the minimum of a function that lies above the objective and
    touches it. That holds for sqrt(a) and for lengths |W a|.

    Args:
        A: (N, R), >= 0; a zero stays a zero.
        E: (R, B), >= 0.
        Y: (N, B).
        sums: (N, 1), d, the square of the weight of the row of ones; 0 in masked pixels.
        slope: h'(a), (N, R) -> (N, R), finite and >= 0.
        steps: how many, static; they cost R^2 numbers a pixel each, the products before them R B.

    Reference:
        Lee and Seung, Algorithms for non-negative matrix factorization, NIPS 2000; Gillis and Glineur, Accelerated
        multiplicative updates, Neural Computation 24(4), 2012 (several steps for one product).
    """
    rise = jnp.maximum(jnp.matmul(Y, E.T, precision="highest") + sums, 0)
    H = jnp.matmul(E, E.T, precision="highest")
    least = jnp.finfo(A.dtype).tiny

    def step(_: int, A: jax.Array) -> jax.Array:
        fall = jnp.matmul(A, H, precision="highest") + sums * jnp.sum(A, axis=1, keepdims=True) + slope(A)
        return A * (rise / jnp.maximum(fall, least))

    return lax.fori_loop(0, steps, step, A)
