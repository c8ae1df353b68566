"""Arguments of the wrong kind are named in a message that says what to write instead."""

import dataclasses
import re
import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax import checks
from dequnmix_jax.cli import main
from dequnmix_jax.datasets import synthetic
from dequnmix_jax.scenes.scene import check_scene, mask_invalid
from dequnmix_jax.scenes.source import source_of
from dequnmix_jax.tiles import patches, survey

rng = np.random.default_rng(0)
E = rng.uniform(0.1, 0.9, (3, 12)).astype(np.float32)
A = rng.dirichlet(np.ones(3), (8, 8)).astype(np.float32)
Y = A @ E
SCENE = dq.Scene(Y)
MODEL = dq.Model(gradient=dq.equilibrium.Analytic())
TRAINING, RATES = dq.Training(epochs=1), dq.Rates()
PARAMS = {"endmembers": jnp.asarray(E), "network": {}}
KEY = jax.random.key(0)
FOUND = dq.Estimate(jnp.asarray(A), jnp.asarray(E), jnp.ones((8, 8)), jnp.asarray(A))

OF_A_CUBE = {
    "fit": lambda cube: dq.fit(KEY, cube, MODEL, TRAINING, count=3),
    "resumable_fit": lambda cube: dq.training.resumable_fit(KEY, cube, MODEL, TRAINING, count=3),
    "unmix": lambda cube: dq.unmix(PARAMS, cube, MODEL),
    "equilibrium_map": lambda cube: dq.equilibrium_map(PARAMS, A, cube, MODEL),
    "certificate": lambda cube: dq.equilibrium.certificate(PARAMS, cube, MODEL),
    "last_change": lambda cube: dq.equilibrium.last_change(PARAMS, A, cube, MODEL),
    "loss": lambda cube: dq.training.loss(PARAMS, cube, MODEL),
    "init": lambda cube: dq.init(KEY, cube, MODEL, endmembers=E),
    "select_endmembers": lambda cube: dq.endmembers.select_endmembers(KEY, cube, 3),
    "vca": lambda cube: dq.endmembers.vca(KEY, cube, 3),
    "sivm": lambda cube: dq.endmembers.sivm(cube, 3),
    "atgp": lambda cube: dq.endmembers.atgp(cube, 3),
    "nfindr": lambda cube: dq.endmembers.nfindr(cube, 3),
    "minimum_volume": lambda cube: dq.endmembers.minimum_volume(KEY, cube, 3),
    "purify": lambda cube: dq.endmembers.purify(cube, E, A),
    "hysime": dq.endmembers.hysime,
    "virtual_dimension": dq.endmembers.virtual_dimension,
    "superpixels": dq.endmembers.superpixels,
    "fcls": lambda cube: dq.abundances.fcls(cube, E),
    "nnls": lambda cube: dq.abundances.nnls(cube, E),
    "scaled_nnls": lambda cube: dq.abundances.scaled_nnls(cube, E),
    "soft_nnls": lambda cube: dq.abundances.soft_nnls(cube, E),
    "ucls": lambda cube: dq.abundances.ucls(cube, E),
    "scls": lambda cube: dq.abundances.scls(cube, E),
    "kkt_residual": lambda cube: dq.abundances.kkt_residual(cube, E, A, True),
    "sunsal": lambda cube: dq.abundances.sunsal(cube, E, 1e-3),
    "collaborative_sunsal": lambda cube: dq.abundances.collaborative_sunsal(cube, E, 1e-3),
    "sunsal_tv": lambda cube: dq.abundances.sunsal_tv(cube, E, 1e-3, 1e-3),
    "mvc_nmf": lambda cube: dq.endmembers.mvc_nmf(KEY, cube, count=3),
    "l_half_nmf": lambda cube: dq.endmembers.l_half_nmf(KEY, cube, count=3),
    "sgs_nmf": lambda cube: dq.endmembers.sgs_nmf(KEY, cube, count=3),
    "qmv_nmf": lambda cube: dq.endmembers.qmv_nmf(KEY, cube, count=3),
    "gl_nmf": lambda cube: dq.endmembers.gl_nmf(KEY, cube, count=3),
    "ppnm": lambda cube: dq.abundances.ppnm(cube, E),
    "nascimento": lambda cube: dq.abundances.nascimento(cube, E),
    "khype": lambda cube: dq.abundances.khype(cube, E),
    "skhype": lambda cube: dq.abundances.skhype(cube, E),
    "residual_component": lambda cube: dq.abundances.residual_component(cube, E),
    "psnr": lambda cube: dq.metrics.psnr(cube, Y),
    "stack": lambda cube: dq.parallel.stack([cube]),
}


class Named:
    """An array of another library, with names of its axes, as a DataArray of xarray."""

    dims = ("y", "x", "band")
    shape, dtype, ndim = Y.shape, Y.dtype, 3

    def __array__(self, dtype=None, copy=None):
        return np.array(Y, dtype)


def said(function, *arguments, **more):
    with pytest.raises(dq.InputError) as caught:
        function(*arguments, **more)
    return str(caught.value)


@pytest.mark.parametrize("name", OF_A_CUBE)
def test_what_is_no_cube_is_named(name):
    function = OF_A_CUBE[name]
    assert said(function, SCENE) == "cube is a Scene; expected an array. Pass scene.cube."
    assert "cube is an Estimate" in said(function, FOUND)
    assert "cube is a tuple of Estimate and Trace" in said(function, (FOUND, dq.Trace(1, 0.0, True)))
    assert "cube is None" in said(function, None)
    assert "Pass read(path).cube" in said(function, "scene.hdr")
    text = said(function, Named())
    assert "cube is a Named" in text and "numpy.asarray(cube)" in text and "read(cube).cube" in text


def test_what_is_no_other_array_is_named():
    assert (
        said(dq.abundances.smooth, FOUND) == "abundances is an Estimate; expected an array. Pass estimate.abundances."
    )
    assert "Pass estimate.endmembers" in said(dq.abundances.fcls, Y, FOUND)
    assert "Make it by jax.make_mesh" in said(dq.parallel.over_scenes, lambda cube: cube, 3)
    library = dq.libraries.Library(("a", "b", "c"), np.linspace(400.0, 2400.0, 12), E)
    assert "Pass library.spectra" in said(dq.abundances.fcls, Y, library)
    assert "Pass scene.mask" in said(dq.abundances.fcls, Y, E, mask=dq.Scene(Y))
    assert "Pass numpy.asarray(mask)" in said(dq.abundances.fcls, Y, E, mask=[[True] * 8] * 8)
    assert "unmix` returns a pair" in said(dq.reconstruct, (FOUND, None))
    history = dq.History(*(jnp.zeros(1) for _ in range(7)))
    assert "cube is a History" in said(dq.abundances.fcls, history, E)
    text = said(dq.unmix, (PARAMS, history), Y, MODEL)
    assert "a tuple of dict and History" in text and "params, history = fit(...)" in text
    assert "Pass estimate.state" in said(dq.equilibrium.last_change, PARAMS, FOUND, Y, MODEL)


def test_the_host_side_takes_what_numpy_converts():
    assert np.array_equal(dq.Scene(Named()).cube, Y)


def test_choices_of_another_kind_are_named(tmp_path):
    whole = dq.RECOMMENDED
    advice = "fit(key, cube, Model(), *RECOMMENDED, count=R)"
    for text in (
        said(dq.fit, KEY, Y, MODEL, whole, count=3),
        said(dq.fit, KEY, Y, whole, count=3),
        said(dq.training.resumable_fit, KEY, Y, MODEL, whole, count=3),
        said(dq.tiles.fit_patches, KEY, SCENE, MODEL, whole, patches=1, size=8, count=3),
        said(dq.init, KEY, Y, whole, endmembers=E),
        said(dq.unmix, PARAMS, Y, whole),
        said(dq.equilibrium_map, PARAMS, A, Y, whole),
        said(dq.equilibrium.certificate, PARAMS, Y, whole),
        said(dq.equilibrium.last_change, PARAMS, A, Y, whole),
        said(dq.training.loss, PARAMS, Y, whole),
        said(dq.unmix_tiled, PARAMS, SCENE, whole, tmp_path / "out"),
        said(dq.parallel.unmix_in_strips, PARAMS, Y, whole, jax.make_mesh((1,), ("rows",)), halo=0),
    ):
        assert "is a tuple of Training and Rates" in text and advice in text
    assert "training is a Rates; expected a Training" in said(dq.fit, KEY, Y, MODEL, *whole[::-1], count=3)
    assert "rates is a dict; expected a Rates" in said(dq.fit, KEY, Y, MODEL, TRAINING, {}, count=3)
    kept = said(dq.training.resumable_fit, KEY, Y, MODEL, TRAINING, count=3, keep="m.npz")
    assert "keep is a str; expected a Keep. Write Keep(path)." in kept
    assert said(dq.unmix, PARAMS, Y, dq.Model).endswith("Write Model().")
    assert "solver is a Solver; expected an Admm" in said(dq.abundances.sunsal, Y, E, 1e-3, solver=dq.Solver())
    for factor in (dq.endmembers.mvc_nmf, dq.endmembers.sgs_nmf, dq.endmembers.qmv_nmf, dq.endmembers.gl_nmf):
        assert "expected a Factoring" in said(factor, KEY, Y, count=3, solver=dq.Solver())
    assert "Model.forward is Adjoint(" in said(dq.Model, forward=dq.Adjoint())
    assert "Model.backward is 'neumann'; write" in said(dq.Model, backward="neumann")
    assert "Solver.tolerance is '1e-4'; expected a number" in said(dq.Solver, tolerance="1e-4")
    assert "Training.epochs is 2.5; expected an integer" in said(dq.Training, epochs=2.5)
    assert dq.Solver(tolerance=np.float32(1e-3)) and dq.Training(epochs=np.int64(3))
    zero = jnp.zeros(2)
    assert "solver is a Model; expected a Solver" in said(dq.solvers.solve, lambda t, z: z, MODEL, 0.0, zero)
    backward = dq.Adjoint()
    assert "forward is an Adjoint" in said(dq.fixed_point, lambda t, z: z, backward, backward, 0.0, zero)
    assert "weights is a tuple" in said(dq.endmembers.select_endmembers, KEY, Y, 3, weights=whole)
    assert "Pass what `learned.select` or `select_endmembers` returns" in said(dq.training.model_for, FOUND)
    assert "Pass what `learned.select` or `select_endmembers` returns" in said(dq.training.rates_for, FOUND)
    assert "Make it by smoother" in said(dq.abundances.smooth, A, FOUND)
    for count in (3.0, None, "3"):
        assert "count is" in said(dq.endmembers.sivm, Y, count) and "an integer" in said(dq.endmembers.sivm, Y, count)


OF_A_KEY = {
    "vca": lambda key: dq.endmembers.vca(key, Y, 3),
    "init": lambda key: dq.init(key, Y, MODEL, endmembers=E),
    "fit": lambda key: dq.fit(key, Y, MODEL, TRAINING, count=3),
    "resumable_fit": lambda key: dq.training.resumable_fit(key, Y, MODEL, TRAINING, count=3),
    "fit_patches": lambda key: dq.tiles.fit_patches(key, SCENE, MODEL, TRAINING, patches=1, size=8, count=3),
    "draw": lambda key: patches.draw(key, SCENE, 1, 8, MODEL),
    "select_endmembers": lambda key: dq.endmembers.select_endmembers(key, Y, 3),
    "minimum_volume": lambda key: dq.endmembers.minimum_volume(key, Y, 3),
    "mvc_nmf": lambda key: dq.endmembers.mvc_nmf(key, Y, count=3),
    "l_half_nmf": lambda key: dq.endmembers.l_half_nmf(key, Y, count=3),
    "sgs_nmf": lambda key: dq.endmembers.sgs_nmf(key, Y, count=3),
    "qmv_nmf": lambda key: dq.endmembers.qmv_nmf(key, Y, count=3),
    "gl_nmf": lambda key: dq.endmembers.gl_nmf(key, Y, count=3),
    "abundance_field": lambda key: synthetic.abundance_field(key, (8, 8), 3),
    "spectra": lambda key: synthetic.spectra(key, 3, 12),
    "add_noise": lambda key: synthetic.add_noise(key, Y, 30.0),
    "linear_scene": lambda key: synthetic.linear_scene(key, (8, 8), E),
}


@pytest.mark.parametrize("name", OF_A_KEY)
def test_what_is_no_key_is_named(name):
    function = OF_A_KEY[name]
    assert said(function, 7) == "key is 7; expected a random key of jax. Pass jax.random.key(7)."
    assert "Pass jax.random.key(7)" in said(function, np.int64(7))
    assert "key is a Generator" in said(function, np.random.default_rng(0))
    for keys in (jax.random.split(KEY), np.zeros((2, 2), np.uint32)):
        assert "several keys" in said(function, keys)


def test_keys_of_both_kinds_are_keys():
    typed = np.asarray(synthetic.spectra(jax.random.key(3), 2, 8))
    for key in (jax.random.PRNGKey(3), np.asarray(jax.random.PRNGKey(3))):
        assert np.array_equal(synthetic.spectra(key, 2, 8), typed)
    many = jax.vmap(lambda key: synthetic.spectra(key, 2, 8))(jax.random.split(KEY))
    assert many.shape == (2, 2, 8)
    assert "Pass jax.random.key(key)" in said(jax.jit(lambda key: synthetic.spectra(key, 2, 8)), 3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int16", "int32"])
def test_endmembers_of_any_real_type_are_read_as_float32(dtype):
    stored = jnp.asarray(E * 10).astype(dtype)
    wide, cube = stored.astype(jnp.float32), 10 * Y
    for function in (
        dq.abundances.fcls,
        dq.abundances.nnls,
        dq.abundances.scls,
        dq.abundances.ucls,
        dq.abundances.scaled_nnls,
        dq.abundances.soft_nnls,
        lambda y, e: dq.abundances.sunsal(y, e, 1),
    ):
        found, expected = function(cube, stored), function(cube, wide)
        assert jax.tree.all(jax.tree.map(lambda a, b: a.dtype == b.dtype and bool((a == b).all()), found, expected))
    assert dq.abundances.kkt_residual(cube, stored, A, True).dtype == jnp.float32
    config = dq.Model(gradient=dq.equilibrium.Analytic(), constraint=dq.equilibrium.Simplex())
    params = dq.init(KEY, cube, config, endmembers=stored)
    assert params["endmembers"].dtype == jnp.float32 and bool((params["endmembers"] == wide).all())


def test_endmembers_of_no_number_are_named():
    for dtype in (bool, complex):
        assert "expected real numbers" in said(dq.abundances.fcls, Y, E.astype(dtype))
    broken = E.copy()
    broken[1, 4] = np.nan
    text = said(dq.abundances.fcls, Y, broken)
    assert "spectrum 1" in text and "mask" not in text


def _with_a_dead_band():
    cube = Y.copy()
    cube[:, :, 4] = np.nan
    return cube


def test_bands_without_a_finite_value_are_named_and_the_advice_works():
    cube, mask = _with_a_dead_band(), np.ones((8, 8), bool)
    cube[0, 0], mask[0, 0] = np.nan, False
    for more in ({}, {"mask": mask}):
        y = cube if more else _with_a_dead_band()
        text = said(dq.abundances.fcls, y, E, **more)
        assert "no finite value in band 4 (counted from 0)" in text
        code = re.search(r"keep = (.*), cube\[:, :, keep\]", text)[1]
        keep = eval(code, {"numpy": np, "cube": y, **more})
        assert np.array_equal(np.flatnonzero(~keep), [4])
        assert bool(jnp.isfinite(dq.abundances.fcls(y[:, :, keep], E[:, keep], **more)).all())
    assert "in 64 of 64 pixels" in said(dq.abundances.fcls, np.full_like(Y, np.nan), E)  # no band would be left
    cube[:, :, 4] = 0.0
    assert "in 1 of 64 pixels" in said(dq.abundances.fcls, cube, E)  # a pixel, not a band


def test_values_whose_squares_float32_cannot_hold_are_refused_and_the_advice_works():
    cube = Y.copy()
    cube[1, 2, 3] = 1e30
    for call in (
        lambda **given: dq.abundances.fcls(cube, E, **given),
        lambda **given: dq.endmembers.vca(jax.random.key(0), cube, 3, **given),
        lambda **given: dq.init(jax.random.key(0), cube, MODEL, endmembers=E, **given),
    ):
        with pytest.raises(dq.InputError, match=r"cube holds values up to 1e\+30; expected at most 1e\+15"):
            call()
        call(mask=(abs(cube) < 1e15).all(-1))
    with pytest.raises(dq.InputError, match=r"endmembers hold no value beyond .*e-21; expected at least 1e-15"):
        dq.abundances.fcls(Y, E * np.float32(1e-20))


@pytest.mark.parametrize("known", [True, False])
def test_a_scene_with_a_dead_band_says_how_to_leave_it_out(tmp_path, known, capsys):
    cube = _with_a_dead_band()
    more = {"wavelengths": np.linspace(400.04, 2400.0, 12), "good_bands": np.arange(12) != 7} if known else {}
    scene = dq.Scene(cube, **more)
    texts = [
        said(survey.scan, survey.view(source_of(scene))),
        said(check_scene, scene),
        said(mask_invalid, scene),
    ]
    for text in texts:
        assert re.search("finite (value )?in band 4 ", text)
        code = re.search(r"dataclasses\.replace\(.*\)\.with_good_bands\(\)", text)[0]
        left = eval(code, {"dataclasses": dataclasses, "numpy": np, "scene": scene})
        assert np.array_equal(left.cube, np.delete(cube, [4, 7] if known else [4], axis=2))
    if known:
        path = tmp_path / "scene.npz"
        np.savez(path, cube=cube, wavelengths_nm=scene.wavelengths)
        command = ["endmembers", str(path), "--count", "3", "-o", str(tmp_path / "found.csv")]
        assert main.main(command) != 0
        options = re.search(r"\((--ignore .*?)\)", capsys.readouterr().err)[1].split()
        assert main.main([*command, *options]) == 0
        assert main.main([*command, "--nodata", "nan", "--force"]) == 0  # the band is left out by itself
        assert "No pixel holds data in band 4 (counted from 0): marked bad." in capsys.readouterr().err


def test_a_map_may_close_over_what_it_is_differentiated_in():
    solver, adjoint = dq.Solver(tolerance=1e-6), dq.Adjoint()
    p, t = jnp.array([0.3, 0.6, 0.9]), jnp.array([0.1, 0.2, -0.4])

    def loss(p, t, implicit):
        def f(t, z):
            return 0.5 * jnp.tanh(p * z + t)

        z = dq.fixed_point(f, solver, adjoint, t, 0 * t)[0] if implicit else dq.solvers.unrolled(f, 60, t, 0 * t)
        return jnp.sum(jnp.square(z))

    gradient = jax.grad(loss, (0, 1))
    for found, expected in zip(gradient(p, t, True), gradient(p, t, False), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    compiled = jax.jit(jax.vmap(gradient, (0, None, None)), static_argnums=2)
    for found, expected in zip(compiled(p[None], t, True), gradient(p, t, False), strict=True):
        np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-7)


def test_every_hint_to_install_something_names_an_extra_there_is():
    root = Path(checks.__file__).parent
    sources = {path.name: path.read_text(encoding="utf-8") for path in root.glob("**/*.py")}
    assert [name for name, text in sources.items() if "pip install" in text] == ["checks.py"]
    named = {extra for text in sources.values() for extra in re.findall(r"pip_hint\([\"'](\w+)[\"']\)", text)}
    project = Path(__file__).parents[1] / "pyproject.toml"
    extras = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert named and named <= set(extras)
    assert checks.pip_hint("geo") == "pip install 'dequnmix-jax[geo]'"
