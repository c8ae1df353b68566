"""Read Zarr, formats 2 and 3: an array, or a group with a cube and its coordinates, as xarray writes it.

xarray itself does not read all of this: it refuses format 3 with a fill value that is a plain number, in format 2 it
takes zarr's default of 0 for missing data, and it needs a group with named axes.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from dequnmix_jax.checks import InputError, pip_hint
from dequnmix_jax.io.labelled_arrays import Variable, source_from
from dequnmix_jax.io.remote import Remote, as_place
from dequnmix_jax.scenes.read_options import ReadOptions
from dequnmix_jax.scenes.source import Source, Stored, Window
from dequnmix_jax.scenes.values import check_declared

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
    path = as_place(path)
    zarr = require(f"{path} is a Zarr store, which")
    with _translated(path):
        opened = zarr.open(path.url if isinstance(path, Remote) else str(path), mode="r")
        others: dict[str, Variable] = {}
        if hasattr(opened, "shape"):
            if options.variable is not None:
                raise InputError(f"{path} holds one array and no names; variable does not apply.")
            name, cube = path.stem, opened
        else:
            name, cube, others = _chosen(opened, options.variable, path)
        present = chunks = cube.nchunks
        if not isinstance(path, Remote):  # most servers do not list their folders
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            check_declared(tuple(cube.shape), cube.dtype.itemsize, size, path)
            present = cube.nchunks_initialized
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


def require(what: str) -> Any:
    """Return zarr, or raise InputError that names the extra."""
    try:
        import zarr
    except ImportError as error:
        raise InputError(f"{what} needs zarr: {pip_hint('zarr')}.") from error
    return zarr
