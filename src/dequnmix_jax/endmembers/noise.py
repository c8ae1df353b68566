"""Estimate the noise of each band without a reference, and the signal that R spectra leave unexplained."""

import jax
import jax.numpy as jnp
import numpy as np

from dequnmix_jax.checks import Array, check_cube, check_finite, check_mask
from dequnmix_jax.mixing import wide
from dequnmix_jax.ops import lapack
from dequnmix_jax.ops.guards import nonzero, positive

_FLOOR = 4.0
"""In units of the rounding error of the largest singular value: smaller ones are unknown."""

_UNSURE = 1.05
"""Sums of noise energies whose ratio is below this count as equal."""


def band_noise(cube: Array, *, mask: Array | None = None) -> jax.Array:
    r"""Estimate the standard deviation of the noise in each band, by regression on all other bands.

    With the second moments C = Y^T Y / N of the pixels, the residual of a band after regression on the others has the
    mean square 1 / (C^{-1})_bb; the factor N / (N - B + 1) of a regression with B - 1 coefficients corrects for the
    noise that the regression has fitted.

    Args:
        cube: (H, W, B), any units.
        mask: (H, W) bool, True for valid pixels.

    Returns:
        (B,), >= 0, in the units of the cube; NaN in all bands if there are at most B valid pixels, because then every
        band is predicted exactly. In float32 noise below 1e-6 of the RMS of the cube is estimated as about 1e-6.

    Raises:
        InputError: if the shapes do not fit, or outside jit if values of valid pixels are not finite.

    Reference:
        Roger and Arnold, Reliably estimating the noise in AVIRIS hyperspectral images, International Journal of Remote
        Sensing 17(10), 1996; Bioucas-Dias and Nascimento, Hyperspectral subspace identification, IEEE TGRS 46(8), 2008
        (its noise estimate).
    """
    return jnp.sqrt(_noise_energy(*_principal(cube, mask)))


def variability(cube: Array, count: int, *, mask: Array | None = None) -> jax.Array:
    r"""Return the share of the unexplained energy of `count` spectra that is not noise.

    1 - sum_b sigma_b^2 / sum_{k > R} lambda_k, within [0, 1]: lambda are the eigenvalues of Y^T Y / N, largest first,
    so that the sum over k > R is the mean energy of a pixel that no R spectra explain, and sigma_b is that of
    `band_noise`. Near 0 the linear mixing model with R endmembers fits to the noise; near 1 the spectra of the
    materials vary from pixel to pixel, mix nonlinearly, or are more than R.

    Args:
        cube: (H, W, B), any units.
        count: R, static, how many endmembers.
        mask: (H, W) bool, True for valid pixels.

    Returns:
        (), in [0, 1], no unit; 1 if the noise is unknown (no more valid pixels than bands).

    Raises:
        InputError: as `band_noise`.
    """
    energies, axes, valid = _principal(cube, mask)
    unexplained = jnp.sum(energies[count:])
    share = 1 - jnp.sum(_noise_energy(energies, axes, valid)) / positive(unexplained)
    return jnp.where(jnp.isnan(share), 1, jnp.clip(share, 0, 1))


def unexplained(cube: Array, count: int, *, mask: Array | None = None) -> jax.Array:
    r"""Return the share of the energy of the pixels that no `count` spectra explain.

    sum_{k > R} lambda_k / sum_k lambda_k, lambda the eigenvalues of Y^T Y / N, largest first: the squared sine of the
    angle between the pixels and the best R-dimensional space, noise included.

    Args:
        cube: (H, W, B), any units.
        count: R, static, how many endmembers.
        mask: (H, W) bool, True for valid pixels.

    Returns:
        (), in [0, 1], no unit.

    Raises:
        InputError: as `band_noise`.
    """
    energies, _, _ = _principal(cube, mask)
    total = jnp.sum(energies)
    return jnp.sum(energies[count:]) / positive(total)


def signal_subspace(cube: Array, count: int, *, mask: Array | None = None) -> jax.Array:
    r"""Return the projector on the directions of spectral space that hold more signal than noise.

    P = sum of v_k v_k^T over the first R principal directions and all others with v_k^T C v_k > 2 v_k^T N v_k, where
    C = Y^T Y / N are the second moments and N = diag(sigma_b^2) those of the noise: the directions that the
    least-squares criterion of HySime keeps.

    Args:
        cube: (H, W, B), any units.
        count: R, static; the first R directions are always kept.
        mask: (H, W) bool, True for valid pixels.

    Returns:
        (B, B), a symmetric projector; the identity if the noise is unknown (no more valid pixels than bands).

    Raises:
        InputError: as `band_noise`.

    Reference:
        Bioucas-Dias and Nascimento, Hyperspectral subspace identification, IEEE TGRS 46(8), 2008, equations 18 to 20.
    """
    energies, axes, valid = _principal(cube, mask)
    noise = _noise_energy(energies, axes, valid)
    kept = energies > 2 * jnp.matmul(noise, jnp.square(axes), precision="highest")
    kept = kept | (jnp.arange(energies.size) < count)
    chosen = axes * kept[None].astype(axes.dtype)
    projector = jnp.matmul(chosen, chosen.T, precision="highest")
    return jnp.where(jnp.isnan(noise[0]), jnp.eye(energies.size, dtype=projector.dtype), projector)


def signal_directions(cube: Array, *, mask: Array | None = None) -> jax.Array:
    r"""Count the directions that hold more signal than noise, under the simplex and under the cone.

    Mixtures of R spectra with abundances that sum to one fill an affine plane: the mean and R - 1 directions about it.
    With a brightness for each pixel they fill a cone in the span of R directions. A direction v counts if
    v^T C v > 2 v^T N v: C are the moments of the pixels about the mean (one is added for the mean itself) or about
    zero, N = diag(sigma_b^2) those of the noise. With fewer than R directions, R materials cannot be distinguished.

    Args:
        cube: (H, W, B), any units.
        mask: (H, W) bool, True for valid pixels.

    Returns:
        (2,), whole numbers in the type of the cube, for the simplex and for the cone; B if the noise is unknown (no
        more valid pixels than bands).

    Raises:
        InputError: as `band_noise`.
    """
    energies, axes, valid = _principal(cube, mask)
    noise = _noise_energy(energies, axes, valid)
    Y = wide(cube)
    seen = jnp.ones(Y.shape[:2], jnp.bool_) if mask is None else jnp.asarray(mask)
    mean = jnp.sum(jnp.where(seen[..., None], Y, 0), axis=(0, 1), keepdims=True) / jnp.maximum(valid, 1)
    inner, turned = _energies(jnp.where(seen[..., None], Y - mean, 0))

    def above_noise(energies: jax.Array, axes: jax.Array) -> jax.Array:
        least = 2 * jnp.matmul(noise, jnp.square(axes), precision="highest")
        return jnp.sum((energies > least).astype(Y.dtype))

    numbers = jnp.stack([1 + above_noise(inner / jnp.maximum(valid, 1), turned), above_noise(energies, axes)])
    return jnp.where(jnp.isnan(noise[0]), jnp.asarray(energies.size, Y.dtype), numbers)


def simplex_noise(cube: Array, count: int, *, mask: Array | None = None) -> jax.Array:
    r"""Return the expected distance of pixels from the simplex of `count` endmembers, as a variance in each band.

    sigma_b^2 + max(U - S, 0) / R, with S = sum_b sigma_b^2 from `band_noise` and the energy U = sum_{k > R} lambda_k
    that R spectra leave unexplained. The part of U that is not noise (spectra that vary from pixel to pixel) is
    expected to have as much energy in the R directions of the simplex as in all others together, because the largest
    directions are among the R. If the noise is unknown: U / (B - R) in every band.

    Args:
        cube: (H, W, B), any units.
        count: R, static, how many endmembers.
        mask: (H, W) bool, True for valid pixels.

    Returns:
        (B,), >= 0, squared units of the cube.

    Raises:
        InputError: as `band_noise`.
    """
    energies, axes, valid = _principal(cube, mask)
    noise = _noise_energy(energies, axes, valid)
    unexplained = jnp.sum(energies[count:])
    # The noise is known to some per cent only: smaller differences count as zero.
    varied = jnp.maximum(unexplained - _UNSURE * jnp.sum(noise), 0) / count
    return jnp.where(jnp.isnan(noise), unexplained / max(energies.size - count, 1), noise + varied)


def noise_moments(cube: Array, mask: Array | None) -> tuple[jax.Array, jax.Array]:
    """Return v^T C_y v and v^T C_n v, (B,) each, for the eigenvectors v of the signal's second moments (see `hysime`).

    With P = C_y^{-1} and its diagonal D, the noise of a pixel by regression is n = D^{-1} P y, so that C_n = D^{-1} P
    D^{-1}, and a root of C_x is that of C_y times I - P D^{-1}. All are computed from singular values, which avoids
    small differences of large numbers.
    """
    energies, axes, valid = _principal(cube, mask)
    size = jnp.sqrt(positive(energies))[:, None]
    precision = jnp.matmul(jnp.square(axes), 1 / jnp.square(size[:, 0]), precision="highest")
    noise_root = axes.T / size / precision[None]
    root = axes.T * jnp.sqrt(energies)[:, None]
    directions = lapack.svd(root - noise_root)[2].T
    freedom = valid - (energies.size - 1)
    correction = valid / jnp.where(freedom > 1, freedom, 1)
    total, own = (
        jnp.sum(jnp.square(jnp.matmul(x, directions, precision="highest")), axis=0) for x in (root, noise_root)
    )
    noise = jnp.where(energies[0] > 0, correction * own, 0)
    return jnp.where(freedom > 1, total, jnp.nan), jnp.where(freedom > 1, noise, jnp.nan)


def moments(cube: Array, mask: Array | None, whitened: bool) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the eigenvalues of the second moments and of the covariance, (B,) each, largest first, and the pixels ().

    Args:
        cube, mask: as `band_noise`.
        whitened: whether each band is first divided by its noise.
    """
    if whitened:
        sigma = band_noise(cube, mask=mask)
        Y = wide(cube) / nonzero(sigma)[None, None]  # NaN stays NaN
        return _two_moments(Y, mask)
    check_cube(cube)
    check_mask(mask, cube)
    check_finite(cube, mask)
    return _two_moments(wide(cube), mask)


def _two_moments(Y: jax.Array, mask: Array | None) -> tuple[jax.Array, jax.Array, jax.Array]:
    valid = jnp.ones(Y.shape[:2], jnp.bool_) if mask is None else jnp.asarray(mask)
    pixels = jnp.maximum(jnp.sum(valid), 1).astype(Y.dtype)
    Y = jnp.where(valid[..., None], Y, 0)
    mean = jnp.sum(Y, axis=(0, 1), keepdims=True) / pixels
    second, covariance = (_energies(x)[0] for x in (Y, jnp.where(valid[..., None], Y - mean, 0)))
    # Values below the rounding error of the larger one are unknown.
    least = jnp.square(_FLOOR * jnp.finfo(Y.dtype).eps) * second[0]
    return second / pixels, jnp.maximum(covariance, least) / pixels, pixels


def _energies(cube: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the squared singular values (B,) of the pixels, bounded below by their rounding, and directions (B, B)."""
    pixels = cube.reshape(-1, cube.shape[-1])
    missing = max(pixels.shape[1] - pixels.shape[0], 0)
    (root,) = lapack.qr_root(jnp.pad(pixels, ((0, missing), (0, 0))))
    _, sizes, axes = lapack.svd(root)
    return jnp.square(jnp.maximum(sizes, _FLOOR * jnp.finfo(cube.dtype).eps * sizes[0])), axes.T


def _principal(cube: Array, mask: Array | None) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Check the inputs and return the principal directions of the pixels, largest first.

    From the singular values of the pixels, not the eigenvalues of their second moments: the energies of a scene span
    eight digits and more, of which float32 squares keep five (the noise of RELAB was estimated 700 times too large).

    Returns:
        energies (B,), the mean square of a pixel along each direction; directions (B, B) as columns; valid pixels ().
    """
    check_cube(cube)
    check_mask(mask, cube)
    check_finite(cube, mask)
    Y = wide(cube)
    if mask is not None:
        Y = jnp.where(mask[..., None], Y, 0)
    valid = jnp.asarray(np.prod(Y.shape[:2]) if mask is None else jnp.sum(mask), Y.dtype)
    energies, axes = _energies(Y)
    return energies / jnp.maximum(valid, 1), axes, valid


def _noise_energy(energies: jax.Array, axes: jax.Array, valid: jax.Array) -> jax.Array:
    """Return the mean square of the noise in each band, (B,)."""
    precision = jnp.matmul(jnp.square(axes), 1 / positive(energies), precision="highest")
    freedom = valid - (energies.size - 1)
    left = valid / jnp.where(freedom > 1, freedom, 1) / precision
    return jnp.where(freedom > 1, jnp.where(energies[0] > 0, left, 0), jnp.nan)
