"""Savings of a warm start and a loose tolerance in training, and their effect on the result.

    python -m experiments.equilibrium.schedule [--quick] [-o results]

The default model and training on Samson and on DC1 with noise of 30 dB, one seed. "loosest" is the tolerance of the
first step, forward and adjoint, from which it falls geometrically to 1e-4 at the last. Seconds are CPU time for all
steps, without compilation. "above 1e-3" counts the training steps whose relative residual is larger: a
loose start has some by design, each converged to its own tolerance.
"""

import functools
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import dequnmix_jax as dq
from dequnmix_jax.training import fitting
from experiments.plans import EVERY_STAGE
from experiments.shared import results_table
from experiments.shared.scenes import scene


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment. `choices`: (warm start, loosest tolerance)."""

    scenes: tuple[tuple[str, float | None], ...] = (("samson_zhu", None), ("dc1", 30.0))
    choices: tuple[tuple[bool, float], ...] = ((False, 0.0), (True, 0.0), (True, 1e-3), (True, 1e-2), (True, 1e-1))
    epochs: int = 100
    crop: int | None = None
    seed: int = 0


QUICK = Settings(scenes=(("hapke_relab", None),), choices=((True, 1e-2),), epochs=2, crop=10)


def main(settings: Settings, folder: Path) -> Path:
    """Train with every choice on every scene and write the table."""
    config = dq.Model()
    rows: list[dict[str, Any]] = []
    for name, snr in settings.scenes:
        cube, truth = scene(name, snr, settings.crop)
        E = jnp.asarray(truth.endmembers)
        A = jnp.asarray(truth.abundances)[: cube.shape[0], : cube.shape[1]]
        key = jax.random.key(settings.seed)
        begin = jax.jit(functools.partial(fitting.begin, config=config, count=E.shape[0]))
        state = begin(key, cube)
        unmix = jax.jit(functools.partial(dq.unmix, config=config))
        for warm, loosest in settings.choices:
            plan = replace(EVERY_STAGE, epochs=settings.epochs, warm_start=warm, loosest=loosest)
            run = jax.jit(lambda s, y, plan=plan: fitting.advance(s, y, config, plan, dq.RECOMMENDED[1], plan.epochs))
            compiled = run.lower(state, cube).compile()
            began = time.process_time()
            after, history = jax.block_until_ready(compiled(state, cube))
            seconds = time.process_time() - began
            estimate, _ = unmix(after.params, cube)
            order = dq.metrics.align(estimate.endmembers, E)
            rows.append(
                {
                    "scene": name if snr is None else f"{name}, {snr:g} dB",
                    "warm start": warm,
                    "loosest": loosest or "off",
                    "CPU s": seconds,
                    "steps": float(jnp.mean(history.steps.astype(jnp.float32))),
                    "steps, last tenth": float(
                        jnp.mean(history.steps[-max(plan.epochs // 10, 1) :].astype(jnp.float32))
                    ),
                    "above 1e-3": int(jnp.sum(~(history.residual <= 1e-3))),
                    "not converged": int(jnp.sum(~history.converged)),
                    "last loss": float(history.loss[-1]),
                    "aRMSE": float(dq.metrics.armse(estimate.abundances[..., order], A)),
                    "mSAD": float(dq.metrics.msad(estimate.endmembers[order], E)),
                }
            )
            print(results_table.line(rows[-1]), flush=True)
    first = rows[: len(settings.choices)]
    sentence = "; ".join(
        f"{row['scene']}, {'warm' if row['warm start'] else 'cold'}, loosest {row['loosest']}: "
        f"{row['CPU s'] / rows[i - i % len(first)]['CPU s']:.2f} of the time of the first choice"
        for i, row in enumerate(rows)
    )
    return results_table.write(
        folder,
        "schedule",
        rows,
        "python -m experiments.equilibrium.schedule",
        f"{sentence}.\n\n{settings}",
        kind="One run, one seed.",
    )


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
