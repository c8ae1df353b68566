"""Solvers find the fixed point, report convergence correctly, and do not depend on the scale of the state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dequnmix_jax.checks import InputError
from dequnmix_jax.solvers.anderson import STALL, relative, rms
from dequnmix_jax.solvers.config import Anderson, Broyden, JaxoptAnderson, Picard, Solver
from dequnmix_jax.solvers.forward import residuals, solve

METHODS = (Anderson(), Picard(), Broyden(), JaxoptAnderson())


def word(method):
    return method.word


def affine(theta, z):
    """Contract with rate 0.9 at most, entry by entry."""
    rate, shift = theta
    return rate * z + shift


def problem(size=200, rate=0.9, key=0):
    rates = jnp.linspace(-rate, rate, size)
    shift = jax.random.normal(jax.random.key(key), (size,))
    return (rates, shift), shift / (1 - rates)


@pytest.mark.parametrize("method", METHODS, ids=word)
def test_finds_the_fixed_point_and_reports_the_residual_it_has(method):
    # jaxopt's Broyden turns to NaN on the stiffer problem (and the wall then reports failure).
    theta, truth = problem(rate=0.5 if method == Broyden() else 0.9)
    tolerance = 1e-4 if method == Broyden() else 1e-5
    solver = Solver(method, tolerance, max_steps=300)
    z, trace = solve(affine, solver, theta, jnp.zeros(200))
    assert bool(trace.converged)
    assert 1 < int(trace.steps) < 300
    np.testing.assert_allclose(z, truth, atol=400 * tolerance)
    left = float(jnp.sqrt(jnp.mean((affine(theta, z) - z) ** 2) / jnp.mean(z**2)))
    assert left <= 1.01 * float(trace.residual) <= 1.01 * tolerance


def test_anderson_needs_far_fewer_steps_than_plain_iteration_on_a_stiff_map():
    theta, _ = problem(rate=0.99)
    steps = {m.word: int(solve(affine, Solver(m, 1e-4, 2000), theta, jnp.zeros(200))[1].steps) for m in METHODS[:2]}
    assert steps["anderson"] < steps["picard"] / 3


@pytest.mark.parametrize("method", METHODS, ids=word)
def test_steps_do_not_depend_on_the_size_of_the_state(method):
    steps = []
    for copies in (1, 64):
        (rate, shift), _ = problem(100, 0.8)
        theta = (jnp.tile(rate, copies), jnp.tile(shift, copies))
        _, trace = solve(affine, Solver(method, 1e-4), theta, jnp.zeros(100 * copies))
        steps.append(int(trace.steps))
    assert abs(steps[0] - steps[1]) <= 1


@pytest.mark.parametrize("method", METHODS, ids=word)
def test_nan_is_never_a_success_and_ends_at_once(method):
    (rate, shift), _ = problem()
    _z, trace = solve(affine, Solver(method), (rate, shift.at[3].set(jnp.nan)), jnp.zeros(200))
    assert not bool(trace.converged)
    assert int(trace.steps) <= 3 or isinstance(method, Broyden | JaxoptAnderson)


@pytest.mark.parametrize("method", [Anderson(), Picard()], ids=word)
def test_the_answer_is_an_image_though_the_first_state_is_near_enough(method):
    """The first state need not lie in the set that the map leads to."""

    def clipped(theta, z):
        return jnp.clip(z, 0.0, theta)

    z, trace = solve(clipped, Solver(method, tolerance=1e-2), jnp.float32(1.0), jnp.full(8, 1.001))
    assert bool(trace.converged) and int(trace.steps) == 2
    np.testing.assert_array_equal(z, np.ones(8, np.float32))


@pytest.mark.parametrize("method", [Anderson(), Picard()], ids=word)
def test_a_state_that_has_outgrown_its_digits_has_not_converged(method):
    """Beyond 1 / eps of the first state, steps of the size of the first are below rounding."""

    def growing(theta, z):
        return jnp.where(z < 1e9, theta * z, z + 1)

    _, trace = solve(growing, Solver(method, tolerance=1e-4, max_steps=60), jnp.float32(30.0), jnp.ones(4))
    assert not bool(trace.converged)


def test_a_tolerance_may_vary_over_devices():
    mesh = jax.make_mesh((2,), ("d",), devices=jax.devices()[:2], axis_types=(jax.sharding.AxisType.Auto,))

    def steps(tolerance):
        return solve(affine, Solver(Picard()), problem()[0], jnp.zeros(200), tolerance[0])[1].steps[None]

    spread = jax.shard_map(steps, mesh=mesh, in_specs=jax.sharding.PartitionSpec("d"),
                           out_specs=jax.sharding.PartitionSpec("d"))  # fmt: skip
    loose, tight = jax.jit(spread)(jnp.asarray([1e-1, 1e-4]))
    assert int(loose) < int(tight)


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
    assert not bool(solve(flip, Solver(Picard(), 1e-5, 100), *args)[1].converged)
    z, trace = solve(flip, Solver(Picard(damping=0.5), 1e-5, 100), *args)
    assert bool(trace.converged)
    np.testing.assert_allclose(z, 1 / 2.2, rtol=1e-4)


@pytest.mark.parametrize("method", METHODS, ids=word)
def test_any_pytree_is_a_state(method):
    def coupled(theta, z):
        return {"a": 0.3 * z["b"].sum() + theta + 0 * z["a"], "b": 0.2 * z["b"] + z["a"][:, None]}

    start = {"a": jnp.zeros(2), "b": jnp.zeros((2, 1))}
    z, trace = solve(coupled, Solver(method, 1e-5), jnp.float32(1.0), start)
    assert bool(trace.converged)
    np.testing.assert_allclose(z["b"][:, 0], z["a"] / 0.8, rtol=1e-3)


@pytest.mark.parametrize("bad", ["nan", "diverging", "slow"])
@pytest.mark.parametrize("method", METHODS[:2], ids=word)
def test_one_bad_lane_of_a_batch_leaves_the_others_as_they_were(method, bad):
    def bent(theta, z):
        rate, shift, bend = theta
        return rate * z + shift + bend * z**2

    rates = jnp.linspace(0.1, 0.8, 8)[:, None] * jnp.linspace(0.5, 1.0, 30)[None]
    shifts = jax.random.normal(jax.random.key(1), (8, 30))
    bends = jnp.zeros((8, 30))
    if bad == "nan":
        shifts = shifts.at[5, 0].set(jnp.nan)
    elif bad == "diverging":  # z = z^2 + |shift| + 1 has no solution
        bends, shifts, rates = bends.at[5].set(1.0), shifts.at[5].set(1 + jnp.abs(shifts[5])), rates.at[5].set(0.0)
    else:
        rates = rates.at[5].set(1 - jnp.logspace(-6, 0, 30))
    theta = (rates, shifts, bends)

    def lane(theta):
        return solve(bent, Solver(method, tolerance=1e-5, max_steps=100), theta, jnp.zeros(30))

    z, trace = jax.jit(jax.vmap(lane))(theta)
    assert np.asarray(trace.converged).tolist() == [True] * 5 + [False] + [True] * 2
    alone = jax.jit(lane)
    for i in (0, 1, 2, 3, 4, 6, 7):
        own, own_trace = alone(jax.tree.map(lambda x, i=i: x[i], theta))
        assert int(trace.steps[i]) == int(own_trace.steps)
        np.testing.assert_allclose(z[i], own, rtol=1e-6, atol=1e-6)


def test_a_traced_tolerance_takes_the_place_of_the_static_one():
    theta, _ = problem()
    run = jax.jit(lambda goal: solve(affine, Solver(tolerance=1e-6), theta, jnp.zeros(200), goal)[1])
    for goal in (1e-2, 1e-5):
        trace, fixed = run(goal), solve(affine, Solver(tolerance=goal), theta, jnp.zeros(200))[1]
        assert int(trace.steps) == int(fixed.steps) and bool(trace.converged)
        assert goal / 10 < float(trace.residual) <= goal


@pytest.mark.parametrize("damping", [1.0, 0.7])
def test_the_iterates_are_those_of_the_textbook(damping, x64):
    """Against Anderson acceleration written out with NumPy's least squares (Walker & Ni 2011, type II)."""
    (rate, shift), _ = problem(30, 0.8)
    rate, shift = np.asarray(rate, np.float64), np.asarray(shift, np.float64)
    x, xs, rs, expected = np.zeros(30), [], [], []
    for _ in range(7):
        r = affine((rate, shift), x) - x
        xs, rs = [*xs, x][-4:], [*rs, r][-4:]  # three differences
        expected.append(np.linalg.norm(r) / np.linalg.norm(x + r))
        x = x + damping * r
        if len(xs) > 1:
            dX, dR = np.diff(xs, axis=0).T, np.diff(rs, axis=0).T
            gamma = np.linalg.lstsq(dR, r, rcond=None)[0]
            x = x - (dX + damping * dR) @ gamma
    solver = Solver(Anderson(memory=3, damping=damping, ridge=0.0))
    trace = residuals(affine, solver, (jnp.asarray(rate), jnp.asarray(shift)), jnp.zeros(30, jnp.float64), 7)
    np.testing.assert_allclose(trace, expected, rtol=1e-6)


def test_residuals_are_those_of_the_iterates_of_solve():
    theta, _ = problem()
    for solver in (Solver(tolerance=1e-5), Solver(Picard(damping=0.7), tolerance=1e-2)):
        _, trace = solve(affine, solver, theta, jnp.zeros(200))
        steps = int(trace.steps)
        curve = np.asarray(jax.jit(lambda s=solver: residuals(affine, s, theta, jnp.zeros(200), 60))())
        assert curve.shape == (60,) and curve[0] == 1.0
        # The last application measures the image of the best iterate.
        assert float(trace.residual) <= solver.tolerance and curve[steps - 2] <= solver.tolerance
        assert (curve[: steps - 2] > solver.tolerance).all()
    climbing = residuals(lambda theta, z: theta - 1.2 * z, Solver(Picard()), jnp.float32(1.0), jnp.zeros(4), 3)
    np.testing.assert_allclose(climbing, [1.0, 1.2 / 0.2, 1.44 / 1.24], rtol=1e-5)
    with pytest.raises(InputError, match="Broyden\\(memory=5\\)"):
        residuals(affine, Solver(Broyden()), theta, jnp.zeros(200), 3)


@pytest.mark.parametrize("method", METHODS[:2], ids=word)
def test_the_best_iterate_is_returned_and_not_the_last(method):
    """1 -> 2 -> 2.1 -> 3 -> 5 -> 9: the residual is least at 2, 0.1 of 2.1. Anderson's third iterate is near 2.11."""

    def bent(theta, z):
        return jnp.interp(z, jnp.asarray([1.0, 2.0, 2.1, 3.0, 5.0]), theta)

    theta = jnp.asarray([2.0, 2.1, 3.0, 5.0, 9.0])
    steps = 3 if method == Anderson() else 5
    z, trace = solve(bent, Solver(method, 1e-6, steps), theta, jnp.ones(1))
    assert int(trace.steps) == steps and not bool(trace.converged)
    np.testing.assert_allclose(z, [2.0], rtol=1e-6)
    np.testing.assert_allclose(trace.residual, 0.1 / 2.1, rtol=1e-5)


@pytest.mark.parametrize(("jump", "refused"), [(50.0, True), (8.0, False)])
def test_a_step_that_leaves_ten_times_the_best_residual_is_refused(jump, refused):
    """r = 1 - z / 10 up to 2, so that the secant through 0 and 1 aims at 10; there r is `jump`, and 0.9 is the best.

    Refused, the iteration goes back to 1 and takes the plain step to 1.9, where r = 0.81.
    """

    def kinked(theta, z):
        return z + jnp.interp(z, jnp.asarray([0.0, 2.0, 5.0]), theta)

    theta = jnp.asarray([1.0, 0.8, jump])
    curve = residuals(kinked, Solver(max_steps=4), theta, jnp.zeros(1), 4)
    np.testing.assert_allclose(curve[:3], [1.0, 0.9 / 1.9, jump / (10 + jump)], rtol=1e-4)
    assert (abs(float(curve[3]) - 0.81 / 2.71) < 1e-4) == refused


def test_norms_neither_overflow_nor_vanish():
    x = jnp.asarray([3.0, -4.0])
    for unit in (1e-37, 1e-20, 1.0, 1e20, 5e37):
        np.testing.assert_allclose(rms(x * unit), unit * 12.5**0.5, rtol=1e-6)
    assert float(rms(jnp.zeros(3))) == 0.0 and np.isnan(rms(x.at[0].set(jnp.nan))) and np.isinf(rms(x * jnp.inf))
    assert float(relative(jnp.float32(0), jnp.float32(0))) == 0.0
    assert np.isinf(relative(jnp.float32(1e-9), jnp.float32(0)))


def test_a_restart_now_and_then_halves_the_steps_on_a_stiff_map():
    theta, _ = problem(500, 0.99)
    steps = {}
    for restart in (0, 20):
        solver = Solver(Anderson(restart=restart), tolerance=1e-6, max_steps=400)
        steps[restart] = int(solve(affine, solver, theta, jnp.zeros(500))[1].steps)
    assert steps[20] < 0.7 * steps[0] < 0.7 * 400


def test_no_ridge_is_so_small_that_it_gives_nan():
    # Two distinct rates: from the third difference on they are linearly dependent.
    theta = (jnp.where(jnp.arange(50) < 20, 0.5, 0.9), jnp.ones(50))
    curve = residuals(affine, Solver(Anderson(ridge=0.0)), theta, jnp.zeros(50), 40)
    assert np.isfinite(np.asarray(curve)).all()
    assert float(jnp.min(curve)) < 1e-6


def test_anderson_ends_at_the_floor_of_its_precision_and_says_that_it_has_not_converged():
    W = jax.random.normal(jax.random.key(1), (60, 60))

    def linear(theta, z):
        return theta @ z + 1

    z, trace = solve(linear, Solver(tolerance=1e-12, max_steps=2000), 0.95 * W / jnp.linalg.norm(W, 2), jnp.zeros(60))
    assert not bool(trace.converged) and float(trace.residual) < 1e-6
    assert int(trace.steps) < 100 + STALL
    assert np.isfinite(np.asarray(z)).all()


@pytest.mark.parametrize("method", METHODS, ids=word)
def test_a_bfloat16_state_is_walked_in_float32(method):
    theta = jax.tree.map(lambda x: x.astype(jnp.bfloat16), problem(rate=0.5)[0])
    z, trace = solve(affine, Solver(method, 1e-2, 50), theta, jnp.zeros(200, jnp.bfloat16))
    assert z.dtype == jnp.bfloat16 and trace.residual.dtype == jnp.float32
    assert bool(trace.converged)
    np.testing.assert_allclose(np.asarray(z, np.float32), problem(rate=0.5)[1], atol=0.1)
    image, z = (np.asarray(x, np.float32) for x in (jax.jit(affine)(theta, z), z))  # of the rounded state
    left = np.sqrt(((image - z) ** 2).mean() / (image**2).mean())
    np.testing.assert_allclose(trace.residual, left, atol=2**-9)  # f rounds its image, or not where fused


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


def test_no_step_is_no_residual():
    with pytest.raises(InputError, match="steps is 0; expected at least 1"):
        residuals(affine, Solver(), problem()[0], jnp.zeros(200), 0)


def test_a_misspelt_choice_is_refused():
    with pytest.raises(InputError, match=r"method is 'andersen'; expected one of Anderson\("):
        Solver(method="andersen")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"max_steps is 0"):
        Solver(max_steps=0)
