"""When to train the spectra that `select_endmembers` found, and the effect of the prior over neighbours.

    python -m experiments.defaults.resting_endmembers [--quick] [-o results]

On the generated scenes of `experiments.shared.kinds`, none of which is in any table of results: from what
`select_endmembers` found (constraint as it decides), E trained or at rest, and each abundance map before and after
`smooth`. The scenes fall into three groups, identified without the truth: brightness free (the cone);
not free, and more than R directions hold more signal than noise (`Selection.beyond`: spectra vary); not free, and no
more than R.
"""

import functools
import itertools
from dataclasses import dataclass, field, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from experiments.plans import EVERY_STAGE
from experiments.shared import kinds, results_table
from experiments.shared.results_table import geometric_mean


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment: so many draws of each kind of scene."""

    draws: int = 2
    epochs: int = 100
    scenes: kinds.Scenes = field(default_factory=kinds.Scenes)


QUICK = Settings(draws=1, epochs=3, scenes=kinds.QUICK)

_select = jax.jit(dq.endmembers.select_endmembers, static_argnums=2)


@functools.partial(jax.jit, static_argnums=(3, 4))
def trained(
    key: jax.Array, cube: jax.Array, E: jax.Array, config: dq.Model, schedule: dq.Training, rates: dq.Rates
) -> tuple[jax.Array, jax.Array]:
    """Return abundances and endmembers after training, not smoothed."""
    params, _ = dq.fit(key, cube, config, schedule, rates, endmembers=E)
    estimate, _ = dq.unmix(params, cube, config)
    return estimate.abundances, estimate.endmembers


@jax.jit
def errors(A: jax.Array, E: jax.Array, truth: jax.Array, spectra: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return aRMSE, that of the smoothed maps, and mSAD."""
    order = dq.metrics.align(E, spectra)
    return (
        dq.metrics.armse(A[..., order], truth),
        dq.metrics.armse(dq.abundances.smooth(A)[..., order], truth),
        dq.metrics.msad(E[order], spectra),
    )


def main(settings: Settings, folder: Path) -> Path:
    """Run all and write `choose_rest.csv` and `choose_rest.md`."""
    schedule, rates = replace(EVERY_STAGE, epochs=settings.epochs), dq.RECOMMENDED[1]
    ways = {"E trained": rates.endmembers, "E rests": 0.0}
    groups: dict[str, list[dict[str, np.ndarray]]] = {}
    for (number, kind), draw in itertools.product(enumerate(settings.scenes.kinds), range(settings.draws)):
        key, seek = jax.random.split(jax.random.key(5000 * (draw + 1) + number))
        sample, truth = kinds.draw_scene(key, kind, settings.scenes)
        selection = _select(seek, sample.cube, kind.count)
        config = replace(dq.training.model_for(selection), prior="none")
        E = jnp.maximum(selection.endmembers, 1e-5)
        rows = {"the start": np.asarray(errors(selection.abundances, E, truth, sample.endmembers))}
        for way, rate in ways.items():
            numbers = jax.tree.map(jnp.float32, rates._replace(endmembers=rate))
            answer = trained(seek, sample.cube, E, config, schedule, numbers)
            rows[way] = np.asarray(errors(*answer, truth, sample.endmembers))
        vary = "more than R directions" if int(selection.beyond) else "R directions"
        group = "brightness free" if selection.constraint == "cone" else f"not free, {vary}"
        groups.setdefault(group, []).append(rows)
        print(kind, draw, group, {way: row.round(4).tolist() for way, row in rows.items()}, flush=True)
    table: list[dict[str, object]] = []
    for group, scenes in sorted(groups.items()):
        for way in scenes[0]:
            ratios = np.array([[*scene[way][:2] / scene["the start"][0], scene[way][2] / scene["the start"][2]]
                               for scene in scenes])  # fmt: skip
            figures = {}
            for name, column in zip(("armse", "armse smoothed", "msad"), ratios.T, strict=True):
                figures |= {name: geometric_mean(list(column)), f"worst {name}": float(column.max())}
            table.append({"scenes": group, "number": len(scenes), "way": way} | figures)
    note = f"Geometric mean and worst of the ratio to the error of the start, not smoothed. {settings}"
    return results_table.write(
        folder, "choose_rest", table, "python -m experiments.defaults.resting_endmembers", note, "One run."
    )


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
