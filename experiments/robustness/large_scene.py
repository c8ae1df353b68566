"""A scene larger than memory, unmixed by the command line: resident memory, throughput, and the error of the tiles.

    python -m experiments.robustness.large_scene [--quick] [-o results] [--folder /tmp]

A scene of 20,000 x 500 pixels and 285 bands (float32 BIP, 11.4 GB) is written strip by strip into a temporary folder:
linear mixtures of four spectra with smooth abundances, noise of 30 dB and a masked margin; 2,000 rows are drawn and
then repeated. A model is trained on a crop of it by `dequnmix fit`. Then `dequnmix unmix` runs in separate processes:
on the whole scene in tiles, and on pieces that fit into memory, in tiles and whole. `resident` is the peak resident
memory of the process (Python, JAX, its compiler and everything else). Throughput is that between two pieces, (pixels of
the larger - of the smaller) / (seconds of the larger - of the smaller): startup and compilation cancel. The folder is
removed at the end.
"""

import argparse
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import dequnmix_jax as dq
from experiments.shared import results_table
from experiments.shared.large_scenes import COUNT, Finished, Size, generate, piece, run


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment."""

    rows: int = 20_000
    columns: int = 500
    bands: int = 285
    pieces: tuple[int, int] = (500, 1500)
    block: int = 2_000
    crop: int = 96
    epochs: int = 40
    tile: int | None = None


QUICK = Settings(rows=96, columns=40, bands=24, pieces=(32, 64), block=50, crop=24, epochs=2, tile=32)


def main(settings: Settings, folder: Path, where: Path | None = None) -> Path:
    """Generate, train, unmix and write the table."""
    with tempfile.TemporaryDirectory(prefix="large_scene_", dir=where) as name:
        place = Path(name)
        scene, model = place / "scene.img", place / "model.npz"
        size = Size(settings.rows, settings.columns, settings.bands, settings.block)
        generate(scene, size)
        crop = piece(scene, settings.crop, size, settings.crop)
        run("fit", crop, "--endmembers", COUNT, "--epochs", settings.epochs, "--start", "vca", "-o", model)
        crop.unlink()
        stored = scene.stat().st_size
        asked = () if settings.tile is None else ("--tile", settings.tile)
        done = run("unmix", scene, model, "--no-plots", *asked, "-o", place / "all")
        shutil.rmtree(place / "all")
        tiles, config = done.printed["tiles"], done.printed["configuration"]["model"]
        rows = [_row("tiles", settings.rows, settings, done)]
        print(results_table.line(rows[0]), flush=True)
        error = 0.0
        for lines in settings.pieces:
            path = piece(scene, lines, size)
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
        f"The scene has {settings.rows} x {settings.columns} x {settings.bands} values, {stored / 1e9:.1f} GB on disk. "
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
        "steps": done.printed["trace"]["steps"],
        "converged": done.printed["trace"]["converged"],
        "Mpixels": rows * settings.columns / 1e6,
    }


def _rate(rows: list[dict[str, Any]]) -> float:
    """Return megapixels a second between the smaller and the larger piece."""
    low, high = sorted(rows, key=lambda row: row["rows"])
    return float((high["Mpixels"] - low["Mpixels"]) / (high["seconds"] - low["seconds"]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small run to check that everything works")
    parser.add_argument("-o", "--output", type=Path, default=Path("results"))
    parser.add_argument("--folder", type=Path, help="folder with 15 GB of free space")
    asked = parser.parse_args()
    print(main(QUICK if asked.quick else Settings(), asked.output, asked.folder))
