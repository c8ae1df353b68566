"""AE-RED: an autoencoder with regularisation by denoising, alternated by ADMM.

    min over theta, E, Z of |Y - a_theta(Y) E|^2 / 2 + lambda Z . (Z - D(Z)) / 2   subject to  Z = a_theta(Y)

    theta, E <- some steps of Adam on |Y - a E|^2 / 2 + rho |a - Z + U|^2 / 2,  a = a_theta(Y)
    Z        <- (lambda D(Z) + rho (a + U)) / (lambda + rho)                    the fixed point of the second problem
    U        <- U + a - Z

Zhao, Chen and Dobigeon, AE-RED, IEEE TGRS 62, 2024 (arXiv 2307.00269); regularisation by denoising: Romano, Elad and
Milanfar, SIAM Journal on Imaging Sciences 10(4), 2017. The abundances are the last a_theta(Y), the endmembers the
weights of the decoder, initialised with VCA's spectra and kept above zero.

Only an outline of the paper was available. Guessed: the encoder (B -> 64 by 1 x 1, 64 -> 32 by 3 x 3, 32 -> R by
1 x 1 convolutions, leaky ReLU, softmax), non-local means as D, 30 rounds of 10 steps at a rate of 1e-3, one step of the
fixed point per round, and the constants. These follow from the noise estimated from the cube, as in
`plug_and_play.ESTIMATED`: sigma is the noise of the abundances, rho the ratio of variances, lambda = rho. Cubes have
maximum one.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from dequnmix_jax.abundances.least_squares import fcls
from dequnmix_jax.baselines import denoisers
from dequnmix_jax.baselines.method import Method, MethodResult
from dequnmix_jax.baselines.plug_and_play import Denoiser, abundance_noise
from dequnmix_jax.ops.convolution import convolve


@dataclass(frozen=True)
class Settings:
    """Constants of the network and of the alternation; `strength` is lambda / rho."""

    widths: tuple[int, int] = (64, 32)
    rounds: int = 30
    steps: int = 10
    rate: float = 1e-3
    strength: float = 1.0


def init(key: jax.Array, bands: int, endmembers: jax.Array, settings: Settings) -> dict[str, Any]:
    """Draw the encoder (He et al. 2015); the decoder holds the endmembers."""
    first, second, last = jax.random.split(key, 3)
    a, b = settings.widths
    R = endmembers.shape[0]

    def draw(k: jax.Array, side: int, inputs: int, outputs: int) -> dict[str, jax.Array]:
        w = (2 / (side**2 * inputs)) ** 0.5 * jax.random.normal(k, (side, side, inputs, outputs))
        return {"w": w, "b": jnp.zeros(outputs)}

    return {
        "encoder": [draw(first, 1, bands, a), draw(second, 3, a, b), draw(last, 1, b, R)],
        "endmembers": endmembers,
    }


def encode(weights: dict[str, Any], cube: jax.Array) -> jax.Array:
    """Return the abundances a_theta(Y), (H, W, R)."""
    x = cube
    for i, layer in enumerate(weights["encoder"]):
        x = jnp.matmul(x, layer["w"][0, 0]) if layer["w"].shape[0] == 1 else convolve(x, layer["w"])
        x = x + layer["b"][None, None]
        x = jax.nn.leaky_relu(x, 0.01) if i < 2 else jax.nn.softmax(x, axis=-1)
    return x


def augmented(weights: dict[str, Any], cube: jax.Array, target: jax.Array, rho: jax.Array) -> jax.Array:
    """Return the objective of the first problem per pixel: (|y - a E|^2 + rho |a - target|^2) / 2, target = Z - U."""
    A = encode(weights, cube)
    data = jnp.sum(jnp.square(cube - jnp.matmul(A, weights["endmembers"])), axis=-1)
    return jnp.mean(data + rho * jnp.sum(jnp.square(A - target), axis=-1)) / 2


def ae_red(settings: Settings | None = None, denoise: Denoiser = denoisers.non_local_means) -> Method:
    """Return the method with a denoiser."""
    settings = Settings() if settings is None else settings
    optimiser = optax.adam(settings.rate)

    def estimate(key: jax.Array, cube: jax.Array, start: jax.Array) -> MethodResult:
        peak = jnp.max(jnp.abs(cube))
        Y, E = cube / peak, start / peak
        v, sigma = abundance_noise(Y, E)
        rho = v / jnp.maximum(jnp.square(sigma), jnp.finfo(Y.dtype).tiny)
        weights = init(key, Y.shape[-1], E, settings)

        def descend(state: tuple[Any, Any], target: jax.Array) -> tuple[Any, Any]:
            def step(state: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], None]:
                weights, moments = state
                gradient = jax.grad(augmented)(weights, Y, target, rho)
                with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
                    change, moments = optimiser.update(gradient, moments)
                weights = optax.apply_updates(weights, change)
                return (weights | {"endmembers": jnp.maximum(weights["endmembers"], 1e-6)}, moments), None

            return lax.scan(step, state, None, length=settings.steps)[0]

        def turn(carry: tuple[Any, ...], _: None) -> tuple[tuple[Any, ...], None]:
            state, Z, U = carry
            state = descend(state, Z - U)
            a = encode(state[0], Y)
            Z = (settings.strength * denoise(Z, sigma) + a + U) / (settings.strength + 1)
            return (state, Z, U + a - Z), None

        Z = fcls(Y, E)
        carry = ((weights, optimiser.init(weights)), Z, jnp.zeros_like(Z))
        (state, _, _), _ = lax.scan(turn, carry, None, length=settings.rounds)
        return MethodResult(encode(state[0], Y), state[0]["endmembers"] * peak)

    return Method("AE-RED", estimate)
