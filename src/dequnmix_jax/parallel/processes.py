"""Several processes of JAX in one job, on one machine or on many, for one network that is trained on all devices.

jax.distributed connects the processes; it detects Slurm, Open MPI, Kubernetes and TPU pods, and ends all processes when
one dies. Many scenes and the tiles of one do not need it: they are tasks of Dask (`parallel.cluster`).
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from dequnmix_jax.checks import InputError

_HEARTBEAT = 30
"""Seconds without a heartbeat after which a process counts as dead, and all end."""


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
