"""Scenes on disk that are larger than memory, and the command line in a separate process."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from dequnmix_jax.datasets import synthetic
from dequnmix_jax.io.envi import header


@dataclass(frozen=True)
class Size:
    """Size of a scene on disk; `block`: number of rows that are drawn; the others are copies."""

    rows: int
    columns: int
    bands: int
    block: int


COUNT = 4
HOLE = -9999.0


MEASURED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
"""A small process between this one and the measured one: Linux counts the memory of a starting process as that of its
child."""


class Finished(NamedTuple):
    """Seconds, peak resident bytes and JSON output of a process."""

    seconds: float
    resident: int
    printed: dict[str, Any]


def generate(path: Path, size: Size, seed: int = 0) -> None:
    """Write the scene strip by strip: float32 BIP with an ENVI header."""
    spectra = np.asarray(synthetic.spectra(jax.random.key(seed), COUNT, size.bands), np.float32)
    rng = np.random.default_rng(seed)
    coarse = rng.dirichlet(np.full(COUNT, 0.4), (size.block // 16 + 2, size.columns // 16 + 2))
    noise = float(np.sqrt(np.mean(np.square(coarse @ spectra))) * 10 ** (-30 / 20))
    across = np.arange(size.columns) / 16
    with path.open("wb") as file:
        for first in range(0, size.block, 64):
            down = np.arange(first, min(first + 64, size.block)) / 16
            maps = _between(_between(coarse, down, 0), across, 1)
            cube = np.asarray(maps, np.float32) @ spectra
            cube += np.float32(noise) * rng.standard_normal(cube.shape, np.float32)
            cube[:, :3] = HOLE
            cube.tofile(file)
    strip = 4 * size.columns * size.bands * 64
    with path.open("rb") as drawn, path.open("ab") as file:
        missing = 4 * size.columns * size.bands * (size.rows - size.block)
        while missing:
            missing -= file.write(drawn.read(min(strip, missing)))
            file.flush()
    fields = {"samples": size.columns, "bands": size.bands, "header offset": 0, "data type": 4}
    _header(path, fields | {"interleave": "bip", "byte order": 0, "data ignore value": HOLE}, size.rows)


def _between(values: np.ndarray, places: np.ndarray, axis: int) -> np.ndarray:
    """Interpolate linearly along an axis."""
    low = places.astype(int)
    share = (places - low).reshape([-1 if i == axis else 1 for i in range(3)])
    return values.take(low, axis) * (1 - share) + values.take(low + 1, axis) * share


def _header(path: Path, fields: dict[str, Any], rows: int) -> None:
    path.with_suffix(".hdr").write_text(header.format_header(fields | {"lines": rows}))


def piece(scene: Path, rows: int, size: Size, columns: int | None = None) -> Path:
    """Write the first rows of the scene to a separate file."""
    target = scene.with_name(f"piece_{rows}.img")
    row = 4 * size.columns * size.bands
    width = size.columns if columns is None else columns
    with scene.open("rb") as file, target.open("wb") as out:
        for _ in range(rows):
            out.write(file.read(row)[: 4 * width * size.bands])
    fields: dict[str, Any] = {"samples": width, "bands": size.bands, "header offset": 0, "data type": 4}
    _header(target, fields | {"interleave": "bip", "byte order": 0, "data ignore value": HOLE}, rows)
    return target


def run(*words: Any) -> Finished:
    """Run the command line in a separate process."""
    command = [sys.executable, "-W", "ignore", "-m", "dequnmix_jax", *map(str, words), "--json"]
    began = time.perf_counter()
    answer = subprocess.run(
        [sys.executable, "-c", MEASURED, *command], stdout=subprocess.PIPE, text=True, check=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    seconds = time.perf_counter() - began
    printed, _, resident = answer.stdout.rstrip().rpartition("\n")
    # Kilobytes on Linux, bytes on macOS.
    return Finished(seconds, int(resident) * (1 if sys.platform == "darwin" else 1024), json.loads(printed))
