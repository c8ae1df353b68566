r"""A prior over neighbours for abundance maps, whose strength is found on the maps themselves.

Maps that pixels are unmixed into one by one are a + e: abundances a that change little from a pixel to the next, and
errors e (noise, spectra that vary from pixel to pixel) that each pixel has by itself. What two pixels differ by tells
them apart: the semivariance G(h) = E (d d^T) / 2, d the difference at the distance h, falls with h to 0 for a, and to
the covariance N of the errors for the sum. This is the nugget effect of geostatistics. With it the posterior mean of a
is known, and neither a reference nor a hand has set its strength.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dequnmix_jax.checks import Array, InputError, check_cube, check_finite, check_kind, check_mask
from dequnmix_jax.mixing import project_simplex, wide
from dequnmix_jax.ops import lapack
from dequnmix_jax.ops.guards import positive

FEWEST = 100
"""Pairs of pixels three apart below which a covariance is not known well enough, and nothing is smoothed."""

_LARGEST = 0.75
"""Share of errors in what neighbours differ by above which it is no more told from 1; the strength is then 0.75."""

_STEPS = 60
"""Of conjugate gradients, at most. The condition number is below 1 + 8 * 0.75: about 20 steps to rounding."""


class Smoother(NamedTuple):
    """How strongly which combinations of abundances are drawn to those of the neighbours.

    Attributes:
        directions: V (R, R), its columns combinations of the maps, a V, whose errors are independent.
        strength: lambda (R,), in [0, 0.75], of each column; 0 leaves it as it is.
    """

    directions: jax.Array
    strength: jax.Array


def identity_smoother(count: int) -> Smoother:
    """Return the smoother that leaves `count` maps as they are."""
    return Smoother(jnp.eye(count, dtype=jnp.float32), jnp.zeros(count, jnp.float32))


def smoother(abundances: Array, *, mask: Array | None = None) -> Smoother:
    r"""Tell the errors of abundance maps from what they show, by how much neighbours differ.

    The parabola through G(1), G(2) and G(3), the semivariances of pixels one to three apart along rows and columns, at
    the distance 0 gives the errors

        N = 3 G(1) - 3 G(2) + G(3),    N v = rho G(1) v,    rho in [0, 0.75],

    rho being the share of errors in what neighbours differ by along the combination v of the maps. The rest, (1 - rho)
    G(1), is a prior for the differences of the true abundances of neighbours (an intrinsic Gaussian field on the grid
    whose neighbours differ so much), and their ratio is the strength of the posterior mean, `smooth`:

        lambda = rho / (4 (1 - rho)).

    Maps that are smooth between neighbours, as the optics of a sensor make them, have N <= 0 and stay as they are. So
    do those whose pixels know nothing of each other (a list of pixels in a random order), where errors and truth cannot
    be told apart: lambda falls from its full value, where errors are up to a quarter of the variance of all maps, to 0
    where they are half of it.

    Args:
        abundances: (H, W, R), from any method.
        mask: (H, W) bool, True where the pixel is valid.

    Returns:
        A Smoother; of strength 0 where fewer than 100 pairs of valid pixels three apart exist. Constant in derivatives.

    Raises:
        InputError: if the shapes do not fit, or outside jit if valid values are not finite.

    Reference:
        Matheron, Principles of geostatistics, Economic Geology 58, 1963 (semivariance and nugget effect); Green et al.,
        A transformation for ordering multispectral data in terms of image quality, IEEE TGRS 26(1), 1988 (noise from
        differences of neighbours, and the directions that order it); Rue and Held, Gaussian Markov Random Fields, 2005,
        chapter 3 (intrinsic fields). Their combination is ours.
    """
    return _found(*_checked(abundances, mask))


def smooth(abundances: Array, found: Smoother | None = None, *, mask: Array | None = None) -> jax.Array:
    r"""Draw abundance maps to those of their neighbours, as strongly as the errors of the maps ask for.

        argmin_A sum_i |a_i - b_i|^2_{N^-1} + 1/4 sum_{i ~ j} |a_i - a_j|^2_{D^-1},    i ~ j: next to each other,

    b the maps that are given, N the covariance of their errors and D = G(1) - N (`smoother`): the posterior mean. Along
    each direction v it is the solution of (1 + lambda L) A v = B v, L the Laplacian of the grid of valid pixels. Last,
    each pixel is projected on the simplex. Sums of one stay as they are.

    Args:
        abundances: B (H, W, R), >= 0 and summing to one.
        found: from `smoother`, of these maps or of a larger scene; None: of these.
        mask: (H, W) bool, True where the pixel is valid; others are no neighbours.

    Returns:
        (H, W, R), >= 0 and summing to one; 0 in masked pixels. Differentiable.

    Raises:
        InputError: if the shapes do not fit, or outside jit if valid values are not finite.
    """
    A, valid = _checked(abundances, mask)
    found = smoother(A, mask=valid) if found is None else found
    check_kind(found, Smoother, "found", "Make it by smoother(abundances).")
    if np.shape(found.directions) != (A.shape[2],) * 2 or np.shape(found.strength) != (A.shape[2],):
        raise InputError(
            f"The smoother has directions {np.shape(found.directions)} and strengths {np.shape(found.strength)}; "
            f"expected those of {A.shape[2]} maps. Make it with smoother() from the maps of the same endmembers."
        )
    return _drawn(A, valid, *(jnp.asarray(part, A.dtype) for part in found))


def _checked(abundances: Array, mask: Array | None) -> tuple[jax.Array, jax.Array]:
    """Return maps, 0 where masked, and what is valid."""
    check_cube(abundances, "abundances")
    check_mask(mask, abundances)
    check_finite(abundances, mask, name="abundances")
    A = wide(jnp.asarray(abundances))
    valid = jnp.ones(A.shape[:2], bool) if mask is None else jnp.asarray(mask)
    return jnp.where(valid[..., None], A, 0), valid


@jax.jit  # run eagerly, its operations and the loop would be compiled one by one
def _found(A: jax.Array, valid: jax.Array) -> Smoother:
    A = lax.stop_gradient(A)
    count = A.shape[2]
    pixels = jnp.maximum(jnp.sum(valid).astype(A.dtype), 1)
    mean = jnp.sum(A, axis=(0, 1)) / pixels
    A = jnp.where(valid[..., None], A - mean[None, None], 0)
    whole = jnp.einsum("hwr,hws->rs", A, A, precision="highest") / pixels
    near, _ = _semivariance(A, valid, 1)
    far, _ = _semivariance(A, valid, 2)
    farther, pairs = _semivariance(A, valid, 3)
    # Along the sum of the maps, which is 1 everywhere, nothing differs: a floor keeps it out of the way.
    size = jnp.trace(near) / count
    values, vectors = lapack.eigh(near + 1e-4 * positive(size) * jnp.eye(count, dtype=A.dtype))
    white = vectors / jnp.sqrt(jnp.maximum(values, jnp.finfo(A.dtype).tiny))[None]
    errors = 3 * near - 3 * far + farther
    turned = jnp.matmul(jnp.matmul(white.T, errors, precision="highest"), white, precision="highest")
    shares, rotation = lapack.eigh((turned + turned.T) / 2)
    V = jnp.matmul(white, rotation, precision="highest")
    V = V / jnp.sqrt(jnp.sum(jnp.square(V), axis=0))[None]
    variance = jnp.trace(whole)
    known = jnp.clip(2 - 4 * jnp.trace(errors) / positive(variance), 0, 1)
    rho = jnp.clip(shares, 0, _LARGEST)
    strength = jnp.where((pairs >= FEWEST) & (variance > 0), known * rho / (4 * (1 - rho)), 0)
    fine = jnp.all(jnp.isfinite(V)) & jnp.all(jnp.isfinite(strength))
    return Smoother(jnp.where(fine, V, jnp.eye(count, dtype=A.dtype)), jnp.where(fine, strength, 0))


@jax.jit
def _drawn(A: jax.Array, valid: jax.Array, V: jax.Array, strength: jax.Array) -> jax.Array:
    smoothed = smooth_linearly(A, valid, Smoother(V, strength))
    return jnp.where(valid[..., None], project_simplex(smoothed), 0)


def smooth_linearly(A: jax.Array, valid: jax.Array, found: Smoother) -> jax.Array:
    """Return what `smooth` projects on the simplex, which is linear in the maps (H, W, R)."""
    V, strength = found
    turned = jnp.matmul(A, V, precision="highest")

    def system(Z: jax.Array) -> jax.Array:
        return Z + strength[None, None] * _laplacian(Z, valid)

    accuracy = 10 * float(jnp.finfo(A.dtype).eps)
    solved, _ = jax.scipy.sparse.linalg.cg(system, turned, x0=turned, tol=accuracy, maxiter=_STEPS)
    return jnp.matmul(solved, lapack.inverse(V), precision="highest")


def _semivariance(A: jax.Array, valid: jax.Array, distance: int) -> tuple[jax.Array, jax.Array]:
    """Return E (d d^T) / 2 (R, R), d what valid pixels so far apart on an axis differ by, and the number of pairs."""
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
