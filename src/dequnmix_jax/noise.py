"""Tell noise from signal without a reference: the noise of each band, and what R spectra leave beyond it."""

import jax
import jax.numpy as jnp
import numpy as np

from dequnmix_jax.checks import Array, check_cube, check_finite, check_mask

_FLOOR = 4.0
"""Roundings of the largest singular value below which another one is not known."""


def band_noise(cube: Array, *, mask: Array | None = None) -> jax.Array:
    r"""Estimate the standard deviation of the noise in each band, by regression on all the others.

    With C = Y^T Y / N the second moments of the pixels, what a band holds that a linear combination of the others
    does not predict has the mean square 1 / (C^{-1})_bb; the N / (N - B + 1) of a regression with B - 1 coefficients
    corrects it for the noise that the combination has fitted.

    Args:
        cube: (H, W, B), any units.
        mask: (H, W) bool, True where the pixel is valid.

    Returns:
        (B,), >= 0, in the units of the cube; NaN in all bands unless there are more than B valid pixels, because then
        every band is predicted exactly. In float32 a noise below 1e-6 of the RMS of the cube reads as about that.

    Raises:
        InputError: if the shapes do not fit, or outside jit if values of valid pixels are not finite.

    Reference:
        Roger and Arnold, Reliably estimating the noise in AVIRIS hyperspectral images, International Journal of Remote
        Sensing 17(10), 1996; Bioucas-Dias and Nascimento, Hyperspectral subspace identification, IEEE TGRS 46(8), 2008
        (its noise estimate).
    """
    return jnp.sqrt(_noise_energy(*_principal(cube, mask)))


def variability(cube: Array, count: int, *, mask: Array | None = None) -> jax.Array:
    r"""Return which share of what `count` spectra leave unexplained is not noise.

    1 - sum_b sigma_b^2 / sum_{k > R} lambda_k, within [0, 1]: lambda are the eigenvalues of Y^T Y / N, largest first,
    so that the sum over k > R is the mean energy of a pixel that no R spectra explain, and sigma_b that of
    `band_noise`. Near 0 the linear mixing model with R endmembers holds to the noise; near 1 the spectra of the
    materials vary from pixel to pixel, mix nonlinearly, or are more than R.

    Args:
        cube: (H, W, B), any units.
        count: R, static, how many endmembers.
        mask: (H, W) bool, True where the pixel is valid.

    Returns:
        (), in [0, 1], no unit; 1 where the noise cannot be told (not more valid pixels than bands).

    Raises:
        InputError: as `band_noise`.
    """
    energies, axes, valid = _principal(cube, mask)
    unexplained = jnp.sum(energies[count:])
    share = 1 - jnp.sum(_noise_energy(energies, axes, valid)) / jnp.where(unexplained > 0, unexplained, 1)
    return jnp.where(jnp.isnan(share), 1, jnp.clip(share, 0, 1))


def signal_subspace(cube: Array, count: int, *, mask: Array | None = None) -> jax.Array:
    r"""Return the projector on the directions of spectral space that hold more signal than noise.

    P = sum of v_k v_k^T over the first R principal directions and all others with v_k^T C v_k > 2 v_k^T N v_k, where
    C = Y^T Y / N are the second moments and N = diag(sigma_b^2) those of the noise: the directions that the
    least-squares criterion of HySime keeps.

    Args:
        cube: (H, W, B), any units.
        count: R, static; so many directions are kept in any case.
        mask: (H, W) bool, True where the pixel is valid.

    Returns:
        (B, B), a symmetric projector; the identity where the noise cannot be told (not more valid pixels than bands).

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


def _principal(cube: Array, mask: Array | None) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Check the inputs and return the principal directions of the pixels, largest first.

    By singular values of the pixels and not by eigenvalues of their second moments: the energies of a scene span eight
    digits and more, of which float32 squares hold five (the noise of RELAB read 700 times too large).

    Returns:
        energies (B,), the mean square of a pixel along each direction; directions (B, B) as columns; valid pixels ().
    """
    check_cube(cube)
    check_mask(mask, cube)
    check_finite(cube, mask)
    Y = jnp.asarray(cube)
    if mask is not None:
        Y = jnp.where(mask[..., None], Y, 0)
    valid = jnp.asarray(np.prod(Y.shape[:2]) if mask is None else jnp.sum(mask), Y.dtype)
    pixels = Y.reshape(-1, Y.shape[-1])
    missing = max(pixels.shape[1] - pixels.shape[0], 0)
    root = jnp.linalg.qr(jnp.pad(pixels, ((0, missing), (0, 0))), mode="r")
    _, sizes, axes = jnp.linalg.svd(root)
    sizes = jnp.maximum(sizes, _FLOOR * jnp.finfo(Y.dtype).eps * sizes[0])
    return jnp.square(sizes) / jnp.maximum(valid, 1), axes.T, valid


def _noise_energy(energies: jax.Array, axes: jax.Array, valid: jax.Array) -> jax.Array:
    """Return the mean square of the noise in each band, (B,)."""
    precision = jnp.matmul(jnp.square(axes), 1 / jnp.where(energies > 0, energies, 1), precision="highest")
    freedom = valid - (energies.size - 1)
    left = valid / jnp.where(freedom > 1, freedom, 1) / precision
    return jnp.where(freedom > 1, jnp.where(energies[0] > 0, left, 0), jnp.nan)
