"""Temporary files beside an output, and how to clean up after a process that died while making it.

A process that makes NAME writes `.NAME.TOKEN.part`, and moves an old NAME into `.NAME.TOKEN.old` while the new one
takes its place; its lock names the token before either exists. So the next holder of the lock can tell which files a
dead process left, and in which state.
"""

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any


def part_of(target: Path, token: str) -> Path:
    """Return the temporary path of an output."""
    return target.parent / f".{target.name}.{token}.part"


def aside_of(target: Path, token: str) -> Path:
    """Return the folder that holds an old output while it is replaced."""
    return target.parent / f".{target.name}.{token}.old"


def remove(path: Path) -> None:
    """Remove a file or a folder, if it exists and the system permits it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def settle(target: Path, token: str) -> list[str]:
    """Restore or remove an old output, remove a partial new one, and return messages about the former.

    An old output is restored if nothing has taken its place, and removed if the new one has: then the part is gone. If
    something has and the part still exists, another program put it there; the old output is kept under a visible name.

    Args:
        target: the output.
        token: of the process that made it, this one or a dead one.
    """
    part, aside = part_of(target, token), aside_of(target, token)
    old, messages = aside / target.name, []
    if os.path.lexists(old):
        if not os.path.lexists(target):
            old.rename(target)
            messages = [f"{target} is as it was: a process was ended while it put a new one in its place."]
        elif os.path.lexists(part):
            kept = target.parent / f"{target.name}.{token}.old"
            old.rename(kept)
            messages = [f"An earlier {target}, which a process moved aside before it was ended, is in {kept} now."]
    remove(aside)
    remove(part)
    return messages


def mark(path: Path) -> str:
    """Return a hash of the names, sizes and times of an output's files, which detects changes."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    states = [(file.relative_to(path).as_posix(), file.lstat()) for file in files]
    text = "".join(f"{name} {state.st_size} {state.st_mtime_ns}\n" for name, state in states)
    return hashlib.sha256(text.encode()).hexdigest()


def take_back(targets: Sequence[Path], records: Mapping[Path, Mapping[str, Any]]) -> list[str]:
    """Turn outputs back into parts if a dead process placed some of a group but not all; return messages.

    This applies only to exactly the same group of outputs, and only to those that are new and unchanged since: for any
    other purpose an incomplete group is better than none.

    Args:
        targets: all outputs to make.
        records: the records of earlier processes in the locks of the targets.
    """
    group, messages = group_of(targets), []
    for target in targets:
        token, made = records[target].get("token"), records[target].get("mark")
        if records[target].get("group") != group or not valid(token) or records[target].get("fresh") is not True:
            continue
        waiting = [other for other in targets if os.path.lexists(part_of(other, str(token)))]
        if waiting and target not in waiting and os.path.lexists(target) and mark(target) == made:
            target.rename(part_of(target, str(token)))
            messages.append(
                f"{target} is made again: a process was ended when it had put it in its place, and {waiting[0]} not."
            )
    return messages


def remove_spent(target: Path, record: Mapping[str, Any]) -> None:
    """Remove the intermediate files of a dead process if it has placed the output they were for."""
    names = record.get("spent")
    if isinstance(names, list) and os.path.lexists(target) and mark(target) == record.get("mark"):
        for name in names:
            if isinstance(name, str) and name.startswith(f".{target.name}.") and ".." not in Path(name).parts:
                spend(target.parent / name)


def spend(path: Path) -> None:
    """Remove a file, or an empty folder."""
    if path.is_dir() and not path.is_symlink():
        with suppress(OSError):
            path.rmdir()
    else:
        path.unlink(missing_ok=True)


def group_of(targets: Sequence[Path]) -> list[str]:
    """Return the outputs that are made together, as a lock records them."""
    return sorted(os.path.abspath(target) for target in targets)  # noqa: PTH100 - links are not resolved


def valid(token: Any) -> bool:
    """Return whether a token read from a lock may be part of a file name."""
    return isinstance(token, str) and token.isalnum() and token.isascii()
