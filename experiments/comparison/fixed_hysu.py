"""HySU with the spectra of its five targets fixed and its backgrounds found blind: are the areas right?

    python -m experiments.comparison.fixed_hysu [--quick] [-o results]

The five target spectra are those of the image library of the data set (Cerra et al. 2021); two to four backgrounds are
found beside them without a reference. Areas: the fraction of the target's material, summed over its region, in m^2,
mean over the five materials (smallest to largest). `largest error`: of the means for the squares of 3, 2 and 1 m, of
which the goal is 5 %; `mean error`: of single targets of these sizes, mean of |found - true| / true.

    all six of the library    FCLS with the five targets and the grass of the library: nothing is found
    select, as chosen         `dq.learned.select` with the targets fixed, under the mixing model that it chooses
    select, sum to one        the same, asked for sum-to-one; then FCLS with all
    VCA                       VCA that begins with the targets (largest of 24 draws); then FCLS with all
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax.datasets import hysu, registry
from experiments.shared import results_table

LARGE = 3
"""Sizes of targets that hold at least one pixel."""


@dataclass(frozen=True)
class Settings:
    """Numbers of backgrounds, and the seed of VCA and of the halves of the pixels."""

    backgrounds: tuple[int, ...] = (2, 3, 4)
    select: bool = True
    seed: int = 0


SETTINGS = Settings()
QUICK = Settings(backgrounds=(1,), select=False)


def row(method: str, backgrounds: int, abundances: Any, names: list[str]) -> dict[str, Any]:
    """Return a row of the table."""
    targets = hysu.hysu_targets()
    found = hysu.target_areas(np.asarray(abundances), names)
    means = found.mean(axis=0)
    cells: dict[str, Any] = {"method": method, "backgrounds": backgrounds}
    for i, side in enumerate(targets.side_m):
        span = f"{means[i]:.3g} ({found[:, i].min():.2g} to {found[:, i].max():.2g})"
        cells[f"{side:g} m, {targets.area_m2[i]:g} m^2"] = span
    error = np.abs(found[:, :LARGE] / targets.area_m2[None, :LARGE] - 1)
    cells["largest error"] = float(np.abs(means[:LARGE] / targets.area_m2[:LARGE] - 1).max())
    return cells | {"mean error": float(error.mean())}


def main(settings: Settings, folder: Path) -> Path:
    """Run all and write `fixed_hysu.csv` and `fixed_hysu.md`."""
    scene, truth = registry.load("hysu")
    cube = jnp.asarray(scene.cube)
    order = [truth.names.index(name) for name in hysu.MATERIALS]
    fixed = jnp.asarray(truth.endmembers)[jnp.asarray(order)]
    rest = [i for i in range(len(truth.names)) if i not in order]
    fcls = jax.jit(dq.fcls)
    whole = jnp.concatenate([fixed, jnp.asarray(truth.endmembers)[jnp.asarray(rest)]])
    rows = [row("all six of the library", len(rest), fcls(cube, whole), _names(whole.shape[0]))]
    key = jax.random.key(settings.seed)
    chosen: list[str] = []
    draws = jax.jit(dq.endmembers.vca, static_argnums=2, static_argnames="runs")
    for backgrounds in settings.backgrounds:
        count = fixed.shape[0] + backgrounds
        names = _names(count)
        E = jnp.maximum(draws(key, cube, count, runs=24, fixed=fixed), 0)
        rows.append(row("VCA", backgrounds, fcls(cube, E), names))
        if settings.select:
            for constraint in (None, "simplex"):
                found = dq.learned.select(key, cube, count, fixed=fixed, constraint=constraint)
                solve = {"simplex": dq.fcls, "cone": dq.abundances.scaled_nnls, "soft": dq.abundances.soft_nnls}
                maps = jax.jit(solve[found.constraint])(cube, found.endmembers)
                maps = maps if found.constraint == "simplex" else maps[0]
                method = "select, as chosen" if constraint is None else "select, sum to one"
                rows.append(row(method, backgrounds, maps, names))
                chosen.append(f"{method}, {backgrounds} backgrounds: {dq.learned.reason(found, constraint)}")
        print(results_table.line(rows[-1]), flush=True)
    note = "\n\n".join([(__doc__ or "").split("\n\n", 2)[2].strip(), *chosen])
    command = "python -m experiments.comparison.fixed_hysu"
    return results_table.write(folder, "fixed_hysu", rows, command, note, kind="Areas in m^2, one seed.")


def _names(count: int) -> list[str]:
    return [*hysu.MATERIALS, *(f"background {i + 1}" for i in range(count - len(hysu.MATERIALS)))]


if __name__ == "__main__":
    results_table.command_line(__doc__, main, SETTINGS, QUICK)
