"""The choice between the learned and the linear prior, and the estimate that it is made by."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.abundances import learned_smoothing as ls
from dequnmix_jax.abundances import smoothing
from dequnmix_jax.abundances.smoothing_gain import smoothing_gain
from dequnmix_jax.datasets import synthetic
from dequnmix_jax.mixing import project_simplex

SHAPE = (36, 40)


@pytest.fixture(scope="module")
def truth():
    return synthetic.abundance_field(jax.random.key(3), SHAPE, 3, length=8.0, contrast=0.6)


def errors(key, size):
    """Return errors of sum zero, independent from pixel to pixel."""
    drawn = size * jax.random.normal(key, (*SHAPE, 3))
    return drawn - jnp.mean(drawn, axis=2, keepdims=True)


def test_the_linear_prior_is_an_energy_of_filters(truth):
    """Same maps as by conjugate gradients, at the border and beside masked pixels too."""
    A = project_simplex(truth + errors(jax.random.key(0), 0.1))
    valid = np.ones(SHAPE, bool)
    valid[8, 9] = valid[0, :4] = valid[20:23, 30] = False
    valid = jnp.asarray(valid)
    A = jnp.where(valid[..., None], A, 0)
    basis = jnp.asarray(ls.contrasts(3), A.dtype)
    linear = smoothing.estimated(A @ basis, valid)
    assert float(jnp.max(linear.strength)) > 0.1
    made = ls.correction(A, valid, ls.in_filters(linear, 3))
    expected = (smoothing.smooth_linearly(A @ basis, valid, linear) - A @ basis) @ basis.T
    assert float(jnp.max(jnp.abs(expected))) > 0.05
    np.testing.assert_allclose(made, jnp.where(valid[..., None], expected, 0), atol=2e-5)


def test_the_linear_prior_contracts_as_certified(truth):
    """Also at the largest multiple: the factor is that of a strength of 4 x 0.75."""
    linear = smoothing.Smoother(jnp.eye(2), jnp.full(2, 3.0))
    rates = ls.contraction(ls.in_filters(linear, 3))
    np.testing.assert_allclose(rates, 24 / 26, rtol=0.02)  # L = 8 lambda, and the allowance for the grid
    assert (np.asarray(rates) >= 24 / 26).all()


def test_the_gain_counts_errors_that_the_halves_share(truth):
    """With their size the estimate is the true decrease; without, it is far below."""
    noise, varied = errors(jax.random.key(1), 0.03), errors(jax.random.key(2), 0.08)
    valid = jnp.ones(SHAPE, bool)
    prior = smoothing.Smoother(jnp.eye(3), jnp.full(3, 0.5))

    def smooth(x):
        return smoothing.smooth_linearly(x, valid, prior)

    b = truth + varied + noise
    other = errors(jax.random.key(5), 0.03)  # a draw of the noise, as the difference of the halves is one
    true = jnp.sum(jnp.square(b - truth) - jnp.square(smooth(b) - truth))
    size = jnp.mean(jnp.sum(jnp.square(varied), axis=2))
    alone = float(jnp.sum(smoothing_gain(b, other, smooth)))
    counted = float(jnp.sum(smoothing_gain(b, other, smooth, size)))
    assert counted == pytest.approx(float(true), rel=0.1)
    assert alone < 0.5 * float(true)


def test_the_gain_of_halves_without_difference_is_no_gain(truth):
    valid = jnp.ones(SHAPE, bool)
    prior = smoothing.Smoother(jnp.eye(3), jnp.full(3, 0.5))
    gain = smoothing_gain(
        truth, jnp.zeros_like(truth), lambda x: smoothing.smooth_linearly(x, valid, prior), jnp.asarray(0.1)
    )
    assert float(jnp.max(gain)) <= 0


def test_varying_spectra_choose_the_linear_prior(truth):
    """Errors that the halves share are smoothed once their size is given, and the result is nearer to the truth."""
    noise, varied = errors(jax.random.key(1), 0.02), errors(jax.random.key(2), 0.1)
    both = [project_simplex(truth + varied + n) for n in (noise, 1.4 * noise, -1.4 * noise)]
    size = jnp.mean(jnp.sum(jnp.square(varied), axis=2))
    blind = dq.abundances.learned_smoother(*both)
    seeing = dq.abundances.learned_smoother(*both, shared=size)
    straight = 1e5
    assert float(jnp.max(blind.bend)) < straight < float(jnp.min(seeing.bend))
    found = [dq.metrics.armse(dq.abundances.smooth_learned(both[0], p), truth) for p in (blind, seeing)]
    assert found[1] < 0.7 * found[0]
    assert found[1] < 0.6 * dq.metrics.armse(both[0], truth)


def test_an_unknown_size_counts_for_nothing(truth):
    """Under jit, where nothing can be said, NaN does not choose; outside it is an error."""
    noise = errors(jax.random.key(1), 0.05)
    both = [project_simplex(truth + n) for n in (noise, 1.4 * noise, -1.4 * noise)]
    traced = jax.jit(lambda size: dq.abundances.learned_smoother(*both, shared=size))
    assert float(jnp.max(traced(jnp.nan).strength)) == 0
    with pytest.raises(dq.InputError, match="finite and >= 0"):
        dq.abundances.learned_smoother(*both, shared=float("nan"))
    with pytest.raises(dq.InputError, match="one number"):
        dq.abundances.learned_smoother(*both, shared=np.zeros(3))


def test_what_is_wrong_is_named(truth):
    bad = jnp.asarray(truth).at[0, 0, 0].set(jnp.nan)
    with pytest.raises(dq.InputError, match="even holds NaN"):
        dq.abundances.learned_smoother(truth, bad, truth)
    with pytest.raises(dq.InputError, match="expected at least 2"):
        dq.abundances.learned_smoother(*[jnp.ones((20, 20, 1))] * 3)
