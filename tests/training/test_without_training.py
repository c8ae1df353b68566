"""Parameters of chosen endmembers without a training step: those of a judged training of no steps."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.datasets import generator
from dequnmix_jax.training.stages import without_training

SIZE = generator.SceneShape(24, 24, 30, 3)


@pytest.mark.parametrize("prior", ["none", "neighbours", "learned"])
def test_it_is_a_judged_training_of_no_steps(prior):
    scene = generator.draw(jax.random.key(2), "smooth", SIZE)
    config = dq.Model(
        gradient=dq.equilibrium.Analytic(), constraint=dq.equilibrium.Simplex(), prior=prior,
        forward=dq.Solver(tolerance=1e-6),
    )  # fmt: skip
    cube = scene.cube + 0.05 * jax.random.normal(jax.random.key(9), scene.cube.shape)
    mask = jnp.ones(SIZE[:2], bool).at[3, 4].set(False)
    mine, verdicts = without_training(jax.random.key(0), cube, config, scene.endmembers, mask=mask)
    training = replace(dq.RECOMMENDED[0], epochs=0)
    theirs, history = dq.fit(jax.random.key(0), cube, config, training, endmembers=scene.endmembers, mask=mask)
    assert jax.tree.structure(mine) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    if prior == "none":
        assert verdicts is None
    else:
        assert bool(verdicts.prior.kept) == bool(history.stages.prior.kept)
        assert bool(verdicts.prior.kept), "the noise is strong: the prior helps here, and the test would see a fault"
