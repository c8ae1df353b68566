"""A scene that stays where it is: its metadata, and any window of it, read and converted when it is asked for.

Every reader opens a `Source`; the `Scene` in memory is the source read in one piece. So scale, mask, nodata and
saturation of a window are those of the scene.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.escaping import as_text
from dequnmix_jax.scenes.georeference import Ground
from dequnmix_jax.scenes.scene import Array, Scene, check_lengths
from dequnmix_jax.scenes.values import gained, scaled_and_masked

# Values are read in strips of about so many bytes and converted in smaller pieces: a scale divides in float64.
_STRIP = 32 * 2**20
_PIECE = 8 * 2**20


class Window(NamedTuple):
    """Rows and columns of a scene, half open."""

    rows: slice
    columns: slice

    @property
    def shape(self) -> tuple[int, int]:
        """How many rows and columns."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


class Stored(NamedTuple):
    """What a file holds in a window.

    Attributes:
        values: (h, w, B) as they stand in the file.
        seen: (h, w) bool, the file's own mask, True for valid pixels, or None.
        notes: sentences about these values.
    """

    values: Array
    seen: Array | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Source:
    """A scene that has not been read.

    Attributes:
        shape: (H, W, B).
        stored: reads a window; all of it, by whatever way is best, where the window is None.
        nodata, scale, saturation: as for `values.scaled_and_masked`.
        gains, offsets: (B,) each, which make values of what is stored where no scale is given, or None.
        lazy: whether a window costs no more than its own reading.
        wavelengths, good_bands, name, source, crs, notes, ground, fwhm: as for `Scene`.
    """

    shape: tuple[int, int, int]
    stored: Callable[[Window | None], Stored]
    nodata: float | None = None
    scale: float | None = None
    saturation: float | None = None
    gains: Array | None = None
    offsets: Array | None = None
    lazy: bool = True
    wavelengths: Array | None = None
    good_bands: Array | None = None
    name: str = ""
    source: Path | None = None
    crs: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    ground: Ground | None = None
    fwhm: Array | None = None

    def __post_init__(self) -> None:
        """Complete the name, or raise InputError: no pixel or band, wavelengths or widths outside (0, 1 mm]."""
        if min(self.shape) < 1:
            raise InputError(
                f"{self.source or self.name or 'The array'} has {self.shape} rows, columns and bands; expected at "
                "least one of each."
            )
        for name in ("wavelengths", "fwhm"):
            check_lengths(getattr(self, name), name)
        object.__setattr__(self, "name", as_text(self.name))

    def scene(self) -> Scene:
        """Read all of it.

        Raises:
            InputError: the file is damaged, or a scale or a saturation is no number.
        """
        stored = self.stored(None)
        cube, mask, notes = self._converted(stored)
        return Scene(
            cube,
            wavelengths=self.wavelengths,
            good_bands=self.good_bands,
            mask=mask,
            name=self.name,
            source=self.source,
            crs=self.crs,
            notes=(*self.notes, *stored.notes, *notes),
            ground=self.ground,
            fwhm=self.fwhm,
        )

    def _converted(self, stored: Stored) -> tuple[Array, Array | None, list[str]]:
        cube, mask, notes = scaled_and_masked(
            stored.values, self.nodata, self.scale, self.good_bands, self.saturation, stored.seen
        )
        if self.gains is not None and self.offsets is not None:
            cube = gained(stored.values, self.gains, self.offsets, mask)
        return cube, mask, notes

    def read(self, window: Window, bands: Array | None = None) -> tuple[Array, Array]:
        """Read a window.

        Args:
            window: inside the scene.
            bands: (B,) bool, the bands wanted, or None for all.

        Returns:
            (h, w, bands wanted) float32, 0 where masked, and the mask (h, w), True where the pixel is valid.
        """
        height, width = window.shape
        wanted = self.shape[2] if bands is None else int(bands.sum())
        cube, mask = np.empty((height, width, wanted), np.float32), np.ones((height, width), np.bool_)
        strip = max(1, _STRIP // (width * self.shape[2] * 4))
        rows = max(1, _PIECE // (width * self.shape[2] * 8))
        for top in range(0, height, strip):
            end = min(top + strip, height)
            first = window.rows.start
            stored = self.stored(Window(slice(first + top, first + end), window.columns))
            for row in range(top, end, rows):
                piece, there = slice(row, min(row + rows, end)), slice(row - top, min(row + rows, end) - top)
                seen = None if stored.seen is None else stored.seen[there]
                values, valid, _ = self._converted(Stored(stored.values[there], seen))
                cube[piece] = values if bands is None else values[:, :, bands]
                if valid is not None:
                    mask[piece] = valid
        return cube, mask


def held(scene: Scene) -> Source:
    """Return a scene in memory as a source of windows."""

    def stored(window: Window | None) -> Stored:
        mask = None if scene.mask is None else scene.mask
        if window is None:
            return Stored(scene.cube, mask)
        return Stored(scene.cube[window], None if mask is None else mask[window])

    names = ("wavelengths", "good_bands", "name", "source", "crs", "notes", "ground", "fwhm")
    known: dict[str, Any] = {name: getattr(scene, name) for name in names}
    return Source(scene.cube.shape, stored, lazy=False, **known)
