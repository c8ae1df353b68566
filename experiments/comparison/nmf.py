"""Blind factorisation on four scenes, five VCA seeds: five priors against their start.

    python -m experiments.comparison.nmf [--quick] [-o results]

Priors: minimum volume (MVC-NMF) and its quadratic stand-in (NMF-QMV), l1/2 sparsity (L1/2-NMF), the same with a graph
of similar spectra (GLNMF), and group sparsity (SGSNMF). Every method starts from the endmembers that VCA found with the
seed, clipped at zero, and runs with its default settings except the number of steps: at most 1000, the default of all
but `sgs_nmf`, and at most 100, that of `sgs_nmf` and its authors' program. NMF-QMV factors six times in each run, once
for each weight that its rule tries; its steps are those of the weight found. No method sees a reference. Seconds are
CPU time without compilation.
"""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import dequnmix_jax as dq
from experiments.shared import results_table, side_by_side
from experiments.shared.scenes import scene

NAN = float("nan")


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment.

    `scenes`: (data set, SNR in dB of the white noise that is added, or None). `only` and `update` are those of
    `experiments.shared.methods.Settings`.
    """

    scenes: tuple[tuple[str, float | None], ...] = (
        ("samson_zhu", None),
        ("dc1", 30.0),
        ("misicnet_sim1", 30.0),
        ("hapke_relab", None),
    )
    seeds: int = 5
    max_steps: int = dq.endmembers.Factoring().max_steps
    few_steps: int | None = 100
    crop: int | None = None
    only: tuple[str, ...] = ("",)
    update: bool = False


QUICK = Settings(scenes=(("hapke_relab", None),), seeds=2, max_steps=20, few_steps=None, crop=12)


class Row(NamedTuple):
    """Figures of one run. `fall`: the last objective relative to the first."""

    armse: float
    msad: float
    seconds: float
    steps: float = NAN
    converged: float = NAN
    fall: float = NAN


Run = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array, dq.types.Descent | None]]


def methods(settings: Settings) -> dict[str, Run]:
    """Return the methods as compiled functions of (cube, first endmembers)."""

    def start(cube: jax.Array, E: jax.Array) -> tuple[jax.Array, jax.Array, None]:
        return E, dq.abundances.fcls(cube, E), None

    def factored(method: Callable[..., Any], steps: int) -> Run:
        solver = dq.endmembers.Factoring(max_steps=steps)
        return jax.jit(lambda cube, E: method(None, cube, endmembers=E, solver=solver))

    runs_of: dict[str, Run] = {"VCA + FCLS (the start)": jax.jit(start)}
    for name, method in (
        ("MVC-NMF", dq.endmembers.mvc_nmf),
        ("L1/2-NMF", dq.endmembers.l_half_nmf),
        ("SGSNMF", dq.endmembers.sgs_nmf),
        ("NMF-QMV", dq.endmembers.qmv_nmf),
        ("GLNMF", dq.endmembers.gl_nmf),
    ):
        for steps in (settings.max_steps, settings.few_steps):
            if steps is not None:
                runs_of[f"{name}, at most {steps} steps"] = factored(method, steps)
    return {name: run for name, run in runs_of.items() if name.startswith(settings.only)}


def measure(settings: Settings) -> list[dict[str, Any]]:
    """Run all methods on all scenes and return the rows of the table."""
    rows: list[dict[str, Any]] = []
    for name, snr in settings.scenes:
        cube, truth = scene(name, snr, settings.crop)
        E = jnp.asarray(truth.endmembers)
        A = jnp.asarray(truth.abundances)[: cube.shape[0], : cube.shape[1]]
        find = jax.jit(functools.partial(dq.endmembers.vca, count=E.shape[0]))
        starts = [jnp.maximum(find(jax.random.key(seed), cube), 0) for seed in range(settings.seeds)]
        for label, run in methods(settings).items():
            jax.block_until_ready(run(cube, starts[0]))  # compilation is not counted
            runs = []
            for first in starts:
                began = time.process_time()
                endmembers, abundances, descent = jax.block_until_ready(run(cube, first))
                seconds = time.process_time() - began
                order = dq.metrics.align(endmembers, E)
                row = Row(
                    float(dq.metrics.armse(abundances[..., order], A)), float(dq.metrics.msad(endmembers[order], E)),
                    seconds
                )  # fmt: skip
                if descent is not None:
                    row = row._replace(
                        steps=float(descent.steps),
                        converged=float(descent.converged),
                        fall=float(descent.objective[-1] / descent.objective[0]),
                    )
                runs.append(row)
            labels = {
                "scene": name if snr is None else f"{name}, {snr:g} dB",
                "reference": truth.reference,
                "method": label,
            }
            rows.append(results_table.summary(labels, runs))
            print(results_table.line(rows[-1]), flush=True)
    return rows


def main(settings: Settings, folder: Path) -> Path:
    """Run all and write `factorisation.csv` and `factorisation.md`, after each scene."""
    rows = side_by_side.earlier_rows(folder, "factorisation")[0] if settings.update else []
    for scene_and_noise in settings.scenes:
        new = measure(replace(settings, scenes=(scene_and_noise,)))
        rows = side_by_side.updated(rows, [row | side_by_side.run_now() for row in new])
        target = report(rows, settings, folder)
    return target


def report(rows: list[dict[str, Any]], settings: Settings, folder: Path) -> Path:
    """Write the table."""
    note = (
        "Measured scene by scene on a shared machine: seconds are accurate to a factor of two. "
        "armse: mean over endmembers of the RMSE of each map; msad: mean spectral angle, radians; converged: share of "
        "the seeds in which the unknowns changed by less than 1e-4 in a step; fall: last objective relative to "
        f"the first. {dq.endmembers.Factoring()}; {settings}"
    )
    return results_table.write(folder, "factorisation", rows, "python -m experiments.comparison.nmf", note)


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
