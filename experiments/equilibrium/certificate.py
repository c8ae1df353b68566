"""How tight the certificate is: certified and observed rate, predicted and measured steps, untrained and trained.

    python -m experiments.equilibrium.certificate [--quick] [-o results]

The energy operator on the cone and the simplex, in both metrics, with the step of one and with the certified best step
(`Model(step=None)`). Trained with `dq.RECOMMENDED`, in the metric of the data; the other metric has the same energy.
"""

import functools
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from experiments.plans import EVERY_STAGE
from experiments.shared import results_table
from experiments.shared import scenes as shared_scenes


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment. `plain`: most steps of the plain iteration."""

    scenes: tuple[tuple[str, float | None], ...] = (("samson_zhu", None), ("dc1", 30.0), ("misicnet_sim1", 30.0))
    constraints: tuple[dq.equilibrium.Cone | dq.equilibrium.Simplex, ...] = (
        dq.equilibrium.Cone(),
        dq.equilibrium.Simplex(),
    )
    metrics: tuple[str, ...] = ("data", "euclidean")
    epochs: int = 100
    plain: int = 1000
    crop: int | None = None


QUICK = Settings(
    scenes=(("hapke_relab", None),),
    constraints=(dq.equilibrium.Simplex(),),
    metrics=("data",),
    epochs=2,
    plain=100,
    crop=24,
)

certify = jax.jit(dq.equilibrium.certificate, static_argnums=2)
count = jax.jit(lambda params, cube, config: dq.unmix(params, cube, config)[1], static_argnums=2)


@functools.partial(jax.jit, static_argnums=(3, 4))
def train(
    key: jax.Array, cube: jax.Array, start: jax.Array, config: dq.Model, epochs: int
) -> tuple[dict, dict, dq.History]:
    """Return the parameters before and after training."""
    before = dq.init(key, cube, config, endmembers=start)
    plan = replace(EVERY_STAGE, epochs=epochs)
    after, history = dq.fit(key, cube, config, plan, dq.RECOMMENDED[1], endmembers=start)
    return before, after, history


def count_in_float64(params: dict, cube: jax.Array, config: dq.Model) -> dq.Trace:
    """Return the trace of a solve in double precision, where the certificate holds up to rounding."""

    def doubled(x: jax.Array) -> np.ndarray:
        held = np.asarray(x)
        return held.astype(np.float64) if held.dtype == np.float32 else held

    params, cube = jax.tree.map(doubled, (params, cube))
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, count(params, cube, config))


def main(settings: Settings, folder: Path) -> Path:
    """Run all and write `certificate.csv` and `certificate.md`."""
    rows = []
    for name, snr in settings.scenes:
        cube, truth = shared_scenes.scene(name, snr, settings.crop)
        key = jax.random.key(0)
        start = jnp.maximum(dq.endmembers.vca(key, cube, len(truth.endmembers)), 1e-5)
        for base in (replace(dq.Model(), constraint=kind) for kind in settings.constraints):
            *pair, history = train(key, cube, start, base, settings.epochs)
            *_, quicker = train(key, cube, start, replace(base, step=None), settings.epochs)
            in_training = {
                "Anderson, mean in training": float(jnp.mean(history.steps.astype(jnp.float32))),
                "the same, best step": float(jnp.mean(quicker.steps.astype(jnp.float32))),
            }
            for when, params in zip(("untrained", "trained"), pair, strict=True):
                for metric in settings.metrics:
                    config = replace(base, metric=metric)
                    best = replace(config, step=None)
                    plain = dq.Solver(method=dq.solvers.Picard(), max_steps=settings.plain)
                    bounds = certify(params, cube, config)
                    solves = {
                        "Picard": count(params, cube, replace(config, forward=plain)),
                        "Anderson": bounds.trace,
                        "Picard, float64": count_in_float64(params, cube, replace(config, forward=plain)),
                        "Picard, best step": count(params, cube, replace(best, forward=plain)),
                        "Anderson, best step": count(params, cube, best),
                    }
                    rows.append(
                        {"scene": name, "constraint": base.constraint.word, "weights": when, "metric": metric}
                        | {
                            "certified rate": float(bounds.rate),
                            "observed rate": float(bounds.observed_rate),
                            "best step": float(bounds.best_step),
                            "its certified rate": float(bounds.best_rate),
                            "certified steps": float(bounds.bound_steps),
                            "expected steps": float(bounds.expected_steps),
                        }
                        | {key: f"{trace.steps}{'' if trace.converged else '+'}" for key, trace in solves.items()}
                        | in_training
                    )
                    print(results_table.line(rows[-1]), flush=True)
        note = (
            f"One seed, tolerance {dq.Model().forward.tolerance:g}. '+': not reached in {settings.plain} plain or "
            f"{dq.Model().forward.max_steps} Anderson steps. {settings}"
        )
        target = results_table.write(
            folder,
            "certificate",
            rows,
            "python -m experiments.equilibrium.certificate",
            note,
            kind="One run, one seed.",
        )
    return target


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
