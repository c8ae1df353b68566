"""Ablations of the recommended configuration: one choice changed at a time.

    python -m experiments.comparison.ablations [--quick] [-o results]

Every row starts from the spectra of `select_endmembers`; "recommended" is what `dequnmix fit` does with them, the
constraint of `dq.training.model_for`, the rates of `dq.training.rates_for` and the prior over neighbours. Each is
trained on the scene alone and compared with the first reference as in `experiments.shared.side_by_side`; the seeds are
vmapped. Steps are the mean over the solves of training; residual is the largest relative residual of any solve,
including the final one, and failed counts those above 1e-3; seconds are CPU seconds for each seed, without compilation.
The unrolled twin applies the map as many times as the recommended configuration needed steps on the scene, and
differentiates through all of them: equal compute forward; it has no prior.
"""

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import dequnmix_jax as dq
from dequnmix_jax.baselines import MethodResult, unrolled
from experiments.plans import EVERY_STAGE
from experiments.shared import methods, results_table, scenes, side_by_side
from experiments.shared.trained_maps import LITERAL


@dataclass(frozen=True)
class Settings:
    """Settings. `only`: names start with one of these. `left_out`: (scene, name) of rows that take too long."""

    scenes: tuple[str, ...] = ("samson", "recipe, 30 dB")
    seeds: int = 3
    epochs: int = 100
    crop: int | None = None
    only: tuple[str, ...] = ("",)
    left_out: tuple[tuple[str, str], ...] = tuple(
        # None of its solves converges: each takes 200 steps. Ten epochs take 9 to 10 CPU seconds per seed.
        (scene, "residual network, random start")
        for scene in ("samson", "recipe, 30 dB", "dc1, 30 dB", "hapke_relab")
    )


QUICK = Settings(
    scenes=("varied, 30 dB",), seeds=2, epochs=3, crop=12, only=("recommended", "alpha 0", "E trained", "unrolled")
)


class Change(NamedTuple):
    """A row: its name and configuration; `twin`: unrolled."""

    name: str
    config: dq.Model
    plan: dq.Training
    rates: dq.Rates
    twin: bool = False


class Row(NamedTuple):
    """Figures of one seed."""

    armse: float
    armse_unit: float
    pooled: float
    msad: float
    steps: float
    residual: float
    failed: float
    seconds: float


def changes(epochs: int, config: dq.Model, rates: dq.Rates) -> tuple[Change, ...]:
    """Return the rows, the recommended configuration first, without duplicates of it."""
    plan = EVERY_STAGE
    base = Change("recommended", config, replace(plan, epochs=epochs), rates)

    def model(name: str, **fields: Any) -> Change:
        return base._replace(name=name, config=replace(base.config, **fields))

    def training(name: str, **fields: Any) -> Change:
        return base._replace(name=name, plan=replace(base.plan, **fields))

    def weights(name: str, **fields: Any) -> Change:
        return base._replace(name=name, rates=base.rates._replace(**fields))

    whole = base._replace(plan=dq.Training(epochs=epochs), rates=dq.Rates())
    rows = (
        model("without the prior over neighbours", prior="none"),
        model("analytic gradient: no network", gradient=dq.equilibrium.Analytic()),
        model("residual network, physical start", gradient=dq.equilibrium.Residual()),
        model("residual network, random start", gradient=dq.equilibrium.Residual(), init="random"),
        model("random start", init="random"),
        model("without attention (CBAM)", gradient=dq.equilibrium.Energy(attention=False)),
        model("learned prox", prox=dq.equilibrium.Conv()),
        model("8 channels", gradient=dq.equilibrium.Energy(width=8)),
        model("plain iteration", forward=replace(base.config.forward, method=dq.solvers.Picard())),
        model("euclidean metric", metric="euclidean"),
        model("simplex", constraint=dq.equilibrium.Simplex()),
        model("soft", constraint=dq.equilibrium.Soft()),
        model("cone", constraint=dq.equilibrium.Cone()),
        *(
            model(f"softmax, gamma {gamma}", constraint=dq.equilibrium.Softmax(float(gamma)))
            for gamma in (10, 100, 1000)
        ),
        *(weights(f"alpha {alpha}", error=float(alpha)) for alpha in (0, 4, 30)),
        weights("without spread", spread=0.0),
        weights("E fixed", endmembers=0.0),
        weights("E trained", endmembers=dq.RECOMMENDED[1].endmembers),
        training("no bands held out", holdout=0.0),
        training("E and network together", endmembers_first=0.0),
        whole._replace(name="paper's loss and schedule"),
        whole._replace(name="paper's map, loss and schedule", config=LITERAL),
        model("unrolled, as many layers as steps", prior="none")._replace(twin=True),
    )
    return (base, *(row for row in rows if row[1:] != base[1:]))


def solved(config: dq.Model, plan: dq.Training, *inputs: Any) -> tuple[MethodResult, tuple[jax.Array, ...]]:
    """Train and unmix from (key, cube, start, rates); return the result, and steps, residual and failures."""
    key, cube, start, rates = inputs
    params, history = dq.fit(key, cube, config, plan, rates, endmembers=start)
    result, trace = dq.unmix(params, cube, config)
    residual = jnp.append(history.residual, trace.residual)
    # A NaN counts as a failure.
    how = (jnp.mean(history.steps.astype(jnp.float32)), jnp.nanmax(residual), jnp.sum(~(residual <= 1e-3)))
    return MethodResult(result.abundances, result.endmembers), how


def compiled(change: Change, layers: int, shared: bool, *inputs: Any) -> Any:
    """Return the program of a row for (keys, cubes, starts, rates), the seeds mapped over; `shared`: one cube."""
    if change.twin:
        twin = unrolled.unrolled(layers, True, change.config, change.plan, change.rates)

        def run(key: jax.Array, cube: jax.Array, start: jax.Array, rates: dq.Rates) -> tuple[MethodResult, tuple]:
            return twin.estimate(key, cube, start), (jnp.float32(layers), jnp.float32(jnp.nan), jnp.float32(jnp.nan))
    else:
        run = functools.partial(solved, change.config, change.plan)
    return jax.jit(jax.vmap(run, in_axes=(0, None if shared else 0, 0, None))).lower(*inputs).compile()


def main(settings: Settings, folder: Path) -> Path:
    """Run all and write `ablations.csv` and `ablations.md`, again after each scene."""
    rows: list[dict[str, object]] = []
    there, missing = scenes.at_hand(settings.scenes)
    select, said = jax.jit(dq.endmembers.select_endmembers, static_argnums=2), list[str]()
    for name in there:
        if rows:
            jax.clear_caches()  # scenes differ in shape, and a process can hold a limited number of compiled programs
        drawn = side_by_side.Drawn(name, methods.Settings((name,), seeds=settings.seeds, crop=settings.crop))
        programs: dict[Any, Any] = {}  # rates and weights are arguments of one program
        layers = 1
        selections = [select(key, drawn.cube(s), drawn.starts.shape[1]) for s, key in enumerate(drawn.keys)]
        starts = jnp.stack([jnp.maximum(each.endmembers, 1e-5) for each in selections])
        config, rates = dq.training.model_for(selections[0]), jax.tree.map(float, dq.training.rates_for(selections[0]))
        said.append(f"{name}: {config.constraint.word}, rate of E {rates.endmembers:g}")
        for change in changes(settings.epochs, config, rates):
            if not change.name.startswith(settings.only) or (name, change.name) in settings.left_out:
                continue
            inputs = (drawn.keys, drawn.cubes, starts, jax.tree.map(jnp.float32, change.rates))
            kind = (change.config, change.plan, change.twin)
            if kind not in programs:
                programs[kind] = compiled(change, layers, drawn.shared, *inputs)
            began = time.process_time()
            answers, how = jax.block_until_ready(programs[kind](*inputs))
            seconds = (time.process_time() - began) / settings.seeds
            runs = []
            for seed, references in enumerate(drawn.references):
                one, went = jax.tree.map(lambda x, seed=seed: x[seed], (answers, how))
                errors = side_by_side.errors(one, change.config.constraint.word, drawn.cube(seed), *references[0])
                judged = [errors[field] for field in Row._fields if field in errors]
                runs.append(Row(*judged, *map(float, went), seconds))
            if change.name == "recommended":
                layers = max(1, round(sum(run.steps for run in runs) / len(runs)))
            label = {"scene": name, "reference": drawn.references[0][0][0].reference, "change": change.name}
            rows.append(results_table.summary(label, runs))
            print(results_table.line(rows[-1]), flush=True)
        target = results_table.write(
            folder, "ablations", rows, "python -m experiments.comparison.ablations", note(settings, said) + missing
        )
    return target


def note(settings: Settings, said: Sequence[str]) -> str:
    """Return a note on what was run and what was not."""
    left = "; ".join(f"{change} ({scene})" for scene, change in settings.left_out if scene in settings.scenes)
    why = f"Left out, because all seeds would take more than 3 minutes of CPU time: {left}. " if left else ""
    choices = f"Found by the first seed: {'; '.join(said)}."
    return f"Seeds mapped over. {why}{choices} The rest is the same for all: {dq.Model()}; {dq.RECOMMENDED}; {settings}"


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
