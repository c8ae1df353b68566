"""A trace reports a solve correctly: thousands of small maps, each solution checked in double precision."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dequnmix_jax.mixing import project_simplex
from dequnmix_jax.solvers.config import Anderson, Broyden, JaxoptAnderson, Picard, Solver
from dequnmix_jax.solvers.forward import solve

METHODS = (Anderson(), Picard(), Broyden(), JaxoptAnderson())


def word(method):
    return method.word


SIZE = 6
EPS = float(np.finfo(np.float32).eps)
ROUNDING = 32
"""Tolerated error of a residual, in float32 roundings of the terms that an application of the map adds up."""

TINY = 100 * float(np.finfo(np.float32).tiny)
"""Below this a state counts as zero: processors round differences of such numbers to zero."""


class Problem(NamedTuple):
    """A small map.

    Attributes:
        kind: () int32, which of `KINDS`.
        rate: ().
        W: (SIZE, SIZE), of spectral norm one.
        Q: (SIZE, SIZE), orthogonal.
        N: (SIZE, SIZE), nilpotent, of entries up to tens: contracted in no usual norm.
        b: (SIZE,).
    """

    kind: jax.Array
    rate: jax.Array
    W: jax.Array
    Q: jax.Array
    N: jax.Array
    b: jax.Array


def times(W, z):
    return jnp.matmul(W, z, precision="highest")


def linear(factor, W, z, b):
    """Return factor W z + b, and the size of its terms."""
    return factor * times(W, z) + b, jnp.abs(factor) * times(jnp.abs(W), jnp.abs(z)) + jnp.abs(b)


def bent(by, steepness, summed):
    """Return a function of no slope above `steepness` of a sum, and its rounding."""
    value, terms = summed
    return by(value), steepness * terms + jnp.abs(by(value))


def descended(p, z):
    """A gradient step on least squares, of 2 rate / L: it diverges without a constraint where the rate is above one."""
    inner = times(jnp.abs(p.W.T), times(jnp.abs(p.W), jnp.abs(z))) + jnp.abs(p.b)
    return z - 2 * p.rate * (times(p.W.T, times(p.W, z)) - p.b), jnp.abs(z) + 2 * p.rate * inner


def beside(p, z):
    by = jnp.minimum(p.rate, 0.9)
    value, terms = linear(1.0, p.N, z, p.b)
    return by * z + value, by * jnp.abs(z) + terms


def square(p, z):
    shift = jnp.where(p.rate > 1, p.b, 0)
    return p.rate * z * z + shift, p.rate * z * z + jnp.abs(shift)


def logistic(p, z):
    by = 2.5 + jnp.minimum(p.rate, 1.5)
    return by * z * (1 - z), by * jnp.abs(z) * (1 + jnp.abs(z))


def drift(p, z):
    step = p.rate * (1 + jnp.abs(p.b))
    return z + step, jnp.abs(z) + step


def sine(p, z):
    return z + 3 * p.rate * jnp.sin(z + p.b), jnp.abs(z) + 3 * p.rate * (1 + jnp.abs(z) + jnp.abs(p.b))


KINDS = {  # each gives the image, and the size of what it adds up: its rounding is in units of that
    "linear contraction": lambda p, z: linear(jnp.minimum(p.rate, 0.999), p.W, z, p.b),
    "linear expansion": lambda p, z: linear(1 + p.rate, p.W, z, p.b),
    "rotation": lambda p, z: linear(p.rate, p.Q, z, p.b),
    "not normal": beside,
    "relu": lambda p, z: bent(jax.nn.relu, 1, linear(2 * p.rate, p.W, z, p.b)),
    "softplus": lambda p, z: bent(jax.nn.softplus, 1, linear(3 * p.rate, p.W, z, p.b)),
    "square": square,
    "saturation": lambda p, z: bent(jnp.tanh, 1, linear(3 * p.rate, p.Q, z, p.b)),
    "logistic": logistic,
    "simplex": lambda p, z: bent(project_simplex, SIZE, descended(p, z)),
    "cone": lambda p, z: bent(jax.nn.relu, 1, descended(p, z)),
    "growth": lambda p, z: (4 * (p.rate - 1) * z, 4 * jnp.abs((p.rate - 1) * z)),
    "drift": drift,
    "sine": sine,
}


def measured(p, z):
    """Apply the map of `p.kind`; also return the size of its terms."""
    return jax.lax.switch(p.kind, list(KINDS.values()), p, z)


def apply(p, z):
    return measured(p, z)[0]


def problems(count, seed):
    """Draw problems of all kinds, their starts and tolerances, in float32."""
    rng = np.random.default_rng(seed)
    W = rng.normal(size=(count, SIZE, SIZE))
    Q = np.linalg.qr(W)[0]
    W = W / np.linalg.norm(W, 2, axis=(1, 2), keepdims=True)
    N = np.triu(rng.normal(size=(count, SIZE, SIZE)), 1) * rng.choice([1.0, 10.0], (count, 1, 1))
    kind = np.arange(count) % len(KINDS)
    unit = 10.0 ** rng.choice([0, 0, 0, -12, 12], (count, 1))
    b = rng.normal(size=(count, SIZE)) * np.where(np.isin(kind, (0, 1, 2, 3)), unit[:, 0], 1)[:, None]
    start = rng.choice([0.0, 0.1, 1.0, 1e4], (count, 1)) * rng.normal(size=(count, SIZE))
    drawn = Problem(kind.astype(np.int32), rng.uniform(0, 2, count), W, Q, N, b)
    tolerance = 10.0 ** -rng.integers(2, 8, count)

    def narrow(x):
        return jnp.asarray(x, jnp.int32 if x.dtype == np.int32 else jnp.float32)

    return jax.tree.map(narrow, (drawn, start, tolerance))


def lies(method, count, seed):
    """Return which traces claim convergence wrongly, and which give a wrong residual.

    NaN as the residual says that nothing is known, and is right of anything that is not converged.
    """
    drawn, start, tolerance = problems(count, seed)
    solver = Solver(method, max_steps=150)
    run = jax.jit(jax.vmap(lambda p, z, goal: solve(apply, solver, p, z, goal)))
    z, trace = jax.tree.map(np.asarray, run(drawn, start, tolerance))
    vanished = np.abs(z).max(axis=1) < TINY  # near the smallest number, whose squares' scale has few digits left
    z = np.where(np.abs(z) < TINY, 0, z)

    def wide(x):
        held = np.asarray(x)
        return held.astype(np.float64) if held.dtype == np.float32 else held

    with jax.enable_x64(True):
        image, size = jax.tree.map(np.asarray, jax.vmap(measured)(jax.tree.map(wide, drawn), wide(z)))

    def mean_size(x):  # in double precision squares stay in range here
        return np.sqrt((np.square(x)).mean(axis=1))

    with np.errstate(all="ignore"):
        residual, extent = mean_size(image - wide(z)), mean_size(image)
        true = np.where(residual == 0, 0, residual / extent)
        terms = mean_size(size)
        slack = ROUNDING * EPS * np.where(terms == 0, 0, terms / extent)
        said = wide(trace.residual)
        wrong = np.isfinite(said) & ~(np.abs(true - said) <= 1e-3 * said + slack)
        wrong &= ~vanished | trace.converged
    goal = np.asarray(tolerance)
    assert (trace.converged == (trace.residual <= goal)).all()
    false = trace.converged & ~(true <= 1.001 * wide(goal) + slack)
    return false, wrong, trace.converged, np.asarray(drawn.kind)


def named(marks, kinds):
    """Count the marks of each kind of map."""
    return {name: int(marks[kinds == k].sum()) for k, name in enumerate(KINDS) if marks[kinds == k].any()}


@pytest.mark.parametrize("method", METHODS, ids=word)
def test_what_a_trace_says_is_true(method):
    false, wrong, converged, kinds = lies(method, 1400, 1)
    assert not false.any(), named(false, kinds)
    assert not wrong.any(), named(wrong, kinds)
    # The law is not kept by saying no: contractions are solved, by these walkers in 150 steps.
    assert converged.mean() > 0.3 and converged[kinds == 0].mean() > 0.6


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [*METHODS, *(kind(damping=0.7) for kind in (Anderson, Picard, JaxoptAnderson)), Anderson(memory=2, restart=0),
     Broyden(memory=2), JaxoptAnderson(memory=2)],
    ids=repr,
)  # fmt: skip
def test_what_ten_thousand_traces_say_is_true(method):
    false, wrong, _, kinds = lies(method, 10_000, 0)
    assert not false.any(), named(false, kinds)
    assert not wrong.any(), named(wrong, kinds)


@pytest.mark.parametrize("method", METHODS, ids=word)
def test_no_diverging_solve_says_that_it_converged(method):
    """2 z, 1.5 z + 1, -3 z and z^2, from 2."""

    def f(theta, z):
        return theta[0] * z * z + theta[1] * z + theta[2]

    theta = jnp.asarray([[0.0, 2.0, 0.0], [0.0, 1.5, 1.0], [0.0, -3.0, 0.0], [1.0, 0.0, 0.0]])
    z, trace = jax.vmap(lambda t: solve(f, Solver(method, max_steps=200), t, jnp.full(4, 2.0)))(theta)
    z, theta = np.asarray(z, np.float64), np.asarray(theta, np.float64)
    left = np.stack([f(*pair) for pair in zip(theta, z, strict=True)]) - z
    at_rest = (np.abs(left).max(1) <= 1e-3 * np.abs(z).max(1)) | (np.abs(z).max(1) < TINY)
    assert (at_rest | ~np.asarray(trace.converged)).all()
    assert np.asarray(trace.converged)[1] == at_rest[1] and (
        method != Picard() or not np.asarray(trace.converged).any()
    )


def test_a_state_that_explodes_is_not_alive():
    """From 1e10 on the constant one is below rounding: z + 1 == z, a residual of zero."""
    z, trace = solve(lambda theta, z: theta * z + 1, Solver(Picard(), 1e-6, 200), jnp.float32(10.0), jnp.ones(3))
    assert not bool(trace.converged) and int(trace.steps) < 12 and float(jnp.max(z)) < 1e9
    z, trace = solve(lambda theta, z: z + jnp.minimum(theta * z, 1e10), Solver(tolerance=1e-3, max_steps=200),
                     jnp.float32(9.0), jnp.ones(3))  # fmt: skip
    assert not bool(trace.converged) and float(jnp.max(z)) < 1e9
