"""What the networks among the competitors share: layers as two frameworks define them, and a training in one scan.

Weights are dictionaries of arrays, images (..., H, W, C). Two frameworks, because the authors' scripts rely on their
defaults: PyTorch draws weights and biases of a layer with n inputs uniformly in [-n^-1/2, n^-1/2] (or normal with
variance 2 / n, He et al. 2015), Keras draws weights uniformly in +-(6 / (inputs + outputs))^1/2 (Glorot & Bengio 2010)
and starts biases at zero.
"""

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from dequnmix_jax.ops.convolution import convolve

Weights = dict[str, Any]


def torch_layer(key: jax.Array, shape: tuple[int, ...], bias: bool = True, he: bool = False) -> Weights:
    """Draw a layer (..., inputs, outputs), all axes before the last counted as inputs, as PyTorch does."""
    a, b = jax.random.split(key)
    n = math.prod(shape[:-1])
    bound = n**-0.5
    if he:
        w = (2 / n) ** 0.5 * jax.random.normal(a, shape)
    else:
        w = jax.random.uniform(a, shape, minval=-bound, maxval=bound)
    return {"w": w} | ({"b": jax.random.uniform(b, shape[-1:], minval=-bound, maxval=bound)} if bias else {})


def keras_layer(key: jax.Array, shape: tuple[int, ...], bias: bool = True) -> Weights:
    """Draw a layer (..., inputs, outputs) as Keras does."""
    bound = (6 / (math.prod(shape[:-2]) * (shape[-2] + shape[-1]))) ** 0.5
    w = jax.random.uniform(key, shape, minval=-bound, maxval=bound)
    return {"w": w} | ({"b": jnp.zeros(shape[-1:])} if bias else {})


def add(x: jax.Array, b: jax.Array) -> jax.Array:
    """Return x + b, b (C) along the last axis."""
    return x + b.reshape((1,) * (x.ndim - 1) + (-1,))


def dense(layer: Weights, x: jax.Array) -> jax.Array:
    """Apply a linear layer to the last axis: (..., I) -> (..., O)."""
    y = jnp.matmul(x, layer["w"])
    return add(y, layer["b"]) if "b" in layer else y


def conv(layer: Weights, x: jax.Array) -> jax.Array:
    """Apply a convolution with zero padding that keeps the size: (..., H, W, I) -> (..., H, W, O), up to one `...`."""
    w = layer["w"]
    if w.shape[:2] == (1, 1):
        return dense(layer | {"w": w[0, 0]}, x)
    y = convolve(x, w) if x.ndim == 3 else jax.vmap(convolve, (0, None))(x, w)
    return add(y, layer["b"]) if "b" in layer else y


def conv_by_two(layer: Weights, x: jax.Array) -> jax.Array:
    """Apply a 3 x 3 convolution of stride two, a row and a column of zeros around: (H, W, I) -> (ceil(H/2), .., O).

    As one matrix product: XLA's CPU compiler has no fast derivative of a convolution with a stride inside a loop.
    """
    rows, columns = -(-x.shape[0] // 2), -(-x.shape[1] // 2)
    padded = jnp.pad(x, ((1, 2), (1, 2), (0, 0)))
    shifted = [padded[i : i + 2 * rows : 2, j : j + 2 * columns : 2] for i in range(3) for j in range(3)]
    w = layer["w"].reshape(-1, layer["w"].shape[-1])
    return add(jnp.matmul(jnp.concatenate(shifted, axis=-1), w), layer["b"])


def norm(size: int) -> Weights:
    """Return the scale and the shift of a normalisation."""
    return {"scale": jnp.ones(size), "shift": jnp.zeros(size)}


def fresh(size: int) -> tuple[jax.Array, jax.Array]:
    """Return running statistics before the first step: mean 0, variance 1."""
    return jnp.zeros(size), jnp.ones(size)


Running = tuple[jax.Array, jax.Array]


def batch_norm(
    weights: Weights, x: jax.Array, running: Running, share: float | None, epsilon: float = 1e-5, unbiased: bool = True
) -> tuple[jax.Array, Running]:
    """Normalise each channel, and return the running mean and variance too.

    In training, by the statistics of this batch; running <- (1 - share) running + share batch, `unbiased`: with its
    variance divided by n - 1, as in PyTorch. In evaluation (`share` None), by the running ones.
    """
    mean, variance = running
    if share is not None:
        axes = tuple(range(x.ndim - 1))
        n = x.size // x.shape[-1]
        m = jnp.mean(x, axis=axes)
        v = jnp.mean(jnp.square(add(x, -m)), axis=axes)
        kept = v * (n / max(n - 1, 1)) if unbiased else v
        running = (mean + share * (m - mean), variance + share * (kept - variance))
        mean, variance = m, v
    gain = weights["scale"] / jnp.sqrt(variance + epsilon) if "scale" in weights else 1 / jnp.sqrt(variance + epsilon)
    gain = gain.reshape((1,) * (x.ndim - 1) + (-1,))
    return add(add(x, -mean) * gain, weights["shift"]), running


def layer_norm(weights: Weights, x: jax.Array) -> jax.Array:
    """Normalise each position over its channels."""
    mean = jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(x - mean), axis=-1, keepdims=True)
    gain = weights["scale"].reshape((1,) * (x.ndim - 1) + (-1,))
    return add((x - mean) / jnp.sqrt(variance + 1e-5) * gain, weights["shift"])


def dropout(chance: jax.Array | None, x: jax.Array, rate: float) -> jax.Array:
    """Set the parts with a chance below `rate` to zero and divide the rest by the share kept; None: all is kept.

    `chance`: uniform in [0, 1), of the shape of x, with axes of 1 where neighbours share a fate (whole maps, whole
    branches). A network draws all its chances at once, because each draw costs compile time.
    """
    if chance is None or rate == 0:
        return x
    return jnp.where(chance >= rate, x / (1 - rate), 0)


def shares(z: jax.Array) -> jax.Array:
    """Divide nonnegative numbers by their sum along the last axis; 1/R where all are zero."""
    total = jnp.sum(z, axis=-1, keepdims=True)
    some = total > 0
    return jnp.where(some, z / jnp.where(some, total, 1), 1 / z.shape[-1])


def pooled(x: jax.Array, size: int, axis: int = -1) -> jax.Array:
    """Return the maxima of `size` neighbours along an axis; what is left over at the end counts for nothing.

    By comparisons: the derivative of `jnp.max` divides by the number of entries that equal the maximum, and where a
    compiler rounds an entry and the maximum of a fused program differently there is none.
    """
    n = x.shape[axis] // size
    parts = [lax.slice_in_dim(x, i, n * size, size, axis) for i in range(size)]
    return reduce(lambda a, b: jnp.where(a >= b, a, b), parts)


def limited(x: jax.Array, lower: float, upper: float) -> jax.Array:
    """Return x kept in [lower, upper], by comparisons, as in `pooled`; the derivative outside is 0."""
    return jnp.where(x < lower, lower, jnp.where(x > upper, upper, x))


def brightness(cube: jax.Array, reconstruction: jax.Array) -> jax.Array:
    """Return the factor of a reconstruction that is nearest to the cube, (): an angle as loss leaves it open."""
    power = jnp.sum(jnp.square(reconstruction))
    return jnp.sum(cube * reconstruction) / jnp.where(power > 0, power, 1)


def adam(
    rate: float, decay: float = 0.0, factor: float = 1.0, every: int = 1, first: float = 0.9, early: int = 0
) -> optax.GradientTransformation:
    """Return Adam with weight decay in the gradient, the rate times `factor` after each `every` steps.

    `first` is Adam's beta1; `early`: steps by which the schedule is ahead.
    """
    return optax.chain(
        optax.add_decayed_weights(decay),
        optax.scale_by_adam(b1=first),
        optax.scale_by_schedule(lambda count: -rate * factor ** ((count + early) // every)),
    )


def by_part(network: optax.GradientTransformation, endmembers: optax.GradientTransformation) -> Any:
    """Return an optimiser with its own rule for `weights["endmembers"]`."""
    return optax.multi_transform(
        {"network": network, "endmembers": endmembers},
        lambda weights: {name: name if name == "endmembers" else "network" for name in weights},
    )


def clipped(gradient: Any, most: float) -> Any:
    """Return a gradient shortened to an L1 norm of at most `most`."""
    total = sum(jnp.sum(jnp.abs(g)) for g in jax.tree.leaves(gradient))
    factor = jnp.minimum(most / (total + 1e-6), 1)
    return jax.tree.map(lambda g: factor * g, gradient)


Loss = Callable[[Any, Any, Any], tuple[jax.Array, Any]]
"""(weights, running statistics, what a step is given) -> loss, running statistics."""


def train(
    loss: Loss,
    weights: Any,
    running: Any,
    optimiser: optax.GradientTransformation,
    given: Any,
    project: Callable[[Any], Any] = lambda weights: weights,
    most: float | None = None,
) -> tuple[Any, Any]:
    """Descend, a step for each entry of `given`; return weights and running statistics.

    `project` follows each step; `most`: L1 norm of a gradient.
    """

    def step(state: tuple[Any, Any, Any], each: Any) -> tuple[tuple[Any, Any, Any], None]:
        weights, running, moments = state
        gradient, running = jax.grad(loss, has_aux=True)(weights, running, each)
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
            gradient = gradient if most is None else clipped(gradient, most)
            change, moments = optimiser.update(gradient, moments, weights)
            weights = project(optax.apply_updates(weights, change))
        return (weights, running, moments), None

    (weights, running, _), _ = lax.scan(step, (weights, running, optimiser.init(weights)), given)
    return weights, running


def epochs(key: jax.Array, count: int, size: int, rounds: int) -> tuple[jax.Array, jax.Array]:
    """Return the members of each batch, (steps, size), and a key for each step.

    Each round is a new order of `count` members; its last batch is filled up from its beginning.
    """
    order, chance = jax.random.split(key)
    steps = -(-count // size)

    def one(k: jax.Array) -> jax.Array:
        members = jax.random.permutation(k, count)
        return jnp.resize(members, (steps * size,)).reshape(steps, size)

    members = jax.vmap(one)(jax.random.split(order, rounds)).reshape(-1, size)
    return members, jax.random.split(chance, rounds * steps)
