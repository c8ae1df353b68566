"""Arrays of .npy and .npz files, whoever made them: nothing is unpickled, and no memory is taken on their word."""

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
        InputError: the file is missing, damaged, would grow far beyond its size, or holds Python objects.
    """
    path = Path(path)
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
    except Exception as error:  # numpy, zipfile and its codecs meet damaged files with a dozen kinds of error
        raise InputError(
            f"{path} cannot be read as a numpy file ({str(error)[:80] or type(error).__name__}); it is damaged, "
            "truncated or of another format. Copy or save it again."
        ) from error


def _members(archive: zipfile.ZipFile, path: Path) -> list[tuple[str, Callable[[], Any]]]:
    """Return the names of the arrays in an archive and how each is opened."""
    found: dict[str, Callable[[], Any]] = {}
    for member in archive.infolist():
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # The others are unpacked in pieces of any size, before anything of them is seen; numpy writes none.
            raise InputError(
                f"{path} is packed by method {member.compress_type} of zip; expected stored or deflated arrays, as "
                "numpy writes them. Save it again by numpy."
            )
        with archive.open(member) as file:
            named, marked = member.filename.endswith(".npy"), file.read(len(_MAGIC)) == _MAGIC
        if not named and not marked:
            continue  # a text beside the arrays
        name = member.filename.removesuffix(".npy")
        if not marked or name in found:
            what = "holds two arrays named" if marked else "holds no array under the name"
            raise InputError(f"{path} {what} {name[:60]!r}; expected one. It is damaged; save it again.")
        found[name] = functools.partial(archive.open, member)
    return list(found.items())


def _checked(members: Sequence[tuple[str, Callable[[], Any]]], path: Path) -> dict[str, Array]:
    """Read arrays, after a look at the sizes that their headers declare."""
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
    found = {}
    for name, opened in members:
        with opened() as file:
            found[name] = np.lib.format.read_array(file, allow_pickle=False)
    return found


@contextmanager
def old_headers() -> Iterator[None]:
    """Read the headers of Python 2 without numpy's advice to save the file again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, order (whether Fortran's) and type of an array, and leave the file at its values."""
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"version {version} of the format")
    with old_headers():
        shape, backwards, dtype = _HEADERS[version](file)
    if min(shape, default=0) < 0:
        raise ValueError(f"shape {shape}")
    return shape, backwards, dtype
