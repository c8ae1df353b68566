"""How the first penalty of the alternating direction method was chosen: by steps to its tolerance, on generated scenes.

    python -m experiments.defaults.admm_penalty [--quick] [-o results]

The problems are convex: the penalty changes the number of steps, not the solution, so that no reference is needed.
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax.datasets import synthetic
from experiments.shared import results_table


@dataclass(frozen=True)
class Settings:
    """Penalties tried on scenes of `count` materials out of a library of `spectra`, at each noise in dB."""

    penalties: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
    noises: tuple[float, ...] = (20.0, 40.0)
    spectra: int = 40
    count: int = 5
    side: int = 20
    bands: int = 100
    max_steps: int = 2000


QUICK = Settings(penalties=(0.01, 0.1), noises=(30.0,), spectra=8, count=3, side=8, bands=20, max_steps=50)


def main(settings: Settings, folder: Path) -> Path:
    """Count the steps of each method with each penalty."""
    library = synthetic.spectra(jax.random.key(0), settings.spectra, settings.bands)
    shape = (settings.side, settings.side)
    clean = synthetic.linear_scene(jax.random.key(1), shape, library[: settings.count], purity=1.0)
    weight = 1e-4 * settings.bands  # comparable to the solution: neither negligible nor dominant
    rows: list[dict[str, Any]] = []
    for penalty in settings.penalties:
        solver = dq.abundances.Admm(penalty=penalty, max_steps=settings.max_steps)
        methods = {
            "SUnSAL": jax.jit(functools.partial(dq.abundances.sunsal, weight=weight, solver=solver)),
            "collaborative": jax.jit(
                functools.partial(dq.abundances.collaborative_sunsal, weight=weight, solver=solver)
            ),
            "TV": jax.jit(functools.partial(dq.abundances.sunsal_tv, weight=weight, variation=weight, solver=solver)),
        }
        steps = []
        row: dict[str, Any] = {"penalty": penalty}
        for noise in settings.noises:
            cube = synthetic.add_noise(jax.random.key(2), clean.cube, noise)
            for name, method in methods.items():
                _, trace = method(cube, library)
                row[f"{name}, {noise:g} dB"] = int(trace.steps)
                steps.append(int(trace.steps))
        rows.append(row | {"geometric mean": float(np.exp(np.mean(np.log(steps))))})
        print(results_table.line(rows[-1]), flush=True)
    tolerance = dq.abundances.Admm().tolerance
    note = f"Steps to a tolerance of {tolerance:g}; {settings.max_steps} if it was not reached. {settings}"
    return results_table.write(
        folder, "admm_penalty", rows, "python -m experiments.defaults.admm_penalty", note, kind="One seed."
    )


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
