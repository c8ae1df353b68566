"""The convergence map: the change by one more step, whose sum is the residual."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.datasets import synthetic
from dequnmix_jax.equilibrium import model
from dequnmix_jax.equilibrium.convergence import unmix_with_change

CONFIG = dq.Model(
    gradient=dq.equilibrium.Analytic(),
    metric="euclidean",
    forward=dq.Solver(method=dq.solvers.Picard(), tolerance=1e-2),
)


@pytest.fixture(scope="module")
def sample():
    E = synthetic.spectra(jax.random.key(3), 3, 30)
    made = synthetic.linear_scene(jax.random.key(4), (7, 6), E, 30.0, brightness=0.1)
    mask = jnp.ones((7, 6), bool).at[2, 3].set(False)
    return made.cube, model.init(jax.random.key(0), made.cube, CONFIG, endmembers=made.endmembers), mask


def test_the_map_adds_up_to_the_residual_of_its_state(sample):
    cube, params, mask = sample
    estimate, trace, change = unmix_with_change(params, cube, CONFIG, mask)
    after = np.asarray(model.equilibrium_map(params, estimate.state, cube, CONFIG, mask=mask), np.float64)
    before = np.asarray(estimate.state, np.float64)
    residual = np.sqrt(((after - before) ** 2).sum() / (after**2).sum())
    valid = np.asarray(mask)
    assert np.sqrt((np.asarray(change)[valid] ** 2).mean()) == pytest.approx(residual, rel=1e-4)
    assert change[2, 3] == 0 and (np.asarray(change)[valid] > 0).all()
    assert float(trace.residual) == pytest.approx(residual, rel=1e-4)
    at = np.sqrt(((after - before)[1, 1] ** 2).mean() / (after[valid] ** 2).mean())
    assert change[1, 1] == pytest.approx(at, rel=1e-4)


def test_a_pixel_that_was_disturbed_stands_out(sample):
    cube, params, mask = sample
    state = dq.unmix(params, cube, CONFIG, mask=mask)[0].state
    change = dq.equilibrium.last_change(params, state.at[4, 1].multiply(1.5), cube, CONFIG, mask=mask)
    assert np.unravel_index(np.argmax(change), change.shape) == (4, 1)
    with pytest.raises(dq.InputError, match="expected one state"):
        dq.equilibrium.last_change(params, state[:3], cube, CONFIG)
