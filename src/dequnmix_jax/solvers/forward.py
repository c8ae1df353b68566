"""Solve z = f(theta, z) and say how it went; the only room that imports jaxopt."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from dequnmix_jax.checks import InputError, check_kind
from dequnmix_jax.ops.xla import alongside
from dequnmix_jax.solvers.anderson import FLOOR, STALL, State, Vector, walker
from dequnmix_jax.solvers.config import Anderson, Picard, Solver
from dequnmix_jax.solvers.jaxopt_methods import walk_with_jaxopt
from dequnmix_jax.types import Trace

Map = Callable[[Any, Any], Any]
"""f(theta, z) -> z; a function of explicit arguments, which closes over no traced array."""


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
        z, trace = walk_with_jaxopt(flat, solver.method, solver.max_steps, x0, goal, jax.tree.leaves(start)[0].dtype)
    return unravel(z), trace


def _walk(f: Vector, solver: Solver, x0: jax.Array, goal: jax.Array, kept: Any) -> tuple[jax.Array, Trace]:
    """Walk until an image of f, in the precision `kept`, has a residual within the goal, or nothing is left to try."""
    begin, advance = walker(f, solver, kept)
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
    begin, advance = walker(flat, solver, x0.dtype)
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
