"""What lies beside an output while it is made, and what becomes of it when the process that made it was ended.

A process that makes NAME writes `.NAME.TOKEN.part`, and moves an old NAME into `.NAME.TOKEN.old` for the moment in
which the new one takes its place; its lock says the token before either is made. So whoever holds the lock next knows,
of a process that was killed at any moment, which of these are of it and what they are worth.
"""

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any


def part_of(target: Path, token: str) -> Path:
    """Return where an output is made."""
    return target.parent / f".{target.name}.{token}.part"


def aside_of(target: Path, token: str) -> Path:
    """Return the folder that an old output is moved into."""
    return target.parent / f".{target.name}.{token}.old"


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there and as far as the system lets."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def settle(target: Path, token: str) -> list[str]:
    """Put an old output back or remove it, remove what is half made, and return sentences about the former.

    An old output goes back where nothing has taken its place. It is removed where the new one has: then nothing is left
    of the part. Where something has and the part is still there, somebody else put it there; the old output is kept
    under a name that can be seen.

    Args:
        target: the output.
        token: of the process that made it; this one, or one that has ended.
    """
    part, aside = part_of(target, token), aside_of(target, token)
    old, said = aside / target.name, []
    if os.path.lexists(old):
        if not os.path.lexists(target):
            old.rename(target)
            said = [f"{target} is as it was: a process was ended while it put a new one in its place."]
        elif os.path.lexists(part):
            kept = target.parent / f"{target.name}.{token}.old"
            old.rename(kept)
            said = [f"An earlier {target}, which a process moved aside before it was ended, is in {kept} now."]
    remove(aside)
    remove(part)
    return said


def mark(path: Path) -> str:
    """Return what tells whether an output was changed: a hash of names, sizes and times of its files."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    states = [(file.relative_to(path).as_posix(), file.lstat()) for file in files]
    text = "".join(f"{name} {state.st_size} {state.st_mtime_ns}\n" for name, state in states)
    return hashlib.sha256(text.encode()).hexdigest()


def take_back(targets: Sequence[Path], records: Mapping[Path, Mapping[str, Any]]) -> list[str]:
    """Make outputs parts again of which a process that was ended had placed some and not all; return sentences.

    Only of the very outputs that are to be made now, only what was not there before, and only what nobody has changed
    since: to everyone else, half of what was asked for is better than nothing.

    Args:
        targets: the outputs that are to be made, all of them.
        records: what the locks of the targets say of the processes before.
    """
    group, said = group_of(targets), []
    for target in targets:
        token, made = records[target].get("token"), records[target].get("mark")
        if records[target].get("group") != group or not valid(token) or records[target].get("fresh") is not True:
            continue
        waiting = [other for other in targets if os.path.lexists(part_of(other, str(token)))]
        if waiting and target not in waiting and os.path.lexists(target) and mark(target) == made:
            target.rename(part_of(target, str(token)))
            said.append(
                f"{target} is made again: a process was ended when it had put it in its place, and {waiting[0]} not."
            )
    return said


def remove_spent(target: Path, record: Mapping[str, Any]) -> None:
    """Remove what a process that was ended had kept to make an output, if it has put that in its place."""
    names = record.get("spent")
    if isinstance(names, list) and os.path.lexists(target) and mark(target) == record.get("mark"):
        for name in names:
            if isinstance(name, str) and name.startswith(f".{target.name}.") and ".." not in Path(name).parts:
                spend(target.parent / name)


def spend(path: Path) -> None:
    """Remove a file, or a folder if nothing is left in it."""
    if path.is_dir() and not path.is_symlink():
        with suppress(OSError):
            path.rmdir()
    else:
        path.unlink(missing_ok=True)


def group_of(targets: Sequence[Path]) -> list[str]:
    """Return outputs that are made together, as a lock says them."""
    return sorted(os.path.abspath(target) for target in targets)  # noqa: PTH100 - links stay as they are


def valid(token: Any) -> bool:
    """Return whether something read from a lock can be part of a name."""
    return isinstance(token, str) and token.isalnum() and token.isascii()
