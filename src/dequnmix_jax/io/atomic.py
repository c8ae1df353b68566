"""Write outputs completely or not at all: under a temporary name beside the target, which is then renamed."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from dequnmix_jax.checks import InputError
from dequnmix_jax.io import leftovers
from dequnmix_jax.io.disk_space import writing
from dequnmix_jax.io.lock import Lock, lock_of, new_token, only_writer, token_at
from dequnmix_jax.io.remote import as_local


def check_target(path: Path, overwrite: bool) -> None:
    """Raise InputError if the parent folder of an output is missing, or it exists and `overwrite` is False."""
    if not path.parent.is_dir():
        raise InputError(
            f"The folder {path.parent} does not exist; expected one to write {path.name} into. Create it first."
        )
    if os.path.lexists(path) and not overwrite:
        raise InputError(
            f"{path} exists already and is not overwritten by default. Choose another name, or pass overwrite=True "
            "(--force on the command line)."
        )


def check_replaceable(target: Path, overwrite: bool, ours: bool, what: str) -> None:
    """Raise InputError if `overwrite` would replace a folder that this program did not write.

    Args:
        target: the folder.
        overwrite: whether it is to be replaced.
        ours: whether it is an output of the same kind.
        what: how it differs, for the message, such as "holds files and no summary.json".
    """
    if overwrite and not ours and target.is_dir() and any(target.iterdir()):
        raise InputError(
            f"{target} {what}, so it is not an earlier output of this program; it is not replaced. Choose another "
            "folder."
        )


def check_target_now(path: Path, overwrite: bool) -> None:
    """Check as `check_target` does, before the output is reserved: the remains of a dead process do not count."""
    check_target(path, overwrite or lock_of(path).exists())


def _default_mode(directory: bool) -> int:
    # The mode that open() and mkdir() give.
    umask = os.umask(0)
    os.umask(umask)
    return (0o777 if directory else 0o666) & ~umask


class Reserved:
    """Outputs that only this process writes.

    Attributes:
        targets: the outputs.
    """

    def __init__(self, locks: Sequence[Lock], token: str) -> None:
        """Hold the locks of the outputs."""
        self.targets, self._locks, self._token = tuple(lock.target for lock in locks), locks, token

    def part(self, target: Path) -> Path:
        """Return the temporary path under which to make an output, a file or a folder."""
        return leftovers.part_of(target, self._token)

    def place(self, spent: Sequence[Path] = ()) -> None:
        """Rename all complete outputs to their final names, one right after the other.

        A process that dies between two of them leaves a record, by which the next process that makes the same outputs
        recognises the first one as its own.

        Args:
            spent: files, and then empty folders, named `.NAME.*` beside the first output, which were needed to make it;
                they are removed.
        """
        records: dict[Path, dict[str, Any]] = {}
        for lock in self._locks:
            records[lock.target] = {
                "group": leftovers.group_of(self.targets),
                "mark": leftovers.mark(self.part(lock.target)),
                "fresh": not os.path.lexists(lock.target),
                "spent": [path.relative_to(self.targets[0].parent).as_posix() for path in spent]
                if lock.target == self.targets[0]
                else [],
            }
            lock.write(self._token, **records[lock.target])
        try:
            for target in self.targets:
                _rename(self.part(target), target, leftovers.aside_of(target, self._token))
        except BaseException:
            leftovers.take_back(self.targets, {target: {"token": self._token, **records[target]} for target in records})
            raise
        for path in spent:
            leftovers.spend(path)


def _rename(part: Path, target: Path, aside: Path) -> None:
    part.chmod(_default_mode(part.is_dir()))
    if part.is_dir() and os.path.lexists(target):
        # A folder cannot replace a nonempty folder in one step, so the old one is moved aside briefly. However this
        # ends, `leftovers.settle` restores or removes it.
        aside.mkdir()
        os.rename(target, aside / target.name)  # noqa: PTH104
    os.replace(part, target)  # noqa: PTH105 - the same call as Path.replace


@contextmanager
def reserved(*targets: Path, overwrite: bool = False) -> Iterator[Reserved]:
    """Reserve outputs for this process, for the duration of the block.

    The remains of dead processes are restored or removed first. However the block ends, only the outputs remain;
    earlier outputs are unchanged unless `Reserved.place` was called.

    Args:
        targets: files and folders.
        overwrite: replace existing outputs.

    Raises:
        InputError: an output exists and `overwrite` is False, its parent folder is missing, or another process is
            writing it.
        OSError: the disk is full or not writable; the error names an output.
    """
    for target in targets:
        check_target_now(target, overwrite)
    with ExitStack() as stack:
        # All processes lock in the same order, so one of two processes with the same outputs gets all of them.
        locked = {target: stack.enter_context(only_writer(target)) for target in sorted(set(targets))}
        locks = [locked[target] for target in dict.fromkeys(targets)]
        for text in _settled(locks):
            print(f"note: {text}", file=sys.stderr)
        for target in targets:
            check_target(target, overwrite)
        token = new_token()
        for lock in locks:
            lock.write(token)
        for target in locked:
            stack.callback(leftovers.settle, target, token)
            part = leftovers.part_of(target, token)
            stack.enter_context(writing(part, shown=target))
        yield Reserved(locks, token)


def _settled(locks: Sequence[Lock]) -> list[str]:
    """Clean up after the dead processes that held these locks; without system locks, they may still be alive."""
    sure = [lock for lock in locks if lock.sure]
    records = {lock.target: lock.before for lock in sure}
    messages = leftovers.take_back([lock.target for lock in sure], records)
    for lock in sure:
        if leftovers.valid(token := lock.before.get("token")):
            messages += leftovers.settle(lock.target, str(token))
            leftovers.remove_spent(lock.target, lock.before)
    return messages


@contextmanager
def replacing_file(path: str | os.PathLike[str], *, overwrite: bool = False, alone: bool = False) -> Iterator[Path]:
    """Yield a temporary file beside `path`, which becomes `path` when the block ends without an error.

    Args:
        path: the file.
        overwrite: replace an existing file.
        alone: the caller has reserved this file.

    Returns:
        A context manager that yields the temporary path; after an error it is removed and `path` is unchanged.

    Raises:
        InputError: `path` exists and `overwrite` is False, is a folder, its parent folder is missing, or another
            process is writing it.
        OSError: the error names `path`.
    """
    target = as_local(path)
    check_file(target)
    if alone:
        part = leftovers.part_of(target, token_at(target) or new_token())
        with writing(part, shown=target):
            try:
                part.touch()
                yield part
                _rename(part, target, part)
            finally:
                leftovers.remove(part)
        return
    with reserved(target, overwrite=overwrite) as outputs:
        outputs.part(target).touch()
        yield outputs.part(target)
        outputs.place()


@contextmanager
def replacing_folder(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary empty folder beside `path`, which becomes `path` when the block ends without an error.

    An old folder is moved aside only when the new one is complete, and put back if the renaming fails.

    Args:
        path: the folder.
        overwrite: replace an existing folder.

    Returns:
        A context manager that yields the temporary folder.

    Raises:
        InputError: `path` exists and `overwrite` is False, is a file, its parent folder is missing, or another process
            is writing it.
        OSError: the error names `path`, or a file in it.
    """
    target = as_local(path)
    check_folder(target)
    with reserved(target, overwrite=overwrite) as outputs:
        outputs.part(target).mkdir()
        yield outputs.part(target)
        outputs.place()


def check_file(target: Path) -> None:
    """Raise InputError if a folder has the name of a file to write."""
    if target.is_dir():
        raise InputError(f"{target} is a folder; expected the name of a file to write.")


def check_folder(target: Path) -> None:
    """Raise InputError if a file has the name of a folder to write."""
    if os.path.lexists(target) and not target.is_dir():
        raise InputError(f"{target} is a file; expected the name of a folder to write.")
