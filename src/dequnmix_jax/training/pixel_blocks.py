"""Blocks of pixels: each is held out as one, and counts as one observation."""

import jax
import jax.numpy as jnp

SIDE = 4
"""Rows and columns of a block of pixels, which is held out as one and counts as one observation."""

HELD_OUT_SHARE = 0.2
"""Share of the pixels that are held out of training if its stages are judged."""


def hold_out_pixels(key: jax.Array, shape: tuple[int, ...], share: float = HELD_OUT_SHARE) -> jax.Array:
    """Return the pixels (H, W) that are held out of training: a share of the blocks, drawn without replacement."""
    rows, columns = (-(-n // SIDE) for n in shape)
    number = min(max(round(share * rows * columns), 1), rows * columns - 1)
    drawn = jax.random.permutation(key, rows * columns) < number
    blocks = jnp.repeat(jnp.repeat(drawn.reshape(rows, columns), SIDE, axis=0), SIDE, axis=1)
    return blocks[: shape[0], : shape[1]]


def standard_errors(gain: jax.Array, pixels: jax.Array) -> jax.Array:
    """Return the mean of a gain (H, W) over some pixels in units of its standard error, from the means of blocks."""
    rows, columns = (-(-n // SIDE) for n in gain.shape)
    padding = [(0, SIDE * blocks - n) for blocks, n in zip((rows, columns), gain.shape, strict=True)]

    def sums(x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.pad(x, padding).reshape(rows, SIDE, columns, SIDE), axis=(1, 3)).reshape(-1)

    number = sums(pixels.astype(gain.dtype))
    total = sums(jnp.where(pixels, gain, 0))
    all_pixels = jnp.sum(number)
    blocks = jnp.sum(number > 0).astype(gain.dtype)
    mean = jnp.sum(total) / jnp.where(all_pixels > 0, all_pixels, jnp.nan)
    spread = jnp.sum(jnp.square(total - number * mean)) * blocks / jnp.where(blocks > 1, blocks - 1, jnp.nan)
    error = jnp.sqrt(spread) / all_pixels
    # NaN from a single block stays, and keeps no stage.
    return jnp.where(mean == 0, 0, mean / jnp.where(error == 0, jnp.finfo(gain.dtype).tiny, error))
