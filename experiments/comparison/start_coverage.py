"""Coverage of the uncertainty "starts": how often 90 % intervals hold the truth where endmembers were found blind.

    python -m experiments.comparison.start_coverage [--quick] [-o results]

Each scene is unmixed by `dq.run(..., uncertainty="starts", bounds=True)` and the truth is read afterwards, for the
figures alone. `coverage`: share of pixels and materials whose true fraction lies within 1.645 standard deviations,
after the endmembers are matched; `present`: of those where the true fraction is above 0.001; `width`: mean width of the
interval; `expected` and `error`: aRMSE as predicted and as measured; `spread alone`: coverage without the predicted
error. The generated scenes ("generated, FAMILY") have spectra that no training of the operator used ("test"), but it
was trained on their families. The others are looked at once. Fractions are compared in the convention of the result.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax.conventions import factors_to
from dequnmix_jax.datasets.generator.families import FAMILIES
from experiments.shared import results_table, scenes


@dataclass(frozen=True)
class Settings:
    """Families and known scenes, draws of each, seeds of the starts, and the size of generated scenes."""

    families: tuple[str, ...] = FAMILIES
    known: tuple[str, ...] = ("dc1, 30 dB", "misicnet_sim1, 30 dB", "hapke_relab")
    draws: int = 2
    starts: int = 3
    side: int = 40
    bands: int = 60
    count: int = 4
    seed: int = 191


QUICK = Settings(families=("smooth",), known=(), draws=1, starts=1, side=12, bands=20, count=3)


def measured(key: Any, cube: np.ndarray, E: np.ndarray, truth: np.ndarray, settings: Settings) -> dict[str, float]:
    """Return the figures of one scene."""
    result = dq.run(cube, len(E), key, uncertainty="starts", seeds=settings.starts)
    order = np.asarray(dq.metrics.align(result.endmembers, E))
    if result.convention == "scaled":
        truth = np.asarray(dq.metrics.in_unit(truth, factors_to("scaled", E.max(axis=1))))
    error = np.abs(result.abundances[..., order] - truth)
    assert result.abundances_sd is not None
    sd = result.abundances_sd[..., order]
    expected = float(result.summary["uncertainty"]["expected_error"])
    reach = 1.645 * sd + 1e-5
    alone = 1.645 * np.sqrt(np.maximum(sd**2 - expected**2, 0)) + 1e-5
    return {
        "coverage": float((error <= reach).mean()),
        "present": float((error <= reach)[truth > 1e-3].mean()),
        "spread alone": float((error <= alone).mean()),
        "width": float(2 * reach.mean()),
        "expected": expected,
        "error": float(np.sqrt(np.mean(np.square(error), axis=(0, 1))).mean()),
    }


def generated(settings: Settings, family: str) -> list[dict[str, float]]:
    """Return the figures of the draws of a family."""
    shape = dq.datasets.SceneShape(settings.side, settings.side, settings.bands, settings.count)
    each = []
    for number in range(settings.draws):
        key = jax.random.fold_in(jax.random.key(settings.seed), number)
        drawn = dq.datasets.draw(key, family, shape, "test")
        arrays = (np.asarray(drawn.cube), np.asarray(drawn.endmembers), np.asarray(drawn.abundances))
        each.append(measured(key, *arrays, settings))
    return each


def known(settings: Settings, name: str) -> list[dict[str, float]]:
    """Return the figures of the draws of a scene of the tables."""
    each = []
    for seed in range(settings.draws if scenes.drawn(name) else 1):
        loaded = scenes.load(name, seed)
        truth = loaded.references[0][0]
        arrays = (np.asarray(loaded.cube), np.asarray(truth.endmembers), np.asarray(truth.abundances))
        each.append(measured(jax.random.key(seed), *arrays, settings))
    return each


def main(settings: Settings, folder: Path) -> Path:
    """Run all and write `start_coverage.csv` and `start_coverage.md`."""
    rows: list[dict[str, Any]] = []
    for name in (*settings.families, *settings.known):
        of_family = name in settings.families
        each = generated(settings, name) if of_family else known(settings, name)
        row: dict[str, Any] = {"scene": f"generated, {name}" if of_family else name, "draws": len(each)}
        row |= {figure: float(np.mean([found[figure] for found in each])) for figure in each[0]}
        rows.append(row | {"in range": "yes" if 0.85 <= row["coverage"] <= 0.95 else "no"})
        print(results_table.line(rows[-1]), flush=True)
    inside = sum(row["in range"] == "yes" for row in rows)
    above = sum(row["coverage"] > 0.95 for row in rows)
    mean = np.mean([row["coverage"] for row in rows])
    note = (
        f"Rows with a coverage from 0.85 to 0.95: {inside} of {len(rows)}; above it {above}; mean coverage {mean:.2f}, "
        f"by the spread alone {np.mean([row['spread alone'] for row in rows]):.2f}. {settings}"
    )
    return results_table.write(folder, "start_coverage", rows, "python -m experiments.comparison.start_coverage", note)


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
