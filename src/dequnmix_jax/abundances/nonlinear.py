r"""Mixing that is not linear: light that meets several materials before it returns.

With x = a E the linear mixture, and o the product band by band:

    linear        y = x
    Fan           y = x + sum over i < j of a_i a_j e_i o e_j                  Fan, Hu, Miller and Li 2009
    Nascimento    y = a E + sum over i < j of b_ij e_i o e_j, sum a + sum b = 1    Nascimento and Bioucas-Dias 2009
    GBM           y = x + sum over i < j of g_ij a_i a_j e_i o e_j, 0 <= g <= 1    generalised bilinear, Halimi 2011
    PPNM          y = x + b x o x                                  polynomial post-nonlinear, Altmann 2012
    MLM           y = (1 - P) x / (1 - P x), P < 1                 multilinear, Heylen and Scheunders 2016

All are for reflectance: a product of two spectra in other units has no meaning beside them. Pairs are in the order
(0, 1), (0, 2) .. (1, 2) ... Light reflected by two surfaces contributes products of two spectra; P is the probability
that light meets a further surface after each one.

References:
    Fan, Hu, Miller and Li, Comparative study between a new nonlinear model and common linear model for analysing
    laboratory simulated-forest hyperspectral data, International Journal of Remote Sensing 30(11), 2009. Nascimento and
    Bioucas-Dias, Nonlinear mixture model for hyperspectral unmixing, SPIE 7477, 2009. Halimi, Altmann, Dobigeon and
    Tourneret, Nonlinear unmixing of hyperspectral images using a generalized bilinear model, IEEE TGRS 49(11), 2011.
    Altmann, Halimi, Dobigeon and Tourneret, Supervised nonlinear spectral unmixing using a postnonlinear mixing model
    for hyperspectral imagery, IEEE TIP 21(6), 2012 (b in [-0.3, 0.3]). Heylen and Scheunders, A multilinear mixing
    model for nonlinear spectral unmixing, IEEE TGRS 54(1), 2016.
"""

import jax
import jax.numpy as jnp
import numpy as np

from dequnmix_jax.abundances.methods import BRIGHTEST
from dequnmix_jax.checks import Array, InputError, concrete
from dequnmix_jax.mixing import check_abundances, linear_mix
from dequnmix_jax.ops.guards import divide

LARGEST_P = 1 - 1e-4
"""Above it light never returns: y = 0 at all x below 1."""


def check_reflectance(endmembers: Array) -> None:
    """Raise InputError where values of spectra are known and too large for reflectance."""
    if concrete(endmembers) and np.max(np.asarray(endmembers)) > BRIGHTEST:
        raise InputError(
            f"endmembers reach {np.max(np.asarray(endmembers)):.4g}; expected reflectance, at most about 1: products "
            "of spectra in other units mean nothing. Divide cube and endmembers by the scale of the scene."
        )


def check_unit(rms: float) -> None:
    """Raise InputError where the root mean square of a scene says that it is not reflectance."""
    if rms > BRIGHTEST:
        scale = 10.0 ** np.ceil(np.log10(rms))
        raise InputError(
            f"The root mean square of the scene is {rms:.4g}; expected reflectance, at most about 1, because products "
            f"of spectra in other units mean nothing. Read it with scale={scale:g} (--scale {scale:g}), or leave "
            "nonlinear out (--nonlinear none)."
        )


def pairs(count: int) -> int:
    """Return the number of pairs of different endmembers, R (R - 1) / 2."""
    return count * (count - 1) // 2


def interactions(endmembers: jax.Array) -> jax.Array:
    """Return the products e_i o e_j of different endmembers, (pairs, B)."""
    first, second = np.triu_indices(endmembers.shape[0], 1)
    return endmembers[first] * endmembers[second]


def bilinear(abundances: Array, endmembers: Array, interaction: Array | float = 1.0) -> jax.Array:
    """Return y = a E + sum g_ij a_i a_j e_i o e_j, (H, W, B): GBM; with g = 1 the model of Fan.

    Args:
        abundances: (H, W, R).
        endmembers: (R, B), reflectance.
        interaction: g, (H, W, pairs) or one number.

    Raises:
        InputError: if the shapes do not fit.
    """
    check_abundances(abundances, endmembers)
    A, E = jnp.asarray(abundances), jnp.asarray(endmembers)
    shape = (*A.shape[:2], pairs(E.shape[0]))
    if np.ndim(interaction) not in (0, 3) or (np.ndim(interaction) == 3 and np.shape(interaction) != shape):
        raise InputError(
            f"interaction has shape {np.shape(interaction)}; expected a number for each pixel and pair, "
            f"{shape}, or one."
        )
    first, second = np.triu_indices(E.shape[0], 1)
    products = jnp.asarray(interaction, A.dtype) * (A[..., first] * A[..., second])
    return linear_mix(A, E) + linear_mix(products, interactions(E))


def nascimento(abundances: Array, endmembers: Array, interaction: Array) -> jax.Array:
    """Return y = a E + sum b_ij e_i o e_j, (H, W, B).

    Args:
        abundances: (H, W, R), a.
        endmembers: (R, B), reflectance.
        interaction: (H, W, pairs), b >= 0; a and b sum to one together.

    Raises:
        InputError: if the shapes do not fit.
    """
    E = jnp.asarray(endmembers)
    return linear_mix(abundances, E) + linear_mix(interaction, interactions(E))


def post_nonlinear(abundances: Array, endmembers: Array, curvature: Array) -> jax.Array:
    """Return y = x + b x o x, x = a E, (H, W, B): PPNM.

    Args:
        abundances: (H, W, R).
        endmembers: (R, B), reflectance.
        curvature: b, (H, W), of either sign.

    Raises:
        InputError: if the shapes do not fit.
    """
    x = linear_mix(abundances, endmembers)
    return polynomial(x, _by_pixel(curvature, x, "curvature"))


def multilinear(abundances: Array, endmembers: Array, probability: Array) -> jax.Array:
    """Return y = (1 - P) x / (1 - P x), x = a E, (H, W, B): MLM.

    Args:
        abundances: (H, W, R).
        endmembers: (R, B), reflectance, below 1.
        probability: P, (H, W), below 1.

    Raises:
        InputError: if the shapes do not fit.
    """
    x = linear_mix(abundances, endmembers)
    return reflections(x, _by_pixel(probability, x, "probability"))


def polynomial(x: jax.Array, b: jax.Array) -> jax.Array:
    """Return x + b x o x of linear mixtures x (..., B), with b (..., 1)."""
    return x + b * x * x


def reflections(x: jax.Array, P: jax.Array) -> jax.Array:
    """Return (1 - P) x / (1 - P x) of linear mixtures x (..., B), with P (..., 1)."""
    return (1 - P) * x / (1 - P * x)


def best_curvature(x: jax.Array, y: jax.Array) -> jax.Array:
    """Return b (..., 1) of least squares, of linear mixtures x and pixels y (..., B)."""
    return _ratio((y - x) * x * x, x**4)


def best_multiplied_probability(x: jax.Array, y: jax.Array) -> jax.Array:
    """Return the P (..., 1) of least |y - (1 - P) x - P x o y|^2, at most `LARGEST_P`."""
    away = x - x * y
    return jnp.minimum(_ratio(away * (x - y), away * away), LARGEST_P)


def best_probability(x: jax.Array, y: jax.Array, start: jax.Array) -> jax.Array:
    """Return P (..., 1), at most `LARGEST_P`, after three steps of Gauss and Newton towards least squares."""
    P = start
    for _ in range(3):
        below = 1 - P * x
        slope = x * (x - 1) / jnp.square(below)
        P = jnp.minimum(P + _ratio((y - (1 - P) * x / below) * slope, slope * slope), LARGEST_P)
    return P


def _ratio(p: jax.Array, q: jax.Array) -> jax.Array:
    return divide(jnp.sum(p, axis=-1, keepdims=True), jnp.sum(q, axis=-1, keepdims=True))


def _by_pixel(values: Array, x: jax.Array, name: str) -> jax.Array:
    """Return one number a pixel (H, W) as (H, W, 1)."""
    if np.shape(values) != x.shape[:2]:
        raise InputError(f"{name} has shape {np.shape(values)}; expected one value a pixel, {x.shape[:2]}.")
    return jnp.asarray(values, x.dtype)[..., None]
