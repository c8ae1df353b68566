"""Plug-and-play unmixing and its denoisers, each against its definition."""

import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.baselines import denoisers, dncnn, plug_and_play
from dequnmix_jax.datasets import synthetic
from experiments.shared import bm3d_bm4d

SHAPE, COUNT, BANDS = (10, 15), 3, 12
IDENTITY = plug_and_play.plug_and_play("identity", lambda maps, sigma: maps)
TINY = dncnn.Settings(layers=3, width=4, steps=60, patches=4, side=16)


@pytest.fixture(scope="module")
def scene():
    spectra = synthetic.spectra(jax.random.key(1), COUNT, BANDS)
    return synthetic.linear_scene(jax.random.key(0), SHAPE, spectra, 25.0, contrast=2.0)


@pytest.fixture(scope="module")
def start(scene):
    return jnp.maximum(dq.endmembers.vca(jax.random.key(3), scene.cube, COUNT), 1e-5)


def test_plug_and_play_without_a_denoiser_is_fcls(scene, start):
    found = jax.jit(IDENTITY.estimate)(jax.random.key(0), scene.cube, start)
    np.testing.assert_allclose(found.abundances, dq.abundances.fcls(scene.cube, start), atol=2e-4)


def test_total_variation_minimises_its_objective():
    """Against the subgradient's condition: the residual is a divergence of vectors of length at most one."""
    v = jax.random.uniform(jax.random.key(0), (8, 9, 1))
    x = denoisers.total_variation(v, jnp.float32(0.2), steps=400)

    def objective(x):
        down, right = denoisers._gradient(x)
        return 0.5 * jnp.sum(jnp.square(x - v)) + 0.2 * jnp.sum(jnp.sqrt(jnp.square(down) + jnp.square(right) + 1e-12))

    least = float(objective(x))
    for i in range(4):
        d = jax.random.normal(jax.random.key(i + 1), v.shape)
        for size in (1e-2, -1e-2):
            assert float(objective(x + size * d)) > least
    assert least < float(objective(v)) and least < float(objective(jnp.full_like(v, jnp.mean(v))))
    np.testing.assert_allclose(jnp.mean(x), jnp.mean(v), rtol=1e-5)  # a divergence has no mean


def test_the_divergence_is_minus_the_transpose_of_the_gradient():
    x, p, q = jax.random.normal(jax.random.key(0), (3, 6, 7, 2))
    down, right = denoisers._gradient(x)
    left = float(jnp.sum(down * p + right * q))
    np.testing.assert_allclose(left, -float(jnp.sum(x * denoisers._divergence(p, q))), rtol=1e-4)


@pytest.mark.parametrize("denoise", [denoisers.total_variation, denoisers.non_local_means])
def test_denoisers_denoise_and_leave_flat_maps_alone(denoise):
    clean = synthetic.abundance_field(jax.random.key(0), (24, 24), 3, length=6.0, contrast=2.0)
    noisy = clean + 0.05 * jax.random.normal(jax.random.key(1), clean.shape)
    found = jax.jit(denoise)(noisy, jnp.float32(0.05))
    before, after = (float(jnp.sqrt(jnp.mean(jnp.square(x - clean)))) for x in (noisy, found))
    assert after < 0.8 * before
    flat = jnp.full((9, 9, 2), 0.3)
    np.testing.assert_allclose(denoise(flat, jnp.float32(0.05)), flat, atol=1e-6)
    np.testing.assert_allclose(denoise(noisy, jnp.float32(0.0)), noisy, atol=1e-4)


def test_non_local_means_against_its_definition():
    v = np.asarray(jax.random.uniform(jax.random.key(0), (6, 5)), np.float64)
    sigma, reach, half = 0.2, 2, 1
    padded = np.pad(v, reach, mode="symmetric")
    expected = np.zeros_like(v)

    def box(d):
        d = np.pad(d, half, mode="symmetric")
        return np.lib.stride_tricks.sliding_window_view(d, (2 * half + 1, 2 * half + 1)).mean(axis=(2, 3))

    total = np.zeros_like(v)
    for i in range(-reach, reach + 1):
        for j in range(-reach, reach + 1):
            moved = padded[reach + i : reach + i + v.shape[0], reach + j : reach + j + v.shape[1]]
            w = np.exp(-np.maximum(box((v - moved) ** 2) - 2 * sigma**2, 0) / (0.4 * sigma) ** 2)
            expected, total = expected + w * moved, total + w
    found = denoisers.non_local_means(
        jnp.asarray(v[..., None], jnp.float32), jnp.float32(sigma), reach=reach, half=half
    )
    np.testing.assert_allclose(found[..., 0], expected / total, rtol=1e-4)


def test_the_paper_s_level_is_too_low_and_the_estimated_one_is_the_noise():
    """The estimate of the abundances' noise against the error that FCLS makes with the true spectra."""
    spectra = synthetic.spectra(jax.random.key(1), COUNT, 60)
    sample = synthetic.linear_scene(jax.random.key(0), (20, 20), spectra, 15.0, contrast=0.4)
    v, s = jax.jit(plug_and_play.abundance_noise)(sample.cube, spectra)
    sigma = jnp.sqrt(jnp.mean(jnp.square(sample.cube))) * 10 ** (-15 / 20)
    np.testing.assert_allclose(jnp.sqrt(v), sigma, rtol=0.1)
    error = float(jnp.sqrt(jnp.mean(jnp.square(dq.abundances.fcls(sample.cube, spectra) - sample.abundances))))
    assert 0.7 < error / float(s) < 1.2  # the constraints take a part away
    paper = (plug_and_play.PAPER.weight / plug_and_play.PAPER.rho) ** 0.5
    assert paper < 0.3 * error
    assert plug_and_play.constants(sample.cube, spectra, plug_and_play.PAPER)[1] == 10.0


def test_the_learned_denoiser_learns():
    weights, losses = dncnn.train(jax.random.key(0), TINY)
    np.testing.assert_allclose(losses[0], 1, rtol=0.1)  # at first it finds no noise: all of it is lost
    assert float(jnp.mean(losses[-5:])) < 0.95
    flat = jnp.full((12, 12, 2), 0.4) + 0.1 * jax.random.normal(jax.random.key(1), (12, 12, 2))
    found = dncnn.denoiser(weights)(flat, jnp.float32(0.1))
    assert float(jnp.std(found)) < float(jnp.std(flat))


@pytest.mark.parametrize("name", ["bm3d", "bm4d"])
def test_packages_for_non_commercial_use_are_asked_for_by_name(name, monkeypatch):
    maps = jnp.full((9, 9, 2), 0.3)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(dq.InputError, match=f"{name} is not installed.*noncommercial"):
        getattr(bm3d_bm4d, name)(maps, jnp.float32(0.1))
    double = types.SimpleNamespace(bm3d=lambda x, s: x + s, bm4d=lambda x, s: x - s)
    monkeypatch.setitem(sys.modules, name, double)
    found = getattr(bm3d_bm4d, name)(maps, jnp.float32(0.1))
    np.testing.assert_allclose(found, 0.4 if name == "bm3d" else 0.2, rtol=1e-5)
    assert found.shape == maps.shape and found.dtype == maps.dtype
