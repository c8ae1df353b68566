"""Coverage: how often the 90 % interval of a fraction holds the true one, on scenes whose fractions are known.

    python -m experiments.comparison.coverage [--quick] [-o results]

Scenes are unmixed by their true mean spectra, so that the errors are those of noise, of spectra that vary and of mixing
that the method does not have; how sure endmembers are that were found blind is another matter. The method is fcls where
the truth has one brightness, and nnls where each pixel has its own (families topography, shade, compound). `coverage`:
share of pixels and materials whose true fraction lies in the interval; `present`: of those where the true fraction is
above 0.001; `width`: mean width of the interval. Bounds are those of `unmix_with(bounds=True)` by the noise that the
column names: bands, residual, scene. The goal is 0.85 to 0.95; `scene in range` says which rows reach it.

The generated scenes ("generated, FAMILY") are three of each family, with spectra drawn at random. The others are looked
at once. HySU has no fractions: there coverage is of the areas of its targets of at least one pixel, between the areas
of the lower and of the upper bounds, as if the errors of the pixels of a target were equal; width is relative.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax.datasets import hysu
from dequnmix_jax.datasets.generator.families import FAMILIES, FREE_BRIGHTNESS
from experiments.shared import results_table, scenes

NOISES = ("bands", "residual", "scene")


@dataclass(frozen=True)
class Settings:
    """Families and known scenes, draws of each, and the size of generated ones."""

    families: tuple[str, ...] = FAMILIES
    known: tuple[str, ...] = (
        "dc1, 20 dB", "dc1, 30 dB", "misicnet_sim1, 20 dB", "misicnet_sim1, 30 dB", "hapke_relab", "hysu",
    )  # fmt: skip
    draws: int = 3
    side: int = 40
    bands: int = 60
    count: int = 4
    seed: int = 190


QUICK = Settings(families=("smooth", "shapes"), known=(), draws=1, side=12, bands=20, count=3)


def measured(cube: np.ndarray, E: np.ndarray, truth: np.ndarray, method: str, noise: str) -> dict[str, float]:
    """Return coverage, that where the material is present, and the mean width of the intervals."""
    result = dq.unmix_with(cube, E, method=method, uncertainty=noise, bounds=True)
    low, high = result.abundances_p05, result.abundances_p95
    assert low is not None and high is not None
    inside = (truth >= low - 1e-5) & (truth <= high + 1e-5)
    return {
        "coverage": float(inside.mean()),
        "present": float(inside[truth > 1e-3].mean()),
        "width": float((high - low).mean()),
        "error": float(np.sqrt(np.mean(np.square(result.abundances - truth)))),
    }


def row_of(name: str, method: str, each: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Return the row of a scene: means over its draws."""
    row: dict[str, Any] = {"scene": name, "method": method, "draws": len(each)}
    row["aRMSE"] = float(np.mean([found[NOISES[0]]["error"] for found in each]))
    for noise in NOISES:
        for figure in ("coverage", "present", "width"):
            row[f"{noise}: {figure}"] = float(np.mean([found[noise][figure] for found in each]))
    row["scene in range"] = "yes" if 0.85 <= row["scene: coverage"] <= 0.95 else "no"
    return row


def generated(settings: Settings, family: str) -> dict[str, Any]:
    """Return the row of a family."""
    shape = dq.datasets.SceneShape(settings.side, settings.side, settings.bands, settings.count)
    method, each = "nnls" if family in FREE_BRIGHTNESS else "fcls", []
    for number in range(settings.draws):
        key = jax.random.fold_in(jax.random.key(settings.seed), number)
        drawn = dq.datasets.draw(key, family, shape, "random")
        arrays = (np.asarray(drawn.cube), np.asarray(drawn.endmembers), np.asarray(drawn.abundances))
        each.append({noise: measured(*arrays, method, noise) for noise in NOISES})
    return row_of(f"generated, {family}", method, each)


def known(settings: Settings, name: str) -> dict[str, Any]:
    """Return the row of a scene of the tables."""
    draws = settings.draws if scenes.drawn(name) else 1
    each = []
    for seed in range(draws):
        loaded = scenes.load(name, seed)
        truth = loaded.references[0][0]
        arrays = (np.asarray(loaded.cube), np.asarray(truth.endmembers), np.asarray(truth.abundances))
        each.append({noise: measured(*arrays, "fcls", noise) for noise in NOISES})
    return row_of(name, "fcls", each)


def areas() -> dict[str, Any]:
    """Return the row of HySU: the share of targets whose true area lies in the interval of their area."""
    loaded = scenes.load("hysu", 0)
    truth = loaded.references[0][0]
    targets = hysu.hysu_targets()
    cube, E = np.asarray(loaded.cube), np.asarray(truth.endmembers)
    row: dict[str, Any] = {"scene": "hysu, areas of targets", "method": "fcls", "draws": 1, "aRMSE": float("nan")}
    for noise in NOISES:
        result = dq.unmix_with(cube, E, uncertainty=noise, bounds=True)
        low, high = (hysu.areas_found(part, truth.names) for part in (result.abundances_p05, result.abundances_p95))
        seen = np.broadcast_to(targets.area_m2[None] >= targets.pixel_size_m**2, low.shape) & np.isfinite(low)
        inside = (low <= targets.area_m2[None]) & (targets.area_m2[None] <= high)
        width = (high - low) / targets.area_m2[None]
        row |= {f"{noise}: coverage": float(inside[seen].mean()), f"{noise}: present": float(inside[seen].mean())}
        row[f"{noise}: width"] = float(width[seen].mean())
    row["scene in range"] = "yes" if 0.85 <= row["scene: coverage"] <= 0.95 else "no"
    return row


def main(settings: Settings, folder: Path) -> Path:
    """Run all and write `coverage.csv` and `coverage.md`."""
    rows = []
    for family in settings.families:
        rows.append(generated(settings, family))
        print(results_table.line(rows[-1]), flush=True)
    for name in settings.known:
        rows.append(areas() if name == "hysu" else known(settings, name))
        print(results_table.line(rows[-1]), flush=True)
    reached = {noise: sum(0.85 <= row[f"{noise}: coverage"] <= 0.95 for row in rows) for noise in NOISES}
    least = {noise: min(row[f"{noise}: coverage"] for row in rows) for noise in NOISES}
    note = (
        "Rows with a coverage from 0.85 to 0.95: "
        + ", ".join(f"{noise} {count} of {len(rows)} (least {least[noise]:.2f})" for noise, count in reached.items())
        + f". Where a row of scene is out of the range it is named by `scene in range`. {settings}"
    )
    return results_table.write(folder, "coverage", rows, "python -m experiments.comparison.coverage", note)


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
