r"""A prior over neighbours for abundance maps, whose strength is estimated from the maps themselves.

Maps of pixels unmixed one by one are a + e: abundances a that change little from a pixel to the next, and errors e
(noise, spectra that vary from pixel to pixel) that are independent between pixels. The semivariance
G(h) = E (d d^T) / 2, d the difference at the distance h, separates them: it falls with h to 0 for a, and to the
covariance N of the errors for the sum. This is the nugget effect of geostatistics. N gives the posterior mean of a,
without a reference and without a strength set by hand.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dequnmix_jax.checks import Array, InputError, check_cube, check_finite, check_kind, check_mask
from dequnmix_jax.mixing import project_simplex, valid_pixels, wide
from dequnmix_jax.ops import lapack
from dequnmix_jax.ops.guards import positive

FEWEST = 100
"""Pairs of pixels three apart that are needed to estimate a covariance; with fewer nothing is smoothed."""

_LARGEST = 0.75
"""Largest share of errors in the differences of neighbours; a larger one cannot be distinguished from 1."""

_STEPS = 60
"""Largest number of steps of conjugate gradients. The condition number is below 1 + 8 * 0.75: about 20 to rounding."""


class Smoother(NamedTuple):
    """How strongly each combination of abundances is smoothed over neighbours.

    Attributes:
        directions: V (R, R), its columns combinations of the maps, a V, whose errors are independent.
        strength: lambda (R,), in [0, 0.75], of each column; 0: not smoothed.
    """

    directions: jax.Array
    strength: jax.Array


def identity_smoother(count: int) -> Smoother:
    """Return the smoother that does not change `count` maps."""
    return Smoother(jnp.eye(count, dtype=jnp.float32), jnp.zeros(count, jnp.float32))


def smoother(abundances: Array, *, mask: Array | None = None) -> Smoother:
    r"""Estimate the errors of abundance maps from the differences of neighbours.

    The parabola through G(1), G(2) and G(3), the semivariances of pixels one to three apart along rows and columns,
    extrapolated to the distance 0, gives the covariance of the errors

        N = 3 G(1) - 3 G(2) + G(3),    N v = rho G(1) v,    rho in [0, 0.75],

    rho the share of errors in the differences of neighbours along the combination v of the maps. The rest,
    (1 - rho) G(1), is the prior covariance of the differences of true abundances of neighbours (an intrinsic Gaussian
    field on the grid), and their ratio is the strength of the posterior mean, `smooth`:

        lambda = rho / (4 (1 - rho)).

    Maps that are smooth between neighbours, as the optics of a sensor make them, have N <= 0 and are not smoothed. Maps
    without spatial order (a list of pixels in random order) are not smoothed either, because their errors cannot be
    separated from the truth:
    lambda falls from its full value, for errors of up to a quarter of the variance of all maps, to 0 for half of it.

    Args:
        abundances: (H, W, R), from any method.
        mask: (H, W) bool, True where the pixel is valid.

    Returns:
        A Smoother, of strength 0 with fewer than 100 pairs of valid pixels three apart. A constant in derivatives.

    Raises:
        InputError: if the shapes do not fit, or outside jit if valid values are not finite.

    Reference:
        Matheron, Principles of geostatistics, Economic Geology 58, 1963 (semivariance and nugget effect); Green et al.,
        A transformation for ordering multispectral data in terms of image quality, IEEE TGRS 26(1), 1988 (noise from
        differences of neighbours, and the directions that order it); Rue and Held, Gaussian Markov Random Fields, 2005,
        chapter 3 (intrinsic fields). Their combination is ours.
    """
    return estimated(*checked(abundances, mask))


def smooth(abundances: Array, prior: Smoother | None = None, *, mask: Array | None = None) -> jax.Array:
    r"""Smooth abundance maps over neighbours, with the strength that their errors determine.

        argmin_A sum_i |a_i - b_i|^2_{N^-1} + 1/4 sum_{i ~ j} |a_i - a_j|^2_{D^-1},    i ~ j: next to each other,

    b the given maps, N the covariance of their errors and D = G(1) - N (`smoother`): the posterior mean. Along each
    direction v it solves (1 + lambda L) A v = B v, L the Laplacian of the grid of valid pixels. Then each pixel is
    projected on the simplex. Sums of one do not change.

    Args:
        abundances: B (H, W, R), >= 0 and summing to one.
        prior: from `smoother`, of these maps or of a larger scene; None: of these.
        mask: (H, W) bool, True where the pixel is valid; masked pixels are not neighbours.

    Returns:
        (H, W, R), >= 0 and summing to one; 0 in masked pixels. Differentiable.

    Raises:
        InputError: if the shapes do not fit, or outside jit if valid values are not finite.
    """
    A, valid = checked(abundances, mask)
    prior = smoother(A, mask=valid) if prior is None else prior
    check_kind(prior, Smoother, "prior", "Make it by smoother(abundances).")
    if np.shape(prior.directions) != (A.shape[2],) * 2 or np.shape(prior.strength) != (A.shape[2],):
        raise InputError(
            f"The smoother has directions {np.shape(prior.directions)} and strengths {np.shape(prior.strength)}; "
            f"expected those of {A.shape[2]} maps. Make it with smoother() from the maps of the same endmembers."
        )
    return _smoothed(A, valid, Smoother(*(jnp.asarray(part, A.dtype) for part in prior)))


def checked(abundances: Array, mask: Array | None, name: str = "abundances") -> tuple[jax.Array, jax.Array]:
    """Return maps, 0 where masked, and the mask of valid pixels."""
    check_cube(abundances, name)
    check_mask(mask, abundances)
    check_finite(abundances, mask, name=name)
    A = wide(jnp.asarray(abundances))
    valid = valid_pixels(A, mask)
    return jnp.where(valid[..., None], A, 0), valid


@jax.jit  # run eagerly, its operations and the loop would be compiled one by one
def estimated(A: jax.Array, valid: jax.Array) -> Smoother:
    """Return the smoother of maps, or of any coordinates of them (H, W, C), 0 where not valid; checked already."""
    A = lax.stop_gradient(A)
    count = A.shape[2]
    pixels = jnp.maximum(jnp.sum(valid).astype(A.dtype), 1)
    mean = jnp.sum(A, axis=(0, 1)) / pixels
    A = jnp.where(valid[..., None], A - mean[None, None], 0)
    whole = jnp.einsum("hwr,hws->rs", A, A, precision="highest") / pixels
    V, shares, errors, pairs = error_directions(A, valid)
    V = V / jnp.sqrt(jnp.sum(jnp.square(V), axis=0))[None]
    variance = jnp.trace(whole)
    known = jnp.clip(2 - 4 * jnp.trace(errors) / positive(variance), 0, 1)
    rho = jnp.clip(shares, 0, _LARGEST)
    strength = jnp.where((pairs >= FEWEST) & (variance > 0), known * rho / (4 * (1 - rho)), 0)
    fine = jnp.all(jnp.isfinite(V)) & jnp.all(jnp.isfinite(strength))
    return Smoother(jnp.where(fine, V, jnp.eye(count, dtype=A.dtype)), jnp.where(fine, strength, 0))


def error_directions(A: jax.Array, valid: jax.Array, errors: jax.Array | None = None) -> tuple[jax.Array, ...]:
    """Return the combinations of maps whose errors are independent, before any limit.

    Args:
        A: (H, W, C), 0 where not valid.
        valid: (H, W) bool.
        errors: N (C, C), the covariance of the errors; None: the nugget 3 G(1) - 3 G(2) + G(3).

    Returns:
        V (C, C), N v = rho G(1) v with v^T G(1) v = 1 (G(1) with a floor); rho (C,); N (C, C); the number of pairs of
        valid pixels three apart.
    """
    count = A.shape[2]
    near, _ = semivariance(A, valid, 1)
    farther, pairs = semivariance(A, valid, 3)
    if errors is None:
        far, _ = semivariance(A, valid, 2)
        errors = 3 * near - 3 * far + farther
    # The sum of the maps is 1 everywhere and has no differences: a floor keeps the matrix regular.
    size = jnp.trace(near) / count
    values, vectors = lapack.eigh(near + 1e-4 * positive(size) * jnp.eye(count, dtype=A.dtype))
    white = vectors / jnp.sqrt(jnp.maximum(values, jnp.finfo(A.dtype).tiny))[None]
    turned = jnp.matmul(jnp.matmul(white.T, errors, precision="highest"), white, precision="highest")
    shares, rotation = lapack.eigh((turned + turned.T) / 2)
    return jnp.matmul(white, rotation, precision="highest"), shares, errors, pairs


@jax.jit
def _smoothed(A: jax.Array, valid: jax.Array, prior: Smoother) -> jax.Array:
    return jnp.where(valid[..., None], project_simplex(smooth_linearly(A, valid, prior)), 0)


def smooth_linearly(A: jax.Array, valid: jax.Array, prior: Smoother) -> jax.Array:
    """Return the posterior mean of `smooth` before its projection: linear in the maps (H, W, R)."""
    V, strength = prior
    turned = jnp.matmul(A, V, precision="highest")

    def system(Z: jax.Array) -> jax.Array:
        return Z + strength[None, None] * _laplacian(Z, valid)

    accuracy = 10 * float(jnp.finfo(A.dtype).eps)
    solved, _ = jax.scipy.sparse.linalg.cg(system, turned, x0=turned, tol=accuracy, maxiter=_STEPS)
    return jnp.matmul(solved, lapack.inverse(V), precision="highest")


def semivariance(A: jax.Array, valid: jax.Array, distance: int) -> tuple[jax.Array, jax.Array]:
    """Return E (d d^T) / 2 (R, R), d the difference of valid pixels at a distance, and the number of pairs."""
    total, pairs = jnp.zeros((A.shape[2],) * 2, A.dtype), jnp.zeros((), A.dtype)
    for axis in (0, 1):
        if A.shape[axis] <= distance:
            continue
        low, high = (
            lax.slice_in_dim(x, begin, A.shape[axis] - distance + begin, axis=axis)
            for x, begin in ((jnp.concatenate([A, valid[..., None].astype(A.dtype)], axis=2), b) for b in (0, distance))
        )
        both = low[..., -1:] * high[..., -1:]
        d = (high[..., :-1] - low[..., :-1]) * both
        total = total + jnp.einsum("hwr,hws->rs", d, d, precision="highest")
        pairs = pairs + jnp.sum(both)
    return total / (2 * jnp.maximum(pairs, 1)), pairs


def _laplacian(Z: jax.Array, valid: jax.Array) -> jax.Array:
    """Return the sum of the differences to the valid neighbours, (H, W, R); 0 in masked pixels."""
    total = jnp.zeros_like(Z)
    for axis in (0, 1):
        size = Z.shape[axis]
        if size < 2:
            continue
        both = lax.slice_in_dim(valid, 1, size, axis=axis) & lax.slice_in_dim(valid, 0, size - 1, axis=axis)
        d = lax.slice_in_dim(Z, 1, size, axis=axis) - lax.slice_in_dim(Z, 0, size - 1, axis=axis)
        d = jnp.where(both[..., None], d, 0)
        before, after = [(0, 0)] * 3, [(0, 0)] * 3
        before[axis], after[axis] = (1, 0), (0, 1)
        total = total + jnp.pad(d, before) - jnp.pad(d, after)
    return total
