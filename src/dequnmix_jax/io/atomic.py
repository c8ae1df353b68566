"""Write outputs whole or not at all: under a temporary name beside the target, then renamed."""

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


def check_replaceable(target: Path, overwrite: bool, ours: bool, what: str) -> None:
    """Raise InputError where `overwrite` would replace a folder with files that this program did not write.

    Args:
        target: the folder.
        overwrite: whether it is to be replaced.
        ours: whether it holds an output of the same kind.
        what: what an output of this kind holds or is, for the message, such as "holds files and no summary.json".
    """
    if overwrite and not ours and target.is_dir() and any(target.iterdir()):
        raise InputError(
            f"{target} {what}, so it is no earlier output of this program; it is not replaced. Choose another folder."
        )


def check_target_now(path: Path, overwrite: bool) -> None:
    """Do what `check_target` does before the output is reserved: what an ended process left is no output yet."""
    check_target(path, overwrite or lock_of(path).exists())


def _default_mode(directory: bool) -> int:
    # What open() and mkdir() would have given, whatever made the output inside.
    umask = os.umask(0)
    os.umask(umask)
    return (0o777 if directory else 0o666) & ~umask


class Reserved:
    """Outputs that this process alone makes.

    Attributes:
        targets: the outputs.
    """

    def __init__(self, locks: Sequence[Lock], token: str) -> None:
        """Take over their locks."""
        self.targets, self._locks, self._token = tuple(lock.target for lock in locks), locks, token

    def part(self, target: Path) -> Path:
        """Return where an output is to be made, a file or a folder: a name that nothing has yet."""
        return leftovers.part_of(target, self._token)

    def place(self, spent: Sequence[Path] = ()) -> None:
        """Rename all outputs to their names, one right after the other.

        They are complete then. A process that is ended between two of them leaves a record by which the next one that
        makes the same outputs does not take the first for somebody's.

        Args:
            spent: files and then empty folders of the name `.NAME.*` beside the first output, which were kept to make
                it; removed then.
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
        # A folder cannot be renamed onto a full one in one step: the old one steps aside for a moment. Whatever ends
        # that moment, `leftovers.settle` puts it back or removes it.
        aside.mkdir()
        os.rename(target, aside / target.name)  # noqa: PTH104
    os.replace(part, target)  # noqa: PTH105 - Path.replace is the same call; the name says what happens


@contextmanager
def reserved(*targets: Path, overwrite: bool = False) -> Iterator[Reserved]:
    """Be the only process that makes some outputs, for as long as the block lasts.

    What ended processes left of them is restored or removed first. At the end, whatever ends the block, nothing is left
    but the outputs; those that were there before are as they were unless `Reserved.place` was called.

    Args:
        targets: files and folders.
        overwrite: replace those that are there already.

    Raises:
        InputError: one exists and `overwrite` is False, its parent folder is missing, or another process is writing it.
        OSError: no room on the disk, or no permission to write; it names an output.
    """
    for target in targets:
        check_target_now(target, overwrite)
    with ExitStack() as stack:
        # In one order everywhere, so that of two processes with the same outputs one has all of them.
        held = {target: stack.enter_context(only_writer(target)) for target in sorted(set(targets))}
        locks = [held[target] for target in dict.fromkeys(targets)]
        for text in _settled(locks):
            print(f"note: {text}", file=sys.stderr)
        for target in targets:
            check_target(target, overwrite)
        token = new_token()
        for lock in locks:
            lock.write(token)
        for target in held:
            stack.callback(leftovers.settle, target, token)
            part = leftovers.part_of(target, token)
            stack.enter_context(writing(part, shown=target))
        yield Reserved(locks, token)


def _settled(locks: Sequence[Lock]) -> list[str]:
    """Clear up after the processes that held these locks before; where the system knows no locks, they may live."""
    sure = [lock for lock in locks if lock.sure]
    records = {lock.target: lock.before for lock in sure}
    said = leftovers.take_back([lock.target for lock in sure], records)
    for lock in sure:
        if leftovers.valid(token := lock.before.get("token")):
            said += leftovers.settle(lock.target, str(token))
            leftovers.remove_spent(lock.target, lock.before)
    return said


@contextmanager
def replacing_file(path: str | os.PathLike[str], *, overwrite: bool = False, alone: bool = False) -> Iterator[Path]:
    """Give a temporary file name beside `path`, which becomes `path` when the block ends without an error.

    Args:
        path: the file to make.
        overwrite: replace a file that is there already.
        alone: the caller has reserved this file.

    Returns:
        A context manager that gives the temporary path; after an error it is removed and `path` is as it was.

    Raises:
        InputError: `path` exists and `overwrite` is False, is a folder, its parent folder is missing, or another
            process is writing it.
        OSError: it names `path`.
    """
    target = Path(path)
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
        OSError: it names `path`, or a file in it.
    """
    target = Path(path)
    check_folder(target)
    with reserved(target, overwrite=overwrite) as outputs:
        outputs.part(target).mkdir()
        yield outputs.part(target)
        outputs.place()


def check_file(target: Path) -> None:
    """Raise InputError where a file is to be made and a folder has its name."""
    if target.is_dir():
        raise InputError(f"{target} is a folder; expected the name of a file to write.")


def check_folder(target: Path) -> None:
    """Raise InputError where a folder is to be made and a file has its name."""
    if os.path.lexists(target) and not target.is_dir():
        raise InputError(f"{target} is a file; expected the name of a folder to write.")
