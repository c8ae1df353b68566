r"""Bundles with group sparsity: FCLS on a library of several spectra a class, few classes in a pixel.

    Q: VCA on 5 random subsets of 20 % of the pixels each, 5 spectra a class
    min over x on the simplex of |y - x Q|^2 / 2 + weight sum over classes g of p(x_g)
    group: p = |x_g|_2;   elitist: p = |x_g|_1^2 / 2
    a_g = sum of x_g

The group norm takes whole classes away; the elitist one leaves few spectra of each class. By the alternating direction
method, one copy for the penalty and one on the simplex.

Drumetz, Meyer, Chanussot, Bertozzi and Jutten, Hyperspectral image unmixing with endmember bundles and group sparsity
inducing mixed norms, IEEE TIP 28(7), 2019. From the public variability toolbox: five subsets of 20 %, the weight 2 of
the group norm and 0.5 of the elitist one, a penalty of 10, 1000 steps, 1e-6. Guessed: the spectra of a subset belong to
the classes of the start by the assignment of least total angle, which gives clusters of equal size; the spectrum of a
class is the mean of its spectra by their share. The fractional norm of the paper is not here.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from dequnmix_jax.abundances.admm import data_step, shrink_length
from dequnmix_jax.baselines.method import Method, MethodResult
from dequnmix_jax.endmembers.pure_pixel import vca
from dequnmix_jax.metrics import align
from dequnmix_jax.mixing import project_simplex
from dequnmix_jax.ops import lapack
from dequnmix_jax.ops.guards import nonzero

GROUP, ELITIST = "group", "elitist"


@dataclass(frozen=True)
class Settings:
    """The library and the penalty; see the module."""

    norm: str = GROUP
    weight: float = 2.0
    subsets: int = 5
    share: float = 0.2
    penalty: float = 10.0
    steps: int = 1000
    tolerance: float = 1e-6


def library(key: jax.Array, cube: jax.Array, start: jax.Array, settings: Settings) -> jax.Array:
    """Return Q (subsets, R, B): in each row the spectra of one subset, in the order of the classes of the start."""
    pixels = cube.reshape(-1, cube.shape[2])
    size = max(int(settings.share * pixels.shape[0]), start.shape[0])

    def one(key: jax.Array) -> jax.Array:
        some, draw = jax.random.split(key)
        kept = jax.random.choice(some, pixels.shape[0], (size,), replace=False)
        found = jnp.maximum(vca(draw, pixels[kept][None], start.shape[0]), 1e-5)
        return found[align(found, start)]

    return lax.map(one, jax.random.split(key, settings.subsets))


def shrunk(v: jax.Array, by: jax.Array, norm: str) -> jax.Array:
    """Return argmin over x >= 0 of |x - v|^2 / 2 + by p(x_g), v (..., spectra, R), a class along the axis -2."""
    v = jax.nn.relu(v)
    if norm == GROUP:
        return shrink_length(v, by, axis=-2)
    # x = max(v - by s, 0) with s = sum x: the largest of the sums that k of the largest entries alone would have.
    falling = jnp.flip(jnp.sort(v, axis=-2), axis=-2)
    counts = jnp.arange(1, v.shape[-2] + 1, dtype=v.dtype).reshape((1,) * (v.ndim - 2) + (-1, 1))
    s = jnp.max(jnp.cumsum(falling, axis=-2) / (1 + by * counts), axis=-2, keepdims=True)
    return jax.nn.relu(v - by * s)


def fractions(cube: jax.Array, Q: jax.Array, settings: Settings) -> jax.Array:
    """Return x (H, W, subsets, R) on the simplex, near the minimiser."""
    flat = Q.reshape(-1, Q.shape[2])
    shape = (*cube.shape[:2], *Q.shape[:2])
    c = jnp.matmul(cube, flat.T, precision="highest")
    values, basis = lapack.eigh(jnp.matmul(flat, flat.T, precision="highest"))
    inverse = 1 / (values + 2 * settings.penalty)

    def step(carry: tuple) -> tuple:
        U, V, du, dv, number, _ = carry
        X = data_step(basis, inverse, c + settings.penalty * (U + du + V + dv), False)
        by = jnp.asarray(settings.weight / settings.penalty, c.dtype)
        new_U = shrunk((X - du).reshape(shape), by, settings.norm).reshape(c.shape)
        new_V = project_simplex(X - dv)
        rest = jnp.sqrt(jnp.mean(jnp.square(X - new_V) + jnp.square(X - new_U)))
        moved = jnp.sqrt(jnp.mean(jnp.square(new_V - V)))
        return new_U, new_V, du + new_U - X, dv + new_V - X, number + 1, jnp.maximum(rest, moved)

    def unfinished(carry: tuple) -> jax.Array:
        return (carry[4] < settings.steps) & (carry[5] > settings.tolerance)

    zero = c * 0
    first = (zero + 1 / c.shape[-1], zero + 1 / c.shape[-1], zero, zero, jnp.int32(0), zero[0, 0, 0] + jnp.inf)
    return lax.while_loop(unfinished, step, first)[1].reshape(shape)


def bundles(settings: Settings | None = None) -> Method:
    """Return the method."""
    settings = settings or Settings()
    return Method(f"bundles, {settings.norm} sparsity", partial(_unmix, settings))


def _unmix(settings: Settings, key: jax.Array, cube: jax.Array, start: jax.Array) -> MethodResult:
    Q = library(key, cube, start, settings)
    x = fractions(cube, Q, settings)
    use = jnp.mean(x, axis=(0, 1))
    total = jnp.sum(use, axis=0)
    share = jnp.where(total[None] > 0, use / nonzero(total)[None], 1 / settings.subsets)
    return MethodResult(jnp.sum(x, axis=2), jnp.einsum("sr,srb->rb", share, Q, precision="highest"))
