"""Say of a full disk which file did not fit, where, and how much is free there."""

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
    """Return a number of bytes in the unit that leaves it between 1 and 1000: "512 B", "3.4 MB"."""
    unit = 0
    while count >= 999.5 and unit < len(_UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.0f} {_UNITS[unit]}" if unit == 0 or count >= 99.5 else f"{count:.2g} {_UNITS[unit]}"


@contextmanager
def writing(path: Path, needed: int | None = None, shown: Path | None = None) -> Iterator[None]:
    """Name the file in an error of writing, and of a full disk the folder and what is free there.

    The system's own error, of a full disk, says nothing but that.

    Args:
        path: the file, or the folder, that is written.
        needed: the bytes that it takes, or None.
        shown: how the user knows it; a path inside `path` becomes one inside this. `path` itself by default.

    Raises:
        OSError: that of the block, with `filename` and, of a full disk, with more words.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or (error.filename is None and error.errno not in _WRITING):
            raise  # it has words of its own, or may be about anything
        place = named(error, path, path if shown is None else shown)
        words = str(error.strerror or type(error).__name__)
        if error.errno in _FULL and " free in the file system of " not in words:  # not said by a block inside this one
            words = _words(error.errno, words, place, needed)
        if place == error.filename and words == error.strerror:
            raise
        raise OSError(error.errno, words, place) from error


def named(error: OSError, path: Path, shown: Path) -> str:
    """Return the name of the file that an error is about, as the user knows it."""
    if error.filename is None:
        return str(shown)
    name, inside = os.fsdecode(error.filename), str(path)
    if name == inside or name.startswith(inside + os.sep):
        return str(shown) + name[len(inside) :]
    return name


def _words(number: int, words: str, place: str, needed: int | None) -> str:
    # Folders of ours that have another name later, or none, mean nothing to the user.
    folder = next(one for one in Path(place).absolute().parents if not one.name.endswith((".part", ".tiles")))
    said = [f"{in_words(needed)} needed"] if needed is not None else []
    if number == errno.EFBIG:
        # A limit of the process or the file system on one file, whatever is free.
        said += ["one file may not be that large here: see `ulimit -f`"]
    try:
        usage = shutil.disk_usage(folder)
        said += [f"{in_words(usage.free)} of {in_words(usage.total)} free in the file system of {folder}"]
    except OSError:
        said += [f"not known how much is free in the file system of {folder}"]
    return f"{words} ({', '.join(said)})"
