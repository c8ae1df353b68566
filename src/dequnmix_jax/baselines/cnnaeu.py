"""CNNAEU: a convolutional autoencoder on patches; the mean of its decoder's kernel over positions is E.

    encoder   3 x 3 convolution B -> 48 and 1 x 1 convolution 48 -> R, each followed by leaky ReLU (0.02), batch
              normalisation and dropout of whole maps; a = softmax(3 z)
    decoder   y^[p] = sum over 13 x 13 positions d of a[p + d] W[d], W (13, 13, R, B) >= 0; E = mean over d of W[d]
    loss      mean spectral angle of y^ and y

Palsson, Ulfarsson and Sveinsson, Convolutional autoencoder for spectral-spatial hyperspectral unmixing, IEEE TGRS
59(1), 2021. Constants of the authors' public notebook (`Settings`): 250 random 40 x 40 patches of the scene, batches of
15, 320 epochs, RMSprop at 3e-3, weights drawn from N(0, 0.3^2), dropout 0.2, no start from spectra: seeds differ
widely. The notebook's angle forgets the sum over bands; here it is the paper's. The scene is divided by its maximum.

Guessed: zeros around each patch (at the end, around the scene); the framework's defaults where the notebook is silent
(batch normalisation with a running share of 0.01 and epsilon 1e-3, RMSprop with rho 0.9 and epsilon 1e-7, biases from
zero); the patches stay the same in all epochs; smaller scenes have patches of their own size. An angle leaves the
brightness open: all endmembers get one factor, that of the least squares misfit of a E.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from dequnmix_jax import metrics
from dequnmix_jax.baselines import layers
from dequnmix_jax.baselines.layers import Weights
from dequnmix_jax.baselines.method import Method, MethodResult


@dataclass(frozen=True)
class Settings:
    """Constants of the network and of its training; `sharpness` multiplies the softmax's input."""

    width: int = 48
    kernel: int = 13
    slope: float = 0.02
    dropout: float = 0.2
    sharpness: float = 3.0
    spread: float = 0.3
    patches: int = 250
    side: int = 40
    batch: int = 15
    epochs: int = 320
    rate: float = 3e-3


_SHARE, _EPSILON = 0.01, 1e-3
"""Of the batch normalisations."""


def init(key: jax.Array, bands: int, count: int, settings: Settings) -> tuple[Weights, Any]:
    """Draw the weights, and return running statistics too."""
    first, second, third = jax.random.split(key, 3)

    def draw(k: jax.Array, *shape: int) -> jax.Array:
        return settings.spread * jax.random.normal(k, shape)

    sizes = (settings.width, count)
    kernels = (draw(first, 3, 3, bands, settings.width), draw(second, 1, 1, settings.width, count))
    weights = {
        "encoder": [{"w": w, "b": jnp.zeros(n), "norm": layers.norm(n)} for w, n in zip(kernels, sizes, strict=True)],
        "decoder": draw(third, settings.kernel, settings.kernel, count, bands),
    }
    return weights, [layers.fresh(n) for n in sizes]


def abundances(
    weights: Weights, images: jax.Array, settings: Settings, running: Any, key: jax.Array | None = None
) -> tuple[jax.Array, Any]:
    """Return abundances (N, H, W, R) of images (N, H, W, B) and running statistics; `key`: as in training."""
    x, kept = images, []
    for i, (layer, statistics) in enumerate(zip(weights["encoder"], running, strict=True)):
        x = jax.nn.leaky_relu(layers.conv(layer, x), settings.slope)
        share = None if key is None else _SHARE
        x, new = layers.batch_norm(layer["norm"], x, statistics, share, _EPSILON, unbiased=False)
        kept.append(new)
        if key is not None:
            chance = jax.random.uniform(jax.random.fold_in(key, i), (x.shape[0], 1, 1, x.shape[-1]))
            x = layers.dropout(chance, x, settings.dropout)
    return jax.nn.softmax(settings.sharpness * x, axis=-1), kept


def decode(weights: Weights, maps: jax.Array) -> jax.Array:
    """Return the reconstruction (N, H, W, B) of abundances (N, H, W, R)."""
    return layers.conv({"w": weights["decoder"]}, maps)


def endmembers(weights: Weights) -> jax.Array:
    """Return the mean over the positions of the decoder, (R, B)."""
    return jnp.mean(weights["decoder"], axis=(0, 1))


def loss(
    weights: Weights, images: jax.Array, settings: Settings, running: Any, key: jax.Array
) -> tuple[jax.Array, Any]:
    """Return the mean angle over the pixels of some images, and the running statistics."""
    maps, kept = abundances(weights, images, settings, running, key)
    return jnp.mean(metrics.spectral_angle(images, decode(weights, maps))), kept


def cnnaeu(settings: Settings | None = None) -> Method:
    """Return the method."""
    settings = Settings() if settings is None else settings
    optimiser = optax.chain(optax.scale_by_rms(decay=0.9, eps=1e-7), optax.scale(-settings.rate))

    def positive(weights: Weights) -> Weights:
        return weights | {"decoder": jnp.maximum(weights["decoder"], 0)}

    def estimate(key: jax.Array, cube: jax.Array, start: jax.Array) -> MethodResult:
        draw, where, order = jax.random.split(key, 3)
        peak = jnp.max(jnp.abs(cube))
        Y = cube / peak
        rows, columns, bands = cube.shape
        sides = (min(settings.side, rows), min(settings.side, columns))
        most = jnp.asarray([rows - sides[0] + 1, columns - sides[1] + 1])
        corners = jax.random.randint(where, (settings.patches, 2), 0, most[None])
        weights, running = init(draw, bands, start.shape[0], settings)

        def patch(corner: jax.Array) -> jax.Array:
            return lax.dynamic_slice(Y, (corner[0], corner[1], jnp.zeros_like(corner[0])), (*sides, bands))

        def objective(weights: Weights, running: Any, given: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, Any]:
            members, k = given
            return loss(weights, jax.vmap(patch)(corners[members]), settings, running, k)

        batch = min(settings.batch, settings.patches)
        given = layers.epochs(order, settings.patches, batch, settings.epochs)
        weights, running = layers.train(objective, positive(weights), running, optimiser, given, positive)
        A = abundances(weights, Y[None], settings, running)[0][0]
        E = endmembers(weights)
        return MethodResult(A, E * (peak * layers.brightness(Y, jnp.matmul(A, E))))

    return Method("CNNAEU", estimate, "soft")
