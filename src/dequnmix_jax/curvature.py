"""The curvature of the energy whose gradient the equilibrium map follows: bounds from the weights alone.

At any state grad G = H + W^T s sigma'(.) W with 0 <= s sigma' <= s, so that H <= grad G <= H + W^T s W. Zero padding,
masks and windows left out are compressions of the convolution on the infinite grid, whose symbol is S(omega), and H
acts within a pixel: eigenvalues of the right-hand side are bounded by those of H + S^* s S over all frequencies.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dequnmix_jax import convolution, lapack

_POINTS = 64
"""Points a side of the grid of frequencies; between, a symbol of 3 x 3 kernels exceeds its values by at most 1 %."""


def differences(count: int, sum_to_one: bool) -> np.ndarray:
    """Return an orthonormal basis (R, k) of the differences of two states: all, or those of sum zero (Helmert 1876)."""
    if not sum_to_one:
        return np.eye(count)
    basis = np.triu(np.ones((count, count - 1)))
    basis[np.arange(1, count), np.arange(count - 1)] = -np.arange(1, count)
    return basis / np.linalg.norm(basis, axis=0, keepdims=True)


def data_modes(H: jax.Array, sum_to_one: bool) -> tuple[jax.Array, jax.Array]:
    """Return the curvatures of the data term on differences of states, and their directions.

    On the simplex the mean endmember is taken out, so that H 1 = 0: that eigenvalue belongs to no difference.

    Args:
        H: (R, R), of the map.
        sum_to_one: whether all states have the same sum.

    Returns:
        (h, U): (k,) rising, lowered by what rounding may have added to them and never below 0; (R, k) orthonormal.
    """
    U = jnp.asarray(differences(H.shape[0], sum_to_one), H.dtype)
    h, Q = lapack.eigh(_congruent(H, U.T))
    rounding = 4 * H.shape[0] * jnp.finfo(H.dtype).eps * h[-1]
    return jnp.maximum(h - rounding, 0), jnp.matmul(U, Q, precision=lax.Precision.HIGHEST)


def largest(theta: dict[str, Any], U: jax.Array) -> jax.Array:
    """Bound the largest eigenvalue of U^T grad G U over all states, images and frequencies.

    Args:
        theta: of `model.factor`.
        U: (R, k), the directions and their units.
    """
    H = _congruent(theta["H"], U.T)
    if "energy" not in theta:
        return lapack.eigh(H)[0][-1]
    w, gain = theta["energy"]["filters"], theta["energy"]["gain"]
    points = max(_POINTS, 16 * max(w.shape[:2]))
    two = jnp.eye(2, dtype=H.dtype)
    learned = _congruent(convolution.symbol_gram(w, points, gain), jnp.kron(two, U.T)[None, None])
    both = jnp.kron(two, H)[None, None] + learned
    values = jax.vmap(lambda x: lapack.eigh(x)[0][-1])(both.reshape(-1, *both.shape[-2:]))
    return jnp.max(values) * convolution.between_points(w, points)


def best_step(H: jax.Array, shift: jax.Array, in_data_metric: bool, sum_to_one: bool) -> jax.Array:
    """Return the step with the smallest certified rate, 2 / (1 + alpha), alpha = min h / n(h) (see `certificate`).

    The largest curvature in the metric, N = H + shift I or shift I, is at most 1. No equilibrium depends on the step:
    its derivative is cut off.
    """
    h, _ = data_modes(H, sum_to_one)
    return lax.stop_gradient(2 / (1 + jnp.min(h / (h + shift if in_data_metric else shift))))


def _congruent(X: jax.Array, T: jax.Array) -> jax.Array:
    """Return T X T^T."""
    inner = jnp.matmul(X, jnp.swapaxes(T, -1, -2), precision=lax.Precision.HIGHEST)
    return jnp.matmul(T, inner, precision=lax.Precision.HIGHEST)
