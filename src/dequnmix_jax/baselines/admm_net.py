"""ADMM-Net: two steps of the alternating direction method for sparse unmixing (SUnSAL), unrolled, as an encoder.

    x <- y W + (z + d) Q            at first W = E^T (E E^T + mu I)^-1,  Q = mu (E E^T + mu I)^-1
    z <- relu(x - d - t)            at first t = lambda / mu
    d <- d - eta (x - z)            at first eta = 1

in each of K = 2 layers, with z = d = 0 before the first; W (B, R), Q (R, R), t (R) and eta of each layer are learned.
The abundances are the last z divided by its sum, and the decoder is a E, whose weights E start from VCA's spectra and
are kept in [0, 1]. Trained on the squared error of the reconstruction of the scene itself. Before training it is K
iterations of SUnSAL, which minimises |y - a E|^2 / 2 + lambda |a|_1 over a >= 0.

Zhou and Rodrigues, ADMM-based hyperspectral unmixing networks for abundance and endmember estimation, IEEE TGRS 60,
2022. SUnSAL: Bioucas-Dias and Figueiredo, WHISPERS 2010. From a public port (HySUPP): the shapes, K = 2, lambda 1e-3,
mu 1e-2, Adam at 1e-4, batches of 64 pixels, 300 epochs.

Guessed: the pixels that do not fill a batch sit out an epoch, others in each; cubes have maximum one; a pixel whose
abundances are all at the threshold gets 1/R.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from dequnmix_jax.baselines.method import Method, MethodResult
from dequnmix_jax.mixing import normalise_abundances
from dequnmix_jax.ops import lapack


@dataclass(frozen=True)
class Settings:
    """Constants of the iteration (`sparsity`: lambda, `penalty`: mu) and of its training."""

    layers: int = 2
    sparsity: float = 1e-3
    penalty: float = 1e-2
    rate: float = 1e-4
    batch: int = 64
    epochs: int = 300


def init(endmembers: jax.Array, settings: Settings) -> dict[str, Any]:
    """Return the weights: those of the layers stacked, and the endmembers (R, B) of the decoder."""
    R = endmembers.shape[0]
    gram = jnp.matmul(endmembers, endmembers.T, precision="highest")
    inverse = lapack.inverse(gram + settings.penalty * jnp.eye(R, dtype=gram.dtype))
    one = {
        "data": jnp.matmul(endmembers.T, inverse, precision="highest"),
        "prior": settings.penalty * inverse,
        "threshold": jnp.full(R, settings.sparsity / settings.penalty, gram.dtype),
        "step": jnp.ones((), gram.dtype),
    }
    return {"layers": jax.tree.map(lambda x: jnp.stack([x] * settings.layers), one), "endmembers": endmembers}


def encode(layers: dict[str, jax.Array], pixels: jax.Array) -> jax.Array:
    """Return the last z of pixels (..., B), (..., R), >= 0."""

    def layer(state: tuple[jax.Array, jax.Array], w: dict[str, jax.Array]) -> tuple[Any, None]:
        z, d = state
        threshold = w["threshold"].reshape((1,) * (z.ndim - 1) + (-1,))
        x = jnp.matmul(pixels, w["data"]) + jnp.matmul(z + d, w["prior"])
        z = jax.nn.relu(x - d - threshold)
        return (z, d - w["step"] * (x - z)), None

    none = jnp.zeros((*pixels.shape[:-1], layers["data"].shape[-1]), pixels.dtype)
    (z, _), _ = lax.scan(layer, (none, none), layers)
    return z


def abundances(weights: dict[str, Any], cube: jax.Array) -> jax.Array:
    """Return the abundances (H, W, R) of a cube."""
    return normalise_abundances(encode(weights["layers"], cube))[0]


def loss(weights: dict[str, Any], cube: jax.Array) -> jax.Array:
    """Return the mean squared error of the reconstruction."""
    return jnp.mean(jnp.square(jnp.matmul(abundances(weights, cube), weights["endmembers"]) - cube))


def admm_net(settings: Settings | None = None) -> Method:
    """Return the method."""
    settings = Settings() if settings is None else settings
    optimiser = optax.adam(settings.rate)

    def estimate(key: jax.Array, cube: jax.Array, start: jax.Array) -> MethodResult:
        peak = jnp.max(jnp.abs(cube))
        Y, E = cube / peak, jnp.clip(start / peak, 0, 1)
        pixels = Y.reshape(1, -1, Y.shape[-1])
        size = min(settings.batch, pixels.shape[1])
        batches = pixels.shape[1] // size

        def step(state: tuple[Any, Any], chosen: jax.Array) -> tuple[tuple[Any, Any], None]:
            weights, moments = state
            gradient = jax.grad(loss)(weights, pixels[:, chosen])
            with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
                change, moments = optimiser.update(gradient, moments)
            weights = optax.apply_updates(weights, change)
            return (weights | {"endmembers": jnp.clip(weights["endmembers"], 0, 1)}, moments), None

        def epoch(state: tuple[Any, Any], k: jax.Array) -> tuple[tuple[Any, Any], None]:
            order = jax.random.permutation(k, pixels.shape[1])[: batches * size]
            return lax.scan(step, state, order.reshape(batches, size))

        weights = init(E, settings)
        state = (weights, optimiser.init(weights))
        (weights, _), _ = lax.scan(epoch, state, jax.random.split(key, settings.epochs))
        return MethodResult(abundances(weights, Y), weights["endmembers"] * peak)

    return Method("ADMM-Net", estimate)
