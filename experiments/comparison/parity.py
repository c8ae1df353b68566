"""Our ports of the competitors compared with the results their authors published on Samson.

    python -m experiments.comparison.parity [--quick] [-o results]

The published maps (stored with DeepTrans-HSU, in the folder DEQUNMIX_DATA) are scored against the reference they were
published with, that of Rasti et al.; our ports are scored in `table_samson.csv`, read from the output folder. A
published result is a single run: `sds` is its distance from our mean in units of our standard deviation over seeds.
Public programs that were run on Samson are compared with our ports too ("program"): CyCU-Net and DeepTrans of their
authors, three seeds each; ADMM-Net as in HySUPP, one seed. Polyhedral unmixing has no published map: its authors'
program (arXiv 2603.29438, with the constants of its notebook) was run with five seeds, ours is run here. FCLS is also
checked against abundances that the authors of the Samson file computed from their own spectra.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax.baselines import polyhedral
from dequnmix_jax.checks import InputError
from dequnmix_jax.datasets import registry
from dequnmix_jax.io import npz
from experiments.shared import results_table


@dataclass(frozen=True)
class Settings:
    """Settings.

    Attributes:
        pairs: our method, the name of its published map, and the published mean spectral angle in radians.
        programs: our method, reference, aRMSE and mean spectral angle of a public program, means over its seeds.
        polyhedral: reference, aRMSE and mean spectral angle of its authors' program, means of five seeds.
        seeds: of polyhedral unmixing here; 0: left out.
    """

    pairs: tuple[tuple[str, str, float], ...] = (
        ("VCA + FCLS", "published_fclsu", 0.0925),
        ("DeepTrans", "published_tra", 0.0510),
        ("CyCU-Net", "published_cycu", 0.1581),
    )
    programs: tuple[tuple[str, str, float, float], ...] = (
        ("DeepTrans", "rasti", 0.0822, 0.0767),
        ("CyCU-Net", "zhu", 0.3107, 0.1165),
        ("CyCU-Net", "rasti", 0.3085, 0.1147),
        ("ADMM-Net", "zhu", 0.3309, 0.2015),
        ("ADMM-Net", "rasti", 0.2019, 0.2275),
    )
    polyhedral: tuple[tuple[str, float, float], ...] = (("zhu", 0.0343, 0.0278), ("rasti", 0.2302, 0.0376))
    seeds: int = 5


def _row(method: str, figure: str, published: float, mean: float, sd: float) -> dict[str, object]:
    return {
        "method": method,
        "figure": figure,
        "published": published,
        "ours": mean,
        "ours_sd": sd,
        "difference": mean - published,
        "sds": abs(mean - published) / sd if sd > 1e-6 else float("nan"),
    }


def _polyhedral(settings: Settings) -> list[dict[str, object]]:
    """Return the rows of polyhedral unmixing."""
    cube = jnp.asarray(registry.load("samson_zhu", download=False)[0].cube)
    estimate = jax.jit(polyhedral.polyhedral().estimate)
    spectra = jnp.ones((3, cube.shape[2]), cube.dtype)  # their number alone is used
    found = [estimate(jax.random.key(seed), cube, spectra) for seed in range(settings.seeds)]
    rows = []
    for who, *published in settings.polyhedral:
        truth = registry.load(f"samson_{who}", download=False)[1]
        A, E = jnp.asarray(truth.abundances), jnp.asarray(truth.endmembers)
        figures = []
        for each in found:
            order = dq.metrics.align(each.endmembers, E)
            maps, spectra = each.abundances[..., order], each.endmembers[order]
            figures.append((float(dq.metrics.armse(maps, A)), float(dq.metrics.msad(spectra, E))))
        mean, sd = np.mean(figures, axis=0), np.std(figures, axis=0, ddof=1)
        for i, figure in enumerate(("armse", "msad")):
            rows.append(_row(f"polyhedral, {who.capitalize()}", figure, published[i], float(mean[i]), float(sd[i])))
            print(results_table.line(rows[-1]), flush=True)
    return rows


def main(settings: Settings, folder: Path) -> Path:
    """Write `parity.csv` and `parity.md`."""
    source = folder / "table_samson.csv"
    if not source.is_file():
        raise InputError(
            f"{source} is not there; expected the table of Samson. Run experiments.comparison.samson first."
        )
    with source.open(encoding="utf-8") as file:
        table = [row for row in csv.DictReader(file) if row["scene"] == "samson"]
    ours = {
        (row["method"], who): row for row in table for who in ("zhu", "rasti") if who.capitalize() in row["reference"]
    }
    maps = npz.load(registry.find("samson_published_maps.npz", download=False))
    truth = registry.load("samson_rasti")[1]
    A = jnp.asarray(truth.abundances)
    rows: list[dict[str, object]] = []
    claims = []
    for method, name, msad in settings.pairs:
        armse, pooled = float(dq.metrics.armse(maps[name], A)), float(dq.metrics.pooled_rmse(maps[name], A))
        claims.append((method, method, "rasti", {"armse": armse, "pooled": pooled, "msad": msad}))
    for method, who, armse, msad in settings.programs:
        claims.append((f"{method}, program, {who.capitalize()}", method, who, {"armse": armse, "msad": msad}))
    for label, method, who, published in claims:
        if (method, who) not in ours:
            continue
        for figure, value in published.items():
            mean, sd = (float(ours[method, who][key] or "nan") for key in (figure, f"{figure}_sd"))
            rows.append(_row(label, figure, value, mean, sd))
            print(results_table.line(rows[-1]), flush=True)
    if settings.seeds:
        rows += _polyhedral(settings)
    scene, authors = registry.load("samson_authors", download=False)
    theirs = authors.initial_abundances
    again = np.asarray(dq.abundances.fcls(scene.cube, authors.initial_endmembers))
    off = float(np.sqrt(np.mean(np.square(again - theirs))))
    note = (
        f"Reference, where a row names none: {truth.reference} Our seeds and settings: `table_samson.md`. FCLS on "
        f"the spectra that came with the Samson file gives its abundances to {off:.2g} RMS, "
        f"{np.abs(again - theirs).max():.2g} at most. For "
        "AE-RED, SNMF-Net and plug-and-play no map or figure on an available scene is published: tests check those "
        "ports against their equations only."
    )
    return results_table.write(
        folder, "parity", rows, "python -m experiments.comparison.parity", note, kind="Ours: mean (sd over seeds)."
    )


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), Settings())
