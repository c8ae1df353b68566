"""Conventions of abundances: which level of the spectra the fractions of a pixel refer to.

Fractions depend on the level of the spectra that they multiply. With spectra e_r in the units of the scene and their
levels c_r = max_b e_rb, a pixel is

    "reflectance"   y = s sum_r a_r e_r             fractions of the spectra at their own level
    "scaled"        y = s sum_r a_r e_r / c_r       fractions of the spectra divided by their maximum

The two say the same of a pixel, and their fractions differ as soon as one material is brighter than another. Linear
mixing (sum A = 1) gives the first; scaled linear mixing, in which the brightness of a pixel is free and the level of a
spectrum therefore unknown, gives the second. References exist in both. `rescale` converts; `mixing.convert` is the same
with checks.
"""

from typing import Any

from dequnmix_jax.checks import InputError

REFLECTANCE, SCALED = "reflectance", "scaled"

MEANINGS = {
    REFLECTANCE: "Fractions of spectra at their own level, in the units of the scene: y = s sum_r a_r e_r.",
    SCALED: "Fractions of spectra divided by their maximum, all at one level: y = s sum_r a_r e_r / max(e_r).",
}
"""What each word says, in a sentence."""


AS_IS = "as-is"
"""For a comparison without conversion."""


def check_convention(word: Any, name: str = "convention") -> None:
    """Raise InputError unless a word names a convention."""
    if word not in MEANINGS:
        raise InputError(f"{name} is {word!r}; expected {' or '.join(repr(known) for known in MEANINGS)}.")


def other(word: str) -> str:
    """Return the other convention."""
    return SCALED if word == REFLECTANCE else REFLECTANCE


def rescale(abundances: Any, factors: Any, brightness: Any = 1.0) -> tuple[Any, Any]:
    """Return fractions and brightness for spectra that are divided by factors.

    a'_r = g_r a_r / sum_k g_k a_k and s' = s sum_k g_k a_k, so that s a_r = s' a'_r / g_r: the product with the spectra
    does not change. Exact; its inverse has the factors 1 / g.

    Args:
        abundances: (..., R), >= 0; numpy or jax.
        factors: (R,), > 0, of the same library.
        brightness: (...), or a number.

    Returns:
        a' (..., R), summing to one, 0 where all fractions of a pixel are 0; and s' (...).
    """
    weighted = abundances * factors.astype(abundances.dtype).reshape((1,) * (abundances.ndim - 1) + (-1,))
    total = weighted.sum(axis=-1)
    empty = (total == 0).astype(total.dtype)
    return weighted / (total + empty)[..., None], brightness * total


def factors_to(word: str, levels: Any) -> Any:
    """Return the factors of `rescale` that turn fractions of the other convention into those of `word`.

    Args:
        word: "reflectance" or "scaled".
        levels: (R,), c_r > 0.
    """
    return levels if word == SCALED else 1 / levels
