"""What another random seed of the training changes in the learned operator.

    python -m experiments.operator.train FOLDER --folds all --seed 1     (and 2, 3, 4)
    python -m experiments.operator.seeds FOLDER [-o results] [--quick]

The weights of the package (seed 0) and every `all_SEED.npz` of FOLDER unmix the same scenes: generated ones of all
families, of test minerals (those of `experiments.operator.shipped`), and the scenes of
`experiments.comparison.zero_shot`, with one draw of the noise. Everything is as in `dq.run`: learned choice, learned
equilibrium, the learned prior where the scene shows that it helps. Training scenes are the same for all seeds; initial
weights, batches and their order differ. The seed of the package was the first, and was not chosen among these.

The aRMSE is compared with that of start (the rule of `select_endmembers` and its exact solver) as a geometric mean over
scenes; "harmed" is the share of scenes where it is more than 5 % larger. aRMSE below 0.001 counts as 0.001.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax.datasets import generator
from dequnmix_jax.learned import select
from dequnmix_jax.learned import weights as files
from dequnmix_jax.training.recipe import model_for
from experiments.shared import operator_scenes, results_table, scenes
from experiments.shared.operator_ways import AT_HAND, answer, errors_of, solved

_FLOOR = 1e-3
_GROUPS = {"generated": "generated, test minerals", "known": "scenes at hand"}


@dataclass(frozen=True)
class Settings:
    """Families, sizes and seed of the generated scenes, and the scenes at hand."""

    families: tuple[str, ...] = generator.FAMILIES
    sizes: tuple[generator.SceneShape, ...] = operator_scenes.SIZES
    seed: int = 30
    known: tuple[str, ...] = AT_HAND
    crop: int | None = None


QUICK = Settings(
    families=("smooth",), sizes=(generator.SceneShape(16, 16, 24, 3),), known=("misicnet_sim1, 30 dB",), crop=24
)

Weights = Mapping[int, files.OperatorWeights]


def weights_in(folder: Path) -> dict[int, files.OperatorWeights]:
    """Return the weights by seed, those of the package and those of a folder; raise SystemExit for others' scenes."""
    found = {}
    for path in (None, *sorted(folder.glob("all_*.npz"))):
        operator, made = files.shipped() if path is None else files.read(path)
        if made.generator != generator.fingerprint():
            raise SystemExit(f"{path} was trained by another generator; train it again.")
        found.setdefault(made.seed, operator)
    return found


def _answers(weights: Weights, key: jax.Array, cube: jax.Array, count: int) -> Iterator[tuple[str, Any]]:
    """Yield what start and every operator find: a label and abundances, spectra, brightness, model."""
    yield "start", answer("start", key, cube, count)
    first, _ = jax.random.split(key)
    for seed, operator in weights.items():
        chosen = select(first, cube, count, weights=operator).as_selection()
        model = model_for(chosen, dq.Model())
        yield str(seed), solved(cube, chosen.endmembers, replace(model, gradient=dq.equilibrium.Analytic()))


def runs(settings: Settings, weights: Weights) -> Iterator[dict[str, Any]]:
    """Yield scene, label, aRMSE and mSAD of every run."""
    drawn = operator_scenes.Settings(seed=settings.seed)
    for size in settings.sizes:
        jax.clear_caches()  # the compiled programs of several sizes do not fit in memory
        for family in settings.families:
            scene = operator_scenes.draw(drawn, family, size, operator_scenes.TEST)
            reference = generator.reference_abundances(scene)
            for label, found in _answers(weights, jax.random.key(operator_scenes.TEST), scene.cube, size.count):
                A, E = (jnp.asarray(x) for x in found[:2])
                pair = operator_scenes.error_of(E, A, reference, scene.endmembers)
                yield _run("generated", f"{family}, {size.count}", label, *pair)
    for name in settings.known:
        jax.clear_caches()
        loaded = scenes.load(name, 0, settings.crop)
        count = len(loaded.references[0][0].endmembers)
        for label, found in _answers(weights, jax.random.key(0), loaded.cube, count):
            for number, (truth, _) in enumerate(loaded.references):
                errors = errors_of(*found, truth, loaded.cube)
                yield _run("known", f"{name}, reference {number + 1}", label, errors["armse"], errors["msad"])


def _run(group: str, scene: str, label: str, armse: Any, msad: Any) -> dict[str, Any]:
    return {"scenes": group, "scene": scene, "weights": label, "aRMSE": float(armse), "mSAD": float(msad)}


def summary(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each group of scenes and seed, and the mean of the seeds."""
    rows = []
    for group, words in _GROUPS.items():
        some = [run for run in found if run["scenes"] == group]
        logs = {(run["weights"], run["scene"]): np.log(np.maximum((run["aRMSE"], run["mSAD"]), _FLOOR)) for run in some}
        names = list(dict.fromkeys(run["scene"] for run in some))
        seeds = [label for label in dict.fromkeys(run["weights"] for run in some) if label != "start"]
        own = []
        for seed in seeds:
            ratio = np.asarray([logs[seed, name] - logs["start", name] for name in names])
            own.append({
                "scenes of": words, "seed": seed, "scenes": len(names), "aRMSE / start": np.exp(ratio[:, 0].mean()),
                "worst": np.exp(ratio[:, 0].max()), "harmed": (ratio[:, 0] > np.log(1.05)).mean(),
                "mSAD / start": np.exp(ratio[:, 1].mean()),
            })  # fmt: skip
        if own:
            values = {key: np.asarray([row[key] for row in own]) for key in own[0] if key not in ("scenes of", "seed")}
            for word, of in (("mean", np.mean), ("standard deviation", np.std)):
                own.append({"scenes of": words, "seed": word} | {key: of(x) for key, x in values.items()})
                own[-1]["scenes"] = len(names)
        rows += own
    return [{key: x.item() if isinstance(x, np.generic) else x for key, x in row.items()} for row in rows]


def main(settings: Settings, folder: Path, output: Path) -> Path:
    """Unmix all scenes with all weights, and write `seeds_scenes.csv` and the summary `seeds.csv` and `seeds.md`."""
    weights = weights_in(folder)
    found = []
    there, missing = scenes.at_hand(settings.known)
    for run in runs(replace(settings, known=tuple(there)), weights):
        found.append(run)
        print(results_table.line(run), flush=True)
        results_table.write_csv(output / "seeds_scenes.csv", found)
    note = (
        f"Generator {generator.fingerprint()}, seed of the scenes {settings.seed}; one draw of each scene. Seed 0 is "
        f"that of the package. Every run: `seeds_scenes.csv`.{missing}"
    )
    command = "python -m experiments.operator.seeds FOLDER"
    kind = f"{len(weights)} seeds of the training, all families."
    return results_table.write(output, "seeds", summary(found), command, note, kind)


def command_line(argv: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of `experiments.operator.train`")
    parser.add_argument("-o", dest="output", type=Path, default=Path("results"))
    parser.add_argument("--quick", action="store_true", help="one family, one scene at hand, small")
    given = parser.parse_args(argv)
    print(main(QUICK if given.quick else Settings(), given.folder, given.output))


if __name__ == "__main__":
    command_line()
