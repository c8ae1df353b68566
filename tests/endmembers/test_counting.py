"""Evidence for the number of endmembers: measured on the host, checked against exact answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.datasets import synthetic
from dequnmix_jax.endmembers import counting


def scene(count, correlated, shape=(40, 40), bands=30):
    """Return a linear scene with noise at 40 dB, white or with a correlation of 0.9 between neighbouring bands."""
    E = synthetic.spectra(jax.random.key(3), count, bands)
    clean = np.asarray(synthetic.linear_scene(jax.random.key(1), shape, E, contrast=2.0).cube, np.float64)
    noise = np.random.default_rng(0).standard_normal(clean.shape)
    if correlated:
        for band in range(1, bands):
            noise[..., band] = 0.9 * noise[..., band - 1] + (1 - 0.81) ** 0.5 * noise[..., band]
    return (clean + 0.01 * np.sqrt(np.mean(clean**2)) * noise).astype(np.float32)


@pytest.mark.parametrize("count", [3, 5])
@pytest.mark.parametrize("correlated", [False, True])
def test_what_knows_of_correlated_noise_finds_the_number_in_both(count, correlated):
    evidence, criteria = counting.measure(scene(count, correlated), None)
    assert criteria.gap == count
    fall = np.exp(-np.diff(evidence.error.min(axis=0)))  # by one more endmember
    assert fall[count - 2] > 1.5 and fall[count - 1 :].max() < 1.3 and criteria.held_out >= count
    # Regression on other bands takes correlated noise for signal.
    assert criteria.hysime == count if not correlated else criteria.hysime > count


def test_single_rules_are_those_of_the_package():
    cube = scene(3, False)
    _, criteria = counting.measure(cube, None)
    assert criteria.hysime == int(dq.endmembers.hysime(jnp.asarray(cube)).number)
    assert criteria.nwhfc == int(dq.endmembers.virtual_dimension(jnp.asarray(cube)).number)


def test_not_negative_is_least_squares_with_bounds():
    rng = np.random.default_rng(0)
    E = rng.random((6, 20)) + 0.1
    Y = rng.dirichlet(np.full(6, 0.3), 200) @ E + 0.1 * rng.standard_normal((200, 20))
    G, F = E @ E.T, Y @ E.T
    x, kept = counting._not_negative(G, F, np.ones((200, 6), np.bool_))
    slope = x @ G - F
    assert (x >= 0).all() and (x[~kept] == 0).all() and 0.2 < np.mean(x == 0) < 0.8
    assert np.abs(slope[x > 0]).max() < 1e-6  # stationary where positive
    assert np.mean(slope[x == 0] > -1e-6) > 0.99  # and nothing to gain elsewhere, but where it has not ended


def test_masked_pixels_and_the_unit_do_not_matter():
    cube = scene(3, True)
    mask = np.ones((40, 40), np.bool_)
    mask[:, 30:] = False
    spoiled = np.where(mask[..., None], cube, np.nan)
    first, one = counting.measure(spoiled, mask)
    second, two = counting.measure(1e4 * cube[:, :30], None)
    assert one == two
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_a_large_scene_is_read_in_tiles_with_valid_pixels():
    mask = np.zeros((400, 330), np.bool_)
    mask[:, 40:200] = True
    cube = np.arange(400 * 330, dtype=np.float32).reshape(400, 330, 1)
    tiles, valid = counting._tiles(cube, mask)
    assert tiles.shape == (*valid.shape, 1) and valid.shape[1:] == (16, 16)
    assert 0.8 * counting._PIXELS < valid.size <= counting._PIXELS and valid.any(axis=(1, 2)).all()
    rows = tiles[valid] // 330
    assert rows.min() < 16 and rows.max() > 370  # from the first to the last
    same, all_valid = counting._tiles(cube[:100, :100], None)
    assert same.shape == (1, 100, 100, 1) and all_valid.all()
