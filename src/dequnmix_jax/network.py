"""The networks of the equilibrium map; the only room that imports flax.

Every function takes one image (H, W, channels) and a mask (H, W, 1) of ones and zeros. The mask enters each convolution
and each pooling, so that a padded image gives the same answer as the image.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dequnmix_jax.convolution import (
    between_points,
    convolution_bound,
    convolve,
    frequencies,
    spectral_bound,
    symbol_gram,
    transpose,
)
from dequnmix_jax.peak import largest


def bounded(weights: dict[str, Any]) -> dict[str, Any]:
    """Divide each kernel of a network by its spectral norm where that exceeds one (Gouk et al. 2021).

    The norm is bounded by `convolution_bound` on images of any size. Dividing by it always, as Miyato et al. (2018)
    do, would blow a last layer that starts at zero up to one. Biases stay: they move no difference.

    Args:
        weights: of a flax module, nested; kernels (K, L, I, O) or (I, O).
    """

    def bound(w: jax.Array) -> jax.Array:
        if w.ndim < 2:
            return w
        square = convolution_bound(w if w.ndim == 4 else w[None, None])
        return w / jnp.sqrt(jnp.maximum(square, 1))

    return jax.tree.map(bound, weights)


def energy_gradient(
    state: jax.Array, drive: jax.Array, weights: dict[str, Any], mask: jax.Array, windows: jax.Array
) -> jax.Array:
    """Return W^T s sigma(W A - v), the gradient of a convex energy in A.

    sum over windows and channels of s d^2 log cosh((W A - v) / d), with W of norm at most one, s >= 0, d > 0 and
    sigma(t) = d tanh(t / d), whose slope lies in (0, 1]: whatever the weights are, the Hessian lies between 0 and
    max s. A filter over neighbours counts only where its whole window holds valid pixels: at the border of the image
    and of the mask it would take the zeros outside for an edge in the abundances.

    Args:
        state: (H, W, R).
        drive: v, (H, W, F).
        weights: `filters` W (K, K, R, F), `pointwise` (F,), `gain` s (F,), `scale` d (F,), as `energy_weights` gives
            them.
        mask: (H, W, 1).
        windows: (H, W, 1), from `whole_windows`.
    """
    d, s = weights["scale"][None, None], weights["gain"][None, None]
    t = convolve(state * mask, weights["filters"]) - drive
    counted = jnp.where(weights["pointwise"][None, None] > 0, mask, windows)
    return transpose(s * d * jnp.tanh(t / d) * counted, weights["filters"]) * mask


def energy_weights(raw: dict[str, Any], pointwise: int = 0) -> dict[str, Any]:
    """Turn trained numbers into an energy: filters of norm at most one, gains >= 0, scales > 0.

    The first `pointwise` filters see one pixel, the others differences between neighbours: each of them has mean zero
    over its window, so that a level image leaves it silent. A border pixel lies in fewer windows than others; filters
    that answered to the level would shift the abundances of a scene less there, which maps show as a frame.
    """
    filters = raw["filters"]
    alone = jnp.arange(filters.shape[-1]) < pointwise
    if filters.shape[0] > 1:
        centre = (filters.shape[0] // 2, filters.shape[1] // 2)
        values = jnp.zeros_like(filters).at[centre].set(filters[centre])
        differences = filters - jnp.mean(filters, axis=(0, 1), keepdims=True)
        filters = jnp.where(alone[None, None, None], values, differences)
    return {
        "filters": filters / jnp.sqrt(convolution_bound(filters)),
        "pointwise": alone.astype(filters.dtype),
        # >= and not >: the derivative at 0, where training starts, is 1 (jax.nn.relu has 0 there, jnp.maximum 1/2).
        "gain": jnp.where(raw["gain"] >= 0, raw["gain"], 0),
        "scale": jnp.exp(raw["log_scale"]),
    }


def energy_bound(weights: dict[str, Any]) -> jax.Array:
    """Bound the derivative of an energy's gradient, W^T s sigma' W, from the weights alone: at most max s.

    On trained weights a half to a fifth of max s (Samson, DC1, misicnet_sim1), because no frequency meets all of W at
    the largest gain. 16 to 19 % above the true norm at 75 x 75 pixels; `curvature.largest`, 1 % above, takes
    eigenvalues and a finer grid, too long for each step of training.
    """
    w, gain = weights["filters"], weights["gain"]
    points = frequencies(w)
    joint = largest(spectral_bound(symbol_gram(w, points, gain))) * between_points(w, points)
    return jnp.minimum(joint, largest(gain))


def init_energy(key: jax.Array, kernel: int, count: int, width: int, gain: float) -> dict[str, Any]:
    """Draw the filters of an energy; all gains at `gain`."""
    filters = jax.random.normal(key, (kernel, kernel, count, width))
    # 0.1 of the data's scale: below it an edge counts as noise, above as an edge.
    return {"filters": filters, "gain": jnp.full((width,), gain), "log_scale": jnp.full((width,), jnp.log(0.1))}


def inner(weights: dict[str, Any], features: jax.Array, mask: jax.Array) -> jax.Array:
    """Return what the attention of a `Net` pools over all pixels, (H, W, width)."""
    kernel, bias = weights["inner"]["kernel"], weights["inner"]["bias"]
    return nn.relu(convolve(nn.relu(features) * mask, kernel) + bias[None, None])


def pool(x: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the sum and the maximum of each channel over the valid pixels, (channels,) each."""
    seen = jnp.where(mask > 0, x, jnp.finfo(x.dtype).min)
    return jnp.sum(x * mask, axis=(0, 1)), largest(seen.reshape(-1, x.shape[-1]), 0)


class Attention(nn.Module):
    """CBAM: attention over channels, then over pixels (Woo et al. 2018, ECCV), pooling over valid pixels only.

    `pools`, mean and maximum of each channel, stand in for those of x where x is a tile of a larger image.
    """

    reduction: int = 4

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, pools: tuple[jax.Array, jax.Array] | None = None) -> jax.Array:
        channels = x.shape[-1]
        if pools is None:
            total, highest = pool(x, mask)
            average = total / jnp.maximum(jnp.sum(mask), 1)
        else:
            average, highest = pools
        shrink = nn.Dense(max(channels // self.reduction, 1), name="shrink")
        grow = nn.Dense(channels, name="grow")
        x = x * nn.sigmoid(grow(nn.relu(shrink(average))) + grow(nn.relu(shrink(highest))))[None, None, :]
        pooled = jnp.concatenate([jnp.mean(x, -1, keepdims=True), largest(x, -1)[..., None]], axis=-1)
        return x * nn.sigmoid(_convolution(1, 7, "place")(pooled * mask))


class Net(nn.Module):
    """relu -> convolution -> attention -> convolution, on features that a linear layer has made."""

    width: int
    out: int
    kernel: int
    attention: bool
    zero: bool  # the last layer starts at zero

    @nn.compact
    def __call__(
        self, features: jax.Array, mask: jax.Array, pools: tuple[jax.Array, jax.Array] | None = None
    ) -> jax.Array:
        x = nn.relu(features) * mask
        x = nn.relu(_convolution(self.width, self.kernel, "inner")(x))
        if self.attention:
            x = Attention(name="attention")(x, mask, pools)
        return _convolution(self.out, self.kernel, "last", self.zero)(x * mask) * mask


def _convolution(out: int, kernel: int, name: str, zero: bool = False) -> nn.Conv:
    start: Callable[..., Any] = nn.initializers.zeros if zero else nn.initializers.lecun_normal()
    return nn.Conv(out, (kernel, kernel), kernel_init=start, conv_general_dilated=_linen_convolution, name=name)


def _linen_convolution(x: jax.Array, w: jax.Array, *_: Any, **__: Any) -> jax.Array:
    """Stand in for lax.conv_general_dilated in nn.Conv, which adds a batch axis of one and asks for SAME, stride 1."""
    return convolve(x[0], w)[None]
