"""The scene of `dequnmix demo`, and what the method gives on the eleven drawn beside it.

    python -m experiments.comparison.demo_scenes [--quick] [-o results]
    python -c 'from experiments.comparison import demo_scenes; demo_scenes.ship("src/dequnmix_jax/data/minerals.npz")'

Twelve draws (keys 0 to 11) of the family "compound" of `dq.datasets.draw`: brightness, varying spectra, products of
materials, a dark material and coloured, striped noise, a little of each; minerals that no training used. Of the twelve,
sorted by the aRMSE of `dq.run` over that of VCA + FCLS (geometric mean over seeds), the demo shows the less favourable
of the two in the middle: neither the best nor the worst. Errors are in the convention of the scene.

VCA + FCLS takes the largest simplex of ten draws of VCA, as the demo does; "one draw", the first that comes, as the
tables of competitors and `dequnmix compare` do. Where there is noise the largest is not always the better one.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax.conventions import factors_to, rescale
from dequnmix_jax.datasets.generator import DrawnScene, materials, reference_abundances
from dequnmix_jax.training.fitting import STARTS
from experiments.shared import results_table

FAMILY, SHIPPED = "compound", 11
"""The key of the shipped scene is a result of this experiment."""

_CONVENTIONS = ("reflectance", "scaled")
_SIZE = dq.datasets.SceneShape(60, 60, 100, 4)


@dataclass(frozen=True)
class Settings:
    """Which keys are drawn, and the size of the scenes."""

    keys: tuple[int, ...] = tuple(range(12))
    seeds: int = 3
    size: dq.datasets.SceneShape = _SIZE


QUICK = Settings(keys=(0, 1), seeds=1, size=dq.datasets.SceneShape(20, 20, 40, 3))


def drawn(key: int, size: dq.datasets.SceneShape) -> DrawnScene:
    """Return a scene."""
    return dq.datasets.draw(jax.random.key(key), FAMILY, size, "test")


def _errors(scene: DrawnScene, A: Any, E: Any) -> tuple[float, float]:
    order = dq.metrics.align(jnp.asarray(E), scene.endmembers)
    error = dq.metrics.armse(jnp.asarray(A)[..., order], reference_abundances(scene))
    return float(error), float(dq.metrics.msad(jnp.asarray(E)[order], scene.endmembers))


def _one(scene: DrawnScene, seed: int) -> dict[str, tuple[float, float]]:
    """Return aRMSE and mSAD of each method."""
    word = _CONVENTIONS[int(scene.convention)]
    cube, count = jnp.asarray(scene.cube), scene.endmembers.shape[0]
    found = {}
    for method, runs in (("VCA + FCLS", STARTS), ("VCA + FCLS, one draw", 1)):
        E = jnp.maximum(dq.endmembers.vca(jax.random.key(seed), cube, count, runs=runs), 0)
        A = _fcls(cube, E)
        if word == "scaled":
            A = rescale(A, factors_to(word, E.max(axis=1)))[0]
        found[method] = _errors(scene, A, E)
    result = dq.run(np.asarray(scene.cube), count, jax.random.key(seed)).in_convention(word)
    return found | {"dq.run": _errors(scene, result.abundances, result.endmembers)}


_fcls = jax.jit(dq.abundances.fcls)


def _rows(key: int, settings: Settings) -> list[dict[str, Any]]:
    scene = drawn(key, settings.size)
    runs = [_one(scene, seed) for seed in range(settings.seeds)]
    print(key, runs, flush=True)
    rows = []
    for method in runs[0]:
        errors = np.array([run[method] for run in runs])
        ratios = np.array([run[method][0] / run["VCA + FCLS"][0] for run in runs])
        mean, spread = errors.mean(axis=0), errors.std(axis=0)
        rows.append({
            "key": key, "method": method, "aRMSE": float(mean[0]), "aRMSE_sd": float(spread[0]), "mSAD": float(mean[1]),
            "mSAD_sd": float(spread[1]), "aRMSE / VCA + FCLS": float(np.exp(np.log(ratios).mean())),
            "worst": float(ratios.max()),
        })  # fmt: skip
    return rows


def main(settings: Settings, folder: Path) -> Path:
    """Write the table."""
    rows = [row for key in settings.keys for row in _rows(key, settings)]
    ours = sorted((row for row in rows if row["method"] == "dq.run"), key=lambda row: row["aRMSE / VCA + FCLS"])
    middle = ours[len(ours) // 2]
    ratios = np.array([row["aRMSE / VCA + FCLS"] for row in ours])
    mean = dict.fromkeys(ours[0], float("nan")) | {"key": "geometric mean", "method": "dq.run"}
    mean["aRMSE / VCA + FCLS"] = float(np.exp(np.log(ratios).mean()))
    mean["worst"] = max(row["worst"] for row in ours)
    head = (
        f"Family {FAMILY}, {settings.size}, test minerals; {settings.seeds} seeds. Ratios: geometric mean, and "
        f"the worst. The less favourable of the two draws in the middle: key {middle['key']}. Shipped: {SHIPPED}."
    )
    command = "python -m experiments.comparison.demo_scenes"
    return results_table.write(folder, "demo_scenes", [*rows, mean], command, head)


def ship(path: Path) -> None:
    """Write the scene of the demo, cube as float16, with its reference."""
    scene = drawn(SHIPPED, Settings().size)
    names = [materials.minerals()[1][i].split()[0] for i in np.asarray(scene.rows)]  # the mineral, without the specimen
    np.savez_compressed(
        path,
        cube=np.asarray(scene.cube, np.float16),
        abundances=np.asarray(reference_abundances(scene), np.float16),
        endmembers=np.asarray(scene.endmembers),
        names=np.array(names),
        wavelengths_nm=np.asarray(scene.wavelengths),
        convention=np.array(_CONVENTIONS[int(scene.convention)]),
        note=np.array(f"exact fractions of a generated scene (family {FAMILY}, key {SHIPPED})"),
    )


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
