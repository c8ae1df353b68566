"""The work of a long run, kept beside its output so that a killed one goes on where it was.

The folder `.NAME.tiles` beside the output NAME, which one process at a time writes, holds `state.json` (what the run
is of, and numbers found so far), `maps.raw` (float32, rows, columns, channels) and `done.jsonl`: a line for each
finished tile with the checksum of its values. A line is written after the values; what a power cut loses of either is
seen by the checksum and done again.
"""

import json
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.lock import only_writer
from dequnmix_jax.scene import Array
from dequnmix_jax.source import Window

_STATE, _MAPS, _DONE = "state.json", "maps.raw", "done.jsonl"


@contextmanager
def opened(target: Path, fingerprint: str) -> Iterator["Work"]:
    """Give the work of an output, to its only writer; work of another input or another model is cleared away.

    Args:
        target: the output.
        fingerprint: of all that decides the result.

    Raises:
        InputError: another process is writing the same output.
    """
    with only_writer(target):
        folder = target.parent / f".{target.name}.tiles"
        folder.mkdir(exist_ok=True)
        work = Work(folder)
        if work.state.get("fingerprint") != fingerprint:
            work.clear()
            work.remember(fingerprint=fingerprint)
        yield work


def joined(target: Path, rank: int, fingerprint: str) -> "Work":
    """Return the work of an output that process 0 has opened and prepared, for another process.

    Raises:
        InputError: the other process works with another input or another model.
    """
    work = Work(target.parent / f".{target.name}.tiles", rank)
    if work.state.get("fingerprint") != fingerprint:
        raise InputError(
            f"Process {rank} sees another input, another model or other versions than process 0 does; expected the "
            "same command, the same files and the same installation everywhere."
        )
    return work


class Work:
    """The work of one output; each process of several keeps records of its own."""

    def __init__(self, folder: Path, rank: int = 0) -> None:
        """Look what there is."""
        self.folder = folder
        self.done = folder / (_DONE if rank == 0 else f"{_DONE}.{rank}")
        try:
            state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            state = {}
        self.state: dict[str, Any] = state if isinstance(state, dict) else {}
        self.shape = (0, 0, 0)

    def clear(self) -> None:
        """Forget everything."""
        self.state = {}
        for entry in self.folder.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def remove(self) -> None:
        """Remove the folder: the output is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def remember(self, **entries: Any) -> None:
        """Keep numbers of the run, whole or not at all."""
        self.state |= entries
        temporary = self.folder / f"{_STATE}.part"
        with _named(temporary):
            temporary.write_text(json.dumps(self.state), encoding="utf-8")
            temporary.replace(self.folder / _STATE)

    def begin(self, shape: tuple[int, int, int]) -> None:
        """Take the room of all maps (rows, columns, channels): that a disk is full is said now and not at the end."""
        self.shape = shape
        path, size = self.folder / _MAPS, 4 * shape[0] * shape[1] * shape[2]
        if path.is_file() and path.stat().st_size == size:
            return
        for records in self.folder.glob(f"{_DONE}*"):
            records.unlink()
        with _named(path), path.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)

    def finished(self) -> dict[int, dict[str, Any]]:
        """Return the records of the tiles whose values are whole, by their numbers; for one process at a time."""
        found = self.look()
        # Written anew, so that a torn last line does not swallow the next one.
        path = self.folder / _DONE
        temporary = path.with_suffix(".part")
        with _named(temporary):
            temporary.write_bytes(b"".join(_line(entry) for entry in found.values()))
            temporary.replace(path)
        for records in self.folder.glob(f"{_DONE}.*"):
            records.unlink()
        return found

    def look(self) -> dict[int, dict[str, Any]]:
        """Return what `finished` does, and leave the files as they are."""
        found: dict[int, dict[str, Any]] = {}
        for path in sorted(self.folder.glob(f"{_DONE}*")):
            for line in path.read_bytes().split(b"\n")[:-1]:
                try:
                    entry = json.loads(line)
                    rows, columns = (slice(*entry[name]) for name in ("rows", "columns"))
                    if zlib.crc32(self.read(Window(rows, columns)).tobytes()) == entry["crc32"]:
                        found[int(entry["tile"])] = entry
                except (ValueError, KeyError, TypeError, RecursionError):
                    continue  # torn by the end of the process
        return found

    def put(self, tile: int, core: Window, values: Array, record: Mapping[str, Any]) -> dict[str, Any]:
        """Keep the values (h, w, channels) of a finished tile, and return its record.

        Args:
            tile: its number.
            core: its pixels.
            values: of them.
            record: what else is to be known of it, as JSON can hold it.
        """
        values = np.ascontiguousarray(values, "<f4")
        sides = {"rows": [core.rows.start, core.rows.stop], "columns": [core.columns.start, core.columns.stop]}
        entry = {"tile": tile, **sides, "crc32": zlib.crc32(values.tobytes()), **record}
        with _named(self.folder / _MAPS), (self.folder / _MAPS).open("r+b", buffering=0) as file:
            for place, piece in self._runs(core, values):
                file.seek(place)
                view = memoryview(piece.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
                while len(view):
                    view = view[file.write(view) :]
        with _named(self.done), self.done.open("ab", buffering=0) as file:
            file.write(_line(entry))
        return entry

    def read(self, window: Window) -> Array:
        """Return the values (h, w, channels) of a window."""
        values = np.empty((*window.shape, self.shape[2]), "<f4")
        with (self.folder / _MAPS).open("rb", buffering=0) as file:
            for place, piece in self._runs(window, values):
                file.seek(place)
                view = memoryview(piece.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
                while len(view):
                    count = file.readinto(view)
                    if not count:
                        raise ValueError("the file is too short")
                    view = view[count:]
        return values

    def _runs(self, window: Window, values: Array) -> Iterator[tuple[int, Array]]:
        """Yield places in the file and parts of the values that lie there in one piece."""
        _, width, channels = self.shape
        if window.columns == slice(0, width):
            yield 4 * window.rows.start * width * channels, values
            return
        for row in range(window.rows.start, window.rows.stop):
            yield 4 * (row * width + window.columns.start) * channels, values[row - window.rows.start]


def _line(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry).encode() + b"\n"


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say of which file an error of writing is: the system's own, of a full disk, does not."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
