"""Does a wide generator help the learned operator? Trained on few families and on many, judged on others.

    python -m experiments.operator.narrowed FOLDER [--quick] [--seeds 1] [-o results]

Four families are judged (matern, targets, topography, bent) that neither training sees. "narrow" trains on four
families of linear mixtures with white noise and one brightness (smooth, blocks, squares, gradient), "wide" on all
twenty others; both on the same number of scenes, with the same steps of training. FOLDER keeps the measured scenes and
equilibria; a part that is there is not made again.

Methods as in `experiments.operator.left_out`, of which this is a smaller repetition. The aRMSE is compared with that of
start as a geometric mean over scenes; "harmed" is the share of scenes where it is more than 5 % larger. aRMSE below
0.001 counts as 0.001.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dequnmix_jax.datasets import generator
from dequnmix_jax.learned import choice
from experiments.shared import operator_learning, operator_scenes, results_table
from experiments.shared.operator_learning import Groups, Learning, Table


@dataclass(frozen=True)
class Settings:
    """Families that are judged and that the narrow training sees; scenes of each family and size; seeds of training."""

    judged: tuple[str, ...] = ("matern", "targets", "topography", "bent")
    narrow: tuple[str, ...] = ("smooth", "blocks", "squares", "gradient")
    scenes: operator_scenes.Settings = field(default_factory=lambda: operator_scenes.Settings(scenes=12))
    learning: Learning = field(default_factory=Learning)
    seeds: int = 1


QUICK = Settings(
    scenes=operator_scenes.Settings(
        4, families=("smooth", "matern", "fine", "blocks", "bent"), sizes=operator_scenes.SIZES[:1]
    ),
    judged=("matern", "bent"),
    narrow=("smooth", "blocks"),
    learning=Learning(networks=1, steps=30, epochs=1, batch=4),
)


def _groups(folder: Path, *settings: operator_scenes.Settings) -> Groups:
    parts = [operator_scenes.measured(each, folder) for each in settings if each.families]
    return {count: jax.tree.map(lambda *x: np.concatenate(x), *(part[count] for part in parts)) for count in parts[0]}


def trainings(settings: Settings, folder: Path) -> dict[str, Groups]:
    """Return the scenes of both trainings, each with those that are judged."""
    scenes = settings.scenes
    others = tuple(family for family in scenes.families if family not in settings.judged)
    more = scenes.scenes * len(others) // len(settings.narrow)
    judged = replace(scenes, families=settings.judged)
    return {
        "narrow": _groups(folder, replace(scenes, families=settings.narrow, scenes=more), judged),
        "wide": _groups(folder, replace(scenes, families=others), judged),
    }


def judge(operator: Any, first: Table, last: Table, judged: np.ndarray) -> list[dict[str, Any]]:
    """Return a row for each method over the scenes that are judged."""
    guarded = [
        np.asarray(operator_learning.choose(*pair)[0]) for pair in ((operator.first, first), (operator.last, last))
    ]
    cost = jax.vmap(choice.cost)(operator_learning.choose(operator.last, last)[1])
    ways = {
        "start": last.rule, "learned choice": guarded[0], "learned operator": guarded[1],
        "learned operator, no guard": np.asarray(jnp.argmin(cost, axis=1)),
    }  # fmt: skip
    scenes = np.nonzero(judged)[0]
    rows = []
    for method, way in ways.items():
        ratio, angle = (y[scenes, way[scenes]] - y[scenes, last.rule[scenes]] for y in (last.error, last.msad))
        rows.append({
            "method": method, "scenes": len(scenes), "aRMSE / start": float(np.exp(ratio.mean())),
            "worst": float(np.exp(ratio.max())), "harmed": float((ratio > np.log(1.05)).mean()),
            "mSAD / start": float(np.exp(angle.mean())),
        })  # fmt: skip
    return rows


def main(settings: Settings, folder: Path, output: Path) -> Path:
    """Train what is not there, and write `narrowed.csv` and `narrowed.md`."""
    left = tuple(sorted(generator.FAMILIES.index(family) for family in settings.judged))
    rows: list[dict[str, Any]] = []
    for name, groups in trainings(settings, folder / "scenes").items():
        for seed in range(settings.seeds):
            part = str(folder / f"joint_{name}_{seed}")
            learnt = operator_learning.learn(seed, groups, settings.learning, left, f"{name}, seed {seed}:", part)
            operator, last, _, seconds = learnt
            first = operator_learning.first_table(groups)
            number = int((~np.isin(last.family, left) & (last.source != operator_scenes.TEST)).sum())
            label = {"training": name, "seed": seed, "trained on": number, "CPU s": seconds}
            rows += [label | row for row in judge(operator, first, last, np.isin(last.family, left))]
            print(results_table.line(rows[-2]), flush=True)
    note = f"Generator {generator.fingerprint()}. {settings}"
    command = "python -m experiments.operator.narrowed FOLDER" + (
        f" --seeds {settings.seeds}" if settings.seeds > 1 else ""
    )
    kind = f"Scenes of the families {', '.join(settings.judged)}, which no training saw."
    return results_table.write(output, "narrowed", rows, command, note, kind)


def command_line(argv: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", dest="output", type=Path, default=Path("results"))
    parser.add_argument("--quick", action="store_true", help="five families, few scenes and steps")
    parser.add_argument("--seeds", type=int, default=1, help="of the training")
    given = parser.parse_args(argv)
    print(main(replace(QUICK if given.quick else Settings(), seeds=given.seeds), given.folder, given.output))


if __name__ == "__main__":
    command_line()
