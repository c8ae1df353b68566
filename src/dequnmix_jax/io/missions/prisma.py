"""Read PRISMA Level 2D reflectance (and 2C, 2B, and radiance of Level 1), HDF-EOS5.

Layout (ASI, PRISMA Products Specification Document):

| name | axes | content |
| --- | --- | --- |
| HDFEOS/SWATHS/PRS_L2D_HCO/Data Fields/VNIR_Cube, SWIR_Cube | rows, bands, columns | uint16; 0: no measurement |
| .../VNIR_PIXEL_L2_ERR_MATRIX, SWIR_... | rows, bands, columns | 0 good, 1 invalid in L1, 2 negative, 3 saturated |
| attributes L2ScaleVnirMin, L2ScaleVnirMax, L2ScaleSwir... | | reflectance = Min + DN (Max - Min) / 65535 |
| attributes List_Cw_Vnir, List_Cw_Swir, List_Fwhm_... | bands | nanometres, 0 for a missing band |
| attributes Epsg_Code, Product_ULcorner_easting, ... | | Level 2D: UTM; the corners are pixel centres |

Level 1 (PRS_L1_HCO) holds radiance = DN / ScaleFactor_Vnir - Offset_Vnir, and in VNIR_PIXEL_SAT_ERR_MATRIX the codes 0
good, 1 defective, 2 saturated, 3 less accurate, 4 not finite; a stored 0 is a measurement there.

Both detectors store their bands from long to short wavelengths; the cube has them from short to long, without missing
bands. Where the detectors overlap (about 920 to 1010 nm), the SWIR bands are marked bad.
"""

from pathlib import Path
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError, how_many
from dequnmix_jax.io import georaster
from dequnmix_jax.io.bands import bands_to_use, valid_lengths
from dequnmix_jax.io.missions import hdf5
from dequnmix_jax.scenes.georeference import Georeference
from dequnmix_jax.scenes.read_options import ReadOptions
from dequnmix_jax.scenes.scene import Array, check_lengths
from dequnmix_jax.scenes.source import Source, Stored, Window
from dequnmix_jax.scenes.values import missing_value

_SWATHS = "HDFEOS/SWATHS"
_LEVELS = ("2D", "2C", "2B", "1")
_PIXEL = 30.0  # metres
_LARGEST = 65535.0

# Error codes that mean no measurement. Negative values (2) are noise about zero and are kept.
_INVALID = (1, 3)
_INVALID_1 = (1, 2, 4)

# A band that is invalid in more than half of the pixels lies in the absorption of water vapour.
_MOSTLY = 0.5

# Bytes of stored numbers in a block of rows.
_BLOCK = 64 * 2**20


def _swath(file: Any) -> str | None:
    return next((level for level in _LEVELS if f"{_SWATHS}/PRS_L{level}_HCO/Data Fields" in file), None)


def holds(file: Any) -> bool:
    """Return whether an open HDF5 file has the layout of a PRISMA product of Level 1 or 2."""
    return _swath(file) is not None


def _reflectance(file: Any, word: str, path: Path) -> tuple[float, float]:
    """Return gain and offset of Level 2: reflectance = Min + DN (Max - Min) / 65535."""
    limits = [hdf5.numbers(file, f"L2Scale{word}{end}", 1, path) for end in ("Min", "Max")]
    low, high = (np.nan if limit is None else float(limit[0]) for limit in limits)
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise InputError(
            f"{path} has L2Scale{word}Min = {low:g} and L2Scale{word}Max = {high:g}; expected the smaller and the "
            "larger reflectance of the scale."
        )
    return (high - low) / _LARGEST, low


def _radiance(file: Any, word: str, path: Path) -> tuple[float, float]:
    """Return gain and offset of Level 1: radiance = DN / ScaleFactor - Offset."""
    found = [hdf5.numbers(file, f"{name}_{word}", 1, path) for name in ("ScaleFactor", "Offset")]
    scale, offset = (np.nan if value is None else float(value[0]) for value in found)
    if not (scale > 0 and np.isfinite(scale) and np.isfinite(offset)):
        raise InputError(
            f"{path} has ScaleFactor_{word} = {scale:g} and Offset_{word} = {offset:g}; expected a positive divisor "
            "and a number."
        )
    return 1.0 / scale, -offset


class _Detector:
    """Unread bands of one detector, from short to long; arrays in the file have the axes rows, bands, columns."""

    def __init__(self, file: Any, level: str, name: str, path: Path) -> None:
        fields = f"{_SWATHS}/PRS_L{level}_HCO/Data Fields"
        self.stored = hdf5.dataset(file, f"{fields}/{name}_Cube", path, 3)
        bands = self.stored.shape[1]
        word = name.capitalize()
        centres = hdf5.numbers(file, f"List_Cw_{word}", bands, path)
        if centres is None:
            raise InputError(f"{path} has no attribute List_Cw_{word}; expected the wavelengths of {name}_Cube there.")
        check_lengths(centres[centres != 0], f"{path}: List_Cw_{word}")
        fwhm = hdf5.numbers(file, f"List_Fwhm_{word}", bands, path)
        present = np.flatnonzero(centres > 0)
        self.order = present[np.argsort(centres[present], kind="stable")]
        self.missing = bands - self.order.size
        self.centres = centres[self.order]
        self.fwhm = np.zeros(self.order.size) if fwhm is None else fwhm[self.order]
        self.gain, self.offset = (_radiance if level == "1" else _reflectance)(file, word, path)
        self.errors = None
        self.invalid_codes = _INVALID_1 if level == "1" else _INVALID
        matrix = f"{fields}/{name}_PIXEL_{'SAT' if level == '1' else 'L2'}_ERR_MATRIX"
        if matrix in file:
            self.errors = hdf5.dataset(file, matrix, path, 3)
            if self.errors.shape != self.stored.shape:
                raise InputError(
                    f"{path} holds {name}_Cube of shape {self.stored.shape} and its error matrix of shape "
                    f"{self.errors.shape}; expected the two to agree."
                )

    def numbers(self, window: Window) -> Array:
        """Return the stored numbers (rows, columns, bands) of a window."""
        block = self.stored[window.rows, :, window.columns]
        return np.ascontiguousarray(block.transpose(0, 2, 1)[:, :, self.order])

    def invalid(self, window: Window) -> Array:
        """Return (rows, columns, bands), True where the error matrix says that there is no measurement."""
        if self.errors is None:
            return np.zeros((*window.shape, self.order.size), np.bool_)
        return np.isin(self.errors[window.rows, :, window.columns], self.invalid_codes).transpose(0, 2, 1)[
            :, :, self.order
        ]


class _Bands:
    """Both detectors of an open file, their bands sorted by wavelength."""

    def __init__(self, file: Any, path: Path, nodata: float | None) -> None:
        level = _swath(file)
        assert level is not None  # `holds` has checked it
        self.level = level
        self.detectors = vnir, swir = tuple(_Detector(file, level, name, path) for name in ("VNIR", "SWIR"))
        if (vnir.stored.shape[0], vnir.stored.shape[2]) != (swir.stored.shape[0], swir.stored.shape[2]):
            raise InputError(
                f"{path} holds VNIR_Cube of shape {vnir.stored.shape} and SWIR_Cube of {swir.stored.shape}; expected "
                "the same rows and columns."
            )
        self.sides = (vnir.stored.shape[0], vnir.stored.shape[2])
        centres = np.concatenate([vnir.centres, swir.centres])
        self.order = np.argsort(centres, kind="stable")
        self.wavelengths = centres[self.order]
        self.fwhm = np.concatenate([vnir.fwhm, swir.fwhm])[self.order]
        overlap = [np.zeros(vnir.order.size, np.bool_), swir.centres <= vnir.centres.max(initial=0.0)]
        self.overlap = np.concatenate(overlap)[self.order]
        self.nodata = missing_value(nodata, None if level == "1" else 0)

    def per_band(self, word: str) -> Array:
        """Return an attribute of the detectors as (bands,)."""
        return np.concatenate([np.full(detector.order.size, getattr(detector, word)) for detector in self.detectors])[
            self.order
        ]

    def read(self, window: Window) -> tuple[Array, Array]:
        """Return the stored numbers of a window (rows, columns, bands), and True where there is no measurement."""
        numbers = np.concatenate([detector.numbers(window) for detector in self.detectors], axis=2)[:, :, self.order]
        missing = np.concatenate([detector.invalid(window) for detector in self.detectors], axis=2)[:, :, self.order]
        return numbers, missing if self.nodata is None else missing | (numbers == self.nodata)


def _georeference(file: Any, shape: tuple[int, int], path: Path, notes: list[str]) -> Georeference | None:
    def corner(name: str) -> float:
        value = hdf5.numbers(file, f"Product_{name}", 1, path)
        return np.nan if value is None else float(value[0])

    code = hdf5.numbers(file, "Epsg_Code", 1, path)
    east = [corner(f"{name}corner_easting") for name in ("UL", "LL", "UR", "LR")]
    north = [corner(f"{name}corner_northing") for name in ("LL", "LR", "UL", "UR")]
    if code is None or not np.isfinite([*east, *north]).all():
        notes.append("The file has no georeference (Epsg_Code, Product_ULcorner_easting, ...).")
        return None
    west, top = min(east[:2]), max(north[2:])
    spans = np.array([max(north[2:]) - min(north[:2]), max(east[2:]) - west])
    sides = np.array(shape)
    # Corners are centres of the outer pixels; if a product gives outer edges, the span is one pixel longer.
    centred = np.abs(spans - _PIXEL * (sides - 1)).sum() <= np.abs(spans - _PIXEL * sides).sum()
    if np.abs(spans - _PIXEL * (sides - centred)).max() > _PIXEL:
        notes.append(f"The corners lie {spans[0]:g} x {spans[1]:g} m apart, which {shape} pixels of 30 m do not fill.")
        return None
    half = _PIXEL / 2 if centred else 0.0
    return Georeference(f"EPSG:{int(code[0])}", (_PIXEL, 0.0, west - half, 0.0, -_PIXEL, top + half))


def open_image(file: Any, path: Path, options: ReadOptions) -> Source:
    """Open the scene of a PRISMA file; the file is read once to find bad bands.

    A pixel is masked where a good band has no measurement: a stored 0, or an error code for invalid or saturated. A
    band without measurements in more than half of the scene is marked bad instead.

    Args:
        file: the open file; each reading opens it again.
        path: its path.
        options: nodata, scale and saturation apply to the stored numbers and override what the file says.

    Returns:
        A Source (rows, columns, bands), wavelengths ascending.

    Raises:
        InputError: arrays or attributes are missing or do not fit together.
    """
    bands = _Bands(file, path, options.nodata)
    notes = ["The file holds radiance, not reflectance."] if bands.level in ("2B", "1") else []
    if absent := sum(detector.missing for detector in bands.detectors):
        notes.append(f"{how_many(absent, 'band')} left out: missing in the file (wavelength 0).")
    if bands.overlap.any():
        count = int(bands.overlap.sum())
        notes.append(f"{how_many(count, 'band')} of SWIR_Cube marked bad: inside the range of VNIR_Cube.")
    lost = _lost(bands)
    if lost.any():
        notes.append(f"{how_many(int(lost.sum()), 'band')} marked bad: no measurement in more than half of the scene.")
    good, ignore_notes = bands_to_use(~lost & ~bands.overlap, bands.wavelengths, lost.size, options, str(path))
    assert good is not None  # bands are marked above
    height, width = bands.sides
    whole = Window(slice(0, height), slice(0, width))

    def stored(window: Window | None) -> Stored:
        with hdf5.opened(path) as again:
            numbers, missing = _Bands(again, path, options.nodata).read(whole if window is None else window)
        return Stored(numbers, np.any(numbers, axis=2) & ~missing[:, :, good].any(axis=2))

    fwhm, width_notes = valid_lengths(bands.fwhm, "The file", "widths (fwhm)") if bands.fwhm.any() else (None, [])
    notes += width_notes
    georeference = _georeference(file, bands.sides, path, notes) if bands.level == "2D" else None
    placement = georaster.placement(georeference, notes)
    return Source(
        (height, width, lost.size),
        stored,
        scale=options.scale,
        saturation=options.saturation,
        gains=bands.per_band("gain") if options.scale is None else None,
        offsets=bands.per_band("offset") if options.scale is None else None,
        wavelengths=bands.wavelengths,
        good_bands=good,
        name=path.stem,
        source=path,
        notes=(*notes, *ignore_notes),
        fwhm=fwhm,
        **placement,
    )


def _lost(bands: _Bands) -> Array:
    """Return (bands,), True for bands without a measurement in more than half of the pixels of the scene.

    The padding around the scene, zero in every band, does not count.
    """
    height, width = bands.sides
    pixels, without = 0, np.zeros(bands.order.size, np.int64)
    rows = max(1, _BLOCK // (width * bands.order.size * 2))
    for first in range(0, height, rows):
        numbers, missing = bands.read(Window(slice(first, min(first + rows, height)), slice(0, width)))
        seen = np.any(numbers, axis=2)
        pixels += int(seen.sum())
        without += missing[seen].sum(axis=0)
    lost: Array = without > _MOSTLY * pixels
    return lost
