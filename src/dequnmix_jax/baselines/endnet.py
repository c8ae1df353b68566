"""EndNet: an autoencoder of one hidden layer, whose units measure the angle to their own spectrum.

    encoder   z_r = 1 - angle(y~, w_r) / pi, y~ the pixel with random bands at zero, w (R, B) from VCA's spectra; batch
              normalisation without a scale, dropout 0.1, ReLU; a = z / sum z
    decoder   y^ = a E, E >= 0, from VCA's spectra
    loss      mean over pixels of 0.005 |y - y^|^2 - 50 log C, C = 1 - angle(y, y^) / pi,
              + 1e-5 |w|^2 + 1e-5 |E|^2 + 1e-3 |t|^2, t the shift of the batch normalisation

Ozkan, Kaya and Akar, EndNet: sparse autoencoder network for endmember extraction and hyperspectral unmixing, IEEE TGRS
57(1), 2019. Constants of a public reimplementation by B. Palsson (`Settings`): Adam at 1e-3 with beta1 0.7, 4000 random
pixels, batches of 64, 40 epochs, no weight on |a|_1.

Guessed: the term of divergence, KL(1 || C) = -log C up to its sign, is taken with the sign that makes C grow; the
penalties of weights are squares; the corruption sets three tenths of the numbers of a pixel to zero (masking noise
0.3), in training alone; running statistics with a share of 0.01 and epsilon 1e-3, the framework's defaults; a pixel
at zero in all units gets 1/R. The scene is divided by its maximum.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from dequnmix_jax import metrics
from dequnmix_jax.baselines import layers
from dequnmix_jax.baselines.layers import Weights
from dequnmix_jax.baselines.method import Method, MethodResult


@dataclass(frozen=True)
class Settings:
    """Constants of the network and of its training."""

    corruption: float = 0.3
    dropout: float = 0.1
    error: float = 0.01
    similarity: float = 50.0
    weight: float = 1e-5
    shift: float = 1e-3
    rate: float = 1e-3
    momentum: float = 0.7
    pixels: int = 4000
    batch: int = 64
    epochs: int = 40


_SHARE, _EPSILON = 0.01, 1e-3
"""Of the batch normalisation."""


def similarity(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return 1 - angle / pi along the last axis, in [0, 1]."""
    return 1 - metrics.spectral_angle(a, b) / jnp.pi


def init(start: jax.Array) -> tuple[Weights, Any]:
    """Put `start` (R, B) into encoder and decoder; running statistics too."""
    return {"encoder": start, "endmembers": start, "shift": jnp.zeros(start.shape[0])}, layers.fresh(start.shape[0])


def abundances(
    weights: Weights, pixels: jax.Array, settings: Settings, running: Any, key: jax.Array | None = None
) -> tuple[jax.Array, Any]:
    """Return abundances (N, R) of pixels (N, B) and the running statistics; `key`: corruption, dropout, training."""
    share, chance = None, None
    if key is not None:
        share, keys = _SHARE, jax.random.split(key)
        pixels = jnp.where(jax.random.bernoulli(keys[0], 1 - settings.corruption, pixels.shape), pixels, 0)
        chance = jax.random.uniform(keys[1], (pixels.shape[0], weights["encoder"].shape[0]))
    z = similarity(pixels[:, None], weights["encoder"][None])
    z, running = layers.batch_norm({"shift": weights["shift"]}, z, running, share, _EPSILON, unbiased=False)
    return layers.shares(jax.nn.relu(layers.dropout(chance, z, settings.dropout))), running


def loss(
    weights: Weights, pixels: jax.Array, settings: Settings, running: Any, key: jax.Array | None
) -> tuple[jax.Array, Any]:
    """Return the loss and the running statistics."""
    A, running = abundances(weights, pixels, settings, running, key)
    rebuilt = jnp.matmul(A, weights["endmembers"])
    data = settings.error / 2 * jnp.sum(jnp.square(rebuilt - pixels), axis=-1)
    alike = jnp.log(jnp.maximum(similarity(pixels, rebuilt), 1e-6))
    squares = jnp.sum(jnp.square(weights["encoder"])) + jnp.sum(jnp.square(weights["endmembers"]))
    penalties = settings.weight * squares + settings.shift * jnp.sum(jnp.square(weights["shift"]))
    return jnp.mean(data - settings.similarity * alike) + penalties, running


def endnet(settings: Settings | None = None) -> Method:
    """Return the method."""
    settings = Settings() if settings is None else settings
    optimiser = layers.adam(settings.rate, first=settings.momentum)

    def positive(weights: Weights) -> Weights:
        return weights | {"endmembers": jnp.maximum(weights["endmembers"], 0)}

    def estimate(key: jax.Array, cube: jax.Array, start: jax.Array) -> MethodResult:
        chosen, order = jax.random.split(key)
        peak = jnp.max(jnp.abs(cube))
        Y = (cube / peak).reshape(-1, cube.shape[-1])
        count = min(settings.pixels, Y.shape[0])
        some = Y[jax.random.permutation(chosen, Y.shape[0])[:count]]
        weights, running = init(start / peak)

        def objective(weights: Weights, running: Any, given: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, Any]:
            return loss(weights, some[given[0]], settings, running, given[1])

        given = layers.epochs(order, count, min(settings.batch, count), settings.epochs)
        weights, running = layers.train(objective, weights, running, optimiser, given, positive)
        A, _ = abundances(weights, Y, settings, running)
        return MethodResult(A.reshape(*cube.shape[:2], -1), weights["endmembers"] * peak)

    return Method("EndNet", estimate)
