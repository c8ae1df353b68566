"""Polyhedral unmixing: distances to cones, the separating machine, the mixture, and the whole on a scene of classes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

import dequnmix_jax as dq
from dequnmix_jax.baselines import polyhedral
from dequnmix_jax.datasets import synthetic

SMALL = polyhedral.Settings(components=4, starts=2, steps=20)


def test_distances_are_those_of_the_nearest_point_of_the_cone(x64):
    rng = np.random.default_rng(0)
    x, h = rng.normal(size=(12, 3)), rng.normal(size=(2, 3))
    h /= np.linalg.norm(h, axis=1, keepdims=True)
    found = polyhedral.signed_distances(jnp.asarray(x), jnp.asarray(h))
    inside = (x @ h.T).max(axis=1) < 0
    assert inside.any() and not inside.all()
    for n in range(12):
        if inside[n]:  # the nearest wall
            expected = (x[n] @ h.T).max()
        else:
            cone = {"type": "ineq", "fun": lambda z: -h @ z}
            away = lambda z, n=n: np.sum((z - x[n]) ** 2)  # noqa: E731
            nearest = minimize(away, np.zeros(3), method="SLSQP", constraints=cone, options={"ftol": 1e-14})
            expected = np.sqrt(nearest.fun)
        np.testing.assert_allclose(found[n], expected, atol=1e-6)


def test_the_machine_has_the_least_hinge_loss(x64):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(30, 2)) + np.where(np.arange(30) < 15, 0.8, -0.8)[:, None]
    sign = np.where(np.arange(30) < 15, 1.0, -1.0)
    sign[::7] = 0  # of another class
    settings = polyhedral.Settings(tolerance=1e-8, sweeps=20_000)
    w = np.asarray(polyhedral.separate(jnp.asarray(x), jnp.asarray(sign), settings))

    def loss(w):
        return 0.5 * w @ w + np.sum(np.abs(sign) * np.maximum(0, 1 - sign * (x @ w)))

    assert all(loss(w) <= loss(w + step) + 1e-9 for step in 1e-3 * rng.normal(size=(200, 2)))


def test_extreme_distances_by_hand():
    d = jnp.asarray([[-1.0, 2.0, 3.0], [-2.0, 4.0, 1.0], [5.0, -1.0, 2.0], [1.0, 2.0, 0.5]])
    expected = [[-3, 4, 3], [5, -2, 2], [1, 2, 0.5]]  # no pixel is inside the third
    np.testing.assert_allclose(polyhedral.extremes(d), expected)


@pytest.mark.slow
def test_a_pixel_that_stands_for_two_cones_gives_them_the_same_coordinate():
    d = jnp.asarray([[0.1, 0.5, 0.1], [0.9, -0.2, 0.9], [0.8, 0.3, 0.8]])
    assert np.linalg.matrix_rank(polyhedral.extremes(d)) == 2  # rows 0 and 2 are those of pixel 0
    for found in (polyhedral.coordinates(d), jax.vmap(polyhedral.coordinates)(d[None])[0]):
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found[:, 0], found[:, 2], atol=1e-6)
    plain = jnp.asarray([[-0.3, 0.4, 0.5], [0.6, -0.2, 0.9], [0.8, 0.3, -0.1]])
    expected = plain @ np.linalg.inv(polyhedral.extremes(plain))
    np.testing.assert_allclose(polyhedral.coordinates(plain), expected, atol=1e-5)


def test_classes_that_stand_out_are_unmixed():
    """Far better than equal shares; the same answer whatever the brightness of each pixel, which the lengths take."""
    spectra = synthetic.spectra(jax.random.key(1), 3, 12)
    scene = synthetic.linear_scene(jax.random.key(0), (14, 15), spectra, 40.0, contrast=4.0)
    light = jax.random.uniform(jax.random.key(2), (14, 15, 1), minval=0.5, maxval=1.5)
    estimate = jax.jit(polyhedral.polyhedral(SMALL).estimate)
    found, shaded = (estimate(jax.random.key(0), cube, spectra) for cube in (scene.cube, light * scene.cube))
    order = dq.metrics.align(found.endmembers, scene.endmembers)
    assert float(dq.metrics.armse(found.abundances[..., order], scene.abundances)) < 0.12
    assert float(dq.metrics.msad(found.endmembers[order], scene.endmembers)) < 0.1
    np.testing.assert_allclose(shaded.abundances, found.abundances, atol=2e-2)
