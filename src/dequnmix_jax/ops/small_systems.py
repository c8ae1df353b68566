"""Solve many small symmetric positive definite systems at once, in plain XLA operations.

Batched LAPACK calls of jaxlib can deadlock (see `lapack`), above all those over pixels. Here the systems are the last,
contiguous axis, and one elimination runs over all of them in parallel.
"""

import jax
import jax.numpy as jnp
from jax import lax

from dequnmix_jax.ops.xla import computed, total

_BLOCK = 2**15
"""Size of a batch of systems that are eliminated together, in numbers, so that it stays in the cache."""


def eliminate(A: jax.Array, b: jax.Array) -> jax.Array:
    """Return the solutions x of A x = b by Gauss's elimination, without pivoting, which these systems do not need.

    A pivot within rounding of zero (an unknown that depends on those before it) gives its unknown the value 0.

    Args:
        A: (R, R, N), symmetric positive definite each.
        b: (R, K, N), K right-hand sides each.

    Returns:
        (R, K, N). The accuracy is that of Cholesky's method, errors of cond(A) roundings.

    Reference:
        Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, 2002, section 9.3 (no growth) and 10.1.
    """
    R = A.shape[0]
    order = jnp.arange(R, dtype=jnp.int32)
    places = order[:, None]
    least = jnp.finfo(A.dtype).eps * jnp.stack([A[k, k] for k in range(R)])

    def one(rest: jax.Array, k: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        row = lax.dynamic_index_in_dim(rest, k, axis=0, keepdims=False)
        pivot = lax.dynamic_index_in_dim(row, k, axis=0, keepdims=False)
        small = pivot <= lax.dynamic_index_in_dim(least, k, axis=0, keepdims=False)
        inverse = jnp.where(small, 0, 1 / jnp.where(small, 1, pivot))
        # The rest is symmetric: its column below the pivot equals the row.
        factor = jnp.where(places > k, row[:R] * inverse[None], 0)
        row, factor, inverse = computed((row, factor, inverse), k >= 0)
        return rest - factor[:, None] * row[None], (row, inverse)

    def back(x: jax.Array, step: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        k, row, inverse = step
        solved = (row[R:] - total(row[:R, None] * x)) * inverse[None]
        return lax.dynamic_update_index_in_dim(x, solved, k, axis=0), None

    _, (rows, inverses) = lax.scan(one, jnp.concatenate([A, b], axis=1), order)
    return lax.scan(back, jnp.zeros_like(rows[:, R:]), (order, rows, inverses), reverse=True)[0]


def solve(A: jax.Array, b: jax.Array) -> jax.Array:
    """Return x of A x = b for one symmetric positive definite A (R, R) and b (R,); differentiable to any order."""

    def product(x: jax.Array) -> jax.Array:
        return jnp.matmul(A, x, precision="highest")

    def solved(_: object, b: jax.Array) -> jax.Array:
        return eliminate(A[:, :, None], b[:, None, None])[:, 0, 0]

    return lax.custom_linear_solve(product, b, solved, symmetric=True)


def inverses(A: jax.Array) -> jax.Array:
    """Return the inverses (N, R, R) of symmetric positive definite matrices (N, R, R)."""
    unit = jnp.broadcast_to(jnp.eye(A.shape[1], dtype=A.dtype)[:, :, None], (A.shape[1], A.shape[1], A.shape[0]))
    return jnp.moveaxis(eliminate(jnp.moveaxis(A, 0, -1), unit), -1, 0)


def solve_on_faces(G: jax.Array, inside: jax.Array, g: jax.Array) -> jax.Array:
    """Solve G restricted to the face of each pixel: (G + ridge)_{ss} x_s = g_s on its support s, and 0 outside.

    The ridge is R eps, the rounding of a matrix of unit size.

    Args:
        G: (R, R), symmetric positive semidefinite.
        inside: (N, R) bool, the supports.
        g: (N, R), the right-hand sides.

    Returns:
        (N, R). Differentiable in G and g to any order: the elimination itself is never differentiated.
    """
    N, R = g.shape
    s = inside.T.astype(G.dtype)  # (R, N)
    pad = jnp.where(inside.T, R * jnp.finfo(G.dtype).eps, 1.0).astype(G.dtype)
    eye = jnp.eye(R, dtype=G.dtype)[:, :, None]

    def product(x: jax.Array) -> jax.Array:
        return s * jnp.matmul(G, s * x, precision="highest") + pad * x

    def solved(_: object, b: jax.Array) -> jax.Array:
        size = min(N, max(64, _BLOCK // (R * (R + 1))))
        count = -(-N // size)

        def divided(x: jax.Array, outside: float) -> jax.Array:
            x = jnp.pad(x, ((0, 0), (0, count * size - N)), constant_values=outside)
            return jnp.moveaxis(x.reshape(R, count, size), 1, 0)

        def one(block: tuple[jax.Array, ...]) -> jax.Array:
            s, pad, b = block
            return eliminate(s[:, None] * s[None] * G[:, :, None] + pad[None] * eye, b[:, None])[:, 0]

        x = lax.map(one, (divided(s, 0.0), divided(pad, 1.0), divided(b, 0.0)))
        return jnp.moveaxis(x, 0, 1).reshape(R, count * size)[:, :N]

    return lax.custom_linear_solve(product, jnp.where(inside, g, 0.0).T, solved, symmetric=True).T
