"""DTU-Net: a transformer with dilated attention beside a spectral branch, and a polynomial post-nonlinear decoder.

    spatial   3 x 3 convolutions B -> 16, 16 -> 32 (stride 2), 32 -> 64, 64 -> C (stride 2), batch normalisation and
              GELU between; four stages of 2, 1, 2, 1 blocks and widths C, 2C, 4C, 8C, joined by 3 x 3 convolutions of
              stride 2 with batch normalisation; layer normalisation, mean over positions, as R rows of 8C/R numbers,
              linear to N pixels
    block     x <- x + depthwise 3 x 3 convolution of x, x <- x + attention(LN x), x <- x + MLP(LN x); attention in
              stages 1 and 2: a third of the channels each with dilation 1, 2, 3, every position to its 3 x 3 dilated
              neighbours (zeros outside); in stages 3 and 4 to all positions, and no depthwise convolution
    spectral  the bands of each pixel: five times [convolution of 3 bands, leaky ReLU 0.2, z <- z MLP(z) with one
              hidden layer of half the width, maximum of two bands (not the first time)]; 3 x 3 convolution to R maps
    fusion    f both (2R): g = MLP(f), w = sigmoid(MLP(g)), h = g w + f; 3 x 3 convolution 2R -> R, leaky ReLU 0.2,
              batch normalisation, dropout, 3 x 3 convolution R -> R; A = softmax(gamma .)
    decoder   x = a E, E from VCA's spectra; y^ = x + b x o x; b (H, W) from [y, x, x o x] (3B) along bands:
              convolutions of 5 bands (two, hardtanh, maximum of two, dropout; one more, the same), mean over all
              pixels, linear to N: so b is N free numbers and no function of the pixel
    loss      mean spectral angle of y^ and y + alpha MSE

Wang, Gao, Zhu, Halimi and Richard, DTU-Net: a multi-scale dilated transformer network for nonlinear hyperspectral
unmixing, IEEE TGRS 64, 2026; the model: Altmann, Halimi, Dobigeon and Tourneret, IEEE TIP 21(6), 2012. Constants of
the authors' public script for Samson (`Settings`): C 72, heads 3, 6, 12, 24, gamma 1, dropout 0.3, stochastic depth
0 to 0.1, alpha 0.5; Adam at 0.03 with decay 1e-3 (in the gradient), endmembers at 0.02 with decay 1e-3 and kept in
[1e-6, 1], x0.6 every 30 epochs, the schedule one epoch ahead; 600 epochs of one step on the whole scene, gradients
clipped to an L1 norm of 10. Its RMSE and SAD take the nearest reference for each estimate; ours match one to one.

Guessed: the same constants for all scenes (the scripts for Apex and synthetic scenes have others); cubes are divided by
their maximum; convolutions along bands have one channel and zeros at both ends, so that they keep the length; no
dropout in the spectral branch; biases in queries, keys and values, none in the spectral MLP; the framework's start of
linear layers and that of He et al. for convolutions; C grows to the next multiple of three for which R divides 8C; at
odd sizes strides round up.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dequnmix_jax import metrics
from dequnmix_jax.baselines import layers
from dequnmix_jax.baselines.layers import Weights
from dequnmix_jax.baselines.method import Method, MethodResult


@dataclass(frozen=True)
class Settings:
    """Constants of the network and of its training."""

    stem: tuple[int, int, int] = (16, 32, 64)
    width: int = 72
    depths: tuple[int, ...] = (2, 1, 2, 1)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    local: int = 2
    spectral: int = 5
    sharpness: float = 1.0
    dropout: float = 0.3
    depth: float = 0.1
    error: float = 0.5
    rate: float = 3e-2
    decay: float = 1e-3
    endmembers: float = 2e-2
    endmember_decay: float = 1e-3
    clip: float = 10.0
    epochs: int = 600


DILATIONS = (1, 2, 3)

_SHARE = 0.1
"""Of the newest statistics in the running ones, the framework's default."""


def widths(count: int, settings: Settings) -> list[int]:
    """Return the channels of each stage: multiples of three, R divides the last."""
    grown = settings.width - settings.width % -3
    while grown * 2 ** (len(settings.depths) - 1) % count:
        grown += 3
    return [grown * 2**i for i in range(len(settings.depths))]


def _block(key: jax.Array, width: int, local: bool) -> Weights:
    keys = jax.random.split(key, 5)
    return {
        "before": layers.norm(width),
        "qkv": layers.torch_layer(keys[0], (width, 3 * width)),
        "out": layers.torch_layer(keys[1], (width, width)),
        "mlp_norm": layers.norm(width),
        "up": layers.torch_layer(keys[2], (width, 4 * width)),
        "down": layers.torch_layer(keys[3], (4 * width, width)),
    } | ({"place": layers.torch_layer(keys[4], (3, 3, 1, width), he=True)} if local else {})


def init(key: jax.Array, shape: tuple[int, int, int], start: jax.Array, settings: Settings) -> tuple[Weights, Weights]:
    """Draw the weights for a scene (H, W, B); running statistics too."""
    rows, columns, bands = shape
    R, N = start.shape[0], rows * columns
    channels = widths(R, settings)
    depths = list(zip(channels, settings.depths, strict=True))
    keys = iter(jax.random.split(key, 16 + len(channels) + sum(settings.depths) + 3 * settings.spectral))
    stem = (bands, *settings.stem, channels[0])
    lengths = [bands // 2 ** max(i - 1, 0) for i in range(settings.spectral + 1)]  # before each step, and after all
    spectral = []
    for n in lengths[:-1]:
        half = max(n // 2, 1)
        spectral.append(
            {
                "along": layers.torch_layer(next(keys), (3, 1)),
                "up": layers.torch_layer(next(keys), (n, half), bias=False, he=True),
                "down": layers.torch_layer(next(keys), (half, n), bias=False, he=True),
            }
        )
    left = 3 * bands // 2 // 2

    def conv(*sizes: int) -> Weights:
        return layers.torch_layer(next(keys), sizes, he=True)

    weights = {
        "stem": [conv(3, 3, i, o) for i, o in pairwise(stem)],
        "stem_norms": [layers.norm(n) for n in settings.stem],
        "stages": [
            [_block(next(keys), c, i < settings.local) for _ in range(depth)] for i, (c, depth) in enumerate(depths)
        ],
        "joins": [conv(3, 3, i, o) for i, o in pairwise(channels)],
        "join_norms": [layers.norm(n) for n in channels[1:]],
        "after": layers.norm(channels[-1]),
        "maps": layers.torch_layer(next(keys), (channels[-1] // R, N)),
        "spectral": spectral,
        "spectral_maps": conv(3, 3, lengths[-1], R),
        "gate": [[conv(2 * R, R), conv(R, 2 * R)] for _ in range(2)],
        "fuse": conv(3, 3, 2 * R, R),
        "fuse_norm": layers.norm(R),
        "last": conv(3, 3, R, R),
        "bend": [layers.torch_layer(next(keys), (5, 1)) for _ in range(3)],
        "bend_maps": layers.torch_layer(next(keys), (left, N)),
        "endmembers": start,
    }
    running = {
        "stem": [layers.fresh(n) for n in settings.stem],
        "joins": [layers.fresh(n) for n in channels[1:]],
        "fuse": layers.fresh(R),
    }
    return weights, running


def _along(layer: Weights, x: jax.Array) -> jax.Array:
    """Convolve along the last axis with one channel and zeros at both ends, so that the length stays."""
    k = layer["w"].shape[0]
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(k // 2, k // 2)])
    parts = [layer["w"][i, 0] * padded[..., i : i + x.shape[-1]] for i in range(k)]
    return sum(parts[1:], parts[0]) + layer["b"][0]


def _neighbours(x: jax.Array, dilation: int) -> jax.Array:
    """Return the 3 x 3 dilated neighbours of each position, zeros outside: (H, W, C) -> (H, W, 9, C)."""
    d = dilation
    padded = jnp.pad(x, ((d, d), (d, d), (0, 0)))
    shifted = [
        padded[i : i + x.shape[0], j : j + x.shape[1]] for i in range(0, 2 * d + 1, d) for j in range(0, 2 * d + 1, d)
    ]
    return jnp.stack(shifted, axis=2)


def dilated_attention(q: jax.Array, k: jax.Array, v: jax.Array, heads: int, dilation: int) -> jax.Array:
    """Return the attention of each position to its 3 x 3 dilated neighbours: (H, W, C) each -> (H, W, C)."""
    rows, columns, channels = q.shape
    size = channels // heads
    queries = q.reshape(rows, columns, 1, heads, size)
    keys, values = (_neighbours(x, dilation).reshape(rows, columns, 9, heads, size) for x in (k, v))
    share = jax.nn.softmax(jnp.sum(queries * keys, axis=-1) / size**0.5, axis=2)
    return jnp.sum(share[..., None] * values, axis=2).reshape(q.shape)


def full_attention(q: jax.Array, k: jax.Array, v: jax.Array, heads: int) -> jax.Array:
    """Return the attention of each position to all: (H, W, C) each -> (H, W, C)."""
    queries, keys, values = (x.reshape(-1, heads, x.shape[-1] // heads) for x in (q, k, v))
    scores = jnp.einsum("ihc,jhc->hij", queries, keys) / queries.shape[-1] ** 0.5
    return jnp.einsum("hij,jhc->ihc", jax.nn.softmax(scores, axis=-1), values).reshape(q.shape)


def _apply_block(weights: Weights, x: jax.Array, heads: int, chance: jax.Array | None, rate: float) -> jax.Array:
    local = "place" in weights
    if local:
        w = weights["place"]["w"].reshape(1, 1, 9, -1)
        x = x + layers.add(jnp.sum(_neighbours(x, 1) * w, axis=2), weights["place"]["b"])
    qkv = jnp.split(layers.dense(weights["qkv"], layers.layer_norm(weights["before"], x)), 3, axis=-1)
    if local:
        q, k, v = (jnp.split(part, len(DILATIONS), axis=-1) for part in qkv)
        some = heads // len(DILATIONS)
        drawn = [dilated_attention(q[i], k[i], v[i], some, d) for i, d in enumerate(DILATIONS)]
        mixed = jnp.concatenate(drawn, axis=-1)
    else:
        mixed = full_attention(qkv[0], qkv[1], qkv[2], heads)
    branches = (None, None) if chance is None else chance.reshape(2, 1, 1, 1)
    x = x + layers.dropout(branches[0], layers.dense(weights["out"], mixed), rate)
    inner = jax.nn.gelu(layers.dense(weights["up"], layers.layer_norm(weights["mlp_norm"], x)), approximate=False)
    return x + layers.dropout(branches[1], layers.dense(weights["down"], inner), rate)


def spatial(
    weights: Weights, cube: jax.Array, settings: Settings, running: Any, chance: jax.Array | None
) -> tuple[jax.Array, Any]:
    """Return R maps (H, W, R) and the running statistics; `chance` (blocks, 2): as in training."""
    share = None if chance is None else _SHARE
    x, kept = cube, dict[str, Any](stem=[], joins=[])
    for i, layer in enumerate(weights["stem"]):
        x = layers.conv_by_two(layer, x) if i % 2 else layers.conv(layer, x)
        if i < len(weights["stem_norms"]):
            x, new = layers.batch_norm(weights["stem_norms"][i], x, running["stem"][i], share)
            kept["stem"].append(new)
            x = jax.nn.gelu(x, approximate=False)
    done = 0
    rates = np.linspace(0, settings.depth, sum(settings.depths))
    for i, (blocks, heads) in enumerate(zip(weights["stages"], settings.heads, strict=True)):
        for block in blocks:
            x = _apply_block(block, x, heads, None if chance is None else chance[done], float(rates[done]))
            done += 1
        if i < len(weights["joins"]):
            x = layers.conv_by_two(weights["joins"][i], x)
            x, new = layers.batch_norm(weights["join_norms"][i], x, running["joins"][i], share)
            kept["joins"].append(new)
    pooled = jnp.mean(layers.layer_norm(weights["after"], x), axis=(0, 1))
    R = weights["endmembers"].shape[0]
    maps = layers.dense(weights["maps"], pooled.reshape(R, -1))
    return maps.T.reshape(*cube.shape[:2], R), kept


def spectral(weights: Weights, cube: jax.Array) -> jax.Array:
    """Return R maps (H, W, R) from the bands of each pixel."""
    z = cube
    for i, step in enumerate(weights["spectral"]):
        z = jax.nn.leaky_relu(_along(step["along"], z), 0.2)
        z = z * layers.dense(step["down"], jax.nn.relu(layers.dense(step["up"], z)))
        z = layers.pooled(z, 2) if i else z
    return layers.conv(weights["spectral_maps"], z)


def abundances(
    weights: Weights, cube: jax.Array, settings: Settings, running: Any, key: jax.Array | None = None
) -> tuple[jax.Array, Any]:
    """Return abundances (H, W, R) and the running statistics; `key`: as in training."""
    R, blocks = weights["endmembers"].shape[0], sum(settings.depths)
    share, branches, chance = None, None, None
    if key is not None:
        share, size = _SHARE, cube.shape[0] * cube.shape[1] * R
        drawn = jax.random.uniform(key, (2 * blocks + size,))
        branches, chance = drawn[: 2 * blocks].reshape(blocks, 2), drawn[2 * blocks :].reshape(*cube.shape[:2], R)
    maps, kept = spatial(weights, cube, settings, running, branches)
    f = jnp.concatenate([maps, spectral(weights, cube)], axis=-1)

    def twice(pair: list[Weights], x: jax.Array) -> jax.Array:
        return layers.dense(pair[1], jax.nn.relu(layers.dense(pair[0], x)))

    g = twice(weights["gate"][0], f)
    h = g * jax.nn.sigmoid(twice(weights["gate"][1], g)) + f
    x = jax.nn.leaky_relu(layers.conv(weights["fuse"], h), 0.2)
    x, new = layers.batch_norm(weights["fuse_norm"], x, running["fuse"], share)
    x = layers.conv(weights["last"], layers.dropout(chance, x, settings.dropout))
    return jax.nn.softmax(settings.sharpness * x, axis=-1), kept | {"fuse": new}


def post_nonlinear(x: jax.Array, b: jax.Array) -> jax.Array:
    """Return x + b x o x of linear mixtures (H, W, B) and b (H, W)."""
    return x + b[..., None] * x * x


def bend(
    weights: Weights, cube: jax.Array, x: jax.Array, settings: Settings, key: jax.Array | None = None
) -> jax.Array:
    """Return b (H, W) from the cube and its linear mixture x, (H, W, B) each; `key`: dropout."""
    first, second, third = weights["bend"]
    z = _along(second, _along(first, jnp.concatenate([cube, x, x * x], axis=-1)))
    for i, layer in enumerate((None, third)):
        z = z if layer is None else _along(layer, z)
        z = layers.pooled(layers.limited(z, -1, 1), 2)
        if key is not None:
            z = layers.dropout(jax.random.uniform(jax.random.fold_in(key, i), z.shape), z, settings.dropout)
    return layers.dense(weights["bend_maps"], jnp.mean(z, axis=(0, 1))).reshape(cube.shape[:2])


def decode(
    weights: Weights, cube: jax.Array, maps: jax.Array, settings: Settings, key: jax.Array | None = None
) -> jax.Array:
    """Return the reconstruction x + b x o x of abundances (H, W, R)."""
    x = jnp.matmul(maps, weights["endmembers"])
    return post_nonlinear(x, bend(weights, cube, x, settings, key))


def loss(
    weights: Weights, cube: jax.Array, settings: Settings, running: Any, key: jax.Array | None
) -> tuple[jax.Array, Any]:
    """Return the mean angle + alpha MSE, and the running statistics."""
    keys = (None, None) if key is None else tuple(jax.random.split(key))
    maps, running = abundances(weights, cube, settings, running, keys[0])
    rebuilt = decode(weights, cube, maps, settings, keys[1])
    angle = jnp.mean(metrics.spectral_angle(cube, rebuilt))
    return angle + settings.error * jnp.mean(jnp.square(rebuilt - cube)), running


def dtu_net(settings: Settings | None = None) -> Method:
    """Return the method."""
    settings = Settings() if settings is None else settings
    optimiser = layers.by_part(
        layers.adam(settings.rate, settings.decay, 0.6, 30, early=1),
        layers.adam(settings.endmembers, settings.endmember_decay, 0.6, 30, early=1),
    )

    def limited(weights: Weights) -> Weights:
        return weights | {"endmembers": jnp.clip(weights["endmembers"], 1e-6, 1)}

    def estimate(key: jax.Array, cube: jax.Array, start: jax.Array) -> MethodResult:
        draw, chance = jax.random.split(key)
        peak = jnp.max(jnp.abs(cube))
        Y = cube / peak
        rows, columns, bands = cube.shape
        weights, running = init(draw, (rows, columns, bands), start / peak, settings)

        def objective(weights: Weights, running: Any, k: jax.Array) -> tuple[jax.Array, Any]:
            return loss(weights, Y, settings, running, k)

        keys = jax.random.split(chance, settings.epochs)
        weights, running = layers.train(objective, weights, running, optimiser, keys, limited, settings.clip)
        maps, _ = abundances(weights, Y, settings, running)
        return MethodResult(maps, weights["endmembers"] * peak)

    return Method("DTU-Net", estimate)
