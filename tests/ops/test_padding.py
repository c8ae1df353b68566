"""Padding goes to a few sizes, and scenes that are padded have the answers of those that are not."""

from itertools import pairwise

import jax
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.ops import padding
from dequnmix_jax.ops.padding import SIDES, pad, padded_shape


@pytest.mark.parametrize(
    ("shape", "count", "padded"),
    [
        ((10, 10), 3, (16, 16)),
        ((95, 95), 3, (96, 96)),
        ((96, 17), 3, (96, 24)),
        ((1, 400), 2, (1, 512)),
        ((1, 600), 2, (1, 600)),  # longer than any size
        ((200, 200), 6, (200, 200)),  # large
    ],
)
def test_shapes(shape, count, padded):
    assert padded_shape(np.zeros((*shape, 5)), count) == padded


def test_sizes_grow_by_half_at_most():
    large = [side for side in SIDES if side >= 16]
    assert all(after <= 1.5 * before for before, after in pairwise(large))


def test_an_array_on_another_device_stays():
    cube = jax.device_put(np.zeros((10, 10, 5), np.float32), jax.devices()[1])
    assert padded_shape(cube, 3) == (10, 10)


def test_pad_adds_zeros_after():
    image = np.ones((2, 3, 4))
    wide = pad(image, (4, 8))
    assert wide.shape == (4, 8, 4)
    assert wide[:2, :3].all() and wide.sum() == image.sum()
    assert pad(image, (2, 3)) is image


def test_a_padded_scene_has_the_same_answer(monkeypatch):
    """The whole of `run`: choice, training, verdicts, maps. Random draws are those of the true size."""
    rng = np.random.default_rng(0)
    E = np.abs(np.cumsum(rng.normal(size=(2, 20)), axis=1) * 0.05 + rng.uniform(0.3, 0.6, size=(2, 1)))
    A = rng.dirichlet((0.5, 0.5), size=(9, 13))
    cube = (A @ E + 0.003 * rng.normal(size=(9, 13, 20))).astype(np.float32)
    training = dq.Training(epochs=4, holdout=0.5, subspace="signal", endmembers_first=0.5, judged=True)
    mask = np.ones((9, 13), bool)
    mask[3, 4:6] = False
    scene = dq.Scene(cube, mask=mask)
    padded = dq.run(scene, 2, jax.random.key(0), training=training)
    monkeypatch.setattr(padding, "SIDES", tuple(range(1, 20)))
    alone = dq.run(scene, 2, jax.random.key(0), training=training)
    assert padded.abundances.shape == alone.abundances.shape == (9, 13, 2)
    for name in ("abundances", "endmembers", "brightness", "convergence"):
        np.testing.assert_allclose(getattr(padded, name), getattr(alone, name), rtol=1e-4, atol=1e-5, err_msg=name)
    assert padded.reason == alone.reason
    np.testing.assert_allclose(padded.history.loss, alone.history.loss, rtol=1e-4)
    np.testing.assert_array_equal([v.kept for v in padded.history.stages], [v.kept for v in alone.history.stages])
