"""Errors of a full disk that name the file, the folder and the free space."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FULL = {errno.ENOSPC, errno.EFBIG} | {getattr(errno, "EDQUOT", errno.ENOSPC)}

_WRITING = _FULL | {errno.EIO, errno.EROFS}

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def in_words(count: float) -> str:
    """Return a number of bytes with a unit that makes it 1 to 1000: "512 B", "3.4 MB"."""
    unit = 0
    while count >= 999.5 and unit < len(_UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.0f} {_UNITS[unit]}" if unit == 0 or count >= 99.5 else f"{count:.2g} {_UNITS[unit]}"


@contextmanager
def writing(path: Path, needed: int | None = None, shown: Path | None = None) -> Iterator[None]:
    """Add the file name to an error of writing and, for a full disk, the folder and its free space.

    The system's own error of a full disk names neither.

    Args:
        path: the file, or the folder, that is written.
        needed: its size in bytes, or None.
        shown: the path that the user knows, by default `path`; a path inside `path` becomes one inside this.

    Raises:
        OSError: the error of the block, with `filename` and, for a full disk, a longer message.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or (error.filename is None and error.errno not in _WRITING):
            raise  # it has its own message, or is about something else
        place = named(error, path, path if shown is None else shown)
        words = str(error.strerror or type(error).__name__)
        if error.errno in _FULL and " free in the file system of " not in words:  # unless an inner block has added it
            words = _words(error.errno, words, place, needed)
        if place == error.filename and words == error.strerror:
            raise
        raise OSError(error.errno, words, place) from error


def named(error: OSError, path: Path, shown: Path) -> str:
    """Return the name of the file of an error, as the user knows it."""
    if error.filename is None:
        return str(shown)
    name, inside = os.fsdecode(error.filename), str(path)
    if name == inside or name.startswith(inside + os.sep):
        return str(shown) + name[len(inside) :]
    return name


def _words(number: int, words: str, place: str, needed: int | None) -> str:
    # The user does not know temporary folders.
    folder = next(one for one in Path(place).absolute().parents if not one.name.endswith((".part", ".tiles")))
    details = [f"{in_words(needed)} needed"] if needed is not None else []
    if number == errno.EFBIG:
        # A limit on the size of a single file, by the process or the file system.
        details += ["one file may not be that large here: see `ulimit -f`"]
    try:
        usage = shutil.disk_usage(folder)
        details += [f"{in_words(usage.free)} of {in_words(usage.total)} free in the file system of {folder}"]
    except OSError:
        details += [f"not known how much is free in the file system of {folder}"]
    return f"{words} ({', '.join(details)})"
