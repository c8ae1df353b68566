"""One large scene and 32 small ones on one and two workers of Dask, and in one process: CPU time, wall time, memory.

    python -m benchmarks.clusters [--quick] [-o results] [--folder /tmp] [--before CHECKOUT]

The large scene (285 bands, float32 BIP, `experiments.shared.large_scenes`) is unmixed from disk to disk in tiles, a
part of it too; the figures are the differences of the two, so that startup and compilation cancel. On a machine that
does other work as well, CPU seconds of the busier worker say more than wall seconds: with an even division and nothing
serial, two workers have half of those of one each. The first process adds up, judges and places the output: "CPU s,
all" counts that too. `--before` measures the processes of `--distributed` of an older checkout in the same run.
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax.datasets import synthetic
from dequnmix_jax.io.envi.writer import write_image
from dequnmix_jax.parallel import cluster
from dequnmix_jax.trained import load_model
from dequnmix_jax.training import checkpoint
from experiments.shared import large_scenes, results_table


@dataclass(frozen=True)
class Settings:
    """Rows of the two scenes, their size, the tiles, the small scenes, numbers of workers, and repetitions."""

    rows: tuple[int, int] = (200, 1400)
    columns: int = 500
    bands: int = 285
    crop: int = 96
    epochs: int = 40
    tile: int = 100
    halo: int = 16
    scenes: int = 32
    side: int = 150
    workers: tuple[int, ...] = (1, 2)
    each_alone: int = 2
    rounds: int = 1


QUICK = Settings(rows=(32, 64), columns=40, bands=24, crop=24, epochs=2, tile=16, halo=8, scenes=3, side=12,
                 each_alone=1, rounds=1)  # fmt: skip


class Spent(NamedTuple):
    """Seconds of a run.

    Attributes:
        wall: of the clock.
        each: CPU, of each worker; of the process itself where it has none.
        own: CPU, of the process that has workers.
        resident: bytes, the largest memory of a worker so far; None where it is not measured.
    """

    wall: float
    each: tuple[float, ...]
    own: float
    resident: int | None

    @property
    def busier(self) -> float:
        """Return the CPU seconds of the worker that worked most."""
        return max(self.each)

    @property
    def all(self) -> float:
        """Return the CPU seconds of all processes together."""
        return sum(self.each) + self.own


def own_cpu(_: Any = None) -> tuple[float, int]:
    """Return CPU seconds and the largest memory in bytes of this process."""
    # What getrusage says begins with the memory of the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return time.process_time(), 1024 * int(status.partition("VmHWM:")[2].split()[0])


def spend(work: Callable[[], Any], client: Any) -> Spent:
    """Do some work by a client, or here, and return what it takes."""
    before, here, began = client.run(own_cpu) if client else {}, own_cpu()[0], time.perf_counter()
    work()
    wall, own = time.perf_counter() - began, own_cpu()[0] - here
    after = client.run(own_cpu) if client else {}
    each = tuple(after[name][0] - before[name][0] for name in sorted(after)) or (own,)
    resident = max([size for _, size in after.values()] or [own_cpu()[1]])
    return Spent(wall, each, own if client else 0.0, resident)


def ended(running: list[Any], began: float) -> Spent:
    """Wait for processes that were started at `began`, and return what they took."""
    each = []
    for process in running:
        _, status, used = os.wait4(process.pid, 0)
        if status:
            raise SystemExit("A process failed; see its message above.")
        each.append(used.ru_utime + used.ru_stime)
    return Spent(time.perf_counter() - began, tuple(each), 0.0, None)


def by_job(command: list[str], size: int, folder: Path, root: Path) -> Spent:
    """Run a command of an older checkout, by `size` processes of --distributed; return what it takes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    job = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": str(size)}
    began, running = time.perf_counter(), []
    for rank in range(size):
        more = job | {"JAX_PROCESS_ID": str(rank)} if size > 1 else {}
        more |= {"PYTHONPATH": str(root / "src"), "NPROC": str(max(1, cluster.cores() // size))}
        words = [sys.executable, "-W", "ignore", "-m", "dequnmix_jax", *command]
        words += ["--distributed"] if size > 1 else []
        running.append(subprocess.Popen(words, env=os.environ | more, cwd=folder, stdout=subprocess.DEVNULL))
    return ended(running, began)


def apart(file: Path, model: Path, size: int, options: list[str]) -> Spent:
    """Unmix a file by `size` processes at the same time that share nothing but the machine; return what it takes."""
    began, running = time.perf_counter(), []
    for rank in range(size):
        words = [sys.executable, "-W", "ignore", "-m", "dequnmix_jax", "unmix", str(file), str(model), "--no-plots"]
        words += ["-o", str(file.with_suffix(f".out{rank}")), *options]
        more = {"PYTHONPATH": str(ROOT / "src"), "NPROC": str(max(1, cluster.cores() // size))}
        running.append(subprocess.Popen(words, env=os.environ | more, stdout=subprocess.DEVNULL))
    spent = ended(running, began)
    for rank in range(size):
        shutil.rmtree(file.with_suffix(f".out{rank}"))
    return spent


def less(large: Spent, small: Spent) -> Spent:
    """Return the difference of two runs."""
    each = tuple(one - other for one, other in zip(large.each, small.each, strict=True))
    return Spent(large.wall - small.wall, each, large.own - small.own, large.resident)


def one_scene(place: Path, settings: Settings, before: Path | None) -> list[dict[str, Any]]:
    """Unmix a large scene by all ways, and return a row for each."""
    scene, model = place / "scene.img", place / "model.npz"
    size = large_scenes.Size(settings.rows[1], settings.columns, settings.bands, min(settings.rows[1], 2000))
    large_scenes.generate(scene, size)
    crop = large_scenes.piece(scene, settings.crop, size, settings.crop)
    large_scenes.run("fit", crop, "--endmembers", 4, "--epochs", settings.epochs, "--start", "vca", "-o", model)
    both = (large_scenes.piece(scene, settings.rows[0], size), scene)
    trained = load_model(model, None)
    pixels = (settings.rows[1] - settings.rows[0]) * settings.columns
    rows: list[dict[str, Any]] = []

    def add(way: str, workers: int, runs: list[tuple[Spent, Spent]]) -> None:
        spent = min((less(large, small) for small, large in runs), key=lambda one: one.busier)
        rows.append({
            "what": f"{-(-settings.rows[1] // settings.tile) * -(-settings.columns // settings.tile)} tiles",
            "way": way, "processes": workers, "wall s": spent.wall, "CPU s, busier worker": spent.busier,
            "CPU s, all": spent.all, "CPU s a scene": "", "microseconds a pixel": 1e6 * spent.all / pixels,
            "MB, largest worker": "" if spent.resident is None else spent.resident / 1e6,
        })  # fmt: skip
        print(results_table.line(rows[-1]), flush=True)

    def tiled(file: Path, client: Any) -> Spent:
        out = place / "out"
        options = {"tile": settings.tile, "halo": settings.halo, "client": client}
        spent = spend(lambda: dq.unmix_tiled(trained.params, file, trained.config, out, **options), client)
        shutil.rmtree(out)
        return spent

    def command(file: Path, workers: int, root: Path) -> Spent:
        out = place / "out"
        words = ["unmix", str(file), str(model), "-o", str(out), "--no-plots", "--tile", str(settings.tile)]
        spent = by_job([*words, "--halo", str(settings.halo)], workers, place, root)
        shutil.rmtree(out)
        return spent

    for workers in settings.workers if before else ():
        assert before is not None
        add("before", workers, [tuple(command(file, workers, before) for file in both) for _ in range(settings.rounds)])
    add("one process", 1, [tuple(command(file, 1, ROOT) for file in both) for _ in range(settings.rounds)])
    # What the machine allows: halves of the scene, each by a process that knows nothing of the other.
    halves = [large_scenes.piece(scene, count // 2, size) for count in settings.rows]
    options = ["--tile", str(settings.tile), "--halo", str(settings.halo)]
    apart(halves[0], model, 2, options)  # compiles
    add("a process for each half", 2, [
        tuple(apart(half, model, 2, options) for half in halves) for _ in range(settings.rounds)
    ])  # fmt: skip
    for workers in settings.workers:
        with cluster.local(workers) as client:
            tiled(both[0], client)  # compiles
            add("workers", workers, [tuple(tiled(file, client) for file in both) for _ in range(settings.rounds)])
    return rows


def many(place: Path, settings: Settings, trained: Path) -> list[dict[str, Any]]:
    """Unmix small scenes by all ways, by a network that was trained elsewhere, and return a row for each."""
    spectra = synthetic.spectra(jax.random.key(1), 4, settings.bands)
    shape = (settings.side, settings.side)
    for number in range(settings.scenes):
        cube = synthetic.linear_scene(jax.random.key(number), shape, spectra, 30.0).cube
        write_image(place / f"scene{number:02d}.img", np.asarray(cube))
    model = place / "model.npz"
    params, metadata = checkpoint.load(trained)
    checkpoint.save(model, params | {"endmembers": np.asarray(spectra)}, metadata)
    pattern, rows = place / "scene*.hdr", []

    def add(way: str, workers: int, count: int, spent: Spent) -> None:
        rows.append({
            "what": f"{count} scenes", "way": way, "processes": workers, "wall s": spent.wall,
            "CPU s, busier worker": spent.busier, "CPU s, all": spent.all, "CPU s a scene": spent.all / count,
            "microseconds a pixel": 1e6 * spent.all / (count * settings.side**2),
            "MB, largest worker": "" if spent.resident is None else spent.resident / 1e6,
        })  # fmt: skip
        print(results_table.line(rows[-1]), flush=True)

    def batch(files: Any, client: Any) -> Spent:
        out = place / "out"
        spent = spend(lambda: dq.unmix_many(files, model, out, client, jobs=1), client)
        shutil.rmtree(out)
        return spent

    first = [place / f"scene{number:02d}.hdr" for number in range(min(4, settings.scenes))]
    alone = [
        by_job(["unmix", str(file), str(model), "--no-plots", "-o", str(place / "out" / file.stem)], 1, place, ROOT)
        for file in first[: settings.each_alone]
        if (place / "out").mkdir(exist_ok=True) is None
    ]
    shutil.rmtree(place / "out")
    total = Spent(sum(one.wall for one in alone), (sum(one.all for one in alone),), 0.0, None)
    add("a process for each", 1, len(alone), total)
    for workers in settings.workers:
        with cluster.local(workers) as client:
            batch(first, client)  # compiles
            runs = [batch(pattern, client) for _ in range(settings.rounds)]
            add("workers", workers, settings.scenes, min(runs, key=lambda one: one.busier))
    return rows


ROOT = Path(__file__).parents[1]


def main(settings: Settings, folder: Path, where: Path | None = None, before: Path | None = None) -> Path:
    """Measure all ways and write the table."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="clusters_", dir=where) as name:
        (Path(name) / "one").mkdir()
        rows = one_scene(Path(name) / "one", settings, before)
        rows += many(Path(name), settings, Path(name) / "one" / "model.npz")
    one = {(row["what"], row["way"]): row["CPU s, busier worker"] for row in rows if row["processes"] == 1}
    for row in rows:
        way = "one process" if row["way"] == "a process for each half" else row["way"]
        row["times one"] = one[row["what"], way] / row["CPU s, busier worker"]
    note = (
        f"Two cores; load of the machine in the minute before: {load:.2f}. Of the large scene the difference of "
        f'{settings.rows[1]} and {settings.rows[0]} rows of {settings.columns} columns. "times one": CPU seconds of '
        "the only worker over those of the busier one; for a process for each half, which share nothing but the "
        f"machine, those of one process over those of the busier one: what two cores allow. {settings}"
    )
    return results_table.write(
        folder, "clusters", rows, "python -m benchmarks.clusters", note, "The run whose busier worker took least."
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small run to check that everything works")
    parser.add_argument("-o", "--output", type=Path, default=Path("results"))
    parser.add_argument("--folder", type=Path, help="folder with 3 GB of free space")
    parser.add_argument("--before", type=Path, help="checkout of a version that has `unmix --distributed`")
    asked = parser.parse_args()
    print(main(QUICK if asked.quick else Settings(), asked.output, asked.folder, asked.before))
