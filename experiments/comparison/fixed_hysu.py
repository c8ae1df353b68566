"""HySU with the spectra of its five targets fixed and its backgrounds found blind: are the areas right?

    python -m experiments.comparison.fixed_hysu [--quick] [--select] [-o results]

The five target spectra are those of the image library of the data set (Cerra et al. 2021); one to four backgrounds are
found beside them without a reference. Areas: the fraction of the target's material, summed over its region, in m^2,
mean over the five materials (smallest to largest). `largest error`: of the means for the squares of 3, 2 and 1 m, of
which the goal is 5 %; `mean error`: of single targets of these sizes, mean of |found - true| / true.

    all six of the library    FCLS with the five targets and the grass of the library: nothing is found
    VCA, N-FINDR, minimum volume
                              each with the targets as its first vertices (the largest of 24 draws of VCA; N-FINDR and
                              the minimum volume start from it, or from SiVM, on the plane); then FCLS with all
    purified                  the backgrounds of VCA, each replaced by the mean of its purest 3 % of pixels
    select, as chosen         with --select: `dq.learned.select` with the targets fixed, mixing as it chooses
    select, sum to one        the same, asked for sum-to-one; then FCLS with all
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax.datasets import hysu, registry
from dequnmix_jax.endmembers.minimum_volume_simplex import enclosing
from dequnmix_jax.endmembers.noise import simplex_noise
from dequnmix_jax.endmembers.pure_pixel import corners, exchange
from dequnmix_jax.endmembers.subspace import frame, in_frame, pixels
from experiments.shared import results_table

LARGE = 3
"""Sizes of targets that hold at least one pixel."""


@dataclass(frozen=True)
class Settings:
    """Numbers of backgrounds, and the seed of VCA and of the halves of the pixels."""

    backgrounds: tuple[int, ...] = (1, 2, 3, 4)
    select: bool = False
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
        A = fcls(cube, E)
        rows.append(row("VCA", backgrounds, A, names))
        purer = dq.endmembers.purify(cube, E, A).at[: fixed.shape[0]].set(fixed)
        rows.append(row("VCA, purified", backgrounds, fcls(cube, purer), names))
        for method, found in _others(cube, E, fixed):
            rows.append(row(method, backgrounds, fcls(cube, found), names))
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
    command = "python -m experiments.comparison.fixed_hysu" + (" --select" if settings.select else "")
    return results_table.write(folder, "fixed_hysu", rows, command, note, kind="Areas in m^2, one seed.")


def _others(cube: jax.Array, start: jax.Array, fixed: jax.Array) -> list[tuple[str, jax.Array]]:
    """Return the spectra of N-FINDR and of the minimum volume on the plane, the fixed ones first."""
    Y, valid = pixels(cube, None)
    count = start.shape[0]
    view = frame(Y, valid, count, False, fixed)
    held = in_frame(view, fixed, False)
    rows = exchange(view, valid, corners(view, valid, count, held), held)
    largest = jnp.concatenate([fixed, jnp.matmul(view.points[rows], view.lift, precision="highest")])
    smallest = enclosing(view, valid, start, simplex_noise(cube, count), False, held=held)[0]
    smallest = smallest.at[: fixed.shape[0]].set(fixed)
    return [("N-FINDR", jnp.maximum(largest, 0)), ("minimum volume", jnp.maximum(smallest, 0))]


def _names(count: int) -> list[str]:
    return [*hysu.MATERIALS, *(f"background {i + 1}" for i in range(count - len(hysu.MATERIALS)))]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small run to check that everything works")
    parser.add_argument("--select", action="store_true", help="also the learned choice, which compiles for minutes")
    parser.add_argument("-o", "--output", type=Path, default=Path("results"))
    given = parser.parse_args()
    print(main(QUICK if given.quick else Settings(select=given.select), given.output))
