"""The scenes of the tables: shapes, answers, seeds, names; and the nonlinear mixtures, where they are linear."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.abundances import nonlinear
from dequnmix_jax.datasets import synthetic
from dequnmix_jax.mixing import linear_mix
from experiments.shared import scenes

NO_DATA = ("varied, 15 dB", "purity 0.7, 30 dB", "PPNM, 30 dB", "bilinear, no noise", "misicnet_sim1, 30 dB")
DATA = ("recipe, 20 dB", "recipe without variability, 30 dB", "Matern, 20 dB", "apex stand-in, 25 dB")


def check_drawn(name):
    one, again, other = (scenes.load(name, seed, crop=30) for seed in (0, 0, 1))
    ((truth, exact),) = one.references
    A, E = truth.abundances, truth.endmembers
    assert exact and one.mask is None and one.cube.dtype == jnp.float32
    assert one.cube.shape == (30, 30, E.shape[1]) and A.shape == (30, 30, E.shape[0])
    assert A.min() >= 0
    np.testing.assert_allclose(A.sum(axis=2), 1, atol=1e-5)
    np.testing.assert_array_equal(one.cube, again.cube)
    assert float(jnp.max(jnp.abs(one.cube - other.cube))) > 1e-3
    return truth


@pytest.mark.parametrize("name", NO_DATA)
def test_a_drawn_scene_that_needs_no_data(name):
    truth = check_drawn(name)
    if name.startswith("purity"):
        assert truth.abundances.max() <= 0.7 + 1e-6


@pytest.mark.parametrize("name", DATA)
def test_a_drawn_scene_of_the_folder(name, data_dir):
    if name.startswith("recipe") and importlib.util.find_spec("prosail") is None:
        pytest.skip("needs the extra leaves (prosail)")
    truth = check_drawn(name)
    assert truth.reference.startswith("semi-synthetic") == name.startswith("apex")


def test_noise_has_the_level_of_the_name():
    noisy, clean = (scenes.load(f"purity 1, {noise}", 3).cube for noise in ("20 dB", "no noise"))
    ratio = 10 * np.log10(float(jnp.mean(clean**2) / jnp.mean((noisy - clean) ** 2)))
    assert abs(ratio - 20) < 0.1


def test_a_measured_scene_is_the_same_for_all_seeds():
    assert not scenes.drawn("hapke_relab") and scenes.drawn("dc1, no noise")
    np.testing.assert_array_equal(scenes.load("hapke_relab", 0).cube, scenes.load("hapke_relab", 1).cube)
    ((truth, exact),) = scenes.load("hysu", 0).references
    assert truth.abundances is None and not exact and "bitumen" in truth.names


def test_samson_has_two_references(data_dir):
    references = scenes.load("samson", 0, crop=7).references
    assert [truth.abundances.shape for truth, _ in references] == [(7, 7, 3)] * 2
    assert references[0][0].reference != references[1][0].reference


@pytest.mark.parametrize("name", ["jasper", "recipe", "varied, 15", "samson, 20 dB", "purity 0.5, 30 dB"])
def test_an_unknown_name_is_refused_with_the_list(name):
    with pytest.raises(dq.InputError, match=r"There is no scene .*samson.*varied.*PPNM"):
        scenes.load(name, 0)


def test_minerals_are_apart():
    E = scenes.minerals(jax.random.key(0), 6)
    angles = dq.metrics.spectral_angle(E[:, None], E[None]) + jnp.eye(6)
    assert float(jnp.min(angles)) > 0.1


def mixture():
    E = synthetic.spectra(jax.random.key(1), 3, 9)
    return synthetic.abundance_field(jax.random.key(0), (4, 5), 3), E


def test_both_nonlinear_mixtures_are_linear_where_their_second_term_is_zero():
    A, E = mixture()
    np.testing.assert_array_equal(nonlinear.post_nonlinear(A, E, jnp.zeros((4, 5))), linear_mix(A, E))
    np.testing.assert_array_equal(nonlinear.bilinear(A, E, jnp.zeros((4, 5, 3))), linear_mix(A, E))


def test_the_nonlinear_terms_pixel_by_pixel():
    A, E = (np.asarray(x, np.float64) for x in mixture())
    b, gamma = np.linspace(-0.3, 0.3, 20).reshape(4, 5), np.linspace(0, 1, 60).reshape(4, 5, 3)
    bent = nonlinear.post_nonlinear(*(jnp.asarray(x, jnp.float32) for x in (A, E, b)))
    twofold = nonlinear.bilinear(*(jnp.asarray(x, jnp.float32) for x in (A, E, gamma)))
    for i in range(4):
        for j in range(5):
            a, g, y = A[i, j], gamma[i, j], A[i, j] @ E
            np.testing.assert_allclose(bent[i, j], y + b[i, j] * y * y, rtol=1e-5)
            second = (
                g[0] * a[0] * a[1] * E[0] * E[1] + g[1] * a[0] * a[2] * E[0] * E[2] + g[2] * a[1] * a[2] * E[1] * E[2]
            )
            np.testing.assert_allclose(twofold[i, j], y + second, rtol=1e-5)


def test_a_pure_pixel_is_its_endmember_in_the_bilinear_model():
    _, E = mixture()
    pure = jnp.eye(3)[None]
    np.testing.assert_allclose(nonlinear.bilinear(pure, E, jnp.ones((1, 3, 3)))[0], E, rtol=1e-6)
