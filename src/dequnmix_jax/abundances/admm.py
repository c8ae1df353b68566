"""The alternating direction method for abundances with priors, differentiated at its fixed point.

X minimises the data term; a copy U takes sparsity and signs; for total variation a further copy W is a map on the image
and V holds its differences. Only E E^T and Y E^T are used; with the eigenvectors of the former a change of the penalty
parameter costs nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dequnmix_jax.checks import InputError
from dequnmix_jax.ops import lapack
from dequnmix_jax.ops.guards import nonzero
from dequnmix_jax.solvers.config import Adjoint
from dequnmix_jax.solvers.implicit import adjoint_trace
from dequnmix_jax.types import Trace

_BALANCE, _FACTOR, _EVERY = 10.0, 2.0, 10
"""The penalty changes by the factor when one residual is that much larger than the other (Boyd et al. 2011, 3.4.1),
once in so many steps and in the first half of them only: with a fixed penalty sparse and collaborative unmixing
converge. Total variation couples its copies in a chain, for which we know no proof; it converged in every test."""

_FLOOR = 1e-3
"""Smallest scale of the dual residual, relative to |Y E^T|: the multipliers vanish if no constraint or prior is
active."""


@dataclass(frozen=True)
class Admm:
    """How the alternating direction method runs; static under jit.

    Attributes:
        tolerance: relative primal and dual residual at which it stops; for a gradient, relative residual of its linear
            system.
        max_steps: largest number of steps, and of products with the Jacobian for a gradient.
        penalty: first penalty parameter, in units of the mean squared length of an endmember.
    """

    tolerance: float = 1e-4
    max_steps: int = 1000
    penalty: float = 0.01

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not (self.tolerance >= 0 and self.max_steps >= 1 and self.penalty > 0):
            raise InputError(f"{self} cannot run; expected tolerance >= 0, max_steps >= 1 and penalty > 0.")


@dataclass(frozen=True)
class Prior:
    """The constraints and priors on X; static.

    Attributes:
        nonnegative: X >= 0.
        sum_to_one: X 1 = 1 in valid pixels.
        maps: weight times the sum over endmembers of the length of their map, in place of the sum of |X|.
        isotropic: the variation sums lengths of gradients, not absolute differences.
    """

    nonnegative: bool
    sum_to_one: bool
    maps: bool = False
    isotropic: bool = False


class Problem(NamedTuple):
    """The numbers of a problem, cube and endmembers in units in which an endmember has mean squared length one.

    Attributes:
        gram: E E^T, (R, R).
        target: Y E^T, (H, W, R), zero in masked pixels.
        valid: (H, W, 1) bool.
        weight: of the sum of |X| or of the lengths of the maps.
        variation: of the total variation, or None.
    """

    gram: jax.Array
    target: jax.Array
    valid: jax.Array
    weight: jax.Array
    variation: jax.Array | None


class _State(NamedTuple):
    """Copies U, W, V and their scaled multipliers; U alone without total variation."""

    copies: tuple[jax.Array, ...]
    duals: tuple[jax.Array, ...]


def _advance(
    prior: Prior, problem: Problem, solve: Callable[[jax.Array, jax.Array], jax.Array], mu: jax.Array, state: _State
) -> tuple[_State, jax.Array]:
    """Take one step with the penalty mu; `solve` is the data term's. Return the state and X."""
    (U, *spatial), duals = state
    count = mu * (1.0 if problem.variation is None else 2.0)
    pull = mu * (U + duals[0])
    if spatial:
        pull = pull + mu * (spatial[0] + duals[1])
    X = jnp.where(problem.valid, solve(problem.target + pull, count), pull / count)
    v = X - duals[0]
    by = problem.weight / mu
    if prior.maps:
        U = shrink_length(jax.nn.relu(v) if prior.nonnegative else v, by, axis=(0, 1))
    else:
        U = jax.nn.relu(v - by) if prior.nonnegative else shrink(v, by)
    if not spatial:
        return _State((U,), (duals[0] + U - X,)), X
    assert problem.variation is not None
    W = smooth(X - duals[1] + differences_adjoint(spatial[1] + duals[2]))
    D = differences(W)
    v, by = D - duals[2], problem.variation / mu
    V = shrink_length(v, by, axis=0) if prior.isotropic else shrink(v, by)
    return _State((U, W, V), (duals[0] + U - X, duals[1] + W - X, duals[2] + V - D)), X


def _length(*parts: jax.Array) -> jax.Array:
    return jnp.sqrt(sum((jnp.sum(part * part) for part in parts[1:]), jnp.sum(parts[0] * parts[0])))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def minimise(prior: Prior, solver: Admm, problem: Problem) -> tuple[jax.Array, Trace]:
    """Return U (H, W, R), which has exact signs and zeros, and the trace of the search.

    The gradient is that of the fixed point of one step (`implicit`): it keeps one step in memory, whatever the number
    of steps. `Trace.residual` is the larger of the relative primal and dual residuals, over the scene.
    """
    state, _, trace = _search(prior, solver, problem)
    return state.copies[0], trace


def _search(prior: Prior, solver: Admm, problem: Problem) -> tuple[_State, jax.Array, Trace]:
    """Return the last state, its penalty and the trace."""
    F = problem.target
    values, basis = lapack.eigh(problem.gram)
    size = _length(F)
    size = nonzero(size)

    def solve(target: jax.Array, weight: jax.Array) -> jax.Array:
        return data_step(basis, 1.0 / (values + weight), target, prior.sum_to_one)

    def step(carry: Any) -> Any:
        state, mu, steps, _ = carry
        new, X = _advance(prior, problem, solve, mu, state)
        scale = _length(X, *new.copies)
        primal = _length(*(a - b for a, b in zip(new.duals, state.duals, strict=True)))
        primal = primal / nonzero(scale)
        price = jnp.maximum(mu * _length(*new.duals), _FLOOR * size)
        dual = mu * _length(*(a - b for a, b in zip(new.copies, state.copies, strict=True))) / price
        turn = (steps % _EVERY == _EVERY - 1) & (steps < solver.max_steps // 2)
        up, down = turn & (primal > _BALANCE * dual), turn & (dual > _BALANCE * primal)
        change = jnp.where(up, _FACTOR, jnp.where(down, 1.0 / _FACTOR, 1.0))
        state = _State(new.copies, tuple(d / change for d in new.duals))
        return state, mu * change, steps + 1, jnp.maximum(primal, dual)

    zero = F * 0.0
    copies = (zero,) if problem.variation is None else (zero, zero, jnp.stack([zero, zero]))
    start = (_State(copies, copies), size * 0.0 + solver.penalty, jnp.int32(0), size * 0.0 + jnp.inf)
    go = lambda carry: (carry[3] > solver.tolerance) & (carry[2] < solver.max_steps)  # noqa: E731
    state, mu, steps, residual = lax.while_loop(go, step, start)
    return state, mu, Trace(steps, residual, residual <= solver.tolerance)


def _forward(prior: Prior, solver: Admm, problem: Problem) -> tuple[Any, Any]:
    state, mu, trace = _search(prior, solver, problem)
    return (state.copies[0], trace), (problem, state, mu)


def _backward(prior: Prior, solver: Admm, kept: Any, cotangent: Any) -> tuple[Problem]:
    problem, state, mu = kept

    def once(problem: Problem, state: _State) -> _State:
        def solve(target: jax.Array, weight: jax.Array) -> jax.Array:
            # Through the inverse, because eigenvectors have no derivative where eigenvalues meet.
            inverse = lapack.inverse(problem.gram + weight * jnp.eye(problem.gram.shape[0], dtype=problem.gram.dtype))
            return data_step(inverse, None, target, prior.sum_to_one)

        return _advance(prior, problem, solve, mu, state)[0]

    zeros = jax.tree.map(jnp.zeros_like, state)
    w = zeros._replace(copies=(cotangent[0], *zeros.copies[1:]))
    backward = Adjoint(max_steps=solver.max_steps)
    u, _ = adjoint_trace(once, backward, problem, state, w, solver.tolerance)
    return jax.vjp(lambda problem: once(problem, state), problem)[1](u)


minimise.defvjp(_forward, _backward)


def shrink(v: jax.Array, by: jax.Array | float) -> jax.Array:
    """Return the minimiser of by |x| + |x - v|^2 / 2 in each entry."""
    return jnp.sign(v) * jax.nn.relu(jnp.abs(v) - by)


def shrink_length(v: jax.Array, by: jax.Array, axis: int | tuple[int, ...]) -> jax.Array:
    """Return the minimiser of by |x|_2 + |x - v|^2 / 2, vectors along `axis`."""
    square = jnp.sum(v * v, axis=axis, keepdims=True)
    length = jnp.sqrt(nonzero(square))  # the derivative of the root at 0 is infinite
    return v * jnp.where(square == 0.0, 0.0, jax.nn.relu(length - by) / length)


def differences(x: jax.Array) -> jax.Array:
    """Return the differences to the pixel below and to the right, (2, H, W, R), of maps on a torus."""
    return jnp.stack([jnp.roll(x, -1, axis=axis) - x for axis in (0, 1)])


def differences_adjoint(v: jax.Array) -> jax.Array:
    """Return the adjoint of `differences`, (H, W, R)."""
    return sum((jnp.roll(v[axis], 1, axis=axis) - v[axis] for axis in (0, 1)), jnp.zeros_like(v[0]))


def smooth(b: jax.Array) -> jax.Array:
    """Solve (I + D^T D) x = b for maps (H, W, R) on a torus, D the differences, by the Fourier transform."""
    H, W = b.shape[:2]
    turn = lambda n: 2.0 - 2.0 * jnp.cos(2.0 * jnp.pi * jnp.arange(n, dtype=b.dtype) / n)  # noqa: E731
    spectrum = 1.0 + turn(H)[:, None] + turn(W)[None, : W // 2 + 1]
    waves = jnp.fft.rfft2(b, axes=(0, 1))
    return jnp.fft.irfft2(waves * (1.0 / spectrum)[..., None].astype(waves.dtype), s=(H, W), axes=(0, 1))


def data_step(basis: jax.Array, inverse: jax.Array | None, target: jax.Array, sum_to_one: bool) -> jax.Array:
    """Return M target in every pixel (..., R), with sum x = 1 if `sum_to_one`, for M = V diag(inverse) V^T.

    V = `basis` are eigenvectors; if `inverse` is None, `basis` is M itself.
    """

    def times(b: jax.Array) -> jax.Array:
        if inverse is None:
            return jnp.matmul(b, basis, precision="highest")
        turned = jnp.matmul(b, basis, precision="highest") * jnp.expand_dims(inverse, tuple(range(b.ndim - 1)))
        return jnp.matmul(turned, basis.T, precision="highest")

    x = times(target)
    if not sum_to_one:
        return x
    ones = times(jnp.ones_like(basis[0]))
    return x - ((jnp.sum(x, axis=-1, keepdims=True) - 1.0) / jnp.sum(ones)) * jnp.expand_dims(
        ones, tuple(range(x.ndim - 1))
    )
