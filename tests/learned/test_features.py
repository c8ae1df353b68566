"""What the learned choice reads of the brightness of the pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dequnmix_jax.learned.features import Light, light_scores

RANDOM = np.random.default_rng(0)
FRACTIONS = RANDOM.dirichlet([0.3, 0.4, 0.5], 3000).astype(np.float32)
MIXEDNESS = 1 - (FRACTIONS**2).sum(axis=1)
OWN = np.array([0.3, -0.2, 0.1], np.float32)
NOISE = RANDOM.normal(0, 0.05, 3000).astype(np.float32)


def scores(light, fractions=FRACTIONS, ok=None):
    ok = np.ones(len(light), bool) if ok is None else ok
    centred = np.where(ok, light - light[ok].mean(), 0).astype(np.float32)
    found = jax.jit(light_scores)(
        jnp.asarray(fractions), jnp.asarray(centred), jnp.asarray(ok), jnp.asarray(ok.sum(), jnp.int32)
    )
    return Light(*(float(x) for x in found))


def test_a_brightness_of_each_material_leaves_nothing_to_mixed_pixels():
    found = scores(FRACTIONS @ OWN)
    assert found.bent < 0.02 and abs(found.bend) < 0.02
    assert found.pure < -3  # the purest pixels of a material are equally bright


def test_a_brightness_that_mixing_changes_is_seen_with_its_size():
    found = scores(FRACTIONS @ OWN - 0.4 * MIXEDNESS)
    assert found.bent == pytest.approx(1, abs=0.01)
    assert found.bend == pytest.approx(-0.4, abs=0.02)
    assert found.products == pytest.approx(1, abs=0.02)
    assert found.darkening == pytest.approx(np.corrcoef(FRACTIONS @ OWN - 0.4 * MIXEDNESS, MIXEDNESS)[0, 1], abs=0.01)


def test_products_are_seen_that_the_mixedness_does_not_show():
    first, second, third = FRACTIONS.T
    light = 0.5 * first * second - 0.5 * second * third + NOISE / 10
    found = scores(light)
    assert found.products > 0.8 > 2 * found.bent


def test_a_brightness_of_each_pixel_is_alike_among_pure_and_mixed_ones():
    found = scores(NOISE)
    assert found.pure == pytest.approx(0, abs=0.25) and found.mixed == pytest.approx(0, abs=0.25)
    assert found.products < 0.05 and found.bent < 0.1
    assert found.skew == pytest.approx(0, abs=0.2) and found.kurtosis == pytest.approx(3, abs=0.4)
    mixed = scores(NOISE * (1 + 5 * MIXEDNESS))
    assert mixed.mixed > 0.4 > -1 > mixed.pure


def test_ranks_are_those_of_the_pixels():
    found = scores(NOISE)
    standard = np.sort((NOISE - NOISE.mean()) / NOISE.std())
    assert found.darkest == pytest.approx(standard[59], abs=1e-3)
    assert found.brightest == pytest.approx(standard[2940], abs=2e-2)
    assert found.purest == pytest.approx(np.sort(FRACTIONS.max(axis=1))[::-1][150], abs=1e-6)


def test_the_most_mixed_pixels_are_three_of_ten():
    light = NOISE * (1 + 5 * MIXEDNESS)  # its rest is itself: it does not depend on the fractions in the mean
    light = light - light.mean()
    most = np.argsort(MIXEDNESS)[-900:]
    expected = np.log(np.mean(light[most] ** 2) / np.mean(light**2))
    assert scores(light).mixed == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("light", [FRACTIONS @ OWN - 0.4 * MIXEDNESS + NOISE, NOISE])
def test_neither_masked_pixels_nor_the_size_of_the_scene_matter(light):
    plain = scores(light)
    junk = RANDOM.random((3000, 3)).astype(np.float32)
    masked = scores(np.r_[light, 9 * junk[:, 0]], np.r_[FRACTIONS, junk], np.arange(6000) < 3000)
    repeated = scores(np.repeat(light, 4), np.repeat(FRACTIONS, 4, axis=0))
    np.testing.assert_allclose(masked, plain, atol=2e-3)
    np.testing.assert_allclose(repeated, plain, atol=5e-3)


@pytest.mark.parametrize("number", [1, 2, 30])
def test_flat_and_tiny_scenes_give_finite_scores(number):
    assert np.isfinite(scores(np.zeros(number, np.float32), FRACTIONS[:number])).all()
    assert np.isfinite(scores(np.zeros(number, np.float32), FRACTIONS[:number] * 0 + 1 / 3)).all()
    assert np.isfinite(light_scores(*(jnp.asarray(x) for x in (FRACTIONS, 0 * NOISE, NOISE > 9)), jnp.int32(0))).all()
