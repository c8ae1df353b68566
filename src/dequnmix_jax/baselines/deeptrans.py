"""DeepTrans: an autoencoder with a transformer between patches, whose decoder's weights are the endmembers.

    encoder   1 x 1 convolutions B -> 128 -> 64 -> d R / p^2, each with batch normalisation; dropout; leaky ReLU
    tokens    patches p x p, flattened: d R numbers each, and a class token before them; + a position for each
    blocks    twice: x <- [c + attention(c; x), LN(rest)], x <- x + MLP(LN x); the class token c is the only query (8
    heads) head      the class token as R rows of d numbers, a linear layer d -> H W, a 3 x 3 convolution, softmax over
    R decoder   y^ = relu(a E), E >= 1e-6, initialised with VCA's spectra loss      beta mean (y^ - y)^2 + gamma sum of
    the spectral angles

Ghosh, Roy, Koirala, Rasti and Scheunders, Hyperspectral unmixing using transformer network, IEEE TGRS 60, 2022.
Constants of the authors' public script for Samson (`Settings`): p 5, d 200, beta 5000, gamma 0.03, Adam 6e-3 with
weight decay 4e-5 (in the gradient), x0.8 every 15 epochs, 200 epochs, gradients clipped to an L1 norm of 10, stochastic
depth 0.15.

Guessed: the same constants for all scenes (the script tunes the rate and gamma to each scene by its reference); cubes
are scaled to maximum one, as the authors' files are; the scene is mirrored at its lower and right edges up to a
multiple of p. Evaluation uses the running means of the batch normalisation, as the script does.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from dequnmix_jax import metrics
from dequnmix_jax.baselines.method import Method, MethodResult
from dequnmix_jax.ops.convolution import convolve


@dataclass(frozen=True)
class Settings:
    """Constants of the network and of its training."""

    patch: int = 5
    width: int = 200
    heads: int = 8
    blocks: int = 2
    hidden: int = 12
    error: float = 5e3
    angle: float = 3e-2
    rate: float = 6e-3
    decay: float = 4e-5
    clip: float = 10.0
    dropout: float = 0.25
    depth: float = 0.15
    epochs: int = 200


_MOMENTA = (0.9, 0.9, 0.5)
"""Share of the newest mean and variance in the running ones, of the three normalisations."""


def _linear(key: jax.Array, inputs: int, outputs: int, bias: bool = True, he: bool = False) -> dict[str, jax.Array]:
    """Draw a linear layer as the authors' framework does: uniform, or normal with variance 2 / inputs (He)."""
    a, b = jax.random.split(key)
    bound = inputs**-0.5
    w = (2**0.5 * bound) * jax.random.normal(a, (inputs, outputs))
    layer = {"w": w if he else jax.random.uniform(a, (inputs, outputs), minval=-bound, maxval=bound)}
    return layer | {"b": jax.random.uniform(b, (outputs,), minval=-bound, maxval=bound)} if bias else layer


def _norm(size: int) -> dict[str, jax.Array]:
    return {"scale": jnp.ones(size), "shift": jnp.zeros(size)}


def init(key: jax.Array, shape: tuple[int, int, int], endmembers: jax.Array, settings: Settings) -> dict[str, Any]:
    """Draw the weights for a scene (H, W, B), H and W multiples of the patch."""
    rows, columns, bands = shape
    R, d, p = endmembers.shape[0], settings.width, settings.patch
    sizes = (bands, 128, 64, d * R // p**2)
    if d * R % p**2 or d * R % settings.heads:
        raise ValueError(f"width {d} times {R} endmembers must be divisible by patch^2 = {p**2} and by the heads.")
    keys = iter(jax.random.split(key, 12 + 8 * settings.blocks))
    blocks = [
        {
            "before": _norm(d * R),
            "query": _linear(next(keys), d * R, d * R, bias=False),
            "key": _linear(next(keys), d * R, d * R, bias=False),
            "value": _linear(next(keys), d * R, d * R, bias=False),
            "out": _linear(next(keys), d * R, d * R),
            "mlp_norm": _norm(d * R),
            "up": _linear(next(keys), d * R, settings.hidden),
            "down": _linear(next(keys), settings.hidden, d * R),
        }
        for _ in range(settings.blocks)
    ]
    return {
        "encoder": [_linear(next(keys), i, o, he=True) | {"norm": _norm(o)} for i, o in pairwise(sizes)],
        "class": jax.random.normal(next(keys), (1, d * R)),
        "positions": jax.random.normal(next(keys), (rows * columns // p**2 + 1, d * R)),
        "rest": _norm(d * R),  # the script shares it between the blocks
        "blocks": blocks,
        "upscale": _linear(next(keys), d, rows * columns),
        "smooth": {
            "w": (2 / (9 * R)) ** 0.5 * jax.random.normal(next(keys), (3, 3, R, R)),
            "b": jax.random.uniform(next(keys), (R,), minval=-((9 * R) ** -0.5), maxval=(9 * R) ** -0.5),
        },
        "endmembers": endmembers,
    }


def _apply(layer: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    y = jnp.matmul(x, layer["w"])
    return y + layer["b"].reshape((1,) * (y.ndim - 1) + (-1,)) if "b" in layer else y


def _layer_norm(weights: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    mean = jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(x - mean), axis=-1, keepdims=True)
    return (x - mean) / jnp.sqrt(variance + 1e-5) * weights["scale"][None] + weights["shift"][None]


def _attend(weights: dict[str, Any], x: jax.Array, heads: int) -> jax.Array:
    """Return the attention of the class token, the first row of (N, D), to all: (1, D)."""
    size = x.shape[1] // heads
    q = _apply(weights["query"], x[:1]).reshape(heads, size)
    k, v = (_apply(weights[name], x).reshape(-1, heads, size) for name in ("key", "value"))
    share = jax.nn.softmax(jnp.einsum("hc,nhc->hn", q, k) / size**0.5, axis=-1)
    return _apply(weights["out"], jnp.einsum("hn,nhc->hc", share, v).reshape(1, -1))


def abundances(
    weights: dict[str, Any], cube: jax.Array, settings: Settings, running: Any, key: jax.Array | None = None
) -> tuple[jax.Array, Any]:
    """Return abundances (H, W, R) and the running statistics; `key`: dropout and batch statistics, as in training."""
    rows, columns, _ = cube.shape
    R, p = weights["endmembers"].shape[0], settings.patch
    x, kept = cube, []
    for i, (layer, (mean, variance)) in enumerate(zip(weights["encoder"], running, strict=True)):
        x = _apply(layer, x)
        if key is not None:
            n = rows * columns
            m = jnp.mean(x, axis=(0, 1))
            v = jnp.mean(jnp.square(x - m[None, None]), axis=(0, 1))
            t = _MOMENTA[i]
            kept.append((mean + t * (m - mean), variance + t * (v * (n / (n - 1)) - variance)))
            mean, variance = m, v
        x = (x - mean[None, None]) / jnp.sqrt(variance + 1e-5)[None, None]
        x = x * layer["norm"]["scale"][None, None] + layer["norm"]["shift"][None, None]
        if i == 0 and key is not None:
            keep = jax.random.bernoulli(jax.random.fold_in(key, 0), 1 - settings.dropout, x.shape)
            x = jnp.where(keep, x / (1 - settings.dropout), 0)
        x = jax.nn.leaky_relu(x, 0.01) if i < 2 else x
    x = x.reshape(rows // p, p, columns // p, p, -1).transpose(0, 2, 1, 3, 4).reshape(-1, p * p * x.shape[-1])
    x = jnp.concatenate([weights["class"], x]) + weights["positions"]
    for i, block in enumerate(weights["blocks"]):
        normed = _layer_norm(block["before"], x)
        drawn = _attend(block, normed, settings.heads)
        if key is not None:  # stochastic depth (Huang et al. 2016): the branch is dropped at random
            keep = jax.random.bernoulli(jax.random.fold_in(key, 1 + i), 1 - settings.depth)
            drawn = jnp.where(keep, drawn / (1 - settings.depth), 0)
        x = jnp.concatenate([normed[:1] + drawn, _layer_norm(weights["rest"], x[1:])])
        inner = jax.nn.gelu(_apply(block["up"], _layer_norm(block["mlp_norm"], x)), approximate=False)
        x = x + _apply(block["down"], inner)
    maps = _apply(weights["upscale"], x[0].reshape(R, settings.width)).reshape(R, rows, columns).transpose(1, 2, 0)
    maps = convolve(maps, weights["smooth"]["w"]) + weights["smooth"]["b"][None, None]
    return jax.nn.softmax(maps, axis=-1), kept


def loss(
    weights: dict[str, Any], cube: jax.Array, settings: Settings, running: Any, key: jax.Array
) -> tuple[jax.Array, Any]:
    """Return beta MSE + gamma sum of angles, and the running statistics."""
    A, kept = abundances(weights, cube, settings, running, key)
    rebuilt = jax.nn.relu(jnp.matmul(A, weights["endmembers"]))
    angles = jnp.sum(metrics.spectral_angle(cube, rebuilt))
    return settings.error * jnp.mean(jnp.square(rebuilt - cube)) + settings.angle * angles, kept


def deeptrans(settings: Settings | None = None) -> Method:
    """Return the method."""
    settings = Settings() if settings is None else settings
    decay = optax.exponential_decay(settings.rate, 15, 0.8, staircase=True)
    optimiser = optax.chain(
        optax.add_decayed_weights(settings.decay), optax.scale_by_adam(), optax.scale_by_schedule(decay)
    )

    def clipped(gradient: Any) -> Any:
        norm = sum(jnp.sum(jnp.abs(g)) for g in jax.tree.leaves(gradient))
        factor = jnp.minimum(settings.clip / (norm + 1e-6), 1)
        return jax.tree.map(lambda g: factor * g, gradient)

    def estimate(key: jax.Array, cube: jax.Array, start: jax.Array) -> MethodResult:
        draw, rest = jax.random.split(key)
        peak = jnp.max(jnp.abs(cube))
        rows, columns, bands = cube.shape
        missing = [(0, -n % settings.patch) for n in (rows, columns)]
        Y = jnp.pad(cube / peak, [*missing, (0, 0)], mode="symmetric")
        weights = init(draw, (Y.shape[0], Y.shape[1], bands), start / peak, settings)
        running = [(jnp.zeros_like(x["b"]), jnp.ones_like(x["b"])) for x in weights["encoder"]]

        def step(state: tuple[Any, Any, Any], k: jax.Array) -> tuple[tuple[Any, Any, Any], None]:
            weights, running, moments = state
            gradient, kept = jax.grad(loss, has_aux=True)(weights, Y, settings, running, k)
            with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
                change, moments = optimiser.update(clipped(gradient), moments, weights)
            weights = jax.tree.map(lambda w, c: w - c, weights, change)
            weights["endmembers"] = jnp.clip(weights["endmembers"], 1e-6, 1)
            return (weights, kept, moments), None

        state = (weights, running, optimiser.init(weights))
        (weights, running, _), _ = lax.scan(step, state, jax.random.split(rest, settings.epochs))
        A, _ = abundances(weights, Y, settings, running)
        return MethodResult(A[:rows, :columns], weights["endmembers"] * peak)

    return Method("DeepTrans", estimate)
