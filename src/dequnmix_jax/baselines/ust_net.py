"""UST-Net: a U-shaped Swin transformer on the whole scene, and a linear decoder.

    c1        1 x 1 convolution B -> 6, no bias
    down      c_{k+1} = [maximum of 2 x 2, Swin stage, group normalisation in 6 groups, dropout 0.2, leaky ReLU 0.3] of
              c_k, k = 1, 2, 3, 6 channels each
    up        x = c4, then for k = 3, 2, 1: x = [Swin stage, .., leaky ReLU] of (bilinear x 2 of x, beside c_k): 12,
              18, 24 channels
    head      1 x 1 convolution 24 -> R, softmax; y^ = a E, E >= 0, (R, B), drawn at random
    stage     two blocks x <- x + attention(LN x), x <- x + MLP(LN x) in windows of 4 x 4, those of the second shifted
              by 2 in both directions; a layer normalisation at the end
    loss      mean spectral angle of y^ and y

Yang, Xu, Liu, Sheng and Wan, UST-Net: a U-shaped transformer network using shifted windows for hyperspectral unmixing,
IEEE TGRS 61, 2023; windows: Liu et al., Swin transformer, ICCV 2021. Constants of its group's public code (`Settings`):
6 heads, learned bias of relative positions, no bias in queries, keys and values, MLP of four times the width with GELU,
stochastic depth 0 and 0.1, RMSprop at 1e-3 / (1 + 1e-3 step), 1000 steps on the whole scene, no start from spectra. The
scene is divided by its maximum and padded with its edge values to multiples of 32.

A shifted window that wraps around the scene holds up to four regions that are no neighbours; in the published code the
sign of its mask is turned, so that each pixel sees the other regions alone. Here it sees its own, as in Swin. All
layers are trained.

Guessed: the framework's start of weights, epsilon 1e-3 of the group normalisation, RMSprop with rho 0.9 and epsilon
1e-7; a scene of four pixels at the lowest step is not shifted, as in Swin. An angle leaves the brightness open: all
endmembers get one factor, that of the least squares misfit of a E.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dequnmix_jax import metrics
from dequnmix_jax.baselines import layers
from dequnmix_jax.baselines.layers import Weights
from dequnmix_jax.baselines.method import Method, MethodResult


@dataclass(frozen=True)
class Settings:
    """Constants of the network and of its training."""

    width: int = 6
    levels: int = 3
    heads: int = 6
    window: int = 4
    dropout: float = 0.2
    depth: float = 0.1
    slope: float = 0.3
    rate: float = 1e-3
    slowing: float = 1e-3
    steps: int = 1000


def _block(key: jax.Array, width: int, settings: Settings) -> Weights:
    keys = jax.random.split(key, 5)
    span = 2 * settings.window - 1
    return {
        "before": layers.norm(width),
        "qkv": layers.keras_layer(keys[0], (width, 3 * width), bias=False),
        "positions": 0.02 * jax.random.truncated_normal(keys[1], -2.0, 2.0, (span * span, settings.heads)),
        "out": layers.keras_layer(keys[2], (width, width)),
        "mlp_norm": layers.norm(width),
        "up": layers.keras_layer(keys[3], (width, 4 * width)),
        "down": layers.keras_layer(keys[4], (4 * width, width)),
    }


def init(key: jax.Array, bands: int, count: int, settings: Settings) -> Weights:
    """Draw the weights."""
    n, w = settings.levels, settings.width
    first, last, decoder, *keys = jax.random.split(key, 3 + 2 * n)
    widths = [w] * n + [(k + 2) * w for k in range(n)]
    return {
        "first": layers.keras_layer(first, (bands, w), bias=False),
        "stages": [
            {"blocks": [_block(k, c, settings) for k in jax.random.split(each)], "after": layers.norm(c)}
            for each, c in zip(keys, widths, strict=True)
        ],
        "last": layers.keras_layer(last, (widths[-1], count)),
        "endmembers": layers.keras_layer(decoder, (count, bands), bias=False)["w"],
    }


def regions(rows: int, columns: int, window: int, shift: int) -> np.ndarray:
    """Return the region of each pixel of the rolled scene (H, W): pixels of one window may attend if theirs is one.

    After rolling by -shift, the last window along an axis holds `window - shift` true neighbours and `shift` from the
    other side of the scene.
    """

    def along(size: int) -> np.ndarray:
        place = np.arange(size)
        return np.where(place < size - window, 0, np.where(place < size - shift, 1, 2))

    return 3 * along(rows)[:, None] + along(columns)[None] if shift else np.zeros((rows, columns), int)


def _windows(x: jax.Array, window: int) -> jax.Array:
    """Cut (H, W, C) into windows: (windows, window^2, C)."""
    rows, columns, channels = x.shape
    x = x.reshape(rows // window, window, columns // window, window, channels)
    return x.transpose(0, 2, 1, 3, 4).reshape(-1, window * window, channels)


def window_attention(weights: Weights, x: jax.Array, heads: int, window: int, shift: int) -> jax.Array:
    """Return the attention within windows, shifted by `shift` in both directions: (H, W, C) -> (H, W, C)."""
    rows, columns, channels = x.shape
    rolled = jnp.roll(x, (-shift, -shift), (0, 1)) if shift else x
    tokens = _windows(rolled, window)
    q, k, v = (
        part.reshape(*tokens.shape[:2], heads, channels // heads)
        for part in jnp.split(layers.dense(weights["qkv"], tokens), 3, axis=-1)
    )
    scores = jnp.einsum("nihc,njhc->nhij", q, k) / (channels // heads) ** 0.5
    place = np.stack(np.divmod(np.arange(window * window), window), axis=-1)
    apart = place[:, None] - place[None] + window - 1
    bias = weights["positions"][apart[..., 0] * (2 * window - 1) + apart[..., 1]]
    scores = scores + jnp.moveaxis(bias, -1, 0)[None]
    if shift:
        region = _windows(jnp.asarray(regions(rows, columns, window, shift))[..., None], window)[..., 0]
        scores = scores + jnp.where(region[:, :, None] == region[:, None], 0.0, -100.0)[:, None]
    mixed = jnp.einsum("nhij,njhc->nihc", jax.nn.softmax(scores, axis=-1), v).reshape(tokens.shape)
    mixed = mixed.reshape(rows // window, columns // window, window, window, channels)
    mixed = mixed.transpose(0, 2, 1, 3, 4).reshape(rows, columns, channels)
    return layers.dense(weights["out"], jnp.roll(mixed, (shift, shift), (0, 1)) if shift else mixed)


def _stage(weights: Weights, x: jax.Array, settings: Settings, key: jax.Array | None) -> jax.Array:
    """Return a Swin stage and what follows it: normalisation, dropout and leaky ReLU."""
    window, chance, branches = settings.window, None, [None] * 4
    if key is not None:  # one draw for all
        drawn = jax.random.uniform(key, (x.size + 4,))
        chance, branches = drawn[4:].reshape(x.shape), list(drawn[:4].reshape(4, 1, 1, 1))
    for i, block in enumerate(weights["blocks"]):
        shift = window // 2 if i % 2 and min(x.shape[:2]) > window else 0
        rate = settings.depth if i % 2 else 0.0
        mixed = window_attention(block, layers.layer_norm(block["before"], x), settings.heads, window, shift)
        x = x + layers.dropout(branches[2 * i], mixed, rate)
        inner = jax.nn.gelu(layers.dense(block["up"], layers.layer_norm(block["mlp_norm"], x)), approximate=False)
        x = x + layers.dropout(branches[2 * i + 1], layers.dense(block["down"], inner), rate)
    x = _group_norm(layers.layer_norm(weights["after"], x), settings.width)
    x = layers.dropout(chance, x, settings.dropout)
    return jax.nn.leaky_relu(x, settings.slope)


def _group_norm(x: jax.Array, groups: int) -> jax.Array:
    """Normalise groups of neighbouring channels over the scene and the group, without scale and shift."""
    grouped = x.reshape(*x.shape[:2], groups, -1)
    mean = jnp.mean(grouped, axis=(0, 1, 3), keepdims=True)
    variance = jnp.mean(jnp.square(grouped - mean), axis=(0, 1, 3), keepdims=True)
    return ((grouped - mean) / jnp.sqrt(variance + 1e-3)).reshape(x.shape)


def abundances(weights: Weights, cube: jax.Array, settings: Settings, key: jax.Array | None = None) -> jax.Array:
    """Return abundances (H, W, R), H and W multiples of 32; `key`: dropout and stochastic depth, as in training."""
    n = settings.levels
    keys = [None] * (2 * n) if key is None else list(jax.random.split(key, 2 * n))
    kept = [layers.dense(weights["first"], cube)]
    for stage, k in zip(weights["stages"][:n], keys[:n], strict=True):
        kept.append(_stage(stage, layers.pooled(layers.pooled(kept[-1], 2, 0), 2, 1), settings, k))
    x = kept.pop()
    for stage, k in zip(weights["stages"][n:], keys[n:], strict=True):
        other = kept.pop()
        x = jax.image.resize(x, (*other.shape[:2], x.shape[2]), "bilinear")
        x = _stage(stage, jnp.concatenate([x, other], axis=-1), settings, k)
    return jax.nn.softmax(layers.dense(weights["last"], x), axis=-1)


def loss(weights: Weights, cube: jax.Array, settings: Settings, key: jax.Array | None) -> jax.Array:
    """Return the mean angle."""
    rebuilt = jnp.matmul(abundances(weights, cube, settings, key), weights["endmembers"])
    return jnp.mean(metrics.spectral_angle(cube, rebuilt))


def ust_net(settings: Settings | None = None) -> Method:
    """Return the method."""
    settings = Settings() if settings is None else settings
    optimiser = optax.chain(
        optax.scale_by_rms(decay=0.9, eps=1e-7),
        optax.scale_by_schedule(lambda count: -settings.rate / (1 + settings.slowing * count)),
    )

    def positive(weights: Weights) -> Weights:
        return weights | {"endmembers": jnp.maximum(weights["endmembers"], 0)}

    def estimate(key: jax.Array, cube: jax.Array, start: jax.Array) -> MethodResult:
        draw, chance = jax.random.split(key)
        peak = jnp.max(jnp.abs(cube))
        rows, columns, bands = cube.shape
        multiple = settings.window * 2**settings.levels
        Y = jnp.pad(cube / peak, ((0, -rows % multiple), (0, -columns % multiple), (0, 0)), mode="edge")

        def objective(weights: Weights, running: Any, k: jax.Array) -> tuple[jax.Array, Any]:
            return loss(weights, Y, settings, k), running

        weights = init(draw, bands, start.shape[0], settings)
        keys = jax.random.split(chance, settings.steps)
        weights, _ = layers.train(objective, weights, None, optimiser, keys, positive)
        A, E = abundances(weights, Y, settings)[:rows, :columns], weights["endmembers"]
        return MethodResult(A, E * (peak * layers.brightness(cube / peak, jnp.matmul(A, E))))

    return Method("UST-Net", estimate, "soft")
