"""Read ENVI images and spectral libraries."""

import gzip
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError, how_many
from dequnmix_jax.io import georaster, geotiff
from dequnmix_jax.io.bands import bands_to_use
from dequnmix_jax.io.envi import header as envi
from dequnmix_jax.io.envi.layout import LAYOUTS, RawFile, framed_values, frames, size_message
from dequnmix_jax.io.raw import read_window
from dequnmix_jax.io.remote import Remote, as_place
from dequnmix_jax.scenes.georeference import Georeference
from dequnmix_jax.scenes.read_options import ReadOptions
from dequnmix_jax.scenes.scene import Array
from dequnmix_jax.scenes.source import Source, Stored, Window
from dequnmix_jax.scenes.values import (
    check_unpacked,
    gained,
    looks_sheared,
    missing_value,
    scaled_and_masked,
)

_SUFFIXES = ("", ".img", ".dat", ".raw", ".bsq", ".bil", ".bip", ".sli", ".lib", ".tif", ".tiff", ".gz")


def _pair(path: Path) -> tuple[Path, Path]:
    """Return the header and the data file, given either of them."""
    if path.suffix.lower() != ".hdr":
        header = envi.find_header(path)
        if header is None:
            raise InputError(
                f"{path} has no ENVI header beside it; expected {path.name}.hdr or {path.stem}.hdr. Copy both files "
                "together."
            )
        if not path.is_file():
            raise InputError(f"{path} does not exist, though its header {header.name} does. Copy both files together.")
        return header, path
    if not path.is_file():
        raise InputError(f"{path} does not exist; expected an ENVI header file.")
    stem = path.name[:-4]
    beside = {entry.name.lower(): entry for entry in path.parent.iterdir() if entry.is_file()}
    candidates = [beside[name] for suffix in _SUFFIXES if (name := f"{stem}{suffix}".lower()) in beside]
    if not candidates:
        raise InputError(
            f"{path} has no data file beside it; expected {stem}, {stem}.img, {stem}.dat or the like. Copy both files "
            "together, or pass the data file."
        )
    if len(candidates) > 1:
        names = ", ".join(entry.name for entry in candidates)
        raise InputError(f"{path} could describe {names}; expected one data file. Pass the data file instead.")
    return path, candidates[0]


def _layout(header: envi.Header, path: Path) -> tuple[tuple[int, int, int], np.dtype[Any], int, str, list[str]]:
    """Return (lines, samples, bands), data type, offset, interleave, and notes on missing fields."""
    notes = []
    lines, samples, bands = (envi.number(header, name, path) for name in ("lines", "samples", "bands"))
    if 0 in (lines, samples, bands):
        raise InputError(
            f"{path} says {how_many(lines, 'line')}, {how_many(samples, 'sample')} and {how_many(bands, 'band')}; "
            "expected at least one of each."
        )
    code = envi.number(header, "data type", path)
    if code not in envi.DATA_TYPES:
        what = "complex numbers" if code in (6, 9) else "no type of ENVI"
        known = ", ".join(str(key) for key in envi.DATA_TYPES)
        raise InputError(f"{path} says 'data type = {code}', {what}; expected a real type, one of {known}.")
    dtype = np.dtype(envi.DATA_TYPES[code])
    if "byte order" not in header and dtype.itemsize > 1:
        notes.append("The header has no byte order; little-endian (0) was assumed.")
    order = envi.number(header, "byte order", path, 0)
    if order not in (0, 1):
        raise InputError(f"{path} says 'byte order = {order}'; expected 0 (little-endian) or 1 (big-endian).")
    if "header offset" not in header:
        notes.append("The header has no header offset; 0 was assumed.")
    if "interleave" not in header and bands > 1:
        notes.append("The header has no interleave; bsq was assumed.")
    interleave = header.get("interleave", "bsq").strip().lower()
    if interleave not in envi.INTERLEAVES and interleave != "tif":
        raise InputError(f"{path} says 'interleave = {interleave}'; expected bsq, bil or bip.")
    offset = envi.number(header, "header offset", path, 0)
    return (lines, samples, bands), dtype.newbyteorder("<" if order == 0 else ">"), offset, interleave, notes


def _zipped(path: Path, header: envi.Header, expected: int) -> bool:
    with path.open("rb") as file:
        marked = file.read(2) == b"\x1f\x8b"
    return header.get("file compression", "0").strip() == "1" or (marked and path.stat().st_size != expected)


def _raw(path: Path, header: envi.Header, layout: RawFile) -> Array:
    """Return the values as a flat array, memory-mapped unless the file is compressed."""
    expected, offset, dtype = layout.size, layout.offset, layout.dtype
    size = path.stat().st_size
    if _zipped(path, header, expected):
        check_unpacked(expected, size, path)
        try:
            with path.open("rb") as packed, gzip.open(packed, "rb") as file:
                data = file.read(expected + 1)  # one more byte reveals a longer file without unpacking it all
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(
                f"{path} cannot be unpacked ({error}); it should be gzip-compressed and is damaged, truncated or not "
                "compressed. Copy it again, or correct 'file compression'."
            ) from error
        if len(data) != expected:
            more = "more than " if len(data) > expected else ""
            raise InputError(
                f"{path} holds, unpacked, {more}{min(len(data), expected)} bytes and its header describes {expected}; "
                f"expected the two to agree. {'The header may be of another file' if more else 'It may be truncated'}."
            )
        return np.frombuffer(data, dtype, offset=offset)
    if size != expected:
        raise InputError(size_message(path, size, layout))
    if isinstance(path, Remote):
        return np.frombuffer(path.read_bytes(), dtype, offset=offset)
    return np.memmap(path, dtype, "r", offset=offset)


def _arranged(flat: Array, shape: tuple[int, int, int], interleave: str) -> Array:
    sizes = dict(zip("lsb", shape, strict=True))
    axes, permutation = LAYOUTS[interleave]
    return flat.reshape([sizes[axis] for axis in axes]).transpose(permutation)


def _of_tiff(path: Path, shape: tuple[int, int, int]) -> tuple[Callable[[Window | None], Stored], Georeference | None]:
    inside, georeference = geotiff.outline(path)
    if inside != shape:
        raise InputError(
            f"{path} holds {inside} (lines, samples, bands) and its header says {shape}; expected the two to agree."
        )
    return lambda window: Stored(geotiff.values(path, window)), georeference


def _of_raw(
    path: Path, header_path: Path, header: envi.Header, layout: RawFile
) -> tuple[Callable[[Window | None], Stored], bool]:
    shape, dtype, offset, interleave = layout[:4]
    lines, samples, bands = shape
    zipped = _zipped(path, header, layout.size)
    if not zipped and path.stat().st_size != layout.size:
        raise InputError(size_message(path, path.stat().st_size, layout))
    if layout.framed:
        if zipped:
            raise InputError(
                f"{path} is compressed and its header gives 'major frame offsets' or 'minor frame offsets'; expected "
                "one of the two. Unpack the file."
            )

        def framed(window: Window | None) -> Stored:
            values = framed_values(path, layout)
            return Stored(values if window is None else values[window])

        return framed, False

    def stored(window: Window | None) -> Stored:
        if window is not None and not zipped:
            return Stored(read_window(path, shape, dtype, offset, interleave, window))
        flat = _raw(path, header, layout)
        values = _arranged(flat, shape, interleave)
        if window is not None:
            return Stored(values[window])
        swapped = _arranged(flat, (samples, lines, bands), interleave)
        if lines == samples or not looks_sheared(values[:, :, bands // 2], swapped[:, :, bands // 2]):
            return Stored(values)
        note = (
            f"The picture looks sheared with {lines} lines of {samples} samples and smooth with {samples} lines of "
            f"{lines}; samples and lines may be swapped in {header_path.name}."
        )
        return Stored(values, None, (note,))

    return stored, not zipped


def open_image(path: str | os.PathLike[str], options: ReadOptions) -> Source:
    """Open an ENVI image: bsq, bil or bip, any real data type, both byte orders, also gzip-compressed inside.

    Reading all of a plain float32 bip file maps it into memory; other values are converted to float32 in C order.
    Pixels with the data ignore value in a good band are masked and set to 0. The sizes cannot show that a header swaps
    samples and lines; a note says so when the picture looks sheared because of it.

    Args:
        path: the header or the data file; a TIFF with an ENVI header needs the extra `geo`.
        options: nodata, scale and saturation override the header's data ignore value, its reflectance scale factor,
            gains and offsets, and its field `saturation value`, which some instruments write.

    Returns:
        A Source with wavelengths in nm, good bands, mask, georeferencing fields and notes.

    Raises:
        InputError: a file is missing, damaged or truncated, or header and file disagree.
    """
    header_path, data_path = _pair(as_place(path))
    header = envi.read_header(header_path)
    file_type = header.get("file type", "").lower()
    if "spectral library" in file_type:
        raise InputError(f"{data_path} is a spectral library, not an image; read it with envi.read_library.")
    shape, dtype, offset, interleave, notes = _layout(header, header_path)
    georeference = None
    lazy = True
    if "tif" in file_type or interleave == "tif" or data_path.suffix.lower() in (".tif", ".tiff"):
        stored, georeference = _of_tiff(data_path, shape)
    else:
        major, minor = (frames(header, f"{word} frame offsets", header_path) for word in ("major", "minor"))
        layout = RawFile(shape, dtype, offset, interleave, major, minor)
        stored, lazy = _of_raw(data_path, header_path, header, layout)
        if layout.framed:
            notes.append(f"Bytes between the values were left out, by the header's frame offsets {major} and {minor}.")
    centres, fwhm, unit_notes = envi.spectral_axis(header, shape[2], header_path)
    good = envi.good_bands(header, shape[2], header_path)
    good, ignore_notes = bands_to_use(good, centres, shape[2], options, str(header_path))
    factor, linear, gain_notes = envi.conversion(header, shape[2], header_path, good, options.scale)
    fields = envi.georeferencing_fields(header)
    if georeference is not None and "map info" not in fields:  # the TIFF has what the header lacks
        fields |= georaster.header_fields(georeference, notes)
    return Source(
        shape,
        stored,
        nodata=missing_value(options.nodata, envi.real(header, "data ignore value", header_path)),
        scale=factor,
        gains=None if linear is None else linear.gains,
        offsets=None if linear is None else linear.offsets,
        saturation=envi.real(header, "saturation value", header_path)
        if options.saturation is None
        else options.saturation,
        lazy=lazy,
        wavelengths=centres,
        good_bands=good,
        name=data_path.stem,
        source=data_path,
        envi_fields=fields,
        notes=(*notes, *unit_notes, *ignore_notes, *gain_notes),
        georeference=georeference,
        fwhm=fwhm,
    )


def read_library(
    path: str | os.PathLike[str], *, scale: float | None = None
) -> tuple[Array, tuple[str, ...], Array | None]:
    """Read an ENVI spectral library.

    Args:
        path: the library (.sli, .lib) or its header.
        scale: divisor of the values; overrides the header's reflectance scale factor, gains and offsets. Some libraries
            hold reflectance times 10,000 under a factor of 1 (that of HySU).

    Returns:
        Spectra (K, B) float32, their K names, wavelengths (B,) nm or None.

    Raises:
        InputError: as for `open_image`, or the file is an image.
    """
    values, names, header, header_path = library_values(as_place(path))
    factor, linear, _ = envi.conversion(header, values.shape[1], header_path, None, scale)
    spectra, _, _ = scaled_and_masked(values[None], None, factor, None)
    if linear is not None:
        spectra = gained(values[None], linear.gains, linear.offsets, None)
    centres, _ = envi.wavelengths(header, values.shape[1], header_path)
    return spectra[0], names, centres


def library_values(path: Path) -> tuple[Array, tuple[str, ...], envi.Header, Path]:
    """Return the stored values (K, B) of a spectral library, its K names, the header and the path of the header."""
    header_path, data_path = _pair(path)
    header = envi.read_header(header_path)
    (count, bands, planes), dtype, offset, _, _ = _layout(header, header_path)
    if "spectral library" not in header.get("file type", "").lower() or planes != 1:
        raise InputError(f"{data_path} is an image, not a spectral library; read it with dequnmix_jax.read.")
    values = _raw(data_path, header, RawFile((count, bands, 1), dtype, offset, "bsq")).reshape(count, bands)
    names = envi.words(header, "spectra names")
    if len(names) != count:
        names = tuple(f"spectrum {i + 1}" for i in range(count))
    return values, names, header, header_path
