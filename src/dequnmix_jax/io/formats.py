"""Read scenes and references, whatever their format."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dequnmix_jax.checks import InputError
from dequnmix_jax.io import geotiff, labelled_arrays, npz, zarr
from dequnmix_jax.io.bands import BandNumbers
from dequnmix_jax.io.envi import image
from dequnmix_jax.io.envi.header import find_header
from dequnmix_jax.io.matlab import scene
from dequnmix_jax.io.missions import detect
from dequnmix_jax.io.provenance import SUMMARY
from dequnmix_jax.scenes.scene import Scene
from dequnmix_jax.scenes.source import Source, held
from dequnmix_jax.scenes.truth import Truth

# Little- and big-endian, and both with 64-bit offsets (BigTIFF).
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_NAMES = {
    "envi": "an ENVI file",
    "tiff": "a TIFF file",
    "hdf5": "an HDF5 file of a mission",
    "zarr": "a Zarr store",
    "array": "an array",
}
_SCENES = ".npz, .npy, .mat, ENVI, GeoTIFF, EMIT, PRISMA or Zarr"


def _kind(path: Path) -> str:
    """Return the kind of a file ("npz", "mat", "hdf5", "zarr", "envi", "tiff"), from its first bytes and suffix."""
    if path.is_dir():
        if zarr.looks_like(path):
            return "zarr"
        cure = (
            "it is the output of an unmixing, which `score` reads"
            if (path / SUMMARY).is_file()
            else "pass a file inside it"
        )
        raise InputError(f"{path} is a folder; expected a scene ({_SCENES}): {cure}.")
    if not path.is_file():
        if find_header(path) is not None:
            return "envi"
        raise InputError(f"{path} does not exist; expected a scene ({_SCENES}). Check the spelling.")
    with path.open("rb") as file:
        head = file.read(520)
    if not head:
        raise InputError(f"{path} is empty; expected a scene ({_SCENES}). Copy it again.")
    suffix = path.suffix.lower()
    if suffix in (".nc", ".nc4", ".he5", ".h5", ".hdf5") and head.startswith(b"\x89HDF"):
        return "hdf5"
    if suffix in (".npz", ".npy", ".mat"):  # before the header: x.npz can lie beside x.img and its x.hdr
        return "mat" if suffix == ".mat" else "npz"
    # Then the header, before the first bytes: the first pixels of an ENVI image can look like anything.
    if suffix == ".hdr" or find_header(path) is not None:
        return "envi"
    if head.startswith((b"PK\x03\x04", b"\x93NUMPY")):
        return "npz"
    if head.startswith(b"\x89HDF"):
        return "hdf5"
    if head.startswith(b"MATLAB") or head[512:516] == b"\x89HDF":
        return "mat"
    if suffix in (".tif", ".tiff") or head.startswith(_TIFF):
        return "tiff"
    raise InputError(
        f"{path} begins with {head[:8]!r} and has no ENVI header beside it; expected {_SCENES}; an ENVI file comes "
        f"with {path.name}.hdr or {path.stem}.hdr."
    )


def _check_choices(shape: tuple[int, int] | None, order: str | None) -> None:
    if order not in (None, "F", "C"):
        raise InputError(f"order is {order!r}; expected 'F' (down the columns) or 'C' (along the rows).")
    if shape is not None and (len(shape) != 2 or min(shape) < 1):
        raise InputError(f"shape is {tuple(shape)}; expected two positive numbers, rows and columns.")


def read(
    path: Any,
    *,
    variable: str | None = None,
    shape: tuple[int, int] | None = None,
    order: str | None = None,
    nodata: float | None = None,
    scale: float | None = None,
    saturation: float | None = None,
    ignore: Sequence[tuple[float, float]] = (),
    bands: tuple[int, int] | None = None,
) -> Scene:
    """Read a scene from .npz, .npy, .mat, ENVI (header or data file), GeoTIFF, EMIT, PRISMA, Zarr, or from memory.

    Args:
        path: the file; or an array (rows, columns, bands) of any library, or an xarray DataArray, whose axes are told
            by their names. A masked array of numpy keeps its mask.
        variable: name of the cube in a .npz, .mat, Zarr group or xarray Dataset that holds several arrays.
        shape: rows and columns, where the file holds a matrix of pixels and does not say.
        order: "F" (down the columns) or "C" (along the rows), how the pixels of a matrix are counted; found out or
            taken from the layout by default, and said in the notes.
        nodata: value of missing pixels, before scaling; what the file declares by default. Where there is one, NaN and
            infinity are missing as well; NaN asks for these alone, beside the value that the file declares.
        scale: divide the values by this, for example 10000 for reflectance stored as integers.
        saturation: value from which a pixel is saturated, before scaling; saturated pixels are masked.
        ignore: ranges (shortest, longest) of wavelength in nm, such as (1310, 1490) for water vapour; their bands
            are marked bad.
        bands: first and last band to use, counted from 0; all others are marked bad.

    Returns:
        A Scene: float32 cube (H, W, B), wavelengths in nm, mask, and notes on what was assumed.

    Raises:
        InputError: the file is missing, damaged, truncated, of an unknown format, or disagrees with itself.
    """
    reading: dict[str, Any] = {"nodata": nodata, "scale": scale, "saturation": saturation, "ignore": ignore}
    return open_source(path, variable=variable, shape=shape, order=order, bands=bands, **reading).scene()


def open_source(
    path: Any,
    *,
    variable: str | None = None,
    shape: tuple[int, int] | None = None,
    order: str | None = None,
    nodata: float | None = None,
    scale: float | None = None,
    saturation: float | None = None,
    ignore: Sequence[tuple[float, float]] = (),
    bands: tuple[int, int] | None = None,
) -> Source:
    """Open a scene without reading it, where its format allows; arguments and errors as for `read`.

    Returns:
        A Source: windows of ENVI, plain .npy, GeoTIFF, EMIT, PRISMA, Zarr and of anything that can be sliced are read
        when they are asked for (`Source.lazy`); .npz, .mat and gzip-compressed files have to be read whole.
    """
    _check_choices(shape, order)
    if bands is not None:
        ignore = (*ignore, BandNumbers(*bands))
    values: dict[str, Any] = {"nodata": nodata, "scale": scale, "saturation": saturation, "ignore": ignore}
    kind = _kind(Path(path)) if isinstance(path, str | os.PathLike) else "array"
    if kind in _NAMES:
        if shape is not None or order is not None or (variable is not None and kind not in ("zarr", "array")):
            raise InputError(
                f"{path if kind != 'array' else type(path).__name__} is {_NAMES[kind]}, which holds one cube and says "
                f"its shape; {'' if kind in ('zarr', 'array') else 'variable, '}shape and order do not apply."
            )
        if kind == "array":
            return labelled_arrays.open_array(path, variable=variable, **values)
        if kind == "zarr":
            return zarr.open_scene(path, variable=variable, **values)
        open_image = {"envi": image.open_image, "tiff": geotiff.open_image, "hdf5": detect.open_image}[kind]
        return open_image(Path(path), **values)
    if kind == "npz" and variable is None and shape is None and order is None:
        plain = npz.open_array(Path(path), **values)
        if plain is not None:
            return plain
    reader = npz if kind == "npz" else scene
    return held(reader.read_scene(path, variable=variable, shape=shape, order=order, **values))


def read_truth(
    path: str | os.PathLike[str], *, shape: tuple[int, int] | None = None, order: str | None = None
) -> Truth:
    """Read a reference: abundances, endmembers and names from .npz, .mat, or a folder written by `write`.

    Args:
        path: the file or folder; an ENVI spectral library gives endmembers alone.
        shape: rows and columns, where a .mat file holds a matrix of pixels and does not say.
        order: "F" or "C", how the pixels of such a matrix are counted, as for `read`.

    Returns:
        A Truth with what the file holds.

    Raises:
        InputError: the file is missing, damaged, or holds no reference.
    """
    path = Path(path)
    _check_choices(shape, order)
    if path.is_dir():
        inside = path / "estimate.npz"
        if not inside.is_file():
            raise InputError(f"{path} is a folder without estimate.npz; expected one that `write` made, or a file.")
        return npz.read_truth(inside)
    kind = _kind(path)
    if kind == "envi":
        spectra, names, _ = image.read_library(path)
        return Truth(endmembers=spectra, names=names, reference=path.name)
    return npz.read_truth(path) if kind == "npz" else scene.read_truth(path, shape=shape, order=order)
