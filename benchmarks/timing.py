"""Time several ways of doing one thing in turn, so that other load affects all of them equally."""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

_SHORTEST = 0.02
"""Seconds that are timed together at least."""


class Timing(NamedTuple):
    """The fastest of several runs, in seconds: wall clock, and CPU of all threads of the process."""

    wall: float
    cpu: float


def race(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, Timing]:
    """Run every way once untimed (compilation, caches), then `rounds` times in turn; keep the fastest of each.

    A short run is repeated: the system counts CPU time in steps of up to some milliseconds.
    """
    repeats = {}
    for name, run in ways.items():
        jax.block_until_ready(run())
        repeats[name] = max(1, math.ceil(_SHORTEST / max(once(run).wall, 1e-6)))
    best = dict.fromkeys(ways, Timing(float("inf"), float("inf")))
    for _ in range(rounds):
        for name, run in ways.items():
            spent = once(run, repeats[name])
            best[name] = Timing(min(best[name].wall, spent.wall), min(best[name].cpu, spent.cpu))
    return best


def once(run: Callable[[], Any], repeats: int = 1) -> Timing:
    """Time one run until its arrays are ready, as the mean of some."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        jax.block_until_ready(run())
    return Timing((time.perf_counter() - wall) / repeats, (time.process_time() - cpu) / repeats)


def compiled(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    """Compile a function for its arguments, and return it with the arguments bound."""
    program = jax.jit(function).lower(*arguments).compile()
    return lambda: program(*arguments)


def matmul_peak(size: int, rounds: int) -> Timing:
    """Return the time of 1 GFLOP in a square float32 product: the peak of this machine."""
    A = jax.random.normal(jax.random.key(0), (size, size))
    spent = race({"matmul": compiled(jnp.matmul, A, A)}, rounds)["matmul"]
    gflop = 2 * size**3 / 1e9
    return Timing(spent.wall / gflop, spent.cpu / gflop)
