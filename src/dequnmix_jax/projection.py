"""Project on the simplex or the cone in the metric of a matrix: least squares with few unknowns, solved exactly.

The equilibrium map takes its step in the metric of the data term, M = E E^T / L + mu I. There the projection of a
pixel is a quadratic problem in R unknowns,

    C_M(x) = argmin (a - x)^T M (a - x) = argmin a^T M a / 2 - rhs^T a,   rhs = M x,   over the simplex or the cone.

For a handful of endmembers every support (which abundances are positive) is tried: its answer is one product with an
R x R matrix computed beforehand, and the best feasible one is the solution. No pixel waits for another, and the
derivative is that of the support found.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dequnmix_jax import small
from dequnmix_jax.varying import alongside

LARGEST = 7
"""Endmembers up to which all supports are tried: 2^R products with R x R matrices a pixel. On 2 CPU cores at 86 x 123
pixels and R = 6 that took 15 ms, the active-set search of `classical` 260 ms."""


class Faces(NamedTuple):
    """The linear answer on every support: a = offset + N rhs.

    Attributes:
        inverse: N, (S, R, R), zero outside the support, symmetric.
        offset: (S, R), the part that does not depend on rhs (zero on the cone).
    """

    inverse: jax.Array
    offset: jax.Array


def supports(count: int, sum_to_one: bool) -> np.ndarray:
    """Return all supports of `count` abundances, (S, R) bool; the empty one belongs to the cone only."""
    codes = np.arange(1 if sum_to_one else 0, 2**count)
    return (codes[:, None] >> np.arange(count)[None, :]) % 2 == 1


def faces(M: jax.Array, sum_to_one: bool) -> Faces:
    """Return the linear answer on every support of a (R, R) positive definite matrix."""
    count = M.shape[0]
    inside = jnp.asarray(supports(count, sum_to_one))
    eye = jnp.eye(count, dtype=M.dtype)
    both = inside[:, :, None] & inside[:, None, :]
    padded = jnp.where(both, M[None], 0) + jnp.where(inside, 0, 1)[:, :, None].astype(M.dtype) * eye[None]
    inverse = small.inverses(padded)
    # One Newton step (Schulz 1933) brings the rounding of the elimination down to that of M itself.
    product = jnp.matmul(padded, inverse, precision=lax.Precision.HIGHEST)
    inverse = jnp.matmul(inverse, 2 * eye[None] - product, precision=lax.Precision.HIGHEST)
    inverse = jnp.where(both, (inverse + jnp.swapaxes(inverse, 1, 2)) / 2, 0)
    if not sum_to_one:
        return Faces(inverse, jnp.zeros(inside.shape, M.dtype))
    ones = jnp.sum(inverse, axis=2)
    offset = ones / jnp.sum(ones, axis=1, keepdims=True)
    return Faces(inverse - ones[:, :, None] * offset[:, None, :], offset)


@jax.custom_jvp
def minimise(M: jax.Array, rhs: jax.Array, table: Faces) -> jax.Array:
    """Minimise a^T M a / 2 - rhs^T a over the simplex or the cone, in every pixel.

    Args:
        M: (R, R), symmetric positive definite.
        rhs: (H, W, R).
        table: `faces(M, sum_to_one)`; it says which of the two sets, and gets no gradient of its own: the derivative in
            M is taken directly, da = N (drhs - dM a) on the face found.

    Returns:
        (H, W, R), >= 0; NaN where rhs is NaN.
    """
    return _search(M, rhs, table)[0]


@minimise.defjvp
def _minimise_jvp(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    M, rhs, table = primals
    dM, drhs, _ = tangents
    a, face = _search(M, rhs, table)
    change = drhs - jnp.matmul(a, dM, precision=lax.Precision.HIGHEST)
    return a, jnp.einsum("hwrs,hws->hwr", table.inverse[face], change, precision=lax.Precision.HIGHEST)


def _search(M: jax.Array, rhs: jax.Array, table: Faces) -> tuple[jax.Array, jax.Array]:
    """Return the best feasible answer over all supports and the index of its support (H, W)."""
    # The pixels stand last: every operation of the scan runs over contiguous memory that stays in the cache.
    g = jnp.moveaxis(rhs, -1, 0).reshape(rhs.shape[-1], -1)

    # The last support holds all: its answer is the unconstrained one, and the objective of any other exceeds its by the
    # squared distance in the metric. Comparing distances loses fewer digits than comparing objectives.
    free = jnp.matmul(table.inverse[-1], g, precision=lax.Precision.HIGHEST) + table.offset[-1][:, None]

    def attempt(best: tuple, face: tuple) -> tuple[tuple, None]:
        a, value, index = best
        inverse, offset, number = face
        x = jnp.matmul(inverse, g, precision=lax.Precision.HIGHEST) + offset[:, None]
        objective = jnp.sum((x - free) * jnp.matmul(M, x - free, precision=lax.Precision.HIGHEST), axis=0)
        better = jnp.all(x >= 0, axis=0) & (objective < value)
        return (jnp.where(better, x, a), jnp.where(better, objective, value), jnp.where(better, number, index)), None

    # NaN in rhs must not pass for an answer: no support is feasible there, and NaN stays.
    nothing = jnp.full_like(g, jnp.nan)
    start = alongside((nothing, jnp.full_like(g[0], jnp.inf), jnp.zeros(g.shape[1], jnp.int32)), free)
    numbers = jnp.arange(table.inverse.shape[0], dtype=jnp.int32)
    (a, _, index), _ = lax.scan(attempt, start, (table.inverse, table.offset, numbers))
    return jnp.moveaxis(a.reshape(rhs.shape[-1], *rhs.shape[:2]), 0, -1), index.reshape(rhs.shape[:2])
