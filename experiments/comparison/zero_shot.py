"""The learned operator on scenes that nobody generated for it: measured ones, and those that others simulated.

    python -m experiments.comparison.zero_shot [--quick] [-o results]

Five seeds, one configuration for all. No constant was chosen on these scenes; the rule of materials that judges the
fine-tuning (`training.stages`) was thought of after a failure on DC1 at 20 dB, and that the scene may choose the linear
prior (`abundances.prior_choice`) because of the recipe at 15 dB. Methods, each blind:

* VCA + FCLS, minimum volume + FCLS.
* start: the rule of `select_endmembers` and the exact solver of its mixing model (the analytic equilibrium); start +
  neighbours: with the linear prior where the scene shows that it helps.
* learned operator: `dq.run`, nothing trained on the scene. Without prior: with the prior off.
* fine-tuned: `dq.run` with the recommended training on the scene, each stage judged by the scene itself.

Errors are those of `dequnmix score` (`results.score.compare`), in the convention of each reference. HySU has no
abundances: there "aRMSE" is the mean relative error of the areas of its targets (`experiments.comparison.hysu`).

`zero_shot_runs.csv` holds every run with its commit. A run that it holds is not made again: remove rows to repeat them.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.shared import results_table, scenes
from experiments.shared.operator_ways import AT_HAND, METHODS, answer, errors_of


@dataclass(frozen=True)
class Settings:
    """Scenes and number of seeds."""

    scenes: tuple[str, ...] = AT_HAND
    seeds: int = 5
    crop: int | None = None
    methods: tuple[str, ...] = METHODS


QUICK = Settings(scenes=("misicnet_sim1, 30 dB",), seeds=1, crop=24, methods=METHODS[:-1])

_LABELS = ("scene", "reference", "method", "seed")


def main(settings: Settings, folder: Path) -> Path:
    """Run what is missing, and write the table."""
    names, missing = scenes.at_hand(settings.scenes)
    kept = folder / "zero_shot_runs.csv"
    runs: list[dict[str, Any]] = []
    if kept.exists():
        with kept.open(encoding="utf-8") as file:
            runs = list(csv.DictReader(file))
    done = {(run["scene"], run["method"], int(run["seed"])) for run in runs}
    where = results_table.origin()
    for name in names:
        jax.clear_caches()  # the compiled programs of several sizes do not fit in memory
        for seed in range(settings.seeds):
            left = [method for method in settings.methods if (name, method, seed) not in done]
            if not left:
                continue
            loaded = scenes.load(name, seed, settings.crop)
            count = len(loaded.references[0][0].endmembers)
            for method in left:
                A, E, brightness, config = answer(method, jax.random.key(seed), loaded.cube, count)
                for author, (truth, _) in zip(("Zhu", "Rasti"), loaded.references, strict=False):
                    errors = errors_of(A, E, brightness, config, truth, loaded.cube)
                    labels = (name, author if len(loaded.references) > 1 else "", method, seed)
                    runs.append(dict(zip(_LABELS, labels, strict=True)) | {
                        "constraint": config.constraint.word, "aRMSE": errors["armse"], "mSAD": errors["msad"],
                        "commit": where["commit"], "date": where["date"],
                    })  # fmt: skip
                    print(results_table.line(runs[-1]), flush=True)
            results_table.write_csv(kept, runs)
    asked = [run for run in runs if run["scene"] in names and run["method"] in settings.methods]
    asked.sort(key=lambda run: (names.index(run["scene"]), settings.methods.index(run["method"])))
    commits = ", ".join(sorted({str(run["commit"]) for run in asked}))
    note = f"{settings.seeds} seeds. Every run, with its commit ({commits}): `zero_shot_runs.csv`.{missing}"
    return results_table.write(folder, "zero_shot", _rows(asked), "python -m experiments.comparison.zero_shot", note)


def _rows(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    merged: dict[tuple[str, str], tuple[list[tuple[float, float]], list[str]]] = {}
    for run in runs:
        reference = f"{run['scene']} ({run['reference']})" if run["reference"] else run["scene"]
        values, words = merged.setdefault((reference, run["method"]), ([], []))
        values.append((float(run["aRMSE"]), float(run["mSAD"])))
        words.append(run["constraint"])
    rows, ratios = [], {}
    for (reference, method), (values, words) in merged.items():
        x = np.asarray(values)
        start = np.asarray(merged[reference, "start"][0])
        ratio = np.exp(np.log(x.mean(axis=0) / start.mean(axis=0)))
        ratios.setdefault(method, []).append(ratio)
        rows.append({
            "scene": reference, "method": method, "constraint": ", ".join(sorted(set(words))),
            "aRMSE": float(x[:, 0].mean()), "aRMSE_sd": float(x[:, 0].std()),
            "mSAD": float(x[:, 1].mean()), "mSAD_sd": float(x[:, 1].std()),
            "aRMSE / start": float(ratio[0]), "mSAD / start": float(ratio[1]),
        })  # fmt: skip
    for method, found in ratios.items():
        mean = np.exp(np.mean(np.log(found), axis=0))
        rows.append({
            "scene": "geometric mean", "method": method, "constraint": "", "aRMSE": float("nan"),
            "aRMSE_sd": float("nan"), "mSAD": float("nan"), "mSAD_sd": float("nan"),
            "aRMSE / start": float(mean[0]), "mSAD / start": float(mean[1]),
        })  # fmt: skip
    return rows


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
