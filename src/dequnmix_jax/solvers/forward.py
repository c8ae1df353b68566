"""Solve z = f(theta, z), with a trace of how it went."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from dequnmix_jax.checks import InputError, check_kind
from dequnmix_jax.ops.xla import alongside
from dequnmix_jax.solvers.anderson import FLOOR, STALL, Vector, Walk, walker
from dequnmix_jax.solvers.config import Anderson, Picard, Solver
from dequnmix_jax.solvers.jaxopt_methods import walk_with_jaxopt
from dequnmix_jax.types import Trace

Map = Callable[[Any, Any], Any]
"""f(theta, z) -> z; a function of explicit arguments, which closes over no traced array."""


def solve(f: Map, solver: Solver, theta: Any, z0: Any, tolerance: float | jax.Array | None = None) -> tuple[Any, Trace]:
    """Solve z = f(theta, z) from z0; differentiate it with `implicit.fixed_point`, not through this loop.

    Anderson acceleration (Anderson 1965; Walker & Ni 2011, type II) with r = f(z) - z and the last m differences:

        gamma = argmin |r - dR gamma|^2,   z <- z + beta r - (dZ + beta dR) gamma

    with columns of dR scaled to unit length and a ridge relative to them. A step that lets the residual grow, or
    gives NaN, is refused: the iteration returns to the iterate before, forgets its differences and takes plain steps
    from there, twice as many at each refusal and shorter if they are refused too. At the floor of its precision it
    ends, not converged.

    Under vmap each lane stops on its own; its result does not depend on the other lanes.

    Args:
        f: the map, `f(theta, z)`; `z` any pytree of floating arrays of one dtype. A state of half precision is iterated
            in float32; f alone computes in its own precision.
        solver: the method and its numbers.
        theta: what f depends on, any pytree.
        z0: the first z.
        tolerance: overrides `solver.tolerance`; may be traced (a schedule).

    Returns:
        (z, Trace): z is an image f(theta, x), so that it lies in the range of f (the constraint set), and
        `Trace.residual` is RMS(f(z) - z) / RMS(f(z)) at this z itself; f is applied once more if z is not an iterate
        (`Trace.steps` counts that, and is at least 2). NaN, infinity and a z that has grown from z0 by more than the
        precision can hold (1 / eps) never count as converged.
    """
    check_kind(solver, Solver, "solver")
    flat, x0, unravel = flatten(f, theta, z0)
    goal = jnp.asarray(solver.tolerance if tolerance is None else tolerance, x0.dtype)
    kept = jax.tree.leaves(z0)[0].dtype
    if isinstance(solver.method, Anderson | Picard):
        z, trace = _walk(flat, solver, x0, goal, kept, theta)
    else:
        z, trace = walk_with_jaxopt(flat, solver.method, solver.max_steps, x0, goal, kept)
    return unravel(z), trace


def _walk(f: Vector, solver: Solver, x0: jax.Array, goal: jax.Array, kept: Any, theta: Any) -> tuple[jax.Array, Trace]:
    """Iterate until an image of f, in the precision `kept`, has a residual within the goal, or no step can help."""
    begin, advance = walker(f, solver, kept)
    floor = FLOOR * float(jnp.finfo(kept).eps)
    limit = max(solver.max_steps, 2)  # one application to have an image, and one to measure it

    def ends(walk: Walk) -> jax.Array:
        return ~walk.alive | ((walk.waited >= STALL) & (walk.best <= floor))

    def unfinished(carry: tuple[Walk, jax.Array]) -> jax.Array:
        walk, over = carry
        return ~(walk.image <= goal) & (walk.applications < limit) & ~over & ~(ends(walk) & walk.settled)

    def step(carry: tuple[Walk, jax.Array]) -> tuple[Walk, jax.Array]:
        walk, _ = carry
        last = ends(walk)
        try_image = ~walk.settled & ((walk.best <= goal) | last | (walk.applications == limit - 1))
        return advance(walk, try_image), last

    walk, _ = lax.while_loop(unfinished, step, alongside((begin(x0), jnp.asarray(False)), theta, x0, goal))
    has_image = jnp.isfinite(walk.image)
    z = jnp.where(has_image, walk.image_x, walk.best_x + walk.best_r)
    residual = jnp.where(has_image, walk.image, jnp.nan)
    return z, Trace(walk.applications, residual, residual <= goal)


def residuals(f: Map, solver: Solver, theta: Any, z0: Any, steps: int) -> jax.Array:
    """Return the relative residual of every iterate of `solve`, for exactly `steps` applications of f.

    The same iteration without its stopping rule: it shows the iterates after convergence, or after a failure.

    Args:
        f, theta, z0: as `solve`.
        solver: of Anderson() or Picard(); its tolerance and its limit of steps are ignored.
        steps: applications of f.

    Returns:
        (steps,), RMS(f(x) - x) / RMS(f(x)) of z0 and of each iterate that was tried, refused ones too.
    """
    if not isinstance(solver.method, Anderson | Picard):
        raise InputError(f"residuals follows Anderson() and Picard(), not {solver.method!r}, whose loop is jaxopt's.")
    if steps < 1:
        raise InputError(f"steps is {steps}; expected at least 1.")
    flat, x0, _ = flatten(f, theta, z0)
    begin, advance = walker(flat, solver, x0.dtype)

    def step(walk: Walk, _: None) -> tuple[Walk, jax.Array]:
        walk = advance(walk, jnp.asarray(False))
        return walk, walk.now

    return lax.scan(step, alongside(begin(x0), theta, x0), None, length=steps)[1]


def flatten(f: Map, theta: Any, z: Any) -> tuple[Vector, jax.Array, Callable[[jax.Array], Any]]:
    """Return f as a map of vectors of at least float32, z as such a vector, and the inverse of the flattening."""
    vector, unravel = ravel_pytree(z)
    wide = vector.dtype if vector.dtype.itemsize >= 4 else jnp.dtype(jnp.float32)

    def flat(x: jax.Array) -> jax.Array:
        return ravel_pytree(f(theta, unravel(x.astype(vector.dtype))))[0].astype(wide)

    return flat, vector.astype(wide), lambda x: unravel(x.astype(vector.dtype))
