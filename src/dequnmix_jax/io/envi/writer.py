"""Write ENVI images and spectral libraries: float32, bsq, little-endian."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.io.atomic import check_file, reserved
from dequnmix_jax.io.disk_space import writing
from dequnmix_jax.io.envi import header as envi
from dequnmix_jax.io.remote import as_local
from dequnmix_jax.scenes.scene import Array


def write_image(
    path: str | os.PathLike[str],
    values: Array,
    *,
    band_names: Sequence[str] | None = None,
    envi_fields: Mapping[str, str] | None = None,
    nodata: float | None = None,
    spectral: Mapping[str, str] | None = None,
    description: str = "",
    overwrite: bool = False,
) -> list[Path]:
    """Write an ENVI image, float32, bsq, little-endian, with its header beside it.

    Args:
        path: the data file, for example `abundances.img`; the header gets the suffix .hdr.
        values: (H, W, K).
        band_names: K names, or None.
        envi_fields: georeferencing fields (`Scene.envi_fields`), or None.
        nodata: the value that masked pixels hold, written as data ignore value, or None.
        spectral: header fields of the bands, from `spectral_fields`, or None.
        description: free text.
        overwrite: replace existing files.

    Returns:
        The data file and the header.

    Raises:
        InputError: a file exists and `overwrite` is False, or `values` has another shape.
    """
    if np.ndim(values) != 3:
        raise InputError(f"values have shape {np.shape(values)}; expected (rows, columns, bands).")
    fields = _image_fields(np.shape(values), band_names, spectral, envi_fields, nodata, description)
    return _write(as_local(path), np.asarray(values).transpose(2, 0, 1), fields, overwrite)


def _image_fields(
    shape: tuple[int, ...],
    band_names: Sequence[str] | None,
    spectral: Mapping[str, str] | None,
    envi_fields: Mapping[str, str] | None,
    nodata: float | None,
    description: str,
) -> dict[str, Any]:
    fields = _fields(shape, "ENVI Standard", description)
    if band_names is not None:
        fields["band names"] = envi.braces(band_names)
    if nodata is not None:
        fields["data ignore value"] = f"{nodata:g}"
    return fields | dict(spectral or {}) | dict(envi_fields or {})


def write_strips(
    path: Path,
    strips: Iterable[tuple[int, Array]],
    shape: tuple[int, int, int],
    *,
    band_names: Sequence[str] | None = None,
    envi_fields: Mapping[str, str] | None = None,
    nodata: float | None = None,
    description: str = "",
) -> list[Path]:
    """Write the same files as `write_image`, for maps that do not fit in memory. Existing files are replaced.

    Args:
        path: the data file.
        strips: the first row and values (rows, W, K), in order.
        shape: (H, W, K).
        band_names, envi_fields, nodata, description: as for `write_image`.
    """
    height, width, bands = shape
    with writing(path, 4 * height * width * bands), path.open("wb") as file:
        for first, values in strips:
            for band in range(bands):
                file.seek(4 * (band * height + first) * width)
                file.write(np.ascontiguousarray(values[:, :, band], "<f4").tobytes())
    header = path.with_suffix(".hdr")
    fields = _image_fields(shape, band_names, None, envi_fields, nodata, description)
    with writing(header):
        header.write_text(envi.format_header(fields), encoding="utf-8", errors="backslashreplace")
    return [path, header]


def spectral_fields(wavelengths: Array | None, fwhm: Array | None, good_bands: Array | None) -> dict[str, str]:
    """Return the header fields of wavelengths and widths (B,) in nm and of good bands (B,), each if it is not None."""
    fields = {}
    if wavelengths is not None:
        fields["wavelength units"] = "Nanometers"
        fields["wavelength"] = envi.braces([repr(float(value)) for value in wavelengths])
    if fwhm is not None:
        fields["fwhm"] = envi.braces([repr(float(value)) for value in fwhm])
    if good_bands is not None:
        fields["bbl"] = envi.braces([int(value) for value in good_bands])
    return fields


def write_library(
    path: str | os.PathLike[str],
    spectra: Array,
    names: Sequence[str],
    wavelengths: Array | None = None,
    *,
    overwrite: bool = False,
) -> list[Path]:
    """Write an ENVI spectral library, float32, with its header beside it.

    Args:
        path: the data file, for example `endmembers.sli`; the header gets the suffix .hdr.
        spectra: (K, B).
        names: K names.
        wavelengths: (B,) nm, or None.
        overwrite: replace existing files.

    Returns:
        The data file and the header.

    Raises:
        InputError: a file exists and `overwrite` is False, or the numbers of spectra and names differ.
    """
    return _write(as_local(path), np.asarray(spectra), _library_fields(spectra, names, wavelengths), overwrite)


def put_library(
    path: Path, header: Path, spectra: Array, names: Sequence[str], wavelengths: Array | None = None
) -> None:
    """Write the same files as `write_library` under two given names. Existing files are replaced."""
    _put(path, header, np.asarray(spectra), _library_fields(spectra, names, wavelengths))


def _library_fields(spectra: Array, names: Sequence[str], wavelengths: Array | None) -> dict[str, Any]:
    if np.ndim(spectra) != 2 or len(names) != len(spectra):
        raise InputError(f"spectra have shape {np.shape(spectra)} and {len(names)} names; expected one name a row.")
    fields = _fields((*np.shape(spectra), 1), "ENVI Spectral Library", "")
    fields["spectra names"] = envi.braces(names)
    if wavelengths is not None:
        fields["wavelength units"] = "Nanometers"
        fields["wavelength"] = envi.braces([f"{value:.10g}" for value in wavelengths])
    return fields


def _fields(shape: tuple[int, ...], file_type: str, description: str) -> dict[str, Any]:
    lines, samples, bands = shape
    return {
        "description": envi.braces([description]),
        "samples": samples,
        "lines": lines,
        "bands": bands,
        "header offset": 0,
        "file type": file_type,
        "data type": 4,
        "interleave": "bsq",
        "byte order": 0,
    }


def _write(path: Path, values: Array, fields: Mapping[str, Any], overwrite: bool) -> list[Path]:
    header = path.with_suffix(".hdr")
    check_file(header)
    check_file(path)
    with reserved(path, header, overwrite=overwrite) as outputs:
        _put(outputs.part(path), outputs.part(header), values, fields)
        outputs.place()
    return [path, header]


def _put(path: Path, header: Path, values: Array, fields: Mapping[str, Any]) -> None:
    data = np.ascontiguousarray(values, "<f4")
    with writing(path, data.nbytes), path.open("wb") as file:
        file.write(data.reshape(-1).view(np.uint8).data)  # on a full disk, `tofile` reports only two numbers
    with writing(header):
        header.write_text(envi.format_header(fields), encoding="utf-8")
