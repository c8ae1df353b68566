"""The recipe of the paper's synthetic scenes: each bundle against what its model says where that is known."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

from dequnmix_jax import InputError
from experiments.shared import variability


def test_soil_at_the_angle_of_its_spectrum_is_that_spectrum() -> None:
    spectrum = np.linspace(0.02, 0.9, 50)
    np.testing.assert_allclose(variability.soils(spectrum, np.array([30.0]))[0], spectrum, rtol=1e-12)


def test_soil_is_brighter_at_a_grazing_angle_and_alike_when_light_and_view_change_places() -> None:
    spectrum = np.linspace(0.1, 0.6, 7)
    bundle = variability.soils(spectrum).reshape(10, 10, 7)
    np.testing.assert_allclose(bundle, bundle.transpose(1, 0, 2), rtol=1e-12)
    assert np.all(np.diff(bundle, axis=0) > 0)


def test_water_is_darker_on_a_slope_and_least_so_where_the_sky_lights_it() -> None:
    sun, sky = np.array([1.0, 1.0, 1.0]), np.array([0.0, 0.5, 5.0])
    bundle = variability.waters(np.random.default_rng(0), np.full(3, 0.1), sun, sky)
    assert bundle.shape == (200, 3)
    assert np.all(bundle < 0.1)
    assert np.all(np.diff(bundle, axis=1) > 0)
    # Without a sky: 0.1 cos t, t uniform to 81 degrees.
    assert abs(bundle[:, 0].mean() - 0.1 * np.sin(0.9 * np.pi / 2) / (0.9 * np.pi / 2)) < 0.006


def test_each_pixel_mixes_one_spectrum_of_each_bundle() -> None:
    bundles = [np.array([[1.0, 0.0], [2.0, 0.0]]), np.array([[0.0, 1.0]])]
    A = np.stack([np.full((40, 30), 0.25), np.full((40, 30), 0.75)], axis=-1)
    Y = variability.mix(np.random.default_rng(0), bundles, A)
    assert set(np.unique(Y[..., 0])) == {0.25, 0.5}
    assert abs(np.mean(Y[..., 0] == 0.5) - 0.5) < 0.05
    assert np.all(Y[..., 1] == 0.75)


@pytest.mark.skipif(importlib.util.find_spec("prosail") is not None, reason="prosail is installed")
def test_without_the_package_a_sentence_names_the_extra() -> None:
    with pytest.raises(InputError, match=r"dequnmix-jax\[leaves\]"):
        variability.leaves(np.array([500.0]))


@pytest.mark.skipif(importlib.util.find_spec("prosail") is None, reason="needs the extra leaves (prosail)")
@pytest.mark.skipif(
    not (Path(os.environ.get("DEQUNMIX_DATA", "")) / "raw/variability").is_dir(),
    reason="needs raw/variability in DEQUNMIX_DATA",
)
def test_the_recipe_gives_fcls_with_class_means_its_known_error() -> None:
    import jax.numpy as jnp

    import dequnmix_jax as dq

    draw = np.random.default_rng(0)
    bundles, A, nm = variability.bundles(draw)
    assert [len(bundle) for bundle in bundles] == [40, 100, 200]
    assert nm.shape == (198,)
    cube = variability.mix(draw, bundles, A)
    cube = jnp.asarray(cube + np.sqrt(np.mean(cube**2) / 1e3) * draw.standard_normal(cube.shape), jnp.float32)
    means = jnp.asarray(np.stack([bundle.mean(axis=0) for bundle in bundles]), jnp.float32)
    # 0.0515 and 0.0545 on two other draws of the same recipe.
    assert 0.045 < float(dq.metrics.armse(dq.abundances.fcls(cube, means), jnp.asarray(A, jnp.float32))) < 0.060
