"""The table of a batch, batch.csv, and beside it what each output was made with."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dequnmix_jax.checks import InputError

TABLE = "batch.csv"
"""Name of the table of a batch, in its folder."""

DONE, KEPT, FAILED = "done", "kept", "failed"

_MADE = ".batch.json"
"""Name of the file that says with which options each output was made."""


class Row(NamedTuple):
    """What became of a scene: a row of batch.csv.

    Attributes:
        scene: its path or URL.
        output: name of its output in the folder of the batch.
        seconds: wall time of its task, reading and writing included; of a kept one those of the run that did it, NaN
            where that is not known.
        state: "done"; "kept", finished by an earlier run; or "failed".
        sentence: why it failed; empty otherwise.
    """

    scene: str
    output: str
    seconds: float
    state: str
    sentence: str = ""


def _cells(row: Row) -> list[str]:
    return [row.scene, row.output, "" if np.isnan(row.seconds) else f"{row.seconds:.2f}", row.state, row.sentence]


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write the table of these rows, at once."""
    part = path.with_name(f".{path.name}.part")
    with part.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([list(Row._fields), *map(_cells, rows)])
    part.replace(path)


def append_row(path: Path, row: Row) -> None:
    """Add a row to the table."""
    with path.open("a", newline="", encoding="utf-8") as file:
        csv.writer(file).writerow(_cells(row))


def read_rows(path: Path) -> list[Row]:
    """Return the rows of an earlier run; lines that are not rows are left out."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        head = next(csv.reader(file), [])
        if head and head != list(Row._fields):
            raise InputError(
                f"{path} is another table ({', '.join(head)[:60]}); expected none, or that of an earlier run of this "
                "command. It is not replaced; name another folder."
            )
        cells = [line for line in csv.reader(file) if len(line) == len(Row._fields)]
    rows = []
    for scene, output, seconds, state, sentence in cells:
        if state in (DONE, KEPT, FAILED) and output and Path(output).name == output:
            try:
                rows.append(Row(scene, output, float(seconds or "nan"), state, sentence))
            except ValueError:
                continue
    return rows


def read_made(folder: Path) -> dict[str, str]:
    """Return what each output of a folder was made with, by its name."""
    try:
        held = json.loads((folder / _MADE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(what) for name, what in held.items()} if isinstance(held, dict) else {}


def write_made(folder: Path, made: Mapping[str, str]) -> None:
    """Write what each output of a folder was made with, at once."""
    part = folder / f"{_MADE}.part"
    part.write_text(json.dumps(made), encoding="utf-8")
    part.replace(folder / _MADE)
