"""How wide the generated scenes are, in statistics of the cube alone: no truth and no number of endmembers enters.

    python -m experiments.operator.statistics [--quick] [-o results]

The generator is frozen by these, and any scene can be placed among them without its reference. Of each cube:

    outside 1, 3, 10    dB, energy of all over the energy outside the first 1, 3, 10 principal directions (not centred)
    brightness          standard deviation of the logarithm of the pixels' norms
    lag 1, lag 4        correlation of the first three centred principal components with themselves 1 and 4 pixels on
    band noise          standard deviation over bands of the log standard deviation outside ten directions
    noise neighbours    correlation of neighbouring bands outside ten directions
    stripes             share of the variance outside ten directions that is constant along a column
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dequnmix_jax import datasets
from dequnmix_jax.datasets.generator.materials import SOURCES
from experiments.shared import results_table

QUANTILES = {"5 %": 0.05, "median": 0.5, "95 %": 0.95}


@dataclass(frozen=True)
class Settings:
    """Families, sizes of the scenes, and scenes of each family, size and source of spectra."""

    families: tuple[str, ...] = datasets.FAMILIES
    sizes: tuple[datasets.SceneShape, ...] = (datasets.SceneShape(48, 48, 96, 5), datasets.SceneShape(40, 48, 160, 3))
    draws: int = 6
    seed: int = 100


QUICK = Settings(families=("smooth", "striped"), sizes=(datasets.SceneShape(20, 24, 40, 3),), draws=1)


def statistics(cube: np.ndarray) -> dict[str, float]:
    """Return the statistics of a cube (H, W, B) of more than ten bands."""
    rows, columns, bands = cube.shape
    flat = cube.reshape(-1, bands).astype(np.float64)
    values, directions = np.linalg.eigh(flat.T @ flat / len(flat))
    values = np.maximum(values[::-1], 0)
    found = {f"outside {m}": 10 * np.log10(values.sum() / max(values[m:].sum(), 1e-12)) for m in (1, 3, 10)}
    found["brightness"] = float(np.std(np.log(np.maximum(np.linalg.norm(flat, axis=1), 1e-6))))
    centred = flat - flat.mean(0)
    scores = (centred @ np.linalg.eigh(centred.T @ centred)[1][:, -3:]).reshape(rows, columns, 3)
    power = np.mean(scores**2, axis=(0, 1))
    for lag in (1, 4):
        products = (
            np.mean(scores[:, lag:] * scores[:, :-lag], axis=(0, 1)),
            np.mean(scores[lag:] * scores[:-lag], axis=(0, 1)),
        )
        found[f"lag {lag}"] = float(np.mean(sum(products) / (2 * power)))
    inside = directions[:, -10:]
    rest = (flat - (flat @ inside) @ inside.T).reshape(cube.shape)
    level = np.maximum(rest.std(axis=(0, 1)), 1e-12)
    found["band noise"] = float(np.std(np.log(level)))
    scaled = rest / level
    found["noise neighbours"] = float(np.mean(scaled[..., 1:] * scaled[..., :-1]))
    found["stripes"] = float(np.mean(rest.mean(0) ** 2) / np.mean(rest**2))
    return found


def scenes(settings: Settings) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the families and the cubes of their scenes, each of its own key."""
    for family in settings.families:
        cases = product(settings.sizes, SOURCES, range(settings.draws))
        for number, (size, source, _) in enumerate(cases):
            key = jax.random.fold_in(jax.random.key(settings.seed), number)
            yield family, np.asarray(datasets.draw(key, family, size, source).cube)


def main(settings: Settings, folder: Path) -> Path:
    """Write `generator_statistics.csv` and `generator_statistics.md`."""
    found: dict[str, list[dict[str, float]]] = {}
    for family, cube in scenes(settings):
        found.setdefault(family, []).append(statistics(cube))
    found["all families"] = [each for some in found.values() for each in some]
    rows: list[dict[str, Any]] = []
    for family, some in found.items():
        for quantile, level in QUANTILES.items():
            row: dict[str, Any] = {"family": family, "scenes": len(some), "quantile": quantile}
            rows.append(row | {name: float(np.quantile([one[name] for one in some], level)) for name in some[0]})
            print(results_table.line(rows[-1]), flush=True)
    note = (
        "What each column is: `experiments/operator/statistics.py`. Generator "
        f"{datasets.generator.VERSION}, fingerprint {datasets.generator.fingerprint()}. {settings}"
    )
    command = "python -m experiments.operator.statistics"
    return results_table.write(folder, "generator_statistics", rows, command, note, "Quantiles over scenes.")


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
