"""Solve least squares on the cone or on the simplex for a whole image: fast search, refinement, check, repair.

Block by block, so that a block stays in the cache from the cube to the answer: the pixels are projected on the span of
the endmembers, a fast search finds the support, one step of refinement reduces the error from that of normal equations
to that of orthogonalisation (the corrected seminormal equations of Bjorck), and the optimality conditions are checked.
With many endmembers the search is iterative, and is repeated with more steps for the pixels that fail. The few that
still fail are solved by the active-set search, which forms no normal equations.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from dequnmix_jax.abundances import enumeration, pivoting, splitting
from dequnmix_jax.abundances.active_set import active_set
from dequnmix_jax.ops.guards import nonzero
from dequnmix_jax.ops.xla import alongside, most, total

_INSIDE, _OUTSIDE = 16.0, 6.0
"""Tolerances, in units of eps, on the gradient on the support and on descent off it, in units in which points and
pixels have length at most one. Larger ones accept wrong supports, smaller ones send right supports to the slow
search."""

_ITERATED = 4.0
"""The tolerance on the support for answers by conjugate gradients, which end anywhere below it; those of a direct
solution are mostly far below."""

_BLOCKS = ((4, 512), (16, 128))
"""(endmembers up to which, pixels of a block). One core, ns a pixel for blocks of 128, 512 and 2048: 94, 96, 159 at
R = 3; 246, 246, 328 at 6; of 64, 128, 512: 468, 385, 476 at 9."""

_REPAIR = 2**17
"""Size of a batch of repairs, at R^2 numbers a pixel: mostly a few pixels need repair."""

_PIVOTED = 16
"""Endmembers up to which supports are found by pivots, and above by splitting. One core, us a pixel by pivots and by
splitting: 0.33 and 0.56 at R = 10, 0.43 and 0.66 at 13, 1.1 and 1.0 at 16, 2.3 and 1.2 at 18, 2.5 and 1.3 at 20, 47 and
4.6 at 60. Mixtures of 60 library spectra, whose pivots need repair: 1400 to 2800 and 19 to 65."""

_ROUNDS = ((30, 16), (120, 48), (400, 96), (1200, 96))
"""Rounds of splitting, each for the pixels without proof after the one before: steps, and steps on the support."""

_BATCH = 128
"""Pixels of a batch in these rounds. More are faster (3 % with 256) where many are left, slower where few are."""

_HOPE = 0.9
"""Share of proofs expected of a weight that no block has tried: a block takes the weight of the largest share."""


@partial(jax.jit, static_argnames="sum_to_one")  # run eagerly, the loop would be compiled at every call
def solve(Y: jax.Array, origin: jax.Array | None, Q: jax.Array, points: jax.Array, sum_to_one: bool) -> jax.Array:
    """Return argmin over x >= 0 (and sum x = 1) of |x P - t|, t = (y - origin) Q, for pixels Y (N, B).

    Args:
        Y: (N, B).
        origin: (B,), or None for zero.
        Q: (B, D).
        points: P, (R, D), of length at most 1; for the simplex with mean zero.
        sum_to_one: the simplex or the cone.

    Returns:
        (N, R); NaN where t is not finite.
    """
    N, R = Y.shape[0], points.shape[0]

    def coordinates(y: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return t (D, n), divided by its length (1, n) on the cone, and this length."""
        t = jnp.matmul(y if origin is None else y - origin[None], Q, precision="highest").T
        if sum_to_one:
            return t, jnp.ones_like(t[:1])
        length = jnp.sqrt(total(t * t))[None]
        length = nonzero(length)
        return t / length, length

    # Derived from the data, so that under vmap and shard_map the carry varies as they do.
    zero = Y[:, 0] * 0.0 + points[0, 0] * 0.0
    empty = jnp.broadcast_to(zero[:, None], (N, R))
    search = _once if R <= _PIVOTED else _in_rounds
    x, unproved = search(Y, points, sum_to_one, coordinates, empty)

    size = min(N, max(8, _REPAIR // (8 * R * R)))
    which, count = _numbers(unproved, size)

    def repair(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        x, number = carry
        pixels = lax.dynamic_slice(which, (number * size,), (size,))
        t, length = coordinates(Y.at[pixels].get(mode="clip"))
        answer = active_set(points, t.T, sum_to_one) * length.T
        return x.at[pixels].set(answer, mode="drop"), number + 1

    x, _ = lax.while_loop(lambda carry: carry[1] * size < count, repair, (x, jnp.int32(0)))
    return x


def _numbers(chosen: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """Return the numbers of the pixels `chosen` (N,), padded with N to batches of `size`, and how many they are."""
    N = chosen.shape[0]
    none = alongside(jnp.full(N + size, N), chosen)
    which = lax.cond(chosen.any(), lambda: none.at[:N].set(jnp.nonzero(chosen, size=N, fill_value=N)[0]), lambda: none)
    return which, jnp.sum(chosen, dtype=jnp.int32)


Coordinates = Callable[[jax.Array], tuple[jax.Array, jax.Array]]


def _once(
    Y: jax.Array, points: jax.Array, sum_to_one: bool, coordinates: Coordinates, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return answers (N, R), written over x, and which of them have no proof, (N,) bool: each pixel tried once."""
    N, R = x.shape
    block = min(N, next((pixels for count, pixels in _BLOCKS if count >= R), _BLOCKS[-1][1]))
    tab = enumeration.table(points, sum_to_one) if enumeration.LARGEST >= R else None

    def one_block(carry: tuple[jax.Array, jax.Array], number: jax.Array) -> tuple[tuple[jax.Array, jax.Array], None]:
        x, unproved = carry
        at = jnp.minimum(number * block, N - block)  # the last block overlaps the one before
        t, length = coordinates(lax.dynamic_slice(Y, (at, jnp.int32(0)), (block, Y.shape[1])))
        answer, proved = _attempt(points, tab, t, sum_to_one)
        x = lax.dynamic_update_slice(x, (answer * length).T, (at, jnp.int32(0)))
        return (x, lax.dynamic_update_slice(unproved, ~proved, (at,))), None

    return lax.scan(one_block, (x, jnp.isnan(x[:, 0])), jnp.arange(-(-N // block), dtype=jnp.int32))[0]


def _in_rounds(
    Y: jax.Array, points: jax.Array, sum_to_one: bool, coordinates: Coordinates, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return what `_once` returns: every round tries the pixels without proof, with more steps than the one before."""
    N = x.shape[0]
    size = min(N, _BATCH)
    tab = splitting.table(points, sum_to_one)
    lengths = jnp.asarray(_ROUNDS, jnp.int32)
    hope = alongside(jnp.full(splitting.WEIGHTS, _HOPE, x.dtype), x)

    def one_round(carry: tuple) -> tuple:
        x, unproved, number = carry
        which, count = _numbers(unproved, size)
        steps, descents = lengths[number]

        def one_batch(carry: tuple) -> tuple:
            x, unproved, shares, batch = carry
            pixels = lax.dynamic_slice(which, (batch * size,), (size,))
            t, length = coordinates(Y.at[pixels].get(mode="clip"))
            weight = jnp.argmax(shares)
            answer = splitting.search(tab, points, t, sum_to_one, weight, steps, descents)
            answer, proved = _check(points, t, answer, sum_to_one, _ITERATED)
            real = pixels < N
            share = jnp.sum(proved & real, dtype=x.dtype) / jnp.sum(real, dtype=x.dtype)
            x = x.at[pixels].set((answer * length).T, mode="drop")
            return x, unproved.at[pixels].set(~proved, mode="drop"), shares.at[weight].set(share), batch + 1

        start = (x, unproved, hope, jnp.int32(0))
        x, unproved, *_ = lax.while_loop(lambda carry: carry[3] * size < count, one_batch, start)
        return x, unproved, number + 1

    start = (x, ~(x[:, 0] > 0.0), jnp.int32(0))  # none has a proof, NaN neither
    unfinished = lambda carry: carry[1].any() & (carry[2] < len(_ROUNDS))  # noqa: E731
    return lax.while_loop(unfinished, one_round, start)[:2]


def _attempt(
    points: jax.Array, tab: enumeration.Table | None, t: jax.Array, sum_to_one: bool
) -> tuple[jax.Array, jax.Array]:
    """Return x (R, n) of pixels t (D, n), and whether it satisfies the optimality conditions, (n,) bool."""

    def residual(x: jax.Array) -> jax.Array:
        return t - jnp.matmul(points.T, x, precision="highest")

    if tab is not None:
        x, W = enumeration.search(tab, t)
        x = x + enumeration.apply(W, residual(x))
    else:
        x, A, inside = pivoting.search(points, t, sum_to_one)
        x = x + pivoting.refine(A, inside, jnp.matmul(points, residual(x), precision="highest"), sum_to_one)
    return _check(points, t, x, sum_to_one)


def _check(
    points: jax.Array, t: jax.Array, x: jax.Array, sum_to_one: bool, inside: float = _INSIDE
) -> tuple[jax.Array, jax.Array]:
    """Return x (R, n) of pixels t (D, n) in the set, and whether it satisfies the optimality conditions, (n,) bool."""
    R = points.shape[0]
    eps = jnp.finfo(t.dtype).eps
    x = jnp.maximum(x, 0.0)
    if sum_to_one:
        x = x / nonzero(total(x))[None]
    g = jnp.matmul(points, t - jnp.matmul(points.T, x, precision="highest"), precision="highest")
    if sum_to_one:
        g = g - total(x * g)[None]
    off = most(jnp.where(x > 0.0, jnp.abs(g) * (_OUTSIDE / inside), g))
    proved = off <= _OUTSIDE * eps * jnp.maximum(1.0, jnp.sqrt(total(t * t)))
    if R == 1 and sum_to_one:
        proved = jnp.ones_like(proved)
    proved = proved & jnp.isfinite(total(x))
    # A pixel with NaN has the answer NaN, and needs no repair.
    finite = jnp.isfinite(total(t))
    return jnp.where(finite[None], x, jnp.nan), proved | ~finite
