"""The scores of candidates against their definitions, band by band."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax import metrics
from dequnmix_jax.datasets import synthetic
from dequnmix_jax.endmembers import candidates
from dequnmix_jax.ops.quick_compile import compiler_options

ROWS, COLUMNS, BANDS, COUNT = 24, 20, 25, 3
KINDS = ("simplex", "cone")
MEASURE = jax.jit(candidates.measure, compiler_options=compiler_options("quick"))


@pytest.fixture(scope="module")
def scene():
    """Return spectra (3, 2, R, B), a cube with masked pixels and a pixel of zeros, and the mask."""
    E = synthetic.spectra(jax.random.key(0), COUNT, BANDS)
    cube = synthetic.linear_scene(jax.random.key(1), (ROWS, COLUMNS), E, 25.0).cube
    light = 1 + 0.2 * jax.random.normal(jax.random.key(2), cube.shape[:2])
    valid = jnp.ones(cube.shape[:2], bool).at[:12].set(False)
    cube = jnp.where(valid[..., None], cube * light[..., None], 0).at[15, 5].set(0)
    noise = 0.05 * jax.random.normal(jax.random.key(3), (3, 2, COUNT, BANDS))
    return jnp.maximum(E[None, None] + noise, 0.01), cube, valid


@pytest.fixture(scope="module")
def scores(scene):
    spectra, cube, valid = scene
    return MEASURE(spectra, cube, valid)


def coefficients(scene, kind, seen, level=1):
    """Return the coefficients that some bands give, by bands that are cut out of the cube."""
    spectra, cube, valid = scene
    solve = (dq.abundances.fcls, dq.abundances.nnls)[kind]
    return solve((cube / level)[..., seen], spectra[0, kind][:, seen], mask=valid)


def rebuilt(scene, kind, level=1):
    """Return each half of the bands with the coefficients of the other half."""
    E = scene[0][0, kind]
    even = np.arange(BANDS) % 2 == 0
    halves = [jnp.matmul(coefficients(scene, kind, seen, level), E) for seen in (even, ~even)]
    return jnp.where(even[None, None], halves[1], halves[0])


@pytest.mark.parametrize("kind", [0, 1], ids=KINDS)
def test_held_out_error_and_angle(scene, scores, kind):
    _, cube, valid = scene
    found = rebuilt(scene, kind)
    error = jnp.linalg.norm(found - cube) / jnp.linalg.norm(cube)
    np.testing.assert_allclose(scores.error[kind], error, rtol=1e-4)
    np.testing.assert_allclose(scores.angle[kind], metrics.mean_spectral_angle(cube, found, valid), rtol=1e-4)


def test_shared_brightness(scene, scores):
    _, cube, valid = scene
    x = dq.abundances.nnls(cube, scene[0][0, 0], mask=valid)
    level = jnp.pad(jnp.sum(x, axis=-1), 1)
    inside = jnp.pad(valid.astype(x.dtype), 1)
    steps = [(i, j) for i in range(3) for j in range(3) if (i, j) != (1, 1)]
    total, number = (sum(y[i : i + ROWS, j : j + COLUMNS] for i, j in steps) for y in (level, inside))
    around = jnp.where(total > 0, total / jnp.maximum(number, 1), 1)[..., None]
    error = jnp.linalg.norm(around * rebuilt(scene, 0, around) - cube) / jnp.linalg.norm(cube)
    np.testing.assert_allclose(scores.shared, [error, scores.error[1]], rtol=1e-4)


@pytest.mark.parametrize("kind", [0, 1], ids=KINDS)
def test_purity_is_what_one_percent_of_the_valid_pixels_exceed(scene, scores, kind):
    spectra, _, valid = scene
    x = coefficients(scene, kind, np.ones(BANDS, bool))
    if kind:
        x = x * jnp.max(spectra[0, 1], axis=1)[None, None]
        total = jnp.sum(x, axis=-1, keepdims=True)
        x = jnp.where(total > 0, x / jnp.maximum(total, 1e-9), 1 / COUNT)  # of a pixel of zeros nothing is known
    exceeded = np.sort(x[np.asarray(valid)], axis=0)[-2]  # 240 valid pixels
    np.testing.assert_allclose(scores.purity[kind], np.mean(exceeded), rtol=1e-4)


def test_the_angle_of_a_pixel_of_zeros_is_a_quarter_turn(scene):
    _, cube, valid = scene
    size = jnp.linalg.norm(cube, axis=2)
    for other in (cube * 1.01 + 0.02, cube[::-1], jnp.zeros_like(cube), -cube):
        found = candidates._mean_angle(cube, size, other, valid)
        np.testing.assert_allclose(found, metrics.mean_spectral_angle(cube, other, valid), rtol=2e-4)


def test_spectra_that_half_of_the_bands_cannot_tell_apart_are_scored(scene):
    """The decomposition of dependent spectra is completed by hidden bands, which must not be read."""
    spectra, cube, valid = scene
    even = jnp.arange(BANDS) % 2 == 0
    E = jnp.where(even[None], spectra[0, 0][:1], spectra[0, 0])  # equal in the even bands
    same = jnp.broadcast_to(E[None, None], spectra.shape)
    first = MEASURE(same, cube, valid)
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in first)
    points, _ = candidates._coordinates(E[None], even[None], cube)
    other, _ = candidates._coordinates(E[None], even[None], jnp.where(even[None, None], cube, 7))
    np.testing.assert_array_equal(points, other)
