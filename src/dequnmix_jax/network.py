"""The networks of the equilibrium map; the only room that imports flax.

Every function takes one image (H, W, channels) and a mask (H, W, 1) of ones and zeros. The mask enters each convolution
and each pooling, so that a padded image gives the same answer as the image.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from dequnmix_jax.convolution import convolve, transpose


def spectral_bound(matrix: jax.Array) -> jax.Array:
    """Bound the largest eigenvalue of symmetric positive semi-definite matrices (..., R, R) from above.

    tr(M^16)^(1/16), which lies between the largest eigenvalue and R^(1/16) times it (1.07 at R = 3, 1.16 at 10).
    Differentiable, and matrix products only.
    """
    size = jnp.trace(matrix, axis1=-2, axis2=-1)[..., None, None]
    power = matrix / jnp.where(size > 0, size, 1)
    for _ in range(4):
        power = jnp.matmul(power, power, precision=lax.Precision.HIGHEST)
    trace = jnp.trace(power, axis1=-2, axis2=-1)
    return jnp.where(trace > 0, jnp.where(trace > 0, trace, 1) ** (1 / 16), 0) * size[..., 0, 0]


_FREQUENCIES = 16
"""Points a side of the grid on which the symbol of a convolution is evaluated."""


def convolution_bound(w: jax.Array) -> jax.Array:
    """Bound the squared norm of `convolve(., w)` on images of any size, from the kernel alone.

    |W|^2 <= max over frequencies of |sum_t w_t exp(i omega t)|^2. Zero padding is a compression of the convolution
    on the infinite grid, hence the inequality. The squared symbol is a trigonometric polynomial of degree K - 1 in each
    frequency; between the points of an N x N grid it exceeds their maximum by at most 1 / cos(pi (K - 1) / N) for
    each axis (Ehlich & Zeller 1964).

    Args:
        w: (K, L, I, O).

    Returns:
        (), at least the squared spectral norm; differentiable.
    """
    rows, columns = w.shape[:2]
    points = max(_FREQUENCIES, 6 * max(rows, columns))
    if w.shape[2] > w.shape[3]:
        w = jnp.swapaxes(w, 2, 3)  # the smaller Gram matrix
    symbol = jnp.fft.fft2(w, s=(points, points), axes=(0, 1))
    real, imag = jnp.real(symbol), jnp.imag(symbol)

    # The Hermitian matrix S S^* = P + i Q has the eigenvalues of the real symmetric [[P, -Q], [Q, P]], each twice.
    def outer(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.matmul(a, jnp.swapaxes(b, -1, -2), precision=lax.Precision.HIGHEST)

    P, Q = outer(real, real) + outer(imag, imag), outer(imag, real) - outer(real, imag)
    whole = jnp.concatenate([jnp.concatenate([P, -Q], axis=-1), jnp.concatenate([Q, P], axis=-1)], axis=-2)
    between = jnp.cos(jnp.pi * (rows - 1) / points) * jnp.cos(jnp.pi * (columns - 1) / points)
    return jnp.max(spectral_bound(whole)) / between.astype(w.dtype)


def energy_gradient(state: jax.Array, drive: jax.Array, weights: dict[str, Any], mask: jax.Array) -> jax.Array:
    """Return W^T s sigma(W A - v), the gradient of a convex energy in A.

    sum over pixels and channels of s d^2 log cosh((W A - v) / d), with W of norm at most one, s >= 0, d > 0 and
    sigma(t) = d tanh(t / d), whose slope lies in (0, 1]: whatever the weights are, the Hessian lies between 0 and
    max s.

    Args:
        state: (H, W, R).
        drive: v, (H, W, F).
        weights: `filters` W (K, K, R, F), `gain` s (F,), `scale` d (F,), as `energy_weights` gives them.
        mask: (H, W, 1).
    """
    d, s = weights["scale"][None, None], weights["gain"][None, None]
    t = convolve(state * mask, weights["filters"]) - drive
    return transpose(s * d * jnp.tanh(t / d) * mask, weights["filters"]) * mask


def energy_weights(raw: dict[str, Any]) -> dict[str, Any]:
    """Turn trained numbers into an energy: filters of norm at most one, gains >= 0, scales > 0."""
    filters = raw["filters"]
    return {
        "filters": filters / jnp.sqrt(convolution_bound(filters)),
        # >= and not >: the derivative at 0, where training starts, is 1 (jax.nn.relu has 0 there, jnp.maximum 1/2).
        "gain": jnp.where(raw["gain"] >= 0, raw["gain"], 0),
        "scale": jnp.exp(raw["log_scale"]),
    }


def init_energy(key: jax.Array, kernel: int, count: int, width: int, gain: float) -> dict[str, Any]:
    """Draw the filters of an energy, each without response to a constant; all gains at `gain`."""
    filters = jax.random.normal(key, (kernel, kernel, count, width))
    filters = filters - jnp.mean(filters, axis=(0, 1), keepdims=True) if kernel > 1 else filters
    # 0.1 of the data's scale: below it an edge counts as noise, above as an edge.
    return {"filters": filters, "gain": jnp.full((width,), gain), "log_scale": jnp.full((width,), jnp.log(0.1))}


class Attention(nn.Module):
    """CBAM: attention over channels, then over pixels (Woo et al. 2018, ECCV), pooling over valid pixels only."""

    reduction: int = 4

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        count = jnp.maximum(jnp.sum(mask), 1)
        average = jnp.sum(x * mask, axis=(0, 1)) / count
        highest = jnp.max(jnp.where(mask > 0, x, jnp.finfo(x.dtype).min), axis=(0, 1))
        shrink = nn.Dense(max(channels // self.reduction, 1), name="shrink")
        grow = nn.Dense(channels, name="grow")
        x = x * nn.sigmoid(grow(nn.relu(shrink(average))) + grow(nn.relu(shrink(highest))))[None, None, :]
        pooled = jnp.concatenate([jnp.mean(x, -1, keepdims=True), jnp.max(x, -1, keepdims=True)], axis=-1)
        return x * nn.sigmoid(_convolution(1, 7, "place")(pooled * mask))


class Net(nn.Module):
    """relu -> convolution -> attention -> convolution, on features that a linear layer has made."""

    width: int
    out: int
    kernel: int
    attention: bool
    zero: bool  # the last layer starts at zero

    @nn.compact
    def __call__(self, features: jax.Array, mask: jax.Array) -> jax.Array:
        x = nn.relu(features) * mask
        x = nn.relu(_convolution(self.width, self.kernel, "inner")(x))
        if self.attention:
            x = Attention(name="attention")(x, mask)
        return _convolution(self.out, self.kernel, "last", self.zero)(x * mask) * mask


def _convolution(out: int, kernel: int, name: str, zero: bool = False) -> nn.Conv:
    start: Callable[..., Any] = nn.initializers.zeros if zero else nn.initializers.lecun_normal()
    return nn.Conv(out, (kernel, kernel), kernel_init=start, conv_general_dilated=_linen_convolution, name=name)


def _linen_convolution(x: jax.Array, w: jax.Array, *_: Any, **__: Any) -> jax.Array:
    """Stand in for lax.conv_general_dilated in nn.Conv, which adds a batch axis of one and asks for SAME, stride 1."""
    return convolve(x[0], w)[None]
