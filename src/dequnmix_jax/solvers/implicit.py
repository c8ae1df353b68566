"""Differentiate the answer, not the path: implicit gradients of z = f(theta, z) at constant memory."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from dequnmix_jax.checks import check_kind
from dequnmix_jax.ops.guards import divide, positive
from dequnmix_jax.ops.xla import alongside
from dequnmix_jax.solvers.anderson import relative, rms
from dequnmix_jax.solvers.config import Adjoint, Anderson, BiCGSTAB, Neumann, OneStep, Phantom, Solver
from dequnmix_jax.solvers.forward import Map, flatten, solve
from dequnmix_jax.types import Trace


def fixed_point(
    f: Map,
    forward: Solver,
    backward: Adjoint,
    theta: Any,
    z0: Any,
    tolerance: float | jax.Array | None = None,
) -> tuple[Any, Trace]:
    """Solve z = f(theta, z) with an implicit gradient in theta.

    With J = df/dz at the solution and w the cotangent of z (Bai, Kolter & Koltun 2019; implicit function theorem):

        u = w + J^T u,        cotangent of theta = (df/dtheta)^T u

    so that a gradient keeps one application of f in memory, however many steps the solve took. `z0` and `tolerance`
    receive no gradient: the equilibrium does not depend on them. Works for any map and under jit, vmap, scan and grad.

    Args:
        f: the map `f(theta, z) -> z`. Traced arrays that f closes over get their gradient as theta does
            (`jax.closure_convert`).
        forward: the solver of the equilibrium.
        backward: the solver of the adjoint system.
        theta: what f depends on, any pytree; integer and boolean leaves get no gradient.
        z0: the first z, any pytree of floating arrays.
        tolerance: overrides `forward.tolerance`, and the adjoint's if `backward.tolerance` is None; it may be traced
            (a schedule).

    Returns:
        (z, Trace), as `forward.solve`.

    Raises:
        InputError: `forward` is not a Solver, or `backward` not an Adjoint.
    """
    check_kind(forward, Solver, "forward")
    check_kind(backward, Adjoint, "backward")
    z0 = alongside(z0, theta)  # its cotangent has the type of z
    pure, hoisted = jax.closure_convert(f, theta, z0)
    if not hoisted:
        return _fixed_point(f, forward, backward, theta, z0, tolerance)

    def explicit(both: Any, z: Any) -> Any:
        return pure(both[0], z, *both[1])

    return _fixed_point(explicit, forward, backward, (theta, hoisted), z0, tolerance)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _fixed_point(
    f: Map, forward: Solver, backward: Adjoint, theta: Any, z0: Any, tolerance: float | jax.Array | None
) -> tuple[Any, Trace]:
    return solve(f, forward, theta, z0, tolerance)


def _forward(f: Map, forward: Solver, backward: Adjoint, theta: Any, z0: Any, tolerance: Any = None) -> tuple[Any, Any]:
    z, trace = solve(f, forward, theta, z0, tolerance)
    return (z, trace), (theta, z, tolerance)


def _backward(f: Map, forward: Solver, backward: Adjoint, kept: Any, cotangent: Any) -> tuple[Any, Any, None]:
    theta, z, tolerance = kept
    u, _ = adjoint_trace(f, backward, theta, z, cotangent[0], forward.tolerance if tolerance is None else tolerance)
    _, pull = jax.vjp(lambda t: f(t, z), theta)
    return pull(u)[0], jax.tree.map(jnp.zeros_like, z), None


_fixed_point.defvjp(_forward, _backward)


def _pulled(operands: Any, u: jax.Array) -> jax.Array:
    """Return w + J^T u, as a map of `solve` (the operands carry the linearisation)."""
    pull, w = operands
    return w + pull(u)


def adjoint_trace(
    f: Map,
    backward: Adjoint,
    theta: Any,
    z: Any,
    cotangent: Any,
    tolerance: float | jax.Array = Solver.tolerance,
) -> tuple[Any, Trace]:
    """Solve the adjoint system u = w + J^T u, with a trace of how it went.

    The cotangent is brought to unit RMS first, so that the tolerance means the same for a sum and for a mean loss.
    Neumann(), OneStep() and Phantom() are one damped iteration with few steps:

        u_0 = tau w,    u_(i+1) = u_i + tau (w + J^T u_i - u_i)

    with tau = 1, or `Phantom.damping`: k products give tau sum of B^i w for i = 0 .. k with B = tau J^T + (1 - tau) I,
    the phantom gradient of Geng et al. 2021 (NeurIPS, "On training implicit models"). At an equilibrium their unrolled
    form is the same number, since each of its damped steps ends where it starts.

    Args:
        f, theta: the map and its parameters.
        backward: the method.
        z: where f is linearised, the solution.
        cotangent: w, the structure of z.
        tolerance: used if `backward.tolerance` is None: that of the forward solve.

    Returns:
        (u, Trace): `Trace.residual` is RMS(w + J^T u - u) / RMS(w); `Trace.steps` counts products with J^T.
    """
    flat, x, unravel = flatten(f, theta, z)
    w = ravel_pytree(cotangent)[0].astype(x.dtype)
    goal = jnp.asarray(tolerance if backward.tolerance is None else backward.tolerance, x.dtype)
    scale = rms(w)
    unit = w / positive(scale)
    _, linear = jax.vjp(flat, x)

    def pull(u: jax.Array) -> jax.Array:
        return linear(u)[0]

    match backward.method:
        case BiCGSTAB():
            u, steps = _bicgstab(lambda u: u - pull(u), unit, goal, backward.limit)
        case Anderson() as method:
            solver = Solver(method, max_steps=max(backward.limit, 1))
            u, trace = solve(_pulled, solver, (jax.tree_util.Partial(pull), unit), unit, goal)
            steps = trace.steps
        case Neumann() | OneStep() | Phantom() as method:
            tau = jnp.asarray(method.damping if isinstance(method, Phantom) else 1, x.dtype)
            count = backward.limit
            u, _ = lax.scan(lambda u, _: (u + tau * (unit + pull(u) - u), None), tau * unit, None, length=count)
            steps = jnp.asarray(count, jnp.int32)
    residual = relative(rms(unit + pull(u) - u), rms(unit))
    return unravel(u * scale), Trace(steps + 1, residual, residual <= goal)


class _Krylov(NamedTuple):
    """The state of BiCGSTAB, in the names of van der Vorst (1992); `best_x` has the smallest relative residual."""

    x: jax.Array
    r: jax.Array
    shadow: jax.Array
    p: jax.Array
    v: jax.Array
    rho: jax.Array
    alpha: jax.Array
    omega: jax.Array
    best_x: jax.Array
    best: jax.Array
    products: jax.Array
    alive: jax.Array


def _bicgstab(apply: Any, b: jax.Array, tolerance: jax.Array, limit: int) -> tuple[jax.Array, jax.Array]:
    """Solve a linear system by BiCGSTAB (van der Vorst 1992), keeping the best iterate; two products a step.

    jax.scipy's routine reports neither its steps nor a breakdown, and continues with NaN.
    """

    def dot(p: jax.Array, q: jax.Array) -> jax.Array:
        return jnp.vdot(p, q, precision=lax.Precision.HIGHEST)

    one = jnp.ones((), b.dtype)
    size = rms(b)
    # The system is near the identity where f contracts strongly: u = b is the first guess, and also one-step's answer.
    r = b - apply(b)
    first = _Krylov(
        x=b, r=r, shadow=r, p=jnp.zeros_like(b), v=jnp.zeros_like(b), rho=one, alpha=one, omega=one,
        best_x=b, best=relative(rms(r), size), products=jnp.asarray(1, jnp.int32), alive=jnp.isfinite(rms(r)),
    )  # fmt: skip

    def unfinished(s: _Krylov) -> jax.Array:
        return ~(s.best <= tolerance) & (s.products + 1 < limit) & s.alive

    def advance(s: _Krylov) -> _Krylov:
        rho = dot(s.shadow, s.r)
        beta = divide(rho, s.rho) * divide(s.alpha, s.omega)
        p = s.r + beta * (s.p - s.omega * s.v)
        v = apply(p)
        alpha = divide(rho, dot(s.shadow, v))
        half = s.r - alpha * v
        t = apply(half)
        omega = divide(dot(t, half), dot(t, t))
        x = s.x + alpha * p + omega * half
        r = half - omega * t
        residual = relative(rms(r), size)
        better = residual < s.best
        return _Krylov(
            x=x, r=r, shadow=s.shadow, p=p, v=v, rho=rho, alpha=alpha, omega=omega,
            best_x=jnp.where(better, x, s.best_x), best=jnp.where(better, residual, s.best), products=s.products + 2,
            # omega = 0 or rho = 0 is a breakdown: no later step would change x.
            alive=jnp.isfinite(residual) & (omega != 0) & (rho != 0),
        )  # fmt: skip

    last = lax.while_loop(unfinished, advance, alongside(first, r))
    return last.best_x, last.products


def unrolled(f: Map, steps: int, theta: Any, z0: Any) -> Any:
    """Apply z <- f(theta, z) `steps` times in a scan, to be differentiated through every one of them.

    The oracle of the implicit gradient, and the method it is compared with: its memory grows with the steps.

    Args:
        f, theta, z0: as `fixed_point`.
        steps: how many applications.

    Returns:
        The last z; its gradient in `theta` (and in `z0`) is that of the path.
    """
    z, _ = lax.scan(lambda z, _: (f(theta, z), None), z0, None, length=steps)
    return z
