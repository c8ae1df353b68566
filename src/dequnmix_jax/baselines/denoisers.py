"""Denoisers of abundance maps that need no other package: (maps (H, W, R), sigma ()) -> maps (H, W, R).

Each map is denoised separately, for white noise of standard deviation sigma in the units of the maps. Pure JAX.
"""

import jax
import jax.numpy as jnp
from jax import lax


def total_variation(maps: jax.Array, sigma: jax.Array, *, steps: int = 40) -> jax.Array:
    """Denoise by total variation, by Chambolle's fixed-point iteration on the dual.

    min over x of |x - v|^2 / 2 + sigma TV(x), TV isotropic: x = v - sigma div p,
    p <- (p + t g) / (1 + t |g|), g = grad(div p - v / sigma), t = 1/8.

    Guessed: the weight is sigma, which approximately flattens white noise; the paper needs a denoiser with a noise
    level and does not say how total variation depends on it.

    Reference:
        Chambolle, An algorithm for total variation minimization and applications, Journal of Mathematical Imaging and
        Vision 20, 2004.
    """
    weight = jnp.maximum(jnp.asarray(sigma, maps.dtype), jnp.finfo(maps.dtype).tiny ** 0.5)

    def step(p: tuple[jax.Array, jax.Array], _: None) -> tuple[tuple[jax.Array, jax.Array], None]:
        down, right = _gradient(_divergence(*p) - maps / weight)
        size = 1 + jnp.sqrt(jnp.square(down) + jnp.square(right)) / 8
        return ((p[0] + down / 8) / size, (p[1] + right / 8) / size), None

    p, _ = lax.scan(step, (jnp.zeros_like(maps), jnp.zeros_like(maps)), None, length=steps)
    return maps - weight * _divergence(*p)


def _gradient(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return forward differences down and to the right, 0 at the last row and column."""
    return (
        jnp.pad(jnp.diff(x, axis=0), ((0, 1), (0, 0), (0, 0))),
        jnp.pad(jnp.diff(x, axis=1), ((0, 0), (0, 1), (0, 0))),
    )


def _divergence(down: jax.Array, right: jax.Array) -> jax.Array:
    """Return minus the transpose of `_gradient`."""
    rows = jnp.diff(jnp.pad(down[:-1], ((1, 1), (0, 0), (0, 0))), axis=0)
    columns = jnp.diff(jnp.pad(right[:, :-1], ((0, 0), (1, 1), (0, 0))), axis=1)
    return rows + columns


def non_local_means(maps: jax.Array, sigma: jax.Array, *, reach: int = 5, half: int = 2) -> jax.Array:
    """Denoise by non-local means.

    x_i = sum_j w_ij v_j / sum_j w_ij, w_ij = exp(-max(d_ij^2 - 2 sigma^2, 0) / h^2), j within `reach` pixels of i,
    d_ij^2 the mean squared difference of the patches (2 half + 1)^2 around i and j, h = 0.4 sigma (the rule of the
    reference for grey images of moderate noise).

    Guessed: a window of 11 x 11 (the reference: 21 x 21), because the scenes are about 100 pixels wide.

    Reference:
        Buades, Coll and Morel, Non-local means denoising, Image Processing On Line 1, 2011.
    """
    sigma = jnp.asarray(sigma, maps.dtype)
    h = jnp.maximum(0.4 * sigma, jnp.finfo(maps.dtype).tiny ** 0.25)
    rows, columns = maps.shape[:2]
    wide = jnp.pad(maps, ((reach, reach), (reach, reach), (0, 0)), mode="symmetric")
    side = jnp.arange(-reach, reach + 1)
    shifts = jnp.stack([x.reshape(-1) for x in jnp.meshgrid(side, side, indexing="ij")], axis=1)

    def add(sums: tuple[jax.Array, jax.Array], shift: jax.Array) -> tuple[tuple[jax.Array, jax.Array], None]:
        moved = lax.dynamic_slice(wide, (reach + shift[0], reach + shift[1], 0), (rows, columns, maps.shape[2]))
        distance = box(jnp.square(maps - moved), half)
        w = jnp.exp(-jnp.maximum(distance - 2 * jnp.square(sigma), 0) / jnp.square(h))
        return (sums[0] + w * moved, sums[1] + w), None

    (total, weights), _ = lax.scan(add, (jnp.zeros_like(maps), jnp.zeros_like(maps)), shifts)
    return total / weights  # the pixel itself has weight 1


def box(x: jax.Array, half: int) -> jax.Array:
    """Return means over windows of (2 half + 1)^2 pixels, mirrored at the border."""
    for axis in (0, 1):
        width = [(half, half) if i == axis else (0, 0) for i in range(3)]
        padded = jnp.pad(x, width, mode="symmetric")
        size = x.shape[axis]
        x = sum(
            (lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(1, 2 * half + 1)),
            lax.slice_in_dim(padded, 0, size, axis=axis),
        ) / (2 * half + 1)
    return x
