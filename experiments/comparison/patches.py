"""Training on patches against training on the whole scene: the same accuracy?

    python -m experiments.comparison.patches [--quick] [-o results]

Samson, the recommended training, several seeds. For each seed, the whole scene is trained from the spectra that VCA
finds in all of its pixels, and the patches, drawn with the same seed, from those that VCA finds in a sample of the
pixels. Both models then unmix the whole scene. `pixels` is the share of pixels that training sees; the reference is
used for the errors only.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import dequnmix_jax as dq
from dequnmix_jax.datasets import registry
from dequnmix_jax.scenes.source import source_of
from experiments.plans import EVERY_STAGE_AND_RATES
from experiments.shared import results_table


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment. `patches`: (how many, rows and columns of each)."""

    name: str = "samson_zhu"
    seeds: int = 5
    epochs: int = 100
    patches: tuple[tuple[int, int], ...] = ((16, 16), (9, 16))


QUICK = Settings(name="hapke_relab", seeds=1, epochs=2, patches=((4, 8),))


class Row(NamedTuple):
    """Figures of one run."""

    armse: float
    msad: float
    seconds: float
    failed: float


def main(settings: Settings, folder: Path) -> Path:
    """Run all and write `patches.csv` and `patches.md`."""
    scene, truth = registry.load(settings.name)
    config, (training, rates) = dq.Model(), EVERY_STAGE_AND_RATES
    training = replace(training, epochs=settings.epochs)
    cube, E, A = jnp.asarray(scene.cube), jnp.asarray(truth.endmembers), jnp.asarray(truth.abundances)
    unmix = jax.jit(dq.unmix, static_argnums=2)
    fit = jax.jit(dq.fit, static_argnums=(2, 3), static_argnames="count")
    rows: list[dict[str, object]] = []
    for drawn in (None, *settings.patches):
        runs, share = [], 1.0
        for seed in range(settings.seeds):
            key, began = jax.random.key(seed), time.perf_counter()
            params: Any
            if drawn is None:
                params, history = fit(key, cube, config, training, rates, count=E.shape[0])
            else:
                many = {"patches": drawn[0], "size": drawn[1], "count": E.shape[0]}
                params, history = dq.tiles.fit_patches(key, source_of(scene), config, training, rates, **many)
                share = drawn[0] * drawn[1] ** 2 / scene.valid.sum()
            seconds = time.perf_counter() - began
            estimate, _ = unmix(params, cube, config)
            order = dq.metrics.align(estimate.endmembers, E)
            failed = float(jnp.sum(~(jnp.asarray(history.residual) <= 1e-3)))
            errors = (
                dq.metrics.armse(estimate.abundances[..., order], A),
                dq.metrics.msad(estimate.endmembers[order], E),
            )
            runs.append(Row(*map(float, errors), seconds, failed))
        label = "whole scene" if drawn is None else f"{drawn[0]} patches of {drawn[1]} x {drawn[1]}"
        rows.append(results_table.summary({"training on": label, "pixels": float(share)}, runs))
        print(results_table.line(rows[-1]), flush=True)
    note = f"{settings.name} ({truth.reference}); {config}; {training}; {rates}; seconds with compilation."
    return results_table.write(folder, "patches", rows, "python -m experiments.comparison.patches", note)


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
