"""SNMF-Net: alternating steps of Lp-sparse factorisation, unrolled, with learned steps.

    A <- normalise(relu(S_p(A - l (A E - Y) W; theta)))    W (B, R), at first that of least coherence, E W = I
    E <- relu(E - m A_0^T (A E - Y) / N)                   A_0 the start (FCLS), N the number of pixels

in each of 9 layers, S_p the generalised thresholding of the Lp quasi-norm with threshold theta: 0 up to
t = (2 (1 - p) theta)^(1 / (2 - p)) + p theta (2 (1 - p) theta)^((p - 1) / (2 - p)), above it x - p theta x^(p - 1).
Each layer has its own l, m, theta (R), p and W. Trained on the mean over layers of |Y - A E|^2 of the scene itself.

Xiong, Zhou, Tao, Lu and Qian, SNMF-Net: learning a deep alternating neural network for hyperspectral unmixing, IEEE
TGRS 60, 2022. From the authors' public code: 9 layers, l = 1 / (lambda_max(E E^T) + 0.1), m likewise of A_0^T A_0,
theta = 0.01 l, p = 0.5 at the start, W of least coherence, abundances divided by their sum. That W is the
pseudoinverse: its coherence |E W|_F^2 is R, the least that a diagonal of ones allows.

Guessed: the optimiser. The code's first rate, 2 for a step length of about 0.01, goes with its own data; here all
positive numbers are learned as logarithms, at 0.01, W at 0.001 of its RMS, by 300 steps of Adam without decay, on 2000
pixels drawn once (there 500 of 4096). N is in the step of E, so that a step learned on some pixels suits all. Where a
threshold takes all of a pixel, it gets 1/R.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from dequnmix_jax.abundances.least_squares import fcls
from dequnmix_jax.baselines.method import Method, MethodResult


@dataclass(frozen=True)
class Settings:
    """Depth and training."""

    layers: int = 9
    steps: int = 300
    pixels: int = 2000
    rate: float = 1e-2
    filters: float = 1e-3


def threshold(x: jax.Array, theta: jax.Array, p: jax.Array) -> jax.Array:
    """Return S_p(x; theta) for x of any sign; what is not above the threshold becomes 0."""
    base = 2 * (1 - p) * theta
    t = base ** (1 / (2 - p)) + p * theta * base ** ((p - 1) / (2 - p))
    above = x > t
    safe = jnp.where(above, x, 1)
    return jnp.where(above, safe - p * theta * safe ** (p - 1), 0)


def init(endmembers: jax.Array, abundances: jax.Array, settings: Settings) -> dict[str, jax.Array]:
    """Return the weights of all layers, stacked; the numbers as logarithms, p as a logit."""
    maps = abundances.reshape(-1, abundances.shape[-1])
    inner = 1 / (jnp.linalg.eigvalsh(jnp.matmul(endmembers, endmembers.T))[-1] + 0.1)
    outer = 1 / (jnp.linalg.eigvalsh(jnp.matmul(maps.T, maps) / maps.shape[0])[-1] + 0.1 / maps.shape[0])
    one = {
        "inner": jnp.log(inner),
        "outer": jnp.log(outer),
        "theta": jnp.full(endmembers.shape[0], jnp.log(0.01 * inner)),
        "p": jnp.zeros_like(inner),
        "filters": jnp.linalg.pinv(endmembers),
    }
    return jax.tree.map(lambda x: jnp.stack([x] * settings.layers), one)


def forward(
    weights: dict[str, jax.Array], cube: jax.Array, endmembers: jax.Array, abundances: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return abundances and endmembers of the last layer, and the mean squared error of each."""

    def layer(state: tuple[jax.Array, jax.Array], w: dict[str, jax.Array]) -> tuple[Any, jax.Array]:
        A, E = state
        stepped = A - jnp.exp(w["inner"]) * jnp.matmul(jnp.matmul(A, E) - cube, w["filters"])
        sparse = threshold(stepped, jnp.exp(w["theta"])[None, None], jax.nn.sigmoid(w["p"]))
        sparse = jnp.clip(sparse, 0, 1)
        total = jnp.sum(sparse, axis=-1, keepdims=True)
        A = jnp.where(total > 0, sparse / jnp.where(total > 0, total, 1), 1 / A.shape[-1])
        slope = jnp.einsum("hwr,hwb->rb", abundances, jnp.matmul(A, E) - cube) / (cube.shape[0] * cube.shape[1])
        E = jax.nn.relu(E - jnp.exp(w["outer"]) * slope)
        return (A, E), jnp.mean(jnp.square(jnp.matmul(A, E) - cube))

    (A, E), errors = lax.scan(layer, (abundances, endmembers), weights)
    return A, E, errors


def snmf_net(settings: Settings | None = None) -> Method:
    """Return the method."""
    settings = Settings() if settings is None else settings

    def estimate(key: jax.Array, cube: jax.Array, start: jax.Array) -> MethodResult:
        peak = jnp.max(jnp.abs(cube))
        Y, E = cube / peak, start / peak
        A = fcls(Y, E)
        weights = init(E, A, settings)
        total = Y.shape[0] * Y.shape[1]
        drawn = jax.random.choice(key, total, (min(settings.pixels, total),), replace=False)
        some, maps = (x.reshape(1, total, -1)[:, drawn] for x in (Y, A))
        size = jnp.sqrt(jnp.mean(jnp.square(weights["filters"])))
        adam = optax.scale_by_adam()

        def step(state: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], None]:
            weights, moments = state
            gradient = jax.grad(lambda w: jnp.mean(forward(w, some, E, maps)[2]))(weights)
            with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
                change, moments = adam.update(gradient, moments)
            rates = dict.fromkeys(weights, settings.rate) | {"filters": settings.filters * size}
            return ({name: w - rates[name] * change[name] for name, w in weights.items()}, moments), None

        (weights, _), _ = lax.scan(step, (weights, adam.init(weights)), None, length=settings.steps)
        shares, spectra, _ = forward(weights, Y, E, A)
        return MethodResult(shares, spectra * peak)

    return Method("SNMF-Net", estimate)
