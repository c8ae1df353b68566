r"""Nonnegative factorisation whose abundances follow the graph of similar spectra: GLNMF."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dequnmix_jax.checks import Array, InputError, concrete, how_many
from dequnmix_jax.endmembers import nmf_descent
from dequnmix_jax.endmembers.nmf import sparseness
from dequnmix_jax.endmembers.nmf_descent import Factoring, Factors, check, descend, first_abundances, misfit, prepare
from dequnmix_jax.ops.guards import positive

_BLOCK = 2**22
"""Numbers of a block of distances."""

_DEFAULT = Factoring()


class Graph(NamedTuple):
    """The neighbours of each pixel.

    Attributes:
        neighbours: (N, K), their numbers.
        weights: (N, K), half of exp(-|y - y'|^2 / s), 0 for masked pixels.
        degrees: (N, 1), the row sums of the symmetric matrix W.
    """

    neighbours: jax.Array
    weights: jax.Array
    degrees: jax.Array

    def product(self, A: jax.Array) -> jax.Array:
        """Return W A, W_nm the sum of the weights with which either pixel has the other as its neighbour."""
        mine = jnp.sum(self.weights[:, :, None] * A[self.neighbours], axis=1)
        theirs = self.weights[:, :, None] * A[:, None]
        return mine + jnp.zeros_like(A).at[self.neighbours.reshape(-1)].add(theirs.reshape(-1, A.shape[1]))


def gl_nmf(
    key: Array | None,
    cube: Array,
    *,
    endmembers: Array | None = None,
    count: int | None = None,
    weight: Array | float = 1.0,
    smoothness: Array | float = 0.1,
    neighbours: int = 5,
    mask: Array | None = None,
    solver: Factoring = _DEFAULT,
) -> Factors:
    r"""Factor a scene into endmembers and sparse abundances that are alike where spectra are: GLNMF.

    min |Y - A E|^2 / 2 + delta^2 |1 - A 1|^2 / 2 + lambda sum sqrt(a) + mu / 2 sum over n < m of W_nm |a_n - a_m|^2
    over A, E >= 0, for spectra of maximum one; lambda is that of `l_half_nmf`. W joins each pixel to its nearest ones
    in spectrum, wherever they are, with the weight exp(-|y_n - y_m|^2 / s), s the mean squared distance of neighbours,
    halved where only one of the two has the other as its neighbour.

    Args:
        key, cube, endmembers, count, weight, mask, solver: as `l_half_nmf`.
        smoothness: mu, >= 0; 0.1 in the paper.
        neighbours: K, of each pixel, static.

    Returns:
        endmembers, abundances, descent: as `l_half_nmf`.

    Raises:
        InputError: as `mvc_nmf`, smoothness is negative, or there are not so many pixels.

    Reference:
        Lu, Wu, Yuan, Yan and Li, Manifold regularized sparse NMF for hyperspectral unmixing, IEEE TGRS 51(5), 2013:
        abundances by its multiplicative steps, endmembers exactly. Guessed: five neighbours, and the width s.
    """
    if concrete(smoothness) and not 0 <= float(smoothness) < float("inf"):
        raise InputError(f"smoothness is {smoothness}; expected one finite number, not negative.")
    start = check(key, cube, endmembers, count, weight, mask, solver)
    pixels = start[0].shape[0] * start[0].shape[1]
    if not 1 <= neighbours < pixels:
        raise InputError(
            f"neighbours is {neighbours} and the scene has {how_many(pixels, 'pixel')}; expected 1 to {pixels - 1}."
        )
    numbers = (jnp.asarray(x, start[0].dtype) for x in (weight, smoothness))
    return _gl_nmf(*start, *lax.stop_gradient(tuple(numbers)), neighbours, solver)


def graph(Y: jax.Array, valid: jax.Array, count: int) -> Graph:
    """Return the graph of the pixels Y (N, B), valid (N,), with `count` neighbours each; N^2 B operations."""
    N = Y.shape[0]
    size = max(1, min(N, _BLOCK // N))
    blocks = -(-N // size)
    lengths = jnp.sum(Y * Y, axis=1)
    numbers = jnp.arange(blocks * size, dtype=jnp.int32).reshape(blocks, size)

    def one(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        at = jnp.minimum(rows, N - 1)
        square = lengths[at][:, None] + lengths[None] - 2 * jnp.matmul(Y[at], Y.T, precision="highest")
        square = jnp.where((at[:, None] == jnp.arange(N, dtype=jnp.int32)[None]) | ~valid[None], jnp.inf, square)
        away, near = lax.top_k(-square, count)
        return jnp.maximum(-away, 0), near.astype(jnp.int32)

    square, near = (x.reshape(blocks * size, count)[:N] for x in lax.map(one, numbers))
    both = valid[:, None] & jnp.isfinite(square)
    width = jnp.sum(jnp.where(both, square, 0)) / positive(jnp.sum(both).astype(Y.dtype))
    weights = jnp.where(both, 0.5 * jnp.exp(-jnp.where(both, square, 0) / positive(width)), 0)
    found = Graph(near, weights, jnp.zeros((N, 1), Y.dtype))
    return found._replace(degrees=found.product(jnp.ones((N, 1), Y.dtype)))


@partial(jax.jit, static_argnames=("neighbours", "solver"))
def _gl_nmf(
    cube: jax.Array,
    mask: jax.Array,
    E: jax.Array,
    weight: jax.Array,
    smoothness: jax.Array,
    neighbours: int,
    solver: Factoring,
) -> Factors:
    problem, E = prepare(cube, mask, E, solver)
    joined = graph(problem.Y, problem.valid, neighbours)
    level = weight * sparseness(problem)
    least = jnp.finfo(cube.dtype).tiny

    def objective(E: jax.Array, A: jax.Array) -> jax.Array:
        rough = jnp.sum(A * (joined.degrees * A - joined.product(A)))
        return misfit(problem, E, A) + level * jnp.sum(jnp.sqrt(A)) + 0.5 * smoothness * rough

    def step(E: jax.Array, A: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        E = nmf_descent.endmember_sweep(E, A, problem.Y, None)
        rise = jnp.maximum(jnp.matmul(problem.Y, E.T, precision="highest") + problem.sums, 0)
        H = jnp.matmul(E, E.T, precision="highest")

        def inner(_: int, A: jax.Array) -> jax.Array:
            fall = jnp.matmul(A, H, precision="highest") + problem.sums * jnp.sum(A, axis=1, keepdims=True)
            fall = fall + 0.5 * level / jnp.maximum(jnp.sqrt(A), least**0.5) + smoothness * joined.degrees * A
            return A * ((rise + smoothness * joined.product(A)) / jnp.maximum(fall, least))

        A = lax.fori_loop(0, solver.inner, inner, A)
        return E, A, objective(E, A)

    A = first_abundances(problem, E)
    return descend(step, E, A, objective(E, A), problem, mask.shape, solver)
