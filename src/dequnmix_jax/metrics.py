"""Measures of the error of an estimate against a reference or the cube.

All measures are differentiable with finite gradients, also where they are zero, so each can serve as a loss. Pixels
outside the mask have no influence, whatever values they hold.
"""

import jax
import jax.numpy as jnp
import numpy as np
from optax.assignment import hungarian_algorithm

from dequnmix_jax.checks import Array, InputError, check_cube, check_endmembers, check_mask, how_many
from dequnmix_jax.conventions import rescale
from dequnmix_jax.mixing import check_abundances, correlate, linear_mix, scale_to_unit_maximum
from dequnmix_jax.ops import lapack
from dequnmix_jax.ops.guards import positive
from dequnmix_jax.ops.xla import largest

_assigned = jax.jit(hungarian_algorithm)  # outside of jit, each call would be compiled anew


def match(cost: Array) -> tuple[Array, Array]:
    """Return the matching with the smallest sum of costs, using each row and each column at most once.

    Args:
        cost: (M, N), finite; M and N may differ.

    Returns:
        Rows and columns, min(M, N) of each: rows[i] is matched with columns[i].

    Reference:
        Kuhn, The Hungarian method for the assignment problem, Naval Research Logistics 2, 1955.
    """
    rows, columns = _assigned(jnp.asarray(cost, jnp.float32))
    return np.asarray(rows), np.asarray(columns)


def _norm(x: jax.Array) -> jax.Array:
    """Return the Euclidean norm over the last axis, which is kept, with derivative 0 (not NaN) at x = 0."""
    return _root(jnp.sum(x * x, axis=-1, keepdims=True))


def _root(square: jax.Array) -> jax.Array:
    """Return the square root with derivative 0 (not infinite) at 0; NaN stays NaN."""
    zero = square <= 0.0
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, square)))


def _unit(x: jax.Array) -> jax.Array:
    length = _norm(x)
    return x / jnp.where(length <= 0.0, 1.0, length)


def spectral_angle(a: Array, b: Array) -> jax.Array:
    """Return the angle between spectra, along the last axis.

    2 arctan2(|u - v|, |u + v|) with u = a / |a|, v = b / |b|. This is exact for small angles, at which the arc cosine
    of u . v may round to NaN and has no derivative.

    Args:
        a: (..., B), any real spectra.
        b: (..., B); leading axes equal those of `a`, or are 1 to be repeated.

    Returns:
        (...), radians in [0, pi]; pi/2 if exactly one of the two is zero, 0 if both are. The gradient is finite
        everywhere: 0 at parallel spectra.

    Raises:
        InputError: if the shapes do not fit.

    Reference:
        Kruse et al., The spectral image processing system (SIPS), Remote Sensing of Environment 44, 1993. The formula:
        Kahan, How futile are mindless assessments of roundoff, 2006, section 12.

    >>> round(float(spectral_angle(jnp.array([1.0, 0.0]), jnp.array([1.0, 1.0]))), 4)
    0.7854
    """
    fits = np.ndim(a) == np.ndim(b) >= 1 and np.shape(a)[-1] == np.shape(b)[-1] > 0
    if not fits or any(m != n and 1 not in (m, n) for m, n in zip(np.shape(a), np.shape(b), strict=True)):
        raise InputError(
            f"spectra have shapes {np.shape(a)} and {np.shape(b)}; expected the same number of axes with the same "
            "bands on the last. Give one spectrum the axes of the other, as in b[None, None, :]."
        )
    u, v = _unit(jnp.asarray(a)), _unit(jnp.asarray(b))
    return 2.0 * jnp.arctan2(_norm(u - v), _norm(u + v))[..., 0]


def mean_spectral_angle(cube: Array, reconstruction: Array, mask: Array | None = None) -> jax.Array:
    """Return the mean spectral angle between a cube and its reconstruction.

    mean over pixels of angle(y, y^).

    Args:
        cube: (H, W, B).
        reconstruction: (H, W, B).
        mask: (H, W) bool, True where the pixel counts.

    Returns:
        (), radians in [0, pi].

    Raises:
        InputError: if the shapes do not fit.
    """
    Y, Z = _pair(cube, reconstruction, mask, "reconstruction")
    return _mean(spectral_angle(Y, Z), mask)


def armse(estimate: Array, reference: Array, mask: Array | None = None) -> jax.Array:
    """Return the root mean squared error of each abundance map, averaged over the maps.

    mean over r of sqrt(mean over pixels of (a^ - a)^2). The maps must be in the same order, see `align`. This is the
    aRMSE of the DEQ papers; other papers report `pooled_rmse`, which is never smaller.

    Args:
        estimate: (H, W, R).
        reference: (H, W, R).
        mask: (H, W) bool, True where the pixel counts.

    Returns:
        (), >= 0, in the units of the abundances.

    Raises:
        InputError: if the shapes do not fit.
    """
    a, b = _pair(estimate, reference, mask, "reference")
    return jnp.mean(_root(_mean(jnp.square(a - b), mask)))


def pooled_rmse(estimate: Array, reference: Array, mask: Array | None = None) -> jax.Array:
    """Return the root mean squared error over all entries of all maps.

    sqrt(mean over pixels and r of (a^ - a)^2).

    Args:
        estimate, reference, mask: as `armse`; or any other arrays (H, W, channels).

    Returns:
        (), >= 0, in the units of the inputs.

    Raises:
        InputError: if the shapes do not fit.
    """
    a, b = _pair(estimate, reference, mask, "reference")
    return _root(jnp.mean(_mean(jnp.square(a - b), mask)))


def msad(estimate: Array, reference: Array) -> jax.Array:
    """Return the mean spectral angle distance between endmembers in the same order (see `align`).

    mean over r of angle(e^_r, e_r).

    Args:
        estimate: (R, B).
        reference: (R, B).

    Returns:
        (), radians in [0, pi].

    Raises:
        InputError: if the shapes do not fit.
    """
    _check_spectra(estimate, reference)
    return jnp.mean(spectral_angle(estimate, reference))


def in_unit(abundances: Array, factors: Array) -> jax.Array:
    """Return abundances in another unit of the spectra.

    Fractions depend on the unit of the spectra. If e_r = g_r f_r, the mixture sum_r a_r e_r has the fractions

        b_r = g_r a_r / sum_k g_k a_k

    of the spectra f. For a scene y = A E in its own units, the fractions of the spectra scaled to maximum 1 are
    `in_unit(A, E.max(1))`; the fractions of a scaled model become those of spectra at the levels l by
    `in_unit(A, 1 / l)`. `mixing.convert` does both by the name of the convention, and converts brightness too.

    Args:
        abundances: (H, W, R), >= 0.
        factors: (R,), > 0: g, the scale of each old spectrum in the new unit.

    Returns:
        (H, W, R), summing to one; 0 where all abundances of a pixel are 0.

    Raises:
        InputError: if the shapes do not fit.

    >>> in_unit(jnp.array([[[0.5, 0.5]]]), jnp.array([3.0, 1.0])).tolist()
    [[[0.75, 0.25]]]
    """
    check_cube(abundances, "abundances")
    if np.shape(factors) != np.shape(abundances)[2:]:
        raise InputError(
            f"factors have shape {np.shape(factors)} and abundances {np.shape(abundances)}; expected one factor for "
            "each endmember."
        )
    converted: jax.Array = rescale(jnp.asarray(abundances), jnp.asarray(factors))[0]
    return converted


def convention_errors(abundances: Array, endmembers: Array, cube: Array, mask: Array | None = None) -> jax.Array:
    """Return how well fractions reproduce a cube, as those of spectra at their level and at maximum one.

    min |P Y - s A U|_F / |P Y|_F, P the projection on the span of the spectra, which removes most of the noise, with

    1. U = E and one factor s >= 0 for the whole scene (A sums to one; the factor is the unit of the cube),
    2. U = E and a brightness s >= 0 in each pixel,
    3. U = E divided by the maximum of each spectrum, and a brightness s >= 0 in each pixel.

    Args:
        abundances: (H, W, R), >= 0.
        endmembers: (R, B).
        cube: (H, W, B).
        mask: (H, W) bool, True where the pixel counts.

    Returns:
        (3,), relative errors, >= 0.

    Raises:
        InputError: if the shapes do not fit.
    """
    check_abundances(abundances, endmembers)
    A, E = jnp.asarray(abundances), jnp.asarray(endmembers)
    Y, first = _pair(cube, linear_mix(A, E), mask, "mixture of the abundances")
    Y = linear_mix(correlate(Y, lapack.pinv(E).T), E)
    scaled = linear_mix(A, scale_to_unit_maximum(E))
    if mask is not None:
        scaled = jnp.where(jnp.asarray(mask)[..., None], scaled, 0.0)

    def error(mixed: jax.Array, axes: tuple[int, ...]) -> jax.Array:
        power = jnp.sum(jnp.square(mixed), axis=axes, keepdims=True)
        s = jnp.maximum(jnp.sum(Y * mixed, axis=axes, keepdims=True), 0) / positive(power)
        return _root(jnp.sum(jnp.square(Y - s * mixed)) / positive(jnp.sum(jnp.square(Y))))

    return jnp.stack([error(first, (0, 1, 2)), error(first, (2,)), error(scaled, (2,))])


def psnr(estimate: Array, cube: Array, mask: Array | None = None) -> jax.Array:
    """Return the peak signal-to-noise ratio of a reconstruction.

    10 log10(peak^2 / mean (y^ - y)^2). The peak is the largest value of the valid pixels of `cube` over all bands (one
    peak and one mean for the whole cube, not one for each band).

    Args:
        estimate: (H, W, B), the reconstruction.
        cube: (H, W, B), the reference.
        mask: (H, W) bool, True where the pixel counts.

    Returns:
        (), dB; infinite for a perfect reconstruction.

    Raises:
        InputError: if the shapes do not fit.
    """
    a, b = _pair(estimate, cube, mask, "cube")
    peak = largest(b if mask is None else jnp.where(mask[..., None], b, -jnp.inf))
    return 10.0 * jnp.log10(peak * peak / jnp.mean(_mean(jnp.square(a - b), mask)))


def sre(estimate: Array, reference: Array, mask: Array | None = None) -> jax.Array:
    """Return the signal-to-reconstruction error.

    10 log10(sum a^2 / sum (a^ - a)^2).

    Args:
        estimate: (H, W, R), abundances, or any other (H, W, channels).
        reference: (H, W, R).
        mask: (H, W) bool, True where the pixel counts.

    Returns:
        (), dB; infinite for a perfect estimate.

    Raises:
        InputError: if the shapes do not fit.

    Reference:
        Iordache, Bioucas-Dias and Plaza, Sparse unmixing of hyperspectral data, IEEE TGRS 49(6), 2011.
    """
    a, b = _pair(estimate, reference, mask, "reference")
    return 10.0 * jnp.log10(jnp.sum(b * b) / jnp.sum(jnp.square(a - b)))


def align(estimate_endmembers: Array, reference_endmembers: Array) -> jax.Array:
    """Return the order of the estimated endmembers that matches the reference best.

    The permutation p with the smallest sum over r of angle(e^_p(r), e_r): estimate[p] and abundances[..., p] are in the
    order of the reference.

    Args:
        estimate_endmembers: (R, B).
        reference_endmembers: (R, B).

    Returns:
        (R,) int32, a permutation; not differentiable (integers).

    Raises:
        InputError: if the shapes do not fit.

    Reference:
        Kuhn, The Hungarian method for the assignment problem, Naval Research Logistics 2, 1955.
    """
    _check_spectra(estimate_endmembers, reference_endmembers)
    return _align(jnp.asarray(estimate_endmembers), jnp.asarray(reference_endmembers))


@jax.jit
def _align(estimate: jax.Array, reference: jax.Array) -> jax.Array:
    angles = spectral_angle(estimate[None, :, :], reference[:, None, :])
    # A NaN would make the loop of the assignment run forever.
    cost = jax.lax.stop_gradient(jnp.where(jnp.isnan(angles), 2.0 * jnp.pi, angles))
    rows, columns = _assigned(cost)
    return jnp.zeros(cost.shape[0], jnp.int32).at[rows].set(columns.astype(jnp.int32))


def _check_spectra(estimate: Array, reference: Array) -> None:
    check_endmembers(estimate)
    check_endmembers(reference, np.shape(estimate)[1])
    if np.shape(estimate) != np.shape(reference):
        raise InputError(
            f"{how_many(np.shape(estimate)[0], 'endmember')} are to be compared with {np.shape(reference)[0]}; "
            "expected as many in both."
        )


def _pair(a: Array, b: Array, mask: Array | None, name: str) -> tuple[jax.Array, jax.Array]:
    """Check two cubes of equal shape and set their masked pixels to 0, before any arithmetic: the gradient of NaN times
    0 is NaN."""
    check_cube(a)
    check_cube(b, name)
    if np.shape(a) != np.shape(b):
        raise InputError(f"{name} has shape {np.shape(b)}; expected that of the other argument, {np.shape(a)}.")
    check_mask(mask, a)
    x, y = jnp.asarray(a), jnp.asarray(b)
    if mask is None:
        return x, y
    valid = jnp.asarray(mask)[..., None]
    return jnp.where(valid, x, 0.0), jnp.where(valid, y, 0.0)


def _mean(values: jax.Array, mask: Array | None) -> jax.Array:
    """Return the mean over valid pixels of (H, W) or (H, W, C) values that are 0 in masked ones."""
    if mask is None:
        return jnp.mean(values, axis=(0, 1))
    # Under a trace the mask may be all False; the mean is then 0 and not NaN.
    return jnp.sum(values, axis=(0, 1)) / jnp.maximum(jnp.sum(mask), 1).astype(values.dtype)
