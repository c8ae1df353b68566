"""Projection in a metric: the exact minimum, and its derivative on the face found."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dequnmix_jax.abundances import least_squares, projection


def problem(count, key=0, dtype=jnp.float32):
    T = jax.random.normal(jax.random.key(key), (count, count + 2), dtype)
    y = 2 * jax.random.normal(jax.random.key(key + 1), (6, 7, count + 2), dtype)
    return T, y


def whitened(M, rhs):
    """Return L and L^-1 rhs."""
    root = jnp.linalg.cholesky(M)
    return root, jax.lax.linalg.triangular_solve(
        root, rhs.reshape(-1, M.shape[0]), left_side=False, lower=True, transpose_a=True
    ).reshape(rhs.shape)


@pytest.mark.parametrize("count", [2, 3, 5, 7])
@pytest.mark.parametrize("sum_to_one", [True, False])
def test_equals_the_active_set_search(count, sum_to_one):
    T, y = problem(count)
    M = T @ T.T
    root, w = whitened(M, y @ T.T)
    a = projection.minimise(root, w, projection.faces(root, sum_to_one))
    exact = (least_squares.fcls if sum_to_one else least_squares.nnls)(y, T)
    np.testing.assert_allclose(a, exact, atol=1e-4 * float(np.linalg.cond(M)) ** 0.5)
    assert (np.asarray(a) >= 0).all()
    assert 0.1 < float(jnp.mean(a == 0)) < 0.95  # both faces and interior were met


@pytest.mark.parametrize("sum_to_one", [True, False])
def test_derivative_is_that_of_finite_differences(sum_to_one, x64):
    T, y = problem(4, dtype=jnp.float64)
    M = T @ T.T

    def value(M, rhs):
        root, w = whitened(M, rhs)
        a = projection.minimise(root, w, projection.faces(root, sum_to_one))
        return jnp.sum(a * jnp.cos(jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape))

    gM, grhs = jax.grad(value, (0, 1))(M, y @ T.T)
    dM = jnp.outer(jnp.arange(4.0), jnp.arange(4.0)) + jnp.eye(4)
    drhs = jnp.sin(jnp.arange(y[..., :4].size, dtype=y.dtype)).reshape(6, 7, 4)
    h = 1e-7
    slope = (value(M + h * dM, y @ T.T + h * drhs) - value(M - h * dM, y @ T.T - h * drhs)) / (2 * h)
    np.testing.assert_allclose(jnp.vdot(gM, dM) + jnp.vdot(grhs, drhs), slope, rtol=1e-5)


def test_nan_stays_where_it_was():
    T, y = problem(3)
    M = T @ T.T
    rhs = (y @ T.T).at[2, 3].set(jnp.nan)
    root, w = whitened(M, rhs)
    a = np.asarray(projection.minimise(root, w, projection.faces(root, True)))
    assert np.isnan(a[2, 3]).all()
    assert np.isnan(a).sum() == 3


def test_answers_on_faces_are_as_good_as_the_root_allows():
    """Two endmembers equal to a thousandth: M has the condition 9e3, its root 94, and float32 keeps five digits.

    Without the correction by the root the answers are those of M.
    """
    E = jax.random.uniform(jax.random.key(0), (4, 30))
    E = np.asarray(E.at[1].set(E[0] + 1e-3 * E[2]), np.float64)
    E = E / np.linalg.norm(E)
    root = np.linalg.cholesky(E @ E.T + 1e-4 * np.eye(4)).astype(np.float32)
    answer = np.asarray(projection.faces(jnp.asarray(root), False).answer, np.float64)
    for support, found in zip(projection.supports(4, False), answer, strict=True):
        exact = np.zeros((4, 4))
        exact[support] = np.linalg.pinv(root[support].astype(np.float64).T)
        np.testing.assert_allclose(found, exact, atol=1e-5 * np.abs(exact).max())


@pytest.mark.parametrize("sum_to_one", [True, False])
def test_blocks_of_pixels_change_nothing(sum_to_one, monkeypatch):
    T, y = problem(3)
    root, w = whitened(T @ T.T, y @ T.T)
    table = projection.faces(root, sum_to_one)

    def both():
        def value(w):
            return jnp.sum(jnp.sin(projection.minimise(root, w, table)))

        return projection.minimise(root, w, table), jax.vmap(jax.grad(value))(jnp.stack([w, w[::-1]]))

    whole = both()
    monkeypatch.setattr(projection, "BLOCK", 16)  # 42 pixels: the last block is padded
    for one, other in zip(whole, both(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
