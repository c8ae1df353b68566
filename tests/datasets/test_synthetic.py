"""Synthetic scenes have their documented properties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dequnmix_jax import mixing
from dequnmix_jax.checks import InputError
from dequnmix_jax.datasets import synthetic

FIELD = jax.jit(synthetic.abundance_field, static_argnums=(1, 2))
SCENE = jax.jit(synthetic.linear_scene, static_argnums=1)
SPECTRA = jax.jit(synthetic.spectra, static_argnums=(1, 2))


@pytest.mark.parametrize("purity", [1.0, 0.7, 0.4])
def test_abundances_are_abundances_and_purity_is_a_cap(purity):
    a = FIELD(jax.random.key(0), (32, 40), 4, purity=purity)
    assert a.shape == (32, 40, 4) and a.dtype == jnp.float32 and (a >= 0).all()
    np.testing.assert_allclose(a.sum(-1), 1.0, atol=1e-6)
    np.testing.assert_allclose(a.max(), purity, atol=1e-6)
    assert (a == 0).any() or purity < 1


def test_field_has_its_variance_and_covariance():
    draw = jax.jit(jax.vmap(lambda k: synthetic._gaussian_field(k, (24, 31), 3.0, jnp.float32)))
    field = np.asarray(draw(jax.random.split(jax.random.key(0), 300)))
    np.testing.assert_allclose(field.std(), 1.0, atol=0.03)
    for axis in (1, 2):
        for distance in (1, 3, 6):
            near, far = (np.moveaxis(field, axis, 0)[s] for s in (slice(None, -distance), slice(distance, None)))
            np.testing.assert_allclose(np.mean(near * far), np.exp(-(distance**2) / 18), atol=0.05)
        ends = np.moveaxis(field, axis, 0)
        assert abs(np.mean(ends[0] * ends[-1])) < 0.15  # opposite edges are not neighbours


def test_noise_has_its_level_and_type(x64):
    cube = jnp.asarray(np.random.default_rng(0).uniform(size=(30, 30, 50)))
    run = jax.jit(synthetic.add_noise)
    for snr in (10.0, 30.0):
        noise = run(jax.random.key(0), cube, snr) - cube
        np.testing.assert_allclose(10 * jnp.log10(jnp.mean(cube**2) / jnp.mean(noise**2)), snr, atol=0.1)
    single = jax.eval_shape(synthetic.add_noise, jax.random.key(0), cube.astype("float32"), 20.0)
    assert single.dtype == jnp.float32


def test_scene_is_the_mixture_it_says():
    E = SPECTRA(jax.random.key(1), 5, 40)
    assert E.shape == (5, 40) and (E > 0.05).all() and (E < 0.95).all() and np.linalg.cond(E) < 1e3
    plain = SCENE(jax.random.key(0), (12, 13), E, brightness=0.0)
    np.testing.assert_allclose(plain.cube, mixing.linear_mix(plain.abundances, E), atol=1e-6)
    assert (plain.brightness == 1).all()
    shaded = SCENE(jax.random.key(0), (12, 13), E, brightness=0.2)
    np.testing.assert_allclose(shaded.cube, mixing.scaled_mix(shaded.abundances, E, shaded.brightness), atol=1e-6)
    assert 0.05 < jnp.std(jnp.log(shaded.brightness)) < 0.4


def test_scenes_of_many_settings_are_one_compilation():
    E = SPECTRA(jax.random.key(1), 5, 40)
    snr, purity = jnp.asarray([10.0, 20.0, 40.0]), jnp.asarray([0.6, 0.8, 1.0])
    draw = jax.jit(jax.vmap(lambda k, s, p: synthetic.linear_scene(k, (16, 18), E, s, length=s / 5, purity=p)))
    scenes = draw(jax.random.split(jax.random.key(0), 3), snr, purity)
    assert scenes.cube.shape == (3, 16, 18, 40) and jnp.isfinite(scenes.cube).all()
    assert (scenes.abundances.max((1, 2, 3)) <= purity + 1e-6).all()
    slope = jax.jit(jax.grad(lambda E: jnp.sum(synthetic.linear_scene(jax.random.key(0), (8, 1), E, 20.0).cube ** 2)))(
        E
    )
    assert jnp.isfinite(slope).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: synthetic.abundance_field(jax.random.key(0), (4, 0), 3), "rows, columns"),
        (lambda: synthetic.abundance_field(jax.random.key(0), (4, 4), 1), "at least 2"),
        (lambda: synthetic.abundance_field(jax.random.key(0), (4, 4), 3, purity=0.3), "more than 1/3"),
        (lambda: synthetic.spectra(jax.random.key(0), 3, 1), "at least 1 spectrum"),
        (lambda: synthetic.add_noise(jax.random.key(0), jnp.ones((3, 4)), 20.0), "rows, columns, bands"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(InputError, match=words):
        call()
