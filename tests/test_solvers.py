"""Solvers: they find the fixed point, say truly how it went, and do not depend on the size of the state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dequnmix_jax.checks import InputError
from dequnmix_jax.config import Solver
from dequnmix_jax.solvers import solve

METHODS = ("anderson", "picard", "broyden", "jaxopt_anderson")


def affine(theta, z):
    """Contract with rate 0.9 at most, entry by entry."""
    rate, shift = theta
    return rate * z + shift


def problem(size=200, rate=0.9, key=0):
    rates = jnp.linspace(-rate, rate, size)
    shift = jax.random.normal(jax.random.key(key), (size,))
    return (rates, shift), shift / (1 - rates)


@pytest.mark.parametrize("method", METHODS)
def test_finds_the_fixed_point_and_reports_the_residual_it_has(method):
    # jaxopt's Broyden turns to NaN on the stiffer problem (and the wall then reports failure).
    theta, truth = problem(rate=0.5 if method == "broyden" else 0.9)
    tolerance = 1e-4 if method == "broyden" else 1e-5
    solver = Solver(method=method, tolerance=tolerance, max_steps=300, memory=5)
    z, trace = solve(affine, solver, theta, jnp.zeros(200))
    assert bool(trace.converged)
    assert 1 < int(trace.steps) < 300
    np.testing.assert_allclose(z, truth, atol=400 * tolerance)
    left = float(jnp.sqrt(jnp.mean((affine(theta, z) - z) ** 2) / jnp.mean(z**2)))
    assert left <= 1.01 * float(trace.residual) <= 1.01 * tolerance


def test_anderson_needs_far_fewer_steps_than_plain_iteration_on_a_stiff_map():
    theta, _ = problem(rate=0.99)
    steps = {m: int(solve(affine, Solver(m, 1e-4, 2000), theta, jnp.zeros(200))[1].steps) for m in METHODS[:2]}
    assert steps["anderson"] < steps["picard"] / 3


@pytest.mark.parametrize("method", METHODS)
def test_steps_do_not_depend_on_the_size_of_the_state(method):
    steps = []
    for copies in (1, 64):
        (rate, shift), _ = problem(100, 0.8)
        theta = (jnp.tile(rate, copies), jnp.tile(shift, copies))
        _, trace = solve(affine, Solver(method, 1e-4), theta, jnp.zeros(100 * copies))
        steps.append(int(trace.steps))
    assert abs(steps[0] - steps[1]) <= 1


@pytest.mark.parametrize("method", METHODS)
def test_nan_is_never_a_success_and_ends_at_once(method):
    (rate, shift), _ = problem()
    _z, trace = solve(affine, Solver(method), (rate, shift.at[3].set(jnp.nan)), jnp.zeros(200))
    assert not bool(trace.converged)
    assert int(trace.steps) <= 3 or method in ("broyden", "jaxopt_anderson")


def test_a_diverging_map_returns_its_best_iterate():
    def away(theta, z):
        return z + theta * z**2 + 2.0  # no fixed point: the residual is 2 at the least

    z, trace = solve(away, Solver(max_steps=40), jnp.float32(5.0), jnp.linspace(0.1, 1.0, 10))
    assert not bool(trace.converged)
    assert np.isfinite(np.asarray(z)).all()
    first = solve(away, Solver(max_steps=1), jnp.float32(5.0), jnp.linspace(0.1, 1.0, 10))[1]
    assert float(trace.residual) <= float(first.residual)


def test_safeguard_recovers_where_plain_anderson_would_jump():
    def kinked(theta, z):
        return jnp.clip(0.5 * z + theta, 0.0, 1.0) + 0.45 * jnp.sin(z)

    _z, trace = solve(kinked, Solver(tolerance=1e-5, max_steps=100), jnp.linspace(-3.0, 3.0, 50), jnp.full(50, 9.0))
    assert bool(trace.converged)


def test_damping_makes_an_oscillating_map_converge():
    def flip(theta, z):
        return theta - 1.2 * z

    args = (jnp.float32(1.0), jnp.zeros(4))
    assert not bool(solve(flip, Solver("picard", 1e-5, 100), *args)[1].converged)
    z, trace = solve(flip, Solver("picard", 1e-5, 100, damping=0.5), *args)
    assert bool(trace.converged)
    np.testing.assert_allclose(z, 1 / 2.2, rtol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_any_pytree_is_a_state(method):
    def coupled(theta, z):
        return {"a": 0.3 * z["b"].sum() + theta + 0 * z["a"], "b": 0.2 * z["b"] + z["a"][:, None]}

    start = {"a": jnp.zeros(2), "b": jnp.zeros((2, 1))}
    z, trace = solve(coupled, Solver(method, 1e-5), jnp.float32(1.0), start)
    assert bool(trace.converged)
    np.testing.assert_allclose(z["b"][:, 0], z["a"] / 0.8, rtol=1e-3)


def test_one_bad_lane_of_a_batch_leaves_the_others_as_they_were():
    shifts = jax.random.normal(jax.random.key(1), (8, 30))
    shifts = shifts.at[5, 0].set(jnp.nan)
    rates = jnp.linspace(0.1, 0.95, 8)[:, None] * jnp.ones((1, 30)) * jnp.linspace(0.5, 1.0, 30)[None]

    def lane(rate, shift):
        return solve(affine, Solver(tolerance=1e-5), (rate, shift), jnp.zeros(30))

    z, trace = jax.jit(jax.vmap(lane))(rates, shifts)
    assert np.asarray(trace.converged).tolist() == [True] * 5 + [False] + [True] * 2
    for i in (0, 7):
        alone, alone_trace = lane(rates[i], shifts[i])
        assert int(trace.steps[i]) == int(alone_trace.steps)
        np.testing.assert_allclose(z[i], alone, rtol=1e-4, atol=1e-4)


def test_float32_states_are_walked_under_x64(x64):
    theta, _ = problem(rate=0.5)
    theta = jax.tree.map(lambda x: x.astype(jnp.float32), theta)
    for method in METHODS:
        z, trace = solve(affine, Solver(method, 1e-3), theta, jnp.zeros(200, jnp.float32))
        assert z.dtype == jnp.float32
        assert bool(trace.converged)


def test_a_zero_solution_converges():
    _z, trace = solve(affine, Solver(), (jnp.full(5, 0.5), jnp.zeros(5)), jnp.zeros(5))
    assert bool(trace.converged)
    assert float(trace.residual) == 0.0


def test_a_misspelt_choice_is_refused():
    with pytest.raises(InputError, match=r"method is 'andersen'; expected one of 'anderson'"):
        Solver(method="andersen")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"max_steps is 0"):
        Solver(max_steps=0)
