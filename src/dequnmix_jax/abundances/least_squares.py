"""Exact constrained least squares: non-negative, fully constrained, sum-to-one and unconstrained.

All pixels are solved at once, in coordinates of the span of the endmembers (at most R numbers a pixel, whatever the
number of bands) from a QR decomposition (`exact`). Normal equations alone are not accurate enough in float32: with
cond(E) = 100 they keep three digits, with cond(E) = 3000 none.

The derivative is that of the active set of the solution, by the implicit function theorem; the search itself is never
differentiated, so that its number of steps costs no memory.
"""

import jax
import jax.numpy as jnp
import numpy as np

from dequnmix_jax.abundances.exact import solve
from dequnmix_jax.checks import Array, check_cube, check_endmembers, check_finite, check_mask, concrete
from dequnmix_jax.mixing import (
    check_abundances,
    correlate,
    gram,
    normalise_abundances,
    project_cone,
    project_simplex,
    scale_to_unit_maximum,
    wide,
)
from dequnmix_jax.ops import lapack, small_systems
from dequnmix_jax.ops.guards import nonzero, row_lengths

SLACK = 0.3
"""The default weight of the sum in `soft_nnls`: the size of the variability of each material over the spread of s."""


def nnls(cube: Array, endmembers: Array, *, mask: Array | None = None) -> jax.Array:
    r"""Find the non-negative coefficients that mix the endmembers into each pixel.

    min over x >= 0 of |y - x E|^2, exactly.

    Args:
        cube: (H, W, B), any units.
        endmembers: (R, B), in the units of the cube. They may be dependent: a duplicate or an all-zero spectrum
            gets 0.
        mask: (H, W) bool, True where the pixel is valid.

    Returns:
        (H, W, R), >= 0; 0 in masked pixels. NaN in pixels that hold NaN. Differentiable in cube and endmembers, to any
        order, where the active set does not change.

    Raises:
        InputError: if the shapes do not fit, or outside jit if values of valid pixels are not finite.

    Reference:
        Lawson and Hanson, Solving least squares problems, 1974, chapter 23.
    """
    Y, E = prepare(cube, endmembers, mask)
    return finish(_nnls(Y, E), cube, mask)


def fcls(cube: Array, endmembers: Array, *, mask: Array | None = None) -> jax.Array:
    r"""Find the abundances of each pixel: fully constrained least squares.

    min over a >= 0, sum a = 1 of |y - a E|^2, exactly (the sum is not a penalty).

    Args:
        cube: (H, W, B), any units.
        endmembers: (R, B), in the units of the cube. They may be dependent; one may be zero (shade). Of duplicates
            one gets the abundance.
        mask: (H, W) bool, True where the pixel is valid.

    Returns:
        (H, W, R), >= 0 and summing to one; 0 in masked pixels. NaN in pixels that hold NaN. Differentiable in cube and
        endmembers, to any order, where the active set does not change.

    Raises:
        InputError: if the shapes do not fit, or outside jit if values of valid pixels are not finite.

    Reference:
        Heinz and Chang, Fully constrained least squares linear spectral mixture analysis, IEEE TGRS 39(3), 2001 (the
        problem). Lawson and Hanson, Solving least squares problems, 1974, chapter 23 (least distance by NNLS).
    """
    Y, E = prepare(cube, endmembers, mask)
    return finish(_fcls(Y, E), cube, mask)


def scaled_nnls(cube: Array, endmembers: Array, *, mask: Array | None = None) -> tuple[jax.Array, jax.Array]:
    r"""Find abundances and brightness of each pixel: NNLS on endmembers of maximum 1, divided by its sum.

    min over x >= 0 of |y - x E'|^2 with e'_r = e_r / max e_r; s = sum x, a = x / s.

    Args:
        cube: (H, W, B), any units.
        endmembers: (R, B), in the units of the cube, each with a positive entry or all zero.
        mask: (H, W) bool, True where the pixel is valid.

    Returns:
        abundances: (H, W, R), >= 0 and summing to one; 1/R in a pixel of brightness 0; 0 in masked pixels.
        brightness: (H, W), >= 0, in the units of the cube; 0 in masked pixels.

    Raises:
        InputError: if the shapes do not fit, or outside jit if values of valid pixels are not finite.

    Reference:
        Drumetz et al., Blind hyperspectral unmixing using an extended linear mixing model to address spectral
        variability, IEEE TIP 25(8), 2016 (scaled constrained least squares).
    """
    check_problem(cube, endmembers, mask)
    return normalise_abundances(nnls(cube, scale_to_unit_maximum(wide(endmembers)), mask=mask), mask)


def soft_nnls(
    cube: Array, endmembers: Array, *, weight: float | Array = SLACK, mask: Array | None = None
) -> tuple[jax.Array, jax.Array]:
    r"""Find abundances with a soft sum: NNLS with the sum to one as one more, weighted band.

    min over x >= 0 of |y - x E|^2 + (w n)^2 (sum x - 1)^2, n the RMS norm of the pixels; s = sum x, a = x / s. Between
    FCLS (w large) and NNLS divided by its sum (w = 0). If each material varies in brightness by itself, w is the size
    of that variability over the spread of s: on generated scenes 0.3 has 0.57 of the aRMSE of FCLS if materials vary
    so, 1.02 if nothing varies, and 1.13 if spectra vary in shape alone (`experiments.defaults.soft_sum`).

    Args:
        cube: (H, W, B), any units.
        endmembers: (R, B), in the units of the cube, at their level in the scene.
        weight: w, > 0.
        mask: (H, W) bool, True where the pixel is valid.

    Returns:
        abundances: (H, W, R), >= 0 and summing to one; 1/R in a pixel of brightness 0; 0 in masked pixels.
        brightness: (H, W), >= 0, near 1; 0 in masked pixels.

    Raises:
        InputError: if the shapes do not fit, or outside jit if values of valid pixels are not finite.

    Reference:
        Heinz and Chang, IEEE TGRS 39(3), 2001: FCLS as NNLS with a heavy row of ones, here a light one.
    """
    Y, E = prepare(cube, endmembers, mask)
    Y = Y.reshape(cube.shape)
    square = jnp.where(jnp.isfinite(Y), Y, 0) ** 2
    pixels = Y.shape[0] * Y.shape[1] if mask is None else jnp.maximum(jnp.sum(mask.astype(Y.dtype)), 1)
    row = jnp.asarray(weight, Y.dtype) * jnp.sqrt(jnp.sum(square) / pixels)
    Y, E = with_sum_band(Y, E, row)
    return normalise_abundances(nnls(Y, E, mask=mask), mask)


def with_sum_band(cube: jax.Array, endmembers: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return cube (H, W, B + 1) and endmembers (R, B + 1) with a further band, `weight`: the sum to one as data."""
    Y = jnp.concatenate([cube, jnp.broadcast_to(weight, (*cube.shape[:2], 1))], axis=2)
    row = jnp.broadcast_to(weight, (endmembers.shape[0], 1)).astype(endmembers.dtype)
    return Y, jnp.concatenate([endmembers, row], axis=1)


def kkt_residual(
    cube: Array, endmembers: Array, abundances: Array, sum_to_one: bool, mask: Array | None = None
) -> jax.Array:
    r"""Return how far abundances are from optimal, in every pixel.

    max over r of |x - P(x - g)|: P projects on the feasible set and g is the gradient E (x E - y), so that this is 0 if
    and only if all Karush-Kuhn-Tucker conditions hold. x and g are scaled so that they have no unit: on the cone
    each e_r has norm 1 and so has y; on the simplex e_r and y are measured from the mean endmember m and g is divided
    by D max(D, |y - m|), D = max |e_r - m|.

    Args:
        cube: (H, W, B).
        endmembers: (R, B).
        abundances: (H, W, R), from `fcls` (sum_to_one) or `nnls`.
        sum_to_one: whether the feasible set is the simplex (True) or the cone.
        mask: (H, W) bool, True where the pixel is valid.

    Returns:
        (H, W), >= 0, no unit; 0 in masked pixels.

    Raises:
        InputError: if the shapes do not fit.
    """
    check_cube(cube)
    check_endmembers(endmembers, np.shape(cube)[2])
    check_abundances(abundances, endmembers)
    check_mask(mask, cube)
    Y, E, x = wide(cube), wide(endmembers), jnp.asarray(abundances)
    if mask is not None:
        Y = jnp.where(mask[..., None], Y, 0.0)
    if sum_to_one:
        m = jnp.mean(E, axis=0)
        Y, E = Y - m[None, None, :], E - m[None, :]
        D = jnp.max(row_lengths(E))
        scale = nonzero(D * jnp.maximum(D, row_lengths(Y)))
        g = -correlate(Y - jnp.matmul(x, E, precision="highest"), E) / scale
        residual = jnp.max(jnp.abs(x - project_simplex(x - g)), axis=-1)
    else:
        n, u = nonzero(row_lengths(E)[:, 0]), nonzero(row_lengths(Y))
        g = -correlate(Y - jnp.matmul(x, E, precision="highest"), E / n[:, None]) / u
        x = x * n[None, None, :] / u
        residual = jnp.max(jnp.abs(x - project_cone(x - g)), axis=-1)
    return residual if mask is None else jnp.where(mask, residual, 0.0)


def check_problem(cube: Array, endmembers: Array, mask: Array | None) -> None:
    """Raise InputError unless cube, endmembers and mask fit and, outside jit, hold finite numbers."""
    check_cube(cube)
    check_endmembers(endmembers, np.shape(cube)[2])
    check_mask(mask, cube)
    check_finite(cube, mask)
    if concrete(endmembers):
        check_finite(np.asarray(endmembers)[None], name="endmembers")


def prepare(cube: Array, endmembers: Array, mask: Array | None) -> tuple[jax.Array, jax.Array]:
    """Check the inputs and return pixels (N, B), masked ones zero, and endmembers."""
    check_problem(cube, endmembers, mask)
    Y = wide(cube)
    if mask is not None:
        Y = jnp.where(mask[..., None], Y, 0.0)
    return Y.reshape(-1, Y.shape[-1]), wide(endmembers)


def finish(x: jax.Array, cube: Array, mask: Array | None) -> jax.Array:
    """Return (N, R) as (H, W, R), 0 in masked pixels."""
    x = x.reshape(*np.shape(cube)[:2], x.shape[-1])
    return x if mask is None else jnp.where(mask[..., None], x, 0.0)


@jax.custom_jvp
def _nnls(Y: jax.Array, E: jax.Array) -> jax.Array:
    """Return the NNLS coefficients (N, R) of pixels (N, B)."""
    n = nonzero(row_lengths(E))
    Q, T = lapack.qr((E / n).T)
    return solve(Y, None, Q, T.T, sum_to_one=False) / n.T


@_nnls.defjvp
def _nnls_jvp(primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
    (Y, E), (dY, dE) = primals, tangents
    x = _nnls(Y, E)
    inside = x > 0.0
    n = nonzero(row_lengths(E))[:, 0]
    g = _gradient_change(Y, E, x, dY, dE) / n[None, :]
    return x, small_systems.solve_on_faces(gram(E / n[:, None]), inside, g) / n[None, :]


@jax.custom_jvp
def _fcls(Y: jax.Array, E: jax.Array) -> jax.Array:
    """Return the FCLS abundances (N, R) of pixels (N, B).

    Only coordinates in the affine hull of the endmembers matter: the rest of the distance is the same for all a.
    """
    if E.shape[0] == 1:
        return jnp.where(jnp.isnan(Y).any(axis=-1, keepdims=True), jnp.nan, jnp.ones((Y.shape[0], 1), Y.dtype))
    m = jnp.mean(E, axis=0, keepdims=True)
    D = nonzero(jnp.max(row_lengths(E - m)))
    Q, T = lapack.qr(((E - m) / D).T)
    return solve(Y, m[0], Q / D, T.T, sum_to_one=True)


@_fcls.defjvp
def _fcls_jvp(primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
    (Y, E), (dY, dE) = primals, tangents
    a = _fcls(Y, E)
    inside = a > 0.0
    # The change of a sums to zero: neither a shift of all spectra nor k 1 1^T added to the Gram matrix changes it, and
    # with both the matrix is regular if the endmembers are affinely independent (one may be zero).
    m = jnp.mean(E, axis=0, keepdims=True)
    C = E - m
    G = gram(C)
    k = nonzero(jnp.max(jnp.diagonal(G)))
    G = G / k + 1.0
    g = _gradient_change(Y - m, C, a, dY, dE) / k
    u = small_systems.solve_on_faces(G, inside, g)
    v = small_systems.solve_on_faces(G, inside, jnp.ones_like(g))
    return a, u - v * (jnp.sum(u, axis=-1, keepdims=True) / nonzero(jnp.sum(v, axis=-1, keepdims=True)))


def _gradient_change(Y: jax.Array, E: jax.Array, x: jax.Array, dY: jax.Array, dE: jax.Array) -> jax.Array:
    """Return the derivative of (y - x E) E^T at fixed x."""
    r = Y - jnp.matmul(x, E, precision="highest")
    change = jnp.matmul(dY - jnp.matmul(x, dE, precision="highest"), E.T, precision="highest")
    return jnp.matmul(r, dE.T, precision="highest") + change


_RANK = 8.0
"""Tolerance, in units of eps times R times the largest singular value, below which a singular value counts as zero."""


def ucls(cube: Array, endmembers: Array, *, mask: Array | None = None) -> jax.Array:
    r"""Find the coefficients of each pixel without any constraint.

    min over x of |y - x E|^2; with dependent endmembers the shortest solution.

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
    part sums to zero; with dependent endmembers the solution nearest to equal abundances.

    Args:
        cube, endmembers, mask: as `ucls`.

    Returns:
        (H, W, R), summing to one; 0 in masked pixels, NaN in pixels that hold NaN. Differentiable.

    Raises:
        InputError: as `ucls`.

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
