"""Project on the simplex or the cone in the metric of a matrix: least squares with few unknowns, solved exactly.

The equilibrium map takes its step in the metric of the data term, M = E E^T / L + mu I. There the projection of a
pixel is a quadratic problem in R unknowns,

    C_M(x) = argmin (a - x)^T M (a - x) = argmin |L^T a - w|^2,   M = L L^T,   w = L^T x,

over the simplex or the cone.

Pixels are given in the whitened coordinates w: an error in them grows by at most the root of M's condition number, an
error in M x by all of it. With nearly equal endmembers the difference is three digits of float32.

For a few endmembers every support (which abundances are positive) is tried: its answer is one product with an R x R
matrix computed beforehand, and the best feasible one is the solution. All pixels take the same number of operations,
and the derivative is that of the solution's support.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dequnmix_jax.abundances.enumeration import supports
from dequnmix_jax.ops import small_systems
from dequnmix_jax.ops.xla import alongside

LARGEST = 7
"""Endmembers up to which all supports are tried: 2^R products with R x R matrices a pixel. On 2 CPU cores at 86 x 123
pixels and R = 6 that took 15 ms, the active-set search 260 ms."""


BLOCK = 2048
"""Pixels of a block: the scan over supports then stays in the cache."""


class Faces(NamedTuple):
    """The linear answer on every support: a = offset + P w.

    Attributes:
        answer: P = N L, (S, R, R), zero in rows outside the support.
        offset: (S, R), the part that does not depend on w (zero on the cone).
        inverse: N, (S, R, R), zero outside the support, symmetric; for derivatives.
    """

    answer: jax.Array
    offset: jax.Array
    inverse: jax.Array


def faces(root: jax.Array, sum_to_one: bool) -> Faces:
    """Return the linear answer on every support of a (R, R) positive definite matrix M = L L^T, given by its root L."""
    M = jnp.matmul(root, root.T, precision=lax.Precision.HIGHEST)
    count = M.shape[0]
    inside = jnp.asarray(supports(count, sum_to_one))
    eye = jnp.eye(count, dtype=M.dtype)
    both = inside[:, :, None] & inside[:, None, :]
    padded = jnp.where(both, M[None], 0) + jnp.where(inside, 0, 1)[:, :, None].astype(M.dtype) * eye[None]
    inverse = small_systems.inverses(padded)
    inverse = jnp.where(both, (inverse + jnp.swapaxes(inverse, 1, 2)) / 2, 0)
    # N carries the condition of M. Corrected once with the root itself, whose condition is the square root of that, the
    # answer is as good as one by orthogonalisation (Bjorck 1987, corrected seminormal equations).
    answer = jnp.matmul(inverse, root[None], precision=lax.Precision.HIGHEST)
    left = eye[None] - jnp.matmul(root.T[None], answer, precision=lax.Precision.HIGHEST)
    lifted = jnp.matmul(root[None], left, precision=lax.Precision.HIGHEST)
    answer = answer + jnp.matmul(inverse, lifted, precision=lax.Precision.HIGHEST)
    if not sum_to_one:
        return Faces(answer, jnp.zeros(inside.shape, M.dtype), inverse)
    ones = jnp.sum(inverse, axis=2)
    offset = ones / jnp.sum(ones, axis=1, keepdims=True)
    answer = answer - offset[:, :, None] * jnp.sum(answer, axis=1)[:, None, :]
    return Faces(answer, offset, inverse - ones[:, :, None] * offset[:, None, :])


@jax.custom_jvp
def minimise(root: jax.Array, w: jax.Array, table: Faces) -> jax.Array:
    """Minimise |L^T a - w|^2 over the simplex or the cone, in every pixel.

    Args:
        root: L, (R, R), invertible.
        w: (H, W, R).
        table: `faces(L, sum_to_one)`, which determines the set. It gets no gradient: the derivative in L is taken
            directly, da = P (dw - dL^T a) - N dL (L^T a - w) on the face of the solution.

    Returns:
        (H, W, R), >= 0; NaN where w is NaN.
    """
    return _search(root, w, table)[0]


@minimise.defjvp
def _minimise_jvp(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    root, w, table = primals
    droot, dw, _ = tangents
    a, face = _search(root, w, table)
    misfit = _times(a, root) - w
    tables = jnp.concatenate([table.answer, -table.inverse], axis=2)[face]
    change = jnp.concatenate([dw - _times(a, droot), _times(misfit, droot.T)], axis=2)
    return a, jnp.einsum("hwrs,hws->hwr", tables, change, precision=lax.Precision.HIGHEST)


def _times(x: jax.Array, matrix: jax.Array) -> jax.Array:
    return jnp.matmul(x, matrix, precision=lax.Precision.HIGHEST)


def _search(root: jax.Array, w: jax.Array, table: Faces) -> tuple[jax.Array, jax.Array]:
    """Return the best feasible answer over all supports and the index of its support (H, W), block by block."""
    # Pixels are the last axis: every operation of the scan runs over contiguous memory that stays in the cache.
    g = jnp.moveaxis(w, -1, 0).reshape(w.shape[-1], -1)
    pixels = g.shape[1]
    if not isinstance(pixels, int) or pixels <= BLOCK:  # a symbolic size (jax.export) cannot be compared
        a, index = _search_block(root, g, table)
    else:
        count = -(-pixels // BLOCK)
        padded = jnp.pad(g, ((0, 0), (0, count * BLOCK - pixels))).reshape(-1, count, BLOCK)
        a, index = lax.map(lambda block: _search_block(root, block, table), jnp.moveaxis(padded, 1, 0))
        a = jnp.moveaxis(a, 0, 1).reshape(-1, count * BLOCK)[:, :pixels]
        index = index.reshape(-1)[:pixels]
    return jnp.moveaxis(a.reshape(w.shape[-1], *w.shape[:2]), 0, -1), index.reshape(w.shape[:2])


def _search_block(root: jax.Array, g: jax.Array, table: Faces) -> tuple[jax.Array, jax.Array]:
    """Return answers (R, P) and the indices of their supports (P,) of some pixels (R, P)."""
    # The last support is all of them: its answer is unconstrained, and the objective of any other answer is larger by
    # the squared distance in the metric. Comparing distances loses fewer digits than comparing objectives.
    free = _times(table.answer[-1], g) + table.offset[-1][:, None]

    def attempt(best: tuple, face: tuple) -> tuple[tuple, None]:
        a, value, index = best
        answer, offset, number = face
        x = _times(answer, g) + offset[:, None]
        objective = jnp.sum(jnp.square(_times(root.T, x - free)), axis=0)
        better = jnp.all(x >= 0, axis=0) & (objective < value)
        return (jnp.where(better, x, a), jnp.where(better, objective, value), jnp.where(better, number, index)), None

    # Where w is NaN no support is feasible, and the answer stays NaN.
    undefined = jnp.full_like(g, jnp.nan)
    start = alongside((undefined, jnp.full_like(g[0], jnp.inf), jnp.zeros(g.shape[1], jnp.int32)), free)
    numbers = jnp.arange(table.answer.shape[0], dtype=jnp.int32)
    (a, _, index), _ = lax.scan(attempt, start, (table.answer, table.offset, numbers))
    return a, index
