"""Gradients three ways: implicit, unrolled, finite differences; and the memory of the implicit one does not grow."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dequnmix_jax.solvers.config import Adjoint, Anderson, BiCGSTAB, Neumann, OneStep, Phantom, Solver
from dequnmix_jax.solvers.implicit import adjoint_trace, fixed_point, unrolled

SIZE = 12


def contract(theta, z):
    """A smooth, non-linear, non-symmetric contraction (rate about 0.8) of a (4, SIZE) state."""
    return jnp.tanh(z @ theta["W"]) + theta["c"]


def draw(dtype=jnp.float32, rate=0.8):
    W = jax.random.normal(jax.random.key(0), (SIZE, SIZE), dtype)
    c = jax.random.normal(jax.random.key(1), (4, SIZE), dtype)
    return {"W": rate * W / jnp.linalg.norm(W, 2), "c": 0.3 * c}


def objective(theta, forward, backward, f=contract):
    z, _ = fixed_point(f, forward, backward, theta, jnp.zeros(theta["c"].shape, theta["c"].dtype))
    return jnp.sum(jnp.sin(z) * jnp.arange(SIZE, dtype=z.dtype)[None])


def unrolled_objective(theta, steps):
    z = unrolled(contract, steps, theta, jnp.zeros_like(theta["c"]))
    return jnp.sum(jnp.sin(z) * jnp.arange(SIZE, dtype=z.dtype)[None])


SHORT = (Adjoint(BiCGSTAB(), max_steps=60), Adjoint(Anderson(), max_steps=60), Adjoint(Phantom(60)))


def distance(a, b):
    a, b = (jnp.concatenate([x.ravel() for x in jax.tree.leaves(t)]) for t in (a, b))
    return float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))


def test_a_gradient_inside_shard_map_needs_no_state_that_varies():
    mesh = jax.make_mesh((2,), ("d",), devices=jax.devices()[:2], axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("d")
    thetas = jax.tree.map(lambda x: jnp.stack([x, 0.5 * x]), draw())

    def value(theta):
        return objective(theta, Solver(), Adjoint())

    def local(theta):
        return value(jax.tree.map(lambda x: x[0], theta))[None]

    spread = jax.shard_map(local, mesh=mesh, in_specs=spec, out_specs=spec)
    found = jax.jit(jax.grad(lambda theta: jnp.sum(spread(theta))))(thetas)
    expected = jax.vmap(jax.grad(value))(thetas)
    assert distance(found, expected) < 1e-4


@pytest.mark.parametrize("backward", [
    Adjoint(BiCGSTAB(), 1e-12, 200), Adjoint(Anderson(), 1e-12, 200), Adjoint(Neumann(200), 1e-12)],
    ids=lambda a: a.method.word)  # fmt: skip
def test_implicit_unrolled_and_finite_differences_agree_in_x64(backward, x64):
    theta = draw(jnp.float64)
    forward = Solver(tolerance=1e-12, max_steps=400)
    implicit = jax.grad(objective)(theta, forward, backward)
    assert distance(implicit, jax.grad(unrolled_objective)(theta, 200)) < 1e-9
    direction = jax.tree.map(lambda x: jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape), theta)
    h = 1e-5
    ends = [
        objective(jax.tree.map(lambda p, d, s=s: p + s * h * d, theta, direction), forward, backward) for s in (1, -1)
    ]
    slope = sum(jnp.vdot(g, d) for g, d in zip(jax.tree.leaves(implicit), jax.tree.leaves(direction), strict=True))
    np.testing.assert_allclose(slope, (ends[0] - ends[1]) / (2 * h), rtol=1e-5)


def test_implicit_and_unrolled_agree_in_float32():
    theta = draw()
    implicit = jax.grad(objective)(theta, Solver(tolerance=1e-6), Adjoint(tolerance=1e-6))
    assert distance(implicit, jax.grad(unrolled_objective)(theta, 100)) < 1e-4


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_adjoint_is_as_accurate_for_a_mean_as_for_a_sum(scale):
    theta = draw()

    def scaled(theta, backward):
        return scale * objective(theta, Solver(tolerance=1e-6), backward)

    ours = jax.grad(scaled)(theta, Adjoint(tolerance=1e-5))
    exact = jax.tree.map(lambda g: scale * g, jax.grad(unrolled_objective)(theta, 100))
    assert distance(ours, exact) < 1e-4


def test_cheap_adjoints_are_the_neumann_series_cut_short():
    theta = draw()
    exact = jax.grad(unrolled_objective)(theta, 100)
    forward = Solver(tolerance=1e-6)
    error = [distance(jax.grad(objective)(theta, forward, Adjoint(Neumann(k))), exact) for k in (0, 3, 30)]
    assert error[0] > 2 * error[1] > 20 * error[2]
    one_step = distance(jax.grad(objective)(theta, forward, Adjoint(OneStep())), exact)
    np.testing.assert_allclose(one_step, error[0], rtol=1e-6)


@pytest.mark.parametrize("method", [BiCGSTAB(), Anderson()], ids=lambda m: m.word)
def test_the_adjoint_says_how_it_went(method):
    theta = draw()
    z, _ = fixed_point(contract, Solver(tolerance=1e-6), Adjoint(), theta, jnp.zeros((4, SIZE)))
    w = jnp.ones_like(z)
    u, trace = adjoint_trace(contract, Adjoint(method, 1e-5), theta, z, w)
    _, pull = jax.vjp(lambda x: contract(theta, x), z)
    left = w + pull(u)[0] - u
    np.testing.assert_allclose(jnp.sqrt(jnp.mean(left**2)), trace.residual, rtol=0.5, atol=1e-6)
    assert bool(trace.converged) and 2 < int(trace.steps) < 40
    short = adjoint_trace(contract, Adjoint(method, 1e-6, max_steps=2), theta, z, w)[1]
    assert not bool(short.converged)


def test_bicgstab_ends_after_as_many_steps_as_there_are_unknowns(x64):
    """In exact arithmetic it needs one step, two applications, for each unknown of any regular system."""
    M = jax.random.normal(jax.random.key(3), (6, 6), jnp.float64)
    w = jax.random.normal(jax.random.key(4), (6,), jnp.float64)
    backward = Adjoint(BiCGSTAB(), 1e-8, max_steps=100)
    u, trace = jax.jit(lambda M, w: adjoint_trace(lambda M, z: M @ z, backward, M, jnp.zeros(6), w))(M, w)
    assert bool(trace.converged) and int(trace.steps) <= 2 * 6 + 2
    A = np.eye(6) - np.asarray(M).T
    expected = np.linalg.solve(A, w)  # the error is at most the residual's, times the condition number (27)
    assert np.linalg.norm(u - expected) <= 1e-8 * np.linalg.cond(A) * np.linalg.norm(expected)


def test_a_zero_cotangent_gives_a_zero_gradient():
    theta = draw()
    u, trace = adjoint_trace(contract, Adjoint(), theta, jnp.zeros((4, SIZE)), jnp.zeros((4, SIZE)))
    assert not np.asarray(u).any()
    assert bool(trace.converged)


def test_under_jit_vmap_and_scan():
    forward, backward = Solver(tolerance=1e-6), Adjoint(tolerance=1e-6)
    thetas = jax.tree.map(lambda x: jnp.stack([x, 0.5 * x]), draw())
    gradient = jax.grad(partial(objective, forward=forward, backward=backward))
    mapped = jax.jit(jax.vmap(gradient))(thetas)

    def walk(carry, theta):
        return carry, gradient(theta)

    _, scanned = jax.jit(lambda t: jax.lax.scan(walk, 0, t))(thetas)
    for i in range(2):
        alone = gradient(jax.tree.map(lambda x, i=i: x[i], thetas))
        assert distance(jax.tree.map(lambda x, i=i: x[i], mapped), alone) < 1e-4
        assert distance(jax.tree.map(lambda x, i=i: x[i], scanned), alone) < 1e-4


def test_integer_and_boolean_leaves_and_pytree_states():
    def f(theta, z):
        return {"a": 0.5 * z["a"] * theta["on"] + theta["x"] * theta["n"], "b": 0.2 * z["b"] + z["a"]}

    def objective(x):
        theta = {
            "x": x,
            "n": jnp.asarray(3, jnp.int32).astype(jnp.float32),
            "on": jnp.ones(4),
            "flag": jnp.array([True]),
        }
        z, _ = fixed_point(
            f, Solver(tolerance=1e-6), Adjoint(tolerance=1e-6), theta, {"a": jnp.zeros(4), "b": jnp.zeros(4)}
        )
        return jnp.sum(z["b"])

    np.testing.assert_allclose(jax.grad(objective)(jnp.ones(4)), 3 / 0.5 / 0.8, rtol=1e-4)


def test_the_start_receives_no_gradient_and_does_not_move_the_answer():
    theta = draw()

    def from_start(z0):
        return fixed_point(contract, Solver(tolerance=1e-6), Adjoint(), theta, z0)[0].sum()

    z0 = jax.random.normal(jax.random.key(4), (4, SIZE))
    assert not np.asarray(jax.grad(from_start)(z0)).any()
    np.testing.assert_allclose(from_start(z0), from_start(0 * z0), atol=1e-4)


def test_memory_of_the_gradient_is_the_same_for_5_50_and_500_iterations():
    theta = draw(rate=0.99)

    def memory(function):
        return jax.jit(jax.grad(function)).lower(theta).compile().memory_analysis().temp_size_in_bytes

    for method in (BiCGSTAB(), Anderson()):
        implicit = [
            memory(partial(objective, forward=Solver(tolerance=0.0, max_steps=k), backward=Adjoint(method, 0.0, k)))
            for k in (5, 50, 500)
        ]
        assert implicit[0] == implicit[1] == implicit[2]
    path = [memory(partial(unrolled_objective, steps=k)) for k in (5, 500)]
    assert path[1] > 20 * path[0]


def test_the_phantom_gradient_is_that_of_a_few_damped_steps_from_the_equilibrium():
    theta, tau = draw(), 0.6
    z, _ = fixed_point(contract, Solver(tolerance=1e-6), Adjoint(), theta, jnp.zeros((4, SIZE)))
    w = jnp.cos(jnp.arange(4.0 * SIZE)).reshape(4, SIZE)

    def damped(theta, z):
        return (1 - tau) * z + tau * contract(theta, z)

    _, back = jax.vjp(lambda t: unrolled(damped, 4, t, z), theta)
    u, trace = adjoint_trace(contract, Adjoint(Phantom(3, damping=tau)), theta, z, w)
    _, pull = jax.vjp(lambda t: contract(t, z), theta)
    assert int(trace.steps) == 4  # three products, and one that measures the residual
    assert distance(pull(u)[0], back(w)[0]) < 1e-4
    full, _ = adjoint_trace(contract, Adjoint(Phantom(3, damping=1.0)), theta, z, w)
    neumann, _ = adjoint_trace(contract, Adjoint(Neumann(3)), theta, z, w)
    np.testing.assert_allclose(full, neumann, rtol=1e-5, atol=1e-6)


def test_the_tolerance_of_the_adjoint_follows_the_forward_one_unless_it_has_its_own():
    theta = draw(rate=0.95)
    z, _ = fixed_point(contract, Solver(tolerance=1e-6), Adjoint(), theta, jnp.zeros((4, SIZE)))
    w = jnp.ones_like(z)
    run = jax.jit(
        lambda goal: [adjoint_trace(contract, Adjoint(tolerance=own), theta, z, w, goal)[1] for own in (None, 1e-2)]
    )
    loose, tight = run(1e-1), run(1e-5)
    assert int(loose[0].steps) < int(tight[0].steps)
    assert float(tight[0].residual) <= 1e-5 < float(loose[0].residual) <= 1e-1
    assert int(loose[1].steps) == int(tight[1].steps)


def test_a_traced_tolerance_reaches_both_solves_of_a_gradient():
    theta = draw(rate=0.95)
    exact = jax.grad(unrolled_objective)(theta, 400)
    solution = unrolled(contract, 400, theta, jnp.zeros_like(theta["c"]))

    def loose(theta, start, goal):
        z, _ = fixed_point(contract, Solver(), Adjoint(), theta, start, goal)
        return jnp.sum(jnp.sin(z) * jnp.arange(SIZE, dtype=z.dtype)[None])

    run = jax.jit(jax.vmap(jax.grad(loose), in_axes=(None, None, 0)))
    for start in (jnp.zeros_like(solution), solution):  # from the solution the adjoint's share of the error is left
        gradients = run(theta, start, jnp.asarray([1e-1, 1e-3, 1e-6]))
        errors = [distance(jax.tree.map(lambda x, i=i: x[i], gradients), exact) for i in range(3)]
        assert errors[0] > 5 * errors[1] > 25 * errors[2]
        assert errors[2] < 1e-4


@pytest.mark.parametrize("backward", SHORT, ids=lambda a: a.method.word)
def test_a_nan_cotangent_ends_at_once_and_is_no_success(backward):
    cotangent = jnp.full((4, SIZE), jnp.nan)
    u, trace = adjoint_trace(contract, backward, draw(), jnp.zeros((4, SIZE)), cotangent)
    assert np.isnan(u).all() and not bool(trace.converged)
    assert int(trace.steps) <= 5 or isinstance(backward.method, Phantom)


@pytest.mark.parametrize("backward", SHORT, ids=lambda a: a.method.word)
def test_a_bfloat16_state_has_a_gradient(backward):
    wide = draw()
    theta = jax.tree.map(lambda x: x.astype(jnp.bfloat16), wide)
    ours = jax.grad(objective)(theta, Solver(tolerance=1e-3, max_steps=60), backward)
    assert all(x.dtype == jnp.bfloat16 for x in jax.tree.leaves(ours))
    ours = jax.tree.map(lambda x: x.astype(jnp.float32), ours)
    # Eight bits are 0.4 % in each number, and five times as much after the inverse of I - J.
    assert distance(ours, jax.grad(unrolled_objective)(wide, 100)) < 0.1


@pytest.mark.parametrize("bad", ["nan", "slow"])
def test_one_bad_lane_of_a_batch_leaves_the_gradients_of_the_others(bad):
    thetas = jax.tree.map(lambda x: jnp.stack([(0.3 + 0.1 * i) * x for i in range(8)]), draw())
    if bad == "nan":
        thetas["c"] = thetas["c"].at[5, 0, 0].set(jnp.nan)
    else:
        thetas["W"] = thetas["W"].at[5].set(0.999 * jnp.eye(SIZE))
    backward = Adjoint(tolerance=1e-6, max_steps=60)
    gradient = partial(jax.grad(objective), forward=Solver(tolerance=1e-6, max_steps=60), backward=backward)
    mapped, alone = jax.jit(jax.vmap(gradient))(thetas), jax.jit(gradient)
    for i in (0, 1, 2, 3, 4, 6, 7):
        lane, own = (jax.tree.map(lambda x, i=i: x[i], mapped), alone(jax.tree.map(lambda x, i=i: x[i], thetas)))
        assert distance(lane, own) < 2e-6
