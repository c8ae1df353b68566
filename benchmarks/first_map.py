"""Measure what the first map of a scene costs: CPU seconds, programs and memory of `dequnmix report`, cold and warm.

    python -m benchmarks.first_map [--quick] [-o results] [--before CHECKOUT]

Each run is a process of its own. "cold": an empty cache of compiled programs; "same size": once more; "new size": the
scene without its last row, with the cache of the runs before. Each mixing model has programs of its own: where the new
size gets another one, they are compiled too. CPU seconds are those of the whole process (user and system,
all threads), so that other programs on the machine count less than in wall time. `--before` measures an older checkout
in the same run, so that the two can be compared whatever the machine: one round of it, the way it is.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.small_scenes import SceneSize, noisy_cube
from dequnmix_jax.checks import InputError
from dequnmix_jax.datasets import registry
from experiments.shared import results_table

_MEASURED = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:]).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10))
sys.exit(status)
"""
# A process between this one and the command: the peak of a child counts the memory of its parent at the start.


@dataclass(frozen=True)
class Settings:
    """Scenes, and how often each run is repeated in a new process and cache; the fastest counts."""

    sizes: tuple[SceneSize, ...] = (SceneSize(10, 10, 30, 3), SceneSize(40, 40, 120, 6), SceneSize(95, 95, 156, 3))
    real: bool = True  # Samson, where it can be found
    rounds: int = 2
    options: tuple[str, ...] = ()


QUICK = Settings(sizes=(SceneSize(6, 6, 12, 2),), real=False, rounds=1, options=("--epochs", "1"))


def measured(
    scene: Path, count: int, folder: Path, options: Sequence[str], checkout: Path | None = None
) -> dict[str, Any]:
    """Run `dequnmix report` in a process, of another checkout where one is given, and return what it used."""
    command = [sys.executable, "-m", "dequnmix_jax", "report", str(scene), "--endmembers", str(count)]
    command += ["-o", str(folder / "page.html"), "--force", *options]
    environment = dict(os.environ, XDG_CACHE_HOME=str(folder), JAX_LOG_COMPILES="1")
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    if checkout:
        environment["PYTHONPATH"] = str(checkout.resolve() / "src")
    began = time.perf_counter()
    run = subprocess.run(
        [sys.executable, "-c", _MEASURED, *command], env=environment, capture_output=True, text=True, check=False
    )
    wall = time.perf_counter() - began
    text = run.stderr
    if run.returncode:
        raise InputError(f"`dequnmix report` failed: {text[-500:]}")
    cpu, peak = (float(value) for value in run.stdout.split()[-2:])
    cache = folder / "dequnmix_jax" / "jax"
    kept = len(list(cache.glob("*-cache"))) + len(list(cache.glob("programs/*")))
    return {
        "CPU s": cpu,
        "wall s": wall,
        "mixing": mixing.group(1) if (mixing := re.search(r"Mixing: ([^(]*?) \(", text)) else "",
        "programs": len(re.findall("Finished XLA compilation", text)),
        "programs in the cache": kept,
        "peak memory, MiB": peak,
    }


def best_of(
    cube: np.ndarray, count: int, rounds: int, options: Sequence[str], checkout: Path | None
) -> dict[str, dict[str, Any]]:
    """Measure a scene in all states, each round with a cache of its own, and keep the cheapest run of each state."""
    best: dict[str, dict[str, Any]] = {}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as temporary:
            space = Path(temporary)
            np.savez(space / "scene.npz", cube=cube)
            np.savez(space / "smaller.npz", cube=cube[:-1])
            for state, file in (("cold", "scene"), ("same size", "scene"), ("new size", "smaller")):
                run = measured(space / f"{file}.npz", count, space, options, checkout)
                if state not in best or run["CPU s"] < best[state]["CPU s"]:
                    best[state] = run
    return best


def main(settings: Settings, folder: Path, before: Path | None = None) -> Path:
    """Measure all scenes in all states and write the table."""
    cubes = {f"{size.rows} x {size.columns} x {size.bands}, R = {size.count}": (noisy_cube(size), size.count)
             for size in settings.sizes}  # fmt: skip
    if settings.real:
        try:
            sample, _ = registry.load("samson_authors")
            cubes["samson_authors, R = 3"] = (np.asarray(sample.cube), 3)
        except InputError as error:
            print(error)
    rows = []
    for name, (cube, count) in cubes.items():
        versions = [("now", None, settings.rounds)] + ([("before", before, 1)] if before else [])
        for version, checkout, rounds in versions:
            for state, run in best_of(cube, count, rounds, settings.options, checkout).items():
                rows.append({"scene": name, "version": version, "cache": state, **run})
                print(results_table.line(rows[-1]), flush=True)
    note = f"Load of the machine in the minute before: {os.getloadavg()[0]:.2f}. {settings}"
    if before:
        note += f" Before: commit {results_table.commit_of(before)}, one round."
    return results_table.write(
        folder, "first_map", rows, "python -m benchmarks.first_map", note, "Fewest CPU seconds of several runs."
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small run to check that everything works")
    parser.add_argument("-o", "--output", type=Path, default=Path("results"))
    parser.add_argument("--before", type=Path, help="checkout of an older version, measured in the same run")
    asked = parser.parse_args()
    print(main(QUICK if asked.quick else Settings(), asked.output, asked.before))
