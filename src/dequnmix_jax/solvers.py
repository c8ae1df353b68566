"""Solve z = f(theta, z) and say how it went; the only room that imports jaxopt."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from dequnmix_jax.config import Solver
from dequnmix_jax.records import Trace

Map = Callable[[Any, Any], Any]
"""f(theta, z) -> z; a function of explicit arguments, which closes over no traced array."""

# An Anderson step is refused when it leaves a residual this many times the best one so far. Above one, because a
# residual that rises a little at a kink of the projection is no failure; a choice, not a tuned number.
GROWTH = 2.0


def rms(x: jax.Array) -> jax.Array:
    """Return sqrt(mean(x^2)), without overflow of the squares in float32 below 1e18."""
    return jnp.sqrt(jnp.mean(jnp.square(x)))


def relative(residual: jax.Array, image: jax.Array) -> jax.Array:
    """Return residual / image, zero where the residual is zero."""
    return jnp.where(residual == 0, 0, residual / jnp.where(image == 0, 1, image))


def solve(f: Map, solver: Solver, theta: Any, start: Any) -> tuple[Any, Trace]:
    """Solve z = f(theta, z) from `start`; differentiate it with `implicit.fixed_point`, not through this loop.

    Anderson acceleration (Anderson 1965; Walker & Ni 2011, type II) with r = f(z) - z and the last m differences:

        gamma = argmin |r - dR gamma|^2,   z <- z + beta r - (dZ + beta dR) gamma

    with columns of dR scaled to unit length and a ridge relative to them. A step that lets the residual grow, or
    gives NaN, is refused: the iteration goes back to the best iterate, forgets its differences and takes a damped
    step from there, shorter at each refusal.

    Args:
        f: the map, `f(theta, z)`; `z` any pytree of floating arrays of one dtype.
        solver: the method and its numbers.
        theta: what f depends on, any pytree.
        start: the first z.

    Returns:
        (z, Trace): z is f(theta, x) of the iterate x with the smallest residual, so that it lies in the range of f
        (the constraint set); `Trace.residual` is RMS(f(x) - x) / RMS(f(x)). A NaN never counts as converged.
    """
    x0, unravel = ravel_pytree(start)

    def flat(x: jax.Array) -> jax.Array:
        return ravel_pytree(f(theta, unravel(x)))[0]

    if solver.method in ("anderson", "picard"):
        z, trace = _accelerate(flat, solver, x0)
    else:
        z, trace = _jaxopt(flat, solver, x0)
    return unravel(z), trace


def _accelerate(f: Callable[[jax.Array], jax.Array], solver: Solver, x0: jax.Array) -> tuple[jax.Array, Trace]:
    """Iterate with the last differences (Anderson) or without them (plain and damped)."""
    m = solver.memory if solver.method == "anderson" else 0
    beta = jnp.asarray(solver.damping, x0.dtype)

    def dot(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)

    def measure(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        image = f(x)
        r = image - x
        return r, rms(r), relative(rms(r), rms(image))

    r0, size0, residual0 = measure(x0)
    state = {
        "x": x0, "r": r0,  # the iterate in hand
        "best_x": x0, "best_r": r0, "best_size": size0, "best": residual0,
        "step": beta,  # shortened at each refusal
        "count": jnp.asarray(1, jnp.int32),
        "alive": jnp.isfinite(residual0),
    }  # fmt: skip
    if m:
        state |= {
            "dx": jnp.zeros((m, x0.size), x0.dtype),
            "dr": jnp.zeros((m, x0.size), x0.dtype),
            "gram": jnp.eye(m, dtype=x0.dtype),
            "filled": jnp.asarray(0, jnp.int32),
        }

    def go_on(s: dict[str, jax.Array]) -> jax.Array:
        return ~(s["best"] <= solver.tolerance) & (s["count"] < solver.max_steps) & s["alive"]

    def advance(s: dict[str, jax.Array]) -> dict[str, jax.Array]:
        x, r = s["x"], s["r"]
        move = s["step"] * r
        if m:
            lengths = jnp.sqrt(jnp.diagonal(s["gram"]))
            used = (jnp.arange(m, dtype=jnp.int32) < s["filled"]) & (lengths > 0)
            unit = jnp.where(used, 1 / jnp.where(used, lengths, 1), 0)
            system = s["gram"] * unit[:, None] * unit[None, :] + jnp.diag(jnp.where(used, solver.ridge, 1)).astype(
                x.dtype
            )
            weights = jnp.linalg.solve(system, dot(s["dr"], r) * unit) * unit
            move = move - dot(weights, s["dx"]) - s["step"] * dot(weights, s["dr"])
        new_x = x + move
        new_r, size, residual = measure(new_x)
        better = residual < s["best"]
        out = s | {
            "count": s["count"] + 1,
            "best_x": jnp.where(better, new_x, s["best_x"]),
            "best_r": jnp.where(better, new_r, s["best_r"]),
            "best_size": jnp.where(better, size, s["best_size"]),
            "best": jnp.where(better, residual, s["best"]),
        }
        if not m:  # the plain iteration is left to itself: it may climb before it falls
            return out | {"x": new_x, "r": new_r, "alive": jnp.isfinite(residual)}
        accepted = size <= GROWTH * s["best_size"]  # False where NaN
        slot = jnp.mod(s["filled"], m)
        new_dx, new_dr = new_x - x, new_r - r
        dr = s["dr"].at[slot].set(new_dr)
        row = dot(dr, new_dr)
        gram = s["gram"].at[slot, :].set(row).at[:, slot].set(row)
        return out | {
            "x": jnp.where(accepted, new_x, s["best_x"]),
            "r": jnp.where(accepted, new_r, s["best_r"]),
            "dx": s["dx"].at[slot].set(jnp.where(accepted, new_dx, 0)),
            "dr": s["dr"].at[slot].set(jnp.where(accepted, new_dr, 0)),
            "gram": jnp.where(accepted, gram, jnp.eye(m, dtype=x.dtype)),
            "filled": jnp.where(accepted, s["filled"] + 1, 0),
            "step": jnp.where(accepted, jnp.minimum(beta, 2 * s["step"]), s["step"] / 2),
        }

    s = lax.while_loop(go_on, advance, state)
    return s["best_x"] + s["best_r"], Trace(s["count"], s["best"], s["best"] <= solver.tolerance)


def _jaxopt(f: Callable[[jax.Array], jax.Array], solver: Solver, x0: jax.Array) -> tuple[jax.Array, Trace]:
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
    tol = (solver.tolerance * length * scale).astype(wide)
    if solver.method == "broyden":
        walker = jaxopt.Broyden(
            fun=lambda x: walked(x) - x,
            maxiter=solver.max_steps,
            tol=tol,
            history_size=solver.memory * 4,
            stepsize=1.0,  # its line search fails (error 0.4 on a linear map); full steps converge
            implicit_diff=False,
        )
    else:
        walker = jaxopt.AndersonAcceleration(
            fixed_point_fun=walked,
            history_size=solver.memory,
            mixing_frequency=1,
            beta=solver.damping,
            maxiter=solver.max_steps,
            tol=tol,
            ridge=tol * tol,
            implicit_diff=False,
        )
    x, info = walker.run(x0.astype(wide))
    x = x.astype(x0.dtype)
    last = f(x)
    ends = jnp.stack([relative(rms(first - x0), rms(first)), relative(rms(last - x), rms(last))])
    worked = ends[1] <= ends[0]  # False where NaN: then the start is the best iterate known
    residual = jnp.where(worked, ends[1], ends[0])
    steps = jnp.asarray(info.iter_num, jnp.int32) + 2
    return jnp.where(worked, last, first), Trace(steps, residual, residual <= solver.tolerance)
