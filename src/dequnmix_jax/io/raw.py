"""Windows of uncompressed arrays on disk, read by explicit calls and never memory-mapped.

Mapped pages count as memory of the process, and truncating a mapped file kills the process without a message. A short
read is an ordinary error.
"""

from pathlib import Path
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.io.remote import Remote
from dequnmix_jax.scenes.scene import Array
from dequnmix_jax.scenes.source import Source, Window


def read_window(
    path: Path, shape: tuple[int, int, int], dtype: np.dtype[Any], offset: int, interleave: str, window: Window
) -> Array:
    """Return a window of a cube on disk, (h, w, B), in the data type of the file.

    Args:
        path: the file.
        shape: (H, W, B).
        dtype: data type of the values, with byte order.
        offset: bytes before the first value.
        interleave: "bsq" (bands, rows, columns), "bil" (rows, bands, columns) or "bip" (rows, columns, bands).
        window: inside the cube.

    Raises:
        InputError: the file ends before the window does.
    """
    height, width, bands = shape
    (first, last), columns = (window.rows.start, window.rows.stop), window.columns
    cube = np.empty((*window.shape, bands), dtype)
    with path.open("rb", buffering=0) as file:

        def fill(start: int, into: Array) -> Array:
            file.seek(offset + start * dtype.itemsize)
            view = memoryview(into.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
            done = 0
            while done < len(view):
                count = file.readinto(view[done:])
                if not count:
                    raise InputError(
                        f"{path} ends {len(view) - done} bytes too early; expected the size that it had when it was "
                        "opened. It was changed while it was read; begin again."
                    )
                done += count
            return into

        if interleave == "bsq":
            plane = np.empty((last - first, width), dtype)
            for band in range(bands):
                cube[:, :, band] = fill((band * height + first) * width, plane)[:, columns]
        elif interleave == "bil":
            line = np.empty((bands, width), dtype)
            for row in range(first, last):
                cube[row - first] = fill(row * bands * width, line)[:, columns].T
        elif columns == slice(0, width):
            fill(first * width * bands, cube)
        else:
            for row in range(first, last):
                fill((row * width + columns.start) * bands, cube[row - first])
    return cube


def stamp(path: Path) -> tuple[int, int]:
    """Return the size in bytes and the modification time (ns) of a file, or of all files of a folder.

    Of a file elsewhere only the size is known, and of a folder elsewhere nothing.
    """
    if isinstance(path, Remote):
        return path.stat().st_size if path.is_file() else 0, 0
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    states = [file.stat() for file in files]
    return sum(state.st_size for state in states), max((state.st_mtime_ns for state in states), default=0)


class Guard:
    """Detects an input that changes while it is read, whose result would belong to no scene."""

    def __init__(self, source: Source) -> None:
        """Record the present state of the input."""
        there = source.source is not None and (isinstance(source.source, Remote) or source.source.exists())
        self.path = source.source if there else None
        self.stamp = None if self.path is None else stamp(self.path)

    def check(self) -> None:
        """Raise InputError if the size or the modification time of the input has changed."""
        if self.path is None:
            return
        now = stamp(self.path) if isinstance(self.path, Remote) or self.path.exists() else None
        if now != self.stamp:
            raise InputError(
                f"{self.path} was changed while it was read; expected it to stay as it was. Begin again when it is "
                "complete."
            )
