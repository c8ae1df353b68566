"""Several processes in one job, on one machine or on many: their shares, and how they wait for each other.

jax.distributed connects the processes; it detects Slurm, Open MPI, Kubernetes and TPU pods, and ends all processes when
one dies. They wait for each other through files beside the output, on a shared file system: a collective on a CPU times
out after half a minute, and a tile may take longer.
"""

import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from dequnmix_jax.checks import InputError

T = TypeVar("T")

_HEARTBEAT = 30
"""Seconds without a heartbeat after which a process counts as dead, and all end."""

_POLL = 0.1


class Team(NamedTuple):
    """The processes of a job.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
        token: identifies the job.
    """

    rank: int = 0
    size: int = 1
    token: str = ""

    def mine(self, items: Sequence[T]) -> list[T]:
        """Return every size-th item from the rank-th on."""
        return list(items[self.rank :: self.size])


ALONE = Team()


def join() -> Team:
    """Connect to the other processes of this job, before any other use of JAX.

    Without a detected cluster, environment variables are read: JAX_COORDINATOR_ADDRESS (host:port of process 0),
    JAX_NUM_PROCESSES and JAX_PROCESS_ID.

    Raises:
        InputError: neither a cluster nor these variables were found.
    """
    import jax
    import numpy as np
    from jax.experimental import multihost_utils

    with suppress(AttributeError):  # a version without it
        # It intercepts SIGTERM, and the process would not end.
        jax.config.update("jax_enable_preemption_service", False)
    number, own = (os.environ.get(name) for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"))
    try:
        jax.distributed.initialize(
            num_processes=None if number is None else int(number),
            process_id=None if own is None else int(own),
            heartbeat_timeout_seconds=_HEARTBEAT,
        )
    except ValueError as error:
        raise InputError(
            f"No other processes were found ({str(error).splitlines()[0]}); expected a job of Slurm, Open MPI, "
            "Kubernetes or a TPU pod, or JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID in the "
            "environment."
        ) from error
    drawn = np.frombuffer(os.urandom(8), np.uint8).astype(np.int32)
    with _stdout_to_stderr():
        token = multihost_utils.broadcast_one_to_all(drawn)
    return Team(jax.process_index(), jax.process_count(), bytes(np.asarray(token, np.uint8)).hex())


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Redirect output from C++: the collectives of a CPU print to stdout, which may be a file of JSON."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


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
                    "finished tiles are kept, and the same command continues with them."
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
