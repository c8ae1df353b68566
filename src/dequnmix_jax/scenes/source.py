"""A scene that stays on disk: its metadata, and its values read window by window.

Every reader returns a `Source`, and `Source.scene` reads all of it into a `Scene`. So a window gets the same scale,
mask, nodata and saturation as the whole scene.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from dequnmix_jax.checks import InputError, bands_named
from dequnmix_jax.escaping import as_text
from dequnmix_jax.scenes.read_options import ReadOptions
from dequnmix_jax.scenes.scene import Array, Metadata, Scene, check_lengths
from dequnmix_jax.scenes.values import gained, mask_nodata, scaled_and_masked

# Bytes of a strip of rows that is read at once, and of a piece that is converted at once (a scale divides in float64).
_STRIP = 32 * 2**20
_PIECE = 8 * 2**20


class Window(NamedTuple):
    """Rows and columns of a scene, half open."""

    rows: slice
    columns: slice

    @property
    def shape(self) -> tuple[int, int]:
        """Return the numbers of rows and columns."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


class Stored(NamedTuple):
    """The stored values of a window.

    Attributes:
        values: (h, w, B), as stored, before scaling.
        seen: (h, w) bool, the file's own mask, True for valid pixels, or None.
        notes: sentences about these values.
    """

    values: Array
    seen: Array | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Source(Metadata):
    """A scene that has not been read.

    Attributes:
        shape: (H, W, B).
        stored: reads a window, or the whole scene when the window is None.
        nodata, scale, saturation: as for `values.scaled_and_masked`.
        gains, offsets: (B,) each, or None: value = stored * gain + offset, in place of a scale.
        lazy: whether reading a window costs no more than that window.
        use: (H, W) bool, a mask that was given beside the scene, which `stored` applies; or None.
        wavelengths, good_bands, name, source, envi_fields, notes, georeference, fwhm: as for `Scene`.
    """

    shape: tuple[int, int, int]
    stored: Callable[[Window | None], Stored]
    nodata: float | None = None
    scale: float | None = None
    saturation: float | None = None
    gains: Array | None = None
    offsets: Array | None = None
    lazy: bool = True
    use: Array | None = None

    def __post_init__(self) -> None:
        """Raise InputError for a scene without pixels or bands, not one value a band, or lengths outside (0, 1 mm]."""
        if min(self.shape) < 1:
            raise InputError(
                f"{self.source or self.name or 'The array'} has {self.shape} rows, columns and bands; expected at "
                "least one of each."
            )
        for name in ("wavelengths", "fwhm", "good_bands", "gains", "offsets"):
            values = getattr(self, name)
            if values is not None and np.shape(values) != self.shape[2:]:
                raise InputError(
                    f"{self.source or self.name or 'The array'} has {name} of shape {np.shape(values)} and "
                    f"{self.shape[2]} bands; expected one value a band. Correct them, or leave them out."
                )
        for name in ("wavelengths", "fwhm"):
            check_lengths(getattr(self, name), name)
        object.__setattr__(self, "name", as_text(self.name))

    def scene(self) -> Scene:
        """Return the whole scene, in memory.

        Raises:
            InputError: the file is damaged, or a scale or a saturation is not a number.
        """
        stored = self.stored(None)
        cube, mask, notes = self._converted(stored)
        return Scene(cube, mask, **(self.metadata() | {"notes": (*self.notes, *stored.notes, *notes)}))

    def _converted(self, stored: Stored) -> tuple[Array, Array | None, list[str]]:
        cube, mask, notes = scaled_and_masked(
            stored.values,
            self.nodata,
            self.scale,
            self.good_bands,
            self.saturation,
            stored.seen,
            "in the file" if self.use is None else "in the file or by the mask",
        )
        if self.gains is not None and self.offsets is not None:
            cube = gained(stored.values, self.gains, self.offsets, mask)
        return cube, mask, notes

    def read(self, window: Window, bands: Array | None = None) -> tuple[Array, Array]:
        """Return the values and the mask of a window.

        Args:
            window: inside the scene.
            bands: (B,) bool, the bands to return, or None for all.

        Returns:
            (h, w, b) float32, 0 where masked, and the mask (h, w), True where the pixel is valid.
        """
        height, width = window.shape
        count = self.shape[2] if bands is None else int(bands.sum())
        cube, mask = np.empty((height, width, count), np.float32), np.ones((height, width), np.bool_)
        strip = max(1, _STRIP // (width * self.shape[2] * 4))
        rows = max(1, _PIECE // (width * self.shape[2] * 8))
        for top in range(0, height, strip):
            end = min(top + strip, height)
            first = window.rows.start
            stored = self.stored(Window(slice(first + top, first + end), window.columns))
            for row in range(top, end, rows):
                piece, inside = slice(row, min(row + rows, end)), slice(row - top, min(row + rows, end) - top)
                seen = None if stored.seen is None else stored.seen[inside]
                values, valid, _ = self._converted(Stored(stored.values[inside], seen))
                cube[piece] = values if bands is None else values[:, :, bands]
                if valid is not None:
                    mask[piece] = valid
        return cube, mask


# Rows that are looked at before a scene is searched for bands without data.
_SAMPLED_ROWS = 7


def marking_empty_bands(source: Source) -> Source:
    """Return a source with the bands marked bad that hold the nodata value in every pixel, and a note.

    Such a band (water vapour in some products) would mask all pixels. A few rows show whether there may be one; only
    then all rows are read.

    Args:
        source: whose `nodata` marks missing values; without one nothing is done.
    """
    if source.nodata is None:
        return source
    height, width, bands = source.shape
    good = np.ones(bands, np.bool_) if source.good_bands is None else source.good_bands
    empty = good.copy()
    rows = max(1, _STRIP // (width * bands * 4))
    whole = [Window(slice(top, min(top + rows, height)), slice(0, width)) for top in range(0, height, rows)]
    sampled = np.unique(np.linspace(0, height - 1, _SAMPLED_ROWS).astype(int))
    stored = source.stored if source.lazy else in_memory(source.stored(None).values)
    for window in [*(Window(slice(int(row), int(row) + 1), slice(0, width)) for row in sampled), *whole]:
        if not empty.any():
            return source
        empty &= _missing_everywhere(stored(window).values, source.nodata, empty)
    if not empty.any() or (empty == good).all():
        return source
    note = f"No pixel holds data in {bands_named(np.flatnonzero(empty))}: marked bad."
    return replace(source, good_bands=good & ~empty, notes=(*source.notes, note))


def _missing_everywhere(values: Array, nodata: float, bands: Array) -> Array:
    """Return (B,) bool, True for those of some bands that hold nodata (NaN and infinity too) in every pixel."""
    found = np.zeros(bands.size, np.bool_)
    for band in np.flatnonzero(bands):
        held = values[:, :, band : band + 1]
        seen = mask_nodata(held, nodata)
        found[band] = not (seen & mask_nodata(held, np.nan) if held.dtype.kind == "f" else seen).any()
    return found


def in_memory(values: Array, seen: Array | None = None) -> Callable[[Window | None], Stored]:
    """Return a reader of windows (`Source.stored`) of an array in memory.

    Args:
        values: (H, W, B).
        seen: (H, W) bool, True for valid pixels, or None.
    """

    def stored(window: Window | None) -> Stored:
        if window is None:
            return Stored(values, seen)
        return Stored(values[window], None if seen is None else seen[window])

    return stored


def source_of(scene: Scene) -> Source:
    """Return a scene in memory as a `Source`."""
    return Source(scene.cube.shape, in_memory(scene.cube, scene.mask), lazy=False, **scene.metadata())


def source_in_memory(values: Array, options: ReadOptions, seen: Array | None = None, **metadata: Any) -> Source:
    """Return the `Source` of an array that a reader has read whole.

    Args:
        values: (H, W, B), as stored.
        options: of which nodata, scale and saturation apply.
        seen: (H, W) bool, True for valid pixels, or None.
        **metadata: the fields of `Metadata`.
    """
    return Source(
        (values.shape[0], values.shape[1], values.shape[2]),
        in_memory(values, seen),
        nodata=options.nodata,
        scale=options.scale,
        saturation=options.saturation,
        lazy=False,
        **metadata,
    )
