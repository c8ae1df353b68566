"""Shared parts of the nonnegative factorisations: settings, checks, initial abundances, and the descent."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dequnmix_jax.abundances.least_squares import check_problem, fcls
from dequnmix_jax.checks import Array, InputError, check_count, check_cube, check_key, check_kind, concrete, how_many
from dequnmix_jax.endmembers.pure_pixel import vca
from dequnmix_jax.mixing import wide
from dequnmix_jax.ops import lapack
from dequnmix_jax.ops.guards import positive
from dequnmix_jax.types import Descent

_BISECTIONS = 40
"""Bisection steps for one number: float32 has 24 binary digits, and the bracket may be wider than the root."""


class Volume(NamedTuple):
    """The prior weight / 2 det(Z)^2 on the simplex of the endmembers, row r of Z being (1, (e_r - mean) axes / unit).

    Attributes:
        weight: (), >= 0.
        mean: (B,), of the pixels.
        axes: (B, R - 1), their principal axes, divided by a unit of length.
    """

    weight: jax.Array
    mean: jax.Array
    axes: jax.Array


def coordinates(E: jax.Array, volume: Volume) -> jax.Array:
    """Return Z, (R, R)."""
    inside = jnp.matmul(E - volume.mean[None, :], volume.axes, precision="highest")
    return jnp.concatenate([jnp.ones_like(E[:, :1]), inside], axis=1)


def size(E: jax.Array, volume: Volume) -> jax.Array:
    """Return weight / 2 det(Z)^2."""
    return 0.5 * volume.weight * jnp.square(lapack.determinant(coordinates(E, volume)))


def endmember_sweep(E: jax.Array, A: jax.Array, Y: jax.Array, volume: Volume | None) -> jax.Array:
    r"""Minimise |Y - A E|^2 / 2 + weight / 2 det(Z)^2 over e_r >= 0, exactly, one endmember after the other.

    The determinant is affine in each endmember, det(Z) = c + v . e, so that the objective is quadratic in e,

        g |e|^2 / 2 - b . e + weight (c + v . e)^2 / 2,

    with the minimum e = max(0, (b - weight t v) / g), where t is the root of t = c + v . e(t), which lies between zero
    and the determinant without the prior. Without the prior this is hierarchical least squares.

    Args:
        E: (R, B), >= 0.
        A: (N, R).
        Y: (N, B); Y and A are 0 in masked pixels.
        volume: the prior, or None.

    Returns:
        (R, B), >= 0. An endmember with zero abundance everywhere is unchanged.

    Reference:
        Cichocki, Zdunek and Amari, Hierarchical ALS algorithms for nonnegative matrix and 3D tensor factorization, ICA
        2007 (the case without prior).
    """
    G = jnp.matmul(A.T, A, precision="highest")
    F = jnp.matmul(A.T, Y, precision="highest")

    def one(E: jax.Array, r: jax.Array) -> tuple[jax.Array, None]:
        g = G[r, r]
        safe = positive(g)
        b = F[r] - jnp.matmul(G[r], E, precision="highest") + g * E[r]
        e = jnp.maximum(b / safe, 0)
        if volume is not None:
            row = _cofactors(coordinates(E, volume), r)
            v = jnp.matmul(volume.axes, row[1:], precision="highest")
            e = _pulled(b, safe, row[0] - jnp.sum(v * volume.mean), v, volume.weight, e)
        return E.at[r].set(jnp.where(g > 0, e, E[r])), None

    return lax.scan(one, E, jnp.arange(E.shape[0]))[0]


def _pulled(b: jax.Array, g: jax.Array, c: jax.Array, v: jax.Array, weight: jax.Array, free: jax.Array) -> jax.Array:
    """Return argmin over e >= 0 of g |e|^2 / 2 - b . e + weight (c + v . e)^2 / 2; `free`: for weight 0."""

    def at(t: jax.Array) -> jax.Array:
        return jnp.maximum((b - weight * t * v) / g, 0)

    end = c + jnp.sum(v * free)

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends  # t - c - v . e(t) has the sign of -end at low and that of end at high
        t = 0.5 * (low + high)
        beyond = (t - c - jnp.sum(v * at(t))) * end >= 0
        return jnp.where(beyond, low, t), jnp.where(beyond, t, high)

    low, high = lax.fori_loop(0, _BISECTIONS, halve, (jnp.zeros_like(end), end))
    return at(0.5 * (low + high))


def _cofactors(Z: jax.Array, r: jax.Array) -> jax.Array:
    """Return the cofactors of row r of a square matrix, up to one sign for all; defined for singular matrices too.

    By the singular values: adj(Z) = det(U) det(V) V diag(products of all others) U^T.
    """
    U, s, Vt = lapack.svd(Z)
    others = jnp.where(jnp.eye(s.size, dtype=jnp.bool_), 1, s[None, :])
    return jnp.matmul(Vt.T, jnp.prod(others, axis=1) * U[r], precision="highest")


def multiplicative(
    A: jax.Array, E: jax.Array, Y: jax.Array, sums: jax.Array, slope: Callable[[jax.Array], jax.Array], steps: int
) -> jax.Array:
    r"""Lower |Y - A E|^2 / 2 + sum over pixels of d (1 - sum_r a_r)^2 / 2 + h(A) by multiplicative steps.

    a <- a max(0, y E^T + d) / (a E E^T + d sum a + h'(a)). A step lowers the objective if a paraboloid k a^2 / 2 with
    k = h'(a) / a touches h from above: it then minimises a majorant of the objective. This holds for sqrt(a) and for
    lengths |W a|.

    Args:
        A: (N, R), >= 0; zeros stay zero.
        E: (R, B), >= 0.
        Y: (N, B).
        sums: (N, 1), d, the square of the weight of the row of ones; 0 in masked pixels.
        slope: h'(a), (N, R) -> (N, R), finite and >= 0.
        steps: static number of steps; each costs R^2 operations per pixel, the products before them R B.

    Reference:
        Lee and Seung, Algorithms for non-negative matrix factorization, NIPS 2000; Gillis and Glineur, Accelerated
        multiplicative updates, Neural Computation 24(4), 2012 (several steps for one product).
    """
    rise = jnp.maximum(jnp.matmul(Y, E.T, precision="highest") + sums, 0)
    H = jnp.matmul(E, E.T, precision="highest")
    least = jnp.finfo(A.dtype).tiny

    def step(_: int, A: jax.Array) -> jax.Array:
        fall = jnp.matmul(A, H, precision="highest") + sums * jnp.sum(A, axis=1, keepdims=True) + slope(A)
        return A * (rise / jnp.maximum(fall, least))

    return lax.fori_loop(0, steps, step, A)


_UNIFORM = 0.01
"""Share of equal abundances in the initial ones, because zeros stay zero in multiplicative steps."""

EXTRAPOLATE, _FARTHER, _NEARER = 0.5, 1.05, 1.5
"""The first extrapolation, its growth after an accepted step and its decrease after a rejected one, near the values of
Ang and Gillis, Accelerating nonnegative matrix factorization algorithms using extrapolation, Neural Computation
31(2), 2019."""


@dataclass(frozen=True)
class Factoring:
    """Settings of a factorisation; static under jit.

    Attributes:
        tolerance: on the relative change of endmembers and of abundances in one step, the larger of the two.
        max_steps: maximum number of steps.
        sum_weight: delta, weight of the row of ones relative to spectra of maximum one. 15 in the SGSNMF authors'
            program, 20 in that of MVC-NMF.
        inner: multiplicative steps on the abundances for each one on the endmembers; they cost less than their products
            with the cube.
    """

    tolerance: float = 1e-4
    max_steps: int = 1000
    sum_weight: float = 15.0
    inner: int = 10

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not (self.tolerance >= 0 and self.max_steps >= 1 and 0 < self.sum_weight < np.inf and self.inner >= 1):
            raise InputError(
                f"{self} cannot run; expected tolerance >= 0, max_steps >= 1, sum_weight > 0 and inner >= 1."
            )


class Problem(NamedTuple):
    """The data: Y (N, B) divided by `unit` (), valid (N,), and the squared weight of sums (N, 1)."""

    Y: jax.Array
    unit: jax.Array
    valid: jax.Array
    sums: jax.Array


Factors = tuple[jax.Array, jax.Array, Descent]


def check(
    key: Array | None,
    cube: Array,
    endmembers: Array | None,
    count: int | None,
    weight: Array | float,
    mask: Array | None,
    solver: Factoring,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Check the inputs and return the cube, the mask and the initial endmembers, without derivatives."""
    check_kind(solver, Factoring, "solver")
    check_cube(cube)
    if np.ndim(weight) != 0 or (concrete(weight) and not 0 <= float(np.asarray(weight)) < np.inf):
        raise InputError(f"weight is {weight}; expected one finite number, not negative.")
    if endmembers is None:
        if key is None or count is None:
            raise InputError("Neither endmembers nor key and count are given; expected spectra to start from, or both.")
        check_key(key)
        check_count(count, cube, mask)
        E = vca(key, cube, count, mask=mask)
    else:
        if count is not None and count != np.shape(endmembers)[0]:
            raise InputError(
                f"count is {count} and {how_many(np.shape(endmembers)[0], 'endmember')} are given; expected the same "
                "number, or one of the two."
            )
        check_problem(cube, endmembers, mask)
        E = wide(endmembers)
    Y, E = lax.stop_gradient((wide(cube), E))  # a while loop has no reverse mode
    return Y, jnp.ones(Y.shape[:2], jnp.bool_) if mask is None else jnp.asarray(mask), E.astype(Y.dtype)


def prepare(cube: jax.Array, mask: jax.Array, E: jax.Array, solver: Factoring) -> tuple[Problem, jax.Array]:
    """Return the problem and its initial endmembers, both for spectra of maximum one."""
    valid = mask.reshape(-1)
    Y = jnp.where(valid[:, None], cube.reshape(-1, cube.shape[2]), 0)
    E = jnp.maximum(E, 0)
    top = jnp.max(E)
    unit = positive(top)
    sums = jnp.where(valid, solver.sum_weight**2, 0.0).astype(Y.dtype)[:, None]
    return Problem(Y / unit, unit, valid, sums), E / unit


def first_abundances(problem: Problem, E: jax.Array) -> jax.Array:
    """Return FCLS abundances (N, R), with a small share of every endmember."""
    A = fcls(problem.Y[None], E)[0]
    mixed = (1 - _UNIFORM) * A + _UNIFORM / E.shape[0]
    return jnp.where(problem.valid[:, None], mixed, 0)


def misfit(problem: Problem, E: jax.Array, A: jax.Array) -> jax.Array:
    """Return |Y - A E|^2 / 2 + delta^2 |1 - A 1|^2 / 2."""
    rest = problem.Y - jnp.matmul(A, E, precision="highest")
    missing = problem.sums * jnp.square(1 - jnp.sum(A, axis=1, keepdims=True))
    return 0.5 * (jnp.sum(rest * rest) + jnp.sum(missing))


Step = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array, jax.Array]]


def descend(
    step: Step,
    E: jax.Array,
    A: jax.Array,
    objective: jax.Array,
    problem: Problem,
    shape: tuple[int, ...],
    solver: Factoring,
    extrapolate: float = 0.0,
) -> Factors:
    """Repeat (E, A) -> (E, A, objective) until neither changes, and return the result in the units of the cube.

    With `extrapolate` > 0 a step starts from z + far (z - z of the step before) and is rejected if the objective rises;
    the next one is then plain.
    """

    def change(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.sqrt(jnp.sum(jnp.square(new - old)) / jnp.sum(jnp.square(new)))

    def unfinished(carry: tuple) -> jax.Array:
        number, residual = carry[4], carry[5]
        return (number < solver.max_steps) & ~(residual <= solver.tolerance) & ~jnp.isnan(residual)

    def body(carry: tuple) -> tuple:
        now, before, ahead, history, number, _ = carry
        far, goal = ahead
        new_E, new_A, value = step(*(jnp.maximum(z + far * (z - old), 0) for z, old in zip(now, before, strict=True)))
        taken = (far == 0) | (value <= history[number])
        residual = jnp.maximum(change(new_E, now[0]), change(new_A, now[1]))
        residual = jnp.where(taken, residual, jnp.inf)
        new = tuple(jnp.where(taken, z, old) for z, old in zip((new_E, new_A), now, strict=True))
        goal = jnp.where(taken, jnp.minimum(goal * _FARTHER, 1), goal / _NEARER)
        history = history.at[number + 1].set(jnp.where(taken, value, history[number]))
        return new, now, (jnp.where(taken, goal, 0), goal), history, number + 1, residual

    history = jnp.zeros(solver.max_steps + 1, E.dtype).at[0].set(objective)
    # Derived from the data, so that under vmap and shard_map the carry varies as they do.
    zero = objective * 0
    start = ((E, A), (E, A), (zero, zero + extrapolate), history, jnp.int32(0), zero + jnp.inf)
    (E, A), _, _, history, steps, residual = lax.while_loop(unfinished, body, start)
    history = jnp.where(jnp.arange(history.size, dtype=jnp.int32) > steps, history[steps], history)
    converged = residual <= solver.tolerance
    return E * problem.unit, A.reshape(*shape, -1), Descent(steps, residual, converged, history)
