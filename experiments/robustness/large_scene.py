"""A scene larger than memory, unmixed by the command line: resident memory, throughput, and the error of the tiles.

    python -m experiments.robustness.large_scene [--quick] [-o results] [--folder /tmp]

A scene of 20,000 x 500 pixels and 285 bands (float32 BIP, 11.4 GB) is written strip by strip into a temporary folder:
linear mixtures of four spectra, whose abundances vary smoothly, with noise of 30 dB and a masked margin, of which 2,000
rows are drawn and then repeated. A model is
trained on a crop of it by `dequnmix fit`. Then `dequnmix unmix` runs in processes of its own: on the whole scene in
tiles, and on pieces that fit into memory, in tiles and whole. `resident` is the greatest resident memory of the process
(Python, JAX, its compiler and all else). Throughput is that between two pieces, (pixels of the larger - of the
smaller) / (seconds of the larger - of the smaller): starting and compiling cancel. The folder is removed at the end.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax.datasets import synthetic
from dequnmix_jax.io.envi import header
from experiments.shared import results_table


@dataclass(frozen=True)
class Settings:
    """What is run."""

    rows: int = 20_000
    columns: int = 500
    bands: int = 285
    pieces: tuple[int, int] = (500, 1500)
    block: int = 2_000
    crop: int = 96
    epochs: int = 40
    tile: int | None = None


QUICK = Settings(rows=96, columns=40, bands=24, pieces=(32, 64), block=50, crop=24, epochs=2, tile=32)

COUNT = 4
HOLE = -9999.0


MEASURED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
"""A small process between this one and the one that is measured: Linux counts the memory of a process that starts
another as that of the other."""


class Finished(NamedTuple):
    """How a process went."""

    seconds: float
    resident: int
    told: dict[str, Any]


def generate(path: Path, settings: Settings, seed: int = 0) -> None:
    """Write the scene strip by strip: float32 BIP with an ENVI header."""
    spectra = np.asarray(synthetic.spectra(jax.random.key(seed), COUNT, settings.bands), np.float32)
    rng = np.random.default_rng(seed)
    coarse = rng.dirichlet(np.full(COUNT, 0.4), (settings.block // 16 + 2, settings.columns // 16 + 2))
    noise = float(np.sqrt(np.mean(np.square(coarse @ spectra))) * 10 ** (-30 / 20))
    across = np.arange(settings.columns) / 16
    with path.open("wb") as file:
        for first in range(0, settings.block, 64):
            down = np.arange(first, min(first + 64, settings.block)) / 16
            maps = _between(_between(coarse, down, 0), across, 1)
            cube = np.asarray(maps, np.float32) @ spectra
            cube += np.float32(noise) * rng.standard_normal(cube.shape, np.float32)
            cube[:, :3] = HOLE
            cube.tofile(file)
    strip = 4 * settings.columns * settings.bands * 64
    with path.open("rb") as drawn, path.open("ab") as file:
        missing = 4 * settings.columns * settings.bands * (settings.rows - settings.block)
        while missing:
            missing -= file.write(drawn.read(min(strip, missing)))
            file.flush()
    fields = {"samples": settings.columns, "bands": settings.bands, "header offset": 0, "data type": 4}
    _header(path, fields | {"interleave": "bip", "byte order": 0, "data ignore value": HOLE}, settings.rows)


def _between(values: np.ndarray, places: np.ndarray, axis: int) -> np.ndarray:
    """Interpolate linearly along an axis."""
    low = places.astype(int)
    share = (places - low).reshape([-1 if i == axis else 1 for i in range(3)])
    return values.take(low, axis) * (1 - share) + values.take(low + 1, axis) * share


def _header(path: Path, fields: dict[str, Any], rows: int) -> None:
    path.with_suffix(".hdr").write_text(header.format_header(fields | {"lines": rows}))


def piece(scene: Path, rows: int, settings: Settings, columns: int | None = None) -> Path:
    """Write the first rows of the scene to a file of their own."""
    target = scene.with_name(f"piece_{rows}.img")
    size = 4 * settings.columns * settings.bands
    width = settings.columns if columns is None else columns
    with scene.open("rb") as file, target.open("wb") as out:
        for _ in range(rows):
            out.write(file.read(size)[: 4 * width * settings.bands])
    fields: dict[str, Any] = {"samples": width, "bands": settings.bands, "header offset": 0, "data type": 4}
    _header(target, fields | {"interleave": "bip", "byte order": 0, "data ignore value": HOLE}, rows)
    return target


def run(*words: Any) -> Finished:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "dequnmix_jax", *map(str, words), "--json"]
    began = time.perf_counter()
    answer = subprocess.run(
        [sys.executable, "-c", MEASURED, *command], stdout=subprocess.PIPE, text=True, check=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    seconds = time.perf_counter() - began
    told, _, resident = answer.stdout.rstrip().rpartition("\n")
    # Kilobytes on Linux, bytes on macOS.
    return Finished(seconds, int(resident) * (1 if sys.platform == "darwin" else 1024), json.loads(told))


def main(settings: Settings, folder: Path, where: Path | None = None) -> Path:
    """Generate, train, unmix and write the table."""
    with tempfile.TemporaryDirectory(prefix="large_scene_", dir=where) as name:
        place = Path(name)
        scene, model = place / "scene.img", place / "model.npz"
        generate(scene, settings)
        crop = piece(scene, settings.crop, settings, settings.crop)
        run("fit", crop, "--endmembers", COUNT, "--epochs", settings.epochs, "--start", "vca", "-o", model)
        crop.unlink()
        size = scene.stat().st_size
        asked = () if settings.tile is None else ("--tile", settings.tile)
        done = run("unmix", scene, model, "--no-plots", *asked, "-o", place / "all")
        shutil.rmtree(place / "all")
        tiles, config = done.told["tiles"], done.told["configuration"]["model"]
        rows = [_row("tiles", settings.rows, settings, done)]
        print(results_table.line(rows[0]), flush=True)
        error = 0.0
        for lines in settings.pieces:
            path = piece(scene, lines, settings)
            for how, more in (("whole", ()), ("tiles", ("--halo", tiles["halo"], *asked))):
                rows.append(
                    _row(how, lines, settings, run("unmix", path, model, "--no-plots", *more, "-o", place / how))
                )
                print(results_table.line(rows[-1]), flush=True)
            maps = [dq.read(place / how / "abundances.img").cube for how in ("whole", "tiles")]
            error = max(error, float(np.abs(maps[0] - maps[1]).max()))
            for how in ("whole", "tiles"):
                shutil.rmtree(place / how)
            path.unlink()
    rates = {how: _rate([row for row in rows[1:] if row["how"] == how]) for how in ("whole", "tiles")}
    ends = settings.pieces
    note = (
        f"The scene has {settings.rows} x {settings.columns} x {settings.bands} values, {size / 1e9:.1f} GB on disk. "
        f"In {tiles['count']} tiles of {tiles['rows']} x {tiles['columns']} pixels with a halo of {tiles['halo']} it "
        f"was unmixed in {done.seconds:.0f} s within {done.resident / 1e9:.2f} GB of resident memory. Between pieces "
        f"of {ends[0]} and {ends[1]} rows the command unmixes {rates['tiles']:.3g} megapixels a second in tiles and "
        f"{rates['whole']:.3g} whole: {100 * rates['tiles'] / rates['whole']:.0f} %. Abundances of the pieces differ "
        f"by {error:.1e} at most, at the solver tolerance of {config['forward']['tolerance']:g}. {settings}"
    )
    command = "python -m experiments.robustness.large_scene"
    return results_table.write(folder, "large_scene", rows, command, note, kind="One run, one seed.")


def _row(how: str, rows: int, settings: Settings, done: Finished) -> dict[str, Any]:
    return {
        "how": how,
        "rows": rows,
        "seconds": done.seconds,
        "resident GB": done.resident / 1e9,
        "steps": done.told["trace"]["steps"],
        "converged": done.told["trace"]["converged"],
        "Mpixels": rows * settings.columns / 1e6,
    }


def _rate(rows: list[dict[str, Any]]) -> float:
    """Return megapixels a second between the smaller and the larger piece."""
    low, high = sorted(rows, key=lambda row: row["rows"])
    return float((high["Mpixels"] - low["Mpixels"]) / (high["seconds"] - low["seconds"]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small run that only shows that all works")
    parser.add_argument("-o", "--output", type=Path, default=Path("results"))
    parser.add_argument("--folder", type=Path, help="where there is room for 15 GB, for a while")
    asked = parser.parse_args()
    print(main(QUICK if asked.quick else Settings(), asked.output, asked.folder))
