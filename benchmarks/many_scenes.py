"""Train many small scenes: one program for all (jax.vmap), one scene after the other inside it, or a Python loop.

    python -m benchmarks.many_scenes [--quick] [-o results]

Scenes of 32 x 32 x 100 with four endmembers, 20 steps of the recommended training each. Ratios within one
process, fastest of several runs, without compilation, whose seconds are listed. On a CPU jax.vmap makes every scene
wait for the slowest solve of each step without using more arithmetic units than a loop; on an accelerator, which a
small scene leaves mostly idle, it fills the device.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import dequnmix_jax as dq
from benchmarks.small_scenes import Size, draw_cube, in_turn
from benchmarks.timing import race
from experiments.plans import EVERY_STAGE
from experiments.shared import results_table


@dataclass(frozen=True)
class Settings:
    """Numbers of scenes, their size, steps of training and repetitions."""

    scenes: tuple[int, ...] = (1, 8, 64)
    side: int = 32
    bands: int = 100
    count: int = 4
    epochs: int = 20
    width: int = 32
    rounds: int = 2


QUICK = Settings(scenes=(1, 2), side=8, bands=12, count=3, epochs=2, width=4, rounds=1)


def main(settings: Settings, folder: Path) -> Path:
    """Time all ways for all numbers of scenes and write the table."""
    training = replace(EVERY_STAGE, epochs=settings.epochs)
    config = dq.Model(gradient=dq.equilibrium.Energy(width=settings.width))

    def fit(key: jax.Array, cube: jax.Array) -> Any:
        return dq.fit(key, cube, config, training, dq.RECOMMENDED[1], count=settings.count)

    alone = jax.jit(fit)
    size, rows = Size(settings.side, settings.bands, settings.count), []
    for number in settings.scenes:
        keys = jax.random.split(jax.random.key(1), number)
        cubes = jax.vmap(lambda key: draw_cube(key, size))(jax.random.split(jax.random.key(0), number))
        ways: dict[str, Callable[[], Any]] = {"Python loop": lambda keys=keys, cubes=cubes: in_turn(alone, keys, cubes)}
        compiling = {"Python loop": seconds(lambda keys=keys, cubes=cubes: alone.lower(keys[0], cubes[0]).compile())}
        for name, together in (
            ("jit(vmap(fit))", jax.vmap(fit)),
            ("jit(lax.map(fit))", lambda keys, cubes: jax.lax.map(lambda one: fit(*one), (keys, cubes))),
        ):
            lowered = jax.jit(together).lower(keys, cubes)
            start = time.perf_counter()
            program = lowered.compile()
            compiling[name] = time.perf_counter() - start
            ways[name] = lambda program=program, keys=keys, cubes=cubes: program(keys, cubes)
        batch = dq.parallel.over_scenes(fit)
        ways["over_scenes(fit)"] = lambda batch=batch, keys=keys, cubes=cubes: batch(keys, cubes)
        compiling["over_scenes(fit)"] = compiling["Python loop"]  # the same program
        spent = race(ways, settings.rounds)
        steps = ways["jit(vmap(fit))"]()[1].steps  # (scenes, epochs)
        for name, each in spent.items():
            rows.append({
                "scenes": number,
                "way": name,
                "scenes / s": number / each.wall,
                "as fast as the loop, times": spent["Python loop"].wall / each.wall,
                "in CPU time": spent["Python loop"].cpu / each.cpu,
                "seconds to compile": compiling[name],
                "solver steps, mean of scenes": float(jnp.mean(jnp.sum(steps, axis=1))),
                "solver steps, slowest at each": float(jnp.sum(jnp.max(steps, axis=0))),
            })  # fmt: skip
            print(results_table.line(rows[-1]), flush=True)
    note = f"Load of the machine in the minute before: {os.getloadavg()[0]:.2f}. {settings}"
    return results_table.write(
        folder, "many_scenes", rows, "python -m benchmarks.many_scenes", note, "Fastest, in turn."
    )


def seconds(run: Callable[[], Any]) -> float:
    """Return the wall time of one run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
