"""A lock file beside an output admits one writer at a time and records what it is making.

The system releases the lock when the process ends, however it ends, so the lock file of a killed process blocks nobody.
Its record remains and tells the next process which files were left behind: only names in it are ever moved or removed
(`leftovers`).
"""

import errno
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from dequnmix_jax.checks import InputError
from dequnmix_jax.io.disk_space import writing

_TRIES = 100

_OURS = "dequnmix_jax"
"""The first word of a record; a file without it belongs to another program."""


class Lock:
    """The lock of an output, held by this process.

    Attributes:
        target: the output.
        sure: whether the system excludes other processes; some file systems have no locks.
        before: the record that a dead process left, empty otherwise.
    """

    def __init__(self, target: Path, file: BinaryIO, sure: bool) -> None:
        """Hold an open, locked file."""
        self.target, self._file, self.sure = target, file, sure
        self.before = record_of(file) or {}

    def write(self, token: str, **more: Any) -> None:
        """Record what is going to be made under this lock.

        Args:
            token: part of all temporary names.
            more: further entries for the next process, as JSON can hold them.

        Raises:
            OSError: the disk is full; the error names the output.
        """
        line = json.dumps({"by": _OURS, "pid": os.getpid(), "token": token, **more}).encode() + b"\n"
        with writing(lock_of(self.target), len(line), self.target):
            # One write over the old line: a process that dies here leaves the old line or the new one.
            self._file.seek(0)
            if self._file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._file.truncate(len(line))


def new_token() -> str:
    """Return a random token for temporary names."""
    return secrets.token_hex(6)


def lock_of(target: Path) -> Path:
    """Return the path of the lock of an output."""
    return target.parent / f".{target.name}.lock"


@contextmanager
def only_writer(target: Path) -> Iterator[Lock]:
    """Be the only process that writes an output, for the duration of the block.

    Args:
        target: the output; its lock is `.NAME.lock` beside it, removed at the end.

    Raises:
        InputError: another process is writing the same output, or a file of another program has the name of the lock.
        OSError: no file can be created in the folder.
    """
    path = lock_of(target)
    for _ in range(_TRIES):
        with writing(path, shown=target):
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)
        with file:
            sure = taken(file)
            if sure is False:
                raise InputError(
                    f"{_holder(file)} is writing {target}; expected to be the only one. Wait for it, or choose another "
                    "output."
                )
            if not same(file, path):
                continue  # another process removed it between opening and locking
            if record_of(file) is None:
                raise InputError(
                    f"{path} is not a lock of this program, and {target} cannot be locked without one; expected no "
                    "file of that name. Rename it, or choose another output."
                )
            try:
                yield Lock(target, file, bool(sure))
            finally:
                path.unlink(missing_ok=True)
            return
    raise InputError(f"The lock {path} changes hands again and again; expected one process that writes {target}.")


def taken(file: BinaryIO) -> bool | None:
    """Try to lock an open file; return False if another process holds the lock, None if there are no locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            file.seek(2**30)  # beyond the record, which others read
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def record_of(file: BinaryIO) -> dict[str, Any] | None:
    """Return the record in a lock file, {} if it is empty, None if it is not a lock of this program."""
    file.seek(0)
    line = file.read(2**16).split(b"\n")[0]
    if not line:
        return {}
    if line.isdigit():  # earlier versions wrote only the process number
        return {"pid": int(line[:20])}
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and record.get("by") == _OURS else None


def token_at(target: Path) -> str | None:
    """Return the token in the lock of an output, or None."""
    try:
        with lock_of(target).open("rb") as file:
            token = (record_of(file) or {}).get("token")
    except OSError:
        return None
    return token if isinstance(token, str) and token.isalnum() else None


def _holder(file: BinaryIO) -> str:
    number = (record_of(file) or {}).get("pid")
    return f"Process {number}" if isinstance(number, int) else "Another process"


def same(file: BinaryIO, path: Path) -> bool:
    """Return whether an open file is still the file at this path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
