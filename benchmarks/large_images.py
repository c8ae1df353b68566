"""Measure unmixing and a training step on images of up to 94,249 pixels, for several numbers of endmembers.

    python -m benchmarks.large_images [--quick] [-o results]

Per scene, compiled: one application of the equilibrium map and the projection inside it (`abundances.projection`, above
seven endmembers `fcls`), `unmix` from the default first state with the initial parameters, one step of the recommended
training (with its solve, adjoint and optimiser), and exact FCLS for comparison. Fastest of several runs, in turn;
seconds a pixel are compared with those of the first scene.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import dequnmix_jax as dq
from benchmarks.small_scenes import SceneSize, noisy_cube
from benchmarks.timing import compiled, race
from dequnmix_jax.abundances import fcls, projection
from dequnmix_jax.datasets import synthetic
from dequnmix_jax.equilibrium import fixed_point_map, unmix
from dequnmix_jax.equilibrium.config import Simplex
from dequnmix_jax.training import fitting
from experiments.plans import EVERY_STAGE_AND_RATES
from experiments.shared import results_table


@dataclass(frozen=True)
class Settings:
    """Scenes, training steps in one call, and how often each way is timed."""

    sizes: tuple[SceneSize, ...] = (
        SceneSize(307, 307, 162, 6),
        SceneSize(200, 200, 162, 8),
        SceneSize(200, 200, 162, 10),
        SceneSize(200, 200, 162, 12),
    )
    steps: int = 5
    rounds: int = 3


QUICK = Settings(sizes=(SceneSize(12, 12, 30, 3), SceneSize(8, 8, 30, 8)), steps=1, rounds=1)


def ways_of(size: SceneSize, steps: int) -> dict[str, Any]:
    """Return each part as a function without arguments, compiled."""
    cube = jnp.asarray(noisy_cube(size))
    E = synthetic.spectra(jax.random.key(0), size.count, size.bands)
    config = dq.Model(constraint=Simplex())
    training, rates = EVERY_STAGE_AND_RATES
    state = jax.jit(fitting.begin, static_argnums=2)(jax.random.key(2), cube, config, endmembers=E)
    factors = jax.jit(fixed_point_map.factor, static_argnums=2)(state.params, cube, config)
    first = fixed_point_map.initial_state(state.params, cube, config)
    metric = factors.metric
    assert metric is not None
    if metric.faces is None:
        project = compiled(fcls, metric.w, metric.root)
    else:
        project = compiled(projection.minimise, metric.root, metric.w, metric.faces)
    # The second call continues from the first, whose solve begins far from its equilibrium.
    step = jax.jit(fitting.advance, static_argnums=(2, 3, 5))
    state, _ = step(state, cube, config, training, rates, steps)
    return {
        "application of the map": compiled(fixed_point_map.state_map(config), factors, first),
        "its projection": project,
        "unmix": compiled(lambda params, cube: unmix(params, cube, config), state.params, cube),
        "training step": lambda: step(state, cube, config, training, rates, steps),
        "exact FCLS": compiled(fcls, cube, E),
    }


def main(settings: Settings, folder: Path) -> Path:
    """Time all parts on all scenes and write the table."""
    rows: list[dict[str, Any]] = []
    reference: dict[str, float] = {}
    for size in settings.sizes:
        pixels = size.rows * size.columns
        for name, spent in race(ways_of(size, settings.steps), settings.rounds).items():
            times = settings.steps if name == "training step" else 1
            each = spent.cpu / times / pixels
            rows.append({
                "scene": f"{size.rows} x {size.columns} x {size.bands}, R = {size.count}",
                "part": name,
                "wall s": spent.wall / times,
                "CPU s": spent.cpu / times,
                "Mpixel / s": pixels * times / spent.wall / 1e6,
                "CPU s a pixel, of that of the first scene": each / reference.setdefault(name, each),
            })  # fmt: skip
            print(results_table.line(rows[-1]), flush=True)
    note = f"Load of the machine in the minute before: {os.getloadavg()[0]:.2f}. {settings}"
    return results_table.write(
        folder, "large_images", rows, "python -m benchmarks.large_images", note, "Fastest of several runs, in turn."
    )


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
