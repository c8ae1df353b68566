"""The networks of the equilibrium map; the only module that imports flax.

Every function takes one image (H, W, channels) and a mask (H, W, 1) of ones and zeros. The mask enters each convolution
and each pooling, so that a padded image has the same result as the image.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dequnmix_jax.equilibrium.curvature import convolution_bound
from dequnmix_jax.ops.convolution import convolve
from dequnmix_jax.ops.xla import largest


def bounded(weights: dict[str, Any]) -> dict[str, Any]:
    """Divide each kernel of a network by its spectral norm if that exceeds one (Gouk et al. 2021).

    The norm is bounded by `convolution_bound` on images of any size. Dividing always, as Miyato et al. (2018) do, would
    scale a last layer that starts near zero up to one. Biases stay: they do not affect differences.

    Args:
        weights: of a flax module, nested; kernels (K, L, I, O) or (I, O).
    """

    def bound(w: jax.Array) -> jax.Array:
        if w.ndim < 2:
            return w
        square = convolution_bound(w if w.ndim == 4 else w[None, None])
        return w / jnp.sqrt(jnp.maximum(square, 1))

    return jax.tree.map(bound, weights)


def inner(weights: dict[str, Any], features: jax.Array, mask: jax.Array) -> jax.Array:
    """Return the features that the attention of a `Net` pools over all pixels, (H, W, width)."""
    kernel, bias = weights["inner"]["kernel"], weights["inner"]["bias"]
    return nn.relu(convolve(nn.relu(features) * mask, kernel) + bias[None, None])


def pool(x: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the sum and the maximum of each channel over the valid pixels, (channels,) each."""
    masked = jnp.where(mask > 0, x, jnp.finfo(x.dtype).min)
    return jnp.sum(x * mask, axis=(0, 1)), largest(masked.reshape(-1, x.shape[-1]), 0)


class Attention(nn.Module):
    """CBAM: attention over channels, then over pixels (Woo et al. 2018, ECCV), pooling over valid pixels only.

    `pools`, mean and maximum of each channel, replace those of x if x is a tile of a larger image.
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
    """relu -> convolution -> attention -> convolution, on the features of a linear layer."""

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
    initial: Callable[..., Any] = nn.initializers.zeros if zero else nn.initializers.lecun_normal()
    return nn.Conv(out, (kernel, kernel), kernel_init=initial, conv_general_dilated=_linen_convolution, name=name)


def _linen_convolution(x: jax.Array, w: jax.Array, *_: Any, **__: Any) -> jax.Array:
    """Replace lax.conv_general_dilated in nn.Conv, which adds a batch axis of one, with padding SAME and stride 1."""
    return convolve(x[0], w)[None]
