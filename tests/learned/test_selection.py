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
    predicted, way = chosen.prediction, int(chosen.way)
    spread = float(predicted.spread[way])
    raised = float(predicted.level) + float(predicted.relative[way]) + choice.OPTIMISM * spread
    assert error == pytest.approx(np.exp(raised), rel=1e-5) and factor == pytest.approx(np.exp(choice.WIDENED * spread))
    text = selection.reason(chosen)
    assert "Endmembers:" in text and "Mixing:" in text and "Expected error" in text
    hopeless = chosen._replace(prediction=predicted._replace(level=jnp.asarray(1.0)))  # no fraction is wrong by more
    assert hopeless.expected_error[0] == 1 and " to 1 in two of three scenes" in selection.reason(hopeless)


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


def decide(change, error=None, above=None, rule=3, allowed=None, angle=0.0, number=27):
    """Way that is chosen if `change` gives the predicted gains of some ways over all others."""
    relative, zero = np.zeros(number), np.zeros(number)
    for way, gain in change.items():
        relative[way] = -gain
    angles = zero + angle * (relative < 0)
    prediction = choice.Prediction(*(jnp.asarray(x) for x in (relative, zero + 1, 0.0, angles)))
    args = (
        jnp.asarray(rule),
        jnp.asarray(zero if error is None else error),
        jnp.asarray(zero if above is None else above),
    )
    return int(choice.decide(prediction, *args, None if allowed is None else jnp.asarray(allowed)))


@pytest.mark.parametrize(
    ("way", "gain"),
    [
        (4, choice.MARGIN),
        (9, choice.MARGIN + choice.CHANGE),
        (17, choice.MARGIN + choice.TO_SOFT),
        (24, choice.MARGIN + choice.REFINED),
        (25, choice.MARGIN + choice.REFINED + choice.CHANGE),
    ],
)
def test_the_rule_is_left_for_a_large_gain_only(way, gain):
    assert decide({way: gain + 0.05}) == way
    assert decide({way: gain - 0.05}) == 3
    if way < 24:
        assert decide({way: gain + 0.05}, number=24) == way


def test_spectra_count_beside_abundances():
    assert decide({4: 1.0}, angle=0.5 / choice.ANGLE) == 4
    assert decide({4: 1.0}, angle=0.8 / choice.ANGLE) == 3


def test_held_out_bands_contradict():
    worse, fits = np.zeros(27), np.zeros(27)
    worse[4] = choice.WORSE + 0.1
    assert decide({4: 5.0}, worse, fits) == 3
    assert decide({4: 5.0}, worse, fits + 1) == 4
    worse[4] = np.nan
    assert decide({4: 5.0}, worse, fits + 1) == 3


def test_only_allowed_ways_are_chosen():
    allowed = np.arange(27) == 2
    assert decide({4: 5.0}, allowed=allowed) == 2
    worse = np.where(allowed, choice.WORSE + 0.1, 0.0)
    assert decide({}, worse, allowed=allowed) == 2


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
