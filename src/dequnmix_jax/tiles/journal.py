"""Work of a long run, kept beside its output so that a killed run can be resumed.

The folder `.NAME.tiles` beside the output NAME, which one run at a time writes, holds `state.json` (fingerprint of the
run and its numbers so far, with a checksum) and `tiles.raw`: a slot for each tile, with its record, a line of JSON, and
its values, float32 (rows, columns, channels). The record holds the fingerprint of the run and the checksum of the
values, and is written after them. So a tile is done if its slot says so and its values agree; what a power cut or
another run has left there does not count.

Slots begin at multiples of a page and belong to one tile each: processes of any number of machines write them without
knowing of each other, and one file can be allocated before the first tile. (A Zarr store with a file for each chunk
would need a second place for the records, and gives no room in advance.)
"""

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from dequnmix_jax.io.disk_space import writing
from dequnmix_jax.io.leftovers import remove
from dequnmix_jax.scenes.scene import Array
from dequnmix_jax.scenes.source import Window

_STATE, _TILES = "state.json", "tiles.raw"

_PAGE = 4096
"""Bytes of a record; slots are multiples of it, because some network file systems write whole pages."""

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


class Work:
    """Work of one output.

    Attributes:
        state: numbers of the run; empty if there are none, or if `damaged`.
        damaged: whether the state on disk differs from what was written.
    """

    def __init__(self, folder: Path) -> None:
        """Read the state of an earlier run, if there is one."""
        self.folder = folder
        self.state: dict[str, Any] = {}
        self.damaged = (folder / _STATE).exists()
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
        known = [self.folder / name for name in (_STATE, f"{_STATE}.part", _TILES)]
        return [path for path in known if path.exists()]

    def remember(self, **entries: Any) -> None:
        """Keep numbers of the run, atomically."""
        self.state |= entries
        temporary = self.folder / f"{_STATE}.part"
        with writing(temporary, shown=self.folder / _STATE):
            text = json.dumps({"state": self.state, "sha256": _checksum(self.state)})
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(self.folder / _STATE)

    def store(self, cores: Sequence[Window], channels: int) -> "Store":
        """Return the store of the tiles; its file is allocated, so that a full disk is reported now.

        Args:
            cores: the pixels of each tile; together they cover the scene once, row by row.
            channels: values of a pixel.
        """
        store = Store(self.folder / _TILES, tuple(cores), channels, str(self.state.get("fingerprint")))
        size = store.slot * len(cores)
        if store.path.is_file() and store.path.stat().st_size == size:
            return store
        with writing(store.path, size), store.path.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
        return store


class Store:
    """The values of the tiles of a scene on disk, which any process that sees the file reads and writes.

    Attributes:
        path: the file.
        cores: the pixels of each tile.
        channels: values of a pixel.
        fingerprint: of the run; records of other runs do not count.
        shape: rows and columns of the scene, and channels.
        slot: bytes of a tile.
    """

    def __init__(self, path: Path, cores: tuple[Window, ...], channels: int, fingerprint: str) -> None:
        self.path, self.cores, self.channels, self.fingerprint = path, cores, channels, fingerprint
        rows, columns = (max(side.stop for side in sides) for sides in zip(*cores, strict=True))
        self.shape = (rows, columns, channels)
        largest = max(core.shape[0] * core.shape[1] for core in cores)
        self.slot = _PAGE * (1 + -(-4 * largest * channels // _PAGE))

    def put(self, tile: int, values: Array, record: Mapping[str, Any]) -> dict[str, Any]:
        """Keep the values (h, w, channels) of a finished tile, and return its record.

        Args:
            tile: its number.
            values: of its pixels.
            record: further entries, fit for JSON.
        """
        values = np.ascontiguousarray(values, "<f4")
        entry = {"tile": tile, **_sides(self.cores[tile]), "crc32": zlib.crc32(values.tobytes()), **record}
        with writing(self.path), self.path.open("r+b", buffering=0) as file:
            for place, data in (
                (tile * self.slot + _PAGE, memoryview(values.reshape(-1).view(np.uint8))),  # type: ignore[arg-type]
                (tile * self.slot, memoryview(_page(entry | {"run": self.fingerprint}))),
            ):
                file.seek(place)
                while len(data):
                    data = data[file.write(data) :]
        return entry

    def record(self, tile: int, sound: Sound = lambda entry: True) -> dict[str, Any] | None:
        """Return the record of a tile whose values are intact, or None.

        Args:
            tile: its number.
            sound: whether a record is plausible.
        """
        # A torn or changed record, or one of another run, does not count.
        with suppress(OSError, ValueError, KeyError, TypeError, IndexError, RecursionError):
            with self.path.open("rb", buffering=0) as file:
                file.seek(tile * self.slot)
                entry = _entry(file.read(_PAGE))
            core = self.cores[tile]
            if entry.pop("run") != self.fingerprint or entry["tile"] != tile or not sound(entry):
                return None
            if _sides(core) != {name: entry[name] for name in ("rows", "columns")}:
                return None
            if zlib.crc32(self.values(tile).tobytes()) == entry["crc32"]:
                return entry
        return None

    def finished(self, sound: Sound = lambda entry: True) -> dict[int, dict[str, Any]]:
        """Return the records of the tiles whose values are intact, by number."""
        records = {tile: self.record(tile, sound) for tile in range(len(self.cores))}
        return {tile: entry for tile, entry in records.items() if entry is not None}

    def values(self, tile: int, rows: slice | None = None) -> Array:
        """Return the values (h, w, channels) of a tile, or of some of its rows, counted from its first."""
        height, width = self.cores[tile].shape
        first, last = (0, height) if rows is None else (rows.start, rows.stop)
        values = np.empty((last - first, width, self.channels), "<f4")
        with self.path.open("rb", buffering=0) as file:
            file.seek(tile * self.slot + _PAGE + 4 * first * width * self.channels)
            view = memoryview(values.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
            while len(view):
                count = file.readinto(view)
                if not count:
                    raise ValueError("the file is too short")
                view = view[count:]
        return values

    def read(self, rows: slice) -> Array:
        """Return the values (h, W, channels) of whole rows."""
        block = np.empty((rows.stop - rows.start, self.shape[1], self.channels), "<f4")
        for tile, core in enumerate(self.cores):
            first, last = max(rows.start, core.rows.start), min(rows.stop, core.rows.stop)
            if first < last:
                part = self.values(tile, slice(first - core.rows.start, last - core.rows.start))
                block[first - rows.start : last - rows.start, core.columns] = part
        return block

    def gather(self, rows: Array, columns: Array) -> Array:
        """Return the values (n, channels) of n pixels."""
        found = np.empty((len(rows), self.channels), "<f4")
        for tile, core in enumerate(self.cores):
            inside = (rows >= core.rows.start) & (rows < core.rows.stop)
            inside &= (columns >= core.columns.start) & (columns < core.columns.stop)
            if inside.any():
                own, across = rows[inside] - core.rows.start, columns[inside] - core.columns.start
                part = self.values(tile, slice(int(own.min()), int(own.max()) + 1))
                found[inside] = part[own - own.min(), across]
        return found


def _checksum(state: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state).encode()).hexdigest()


def _sides(core: Window) -> dict[str, list[int]]:
    return {"rows": [core.rows.start, core.rows.stop], "columns": [core.columns.start, core.columns.stop]}


def _page(entry: Mapping[str, Any]) -> bytes:
    """Return a record as a page."""
    text = json.dumps(entry).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text) + bytes(_PAGE - len(text) - 10)


def _entry(page: bytes) -> dict[str, Any]:
    """Return the record of a page, or raise ValueError."""
    line, _, rest = page.partition(b"\n")
    if line[:9] != b"%08x " % zlib.crc32(line[9:]) or len(page) != _PAGE or rest.strip(b"\0"):
        raise ValueError("another checksum")
    entry: dict[str, Any] = json.loads(line[9:])
    if type(entry["tile"]) is not int:
        raise ValueError("not the number of a tile")
    return entry
