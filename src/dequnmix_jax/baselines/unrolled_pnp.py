"""Unrolled plug-and-play: the iteration of `plug_and_play`, unrolled, with a learned prior beside the denoiser.

    a <- argmin over the simplex of |y - a E|^2 + rho_k |a - z + u|^2
    z <- w_k D(a + u; sigma_k) + (1 - w_k) (a + u) + N_k(a + u),   sigma_k^2 = lambda / rho_k
    u <- u + a - z

in each of K = 5 layers; z is the FCLS answer and u is 0 before the first, and the estimate is the last a. The outer
prior D is a frozen denoiser that was trained beforehand on other maps. The inner prior N_k is learned on the scene: a
3 x 3 convolution whose kernel is a mixture of three, with dilations 1, 2 and 3, by softmax weights that depend on the
means of the maps (a dynamic convolution), then ReLU and a 3 x 3 convolution that starts at zero. rho_k (a logarithm),
w_k in [0, 1] and N_k are learned for each layer, or one for all (`tied`), and E too, by the loss mean spectral angle +
alpha MSE of the reconstruction of the scene itself.

At the start w_k = 1 and N_k = 0: plug-and-play unmixing with K iterations, exactly. lambda and the first rho follow
from the noise of the cube (`plug_and_play.ESTIMATED`).

A reconstruction after the abstract of Zhao, Tang and Chen, Unrolling plug-and-play network for hyperspectral unmixing,
IEEE TGRS 63, 2025 (arXiv 2409.04719): ADMM of plug-and-play unmixing, unrolled; inner priors learned in the layers,
outer priors from pretrained denoisers; a dynamic convolution at several scales, fused by attention. Dynamic
convolution: Chen et al., CVPR 2020.

Guessed: all sizes and the way in which the two priors meet; the a-step, that of the iteration which is unrolled; the
denoiser, `dncnn`; alpha, the rates, the decay and its steps, which are those of the public script of the same group for
its equilibrium model (AdamW, 0.01 for the network, 0.007 for E, x0.8 every 15 epochs, alpha 0.2), with 100 epochs as
for the equilibrium in our tables.
"""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from dequnmix_jax import metrics
from dequnmix_jax.abundances.least_squares import fcls
from dequnmix_jax.baselines import dncnn
from dequnmix_jax.baselines.method import Method, MethodResult
from dequnmix_jax.baselines.plug_and_play import ESTIMATED, Denoiser, constants, constrained_step
from dequnmix_jax.ops.convolution import convolve

_DILATIONS = (1, 2, 3)

_Carry = tuple[jax.Array, jax.Array, jax.Array]
"""a, z and u."""


@dataclass(frozen=True)
class Settings:
    """Size and training; `denoiser`: of the outer prior, where it is not given."""

    layers: int = 5
    tied: bool = False
    width: int = 16
    epochs: int = 100
    rate: float = 1e-2
    endmembers: float = 1e-3
    decay: float = 1e-5
    error: float = 0.2
    denoiser: dncnn.Settings = field(default_factory=dncnn.Settings)


def init(key: jax.Array, endmembers: jax.Array, rho: jax.Array, settings: Settings) -> dict[str, Any]:
    """Return the weights: those of the layers stacked (one layer if tied), and the endmembers (R, B)."""
    R, C = endmembers.shape[0], settings.width

    def one(k: jax.Array) -> dict[str, jax.Array]:
        return {
            "rho": jnp.log(rho),
            "outer": jnp.ones_like(rho),
            "kernels": (2 / (9 * R)) ** 0.5 * jax.random.normal(k, (len(_DILATIONS), 3, 3, R, C)),
            "bias": jnp.zeros(C),
            "attention": jnp.zeros((R, len(_DILATIONS))),
            "level": jnp.zeros(len(_DILATIONS)),
            "last": jnp.zeros((3, 3, C, R)),
        }

    layers = jax.vmap(one)(jax.random.split(key, 1 if settings.tied else settings.layers))
    return {"layers": layers, "endmembers": endmembers}


def dilated(kernels: jax.Array) -> jax.Array:
    """Return kernels (3, 3, 3, I, O) with the dilations 1, 2 and 3 as kernels (3, 7, 7, I, O)."""
    wide = jnp.zeros((len(_DILATIONS), 7, 7, *kernels.shape[3:]), kernels.dtype)
    for i, dilation in enumerate(_DILATIONS):
        rows, columns = np.ix_(3 + dilation * np.arange(-1, 2), 3 + dilation * np.arange(-1, 2))
        wide = wide.at[i, rows, columns].set(kernels[i])
    return wide


def inner(layer: dict[str, jax.Array], maps: jax.Array) -> jax.Array:
    """Return N_k of maps (H, W, R)."""
    shares = jax.nn.softmax(jnp.matmul(jnp.mean(maps, axis=(0, 1)), layer["attention"]) + layer["level"])
    kernel = jnp.einsum("d,dklio->klio", shares, dilated(layer["kernels"]))
    return convolve(jax.nn.relu(convolve(maps, kernel) + layer["bias"][None, None]), layer["last"])


def forward(
    weights: dict[str, Any], cube: jax.Array, first: jax.Array, noise: jax.Array, denoise: Denoiser, layers: int
) -> jax.Array:
    """Return the last a, (H, W, R); `first`: FCLS abundances, `noise`: lambda."""
    E = weights["endmembers"]

    def step(state: _Carry, layer: dict[str, jax.Array]) -> tuple[_Carry, None]:
        _, z, u = state
        rho = jnp.exp(layer["rho"])
        a = constrained_step(cube, E, z - u, rho)
        v = a + u
        z = layer["outer"] * denoise(v, jnp.sqrt(noise / rho)) + (1 - layer["outer"]) * v + inner(layer, v)
        return (a, z, u + a - z), None

    stacked = weights["layers"]
    if stacked["rho"].shape[0] == 1:  # tied
        stacked = jax.tree.map(lambda x: jnp.broadcast_to(x, (layers, *x.shape[1:])), stacked)
    (a, _, _), _ = lax.scan(step, (first, first, jnp.zeros_like(first)), stacked)
    return a


def loss(
    weights: dict[str, Any], cube: jax.Array, first: jax.Array, noise: jax.Array, denoise: Denoiser, settings: Settings
) -> jax.Array:
    """Return the mean spectral angle + alpha MSE of the reconstruction."""
    rebuilt = jnp.matmul(forward(weights, cube, first, noise, denoise, settings.layers), weights["endmembers"])
    return metrics.mean_spectral_angle(cube, rebuilt) + settings.error * jnp.mean(jnp.square(rebuilt - cube))


def unrolled_pnp(settings: Settings | None = None, denoise: Denoiser | None = None) -> Method:
    """Return the method; without a denoiser a `dncnn` is trained first, on generated maps drawn from the key."""
    settings = Settings() if settings is None else settings
    rate = optax.exponential_decay(1.0, 15, 0.8, staircase=True)
    optimiser = optax.chain(
        optax.scale_by_adam(), optax.add_decayed_weights(settings.decay), optax.scale_by_schedule(rate)
    )

    def estimate(key: jax.Array, cube: jax.Array, start: jax.Array) -> MethodResult:
        draw, rest = jax.random.split(key)
        D = dncnn.denoiser(dncnn.train(rest, settings.denoiser)[0]) if denoise is None else denoise
        peak = jnp.max(jnp.abs(cube))
        Y, E = cube / peak, start / peak
        first = fcls(Y, E)
        noise, rho = constants(Y, E, ESTIMATED)
        weights = init(draw, E, rho, settings)

        def step(state: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], None]:
            weights, moments = state
            gradient = jax.grad(loss)(weights, Y, first, noise, D, settings)
            with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
                change, moments = optimiser.update(gradient, moments, weights)
            layers = jax.tree.map(lambda w, c: w - settings.rate * c, weights["layers"], change["layers"])
            layers["outer"] = jnp.clip(layers["outer"], 0, 1)
            E = weights["endmembers"] - settings.endmembers * change["endmembers"]
            return ({"layers": layers, "endmembers": jnp.maximum(E, 1e-5)}, moments), None

        (weights, _), _ = lax.scan(step, (weights, optimiser.init(weights)), None, length=settings.epochs)
        return MethodResult(forward(weights, Y, first, noise, D, settings.layers), weights["endmembers"] * peak)

    return Method(f"unrolled PnP-DnCNN, {'tied' if settings.tied else 'untied'}", estimate)
