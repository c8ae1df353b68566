"""Find the support of each pixel's answer by principal pivots on the Gram matrix, all pixels side by side.

Every pixel has the tableau of its quadratic problem. One step exchanges the coefficient that violates the optimality
conditions most, by the symmetric sweep A - q q^T / d: a rank-one update over contiguous memory, whether a coefficient
enters or leaves.
"""

import jax
import jax.numpy as jnp
from jax import lax

from dequnmix_jax.ops.guards import nonzero
from dequnmix_jax.ops.xla import alongside, computed, least, least_where, most, total

_DEPENDENT = 32.0
"""Tolerance, in units of R eps, on the squared distance of a unit point from the span of those inside."""

_STEPS = 3
"""Steps allowed for each endmember, and ten more. The rule is not proved to end; `exact` repairs unfinished pixels."""


def search(points: jax.Array, t: jax.Array, sum_to_one: bool) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return argmin over x >= 0 (and sum x = 1) of |P^T x - t|, to the rounding of normal equations.

    Points P (R, D), pixels t (D, n). The sum enters by a multiplier: x = u - k v, with the answers u to P t and v to
    ones, both kept up to date by the pivots. For that to be regular, P is to have its mean at zero.

    Returns:
        x (R, n), the swept tableau (R, R, n) whose block inside is minus the inverse of the Gram matrix there, and
        which coefficients are inside, (R, n) bool.
    """
    R, n = points.shape[0], t.shape[1]
    eps = jnp.finfo(t.dtype).eps
    G = jnp.matmul(points, points.T, precision="highest")
    u = jnp.matmul(points, t, precision="highest")
    v = jnp.ones((R, 1), t.dtype)
    if sum_to_one:
        G, u = G + 1.0, u + 1.0  # changes nothing where the sum is one, and makes the matrix regular
    smallest = _DEPENDENT * R * eps * jnp.diagonal(G)[:, None]
    limit = -2.0 * eps * jnp.maximum(1.0, most(jnp.abs(u)))
    rows = jnp.arange(R, dtype=jnp.int32)[:, None]

    def violation(u, v, inside):  # type: ignore[no-untyped-def]
        """Return coefficients inside and minus descent outside: negative if an exchange is needed."""
        x = u
        if sum_to_one:
            any_inside = most(inside)
            su, sv = total(jnp.where(inside, u, 0.0)), total(jnp.where(inside, v, 0.0))
            k = (su - 1.0) / jnp.where(any_inside & (sv != 0.0), sv, 1.0)
            # With none inside, the nearest point enters first.
            x = u - jnp.where(any_inside, k, 0.0)[None] * v
            nearest = u - 0.5 * jnp.diagonal(G)[:, None]
            return jnp.where(inside, x, jnp.where(any_inside[None], -x, least(nearest)[None] - nearest - 1.0)), x
        return jnp.where(inside, x, -x), x

    def pivot(A, u, v, inside, row, go):  # type: ignore[no-untyped-def]
        """Exchange coefficient `row` (n,) in the pixels `go`."""
        pick = lambda a: jnp.take_along_axis(a, row[None], axis=0, mode="clip")[0]  # noqa: E731
        yes = row[0] >= 0
        a = computed(jnp.take_along_axis(A, row[None, None], axis=0, mode="clip")[0], yes)
        d, entering = pick(a), ~pick(inside)
        able = go & jnp.where(entering, d > pick(smallest), d != 0.0)
        scale = jnp.where(able, 1.0 / jnp.where(able, d, 1.0), 0.0)
        sign = jnp.where(able, jnp.where(entering, 1.0, -1.0), 0.0)
        able, scale, sign, up, vp = computed((able, scale, sign, pick(u) * scale, pick(v) * scale), yes)
        hot = rows == row[None]
        one = jnp.where(hot & able[None], 1.0, 0.0).astype(u.dtype)
        q = a - one * sign[None]
        q, qs, one, one2 = computed((q, q * scale[None], one, one * (2.0 * sign)[None]), yes)
        u, v = u - q * up[None], v - q * vp[None]
        A = A - q[:, None] * qs[None] - one2[:, None] * one[None]
        return A, u, v, inside ^ (hot & able[None]), hot & (go & ~able)[None]

    # The same first tableau for all pixels: sweep in all independent coefficients once, with u and v as columns. Up to
    # R = 16 this takes fewer steps than a start with none inside (4.2 against 7.0 at R = 6, 5.4 and 10 at R = 9).
    A, K, inside = _sweep_all(G, smallest[:, 0])
    u = jnp.where(inside, 0.0, u) + jnp.matmul(K, u, precision="highest")
    v = jnp.where(inside, 0.0, v) + jnp.matmul(K, v, precision="highest")
    zero = u[:1] * 0.0  # so that under vmap and shard_map the carry varies as the pixels do
    A, v = A[:, :, None] + zero[None], v + zero
    inside = jnp.broadcast_to(inside, (R, n))
    smallest = smallest + zero
    barred = jnp.zeros((R, n), jnp.bool_)

    def unfinished(carry):  # type: ignore[no-untyped-def]
        *_, busy, step = carry
        return busy.any() & (step < _STEPS * R + 10)

    def advance(carry):  # type: ignore[no-untyped-def]
        A, u, v, inside, barred, busy, step = carry
        worst, row = least_where(jnp.where(barred, 0.0, violation(u, v, inside)[0]))
        row, go = computed((row, busy & (worst < limit)), step >= 0)
        A, u, v, inside, out = pivot(A, u, v, inside, row, go)
        return A, u, v, inside, barred | out, go, step + 1

    start = alongside((A, u, v, inside, barred, jnp.ones(n, jnp.bool_), jnp.int32(0)), zero)
    A, u, v, inside, *_ = lax.while_loop(unfinished, advance, start)
    return jnp.where(inside, violation(u, v, inside)[1], 0.0), A, inside


def _sweep_all(G: jax.Array, smallest: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Sweep in every independent coefficient of one tableau.

    Returns:
        The tableau, the matrix (R, R) to add to the columns (those inside replaced), and which are inside, (R, 1).
    """
    R = G.shape[0]
    rows = jnp.arange(R)

    def one(k, carry):  # type: ignore[no-untyped-def]
        A, inside = carry
        d = A[k, k]
        able = d > smallest[k]
        e = jnp.where(able, (rows == k).astype(G.dtype), 0.0)
        q = A[:, k] - e
        scale = jnp.where(able, 1.0 / jnp.where(able, d, 1.0), 0.0)
        return A - q[:, None] * (q * scale)[None] - 2.0 * e[:, None] * e[None], inside | ((rows == k) & able)

    A, inside = lax.fori_loop(0, R, one, (G, jnp.zeros(R, jnp.bool_)))
    # The block inside is minus the inverse, the rows outside are G times the inverse.
    return A, jnp.where(inside[None], -A, 0.0), inside[:, None]


def refine(A: jax.Array, inside: jax.Array, g: jax.Array, sum_to_one: bool) -> jax.Array:
    """Return the change of x (R, n) for the descent g (R, n) on the coefficients inside."""
    g = jnp.where(inside, g, 0.0)
    u = -total(A * g[:, None])
    u = jnp.where(inside, u, 0.0)
    if not sum_to_one:
        return u
    v = jnp.where(inside, -total(A * inside.astype(g.dtype)[:, None]), 0.0)
    sv = total(v)
    return u - v * (total(u) / nonzero(sv))[None]
