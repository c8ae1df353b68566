"""Unmix by least squares without signs: one product with a pseudo-inverse."""

import jax
import jax.numpy as jnp

from dequnmix_jax import lapack
from dequnmix_jax.checks import Array
from dequnmix_jax.classical import finish, prepare

_RANK = 8.0
"""Roundings, for each endmember, of the largest singular value: a smaller one is zero (a dependent endmember)."""


def ucls(cube: Array, endmembers: Array, *, mask: Array | None = None) -> jax.Array:
    r"""Find the coefficients of each pixel without any constraint.

    min over x of |y - x E|^2; of several answers (dependent endmembers) the shortest.

    Args:
        cube: (H, W, B), any units.
        endmembers: (R, B), in the units of the cube.
        mask: (H, W) bool, True where the pixel is valid.

    Returns:
        (H, W, R), any real values; 0 in masked pixels, NaN in pixels that hold NaN. Differentiable.

    Raises:
        InputError: if the shapes do not fit, or outside jit if values of valid pixels are not finite.

    Reference:
        Keshava and Mustard, Spectral unmixing, IEEE Signal Processing Magazine 19(1), 2002.
    """
    Y, E = prepare(cube, endmembers, mask)
    return finish(jnp.matmul(Y, _inverse(E), precision="highest"), cube, mask)


def scls(cube: Array, endmembers: Array, *, mask: Array | None = None) -> jax.Array:
    r"""Find the coefficients of each pixel that sum to one, of either sign.

    min over x with sum x = 1 of |y - x E|^2. From the mean endmember m: x = 1 / R + (y - m) (E - m)^+, whose second
    part sums to zero; of several answers the one nearest to equal shares.

    Args:
        cube: (H, W, B), any units.
        endmembers: (R, B), in the units of the cube.
        mask: (H, W) bool, True where the pixel is valid.

    Returns:
        (H, W, R), summing to one; 0 in masked pixels, NaN in pixels that hold NaN. Differentiable.

    Raises:
        InputError: if the shapes do not fit, or outside jit if values of valid pixels are not finite.

    Reference:
        Heinz and Chang, Fully constrained least squares linear spectral mixture analysis, IEEE TGRS 39(3), 2001.
    """
    Y, E = prepare(cube, endmembers, mask)
    m = jnp.mean(E, axis=0, keepdims=True)
    x = jnp.matmul(Y - m, _inverse(E - m), precision="highest") + 1.0 / E.shape[0]
    return finish(x + (1.0 - jnp.sum(x, axis=-1, keepdims=True)) / E.shape[0], cube, mask)


def _inverse(E: jax.Array) -> jax.Array:
    """Return the pseudo-inverse (B, R)."""
    return lapack.pinv(E, rtol=_RANK * max(E.shape) * float(jnp.finfo(E.dtype).eps))
