"""Adapter for h5py: open HDF5 files, and read real arrays, numbers and text from them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError, how_many, pip_hint
from dequnmix_jax.io.remote import Remote
from dequnmix_jax.scenes.scene import Array
from dequnmix_jax.scenes.values import check_declared


@contextmanager
def opened(path: Path, extra: str = "geo") -> Iterator[Any]:
    """Yield an open HDF5 file; errors become InputError.

    Args:
        path: the file.
        extra: the extra that installs h5py for this kind of file, for the message.

    Raises:
        InputError: the file is damaged or truncated, links to another file, or h5py is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise InputError(f"{path} is an HDF5 file, which needs h5py: {pip_hint(extra)}.") from error
    try:
        with ExitStack() as stack:
            where = stack.enter_context(path.open("rb")) if isinstance(path, Remote) else path
            file = stack.enter_context(h5py.File(where, "r"))
            _check_links(h5py, file, path)
            yield file
    except InputError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise InputError(
            f"{path} cannot be read as HDF5 ({type(error).__name__}: {' '.join(str(error).split())[:100]}); it is "
            "damaged, truncated or of another layout. Copy it again."
        ) from error


def _check_links(h5py: Any, file: Any, path: Path) -> None:
    """Raise InputError if the file has a link to another file; links are not followed."""

    def external(name: bytes, info: Any) -> bytes | None:
        return name if info.type == h5py.h5l.TYPE_EXTERNAL else None  # any value but None ends the visit

    name = file.id.links.visit(external, info=True)
    if name is not None:
        raise InputError(
            f"{path} links to another file under {name.decode('utf-8', 'replace')!r}, and any file of the disk could "
            "be read through it; expected all values inside the file. Copy them into one file."
        )


def check_inside(item: Any, path: Path) -> None:
    """Raise InputError unless the values of a dataset are stored in the file itself."""
    if item.external or item.is_virtual:
        how = "in another file (external storage)" if item.external else "in other places (a virtual dataset)"
        raise InputError(
            f"{path} holds the values of {item.name!r} {how}, and any file of the disk could be read through it; "
            "expected all values inside the file. Copy them into one file."
        )


def dataset(file: Any, name: str, path: Path, dimensions: int) -> Any:
    """Return an unread dataset of real numbers; raise InputError when it is missing or has another shape."""
    item = file.get(name)
    kind = getattr(getattr(item, "dtype", None), "kind", "")
    if kind not in tuple("iuf") or len(getattr(item, "shape", None) or ()) != dimensions or 0 in item.shape:
        what = "nothing" if item is None else f"shape {getattr(item, 'shape', 'none')}, type {kind or 'none'}"
        raise InputError(
            f"{path} holds {what} under {name!r}; expected an array of real numbers with {dimensions} axes."
        )
    check_inside(item, path)
    check_declared(item.shape, item.dtype.itemsize, path.stat().st_size, path)
    return item


def vector(file: Any, name: str, path: Path, size: int) -> Array | None:
    """Return a dataset with one number for each band as (B,) float64, or None when it is missing."""
    if file.get(name) is None:
        return None
    values = dataset(file, name, path, 1)
    if values.shape != (size,):
        raise InputError(
            f"{path} holds {how_many(values.shape[0], 'value')} in {name!r} for {how_many(size, 'band')}; expected one "
            "a band."
        )
    return np.asarray(values[()], np.float64)


def numbers(file: Any, name: str, size: int | None, path: Path) -> Array | None:
    """Return an attribute as float64 numbers, or None when it is missing."""
    value = file.attrs.get(name)
    if value is None:
        return None
    values = np.atleast_1d(np.asarray(value))
    if values.dtype.kind not in "iuf" or (size is not None and values.shape != (size,)):
        raise InputError(
            f"{path} says {name} = {str(value)[:40]}; expected "
            f"{'numbers' if size is None else how_many(size, 'number')}."
        )
    return values.astype(np.float64)


def text(file: Any, name: str) -> str:
    """Return an attribute as text, "" when it is missing."""
    value = file.attrs.get(name, "")
    value = value.item() if isinstance(value, np.ndarray) and value.size == 1 else value
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
