"""Memory of a gradient against the number of iterations: implicit, unrolled, and unrolled with checkpoints.

    python -m experiments.equilibrium.memory [--quick] [-o results]

The gradient of the paper's loss in all parameters, after a fixed number of iterations of the default map on a crop of
Samson: the implicit one by as many steps of Anderson and as many products of BiCGSTAB, the unrolled ones through a
scan, whose body is under jax.checkpoint in the third. Each point is a separate process: `temporary` is the memory of
the compiled gradient besides its arguments and results (`memory_analysis`), `resident` the peak resident memory of the
whole process (Python, JAX, its compiler, the scene and the gradient), and `device` the peak that the device reports, if
it does (GPU).
"""

import argparse
import functools
import json
import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import dequnmix_jax as dq
from dequnmix_jax.equilibrium import fixed_point_map
from dequnmix_jax.report import style
from experiments.shared import results_table, trained_maps

FORMS = ("implicit", "unrolled", "unrolled, checkpointed")


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment."""

    iterations: tuple[int, ...] = (5, 10, 20, 50, 100, 200, 500)
    forms: tuple[str, ...] = FORMS
    crop: int | None = 64


QUICK = Settings(iterations=(5,), forms=("implicit",), crop=12)


class Point(NamedTuple):
    """Bytes; `device` is None if the device does not report it."""

    temporary: int
    resident: int
    device: int | None


def loss(params: Any, cube: jax.Array, form: str, iterations: int) -> jax.Array:
    """Return the paper's loss of the state after `iterations` iterations, to be differentiated in one of `FORMS`."""
    config = dq.Model()
    f = fixed_point_map.state_map(config)
    if form == "implicit":
        forward = dq.Solver(tolerance=0.0, max_steps=iterations)
        backward = dq.Adjoint(tolerance=0.0, max_steps=iterations)
        return trained_maps.objective(
            params, cube, config, lambda theta, start: dq.fixed_point(f, forward, backward, theta, start)[0]
        )
    body = jax.checkpoint(f) if form == "unrolled, checkpointed" else f
    return trained_maps.objective(
        params, cube, config, lambda theta, start: dq.solvers.unrolled(body, iterations, theta, start)
    )


def measure(form: str, iterations: int, crop: int | None) -> Point:
    """Compile and run one gradient in this process."""
    cube = trained_maps.samson(crop)
    E = jnp.maximum(cube[0, :3], 1e-5)  # any three spectra: only sizes matter
    params = dq.init(jax.random.key(0), cube, dq.Model(), endmembers=E)
    gradient = jax.jit(jax.grad(functools.partial(loss, form=form, iterations=iterations)))
    compiled = gradient.lower(params, cube).compile()
    jax.block_until_ready(compiled(params, cube))
    # Kilobytes on Linux, bytes on macOS.
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    device = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return Point(compiled.memory_analysis().temp_size_in_bytes, resident, device)


def in_a_child(form: str, iterations: int, crop: int | None) -> Point:
    """Measure one point in a separate process."""
    command = [sys.executable, "-W", "ignore", "-m", "experiments.equilibrium.memory", "--point", form, str(iterations)]
    command += [] if crop is None else ["--crop", str(crop)]
    # Without the persistent cache: a program read from it may not know its size.
    environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    answer = subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment, cwd=Path(__file__).parents[2]
    )
    return Point(*json.loads(answer.stdout.splitlines()[-1]))


def main(settings: Settings, folder: Path) -> Path:
    """Measure every form at every number of iterations and write figure and tables."""
    rows: list[dict[str, Any]] = []
    for form in settings.forms:
        for iterations in settings.iterations:
            point = in_a_child(form, iterations, settings.crop)
            rows.append(
                {"form": form, "iterations": iterations}
                | {f"{name} MB": "" if size is None else size / 1e6 for name, size in point._asdict().items()}
            )
            print(results_table.line(rows[-1]), flush=True)
    return results_table.report(folder, "memory", draw(rows), rows, rows, finding(rows, settings))


def finding(rows: list[dict[str, Any]], settings: Settings) -> str:
    """Return a text on what the figure shows."""
    ends = (settings.iterations[0], settings.iterations[-1])
    sizes = {(row["form"], row["iterations"]): (row["temporary MB"], row["resident MB"]) for row in rows}
    parts = [
        f"{form} from {sizes[form, ends[0]][0]:.1f} to {sizes[form, ends[1]][0]:.1f} MB of temporaries (resident "
        f"{sizes[form, ends[0]][1]:.0f} to {sizes[form, ends[1]][1]:.0f} MB)"
        for form in settings.forms
    ]
    return f"From {ends[0]} to {ends[1]} iterations a gradient grows as follows: {'; '.join(parts)}. {settings}"


def draw(rows: list[dict[str, Any]]) -> Any:
    """Draw temporaries and resident memory against the iterations."""
    figure = style.new_figure(9.0, 3.6)
    names = ["temporary MB", "resident MB"] + (["device MB"] if rows[0]["device MB"] != "" else [])
    titles = {"temporary MB": "compiled gradient", "resident MB": "whole process", "device MB": "peak on the device"}
    for axes, name in zip(figure.subplots(1, len(names)), names, strict=True):
        for colour, form in zip(style.COLOURS, FORMS, strict=False):
            own = [row for row in rows if row["form"] == form]
            axes.plot([r["iterations"] for r in own], [r[name] for r in own], "o-", color=colour, label=form)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_title(titles[name], fontsize=10)
        axes.set_xlabel("iterations")
        axes.set_ylabel(f"{name.split()[0]} memory (MB)")
        axes.grid(color="0.92", linewidth=0.6)
        axes.legend(fontsize=8)
    return figure


if __name__ == "__main__":
    if "--point" in sys.argv:  # what `in_a_child` starts
        child = argparse.ArgumentParser()
        child.add_argument("--point", nargs=2)
        child.add_argument("--crop", type=int)
        asked = child.parse_args()
        print(json.dumps(measure(asked.point[0], int(asked.point[1]), asked.crop)))
    else:
        results_table.command_line(__doc__, main, Settings(), QUICK)
