"""Shared by the kinds of HDF5 files."""

from typing import Any

import numpy as np

from experiments.robustness.hostile_files.samples import B, often
from experiments.robustness.mutations import Random, Tree, pick


def dataset(file: Any, name: str, values: Any) -> None:
    """Write an array, as far as HDF5 knows its type."""
    array = np.asarray(values)
    if array.dtype.kind == "O":
        array = np.zeros(3)
    elif array.dtype.kind == "U":
        array = np.bytes_(str(array).encode())
    try:
        file[name] = array
    except (TypeError, ValueError, OSError):  # types and names that HDF5 does not support
        file.require_group("aside")


def huge(draw: Random, file: Any, names: tuple[str, ...]) -> None:
    """Sometimes declare far more values than are stored."""
    if draw.random() < 0.06:
        name = pick(draw, names)
        if name in file:
            del file[name]
        shape = pick(draw, ((10**6, 10**6, 285), (2000, 2000, B), (10**5, 3, 10**5), (10**9,), (2**40, 2)))
        file.create_dataset(name, shape=shape, dtype=pick(draw, ("f4", "u2", "f8")), chunks=True, compression="gzip")


def attributes(draw: Random, held: Any, tree: Tree) -> None:
    """Write attributes, often spoiled."""
    for name, values in often(draw, tree).items():
        array = np.asarray(values)
        try:
            held.attrs[name] = array if array.dtype.kind not in "OMU" else np.bytes_(str(array).encode())
        except (TypeError, ValueError, OSError):
            continue
