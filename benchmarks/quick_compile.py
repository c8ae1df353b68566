"""Measure what quick compilation costs and saves: the choice of endmembers, compiled in three ways, and run once.

    python -m benchmarks.quick_compile [--quick] [-o results]

CPU seconds of the process (all threads) to compile the program of `select_endmembers` for one size of scene, and to run
it once, with XLA's own options and with those of both efforts of `ops.quick_compile`. One run each: compilation
dominates, and differs by about a tenth from run to run.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import jax

from benchmarks.small_scenes import SceneSize, noisy_cube
from dequnmix_jax.endmembers.candidates import candidates
from dequnmix_jax.ops.quick_compile import Effort, compiler_options, effort_once
from experiments.shared import results_table

_EFFORTS: dict[str, Effort] = {"XLA's own": "full", "moderate": "moderate", "quick": "quick"}


@dataclass(frozen=True)
class Settings:
    """Scenes: small ones, one of Samson's size, one for moderate effort, and one that is worth all of it."""

    sizes: tuple[SceneSize, ...] = (
        SceneSize(10, 10, 30, 3),
        SceneSize(40, 40, 156, 6),
        SceneSize(95, 95, 156, 3),
        SceneSize(60, 60, 200, 9),
        SceneSize(200, 200, 156, 9),
    )


QUICK = Settings(sizes=(SceneSize(6, 6, 12, 2),))


def main(settings: Settings, folder: Path) -> Path:
    """Compile and run all sizes in all ways and write the table."""
    rows = []
    for size in settings.sizes:
        cube = jax.numpy.asarray(noisy_cube(size))
        inputs = (jax.random.key(0), cube, jax.numpy.ones(cube.shape[:2], bool))
        lowered = jax.jit(candidates, static_argnums=3).lower(*inputs, size.count)
        for name, effort in _EFFORTS.items():
            began = time.process_time()
            program = lowered.compile(compiler_options=compiler_options(effort))
            compiled = time.process_time()
            jax.block_until_ready(program(*inputs))
            ended = time.process_time()
            rows.append({
                "scene": f"{size.rows} x {size.columns} x {size.bands}, R = {size.count}",
                "options": name,
                "compile, CPU s": compiled - began,
                "run, CPU s": ended - compiled,
                "both": ended - began,
                "chosen": next(word for word, e in _EFFORTS.items() if e == effort_once(cube, size.count)),
            })  # fmt: skip
            print(results_table.line(rows[-1]), flush=True)
    note = f"Load of the machine in the minute before: {os.getloadavg()[0]:.2f}. {settings}"
    return results_table.write(folder, "quick_compile", rows, "python -m benchmarks.quick_compile", note, "One run.")


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
