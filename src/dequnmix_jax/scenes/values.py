"""From the numbers in a file to a cube: scaling, missing data, and rows of the wrong length."""

import math
from pathlib import Path

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.scenes.scene import Array

# Deflate compresses by at most 1032 to 1 (zlib's documentation); anything better is empty. Small scenes are exempt.
_LARGEST_RATIO = 2000
_LARGE = 64 * 2**20

# A scene compresses to about a tenth; hardly anything but a decompression bomb compresses 250 to 1.
_LARGEST_RATIO_WHOLE = 250


def scaled_and_masked(
    values: Array,
    nodata: float | None,
    scale: float | None,
    good: Array | None,
    saturation: float | None = None,
    seen: Array | None = None,
    hidden_by: str = "in the file",
) -> tuple[Array, Array | None, list[str]]:
    """Return float32 values divided by `scale`, the mask of valid pixels (None when all are) and notes.

    Args:
        values: (H, W, B), as stored.
        nodata: value that marks missing pixels, before scaling, or None. With a nodata value, NaN and infinity are
            missing as well; NaN marks only these.
        scale: positive divisor, or None.
        good: (B,) bool or None; bands marked bad do not affect the mask.
        saturation: value from which a pixel is saturated, before scaling, or None.
        seen: (H, W) bool, the file's own mask, True for valid pixels, or None.
        hidden_by: where that mask is from, for its note.

    Raises:
        InputError: a scale that is not positive and finite, a saturation that is not a number, or numbers that
            float32 cannot hold.
    """
    notes = []
    mask = None
    if nodata is not None and not np.isnan(nodata):
        mask = mask_nodata(values, nodata, good)
        if not mask.all():
            text = f"pixels hold the nodata value {nodata:g} and were masked."
            notes.append(f"{int((~mask).sum())} of {mask.size} {text}")
    if nodata is not None and values.dtype.kind == "f":
        # A file with a nodata value may hold NaN as well, which is not a measurement either.
        broken = ~mask_nodata(values, np.nan, good)
        broken = broken if mask is None else broken & mask
        if broken.any():
            notes.append(f"{int(broken.sum())} of {broken.size} pixels hold NaN or infinity and were masked.")
        mask = ~broken if mask is None else mask & ~broken
    if saturation is not None:
        saturated = mask_saturated(values, saturation, good)
        if mask is not None:
            saturated &= mask
        if saturated.any():
            notes.append(
                f"{int(saturated.sum())} of {saturated.size} pixels reach the saturation value {saturation:g} and were "
                "masked."
            )
        mask = ~saturated if mask is None else mask & ~saturated
    if seen is not None:
        hidden = ~seen if mask is None else mask & ~seen
        if hidden.any():
            notes.append(f"{int(hidden.sum())} of {hidden.size} pixels are masked {hidden_by}.")
        mask = seen if mask is None else mask & seen
    if scale is not None and not (scale > 0 and np.isfinite(scale)):
        raise InputError(f"The scale is {scale}; expected a positive number to divide by, such as 10000.")
    if values.dtype.kind == "f" and values.dtype.itemsize > 4:
        _check_within_float32(values, scale or 1, mask, good)
    with np.errstate(over="ignore", invalid="ignore"):  # values beyond float32 become infinite; reported later
        if scale is not None and scale != 1:
            cube = (values / np.float64(scale)).astype(np.float32)
            notes.append(f"Values were divided by {scale:g}.")
        else:
            cube = np.asarray(values, np.float32, order="C")
    if mask is None or mask.all():
        return cube, None, notes
    # Masked values must be finite, because a mask multiplies and 0 * NaN is NaN.
    return np.where(mask[:, :, None], cube, np.float32(0)), mask, notes


def _check_within_float32(values: Array, scale: float, mask: Array | None, good: Array | None) -> None:
    """Refuse finite numbers that float32 would turn into infinity, or all into zero: the cause would be lost."""
    smallest, most = float(np.finfo(np.float32).smallest_subnormal), float(np.finfo(np.float32).max)
    where = np.isfinite(values) if mask is None else np.isfinite(values) & mask[..., None]
    where = where if good is None else where & good
    extreme = float(max(np.max(values, where=where, initial=0), np.min(values, where=where, initial=0), key=abs))
    largest = abs(extreme)
    if largest == 0 or smallest <= largest / scale <= most:
        return
    fill = f" If {extreme} marks missing values, read with nodata={extreme} (--nodata={extreme})."
    power = 10.0 ** min(max(math.ceil(math.log10(largest) - 1e-6), -300), 300)
    raise InputError(
        f"The largest magnitude is {largest / scale:.4g}, which float32 cannot hold.{fill if largest > 1 else ''} If "
        f"these are measurements in another unit, read with scale={power:g} (--scale {power:g})."
    )


def missing_value(option: float | None, declared: float | None) -> float | None:
    """Return the value that marks missing pixels.

    The option overrides the file, except that NaN keeps the value that the file declares: NaN and infinity are missing
    beside any value.

    Args:
        option: the user's value, NaN for NaN and infinity, or None.
        declared: the file's value, or None.
    """
    if option is None or (np.isnan(option) and declared is not None):
        return declared
    return option


def check_declared(shape: tuple[int, ...], itemsize: int, stored: int, path: Path) -> None:
    """Raise InputError if a file declares far more values than it can hold, before memory is allocated.

    Args:
        shape: of the cube, as the file declares it.
        itemsize: bytes of a value.
        stored: bytes of the file, or of all files of a folder.
        path: the file, for the message.
    """
    declared = math.prod(int(size) for size in shape) * itemsize
    if declared > max(_LARGE, _LARGEST_RATIO * stored):
        raise InputError(
            f"{path} declares {' x '.join(map(str, shape))} values, {declared} bytes, and holds {stored}; expected no "
            f"more than {_LARGEST_RATIO} times as many. It is damaged or incomplete."
        )


def most_unpacked(stored: int) -> int:
    """Return the largest unpacked size accepted for a file of `stored` bytes that is read whole."""
    return max(_LARGE, _LARGEST_RATIO_WHOLE * stored)


def check_unpacked(size: int, stored: int, path: Path) -> None:
    """Raise InputError if the unpacked size is implausible for a scene, before memory is allocated.

    Args:
        size: bytes of all arrays, as the file declares them, or a lower bound of these.
        stored: bytes of the file.
        path: the file, for the message.
    """
    if size > most_unpacked(stored):
        raise InputError(
            f"{path} would grow from {stored} bytes to {size} or more when unpacked; expected no more than "
            f"{_LARGEST_RATIO_WHOLE} times as many. It is damaged or made to fill memory."
        )


def gained(values: Array, gains: Array, offsets: Array, mask: Array | None) -> Array:
    """Return values * gains + offsets, band by band, as float32; 0 where masked.

    Args:
        values: (H, W, B), as stored.
        gains, offsets: (B,).
        mask: (H, W) bool, True for valid pixels, or None.
    """
    cube = np.empty(values.shape, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for band in range(values.shape[2]):  # in float64, so 0.0001 x 3000 is 0.3 to the last digit of float32
            cube[:, :, band] = values[:, :, band] * np.float64(gains[band]) + np.float64(offsets[band])
    if mask is not None:
        cube[~mask] = 0
    return cube


def mask_saturated(values_in_file: Array, saturation: float, good_bands: Array | None = None) -> Array:
    """Return (H, W), True where a good band reaches the saturation value.

    Args:
        values_in_file: (H, W, B), as stored.
        saturation: the value from which a detector is saturated.
        good_bands: (B,) bool or None; bands marked bad are ignored.

    Raises:
        InputError: a saturation that is not a number.
    """
    if np.isnan(saturation):
        raise InputError("The saturation value is NaN; expected a number, such as 65535 or 1.0.")
    values = values_in_file if good_bands is None or not good_bands.any() else values_in_file[:, :, good_bands]
    # A decimal value must equal its own float32: 1.1 in a file of float32 is 1.10000002.
    limit = values.dtype.type(saturation) if values.dtype.kind == "f" else saturation
    return np.any(values >= limit, axis=2)


def mask_nodata(values_in_file: Array, nodata: float, good_bands: Array | None = None) -> Array:
    """Return the (H, W) mask of valid pixels: those in which no good band holds the nodata value.

    Args:
        values_in_file: (H, W, B), as stored.
        nodata: the value that marks missing data; NaN marks NaN and infinity. A value outside the file's data type
            (-9999 in unsigned bytes) never occurs.
        good_bands: (B,) bool or None; bands marked bad are ignored.
    """
    values = values_in_file if good_bands is None or not good_bands.any() else values_in_file[:, :, good_bands]
    if np.isnan(nodata):
        return np.all(np.isfinite(values), axis=2)
    if values.dtype.kind == "f":
        if abs(nodata) > 1e30:  # headers print the largest float with too few digits for an exact comparison
            missing = (np.sign(values) == np.sign(nodata)) & (np.abs(values) > 1e30)
        else:
            missing = values == values.dtype.type(nodata)
        return ~np.any(missing, axis=2)
    if not (float(nodata).is_integer() and np.iinfo(values.dtype).min <= nodata <= np.iinfo(values.dtype).max):
        return np.ones(values.shape[:2], np.bool_)
    return ~np.any(values == values.dtype.type(int(nodata)), axis=2)


def picture_roughness(image: Array) -> float:
    """Return the mean step between neighbours of a band (H, W), along the rows and down the columns."""
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.nan_to_num(np.asarray(image, np.float64), posinf=0.0, neginf=0.0)
        steps = [np.abs(np.diff(values, axis=axis)) for axis in (0, 1)]
        return sum(float(step.mean()) if step.size else 0.0 for step in steps)


def looks_sheared(image: Array, alternative: Array) -> bool:
    """Return whether `alternative`, the same values with other row lengths, is at least twice as smooth.

    Rows of the wrong length shear a picture: neighbours in a column are no longer neighbours on the ground, and the
    mean step between neighbours grows several times. The result is False for noise and for square pictures.

    Args:
        image: (H, W), one band, read with the row length of the file.
        alternative: (H', W'), the same band with another row length.
    """
    if min(image.shape) < 4:  # too few neighbours to tell
        return False
    return picture_roughness(alternative) < 0.5 * picture_roughness(image)
