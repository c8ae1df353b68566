"""Identify the cube, the maps and the dimensions among the variables of a MATLAB file."""

import io
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError, pip_hint
from dequnmix_jax.escaping import reason_of
from dequnmix_jax.io.bands import nanometres
from dequnmix_jax.io.matlab import mat5
from dequnmix_jax.io.missions import hdf5
from dequnmix_jax.io.remote import Remote, as_place
from dequnmix_jax.scenes.scene import Array
from dequnmix_jax.scenes.values import check_declared

CUBES = ("Y", "V", "X", "cube", "hsi", "HSI", "img")
CUBE_FIELDS = ("Data", "data", "DataCube")
"""Names of a cube in a struct, besides `CUBES`: MUUFL Gulfport's `hsi.Data`, and MATLAB's own hypercube."""

ABUNDANCES = ("A", "S_GT", "A_cube", "abundances", "S")
ENDMEMBERS = ("M", "E", "GT", "endmembers")
NAMES = ("cood", "labels", "names")
WAVELENGTHS = ("wavelengths_nm", "wavelengths", "wavelength", "wavlen", "wl")
_SIDES = (("H", "W"), ("nRow", "nCol"), ("lines", "cols"), ("lines", "samples"), ("rows", "cols"), ("nr", "nc"))

# Python programs write these two pairs and reshape in numpy's order.
_ALONG_ROWS = (("H", "W"), ("lines", "cols"))

Variables = dict[str, Any]


def load(path: str | os.PathLike[str]) -> Variables:
    """Return the variables of a MATLAB file of any version, the fields of a struct as `struct.field`.

    Args:
        path: the .mat file.

    Returns:
        Names and values as scipy gives them, and a `mat5.Unread` for what is left out.

    Raises:
        InputError: the file is missing, damaged, or h5py (version 7.3) or scipy (version 4) is not installed.
    """
    path = as_place(path)
    try:
        with path.open("rb") as file:
            head = file.read(520)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); expected a MATLAB file.") from error
    if head.startswith(b"MATLAB 7.3") or b"\x89HDF\r\n\x1a\n" in (head[:8], head[512:520]):
        return _load_hdf5(path)
    try:
        if 0 in head[:4]:
            return _load_old(path)
        return mat5.variables(path)
    except InputError:
        raise
    except Exception as error:  # scipy raises many kinds of error for damaged files
        raise InputError(
            f"{path} cannot be read as a MATLAB file ({type(error).__name__}: {reason_of(error)}); it is damaged, "
            "truncated, or of another format. Copy or save it again."
        ) from error


def _load_old(path: Path) -> Variables:
    """Return the variables of a file of version 4, the format without a header."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise InputError(
            f"{path} is a MATLAB file of version 4, which needs scipy: {pip_hint('io')}, or convert it to .npz."
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # scipy's, about duplicate names
        variables = loadmat(io.BytesIO(path.read_bytes()) if isinstance(path, Remote) else path)
    return {name: value for name, value in variables.items() if not name.startswith("__")}


_LARGEST = 2**31 - 1  # bytes of a variable


def save(path: Path, variables: Variables) -> None:
    """Write a MATLAB file of version 7, compressed.

    Args:
        path: the file.
        variables: by name.

    Raises:
        InputError: a variable is larger than the format holds, or scipy is not installed.
    """
    for name, value in variables.items():
        if np.asarray(value).nbytes > _LARGEST:
            raise InputError(
                f"{name} takes {np.asarray(value).nbytes} bytes, and a variable of a MATLAB file at most {_LARGEST}; "
                "expected a smaller scene. Choose another format, such as netcdf."
            )
    try:
        from scipy.io import savemat
    except ImportError as error:
        raise InputError(f"{path} is a MATLAB file, which needs scipy to write: {pip_hint('io')}.") from error
    savemat(path, variables, appendmat=False, do_compression=True, oned_as="column")


def _load_hdf5(path: Path) -> Variables:
    """Return the variables of a MATLAB file of version 7.3, shaped as scipy gives those of earlier versions.

    Such a file is HDF5: axes are in reverse order, text is stored as UTF-16 code units, and a cell array holds
    references. A group is a struct. Arrays of structs, sparse and complex arrays are left out.
    """
    with hdf5.opened(path, "io") as file:
        variables: Variables = {}
        for name in file:
            if not name.startswith("#"):
                variables |= mat5.flat(name, _variable(file, file[name], path, 0, [_MOST]))
    return variables


# Groups may lead back to themselves: groups inside groups, and entries of a variable.
_DEEPEST = 4
_MOST = 10_000


def _variable(file: Any, item: Any, path: Path, depth: int, left: list[int]) -> Any:
    """Return the value of a dataset, or a dictionary of the values in a group.

    Args:
        file: the open file.
        item: in it.
        path: of the file.
        depth: number of groups around the item.
        left: how many entries may still be read.
    """
    left[0] -= 1
    if left[0] < 0:
        raise InputError(f"{path} holds a struct of more than {_MOST} entries; expected fewer. It may be damaged.")
    if not hasattr(item, "keys"):
        return _value(file, item, path)
    if depth >= _DEEPEST or "MATLAB_sparse" in item.attrs:
        return mat5.Unread("sparse" if "MATLAB_sparse" in item.attrs else "struct")
    return {name: _variable(file, item[name], path, depth + 1, left) for name in item}


def _value(file: Any, item: Any, path: Path) -> Array | None:
    if not (hasattr(item, "shape") and hasattr(item, "dtype")) or np.any(item.attrs.get("MATLAB_empty", 0)):
        return None
    if item.shape is None:  # HDF5 has arrays without values
        return None
    hdf5.check_inside(item, path)
    check_declared(item.shape, item.dtype.itemsize, path.stat().st_size, path)
    kind = hdf5.text(item, "MATLAB_class")
    if kind == "cell":
        entries = np.empty(item.shape[::-1], object)
        for place, reference in np.ndenumerate(item[()].T):
            entry = file[reference]
            # One level suffices for names, and a cell that contains itself would recurse forever.
            entries[place] = None if hdf5.text(entry, "MATLAB_class") == "cell" else _value(file, entry, path)
        return entries
    if item.dtype.kind not in "iuf":
        return None
    values = np.asarray(item[()])
    if kind == "char" and values.dtype.kind in "iu":
        codec = "utf-16-le" if sys.byteorder == "little" else "utf-16-be"
        rows = np.atleast_2d(np.ascontiguousarray(values.T, np.uint16))  # one row for each string
        return np.array([row.tobytes().decode(codec, "replace") for row in rows])
    return values.T if kind else values  # other programs do not reverse the axes


def numeric(variables: Variables, name: str) -> Array | None:
    """Return a real matrix or cube, or None for anything else, numbers and vectors included."""
    value = variables.get(name)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf" or value.ndim not in (2, 3):
        return None
    return value if value.ndim == 3 or min(value.shape) > 1 else None  # HySUPP's M is a number, Zhu's a matrix


def first(
    variables: Variables, names: tuple[str, ...], fields: tuple[str, ...] = ()
) -> tuple[str, Array] | tuple[None, None]:
    """Return the first name of a real matrix or cube, and its value.

    Args:
        variables: of the file.
        names: of variables.
        fields: names in a struct; of several structs with such a field none is meant.
    """
    for name in names:
        value = numeric(variables, name)
        if value is not None:
            return name, value
    for field in fields:
        inside = [name for name in named(variables, field) if numeric(variables, name) is not None]
        if len(inside) == 1:
            return inside[0], variables[inside[0]]
    return None, None


def named(variables: Variables, field: str) -> list[str]:
    """Return the names of the fields of structs that have a name."""
    return [name for name in variables if name.endswith(f".{field}")]


def described(variables: Variables) -> str:
    """Return the names and shapes of the arrays, and what else there is, for messages."""
    arrays = {name: value for name, value in variables.items() if isinstance(value, np.ndarray)}
    shapes = [f"{name} {value.shape}" for name, value in arrays.items()]
    shapes += [
        f"{name} ({value.what}, not read)" for name, value in variables.items() if isinstance(value, mat5.Unread)
    ]
    return ", ".join(shapes) or "nothing"


def cube_variable(variables: Variables, variable: str | None, path: Path) -> tuple[str, Array]:
    """Return the name and the value of the cube or matrix of pixels; raise InputError when there is no clear choice."""
    if variable is not None:
        value = numeric(variables, variable)
        if value is None:
            raise InputError(
                f"{path} has no real matrix or cube named {variable!r}; it holds {described(variables)}. Pass one "
                "of these."
            )
        return variable, value
    name, value = first(variables, CUBES, CUBE_FIELDS + CUBES)
    if name is not None and value is not None:
        return name, value
    cubes = [
        name
        for name in variables
        if name not in ABUNDANCES and (value := numeric(variables, name)) is not None and value.ndim == 3
    ]
    if len(cubes) == 1:
        return cubes[0], variables[cubes[0]]
    raise InputError(
        f"{path} holds {described(variables)}, none of which is known to be the cube; expected Y, V, or one array "
        "(H, W, B). Pass variable=NAME (--variable NAME)."
    )


def side_numbers(variables: Variables, shape: tuple[int, int] | None) -> tuple[tuple[int, int] | None, str]:
    """Return (rows, columns) from the user or the file, and the customary order of pixels."""
    stated = variables.get("order")
    own = str(stated.item()) if isinstance(stated, np.ndarray) and stated.size == 1 else ""
    for pair in _SIDES:
        values = [variables.get(name) for name in pair]
        if all(isinstance(v, np.ndarray) and v.size == 1 and v.dtype.kind in "iuf" for v in values):
            rows, columns = (int(v.item()) for v in values)  # type: ignore[union-attr]
            if own in ("F", "C"):
                return shape or (rows, columns), own
            return shape or (rows, columns), "C" if pair in _ALONG_ROWS else "F"
    name, maps = first(variables, ABUNDANCES)
    if shape is None and name is not None and maps is not None and maps.ndim == 3:
        return (maps.shape[0], maps.shape[1]), "F"
    return shape, "F"


def band_centres(variables: Variables) -> tuple[Array | None, list[str]]:
    """Return the wavelengths (B,) in nm, or None, and a note when micrometres were assumed."""
    inside = (name for word in (*WAVELENGTHS, "Wavelength") for name in named(variables, word))
    for name in (*WAVELENGTHS, *inside):
        values = variables.get(name)
        if isinstance(values, np.ndarray) and values.dtype.kind in "iuf" and values.size > 1:
            unit = "nm" if name.endswith("_nm") else ""
            centres, notes = nanometres(values.astype(np.float64).ravel(), unit, name)
            # Most files name no unit, and nanometres are what they hold.
            return centres, [note for note in notes if "nanometres were assumed from their size" not in note]
    return None, []


def valid_pixels(variables: Variables, cube: str, shape: tuple[int, int]) -> Array | None:
    """Return the mask of valid pixels (H, W) beside a cube, `valid_mask` or `hsi.valid_mask`, or None."""
    struct, dot, _ = cube.rpartition(".")
    mask = variables.get(f"{struct}{dot}valid_mask")
    if not isinstance(mask, np.ndarray) or mask.dtype.kind not in "biuf" or mask.shape != shape:
        return None
    return np.asarray(mask != 0)


def material_names(variables: Variables, count: int) -> tuple[str, ...] | None:
    """Return the R names of the endmembers, from a cell array or a matrix of characters, or None."""
    for name in NAMES:
        values = variables.get(name)
        if isinstance(values, np.ndarray) and values.size == count and values.dtype.kind in "OU":
            entries = [
                entry.item() if isinstance(entry, np.ndarray) and entry.size == 1 else entry for entry in values.flat
            ]
            if all(isinstance(entry, str) for entry in entries):
                return tuple(entry.strip() for entry in entries)
    return None
