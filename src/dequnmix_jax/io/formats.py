"""Open scenes and references of any format."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dequnmix_jax.checks import InputError
from dequnmix_jax.io import geotiff, labelled_arrays, masks, netcdf, npz, rasters, xarrays, zarr
from dequnmix_jax.io.envi import image
from dequnmix_jax.io.envi.header import find_header, is_esri_header
from dequnmix_jax.io.matlab import scene as matlab_scene
from dequnmix_jax.io.missions import detect, dlr, hyperion
from dequnmix_jax.io.provenance import SUMMARY
from dequnmix_jax.io.remote import Remote, as_place
from dequnmix_jax.scenes.read_options import ReadOptions
from dequnmix_jax.scenes.scene import Scene
from dequnmix_jax.scenes.source import Source, marking_empty_bands
from dequnmix_jax.scenes.truth import Truth

# Little- and big-endian, and both with 64-bit offsets (BigTIFF).
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

TABLES = (".csv", ".tsv")
"""Suffixes of tables of spectra, which the readers of libraries read."""

_NAMES = {
    "envi": "an ENVI file",
    "tiff": "a TIFF file",
    "raster": "a raster",
    "hdf5": "an HDF5 file",
    "netcdf": "a NetCDF file",
    "product": "an EnMAP or DESIS product",
    "bands": "a folder of Hyperion",
    "zarr": "a Zarr store",
    "array": "an array",
}
_SCENES = ".npz, .npy, .mat, ENVI, GeoTIFF and other rasters, HDF5 of a mission, NetCDF, or Zarr"


def kind_of_file(path: Path) -> str:
    """Return the kind of a file ("npz", "mat", "hdf5", "netcdf", "product", "bands", "zarr", "envi", "tiff",
    "raster").

    It follows from the suffix, the first bytes, and the header beside the file.
    """
    if path.is_dir():
        if zarr.looks_like(path):
            return "zarr"
        if isinstance(path, Remote):
            raise InputError(
                f"{path} holds no Zarr store, or cannot be reached; expected a file, or the folder of a store. Check "
                "the spelling."
            )
        if dlr.pair_of(path) is not None:
            return "product"
        if hyperion.band_files(path):
            return "bands"
        cure = (
            "it is the output of an unmixing, which `score` reads"
            if (path / SUMMARY).is_file()
            else "pass a file inside it"
        )
        raise InputError(f"{path} is a folder; expected a scene ({_SCENES}): {cure}.")
    if not isinstance(path, Remote) and not path.is_file():
        if find_header(path) is not None:
            return "envi"
        raise InputError(f"{path} does not exist; expected a scene ({_SCENES}). Check the spelling.")
    with path.open("rb") as file:
        head = file.read(520)
    if not head:
        raise InputError(f"{path} is empty; expected a scene ({_SCENES}). Copy it again.")
    if not isinstance(path, Remote) and dlr.pair_of(path) is not None:
        return "product"
    suffix = path.suffix.lower()
    if suffix in (".nc", ".nc4", ".he5", ".h5", ".hdf5") and head.startswith(b"\x89HDF"):
        return "hdf5"
    if suffix in (".npz", ".npy", ".mat"):  # before the header, because x.npz can lie beside x.img and its x.hdr
        return "mat" if suffix == ".mat" else "npz"
    if suffix in TABLES:  # before the header, because endmembers.csv lies beside endmembers.hdr
        raise InputError(
            f"{path} is a table, not a scene; expected a scene ({_SCENES}). `score`, `match` and "
            "libraries.read_library read spectra in a table."
        )
    if suffix == ".hdr" and is_esri_header(path):
        return "raster"
    # The header before the first bytes, because the first pixels of an ENVI image can look like anything.
    if suffix == ".hdr" or find_header(path) is not None:
        return "envi"
    if head.startswith((b"PK\x03\x04", b"\x93NUMPY")):
        return "npz"
    if head.startswith(b"\x89HDF"):
        return "hdf5"
    if head.startswith(netcdf.CLASSIC):
        return "netcdf"
    if head.startswith(b"MATLAB") or head[512:516] == b"\x89HDF":
        return "mat"
    if suffix in (".tif", ".tiff") or head.startswith(_TIFF):
        return "tiff"
    if rasters.driver_of(path, head) is not None:
        return "raster"
    raise InputError(
        f"{path} begins with {head[:8]!r} and has no ENVI header beside it; expected {_SCENES}; an ENVI file comes "
        f"with {path.name}.hdr or {path.stem}.hdr."
    )


def read(path: Any, **options: Any) -> Scene:
    """Read a scene of any format, or from memory.

    Formats: .npz, .npy, .mat; ENVI (header or data file); GeoTIFF, and other rasters of GDAL (`rasters`); HDF5 files of
    missions (`missions`); NetCDF in the CF conventions; Zarr.

    Args:
        path: the file; or its URL (https://, s3://, or GDAL's /vsicurl/, /vsis3/, /vsizip/; extra `remote`), of which
            the needed parts are read; or an array (rows, columns, bands) of any library, or an xarray DataArray or
            Dataset, whose axes are identified by their names. A masked array of numpy keeps its mask.
        **options: variable, shape, order, nodata, scale, saturation, ignore, bands, drop_bands, mask, mask_values,
            mask_invert: see `scenes.ReadOptions`.

    Returns:
        A Scene: float32 cube (H, W, B), wavelengths in nm, mask, and notes on what was assumed.

    Raises:
        InputError: the file is missing, damaged, truncated, of an unknown format, or contradicts itself; or there is no
            such option.

    >>> import numpy as np
    >>> read(np.ones((2, 3, 4)), scale=2)
    <Scene: 2 x 3 pixels, 4 bands, no wavelengths, 0 % masked, no georeference>
    """
    return open_source(path, **options).scene()


def open_source(path: Any, **options: Any) -> Source:
    """Open a scene without reading it, if its format allows; arguments and errors as for `read`.

    Returns:
        A Source. Windows of ENVI, plain .npy, rasters, missions, Zarr and of anything that can be sliced are read
        on request (`Source.lazy`); .npz, .mat and gzip-compressed files are read whole.
    """
    choices = ReadOptions.of(options)
    kind = "array"
    if isinstance(path, str | os.PathLike):
        path = as_place(path)
        kind = kind_of_file(path)
    if kind in _NAMES:
        named = kind in ("zarr", "array", "hdf5", "netcdf")
        if choices.shape is not None or choices.order is not None or (choices.variable is not None and not named):
            raise InputError(
                f"{path if kind != 'array' else type(path).__name__} is {_NAMES[kind]}, which holds one cube and says "
                f"its shape; {'' if named else 'variable, '}shape and order do not apply."
            )
    opened = marking_empty_bands(_READERS[kind](path, choices))
    return opened if choices.mask is None else masks.applied(opened, choices, _plain)


def _plain(path: Path) -> Source:
    """Open a file as it is stored, with the options of its format's own declarations only."""
    return _READERS[kind_of_file(path)](path, ReadOptions())


_READERS: dict[str, Callable[[Any, ReadOptions], Source]] = {
    "array": labelled_arrays.open_array,
    "bands": hyperion.open_image,
    "envi": image.open_image,
    "hdf5": detect.open_image,
    "product": dlr.open_image,
    "mat": matlab_scene.open_image,
    "netcdf": netcdf.open_image,
    "npz": npz.open_image,
    "raster": rasters.open_image,
    "tiff": geotiff.open_image,
    "zarr": zarr.open_image,
}


def open_xarray(path: Any, **options: Any) -> Any:
    """Read a scene of any format, or from memory, as an xarray Dataset; arguments and errors as for `read`.

    Returns:
        A Dataset, in memory, with reflectance (y, x, band), float32, NaN where masked; wavelength and fwhm in nm and
        good_wavelengths along band, so that `.sel(wavelength=650, method="nearest")` works; x, y and spatial_ref, from
        which `.rio.crs` and `.rio.transform()` follow. A swath is rectified. Needs the extra `xarray`.
    """
    xarrays.require("A data set of xarray")  # reported before the scene is read
    return xarrays.scene_dataset(read(path, **options))


def read_truth(
    path: str | os.PathLike[str], *, shape: tuple[int, int] | None = None, order: str | None = None
) -> Truth:
    """Read a reference: abundances, endmembers and names from .npz, .mat, or a folder or NetCDF file of `write`.

    Args:
        path: the file or folder, or a URL; an ENVI spectral library gives endmembers alone.
        shape: rows and columns, if a .mat file holds a matrix of pixels without them.
        order: "F" or "C", the order of the pixels of such a matrix, as for `read`.

    Returns:
        A Truth; fields that the file does not hold are None.

    Raises:
        InputError: the file is missing, damaged, or holds no reference.
    """
    path = as_place(path)
    options = ReadOptions(shape=shape, order=order)
    if path.is_dir():
        inside = path / "estimate.npz"
        if not inside.is_file():
            raise InputError(f"{path} is a folder without estimate.npz; expected one that `write` made, or a file.")
        return npz.read_truth(inside)
    if path.suffix.lower() in TABLES and path.is_file():
        raise InputError(f"{path} is a table of spectra; results.score.read_reference reads it as a reference.")
    if not isinstance(path, Remote) and not path.is_file() and find_header(path) is None:
        raise InputError(f"{path} does not exist; expected a reference (.npz, .mat or a library). Check the spelling.")
    kind = kind_of_file(path)
    if kind in ("tiff", "raster", "product", "bands"):
        raise InputError(f"{path} is {_NAMES[kind]}; expected a reference: .npz, .mat, or a library of spectra.")
    if kind == "netcdf" or (kind == "hdf5" and path.suffix.lower() in (".nc", ".nc4")):
        return netcdf.read_truth(path)
    if kind == "envi":
        spectra, names, _ = image.read_library(path)
        return Truth(endmembers=spectra, names=names, reference=path.name)
    return npz.read_truth(path) if kind == "npz" else matlab_scene.read_truth(path, options)
