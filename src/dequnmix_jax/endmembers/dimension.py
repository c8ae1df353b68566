"""Estimate the number of endmembers of a scene without a reference: HySime and the virtual dimension."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from dequnmix_jax.checks import Array, InputError
from dequnmix_jax.endmembers.noise import moments, noise_moments


class Dimension(NamedTuple):
    """An estimated number of endmembers and the evidence for it.

    Attributes:
        number: () int32, in how many directions the evidence exceeds its threshold.
        evidence: (B,), in the order of the directions.
        thresholds: (B,), which the evidence must exceed, in the same units.
    """

    number: jax.Array
    evidence: jax.Array
    thresholds: jax.Array


def hysime(cube: Array, *, mask: Array | None = None) -> Dimension:
    r"""Count the directions of signal that minimise the squared error of a projection: HySime.

    v are the eigenvectors of the signal's second moments C_x = mean (y - n)(y - n)^T, with the noise n of each pixel by
    regression on the other bands, and C_n = mean n n^T. A direction belongs to the signal if its energy v^T C_y v
    exceeds the cost of its noise, 2 v^T C_n v. C_n is corrected for the coefficients of the regression.

    The mean counts: a scene of R materials has R directions, one more if their spectra vary, fewer if two are equal to
    within the noise. It needs more pixels than bands, and several times as many for a good estimate of the noise.

    Args:
        cube: (H, W, B), any units.
        mask: (H, W) bool, True for valid pixels.

    Returns:
        number; evidence v^T C_y v and thresholds 2 v^T C_n v, squared units of the cube, in descending order of the
        signal. With at most B valid pixels the number is 0 and the rest NaN.

    Raises:
        InputError: if the shapes do not fit, or outside jit if values of valid pixels are not finite.

    Reference:
        Bioucas-Dias and Nascimento, Hyperspectral subspace identification, IEEE TGRS 46(8), 2008.
    """
    evidence, noise = noise_moments(cube, mask)
    return _counted(evidence, 2 * noise)


def virtual_dimension(
    cube: Array, *, mask: Array | None = None, false_alarm: float = 1e-3, whitened: bool = True
) -> Dimension:
    r"""Count the directions in which the mean has a component: the virtual dimension, HFC or noise-whitened (NWHFC).

    l^_b are the eigenvalues of the second moments and l_b those of the covariance, both in descending order. Direction
    b holds signal if l^_b - l_b > tau_b, tau_b = sqrt(2 (l^_b^2 + l_b^2) / N) Phi^-1(1 - P): a Neyman-Pearson test of
    the probability P that noise alone passes.

    Args:
        cube: (H, W, B), any units.
        mask: (H, W) bool, True for valid pixels.
        false_alarm: P, static, in (0, 0.5).
        whitened: static; True: NWHFC, which first divides each band by its noise (`band_noise`). False: HFC.

    Returns:
        number; evidence l^ - l and thresholds tau. If `whitened` and at most B pixels, the number is 0 and the rest
        NaN.

    Raises:
        InputError: if the shapes do not fit, P is out of range, or outside jit if values of valid pixels are not
            finite.

    Reference:
        Harsanyi, Farrand and Chang, Determining the number and identity of spectral endmembers, Proc. 9th Thematic
        Conference on Geologic Remote Sensing, 1993; Chang and Du, Estimation of number of spectrally distinct signal
        sources in hyperspectral imagery, IEEE TGRS 42(3), 2004.
    """
    if not 0.0 < false_alarm < 0.5:
        raise InputError(f"false_alarm is {false_alarm}; expected a probability in (0, 0.5), such as 0.001.")
    second, covariance, pixels = moments(cube, mask, whitened)
    sigma = jnp.sqrt(2 * (second * second + covariance * covariance) / jnp.maximum(pixels, 1))
    return _counted(second - covariance, sigma * jax.scipy.stats.norm.isf(jnp.asarray(false_alarm, sigma.dtype)))


def _counted(evidence: jax.Array, thresholds: jax.Array) -> Dimension:
    return Dimension(jnp.sum(evidence > thresholds, dtype=jnp.int32), evidence, thresholds)
