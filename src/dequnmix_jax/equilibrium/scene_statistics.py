"""The numbers of a whole scene that the equilibrium map uses: its unit, and the pools of attention over all pixels.

Everything else in the map depends on a pixel and its neighbours. A tile of a large scene, unmixed with these numbers of
the whole scene, has the same answer as in the whole scene.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from dequnmix_jax import mixing
from dequnmix_jax.equilibrium import network
from dequnmix_jax.equilibrium.config import Energy, Model
from dequnmix_jax.ops.guards import positive
from dequnmix_jax.types import Params


class Scenewide(NamedTuple):
    """Numbers of a whole scene.

    Attributes:
        scale: (), RMS of the valid pixels, the unit in which the map works.
        pools: mean and maximum over the valid pixels of the channels that CBAM's attention pools, (width,) each; None
            for a model without it.
    """

    scale: jax.Array
    pools: tuple[jax.Array, jax.Array] | None = None


def unit(cube: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Return the RMS of the valid pixels, one for an empty scene: the unit in which the map works."""
    valid = mixing.valid_pixels(cube, mask)
    Y = jnp.where(valid[..., None], cube, 0)
    return unit_of_sums(jnp.sum(jnp.square(Y)), jnp.sum(valid.astype(Y.dtype)), Y.shape[-1])


def unit_of_sums(squares: jax.Array, pixels: jax.Array, bands: int) -> jax.Array:
    """Return the RMS from the sum of the squares of all values and the number of valid pixels; one for a sum of 0."""
    mean = squares / jnp.maximum(pixels * bands, 1)
    return jnp.where(mean > 0, jnp.sqrt(positive(mean)), 1)


def pools_channels(config: Model) -> bool:
    """Return whether the map pools over all pixels of the cube, before the loop."""
    return isinstance(config.gradient, Energy) and config.gradient.attention


def pooling_reach(config: Model) -> int:
    """Return how many pixels around a tile are needed to pool over it: half a kernel; 0 without pooling."""
    return config.gradient.kernel // 2 if isinstance(config.gradient, Energy) and config.gradient.attention else 0


def pool_tile(
    params: Params, cube: jax.Array, mask: jax.Array, core: jax.Array, scale: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return the sum and the maximum of the pools of attention over the core of a tile.

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
