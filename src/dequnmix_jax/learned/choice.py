r"""The learned choice: a network over the ways to unmix a scene predicts the error of each.

A set network (the same layers for every way, mean and maximum over all ways as context; Zaheer et al. 2017) predicts
for each way w the logarithms of its aRMSE, with a standard deviation, and of its mSAD,

    log aRMSE_w ~ N(level + m_w, s_w^2),    log mSAD_w = q_w + another level,    sum_w m_w = sum_w q_w = 0,

from `features`, which need no truth. Several networks that differ by their random initial weights are averaged; their
disagreement is added to s_w^2. The way w of the smallest

    m_w + ANGLE q_w + CHANGE (w has another mixing model than the rule's way) + REFINED (w has refined spectra)

is chosen in place of the way of the rule (`selection.decide`) if the sum is at least `MARGIN` below that of the rule,
unless the rule's way fits the held-out bands to the noise and the other is worse there by more than `WORSE`: then the
scene itself contradicts the network. For the soft sum, CHANGE is `TO_SOFT`: its residual is that of the cone, so that
held-out bands cannot contradict. These terms, which every way but the rule's may bear, stand for what the network
cannot know of scenes unlike those it learned on (`python -m experiments.operator.left_out`, rows "no guard").
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dequnmix_jax.endmembers.selection import SOFT
from dequnmix_jax.learned.features import PLAIN, ways_of

ANGLE = 0.3
"""Weight of log mSAD beside log aRMSE, here and in the training."""

MARGIN = 0.3
"""Smallest predicted gain for which the rule's way is left."""

CHANGE = 0.6
"""Further gain that another mixing model than the rule's has to promise."""

TO_SOFT = 1.5
"""`CHANGE` for the soft sum."""

REFINED = 0.6
"""Further gain that refined spectra have to promise."""

FITS = 0.1
"""Log held-out error above that of noise alone up to which a way fits to the noise."""

WORSE = 0.4
"""How much worse in log held-out error a way may be than one that fits to the noise."""

OPTIMISM = 0.36
"""How far log errors lie above their prediction, in predicted standard deviations: a way is chosen because its
prediction is small, and scenes are of kinds that the training has not seen. Fitted to families of generated scenes left
out of the training, as `WIDENED` is (`experiments.operator.left_out`)."""

WIDENED = 1.12
"""How much larger than predicted the standard deviation of log errors is there, so that it covers 68.3 %."""


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
        angle: q (W,), log mSAD of each way, mean zero.
    """

    relative: jax.Array
    spread: jax.Array
    level: jax.Array
    angle: jax.Array


def init(key: jax.Array, inputs: int, width: int = 24) -> tuple[tuple[jax.Array, jax.Array], ...]:
    """Draw the layers of one network."""
    sizes = [(inputs, width), (width, width), (3 * width, width), (width, 4)]
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
    angle = out[:, 3] - jnp.mean(out[:, 3])
    return Prediction(relative, jnp.exp(jnp.clip(out[:, 1], -4, 2)), jnp.mean(out[:, 2]) - 3, angle)


def standardised(weights: ChoiceWeights, x: jax.Array) -> jax.Array:
    """Return features (..., F) in units of their spread in training, bounded."""
    around = (None,) * (x.ndim - 1)
    return jnp.clip((x - weights.mean[around]) / weights.scale[around], -3, 3)


def predict(weights: ChoiceWeights, x: jax.Array) -> Prediction:
    """Return the prediction of the ensemble from features (W, F)."""
    each = jax.vmap(lambda layers: apply(layers, standardised(weights, x)))(weights.layers)
    relative, level = jnp.mean(each.relative, axis=0), jnp.mean(each.level)
    disagreement = jnp.mean(jnp.square(each.relative - relative[None]), axis=0)
    spread = jnp.sqrt(jnp.mean(jnp.square(each.spread), axis=0) + disagreement)
    return Prediction(relative, spread, level, jnp.mean(each.angle, axis=0))


def expected(prediction: Prediction, way: int | jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the log aRMSE to expect of a way and its standard deviation, l + m + `OPTIMISM` s and `WIDENED` s."""
    spread = prediction.spread[way]
    return prediction.level + prediction.relative[way] + OPTIMISM * spread, WIDENED * spread


def cost(prediction: Prediction) -> jax.Array:
    """Return what is predicted of each way, in one number (W,)."""
    return prediction.relative + ANGLE * prediction.angle


def decide(
    prediction: Prediction, rule: jax.Array, error: jax.Array, above: jax.Array, allowed: jax.Array | None = None
) -> jax.Array:
    """Return the chosen way.

    Args:
        prediction: of the ways, 24 or, with refined spectra, 27.
        rule: () int32, the way of the rule.
        error: (W,), log held-out error, and
        above: (W,), what of it lies above the noise.
        allowed: (W,) bool, the ways that may be chosen; None: all.
    """
    number = prediction.relative.shape[0]
    mixing = jnp.asarray(np.asarray([way.constraint for way in ways_of(number > PLAIN)], np.int32))
    value = cost(prediction)
    change = jnp.where(mixing == SOFT, jnp.asarray(TO_SOFT, value.dtype), jnp.asarray(CHANGE, value.dtype))
    value = value + jnp.where(mixing != mixing[rule], change, 0)
    value = value + jnp.where(jnp.arange(number) >= PLAIN, jnp.asarray(REFINED, value.dtype), 0)
    wrong = contradictions(rule, error, above)
    limit = jnp.where(wrong, jnp.inf, value)
    if allowed is not None:
        limit = jnp.where(allowed, jnp.where(wrong, value + 100, value), jnp.inf)
    best = jnp.argmin(limit).astype(jnp.int32)
    return jnp.where(limit[rule] - limit[best] > MARGIN, best, rule).astype(jnp.int32)


def contradictions(rule: jax.Array, error: jax.Array, above: jax.Array) -> jax.Array:
    """Return the ways (W,) bool that held-out bands contradict: the rule's fits to the noise and they do not."""
    return ((above[rule] < FITS) & (error - error[rule] > WORSE)) | ~jnp.isfinite(error)
