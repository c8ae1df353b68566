"""A first phase of training that cannot change anything is left out, with the result of one that was run."""

import jax
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax.training import fitting

TRAINING = dq.Training(epochs=4, holdout=0.5, subspace="signal", endmembers_first=0.5, judged=True)


def test_when_the_first_phase_rests():
    at_rest, moving = dq.Rates(endmembers=0.0), dq.Rates()
    assert fitting.rests(TRAINING, at_rest) and fitting.phases_of(TRAINING, at_rest) == (2,)
    assert not fitting.rests(TRAINING, moving) and fitting.phases_of(TRAINING, moving) == (2, 2)
    assert not fitting.rests(dq.Training(epochs=4), at_rest)  # no first phase
    # An early stop depends on the loss of the first phase.
    assert not fitting.rests(dq.Training(epochs=4, endmembers_first=0.5, judged=True, patience=2), at_rest)


def test_the_result_is_that_of_a_phase_that_was_run():
    """The rate 1e-30 is not zero, and moves nothing in float32."""
    rng = np.random.default_rng(0)
    E = rng.uniform(0.2, 0.8, size=(2, 12)).astype(np.float32)
    cube = (rng.dirichlet((0.6, 0.6), size=(8, 9)) @ E + 0.01 * rng.normal(size=(8, 9, 12))).astype(np.float32)
    results = [
        dq.fit(jax.random.key(1), cube, dq.Model(), TRAINING, dq.Rates(endmembers=rate), endmembers=E)
        for rate in (0.0, 1e-30)
    ]
    (skipped, short), (run, whole) = results
    assert short.loss.size == 2 and whole.loss.size == 4
    np.testing.assert_allclose(short.loss, whole.loss[2:], rtol=1e-4)
    np.testing.assert_allclose(skipped["endmembers"], run["endmembers"], rtol=1e-6)
    assert bool(short.stages.network.kept) == bool(whole.stages.network.kept)
    assert not bool(short.stages.endmembers.kept) and not bool(whole.stages.endmembers.kept)
