"""One scene by one, two, ... processes of `dequnmix unmix --distributed`, a core each: pixels a second.

    python -m benchmarks.scaling [--quick] [-o results] [--folder /tmp]

Scenes of 500 columns and 285 bands on disk (`experiments.shared.large_scenes`), float32 BIP, and a model trained on
a crop. Each process may use one core. The rate is that between two scenes, (pixels of the larger - of the smaller) /
(seconds of the larger - of the smaller): startup, meeting and compilation cancel, and are listed as the seconds of no
pixels. The seconds in which process 0 scans the scene alone, before the others start, are included.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.shared import large_scenes, results_table


@dataclass(frozen=True)
class Settings:
    """Rows of the two scenes, their size, numbers of processes, and repetitions, of which the fastest counts."""

    rows: tuple[int, int] = (400, 1600)
    columns: int = 500
    bands: int = 285
    processes: tuple[int, ...] = (1, 2)
    crop: int = 96
    epochs: int = 40
    tile: int = 128
    halo: int = 16
    rounds: int = 2


QUICK = Settings(rows=(32, 64), columns=40, bands=24, processes=(1, 2), crop=24, epochs=2, tile=16, halo=8, rounds=1)


def job(folder: Path, scene: Path, model: Path, size: int, settings: Settings) -> tuple[float, int]:
    """Unmix a scene by a job of `size` processes; return the seconds and the bytes written."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    out = folder / "out"
    command = [sys.executable, "-W", "ignore", "-m", "dequnmix_jax", "unmix", str(scene), str(model), "-o", str(out)]
    command += ["--no-plots", "--tile", str(settings.tile), "--halo", str(settings.halo)]
    cores = sorted(os.sched_getaffinity(0))
    began = time.perf_counter()
    running = []
    for rank in range(size):
        more = {
            "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
            "JAX_NUM_PROCESSES": str(size),
            "JAX_PROCESS_ID": str(rank),
        }
        own = {cores[rank % len(cores)]}
        running.append(
            subprocess.Popen(
                command + (["--distributed"] if size > 1 else []),
                env=os.environ | (more if size > 1 else {}),
                cwd=Path(__file__).parents[1],
                stdout=subprocess.DEVNULL,
                preexec_fn=lambda own=own: os.sched_setaffinity(0, own),
            )
        )
    failed = [process.wait() for process in running]
    if any(failed):
        raise SystemExit("A process failed; see its message above.")
    seconds = time.perf_counter() - began
    written = sum(file.stat().st_size for file in out.iterdir())
    shutil.rmtree(out)
    return seconds, written


def main(settings: Settings, folder: Path, where: Path | None = None) -> Path:
    """Make the scenes, train, unmix by all numbers of processes and write the table."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="scaling_", dir=where) as name:
        place = Path(name)
        scene, model = place / "scene.img", place / "model.npz"
        size = large_scenes.Size(settings.rows[1], settings.columns, settings.bands, min(settings.rows[1], 2000))
        large_scenes.generate(scene, size)
        crop = large_scenes.piece(scene, settings.crop, size, settings.crop)
        fitted = large_scenes.run(
            "fit", crop, "--endmembers", 4, "--epochs", settings.epochs, "--start", "vca", "-o", model
        )
        small = large_scenes.piece(scene, settings.rows[0], size)
        rows: list[dict[str, Any]] = []
        for processes in settings.processes:
            both = [
                min(job(place, file, model, processes, settings) for _ in range(settings.rounds))
                for file in (small, scene)
            ]
            pixels = (settings.rows[1] - settings.rows[0]) * settings.columns
            spent = both[1][0] - both[0][0]
            rows.append({
                "processes": processes,
                "seconds, smaller scene": both[0][0],
                "seconds, larger scene": both[1][0],
                "pixels / s": pixels / spent,
                "of one process, times": rows[0]["seconds a pixel"] * pixels / spent if rows else 1.0,
                "seconds a pixel": spent / pixels,
                "seconds of no pixels": both[0][0] - settings.rows[0] * settings.columns * spent / pixels,
                "MB of cube a second": 4 * settings.bands * pixels / spent / 1e6,
                "bytes written a pixel": both[1][1] / (settings.rows[1] * settings.columns),
            })  # fmt: skip
            print(results_table.line(rows[-1]), flush=True)
    note = (
        f"A core for each process. Load of the machine in the minute before: {load:.2f}. Training on the crop: "
        f"{json.dumps(fitted.printed.get('training', {}).get('seconds', fitted.seconds))} s. {settings}"
    )
    return results_table.write(
        folder, "scaling", rows, "python -m benchmarks.scaling", note, "Fastest of several runs."
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small run to check that everything works")
    parser.add_argument("-o", "--output", type=Path, default=Path("results"))
    parser.add_argument("--folder", type=Path, help="folder with 3 GB of free space")
    asked = parser.parse_args()
    print(main(QUICK if asked.quick else Settings(), asked.output, asked.folder))
