"""How the processes of a job that share the scenes of a table wait for each other: by files beside the table.

A collective on a CPU times out after half a minute, and a scene may take longer.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dequnmix_jax.checks import InputError
from dequnmix_jax.parallel.processes import Team

_POLL = 0.1


def _place(target: Path, team: Team) -> Path:
    return target.parent / f".{target.name}.team-{team.token}"


@contextmanager
def together(team: Team, target: Path, stage: str) -> Iterator[None]:
    """Run the body, then wait for all processes.

    Args:
        team: the processes.
        target: the output, beside which the processes report their stage.
        stage: name of the stage.

    Raises:
        InputError: another process failed.
    """
    if team.size == 1:
        yield
        return
    folder = _place(target, team)
    folder.mkdir(exist_ok=True)
    try:
        yield
    except BaseException:
        (folder / f"{stage}-{team.rank}-failed").touch()
        raise
    (folder / f"{stage}-{team.rank}-done").touch()
    missing = set(range(team.size))
    while missing:
        for rank in sorted(missing):
            if (folder / f"{stage}-{rank}-failed").exists():
                raise InputError(
                    f"Process {rank} of {team.size} failed; expected all to be {stage}. Its own message says why; "
                    "start them again when it is mended."
                )
            if (folder / f"{stage}-{rank}-done").exists():
                missing.discard(rank)
        if missing:
            time.sleep(_POLL)


def leave(team: Team, target: Path) -> None:
    """Finish: the last call of each process; process 0 removes the files of the stages."""
    if team.size == 1:
        return
    with together(team, target, "parted"):
        pass
    if team.rank == 0:
        time.sleep(2 * _POLL)  # the others poll once more
        with suppress(OSError):
            shutil.rmtree(_place(target, team))
