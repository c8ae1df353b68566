"""Projection in a metric: the exact minimum, and its derivative on the face found."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dequnmix_jax import classical, projection


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
    exact = (classical.fcls if sum_to_one else classical.nnls)(y, T)
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
