"""A learned denoiser for plug-and-play unmixing: a DnCNN trained on synthetic abundance maps.

    D(x; sigma) = x - sigma N(x, sigma),  N: convolutions 3 x 3 with ReLU between them, the last one linear
    trained on  mean of (N(a + sigma n, sigma) - n)^2,  a from `synthetic.abundance_field`, n ~ N(0, 1)

Zhang, Zuo, Chen, Meng and Zhang, Beyond a Gaussian denoiser, IEEE TIP 26(7), 2017 (residual learning; one of the
denoisers of the unmixing paper, there trained on photographs). As in FFDNet (Zhang, Zuo and Zhang, IEEE TIP 27(9),
2018) the noise level is an input, so that one network covers all levels.

Guessed: 6 layers of 24 channels without batch normalisation (the original: 17 of 64), because maps are smoother than
photographs and training takes half a minute on a CPU; levels from 0.002 to 0.2, uniform on a logarithmic scale, and
therefore the difference of a pixel from the local mean, in units of the noise, as a further input; fields of lengths 2
to 12 pixels and contrasts 0.7 to 3. No scene of the tables is used.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from dequnmix_jax.baselines import denoisers
from dequnmix_jax.baselines.plug_and_play import Denoiser
from dequnmix_jax.datasets import synthetic
from dequnmix_jax.equilibrium import network
from dequnmix_jax.ops.convolution import convolve


@dataclass(frozen=True)
class Settings:
    """Size of the network and of its training.

    `bounded`: each kernel has a spectral norm of at most one, by division where it would be larger (Gouk et al. 2021).
    sigma N then has a Lipschitz constant of at most sqrt((4/3)^2 + (2 sigma)^2), that of its input: 0.76 measured, 1.4
    without the bound. It removes less noise: at a level of 0.01, 0.82 of it stays, and 0.59 without the bound.
    """

    layers: int = 6
    width: int = 24
    steps: int = 400
    patches: int = 8
    side: int = 40
    rate: float = 2e-3
    bounded: bool = False


def init(key: jax.Array, settings: Settings) -> list[dict[str, jax.Array]]:
    """Draw the weights (He et al. 2015); the last layer starts at zero, so that the denoiser starts as the identity."""
    sizes = [3, *[settings.width] * (settings.layers - 1), 1]
    weights = []
    for i, k in enumerate(jax.random.split(key, settings.layers)):
        scale = 0.0 if i == settings.layers - 1 else (2 / (9 * sizes[i])) ** 0.5
        weights.append(
            {
                "kernel": scale * jax.random.normal(k, (3, 3, sizes[i], sizes[i + 1])),
                "bias": jnp.zeros(sizes[i + 1]),
            }
        )
    return weights


def bounded(weights: list[dict[str, jax.Array]]) -> Any:
    """Return the weights with kernels of a spectral norm of at most one."""
    return network.bounded({"layers": weights})["layers"]


def noise_of(weights: Any, image: jax.Array, sigma: jax.Array) -> jax.Array:
    """Return sigma N(x, sigma) of one map (H, W)."""
    level = jnp.log10(jnp.maximum(sigma, 1e-6)) + 1.5  # about 0 for a medium level
    detail = (image - denoisers.box(image[..., None], 1)[..., 0]) / jnp.maximum(sigma, 1e-6)
    x = jnp.stack([jnp.clip(detail, -5, 5), 2 * image - 1, jnp.broadcast_to(level, image.shape)], axis=-1)
    for i, layer in enumerate(weights):
        x = convolve(x, layer["kernel"]) + layer["bias"][None, None]
        x = jax.nn.relu(x) if i < len(weights) - 1 else x
    return sigma * x[..., 0]  # the output of the network is in units of the noise


def sample(key: jax.Array, settings: Settings) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return clean maps (P, S, S), noise of variance one, and levels (P,)."""

    def one(k: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        field, length, contrast, noise, level = jax.random.split(k, 5)
        side = (settings.side, settings.side)
        maps = synthetic.abundance_field(
            field, side, 3,
            length=jax.random.uniform(length, (), minval=2.0, maxval=12.0),
            contrast=jax.random.uniform(contrast, (), minval=0.7, maxval=3.0),
        )  # fmt: skip
        sigma = jnp.exp(jax.random.uniform(level, (), minval=jnp.log(0.002), maxval=jnp.log(0.2)))
        return maps[..., 0], jax.random.normal(noise, side), sigma

    return jax.vmap(one)(jax.random.split(key, settings.patches))


@partial(jax.jit, static_argnums=1)
def train(key: jax.Array, settings: Settings) -> tuple[Any, jax.Array]:
    """Return the weights and the loss of each step, in units of the noise variance."""
    start, rest = jax.random.split(key)
    optimiser = optax.adam(optax.cosine_decay_schedule(settings.rate, settings.steps))

    def loss(weights: Any, k: jax.Array) -> jax.Array:
        clean, noise, sigma = sample(k, settings)
        weights = bounded(weights) if settings.bounded else weights
        predicted = jax.vmap(partial(noise_of, weights))(clean + sigma[:, None, None] * noise, sigma)
        return jnp.mean(jnp.square(predicted / sigma[:, None, None] - noise))

    def step(state: tuple[Any, Any], k: jax.Array) -> tuple[tuple[Any, Any], jax.Array]:
        weights, moments = state
        value, gradient = jax.value_and_grad(loss)(weights, k)
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
            change, moments = optimiser.update(gradient, moments)
        return (optax.apply_updates(weights, change), moments), value

    weights = init(start, settings)
    (weights, _), losses = lax.scan(step, (weights, optimiser.init(weights)), jax.random.split(rest, settings.steps))
    return bounded(weights) if settings.bounded else weights, losses


def denoiser(weights: Any) -> Denoiser:
    """Return the denoiser of abundance maps."""

    def denoise(maps: jax.Array, sigma: jax.Array) -> jax.Array:
        return maps - lax.map(lambda x: noise_of(weights, x, sigma), jnp.moveaxis(maps, -1, 0)).transpose(1, 2, 0)

    return denoise
