"""Train the learned operator, without each group of families in turn and with all families.

    python -m experiments.operator.train FOLDER [--folds 0 1 2 3 4 5 all] [--seed 0] [--quick]

FOLDER keeps the measured scenes, the weights of every fold (`fold_K_SEED.npz`, `all_SEED.npz`), what they choose and
their equilibria; a part that is there is not made again. Fold K leaves out the families K, K + 6, K + 12 and K + 18 of
`generator.FAMILIES`: nothing of them is seen by any part of the operator, so that every family is judged by weights
that saw neither it nor three others. Test minerals are never trained on. Scenes of further seeds train the two choices
alone, and nothing is done with those of families left out (`operator_scenes.TRAINING`). `all` is what the package ships
(`src/dequnmix_jax/data/operator.npz`).
"""

import argparse
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

import jax
import numpy as np

from dequnmix_jax.datasets import generator
from dequnmix_jax.learned import choice
from dequnmix_jax.learned import weights as files
from experiments.shared import operator_learning, operator_scenes

FOLDS = 6


def families_of(fold: str) -> tuple[int, ...]:
    """Return the indices of the families that a fold leaves out."""
    return () if fold == "all" else tuple(range(int(fold), len(generator.FAMILIES), FOLDS))


def main(folder: Path, folds: list[str], seed: int, quick: bool) -> None:
    """Train the folds that are not there."""
    scenes, learning = operator_scenes.TRAINING, operator_learning.Learning()
    if quick:
        scenes = operator_scenes.QUICK
        learning = operator_learning.Learning(networks=1, steps=30, epochs=1, batch=4)
    groups = operator_scenes.measured(scenes, folder / "scenes")
    for fold in folds:
        name = f"all_{seed}" if fold == "all" else f"fold_{fold}_{seed}"
        path = folder / f"{name}.npz"
        if path.exists():
            continue
        used = operator_scenes.without(groups, families_of(fold))
        trained, table, moved, seconds = operator_learning.learn(
            seed,
            used,
            learning,
            families_of(fold),
            f"fold {fold}, seed {seed}:",
            str(folder / f"joint_{name}"),
        )  # fmt: skip
        command = (
            f"python -m experiments.operator.train FOLDER --folds {fold} --seed {seed}{' --quick' if quick else ''}"
        )
        versions = f"jax {jax.__version__}, numpy {np.__version__}, Python {platform.python_version()}"
        made = files.Provenance(
            command, seed, generator.fingerprint(), versions, datetime.now(UTC).date().isoformat(), seconds
        )
        prediction = jax.tree.map(np.asarray, operator_learning.choose(trained.last, table)[1])
        first = operator_learning.first_table(used)
        first_prediction = operator_learning.choose(trained.first, first)[1]
        np.savez(
            folder / f"chosen_{name}.npz", relative=prediction.relative,
            spread=prediction.spread, level=prediction.level, angle=prediction.angle,
            first=jax.vmap(choice.cost)(first_prediction), error=table.error, msad=table.msad, rule=table.rule,
            held_out=table.held_out, above=table.above,
            family=table.family, source=table.source, left=np.asarray(families_of(fold), int),
            converged=np.concatenate([m.converged for m in moved.values()]),
            steps=np.concatenate([m.steps for m in moved.values()]),
            radius=np.concatenate([m.radius for m in moved.values()]),
        )  # fmt: skip
        files.save(path, trained, made)
        print(f"{name}: {seconds} CPU s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--folds", nargs="+", default=[*map(str, range(FOLDS)), "all"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="eight families, four scenes each, few steps")
    given = parser.parse_args()
    main(given.folder, given.folds, given.seed, given.quick)
    sys.exit(0)
