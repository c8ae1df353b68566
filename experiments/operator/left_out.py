"""What the learned operator is worth on families of scenes, and on minerals, that it never saw.

    python -m experiments.operator.train FOLDER
    python -m experiments.operator.left_out FOLDER [-o results] [--quick]

Every scene of a family is unmixed by the weights of the fold that left this family (and three others) out; "other
minerals" are scenes of test minerals of all families, by weights that were trained on all families without these
minerals. One configuration for all. Methods, each blind:

* VCA + FCLS, minimum volume + FCLS: candidates of `select_endmembers`.
* start: the rule of `select_endmembers` and the exact solver of its mixing model, which is the analytic equilibrium.
* start + neighbours, start + learned prior: with a prior over neighbours, kept where the scene shows that it helps.
* learned choice: the learned choice among 24 ways, without the learned equilibrium.
* learned operator: choice, learned equilibrium, choice.
* no guard: the way of the smallest predicted error, whatever the rule chose and the held-out bands say.
* learned operator + learned prior: what `dq.run` and `dequnmix report` do.
* oracle of 24: the best candidate, picked with the truth.

With `--every N` rows with a prior are of every N-th scene, compared with the start of the same scenes; N odd, because
every fourth scene has test minerals.

The aRMSE is that in the convention of the scene (`generator.reference_abundances`), compared with that of start as a
geometric mean over scenes; "harmed" is the share of scenes where it is more than 5 % larger. aRMSE below 0.001 counts
as 0.001.
"""

import argparse
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax.datasets import generator
from dequnmix_jax.learned import choice
from dequnmix_jax.learned import weights as files
from dequnmix_jax.learned.selection import WAYS
from dequnmix_jax.training.stages import without_training
from experiments.shared import operator_learning, operator_scenes, results_table

_FLOOR = 1e-3
METHODS = (
    "VCA + FCLS", "minimum volume + FCLS", "start", "start + neighbours", "start + learned prior", "learned choice",
    "learned choice, no guard", "learned operator", "learned operator, no guard", "learned operator + learned prior",
    "oracle of 24",
)  # fmt: skip
CONSTRAINTS = (dq.equilibrium.Simplex(), dq.equilibrium.Cone(), dq.equilibrium.Soft())


@cache
def _unmix(config: dq.Model) -> Any:
    return jax.jit(lambda params, cube: dq.unmix(params, cube, config)[0].abundances)


def with_prior(cube: jax.Array, E: jax.Array, constraint: int, prior: str) -> jax.Array:
    """Return the abundances of given endmembers with a prior that the scene itself judges."""
    config = dq.Model(gradient=dq.equilibrium.Analytic(), constraint=CONSTRAINTS[constraint], prior=prior)
    params, _ = without_training(jax.random.key(0), cube, config, E)
    return _unmix(config)(params, cube)


def of_fold(folder: Path, fold: str, seed: int, groups: Any, every: int) -> Iterator[dict[str, Any]]:
    """Yield the errors of all methods on the scenes that a fold has not seen; priors on every so many-th scene."""
    name = f"all_{seed}" if fold == "all" else f"fold_{fold}_{seed}"
    operator, made = files.read(folder / f"{name}.npz")
    if made.generator != generator.fingerprint():
        raise SystemExit(f"{name} was trained by another generator; train it again.")
    with np.load(folder / f"chosen_{name}.npz") as file:
        chosen = {key: file[key] for key in file}
    left = chosen["left"]
    prediction = choice.Prediction(*(jnp.asarray(chosen[name]) for name in choice.Prediction._fields))
    rest = [jnp.asarray(chosen[name]) for name in ("rule", "held_out", "above")]
    after = np.asarray(jax.vmap(choice.decide)(prediction, *rest))
    cost = jnp.asarray(chosen["first"])
    first = choice.Prediction(cost, cost, jnp.zeros(len(cost)), jnp.zeros_like(cost))
    before = np.asarray(jax.vmap(choice.decide)(first, rest[0], *(x[:, : cost.shape[1]] for x in rest[1:])))
    unguarded = [np.asarray(jnp.argmin(x, axis=1)) for x in (chosen["first"], jax.vmap(choice.cost)(prediction))]
    offset = 0
    for count, group in operator_scenes.without(groups, tuple(left)).items():
        out = np.isin(group.family, left) if left.size else group.source == operator_scenes.TEST
        for place, i in enumerate(np.nonzero(out)[0]):
            at = offset + i
            error, msad = np.exp(chosen["error"][at]), np.exp(chosen["msad"][at])
            rule, way = int(group.rule[i]), int(after[at])
            ways = (
                ("VCA + FCLS", 0), ("minimum volume + FCLS", 3), ("start", rule), ("learned choice", before[at]),
                ("learned choice, no guard", unguarded[0][at]), ("learned operator", way),
                ("learned operator, no guard", unguarded[1][at]), ("oracle of 24", int(error[:24].argmin())),
            )  # fmt: skip
            found = {name: (error[w], msad[w]) for name, w in ways}
            if place % every == 0:
                found |= _with_priors(operator, group, i, chosen["first"][at], rule, way)
            said = float(chosen["level"][at] + chosen["relative"][at][way])
            yield {
                "fold": fold, "family": generator.FAMILIES[group.family[i]], "count": count, "found": found,
                "said": said, "spread": float(chosen["spread"][at][way]), "refined": way >= 24,
                "changed": way != rule, "radius": float(np.max(chosen["radius"][at])),
                "steps": float(np.max(chosen["steps"][at])), "converged": bool(np.all(chosen["converged"][at])),
            }  # fmt: skip
        offset += len(group.rule)


def _with_priors(
    operator: files.OperatorWeights,
    group: Any,
    i: int,
    first: np.ndarray,
    rule: int,
    way: int,
) -> dict[str, tuple[float, ...]]:
    scene = operator_scenes.drawn(group, i)
    row = jax.tree.map(lambda x: x[i], group)
    moved, _ = operator_learning.move_scene(operator, scene.cube, row, first)
    spectra = np.concatenate([group.spectra[i], np.asarray(moved.spectra)])
    found = {}
    for name, w, prior in (
        ("start + neighbours", rule, "neighbours"), ("start + learned prior", rule, "learned"),
        ("learned operator + learned prior", way, "learned"),
    ):  # fmt: skip
        E = jnp.asarray(spectra[WAYS[w].spectra])
        A = with_prior(scene.cube, E, WAYS[w].constraint, prior)
        found[name] = tuple(float(x) for x in operator_scenes.error_of(E, A, row.reference, row.endmembers))
    return found


def summary(judged: str, scenes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each method."""
    rows = []
    for method in METHODS:
        some = [s for s in scenes if method in s["found"]]
        if not some:
            continue
        start = np.log([max(s["found"]["start"][0], _FLOOR) for s in some])
        base = np.log([max(s["found"]["start"][1], _FLOOR) for s in some])
        values = np.asarray([s["found"][method] for s in some], float)
        values = np.log(np.maximum(np.nan_to_num(values, nan=1.0), _FLOOR))
        ratio = values[:, 0] - start
        rows.append({
            "judged on": judged, "method": method, "scenes": len(some),
            "aRMSE": float(np.exp(values[:, 0].mean())),
            "aRMSE / start": float(np.exp(ratio.mean())), "worst": float(np.exp(ratio.max())),
            "harmed": float((ratio > np.log(1.05)).mean()),
            "mSAD / start": float(np.exp((values[:, 1] - base).mean())),
        })  # fmt: skip
    return rows


def fitted(said: np.ndarray, spread: np.ndarray, real: np.ndarray) -> tuple[float, float]:
    """Return `choice.OPTIMISM`, by least squares, and `choice.WIDENED`, by the quantile of 68.3 %."""
    above = float(np.sum(spread * (real - said)) / np.sum(spread * spread))
    return above, float(np.quantile(np.abs(real - said - above * spread) / spread, 0.683))


def calibration(scenes: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], str]:
    """Return predicted and real errors in ten bins of equal number, and what was fitted, in a sentence.

    The scenes of each fold are judged with constants that were fitted to those of the other folds; those of a single
    fold with the constants of the package.
    """
    fold, said, spread = (np.asarray([s[name] for s in scenes]) for name in ("fold", "said", "spread"))
    real = np.log([max(s["found"]["learned operator"][0], _FLOOR) for s in scenes])
    folds = sorted(set(fold))
    whole = fitted(said, spread, real)
    pairs = {
        f: fitted(*(x[fold != f] for x in (said, spread, real)))
        if len(folds) > 1
        else (choice.OPTIMISM, choice.WIDENED)
        for f in folds
    }
    above, wide = (np.asarray([pairs[f][k] for f in fold]) for k in (0, 1))
    expected, deviation = said + above * spread, wide * spread
    rows = []
    for k, part in enumerate(np.array_split(np.argsort(expected), min(10, len(scenes)))):
        rows.append({
            "bin": k + 1, "scenes": len(part), "expected aRMSE": float(np.exp(expected[part].mean())),
            "real aRMSE": float(np.exp(real[part].mean())),
            "within one standard deviation": float((np.abs(real - expected) <= deviation)[part].mean()),
            "as predicted": float(np.exp(said[part].mean())),
            "within, as predicted": float((np.abs(real - said) <= spread)[part].mean()),
        })  # fmt: skip
    text = (
        f"Expected is what the networks predict, raised by {whole[0]:.2f} of its standard deviation, which is widened "
        f"by {whole[1]:.2f}: fitted to all these scenes; here each fold is judged by a fit to the others "
        f"({min(p[0] for p in pairs.values()):.2f} to {max(p[0] for p in pairs.values()):.2f}, "
        f"{min(p[1] for p in pairs.values()):.2f} to {max(p[1] for p in pairs.values()):.2f}). Within one standard "
        f"deviation are {np.mean(np.abs(real - expected) <= deviation):.1%} of the scenes, as predicted "
        f"{np.mean(np.abs(real - said) <= spread):.1%}."
    )
    return rows, text


def main(folder: Path, output: Path, seed: int, quick: bool, every: int = 1) -> None:
    """Write the tables."""
    settings = operator_scenes.TRAINING
    if quick:
        settings = operator_scenes.QUICK
    groups = operator_scenes.measured(settings, folder / "scenes")
    folds = sorted(p.stem.split("_")[1] for p in folder.glob(f"fold_*_{seed}.npz"))
    left: list[dict[str, Any]] = []
    for fold in folds:
        left += of_fold(folder, fold, seed, groups, every)
        print(fold, len(left), flush=True)
    rows = summary("families left out", left)
    if (folder / f"all_{seed}.npz").exists():
        other = list(of_fold(folder, "all", seed, groups, every))
        rows += summary("other minerals", other)
    for family in dict.fromkeys(s["family"] for s in left):
        some = [s for s in left if s["family"] == family]
        rows += [r for r in summary(family, some) if r["method"] in METHODS[3:]]
    command = f"python -m experiments.operator.left_out FOLDER{'' if every == 1 else f' --every {every}'}"
    radius, steps = ([s[name] for s in left] for name in ("radius", "steps"))
    note = (
        f"Generator {generator.fingerprint()}, seed of the scenes {settings.seed}, of the training {seed}. Folds leave "
        f"out {len(generator.FAMILIES) // 6} families each; {len(folds)} of six. The learned equilibrium converged on "
        f"{np.mean([s['converged'] for s in left]):.1%} of the scenes, in {np.median(steps):.0f} "
        f"steps (95 %: {np.quantile(steps, 0.95):.0f}); spectral radius of its map at the answer: "
        f"median {np.nanmedian(radius):.2f}, 95 %: {np.nanquantile(radius, 0.95):.2f}. "
        f"Its spectra were chosen on {np.mean([s['refined'] for s in left]):.0%} of them, another way than that of the "
        f"rule on {np.mean([s['changed'] for s in left]):.0%}."
    )
    results_table.write(output, "left_out", rows, command, note, "One seed of the training.")
    bins, text = calibration(left)
    note = f"Families left out; ten bins of equal number in the order of the expected error. {text}"
    results_table.write(output, "left_out_confidence", bins, command, note, "One seed of the training.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", dest="output", type=Path, default=Path("results"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="of `train --quick`")
    parser.add_argument("--every", type=int, default=1, help="priors are judged on every so many-th scene")
    given = parser.parse_args()
    main(given.folder, given.output, given.seed, given.quick, given.every)
