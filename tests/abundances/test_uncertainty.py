"""Standard deviations of fractions: against the spread over many draws of the noise, and their coverage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.abundances.known import unmix_known
from dequnmix_jax.abundances.methods import Known
from dequnmix_jax.abundances.uncertainty import class_members, deviations

B, R, DRAWS = 30, 4, 2000
NOISE = np.linspace(0.002, 0.01, B)
CLASSES = ("x", "x", "y", "z")
TRUTH = np.array([[0.4, 0.3, 0.2, 0.1], [0.25, 0.25, 0.25, 0.25]])


def spectra():
    return np.random.default_rng(0).uniform(0.1, 0.8, (R, B)).astype(np.float32)


@pytest.fixture(scope="module")
def draws():
    """Return two mixtures in DRAWS draws of the noise each, 0.8 times as bright in the second: (2, DRAWS, B)."""
    light = np.array([1.0, 0.8])[:, None, None]
    clean = np.repeat(light * (TRUTH @ spectra())[:, None], DRAWS, axis=1)
    return clean, (clean + NOISE * np.random.default_rng(1).standard_normal(clean.shape)).astype(np.float32)


def estimated(known, cube, variances, by_residual=False):
    Y, E, mask = jnp.asarray(cube), jnp.asarray(spectra()), jnp.ones(cube.shape[:2], bool)
    norm = jnp.sqrt(jnp.mean(jnp.sum(Y**2, axis=-1)))
    found = unmix_known(Y, E, mask, norm, known)
    members = jnp.asarray(class_members(CLASSES, ("x", "y", "z"), R))
    sd = deviations(
        found.coefficients, Y, E, mask, norm, jnp.asarray(variances, jnp.float32), members, known, by_residual
    )
    return np.asarray(found.abundances, np.float64), sd


@pytest.mark.parametrize("known", [Known("fcls"), Known("scaled"), Known("soft")], ids=lambda known: known.method)
def test_the_deviation_is_the_spread_over_draws_of_the_noise(draws, known):
    cube = draws[1][:1] if known.method == "fcls" else draws[1]
    found, sd = estimated(known, cube, NOISE**2)
    for values, deviation in (
        (found, sd.abundances),
        (found @ class_members(CLASSES, ("x", "y", "z"), R), sd.classes),
    ):
        mean = np.sqrt(np.mean(np.square(np.asarray(deviation, np.float64)), axis=1))
        np.testing.assert_allclose(mean, values.std(axis=1), rtol=0.07)  # 4 deviations of a spread over 2000 draws


def test_the_interval_covers_the_truth_as_often_as_it_says(draws):
    found, sd = estimated(Known("fcls"), draws[1][:1], NOISE**2)
    covered = np.abs(found[0] - TRUTH[0]) <= 1.645 * np.asarray(sd.abundances)[0]
    np.testing.assert_allclose(covered.mean(axis=0), 0.9, atol=0.03)


def test_the_residual_measures_the_noise_of_a_pixel(draws):
    """Equal noise in all bands, unknown and of another size in each half of the draws."""
    clean = draws[0][:1]
    size = np.repeat([0.004, 0.016], DRAWS // 2)[None, :, None]
    noisy = (clean + size * np.random.default_rng(2).standard_normal(clean.shape)).astype(np.float32)
    found, sd = estimated(Known("fcls"), noisy, np.ones(B), by_residual=True)
    for half in (slice(0, DRAWS // 2), slice(DRAWS // 2, None)):
        mean = np.sqrt(np.mean(np.square(np.asarray(sd.abundances, np.float64)[0, half]), axis=0))
        np.testing.assert_allclose(mean, found[0, half].std(axis=0), rtol=0.1)


def test_a_fraction_held_by_its_bound_and_a_masked_pixel_have_none(draws):
    E = spectra()
    beyond = E[0] + 0.3 * (E[0] - E[1:].mean(axis=0))  # outside the simplex, beside a vertex
    cube = jnp.asarray(np.stack([beyond, 0 * beyond])[:, None].astype(np.float32))
    mask = jnp.asarray([[True], [False]])
    known, norm = Known("fcls"), jnp.asarray(1.0)
    found = unmix_known(cube, jnp.asarray(E), mask, norm, known)
    variances = jnp.asarray(NOISE**2, jnp.float32)
    none = jnp.zeros((R, 0), jnp.float32)
    sd = deviations(found.coefficients, cube, jnp.asarray(E), mask, norm, variances, none, known, False)
    assert not np.asarray(sd.abundances)[1].any() and sd.classes.shape == (2, 1, 0)
    zero = np.asarray(found.abundances)[0, 0] == 0
    assert zero.any() and not np.asarray(sd.abundances)[0, 0][zero].any()


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["bands", "residual"])
@pytest.mark.parametrize("family", ["smooth", "impure", "fine"])
def test_coverage_on_generated_scenes_with_white_noise(family, noise):
    shape = dq.datasets.SceneShape(40, 40, 60, 4)
    covered = []
    for key in jax.random.split(jax.random.key(0), 3):
        drawn = dq.datasets.draw(key, family, shape, "test")
        result = dq.unmix_with(np.asarray(drawn.cube), np.asarray(drawn.endmembers), uncertainty=noise)
        inside = np.abs(result.abundances - np.asarray(drawn.abundances)) <= 1.645 * result.abundances_sd
        covered.append(inside[result.abundances > 0].mean())
    assert 0.8 <= np.mean(covered) <= 0.95
