"""Solve z = f(theta, z) and say how it went; the only room that imports jaxopt."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from dequnmix_jax import small
from dequnmix_jax.checks import InputError, check_kind
from dequnmix_jax.choices import Anderson, Broyden, JaxoptAnderson, Picard
from dequnmix_jax.config import Solver
from dequnmix_jax.records import Trace
from dequnmix_jax.varying import alongside

Map = Callable[[Any, Any], Any]
"""f(theta, z) -> z; a function of explicit arguments, which closes over no traced array."""

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


def solve(
    f: Map, solver: Solver, theta: Any, start: Any, tolerance: float | jax.Array | None = None
) -> tuple[Any, Trace]:
    """Solve z = f(theta, z) from `start`; differentiate it with `implicit.fixed_point`, not through this loop.

    Anderson acceleration (Anderson 1965; Walker & Ni 2011, type II) with r = f(z) - z and the last m differences:

        gamma = argmin |r - dR gamma|^2,   z <- z + beta r - (dZ + beta dR) gamma

    with columns of dR scaled to unit length and a ridge relative to them. A step that lets the residual grow, or
    gives NaN, is refused: the iteration goes back, forgets its differences and takes plain steps from there, twice as
    many at each refusal and shorter where they are refused too. At the floor of its precision it ends, not converged.

    Under vmap each lane stops on its own and keeps what it has, whatever its neighbours do.

    Args:
        f: the map, `f(theta, z)`; `z` any pytree of floating arrays of one dtype. A state of half precision is walked
            in float32, f alone computes in its own precision.
        solver: the method and its numbers.
        theta: what f depends on, any pytree.
        start: the first z.
        tolerance: in the place of `solver.tolerance`; may be traced (a schedule).

    Returns:
        (z, Trace): z is an image f(theta, x), so that it lies in the range of f (the constraint set), and
        `Trace.residual` is RMS(f(z) - z) / RMS(f(z)) at this z itself, for which f is applied once more where z is no
        iterate (`Trace.steps` counts that, and is at least 2). NaN, infinity and a z that has grown from its beginning
        by more than the precision can hold (1 / eps) never count as converged.
    """
    check_kind(solver, Solver, "solver")
    flat, x0, unravel = flatten(f, theta, start)
    goal = jnp.asarray(solver.tolerance if tolerance is None else tolerance, x0.dtype)
    if isinstance(solver.method, Anderson | Picard):
        z, trace = _walk(flat, solver, x0, goal, jax.tree.leaves(start)[0].dtype)
    else:
        z, trace = _jaxopt(flat, solver.method, solver.max_steps, x0, goal, jax.tree.leaves(start)[0].dtype)
    return unravel(z), trace


def _walk(f: Vector, solver: Solver, x0: jax.Array, goal: jax.Array, kept: Any) -> tuple[jax.Array, Trace]:
    """Walk until an image of f, in the precision `kept`, has a residual within the goal, or nothing is left to try."""
    begin, advance = _walker(f, solver, kept)
    floor = FLOOR * float(jnp.finfo(kept).eps)
    limit = max(solver.max_steps, 2)  # one application to have an image, and one to measure it

    def ends(s: State) -> jax.Array:
        return ~s["alive"] | ((s["waited"] >= STALL) & (s["best"] <= floor))

    def go_on(s: State) -> jax.Array:
        return ~(s["held"] <= goal) & (s["count"] < limit) & ~s["over"] & ~(ends(s) & s["settled"])

    def follow(s: State) -> State:
        last = ends(s)
        ask = ~s["settled"] & ((s["best"] <= goal) | last | (s["count"] == limit - 1))
        return advance(s, ask) | {"over": last}

    s = lax.while_loop(go_on, follow, begin(x0) | {"over": alongside(jnp.asarray(False), x0)})
    found = jnp.isfinite(s["held"])
    z = jnp.where(found, s["held_x"], s["best_x"] + s["best_r"])
    residual = jnp.where(found, s["held"], jnp.nan)
    return z, Trace(s["count"], residual, residual <= goal)


def residuals(f: Map, solver: Solver, theta: Any, start: Any, steps: int) -> jax.Array:
    """Return the relative residual of every iterate of `solve`, for `steps` applications of f whatever happens.

    The same walk, without its stopping: what the iterations after convergence, or after a failure, would have done.

    Args:
        f, theta, start: as `solve`.
        solver: of Anderson() or Picard(); the tolerance and the limit of steps take no part.
        steps: applications of f.

    Returns:
        (steps,), RMS(f(x) - x) / RMS(f(x)) of the start and of each iterate that was tried, refused ones too.
    """
    if not isinstance(solver.method, Anderson | Picard):
        raise InputError(f"residuals follows Anderson() and Picard(), not {solver.method!r}, whose loop is jaxopt's.")
    flat, x0, _ = flatten(f, theta, start)
    begin, advance = _walker(flat, solver, x0.dtype)
    s = begin(x0)

    def follow(s: State, _: None) -> tuple[State, jax.Array]:
        s = advance(s, jnp.asarray(False))
        return s, s["now"]

    return jnp.concatenate([s["now"][None], lax.scan(follow, s, None, length=steps - 1)[1]])


def flatten(f: Map, theta: Any, z: Any) -> tuple[Vector, jax.Array, Callable[[jax.Array], Any]]:
    """Return f as a map of vectors of at least float32, z as such a vector, and the way back to z's form."""
    vector, unravel = ravel_pytree(z)
    wide = vector.dtype if vector.dtype.itemsize >= 4 else jnp.dtype(jnp.float32)

    def flat(x: jax.Array) -> jax.Array:
        return ravel_pytree(f(theta, unravel(x.astype(vector.dtype))))[0].astype(wide)

    return flat, vector.astype(wide), lambda x: unravel(x.astype(vector.dtype))


def _walker(
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
    weights = small.solve(system, dot(s["dr"], s["r"]) * unit) * unit
    weights = jnp.where(s["plain"] > 0, 0, weights)
    return s["step"] * s["r"] - dot(weights, s["dx"]) - s["step"] * dot(weights, s["dr"])


def _jaxopt(
    f: Vector, method: Broyden | JaxoptAnderson, max_steps: int, x0: jax.Array, goal: jax.Array, kept: Any
) -> tuple[jax.Array, Trace]:
    """Let jaxopt walk, and measure what it brings back: its own error is not kept where it meets a NaN."""
    import jaxopt

    # jaxopt's Anderson keeps float32 and float64 branches apart when x64 is on: walk in the wider of the two.
    wide = jnp.zeros((), jnp.float64 if jax.dtypes.canonicalize_dtype(float) == jnp.float64 else jnp.float32).dtype

    def walked(x: jax.Array) -> jax.Array:
        return f(x.astype(x0.dtype)).astype(wide)

    first = f(x0)
    # Its tolerance is an absolute L2 norm and its ridge is absolute too: both are scaled to the size of the state.
    length = max(x0.size, 1) ** 0.5
    scale = jnp.where(rms(first) > 0, rms(first), 1).astype(wide)
    tol = goal.astype(wide) * length * scale
    if isinstance(method, Broyden):
        walker = jaxopt.Broyden(
            fun=lambda x: walked(x) - x,
            maxiter=max_steps,
            tol=tol,
            history_size=method.memory * 4,
            stepsize=1.0,  # its line search fails (error 0.4 on a linear map); full steps converge
            implicit_diff=False,
        )
    else:
        walker = jaxopt.AndersonAcceleration(
            fixed_point_fun=walked,
            history_size=method.memory,
            mixing_frequency=1,
            beta=method.damping,
            maxiter=max_steps,
            tol=tol,
            ridge=tol * tol,
            implicit_diff=False,
        )
    x, info = walker.run(x0.astype(wide))
    x = x.astype(x0.dtype)
    last = f(x)
    ends = jnp.stack([relative(rms(first - x0), rms(first)), relative(rms(last - x), rms(last))])
    worked = ends[1] <= ends[0]  # False where NaN: then the start is the best iterate known
    z = jnp.where(worked, last, first).astype(kept).astype(x0.dtype)
    image = f(z)
    sound = rms(image) <= jnp.maximum(rms(x0), rms(first)) / float(jnp.finfo(x0.dtype).eps)
    residual = jnp.where(sound, relative(rms(image - z), rms(image)), jnp.nan)
    steps = jnp.asarray(info.iter_num, jnp.int32) + 3
    return z, Trace(steps, residual, residual <= goal)
