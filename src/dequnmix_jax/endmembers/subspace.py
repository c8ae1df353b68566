"""Project the pixels to as many coordinates as there are endmembers, in which mixtures fill a simplex or a cone."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from dequnmix_jax.checks import Array, check_count, check_cube, check_finite, check_mask
from dequnmix_jax.mixing import wide
from dequnmix_jax.ops import lapack
from dequnmix_jax.ops.guards import nonzero

_DARK = 0.05
"""Brightness relative to the mean below which a pixel has no usable direction: its noise is 20 times as large."""


class Frame(NamedTuple):
    """Pixels in R coordinates with second moments I, and the inverse: y = g lift.

    Attributes:
        points: g, (N, R), zero in masked pixels.
        lift: (R, B), units of the cube.
        height: (); height * g_1 is the brightness of a pixel: 1 for the simplex, y . m / |m|^2 for the cone.
    """

    points: jax.Array
    lift: jax.Array
    height: jax.Array


def pixels(cube: Array, mask: Array | None) -> tuple[jax.Array, jax.Array]:
    """Return the pixels (N, B), zero where masked, and the mask (N,)."""
    Y = wide(cube)
    if mask is None:
        return Y.reshape(-1, Y.shape[-1]), jnp.ones(Y.shape[0] * Y.shape[1], jnp.bool_)
    valid = jnp.asarray(mask)
    return jnp.where(valid[..., None], Y, 0.0).reshape(-1, Y.shape[-1]), valid.reshape(-1)


def checked(cube: Array, count: int, mask: Array | None) -> tuple[jax.Array, jax.Array]:
    """Check that `count` endmembers can be searched for, and return `pixels`.

    Raises:
        InputError: if the shapes do not fit, the count is out of range, or outside jit if valid values are not finite.
    """
    check_cube(cube)
    check_mask(mask, cube)
    check_count(count, cube, mask)
    check_finite(cube, mask)
    return pixels(cube, mask)


def principal(Y: jax.Array, count: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the eigenvalues (B,), largest first, and eigenvectors (B, B) as columns of the pixels' second moments."""
    moments = jnp.matmul(Y.T, Y, precision="highest") / count
    values, vectors = lapack.eigh(moments)
    return values[::-1], vectors[:, ::-1]


def frame(Y: jax.Array, valid: jax.Array, count: int, scaled: bool, fixed: jax.Array | None = None) -> Frame:
    r"""Return the pixels in R coordinates.

    If abundances sum to one, the pixels lie in an affine plane, that of the R - 1 principal directions about the mean:
    g = (1, x). With a brightness for each pixel they fill a cone in the span of R directions, whose axis g_1 is along
    the mean pixel m; g_2.. / g_1 are then the coordinates of a simplex.

    With `fixed` spectra the plane (or the span) is the one through these, and the remaining directions are the
    principal ones of what they leave of the pixels: a rare target that is known has its direction, however few pixels
    hold it.

    Args:
        Y: (N, B), zero in masked pixels.
        valid: (N,) bool.
        count: R, static.
        scaled: static; True: cone, False: plane.
        fixed: (F, B), linearly independent spectra, F < R, or None.

    Returns:
        A Frame, a constant under differentiation.
    """
    Y = jax.lax.stop_gradient(Y)
    pixels = jnp.maximum(jnp.sum(valid), 1).astype(Y.dtype)
    mean = jnp.sum(Y, axis=0) / pixels
    if not scaled:
        C = jnp.where(valid[:, None], Y - mean[None], 0)
        values, axes = directions(C, pixels, count - 1, None if fixed is None else fixed - mean[None])
        sizes = _sizes(values[: count - 1])
        x = jnp.matmul(C, axes[:, : count - 1], precision="highest") / sizes[None]
        points = jnp.concatenate([valid.astype(Y.dtype)[:, None], x], axis=1)
        return Frame(
            points, jnp.concatenate([mean[None], (axes[:, : count - 1] * sizes[None]).T]), jnp.ones((), Y.dtype)
        )
    values, axes = directions(Y, pixels, count, fixed)
    sizes = _sizes(values[:count])
    inside = jnp.matmul(mean, axes[:, :count], precision="highest")
    u = inside * sizes / nonzero(jnp.sum(inside * inside))
    height = jnp.sqrt(jnp.sum(u * u))
    turn = _reflection(u / nonzero(height))
    g = jnp.matmul(Y, axes[:, :count], precision="highest") / sizes[None]
    lift = jnp.matmul(turn, (axes[:, :count] * sizes[None]).T, precision="highest")
    return Frame(jnp.matmul(g, turn, precision="highest"), lift, height)


def directions(Y: jax.Array, pixels: jax.Array, number: int, through: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Return `principal`, or at least `number` directions whose span holds the vectors `through` (F, B)."""
    if through is None:
        return principal(Y, pixels)
    basis = lapack.qr(through.T)[0]
    rest = Y - jnp.matmul(jnp.matmul(Y, basis, precision="highest"), basis.T, precision="highest")
    axes = jnp.concatenate([basis, principal(rest, pixels)[1][:, : number - basis.shape[1]]], axis=1)
    values, turn = principal(jnp.matmul(Y, axes, precision="highest"), pixels)
    return values, jnp.matmul(axes, turn, precision="highest")


def in_frame(view: Frame, spectra: jax.Array, scaled: bool | jax.Array) -> jax.Array:
    """Return spectra (F, B) that lie in a frame in its coordinates (F, R), at brightness one."""
    g = jnp.matmul(spectra, lapack.pinv(view.lift), precision="highest")
    flat = jnp.matmul(spectra - view.lift[:1], lapack.pinv(view.lift[1:]), precision="highest")
    plane = jnp.concatenate([jnp.ones_like(g[:, :1]), flat], axis=1)
    return jnp.where(scaled, g / nonzero(g[:, :1]) / view.height, plane)


def on_plane(points: jax.Array, height: jax.Array, valid: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the points divided by their brightness, without the first coordinate, (N, R - 1), and which are bright."""
    bright = valid & (height * points[:, 0] > _DARK)
    return jnp.where(bright[:, None], points[:, 1:] / jnp.where(bright, points[:, 0], 1)[:, None], 0), bright


def _reflection(e: jax.Array) -> jax.Array:
    """Return a symmetric orthogonal matrix whose first column is the unit vector e."""
    sign = jnp.where(e[0] < 0, -1, 1).astype(e.dtype)
    v = e.at[0].add(sign)
    return -sign * (jnp.eye(e.size, dtype=e.dtype) - 2 * jnp.outer(v, v) / jnp.sum(v * v))


def _sizes(values: jax.Array) -> jax.Array:
    """Return the roots of eigenvalues, bounded below by the rounding error of the largest."""
    largest = jnp.maximum(values[0], 0)
    return nonzero(jnp.sqrt(jnp.maximum(values, jnp.finfo(values.dtype).eps * largest)))
