r"""The learned choice: a network over the ways to unmix a scene predicts the error of each.

A set network (the same layers for every way, mean and maximum over all ways as context; Zaheer et al. 2017) predicts
for each way w the logarithm of its aRMSE and a standard deviation,

    log aRMSE_w ~ N(level + m_w, s_w^2),    sum_w m_w = 0,

from `features`, which need no truth. Several networks that differ by their random initial weights are averaged; their
disagreement is added to s_w^2. The way with the smallest m_w is chosen, unless

* it predicts a gain of less than `MARGIN` over the way of the rule (`selection.decide`), or
* the rule's way fits the held-out bands to the noise and the other is worse there by more than `WORSE`: then the scene
  itself contradicts the network.

That is the choice before the learned equilibrium. Its refined spectra then take the place of the chosen way if the
choice after it predicts a gain of more than `REFINED` over that way.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dequnmix_jax.learned.features import PLAIN

MARGIN = 0.15
"""Smallest predicted gain, in log aRMSE, for which the rule's way is left."""

FITS = 0.1
"""Log held-out error above that of noise alone up to which a way fits to the noise."""

WORSE = 0.4
"""How much worse in log held-out error a way may be than one that fits to the noise."""

REFINED = 1.2
"""Smallest predicted gain for which the refined spectra are taken. The equilibrium is trained on the scenes from which
the choice learns how much it helps, so that it promises too much: at 0.15 every fourth scene of families left out was
harmed in the worst fold, at 1.2 every seventh, where the choice without refined spectra harms every eighth."""


class ChoiceWeights(NamedTuple):
    """Weights of an ensemble: mean and scale of the features (F,), layers with a first axis of networks."""

    mean: jax.Array
    scale: jax.Array
    layers: tuple[tuple[jax.Array, jax.Array], ...]


class Prediction(NamedTuple):
    """What is predicted of the ways.

    Attributes:
        relative: m (W,), log aRMSE of each way, mean zero.
        spread: s (W,), its standard deviation, disagreement of the networks included.
        level: (), mean log aRMSE of all ways.
    """

    relative: jax.Array
    spread: jax.Array
    level: jax.Array


def init(key: jax.Array, inputs: int, width: int = 24) -> tuple[tuple[jax.Array, jax.Array], ...]:
    """Draw the layers of one network."""
    sizes = [(inputs, width), (width, width), (3 * width, width), (width, 3)]
    keys = jax.random.split(key, len(sizes))
    return tuple((jax.random.normal(k, s) / s[0] ** 0.5, jnp.zeros(s[1])) for k, s in zip(keys, sizes, strict=True))


def apply(layers: Any, x: jax.Array) -> Prediction:
    """Apply one network to standardised features (W, F)."""
    (a, p), (b, q), (c, r), (d, s) = layers
    h = jax.nn.gelu(jnp.matmul(jax.nn.gelu(jnp.matmul(x, a) + p[None]), b) + q[None])
    pooled = jnp.concatenate([jnp.mean(h, axis=0), jnp.max(h, axis=0)])
    h = jnp.concatenate([h, jnp.broadcast_to(pooled[None], (h.shape[0], pooled.size))], axis=1)
    out = jnp.matmul(jax.nn.gelu(jnp.matmul(h, c) + r[None]), d) + s[None]
    relative = out[:, 0] - jnp.mean(out[:, 0])
    return Prediction(relative, jnp.exp(jnp.clip(out[:, 1], -4, 2)), jnp.mean(out[:, 2]) - 3)


def standardised(weights: ChoiceWeights, x: jax.Array) -> jax.Array:
    """Return features (..., F) in units of their spread in training, bounded."""
    around = (None,) * (x.ndim - 1)
    return jnp.clip((x - weights.mean[around]) / weights.scale[around], -3, 3)


def predict(weights: ChoiceWeights, x: jax.Array) -> Prediction:
    """Return the prediction of the ensemble from features (W, F)."""
    each = jax.vmap(lambda layers: apply(layers, standardised(weights, x)))(weights.layers)
    relative, level = jnp.mean(each.relative, axis=0), jnp.mean(each.level)
    disagreement = jnp.mean(jnp.square(each.relative - relative[None]), axis=0)
    return Prediction(relative, jnp.sqrt(jnp.mean(jnp.square(each.spread), axis=0) + disagreement), level)


def decide(
    prediction: Prediction, rule: jax.Array, error: jax.Array, above: jax.Array, allowed: jax.Array | None = None
) -> jax.Array:
    """Return the chosen way.

    Args:
        prediction: of the ways.
        rule: () int32, the way of the rule.
        error: (W,), log held-out error, and
        above: (W,), what of it lies above the noise.
        allowed: (W,) bool, the ways that may be chosen; None: all.
    """
    cost = jnp.where(contradictions(rule, error, above), jnp.inf, prediction.relative)
    if allowed is not None:
        cost = jnp.where(allowed, jnp.where(jnp.isfinite(cost), cost, prediction.relative + 100), jnp.inf)
    best = jnp.argmin(cost).astype(jnp.int32)
    return jnp.where(cost[rule] - cost[best] > MARGIN, best, rule).astype(jnp.int32)


def refine(prediction: Prediction, before: jax.Array, contradicted: jax.Array, allowed: jax.Array) -> jax.Array:
    """Return the best way with refined spectra if its predicted gain over the way `before` is large, else that way.

    Args:
        prediction: of all ways, those with refined spectra after the first `PLAIN`.
        before: () int32, the way that was chosen without them.
        contradicted: (W,) bool, ways that held-out bands contradict (`contradictions`).
        allowed: (W,) bool, the ways that may be chosen.
    """
    usable = allowed & ~contradicted & (jnp.arange(allowed.size) >= PLAIN)
    cost = jnp.where(usable, prediction.relative, jnp.inf)
    best = jnp.argmin(cost).astype(jnp.int32)
    return jnp.where(prediction.relative[before] - cost[best] > REFINED, best, before).astype(jnp.int32)


def contradictions(rule: jax.Array, error: jax.Array, above: jax.Array) -> jax.Array:
    """Return the ways (W,) bool that held-out bands contradict: the rule's fits to the noise and they do not."""
    return ((above[rule] < FITS) & (error - error[rule] > WORSE)) | ~jnp.isfinite(error)
