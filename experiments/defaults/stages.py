"""The effect of each stage of unmixing on the one before it, and whether judging the stages prevents harm.

    python -m experiments.defaults.stages [--quick] [-o results]

Stages: the start that `select_endmembers` chooses; trained endmembers; the trained network; the prior over neighbours.
Each scene is trained twice by `dq.RECOMMENDED`: "kept" keeps every stage (`Training(judged=False)`), "judged" keeps a
stage only if the scene itself shows that it helps (`dequnmix_jax.training.stages`). A ratio is the aRMSE after a stage
over that before it; below 1 the stage helps.

Scenes: those of `experiments.shared.families` from draw 10 on. The rule was designed on draws 0 to 7 of the same
families. Two groups took no part in the design: published abundance fields (folder `raw/fields` of
`DEQUNMIX_DATA`: Matern, Legendre and spherical covariance) mixed from four library spectra at 20, 30 and 40 dB, and the
scenes of the tables, which come last.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax import InputError
from dequnmix_jax.datasets import registry
from dequnmix_jax.equilibrium import model
from dequnmix_jax.training import fitting, stages
from experiments.shared import families, results_table, scenes
from experiments.shared.results_table import geometric_mean

FIELDS = {
    "field, Matern": "AbundancesMatternGaussian64.mat",
    "field, Legendre": "AbundancesLegendre64.mat",
    "field, spherical": "AbundancesSphericGaussian64.mat",
}

KNOWN = (
    "samson", "hapke_relab", "dc1, 20 dB", "dc1, 30 dB", "misicnet_sim1, 30 dB", "recipe, 15 dB", "recipe, 30 dB",
)  # fmt: skip

STAGES = ("endmembers", "network", "prior")


@dataclass(frozen=True)
class Settings:
    """Settings: draws of each family, noise of the fields, scenes of the tables and their number of seeds."""

    families: tuple[str, ...] = families.FAMILIES
    draws: tuple[int, ...] = (10, 11, 12, 13)
    fields: tuple[str, ...] = tuple(FIELDS)
    noise: tuple[float, ...] = (20.0, 30.0, 40.0)
    known: tuple[str, ...] = KNOWN
    seeds: int = 3
    epochs: int = 100
    side: int = 48
    bands: int = 96


QUICK = Settings(
    families=("smooth", "rough"), draws=(10,), fields=(), known=(), seeds=1, epochs=4, side=16, bands=24
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Given:
    """A scene of the experiment: its group and name, cube, references (abundances, endmembers) by name, and seed."""

    group: str
    name: str
    cube: np.ndarray
    references: dict[str, tuple[np.ndarray, np.ndarray]]
    seed: int


def given(settings: Settings) -> Iterator[Given]:
    """Yield the scenes: families, fields, then those of the tables."""
    for number, family in enumerate(settings.families):
        for draw in settings.draws:
            made = families.load(family, draw, settings.side, settings.bands)
            name = f"{family}, {made.snr:g} dB"
            yield Given(family, name, made.cube, {"": (made.abundances, made.endmembers)}, 100 * draw + number)
    for field, (index, snr) in itertools.product(settings.fields, enumerate(settings.noise)):
        made_field = _field(field, snr, index)
        if made_field is not None:
            yield made_field
    names, missing = scenes.at_hand(settings.known) if settings.known else ((), "")
    if missing:
        print(missing)
    for name, seed in itertools.product(names, range(settings.seeds)):
        loaded = scenes.load(name, seed)
        references = {
            truth.reference or "": (np.asarray(truth.abundances), np.asarray(truth.endmembers))
            for truth, _ in loaded.references
            if truth.abundances is not None
        }
        yield Given(name, name, np.asarray(loaded.cube), references, seed)


def _field(field: str, snr: float, seed: int) -> Given | None:
    """Return a published abundance field mixed from spectra of the library, or None if it is missing."""
    from scipy.io import loadmat

    known = families.library()
    try:
        A = loadmat(registry.find(f"raw/fields/{FIELDS[field]}", download=False))["A"].astype(np.float64)
    except InputError:
        return None
    draw = np.random.default_rng([2611, 900, seed, list(FIELDS).index(field)])
    E = families.spectra(draw, A.shape[2], 96, known)
    clean = A @ E
    sigma = np.sqrt(np.mean(clean**2)) * 10 ** (-snr / 20)
    cube = (clean + sigma * draw.standard_normal(clean.shape)).astype(np.float32)
    return Given(field, f"{field}, {snr:g} dB", cube, {"": (A.astype(np.float32), E.astype(np.float32))}, seed)


_select = jax.jit(dq.endmembers.select_endmembers, static_argnums=2)


@partial(jax.jit, static_argnums=(3, 4))
def run(
    key: jax.Array, cube: jax.Array, E: jax.Array, config: dq.Model, plan: dq.Training, rates: dq.Rates
) -> tuple[jax.Array, jax.Array, Any]:
    """Return the abundances after each stage (4, H, W, R), the endmembers (4, R, B) and the verdicts."""
    state = fitting.begin(key, cube, config, endmembers=E)
    first, *later = plan.phases
    state, _ = fitting.advance(state, cube, config, plan, rates, first)
    for steps in later:
        state = stages.settle(state, cube, config)
        state, _ = fitting.advance(state, cube, config, plan, rates, steps)
    params, verdicts = stages.finish(state, cube, config, plan)
    prior = params["prior"]
    none = prior | {"strength": jnp.zeros_like(prior["strength"])}
    start, moved = state.initial, state.initial | {"endmembers": params["endmembers"]}
    steps_of = [
        start | {"prior": none},
        moved | {"prior": none},
        params | {"prior": none},
        params | {"prior": prior},
    ]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *steps_of)

    def one(p: Any) -> tuple[jax.Array, jax.Array]:
        estimate = model.equilibrium(p, cube, config).estimate
        return estimate.abundances, estimate.endmembers

    A, spectra = jax.lax.map(one, stacked)
    return A, spectra, verdicts


@jax.jit
def errors(A: jax.Array, E: jax.Array, truth: jax.Array, spectra: jax.Array) -> jax.Array:
    """Return the aRMSE after each stage, (4,)."""
    return jax.vmap(lambda a, e: dq.metrics.armse(a[..., dq.metrics.align(e, spectra)], truth))(A, E)


def main(settings: Settings, folder: Path) -> Path:
    """Run all scenes, and write `stages_scenes.csv` and the summary `stages.csv` and `stages.md`."""
    plan = replace(dq.RECOMMENDED[0], epochs=settings.epochs)
    rows: list[dict[str, Any]] = []
    last = ""
    for scene in given(settings):
        if scene.group != last and scene.group not in settings.families:
            jax.clear_caches()  # scenes of other sizes: a process can hold a limited number of compiled programs
        last = scene.group
        cube = jnp.asarray(scene.cube)
        count = next(iter(scene.references.values()))[1].shape[0]
        seek, key = jax.random.split(jax.random.key(scene.seed))
        selection = _select(seek, cube, count)
        config = dq.training.model_for(selection)
        rates = jax.tree.map(jnp.float32, dq.training.rates_for(selection))
        E = jnp.maximum(selection.endmembers, 1e-5)
        for way in ("kept", "judged"):
            A, spectra, verdicts = run(key, cube, E, config, replace(plan, judged=way == "judged"), rates)
            for reference, (truth, true) in scene.references.items():
                e = np.asarray(errors(A, spectra, truth, true), float)
                row: dict[str, Any] = {"group": scene.group, "scene": scene.name, "reference": reference,
                                       "seed": scene.seed, "way": way, "start": e[0]}  # fmt: skip
                for i, stage in enumerate(STAGES):
                    row[stage] = e[i + 1] / e[i]
                row["all"] = e[3] / e[0]
                for stage, verdict in zip(STAGES, verdicts or (None,) * 3, strict=True):
                    row[f"{stage} kept"] = True if verdict is None else bool(verdict.kept)
                rows.append(row)
                print(results_table.line(row), flush=True)
    results_table.write_csv(folder / "stages_scenes.csv", rows)
    note = (
        "Ratio of the aRMSE after a stage to that before it: geometric mean and worst over the scenes of a group, and "
        "the share of scenes in which the stage was kept. Every scene: `stages_scenes.csv`. " + str(settings)
    )
    return results_table.write(
        folder, "stages", summary(rows, settings), "python -m experiments.defaults.stages", note, "One run."
    )


def summary(rows: Sequence[dict[str, Any]], settings: Settings) -> list[dict[str, Any]]:
    """Return a row for each group of scenes and way, those of all families and of all fields together last."""
    groups = {group: {group} for group in dict.fromkeys(str(row["group"]) for row in rows)}
    groups["all families"] = set(settings.families)
    groups["all fields"] = set(settings.fields)
    groups["scenes of the tables"] = set(settings.known)
    lines = []
    for (name, members), way in itertools.product(groups.items(), ("kept", "judged")):
        some = [row for row in rows if row["group"] in members and row["way"] == way]
        if not some:
            continue
        line: dict[str, Any] = {"scenes": name, "number": len(some), "way": way}
        line["start"] = geometric_mean([row["start"] for row in some])
        for stage in (*STAGES, "all"):
            ratios = [row[stage] for row in some]
            line |= {stage: geometric_mean(ratios), f"worst {stage}": max(ratios)}
            if stage != "all":
                line[f"{stage} kept"] = sum(row[f"{stage} kept"] for row in some) / len(some)
        lines.append(line)
    return lines


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
