"""A tiled unmixing that is killed at random moments and restarted is bitwise equal to an undisturbed one.

    python -m experiments.robustness.resume_tiles [--quick] [-o results]

A small scene is unmixed by `dequnmix unmix --tile` in a separate process, once undisturbed; then repeatedly into
another folder, each time killed by SIGKILL at a random moment within the duration of the undisturbed run; the last run
is not killed. Every file of both folders is compared byte by byte, apart from the date in summary.json. If a killed run
had time to finish, its output is removed and the next one starts from the beginning.
"""

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax.datasets import synthetic
from dequnmix_jax.io.envi.writer import write_image
from dequnmix_jax.training import checkpoint
from dequnmix_jax.training.words import words_of
from experiments.shared import results_table


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment."""

    kills: int = 20
    side: int = 256
    tile: int = 16
    seed: int = 0
    jobs: int = 1


QUICK = Settings(kills=2, side=32)


def prepare(folder: Path, settings: Settings) -> None:
    """Write a scene and a model into a folder."""
    spectra = synthetic.spectra(jax.random.key(1), 4, 40)
    shape = (settings.side, settings.side)
    cube = synthetic.linear_scene(jax.random.key(settings.seed), shape, spectra, 30.0).cube
    write_image(folder / "scene.img", np.asarray(cube))
    config = dq.Model(gradient=dq.equilibrium.Energy(width=8))
    params = dq.init(jax.random.key(2), cube, config, endmembers=spectra)
    params["network"]["energy"]["gain"] = jnp.full(8, 0.2)
    checkpoint.save(folder / "model.npz", jax.tree.map(np.asarray, params), {"model": words_of(config), "seed": 2})


def start(folder: Path, out: str, settings: Settings) -> subprocess.Popen[bytes]:
    """Start an unmixing."""
    words = ["unmix", "scene.img", "model.npz", "--no-plots", "--tile", str(settings.tile), "--halo", "12", "-o", out]
    words += ["--jobs", str(settings.jobs)]
    command = [sys.executable, "-W", "ignore", "-m", "dequnmix_jax", *words]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def content(folder: Path) -> dict[str, Any]:
    """Return every file of an output, without its date."""
    files: dict[str, Any] = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    summary = json.loads(files["summary.json"])
    summary.pop("run")
    return files | {"summary.json": summary}


def finished(folder: Path) -> int:
    """Return how many tiles are finished in the work of `out`."""
    path = folder / ".out.tiles" / "tiles.raw"
    return path.read_bytes().count(b'{"tile": ') if path.is_file() else 0


def main(settings: Settings, target: Path) -> Path:
    """Kill, resume, compare, and write the table."""
    rng = random.Random(settings.seed)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="resume_") as name:
        folder = Path(name)
        prepare(folder, settings)
        _complete(start(folder, "warm", settings))  # fills the compilation cache
        began = time.perf_counter()
        _complete(start(folder, "undisturbed", settings))
        whole = time.perf_counter() - began
        expected = content(folder / "undisturbed")
        tiles = expected["summary.json"]["tiles"]["count"]
        same = ended = 0
        while len(rows) < settings.kills:
            before, wait = finished(folder), rng.uniform(0, whole)
            process = start(folder, "out", settings)
            time.sleep(wait)
            process.send_signal(signal.SIGKILL)
            process.wait()
            row: dict[str, Any] = {"kill": len(rows) + 1, "after s": wait, "tiles before": before}
            if (folder / "out").exists():  # it finished before it was killed
                ended += 1
                same += content(folder / "out") == expected
                _remove(folder / "out")
                if process.returncode == 0:
                    continue
            rows.append(row | {"tiles after": finished(folder)})
            print(results_table.line(rows[-1]), flush=True)
        _complete(start(folder, "out", settings))
        ended += 1
        same += content(folder / "out") == expected
        left = sorted(path.name for path in folder.iterdir() if path.name.startswith("."))
    note = (
        f"{len(rows)} kills; {ended} runs came to an end, {same} of them with the same bytes in every file as the "
        f"undisturbed run of {whole:.1f} s and {tiles} tiles. Left beside the outputs: {', '.join(left) or 'nothing'}. "
        f"{settings}"
    )
    path = results_table.write(
        target, "resume", rows, "python -m experiments.robustness.resume_tiles", note, kind="One run, one seed."
    )
    if same != ended or left:
        raise RuntimeError(note)
    return path


def _complete(process: subprocess.Popen[bytes]) -> None:
    if process.wait() != 0:
        raise RuntimeError(f"The unmixing ended with {process.returncode}.")


def _remove(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
