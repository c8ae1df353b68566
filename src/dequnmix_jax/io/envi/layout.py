"""How the values of an ENVI image lie in its file, and what a file of another size may be."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.io.envi import header as envi
from dequnmix_jax.scenes.scene import Array
from dequnmix_jax.scenes.values import picture_roughness

# Order of the axes in the file and the permutation to (lines, samples, bands).
LAYOUTS = {"bsq": ("bls", (1, 2, 0)), "bil": ("lbs", (0, 2, 1)), "bip": ("lsb", (0, 1, 2))}


class RawFile(NamedTuple):
    """How the values lie in a raw file.

    Attributes:
        shape: lines, samples and bands.
        dtype: with byte order.
        offset: bytes before everything else.
        interleave: "bsq", "bil" or "bip".
        major, minor: bytes before and after each run of the first two axes, and of the last axis, of the file.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    offset: int
    interleave: str
    major: tuple[int, int] = (0, 0)
    minor: tuple[int, int] = (0, 0)

    @property
    def sides(self) -> tuple[int, int, int]:
        """Return the lengths of the axes as they lie in the file."""
        sizes = dict(zip("lsb", self.shape, strict=True))
        first, second, last = (sizes[axis] for axis in LAYOUTS[self.interleave][0])
        return first, second, last

    @property
    def framed(self) -> bool:
        """Return whether bytes lie between the values."""
        return any((*self.major, *self.minor))

    @property
    def size(self) -> int:
        """Return the bytes that the file must have."""
        first, second, last = self.sides
        return self.offset + first * (sum(self.major) + second * (sum(self.minor) + last * self.dtype.itemsize))


def frames(header: envi.Header, name: str, path: Path) -> tuple[int, int]:
    """Return the bytes before and after each frame; raise InputError unless they are two whole numbers."""
    entries = envi.words(header, name)
    if not entries:
        return 0, 0
    if len(entries) != 2 or not all(entry.isdecimal() for entry in entries):
        raise InputError(
            f"{path} says '{name} = {header[name][:40]}'; expected two whole numbers, the bytes before and after each "
            "frame. Correct them, or remove the field if the file has none."
        )
    return int(entries[0]), int(entries[1])


def size_message(path: Path, size: int, file: RawFile) -> str:
    lines, samples, bands = file.shape
    frames = f", frames of {file.major} and {file.minor} bytes" if file.framed else ""
    message = (
        f"{path} holds {size} bytes and its header describes {file.size} ({lines} lines x {samples} samples x {bands} "
        f"bands x {file.dtype.itemsize} bytes, offset {file.offset}{frames}); expected the two to agree. "
    )
    if file.framed:
        return message + "Correct 'major frame offsets' and 'minor frame offsets', or the sizes."
    pixels = lines * samples * bands
    for itemsize in (1, 2, 4, 8):
        if size == file.offset + pixels * itemsize:
            return message + f"The file would fit a data type of {itemsize} bytes: correct 'data type'."
    if size < file.size:
        return message + "The file may be truncated."
    readings = _longer(size - file.size, file) if size - file.size <= _MOST_MORE else []
    if not readings:
        return message + "The header may belong to another file."
    smooth = _smoothest(path, [reading for _, reading in readings])
    advice = [text for i, (text, _) in enumerate(readings) if i in smooth]
    return message + f"It would fit {', or '.join(advice)}."


# Bytes more than described for which advice is given, and bytes of the largest file whose readings are compared.
_MOST_MORE = 2**20
_LARGEST_COMPARED = 2**30


def _longer(more: int, file: RawFile) -> list[tuple[str, RawFile]]:
    """Return the places where more bytes than described may lie: before the data, after them, or around each frame."""
    first, second, _ = file.sides
    before = file._replace(offset=file.offset + more)
    readings = [
        (f"with 'header offset = {before.offset}', if something precedes the data", before),
        (f"without its last {more} bytes, if something follows the data", file),
    ]
    for name, count in (("minor", first * second), ("major", first)):
        if more % count == 0:
            each = more // count
            for pair in ((each, 0), (0, each)):
                text = f"with '{name} frame offsets = {{{pair[0]}, {pair[1]}}}', if bytes lie between the values"
                framed = file._replace(minor=pair) if name == "minor" else file._replace(major=pair)
                readings.append((text, framed))
    return readings


def _smoothest(path: Path, readings: list[RawFile]) -> list[int]:
    """Return which readings of a file give a picture about as smooth as the smoothest of them."""
    if path.stat().st_size > _LARGEST_COMPARED:
        return list(range(len(readings)))
    roughness = [picture_roughness(framed_values(path, file, file.shape[2] // 2)) for file in readings]
    limit = 1.5 * min(roughness)
    return [i for i, value in enumerate(roughness) if value <= limit]


def framed_values(path: Path, file: RawFile, band: int | None = None) -> Array:
    """Return the values (lines, samples, bands), or a band (lines, samples), of a file with bytes between them."""
    _, second, last = file.sides
    run = sum(file.minor) + last * file.dtype.itemsize
    strides = (sum(file.major) + second * run, run, file.dtype.itemsize)
    start = file.offset + file.major[0] + file.minor[0]
    values = np.ndarray(file.sides, file.dtype, np.memmap(path, np.uint8, "r"), start, strides)
    axes, permutation = LAYOUTS[file.interleave]
    if band is not None:
        values, permutation = values.take([band], axes.index("b")), permutation
        return np.ascontiguousarray(values.transpose(permutation)[:, :, 0])
    return np.ascontiguousarray(values).transpose(permutation)
