"""Does the trained operator still have a reachable equilibrium? The relative residual against the iterations.

    python -m experiments.equilibrium.residual_curves [--quick] [-o results]

Plain, damped and Anderson iteration from the usual start, at four stages of training, for three maps on Samson. Our
Anderson has a relative least-squares ridge; the absolute ridge is that of jaxopt, with its default of 1e-5. There is no
stopping rule: every curve has all steps, also after convergence or failure.
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jaxopt
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax.equilibrium import fixed_point_map
from dequnmix_jax.report import style as report_style
from dequnmix_jax.solvers import anderson, forward
from experiments.shared import results_table, trained_maps
from experiments.shared.trained_maps import LEVELS, reached


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment; `epochs` in ascending order."""

    maps: tuple[str, ...] = tuple(trained_maps.MAPS)
    epochs: tuple[int, ...] = (0, 10, 100, 300)
    steps: int = 100
    crop: int | None = None
    seed: int = 0


QUICK = Settings(maps=("energy, data metric",), epochs=(0, 2), steps=12, crop=16)

METHODS: dict[str, dq.Solver | None] = {
    "plain": dq.Solver(dq.solvers.Picard()),
    "damped, 0.5": dq.Solver(dq.solvers.Picard(damping=0.5)),
    "Anderson m=2": dq.Solver(dq.solvers.Anderson(memory=2)),
    "Anderson m=5": dq.Solver(dq.solvers.Anderson(memory=5)),
    "Anderson m=10": dq.Solver(dq.solvers.Anderson(memory=10)),
    "absolute ridge m=5": None,
}


def absolute(f: forward.Map, theta: Any, start: jax.Array, steps: int) -> jax.Array:
    """Return the relative residuals of jaxopt's Anderson with its absolute ridge, (steps,)."""
    walker = jaxopt.AndersonAcceleration(
        functools.partial(f, theta), history_size=5, mixing_frequency=1, tol=0.0, ridge=1e-5, implicit_diff=False
    )

    def residual(x: jax.Array) -> jax.Array:
        image = f(theta, x)
        return anderson.relative(anderson.rms(image - x), anderson.rms(image))

    def follow(carry: tuple[jax.Array, Any], _: None) -> tuple[Any, jax.Array]:
        x, state = walker.update(*carry)
        return (x, state), residual(x)

    _, rest = jax.lax.scan(follow, (start, walker.init_state(start)), None, length=steps - 1)
    return jnp.concatenate([residual(start)[None], rest])


def curves(params: Any, cube: jax.Array, config: dq.Model, steps: int) -> dict[str, jax.Array]:
    """Return the residuals of every method, (steps,) each."""
    theta = fixed_point_map.factor(params, cube, config)
    start = fixed_point_map.initial_state(params, cube, config)
    f = fixed_point_map.state_map(config)
    return {
        name: absolute(f, theta, start, steps) if solver is None else forward.residuals(f, solver, theta, start, steps)
        for name, solver in METHODS.items()
    }


def main(settings: Settings, folder: Path) -> Path:
    """Train, run every method at every stage of training, and write figure and tables."""
    cube = trained_maps.samson(settings.crop)
    measured: dict[tuple[str, int, str], np.ndarray] = {}
    for name in settings.maps:
        plan = trained_maps.MAPS[name]
        follow = jax.jit(functools.partial(curves, config=plan[0], steps=settings.steps))
        ages = trained_maps.snapshots(cube, plan, settings.epochs, seed=settings.seed)
        for epoch, params in zip(settings.epochs, ages, strict=True):
            result = follow(params, cube)
            measured |= {(name, epoch, method): np.asarray(result[method]) for method in METHODS}
            print(name, epoch, {m: reached(measured[name, epoch, m], 1e-4) for m in METHODS}, flush=True)
    rows = [
        {"map": name, "epochs": epoch, "method": method}
        | {f"steps to {level:g}": reached(curve, level) or "" for level in LEVELS}
        | {"smallest": float(np.nanmin(curve)), "last": float(curve[-1]), "NaN": bool(np.isnan(curve).any())}
        for (name, epoch, method), curve in measured.items()
    ]
    points = [
        {
            "map": name,
            "epochs": epoch,
            "method": method,
            "application": i + 1,
            "relative_residual": float(f"{value:.4g}"),
        }
        for (name, epoch, method), curve in measured.items()
        for i, value in enumerate(curve)
    ]
    note = f"{finding(measured, settings)}{settings}; { ({name: trained_maps.MAPS[name] for name in settings.maps}) }"
    return results_table.report(folder, "residual_curves", draw(measured, settings), rows, points, note)


def finding(measured: dict[tuple[str, int, str], np.ndarray], settings: Settings) -> str:
    """Return a sentence on the curves of each map."""
    sentences = []
    for name in settings.maps:
        parts = []
        for method in ("plain", "Anderson m=5", "absolute ridge m=5"):
            steps = [reached(measured[name, epoch, method], 1e-4) for epoch in settings.epochs]
            best = [float(np.nanmin(measured[name, epoch, method])) for epoch in settings.epochs]
            shown = ", ".join(f"never ({b:.1e})" if s is None else str(s) for s, b in zip(steps, best, strict=True))
            parts.append(f"{method} {shown}")
        ages = ", ".join(map(str, settings.epochs))
        sentences.append(
            f"{name}: applications to a relative residual of 1e-4 after {ages} epochs (in brackets the smallest "
            f"residual where it is never reached in {settings.steps}): {'; '.join(parts)}."
        )
    return "\n\n".join(sentences) + "\n\n"


def draw(measured: dict[tuple[str, int, str], np.ndarray], settings: Settings) -> Any:
    """Draw a panel for each map (rows) and stage of training (columns)."""
    figure = report_style.new_figure(2.9 * len(settings.epochs) + 0.6, 2.5 * len(settings.maps) + 0.8)
    panels = figure.subplots(len(settings.maps), len(settings.epochs), sharex=True, sharey=True, squeeze=False)
    for row, name in zip(panels, settings.maps, strict=True):
        for axes, epoch in zip(row, settings.epochs, strict=True):
            for colour, method in zip(report_style.COLOURS, METHODS, strict=False):
                curve = measured[name, epoch, method]
                style = "--" if METHODS[method] is None else "-"
                axes.plot(np.arange(1, curve.size + 1), curve, style, color=colour, linewidth=1.1, label=method)
            axes.axhline(dq.Solver().tolerance, color="0.6", linewidth=0.8, linestyle=":")
            axes.set_yscale("log")
            axes.set_ylim(1e-8, 10)
            axes.grid(color="0.92", linewidth=0.6)
            axes.set_title(f"{name}, {epoch} epochs", fontsize=9)
        row[0].set_ylabel("relative residual")
    for axes in panels[-1]:
        axes.set_xlabel("applications of the map")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(METHODS), fontsize=9)
    return figure


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
