"""The learned choice of endmembers and mixing model."""

from functools import cache
from importlib.resources import files

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.datasets import generator
from dequnmix_jax.endmembers.selection import CONSTRAINTS
from dequnmix_jax.learned import choice, selection
from dequnmix_jax.learned.features import HALF, ways_of
from dequnmix_jax.learned.weights import read, save, shipped

SIZE = generator.SceneShape(24, 24, 40, 3)


@cache
def scene(family="smooth"):
    return generator.draw(jax.random.key(3), family, SIZE)


@cache
def selected(family="smooth"):
    return selection.select(jax.random.key(0), scene(family).cube, 3)


def test_the_shipped_weights_were_made_by_this_generator_and_are_small():
    weights, made = shipped()
    assert made.generator == generator.fingerprint()
    assert made.command.startswith("python -m experiments.operator.train")
    path = files("dequnmix_jax") / "data" / "operator.npz"
    assert path.stat().st_size < 300_000
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(weights))


def test_weights_survive_a_round_trip(tmp_path):
    weights, made = shipped()
    save(tmp_path / "w.npz", weights, made)
    again, same = read(tmp_path / "w.npz")
    assert same == made
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(weights), strict=True))
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(dq.InputError, match="no weights of the learned operator"):
        read(tmp_path / "other.npz")


def test_a_selection_is_usable():
    chosen = selected()
    assert chosen.endmembers.shape == (3, 40)
    assert float(jnp.min(chosen.endmembers)) >= 0
    assert chosen.constraint in CONSTRAINTS
    assert bool(jnp.all(chosen.trace.converged))
    error, factor = chosen.expected_error
    assert 0 < error < 1 < factor
    text = selection.reason(chosen)
    assert "Endmembers:" in text and "Mixing:" in text and "Expected error" in text


def test_the_unit_of_the_scene_does_not_matter():
    one = selected()
    two = selection.select(jax.random.key(0), 1000 * scene().cube, 3)
    assert int(one.way) == int(two.way)
    np.testing.assert_allclose(two.endmembers, 1000 * one.endmembers, rtol=2e-2, atol=5)
    np.testing.assert_allclose(two.prediction.relative, one.prediction.relative, atol=0.1)


@pytest.mark.slow
def test_jit_equals_the_call_and_nothing_is_differentiated():
    cube = scene().cube
    jitted = jax.jit(lambda c: selection.select(jax.random.key(0), c, 3).endmembers)(cube)
    np.testing.assert_allclose(jitted, selected().endmembers, rtol=2e-2, atol=2e-3)


def test_a_stated_constraint_is_kept():
    for word in CONSTRAINTS:
        chosen = selection.select(jax.random.key(0), scene().cube, 3, constraint=word)
        assert chosen.constraint == word
    with pytest.raises(dq.InputError, match="expected one of simplex, cone, soft"):
        selection.select(jax.random.key(0), scene().cube, 3, constraint="linear")


def test_too_few_bands_are_refused():
    with pytest.raises(dq.InputError, match="at least twice as many"):
        selection.select(jax.random.key(0), np.ones((8, 8, 5), np.float32), 3)


def test_the_rule_is_left_only_for_a_gain_that_the_scene_does_not_contradict():
    def decide(relative, error, above, rule=0, allowed=None):
        prediction = choice.Prediction(jnp.asarray(relative), jnp.ones(3), jnp.zeros(()))
        args = (jnp.asarray(rule), jnp.asarray(error), jnp.asarray(above))
        return int(choice.decide(prediction, *args, None if allowed is None else jnp.asarray(allowed)))

    fits = [0.0, 0.0, 0.0]
    assert decide([0.0, -1.0, 0.5], fits, fits) == 1
    assert decide([0.0, -choice.MARGIN / 2, 0.5], fits, fits) == 0
    worse = [0.0, choice.WORSE + 0.1, 0.0]
    assert decide([0.0, -1.0, 0.5], worse, worse) == 0
    assert decide([0.0, -1.0, 0.5], worse, [1.0, 1.5, 1.0]) == 1
    assert decide([0.0, -1.0, 0.5], fits, fits, allowed=[False, False, True]) == 2
    assert decide([0.0, -1.0, 0.5], [0.0, np.nan, 0.0], fits) == 0


def test_refined_spectra_are_taken_for_a_large_gain_only():
    def refine(gain, contradicted=False, allowed=True):
        relative = jnp.zeros(27).at[25].set(-gain)
        prediction = choice.Prediction(relative, jnp.ones(27), jnp.zeros(()))
        wrong = jnp.zeros(27, bool).at[25].set(contradicted)
        may = jnp.ones(27, bool).at[25].set(allowed)
        return int(choice.refine(prediction, jnp.asarray(3), wrong, may))

    assert refine(choice.REFINED + 0.1) == 25
    assert refine(choice.REFINED - 0.1) == 3
    assert refine(5.0, contradicted=True) == 3
    assert refine(5.0, allowed=False) == 3


def test_a_network_is_equivariant_to_the_order_of_the_ways():
    weights = shipped()[0].last
    x = jax.random.normal(jax.random.key(1), (27, weights.mean.size))
    order = np.random.default_rng(0).permutation(27)
    one, two = choice.predict(weights, x), choice.predict(weights, x[order])
    np.testing.assert_allclose(two.relative, one.relative[order], atol=1e-5)
    np.testing.assert_allclose(two.level, one.level, atol=1e-5)


def test_the_ways():
    ways = ways_of(True)
    assert len(ways) == 27
    assert [way.constraint for way in ways[:HALF]] == [0] * HALF
    assert ways[-1] == (2 * HALF + 1, 2)
