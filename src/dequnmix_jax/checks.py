"""Say what is wrong with an input, in one sentence, before anything is compiled.

Shapes are known under every transformation, so they are always checked. Values are
known only outside jit, vmap and grad: there they are checked, under a trace they are
the caller's affair (`Trace.converged` will be false on NaN).
"""

import sys
from typing import Any

import numpy as np

Array = Any  # a numpy or a jax array, concrete or traced


class InputError(ValueError):
    """An input that cannot be used; the message says what was found, what was expected and what to do."""


def concrete(*arrays: Array) -> bool:
    """Return whether the values of all arrays can be looked at (False under a trace)."""
    jax = sys.modules.get("jax")  # without it nothing can be traced
    return jax is None or not any(isinstance(array, jax.core.Tracer) for array in arrays)


def check_cube(cube: Array, name: str = "cube") -> None:
    """Raise InputError unless `cube` is a real (H, W, B) array with at least one entry on each axis."""
    if isinstance(cube, np.ma.MaskedArray):
        raise InputError(
            f"{name} is a masked array of numpy, whose mask would be lost; expected an array. Pass cube.filled(0), and "
            "mask=~numpy.ma.getmaskarray(cube).any(-1), or the Scene that read(cube) returns."
        )
    shape = np.shape(cube)
    if len(shape) != 3 or 0 in shape:
        raise InputError(
            f"{name} has shape {shape}; expected (rows, columns, bands), none of them zero. "
            "A matrix of pixels (N, B) becomes a cube by cube.reshape(1, N, B); a batch of cubes goes through jax.vmap."
        )
    if not np.issubdtype(np.asarray(cube).dtype if not hasattr(cube, "dtype") else cube.dtype, np.floating) and (
        str(getattr(cube, "dtype", "")) != "bfloat16"
    ):
        raise InputError(
            f"{name} has the data type {getattr(cube, 'dtype', type(cube).__name__)}; expected floating point "
            "reflectance. Convert it, for example by (cube / 10000).astype('float32')."
        )


def check_endmembers(endmembers: Array, bands: int | None = None) -> None:
    """Raise InputError unless `endmembers` is (R, B) with the cube's number of bands."""
    shape = np.shape(endmembers)
    if len(shape) != 2 or 0 in shape:
        raise InputError(f"endmembers have shape {shape}; expected (endmembers, bands), one spectrum a row.")
    if bands is not None and shape[1] != bands:
        turned = " They look transposed: pass endmembers.T." if shape[0] == bands else ""
        raise InputError(
            f"endmembers have {shape[1]} bands and the cube has {bands}; both must be on the same bands.{turned}"
        )


def check_mask(mask: Array | None, cube: Array) -> None:
    """Raise InputError unless `mask` is None or a boolean (H, W) array with a valid pixel."""
    if mask is None:
        return
    if np.shape(mask) != np.shape(cube)[:2]:
        raise InputError(
            f"mask has shape {np.shape(mask)} and the cube {np.shape(cube)}; expected one value a pixel, "
            f"{np.shape(cube)[:2]}, True where the pixel is valid."
        )
    if mask.dtype != np.bool_:
        raise InputError(f"mask has the data type {mask.dtype}; expected bool, True where the pixel is valid.")
    if concrete(mask) and not np.asarray(mask).any():
        raise InputError("mask leaves no valid pixel; expected True where the pixel is valid (is it inverted?).")


def check_count(count: int, cube: Array, mask: Array | None = None) -> None:
    """Raise InputError unless 2 <= count <= min(bands, valid pixels)."""
    height, width, bands = np.shape(cube)
    pixels = height * width if mask is None or not concrete(mask) else int(np.asarray(mask).sum())
    if count < 2:
        raise InputError(
            f"{count} endmember{'' if count == 1 else 's'} asked for; expected at least 2: with one, every abundance "
            "is 1."
        )
    if count > bands:
        raise InputError(
            f"{count} endmembers asked for in {bands} bands; expected at most as many as bands, or the abundances "
            "are not determined. Ask for fewer."
        )
    if count > pixels:
        raise InputError(f"{count} endmembers asked for in {pixels} valid pixels; expected at most one for each pixel.")


def check_finite(cube: Array, mask: Array | None = None, name: str = "cube") -> None:
    """Raise InputError if a valid pixel holds NaN or infinity (nothing is checked under a trace)."""
    if not concrete(cube) or (mask is not None and not concrete(mask)):
        return
    values = np.asarray(cube)
    finite = np.isfinite(values).all(axis=-1)
    bad = ~finite if mask is None else ~finite & np.asarray(mask)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise InputError(
            f"{name} holds NaN or infinite values in {int(bad.sum())} of {bad.size} pixels, the first at {where}; "
            "expected finite values in every valid pixel. Pass mask=numpy.isfinite(cube).all(-1) to leave them out."
        )
