"""Measure what quick compilation costs and saves: the choice of endmembers and `dq.run`, compiled in three ways.

    python -m benchmarks.quick_compile [--quick] [-o results]

CPU seconds of a process (all threads), with XLA's own options and with those of both efforts of `ops.quick_compile`, of
the first run, which compiles, and of the same again. The choice of endmembers without learning (`select_endmembers`) is
one program, `dq.run` about ten. Every row is of a process of its own, without kept programs. One run each: compilation
dominates, and differs by about a tenth from run to run.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.small_scenes import SceneSize, noisy_cube
from dequnmix_jax.ops.quick_compile import Effort, effort_once
from experiments.shared import results_table

_EFFORTS: dict[str, Effort] = {"XLA's own": "full", "moderate": "moderate", "quick": "quick"}

_TWICE = """
import sys, time
import jax
import dequnmix_jax as dq
from benchmarks.small_scenes import SceneSize, noisy_cube
from dequnmix_jax.endmembers.candidates import candidates
from dequnmix_jax.ops import quick_compile

what, effort, *numbers = sys.argv[1:]
quick_compile._OPTIONS.update(dict.fromkeys(quick_compile._OPTIONS, quick_compile._OPTIONS[effort]))
size = SceneSize(*map(int, numbers))
cube = noisy_cube(size)
options = quick_compile.compiler_options(effort)
program = jax.jit(candidates, static_argnums=3, compiler_options=options)
for seed in (0, 1):
    key = jax.random.key(seed).block_until_ready()
    began = time.process_time()
    if what == "dq.run":
        dq.run(cube, size.count, key)
    else:
        jax.block_until_ready(program(key, cube, (cube == cube).all(axis=2), size.count))
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
    runs: tuple[SceneSize, ...] = (
        SceneSize(95, 95, 156, 3),
        SceneSize(60, 60, 200, 9),
        SceneSize(100, 100, 156, 9),
    )


QUICK = Settings(sizes=(SceneSize(6, 6, 12, 2),), runs=(SceneSize(6, 6, 12, 2),))


def twice(what: str, size: SceneSize, effort: Effort) -> tuple[float, float]:
    """Return the CPU seconds in a process without kept programs: of the first time, and again."""
    environment = dict(os.environ, DEQUNMIX_NO_CACHE="1")
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    command = [sys.executable, "-c", _TWICE, what, effort, *map(str, size)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{what} failed on {size}: {done.stderr[-500:]}")
    first, again = (float(word) for word in done.stdout.split()[-2:])
    return first, again


def main(settings: Settings, folder: Path) -> Path:
    """Compile and run all sizes in all ways and write the table."""
    rows = []
    for what, sizes in (("select_endmembers", settings.sizes), ("dq.run", settings.runs)):
        for size in sizes:
            cube = noisy_cube(size)
            effort = next(word for word, e in _EFFORTS.items() if e == effort_once(cube, size.count))
            for name in _EFFORTS:
                first, again = twice(what, size, _EFFORTS[name])
                rows.append({
                    "what": what, "scene": f"{size.rows} x {size.columns} x {size.bands}, R = {size.count}",
                    "options": name, "first, CPU s": first, "again, CPU s": again, "chosen": effort,
                })  # fmt: skip
                print(results_table.line(rows[-1]), flush=True)
    note = f"Load of the machine in the minute before: {os.getloadavg()[0]:.2f}. {settings}"
    return results_table.write(folder, "quick_compile", rows, "python -m benchmarks.quick_compile", note, "One run.")


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
