"""Our ports of the competitors compared with the results their authors published on Samson.

    python -m experiments.comparison.parity [--quick] [-o results]

The published maps (stored with DeepTrans-HSU, in the folder DEQUNMIX_DATA) are scored against the reference they were
published with, that of Rasti et al.; our ports are scored in `table_samson.csv`, read from the output folder. A
published result is a single run: `sds` is its distance from our mean in units of our standard deviation over seeds.
FCLS is also checked against abundances that the authors of the Samson file computed from their own spectra.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax.checks import InputError
from dequnmix_jax.datasets import registry
from dequnmix_jax.io import npz
from experiments.shared import results_table


@dataclass(frozen=True)
class Settings:
    """Our method, the name of its published map, and the published mean spectral angle in radians."""

    pairs: tuple[tuple[str, str, float], ...] = (
        ("VCA + FCLS", "published_fclsu", 0.0925),
        ("DeepTrans", "published_tra", 0.0510),
    )


def _samson(row: dict[str, str]) -> bool:
    return row["scene"] == "samson" and "Rasti" in row["reference"]


def main(settings: Settings, folder: Path) -> Path:
    """Write `parity.csv` and `parity.md`."""
    source = folder / "table_samson.csv"
    if not source.is_file():
        raise InputError(
            f"{source} is not there; expected the table of Samson. Run experiments.comparison.samson first."
        )
    with source.open(encoding="utf-8") as file:
        ours = {row["method"]: row for row in csv.DictReader(file) if _samson(row)}
    maps = npz.load(registry.find("samson_published_maps.npz", download=False))
    truth = registry.load("samson_rasti")[1]
    A = jnp.asarray(truth.abundances)
    rows: list[dict[str, object]] = []
    for method, name, msad in settings.pairs:
        if method not in ours:
            continue
        published = {
            "armse": float(dq.metrics.armse(maps[name], A)),
            "pooled": float(dq.metrics.pooled_rmse(maps[name], A)),
            "msad": msad,
        }
        for figure, value in published.items():
            mean, sd = (float(ours[method][key] or "nan") for key in (figure, f"{figure}_sd"))
            rows.append(
                {
                    "method": method,
                    "figure": figure,
                    "published": value,
                    "ours": mean,
                    "ours_sd": sd,
                    "difference": mean - value,
                    "sds": abs(mean - value) / sd if sd > 1e-6 else float("nan"),
                }
            )
            print(results_table.line(rows[-1]), flush=True)
    scene, authors = registry.load("samson_authors", download=False)
    theirs = authors.initial_abundances
    again = np.asarray(dq.abundances.fcls(scene.cube, authors.initial_endmembers))
    off = float(np.sqrt(np.mean(np.square(again - theirs))))
    note = (
        f"Reference: {truth.reference} Our seeds and settings: `table_samson.md`. FCLS on the spectra that came with "
        f"the Samson file gives its abundances to {off:.2g} RMS, {np.abs(again - theirs).max():.2g} at most. For "
        "AE-RED, SNMF-Net and plug-and-play no map or figure on an available scene is published: tests check those "
        "ports against their equations only."
    )
    return results_table.write(
        folder, "parity", rows, "python -m experiments.comparison.parity", note, kind="Ours: mean (sd over seeds)."
    )


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), Settings())
