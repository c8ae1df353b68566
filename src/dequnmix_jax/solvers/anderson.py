"""Anderson acceleration with safeguards, and plain iteration, one step at a time."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dequnmix_jax.ops import small_systems
from dequnmix_jax.ops.guards import nonzero, positive
from dequnmix_jax.solvers.config import Anderson, Solver

Vector = Callable[[jax.Array], jax.Array]

# An Anderson step is refused when its residual is this many times the best one so far. Well above one, because
# residuals rise where a projection changes its face: with 2 instead, the trained energy map on misicnet_sim1 took 58
# steps to 1e-3 and not 42 (euclidean metric: 160 and not 75); 5, 20 and no limit at all took as many as 10.
GROWTH = 10.0

# A refused step is taken back; if the iterate before it is this much worse than the best one, so is that iterate.
RETREAT = 2.0

# A solve ends when so many steps have brought no smaller residual and the smallest is within so many units of rounding:
# it has reached the floor of its precision. A plateau higher up is not a floor: on a nearly flat energy the plain
# iteration waited 53 steps and then converged. The waits before 1e-6 in `results/solver_choices.md` are shorter.
STALL = 25
FLOOR = 64


class Memory(NamedTuple):
    """What Anderson acceleration keeps of its last m accepted steps.

    Attributes:
        dg, dr: (m, n), differences of images f(x) and of residuals.
        gram: (m, m), dr dr^T.
        products: (m,), dr r, with the residual of the current iterate.
        filled: () int32, accepted steps since the last restart.
        step: (), beta; halved when a plain step is refused.
        plain: () int32, plain steps still to take.
        pause: () int32, plain steps after the next refusal.
        size: (), RMS of the residual of the current iterate.
    """

    dg: jax.Array
    dr: jax.Array
    gram: jax.Array
    products: jax.Array
    filled: jax.Array
    step: jax.Array
    plain: jax.Array
    pause: jax.Array
    size: jax.Array


class Walk(NamedTuple):
    """The state of an iteration.

    Attributes:
        x, r: (n,), the current iterate and its residual f(x) - x.
        best_x, best_r: (n,), those of the iterate with the smallest relative residual.
        best_size: (), RMS of best_r.
        best: (), its relative residual.
        settled: () bool, the best iterate is an image, or its image has been tried.
        image_x: (n,), the best image tried, which is returned.
        image: (), its relative residual; infinite before the first.
        now: (), relative residual of the iterate tried last.
        applications: () int32, of f.
        waited: () int32, steps since the best residual.
        alive: () bool, the last iterate is finite and not larger than `most`.
        most: (), RMS above which the digits of the first iterate are lost and a residual is one of rounding.
        memory: of Anderson acceleration; None for the plain iteration.
    """

    x: jax.Array
    r: jax.Array
    best_x: jax.Array
    best_r: jax.Array
    best_size: jax.Array
    best: jax.Array
    settled: jax.Array
    image_x: jax.Array
    image: jax.Array
    now: jax.Array
    applications: jax.Array
    waited: jax.Array
    alive: jax.Array
    most: jax.Array
    memory: Memory | None


def rms(x: jax.Array) -> jax.Array:
    """Return sqrt(mean(x^2)); in units of the largest entry where a square could overflow or vanish."""
    plain = jnp.mean(jnp.square(x))
    limits = jnp.finfo(x.dtype)
    fine = (plain > float(limits.tiny) / float(limits.eps) ** 2) & (plain < float(limits.max) * float(limits.eps))
    return lax.cond(fine, lambda x: jnp.sqrt(plain), _rms_in_units, x)


def _rms_in_units(x: jax.Array) -> jax.Array:
    most = lax.stop_gradient(jnp.max(jnp.abs(x), initial=0))
    most = jnp.minimum(most, 0.25 / float(jnp.finfo(x.dtype).tiny))  # above, its reciprocal is subnormal
    unit = positive(most)
    return unit * jnp.sqrt(jnp.mean(jnp.square(x / unit)))


def relative(residual: jax.Array, image: jax.Array) -> jax.Array:
    """Return residual / image, 0 / 0 as zero; a residual is not known below the smallest normal number."""
    known = jnp.maximum(residual, jnp.finfo(image.dtype).tiny)
    quotient = jnp.where(image == 0, jnp.inf, known / nonzero(image))
    return jnp.where((residual == 0) & (image == 0), 0, quotient)


def walker(
    f: Vector, solver: Solver, kept: Any
) -> tuple[Callable[[jax.Array], Walk], Callable[[Walk, jax.Array], Walk]]:
    """Return the first state of the iteration and its step: Anderson with m differences, or plain with none.

    With `try_image` the step goes to the image of the best iterate, rounded to the precision `kept` that a caller gets.
    """
    accelerated = isinstance(solver.method, Anderson)
    # The plain iteration reads the damping alone.
    method = solver.method if isinstance(solver.method, Anderson) else Anderson(damping=solver.damping)
    m = method.memory if accelerated else 0

    def measure(x: jax.Array) -> tuple[jax.Array, ...]:
        image = f(x)
        r = image - x
        extent = rms(image)
        return r, rms(r), relative(rms(r), extent), extent

    def begin(x0: jax.Array) -> Walk:
        """Return the state before f is applied for the first time, which `advance` then does, at x0."""
        zero, infinity = jnp.zeros_like(x0), jnp.asarray(jnp.inf, x0.dtype)
        return Walk(
            x=x0,
            r=zero,
            best_x=x0,
            best_r=zero,
            best_size=infinity,
            best=infinity,
            settled=jnp.asarray(False),
            image_x=x0,
            image=infinity,
            now=infinity,
            applications=jnp.asarray(0, jnp.int32),
            waited=jnp.asarray(0, jnp.int32),
            alive=jnp.asarray(True),
            most=infinity,
            memory=_no_memory(method, x0) if m else None,
        )

    def advance(walk: Walk, try_image: jax.Array) -> Walk:
        # The first application is one of the loop: a map of many operations is then compiled once, not twice.
        x, r, memory, first = walk.x, walk.r, walk.memory, walk.applications == 0
        step = jnp.asarray(method.damping, x.dtype) if memory is None else memory.step
        extrapolated = jnp.asarray(False) if memory is None else (memory.plain == 0) & (memory.filled > 0)
        is_image = try_image | (~extrapolated & (step == 1) & ~first)
        moved = step * r if memory is None else _extrapolated(memory, r, method.ridge)
        new_x = jnp.where(try_image, walk.best_x + walk.best_r, x + moved)
        if x.dtype != kept:
            new_x = jnp.where(is_image, new_x.astype(kept).astype(x.dtype), new_x)
        new_r, size, residual, extent = measure(new_x)
        sound = jnp.isfinite(size) & jnp.where(first, jnp.isfinite(extent), extent <= walk.most)  # False where NaN
        better = first | (sound & (residual < walk.best))
        better_image = sound & is_image & (residual < walk.image)
        new = walk._replace(
            applications=walk.applications + 1,
            now=residual,
            best_x=jnp.where(better, new_x, walk.best_x),
            best_r=jnp.where(better, new_r, walk.best_r),
            best_size=jnp.where(better, size, walk.best_size),
            best=jnp.where(better, residual, walk.best),
            settled=jnp.where(better, is_image, walk.settled | try_image),
            image_x=jnp.where(better_image, new_x, walk.image_x),
            image=jnp.where(better_image, residual, walk.image),
            waited=jnp.where(better, 0, walk.waited + 1),
            most=jnp.where(first, jnp.maximum(rms(x), extent) / float(jnp.finfo(x.dtype).eps), walk.most),
        )
        if memory is None:  # without safeguards: the residual of the plain iteration may rise before it falls
            return new._replace(x=new_x, r=new_r, alive=sound)
        new = new._replace(alive=walk.alive & (sound | ~first))
        accepted = first | (sound & (size <= GROWTH * walk.best_size))
        skipped = try_image & ~accepted  # an image was tried and is not a step: everything stays
        worse = ~skipped & (memory.size > RETREAT * walk.best_size)
        return new._replace(
            x=jnp.where(accepted, new_x, jnp.where(worse, walk.best_x, x)),
            r=jnp.where(accepted, new_r, jnp.where(worse, walk.best_r, r)),
            memory=_remember(
                memory,
                method,
                new_x + new_r - (x + r),
                new_r - r,
                new_r,
                size=jnp.where(accepted, size, jnp.where(worse, walk.best_size, memory.size)),
                accepted=accepted,
                skipped=skipped | first,  # one residual makes no difference yet
                refused=extrapolated & ~accepted & ~try_image,
                improved=extrapolated & better & ~try_image,
                try_image=try_image | first,
            ),
        )

    return begin, advance


def _no_memory(method: Anderson, x0: jax.Array) -> Memory:
    m = method.memory
    return Memory(
        dg=jnp.zeros((m, x0.size), x0.dtype),
        dr=jnp.zeros((m, x0.size), x0.dtype),
        gram=jnp.eye(m, dtype=x0.dtype),
        products=jnp.zeros(m, x0.dtype),
        filled=jnp.asarray(0, jnp.int32),
        step=jnp.asarray(method.damping, x0.dtype),
        plain=jnp.asarray(0, jnp.int32),
        pause=jnp.asarray(1, jnp.int32),
        size=jnp.asarray(jnp.inf, x0.dtype),
    )


def _remember(
    memory: Memory,
    method: Anderson,
    new_dg: jax.Array,
    new_dr: jax.Array,
    new_r: jax.Array,
    *,
    size: jax.Array,
    accepted: jax.Array,
    skipped: jax.Array,
    refused: jax.Array,
    improved: jax.Array,
    try_image: jax.Array,
) -> Memory:
    """Keep the differences of an accepted step, and forget all of them after any other unless it was `skipped`."""
    m, longest = method.memory, jnp.asarray(method.damping, new_dr.dtype)
    slot = jnp.mod(memory.filled, m)
    dr = memory.dr.at[slot].set(jnp.where(accepted, new_dr, jnp.where(skipped, memory.dr[slot], 0)))
    # Both in one pass over the largest arrays of the iteration, which do not fit in the cache.
    row, products = _dot(dr, new_dr), _dot(dr, new_r)
    gram = memory.gram.at[slot, :].set(row).at[:, slot].set(row)
    filled = jnp.where(accepted, memory.filled + 1, 0)
    if method.restart:
        filled = jnp.where(filled >= method.restart, 0, filled)
    shortened = jnp.where(refused, longest, jnp.where(try_image, memory.step, memory.step / 2))
    paused = jnp.where(improved, 1, memory.pause)
    one_less = jnp.maximum(memory.plain - (accepted & ~try_image).astype(jnp.int32), 0)
    return Memory(
        dg=memory.dg.at[slot].set(jnp.where(accepted, new_dg, jnp.where(skipped, memory.dg[slot], 0))),
        dr=dr,
        gram=jnp.where(accepted, gram, jnp.where(skipped, memory.gram, jnp.eye(m, dtype=new_dr.dtype))),
        products=jnp.where(accepted, products, jnp.where(skipped, memory.products, 0)),
        filled=jnp.where(skipped, memory.filled, filled),
        step=jnp.where(accepted, jnp.minimum(longest, 2 * memory.step), shortened),
        plain=jnp.where(refused, memory.pause, one_less),
        pause=jnp.where(refused, jnp.minimum(2 * memory.pause, STALL), paused),
        size=size,
    )


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def _extrapolated(memory: Memory, r: jax.Array, ridge: float) -> jax.Array:
    """Return Anderson's step, by the normal equations of unit columns with a ridge.

    A QR of the columns takes the same number of steps on every map measured, and another copy of them. In float32 a
    ridge of 1e-6 to 1e-4 is as good as QR; at 1e-8 the rounding of the Gram matrix gives NaN, hence the floor.
    """
    gram, m = memory.gram, memory.gram.shape[0]
    lengths = jnp.sqrt(jnp.diagonal(gram))
    used = (jnp.arange(m, dtype=jnp.int32) < memory.filled) & (lengths > 0)
    unit = jnp.where(used, 1 / jnp.where(used, lengths, 1), 0)
    ridge = max(ridge, float(m * jnp.finfo(gram.dtype).eps))
    system = gram * unit[:, None] * unit[None, :] + jnp.diag(jnp.where(used, ridge, 1)).astype(gram.dtype)
    weights = small_systems.solve(system, memory.products * unit) * unit
    weights = jnp.where(memory.plain > 0, 0, weights)
    beta = memory.step
    # dX + beta dR = dG - (1 - beta) dR; the second part is needed for a shortened step alone.
    shortened = lax.cond(beta == 1, jnp.zeros_like, lambda r: (1 - beta) * _dot(weights, memory.dr), r)
    return beta * r - _dot(weights, memory.dg) + shortened
