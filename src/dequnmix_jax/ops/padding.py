"""Pad small scenes with masked pixels to a few sizes, so that a scene of a new size needs no new program.

Masked pixels change nothing in a result but rounding. What is drawn at random for each pixel is drawn at the true size.
"""

from typing import Any

import jax
import numpy as np

from dequnmix_jax.ops.quick_compile import is_small

SIDES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Rows and columns after padding. A scene grows by at most 2.25 times (from 16 on), on average by half."""


def padded_shape(cube: Any, count: int) -> tuple[int, int]:
    """Return rows and columns after padding of a cube (H, W, B) with `count` endmembers.

    A large scene, for which running a program costs more than compiling it (`quick_compile.is_small`), stays as it is,
    and so does every scene on other devices than the first CPU.
    """
    rows, columns = np.shape(cube)[:2]
    elsewhere = jax.default_backend() != "cpu" or (
        isinstance(cube, jax.Array) and cube.sharding.device_set != {jax.devices()[0]}
    )
    if elsewhere or max(rows, columns) > SIDES[-1] or not is_small(cube, count):
        return rows, columns
    return tuple(next(side for side in SIDES if side >= n) for n in (rows, columns))  # type: ignore[return-value]


def pad(image: Any, shape: tuple[int, int]) -> Any:
    """Return an image (H, W, ...) with zeros (False) after its rows and columns; itself if it has the shape."""
    if np.shape(image)[:2] == shape:
        return image
    image = np.asarray(image)
    added = [(0, size - n) for size, n in zip(shape, image.shape, strict=False)]
    return np.pad(image, added + [(0, 0)] * (image.ndim - 2))
