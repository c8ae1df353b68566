"""Denominators, quotients and unit rows at zero, with their derivatives."""

import jax
import jax.numpy as jnp
import numpy as np

from dequnmix_jax.ops.guards import divide, nonzero, positive, unit_rows

X = jnp.asarray([-2.0, 0.0, 3.0, jnp.nan])


def test_denominators_replace_what_they_say():
    np.testing.assert_array_equal(nonzero(X), [-2.0, 1.0, 3.0, np.nan])
    np.testing.assert_array_equal(positive(X), [1.0, 1.0, 3.0, 1.0])


def test_a_quotient_by_zero_is_zero_and_has_no_derivative():
    value, slope = jax.value_and_grad(lambda q: jnp.sum(divide(jnp.asarray([6.0, 6.0]), q)))(jnp.asarray([2.0, 0.0]))
    assert float(value) == 3.0
    np.testing.assert_array_equal(slope, [-1.5, 0.0])


def test_rows_have_length_one_and_a_row_of_zeros_stays():
    rows = jnp.asarray([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(unit_rows(rows), [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)
    slope = jax.grad(lambda x: jnp.sum(unit_rows(x)[:, 0]))(rows)
    np.testing.assert_allclose(slope, [[0.16 / 1.25, -0.12 / 1.25], [1.0, 0.0]], rtol=1e-5)
