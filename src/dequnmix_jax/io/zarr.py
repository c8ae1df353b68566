"""Read and write Zarr, formats 2 and 3: an array, or a group with a cube and its coordinates, as xarray writes it."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError, pip_hint
from dequnmix_jax.io.labelled_arrays import Variable, source_from
from dequnmix_jax.scenes.read_options import ReadOptions
from dequnmix_jax.scenes.scene import Scene
from dequnmix_jax.scenes.source import Source, Stored, Window
from dequnmix_jax.scenes.values import check_declared

_CHUNK = 8 * 2**20  # bytes of a chunk, approximately

_MARKS = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")


def looks_like(path: Path) -> bool:
    """Return whether a folder is a Zarr store."""
    return any((path / mark).is_file() for mark in _MARKS)


def _dims(array: Any) -> tuple[str, ...]:
    names = getattr(getattr(array, "metadata", None), "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    return tuple(str(name) for name in names) if names else ()


def _variable(array: Any) -> Variable:
    return Variable(array, _dims(array), dict(array.attrs))


def _missing(array: Any) -> float | None:
    """Return the fill value of an array of format 2, which is that of xarray; 0 is zarr's default and means none."""
    fill = getattr(array, "fill_value", None)
    if getattr(getattr(array, "metadata", None), "zarr_format", 2) != 2 or fill is None or fill == 0:
        return None
    return float(fill)


def _chosen(group: Any, variable: str | None, path: Path) -> tuple[str, Any, dict[str, Variable]]:
    arrays = dict(group.arrays())
    cubes = [name for name, array in arrays.items() if len(array.shape) >= 3]
    name = variable if variable is not None else (cubes[0] if len(cubes) == 1 else None)
    if name is None or name not in arrays:
        listed = ", ".join(f"{key} {array.shape}" for key, array in arrays.items()) or "nothing"
        raise InputError(
            f"{path} holds {listed}; expected one cube of three axes, or its name. Pass variable=NAME (--variable "
            "NAME)."
        )
    return name, arrays[name], {key: _variable(array) for key, array in arrays.items() if key != name}


def open_image(path: str | os.PathLike[str], options: ReadOptions) -> Source:
    """Open the cube of a Zarr store.

    Args:
        path: the folder; needs the extra `zarr`.
        options: nodata overrides the attributes, scale their scale_factor and add_offset; variable names the cube in a
            group of several.

    Returns:
        A Source.

    Raises:
        InputError: the store is damaged, holds no cube, or its axes cannot be identified; or zarr is not installed.
    """
    path = Path(path)
    zarr = require(f"{path} is a Zarr store, which")
    with _translated(path):
        opened = zarr.open(str(path), mode="r")
        others: dict[str, Variable] = {}
        if hasattr(opened, "shape"):
            if options.variable is not None:
                raise InputError(f"{path} holds one array and no names; variable does not apply.")
            name, cube = path.stem, opened
        else:
            name, cube, others = _chosen(opened, options.variable, path)
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        check_declared(tuple(cube.shape), cube.dtype.itemsize, size, path)
        present, chunks = cube.nchunks_initialized, cube.nchunks
        source = source_from(
            _variable(cube),
            others,
            name=path.stem,
            source=path,
            missing=_missing(cube),
            options=options,
        )
    read_window = source.stored

    def stored(window: Window | None) -> Stored:
        with _translated(path):
            return read_window(window)

    source = replace(source, stored=stored)
    if present < chunks:
        # Zarr silently reads a chunk that was never written, or was lost, as the fill value.
        note = f"{chunks - present} of {chunks} chunks of {name} are not stored; they hold the fill value."
        source = replace(source, notes=(*source.notes, note))
    return source


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn the many kinds of error of zarr and its codecs into InputError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zarr's, about unknown files in the folder
            yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        raise InputError(
            f"{path} cannot be read as Zarr ({type(error).__name__}: {' '.join(str(error).split())[:100]}); it is "
            "damaged, incomplete, or packed by a codec that is not installed. Copy it again."
        ) from error


def write_scene(path: Path, scene: Scene, fill: float | None) -> None:
    """Write a scene into an empty folder as xarray would: Zarr 2, which all versions read.

    Args:
        path: the folder.
        scene: the scene, in the pixels of its transform.
        fill: the value that masked pixels hold, or None.

    Raises:
        InputError: zarr is not installed.
    """
    zarr = require("Writing a Zarr store")
    format_two = {"zarr_format": 2} if hasattr(zarr.Group, "create_array") else {"zarr_version": 2}
    group = zarr.open_group(str(path), mode="w", **format_two)
    spectral = "band" if scene.wavelengths is None else "wavelength"

    def add(name: str, values: Any, dims: tuple[str, ...], **attributes: Any) -> None:
        values = np.asarray(values)
        rows = max(1, min(len(values), _CHUNK // max(values[:1].nbytes, 1))) if values.ndim == 3 else 0
        chunks = (rows, *values.shape[1:]) if values.ndim == 3 else values.shape
        # Zarr 2 has a fill value in every array, 0 by default, which xarray interprets as missing data.
        own_fill = np.nan if values.dtype.kind == "f" else np.iinfo(values.dtype).max
        if values.ndim == 3 and fill is not None:
            own_fill = fill
        create = getattr(group, "create_array", None) or group.create_dataset
        array = create(name, shape=values.shape, chunks=chunks, dtype=values.dtype, fill_value=own_fill)
        array[...] = values
        array.attrs.update({"_ARRAY_DIMENSIONS": list(dims), **attributes})

    mapping = {} if scene.georeference is None else {"grid_mapping": "spatial_ref"}
    add("reflectance", scene.cube, ("y", "x", spectral), **mapping)
    if scene.wavelengths is not None:
        add("wavelength", scene.wavelengths, (spectral,), units="nm")
    if scene.fwhm is not None:
        add("fwhm", scene.fwhm, (spectral,), units="nm")
    if scene.good_bands is not None:
        add("good_wavelengths", scene.good_bands.astype(np.uint8), (spectral,))
    if scene.georeference is not None:
        a, b, x0, d, e, y0 = scene.georeference.transform
        numbers = " ".join(repr(float(value)) for value in (x0, a, b, y0, d, e))
        add("spatial_ref", np.int32(0), (), crs_wkt=scene.georeference.crs, GeoTransform=numbers)
        if b == 0 and d == 0:  # pixel centres: rows and columns have one coordinate each
            height, width = scene.cube.shape[:2]
            add("y", y0 + e * (np.arange(height) + 0.5), ("y",))
            add("x", x0 + a * (np.arange(width) + 0.5), ("x",))


def require(what: str) -> Any:
    """Return zarr, or raise InputError that names the extra."""
    try:
        import zarr
    except ImportError as error:
        raise InputError(f"{what} needs zarr: {pip_hint('zarr')}.") from error
    return zarr
