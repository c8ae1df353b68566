"""The curvature of the energy whose gradient the equilibrium map follows: bounds from the weights alone.

At any state grad G = H + W^T s sigma'(.) W with 0 <= s sigma' <= s, so that H <= grad G <= H + W^T s W. Zero padding,
masks and windows left out are compressions of the convolution on the infinite grid, whose symbol is S(omega), and H
acts within a pixel: eigenvalues of the right-hand side are bounded by those of H + S^* s S over all frequencies.
"""

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dequnmix_jax.ops import lapack
from dequnmix_jax.ops.guards import positive
from dequnmix_jax.ops.xla import largest

if TYPE_CHECKING:
    from dequnmix_jax.equilibrium.energy import EnergyWeights


def spectral_bound(matrix: jax.Array) -> jax.Array:
    """Bound the largest eigenvalue of symmetric positive semi-definite matrices (..., R, R) from above.

    tr(M^16)^(1/16), which lies between the largest eigenvalue and R^(1/16) times it (1.07 at R = 3, 1.16 at 10).
    Differentiable, and matrix products only.
    """
    # The result does not depend on this scale; a derivative through it would divide by the square of a tiny number.
    size = lax.stop_gradient(jnp.trace(matrix, axis1=-2, axis2=-1)[..., None, None])
    power = matrix / jnp.where(size > jnp.finfo(matrix.dtype).tiny, size, 1)
    for _ in range(4):
        power = jnp.matmul(power, power, precision=lax.Precision.HIGHEST)
    trace = jnp.trace(power, axis1=-2, axis2=-1)
    return jnp.where(trace > 0, positive(trace) ** (1 / 16), 0) * size[..., 0, 0]


def frequencies(w: jax.Array) -> int:
    """Return the points per side of the grid on which the symbol of a kernel is evaluated."""
    return max(16, 6 * max(w.shape[:2]))


def convolution_bound(w: jax.Array) -> jax.Array:
    """Bound the squared norm of `convolve(., w)` on images of any size, from the kernel alone.

    |W|^2 <= max over frequencies of |sum_t w_t exp(i omega t)|^2. Zero padding is a compression of the convolution
    on the infinite grid, hence the inequality. The squared symbol is a trigonometric polynomial of degree K - 1 in each
    frequency; between the points of an N x N grid it exceeds their maximum by at most 1 / cos(pi (K - 1) / N) for
    each axis (Ehlich & Zeller 1964).

    Args:
        w: (K, L, I, O).

    Returns:
        (), at least the squared spectral norm; differentiable.
    """
    points = frequencies(w)
    if w.shape[2] > w.shape[3]:
        w = jnp.swapaxes(w, 2, 3)  # the smaller Gram matrix
    return largest(spectral_bound(symbol_gram(w, points))) * between_points(w, points)


def symbol_gram(w: jax.Array, points: int, gain: jax.Array | None = None) -> jax.Array:
    """Return the symbol S s S^* of W^T s W on a grid of frequencies, with S(omega) = sum_t w_t exp(i omega t).

    The Hermitian matrix P + i Q of a frequency is written as the real symmetric [[P, -Q], [Q, P]], which has the same
    eigenvalues, each twice.

    Args:
        w: (K, L, I, O).
        points: N, frequencies along each axis.
        gain: s, (O,), >= 0; None: ones.

    Returns:
        (N, N, 2 I, 2 I).
    """
    symbol = jnp.fft.fft2(w, s=(points, points), axes=(0, 1))
    real, imag = jnp.real(symbol), jnp.imag(symbol)

    def outer(a: jax.Array, b: jax.Array) -> jax.Array:
        a = a if gain is None else a * gain[None, None, None]
        return jnp.matmul(a, jnp.swapaxes(b, -1, -2), precision=lax.Precision.HIGHEST)

    P, Q = outer(real, real) + outer(imag, imag), outer(imag, real) - outer(real, imag)
    return jnp.concatenate([jnp.concatenate([P, -Q], axis=-1), jnp.concatenate([Q, P], axis=-1)], axis=-2)


def between_points(w: jax.Array, points: int) -> jax.Array:
    """Return the factor by which a squared symbol may exceed its values on a grid (see `convolution_bound`)."""
    rows, columns = w.shape[:2]
    between = jnp.cos(jnp.pi * (rows - 1) / points) * jnp.cos(jnp.pi * (columns - 1) / points)
    return 1 / between.astype(w.dtype)


_POINTS = 64
"""Points per side of the grid of frequencies; between them a symbol of 3 x 3 kernels is at most 1 % larger."""


def differences(count: int, sum_to_one: bool) -> np.ndarray:
    """Return an orthonormal basis (R, k) of the differences of two states: all, or those of sum zero (Helmert 1876)."""
    if not sum_to_one:
        return np.eye(count)
    basis = np.triu(np.ones((count, count - 1)))
    basis[np.arange(1, count), np.arange(count - 1)] = -np.arange(1, count)
    return basis / np.linalg.norm(basis, axis=0, keepdims=True)


def data_modes(H: jax.Array, sum_to_one: bool) -> tuple[jax.Array, jax.Array]:
    """Return the curvatures of the data term on differences of states, and their directions.

    On the simplex the mean endmember is subtracted, so that H 1 = 0: that eigenvalue belongs to no difference.

    Args:
        H: (R, R), of the map.
        sum_to_one: whether all states have the same sum.

    Returns:
        (h, U): (k,) ascending, lowered by a bound of their rounding and at least 0; (R, k) orthonormal.
    """
    U = jnp.asarray(differences(H.shape[0], sum_to_one), H.dtype)
    h, Q = lapack.eigh(_congruent(H, U.T))
    rounding = 4 * H.shape[0] * jnp.finfo(H.dtype).eps * h[-1]
    return jnp.maximum(h - rounding, 0), jnp.matmul(U, Q, precision=lax.Precision.HIGHEST)


def largest_curvature(H: jax.Array, weights: "EnergyWeights | None", U: jax.Array) -> jax.Array:
    """Bound the largest eigenvalue of U^T grad G U over all states, images and frequencies.

    Args:
        H: (R, R), of the data term.
        weights: of the learned energy; None without one.
        U: (R, k), the directions and their units.
    """
    H = _congruent(H, U.T)
    if weights is None:
        return lapack.eigh(H)[0][-1]
    w, gain = weights.filters, weights.gain
    points = max(_POINTS, 16 * max(w.shape[:2]))
    two = jnp.eye(2, dtype=H.dtype)
    learned = _congruent(symbol_gram(w, points, gain), jnp.kron(two, U.T)[None, None])
    both = jnp.kron(two, H)[None, None] + learned
    values = jax.vmap(lambda x: lapack.eigh(x)[0][-1])(both.reshape(-1, *both.shape[-2:]))
    return jnp.max(values) * between_points(w, points)


def best_step(H: jax.Array, shift: jax.Array, in_data_metric: bool, sum_to_one: bool) -> jax.Array:
    """Return the step with the smallest certified rate, 2 / (1 + alpha), alpha = min h / n(h) (see `certificate`).

    The largest curvature in the metric, N = H + shift I or shift I, is at most 1. The equilibrium does not depend on
    the step: its derivative is stopped.
    """
    h, _ = data_modes(H, sum_to_one)
    return lax.stop_gradient(2 / (1 + jnp.min(h / (h + shift if in_data_metric else shift))))


def _congruent(X: jax.Array, T: jax.Array) -> jax.Array:
    """Return T X T^T."""
    inner = jnp.matmul(X, jnp.swapaxes(T, -1, -2), precision=lax.Precision.HIGHEST)
    return jnp.matmul(T, inner, precision=lax.Precision.HIGHEST)
