"""CyCU-Net: a cascade of two linear autoencoders with one encoder; the second encodes what the first reconstructs.

    encoder   1 x 1 convolutions B -> 128 -> 64 -> R, each with batch normalisation; dropout and ReLU after the first,
              ReLU after the second, limits 0 and 1 after the last
    passes    a1 = encoder(y), y1 = relu(a1 E1), a2 = encoder(y1), y2 = relu(a2 E2); E1, E2 start from VCA's spectra
    loss      1/2 MSE(y1, y) + 1/2 MSE(y2, y) + delta MSE(a1, a2)
              + 1e-7 sum over pixels (|sum a1 - 1| + |sum a2 - 1|) + s (|A1|_* + |A2|_*), |.|_* the nuclear norm
    result    a1 divided by its sum, and E1

Gao, Han, Hong, Zhang and Chanussot, CyCU-Net: cycle-consistency unmixing network by learning cascaded autoencoders,
IEEE TGRS 60, 2022. Constants of the authors' public script for Samson (`Settings`): Adam at 2e-3, x0.8 every 15 epochs,
480 epochs of one step on the whole scene, delta 1e-3, s 5e-6, weight decay 1e-4 (in the gradient), dropout 0.5,
gradients clipped to an L1 norm of 10, E1 and E2 kept in [1e-6, 1]. The running statistics are nine tenths those of the
newest batch, and both passes leave theirs; evaluation uses them. The weight of the sum to one is next to nothing: each
pixel has its own brightness.

Guessed: the same constants for all scenes (the script has others for Jasper Ridge: rate 8e-3, 70 epochs, delta 1e-2,
no s and no decay); cubes are divided by their maximum; a pixel at zero in all maps gets 1/R, where the script divides
0 by 0. The nuclear norm comes from the eigenvalues of A^T A, (R, R).
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp

from dequnmix_jax.baselines import layers
from dequnmix_jax.baselines.layers import Weights
from dequnmix_jax.baselines.method import Method, MethodResult


@dataclass(frozen=True)
class Settings:
    """Constants of the network and of its training."""

    widths: tuple[int, int] = (128, 64)
    dropout: float = 0.5
    cycle: float = 1e-3
    sum_to_one: float = 1e-7
    rank: float = 5e-6
    rate: float = 2e-3
    decay: float = 1e-4
    clip: float = 10.0
    epochs: int = 480


_SHARE = 0.9
"""Of the newest statistics in the running ones."""


def init(key: jax.Array, bands: int, start: jax.Array, settings: Settings) -> tuple[Weights, Any]:
    """Draw the encoder and put `start` (R, B) into both decoders; running statistics too."""
    sizes = (bands, *settings.widths, start.shape[0])
    keys = jax.random.split(key, 3)
    encoder = [
        layers.torch_layer(k, (i, o), he=True) | {"norm": layers.norm(o)}
        for k, (i, o) in zip(keys, pairwise(sizes), strict=True)
    ]
    return {"encoder": encoder, "first": start, "second": start}, [layers.fresh(n) for n in sizes[1:]]


def encode(
    weights: Weights, cube: jax.Array, settings: Settings, running: Any, key: jax.Array | None = None
) -> tuple[jax.Array, Any]:
    """Return maps (H, W, R) in [0, 1] and the running statistics; `key`: dropout and batch statistics."""
    x, kept = cube, []
    for i, (layer, statistics) in enumerate(zip(weights["encoder"], running, strict=True)):
        share = None if key is None else _SHARE
        x, new = layers.batch_norm(layer["norm"], layers.dense(layer, x), statistics, share)
        kept.append(new)
        if i == 0 and key is not None:
            x = layers.dropout(jax.random.uniform(key, x.shape), x, settings.dropout)
        x = jax.nn.relu(x) if i < 2 else layers.limited(x, 0, 1)
    return x, kept


def nuclear_norm(maps: jax.Array) -> jax.Array:
    """Return the sum of the singular values of maps (H, W, R) as a matrix of pixels and endmembers."""
    A = maps.reshape(-1, maps.shape[-1])
    squared = jnp.linalg.eigvalsh(jnp.matmul(A.T, A))
    return jnp.sum(jnp.sqrt(jnp.maximum(squared, jnp.finfo(A.dtype).eps)))


def passes(
    weights: Weights, cube: jax.Array, settings: Settings, running: Any, key: jax.Array | None = None
) -> tuple[tuple[jax.Array, ...], Any]:
    """Return (a1, y1, a2, y2) and the running statistics after both passes."""
    keys = (None, None) if key is None else tuple(jax.random.split(key))
    a1, running = encode(weights, cube, settings, running, keys[0])
    y1 = jax.nn.relu(jnp.matmul(a1, weights["first"]))
    a2, running = encode(weights, y1, settings, running, keys[1])
    return (a1, y1, a2, jax.nn.relu(jnp.matmul(a2, weights["second"]))), running


def cycle_loss(a1: jax.Array, a2: jax.Array) -> jax.Array:
    """Return the mean squared difference of the maps of both passes."""
    return jnp.mean(jnp.square(a1 - a2))


def loss(
    weights: Weights, cube: jax.Array, settings: Settings, running: Any, key: jax.Array | None
) -> tuple[jax.Array, Any]:
    """Return the loss and the running statistics."""
    (a1, y1, a2, y2), running = passes(weights, cube, settings, running, key)
    data = (jnp.mean(jnp.square(y1 - cube)) + jnp.mean(jnp.square(y2 - cube))) / 2
    sums = sum(jnp.sum(jnp.abs(jnp.sum(a, axis=-1) - 1)) for a in (a1, a2))
    ranks = nuclear_norm(a1) + nuclear_norm(a2)
    return data + settings.cycle * cycle_loss(a1, a2) + settings.sum_to_one * sums + settings.rank * ranks, running


def cycunet(settings: Settings | None = None) -> Method:
    """Return the method."""
    settings = Settings() if settings is None else settings
    optimiser = layers.adam(settings.rate, settings.decay, 0.8, 15)

    def limited(weights: Weights) -> Weights:
        return weights | {name: jnp.clip(weights[name], 1e-6, 1) for name in ("first", "second")}

    def estimate(key: jax.Array, cube: jax.Array, start: jax.Array) -> MethodResult:
        draw, chance = jax.random.split(key)
        peak = jnp.max(jnp.abs(cube))
        Y = cube / peak
        weights, running = init(draw, cube.shape[-1], start / peak, settings)

        def objective(weights: Weights, running: Any, k: jax.Array) -> tuple[jax.Array, Any]:
            return loss(weights, Y, settings, running, k)

        keys = jax.random.split(chance, settings.epochs)
        weights, running = layers.train(objective, weights, running, optimiser, keys, limited, settings.clip)
        a1, _ = encode(weights, Y, settings, running)
        return MethodResult(layers.shares(a1), weights["first"] * peak)

    return Method("CyCU-Net", estimate, "soft")
