"""Work of a long run, kept beside its output so that a killed run can be resumed.

The folder `.NAME.tiles` beside the output NAME, which one process at a time writes, holds `state.json` (fingerprint of
the run and its numbers so far), `maps.raw` (float32, rows, columns, channels) and `done.jsonl`: one line per finished
tile with the checksum of its values. A line is written after the values, so that the checksum shows what a power cut
has lost, and the tile is done again. The state and each line have their own checksum; a changed one counts as lost.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.io.disk_space import writing
from dequnmix_jax.io.leftovers import remove
from dequnmix_jax.scenes.scene import Array
from dequnmix_jax.scenes.source import Window

_STATE, _MAPS, _DONE = "state.json", "maps.raw", "done.jsonl"

Sound = Callable[[Mapping[str, Any]], bool]
"""Return whether what was read is plausible: names, types and ranges."""


def open_work(
    target: Path,
    fingerprint: str,
    sound: Sound = lambda state: True,
    on_warning: Callable[[str], None] = lambda text: None,
) -> "Work":
    """Return the work of an output; work of another input or model, or damaged work, is removed first.

    Args:
        target: the output; the caller is its only writer.
        fingerprint: of everything that determines the result.
        sound: whether the numbers so far are plausible.
        on_warning: called with a sentence if work is lost because it is damaged.
    """
    folder = folder_of(target)
    folder.mkdir(exist_ok=True)
    work = Work(folder)
    ours = work.state.get("fingerprint") == fingerprint
    if ours and sound(work.state):
        return work
    if ours or work.damaged:
        on_warning(
            f"{folder / _STATE} of an earlier run was changed or damaged; its tiles are not used, and all tiles are "
            "done again."
        )
    work.clear()
    work.remember(fingerprint=fingerprint)
    return work


def folder_of(target: Path) -> Path:
    """Return the folder of the work of an output."""
    return target.parent / f".{target.name}.tiles"


def join_work(target: Path, rank: int, fingerprint: str, sound: Sound = lambda state: True) -> "Work":
    """Return the work of an output, opened and prepared by process 0, for another process.

    Raises:
        InputError: the other process works with another input or another model.
    """
    work = Work(folder_of(target), rank)
    if work.state.get("fingerprint") != fingerprint or not sound(work.state):
        raise InputError(
            f"Process {rank} sees another input, another model or other versions than process 0 does; expected the "
            "same command, the same files and the same installation everywhere."
        )
    return work


class Work:
    """Work of one output; each process keeps its own records.

    Attributes:
        state: numbers of the run; empty if there are none, or if `damaged`.
        damaged: whether the state on disk differs from what was written.
    """

    def __init__(self, folder: Path, rank: int = 0) -> None:
        """Read the state of an earlier run, if there is one."""
        self.folder = folder
        self.done = folder / (_DONE if rank == 0 else f"{_DONE}.{rank}")
        self.state: dict[str, Any] = {}
        self.damaged = (folder / _STATE).exists()
        self.shape = (0, 0, 0)
        with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
            kept = json.loads((folder / _STATE).read_text(encoding="utf-8"))
            if isinstance(kept["state"], dict) and kept["sha256"] == _checksum(kept["state"]):
                self.state, self.damaged = kept["state"], False

    def clear(self) -> None:
        """Remove everything; files of other names belong to somebody else and stay."""
        self.state = {}
        for path in self.files():
            remove(path)

    def files(self) -> list[Path]:
        """Return the existing files of this work."""
        known = [self.folder / name for name in (_STATE, f"{_STATE}.part", _MAPS)]
        return [path for path in known if path.exists()] + sorted(self.folder.glob(f"{_DONE}*"))

    def remember(self, **entries: Any) -> None:
        """Keep numbers of the run, atomically."""
        self.state |= entries
        temporary = self.folder / f"{_STATE}.part"
        with writing(temporary, shown=self.folder / _STATE):
            text = json.dumps({"state": self.state, "sha256": _checksum(self.state)})
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(self.folder / _STATE)

    def allocate(self, shape: tuple[int, int, int]) -> None:
        """Preallocate all maps (rows, columns, channels), so that a full disk is reported now and not at the end."""
        self.shape = shape
        path, size = self.folder / _MAPS, 4 * shape[0] * shape[1] * shape[2]
        if path.is_file() and path.stat().st_size == size:
            return
        for file in self.folder.glob(f"{_DONE}*"):
            remove(file)
        with writing(path, size), path.open("wb") as maps:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(maps.fileno(), 0, size)
            else:
                maps.truncate(size)

    def finished(self, cores: Sequence[Window], sound: Sound = lambda entry: True) -> dict[int, dict[str, Any]]:
        """Return the records of the tiles whose values are intact, by number, and remove all others.

        Only one process at a time may call this.

        Args:
            cores: the pixels of all tiles.
            sound: whether a record is plausible.
        """
        records = self.intact_records(cores, sound)
        # Rewritten, so that a torn last line does not swallow the next one.
        path = self.folder / _DONE
        temporary = self.folder / f"{_DONE}-part"
        with writing(temporary, shown=path):
            temporary.write_bytes(b"".join(_line(entry) for entry in records.values()))
            temporary.replace(path)
        for file in self.folder.glob(f"{_DONE}.*"):
            remove(file)
        return records

    def intact_records(self, cores: Sequence[Window], sound: Sound = lambda entry: True) -> dict[int, dict[str, Any]]:
        """Return the same records as `finished`, without a change of the files."""
        records: dict[int, dict[str, Any]] = {}
        for path in [self.folder / _DONE, *sorted(self.folder.glob(f"{_DONE}.*"))]:
            lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
            for line in lines:
                # A torn or changed line is skipped.
                with suppress(ValueError, KeyError, TypeError, IndexError, RecursionError):
                    entry = _entry(line)
                    core = cores[entry["tile"]]
                    if _sides(core) != {name: entry[name] for name in ("rows", "columns")} or not sound(entry):
                        continue
                    if zlib.crc32(self.read(core).tobytes()) == entry["crc32"]:
                        records[entry["tile"]] = entry
        return records

    def put(self, tile: int, core: Window, values: Array, record: Mapping[str, Any]) -> dict[str, Any]:
        """Keep the values (h, w, channels) of a finished tile, and return its record.

        Args:
            tile: its number.
            core: its pixels.
            values: of its pixels.
            record: further entries, fit for JSON.
        """
        values = np.ascontiguousarray(values, "<f4")
        entry = {"tile": tile, **_sides(core), "crc32": zlib.crc32(values.tobytes()), **record}
        with writing(self.folder / _MAPS), (self.folder / _MAPS).open("r+b", buffering=0) as file:
            for place, piece in self._runs(core, values):
                file.seek(place)
                view = memoryview(piece.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
                while len(view):
                    view = view[file.write(view) :]
        with writing(self.done), self.done.open("ab", buffering=0) as file:
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
        """Yield positions in the file and the contiguous parts of the values that belong there."""
        _, width, channels = self.shape
        if window.columns == slice(0, width):
            yield 4 * window.rows.start * width * channels, values
            return
        for row in range(window.rows.start, window.rows.stop):
            yield 4 * (row * width + window.columns.start) * channels, values[row - window.rows.start]


def _checksum(state: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state).encode()).hexdigest()


def _sides(core: Window) -> dict[str, list[int]]:
    return {"rows": [core.rows.start, core.rows.stop], "columns": [core.columns.start, core.columns.stop]}


def _line(entry: Mapping[str, Any]) -> bytes:
    text = json.dumps(entry)
    return f"{zlib.crc32(text.encode()):08x} {text}\n".encode()


def _entry(line: bytes) -> dict[str, Any]:
    """Return the record of a line, or raise ValueError."""
    if line[:9] != f"{zlib.crc32(line[9:]):08x} ".encode():
        raise ValueError("another checksum")
    entry: dict[str, Any] = json.loads(line[9:])
    if type(entry["tile"]) is not int or entry["tile"] < 0:
        raise ValueError("not the number of a tile")
    return entry
