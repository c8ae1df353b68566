"""Arrays of .npy and .npz files from any source: nothing is unpickled, and declared sizes are checked first."""

import functools
import math
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.escaping import reason_of
from dequnmix_jax.io.remote import as_place
from dequnmix_jax.scenes.scene import Array
from dequnmix_jax.scenes.values import check_unpacked

_HEADERS: dict[Any, Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_MAGIC = np.lib.format.MAGIC_PREFIX


def load(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Return the arrays of a .npz by name, or the array of a .npy under the name "cube".

    Args:
        path: the file.

    Returns:
        Names and arrays.

    Raises:
        InputError: the file is missing or damaged, unpacks to far more than its size, or holds Python objects.
    """
    path = as_place(path)
    try:
        with path.open("rb") as file, old_headers():
            if file.read(len(_MAGIC)) == _MAGIC:
                return {"cube": _checked([("cube", lambda: path.open("rb"))], path)["cube"]}
            with zipfile.ZipFile(file) as archive:
                return _checked(_members(archive, path), path)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; expected a .npz or .npy file.") from error
    except (InputError, MemoryError):
        raise
    except Exception as error:  # numpy, zipfile and its codecs raise many kinds of error
        raise InputError(
            f"{path} cannot be read as a numpy file ({reason_of(error)}); it is damaged, "
            "truncated or of another format. Copy or save it again."
        ) from error


def _members(archive: zipfile.ZipFile, path: Path) -> list[tuple[str, Callable[[], Any]]]:
    """Return the names of the arrays in an archive and a function that opens each."""
    members: dict[str, Callable[[], Any]] = {}
    for member in archive.infolist():
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # Other methods unpack pieces of any size before they can be checked, and numpy does not write them.
            raise InputError(
                f"{path} is packed by method {member.compress_type} of zip; expected stored or deflated arrays, as "
                "numpy writes them. Save it again by numpy."
            )
        with archive.open(member) as file:
            named, is_array = member.filename.endswith(".npy"), file.read(len(_MAGIC)) == _MAGIC
        if not named and not is_array:
            continue  # not an array
        name = member.filename.removesuffix(".npy")
        if not is_array or name in members:
            what = "holds two arrays named" if is_array else "holds no array under the name"
            raise InputError(f"{path} {what} {name[:60]!r}; expected one. It is damaged; save it again.")
        members[name] = functools.partial(archive.open, member)
    return list(members.items())


def _checked(members: Sequence[tuple[str, Callable[[], Any]]], path: Path) -> dict[str, Array]:
    """Read arrays after checking the sizes that their headers declare."""
    size = 0
    for _, opened in members:
        with opened() as file:
            shape, _, dtype = header(file)
        if dtype.hasobject:
            raise InputError(
                f"{path} holds pickled Python objects, which could run any program when read; expected plain arrays. "
                "Save it again with plain arrays."
            )
        size += math.prod(shape) * dtype.itemsize
    check_unpacked(size, path.stat().st_size, path)
    arrays = {}
    for name, opened in members:
        with opened() as file:
            arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
    return arrays


@contextmanager
def old_headers() -> Iterator[None]:
    """Suppress numpy's advice to save files again that Python 2 wrote."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether in Fortran order, and data type of an array; leave the file position at its values."""
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"version {version} of the format")
    with old_headers():
        shape, fortran, dtype = _HEADERS[version](file)
    if min(shape, default=0) < 0:
        raise ValueError(f"shape {shape}")
    return shape, fortran, dtype
