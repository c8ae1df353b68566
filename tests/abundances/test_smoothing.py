"""The prior over neighbours: what it smooths, what it does not change, and that it fits its docstring."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.abundances import smoothing
from dequnmix_jax.datasets import synthetic


@pytest.fixture(scope="module")
def maps():
    """Smooth maps (40, 44, 3), and the same with errors of 0.1, projected to the simplex."""
    A = synthetic.abundance_field(jax.random.key(3), (40, 44), 3, length=6.0, contrast=0.6)
    noise = 0.1 * jax.random.normal(jax.random.key(4), A.shape)
    return A, dq.abundances.fcls(A + noise, jnp.eye(3))


def rms(x):
    return float(jnp.sqrt(jnp.mean(jnp.square(x))))


def test_errors_are_told_from_what_the_maps_show(maps):
    A, noisy = maps
    found = dq.abundances.smoother(noisy)
    assert 0.2 < float(found.strength.max()) <= 0.75
    smoothed = dq.abundances.smooth(noisy)
    assert rms(smoothed - A) < 0.65 * rms(noisy - A)
    assert float(smoothed.min()) >= 0
    np.testing.assert_allclose(jnp.sum(smoothed, axis=-1), 1, atol=1e-5)
    assert rms(dq.abundances.smooth(A) - A) < 2e-3  # nothing to remove: nothing is lost


def test_errors_of_one_combination_leave_the_others_alone():
    """Two materials are confused with each other; the third is exact."""
    A = synthetic.abundance_field(jax.random.key(5), (40, 44), 3, length=6.0, contrast=0.3)
    n = 0.05 * jax.random.normal(jax.random.key(6), A.shape[:2])
    smoothed = dq.abundances.smooth(A + n[..., None] * jnp.asarray([1.0, -1.0, 0.0])[None, None])
    assert rms(smoothed[..., 0] - A[..., 0]) < 0.6 * rms(n)
    assert rms(smoothed[..., 2] - A[..., 2]) < 0.1 * rms(n)


def test_pixels_that_know_nothing_of_each_other_stay_as_they_are():
    A = jax.random.dirichlet(jax.random.key(7), jnp.ones(4), (30, 31))
    np.testing.assert_allclose(dq.abundances.smoother(A).strength, 0)
    np.testing.assert_allclose(dq.abundances.smooth(A), A, atol=1e-6)
    listed = jax.random.permutation(jax.random.key(8), maps_in_a_row())
    np.testing.assert_allclose(dq.abundances.smooth(listed[None]), listed[None], atol=1e-6)


def maps_in_a_row():
    return synthetic.abundance_field(jax.random.key(9), (20, 30), 3).reshape(-1, 3)


def test_differences_count_down_the_columns_and_along_the_rows():
    """By hand: 6, 9 and 12 down, 1, 2, 4 and 5 along; a pixel less, 6 and 12 down, 4 and 5 along."""
    A = jnp.asarray([[0.0, 1.0, 3.0], [6.0, 10.0, 15.0]])[..., None]
    valid = jnp.ones((2, 3), bool)
    found, pairs = smoothing.semivariance(A, valid, 1)
    assert float(found[0, 0]) == pytest.approx((36 + 81 + 144 + 1 + 4 + 16 + 25) / (2 * 7)) and int(pairs) == 7
    found, pairs = smoothing.semivariance(A, valid.at[0, 1].set(False), 1)
    assert float(found[0, 0]) == pytest.approx((36 + 144 + 16 + 25) / (2 * 4)) and int(pairs) == 4
    found, pairs = smoothing.semivariance(A, valid, 2)
    assert float(found[0, 0]) == pytest.approx((9 + 81) / (2 * 2)) and int(pairs) == 2


def test_turned_maps_have_the_same_prior_and_turned_answers(maps):
    """Maps that are smooth down the columns and rough along the rows, where the two directions disagree."""
    stripes = 0.1 * jax.random.normal(jax.random.key(4), (1, 40, 1)) * jnp.asarray([1.0, -1.0, 0.0])[None, None]
    noisy = jnp.clip(maps[1][:, :40] + stripes, 0, 1)
    noisy = noisy / jnp.sum(noisy, axis=-1, keepdims=True)
    both = jax.jit(lambda A: (found := smoothing.smoother(A), dq.abundances.smooth(A, found)))
    (found, smoothed), (turned, other) = both(noisy), both(noisy.swapaxes(0, 1))
    assert float(found.strength.max()) > 0.05
    np.testing.assert_allclose(turned.strength, found.strength, atol=0.01)
    np.testing.assert_allclose(other.swapaxes(0, 1), smoothed, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (3, 3), (2, 60), (10, 10)])
def test_few_pixels_are_no_ground_and_raise_nothing(shape):
    A = jax.random.dirichlet(jax.random.key(1), jnp.ones(3), shape)
    smoothed = dq.abundances.smooth(A)
    assert bool(jnp.all(jnp.isfinite(smoothed)))
    if shape != (1, 400):
        np.testing.assert_allclose(smoothed, A, atol=1e-6)


def test_constant_maps_and_one_map_are_left_alone():
    for A in (jnp.full((20, 20, 3), 1 / 3), jnp.ones((20, 20, 1)), jnp.zeros((20, 20, 2)).at[..., 1].set(1)):
        np.testing.assert_allclose(dq.abundances.smooth(A), A, atol=1e-6)


def test_it_is_the_posterior_mean_of_its_docstring(x64):
    """On a small grid with a hole, against the normal equations written out, with matrices instead of L."""
    rows, columns, count = 5, 6, 3
    key = jax.random.key(11)
    B = 1 / 3 + 0.02 * jax.random.normal(key, (rows, columns, count), jnp.float64)
    B = B / jnp.sum(B, axis=-1, keepdims=True)
    mask = jnp.ones((rows, columns), bool).at[2, 3].set(False)
    root = jax.random.normal(jax.random.key(12), (count, count), jnp.float64)
    near = root @ root.T + jnp.eye(count)
    values, vectors = jnp.linalg.eigh(near)
    V = vectors / jnp.sqrt(values)[None] @ jnp.linalg.qr(jax.random.normal(key, (count, count), jnp.float64))[0]
    rho = jnp.asarray([0.0, 0.3, 0.7])
    found = dq.abundances.Smoother(V, rho / (4 * (1 - rho)))
    back = jnp.linalg.inv(V)
    N, D = (back.T @ jnp.diag(share) @ back for share in (jnp.maximum(rho, 1e-9), 1 - rho))
    np.testing.assert_allclose(N + D, near, rtol=1e-6)
    pixels = [(i, j) for i in range(rows) for j in range(columns) if mask[i, j]]
    L = np.zeros((len(pixels),) * 2)
    for p, (i, j) in enumerate(pixels):
        for q, (k, m) in enumerate(pixels):
            if abs(i - k) + abs(j - m) == 1:
                L[p, p] += 1
                L[p, q] -= 1
    b = np.stack([B[i, j] for i, j in pixels])
    Ni, Di = np.linalg.inv(N), np.linalg.inv(D)
    system = np.kron(np.eye(len(pixels)), Ni) + np.kron(L, Di) / 4
    expected = np.linalg.solve(system, (b @ Ni).reshape(-1)).reshape(-1, count)
    expected = np.asarray(dq.abundances.smooth(jnp.asarray(expected)[None], smoothing.identity_smoother(count)))[
        0
    ]  # on the simplex
    smoothed = dq.abundances.smooth(B, found, mask=mask)
    np.testing.assert_allclose(np.stack([smoothed[i, j] for i, j in pixels]), expected, atol=1e-6)
    np.testing.assert_allclose(smoothed[2, 3], 0)


def test_masked_pixels_are_no_neighbours(maps):
    _, noisy = maps
    mask = jnp.ones(noisy.shape[:2], bool).at[10:20, 15:30].set(False)
    one, other = (
        dq.abundances.smooth(jnp.where(mask[..., None], noisy, fill), mask=mask) for fill in (0.0, jnp.asarray(jnp.nan))
    )
    np.testing.assert_array_equal(one, other)
    assert float(jnp.abs(one[12, 17]).max()) == 0
    framed = jnp.pad(noisy, ((3, 3), (3, 3), (0, 0)))
    inside = jnp.zeros(framed.shape[:2], bool).at[3:-3, 3:-3].set(True)
    np.testing.assert_allclose(
        dq.abundances.smooth(framed, mask=inside)[3:-3, 3:-3], dq.abundances.smooth(noisy), atol=1e-5
    )


def test_it_passes_through_jit_vmap_and_grad(maps, x64):
    _, noisy = maps
    noisy = noisy[:24, :24].astype(jnp.float64)
    noisy = noisy / jnp.sum(noisy, axis=-1, keepdims=True)
    found = dq.abundances.smoother(noisy)
    assert float(found.strength.max()) > 0.1
    weight = jax.random.normal(jax.random.key(0), noisy.shape, jnp.float64)

    def value(A):
        return jnp.sum(weight * dq.abundances.smooth(A, found))

    step = 1e-5 * jax.random.normal(jax.random.key(1), noisy.shape, jnp.float64)
    step = step - jnp.mean(step, axis=-1, keepdims=True)
    inner = jnp.where(jnp.min(noisy, axis=-1, keepdims=True) > 0.02, noisy, 1 / 3)  # no pixel on an edge
    slope = jnp.sum(jax.grad(value)(inner) * step)
    np.testing.assert_allclose(value(inner + step) - value(inner - step), 2 * slope, rtol=1e-4)
    both = jax.jit(jax.vmap(lambda A: dq.abundances.smooth(A)))(jnp.stack([noisy, noisy[::-1]]))
    np.testing.assert_allclose(both[0], dq.abundances.smooth(noisy), atol=1e-6)
    np.testing.assert_allclose(both[1][::-1], both[0], atol=1e-6)


def test_wrong_inputs_are_answered_in_a_sentence(maps):
    _, noisy = maps
    with pytest.raises(dq.InputError, match="expected those of 3 maps"):
        dq.abundances.smooth(noisy, smoothing.identity_smoother(4))
    with pytest.raises(dq.InputError, match="abundances"):
        dq.abundances.smooth(noisy[0])


@pytest.mark.parametrize("kind", ["neighbours", pytest.param("learned", marks=pytest.mark.slow)])
def test_training_finds_the_prior_and_unmixing_uses_it(tmp_path, kind):
    """`fit`, a resumable fit and a file all carry it; what the untrained model says is not smoothed."""
    E = synthetic.spectra(jax.random.key(1), 3, 20)
    sample = synthetic.linear_scene(jax.random.key(0), (16, 18), E, 15.0, contrast=0.5)
    config = dq.Model(constraint=dq.equilibrium.Simplex(), prior=kind, gradient=dq.equilibrium.Analytic())
    plan = dq.Training(epochs=3, endmembers_first=0.6)
    plain = replace(config, prior="none")
    key = jax.random.key(2)
    untrained = dq.init(key, sample.cube, config, endmembers=E)
    np.testing.assert_allclose(
        dq.unmix(untrained, sample.cube, config)[0].abundances, dq.abundances.fcls(sample.cube, E), atol=1e-3
    )
    params, _ = dq.fit(key, sample.cube, config, plan, endmembers=E)
    before, _ = dq.fit(key, sample.cube, plain, plan, endmembers=E)
    assert set(params) == {*before, "prior"} and float(jnp.max(params["prior"]["strength"])) > 0.02
    np.testing.assert_array_equal(params["endmembers"], before["endmembers"])
    sharp, _ = dq.unmix(before, sample.cube, plain)
    soft, _ = dq.unmix(params, sample.cube, config)
    np.testing.assert_allclose(soft.state, sharp.state, atol=1e-6)
    if kind == "neighbours":
        np.testing.assert_allclose(soft.abundances, dq.abundances.smooth(sharp.abundances), atol=1e-4)
    else:
        prior = dq.abundances.LearnedSmoother(**params["prior"])
        np.testing.assert_allclose(soft.abundances, dq.abundances.smooth_learned(sharp.abundances, prior), atol=1e-4)
    assert rms(soft.abundances - sample.abundances) < 0.98 * rms(sharp.abundances - sample.abundances)
    resumed, _ = dq.training.resumable_fit(
        key, sample.cube, config, plan, endmembers=E, keep=dq.training.Keep(tmp_path / "fit.npz")
    )
    again, _ = dq.unmix(resumed, sample.cube, config)
    np.testing.assert_allclose(again.abundances, soft.abundances, atol=1e-4)
