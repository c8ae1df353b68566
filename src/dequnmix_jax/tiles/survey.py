"""Read through a scene on disk once, before it is unmixed: its unit, and the checks of `check_scene`."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from dequnmix_jax.checks import InputError, bands_named
from dequnmix_jax.scenes.scene import (
    MISSING_BAND,
    Array,
    Ranges,
    Scene,
    check_ranges,
    divisor_in,
    leave_out_advice,
    nonzero,
    warnings_of,
)
from dequnmix_jax.scenes.source import Source, Window

# Rows are read in strips of about this many bytes of float32.
_STRIP = 32 * 2**20

# Most pixels from which the percentiles of the picture in colour are taken: evenly spread, all of a small scene.
_SAMPLES = 2**20


class View(NamedTuple):
    """The part of a source that is unmixed.

    Attributes:
        source: with the metadata of the bands that are used.
        stored: the source of the values.
        bands: (B,) bool, bands of `stored` that are used; None: all.
        drop: mask pixels that are zero in every band or not finite.
    """

    source: Source
    stored: Source
    bands: Array | None
    drop: bool

    def read(self, window: Window) -> tuple[Array, Array]:
        """Return the values (h, w, bands used), 0 where masked, and the mask (h, w), True for valid pixels."""
        cube, mask = self.stored.read(window, self.bands)
        if self.drop:
            for row in range(mask.shape[0]):  # row by row: the masks take one byte per value
                mask[row] &= np.isfinite(cube[row]).all(axis=1) & nonzero(cube[row])
                cube[row, ~mask[row]] = 0
        return cube, mask


def view(source: Source, drop: bool = False) -> View:
    """Return the good bands of a source, as `Scene.with_good_bands` and, with `drop`, `mask_invalid` choose.

    Raises:
        InputError: every band is marked bad.
    """
    good = source.good_bands
    if good is None or good.all():
        return View(source, source, None, drop)
    if not good.any():
        raise InputError(
            f"All {good.size} bands of {source.name or 'the scene'} are marked bad; expected at least one good one. "
            "Correct the bad band list (1 means good), or unmix without it."
        )
    left = replace(
        source,
        shape=(*source.shape[:2], int(good.sum())),
        wavelengths=None if source.wavelengths is None else source.wavelengths[good],
        fwhm=None if source.fwhm is None else source.fwhm[good],
        good_bands=good[good],
        notes=(*source.notes, f"{int((~good).sum())} of {good.size} bands left out because they are marked bad."),
    )
    return View(left, source, good, drop)


class Survey(NamedTuple):
    """Statistics of a scene.

    Attributes:
        scale: RMS of the valid pixels; 1 if all are zero.
        valid: number of valid pixels.
        warnings: as from `check_scene`.
        colour_bands: red, green and blue of the picture.
        colour_limits: (2, 3), percentiles 2 and 98 of these bands over the valid pixels.
    """

    scale: float
    valid: int
    warnings: list[str]
    colour_bands: tuple[int, ...]
    colour_limits: Array


def strips(shape: tuple[int, int, int]) -> Iterator[Window]:
    """Yield windows of whole rows that cover a scene."""
    height, width, bands = shape
    rows = max(1, _STRIP // (width * bands * 4))
    for first in range(0, height, rows):
        yield Window(slice(first, min(first + rows, height)), slice(0, width))


_GLANCED = 32
"""Rows that a glance reads."""


def glance(shape: tuple[int, int, int]) -> Iterator[Window]:
    """Yield windows of single rows, evenly spread, from which the colours of the picture and warnings are judged.

    They are rows of which `scan_strip` takes samples.
    """
    height, width, _ = shape
    stride = _stride(height, width)
    rows = np.arange(0, height, stride)
    for row in rows[np.unique(np.linspace(0, rows.size - 1, _GLANCED).astype(int))].tolist():
        yield Window(slice(row, row + 1), slice(0, width))


def _stride(height: int, width: int) -> int:
    """Return k, where every k-th row and column is sampled for the colours."""
    return max(1, int(np.ceil((height * width / _SAMPLES) ** 0.5)))


class Strip(NamedTuple):
    """What a strip of rows says about its scene; sums and extremes over its valid pixels.

    Attributes:
        valid, zero, negative: numbers of pixels: all, zero in every band, negative in some band.
        bad: row and column of the first one that is not finite, or None; `bad_pixels`: how many there are.
        alive: (B,) bool, bands with a finite value.
        squares: sum of all squares.
        lowest, highest: (B,).
        below: (B,) bool, bands with a negative value.
        samples: (n, 3), pixels for the colours of the picture.
    """

    valid: int
    zero: int
    negative: int
    bad: tuple[int, int] | None
    bad_pixels: int
    alive: Array
    squares: float
    lowest: Array
    highest: Array
    below: Array
    samples: Array


def scan_strip(window: Window, seen: View) -> Strip:
    """Read through a strip of whole rows."""
    height, width, bands = seen.source.shape
    valid = zero = negative = bad_pixels = 0
    bad: tuple[int, int] | None = None
    alive = np.zeros(bands, np.bool_)
    squares = np.float64(0)
    lowest, highest = np.full(bands, np.inf), np.full(bands, -np.inf)
    below = np.zeros(bands, np.bool_)
    three = _nearest(seen.source)
    stride = _stride(height, width)
    samples = [np.empty((0, 3), np.float32)]
    cube, mask = seen.read(window)
    first = window.rows.start
    for row in range(mask.shape[0]):
        values = cube[row] if mask[row].all() else cube[row][mask[row]]
        if not len(values):
            continue
        wide = values.astype(np.float64).ravel()
        square = wide @ wide
        if not np.isfinite(square):  # in float64 no square of a float32 overflows
            alive |= np.isfinite(values).any(axis=0)
            finite = np.isfinite(values).all(axis=1)
            bad_pixels += int((~finite).sum())
            bad = bad or (first + row, int(np.flatnonzero(mask[row])[~finite][0]))
            continue
        valid += len(values)
        alive[:] = True
        squares += square
        least, most = values.min(axis=0), values.max(axis=0)
        lowest, highest = np.minimum(lowest, least), np.maximum(highest, most)
        if least.min() < 0:
            negative += int((values < 0).any(axis=1).sum())
            below |= least < 0
        if (least <= 0).all() and (most >= 0).all():  # else no pixel is zero in every band
            zero += int((~nonzero(values)).sum())
        if (first + row) % stride == 0:
            samples.append(cube[row, ::stride][mask[row, ::stride]][:, list(three)])
    picked = np.concatenate(samples)
    return Strip(valid, zero, negative, bad, bad_pixels, alive, float(squares), lowest, highest, below, picked)


def scan(seen: View, on_progress: Callable[[float], None] = lambda share: None) -> Survey:
    """Read through a scene.

    Args:
        seen: the scene.
        on_progress: called after each strip with the share of the rows done.

    Raises:
        InputError: as from `survey_of`.
    """
    found = []
    for window in strips(seen.source.shape):
        found.append(scan_strip(window, seen))
        on_progress(window.rows.stop / seen.source.shape[0])
    return survey_of(found, seen)


def survey_of(found: Sequence[Strip], seen: View) -> Survey:
    """Return the statistics of a scene from those of its strips, in order.

    Raises:
        InputError: no pixel is valid, a valid one holds NaN or infinity, or the values are beyond all units, as from
            `check_scene`.
    """
    height, width, bands = seen.source.shape
    label = seen.source.name or "the scene"
    valid, bad_pixels = (sum(getattr(strip, name) for strip in found) for name in ("valid", "bad_pixels"))
    bad = next((strip.bad for strip in found if strip.bad is not None), None)
    alive = np.any([strip.alive for strip in found], axis=0)
    if bad is not None and alive.any() and not alive.all():
        empty = np.flatnonzero(~alive)
        raise InputError(
            f"{label} holds no finite value in {bands_named(empty)}; expected finite values in every valid pixel. "
            f"{leave_out_advice(empty, seen.source.wavelengths, seen.source.good_bands is not None)}"
        )
    if bad is not None:
        raise InputError(
            f"{label} holds NaN or infinite values in {bad_pixels} of its valid pixels, the first at row {bad[0]}, "
            f"column {bad[1]}; expected finite values in every valid pixel. Leave them out by nodata=nan when reading "
            "(--nodata nan)."
        )
    if not valid:
        raise InputError(
            f"All {height * width} pixels of {label} are masked; expected at least one valid pixel. Check the mask "
            f"(True means valid) and the nodata value. {MISSING_BAND}"
        )
    extent = Ranges(
        valid,
        np.min([strip.lowest for strip in found], axis=0),
        np.max([strip.highest for strip in found], axis=0),
        sum(strip.zero for strip in found),
        sum(strip.negative for strip in found),
        int(np.any([strip.below for strip in found], axis=0).sum()),
    )
    check_ranges(label, extent, np.ones(bands, np.bool_), _divisor(seen.stored))
    squares = sum(strip.squares for strip in found)
    scale = float(np.sqrt(squares / (valid * bands)))
    picked = np.concatenate([strip.samples for strip in found])
    limits = np.percentile(picked, [2.0, 98.0], axis=0) if len(picked) else np.array([[0.0] * 3, [1.0] * 3])
    return Survey(
        scale=scale if scale > 0 else 1.0,
        valid=valid,
        warnings=warnings_of(extent, np.ones(bands, np.bool_), seen.source.wavelengths, _divisor(seen.stored)),
        colour_bands=_nearest(seen.source),
        colour_limits=limits,
    )


def _divisor(source: Source) -> float | None:
    if source.gains is None:
        return divisor_in(source.notes) if source.scale is None else source.scale
    same = (source.gains == source.gains[0]).all() and not np.any(source.offsets)
    return 1.0 / float(source.gains[0]) if same and source.gains[0] else None


def _nearest(source: Source) -> tuple[int, ...]:
    """Return the bands of the picture in colour, as for a scene in memory."""
    pixel = Scene(np.zeros((1, 1, source.shape[2]), np.float32), wavelengths=source.wavelengths)
    return pixel.bands_nearest()
