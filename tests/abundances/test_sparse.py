"""Priors: each result against its optimality conditions, or an independent slow method."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dequnmix_jax.abundances import least_squares, sparse
from dequnmix_jax.abundances.sparse import Admm
from dequnmix_jax.checks import InputError

TIGHT = Admm(tolerance=1e-10, max_steps=20000)


def scene(seed=0, count=5, bands=12, side=6):
    draw = np.random.default_rng(seed)
    E = draw.uniform(0.05, 1.0, size=(count, bands))
    A = np.zeros((side, side, count))
    A[: side // 2, :, 0], A[side // 2 :, :, 1] = 1.0, 1.0
    A[:, 2:4, 2] = 0.5
    A /= A.sum(-1, keepdims=True)
    return A @ E + 0.05 * draw.normal(size=(side, side, bands)), E


def descent(Y, E, x):
    """Return minus the gradient of the data term."""
    return (Y - x @ E) @ E.T


def test_least_squares_without_signs(x64):
    Y, E = scene()
    x = least_squares.ucls(Y, E)
    np.testing.assert_allclose(descent(Y, E, x), 0.0, atol=1e-12)
    x = least_squares.scls(Y, E)
    np.testing.assert_allclose(x.sum(-1), 1.0, atol=1e-12)
    g = descent(Y, E, x)
    np.testing.assert_allclose(g, np.broadcast_to(g.mean(-1, keepdims=True), g.shape), atol=1e-12)
    E[-1] = E[0]  # duplicates share
    for solver in (least_squares.ucls, least_squares.scls):
        x = solver(Y, E)
        np.testing.assert_allclose(x[..., 0], x[..., -1], atol=1e-9)


@pytest.mark.parametrize("nonnegative", [True, False])
@pytest.mark.parametrize("sum_to_one", [True, False])
def test_sunsal_is_optimal(x64, nonnegative, sum_to_one):
    Y, E = scene()
    weight = 0.3
    x, trace = jax.jit(
        lambda Y: sparse.sunsal(Y, E, weight, nonnegative=nonnegative, sum_to_one=sum_to_one, solver=TIGHT)
    )(Y)
    x = np.asarray(x)
    assert trace.converged and 0.02 < (x == 0).mean() < 0.98
    g = descent(Y, E, x)
    if sum_to_one:
        np.testing.assert_allclose(x.sum(-1), 1.0, atol=1e-7)
        k = ((g - weight * np.sign(x)) * (x != 0)).sum(-1, keepdims=True) / (x != 0).sum(-1, keepdims=True)
        g = g - k
    np.testing.assert_allclose(g[x != 0], (weight * np.sign(x))[x != 0], atol=1e-6)
    assert (g[x == 0] <= weight + 1e-6).all() and (nonnegative or (g[x == 0] >= -weight - 1e-6).all())
    assert not nonnegative or (x >= 0).all()


def test_collaborative_is_optimal(x64):
    Y, E = scene()
    weight = 1.5
    x, trace = sparse.collaborative_sunsal(Y, E, weight, solver=TIGHT)
    x = np.asarray(x)
    lengths = np.linalg.norm(x, axis=(0, 1))
    assert trace.converged and (x >= 0).all() and 0 < (lengths == 0).sum() < 5
    g = descent(Y, E, x)
    for r, size in enumerate(lengths):
        if size:  # g - weight x / |x|: zero where x > 0, downhill nowhere
            slope = g[..., r] - weight * x[..., r] / size
            np.testing.assert_allclose(slope[x[..., r] > 0], 0.0, atol=1e-6)
            assert (slope <= 1e-6).all()
        else:
            assert np.linalg.norm(np.maximum(g[..., r], 0)) <= weight + 1e-6


@pytest.mark.parametrize("isotropic", [True, False])
def test_total_variation_against_a_dual_method(x64, isotropic):
    """Primal-dual iteration of Chambolle and Pock, in numpy."""
    Y, E = scene()
    weight, variation = 0.02, 0.1
    x, trace = sparse.sunsal_tv(Y, E, weight, variation, isotropic=isotropic, solver=TIGHT)
    assert trace.converged
    G, F = E @ E.T, Y @ E.T
    D = lambda x: np.stack([np.roll(x, -1, axis) - x for axis in (0, 1)])  # noqa: E731
    Dt = lambda v: sum(np.roll(v[axis], 1, axis) - v[axis] for axis in (0, 1))  # noqa: E731
    step = 0.3
    inverse = np.linalg.inv(np.eye(5) + step * G)
    z, p, q = np.zeros_like(F), np.zeros((2, *F.shape)), np.zeros_like(F)
    ahead = z
    for _ in range(6000):
        p = p + step * D(ahead)
        size = np.linalg.norm(p, axis=0, keepdims=True) if isotropic else np.abs(p)
        p = p / np.maximum(1.0, size / variation)
        q = np.minimum(q + step * ahead, weight)  # conjugate of weight sum x on x >= 0
        new = (z - step * (Dt(p) + q) + step * F) @ inverse
        ahead, z = 2 * new - z, new
    np.testing.assert_allclose(x, z, atol=1e-6)
    assert np.abs(D(z)).mean() < 0.5 * np.abs(D(np.linalg.solve(G, F.reshape(-1, 5).T).T.reshape(F.shape))).mean()


def test_total_variation_with_sums_of_one_lies_between_two_closed_forms(x64):
    """Without a weight it is SCLS in each pixel, with a large one SCLS of the mean pixel everywhere."""
    Y, E = scene()
    run = jax.jit(
        lambda variation: sparse.sunsal_tv(
            Y, E, 0.0, variation, nonnegative=False, sum_to_one=True, solver=Admm(tolerance=1e-9, max_steps=20000)
        )
    )
    free, trace = run(0.0)
    assert trace.converged
    np.testing.assert_allclose(free, least_squares.scls(Y, E), atol=1e-5)
    level, trace = run(10.0)
    assert trace.converged
    mean = least_squares.scls(Y.mean((0, 1), keepdims=True), E)
    np.testing.assert_allclose(level, np.broadcast_to(mean, level.shape), atol=1e-5)


def test_float32_masks_and_odd_sides():
    Y, E = (a.astype("f") for a in scene(side=7))
    mask = np.ones(Y.shape[:2], bool)
    mask[1, 1] = mask[4, 4] = False
    holes = np.where(mask[..., None], Y, np.nan)
    for run in (
        lambda Y, mask: sparse.sunsal(Y, E, 0.01, mask=mask),
        lambda Y, mask: sparse.collaborative_sunsal(Y, E, 0.01, mask=mask),
        lambda Y, mask: sparse.sunsal_tv(Y, E, 0.01, 0.01, mask=mask),
    ):
        x, trace = jax.jit(run)(holes, mask)
        assert trace.converged and x.dtype == jnp.float32 and (x[~mask] == 0).all() and jnp.isfinite(x).all()
    assert not sparse.sunsal(Y, E, 0.01, solver=Admm(max_steps=1))[1].converged


RUNS = {
    "sunsal": lambda Y, E, w, **more: sparse.sunsal(Y, E, w, **more),
    "signs": lambda Y, E, w, **more: sparse.sunsal(Y, E, w, nonnegative=False, **more),
    "collaborative": lambda Y, E, w, **more: sparse.collaborative_sunsal(Y, E, 10 * w, sum_to_one=True, **more),
    "tv": lambda Y, E, w, **more: sparse.sunsal_tv(Y, E, 0.1 * w, 0.3 * w, **more),
    "isotropic": lambda Y, E, w, **more: sparse.sunsal_tv(Y, E, 0.1 * w, 0.3 * w, isotropic=True, **more),
}


@pytest.mark.parametrize("name", RUNS)
def test_gradients_against_finite_differences(x64, name):
    Y, E = (jnp.asarray(a) for a in scene(side=4))
    target = jnp.asarray(np.random.default_rng(1).normal(size=(4, 4, 5)))

    @jax.jit
    def loss(Y, E, w):
        x, trace = RUNS[name](Y, E, w, solver=Admm(tolerance=1e-11, max_steps=20000))
        return jnp.sum(x * target), (x, trace.converged)

    at = (Y, E, jnp.asarray(0.1))
    (_, (x, converged)), gradient = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(*at)
    assert converged and (x == 0).any() and (x != 0).any()
    draw = np.random.default_rng(2)
    for number, g in enumerate(gradient):
        way = jnp.asarray(draw.normal(size=at[number].shape))
        ends = [loss(*(a + h * way if i == number else a for i, a in enumerate(at)))[0] for h in (1e-5, -1e-5)]
        np.testing.assert_allclose(jnp.sum(g * way), (ends[0] - ends[1]) / 2e-5, rtol=1e-4, atol=1e-6)
        assert jnp.abs(g).max() > 1e-3


@pytest.mark.parametrize("name", RUNS)
def test_a_pixel_of_nan_spoils_itself_alone(name):
    Y, E = (a.astype("f") for a in scene())
    hole = Y.copy()
    hole[1, 2, 3] = np.nan
    mask = np.ones(Y.shape[:2], bool)
    mask[1, 2] = False
    run = jax.jit(lambda Y, mask: RUNS[name](Y, E, 0.1, mask=mask))
    (x, trace), (masked, _) = run(hole, mask | True), run(hole, mask)
    assert trace.converged and jnp.isnan(x[1, 2]).all() and (masked[1, 2] == 0).all()
    np.testing.assert_array_equal(x[mask], masked[mask])
    unmasked, _ = jax.jit(lambda Y: RUNS[name](Y, E, 0.1))(hole)
    np.testing.assert_array_equal(unmasked, x)
    gradient = jax.grad(lambda E: jnp.nansum(RUNS[name](hole, E, 0.1, mask=mask)[0]))(E)
    assert jnp.isfinite(gradient).all()


def test_bad_input_is_named():
    Y, E = (a.astype("f") for a in scene())
    for run in (
        lambda Y, E, w: sparse.sunsal(Y, E, w),
        lambda Y, E, w: sparse.collaborative_sunsal(Y, E, w),
        lambda Y, E, w: sparse.sunsal_tv(Y, E, w, w),
    ):
        for bad, words in (
            ((Y[0], E, 0.1), "rows, columns, bands"),
            ((Y, E.T, 0.1), "transposed"),
            ((np.full_like(Y, np.nan), E, 0.1), "NaN or infinite"),
            ((Y, E, -1.0), "expected one number"),
        ):
            with pytest.raises(InputError, match=words):
                run(*bad)
    with pytest.raises(InputError, match="cannot run"):
        Admm(penalty=0.0)
    for solver in (least_squares.ucls, least_squares.scls):
        with pytest.raises(InputError, match="transposed"):
            solver(Y, E.T)
