"""Training: pure, blind, resumable in pieces, without NaN or negative spectra."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dequnmix_jax import metrics
from dequnmix_jax.checks import InputError
from dequnmix_jax.datasets import synthetic
from dequnmix_jax.equilibrium import fixed_point_map, model
from dequnmix_jax.equilibrium.config import Analytic, Energy, Model, Residual, Simplex, Softmax
from dequnmix_jax.solvers.config import Solver
from dequnmix_jax.training import fitting, objective
from dequnmix_jax.training.config import Rates, Training
from dequnmix_jax.types import Trace

CONFIG = Model(gradient=Energy(width=4))
SHORT = Training(epochs=12)


@pytest.fixture(scope="module")
def sample():
    E = synthetic.spectra(jax.random.key(3), 3, 30)
    return synthetic.linear_scene(jax.random.key(4), (12, 11), E, 25.0, contrast=2.0)


@pytest.fixture(scope="module")
def fit():
    """Compile once for all tests that train the same model."""
    return jax.jit(lambda key, cube, rates: fitting.fit(key, cube, CONFIG, SHORT, rates, count=3), static_argnums=())


def test_an_axis_that_nothing_maps_over_is_named(sample):
    with pytest.raises(InputError, match="the axis 'scenes', which nothing around this call maps over"):
        fitting.fit(jax.random.key(0), sample.cube, CONFIG, SHORT, count=3, shared="scenes")


def test_the_loss_falls_and_every_solve_converges(fit, sample):
    params, history = fit(jax.random.key(0), sample.cube, Rates(spread=0.0))
    assert float(history.loss[-1]) < float(history.loss[0])
    assert np.asarray(history.converged).all()
    assert float(jnp.max(history.residual)) <= CONFIG.forward.tolerance
    assert (np.asarray(params["endmembers"]) > 0).all()
    assert (np.asarray(params["network"]["energy"]["gain"]) >= 0).all()


def test_the_rates_can_be_mapped_over(sample):
    short = Training(epochs=2)
    rates = Rates(endmembers=jnp.asarray([0.0, 0.01]), error=jnp.asarray([0.2, 0.2]))
    axes = Rates(*(0 if name in ("endmembers", "error") else None for name in Rates._fields))
    start = sample.endmembers

    def run(rates):
        return fitting.fit(jax.random.key(0), sample.cube, CONFIG, short, rates, endmembers=start)[0]

    params = jax.jit(jax.vmap(run, in_axes=(axes,)))(rates)
    kept = model.init(jax.random.key(0), sample.cube, CONFIG, endmembers=start)["endmembers"]
    np.testing.assert_allclose(params["endmembers"][0], kept, atol=1e-5)
    assert float(jnp.max(jnp.abs(params["endmembers"][1] - kept))) > 1e-3


def test_pieces_give_what_the_whole_gives(sample):
    state = fitting.begin(jax.random.key(1), sample.cube, CONFIG, count=3)
    plan = Training(epochs=6, holdout=0.2)
    step = jax.jit(partial(fitting.advance, config=CONFIG, training=plan, rates=Rates(), steps=3))
    first, one = step(state, sample.cube)
    last, two = step(first, sample.cube)
    whole, history = jax.jit(partial(fitting.advance, config=CONFIG, training=plan, rates=Rates(), steps=6))(
        state, sample.cube
    )
    np.testing.assert_allclose(jnp.concatenate([one.loss, two.loss]), history.loss, rtol=1e-4)
    np.testing.assert_allclose(last.params["endmembers"], whole.params["endmembers"], atol=1e-4)
    assert int(last.step) == 6


def test_the_endmembers_come_to_rest_before_the_network_learns(sample):
    plan = Training(epochs=6, endmembers_first=0.5, patience=1, least=1.0)
    state = fitting.begin(jax.random.key(0), sample.cube, CONFIG, endmembers=sample.endmembers * 0.9)
    step = jax.jit(partial(fitting.advance, config=CONFIG, training=plan, rates=Rates(), steps=3))
    first, history = step(state, sample.cube)
    assert bool(jnp.all(history.active))  # patience does not count yet
    assert float(jnp.max(jnp.abs(first.params["endmembers"] - state.params["endmembers"]))) > 1e-3
    jax.tree.map(np.testing.assert_array_equal, first.params["network"], state.params["network"])
    last, history = step(first, sample.cube)
    assert np.asarray(history.active).tolist() == [True, False, False]  # now it does
    np.testing.assert_array_equal(last.params["endmembers"], first.params["endmembers"])
    gain = last.params["network"]["energy"]["gain"]
    assert 0 < float(jnp.max(gain)) <= 1.01 * Rates().network
    assert int(last.moments.count) == 1  # Adam's memory of the first half is gone


def pulled(sample, E, pull, plan, steps=4):
    """Train E alone along a given gradient, without a solve; return the initial and final E, and the subspace."""
    state = fitting.begin(jax.random.key(0), sample.cube, Model(gradient=Analytic()), endmembers=E)

    def objective(params, cube, config, weights, *, initial, **_):
        value, nothing = jnp.sum(pull * params["endmembers"]), jnp.zeros(())
        trace = Trace(jnp.asarray(1, jnp.int32), nothing, jnp.asarray(True))
        return value, {"angle": nothing, "error": nothing, "trace": trace, "state": initial}

    rates = Rates(endmember_decay=0.0)
    after, _ = fitting.advance(state, sample.cube, Model(gradient=Analytic()), plan, rates, steps, objective=objective)
    return state.params["endmembers"], after.params["endmembers"], state.subspace


def test_endmembers_move_inside_the_signal_subspace_alone(sample):
    pull = jax.random.normal(jax.random.key(7), sample.endmembers.shape)
    outside = []
    for subspace in ("signal", "all"):
        E, moved, inside = pulled(sample, 0.5 + sample.endmembers, pull, Training(epochs=4, subspace=subspace))
        change = moved - E
        outside.append(float(jnp.max(jnp.abs(change - change @ inside)) / jnp.max(jnp.abs(change))))
        assert float(jnp.max(jnp.abs(change))) > 1e-3
    assert outside[0] < 1e-4 and outside[1] > 0.1


def test_endmembers_stay_above_their_floor(sample):
    """Pulled down in one band, from just above zero, they end at 1e-5 of their largest value and not below."""
    low = sample.endmembers.at[:, 4].set(1e-3)
    pull = jnp.zeros_like(low).at[:, 4].set(1.0)
    _, moved, _ = pulled(sample, low, pull, Training(epochs=4))
    np.testing.assert_allclose(moved[:, 4], 1e-5 * jnp.max(moved), rtol=1e-5)


def test_the_held_bands_are_not_seen_by_the_equilibrium(sample):
    params = model.init(jax.random.key(0), sample.cube, CONFIG, endmembers=sample.endmembers)
    held = jnp.arange(30) % 5 == 0
    other = jnp.where(held[None, None], sample.cube + 0.3, sample.cube)
    state = [objective.loss(params, cube, CONFIG, held_out=held)[1]["state"] for cube in (sample.cube, other)]
    scale = [jnp.sqrt(jnp.mean(cube**2)) for cube in (sample.cube, other)]  # the unit of the state
    np.testing.assert_allclose(state[0] * scale[0], state[1] * scale[1], atol=1e-4)


def test_held_out_bands_tell_a_noisy_answer_from_a_smooth_one(sample):
    """The held-out loss is lowest near the best smoothing; the plain loss is lowest without smoothing."""
    base = model.init(jax.random.key(0), sample.cube, CONFIG, endmembers=sample.endmembers)
    held = jnp.arange(30) % 3 == 0

    @jax.jit
    def judge(gain):
        energy = base["network"]["energy"] | {"gain": gain * jnp.asarray([0.0, 0.0, 1.0, 1.0])}
        params = base | {"network": base["network"] | {"energy": energy}}
        blind = objective.loss(params, sample.cube, CONFIG, held_out=held)[0]
        plain = objective.loss(params, sample.cube, CONFIG)[0]
        return blind, plain

    blind, plain = zip(*(judge(g) for g in (0.0, 0.1)), strict=True)
    assert plain[1] > plain[0]
    assert blind[1] - blind[0] < plain[1] - plain[0]


def test_a_plateau_stops_training_and_freezes_the_parameters(sample):
    plan = Training(epochs=8, patience=2, least=0.9)
    _params, history = jax.jit(lambda: fitting.fit(jax.random.key(0), sample.cube, CONFIG, plan, count=3))()
    active = np.asarray(history.active)
    assert active[:2].all() and not active[-2:].any()
    assert float(history.loss[-1]) == float(history.loss[-2])


def test_a_nan_loss_leaves_the_parameters_as_they_were(sample):
    state = fitting.begin(jax.random.key(0), sample.cube, CONFIG, count=3)
    broken = state._replace(params=state.params | {"endmembers": state.params["endmembers"].at[0, 0].set(jnp.nan)})
    after, history = fitting.advance(broken, sample.cube, CONFIG, SHORT, Rates(), 2)
    assert not np.asarray(history.active).any() and not np.asarray(history.converged).any()
    np.testing.assert_array_equal(after.params["endmembers"], broken.params["endmembers"])


def test_masked_pixels_teach_nothing(sample):
    mask = jnp.ones((12, 11), bool).at[:, 8:].set(False)
    spoiled = jnp.where(mask[..., None], sample.cube, 99.0)
    clean = jnp.where(mask[..., None], sample.cube, 0.0)
    unknown = jnp.where(mask[..., None], sample.cube, jnp.nan)
    state = fitting.begin(jax.random.key(0), unknown, CONFIG, endmembers=sample.endmembers, mask=mask)
    run = jax.jit(lambda cube: fitting.advance(state, cube, CONFIG, SHORT, Rates(), 3, mask=mask)[0].params)
    np.testing.assert_allclose(run(spoiled)["endmembers"], run(clean)["endmembers"], atol=1e-5)


def test_the_literal_map_says_when_it_does_not_converge(sample):
    """A free network with a full step is not a contraction: the Trace must not claim an equilibrium."""
    config = Model(gradient=Residual(width=8), init="random", constraint=Simplex(), forward=Solver(max_steps=10))
    params = model.init(jax.random.key(0), sample.cube, config, endmembers=sample.endmembers)
    wild = jax.tree.map(lambda x: 6 * x, params["network"])
    _, trace = model.unmix(params | {"network": wild}, sample.cube, config)
    assert not bool(trace.converged) and float(trace.residual) > config.forward.tolerance


def test_endmembers_or_their_number_must_be_given(sample):
    with pytest.raises(InputError, match="both missing"):
        fitting.fit(jax.random.key(0), sample.cube, CONFIG)
    with pytest.raises(InputError, match="40 endmembers asked for in 30 bands"):
        fitting.fit(jax.random.key(0), sample.cube, CONFIG, count=40)
    with pytest.raises(InputError, match="NaN"):
        fitting.fit(jax.random.key(0), sample.cube.at[0, 0, 0].set(jnp.nan), CONFIG, count=3)


def test_the_spread_of_equal_spectra_is_zero_and_finite():
    E = jnp.ones((3, 10))
    assert float(objective.spread(E)) < 1e-6
    assert np.isfinite(jax.grad(objective.spread)(E)).all()
    assert float(objective.spread(jnp.eye(3, 10))) > 0.6


def test_a_simple_scene_is_solved_better_after_training_than_before(fit, sample):
    """Blind and short, on one easy scene: a better reconstruction must not worsen the abundances."""
    params, _ = fit(jax.random.key(0), sample.cube, Rates())
    before = fitting.begin(jax.random.key(0), sample.cube, CONFIG, count=3).params
    truth = mixing_truth(sample)
    errors = []
    for p in (before, params):
        estimate, _ = model.unmix(p, sample.cube, CONFIG)
        order = metrics.align(estimate.endmembers, sample.endmembers)
        errors.append(float(metrics.armse(estimate.abundances[..., order], truth)))
    assert errors[1] < 1.5 * errors[0]


def mixing_truth(sample):
    """Return the abundances in the cone's convention: of spectra at maximum 1."""
    weighted = sample.abundances * jnp.max(sample.endmembers, axis=1)[None, None]
    return weighted / jnp.sum(weighted, axis=-1, keepdims=True)


def test_the_penalty_is_the_frobenius_norm_of_the_jacobian(sample):
    """Hutchinson's estimate against the whole matrix; its derivative against differences, of a map without kinks."""
    config = Model(constraint=Softmax(gamma=5.0), gradient=Energy(width=4))
    cube = sample.cube[:4, :5]
    params = model.init(jax.random.key(0), cube, config, endmembers=sample.endmembers)
    params["network"]["energy"] |= {"gain": jnp.full(4, 0.5), "log_scale": jnp.zeros(4)}
    state = jax.random.uniform(jax.random.key(1), (4, 5, 3))
    probes = jax.random.normal(jax.random.key(2), (400, 4, 5, 3))

    @jax.jit
    def penalty(params):
        return objective.jacobian_penalty(fixed_point_map.factor(params, cube, config), state, config, probes)

    theta = fixed_point_map.factor(params, cube, config)
    whole = jax.jacrev(lambda z: fixed_point_map.state_map(config)(theta, z))(state).reshape(60, 60)
    np.testing.assert_allclose(penalty(params), jnp.sum(whole**2) / 60, rtol=0.1)
    slope = jax.grad(penalty)(params)["network"]["energy"]["gain"]
    h = 1e-2

    def moved(amount):
        energy = params["network"]["energy"]
        return penalty(params | {"network": params["network"] | {"energy": energy | {"gain": energy["gain"] + amount}}})

    np.testing.assert_allclose(jnp.sum(slope), (moved(h) - moved(-h)) / (2 * h), rtol=0.02)


def test_the_penalty_keeps_the_jacobian_small_and_is_off_unless_asked_for(sample):
    config = Model(gradient=Residual(width=4), constraint=Simplex(), metric="euclidean", forward=Solver(max_steps=20))
    probe = jax.random.normal(jax.random.key(5), (8, 12, 11, 3))

    def run(probes, weight):
        plan, rates = Training(epochs=15, probes=probes), Rates(jacobian=weight)
        params, history = fitting.fit(jax.random.key(0), sample.cube, config, plan, rates, endmembers=sample.endmembers)
        estimate, _ = model.unmix(params, sample.cube, config)
        theta = fixed_point_map.factor(params, sample.cube, config)
        return history.loss[-1], objective.jacobian_penalty(theta, estimate.state, config, probe)

    off, ignored = (jax.jit(run, static_argnums=0)(0, weight) for weight in (0.0, 3.0))
    np.testing.assert_array_equal(off[0], ignored[0])  # without probes the weight means nothing
    _, penalised = jax.jit(run, static_argnums=0)(1, 3.0)
    assert float(penalised) < 0.9 * float(off[1])


def test_a_training_step_holds_only_canonical_convolutions(sample):
    """Any other form is 40 to 60 times slower in a loop on a CPU, and training is one loop."""
    state = jax.eval_shape(lambda: fitting.begin(jax.random.key(0), sample.cube, CONFIG, endmembers=sample.endmembers))
    step = jax.jit(partial(fitting.advance, config=CONFIG, training=SHORT, rates=Rates(), steps=2))
    text = step.lower(state, sample.cube).compile().as_text()
    labels = re.findall(r"dim_labels=(\S+?)[,\s]", text)
    assert len(labels) > 10
    assert set(labels) == {"b01f_01io->b01f"}


def test_a_schedule_loosens_the_first_solves_and_ends_at_the_tolerance_of_the_solver(sample):
    plan = Training(epochs=5, loosest=1e-1)
    state = fitting.begin(jax.random.key(0), sample.cube, CONFIG, count=3)
    run = jax.jit(lambda state: fitting.advance(state, sample.cube, CONFIG, plan, Rates(), 5)[1])
    history = run(state)
    tight = CONFIG.forward.tolerance
    schedule = tight * (plan.loosest / tight) ** (1 - np.arange(5) / 4)
    assert np.asarray(history.converged).all()
    assert (np.asarray(history.residual) <= 1.001 * schedule).all()
    assert float(history.residual[0]) > tight  # it did stop early
    assert float(history.residual[-1]) <= tight


@pytest.mark.parametrize(("bad", "metric"), [("nan", "data"), ("slow", "euclidean")])
def test_one_bad_scene_among_eight_leaves_answers_steps_and_gradients_of_the_others(sample, bad, metric):
    config = Model(gradient=Analytic(), metric=metric, forward=Solver(max_steps=300))
    keys = jax.random.split(jax.random.key(9), 8)
    E = jnp.stack([sample.endmembers * (1 + 0.2 * jax.random.uniform(k, (3, 30))) for k in keys])
    cubes = jnp.stack([jnp.matmul(sample.abundances[:4, :4], e) for e in E])
    # Noise, so that no abundance lies just at zero, where the derivative has two sides.
    cubes = cubes * (1 + 0.1 * jax.random.normal(keys[0], cubes.shape))
    if bad == "nan":
        spoiled = (E, cubes.at[5, 1, 1, 0].set(jnp.nan))
    else:  # two spectra much alike: the data term is nearly flat in their difference
        spoiled = (E.at[5, 1].set(E[5, 0] * (1 + 0.1 * jnp.linspace(0, 1, 30))), cubes)

    def scene(E, cube):
        def objective(E):
            estimate, trace = model.unmix({"endmembers": E, "network": {}}, cube, config)
            return jnp.sum(estimate.abundances * jnp.arange(3.0)[None, None]), (estimate, trace)

        gradient, (estimate, trace) = jax.grad(objective, has_aux=True)(E)
        return gradient, estimate.abundances, trace.steps

    batch, alone = jax.jit(jax.vmap(scene)), jax.jit(scene)
    healthy, mixed = batch(E, cubes), batch(*spoiled)
    assert int(mixed[2][5]) != int(healthy[2][5])  # the neighbour does behave otherwise
    others = np.array([0, 1, 2, 3, 4, 6, 7])
    for one, other in zip(healthy, mixed, strict=True):
        np.testing.assert_array_equal(np.asarray(one)[others], np.asarray(other)[others])
    if metric == "euclidean":  # tens of steps, at whose tolerance another order of sums gives another gradient
        return
    for i in others:
        gradient, abundances, steps = alone(E[i], cubes[i])
        assert int(steps) == int(mixed[2][i])
        np.testing.assert_allclose(mixed[1][i], abundances, atol=config.forward.tolerance)
        np.testing.assert_allclose(mixed[0][i], gradient, atol=2e-4 * float(jnp.max(jnp.abs(gradient))))
