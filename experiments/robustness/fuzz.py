"""Hostile files: how reading them ends.

    python -m experiments.robustness.fuzz [--quick] [--cases 1500] [--seed 0] [-o results]

Small files of every kind that the package reads are damaged by `mutations`, from a seed, and read by the functions of
the command line in separate processes, whose address space may grow by 2 GiB. A case must end with a scene or an
InputError; other exceptions, a warning, more than five seconds of the processor, the end of the process, and unpickled
objects are faults. `slowest` is in seconds of the processor; `memory` is the greatest growth of resident memory while a
file was read, in MB.
"""

import argparse
import contextlib
import json
import os
import queue
import resource
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.robustness.hostile_files import KINDS, outcome
from experiments.robustness.mutations import Trap
from experiments.shared import results_table

_ADDRESS_SPACE = 2 * 2**30
_SECONDS = 5.0


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment: number of cases of each kind, and of cases per process (`piece`)."""

    cases: int = 1500
    piece: int = 250
    seed: int = 0
    kinds: tuple[str, ...] = tuple(KINDS)


QUICK = Settings(cases=30, piece=30)


def _status(name: str) -> int:
    """Return an entry of /proc/self/status in bytes, 0 if there is none."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    return 0


def _read_one(name: str, seed: int, index: int) -> dict[str, Any]:
    draw = np.random.default_rng([seed, list(KINDS).index(name), index])
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        Trap.folder = str(folder / "unpickled")
        try:
            path = KINDS[name].make(draw, folder)
        except Exception as error:
            return {"index": index, "end": "not made", "detail": repr(error)[:200], "seconds": 0.0, "memory": 0}
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        before, began, detail = _status("VmRSS"), time.process_time(), ""
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                end = outcome(KINDS[name], path)
            except BaseException as error:
                end = type(error).__name__
                place = traceback.extract_tb(error.__traceback__)
                own = [frame for frame in place if "dequnmix_jax" in frame.filename] or place
                detail = f"{Path(own[-1].filename).name}:{own[-1].lineno} {str(error)[:200]}"
        seconds, memory = time.process_time() - began, max(0, _status("VmHWM") - before)
        if warned:
            end, detail = (
                "warning",
                f"{warned[0].category.__name__} {warned[0].filename}:{warned[0].lineno} {warned[0].message}",
            )
        if seconds > _SECONDS:
            end = "slow"
        if Path(Trap.folder).exists() or Path("unpickled").exists():
            end = "unpickled"
    return {"index": index, "end": end, "detail": detail, "seconds": seconds, "memory": memory}


def work(name: str, seed: int, first: int, last: int) -> None:
    """Read cases of a kind in this process and print how each ended, one line each, as JSON."""
    _read_one(name, seed, 10**6)  # imports and compilation are not part of a case
    limit = _status("VmSize") + _ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for index in range(first, last):
        print(json.dumps(_read_one(name, seed, index)), flush=True)


def _piece(name: str, settings: Settings, first: int) -> list[dict[str, Any]]:
    """Return how the cases of a piece ended; one that ends its process or hangs is recorded and skipped."""
    ended: list[dict[str, Any]] = []
    last = min(first + settings.piece, settings.cases)
    while first < last:
        words = [
            sys.executable,
            "-m",
            "experiments.robustness.fuzz",
            "--work",
            name,
            str(settings.seed),
            str(first),
            str(last),
        ]
        with tempfile.TemporaryFile("w+") as said:
            process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=said, text=True)
            lines: queue.Queue[str] = queue.Queue()
            reader = threading.Thread(target=_follow, args=(process.stdout, lines))
            reader.start()
            patience, hung = 300.0, False  # imports, and the first case
            while True:
                try:
                    line = lines.get(timeout=patience)
                except queue.Empty:
                    hung = True
                    break
                if not line:
                    break
                if line.startswith('{"index"'):  # libraries may print, too
                    ended.append(json.loads(line))
                    first, patience = ended[-1]["index"] + 1, 12 * _SECONDS  # writing a bomb takes seconds too
            process.kill()
            process.wait()
            reader.join()
            if first < last:
                said.seek(0)
                detail = (said.read().strip().splitlines() or [""])[-1]
                end = "hung" if hung else f"process ended ({process.returncode})"
                ended.append({"index": first, "end": end, "detail": detail[:200], "seconds": 0.0, "memory": 0})
                first += 1
    return ended


def _follow(stream: Any, lines: "queue.Queue[str]") -> None:
    with stream:
        for line in stream:
            lines.put(line)
    lines.put("")


def main(settings: Settings, folder: Path) -> Path:
    """Run all kinds and write the table; faults are printed with what is needed to reproduce them."""
    rows = []
    began = time.perf_counter()
    pieces = [(name, first) for name in settings.kinds for first in range(0, settings.cases, settings.piece)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        ends = list(pool.map(lambda piece: _piece(piece[0], settings, piece[1]), pieces))
    for name in settings.kinds:
        cases = [case for piece, ended in zip(pieces, ends, strict=True) if piece[0] == name for case in ended]
        counted = Counter(case["end"] for case in cases)
        faults = [case for case in cases if case["end"] not in ("read", "refused")]
        for case in faults[:40]:
            print(f"{name!r} {settings.seed} {case['index']}: {case['end']}: {case['detail']}")
        row = {"kind of file": name, "cases": len(cases), "read": counted["read"], "refused": counted["refused"]}
        row |= {"faults": len(faults), "slowest": max(case["seconds"] for case in cases)}
        row["memory"] = max(case["memory"] for case in cases) / 2**20
        rows.append(row)
        print(results_table.line(row))
    total = {
        "kind of file": "all",
        **{key: sum(row[key] for row in rows) for key in ("cases", "read", "refused", "faults")},
    }
    total |= {key: max(row[key] for row in rows) for key in ("slowest", "memory")}
    note = (
        "Read: a scene, a library, a model or choices came of it. Refused: an InputError, one sentence. Faults: any "
        "other exception, a warning, more than five seconds of the processor, the end of the process, an unpickled "
        "object. Slowest in seconds of the processor; memory: the greatest growth of resident memory while a file was "
        "read, MB. One case again: "
        f"`python -m experiments.robustness.fuzz --work KIND SEED INDEX INDEX+1`. Seed {settings.seed}; "
        f"{time.perf_counter() - began:.0f} s in {os.cpu_count()} processes."
    )
    words = "python -m experiments.robustness.fuzz"
    return results_table.write(folder, "fuzz", [*rows, total], words, note, kind="Counts of cases.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="thirty cases of each kind")
    parser.add_argument("--cases", type=int, default=Settings.cases, help="of each kind (1500)")
    parser.add_argument("--kind", action="append", choices=tuple(KINDS), help="this kind alone; repeatable")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, default=Path("results"))
    parser.add_argument("--work", nargs=4, metavar=("KIND", "SEED", "FIRST", "LAST"), help="read cases in this process")
    asked = parser.parse_args()
    if asked.work:
        work(asked.work[0], *(int(number) for number in asked.work[1:]))
    elif asked.quick:
        print(main(QUICK, asked.output))
    else:
        chosen = Settings(cases=asked.cases, seed=asked.seed, kinds=tuple(asked.kind or KINDS))
        print(main(chosen, asked.output))
