"""What the shipped operator, and training on the scene after it, are worth on generated scenes of other minerals.

    python -m experiments.operator.shipped [--quick] [-o results]

A scene of each family and size of `experiments.shared.operator_scenes`, drawn with a seed of its own, from minerals
that no training saw. Methods as in `experiments.comparison.zero_shot`, with the weights in the package: what `dq.run`
and `dequnmix report` do (learned operator), and `dq.run(training=dq.RECOMMENDED[0])` (fine-tuned), whose stages the
scene itself judges.

The aRMSE is that in the convention of the scene (`generator.reference_abundances`), compared with that of start (fine-
tuned: also with that of the learned operator) as a geometric mean over scenes; "harmed" is the share of scenes where it
is more than 5 % larger. aRMSE below 0.001 counts as 0.001.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dequnmix_jax.datasets import generator
from experiments.shared import operator_scenes, results_table
from experiments.shared.operator_ways import METHODS, answer

_FLOOR = 1e-3


@dataclass(frozen=True)
class Settings:
    """Scenes of each family and size, their seed, families, sizes and methods."""

    scenes: int = 1
    seed: int = 30
    families: tuple[str, ...] = generator.FAMILIES
    sizes: tuple[generator.SceneShape, ...] = operator_scenes.SIZES
    methods: tuple[str, ...] = METHODS


QUICK = Settings(
    families=("smooth", "squares"),
    sizes=(generator.SceneShape(16, 16, 24, 3),),
    methods=("start", "learned operator"),
)


def summary(judged: str, rows: list[dict[str, Any]], methods: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return a row for each method, over some scenes."""
    found = []
    for method in methods:
        own, before, operator = (
            np.log(np.maximum([[row[f"{name}, aRMSE"], row[f"{name}, mSAD"]] for row in rows], _FLOOR))
            for name in (method, "start", "learned operator")
        )
        ratio = (own - before)[:, 0]
        after = (own - operator)[:, 0]
        found.append({
            "scenes of": judged, "method": method, "scenes": len(rows), "aRMSE": float(np.exp(own[:, 0].mean())),
            "aRMSE / start": float(np.exp(ratio.mean())), "worst": float(np.exp(ratio.max())),
            "harmed": float((ratio > np.log(1.05)).mean()),
            "mSAD / start": float(np.exp((own - before)[:, 1].mean())),
            "aRMSE / learned operator": float(np.exp(after.mean())), "worst of it": float(np.exp(after.max())),
        })  # fmt: skip
    return found


def main(settings: Settings, folder: Path) -> Path:
    """Run all scenes, and write `shipped_scenes.csv` and the summary `shipped.csv` and `shipped.md`."""
    rows: list[dict[str, Any]] = []
    drawn = operator_scenes.Settings(seed=settings.seed)
    for size in settings.sizes:
        jax.clear_caches()
        for family in settings.families:
            for number in range(settings.scenes):
                index = number * len(operator_scenes.SOURCES) + operator_scenes.TEST
                scene = operator_scenes.draw(drawn, family, size, index)
                reference = generator.reference_abundances(scene)
                row: dict[str, Any] = {"family": family, "count": size.count, "index": index}
                for method in settings.methods:
                    A, E, _, _ = answer(method, jax.random.key(index), scene.cube, size.count)
                    pair = operator_scenes.error_of(jnp.asarray(E), jnp.asarray(A), reference, scene.endmembers)
                    row |= {f"{method}, aRMSE": float(pair[0]), f"{method}, mSAD": float(pair[1])}
                rows.append(row)
                print(results_table.line(row), flush=True)
                results_table.write_csv(folder / "shipped_scenes.csv", rows)
    table = summary("all families", rows, settings.methods)
    for family in settings.families:
        some = [row for row in rows if row["family"] == family]
        table += [row for row in summary(family, some, settings.methods) if row["method"] in METHODS[-2:]]
    note = (
        f"Generator {generator.fingerprint()}, seed of the scenes {settings.seed}; spectra of test minerals. Every "
        "scene: `shipped_scenes.csv`."
    )
    command = "python -m experiments.operator.shipped"
    return results_table.write(folder, "shipped", table, command, note, "One draw of each scene, the shipped weights.")


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
