"""What the nonnegative factorisations share: settings, checks, the first abundances, and the descent itself."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dequnmix_jax.checks import Array, InputError, check_count, check_cube, check_key, check_kind, concrete
from dequnmix_jax.classical import check_problem, fcls
from dequnmix_jax.endmembers import vca
from dequnmix_jax.mixing import wide
from dequnmix_jax.records import Descent

_UNIFORM = 0.01
"""Share of equal abundances mixed into the first ones before multiplicative steps, in which a zero stays a zero."""

EXTRAPOLATE, _FARTHER, _NEARER = 0.5, 1.05, 1.5
"""The first extrapolation, how it grows after a step that was taken and shrinks after one that was not, near the values
of Ang and Gillis, Accelerating nonnegative matrix factorization algorithms using extrapolation, Neural Computation
31(2), 2019."""


@dataclass(frozen=True)
class Factoring:
    """How a factorisation runs; static under jit.

    Attributes:
        tolerance: on the relative change of endmembers and of abundances in one step, the larger of the two.
        max_steps: steps at most.
        sum_weight: delta, weight of the row of ones beside spectra of maximum one. 15 in the program of the authors of
            SGSNMF, 20 in that of MVC-NMF.
        inner: multiplicative steps on the abundances for one on the endmembers; they cost less than their products with
            the cube.
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
    """What is given: Y (N, B) divided by `unit` (), valid (N,), and the square of the weight of sums (N, 1)."""

    Y: jax.Array
    unit: jax.Array
    valid: jax.Array
    sums: jax.Array


Found = tuple[jax.Array, jax.Array, Descent]


def check(
    key: Array | None,
    cube: Array,
    endmembers: Array | None,
    count: int | None,
    weight: Array | float,
    mask: Array | None,
    solver: Factoring,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Check the inputs and return the cube, the mask and the first endmembers, none of which carries a derivative."""
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
                f"count is {count} and {np.shape(endmembers)[0]} endmembers are given; expected the same number, or "
                "one of the two."
            )
        check_problem(cube, endmembers, mask)
        E = wide(endmembers)
    Y, E = lax.stop_gradient((wide(cube), E))  # a while loop has no reverse; a local minimum, no one derivative
    return Y, jnp.ones(Y.shape[:2], jnp.bool_) if mask is None else jnp.asarray(mask), E.astype(Y.dtype)


def prepare(cube: jax.Array, mask: jax.Array, E: jax.Array, solver: Factoring) -> tuple[Problem, jax.Array]:
    """Return the problem and its first endmembers, both for spectra of maximum one."""
    valid = mask.reshape(-1)
    Y = jnp.where(valid[:, None], cube.reshape(-1, cube.shape[2]), 0)
    E = jnp.maximum(E, 0)
    top = jnp.max(E)
    unit = jnp.where(top > 0, top, 1)
    sums = jnp.where(valid, solver.sum_weight**2, 0.0).astype(Y.dtype)[:, None]
    return Problem(Y / unit, unit, valid, sums), E / unit


def first_abundances(problem: Problem, E: jax.Array) -> jax.Array:
    """Return FCLS abundances with a little of every endmember, (N, R)."""
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
) -> Found:
    """Repeat (E, A) -> (E, A, objective) until neither changes, and return the answer in the units of the cube.

    With `extrapolate` > 0 a step starts from z + far (z - z of the step before), and is dropped where the objective
    rises; the next one is then plain.
    """

    def change(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.sqrt(jnp.sum(jnp.square(new - old)) / jnp.sum(jnp.square(new)))

    def going(carry: tuple) -> jax.Array:
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
    # Made from the data, so that under vmap and shard_map the carry varies as they do.
    zero = objective * 0
    start = ((E, A), (E, A), (zero, zero + extrapolate), history, jnp.int32(0), zero + jnp.inf)
    (E, A), _, _, history, steps, residual = lax.while_loop(going, body, start)
    history = jnp.where(jnp.arange(history.size, dtype=jnp.int32) > steps, history[steps], history)
    converged = residual <= solver.tolerance
    return E * problem.unit, A.reshape(*shape, -1), Descent(steps, residual, converged, history)
