"""Pad scenes of different size to one shape, so that jax.vmap and jax.shard_map can map over them."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dequnmix_jax.checks import Array, InputError, check_cube, check_mask


def stack(cubes: Sequence[Array], masks: Sequence[Array | None] | None = None) -> tuple[jax.Array, jax.Array]:
    """Stack scenes of different size, each padded below and to the right by masked pixels.

    Masked pixels have no influence: every function of this package gives the same result for a stacked scene as for
    the scene alone, up to rounding.

    Args:
        cubes: N of (H_n, W_n, B), the bands the same.
        masks: N of (H_n, W_n) bool, True where the pixel is valid, or None for scenes without a mask.

    Returns:
        cubes (N, H, W, B) and masks (N, H, W), H and W the largest. `estimate.abundances[n, :H_n, :W_n]` is that of
        scene n.

    Raises:
        InputError: no scene, a mask that does not fit, or different numbers of bands or data types (see `alike`).
    """
    if len(cubes) == 0:
        raise InputError("There is no scene to stack; expected at least one.")
    masks = [None] * len(cubes) if masks is None else list(masks)
    if len(masks) != len(cubes):
        raise InputError(f"{len(cubes)} cubes and {len(masks)} masks; expected one mask, or None, for each cube.")
    for cube, mask in zip(cubes, masks, strict=True):
        check_cube(cube)
        check_mask(mask, cube)
    kinds = sorted({(np.shape(cube)[2], str(cube.dtype)) for cube in cubes})
    if len(kinds) > 1:
        raise InputError(
            f"The scenes have {' and '.join(f'{bands} bands of {dtype}' for bands, dtype in kinds)}; expected all "
            "alike. Stack them in groups (alike)."
        )
    height, width = (max(np.shape(cube)[axis] for cube in cubes) for axis in (0, 1))
    padded, valid = [], []
    for cube, mask in zip(cubes, masks, strict=True):
        rows, columns = np.shape(cube)[:2]
        padding = ((0, height - rows), (0, width - columns))
        padded.append(jnp.pad(jnp.asarray(cube), (*padding, (0, 0))))
        valid.append(jnp.pad(jnp.ones((rows, columns), bool) if mask is None else jnp.asarray(mask), padding))
    return jnp.stack(padded), jnp.stack(valid)


def alike(cubes: Sequence[Array], counts: Sequence[int] | None = None) -> dict[tuple[int, int], list[int]]:
    """Group scenes that can be stacked and trained together.

    Args:
        cubes: N of (H_n, W_n, B_n).
        counts: N numbers of endmembers, or None to ignore them.

    Returns:
        {(bands, endmembers): positions in `cubes`}, in the order of first appearance; 0 endmembers without counts.

    Raises:
        InputError: a cube without three axes, or another number of counts than of cubes.
    """
    counts = [0] * len(cubes) if counts is None else list(counts)
    if len(counts) != len(cubes):
        raise InputError(f"{len(cubes)} cubes and {len(counts)} counts; expected one count for each cube.")
    groups: dict[tuple[int, int], list[int]] = {}
    for number, (cube, count) in enumerate(zip(cubes, counts, strict=True)):
        check_cube(cube)
        groups.setdefault((np.shape(cube)[2], count), []).append(number)
    return groups
