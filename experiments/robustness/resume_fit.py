"""Is a training that is killed repeatedly bitwise equal to an undisturbed one?

    python -m experiments.robustness.resume_fit [--quick] [-o results]

`dequnmix fit` runs in a separate process that is killed (SIGKILL) at random moments, some during startup, most after a
saved state; the same command is repeated until the number of kills is reached, and then once to its end. Its model is
compared bit for bit with that of an undisturbed process.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dequnmix_jax.training import checkpoint
from dequnmix_jax.training.resume import kept_beside
from experiments.shared import results_table


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment."""

    kills: int = 20
    sides: tuple[int, int] = (48, 48)
    bands: int = 40
    epochs: int = 400
    seed: int = 0


QUICK = Settings(kills=2, sides=(6, 7), bands=12, epochs=40)
_ENDMEMBERS = 4


def _words(folder: Path, output: Path) -> list[str]:
    files = [str(folder / "s.npz"), "--config", str(folder / "c.toml"), "-o", str(output)]
    choices = ["--endmembers", str(_ENDMEMBERS), "--start", "vca", "--checkpoint", "0"]
    return [sys.executable, "-m", "dequnmix_jax", "fit", *files, *choices]


def _run(words: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _written(kept: Path, times: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until the training was saved `times` more times, or the process ended."""
    before = kept.stat().st_mtime_ns if kept.exists() else 0
    while times and process.poll() is None:
        now = kept.stat().st_mtime_ns if kept.exists() else 0
        times, before = times - (now != before), now
        time.sleep(0.001)


def _same(first: Path, second: Path) -> bool:
    """Return whether two models have the same parameters and the same history, bit for bit."""
    (a, told_a), (b, told_b) = checkpoint.load(first), checkpoint.load(second)
    return _bits(a) == _bits(b) and told_a["history"] == told_b["history"]


def _bits(tree: dict) -> list[tuple[str, bytes]]:  # type: ignore[type-arg]
    bits = []
    for name, value in sorted(tree.items()):
        bits += [(f"{name}/{n}", b) for n, b in _bits(value)] if isinstance(value, dict) else [(name, value.tobytes())]
    return bits


def main(settings: Settings, folder: Path) -> Path:
    """Kill, continue, compare, and write the table."""
    draw = random.Random(settings.seed)
    rng = np.random.default_rng(settings.seed)
    spectra = rng.uniform(0.1, 0.9, (_ENDMEMBERS, settings.bands))
    maps = rng.dirichlet(np.ones(_ENDMEMBERS), settings.sides)
    cube = (maps @ spectra + rng.normal(0, 1e-3, (*settings.sides, settings.bands))).astype(np.float32)
    with tempfile.TemporaryDirectory() as made:
        work = Path(made)
        np.savez(work / "s.npz", cube=np.maximum(cube, 0))
        (work / "c.toml").write_text(f"[training]\nepochs = {settings.epochs}\nholdout = 0.5\nendmembers_first = 0.6\n")
        whole, output = work / "whole.npz", work / "killed.npz"
        began = time.perf_counter()
        process = _run(_words(work, whole))
        assert process.wait() == 0
        alone = time.perf_counter() - began
        kept, kills, starting, steps = kept_beside(output), 0, 0, []
        while kills < settings.kills:
            process = _run(_words(work, output))
            if kills % 4 == 3:  # while it starts
                time.sleep(draw.uniform(0, 0.5 * min(alone, 5.0)))
                starting += 1
            else:
                _written(kept, draw.randint(1, 2), process)
                time.sleep(draw.uniform(0, 0.03))
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL, "the training ended before the last kill: use more epochs"
            kills += 1
            steps.append(checkpoint.load(kept)[0]["history"]["loss"].size if kept.exists() else 0)
        assert _run(_words(work, output)).wait() == 0
        left = sorted(path.name for path in work.iterdir())
        row = {"kills": kills, "of these while starting": starting, "steps": settings.epochs}
        row |= {"kept when killed": f"{steps[0]} to {steps[-1]}", "same bits": _same(whole, output)}
        row |= {"files left behind": len(set(left) - {"s.npz", "c.toml", "whole.npz", "killed.npz"})}
    sides = f"{settings.sides[0]} x {settings.sides[1]} x {settings.bands}"
    note = (
        f"A generated scene of {sides}, {_ENDMEMBERS} endmembers, training kept after each ten steps "
        f"(--checkpoint 0), seed {settings.seed}. Same bits: parameters and history of the killed training and of "
        "an undisturbed one. Files left behind: locks, partial files and saved states after the end."
    )
    return results_table.write(
        folder, "resume_fit", [row], "python -m experiments.robustness.resume_fit", note, kind="One run."
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two kills, a small scene")
    parser.add_argument("-o", "--output", type=Path, default=Path("results"))
    asked = parser.parse_args()
    print(main(QUICK if asked.quick else Settings(), asked.output).read_text())
