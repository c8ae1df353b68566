"""Find each pixel's answer by matrix products alone: for many endmembers, where pivots are slow and lose digits.

Douglas-Rachford splitting finds the support: it alternates the quadratic problem (on the plane of sum one) with the
cone, and both are one product with a matrix that all pixels share. Conjugate gradients on the support then find the
answer itself. `exact` trusts neither: it checks the optimality conditions, and repeats with more steps where they fail.

Reference:
    Lions and Mercier, Splitting algorithms for the sum of two nonlinear operators, SIAM Journal on Numerical Analysis
    16(6), 1979; relaxed as in Eckstein and Bertsekas, Mathematical Programming 55, 1992.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dequnmix_jax.ops import lapack
from dequnmix_jax.ops.guards import nonzero

_FLOORS = (0.1, 0.3, 0.03)
"""Weights rho of the splitting, times R, in units in which points have length at most one; the first is at least the
median eigenvalue of the Gram matrix. Share of pixels solved in 120 steps with 0.1, 0.3, 3 and 10 on the simplex: random
spectra that wander, R = 60: 1, 1, 0.98, 0.13 (median eigenvalue 0.3); independent noise as spectra, R = 60: 0.01, 0.18,
1, 1 (median 50). Mixtures of 60 library spectra with 30 to 50 dB, whose median eigenvalue is 1e-4, need 0.03 to 0.5."""

WEIGHTS = len(_FLOORS)

_RELAXED = 1.7
"""Over-relaxation, between 1 and 2. Mean number of wrong coefficients of 60 after 30 steps: 0.12 with 1, 0.04 so."""

_SAME = 32.0
"""Largest difference of coordinates, in units of eps, between points that count as one."""

_ENOUGH = 0.05
"""Length of the gradient on the support, in units of eps, at which conjugate gradients stop."""


class Table(NamedTuple):
    """What all pixels share.

    Attributes:
        gram: G = P P^T, (R, R).
        step: (J, R, R), the matrix F of x = C t + F s + 1 / R, argmin of |P^T x - t|^2 + rho |x - s|^2 (with sum x = 1,
            else without the 1 / R), for each of J weights rho.
        gain: (J, R, D), C.
        repeated: (R, 1) bool, points that equal an earlier one, which gets their share.
    """

    gram: jax.Array
    step: jax.Array
    gain: jax.Array
    repeated: jax.Array


def table(points: jax.Array, sum_to_one: bool) -> Table:
    """Return the table of points P (R, D); on the simplex of mean zero, so that the sum needs no multiplier."""
    R = points.shape[0]
    U, S, V = lapack.svd(points)
    U, V = U[:, : S.shape[0]], V[: S.shape[0]]
    square = jnp.square(S)[None]
    rho = jnp.asarray(_FLOORS, points.dtype)[:, None] / R
    rho = rho.at[0].max(square[:, S.shape[0] // 2])
    plane = jnp.eye(R, dtype=points.dtype) - (1.0 / R if sum_to_one else 0.0)
    scaled = lambda weights: U[None] * weights[:, None, :]  # noqa: E731
    step = plane[None] - _product(scaled(square / (square + rho)), U.T[None])
    gain = _product(scaled(S[None] / (square + rho)), V[None])
    apart = lax.map(lambda point: jnp.max(jnp.abs(points - point[None]), axis=1), points)
    same = jnp.tril(apart <= _SAME * jnp.finfo(points.dtype).eps, k=-1)
    return Table(_product(points, points.T), step, gain, same.any(axis=1, keepdims=True))


def search(
    tab: Table,
    points: jax.Array,
    t: jax.Array,
    sum_to_one: bool,
    weight: jax.Array,
    steps: jax.Array,
    descents: jax.Array,
) -> jax.Array:
    """Return argmin over x >= 0 (and sum x = 1) of |P^T x - t| for most pixels, and some other x for the others.

    Args:
        tab: `table(points, sum_to_one)`.
        points: P, (R, D).
        t: (D, n).
        sum_to_one: the simplex or the cone.
        weight: (), int, which of the weights.
        steps: (), int, steps of the splitting.
        descents: (), int, steps of conjugate gradients.

    Returns:
        (R, n), zero outside the support found, and of either sign inside.
    """
    R = points.shape[0]
    pick = lambda a: lax.dynamic_index_in_dim(a, weight, keepdims=False)  # noqa: E731
    start = _product(pick(tab.gain), t) + (1.0 / R if sum_to_one else 0.0)
    F, constant = _RELAXED * pick(tab.step), _RELAXED * start

    def splitting(_: jax.Array, y: jax.Array) -> jax.Array:
        # The positive part of y is the point on the cone, the negative part its multiplier.
        return constant + _product(F, jnp.abs(y)) + (1.0 - _RELAXED) * jnp.maximum(y, 0.0) + jnp.minimum(y, 0.0)

    y = lax.fori_loop(0, steps, splitting, start)
    inside = ((y > 0.0) & ~tab.repeated).astype(t.dtype)
    x = jnp.maximum(y, 0.0) * inside
    count = nonzero(_column(inside))
    if sum_to_one:
        x = x / nonzero(_column(x))

    def on_face(g: jax.Array) -> jax.Array:
        g = g * inside
        return g - inside * (_column(g) / count) if sum_to_one else g

    def descent(_: jax.Array, carry: tuple) -> tuple:
        x, r, p, size = carry
        product = _product(tab.gram, p)
        curvature = _column(p * product)
        # Below the smallest numbers the quotients are noise.
        going = (curvature > 0.0) & (size > tiny)
        length = jnp.where(going, size / jnp.where(going, curvature, 1.0), 0.0)
        r = on_face(r - length * product)
        new = _column(r * r)
        return x + length * p, r, r + jnp.where(going, new / jnp.where(going, size, 1.0), 0.0) * p, new

    eps = jnp.finfo(t.dtype).eps
    tiny = (_ENOUGH * eps) ** 2
    r = on_face(_product(points, t - _product(points.T, x)))
    return lax.fori_loop(0, descents, descent, (x, r, r, _column(r * r)))[0]


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision="highest")


def _column(x: jax.Array) -> jax.Array:
    """Return the sum over the rows, (1, n)."""
    return _product(jnp.ones((1, x.shape[0]), x.dtype), x)
