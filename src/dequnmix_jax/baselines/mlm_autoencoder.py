"""The autoencoder of the multilinear mixing model: 3-D convolutions, a linear decoder, and a head for the bounces.

    encoder   a patch of 5 x 5 pixels and all bands: (7, 3, 3) 1 -> 4R, (7, 3, 3) 4R -> 4R, (7, 1, 1) 4R -> 2R, each
              followed by leaky ReLU and the maximum of three bands; then all bands that are left, 2R -> R, leaky ReLU;
              a = softmax over R (kernels bands x rows x columns, no padding)
    decoder   x = a E, E from VCA's spectra, kept in [0, 1]
    head      [x, x o y] (2B) -> B -> 112 -> 56, tanh each, -> 2, softmax: 1 - P and P
    model     y^ = (1 - P) x / (1 - P x), band by band; loss: MSE

Fang, Zhu and Chen, Hyperspectral unmixing based on multilinear mixing model using convolutional autoencoders, IEEE TGRS
62, 2024; the model: Heylen and Scheunders, IEEE TGRS 54(1), 2016. Constants of the authors' public code for the 3-D
network (`Settings`): Adam at 1e-4, endmembers at 5e-7, so that they hardly leave VCA's, batches of 256 pixels, 300
epochs. Data are reflectances, as they come: 1 - P x means nothing in other units. The pixel itself enters the head, an
easy path to fit its noise.

The 1-D network is not in that code. `Settings(patch=1)` is a reconstruction by its branch for patches of one pixel: the
same kernels along bands, one pixel in space.

Guessed: the scene is mirrored at its edges by two pixels; a cube with a maximum above one is divided by it; short
spectra (below 105 bands) get the largest odd kernels up to 7 and windows up to 3 that leave a band; 1 - P x is at least
1e-6; the framework's default start of weights; batches are filled up from the beginning of their epoch.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dequnmix_jax.baselines import layers
from dequnmix_jax.baselines.layers import Weights
from dequnmix_jax.baselines.method import Method, MethodResult
from dequnmix_jax.ops.convolution import convolve


@dataclass(frozen=True)
class Settings:
    """Constants of the network and of its training; `patch`: 5 (3-D) or 1 (1-D)."""

    patch: int = 5
    kernel: int = 7
    pool: int = 3
    hidden: tuple[int, int] = (112, 56)
    slope: float = 0.01
    rate: float = 1e-4
    endmembers: float = 5e-7
    batch: int = 256
    epochs: int = 300


def lengths(bands: int, settings: Settings) -> list[tuple[int, int, int]]:
    """Return (kernel, window of the maximum, bands left) of the three steps along bands."""
    steps = []
    for _ in range(3):
        kernel = min(settings.kernel, bands - 1 + bands % 2)
        bands -= kernel - 1
        window = min(settings.pool, bands)
        bands //= window
        steps.append((kernel, window, bands))
    return steps


def init(key: jax.Array, start: jax.Array, settings: Settings) -> Weights:
    """Draw the weights; the decoder holds `start` (R, B)."""
    R, bands = start.shape
    steps = lengths(bands, settings)
    side = (settings.patch + 1) // 2  # the side of both spatial kernels, 3 or 1: they leave one pixel
    inputs = (side * side, 4 * R * side * side, 4 * R)  # the pixels of a kernel are channels
    outputs = (4 * R, 4 * R, 2 * R)
    sizes = (2 * bands, bands, *settings.hidden, 2)
    keys = iter(jax.random.split(key, 8))
    return {
        "encoder": [
            layers.torch_layer(next(keys), (1, k, i, o)) for (k, _, _), i, o in zip(steps, inputs, outputs, strict=True)
        ],
        "last": layers.torch_layer(next(keys), (steps[-1][-1] * 2 * R, R)),
        "head": [layers.torch_layer(next(keys), (i, o)) for i, o in pairwise(sizes)],
        "endmembers": start,
    }


def _along_bands(layer: Weights, x: jax.Array, window: int, slope: float) -> jax.Array:
    """Convolve (rows, B, I) along bands, without padding; leaky ReLU, maxima of `window` bands: (rows, B', O)."""
    edge = layer["w"].shape[1] // 2
    x = layers.add(convolve(x, layer["w"])[:, edge : x.shape[1] - edge], layer["b"])
    return layers.pooled(jax.nn.leaky_relu(x, slope), window, 1)


def _spread(layer: Weights, patch: int) -> Weights:
    """Return the first layer with all p^2 pixels of a patch as inputs, and as outputs all positions of its kernel.

    Three times as many products as needed, and half the time of a convolution of each window: few channels are slow.
    """
    side = (patch + 1) // 2
    place = np.arange(side)
    pixel = (place[:, None, None, None] + place[None, None, :, None]) * patch
    pixel = pixel + place[None, :, None, None] + place[None, None, None]  # of each position, of each pixel of a kernel
    chosen = jnp.asarray(pixel.reshape(side * side, -1)[None] == np.arange(patch * patch)[:, None, None], jnp.float32)
    w = jnp.einsum("pqm,kmo->kpqo", chosen, layer["w"][0])
    return {"w": w.reshape(1, w.shape[0], patch * patch, -1), "b": jnp.tile(layer["b"], side * side)}


def abundances(weights: Weights, patches: jax.Array, settings: Settings) -> jax.Array:
    """Return the abundances (N, R) of the middle pixels of patches (N, p, p, B).

    3-D convolutions without padding are convolutions along bands with the pixels of each window as channels.
    """
    count, p, _, bands = patches.shape
    first, *others = weights["encoder"]
    x = jnp.swapaxes(patches.reshape(count, p * p, bands), 1, 2)
    for layer, (_, window, _) in zip([_spread(first, p), *others], lengths(bands, settings), strict=True):
        x = _along_bands(layer, x, window, settings.slope)
    x = layers.dense(weights["last"], x.reshape(count, -1))
    return jax.nn.softmax(jax.nn.leaky_relu(x, settings.slope), axis=-1)


def bounced(x: jax.Array, P: jax.Array) -> jax.Array:
    """Return (1 - P) x / (1 - P x) of linear mixtures x (N, B) and probabilities of a further bounce P (N, 1)."""
    return (1 - P) * x / jnp.maximum(1 - P * x, 1e-6)


def further(weights: Weights, x: jax.Array, pixels: jax.Array) -> jax.Array:
    """Return P (N, 1) in (0, 1) from linear mixtures and pixels, (N, B) each."""
    z = jnp.concatenate([x, x * pixels], axis=-1)
    for layer in weights["head"][:-1]:
        z = jnp.tanh(layers.dense(layer, z))
    return jax.nn.softmax(layers.dense(weights["head"][-1], z), axis=-1)[:, 1:]


def loss(weights: Weights, patches: jax.Array, settings: Settings) -> jax.Array:
    """Return the mean squared error of the middle pixels' reconstruction."""
    middle = settings.patch // 2
    pixels = patches[:, middle, middle]
    x = jnp.matmul(abundances(weights, patches, settings), weights["endmembers"])
    return jnp.mean(jnp.square(bounced(x, further(weights, x, pixels)) - pixels))


def mlm_autoencoder(settings: Settings | None = None) -> Method:
    """Return the method."""
    settings = Settings() if settings is None else settings
    optimiser = layers.by_part(layers.adam(settings.rate), layers.adam(settings.endmembers))
    p = settings.patch

    def limited(weights: Weights) -> Weights:
        return weights | {"endmembers": jnp.clip(weights["endmembers"], 0, 1)}

    def estimate(key: jax.Array, cube: jax.Array, start: jax.Array) -> MethodResult:
        draw, order = jax.random.split(key)
        scale = jnp.maximum(jnp.max(cube), 1)
        rows, columns, bands = cube.shape
        Y = jnp.pad(cube / scale, ((p // 2, p // 2), (p // 2, p // 2), (0, 0)), mode="symmetric")
        count = rows * columns
        batch = min(settings.batch, count)

        def patches(pixels: jax.Array) -> jax.Array:
            def one(pixel: jax.Array) -> jax.Array:
                return lax.dynamic_slice(Y, (pixel // columns, pixel % columns, jnp.zeros_like(pixel)), (p, p, bands))

            return jax.vmap(one)(pixels)

        def objective(weights: Weights, running: None, given: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            return loss(weights, patches(given[0]), settings), running

        given = layers.epochs(order, count, batch, settings.epochs)
        weights, _ = layers.train(objective, init(draw, start / scale, settings), None, optimiser, given, limited)
        all_pixels = jnp.resize(jnp.arange(count), (math.ceil(count / batch), batch))
        A = lax.map(lambda pixels: abundances(weights, patches(pixels), settings), all_pixels)
        A = A.reshape(-1, A.shape[-1])[:count].reshape(rows, columns, -1)
        return MethodResult(A, weights["endmembers"] * scale)

    kind = {5: "3-D", 1: "1-D (a reconstruction)"}.get(p, f"{p} x {p}")
    return Method(f"MLM autoencoder, {kind}", estimate)
