"""Time a command and its stages, and print each on stderr."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

_started = time.perf_counter()


def start() -> None:
    """Start the clock of a command."""
    global _started
    _started = time.perf_counter()


def since_start() -> float:
    """Return the seconds since the command began, including imports and compilation."""
    return time.perf_counter() - _started


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Print how long a stage took, on terminals and pipes alike; a terminal shows its name meanwhile."""
    from dequnmix_jax.cli.progress import Line

    began, line = time.perf_counter(), Line()
    line.show(f"{name} ...")
    try:
        yield
    finally:
        line.clear()
    print(f"{name}: {time.perf_counter() - began:.1f} s", file=sys.stderr, flush=True)
