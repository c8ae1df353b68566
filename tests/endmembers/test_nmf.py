"""Blind factorisation: the objective decreases to stationary points of independently written objectives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.checks import InputError
from dequnmix_jax.endmembers import nmf_descent

METHODS = (dq.endmembers.mvc_nmf, dq.endmembers.l_half_nmf, dq.endmembers.sgs_nmf)
TIGHT = dq.endmembers.Factoring(tolerance=1e-9, max_steps=20000)
SLOW = dq.endmembers.Factoring(
    tolerance=2e-7, max_steps=20000, inner=50
)  # what goes to zero by factors does so like 1 / steps


def scene(count=3, bands=15, purest=1.0, noise=0.002, seed=0, side=10):
    """Draw mixtures in blocks of 5 x 5 equal pixels; no abundance is above `purest`."""
    draw = np.random.default_rng(seed)
    at = np.linspace(0.1, 0.9, count)[:, None]
    E = 0.1 + 0.8 * np.exp(-(((np.linspace(0, 1, bands)[None, :] - at) / 0.3) ** 2))
    A = draw.dirichlet(np.full(count, 0.4), size=(side, side))
    A[:5, :5] = 0.9 * np.eye(count)[0] + 0.1 / count
    A[5:, :5] = 0.9 * np.eye(count)[1] + 0.1 / count
    A = np.minimum(A, purest)
    A /= A.sum(-1, keepdims=True)
    return np.maximum(A @ E + noise * draw.normal(size=(side, side, bands)), 0), E, A


def wrong_start(E, seed=5):
    """Return endmembers mixed with a little of each other and noise."""
    draw = np.random.default_rng(seed)
    mixed = 0.85 * E + 0.15 * E.mean(axis=0, keepdims=True)
    return mixed * draw.uniform(0.95, 1.05, size=E.shape)


def matched(found, E):
    return float(dq.metrics.msad(found[dq.metrics.align(found, E)], E))


@pytest.mark.parametrize("method", METHODS)
def test_better_than_its_start_and_never_uphill(method):
    Y, E, A = (x.astype("f") for x in scene(purest=0.8 if method is dq.endmembers.mvc_nmf else 1.0))
    start = (
        dq.endmembers.vca(jax.random.key(0), Y, 3) if method is dq.endmembers.mvc_nmf else wrong_start(E).astype("f")
    )
    weight = {dq.endmembers.mvc_nmf: 1.0, dq.endmembers.l_half_nmf: 0.02, dq.endmembers.sgs_nmf: 0.05}[method]
    found, a, descent = method(None, Y, endmembers=start, weight=weight)
    assert found.dtype == a.dtype == jnp.float32 and (found >= 0).all() and (a >= 0).all()
    assert matched(found, E) < 0.6 * matched(start, E)
    order = dq.metrics.align(found, E)
    assert dq.metrics.armse(a[..., order], A) < 0.9 * dq.metrics.armse(
        dq.abundances.fcls(Y, start)[..., dq.metrics.align(start, E)], A
    )
    np.testing.assert_allclose(a.sum(-1), 1.0, atol=0.02)
    history = np.asarray(descent.objective)
    steps = int(descent.steps)
    assert (
        history.shape == (1 + (100 if method is dq.endmembers.sgs_nmf else 1000),)
        and 1 < steps < history.size
        and descent.converged == (descent.residual <= 1e-4)
    )
    assert history[steps] < 0.9 * history[0] and (history[steps:] == history[steps]).all()
    if method is not dq.endmembers.sgs_nmf:  # its weights change between steps
        assert (np.diff(history) <= 2e-6 * history[:-1]).all()


def misfit(E, A, Y, delta=15.0):
    return 0.5 * jnp.sum((Y - A @ E) ** 2) + 0.5 * delta**2 * jnp.sum((1 - A.sum(-1)) ** 2)


def optimality(z, slope):
    """Return how far z >= 0 is from stationary: min(z, slope) is 0 at a stationary point."""
    return float(np.abs(np.minimum(np.asarray(z), np.asarray(slope))).max())


@pytest.mark.parametrize("weight", [0.0, 3.0])
def test_minimum_volume_is_stationary(x64, weight):
    Y, E, _ = scene(noise=0.02)
    start = wrong_start(E)
    found, a, descent = dq.endmembers.mvc_nmf(None, Y, endmembers=start, weight=weight, solver=TIGHT)
    assert descent.converged
    unit = start.max()
    y = Y.reshape(-1, 15) / unit
    mean = y.mean(0)
    _, singular, axes = np.linalg.svd(y - mean, full_matrices=False)
    noise = (singular[2:] ** 2).sum() / len(y) / 13
    det = lambda E: jnp.linalg.det(jnp.concatenate([jnp.ones((3, 1)), (E - mean[None]) @ axes[:2].T], axis=1))  # noqa: E731
    tau = weight * len(y) * noise / det(start / unit) ** 2
    objective = lambda E, A: misfit(E, A, y) + tau / 2 * det(E) ** 2  # noqa: E731
    e, x = found / unit, a.reshape(-1, 3)
    for z, slope in zip((e, x), jax.grad(objective, argnums=(0, 1))(e, x), strict=True):
        assert optimality(z, slope) < 1e-5
    np.testing.assert_allclose(descent.objective[-1], objective(e, x), rtol=1e-10)
    if weight:  # and the prior did something
        assert abs(det(e)) < 0.98 * abs(
            det(dq.endmembers.mvc_nmf(None, Y, endmembers=start, weight=0.0, solver=TIGHT)[0] / unit)
        )


def test_l_half_is_stationary(x64):
    Y, E, _ = scene(noise=0.02)
    start = wrong_start(E)
    found, a, descent = dq.endmembers.l_half_nmf(None, Y, endmembers=start, weight=0.05, solver=TIGHT)
    assert descent.converged and (a < 1e-9).mean() > 0.1
    unit = start.max()
    y = Y.reshape(-1, 15) / unit
    sparse = (10 - np.abs(y).sum(0) / np.linalg.norm(y, axis=0)) / np.sqrt(99)
    level = 0.05 * sparse.sum() / np.sqrt(15)
    e, x = found / unit, np.asarray(a.reshape(-1, 3))
    np.testing.assert_allclose(descent.objective[-1], misfit(e, x, y) + level * np.sqrt(x).sum(), rtol=1e-10)
    slopes = jax.grad(misfit, argnums=(0, 1))(e, jnp.asarray(x), y)
    assert optimality(e, slopes[0]) < 1e-5
    inside = x > 1e-9  # at zero the root is infinitely steep: it is always a minimum
    assert np.abs(slopes[1] + level / 2 / np.sqrt(np.where(inside, x, 1)))[inside].max() < 1e-5


def test_group_sparsity_is_stationary_for_its_weights(x64):
    Y, E, _ = scene(noise=0.02)
    start = wrong_start(E)
    patches = dq.endmembers.superpixels(Y, width=5)
    found, a, descent = dq.endmembers.sgs_nmf(None, Y, endmembers=start, weight=0.01, patches=patches, solver=SLOW)
    assert descent.converged
    unit = start.max()
    y = Y.reshape(-1, 15) / unit
    W = (1 / (9 * dq.abundances.fcls(patches.spectra[None], found)[0] + 1))[patches.labels.reshape(-1)]
    level = 0.01 * patches.confidence.reshape(-1)
    objective = lambda E, A: misfit(E, A, y) + jnp.sum(level * jnp.sqrt(jnp.sum((W * A) ** 2, axis=1)))  # noqa: E731
    e, x = found / unit, a.reshape(-1, 3)
    for z, slope in zip((e, x), jax.grad(objective, argnums=(0, 1))(e, x), strict=True):
        assert optimality(z, slope) < 1e-3
    assert optimality(x, jax.grad(objective, argnums=1)(start / unit, x)) > 0.1  # what that number is away from it
    np.testing.assert_allclose(descent.objective[-1], objective(e, x), rtol=1e-6)


def test_one_endmember_is_found_exactly(x64):
    """With R = 2 and few bands, against a fine search on the quadratic."""
    draw = np.random.default_rng(0)
    A, Y, E = draw.uniform(size=(9, 2)), draw.uniform(size=(9, 2)), draw.uniform(size=(2, 2))
    volume = nmf_descent.Volume(jnp.asarray(20.0), jnp.asarray([0.4, 0.5]), jnp.asarray([[0.8], [0.6]]))
    total = lambda E: 0.5 * jnp.sum((Y - A @ E) ** 2) + nmf_descent.size(E, volume)  # noqa: E731
    new = nmf_descent.endmember_sweep(jnp.asarray(E), A, Y, volume)
    side = np.linspace(0, 2, 401)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    tried = jax.vmap(lambda e: total(jnp.asarray(new).at[1].set(e)))(grid)
    assert total(new) <= tried.min() and total(new) > tried.min() - 1e-3
    for Z in (draw.normal(size=(4, 4)), np.outer(np.arange(4.0), np.ones(4)) + np.diag([1.0, 1, 0, 0])):
        for r in range(4):
            row = np.asarray(nmf_descent._cofactors(jnp.asarray(Z), r))
            probe = draw.normal(size=4)
            changed = np.concatenate([Z[:r], probe[None], Z[r + 1 :]])
            np.testing.assert_allclose(abs(row @ probe), abs(np.linalg.det(changed)), atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_masks_units_dark_pixels_and_vmap(method):
    Y, E, _ = (x.astype("f") for x in scene())
    Y[0, 1] = 0.0  # a valid pixel without light
    mask = np.ones(Y.shape[:2], bool)
    mask[2, 3] = mask[7] = False
    holes = np.where(mask[..., None], Y, np.nan).astype("f")
    start = wrong_start(E).astype("f")
    few = dq.endmembers.Factoring(max_steps=15)
    run = jax.jit(lambda Y, E, m: method(None, Y, endmembers=E, mask=m, solver=few))
    found, a, descent = run(holes, start, mask)
    assert (
        jnp.isfinite(found).all() and jnp.isfinite(a).all() and (a[~mask] == 0).all() and (a[mask].sum(-1) > 0.9).all()
    )
    assert descent.steps == 15 and not descent.converged
    # What stands behind the mask does not matter, nor does the unit.
    scaled, b, _ = run(np.where(mask[..., None], 5000 * Y, 7).astype("f"), 5000 * start, mask)
    np.testing.assert_allclose(scaled, 5000 * found, rtol=2e-3, atol=0.5)
    np.testing.assert_allclose(b, a, atol=2e-3)
    lost = run(np.full_like(Y, np.nan), start, mask)[2]
    assert not lost.converged and lost.steps <= 1
    if method is not dq.endmembers.mvc_nmf:  # the loop is the same for all, and each compiles for seconds
        return
    together = jax.jit(jax.vmap(run, in_axes=(0, None, None)))(np.stack([holes, 0.5 * holes]), start, mask)
    np.testing.assert_allclose(together[0][0], found, atol=2e-4)
    assert together[2].steps.tolist() == [15, 15]


@pytest.mark.parametrize("method", METHODS)
def test_a_loss_may_hold_a_factorisation(method):
    """Its endmembers are constants of a loss; abundances computed from them are not."""
    Y, E, _ = (jnp.asarray(a, jnp.float32) for a in scene(side=10))

    def loss(Y):
        found, A, _ = method(None, Y, endmembers=E, solver=dq.endmembers.Factoring(max_steps=5))
        return jnp.sum(A) + jnp.sum(jnp.square(dq.abundances.fcls(Y, found))), found

    gradient, found = jax.jit(jax.grad(loss, has_aux=True))(Y)
    alone = jax.grad(lambda Y: jnp.sum(jnp.square(dq.abundances.fcls(Y, found))))(Y)
    np.testing.assert_allclose(gradient, alone, atol=1e-4 * float(jnp.abs(alone).max()))
    assert jnp.abs(alone).max() > 0


def test_one_material_and_a_start_by_vca():
    Y, E, _ = (x.astype("f") for x in scene())
    for method in METHODS:
        found, a, descent = method(None, Y, endmembers=E[:1], solver=dq.endmembers.Factoring(max_steps=30))
        assert found.shape == (1, 15) and a.shape == (10, 10, 1)
        np.testing.assert_allclose(a, 1.0, atol=0.05)
        assert descent.objective[-1] <= descent.objective[0]
    key = jax.random.key(3)
    few = dq.endmembers.Factoring(max_steps=3)
    by_key = dq.endmembers.mvc_nmf(key, Y, count=3, solver=few)
    by_hand = dq.endmembers.mvc_nmf(None, Y, endmembers=dq.endmembers.vca(key, Y, 3), solver=few)
    np.testing.assert_array_equal(by_key[0], by_hand[0])
    # Two corners alike: no volume to measure by, no NaN either.
    found, a, _ = dq.endmembers.mvc_nmf(None, Y, endmembers=E[[0, 0, 1]], solver=few)
    assert jnp.isfinite(found).all() and jnp.isfinite(a).all()


def test_bad_input_is_named():
    Y, E, _ = (x.astype("f") for x in scene())
    key = jax.random.key(0)
    for method in METHODS:
        for call, words in (
            (lambda m=method: m(None, Y[0], endmembers=E), "rows, columns, bands"),
            (lambda m=method: m(None, Y, endmembers=E.T), "transposed"),
            (lambda m=method: m(None, Y, endmembers=E.astype(bool)), "real numbers"),
            (lambda m=method: m(None, np.full_like(Y, np.nan), endmembers=E), "NaN or infinite"),
            (lambda m=method: m(None, Y, count=3), "Neither endmembers nor key"),
            (lambda m=method: m(key, Y), "Neither endmembers nor key"),
            (lambda m=method: m(key, Y, endmembers=E, count=4), "count is 4 and 3"),
            (lambda m=method: m(key, Y, count=16), "at most as many as bands"),
            (lambda m=method: m(key, Y, count=1), "at least 2"),
            (lambda m=method: m(None, Y, endmembers=E, weight=-1.0), "not negative"),
            (lambda m=method: m(None, Y, endmembers=E, weight=np.nan), "not negative"),
            (lambda m=method: m(None, Y, endmembers=E, mask=np.zeros((10, 10), bool)), "no valid pixel"),
        ):
            with pytest.raises(InputError, match=words):
                call()
    with pytest.raises(InputError, match="patches are of a scene"):
        dq.endmembers.sgs_nmf(None, Y, endmembers=E, patches=dq.endmembers.superpixels(Y[:5]))
    for settings in ({"max_steps": 0}, {"tolerance": -1.0}, {"sum_weight": 0.0}, {"inner": 0}):
        with pytest.raises(InputError, match="cannot run"):
            dq.endmembers.Factoring(**settings)


def test_superpixels_follow_edges():
    Y = np.zeros((12, 18, 4), "f")
    Y[..., 0], Y[:, 8:, 1], Y[5:, 8:, 2] = 1.0, 1.0, 1.0  # edges off the grid of sixes
    mask = np.ones(Y.shape[:2], bool)
    mask[0, 0] = False
    Y[0, 0] = 99.0
    cut = dq.endmembers.superpixels(Y, width=6, compactness=0.1, mask=mask)
    labels = np.asarray(cut.labels)
    assert labels.dtype == np.int32 and labels.min() >= 0 and cut.spectra.shape == (6, 4)
    for label in np.unique(labels):
        inside = Y[(labels == label) & mask]
        assert (inside == inside[0]).all()
        np.testing.assert_allclose(cut.spectra[label], inside[0], atol=1e-6)
    assert cut.confidence[0, 0] == 0 and (np.asarray(cut.confidence)[mask] > 0).all()
    # Without steps they are the cells of the grid; far from the middle a pixel is less sure.
    grid = dq.endmembers.superpixels(np.ones((12, 18, 4), "f"), steps=0)
    rows, columns = np.divmod(np.arange(12 * 18), 18)
    np.testing.assert_array_equal(np.asarray(grid.labels).reshape(-1), rows // 6 * 3 + columns // 6)
    assert grid.confidence[2, 2] > 2 * grid.confidence[0, 0]
    for options, words in (
        ({"width": 0}, "whole numbers"),
        ({"steps": 1.5}, "whole numbers"),
        ({"compactness": -1.0}, "not negative"),
    ):
        with pytest.raises(InputError, match=words):
            dq.endmembers.superpixels(Y, **options)
