"""Rasters that GDAL reads, besides GeoTIFF: which driver a file belongs to, and what a virtual raster may name.

| driver | format | recognised by |
| --- | --- | --- |
| VRT | virtual raster, as gdalbuildvrt and EnMAP-Box write it | suffix .vrt |
| EHdr | ESRI .bil, .bip, .bsq | a header beside it with NROWS and NCOLS |
| HFA | Erdas Imagine | first bytes |
| JP2OpenJPEG | JPEG 2000 | first bytes |
| PCIDSK, NITF | PCI Geomatica, NITF | first bytes |
| RST, ERS | Idrisi, ER Mapper | suffixes .rst, .ers |
"""

import os
import re
from pathlib import Path

from dequnmix_jax.checks import InputError
from dequnmix_jax.io import geotiff
from dequnmix_jax.io.envi.header import is_esri_header
from dequnmix_jax.io.remote import Remote, as_place
from dequnmix_jax.scenes.read_options import ReadOptions
from dequnmix_jax.scenes.source import Source

_BY_SUFFIX = {".vrt": "VRT", ".rst": "RST", ".ers": "ERS"}
_BY_BYTES = (
    (b"EHFA_HEADER_TAG", "HFA"),
    (b"\x00\x00\x00\x0cjP  ", "JP2OpenJPEG"),
    (b"\xff\x4f\xff\x51", "JP2OpenJPEG"),
    (b"PCIDSK", "PCIDSK"),
    (b"NITF0", "NITF"),
)
_ESRI_DATA = (".bil", ".bip", ".bsq", ".raw", ".img", ".dat", ".flt")
_LONGEST_TEXT = 64 * 2**20

# Bands of raw bytes read any file of the disk, and these prefixes other machines and devices.
_RAW = "VRTRawRasterBand"
_ELSEWHERE = re.compile(
    r"/vsi(?:curl|s3|gs|az|adls|oss|swift|hdfs|webhdfs|stdin|subfile|sparse|crypt)\w*|https?://|ftp://", re.IGNORECASE
)


def esri_header(path: Path) -> Path | None:
    """Return ESRI's header of a data file, `x.hdr` in any case, or None."""
    for suffix in (".hdr", ".HDR"):
        header = path.with_suffix(suffix)
        if header != path and header.is_file() and is_esri_header(header):
            return header
    return None


def esri_data(header: Path) -> Path:
    """Return the data file that an ESRI header describes.

    Raises:
        InputError: there is none, or several.
    """
    beside = [entry for entry in sorted(header.parent.glob(f"{header.stem}.*")) if entry.suffix.lower() in _ESRI_DATA]
    if len(beside) != 1:
        found = ", ".join(entry.name for entry in beside) or "no data file"
        raise InputError(
            f"{header} is an ESRI header with {found} beside it; expected one {header.stem}.bil, .bip or .bsq. Pass "
            "the data file."
        )
    return beside[0]


def driver_of(path: Path, head: bytes) -> str | None:
    """Return the GDAL driver of a file, or None.

    Args:
        path: the file.
        head: its first bytes.
    """
    named = _BY_SUFFIX.get(path.suffix.lower())
    if named is not None:
        return named
    known = next((driver for mark, driver in _BY_BYTES if head.startswith(mark)), None)
    if known is None and path.suffix.lower() in _ESRI_DATA and esri_header(path) is not None:
        return "EHdr"
    return known


def open_image(path: str | os.PathLike[str], options: ReadOptions) -> Source:
    """Open a raster by its driver; see `geotiff.open_image` for what is read from it.

    Args:
        path: the file, or an ESRI header; needs the extra `geo`.
        options: as for a GeoTIFF.

    Returns:
        A Source; for a virtual raster a note names the files that its values come from.

    Raises:
        InputError: the file is damaged or complex, rasterio is not installed, or a virtual raster reads raw bytes of
            other files or from other machines.
    """
    path = as_place(path)
    if path.suffix.lower() == ".hdr":
        path = esri_data(path)
    with path.open("rb") as file:
        driver = driver_of(path, file.read(16))
    if driver is None:
        raise InputError(f"{path} is of no raster format that is read; expected a GeoTIFF or ENVI file. Convert it.")
    if driver == "VRT":
        if isinstance(path, Remote):
            raise InputError(
                f"{path} is a virtual raster, which names other files, and any file of this machine could be read "
                "through it; expected the raster itself. Copy both here, or convert it by `gdal_translate`."
            )
        check_virtual(path)
    return geotiff.open_image(path, options, driver=driver)


def check_virtual(path: Path) -> None:
    """Raise InputError if a virtual raster reads raw bytes of other files, or from other machines."""
    if path.stat().st_size > _LONGEST_TEXT:
        raise InputError(
            f"{path} has {path.stat().st_size} bytes, too many for a virtual raster; pass the raster itself."
        )
    text = path.read_bytes().decode("utf-8", "replace")
    if _RAW in text:
        raise InputError(
            f"{path} reads raw bytes of other files ({_RAW}), and any file of the disk could be read through it; "
            "expected rasters. Convert it by `gdal_translate`."
        )
    elsewhere = _ELSEWHERE.search(text)
    if elsewhere:
        raise InputError(
            f"{path} names a source on another machine or device ({elsewhere[0]}); expected files on this one. Copy "
            "them, or convert it by `gdal_translate`."
        )
