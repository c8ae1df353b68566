"""Estimates of noise and signal without a reference, on scenes with known noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dequnmix_jax.checks import InputError
from dequnmix_jax.datasets import registry, synthetic
from dequnmix_jax.endmembers import noise
from dequnmix_jax.ops import lapack
from dequnmix_jax.training import objective

BANDS = 40


@pytest.fixture(scope="module")
def sample():
    E = synthetic.spectra(jax.random.key(3), 3, BANDS)
    return synthetic.linear_scene(jax.random.key(4), (40, 30), E, contrast=2.0)


@pytest.fixture(scope="module")
def noisy(sample):
    """Return the scene with noise that grows tenfold from the first band to the last, and its standard deviation."""
    sigma = 0.002 * 10 ** jnp.linspace(0.0, 1.0, BANDS)
    return sample.cube + sigma[None, None] * jax.random.normal(jax.random.key(5), sample.cube.shape), sigma


def test_the_noise_of_each_band_is_found(noisy):
    cube, sigma = noisy
    # 1200 pixels: 2 % of standard error; and the noise of the other bands enters the prediction, 5 % more.
    np.testing.assert_allclose(noise.band_noise(cube), sigma, rtol=0.2)


def test_float32_sees_the_noise_that_float64_sees(noisy, x64):
    cube = 0.02 * noisy[0].astype(jnp.float64) + 1e-6 * jax.random.normal(jax.random.key(7), noisy[0].shape) + 1.0
    # Brightest direction to noise: nine digits of energy.
    np.testing.assert_allclose(noise.band_noise(cube.astype(jnp.float32)), noise.band_noise(cube), rtol=0.05)


def test_what_the_regression_has_fitted_is_given_back():
    """White noise of variance one in 63 pixels and 40 bands: 39 coefficients leave 24 / 63 of it."""
    found = noise.band_noise(jax.random.normal(jax.random.key(0), (9, 7, 40)))
    assert 0.75 < float(jnp.mean(found**2)) < 1.35


def test_masked_pixels_do_not_count(noisy):
    cube, _ = noisy
    mask = jnp.ones(cube.shape[:2], bool).at[:, 20:].set(False)
    spoiled = jnp.where(mask[..., None], cube, jnp.nan)
    part = cube[:, :20]
    np.testing.assert_allclose(noise.band_noise(spoiled, mask=mask), noise.band_noise(part), rtol=1e-3)
    np.testing.assert_allclose(noise.variability(spoiled, 2, mask=mask), noise.variability(part, 2), rtol=1e-3)
    np.testing.assert_allclose(noise.signal_subspace(spoiled, 3, mask=mask), noise.signal_subspace(part, 3), atol=1e-3)


def test_variability_is_zero_where_the_linear_model_holds_and_large_where_it_does_not(sample, noisy):
    cube, _ = noisy
    assert float(noise.variability(cube, 3)) < 0.05
    assert float(noise.variability(cube, 2)) > 0.5  # a material too few
    own = 1 + 0.3 * jax.random.normal(jax.random.key(6), (40, 30, 1)) * jnp.linspace(-1.0, 1.0, BANDS)[None, None]
    assert float(noise.variability(cube * own, 3)) > 0.5


def test_the_hold_knows_no_unit_and_lets_white_noise_go(sample, noisy):
    cube, _ = noisy
    E = sample.endmembers
    own = 1 + 0.3 * jax.random.normal(jax.random.key(6), (40, 30, 1)) * jnp.linspace(-1.0, 1.0, BANDS)[None, None]
    held = float(objective.variability_ratio(cube * own, E))
    assert held > 0.05 > 100 * float(objective.variability_ratio(cube, E))
    np.testing.assert_allclose(objective.variability_ratio(1e4 * cube * own, 1e4 * E), held, rtol=1e-3)
    closer = jnp.mean(E, axis=0, keepdims=True) + 0.5 * (E - jnp.mean(E, axis=0, keepdims=True))
    assert float(objective.variability_ratio(cube * own, closer)) > 1.5 * held  # the same shift, of a smaller simplex


def test_the_unexplained_energy_is_the_squared_sine_to_the_best_subspace():
    pixels = np.zeros((5, 4, 3), np.float32)
    pixels[..., 0], pixels[0, 0, 1] = 1.0, 2.0
    np.testing.assert_allclose(noise.unexplained(jnp.asarray(pixels), 2), 0, atol=1e-6)
    values = np.linalg.eigvalsh(pixels.reshape(-1, 3).T @ pixels.reshape(-1, 3))
    np.testing.assert_allclose(noise.unexplained(jnp.asarray(pixels), 1), values[1] / values.sum(), rtol=1e-4)
    assert float(noise.unexplained(jnp.zeros((3, 3, 4)), 2)) == 0


def test_the_signal_subspace_holds_the_endmembers_and_little_noise(sample, noisy):
    cube, _ = noisy
    P = noise.signal_subspace(cube, 3)
    np.testing.assert_allclose(P @ P, P, atol=1e-5)
    np.testing.assert_allclose(P, P.T, atol=1e-6)
    np.testing.assert_allclose(jnp.trace(P), 3, atol=1e-3)
    np.testing.assert_allclose(sample.endmembers @ P, sample.endmembers, atol=0.01)
    # With fewer asked for, all the three that hold signal are kept; with more, so many as asked for.
    np.testing.assert_allclose(jnp.trace(noise.signal_subspace(cube, 1)), 3, atol=1e-3)
    np.testing.assert_allclose(jnp.trace(noise.signal_subspace(cube, 5)), 5, atol=1e-3)


def test_too_few_pixels_say_so(sample):
    small = sample.cube[:5, :8]  # as many pixels as bands
    assert np.isnan(noise.band_noise(small)).all()
    assert float(noise.variability(small, 3)) == 1
    np.testing.assert_array_equal(noise.signal_subspace(small, 3), jnp.eye(BANDS))


def test_a_scene_without_noise_gives_numbers(sample):
    """Zero noise, a constant band and a black one: nothing is divided by zero."""
    cube = sample.cube.at[..., 4].set(0.0).at[..., 7].set(0.5)
    found = noise.band_noise(cube)
    assert np.isfinite(found).all() and (np.asarray(found) < 1e-3).all()
    assert 0 <= float(noise.variability(cube, 3)) <= 1
    assert np.isfinite(noise.signal_subspace(cube, 3)).all()
    black = jnp.zeros((10, 10, 5))
    assert np.isfinite(noise.variability(black, 2)) and np.isfinite(noise.signal_subspace(black, 2)).all()


def test_nan_is_answered_in_a_sentence(sample):
    with pytest.raises(InputError, match="NaN"):
        noise.band_noise(sample.cube.at[0, 0, 0].set(jnp.nan))


@pytest.mark.parametrize(("name", "snr", "low", "high"), [("dc1", 30.0, 0.0, 0.05), ("hapke_relab", None, 0.9, 1.0)])
def test_variability_of_shipped_scenes(name, snr, low, high):
    scene, truth = registry.load(name)
    cube = jnp.asarray(scene.cube)
    cube = cube if snr is None else synthetic.add_noise(jax.random.key(0), cube, snr)
    assert low <= float(noise.variability(cube, len(truth.endmembers))) <= high


def test_variability_of_samson(data_dir):
    cube = jnp.asarray(registry.load("samson_zhu")[0].cube)
    assert float(noise.variability(cube, 3)) > 0.9


@pytest.mark.parametrize("name, shape", [("eigh", (6, 6)), ("qr_root", (9, 6)), ("svd", (6, 6))])
def test_decompositions_of_a_batch_come_one_by_one(name, shape):
    """On a CPU two simultaneous batches of LAPACK calls can deadlock."""
    function = getattr(lapack, name)
    x = jax.random.normal(jax.random.key(0), (3, *shape))
    x = x + jnp.swapaxes(x, 1, 2) if name == "eigh" else x
    mapped = jax.jit(jax.vmap(function))
    for one, many in zip(zip(*map(function, x), strict=True), mapped(x), strict=True):
        np.testing.assert_allclose(jnp.stack(one), many, atol=1e-5)
    calls = [line for line in mapped.lower(x).compile().as_text().splitlines() if "lapack_" in line]
    assert calls and not any(f"[3,{shape[0]}" in line for line in calls)
    loss = lambda x: jnp.sum(function(x)[1 if name == "svd" else 0] ** 2)  # noqa: E731
    slopes = jax.jit(jax.vmap(jax.grad(loss)))(x)
    np.testing.assert_allclose(slopes, jnp.stack([jax.grad(loss)(each) for each in x]), rtol=1e-4, atol=1e-4)
