"""Standard deviations of fractions: against the spread over many draws of the noise, and their coverage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.abundances.covariance import scene_errors
from dequnmix_jax.abundances.draws import bootstrap
from dequnmix_jax.abundances.known import unmix_known
from dequnmix_jax.abundances.methods import Known
from dequnmix_jax.abundances.uncertainty import class_members, deviations, free_bounds

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


def bounds_of(known, cube, variances):
    Y, E, mask = jnp.asarray(cube), jnp.asarray(spectra()), jnp.ones(cube.shape[:2], bool)
    norm = jnp.sqrt(jnp.mean(jnp.sum(Y**2, axis=-1)))
    found = unmix_known(Y, E, mask, norm, known)
    members = jnp.asarray(class_members(CLASSES, ("x", "y", "z"), R))
    return found, free_bounds(found.abundances, Y, E, mask, norm, jnp.asarray(variances, jnp.float32), members, known)


@pytest.mark.parametrize("known", [Known("fcls"), Known("scaled")], ids=lambda known: known.method)
def test_bounds_hold_the_truth_in_ninety_of_a_hundred_also_where_it_is_zero(known):
    """A material that is absent is held at zero in half of the draws, with deviation 0."""
    truth = np.array([0.6, 0.0, 0.4, 0.0])
    E = spectra()
    noisy = (truth @ E + 5 * NOISE * np.random.default_rng(4).standard_normal((1, DRAWS, B))).astype(np.float32)
    found, bounds = bounds_of(known, noisy, (5 * NOISE) ** 2)
    if known.method == "scaled":
        truth = truth * E.max(axis=1) / (truth * E.max(axis=1)).sum()
    for low, high, true, reported in (
        (bounds.low, bounds.high, truth, found.abundances),
        (bounds.classes_low, bounds.classes_high, truth @ class_members(CLASSES, ("x", "y", "z"), R), None),
    ):
        covered = (np.asarray(low)[0] <= true + 1e-6) & (true - 1e-6 <= np.asarray(high)[0])
        expected = np.where(true > 0.01, 0.9, 0.95)  # a truth of zero is missed on one side only
        np.testing.assert_allclose(covered.mean(axis=0), expected, atol=0.025)
        assert float(low.min()) >= 0 and float(high.max()) <= 1
        if reported is not None:
            assert bool((low <= reported).all()) and bool((reported <= high).all())


def test_three_forms_of_one_noise_agree(draws):
    cube = draws[1][:1, :50]
    v = NOISE**2
    forms = [v, np.broadcast_to(v, cube.shape), np.diag(v)]
    for known in (Known("soft"),):
        first, *others = (estimated(known, cube, form)[1] for form in forms)
        one, *more = (bounds_of(known, cube, form)[1] for form in forms)
        for other in others:
            np.testing.assert_allclose(other.abundances, first.abundances, rtol=1e-4)
            np.testing.assert_allclose(other.classes, first.classes, rtol=1e-4)
        for other in more:
            np.testing.assert_allclose(other.high, one.high, atol=1e-5)
            np.testing.assert_allclose(other.classes_low, one.classes_low, atol=1e-5)


def correlated(length, count=4000):
    """Return pixels of one mixture with errors that are smooth over `length` bands, and the covariance."""
    apart = np.arange(B)[:, None] - np.arange(B)
    C = 0.01**2 * np.exp(-((apart / length) ** 2) / 2) + 0.002**2 * np.eye(B)
    errors = np.random.default_rng(5).multivariate_normal(np.zeros(B), C, count, method="eigh")
    return (TRUTH[1] @ spectra() + errors).astype(np.float32), C


def test_the_errors_of_a_scene_are_found_with_their_correlation():
    pixels, C = correlated(8)
    found = scene_errors(pixels, spectra(), True)
    assert set(found.strengths) & {"smooth over 8 bands"} and sum(found.strengths.values()) == pytest.approx(1)
    np.testing.assert_allclose(found.covariance, C, atol=0.12 * C.max())
    # Of the whole error, most of which the residual does not show: the deviation of fractions.
    cube = pixels[None]
    a, sd = estimated(Known("fcls"), cube, found.covariance)
    np.testing.assert_allclose(np.asarray(sd.abundances)[0].mean(axis=0), a[0].std(axis=0), rtol=0.15)
    by_residual = estimated(Known("fcls"), cube, np.ones(B), by_residual=True)[1]
    assert (np.asarray(by_residual.abundances)[0].mean(axis=0) < 0.9 * a[0].std(axis=0)).any()


def test_errors_without_correlation_are_those_of_the_bands(draws):
    found = scene_errors(draws[1][0], spectra(), True)
    assert set(found.strengths) <= {"bands", "white"}
    np.testing.assert_allclose(np.diag(found.covariance), NOISE**2, rtol=0.2, atol=2e-6)


def test_draws_of_noise_and_spectra():
    """Without variability the spread is that of the noise; two spectra of a class move its fraction as they differ."""
    E = np.stack([spectra()[0], spectra()[0], *spectra()[1:3]])
    cube = jnp.asarray((np.array([0.2, 0.2, 0.3, 0.3]) @ E)[None, None].astype(np.float32))
    mask, norm, known = jnp.ones((1, 1), bool), jnp.asarray(1.0), Known("fcls")
    members = jnp.asarray(class_members(CLASSES, ("x", "y", "z"), R))
    key = jax.random.key(0)
    arguments = (mask, norm, jnp.asarray(NOISE, jnp.float32), members, known, (0, 0, 1, 2), 400)
    same = bootstrap(key, cube, jnp.asarray(E, jnp.float32), *arguments)
    expected = deviations(
        jnp.asarray([[[0.4, 0.0, 0.3, 0.3]]]), cube, jnp.asarray(E), mask, norm, jnp.asarray(NOISE**2, jnp.float32),
        members, known, False,
    )  # fmt: skip
    np.testing.assert_allclose(same.classes_sd, expected.classes, rtol=0.15)
    low, high = (np.asarray(part)[0, 0] for part in (same.classes_low, same.classes_high))
    np.testing.assert_allclose((high - low) / np.asarray(same.classes_sd)[0, 0], 2 * 1.645, rtol=0.15)
    E[1] = 1.2 * E[0]
    varied = bootstrap(key, cube, jnp.asarray(E, jnp.float32), *arguments)
    assert float(varied.classes_sd[0, 0, 0]) > 2 * float(same.classes_sd[0, 0, 0])


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
