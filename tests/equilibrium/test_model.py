"""The equilibrium map: the paper's equation, its physical start, and a loop without bands."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dequnmix_jax import mixing
from dequnmix_jax.abundances import least_squares
from dequnmix_jax.checks import InputError
from dequnmix_jax.datasets import registry, synthetic
from dequnmix_jax.equilibrium import curvature, energy, fixed_point_map, model, network
from dequnmix_jax.equilibrium.config import Analytic, Cone, Conv, Energy, Model, Residual, Simplex, Soft, Softmax
from dequnmix_jax.ops import convolution
from dequnmix_jax.solvers.config import Adjoint, Solver

BANDS = 97  # a number that no other axis here has
GRADIENTS = (Analytic(), Residual(width=8), Energy(width=8))
CONSTRAINTS = (Simplex(), Cone(), Soft())


def word(value):
    return getattr(value, "word", "none")


@pytest.fixture(scope="module")
def sample():
    E = synthetic.spectra(jax.random.key(3), 3, BANDS)
    return synthetic.linear_scene(jax.random.key(4), (11, 10), E, 30.0, brightness=0.1)


def fresh(config, sample, key=0):
    return model.init(jax.random.key(key), sample.cube, config, endmembers=sample.endmembers)


def trained(config, sample):
    """Return parameters as after training: none is zero."""
    params = fresh(config, sample)
    leaves, tree = jax.tree.flatten(params["network"])
    keys = jax.random.split(jax.random.key(9), len(leaves))
    moved = [x + 0.05 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    params = params | {"network": jax.tree.unflatten(tree, moved)}
    for part in ("energy", "prox"):
        if part in params["network"]:
            params["network"][part]["gain"] = jnp.abs(params["network"][part]["gain"]) + 0.1
    return params


def classically(constraint, cube, endmembers):
    if isinstance(constraint, Simplex):
        return least_squares.fcls(cube, endmembers)
    return {Cone: least_squares.scaled_nnls, Soft: least_squares.soft_nnls}[type(constraint)](cube, endmembers)[0]


@pytest.mark.parametrize("gradient", GRADIENTS, ids=word)
@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=word)
def test_untrained_equilibrium_is_the_classical_answer(gradient, constraint, sample):
    config = Model(gradient=gradient, constraint=constraint)
    estimate, trace = model.unmix(fresh(config, sample), sample.cube, config)
    exact = classically(constraint, sample.cube, sample.endmembers)
    assert bool(trace.converged)
    assert float(jnp.sqrt(jnp.mean((estimate.abundances - exact) ** 2))) < 1e-3


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=word)
def test_untrained_equilibrium_is_the_classical_answer_on_samson(constraint, data_dir):
    scene, truth = registry.load("samson_zhu")
    Y, E = jnp.asarray(scene.cube), jnp.asarray(truth.endmembers)
    exact = classically(constraint, Y, E)
    for gradient in (Analytic(), Residual(), Energy()):
        config = Model(gradient=gradient, constraint=constraint)
        estimate, trace = jax.jit(model.unmix, static_argnums=2)(
            model.init(jax.random.key(0), Y, config, endmembers=E), Y, config
        )
        assert bool(trace.converged)
        assert float(jnp.sqrt(jnp.mean((estimate.abundances - exact) ** 2))) < 1e-3


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=word)
def test_both_metrics_have_the_same_equilibrium(constraint, sample):
    tight = Solver(tolerance=1e-6, max_steps=3000)
    answers = []
    for metric in ("data", "euclidean"):
        config = Model(constraint=constraint, metric=metric, gradient=Energy(width=8), forward=tight)
        estimate, _ = model.unmix(trained(config, sample), sample.cube, config)
        answers.append(estimate.abundances)
    np.testing.assert_allclose(answers[0], answers[1], atol=5e-3)


def test_the_start_does_not_move_the_equilibrium(sample):
    config = Model(gradient=Energy(width=8), forward=Solver(tolerance=1e-6))
    params = trained(config, sample)
    solve = jax.jit(lambda z: model.unmix(params, sample.cube, config, initial=z)[0].abundances)
    first = solve(jnp.zeros((11, 10, 3)))
    for key in range(10):
        other = solve(jax.random.uniform(jax.random.key(key), (11, 10, 3)))
        np.testing.assert_allclose(other, first, atol=1e-4)


def literal(params, A, cube, config):
    """Write the paper's equation out with all its bands, in the Euclidean metric, on the simplex."""
    scale = jnp.sqrt(jnp.mean(cube**2))
    E, Y, weights = params["endmembers"] / scale, cube / scale, params["network"]
    centred = E - jnp.mean(E, axis=0, keepdims=True)
    residual = A @ E - Y
    L = curvature.spectral_bound(centred @ centred.T)
    G = residual @ centred.T / L
    total = 1.0
    ones = jnp.ones((*cube.shape[:2], 1))
    inner = ones.at[0].set(0).at[-1].set(0).at[:, 0].set(0).at[:, -1].set(0)  # where a 3 x 3 window is whole
    net = network.Net(8, 3, 3, True, True)
    if isinstance(config.gradient, Residual):
        features = residual @ weights["first"] + weights["bias"][None, None]
        G = G + net.apply({"params": weights["net"]}, features, ones)
    if isinstance(config.gradient, Energy):
        v = net.apply({"params": weights["net"]}, Y @ weights["first"] + weights["bias"][None, None], ones)
        parts = energy.energy_weights(weights["energy"], pointwise=4)
        G = G + energy.energy_gradient(A, convolution.convolve(v, parts.filters), parts, ones, inner)
        total = 1.0 + energy.energy_bound(parts)
    X = A - config.step / total * G
    if config.prox is not None:
        parts = energy.energy_weights(weights["prox"])
        parts = parts._replace(gain=jnp.minimum(parts.gain, 1))
        X = X - energy.energy_gradient(X, jnp.zeros((1, 1, 1)), parts, ones, inner)
    return mixing.project_simplex(X)


@pytest.mark.parametrize("gradient", GRADIENTS, ids=word)
@pytest.mark.parametrize("prox", [None, Conv(width=8)], ids=["none", "conv"])
def test_the_factored_map_is_the_equation_of_the_paper(gradient, prox, sample):
    config = Model(gradient=gradient, prox=prox, constraint=Simplex(), metric="euclidean", step=0.7)
    params = trained(config, sample)
    A = mixing.project_simplex(jax.random.normal(jax.random.key(5), (11, 10, 3)))
    ours = model.equilibrium_map(params, A, sample.cube, config)
    np.testing.assert_allclose(ours, literal(params, A, sample.cube, config), atol=2e-4)


def test_the_learned_energy_weighs_more_against_fewer_bands(sample):
    """With half of the bands its weight is doubled, because noise is stronger by that factor."""
    config = Model(gradient=Energy(width=8))
    params = trained(config, sample)
    seen = (jnp.arange(sample.cube.shape[2]) % 2 == 0).astype(jnp.float32)
    every = fixed_point_map.factor(params, sample.cube, config).energy.weights.gain
    half = fixed_point_map.factor(params, sample.cube, config, bands=seen).energy.weights.gain
    np.testing.assert_allclose(half, every * sample.cube.shape[2] / jnp.sum(seen), rtol=1e-6)
    assert float(jnp.max(every)) > 0


CHOICES = [(g, p, c) for g in GRADIENTS for p, c in ((None, Cone()), (Conv(width=8), Simplex()), (None, Softmax()))]


@pytest.mark.parametrize(("gradient", "prox", "constraint"), CHOICES, ids=word)
def test_nothing_inside_the_loop_has_the_bands_of_the_cube(gradient, prox, constraint, sample):
    config = Model(gradient=gradient, prox=prox, constraint=constraint)
    params = fresh(config, sample)

    def answer(params, cube):
        return model.unmix(params, cube, config)[0].state

    text = jax.jit(answer).lower(params, sample.cube).compile().as_text()
    inside = loop_text(text)
    assert re.search(r"\[(\d+,)*97(,\d+)*\]", text)
    assert len(inside) > 1000
    assert not re.search(r"\[(\d+,)*97(,\d+)*\]", inside)


def loop_text(text):
    """Return the computations of a compiled module that its while loops run."""
    blocks = dict(re.findall(r"^%?(\S+) \([^\n]*\{\n(.*?)^\}", text, flags=re.M | re.S))
    waiting, found = re.findall(r"body=%?([\w.\-]+)", text), set()
    while waiting:
        name = waiting.pop()
        if name in found or name not in blocks:
            continue
        found.add(name)
        waiting += re.findall(r"(?:calls|to_apply|body|condition)=%?([\w.\-]+)", blocks[name])
    return "\n".join(blocks[name] for name in found)


@pytest.mark.parametrize(
    "config", [Model(gradient=Energy(width=8)), Model(gradient=Residual(width=8), constraint=Simplex())]
)
def test_a_masked_frame_changes_nothing(config, sample):
    params = trained(config, sample)
    inside, _ = model.unmix(params, sample.cube, config)
    frame = ((2, 1), (3, 4))
    cube = jnp.pad(sample.cube, (*frame, (0, 0)), constant_values=jnp.nan)
    mask = jnp.pad(jnp.ones((11, 10), bool), frame)
    padded, trace = model.unmix(params, cube, config, mask=mask)
    np.testing.assert_allclose(padded.abundances[2:13, 3:13], inside.abundances, atol=1e-3)
    assert bool(trace.converged)
    for maps in (padded.abundances, padded.brightness, padded.state):
        outside = np.asarray(maps).copy()
        outside[2:13, 3:13] = 0
        assert not outside.any()


def test_spectral_normalisation_tames_a_wild_residual_network(sample):
    wild = Model(gradient=Residual(width=8, attention=False), constraint=Simplex(), metric="euclidean")
    params = trained(wild, sample)
    params["network"] = jax.tree.map(lambda x: 10 * x, params["network"])
    # Close together and inside the simplex, so that the projection does not hide how steep the network is.
    a, b = 1 / 3 + 1e-3 * jax.random.normal(jax.random.key(5), (2, 11, 10, 3))
    a, b = (x - jnp.mean(x, axis=-1, keepdims=True) + 1 / 3 for x in (a, b))
    ratios = []
    for config in (wild, replace(wild, gradient=replace(wild.gradient, normalisation="spectral"))):
        change = [model.equilibrium_map(params, A, sample.cube, config) for A in (a, b)]
        ratios.append(float(jnp.linalg.norm(change[0] - change[1]) / jnp.linalg.norm(a - b)))
    # |A - eta G| grows by at most 1 + eta |network| with eta = 1; the projection does not expand.
    assert ratios[1] < 2 < ratios[0]


def test_the_cone_does_not_care_for_the_unit_of_the_cube(sample):
    config = Model(gradient=Energy(width=8), forward=Solver(tolerance=1e-6))
    params = trained(config, sample)
    one, _ = model.unmix(params, sample.cube, config)
    other, _ = model.unmix(params, 1e4 * sample.cube, config)
    np.testing.assert_allclose(other.abundances, one.abundances, atol=1e-4)
    np.testing.assert_allclose(other.brightness, 1e4 * one.brightness, rtol=1e-3)
    np.testing.assert_allclose(model.reconstruct(one), sample.cube, atol=0.2)


def test_many_endmembers_take_the_other_path_to_the_same_answer():
    E = synthetic.spectra(jax.random.key(1), 8, 40)
    scene = synthetic.linear_scene(jax.random.key(2), (6, 5), E, 40.0)
    for constraint in (Simplex(), Cone()):
        config = Model(gradient=Analytic(), constraint=constraint, forward=Solver(tolerance=1e-5))
        params = model.init(jax.random.key(0), scene.cube, config, endmembers=E)
        estimate, _ = model.unmix(params, scene.cube, config)
        exact = (
            least_squares.fcls(scene.cube, E)
            if isinstance(constraint, Simplex)
            else least_squares.scaled_nnls(scene.cube, E)[0]
        )
        assert float(jnp.sqrt(jnp.mean((estimate.abundances - exact) ** 2))) < 5e-3


def test_soft_sum_leaves_spectra_at_their_level_and_brightness_near_one(sample):
    config = Model(gradient=Analytic(), constraint=Soft(slack=1.0))
    estimate, trace = model.unmix(fresh(config, sample), sample.cube, config)
    abundances, brightness = least_squares.soft_nnls(sample.cube, sample.endmembers, weight=1.0)
    assert bool(trace.converged)
    np.testing.assert_allclose(estimate.abundances, abundances, atol=2e-3)
    np.testing.assert_allclose(estimate.brightness, brightness, atol=2e-3)
    np.testing.assert_array_equal(estimate.endmembers, sample.endmembers)
    rebuilt = model.reconstruct(estimate)
    assert float(jnp.sqrt(jnp.mean((rebuilt - sample.cube) ** 2) / jnp.mean(sample.cube**2))) < 0.1


def test_softmax_comes_near_the_simplex_as_gamma_grows(sample):
    exact = least_squares.fcls(sample.cube, sample.endmembers)
    gaps = []
    for gamma in (10.0, 1000.0):
        config = Model(constraint=Softmax(gamma=gamma), gradient=Analytic(), forward=Solver(max_steps=2000))
        estimate, _ = model.unmix(fresh(config, sample), sample.cube, config)
        np.testing.assert_allclose(estimate.abundances.sum(-1), 1, atol=1e-5)
        gaps.append(float(jnp.sqrt(jnp.mean((estimate.abundances - exact) ** 2))))
    assert gaps[1] < 0.02 < gaps[0]


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=word)
def test_gradient_through_unmix_agrees_with_finite_differences(constraint, x64, sample):
    sample = jax.tree.map(lambda x: x.astype(jnp.float64), sample)
    config = Model(
        constraint=constraint, gradient=Energy(width=4), forward=Solver(tolerance=1e-11, max_steps=500),
        backward=Adjoint(tolerance=1e-11, max_steps=500),
    )  # fmt: skip
    params = jax.tree.map(lambda x: x.astype(jnp.float64), trained(config, sample))
    weight = jax.random.normal(jax.random.key(8), (11, 10, 3), jnp.float64)

    @jax.jit
    def value(params, cube):
        return jnp.sum(model.unmix(params, cube, config)[0].abundances * weight)

    gradient = jax.jit(jax.grad(value, (0, 1)))(params, sample.cube)
    leaves, tree = jax.tree.flatten((params, sample.cube))
    keys = jax.random.split(jax.random.key(6), len(leaves))
    direction = jax.tree.unflatten(
        tree, [jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)]
    )
    h = 1e-7
    ends = [value(*jax.tree.map(lambda p, d, s=s: p + s * h * d, (params, sample.cube), direction)) for s in (1, -1)]
    slope = sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True))
    np.testing.assert_allclose(slope, (ends[0] - ends[1]) / (2 * h), rtol=1e-5)


def test_the_mean_of_a_cone_has_brightness_and_the_simplex_has_none(sample):
    cone, _ = model.unmix(fresh(Model(gradient=Energy(width=4)), sample), sample.cube, Model(gradient=Energy(width=4)))
    assert float(jnp.std(cone.brightness)) > 0.01
    np.testing.assert_allclose(jnp.max(cone.endmembers, axis=1), 1, rtol=1e-5)
    config = Model(gradient=Energy(width=4), constraint=Simplex())
    flat, _ = model.unmix(fresh(config, sample), sample.cube, config)
    assert (np.asarray(flat.brightness) == 1).all()


def test_bad_input_is_answered_in_a_sentence(sample):
    config, params = Model(gradient=Energy(width=4)), fresh(Model(gradient=Energy(width=4)), sample)
    with pytest.raises(InputError, match="NaN or infinite values in 1 of 110 pixels, the first at"):
        model.unmix(params, sample.cube.at[2, 3, 4].set(jnp.nan), config)
    with pytest.raises(InputError, match=r"endmembers have 97 bands and the cube has 96"):
        model.unmix(params, sample.cube[..., :-1], config)
    with pytest.raises(InputError, match="initial has shape"):
        model.unmix(params, sample.cube, config, initial=jnp.zeros((1, 1, 3)))
    with pytest.raises(InputError, match="1 endmember asked for"):
        model.init(jax.random.key(0), sample.cube, config, endmembers=sample.endmembers[:1])
    with pytest.raises(InputError, match="mask leaves no valid pixel"):
        model.unmix(params, sample.cube, config, mask=jnp.zeros((11, 10), bool))
    with pytest.raises(InputError, match="expected an odd number"):
        Model(gradient=Energy(kernel=4))
