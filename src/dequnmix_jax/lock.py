"""One process at a time writes an output: a lock file beside it, with the number of the process that holds it.

The system takes the lock back when that process ends, however it ends, so that a lock file left by a killed one holds
up nobody.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from dequnmix_jax.checks import InputError

_TRIES = 100


@contextmanager
def only_writer(target: Path) -> Iterator[None]:
    """Be the only process that writes an output, for as long as the block lasts.

    Args:
        target: the output; its lock is `.NAME.lock` beside it, removed at the end.

    Raises:
        InputError: another process is writing the same output.
        OSError: no file can be made in the folder.
    """
    path = target.parent / f".{target.name}.lock"
    for _ in range(_TRIES):
        try:
            file = path.open("a+b")
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(target)) from error
        with file:
            if not taken(file):
                raise InputError(
                    f"{_holder(file)} is writing {target}; expected to be the only one. Wait for it, or choose another "
                    "output."
                )
            if not same(file, path):
                continue  # the process before us removed it between the two lines above
            try:
                file.truncate(0)
                file.write(str(os.getpid()).encode())
                file.flush()
                yield
            finally:
                path.unlink(missing_ok=True)
            return
    raise InputError(f"The lock {path} changes hands again and again; expected one process that writes {target}.")


def taken(file: BinaryIO) -> bool:
    """Take the lock of an open file without waiting; where the file system knows no locks, go without."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            file.seek(2**30)  # beyond the number, which others read
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _holder(file: BinaryIO) -> str:
    file.seek(0)
    number = file.read(20)
    return f"Process {int(number)}" if number.isdigit() else "Another process"


def same(file: BinaryIO, path: Path) -> bool:
    """Return whether an open file still is the one at this place."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
