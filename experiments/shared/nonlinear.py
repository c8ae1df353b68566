"""Two nonlinear mixing models, to test linear methods on scenes that are not linear.

    y = a E + b (a E)^2, squared band by band                          polynomial post-nonlinear (Altmann et al. 2012)
    y = a E + sum over i < j of gamma_ij a_i a_j e_i e_j               generalised bilinear (Halimi et al. 2011)

Light reflected by two surfaces contributes products of two spectra. The first model weighs all pairs, including a
material with itself, by one number of either sign per pixel; the second weighs each pair of different materials by a
number in [0, 1], so that a pure pixel equals its endmember.

References:
    Altmann, Halimi, Dobigeon and Tourneret, Supervised nonlinear spectral unmixing using a postnonlinear mixing model
    for hyperspectral imagery, IEEE TIP 21(6), 2012 (b in [-0.3, 0.3]). Halimi, Altmann, Dobigeon and Tourneret,
    Nonlinear unmixing of hyperspectral images using a generalized bilinear model, IEEE TGRS 49(11), 2011.
"""

import jax
import jax.numpy as jnp
import numpy as np

from dequnmix_jax.mixing import linear_mix


def post_nonlinear(abundances: jax.Array, endmembers: jax.Array, curvature: jax.Array) -> jax.Array:
    """Return y = a E + b (a E)^2, (H, W, B); `curvature` b (H, W), for reflectance (at most about 1)."""
    linear = linear_mix(abundances, endmembers)
    return linear + curvature[..., None] * jnp.square(linear)


def pairs(count: int) -> int:
    """Return the number of pairs of different endmembers, R (R - 1) / 2."""
    return count * (count - 1) // 2


def bilinear(abundances: jax.Array, endmembers: jax.Array, interaction: jax.Array) -> jax.Array:
    """Return y = a E + sum gamma_ij a_i a_j e_i e_j, (H, W, B).

    `interaction` gamma (H, W, pairs), in the order (0, 1), (0, 2) .. (1, 2) ..
    """
    first, second = np.triu_indices(endmembers.shape[0], 1)
    products = interaction * abundances[..., first] * abundances[..., second]
    return linear_mix(abundances, endmembers) + linear_mix(products, endmembers[first] * endmembers[second])
