"""Error of the training gradient against float64: by iterations, by tolerance, and by adjoint method.

    python -m experiments.equilibrium.gradient_error [--quick] [-o results]

The paper's loss on a crop of Samson, with partly trained weights, in the data metric and in the euclidean one. The
truth is the implicit gradient in float64 at a tolerance of 1e-11. Error: that in E or in the network, each relative to
its own norm, whichever is larger. Part (i): float32, a fixed number of iterations, implicit (as many products with
J^T as applications of f) against unrolled. Part (ii): float32, each adjoint at tolerances from 1e-1 to 1e-6, which the
forward solve and the adjoint share; "neumann", "one step" and "phantom" have no tolerance of their own.
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import dequnmix_jax as dq
from dequnmix_jax.equilibrium import fixed_point_map
from dequnmix_jax.report import style
from experiments.shared import results_table, trained_maps
from experiments.shared.gradients import at_tolerance, compare, true_gradient


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment."""

    maps: tuple[str, ...] = ("energy, data metric", "energy, euclidean metric")
    iterations: tuple[int, ...] = (5, 10, 20, 50, 100, 200, 500)
    tolerances: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
    adjoints: tuple[str, ...] = (
        "bicgstab", "anderson", "neumann, 5", "neumann, 20", "phantom, 5, tau 0.5", "one step"
    )  # fmt: skip
    epochs: int = 30
    crop: int | None = 48
    seed: int = 0


QUICK = Settings(
    maps=("energy, data metric",), iterations=(3,), tolerances=(1e-2,), adjoints=("one step",), epochs=0, crop=8
)

ADJOINTS: dict[str, dq.Adjoint] = {
    "bicgstab": dq.Adjoint(dq.solvers.BiCGSTAB()),
    "anderson": dq.Adjoint(dq.solvers.Anderson()),
    "neumann, 5": dq.Adjoint(dq.solvers.Neumann(5)),
    "neumann, 20": dq.Adjoint(dq.solvers.Neumann(20)),
    "phantom, 5, tau 0.5": dq.Adjoint(dq.solvers.Phantom(5, damping=0.5)),
    "one step": dq.Adjoint(dq.solvers.OneStep()),
}


def after(params: Any, cube: jax.Array, config: dq.Model, form: str, iterations: int) -> Any:
    """Return the gradient after a fixed number of iterations, implicit or unrolled."""
    f = fixed_point_map.state_map(config)
    if form == "unrolled":
        return jax.grad(trained_maps.objective)(
            params, cube, config, lambda t, z: dq.solvers.unrolled(f, iterations, t, z)
        )
    forward = dq.Solver(tolerance=0.0, max_steps=iterations)
    backward = dq.Adjoint(tolerance=0.0, max_steps=iterations)
    return jax.grad(trained_maps.objective)(
        params, cube, config, lambda t, z: dq.fixed_point(f, forward, backward, t, z)[0]
    )


def main(settings: Settings, folder: Path) -> Path:
    """Measure both parts and write figure and tables."""
    cube = trained_maps.samson(settings.crop)
    rows: list[dict[str, Any]] = []
    for name in settings.maps:
        plan = trained_maps.MAPS[name]
        config = plan[0]
        (params,) = trained_maps.snapshots(cube, plan, (settings.epochs,), seed=settings.seed)
        truth = true_gradient(params, cube, config)
        for form in ("implicit", "unrolled"):
            for iterations in settings.iterations:
                run = jax.jit(functools.partial(after, config=config, form=form, iterations=iterations))
                row = {"map": name, "part": "iterations", "method": form, "at": iterations, "f": iterations}
                products = iterations if form == "implicit" else ""
                rows.append(row | {"J^T": products} | compare(run(params, cube), truth))
                print(results_table.line(rows[-1]), flush=True)
        for method in settings.adjoints:
            run = jax.jit(functools.partial(at_tolerance, config=config, adjoint=ADJOINTS[method]))
            for tolerance in settings.tolerances:
                gradient, applications, products = run(params, cube, jnp.float32(tolerance))
                row = {"map": name, "part": "tolerance", "method": method, "at": tolerance}
                counts = {"f": int(applications), "J^T": int(products)}
                rows.append(row | counts | compare(gradient, truth))
                print(results_table.line(rows[-1]), flush=True)
    return results_table.report(folder, "gradient_error", draw(rows, settings), rows, rows, finding(rows, settings))


def finding(rows: list[dict[str, Any]], settings: Settings) -> str:
    """Return a text on what the figure shows, for each map."""
    sentences = []
    for name in settings.maps:
        own = {(row["method"], row["at"]): row for row in rows if row["map"] == name}
        few, many = settings.iterations[min(1, len(settings.iterations) - 1)], settings.iterations[-1]
        tight = settings.tolerances[min(3, len(settings.tolerances) - 1)]
        sentences.append(
            f"{name}: after {few} iterations the implicit gradient is off by {own['implicit', few]['error']:.1e} and "
            f"the unrolled one by {own['unrolled', few]['error']:.1e}, after {many} by "
            f"{own['implicit', many]['error']:.1e} and {own['unrolled', many]['error']:.1e}; at tolerance {tight:g} "
            + ", ".join(
                f"{method} by {own[method, tight]['error']:.1e} ({own[method, tight]['J^T']} products, cosine "
                f"{own[method, tight]['cosine']:.4f})"
                for method in settings.adjoints
            )
            + "."
        )
    return "\n\n".join(sentences) + f"\n\n{settings}"


def draw(rows: list[dict[str, Any]], settings: Settings) -> Any:
    """Draw the error against the iterations and against the tolerance, a row for each map."""
    figure = style.new_figure(9.5, 3.4 * len(settings.maps))
    panels = figure.subplots(len(settings.maps), 2, squeeze=False)
    for (left, right), name in zip(panels, settings.maps, strict=True):
        for axes, part, methods, label in (
            (left, "iterations", ("implicit", "unrolled"), "iterations"),
            (right, "tolerance", settings.adjoints, "tolerance (forward and adjoint)"),
        ):
            for colour, method in zip(style.COLOURS, methods, strict=False):
                own = [r for r in rows if (r["map"], r["part"], r["method"]) == (name, part, method)]
                axes.plot([r["at"] for r in own], [r["error"] for r in own], "o-", color=colour, label=method, ms=3.5)
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xlabel(label)
            axes.set_ylabel("relative error of the gradient")
            axes.set_title(name, fontsize=10)
            axes.grid(color="0.92", linewidth=0.6)
            axes.legend(fontsize=7.5)
        right.invert_xaxis()
    return figure


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
