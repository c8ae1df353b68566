"""The unrolled competitors at their start, and the equilibria of Gilton et al., each against its own equations."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.baselines import (
    admm_net,
    catalogue,
    deep_equilibria,
    denoisers,
    dncnn,
    plug_and_play,
    unrolled_nmf,
    unrolled_pnp,
)
from dequnmix_jax.datasets import synthetic
from dequnmix_jax.endmembers.slic import superpixels
from dequnmix_jax.ops.quick_compile import compiler_options
from dequnmix_jax.solvers import Adjoint, Anderson, BiCGSTAB, Picard, Solver, unrolled

SHAPE, COUNT, BANDS = (10, 15), 3, 12
TINY = dncnn.Settings(layers=2, width=4, steps=30, patches=4, side=16)
BOUNDED = replace(TINY, bounded=True)


@pytest.fixture(scope="module")
def scene():
    spectra = synthetic.spectra(jax.random.key(1), COUNT, BANDS)
    return synthetic.linear_scene(jax.random.key(0), SHAPE, spectra, 25.0, contrast=2.0)


@pytest.fixture(scope="module")
def start(scene):
    return jnp.maximum(dq.endmembers.vca(jax.random.key(3), scene.cube, COUNT), 1e-5)


def weights():
    """Weights that take away half of what is above the mean of the neighbours and 0.3 of what is below it."""
    layers = jax.tree.map(jnp.zeros_like, dncnn.init(jax.random.key(0), TINY))
    layers[0]["kernel"] = layers[0]["kernel"].at[1, 1, 0, :2].set(jnp.array([1.0, -1.0]))
    layers[1]["kernel"] = layers[1]["kernel"].at[1, 1, :2, 0].set(jnp.array([0.5, -0.3]))
    return dncnn.bounded(layers)


@pytest.fixture(scope="module")
def denoiser():
    return weights()


def smooth(maps, sigma):
    """A denoiser of one line."""
    return maps + (denoisers.box(maps, 1) - maps) * jnp.minimum(10 * sigma, 1)


def quick(function, *fixed):
    """Compile with little effort."""
    return jax.jit(function, static_argnums=fixed, compiler_options=compiler_options("quick"))


def scaled(scene, start):
    peak = jnp.max(jnp.abs(scene.cube))
    return scene.cube / peak, start / peak


def methods():
    return [
        admm_net.admm_net(admm_net.Settings(epochs=2)),
        unrolled_pnp.unrolled_pnp(unrolled_pnp.Settings(layers=2, width=4, epochs=2), smooth),
        unrolled_nmf.unrolled_nmf(unrolled_nmf.Settings(layers=2, steps=2)),
        deep_equilibria.deep_equilibrium(deep_equilibria.Settings("admm", epochs=2), weights),
    ]


@pytest.mark.parametrize("method", methods(), ids=lambda method: method.name)
def test_every_competitor_obeys_the_constraints(method, scene, start):
    """Two scenes at once, as the tables run them."""
    found = quick(jax.vmap(method.estimate, in_axes=(0, None, 0)))(
        jax.random.split(jax.random.key(0)), scene.cube, jnp.stack([start, 1.1 * start])
    )
    assert found.abundances.shape == (2, *SHAPE, COUNT) and found.endmembers.shape == (2, COUNT, BANDS)
    assert float(jnp.min(found.abundances)) >= 0 and float(jnp.min(found.endmembers)) >= 0
    np.testing.assert_allclose(jnp.sum(found.abundances, axis=-1), 1, atol=1e-5)
    assert bool(jnp.any(found.endmembers[0] != start))  # it was trained


def test_admm_net_starts_as_sunsal(scene, start):
    """K iterations of ADMM on |y - x E|^2 / 2 + lambda |z|_1, z >= 0, x = z, solved pixel by pixel."""
    settings = admm_net.Settings(layers=4)
    Y, E = scaled(scene, start)
    found = admm_net.abundances(admm_net.init(E, settings), Y)
    y, e = np.asarray(Y, float).reshape(-1, BANDS), np.asarray(E, float)
    z = d = np.zeros((len(y), COUNT))
    mu = settings.penalty
    # min over x of |y - x E|^2 / 2 + mu |x - z - d|^2 / 2 as one least-squares problem with R more bands
    wider = np.hstack([e, np.sqrt(mu) * np.eye(COUNT)])
    for _ in range(settings.layers):
        x = np.linalg.lstsq(wider.T, np.hstack([y, np.sqrt(mu) * (z + d)]).T, rcond=None)[0].T
        z = np.maximum(x - d - settings.sparsity / mu, 0)
        d = d - (x - z)
    np.testing.assert_allclose(found.reshape(-1, COUNT), z / z.sum(1, keepdims=True), atol=1e-4)


@pytest.mark.parametrize("tied", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_unrolled_plug_and_play_starts_as_plug_and_play(tied, scene, start):
    penalty = replace(plug_and_play.ESTIMATED, iterations=3)
    method = plug_and_play.plug_and_play("", smooth, penalty)
    expected = quick(method.estimate)(jax.random.key(0), scene.cube, start)
    method = unrolled_pnp.unrolled_pnp(unrolled_pnp.Settings(layers=3, width=4, tied=tied, epochs=0), smooth)
    found = quick(method.estimate)(jax.random.key(0), scene.cube, start)
    np.testing.assert_allclose(found.abundances, expected.abundances, atol=1e-5)
    assert float(jnp.max(jnp.abs(found.abundances - dq.abundances.fcls(scene.cube, start)))) > 1e-3


def test_the_dynamic_convolution_mixes_dilations():
    """Against sums over the neighbours at each distance, with the shares of the attention."""
    weights = unrolled_pnp.init(
        jax.random.key(0), jnp.ones((COUNT, BANDS)), jnp.float32(1.0), unrolled_pnp.Settings(layers=1, width=2)
    )["layers"]
    layer = jax.tree.map(lambda x: x[0], weights)
    layer |= {"level": jnp.array([0.3, -1.0, 0.5]), "bias": jnp.full(2, 10.0)}  # ReLU passes everything
    layer["last"] = layer["last"].at[1, 1].set(jnp.eye(2, COUNT))
    maps = np.asarray(jax.random.uniform(jax.random.key(1), (9, 8, COUNT)))
    shares = np.asarray(jax.nn.softmax(layer["level"]))
    padded, kernels = np.pad(maps, ((3, 3), (3, 3), (0, 0))), np.asarray(layer["kernels"])
    expected = 10 + sum(
        shares[d - 1]
        * (padded[3 + d * (i - 1) : 12 + d * (i - 1), 3 + d * (j - 1) : 11 + d * (j - 1)] @ kernels[d - 1, i, j])
        for d in (1, 2, 3)
        for i in range(3)
        for j in range(3)
    )
    found = unrolled_pnp.inner(layer, jnp.asarray(maps))
    np.testing.assert_allclose(found[..., :2], expected, rtol=1e-4)
    assert float(jnp.max(jnp.abs(found[..., 2]))) == 0


def test_group_shrinkage_takes_a_whole_map_of_a_superpixel():
    maps = jnp.array([[0.1, 0.8], [0.3, 0.6], [0.5, 0.2], [0.7, 0.4]])
    confidence = np.array([1.0, 3.0, 2.0, 2.0])
    cut = unrolled_nmf.Groups(jnp.array([0, 0, 1, 1]), jnp.ones((2, 4)), jnp.array([0.25, 0.75, 0.5, 0.5]))
    size = np.sqrt([np.average(np.square(maps[i : i + 2]), axis=0, weights=confidence[i : i + 2]) for i in (0, 2)])
    theta = np.array([[1.01, 0.5], [0.25, 1.01]]) * size
    found = np.asarray(unrolled_nmf.shrink(maps, cut, jnp.asarray(theta, jnp.float32)))
    assert np.all(found[:2, 0] == 0) and np.all(found[2:, 1] == 0)
    np.testing.assert_allclose(found[:2, 1], 0.5 * maps[:2, 1], rtol=1e-5)
    np.testing.assert_allclose(found[2:, 0], 0.75 * maps[2:, 0], rtol=1e-5)


def test_unrolled_factorisation_starts_as_proximal_gradient_of_its_parent(scene, start):
    """Superpixel by superpixel in float64."""
    settings = unrolled_nmf.Settings(layers=3, width=4, weight=2.0)
    Y, E = scaled(scene, start)
    A = dq.abundances.fcls(Y, E).reshape(-1, COUNT)
    cut = superpixels(Y, width=settings.width)
    found = unrolled_nmf.forward(
        unrolled_nmf.init(E, A, settings), Y.reshape(-1, BANDS), E, A, unrolled_nmf.groups(cut)
    )
    labels, c = np.asarray(cut.labels).reshape(-1), np.asarray(cut.confidence, float).reshape(-1)
    y, e, a = (np.asarray(x, float) for x in (Y.reshape(-1, BANDS), E, A))
    inner = 1 / np.trace(np.linalg.matrix_power(e @ e.T, 16)) ** (1 / 16)
    outer = len(y) / np.trace(np.linalg.matrix_power(a.T @ a, 16)) ** (1 / 16)
    vanished = 0
    for _ in range(settings.layers):
        shares = np.asarray(dq.abundances.fcls(cut.spectra[None], jnp.asarray(e, jnp.float32)))[0]
        a = a - inner * (a @ e - y) @ e.T
        for p in range(len(shares)):
            here = labels == p
            for r in range(COUNT):
                limit = inner * settings.weight / (COUNT**2 * shares[p, r] + 1)
                size = np.sqrt(np.average(a[here, r] ** 2, weights=c[here]))
                a[here, r] *= max(0, 1 - limit / size)
                vanished += limit >= size
        a = np.maximum(a, 0)
        a = a / a.sum(1, keepdims=True)
        e = np.maximum(e - outer * a.T @ (a @ e - y) / len(y), 0)
    np.testing.assert_allclose(found[0], a, atol=2e-4)
    np.testing.assert_allclose(found[1], e, atol=2e-4)
    np.testing.assert_allclose(found[2][-1], np.mean((a @ e - y) ** 2), rtol=1e-2)
    assert vanished > 0


KINDS = ("grad", "prox", "admm")


NOISE = deep_equilibria.Level(jnp.float32(0.7), jnp.float32(0.05))


def problem(scene, start, denoiser, kind):
    """Return settings, parameters with eta 0.3, cube and first state of a kind."""
    settings = deep_equilibria.Settings(kind=kind, step=0.3)
    Y, E = scaled(scene, start)
    params = deep_equilibria.init(E, denoiser, settings)
    return settings, params, Y, deep_equilibria.first_state(dq.abundances.fcls(Y, E), settings)


@pytest.mark.parametrize("kind", KINDS)
def test_equilibria_obey_their_equations(kind, scene, start, denoiser):
    settings, params, Y, state = problem(scene, start, denoiser, kind)
    settings = replace(settings, solver=Solver(Anderson(), tolerance=1e-6, max_steps=400))
    maps, (found, trace) = quick(deep_equilibria.equilibrium, 4)(params, Y, state, NOISE, settings)
    z, u = found if kind == "admm" else (found, None)
    gram = np.asarray(params["endmembers"] @ params["endmembers"].T, float)
    L = np.trace(np.linalg.matrix_power(gram, 16)) ** (1 / 16)
    slope = np.asarray(z @ gram.astype(np.float32) - Y @ params["endmembers"].T) / L
    weight = 0.7 / L

    def noise(x):  # what the denoiser takes away
        return np.asarray(x - dncnn.denoiser(denoiser)(x, jnp.float32(0.05)))

    if kind == "grad":
        np.testing.assert_allclose(slope, -weight * noise(z), atol=1e-5)
        assert np.max(np.abs(slope)) > 1e-3
    elif kind == "prox":
        g = z - jnp.float32(0.3) * jnp.asarray(slope, jnp.float32)
        np.testing.assert_allclose(z, g - noise(g), atol=1e-5)
    else:
        np.testing.assert_allclose(slope, -0.4 * weight * np.asarray(u), atol=1e-5)
        np.testing.assert_allclose(z, z + u - noise(z + u), atol=1e-5)
        assert np.max(np.abs(u)) > 1e-3
    np.testing.assert_allclose(maps, dq.mixing.project_simplex(z), atol=1e-6)
    assert bool(trace.converged)


def test_acceleration_of_both_variables_and_the_step_leave_the_equilibrium(scene, start, denoiser):
    """Anderson over the stacked (z, u) ends where the plain iteration does, in fewer steps, whatever eta is."""
    settings, params, Y, state = problem(scene, start, denoiser, "admm")
    run = quick(deep_equilibria.equilibrium, 4)
    ends, steps = [], []
    for method in (Anderson(), Picard()):
        solver = Solver(method, tolerance=1e-6, max_steps=3000)
        _, (end, trace) = run(params, Y, state, NOISE, replace(settings, solver=solver))
        assert bool(trace.converged)
        ends.append(end)
        steps.append(int(trace.steps))
    other = params | {"eta": jnp.log(jnp.float32(0.8))}
    ends.append(run(other, Y, state, NOISE, replace(settings, solver=Solver(Anderson(), 1e-6, 3000)))[1][0])
    assert steps[0] < steps[1]
    for end in ends[1:]:
        for x, y in zip(ends[0], end, strict=True):
            np.testing.assert_allclose(x, y, atol=2e-4)


def test_the_implicit_gradient_of_both_variables_is_the_unrolled_one(scene, start, denoiser):
    with jax.enable_x64(True):
        settings, *rest = problem(scene, start, denoiser, "admm")
        params, Y, state, noise = jax.tree.map(lambda x: x.astype(jnp.float64), (*rest, NOISE))
        Y, state = Y[:6, :6], jax.tree.map(lambda x: x[:6, :6], state)
        settings = replace(
            settings,
            solver=Solver(Anderson(), tolerance=1e-11, max_steps=1000),
            adjoint=Adjoint(BiCGSTAB(), tolerance=1e-11, max_steps=1000),
        )

        def path(params):
            theta = deep_equilibria.factor(params, Y, noise, settings)
            z, _ = unrolled(deep_equilibria.admm_map, 600, theta, state)
            return jnp.sum(jnp.sin(3 * dq.mixing.project_simplex(z)))

        def implicit(params):
            return jnp.sum(jnp.sin(3 * deep_equilibria.equilibrium(params, Y, state, noise, settings)[0]))

        expected, found = quick(jax.grad(path))(params), quick(jax.grad(implicit))(params)
        assert all(x.dtype == jnp.float64 for x in jax.tree.leaves(found))
        for x, y in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
            np.testing.assert_allclose(y, x, atol=1e-6 * max(1.0, float(jnp.max(jnp.abs(x)))))
        assert abs(float(found["eta"])) < 1e-6  # the equilibrium does not depend on it


@pytest.mark.slow
def test_momentum_ends_at_the_same_equilibrium_in_fewer_steps(scene, start, denoiser):
    settings, params, Y, state = problem(scene, start, denoiser, "grad")
    run = quick(deep_equilibria.equilibrium, 4)
    plain, heavy, restarted = (
        run(params, Y, state, NOISE, replace(settings, solver=solver))[1]
        for solver in (
            Solver(Picard(), tolerance=1e-6, max_steps=3000),
            deep_equilibria.Inertia(radius=1e6, restart=3000, max_steps=3000, tolerance=1e-6),
            deep_equilibria.Inertia(radius=1e-3, restart=10, max_steps=3000, tolerance=1e-6),
        )
    )
    for z, trace in (heavy, restarted):
        assert bool(trace.converged) and int(trace.steps) < int(plain[1].steps)
        np.testing.assert_allclose(z, plain[0], atol=2e-3)
    assert int(heavy[1].steps) != int(restarted[1].steps)


def test_the_catalogue_names_them():
    words = {"admm-net": "ADMM-Net", "unrolled-nmf": "unrolled SGSNMF", "unrolled-pnp": "unrolled PnP-DnCNN, untied"}
    words |= {"unrolled-pnp-tied": "unrolled PnP-DnCNN, tied", "de-grad-inertial": "DE-GRAD, inertial"}
    words |= {f"de-{kind}": f"DE-{kind.upper()}" for kind in KINDS}
    assert {word: catalogue.competitor(word).name for word in words} == words


@pytest.mark.slow
@pytest.mark.parametrize("word", ["unrolled-pnp", "de-grad", "de-grad-inertial", "de-prox"])
def test_those_with_a_denoiser_train_it_where_none_is_given(word, scene, start):
    found = jax.jit(catalogue.competitor(word).estimate)(jax.random.key(0), scene.cube, start)
    np.testing.assert_allclose(jnp.sum(found.abundances, axis=-1), 1, atol=1e-5)
    assert float(dq.metrics.armse(found.abundances, scene.abundances)) < 0.15


@pytest.mark.slow
def test_a_bounded_denoiser_has_the_slope_that_its_docstring_says():
    weights, _ = dncnn.train(jax.random.key(5), replace(BOUNDED, layers=3, steps=200))
    free, _ = dncnn.train(jax.random.key(5), replace(TINY, layers=3, steps=200))
    maps = synthetic.abundance_field(jax.random.key(1), (9, 9), 3, length=3.0, contrast=2.0)[..., 0]

    def slope(weights, sigma):
        flat = jax.jacrev(lambda x: dncnn.noise_of(weights, x.reshape(9, 9), jnp.float32(sigma)).reshape(-1))
        return float(np.linalg.norm(flat(maps.reshape(-1)), 2))

    for sigma in (0.01, 0.1):
        assert 0.1 < slope(weights, sigma) <= np.hypot(4 / 3, 2 * sigma)
        assert slope(weights, sigma) < slope(free, sigma)
