"""How the weights of `select_endmembers` were chosen: on generated scenes of eighteen families, none in a results
table.

    python -m experiments.defaults.selection_weights [--quick] [-o results]

For each scene of `experiments.shared.families` all candidates are run and scored without the truth; the truth then
gives the ratio of each aRMSE to the lowest. The weights minimise the mean log ratio plus a quarter of the mean of the
worst tenth, which penalises rare large errors. **Each family is judged by weights that were chosen on all others**,
from two sets: a grid of simple rules (the mixing model, and what purified and minimum-volume candidates must gain) and
many random ones, which use all scores. The table also has the previous weights (chosen on fewer kinds of scenes), the
defaults, and each candidate alone.

The value of "unsure": the ratio where a rule is sure compared with where it is unsure. Its two thresholds are chosen in
the same way, by the largest correlation of the flag with the log ratio; the previous rule used the gap between the
costs of kinds, the distance from thresholds and the instability.

If pixels have a brightness, the reference is in the convention of the cone (endmembers at maximum one), else in that of
the simplex.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax.endmembers import candidates, selection
from experiments.shared import families, results_table

Array = np.ndarray


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment: `draws` scenes of each family, and `trials` weights drawn at random."""

    families: tuple[str, ...] = families.FAMILIES
    draws: int = 18
    side: int = 48
    bands: int = 96
    trials: int = 3000


QUICK = Settings(families=("smooth", "topography"), draws=1, side=16, bands=24, trials=20)

BEFORE = selection.Weights(bright=0.16, shared=0.15, whole=float("inf"), purified=0.02, varied=0.35)
"""The weights that were chosen on scenes of fewer kinds."""

GRID = tuple(
    selection.Weights()._replace(bright=bright, shared=shared, whole=whole, purified=purified, varied=varied)
    for bright, shared, whole, purified, varied in itertools.product(
        (0.05, 0.1, 0.16, 0.25), (0.0, 0.15, 0.3), (0.5, 1.0, 1.5, float("inf")), (0.0, 0.005, 0.01, 0.02),
        (0.0, 0.35, 0.5, 0.7),
    )
)  # fmt: skip
"""Simple rules."""

THRESHOLDS = tuple(itertools.product((0.0, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9), (0.01, 0.02, 0.03, 0.05, 0.1, 10.0)))
"""Of `Weights.pure` and `Weights.unstable`."""

NAMES = [str(candidate) for candidate in candidates.CANDIDATES]
NAMES += [name.replace("scaled NNLS", "soft NNLS") for name in NAMES if "scaled" in name]


@jax.jit
def errors(E: jax.Array, cube: jax.Array, truth: jax.Array, spectra: jax.Array) -> jax.Array:
    """Return the aRMSE of all candidates, then of the spectra of those under the cone with a soft sum, (3 C / 2,)."""
    half = len(candidates.CANDIDATES) // 2

    def one(E: jax.Array, A: jax.Array) -> jax.Array:
        return dq.metrics.armse(A[..., dq.metrics.align(E, spectra)], truth)

    linear = jax.lax.map(lambda e: one(e, dq.abundances.fcls(cube, e)), E[:half])
    scaled = jax.lax.map(lambda e: one(e, dq.abundances.scaled_nnls(cube, e)[0]), E[half:])
    soft = jax.lax.map(lambda e: one(e, dq.abundances.soft_nnls(cube, e)[0]), E[half:])
    return jnp.concatenate([linear, scaled, soft])


class Decided(NamedTuple):
    """Decisions of a rule for scenes, (S,) each.

    Attributes:
        entry: the chosen entry of `errors`.
        unsure: whether it is unsure, by the thresholds of the rule.
        before: whether it is by the previous rule.
        certain: whether there are no doubts except those of purity and instability, which have thresholds.
        purity, instability: `Scores` of the choice.
    """

    entry: jax.Array
    unsure: jax.Array
    before: jax.Array
    certain: jax.Array
    purity: jax.Array
    instability: jax.Array


@jax.jit
def pick(scores: candidates.Scores, whole: candidates.SceneScores, weights: selection.Weights) -> Decided:
    """Return the decisions of `select_endmembers` for scenes with scores (S, C)."""

    def one(scores: candidates.Scores, whole: candidates.SceneScores) -> Decided:
        selected = selection.decide(scores, whole, weights)
        at, soft = selected.chosen, selected.constraint_index == selection.SOFT
        # The previous rule: kinds of nearly equal cost, figures near a threshold, spectra that depend on the pixels.
        enough = weights.shared * jnp.minimum(selected.brightness, 1)
        differ = selected.brightness > weights.bright
        before = ~(selected.margin >= 0.1) | ~(scores.instability[at] <= 0.05)
        before = before | (jnp.abs(selected.brightness - weights.bright) < 0.04)
        before = before | (differ & (jnp.abs(selected.shared - enough) < 0.04))
        entry = at + len(candidates.CANDIDATES) // 2 * soft.astype(jnp.int32)
        certain = (selected.lacking < 1) & (selected.beyond < 1) & ~soft
        return Decided(entry, selected.unsure, before, certain, scores.purity[at], scores.instability[at])

    return jax.vmap(one)(scores, whole)


def drawn(key: int, trials: int) -> list[selection.Weights]:
    """Return weights drawn at random."""
    draw = np.random.default_rng(key)
    sets = []
    for _ in range(trials):
        # A weight of zero is a score that is not used. Small weights are as likely as large ones.
        size = draw.uniform(size=6) * (draw.uniform(size=6) < 0.5)
        largest = {"purified": 0.1, "varied": 1.2, "angle": 1.0, "volume": 0.5, "instability": 0.2, "impurity": 0.5}
        some = {name: float(most * x) for (name, most), x in zip(largest.items(), size, strict=True)}
        mixing_model = {
            "bright": draw.uniform(0.0, 0.5),
            "shared": draw.uniform(0.0, 0.4),
            "whole": draw.uniform(0.2, 2),
        }
        sets.append(selection.Weights()._replace(**{k: float(v) for k, v in mixing_model.items()}, **some))
    return sets


def cost(regret: Array) -> Array:
    """Return the cost of log ratios (..., S): their mean plus a quarter of the mean of the worst tenth."""
    most = max(1, regret.shape[-1] // 10)
    return regret.mean(axis=-1) + 0.25 * np.sort(regret, axis=-1)[..., -most:].mean(axis=-1)


def measure(settings: Settings) -> tuple[Array, Array, candidates.Scores, candidates.SceneScores]:
    """Return the family of each scene (S,), log ratios (S, ways), and the scores without the truth."""
    names, ratios, scores, scenes = [], [], [], []
    for draw, (number, family) in itertools.product(range(settings.draws), enumerate(settings.families)):
        made = families.load(family, draw, settings.side, settings.bands)
        cube = jnp.asarray(made.cube)
        key = jax.random.key(1000 * draw + number)
        valid = jnp.ones(cube.shape[:2], bool)
        E, measured, whole = candidates.candidates(key, cube, valid, made.endmembers.shape[0])
        error = np.asarray(errors(E, cube, jnp.asarray(made.abundances), jnp.asarray(made.endmembers)))
        names.append(family)
        ratios.append(np.log(error / error.min()))
        scores.append(measured)
        scenes.append(whole)
        print(family, draw, NAMES[int(error.argmin())], error.round(3).tolist(), flush=True)
    stacked = [jax.tree.map(lambda *x: jnp.stack(x), *some) for some in (scores, scenes)]
    return np.asarray(names), np.stack(ratios), stacked[0], stacked[1]


def left_out(family: Array, choose: Callable[[Array], int]) -> Array:
    """Return, for each scene, the entry that is chosen on the scenes of all other families, (S,)."""
    entries = np.zeros(family.size, int)
    for name in dict.fromkeys(family.tolist()):
        entries[family == name] = choose(family != name)
    return entries


def correlation(unsure: Array, regret: Array) -> float:
    """Return the correlation of a flag with the log ratio, -1 if the flag is constant or less than 30 % are sure."""
    sure = 1 - unsure.mean()
    return float(np.corrcoef(unsure, regret)[0, 1]) if 0.3 <= sure < 1 and regret.std() > 0 else -1.0


def main(settings: Settings, folder: Path) -> Path:
    """Run all candidates on all scenes, choose the weights and write the table."""
    family, regret, scores, scenes = measure(settings)
    every = np.arange(len(family))
    rows = []

    def of(sets: Sequence[selection.Weights]) -> tuple[Array, Decided]:
        decisions = [jax.tree.map(np.asarray, pick(scores, scenes, weights)) for weights in sets]
        all_of = Decided(*(np.stack(x) for x in zip(*decisions, strict=True)))
        return np.stack([regret[every, entry] for entry in all_of.entry]), all_of

    def add(rule: str, at: Array, unsure: Array | None = None, each: bool = True) -> None:
        for name in ("all", *settings.families) if each else ("all",):
            which = np.ones(len(family), bool) if name == "all" else family == name
            row = {
                "rule": rule,
                "family": name,
                "scenes": int(which.sum()),
                "geometric mean of aRMSE / best": float(np.exp(at[which].mean())),
                "worst": float(np.exp(at[which].max())),
                "over 1.2": float((at[which] > np.log(1.2)).mean()),
            }
            for word, some in (("sure", which & ~unsure), ("unsure", which & unsure)) if unsure is not None else ():
                row[f"share {word}"] = float(some.sum() / which.sum())
                for figure, value in (("mean", at[some].mean()), ("worst", at[some].max())) if some.any() else ():
                    row[f"{figure} where {word}"] = float(np.exp(value))
            rows.append({key: row.get(key, float("nan")) for key in COLUMNS})
            if name == "all":
                print(results_table.line(rows[-1]), flush=True)

    for word, weights in (("before", BEFORE), ("defaults", selection.Weights())):
        at, decisions = of([weights])
        add(f"{word}, unsure as before", at[0], decisions.before[0])
        add(f"{word}, unsure as now" if word == "before" else word, at[0], decisions.unsure[0])
    chosen = {}
    for word, sets in (("simple rules", list(GRID)), ("random weights", drawn(0, settings.trials))):
        at, decisions = of(sets)
        best = left_out(family, lambda which, at=at: int(np.argmin(cost(at[:, which]))))
        mine = at[best, every]
        # The thresholds of "unsure", for the weights of each scene's fold.
        flags = np.stack([
            ~(decisions.certain & (decisions.purity >= pure) & (decisions.instability <= unstable))[best, every]
            for pure, unstable in THRESHOLDS
        ])  # fmt: skip
        limits = left_out(
            family,
            lambda which, flags=flags, mine=mine: int(
                np.argmax([correlation(flag[which], mine[which]) for flag in flags])
            ),
        )
        add(f"{word}, each family left out", mine, flags[limits, every])
        chosen[word] = {name: sets[best[family == name][0]]._replace(
            pure=THRESHOLDS[limits[family == name][0]][0], unstable=THRESHOLDS[limits[family == name][0]][1]
        ) for name in settings.families}  # fmt: skip
        least = int(np.argmin(cost(at)))
        chosen[word]["none"] = sets[least]
        add(f"{word}, chosen by what judges them", at[least])
        for name, weights in chosen[word].items():
            print(f"{word}, {name} left out: {weights}", flush=True)
    for row, candidate in enumerate(NAMES):
        add(f"always {candidate}", regret[:, row], each=False)
    note = (
        f"Ratios: aRMSE of the choice over that of the best of {len(NAMES)} ways, picked with the truth. Before: "
        f"{BEFORE}. Defaults: {selection.Weights()}. Least cost on all families: {chosen['simple rules']['none']} of "
        f"the simple rules, {chosen['random weights']['none']} of the random ones. {settings}"
    )
    return results_table.write(
        folder, "selection_weights", rows, "python -m experiments.defaults.selection_weights", note, "One run."
    )


COLUMNS = (
    "rule", "family", "scenes", "geometric mean of aRMSE / best", "worst", "over 1.2", "share sure",
    "mean where sure", "worst where sure", "share unsure", "mean where unsure", "worst where unsure",
)  # fmt: skip


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
