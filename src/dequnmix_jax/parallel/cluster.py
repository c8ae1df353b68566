"""Adapter for Dask: independent tasks on processes of this machine, on a cluster, or one after the other here.

The same functions run in all three ways. A task that raises is tried again, one whose process dies is tried again by
another process; an input that does not fit (`InputError`) is not, because it would not fit again.
"""

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from multiprocessing import resource_tracker
from typing import Any, NamedTuple

from dequnmix_jax.checks import InputError, how_many, pip_hint
from dequnmix_jax.compilation_cache import NO_CACHE, enable_compilation_cache

JOBS = "DEQUNMIX_JOBS"
"""Environment variable of a worker: the number of workers that share its machine."""

_THRESHOLD_OF_DASK = "65536"  # of malloc, in the environment of its workers

_SHARE_OF_MEMORY = 0.95
"""Part of its share of the machine's memory beyond which a worker is ended, before the system ends any other."""


_PATIENCE = 20
"""Seconds in which a scheduler must answer."""


class Outcome(NamedTuple):
    """What became of a task.

    Attributes:
        number: of the task, from 0.
        value: what it returned; None after an error.
        error: why it failed in the last try, or None.
    """

    number: int
    value: Any = None
    error: Exception | None = None


class WorkerLostError(InputError):
    """The processes that worked on a task ended, one after the other, before it was done."""


def require(what: str) -> Any:
    """Return dask.distributed, or raise InputError that names the extra.

    Args:
        what: the subject of the message.
    """
    try:
        import dask
        import distributed
    except ImportError as error:
        raise InputError(
            f"{what} needs Dask: {pip_hint('dask')}, or work in this process alone with jobs=1 (--jobs 1)."
        ) from error
    del dask
    return distributed


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_environment(jobs: int) -> dict[str, str]:
    """Return the environment of the workers of this machine.

    By itself Dask sets MALLOC_TRIM_THRESHOLD_=65536 for them, so that every large array is given back to the system and
    is asked for again at the next step: a compiled tile took 1.75 times the time. Here it is not set. NPROC is the
    number of threads of XLA, so that the workers together have as many as there are cores.

    Args:
        jobs: number of workers.
    """
    environment = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment |= {"NPROC": str(max(1, cores() // jobs)), JOBS: str(jobs)}
    if "jax" in sys.modules:  # a cache that was chosen here, by code, is shared
        import jax

        folder = getattr(jax.config, "jax_compilation_cache_dir", None)
        environment |= {} if folder is None else {"JAX_COMPILATION_CACHE_DIR": folder}
    return environment


@contextmanager
def local(jobs: int, retries: int = 2) -> Iterator[Any]:
    """Yield a Dask client of processes on this machine, which end with the block.

    Each has one thread, and an equal share of the memory.

    Args:
        jobs: number of processes.
        retries: how many of them may die while they work on one task before it counts as failed.

    Raises:
        InputError: Dask is not installed, or a number is wrong.
    """
    if jobs < 1:
        raise InputError(f"jobs is {jobs}; expected the number of processes, at least 1.")
    distributed = require(f"Work in {how_many(jobs, 'process')}")
    import dask

    choices = {
        "distributed.nanny.pre-spawn-environ": worker_environment(jobs),
        # A worker has the task that it works on, and no other: where it dies, no other task is blamed.
        "distributed.scheduler.worker-saturation": 1.0,
        "distributed.scheduler.allowed-failures": retries,
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.terminate": _SHARE_OF_MEMORY,
    }
    share = distributed.system.MEMORY_LIMIT // jobs
    with (
        _script_not_imported(),
        _without_threshold(),
        dask.config.set(choices),
        distributed.LocalCluster(
            n_workers=0,
            threads_per_worker=1,
            processes=True,
            memory_limit=share,
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.run_on_scheduler(_block_interrupt)
        cluster.scale(jobs)
        client.wait_for_workers(jobs)
        yield client


def _block_interrupt() -> None:
    """Keep Ctrl-C from this thread, and from the processes that it starts; where there are no such masks, do nothing.

    A terminal sends it to every process of a command. This process ends the workers; each of them would print a
    traceback of its own, of a worker or in the middle of an import. Dask starts them from the thread of its event loop,
    and masks are inherited.
    """
    if hasattr(signal, "pthread_sigmask"):
        resource_tracker.ensure_running()  # else the first process starts it, and unblocks the signal after that
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


@contextmanager
def _without_threshold() -> Iterator[None]:
    """Take the threshold of malloc out of this process's environment, where another cluster of Dask has left it."""
    name = "MALLOC_TRIM_THRESHOLD_"
    held = os.environ.pop(name) if os.environ.get(name) == _THRESHOLD_OF_DASK else None
    try:
        yield
    finally:
        if held is not None:
            os.environ[name] = held


@contextmanager
def _script_not_imported() -> Iterator[None]:
    """Let new processes not import the script that this one runs, which would do its work again without a guard.

    Tasks are functions of modules. multiprocessing finds the script by these two attributes.
    """
    script = sys.modules["__main__"].__dict__
    kept: dict[str, Any] = {name: script[name] for name in ("__file__", "__spec__") if name in script}
    script.pop("__file__", None)
    script["__spec__"] = None
    try:
        yield
    finally:
        script.pop("__spec__")
        script.update(kept)


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Yield the Dask client of a scheduler that runs already, such as "tcp://host:8786".

    Raises:
        InputError: Dask is not installed, or no scheduler answers there.
    """
    distributed = require(f"The scheduler {address}")
    try:
        client = distributed.Client(address, timeout=_PATIENCE)
    except (OSError, ValueError, ImportError) as error:
        raise InputError(
            f"No Dask scheduler answers at {address} ({str(error).splitlines()[0] if str(error) else 'no answer'}); "
            "expected the address that `dask scheduler` prints, like tcp://host:8786. Start it, or leave --scheduler "
            "out."
        ) from error
    with client:
        yield client


def run(
    function: Callable[..., Any],
    items: Sequence[Any],
    client: Any = None,
    retries: int = 2,
    keys: Sequence[str] | None = None,
    shared: Any = None,
) -> Iterator[Outcome]:
    """Yield the outcomes of `function(item)`, or `function(item, shared)`, for all items, as they are done.

    A task may run again although it was done: where its process dies before the answer is fetched. So a function whose
    work is a file returns early where that is there.

    Args:
        function: of one item; it is imported by the workers, so that it stands in a module that they have.
        items: one for each task.
        client: of Dask; None: one after the other in this process.
        retries: how often a task is tried again after an error that is not an `InputError`.
        keys: a name for each task, as Dask's dashboard shows it; None: numbers.
        shared: what all tasks need, which travels to each worker once; None: nothing.

    Raises:
        InputError: the connection to the scheduler was lost.
    """
    if client is None:
        for number, item in enumerate(items):
            yield _here(function, number, (item,) if shared is None else (item, shared), retries)
        return
    distributed = require("Work on a cluster")
    token = os.urandom(4).hex()
    names = [f"{function.__name__}-{token}-{number}" for number in range(len(items))] if keys is None else list(keys)
    # A task of its own, so that it is made again where all workers that have it die.
    more = {} if shared is None else {"shared": client.submit(_same, shared, pure=False, retries=retries)}
    futures = client.map(_Settled(function), items, key=names, retries=retries, pure=False, **more)
    numbers = {future.key: number for number, future in enumerate(futures)}
    try:
        for future in distributed.as_completed(futures):
            if future.cancelled():
                raise InputError(
                    "The connection to the scheduler was lost; expected it to stay. What is finished is kept; start it "
                    "again, and the same command continues."
                )
            number = numbers[future.key]
            error = future.exception()
            if isinstance(error, distributed.scheduler.KilledWorker):
                error = WorkerLostError(
                    "The processes that worked on it ended before it was done, one after the other; expected it to fit "
                    "into their share of the memory. Do it alone, with jobs=1 (--jobs 1), or a part of it."
                )
            value = None if error is not None else future.result()
            future.release()
            yield Outcome(number, error=error) if error is not None else _outcome(number, value)
    finally:
        client.cancel([future for future in futures if not future.done()])


class _Settled:
    """A function whose InputError is a value, so that Dask does not try it again; it runs in a worker."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.__name__ = function.__name__

    def __call__(self, item: Any, shared: Any = None) -> Any:
        _keep_programs()
        try:
            return self.function(item) if shared is None else self.function(item, shared)
        except InputError as error:
            return error


@cache
def _keep_programs() -> None:
    """Share compiled programs with the other workers, and with later ones."""
    if not os.environ.get(NO_CACHE):
        enable_compilation_cache()


def _outcome(number: int, value: Any) -> Outcome:
    return Outcome(number, error=value) if isinstance(value, InputError) else Outcome(number, value)


@contextmanager
def workers(jobs: int | None, address: str | None, retries: int = 2) -> Iterator[Any]:
    """Yield a client of that many processes here, or of a scheduler; None with one process or neither.

    Raises:
        InputError: both are given, or as from `local` and `connected`.
    """
    if jobs is not None and address is not None:
        raise InputError("--jobs and --scheduler are both given; expected one of the two. Leave one out.")
    if address is not None:
        with connected(address) as client:
            yield client
    elif jobs is None or jobs == 1:
        yield None
    else:
        with local(jobs, retries) as client:
            yield client


def _same(shared: Any) -> Any:
    return shared


def _here(function: Callable[..., Any], number: int, arguments: tuple[Any, ...], retries: int) -> Outcome:
    """Return the outcome of a task in this process."""
    for left in range(retries, -1, -1):
        try:
            return Outcome(number, function(*arguments))
        except Exception as error:
            if not left or isinstance(error, InputError):
                return Outcome(number, error=error)
    raise AssertionError("unreachable")
