"""Group neighbouring pixels with similar spectra: simple linear iterative clustering (SLIC) on a grid."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dequnmix_jax.checks import Array, InputError, check_cube, check_finite, check_mask
from dequnmix_jax.mixing import wide
from dequnmix_jax.ops.guards import unit_rows


class Superpixels(NamedTuple):
    """A scene divided into P superpixels (patches).

    Attributes:
        labels: (H, W) int32, 0 to P - 1, also for masked pixels.
        spectra: (P, B), the mean spectrum of each patch, in the units of the cube; 0 if it has no valid pixel.
        confidence: (H, W), > 0, 1 / distance of a pixel from the centre of its patch; 0 in masked pixels.
    """

    labels: jax.Array
    spectra: jax.Array
    confidence: jax.Array


def superpixels(
    cube: Array, *, width: int = 6, compactness: float = 0.5, steps: int = 10, mask: Array | None = None
) -> Superpixels:
    r"""Divide a scene into patches of similar spectra, about `width` pixels wide.

    Each pixel joins the nearest of the nine centres of its own cell and the neighbouring cells of a grid, and each
    centre becomes the mean of its pixels, in turn;

        d^2 = angle(y, c) + compactness |p - q|^2 / S^2,

    y and p are the spectrum and position of the pixel, c and q those of the centre, and S is the spacing of the grid.

    Args:
        cube: (H, W, B), any units.
        width: static, side of a patch in pixels, >= 1.
        compactness: >= 0, weight of the spatial distance, in radians; large values give square patches.
        steps: static, number of updates of the centres; 0: the cells of the grid.
        mask: (H, W) bool, True for valid pixels; others move no centre.

    Returns:
        Superpixels; patches need not be connected.

    Raises:
        InputError: if the shapes do not fit, a setting is out of range, or outside jit if valid values are not finite.

    Reference:
        Achanta et al., SLIC superpixels compared to state-of-the-art superpixel methods, IEEE TPAMI 34(11), 2012. The
        distance, its weight of 0.5 and the confidence: Wang et al., Spatial group sparsity regularized nonnegative
        matrix factorization for hyperspectral unmixing, IEEE TGRS 55(11), 2017, and its authors' program (widths of 3
        to 11).
    """
    check_cube(cube)
    check_mask(mask, cube)
    check_finite(cube, mask)
    if not (isinstance(width, int) and width >= 1 and isinstance(steps, int) and steps >= 0):
        raise InputError(f"width is {width} and steps are {steps}; expected whole numbers, at least 1 and at least 0.")
    if isinstance(compactness, float | int) and not 0.0 <= compactness < np.inf:
        raise InputError(f"compactness is {compactness}; expected a finite number, not negative, such as 0.5.")
    Y = wide(cube)
    valid = jnp.ones(Y.shape[:2], jnp.bool_) if mask is None else jnp.asarray(mask)
    return _cluster(Y, valid, jnp.asarray(compactness, Y.dtype), width, steps)


@partial(jax.jit, static_argnames=("width", "steps"))  # an eager call would compile its loops each time
def _cluster(cube: jax.Array, mask: jax.Array, weight: jax.Array, width: int, steps: int) -> Superpixels:
    H, W, B = cube.shape
    rows, columns = max(1, round(H / width)), max(1, round(W / width))
    patches = rows * columns
    spacing = float(np.sqrt(H * W / patches))
    Y = jnp.where(mask[..., None], cube, 0).reshape(-1, B)
    valid = mask.reshape(-1).astype(Y.dtype)
    y, x = np.divmod(np.arange(H * W), W)
    home = np.stack([y * rows // H, x * columns // W], axis=1)  # the cell of each pixel
    place = jnp.asarray(np.stack([y, x], axis=1) / spacing, Y.dtype)
    unit = unit_rows(Y)
    grid = np.stack(np.divmod(np.arange(patches), columns), axis=1) + 0.5
    middle = jnp.asarray(grid * [H / rows, W / columns] / spacing - 0.5 / spacing, Y.dtype)

    def means(labels: jax.Array, old: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        size = jax.ops.segment_sum(valid, labels, patches)[:, None]

        def mean(values: jax.Array, before: jax.Array) -> jax.Array:
            total = jax.ops.segment_sum(values * valid[:, None], labels, patches)
            return jnp.where(size > 0, total / jnp.maximum(size, 1), before)  # an empty patch keeps its centre

        return mean(Y, old[0]), mean(place, old[1])

    def square(labels: jax.Array, centres: tuple[jax.Array, jax.Array]) -> jax.Array:
        squared = jnp.sum(jnp.square(unit - unit_rows(centres[0])[labels]), axis=1)
        # Not arccos, which loses small angles to rounding.
        angle = 2 * jnp.arcsin(jnp.clip(jnp.sqrt(squared) / 2, 0, 1))
        return angle + weight * jnp.sum(jnp.square(place - centres[1][labels]), axis=1)

    offsets = np.stack(np.divmod(np.arange(9), 3), axis=1) - 1

    def nearest(centres: tuple[jax.Array, jax.Array]) -> jax.Array:
        def attempt(best: tuple[jax.Array, jax.Array], offset: jax.Array) -> tuple[tuple[jax.Array, jax.Array], None]:
            cell = jnp.clip(home + offset[None, :], 0, np.array([[rows - 1, columns - 1]]))
            labels = (cell[:, 0] * columns + cell[:, 1]).astype(jnp.int32)
            d = square(labels, centres)
            closer = d < best[1]
            return (jnp.where(closer, labels, best[0]), jnp.where(closer, d, best[1])), None

        # Derived from the data, so that under vmap and shard_map the carry varies as they do.
        start = (first + jnp.zeros_like(Y[:, 0], jnp.int32), jnp.full_like(Y[:, 0], jnp.inf))
        return lax.scan(attempt, start, jnp.asarray(offsets))[0][0]

    first = jnp.asarray(home[:, 0] * columns + home[:, 1], jnp.int32)

    def move(
        carry: tuple[jax.Array, tuple[jax.Array, jax.Array]], _: None
    ) -> tuple[tuple[jax.Array, tuple[jax.Array, jax.Array]], None]:
        labels = nearest(carry[1])
        return (labels, means(labels, carry[1])), None

    begin = first + jnp.zeros_like(Y[:, 0], jnp.int32)
    centres = means(begin, (jnp.zeros_like(Y, shape=(patches, B)), middle))
    (labels, centres), _ = lax.scan(move, (begin, centres), None, length=steps)
    # The distance is at least half a pixel, so that the confidence at a centre is finite.
    floor = weight * (0.5 / spacing) ** 2 + jnp.finfo(Y.dtype).eps
    confidence = valid / jnp.sqrt(jnp.maximum(square(labels, centres), floor))
    return Superpixels(labels.reshape(H, W), centres[0], confidence.reshape(H, W))
