"""Write outputs whole or not at all: under a temporary name beside the target, then renamed."""

import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from dequnmix_jax.checks import InputError
from dequnmix_jax.lock import only_writer


def check_target(path: Path, overwrite: bool) -> None:
    """Raise InputError where the folder of an output is missing, or it exists and `overwrite` is False."""
    if not path.parent.is_dir():
        raise InputError(
            f"The folder {path.parent} does not exist; expected one to write {path.name} into. Create it first."
        )
    if os.path.lexists(path) and not overwrite:
        raise InputError(
            f"{path} exists already and nothing is overwritten unasked. Choose another name, or pass overwrite=True "
            "(--force on the command line)."
        )


def _default_mode(directory: bool) -> int:
    # tempfile makes private names (0600, 0700); outputs get what open() and mkdir() would have given.
    umask = os.umask(0)
    os.umask(umask)
    return (0o777 if directory else 0o666) & ~umask


@contextmanager
def replacing_file(path: str | os.PathLike[str], *, overwrite: bool = False, alone: bool = False) -> Iterator[Path]:
    """Give a temporary file name beside `path`, which becomes `path` when the block ends without an error.

    Args:
        path: the file to make.
        overwrite: replace a file that is there already.
        alone: the caller holds the lock of this file.

    Returns:
        A context manager that gives the temporary path; after an error it is removed and `path` is as it was.

    Raises:
        InputError: `path` exists and `overwrite` is False, is a folder, its parent folder is missing, or another
            process is writing it.
    """
    target = Path(path)
    check_target(target, overwrite)
    if target.is_dir():
        raise InputError(f"{target} is a folder; expected the name of a file to write.")
    with nullcontext() if alone else only_writer(target):
        _prepare(target, overwrite)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(_default_mode(directory=False))
            os.replace(temporary, target)  # noqa: PTH105 - Path.replace is the same call; the name says what happens
        except OSError as error:
            if error.filename != str(temporary):
                raise
            raise OSError(error.errno, error.strerror, str(target)) from error  # the name that the user knows
        finally:
            temporary.unlink(missing_ok=True)


def _prepare(target: Path, overwrite: bool) -> None:
    """Look again, as the only writer: another may have finished; and remove what ended processes left half written."""
    check_target(target, overwrite)
    for left in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
        shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary empty folder beside `path`, which becomes `path` when the block ends without an error.

    An old folder is moved aside only when the new one is complete, and put back if the renaming fails.

    Args:
        path: the folder to make.
        overwrite: replace a folder that is there already.

    Returns:
        A context manager that gives the temporary folder.

    Raises:
        InputError: `path` exists and `overwrite` is False, is a file, its parent folder is missing, or another process
            is writing it.
    """
    target = Path(path)
    check_target(target, overwrite)
    if os.path.lexists(target) and not target.is_dir():
        raise InputError(f"{target} is a file; expected the name of a folder to write.")
    with only_writer(target):
        _prepare(target, overwrite)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
        try:
            yield temporary
            put_folder(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def put_folder(temporary: Path, target: Path) -> None:
    """Rename a complete folder beside `target` to it; an old one steps aside and returns if the renaming fails."""
    temporary.chmod(_default_mode(directory=True))
    if not target.exists():
        temporary.rename(target)
        return
    # A folder cannot be renamed onto a full one in one step: the old one steps aside for a moment.
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".old", dir=target.parent))
    target.rename(aside / target.name)
    try:
        temporary.rename(target)
    except OSError:
        (aside / target.name).rename(target)
        aside.rmdir()
        raise
    shutil.rmtree(aside)
