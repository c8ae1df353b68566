r"""Estimate, without the truth, by how much a smoother decreases the error of abundance maps.

Maps b = a + n with noise n of covariance Sigma, a smoother S with derivative J: the squared error changes by

    |b - a|^2 - |S b - a|^2 = 2 <b - S b, n> - |b - S b|^2,    E <b - S b, n> = E tr((I - J) Sigma)

(Stein 1981, for Gaussian noise and any weakly differentiable S). The maps by even and by odd bands have independent
noise, so that D = (b_even - b_odd) / 2 is a draw of n, independent of b where both halves have as much noise:

    gain = 2 <D, D - J D> - |b - S b|^2,    J D ~ (S(b + D) - S(b - D)) / 2

is unbiased, pixel by pixel before the sum, and needs no probe of its own (Ramani, Blu and Unser 2008 use random ones).
Errors that both halves share, of wrong or varying spectra, count as signal: their removal is not seen as a gain, unless
their size is known. Errors m that are independent from pixel to pixel, of a mean square v, add

    2 E tr((I - J) Cov(m)) = 2 v (1 - <D, J D> / |D|^2)

to the gain of a pixel if J treats them as it treats D.

References:
    Stein, Estimation of the mean of a multivariate normal distribution, Annals of Statistics 9(6), 1981; Ramani, Blu
    and Unser, Monte-Carlo SURE, IEEE TIP 17(9), 2008.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax


def smoothing_gain(
    whole: jax.Array,
    difference: jax.Array,
    smooth: Callable[[jax.Array], jax.Array],
    shared: jax.Array | None = None,
) -> jax.Array:
    """Return the estimated decrease of the squared error of each pixel, (H, W), summed over endmembers.

    Args:
        whole: (H, W, R), maps by all bands.
        difference: (H, W, R), half the difference of those by even and by odd bands.
        smooth: of maps (H, W, R), with fixed parameters.
        shared: v (), mean square of the errors of a pixel, summed over endmembers, that both halves share and that are
            independent from pixel to pixel; None: unknown, and taken for signal.
    """
    D = difference
    found = lax.map(smooth, jnp.stack([whole, whole + D, whole - D]))
    JD = (found[1] - found[2]) / 2
    gain = jnp.sum(2 * D * (D - JD) - jnp.square(whole - found[0]), axis=-1)
    if shared is None:
        return gain
    size = jnp.sum(jnp.square(D))
    taken = jnp.where(size > 0, 1 - jnp.sum(D * JD) / jnp.where(size > 0, size, 1), 0)
    return gain + 2 * shared * taken
