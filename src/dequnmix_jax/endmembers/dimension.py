"""How many endmembers a scene holds: HySime and the virtual dimension, without a reference."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from dequnmix_jax.checks import Array, InputError
from dequnmix_jax.endmembers.noise import moments, noise_moments


class Dimension(NamedTuple):
    """A number of endmembers and the evidence for it.

    Attributes:
        number: () int32, in how many directions the evidence exceeds its threshold.
        evidence: (B,), what is compared, in the order of the directions.
        thresholds: (B,), what it has to exceed, in the same units.
    """

    number: jax.Array
    evidence: jax.Array
    thresholds: jax.Array


def hysime(cube: Array, *, mask: Array | None = None) -> Dimension:
    r"""Count the directions of signal by the least squared error of a projection.

    For the eigenvectors v of the signal's second moments, C_x = mean (y - n)(y - n)^T with the noise n of each pixel by
    regression on the other bands, and C_n = mean n n^T: a direction belongs to the signal where what it adds, v^T C_y
    v, exceeds the price of its noise, 2 v^T C_n v. C_n is corrected for the bands that the regression has fitted.

    The mean counts: a scene of R materials has R directions, one more if their spectra vary, fewer where two are alike
    to the noise. Needs more pixels than bands, several times as many for the noise to be known.

    Args:
        cube: (H, W, B), any units.
        mask: (H, W) bool, True where the pixel is valid.

    Returns:
        number; evidence v^T C_y v and thresholds 2 v^T C_n v, squared units of the cube, by the energy of the signal.
        NaN, and a number of 0, unless there are more than B valid pixels.

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
    r"""Count the directions in which the mean has a part: the virtual dimension, HFC or noise-whitened (NWHFC).

    With l^_b the eigenvalues of the second moments and l_b those of the covariance, both in descending order, signal
    stands in direction b where l^_b - l_b > tau_b, tau_b = sqrt(2 (l^_b^2 + l_b^2) / N) Phi^-1(1 - P): a Neyman-Pearson
    test of the probability P that noise alone passes.

    Args:
        cube: (H, W, B), any units.
        mask: (H, W) bool, True where the pixel is valid.
        false_alarm: P, static, in (0, 0.5).
        whitened: static; divide each band by its noise (`band_noise`) before, NWHFC. False: HFC.

    Returns:
        number; evidence l^ - l and thresholds tau. NaN, and a number of 0, where `whitened` and not more than B pixels.

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
