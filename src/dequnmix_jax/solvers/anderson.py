"""Anderson acceleration with safeguards, and plain iteration, one step at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from dequnmix_jax.ops import small_systems
from dequnmix_jax.ops.xla import alongside
from dequnmix_jax.solvers.config import Anderson, Solver

Vector = Callable[[jax.Array], jax.Array]
State = dict[str, jax.Array]

# An Anderson step is refused when it leaves a residual this many times the best one so far. Well above one, because
# residuals rise where a projection changes its face: with 2 instead, the trained energy map on misicnet_sim1 took 58
# steps to 1e-3 and not 42 (euclidean metric: 160 and not 75); 5, 20 and no limit at all took as many as 10.
GROWTH = 10.0

# A refused step is taken back; where even the iterate before it is this much worse than the best one, so is that.
RETREAT = 2.0

# A solve ends when so many steps have brought no smaller residual and the smallest is within so many units of rounding:
# it stands at the floor of its precision. A plateau higher up is no floor: on a nearly flat energy the plain iteration
# waited 53 steps and then converged. The waits before 1e-6 in `results/solver_choices.md` are shorter.
STALL = 25
FLOOR = 64


def rms(x: jax.Array) -> jax.Array:
    """Return sqrt(mean(x^2)) in units of the largest entry, so that no square overflows or vanishes."""
    most = lax.stop_gradient(jnp.max(jnp.abs(x), initial=0))
    most = jnp.minimum(most, 0.25 / float(jnp.finfo(x.dtype).tiny))  # above, its reciprocal is subnormal
    unit = jnp.where(most > 0, most, 1)
    return unit * jnp.sqrt(jnp.mean(jnp.square(x / unit)))


def relative(residual: jax.Array, image: jax.Array) -> jax.Array:
    """Return residual / image, 0 / 0 as zero; a residual is not known below the smallest normal number."""
    known = jnp.maximum(residual, jnp.finfo(image.dtype).tiny)
    quotient = jnp.where(image == 0, jnp.inf, known / jnp.where(image == 0, 1, image))
    return jnp.where((residual == 0) & (image == 0), 0, quotient)


def walker(
    f: Vector, solver: Solver, kept: Any
) -> tuple[Callable[[jax.Array], State], Callable[[State, jax.Array], State]]:
    """Return how the iteration begins and how it takes a step: Anderson with m differences, or plain with none.

    Asked to, it steps to the image of the best iterate, rounded to the precision `kept`: to what a caller would get.
    """
    accelerated = isinstance(solver.method, Anderson)
    # Of the stand-in of the plain iteration only the damping is read.
    method = solver.method if isinstance(solver.method, Anderson) else Anderson(damping=solver.damping)
    m = method.memory if accelerated else 0

    def dot(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)

    def measure(x: jax.Array) -> tuple[jax.Array, ...]:
        image = f(x)
        r = image - x
        extent = rms(image)
        return r, rms(r), relative(rms(r), extent), extent

    def begin(x0: jax.Array) -> State:
        r0, size0, residual0, extent = measure(x0)
        beyond = jnp.asarray(jnp.inf, x0.dtype)
        state = {
            "x": x0, "r": r0,  # the iterate in hand
            "best_x": x0, "best_r": r0, "best_size": size0, "best": residual0,
            "settled": jnp.asarray(False),  # the best iterate is an image, or its image has been tried
            "held_x": x0, "held": beyond,  # the best image tried: what is returned
            "now": residual0,  # of the iterate tried last
            "count": jnp.asarray(1, jnp.int32),
            "waited": jnp.asarray(0, jnp.int32),  # steps since the best residual
            "alive": jnp.isfinite(size0) & jnp.isfinite(extent),
            # Beyond this the digits of the beginning are lost, and a residual is one of rounding.
            "most": jnp.maximum(rms(x0), extent) / float(jnp.finfo(x0.dtype).eps),
        }  # fmt: skip
        if m:
            state |= {
                "dx": jnp.zeros((m, x0.size), x0.dtype),
                "dr": jnp.zeros((m, x0.size), x0.dtype),
                "gram": jnp.eye(m, dtype=x0.dtype),
                "filled": jnp.asarray(0, jnp.int32),
                "step": jnp.asarray(method.damping, x0.dtype),  # shortened when a plain step is refused
                "plain": jnp.asarray(0, jnp.int32),  # plain steps still to take
                "pause": jnp.asarray(1, jnp.int32),  # how many after the next refusal
                "size": size0,  # of r
            }
        return alongside(state, r0)

    def advance(s: State, ask: jax.Array) -> State:
        x, r = s["x"], s["r"]
        extrapolated = (s["plain"] == 0) & (s["filled"] > 0) if m else jnp.asarray(False)
        step = s["step"] if m else jnp.asarray(method.damping, x.dtype)
        image = ask | (~extrapolated & (step == 1))  # whether the iterate to try is one
        new_x = jnp.where(ask, s["best_x"] + s["best_r"], x + (_extrapolated(s, method.ridge, dot) if m else step * r))
        if x.dtype != kept:
            new_x = jnp.where(image, new_x.astype(kept).astype(x.dtype), new_x)
        new_r, size, residual, extent = measure(new_x)
        sound = jnp.isfinite(size) & (extent <= s["most"])  # False where NaN
        better = sound & (residual < s["best"])
        holds = sound & image & (residual < s["held"])
        out = s | {
            "count": s["count"] + 1,
            "now": residual,
            "best_x": jnp.where(better, new_x, s["best_x"]),
            "best_r": jnp.where(better, new_r, s["best_r"]),
            "best_size": jnp.where(better, size, s["best_size"]),
            "best": jnp.where(better, residual, s["best"]),
            "settled": jnp.where(better, image, s["settled"] | ask),
            "held_x": jnp.where(holds, new_x, s["held_x"]),
            "held": jnp.where(holds, residual, s["held"]),
            "waited": jnp.where(better, 0, s["waited"] + 1),
        }
        if not m:  # the plain iteration is left to itself: it may climb before it falls
            return out | {"x": new_x, "r": new_r, "alive": sound}
        accepted = sound & (size <= GROWTH * s["best_size"])
        passed = ask & ~accepted  # a look at an image that is no step: everything stays
        slot = jnp.mod(s["filled"], m)
        new_dx, new_dr = new_x - x, new_r - r
        dr = s["dr"].at[slot].set(new_dr)
        row = dot(dr, new_dr)
        gram = s["gram"].at[slot, :].set(row).at[:, slot].set(row)
        worse = ~passed & (s["size"] > RETREAT * s["best_size"])
        longest = jnp.asarray(method.damping, x.dtype)
        refused = extrapolated & ~accepted & ~ask
        filled = jnp.where(accepted, s["filled"] + 1, 0)
        if method.restart:
            filled = jnp.where(filled >= method.restart, 0, filled)
        shortened = jnp.where(refused, longest, jnp.where(ask, s["step"], s["step"] / 2))
        return out | {
            "x": jnp.where(accepted, new_x, jnp.where(worse, s["best_x"], x)),
            "r": jnp.where(accepted, new_r, jnp.where(worse, s["best_r"], r)),
            "size": jnp.where(accepted, size, jnp.where(worse, s["best_size"], s["size"])),
            "dx": s["dx"].at[slot].set(jnp.where(accepted, new_dx, jnp.where(passed, s["dx"][slot], 0))),
            "dr": s["dr"].at[slot].set(jnp.where(accepted, new_dr, jnp.where(passed, s["dr"][slot], 0))),
            "gram": jnp.where(accepted, gram, jnp.where(passed, s["gram"], jnp.eye(m, dtype=x.dtype))),
            "filled": jnp.where(passed, s["filled"], filled),
            "step": jnp.where(accepted, jnp.minimum(longest, 2 * s["step"]), shortened),
            "plain": jnp.where(refused, s["pause"], jnp.maximum(s["plain"] - (accepted & ~ask).astype(jnp.int32), 0)),
            "pause": jnp.where(
                refused, jnp.minimum(2 * s["pause"], STALL), jnp.where(extrapolated & better & ~ask, 1, s["pause"])
            ),
        }

    return begin, advance


def _extrapolated(s: State, ridge: float, dot: Callable[[jax.Array, jax.Array], jax.Array]) -> jax.Array:
    """Return Anderson's step, by the normal equations of unit columns with a ridge.

    A QR of the columns takes the same number of steps on every map measured, and another copy of them. In float32 a
    ridge of 1e-6 to 1e-4 is as good as QR; at 1e-8 the rounding of the Gram matrix gives NaN, hence the floor.
    """
    gram, m = s["gram"], s["gram"].shape[0]
    lengths = jnp.sqrt(jnp.diagonal(gram))
    used = (jnp.arange(m, dtype=jnp.int32) < s["filled"]) & (lengths > 0)
    unit = jnp.where(used, 1 / jnp.where(used, lengths, 1), 0)
    ridge = max(ridge, float(m * jnp.finfo(gram.dtype).eps))
    system = gram * unit[:, None] * unit[None, :] + jnp.diag(jnp.where(used, ridge, 1)).astype(gram.dtype)
    weights = small_systems.solve(system, dot(s["dr"], s["r"]) * unit) * unit
    weights = jnp.where(s["plain"] > 0, 0, weights)
    return s["step"] * s["r"] - dot(weights, s["dx"]) - s["step"] * dot(weights, s["dr"])
