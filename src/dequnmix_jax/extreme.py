"""Find endmembers one after the other, each the pixel farthest from those found before: ATGP and SiVM."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from dequnmix_jax import lapack
from dequnmix_jax.checks import Array
from dequnmix_jax.subspace import Frame, checked, frame, on_plane


def atgp(cube: Array, count: int, *, mask: Array | None = None) -> jax.Array:
    r"""Find endmembers as targets: the automatic target generation process.

    The brightest pixel, argmax |y|; then R - 1 times argmax |(I - A^+ A) y|, the pixel with the longest part orthogonal
    to all before. Nothing is random. It asks for length as much as for colour: a dark material comes late.

    Args:
        cube: (H, W, B), any units.
        count: R, static, 2 <= R <= B and at most one for each valid pixel.
        mask: (H, W) bool, True where the pixel is valid.

    Returns:
        (R, B), pixels of the scene as they are, in the order found. Differentiable in the cube as these pixels; the
        choice counts as constant.

    Raises:
        InputError: if the shapes do not fit, the count is out of range, or outside jit if valid values are not finite.

    Reference:
        Ren and Chang, Automatic spectral target recognition in hyperspectral imagery, IEEE Transactions on Aerospace
        and Electronic Systems 39(4), 2003.
    """
    Y, valid = checked(cube, count, mask)
    return Y[_farthest(lax.stop_gradient(Y), valid, count)]


def sivm(cube: Array, count: int, *, mask: Array | None = None, scaled: bool = False) -> jax.Array:
    r"""Find endmembers by simplex volume maximisation, one vertex after the other.

    The pixel farthest from the mean; then R - 1 times the pixel farthest from the affine hull of those before, which is
    the one that makes the volume of the simplex largest. Distances are Euclidean, in the plane of R - 1 principal
    directions (`scaled`: in the section of the cone of the pixels, each divided by its brightness). Nothing is random.

    Args:
        cube: (H, W, B), any units.
        count: R, static, 2 <= R <= B and at most one for each valid pixel.
        mask: (H, W) bool, True where the pixel is valid.
        scaled: static; whether the brightness of a pixel says nothing of what it holds.

    Returns:
        (R, B), spectra of R pixels projected on the plane (or the span), in the units of the cube. They can be slightly
        negative. Not differentiated (derivative 0).

    Raises:
        InputError: if the shapes do not fit, the count is out of range, or outside jit if valid values are not finite.

    Reference:
        Thurau, Kersting, Wahabzada and Bauckhage, Descriptive matrix factorization for sustainability, Data Mining and
        Knowledge Discovery 24, 2012; Heylen, Burazerovic and Scheunders, Fully constrained least squares spectral
        unmixing by simplex projection, IEEE TGRS 49(11), 2011 (the same in exact distances).
    """
    Y, valid = checked(cube, count, mask)
    view = frame(Y, valid, count, scaled)
    return jnp.matmul(view.points[corners(view, valid, count)], view.lift, precision="highest")


@partial(jax.jit, static_argnames="count")
def corners(view: Frame, valid: jax.Array, count: int) -> jax.Array:
    """Return the pixels, (R,) int32, that simplex volume maximisation takes in a frame."""
    x, lit = on_plane(view.points, view.height, valid)
    (triangle,) = lapack.qr_root(view.lift[1:].T)
    x = jnp.matmul(x, triangle.T, precision="highest")  # distances as between spectra
    first = jnp.argmax(jnp.where(lit, jnp.sum(x * x, axis=1), -1)).astype(jnp.int32)
    rest = _farthest(x - x[first][None], lit, count - 1)
    return jnp.concatenate([first[None], rest])


@partial(jax.jit, static_argnames="count")  # its loop, run eagerly, would be compiled at every call
def _farthest(x: jax.Array, valid: jax.Array, count: int) -> jax.Array:
    """Return `count` points, (count,) int32, each with the longest part orthogonal to all before."""

    def add(x: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        square = jnp.where(valid, jnp.sum(x * x, axis=1), -1)
        point = jnp.argmax(square).astype(jnp.int32)
        length = jnp.sqrt(jnp.maximum(square[point], 0))
        u = x[point] / jnp.where(length > 0, length, 1)
        # Twice, because what one subtraction leaves along u is a rounding of the whole.
        x = x - jnp.matmul(x, u, precision="highest")[:, None] * u[None]
        return x - jnp.matmul(x, u, precision="highest")[:, None] * u[None], point

    return lax.scan(add, x, None, length=count)[1]
