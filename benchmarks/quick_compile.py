"""Measure what quick compilation costs and saves: the choice of endmembers and `dq.run`, compiled in three ways.

    python -m benchmarks.quick_compile [--quick] [-o results]

CPU seconds of a process (all threads), with XLA's own options and with those of both efforts of `ops.quick_compile`, of
the first run, which compiles, and of the same again. The choice of endmembers without learning (`select_endmembers`) is
one program; `dq.run` has about ten, which run in a process of their own without any kept program. One run each:
compilation dominates, and differs by about a tenth from run to run.
"""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import jax

from benchmarks.small_scenes import SceneSize, noisy_cube
from dequnmix_jax.endmembers.candidates import candidates
from dequnmix_jax.ops.quick_compile import Effort, compiler_options, effort_once
from experiments.shared import results_table

_EFFORTS: dict[str, Effort] = {"XLA's own": "full", "moderate": "moderate", "quick": "quick"}

_TWICE = """
import sys, time
import jax
import dequnmix_jax as dq
from benchmarks.small_scenes import SceneSize, noisy_cube
from dequnmix_jax.ops import quick_compile

options = quick_compile._OPTIONS[sys.argv[1]]
quick_compile._OPTIONS.update(dict.fromkeys(quick_compile._OPTIONS, options))
size = SceneSize(*map(int, sys.argv[2:]))
cube = noisy_cube(size)
jax.random.key(0).block_until_ready()
for seed in (0, 1):
    began = time.process_time()
    dq.run(cube, size.count, jax.random.key(seed))
    print(time.process_time() - began)
"""


@dataclass(frozen=True)
class Settings:
    """Sizes of the choice of endmembers, from small to worth all optimisation, and those of `dq.run`."""

    sizes: tuple[SceneSize, ...] = (
        SceneSize(10, 10, 30, 3),
        SceneSize(40, 40, 156, 6),
        SceneSize(95, 95, 156, 3),
        SceneSize(60, 60, 200, 9),
        SceneSize(200, 200, 156, 9),
    )
    runs: tuple[SceneSize, ...] = (SceneSize(60, 60, 200, 9), SceneSize(100, 100, 156, 9))


QUICK = Settings(sizes=(SceneSize(6, 6, 12, 2),), runs=(SceneSize(6, 6, 12, 2),))


def chosen(size: SceneSize, name: str) -> tuple[float, float]:
    """Return the CPU seconds of the choice of endmembers: first, compiling, and again."""
    cube = jax.numpy.asarray(noisy_cube(size))
    inputs = (jax.random.key(0), cube, jax.numpy.ones(cube.shape[:2], bool))
    lowered = jax.jit(candidates, static_argnums=3).lower(*inputs, size.count)
    began = time.process_time()
    program = lowered.compile(compiler_options=compiler_options(_EFFORTS[name]))
    compiled = time.process_time()
    jax.block_until_ready(program(*inputs))
    ended = time.process_time()
    return ended - began, ended - compiled


def run_twice(size: SceneSize, name: str) -> tuple[float, float]:
    """Return the CPU seconds of `dq.run` in a process: first, compiling, and again."""
    environment = dict(os.environ, DEQUNMIX_NO_CACHE="1")
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    command = [sys.executable, "-c", _TWICE, _EFFORTS[name], *map(str, size)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"dq.run failed on {size}: {done.stderr[-500:]}")
    first, again = (float(word) for word in done.stdout.split()[-2:])
    return first, again


def main(settings: Settings, folder: Path) -> Path:
    """Compile and run all sizes in all ways and write the table."""
    rows = []
    for what, sizes, measure in (("select_endmembers", settings.sizes, chosen), ("dq.run", settings.runs, run_twice)):
        for size in sizes:
            cube = noisy_cube(size)
            effort = next(word for word, e in _EFFORTS.items() if e == effort_once(cube, size.count))
            for name in _EFFORTS:
                first, again = measure(size, name)
                rows.append({
                    "what": what, "scene": f"{size.rows} x {size.columns} x {size.bands}, R = {size.count}",
                    "options": name, "first, CPU s": first, "again, CPU s": again, "chosen": effort,
                })  # fmt: skip
                print(results_table.line(rows[-1]), flush=True)
    note = f"Load of the machine in the minute before: {os.getloadavg()[0]:.2f}. {settings}"
    return results_table.write(folder, "quick_compile", rows, "python -m benchmarks.quick_compile", note, "One run.")


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
