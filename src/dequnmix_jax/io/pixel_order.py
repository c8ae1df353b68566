"""From a matrix of pixels to a picture: which axis counts pixels, how long a row is, which way pixels are counted.

MATLAB counts down the columns (order F), numpy along the rows (order C). Reading the cube and its abundances with the
same wrong order transposes both, which no score shows; so the order is checked where anything in the file can tell.
"""

import math
from pathlib import Path

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.scenes.scene import Array
from dequnmix_jax.scenes.values import looks_sheared

_ORDER_WORDS = {"F": "down the columns (order F)", "C": "along the rows (order C)"}


def side_lengths(
    pixels: int, known: tuple[int, int] | None, what: str, path: Path
) -> tuple[tuple[int, int], list[str]]:
    """Return (rows, columns) of a picture of so many pixels, and a note when a square was assumed.

    Args:
        pixels: number of pixels N.
        known: rows and columns when the file or the user says, else None.
        what: name of the matrix, for messages.
        path: file, for messages.

    Raises:
        InputError: rows times columns is not N, or N is no square and nothing is known.
    """
    if known is not None:
        if known[0] * known[1] != pixels:
            raise InputError(
                f"{what} in {path} holds {pixels} pixels, and {known[0]} rows x {known[1]} columns make "
                f"{known[0] * known[1]}; expected the two to agree. Pass shape=(rows, columns)."
            )
        return known, []
    side = math.isqrt(pixels)
    if side * side != pixels:
        raise InputError(
            f"{what} in {path} holds {pixels} pixels, which is no square number, and nothing in the file says how many "
            "rows there are; pass shape=(rows, columns) (--shape ROWS COLUMNS)."
        )
    return (side, side), [f"A square picture of {side} x {side} pixels was assumed; nothing in the file says its rows."]


def pixels_first(
    matrix: Array, *, pixels: int | None, bands: int | None, what: str, path: Path
) -> tuple[Array, list[str]]:
    """Return a matrix as (N, B), transposed if need be, and a note when it was not the customary (B, N).

    Args:
        matrix: (B, N) or (N, B).
        pixels: N when known from elsewhere, else None.
        bands: B when known from elsewhere, else None.
        what: name of the matrix, for messages.
        path: file, for messages.

    Raises:
        InputError: neither axis has the known length, or nothing tells the axes apart.
    """
    shape = matrix.shape
    found = f"{what} in {path} has shape {shape}"
    if 0 in shape:
        raise InputError(f"{found}; expected at least one pixel and one band.")
    if pixels is not None:
        axes = [axis for axis in (1, 0) if shape[axis] == pixels]
        reason = f"the other variables say {pixels} pixels"
    elif bands is not None:
        axes = [axis for axis in (1, 0) if shape[1 - axis] == bands]
        reason = f"the other variables say {bands} bands"
    else:
        axes = [axis for axis in (1, 0) if math.isqrt(shape[axis]) ** 2 == shape[axis]]
        reason = "only that axis makes a square picture"
        # Two squares, more of the first: either few pixels in many bands, or the customary axes swapped.
        if not axes or (len(axes) == 2 and shape[0] > shape[1]):
            raise InputError(
                f"{found}, and nothing in the file tells bands from pixels; pass shape=(rows, columns) (--shape ROWS "
                "COLUMNS)."
            )
    if not axes:
        raise InputError(
            f"{found}, but {reason}; expected (bands, pixels). Check that these variables belong together, or pass "
            "shape=(rows, columns)."
        )
    if axes[0] == 1:
        return matrix.T, []
    return matrix, [f"{what} has shape {shape}, pixels first, and was transposed: {reason}."]


def disagreement(cube: Array, maps: Array) -> float:
    """Return the relative residual of the bands fitted as linear combinations of the maps, pixel by pixel.

    Args:
        cube: (H, W, B).
        maps: (H, W, R), R > 0.

    Returns:
        0 for a perfect fit, at most 1.
    """
    bands = np.unique(np.linspace(0, cube.shape[2] - 1, 16).astype(int))  # sixteen bands tell as much as all
    spectra = _bounded(cube[:, :, bands].reshape(-1, bands.size))
    regressors = _bounded(maps.reshape(-1, maps.shape[2]))
    spectra = spectra - spectra.mean(axis=0)  # with the mean left in, every order fits well
    regressors = regressors - regressors.mean(axis=0)
    fitted = regressors @ np.linalg.lstsq(regressors, spectra, rcond=None)[0]
    return float(np.linalg.norm(spectra - fitted) / max(np.linalg.norm(spectra), np.finfo(float).tiny))


def _bounded(values: Array) -> Array:
    """Return values in float64, divided by the largest: LAPACK walks for ever on squares that overflow."""
    found = np.where(np.isfinite(values), values, 0).astype(np.float64)
    return found / max(np.abs(found).max(), np.finfo(float).tiny)


def picture(
    rows: Array,
    sides: tuple[int, int],
    *,
    customary: str,
    fixed: bool = False,
    companion: Array | None = None,
    companion_is_cube: bool = True,
    what: str = "the matrix",
) -> tuple[Array, list[str]]:
    """Return pixels (N, K) as a picture (H, W, K) in the order that fits, and a note that says which.

    The customary order is taken unless the companion fits the other one clearly better (residual below 0.8 of it), or,
    without a companion, the picture is sheared in it.

    Args:
        rows: (N, K), one pixel a row.
        sides: H and W.
        customary: "F" (down the columns) or "C" (along the rows).
        fixed: take the customary order whatever the rest says (the user asked for it).
        companion: (H, W, L) the cube that belongs to the maps, or the maps that belong to the cube, or None.
        companion_is_cube: whether the companion is the cube or the maps.
        what: name of the matrix, for the note.
    """
    height, width = sides
    ways = {order: rows.reshape(height, width, -1, order=order) for order in ("F", "C")}
    other = "C" if customary == "F" else "F"
    note = f"Pixels of {what} were counted {_ORDER_WORDS[customary]}."
    if fixed or height == 1 or width == 1:
        return ways[customary], [note]
    if companion is not None and companion.shape[:2] == sides:
        residual = {
            order: disagreement(companion, way) if companion_is_cube else disagreement(way, companion)
            for order, way in ways.items()
        }
        if residual[other] < 0.8 * residual[customary]:
            return ways[other], [f"Pixels of {what} were counted {_ORDER_WORDS[other]}: only so the maps fit the cube."]
        return ways[customary], [note]
    middle = rows.shape[1] // 2
    if height != width and looks_sheared(ways[customary][:, :, middle], ways[other][:, :, middle]):
        return ways[other], [f"Pixels of {what} were counted {_ORDER_WORDS[other]}: the other way it looks sheared."]
    return ways[customary], [note]


def bands_last(cube: Array, wavelengths: int | None, what: str) -> tuple[Array, list[str]]:
    """Return a cube as (H, W, B): (B, H, W) is turned when the number of wavelengths says so.

    Args:
        cube: (H, W, B) or (B, H, W).
        wavelengths: how many wavelengths the file lists, or None.
        what: name of the cube, for the note.
    """
    if wavelengths is not None and cube.shape[0] == wavelengths != cube.shape[2]:
        return np.moveaxis(cube, 0, 2), [f"{what} of shape {cube.shape} was taken as (bands, rows, columns)."]
    return cube, []
