"""Endmembers as extreme pixels, and as vertices of the largest and smallest simplex."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax import metrics
from dequnmix_jax.checks import InputError
from dequnmix_jax.datasets import synthetic
from dequnmix_jax.endmembers import subspace

BANDS = 20
SIVM = jax.jit(dq.endmembers.sivm, static_argnums=1, static_argnames="scaled")
NFINDR = jax.jit(dq.endmembers.nfindr, static_argnums=1, static_argnames="scaled")
ATGP = jax.jit(dq.endmembers.atgp, static_argnums=1)
METHODS = {"atgp": ATGP, "sivm": SIVM, "nfindr": NFINDR}
SMALLEST = jax.jit(dq.endmembers.minimum_volume, static_argnums=2, static_argnames="scaled")


def scene(count, snr=None, purity=1.0, brightness=0.0, shape=(20, 20)):
    E = synthetic.spectra(jax.random.key(count), count, BANDS)
    return synthetic.linear_scene(
        jax.random.key(7), shape, E, snr, purity=purity, brightness=brightness, contrast=2.0, length=2.0
    )


def angle(found, E):
    return float(metrics.msad(found[metrics.align(found, E)], E))


@pytest.mark.parametrize("method", METHODS)
def test_pure_pixels_are_found_among_duplicates_dark_and_masked_ones(method):
    sample = scene(4)
    Y = sample.cube.at[3, 3].set(0.0).at[4].set(sample.cube[5])
    mask = jnp.ones(Y.shape[:2], bool).at[9, 2:6].set(False)
    Y = jnp.where(mask[..., None], Y, jnp.nan)
    if method == "atgp":  # it takes pixels as they are, the brightest first, and asks for length before colour
        found = METHODS[method](Y, 4, mask=mask)
        assert (jnp.abs(found[:, None, None] - Y[None]).max(-1).min((1, 2), where=mask, initial=1.0) == 0).all()
        assert float(jnp.sum(found[0] ** 2)) == float(jnp.max(jnp.sum(Y * Y, -1), where=mask, initial=0.0))
    else:  # a pixel of zeros is a vertex of the plane, and nothing in the cone
        found = METHODS[method](Y, 4, mask=mask, scaled=True)
    assert angle(found, sample.endmembers) < (0.2 if method == "atgp" else 1e-2)


def test_a_brightness_of_each_pixel_needs_the_cone():
    sample = scene(3, brightness=0.4)
    for method in (SIVM, NFINDR):
        assert angle(method(sample.cube, 3, scaled=True), sample.endmembers) < 5e-3
        assert angle(method(sample.cube, 3), sample.endmembers) > 0.03


def test_no_exchange_of_a_pixel_makes_the_simplex_of_nfindr_larger():
    sample = scene(4, 20.0, purity=0.7, shape=(8, 9))
    found = np.asarray(NFINDR(sample.cube, 4), np.float64)
    Y = np.asarray(sample.cube.reshape(-1, BANDS), np.float64)
    mean = Y.mean(0)
    axes = np.linalg.svd(Y - mean, full_matrices=False)[2][:3]
    x, vertices = (Y - mean) @ axes.T, (found - mean) @ axes.T

    def volume(v):
        return abs(np.linalg.det(np.column_stack([np.ones(4), v])))

    now = volume(vertices)
    for r in range(4):
        for pixel in x:
            other = vertices.copy()
            other[r] = pixel
            assert volume(other) < 1.003 * now
    greedy = (np.asarray(SIVM(sample.cube, 4), np.float64) - mean) @ axes.T
    assert now >= volume(greedy) * 0.999


def test_sixty_endmembers_and_a_scene_of_fewer_give_numbers():
    rng = np.random.default_rng(0)
    Y = jnp.asarray(rng.dirichlet(np.full(60, 0.1), (30, 10)) @ rng.uniform(size=(60, 80)), jnp.float32)
    for method in METHODS.values():
        found = method(Y, 60)
        assert found.shape == (60, 80) and jnp.isfinite(found).all()
        # One material and its copies: there is nothing to find, and no NaN.
        assert jnp.isfinite(method(jnp.ones((5, 5, 4)), 3)).all()


def test_the_frame_gives_the_pixels_back():
    sample = scene(3, brightness=0.3)
    for scaled, Y in ((True, sample.cube), (False, scene(3).cube)):
        pixels, valid = subspace.pixels(Y, None)
        view = subspace.frame(pixels, valid, 3, scaled)
        np.testing.assert_allclose(view.points @ view.lift, pixels, atol=1e-4)
        np.testing.assert_allclose(view.points.T @ view.points / len(pixels), jnp.eye(3), atol=1e-3)
        m = pixels.mean(0)
        t = pixels @ m / (m @ m) if scaled else jnp.ones(len(pixels))
        np.testing.assert_allclose(view.height * view.points[:, 0], t, atol=1e-4)


@pytest.mark.parametrize("scaled", [False, True])
def test_the_frame_is_that_of_the_valid_pixels(scaled):
    Y = scene(3, 40.0).cube.reshape(-1, BANDS)
    valid = jnp.arange(len(Y)) % 3 != 0
    masked = subspace.frame(jnp.where(valid[:, None], Y, 0), valid, 3, scaled)
    alone = subspace.frame(Y[valid], jnp.ones(int(valid.sum()), bool), 3, scaled)
    both = [jnp.matmul(view.points, view.lift) for view in (masked, alone)]
    np.testing.assert_allclose(both[0][valid], both[1], atol=1e-5)
    np.testing.assert_allclose(masked.lift.T @ masked.lift, alone.lift.T @ alone.lift, atol=1e-4)
    np.testing.assert_allclose(masked.height, alone.height, rtol=1e-4)


def test_no_pure_pixels_and_the_minimum_volume_beats_vca_clearly():
    ours, theirs = [], []
    for seed in range(3):
        E = synthetic.spectra(jax.random.key(seed), 3, BANDS)
        sample = synthetic.linear_scene(
            jax.random.key(50 + seed), (20, 20), E, 30.0, purity=0.8, contrast=2.0, length=2
        )
        found, trace = SMALLEST(jax.random.key(seed), sample.cube, 3)
        assert trace.converged and 0 < trace.steps < 200
        ours.append(angle(found, E))
        theirs.append(angle(jnp.asarray(dq.endmembers.vca(jax.random.key(seed), sample.cube, 3, runs=8)), E))
    # Half of it alone would let pass a search that takes its steps by the curvature of the wrong pixels.
    assert np.mean(ours) < 0.5 * np.mean(theirs) and np.mean(ours) < 0.018


def test_the_minimum_volume_of_a_cone_and_of_masked_dark_and_outlying_pixels():
    sample = scene(3, 30.0, purity=0.8, brightness=0.3)
    clean, _ = SMALLEST(jax.random.key(0), sample.cube, 3, scaled=True)
    assert angle(clean, sample.endmembers) < 0.05
    mask = jnp.ones((20, 20), bool).at[9].set(False)
    Y = jnp.where(mask[..., None], sample.cube, jnp.nan).at[2, 2].set(0.0).at[4, 4, 7].add(0.5)
    found, trace = SMALLEST(jax.random.key(0), Y, 3, scaled=True, mask=mask)
    assert trace.converged and angle(found, sample.endmembers) < 0.08


def test_a_flat_scene_says_that_it_failed_and_gives_numbers():
    found, trace = SMALLEST(jax.random.key(0), jnp.ones((12, 13, BANDS)), 3)
    assert jnp.isfinite(found).all() and not bool(trace.converged)


def test_all_of_them_vmap():
    cubes = jnp.stack([scene(3, snr).cube for snr in (20.0, 40.0)])
    keys = jax.random.split(jax.random.key(0), 2)

    def all_of(key, cube):
        return (
            dq.endmembers.atgp(cube, 3),
            dq.endmembers.sivm(cube, 3),
            dq.endmembers.nfindr(cube, 3, scaled=True),
            dq.endmembers.minimum_volume(key, cube, 3)[0],
        )

    one = jax.jit(all_of)
    together = jax.jit(jax.vmap(all_of))(keys, cubes)
    for n in range(2):
        for a, b in zip(one(keys[n], cubes[n]), together, strict=True):
            # Of draws of VCA that find the same simplex, rounding decides which comes first.
            np.testing.assert_allclose(a, b[n][metrics.align(b[n], a)], atol=2e-3)


@pytest.mark.parametrize(
    "find",
    [
        dq.endmembers.atgp,
        dq.endmembers.sivm,
        dq.endmembers.nfindr,
        lambda Y, n: dq.endmembers.minimum_volume(jax.random.key(0), Y, n),
    ],
)
def test_bad_input_is_named(find):
    Y = scene(3).cube
    for cube, count, words in (
        (Y, 1, "at least 2"),
        (Y, BANDS + 1, "21 endmembers asked for in 20 bands"),
        (Y[:1, :2], 3, "valid pixels"),
        (Y[0], 3, "rows, columns, bands"),
        (Y.at[0, 0].set(jnp.nan), 3, "NaN"),
    ):
        with pytest.raises(InputError, match=words):
            find(cube, count)


def test_no_steps_are_refused():
    with pytest.raises(InputError, match="max_steps is 0"):
        dq.endmembers.minimum_volume(jax.random.key(0), scene(3).cube, 3, max_steps=0)
