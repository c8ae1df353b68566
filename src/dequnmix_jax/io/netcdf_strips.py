"""Write a data set whose maps are larger than memory as NetCDF 4, in strips of rows."""

import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dequnmix_jax.io import xarrays
from dequnmix_jax.scenes.scene import Array

Strips = Callable[[], Iterator[tuple[int, Mapping[str, Array]]]]
"""Yields the first row of a strip, and the rows of all maps, by name."""

ROWS = 256
"""A strip has a multiple of this many rows, but for the last one: then no chunk is written in two parts."""

_CHUNK = 8 * 2**20  # bytes of a chunk, at most


def write(path: Path, sample: Any, shape: tuple[int, int], coordinates: Mapping[str, Array], strips: Strips) -> None:
    """Write the data set that `xarrays.write_netcdf` would write of all rows, a strip at a time.

    Args:
        path: the file; an existing one is replaced.
        sample: the data set of a single pixel: names, types and attributes are those of the file, and what does not
            depend on the pixel is copied.
        shape: (H, W).
        coordinates: "y" and "x", of all rows and columns, where the pixels have such.
        strips: of the variables of `sample` with the axes y and x.

    Raises:
        OSError: the disk is full, or fails.
    """
    content = xarrays.netcdf_bytes(sample)
    with memoryview(content) as view, _Sink(path) as sink:
        with xarrays.netcdf_file(io.BytesIO(view), "r") as small, xarrays.netcdf_file(sink, "w") as large:
            sizes = {"y": shape[0], "x": shape[1]}
            large.dimensions = {name: sizes.get(name, axis.size) for name, axis in small.dimensions.items()}
            large.attrs.update(small.attrs)
            for name, variable in small.variables.items():
                _create(large, name, variable, sizes)
                if not _is_map(variable):
                    large.variables[name][...] = coordinates[name] if name in sizes else variable[...]
            for first, maps in strips():
                for name, values in maps.items():
                    large.variables[name][first : first + len(values)] = values
                sink.check()
        del content
        sink.check()


def _is_map(variable: Any) -> bool:
    return variable.dimensions[:2] == ("y", "x")


def _create(large: Any, name: str, variable: Any, sizes: Mapping[str, int]) -> None:
    """Create the variable of a file after that of the sample."""
    attributes = dict(variable.attrs)
    options: dict[str, Any] = {}
    shape = tuple(sizes.get(axis, size) for axis, size in zip(variable.dimensions, variable.shape, strict=True))
    if len(shape) >= 2 and variable.dtype is not str:
        row = variable.dtype.itemsize
        for size in shape[1:]:
            row *= size
        rows = ROWS
        while rows > 1 and rows * row > _CHUNK:
            rows //= 2
        options = {"chunks": (min(rows, shape[0]), *shape[1:]), "compression": "gzip", "compression_opts": 4}
        options["shuffle"] = True
    fill = attributes.pop("_FillValue", None)
    new = large.create_variable(name, variable.dimensions, variable.dtype, fillvalue=fill, **options)
    new.attrs.update(attributes)


class _Sink(io.RawIOBase):
    """A file that keeps an error of writing until it is asked.

    HDF5 ends the process where writing fails while it closes a file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("w+b", buffering=0)
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise the first error of writing."""
        if self._error is not None:
            raise self._error

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view):
            count = self._file.readinto(view[done:])
            if not count:
                break
            done += count
        if self._error is not None:  # what was lost reads as zeros
            view[done:] = bytes(len(view) - done)
            done = len(view)
        return done

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        try:
            while done < len(view) and self._error is None:
                done += self._file.write(view[done:])
        except OSError as error:
            self._error = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            return self._file.truncate(size)
        except OSError as error:
            self._error = self._error or error
            return 0 if size is None else size

    def close(self) -> None:
        self._file.close()
        super().close()
