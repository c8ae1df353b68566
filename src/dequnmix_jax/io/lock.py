"""One process at a time writes an output: a lock file beside it, which says what its holder makes there.

The system takes the lock back when that process ends, however it ends, so that a lock file left by a killed one holds
up nobody. What the file says is left too, and is the proof by which the next process knows what lies about: only names
that it holds are ever moved or removed (`leftovers`).
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
"""The first word of a record: a file without it is somebody else's."""


class Lock:
    """The lock of an output, held by this process.

    Attributes:
        target: the output.
        sure: whether the system keeps others out; where a file system knows no locks, it does not.
        before: what the process before this one has left written, one that did not end by itself; empty otherwise.
    """

    def __init__(self, target: Path, file: BinaryIO, sure: bool) -> None:
        """Take over an open file that is locked."""
        self.target, self._file, self.sure = target, file, sure
        self.before = record_of(file) or {}

    def write(self, token: str, **more: Any) -> None:
        """Say what is made under this lock, before it is made.

        Args:
            token: part of all names.
            more: what else the next process is to know, as JSON can hold it.

        Raises:
            OSError: the disk is full; it names the output.
        """
        line = json.dumps({"by": _OURS, "pid": os.getpid(), "token": token, **more}).encode() + b"\n"
        with writing(lock_of(self.target), len(line), self.target):
            # In one piece over what is there: a process that ends here leaves the old line or the new one.
            self._file.seek(0)
            if self._file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._file.truncate(len(line))


def new_token() -> str:
    """Return letters that no name has yet."""
    return secrets.token_hex(6)


def lock_of(target: Path) -> Path:
    """Return where the lock of an output lies."""
    return target.parent / f".{target.name}.lock"


@contextmanager
def only_writer(target: Path) -> Iterator[Lock]:
    """Be the only process that writes an output, for as long as the block lasts.

    Args:
        target: the output; its lock is `.NAME.lock` beside it, removed at the end.

    Raises:
        InputError: another process is writing the same output, or a file that is no lock has its name.
        OSError: no file can be made in the folder.
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
                continue  # the process before us removed it between the two lines above
            if record_of(file) is None:
                raise InputError(
                    f"{path} is no lock of this program, and {target} cannot be locked without one; expected no file "
                    "of that name. Rename it, or choose another output."
                )
            try:
                yield Lock(target, file, bool(sure))
            finally:
                path.unlink(missing_ok=True)
            return
    raise InputError(f"The lock {path} changes hands again and again; expected one process that writes {target}.")


def taken(file: BinaryIO) -> bool | None:
    """Take the lock of an open file without waiting; False if another has it, None where there are no locks."""
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
    """Return what a lock file says: {} if nothing, None if it is no lock of this program."""
    file.seek(0)
    line = file.read(2**16).split(b"\n")[0]
    if not line:
        return {}
    if line.isdigit():  # earlier versions wrote their number alone
        return {"pid": int(line[:20])}
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found.get("by") == _OURS else None


def token_at(target: Path) -> str | None:
    """Return the token that the lock of an output says, or None."""
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
    """Return whether an open file still is the one at this place."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
