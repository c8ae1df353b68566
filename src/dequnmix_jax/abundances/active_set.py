"""Solve least squares on the cone or on the simplex, in every pixel at once, by the active-set method.

Small and dense: R points in at most R coordinates. Normal equations are never formed; every step solves least squares
by orthogonalisation, because in float32 the normal equations of endmembers with cond(E) = 100 keep three digits and
those with cond(E) = 3000 none.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from dequnmix_jax.ops.guards import nonzero
from dequnmix_jax.ops.xla import alongside

_DUAL = 1.0
"""Tolerance, in units of eps, on the gradient of unit columns and a unit target: below it nothing descends. Measured on
DC1 at 30 dB, float32, against scipy: 16 errs by up to 1.4e-4 in a coefficient, 4, 1 and 0 by 1.3e-6."""

_DEPENDENT = 16.0
"""Tolerance, in units of eps times its length, on the rest of a dependent column (Bjorck 1967)."""

_STEPS = 10
"""Steps allowed for each endmember. Lawson and Hanson report R / 2 to 2 R for a problem; the limit only ends an endless
exchange of columns that differ by rounding."""


@partial(jax.jit, static_argnames="sum_to_one")  # run eagerly, the loop would be compiled at every call
def active_set(points: jax.Array, targets: jax.Array, sum_to_one: bool) -> jax.Array:
    """Return argmin over x >= 0 (and sum x = 1) of |x P - t|: points P (R, D), targets t (N, D), x (N, R).

    Points may be (R, D, N), those of each pixel.

    Lawson and Hanson's iteration, all pixels side by side, one point a step in or out, from the positive part of the
    unconstrained solution. On the simplex every least-squares problem takes one of the points inside as its origin, so
    that the sum is exact and no penalty is needed. Pixels are the last axis: operations run over contiguous memory.
    """
    P, t = jnp.swapaxes(points, 0, 1), targets.T
    if P.ndim == 2:
        P = P[:, :, None]
    R, N, own = P.shape[1], t.shape[1], points.ndim == 3
    eps = jnp.finfo(P.dtype).eps
    rows = jnp.arange(R)[:, None]

    def solve(x: jax.Array, inside: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the least squares solution on the points inside, and the descent (cosine) along each other point."""
        if sum_to_one:
            pivot = jnp.argmax(jnp.where(inside, x, -1.0), axis=0)
            origin = jnp.take_along_axis(P, pivot[None, None], axis=1)[:, 0] if own else P[:, pivot, 0]
            M, y = P - origin[:, None, :], t - origin
            others = inside & (rows != pivot[None])
            z, r = least_squares(M, y, others)
            z = jnp.where(rows == pivot[None], 1.0 - jnp.sum(z, axis=0)[None], z)
        else:
            M, y = jnp.broadcast_to(P, (*P.shape[:2], N)), t
            z, r = least_squares(M, y, inside)
        scale = jnp.sqrt(jnp.sum(M * M, axis=0)) * jnp.sqrt(jnp.sum(y * y, axis=0))[None]
        return z, jnp.sum(M * r[:, None, :], axis=0) / nonzero(scale)

    def unfinished(carry):  # type: ignore[no-untyped-def]
        *_, busy, step = carry
        return busy.any() & (step < _STEPS * (R + 1))

    def advance(carry):  # type: ignore[no-untyped-def]
        x, inside, barred, busy, step = carry
        z, slope = solve(x, inside)
        crossed = inside & (z <= 0.0)
        infeasible = crossed.any(axis=0)
        # Not feasible: go from x towards z as far as the first coefficient that reaches zero; its point leaves.
        share = jnp.where(crossed, x / nonzero(x - z), jnp.inf)
        least = jnp.min(share, axis=0)
        # By its index as well: XLA computes a share again for each use, and the copies may differ by a rounding.
        leave = crossed & ((share <= least[None]) | (rows == jnp.argmin(share, axis=0)[None])) & infeasible[None]
        between = jnp.where(leave, 0.0, jnp.maximum(x + jnp.where(infeasible, least, 0.0)[None] * (z - x), 0.0))
        # Feasible: the point of steepest descent enters; without one z is the answer.
        slope = jnp.where(inside | barred, -jnp.inf, slope)
        descends = jnp.max(slope, axis=0) > _DUAL * eps
        enter = (rows == jnp.argmax(slope, axis=0)[None]) & (~infeasible & descends)[None]
        # A point that enters by rounding leaves at once, without a step: it is barred until x has changed.
        moved = jnp.where(infeasible, least > 0.0, (z != x).any(axis=0))
        # The first step takes the positive part of the unconstrained solution, from which all the others descend.
        first = step == 0
        positive = jnp.maximum(z, 0.0)
        if sum_to_one:
            positive = positive / jnp.sum(positive, axis=0, keepdims=True)
        new = (
            jnp.where(first, positive, jnp.where(infeasible[None], between, z)),
            jnp.where(first, z > 0.0, (inside & ~leave) | enter),
            ~first & ((barred & ~moved[None]) | (leave & (least <= 0.0)[None])),
        )
        x, inside, barred = (jnp.where(busy[None], a, b) for a, b in zip(new, (x, inside, barred), strict=True))
        return x, inside, barred, busy & (infeasible | descends | first), step + 1

    none, all_points = jnp.zeros((R, N), jnp.bool_), jnp.ones((R, N), jnp.bool_)
    start = (jnp.zeros((R, N), P.dtype), all_points, none, jnp.ones(N, jnp.bool_), jnp.int32(0))
    x = lax.while_loop(unfinished, advance, alongside(start, t, P))[0]
    if sum_to_one:
        x = x / jnp.sum(x, axis=0, keepdims=True)
    # A comparison with NaN is false, so that the loop ends with a number there: set it to NaN.
    return jnp.where(jnp.isfinite(jnp.sum(t, axis=0)), x, jnp.nan).T


def least_squares(M: jax.Array, y: jax.Array, inside: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Solve min |M z - y| over the columns `inside` of each pixel: M (D, R, N), y (D, N), inside (R, N).

    Modified Gram-Schmidt on [M y], as accurate as Householder's QR (Bjorck, BIT 7, 1967). A column that depends on
    those before it gets 0.

    Returns:
        z (R, N), 0 outside, and the residual y - M z (D, N).
    """
    R = M.shape[1]
    small = _DEPENDENT * jnp.finfo(M.dtype).eps * jnp.sqrt(jnp.sum(M * M, axis=0))

    def orthogonalise(A, k):  # type: ignore[no-untyped-def]
        a = lax.dynamic_index_in_dim(A, k, axis=1, keepdims=False)
        length = jnp.sqrt(jnp.sum(a * a, axis=0))
        q = jnp.where((length <= small[k])[None], 0.0, a / nonzero(length)[None])
        row = jnp.sum(q[:, None, :] * A, axis=0)
        return A - q[:, None, :] * row[None], row

    def substitute(z, k_row):  # type: ignore[no-untyped-def]
        k, row = k_row
        pivot = lax.dynamic_index_in_dim(row, k, axis=0, keepdims=False)
        rest = row[R] - jnp.sum(row[:R] * z, axis=0)
        return z.at[k].set(jnp.where(pivot <= 0.0, 0.0, rest / nonzero(pivot))), None

    order = jnp.arange(R)
    A = jnp.concatenate([jnp.where(inside[None], M, 0.0), y[:, None, :]], axis=1)
    A, rows = lax.scan(orthogonalise, A, order)
    z, _ = lax.scan(substitute, jnp.zeros_like(rows[:, 0]), (order, rows), reverse=True)
    return z, A[:, R]
