"""Whether what a model leaves unexplained has a structure that a further endmember would explain."""

import numpy as np

from dequnmix_jax.scenes.scene import Array

_MOST = 20_000
"""Pixels that are looked at, evenly spread."""

_ENOUGH = 2
"""Pixels per band below which noise and structure cannot be distinguished."""


def structure(
    cube: Array, abundances: Array, endmembers: Array, brightness: Array, mask: Array
) -> dict[str, float | int] | None:
    """Return how much of the residual one further direction of spectral space explains, and where it is strongest.

    With the noise sigma_b of each band, by regression on the other bands (Roger and Arnold 1996), the eigenvalues l of
    the second moments of (y - s a E) / sigma are near 1 for noise alone, and below (1 + sqrt(B / N))^2 in any
    direction. The share of one direction is (l_1 - 1) / sum l.

    Args:
        cube: (H, W, B).
        abundances: (H, W, R).
        endmembers: (R, B), those that the fractions refer to.
        brightness: (H, W).
        mask: (H, W) bool, True where the pixel is valid.

    Returns:
        "share", "ratio" (l_1 over the bound for noise), "row" and "column" of the pixel in which the direction is
        strongest; None with too few pixels to estimate the noise.
    """
    places = np.argwhere(mask)
    places = places[:: max(1, -(-len(places) // _MOST))]
    number, bands = len(places), cube.shape[2]
    if number < _ENOUGH * bands + 1:
        return None
    at = tuple(places.T)
    pixels = np.asarray(cube[at], np.float64)
    mixed = np.asarray(abundances[at], np.float64) @ np.asarray(endmembers, np.float64)
    left = pixels - np.asarray(brightness[at], np.float64)[:, None] * mixed
    values, vectors = np.linalg.eigh(pixels.T @ pixels / number)
    if not values[-1] > 0:
        return None
    values = np.maximum(values, values[-1] * 1e-13)  # digits of float32
    noise = 1 / np.square(vectors).dot(1 / values) * number / (number - bands + 1)
    scaled = left / np.sqrt(noise)
    energies, directions = np.linalg.eigh(scaled.T @ scaled / number)
    along = scaled @ directions[:, -1]
    row, column = places[int(np.argmax(np.abs(along)))]
    total = float(energies.sum())
    if not np.isfinite(total) or total <= 0:
        return None
    return {
        "share": max(float(energies[-1] - 1) / total, 0.0),
        "ratio": float(energies[-1] / (1 + np.sqrt(bands / number)) ** 2),
        "row": int(row),
        "column": int(column),
    }
