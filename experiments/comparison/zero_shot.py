"""The learned operator on scenes that nobody generated for it: measured ones, and those that others simulated.

    python -m experiments.comparison.zero_shot [--quick] [-o results]

Five seeds, one configuration for all. Nothing was chosen on these scenes. Methods, each blind:

* VCA + FCLS, minimum volume + FCLS.
* start: the rule of `select_endmembers` and the exact solver of its mixing model (the analytic equilibrium); start +
  neighbours: with the linear prior where the scene shows that it helps.
* learned operator: `dq.run`, nothing trained on the scene. Without prior: with the prior off.

Errors are those of `dequnmix score` (`results.score.compare`), in the convention of each reference.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax.endmembers.selection import select_endmembers
from dequnmix_jax.results import score
from dequnmix_jax.training.recipe import model_for
from dequnmix_jax.training.stages import without_training
from experiments.shared import results_table, scenes


@dataclass(frozen=True)
class Settings:
    """Scenes and number of seeds."""

    scenes: tuple[str, ...] = (
        "samson", "dc1, 20 dB", "dc1, 30 dB", "misicnet_sim1, 20 dB", "misicnet_sim1, 30 dB", "hapke_relab",
    )  # fmt: skip
    seeds: int = 5
    crop: int | None = None


QUICK = Settings(scenes=("misicnet_sim1, 30 dB",), seeds=1, crop=24)

Answer = tuple[Any, Any, Any, dq.Model]


@cache
def _unmix(config: dq.Model) -> Any:
    return jax.jit(lambda params, cube: dq.unmix(params, cube, config)[0])


def _solved(cube: jax.Array, E: jax.Array, config: dq.Model) -> Answer:
    params, _ = without_training(jax.random.key(0), cube, config, E)
    estimate = _unmix(config)(params, cube)
    return estimate.abundances, estimate.endmembers, estimate.brightness, config


def answers(key: jax.Array, cube: jax.Array, count: int) -> Iterator[tuple[str, Answer]]:
    """Yield what each method finds."""
    analytic = dq.Model(gradient=dq.equilibrium.Analytic(), constraint=dq.equilibrium.Simplex())
    E = jnp.maximum(dq.endmembers.vca(key, cube, count), 0)
    yield "VCA + FCLS", _solved(cube, E, analytic)
    E = jnp.maximum(dq.endmembers.minimum_volume(key, cube, count)[0], 0)
    yield "minimum volume + FCLS", _solved(cube, E, analytic)
    chosen = select_endmembers(key, cube, count, abundances=False)
    for name, prior in (("start", "none"), ("start + neighbours", "neighbours")):
        config = model_for(chosen, dq.Model(gradient=dq.equilibrium.Analytic()))
        yield name, _solved(cube, chosen.endmembers, replace(config, prior=prior))
    result = dq.run(np.asarray(cube), count, key)
    bare = replace(result.config, prior="none")
    yield "learned operator without prior", _solved(cube, jnp.asarray(result.endmembers), bare)
    yield "learned operator", (result.abundances, result.params["endmembers"], result.brightness, result.config)


def main(settings: Settings, folder: Path) -> Path:
    """Write the table."""
    names, missing = scenes.at_hand(settings.scenes)
    runs: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for name in names:
        print(name, flush=True)
        jax.clear_caches()  # the compiled programs of several sizes do not fit in memory
        for seed in range(settings.seeds):
            loaded = scenes.load(name, seed, settings.crop)
            count = len(loaded.references[0][0].endmembers)
            for method, (A, E, brightness, config) in answers(jax.random.key(seed), loaded.cube, count):
                for author, (truth, _) in zip(("Zhu", "Rasti"), loaded.references, strict=False):
                    estimate = score.as_estimate(A, E, brightness, config.convention)
                    errors = score.compare(estimate, truth, cube=np.asarray(loaded.cube))
                    reference = f"{name} ({author})" if len(loaded.references) > 1 else name
                    runs.setdefault((reference, method, config.constraint.word), []).append(
                        (errors["armse"], errors["msad"])
                    )
    rows = _rows(runs)
    note = f"{settings.seeds} seeds.{missing}"
    return results_table.write(folder, "zero_shot", rows, "python -m experiments.comparison.zero_shot", note)


def _rows(runs: dict[tuple[str, str, str], list[tuple[float, float]]]) -> list[dict[str, Any]]:
    merged: dict[tuple[str, str], tuple[list[tuple[float, float]], list[str]]] = {}
    for (reference, method, word), values in runs.items():
        entry = merged.setdefault((reference, method), ([], []))
        entry[0].extend(values)
        entry[1].append(word)
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
    for method, values in ratios.items():
        mean = np.exp(np.mean(np.log(values), axis=0))
        rows.append({
            "scene": "geometric mean", "method": method, "constraint": "", "aRMSE": float("nan"),
            "aRMSE_sd": float("nan"), "mSAD": float("nan"), "mSAD_sd": float("nan"),
            "aRMSE / start": float(mean[0]), "mSAD / start": float(mean[1]),
        })  # fmt: skip
    return rows


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
