"""The learned convex energy: its weights, its gradient W^T s sigma(W A - W v) and a bound on its curvature."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dequnmix_jax.equilibrium.curvature import (
    between_points,
    convolution_bound,
    frequencies,
    spectral_bound,
    symbol_gram,
)
from dequnmix_jax.ops.convolution import convolve, transpose
from dequnmix_jax.ops.xla import largest


class EnergyWeights(NamedTuple):
    """A convex energy, as `energy_weights` makes it of trained numbers.

    Attributes:
        filters: W, (K, K, R, F), of norm at most one.
        pointwise: (F,), 1 for a filter that sees one pixel, else 0.
        gain: s, (F,), >= 0.
        scale: d, (F,), > 0.
    """

    filters: jax.Array
    pointwise: jax.Array
    gain: jax.Array
    scale: jax.Array


def energy_gradient(
    state: jax.Array, drive: jax.Array, weights: EnergyWeights, mask: jax.Array, windows: jax.Array
) -> jax.Array:
    """Return W^T s sigma(W A - v), the gradient of a convex energy in A.

    sum over windows and channels of s d^2 log cosh((W A - v) / d), with W of norm at most one, s >= 0, d > 0 and
    sigma(t) = d tanh(t / d), whose slope lies in (0, 1]: whatever the weights are, the Hessian lies between 0 and
    max s. A filter over neighbours counts only where its whole window is valid: at the border of the image and of the
    mask the zeros outside would look like an edge in the abundances.

    Args:
        state: (H, W, R).
        drive: v, (H, W, F).
        weights: from `energy_weights`.
        mask: (H, W, 1).
        windows: (H, W, 1), from `whole_windows`.
    """
    d, s = weights.scale[None, None], weights.gain[None, None]
    t = convolve(state * mask, weights.filters) - drive
    counted = jnp.where(weights.pointwise[None, None] > 0, mask, windows)
    return transpose(s * d * jnp.tanh(t / d) * counted, weights.filters) * mask


def energy_weights(raw: dict[str, Any], pointwise: int = 0) -> EnergyWeights:
    """Turn trained numbers into an energy: filters of norm at most one, gains >= 0, scales > 0.

    The first `pointwise` filters see one pixel, the others differences between neighbours: each of them has mean zero
    over its window, so that its response to a constant image is zero. A border pixel lies in fewer windows than others;
    filters that respond to the level would shift the abundances less there, which maps show as a frame.
    """
    filters = raw["filters"]
    alone = jnp.arange(filters.shape[-1]) < pointwise
    if filters.shape[0] > 1:
        centre = (filters.shape[0] // 2, filters.shape[1] // 2)
        values = jnp.zeros_like(filters).at[centre].set(filters[centre])
        differences = filters - jnp.mean(filters, axis=(0, 1), keepdims=True)
        filters = jnp.where(alone[None, None, None], values, differences)
    return EnergyWeights(
        filters=filters / jnp.sqrt(convolution_bound(filters)),
        pointwise=alone.astype(filters.dtype),
        # >= and not >: the derivative at 0, where training starts, is 1 (jax.nn.relu has 0 there, jnp.maximum 1/2).
        gain=jnp.where(raw["gain"] >= 0, raw["gain"], 0),
        scale=jnp.exp(raw["log_scale"]),
    )


def energy_bound(weights: EnergyWeights) -> jax.Array:
    """Bound the derivative of an energy's gradient, W^T s sigma' W, from the weights alone: at most max s.

    On trained weights a half to a fifth of max s (Samson, DC1, misicnet_sim1), because no frequency meets all of W at
    the largest gain. 16 to 19 % above the true norm at 75 x 75 pixels; `curvature.largest_curvature`, 1 % above, takes
    eigenvalues on a finer grid, too slow for each step of training.
    """
    w, gain = weights.filters, weights.gain
    points = frequencies(w)
    joint = largest(spectral_bound(symbol_gram(w, points, gain))) * between_points(w, points)
    return jnp.minimum(joint, largest(gain))


def init_energy(key: jax.Array, kernel: int, count: int, width: int, gain: float) -> dict[str, Any]:
    """Draw the filters of an energy; all gains at `gain`."""
    filters = jax.random.normal(key, (kernel, kernel, count, width))
    # 0.1 of the data's scale: below it an edge counts as noise, above as an edge.
    return {"filters": filters, "gain": jnp.full((width,), gain), "log_scale": jnp.full((width,), jnp.log(0.1))}
