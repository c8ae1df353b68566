"""How the parameters of Anderson's iteration were chosen: applications of the map for each, on stiff maps.

    python -m experiments.equilibrium.solver_choices [--quick] [-o results]

Maps: the data term alone on Samson (simplex and cone, euclidean metric: condition numbers in the hundreds), the default
model after 30 steps of training on Samson and on misicnet_sim1, and linear maps in float32 with eigenvalues spread
evenly up to 0.99 or clustered below 1. No reference is used: the figures are numbers of steps.
"""

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax.equilibrium import fixed_point_map
from dequnmix_jax.solvers import forward
from experiments.shared import results_table, trained_maps
from experiments.shared.scenes import scene
from experiments.shared.trained_maps import LEVELS, reached


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment."""

    scenes: tuple[tuple[str, float | None, int], ...] = (("samson_zhu", None, 3), ("misicnet_sim1", 30.0, 6))
    steps: int = 250
    epochs: int = 30
    crop: int | None = None


QUICK = Settings(scenes=(), steps=20)

CHOICES: dict[str, dq.Solver] = {
    "default": dq.Solver(),
    "restart never": dq.Solver(dq.solvers.Anderson(restart=0)),
    "restart 10": dq.Solver(dq.solvers.Anderson(restart=10)),
    "restart 40": dq.Solver(dq.solvers.Anderson(restart=40)),
    "memory 2": dq.Solver(dq.solvers.Anderson(memory=2)),
    "memory 10": dq.Solver(dq.solvers.Anderson(memory=10)),
    "damping 0.8": dq.Solver(dq.solvers.Anderson(damping=0.8)),
    "ridge 1e-4": dq.Solver(dq.solvers.Anderson(ridge=1e-4)),
    "ridge 0 (its floor)": dq.Solver(dq.solvers.Anderson(ridge=0.0)),
    "plain": dq.Solver(dq.solvers.Picard()),
}

Problem = tuple[forward.Map, Any, jax.Array]


def affine(theta: tuple[jax.Array, jax.Array], z: jax.Array) -> jax.Array:
    """Return r z + s, entry by entry."""
    return theta[0] * z + theta[1]


def problems(settings: Settings) -> dict[str, Problem]:
    """Return f, theta and a start for each map."""
    shift = jax.random.normal(jax.random.key(1), (500,))
    maps: dict[str, Problem] = {
        "linear, -0.99 to 0.99": (affine, (jnp.linspace(-0.99, 0.99, 500), shift), jnp.zeros(500)),
        "linear, 1 - 1e-3 ... 0": (affine, (1 - jnp.logspace(-3, 0, 500), shift), jnp.zeros(500)),
    }
    for name, snr, count in settings.scenes:
        cube = scene(name, snr, settings.crop)[0]
        plan = trained_maps.MAPS["energy, data metric"]
        untrained, trained = trained_maps.snapshots(cube, plan, (0, settings.epochs), count=count)
        configs = {
            f"{name}, trained, {metric} metric": replace(plan[0], metric=metric) for metric in ("data", "euclidean")
        }
        if name == "samson_zhu":
            for constraint in (dq.equilibrium.Simplex(), dq.equilibrium.Cone()):
                bare = dq.Model(gradient=dq.equilibrium.Analytic(), metric="euclidean", constraint=constraint)
                configs[f"{name}, data term, {constraint.word}"] = bare
        for label, config in configs.items():
            params = trained if "trained" in label else untrained
            theta = jax.jit(functools.partial(fixed_point_map.factor, config=config))(params, cube)
            initial = fixed_point_map.initial_state(params, cube, config)
            maps[label] = (fixed_point_map.state_map(config), theta, initial)
    return maps


def main(settings: Settings, folder: Path) -> Path:
    """Count the steps of every choice on every map and write the table."""
    rows: list[dict[str, Any]] = []
    for name, (f, theta, start) in problems(settings).items():
        for choice, solver in CHOICES.items():
            run = jax.jit(functools.partial(forward.residuals, f, solver, steps=settings.steps))
            curve = np.asarray(run(theta, start))
            best = np.minimum.accumulate(np.where(np.isnan(curve), np.inf, curve))
            before = best[: reached(curve, LEVELS[-1]) or settings.steps]
            falls = np.flatnonzero(np.diff(before) < 0) + 1
            rows.append(
                {"map": name, "choice": choice}
                | {f"steps to {level:g}": reached(curve, level) or "" for level in LEVELS}
                | {
                    "smallest": float(np.nanmin(curve)),
                    "NaN": bool(np.isnan(curve).any()),
                    "longest wait": int(np.max(np.diff(np.concatenate([[0], falls])), initial=0)) - 1,
                }
            )
            print(results_table.line(rows[-1]), flush=True)
    note = (
        f"Empty: not within {settings.steps}. Longest wait: steps without a new smallest residual, before 1e-6 is "
        f"reached or the run ends.\n\n{settings}"
    )
    return results_table.write(
        folder,
        "solver_choices",
        rows,
        "python -m experiments.equilibrium.solver_choices",
        note,
        kind="One run, one seed.",
    )


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
