"""The equilibrium with a nonlinear data term: the exact answer of each pixel, exact derivatives, and what it says."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax import mixing
from dequnmix_jax.abundances import nonlinear
from dequnmix_jax.cli import main
from dequnmix_jax.datasets import synthetic
from dequnmix_jax.equilibrium import fixed_point_map, model, nonlinear_terms
from dequnmix_jax.equilibrium.config import MLM, PPNM, Analytic, Cone, Conv, Energy, KHype, Model, Simplex
from dequnmix_jax.pipeline import doubts
from dequnmix_jax.solvers.config import Adjoint, Solver
from dequnmix_jax.solvers.implicit import unrolled
from dequnmix_jax.training import checkpoint, objective
from dequnmix_jax.training.words import model_of, words_of
from dequnmix_jax.types import Trace

SHAPE, R, B = (5, 4), 3, 25
KINDS = (KHype(mu=1e-3, xi=3.0), PPNM(), MLM())


def word(value):
    return value.word


def draw(kind, snr=35.0, dtype=jnp.float32):
    """Return a cube mixed by a model (K-Hype's by the multilinear one), its spectra, and b or P."""
    keys = jax.random.split(jax.random.key(11), 4)
    E = synthetic.spectra(keys[0], R, B).astype(dtype)
    A = mixing.project_simplex(jax.random.normal(keys[1], (*SHAPE, R), dtype))
    t = jax.random.uniform(keys[2], SHAPE, dtype, 0.0, 0.5)
    cube = nonlinear.post_nonlinear(A, E, t - 0.25) if kind.word == "ppnm" else nonlinear.multilinear(A, E, t)
    return (cube if snr is None else synthetic.add_noise(keys[3], cube, snr)), E, t


def configured(kind, gradient=None, tolerance=1e-5, **more):
    solvers = {"forward": Solver(tolerance=tolerance, max_steps=500), "backward": Adjoint(max_steps=500)}
    return Model(gradient=gradient or Analytic(), constraint=Simplex(), nonlinear=kind, **solvers, **more)


def trained(config, cube, E):
    """Return parameters as after training: none is zero."""
    params = model.init(jax.random.key(0), cube, config, endmembers=E)
    leaves, tree = jax.tree.flatten(params["network"])
    keys = jax.random.split(jax.random.key(9), len(leaves))
    moved = [x + 0.05 * jax.random.normal(k, x.shape).astype(x.dtype) for x, k in zip(leaves, keys, strict=True)]
    params = params | {"network": jax.tree.unflatten(tree, moved)}
    params["network"]["energy"]["gain"] = jnp.abs(params["network"]["energy"]["gain"]) + 0.1
    return params


solve = jax.jit(model.unmix, static_argnums=2)


@partial(jax.jit, static_argnums=0)
def exactly(kind, cube, E):
    """Return abundances and what is added to A E by the method of single pixels."""
    if isinstance(kind, KHype):
        found = dq.abundances.khype(cube, E, mu=kind.mu, xi=kind.xi)
        return found.abundances, found.fluctuation
    found = getattr(dq.abundances, kind.word)(cube, E)
    mixed = nonlinear.post_nonlinear if kind.word == "ppnm" else nonlinear.multilinear
    return found.abundances, mixed(found.abundances, E, found.parameters[..., 0]) - found.abundances @ E


def slowly(*kinds):
    return [pytest.param(kind, marks=pytest.mark.slow) for kind in kinds]


@pytest.mark.parametrize("kind", [KINDS[0], *slowly(PPNM(), MLM())], ids=lambda k: getattr(k, "word", None))
def test_without_network_it_is_the_method_of_single_pixels(kind, x64):
    """From FCLS; the default first state of PPNM and MLM is that method itself."""
    cube, E, _ = draw(kind, dtype=jnp.float64)
    config, params, linear = (
        configured(kind, tolerance=1e-9),
        {"endmembers": E, "network": {}},
        dq.abundances.fcls(cube, E),
    )
    estimate, trace = solve(params, cube, config, initial=linear)
    A, added = exactly(kind, cube, E)
    assert bool(trace.converged) and int(trace.steps) < 40
    np.testing.assert_allclose(estimate.abundances, A, atol=2e-6)
    np.testing.assert_allclose(estimate.fluctuation, added, atol=2e-6)
    np.testing.assert_allclose(model.reconstruct(estimate), A @ E + added, atol=3e-6)
    assert float(jnp.max(jnp.abs(estimate.abundances - linear))) > 0.01  # the term is not the linear one


@pytest.mark.slow
@pytest.mark.parametrize("kind", [PPNM(), MLM()], ids=word)
def test_the_first_state_is_the_answer_and_the_numbers_of_pixels_are_those_of_the_method(kind, x64):
    cube, E, _ = draw(kind, dtype=jnp.float64)
    config = configured(kind)
    estimate, trace = solve({"endmembers": E, "network": {}}, cube, config)
    found = getattr(dq.abundances, kind.word)(cube, E)
    assert bool(trace.converged) and int(trace.steps) == 2
    np.testing.assert_allclose(nonlinear_terms.pixel_parameter(estimate, config), found.parameters[..., 0], atol=1e-4)
    assert not nonlinear_terms.folded(estimate, config).any()


@pytest.mark.slow
def test_without_a_kernel_khype_is_fcls():
    cube, E, _ = draw(KHype())
    estimate, _ = solve({"endmembers": E, "network": {}}, cube, configured(KHype(mu=1e-9, xi=1e9)))
    np.testing.assert_allclose(estimate.abundances, dq.abundances.fcls(cube, E), atol=1e-4)


GRADIENTS = [(MLM(), Analytic()), *[(kind, Energy(width=4, attention=False)) for kind in KINDS]]


@pytest.mark.parametrize(
    ("kind", "gradient"),
    [GRADIENTS[0], *[pytest.param(*pair, marks=pytest.mark.slow) for pair in GRADIENTS[1:]]],
    ids=lambda value: value.word,
)
def test_the_implicit_gradient_is_that_of_the_path_and_of_differences(kind, gradient, x64):
    """In the network, the cube and the spectra, which also make the kernel."""
    cube, E, _ = draw(kind, dtype=jnp.float64)
    config, params = configured(kind, gradient, tolerance=1e-11), {"endmembers": E, "network": {}}
    if config.network is not None:
        params = jax.tree.map(lambda x: x.astype(jnp.float64), trained(config, cube, E))
    weights = [jax.random.normal(jax.random.key(8), x, jnp.float64) for x in ((*SHAPE, R), cube.shape)]
    first = dq.abundances.fcls(cube, E)

    def measured(estimate):
        return jnp.sum(estimate.abundances * weights[0]) + jnp.sum(estimate.fluctuation * weights[1])

    def value(params, cube):
        return measured(model.unmix(params, cube, config, initial=first)[0])

    def along_the_path(params, cube):
        theta = fixed_point_map.factor(params, cube, config)
        state = unrolled(fixed_point_map.state_map(config), 60, theta, first)
        return measured(model.read_state(params, state, cube, config))

    leaves, tree = jax.tree.flatten((params, cube))
    keys = jax.random.split(jax.random.key(6), len(leaves))
    drawn = [jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)]

    def at(h):
        return jax.tree.unflatten(tree, [x + h * d for x, d in zip(leaves, drawn, strict=True)])

    def slope(gradient):
        return float(sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(gradient), drawn, strict=True)))

    h, both = 1e-6, jax.jit(jax.value_and_grad(value, (0, 1)))
    implicit = slope(both(*at(0.0))[1])
    np.testing.assert_allclose(implicit, (both(*at(h))[0] - both(*at(-h))[0]) / (2 * h), rtol=1e-5)
    if config.network is not None:
        path = jax.jit(jax.grad(along_the_path, (0, 1)))(*at(0.0))
        np.testing.assert_allclose(implicit, slope(path), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [KHype(), PPNM()], ids=word)
def test_the_gradient_needs_the_memory_of_one_step(kind):
    cube, E, _ = draw(kind)
    config, first = configured(kind), dq.abundances.fcls(cube, E)

    def size(steps):
        longer = replace(config, forward=Solver(tolerance=0.0, max_steps=steps))

        def value(E):
            estimate, _ = model.unmix({"endmembers": E, "network": {}}, cube, longer, initial=first)
            return jnp.sum(jnp.square(estimate.abundances))

        return jax.jit(jax.grad(value)).lower(E).compile().memory_analysis().temp_size_in_bytes

    assert size(300) <= size(3) * 1.01


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=word)
def test_masks_and_batches_change_nothing(kind):
    cube, E, _ = draw(kind)
    config = configured(kind, Energy(width=4))
    params = trained(config, cube, E)
    other = jnp.flip(cube, 0) * 0.9
    both = jax.jit(jax.vmap(lambda Y: model.unmix(params, Y, config)[0]))(jnp.stack([cube, other]))
    alone = [solve(params, Y, config)[0] for Y in (cube, other)]
    for n in range(2):
        np.testing.assert_allclose(both.abundances[n], alone[n].abundances, atol=2e-4)
    frame = ((2, 1), (1, 3))
    framed = jnp.pad(cube, (*frame, (0, 0)), constant_values=jnp.nan)
    mask = jnp.pad(jnp.ones(SHAPE, bool), frame)
    estimate, trace = solve(params, framed, config, mask=mask)
    inside = np.s_[2 : 2 + SHAPE[0], 1 : 1 + SHAPE[1]]
    assert bool(trace.converged)
    np.testing.assert_allclose(estimate.abundances[inside], alone[0].abundances, atol=2e-4)
    np.testing.assert_allclose(estimate.fluctuation[inside], alone[0].fluctuation, atol=2e-4)
    outside = ~np.asarray(mask)
    assert not np.asarray(estimate.abundances)[outside].any() and not np.asarray(estimate.fluctuation)[outside].any()


@pytest.mark.slow
def test_the_certificate_holds_for_khype_and_claims_nothing_for_the_others():
    cube, E, _ = draw(KHype())
    certify = jax.jit(dq.equilibrium.certificate, static_argnums=2)
    for kind in (KHype(), PPNM()):
        config = configured(kind, Energy(width=4))
        found = certify(trained(config, cube, E), cube, config)
        assert bool(found.exists) == isinstance(kind, KHype)
        assert float(found.observed_rate) < 1
        if found.exists:
            assert float(found.observed_rate) <= float(found.rate) < 1
        else:
            assert np.isnan(found.rate)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [PPNM(), MLM()], ids=word)
def test_the_map_contracts_at_the_answer_of_a_pixel_that_does_not_fit(kind, x64):
    """The metric bounds the whole Hessian: without D of (3) the rate of PPNM is 3.5 here."""
    _, E, _ = draw(kind, dtype=jnp.float64)
    keys = jax.random.split(jax.random.key(5), 2)
    A = mixing.project_simplex(jax.random.normal(keys[0], (30, 30, R), jnp.float64))
    cube = A @ E * jax.random.uniform(keys[1], (30, 30, 1), jnp.float64, 0.2, 1.3)
    cube = synthetic.add_noise(keys[0], cube, 20.0)
    config = configured(kind, tolerance=1e-9)
    params = {"endmembers": E, "network": {}}
    found = jax.jit(dq.equilibrium.certificate, static_argnums=2)(params, cube, config)
    assert bool(found.trace.converged) and float(found.observed_rate) < 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", [PPNM(), MLM()], ids=word)
def test_the_loss_is_that_of_the_model_and_held_out_bands_are_predicted(kind):
    """At the truth, without noise, nothing is left; by the linear model something is."""
    cube, E, _ = draw(kind, snr=None)
    held_out, linear = jnp.arange(B) % 3 == 0, dq.abundances.fcls(cube, E)
    value = jax.jit(partial(objective.loss, config=configured(kind)))
    left, _ = value({"endmembers": E, "network": {}}, cube, initial=linear, held_out=held_out)
    angle = jnp.mean(dq.metrics.spectral_angle(cube[..., held_out], (linear @ E)[..., held_out]))
    assert float(left) < 0.02 * float(angle)


def test_other_units_are_refused_by_all_ways(tmp_path, capsys):
    """Products of spectra in percent mean nothing; a model knows its unit, a scene does not."""
    cube, E, _ = (np.asarray(x) for x in draw(PPNM()))
    percent = 100 * cube
    config = configured(PPNM())
    np.save(tmp_path / "s.npy", percent)
    model_file = tmp_path / "m.npz"
    checkpoint.save(model_file, {"endmembers": E, "network": {}}, {"model": words_of(config), "seed": 0})
    with pytest.raises(dq.InputError, match=r"mean square of the scene is .*scale=100 \(--scale 100\)"):
        dq.run(percent, R, jax.random.key(0), config=config)
    with pytest.raises(dq.InputError, match="expected reflectance"):
        dq.unmix_tiled({"endmembers": E, "network": {}}, percent, config, tmp_path / "out", tile=3)
    scene, out = str(tmp_path / "s.npy"), str(tmp_path / "out")
    for words in (
        ["fit", scene, "--endmembers", "3", "--constraint", "simplex", "--nonlinear", "mlm", "-o", out],
        ["unmix", scene, str(model_file), "-o", out],
    ):
        assert main.main(words) == 1
        assert "--scale 100" in capsys.readouterr().err.splitlines()[-1]
    assert main.main(["unmix", scene, str(model_file), "-o", out, "--scale", "100", "--no-plots"]) == 0


def test_a_curve_that_falls_is_said():
    x = jnp.linspace(0.2, 0.9, 8)
    E = jnp.stack([x, 0.5 * x])
    A = jnp.asarray([[[1.0, 0.0]], [[0.0, 1.0]]])
    b = jnp.asarray([[-0.8], [-0.8]])
    estimate = dq.Estimate(A, E, jnp.ones((2, 1)), A, nonlinear.post_nonlinear(A, E, b) - A @ E)
    config = configured(PPNM())
    np.testing.assert_allclose(nonlinear_terms.pixel_parameter(estimate, config), b, rtol=1e-4)
    assert nonlinear_terms.folded(estimate, config)[:, 0].tolist() == [True, False]
    reached = Trace(jnp.asarray(3), jnp.asarray(1e-6), jnp.asarray(True))
    scene = dq.Scene(np.ones((2, 1, 8), np.float32))
    (said,) = doubts(reached, config, estimate, scene)
    assert "In 1 pixel the curve of ppnm falls" in said
    dark = replace(scene, cube=np.zeros((2, 1, 8), np.float32))  # a pixel of zeros has no abundances to doubt
    assert doubts(reached, config, estimate, dark) == []
    assert doubts(reached, replace(config, nonlinear=None), estimate, scene) == []
    assert "was not reached" in doubts(reached._replace(converged=jnp.asarray(False)), config, estimate, scene)[0]


def test_words_are_values_and_what_does_not_fit_is_said():
    config = Model(gradient="analytic", constraint="simplex", nonlinear="khype")
    assert config.nonlinear == KHype() and model_of(words_of(config)) == config
    assert model_of({"constraint": "simplex", "nonlinear": "khype", "xi": 2.0}).nonlinear == KHype(xi=2.0)
    with pytest.raises(dq.InputError, match=r"Model.nonlinear is 'gbm'; expected one of KHype\(.*PPNM\(\).*MLM\(\)"):
        Model(constraint=Simplex(), nonlinear="gbm")
    with pytest.raises(dq.InputError, match='Write constraint="simplex"'):
        Model(constraint=Cone(), nonlinear=PPNM())
    for wrong in ({"metric": "euclidean"}, {"prox": Conv()}, {"step": None}):
        with pytest.raises(dq.InputError, match='expected metric="data", prox=None and a number as step'):
            Model(gradient=Analytic(), constraint=Simplex(), nonlinear=MLM(), **wrong)
    with pytest.raises(dq.InputError, match=r"KHype\.xi is -1"):
        KHype(xi=-1)
    E = np.random.default_rng(1).uniform(0.1, 0.9, (2, 4)).astype(np.float32)
    cube, config = np.ones((2, 2, 4), np.float32), configured(PPNM())
    with pytest.raises(dq.InputError, match="expected reflectance, at most about 1"):
        model.init(jax.random.key(0), cube, config, endmembers=1000 * E)
    with pytest.raises(dq.InputError, match="expected reflectance, at most about 1"):
        model.unmix({"endmembers": 1000 * E, "network": {}}, cube, config)
    A = np.full((2, 2, 2), 0.5, np.float32)
    with pytest.raises(dq.InputError, match="expected linear mixing, because other starts are unmixed linearly"):
        dq.run(np.ones((4, 4, 9), np.float32), 3, jax.random.key(0), config=config, uncertainty="starts")
    with pytest.raises(dq.InputError, match="has no number of each pixel"):
        nonlinear_terms.pixel_parameter(dq.Estimate(A, E, A[..., 0], A), replace(config, nonlinear=None))


@pytest.mark.slow
def test_it_reaches_the_result_of_a_run():
    """The residual of a result is what the model leaves, and the constraint that it needs is kept."""
    cube, _, _ = draw(PPNM())
    config = configured(PPNM())
    result = dq.run(np.asarray(cube), R, jax.random.key(0), config=config)
    assert result.config.constraint == Simplex() and result.summary["configuration"]["model"]["nonlinear"] == "ppnm"
    estimate, _ = solve(result.params, cube, result.config)
    rest = np.asarray(cube - dq.reconstruct(estimate))
    np.testing.assert_allclose(result.residual, np.sqrt(np.mean(np.square(rest), axis=-1)), atol=1e-4)
    linear = np.asarray(cube - estimate.abundances @ estimate.endmembers)
    assert np.sqrt(np.mean(np.square(linear))) > 1.2 * np.sqrt(np.mean(np.square(rest)))
