"""What the equilibrium map takes from a scene as a whole: its unit, and what attention pools over all pixels.

Everything else in the map looks at a pixel and its neighbours. A tile of a large scene, unmixed with these numbers of
the whole scene, gets the answer that the whole scene gets.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from dequnmix_jax import mixing
from dequnmix_jax.equilibrium import network
from dequnmix_jax.equilibrium.config import Energy, Model
from dequnmix_jax.types import Params


class Scenewide(NamedTuple):
    """Numbers of a whole scene.

    Attributes:
        scale: (), RMS of the valid pixels, the unit in which the map works.
        pools: mean and maximum over the valid pixels of what CBAM's attention over channels pools, (width,) each; None
            for a model without it.
    """

    scale: jax.Array
    pools: tuple[jax.Array, jax.Array] | None = None


def unit(cube: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Return the RMS of the valid pixels, one for an empty scene: the unit in which the map works."""
    valid = jnp.ones(cube.shape[:2], bool) if mask is None else mask
    Y = jnp.where(valid[..., None], cube, 0)
    mean = jnp.sum(jnp.square(Y)) / jnp.maximum(jnp.sum(valid.astype(Y.dtype)) * Y.shape[-1], 1)
    return jnp.where(mean > 0, jnp.sqrt(jnp.where(mean > 0, mean, 1)), 1)


def pools_channels(config: Model) -> bool:
    """Return whether the map pools over all pixels of the cube, before the loop."""
    return isinstance(config.gradient, Energy) and config.gradient.attention


def pooling_reach(config: Model) -> int:
    """Return how many pixels around a tile are needed to pool over it: half a kernel, 0 where nothing is pooled."""
    return config.gradient.kernel // 2 if isinstance(config.gradient, Energy) and config.gradient.attention else 0


def pool_tile(
    params: Params, cube: jax.Array, mask: jax.Array, core: jax.Array, scale: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return what a tile adds to the pools of attention: sum and maximum over the pixels of its core.

    Args:
        params: of a model with the gradient Energy().
        cube: (H, W, B), the tile with at least one pixel of the scene around its core (half a kernel), 0 where masked.
        mask: (H, W) bool, True where the pixel is valid.
        core: (H, W) bool, the pixels that no other tile counts.
        scale: (), of the whole scene.

    Returns:
        Two arrays (width,).
    """
    weights = params["network"]
    m = mask[..., None].astype(cube.dtype)
    features = mixing.correlate(cube, weights["first"].T / scale) + weights["bias"][None, None]
    return network.pool(network.inner(weights["net"], features, m), m * core[..., None].astype(cube.dtype))
