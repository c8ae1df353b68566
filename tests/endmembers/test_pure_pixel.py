"""VCA and purification."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dequnmix_jax import metrics
from dequnmix_jax.abundances import least_squares
from dequnmix_jax.checks import InputError
from dequnmix_jax.datasets import synthetic
from dequnmix_jax.endmembers import minimum_volume, pure_pixel

ANGLE = jax.jit(lambda found, E: metrics.msad(found[metrics.align(found, E)], E))
VCA = jax.jit(pure_pixel.vca, static_argnums=2)


def pure_scene(count, snr_db, bands=60, dtype="float32"):
    """Draw a scene with pure pixels of every endmember."""
    draw = np.random.default_rng(count)
    # One Gaussian feature each, side by side.
    at, width = np.linspace(0.05, 0.95, count)[:, None], draw.uniform(0.03, 0.08, (count, 1))
    E = 0.2 + 0.7 * np.exp(-(((np.linspace(0, 1, bands) - at) / width) ** 2))
    a = draw.dirichlet(np.ones(count), size=(20, 30))
    a[:count, 3] = np.eye(count)
    Y = a @ E
    Y = Y + np.sqrt((Y**2).mean() * 10 ** (-snr_db / 10)) * draw.normal(size=Y.shape)
    return tuple(jnp.asarray(x, dtype) for x in (Y, E, a))


def matched_angle(found, E):
    return float(ANGLE(found, E))


@pytest.mark.parametrize("count", [2, 3, 10])
def test_vca_finds_the_pure_pixels(count):
    Y, E, _ = pure_scene(count, 70.0)
    for seed in range(4):
        assert matched_angle(VCA(jax.random.key(seed), Y, count), E) < 2e-3


def test_vca_vmaps_over_scenes_on_either_side_of_the_threshold():
    scenes, keys = [pure_scene(3, snr)[0] for snr in (12.0, 70.0)], jax.random.split(jax.random.key(0), 2)
    together = jax.vmap(lambda k, Y: pure_pixel.vca(k, Y, 3))(keys, jnp.stack(scenes))
    for k, Y, found in zip(keys, scenes, together, strict=True):
        np.testing.assert_allclose(found, VCA(k, Y, 3), atol=1e-4)


def test_vca_in_noise_takes_the_centred_branch():
    """At 12 dB (threshold 19.8 at R = 3) the spectra lie in the affine hull of R - 1 directions about the mean."""
    Y, E, _ = pure_scene(3, 12.0)
    found = VCA(jax.random.key(0), Y, 3)
    assert matched_angle(found, E) < 0.2
    centred = np.asarray(Y.reshape(-1, 60) - Y.mean((0, 1))[None])
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    d = np.asarray(found - Y.mean((0, 1))[None])
    np.testing.assert_allclose(d, d @ axes.T @ axes, atol=2e-4)
    # At 70 dB it is the linear span of R directions.
    Y, _, _ = pure_scene(3, 70.0)
    found = np.asarray(VCA(jax.random.key(0), Y, 3))
    axes = np.linalg.svd(np.asarray(Y.reshape(-1, 60)), full_matrices=False)[2][:3]
    np.testing.assert_allclose(found, found @ axes.T @ axes, atol=2e-5)


def test_vca_does_not_see_masked_pixels_or_the_unit():
    Y, E, _ = pure_scene(3, 70.0)
    mask = jnp.ones(Y.shape[:2], bool).at[5, 5:9].set(False)
    found = VCA(jax.random.key(0), Y.at[5, 5:9].set(jnp.nan), 3, mask=mask)
    assert matched_angle(found, E) < 2e-3
    np.testing.assert_allclose(VCA(jax.random.key(0), Y.at[5, 5:9].set(1e4), 3, mask=mask), found, atol=1e-5)
    # In noise, where the direction of the mean is one of the search.
    Y, _, _ = pure_scene(3, 12.0)
    half = jnp.ones(Y.shape[:2], bool).at[10:].set(False)
    for seed in range(3):
        found = VCA(jax.random.key(seed), Y, 3, mask=half)
        np.testing.assert_allclose(VCA(jax.random.key(seed), Y[:10], 3), found, atol=2e-4)
    Y, _, _ = pure_scene(3, 70.0)
    # A power of two rounds nothing.
    np.testing.assert_array_equal(VCA(jax.random.key(0), 4096.0 * Y, 3) / 4096.0, VCA(jax.random.key(0), Y, 3))


FOUR = jax.jit(lambda key, cube: [pure_pixel.vca(key, cube, 4)])
ALL = jax.jit(
    lambda key, cube: [
        pure_pixel.vca(key, cube, 4),
        pure_pixel.vca(key, cube, 4, runs=4),
        pure_pixel.atgp(cube, 4),
        pure_pixel.sivm(cube, 4),
        pure_pixel.nfindr(cube, 4),
        pure_pixel.nfindr(cube, 4, scaled=True),
        minimum_volume(key, cube, 4)[0],
        minimum_volume(key, cube, 4, scaled=True)[0],
    ]
)


def test_spectra_and_their_order_follow_a_factor_on_the_cube():
    """The sign of an axis is arbitrary: in these scenes rounding flipped one, which changed VCA's order."""
    for seed, snr, find in ((0, 15.0, ALL), (1, 30.0, ALL), (10, 30.0, FOUR), (7, 60.0, FOUR), (8, 60.0, FOUR)):
        E = synthetic.spectra(jax.random.key(seed), 4, 40)
        Y = synthetic.linear_scene(jax.random.key(seed + 1), (20, 20), E, snr, contrast=2.0).cube
        found = find(jax.random.key(0), Y)
        for factor in (1e-6, 1 / 3, 7.0, 1e4, 1e6):
            for one, other in zip(found, find(jax.random.key(0), jnp.float32(factor) * Y), strict=True):
                np.testing.assert_allclose(other / factor, one, atol=5e-3 * float(jnp.abs(one).max()))


def test_vca_survives_dark_pixels_and_a_scene_without_noise(x64):
    Y, E, _ = pure_scene(4, 300.0, dtype="float64")
    found = pure_pixel.vca(jax.random.key(0), Y.at[7, 7].set(0.0), 4)
    assert found.dtype == jnp.float64 and matched_angle(found, E) < 1e-6


def test_vca_is_differentiable_as_a_choice_of_pixels():
    Y, _, _ = pure_scene(3, 60.0)
    slope = jax.grad(lambda Y: jnp.sum(pure_pixel.vca(jax.random.key(0), Y, 3)))(Y)
    assert jnp.isfinite(slope).all() and (jnp.abs(slope).max(-1) > 0).sum() == 3


def test_purify_averages_the_purest_with_ties():
    Y = jnp.asarray(np.random.default_rng(0).uniform(size=(10, 10, 4)), jnp.float32)
    a = np.zeros((10, 10, 2), "f")
    a[:, :5, 0] = np.linspace(0.1, 1.0, 50).reshape(10, 5)
    a[2:4, 7, 1] = 1.0
    pure = pure_pixel.purify(Y, jnp.zeros((2, 4)), a, fraction=0.03)
    np.testing.assert_allclose(pure[0], Y[9, 2:5].mean(0), rtol=1e-5)
    # Third largest is 0, with which all others tie: the mean of everything. With one pixel asked for, the two at 1.
    np.testing.assert_allclose(pure[1], Y.mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(pure_pixel.purify(Y, pure, a, fraction=0.01)[1], Y[2:4, 7].mean(0), rtol=1e-5)
    kept = pure_pixel.purify(Y, jnp.full((2, 4), 7.0), a * np.asarray([1, 0], "f"))
    assert (kept[1] == 7.0).all()


def test_purify_does_not_see_masked_pixels_or_the_order():
    Y, E, a = pure_scene(3, 30.0)
    mask = np.random.default_rng(1).uniform(size=Y.shape[:2]) > 0.3
    hidden = jnp.where(mask[..., None], Y, jnp.nan), E, jnp.where(mask[..., None], a, 2.0)
    pure = jax.jit(pure_pixel.purify)(*hidden, mask=mask)
    kept = pure_pixel.purify(Y[mask][None], E, a[mask][None])
    np.testing.assert_allclose(pure, kept, rtol=1e-5)
    np.testing.assert_allclose(
        pure_pixel.purify(Y[::-1, ::-1], E, a[::-1, ::-1]), pure_pixel.purify(Y, E, a), rtol=1e-5
    )


def test_samson_purified(data_dir):
    """The closed form for the reference of Zhu from the authors' VCA spectra: 0.0308 and 0.0452 rad."""
    from scipy.io import loadmat

    file = loadmat(data_dir / "samson_authors.mat")
    cube, truth = (np.asarray(file[k].reshape(-1, 95, 95, order="F").transpose(1, 2, 0), "f") for k in ("Y", "A"))
    start, E = (np.asarray(file[k].T, "f") for k in ("M1", "M"))
    pure = pure_pixel.purify(cube, start, least_squares.scaled_nnls(cube, start)[0])
    order = metrics.align(pure, E)
    assert abs(float(metrics.msad(pure[order], E)) - 0.0452) < 1e-4
    assert abs(float(metrics.armse(least_squares.scaled_nnls(cube, pure)[0][..., order], truth)) - 0.0308) < 1e-4


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda Y, E, a: pure_pixel.vca(jax.random.key(0), Y, 1), "at least 2"),
        (lambda Y, E, a: pure_pixel.vca(jax.random.key(0), Y, 61), "61 endmembers asked for in 60 bands"),
        (lambda Y, E, a: pure_pixel.vca(jax.random.key(0), Y[:1, :2], 3), "valid pixels"),
        (lambda Y, E, a: pure_pixel.vca(jax.random.key(0), Y.at[0, 0].set(jnp.nan), 3), "NaN"),
        (lambda Y, E, a: pure_pixel.purify(Y[1:], E, a), r"expected \(H, W, B\)"),
        (lambda Y, E, a: pure_pixel.purify(Y, E, a, fraction=3.0), "share of the pixels"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(InputError, match=words):
        call(*pure_scene(3, 30.0))


def test_of_several_runs_the_one_of_largest_volume_is_kept():
    cube = synthetic.linear_scene(
        jax.random.key(0), (12, 12), synthetic.spectra(jax.random.key(1), 4, 30), 15.0, brightness=0.3
    ).cube

    def volume(E):
        U = E / jnp.linalg.norm(E, axis=1, keepdims=True)
        return float(jnp.linalg.slogdet(U @ U.T)[1])

    key = jax.random.key(5)
    single = [volume(pure_pixel.vca(k, cube, 4)) for k in jax.random.split(key, 8)]
    assert max(single) > min(single) + 0.01
    assert abs(volume(pure_pixel.vca(key, cube, 4, runs=8)) - max(single)) < 1e-3
