"""The reprs of results are one line, whatever their leaves are."""

import jax
import jax.numpy as jnp
import numpy as np

from dequnmix_jax.types import Estimate, History, Stages


def estimate():
    return Estimate(jnp.zeros((9, 8, 3)), jnp.zeros((3, 20)), jnp.ones((9, 8)), np.zeros((9, 8, 3), np.float32))


def history(steps=4, **fields):
    numbers = jnp.linspace(1.0, 0.125, steps)
    made = History(*[numbers] * 3, jnp.full(steps, 7), numbers, jnp.arange(steps) > 0, jnp.arange(steps) < 3)
    return made._replace(**fields)


def test_an_estimate_shows_types_and_shapes():
    text = (
        "Estimate(abundances=float32[9,8,3], endmembers=float32[3,20], brightness=float32[9,8], state=float32[9,8,3])"
    )
    assert repr(estimate()) == text
    seen = []
    jax.make_jaxpr(lambda x: seen.append(repr(x)) or x.state)(estimate())
    jax.vmap(lambda x: seen.append(repr(x)) or x.state)(jax.tree.map(lambda x: jnp.stack([x, x]), estimate()))
    assert seen == [text, text]
    assert repr(Estimate(0, None, "a", jax.ShapeDtypeStruct((2,), "float32"))) == (
        "Estimate(abundances=0, endmembers=None, brightness='a', state=float32[2])"
    )


def test_a_history_shows_how_the_training_went():
    assert repr(history()) == "<History: 4 steps, loss 1 to 0.125, 3 converged, stopped early after 3>"
    stages = Stages(None, None, None)
    assert repr(history(active=jnp.ones(4, bool), stages=stages)).endswith("3 converged, stages judged>")
    assert repr(history(0)) == "<History: 0 steps>"


def test_a_history_without_values_shows_shapes():
    seen = []
    jax.make_jaxpr(lambda x: seen.append(repr(x)) or x.loss)(history())
    many = jax.tree.map(lambda x: jnp.stack([x, x]), history())
    assert repr(many).startswith("History(loss=float32[2,4], ")
    assert repr(jax.tree.map(lambda x: None, history())).startswith("History(loss=None, ")
    assert seen[0].startswith("History(loss=float32[4], angle=float32[4], ")
    gone = history(loss=jnp.ones(4))
    gone.loss.delete()
    assert repr(gone).startswith("History(loss=float32[4]")
