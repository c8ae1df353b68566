"""Measure all ways to unmix on scenes of every family of the generator: scores without the truth, errors with it.

    python -m experiments.operator.choice_data -o FOLDER [--scenes 24] [--seed 0] [--quick]

For each scene (`dequnmix_jax.datasets.generator`; in turn training minerals, random spectra, test minerals) the
candidates of `select_endmembers` are scored, and the aRMSE and mSAD of 24 ways are taken: each candidate under its
constraint, and the spectra of those under the cone with a soft sum. One file for each family, which a second run does
not repeat. `experiments.operator.choice` learns from them.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax.datasets import generator
from dequnmix_jax.endmembers import candidates

SIZES = (
    generator.SceneShape(40, 40, 80, 3),
    generator.SceneShape(36, 44, 120, 4),
    generator.SceneShape(48, 32, 60, 6),
)
"""Sizes of the scenes, in turn: three only, because each is compiled."""

SOURCES = ("training", "training", "random", "test")
"""Where the spectra of a family's scenes come from, in turn."""


@dataclass(frozen=True)
class Settings:
    """Scenes of each family, the seed, and the families."""

    scenes: int = 24
    seed: int = 0
    families: tuple[str, ...] = generator.FAMILIES


@jax.jit
def truths(E: jax.Array, cube: jax.Array, reference: jax.Array, spectra: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return aRMSE and mSAD (24,) of all ways with candidate spectra (16, R, B)."""
    half = len(candidates.CANDIDATES) // 2

    def one(E: jax.Array, A: jax.Array) -> tuple[jax.Array, jax.Array]:
        order = dq.metrics.align(E, spectra)
        return dq.metrics.armse(A[..., order], reference), dq.metrics.msad(E[order], spectra)

    linear = jax.lax.map(lambda e: one(e, dq.abundances.fcls(cube, e)), E[:half])
    scaled = jax.lax.map(lambda e: one(e, dq.abundances.scaled_nnls(cube, e)[0]), E[half:])
    soft = jax.lax.map(lambda e: one(e, dq.abundances.soft_nnls(cube, e)[0]), E[half:])
    armse, msad = (jnp.concatenate(x) for x in zip(linear, scaled, soft, strict=True))
    return armse, msad


def measure(family: str, settings: Settings) -> dict[str, np.ndarray]:
    """Return scores and errors of the scenes of a family, with a first axis of scenes."""
    rows = []
    for i in range(settings.scenes):
        size, source = SIZES[i % len(SIZES)], SOURCES[(i // len(SIZES)) % len(SOURCES)]
        key = jax.random.fold_in(jax.random.key(settings.seed), i)
        scene = generator.draw(key, family, size, source)
        valid = jnp.ones(scene.cube.shape[:2], bool)
        E, scores, whole = candidates.candidates(jax.random.fold_in(key, 1), scene.cube, valid, size.count)
        armse, msad = truths(E, scene.cube, generator.reference_abundances(scene), scene.endmembers)
        rows.append(
            {f"score/{name}": np.asarray(value) for name, value in scores._asdict().items()}
            | {f"scene/{name}": np.asarray(value) for name, value in whole._asdict().items()}
            | {"armse": np.asarray(armse), "msad": np.asarray(msad), "snr": np.asarray(scene.snr)}
            | {"source": np.asarray(SOURCES.index(source)), "count": np.asarray(size.count)}
        )
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def main(settings: Settings, folder: Path) -> None:
    """Measure every family whose file is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    for family in settings.families:
        path = folder / f"{family.replace(' ', '_')}_{settings.seed}_{settings.scenes}.npz"
        if path.exists():
            continue
        measured = measure(family, settings)
        np.savez(path, generator=generator.fingerprint(), **measured)
        best = measured["armse"].min(axis=1)
        print(family, "best of 24, geometric mean:", round(float(np.exp(np.log(best).mean())), 4), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", dest="folder", type=Path, required=True, help="where the files are written")
    parser.add_argument("--scenes", type=int, default=24, help="scenes of each family")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="two families, three scenes each")
    given = parser.parse_args()
    chosen = Settings(3, given.seed, generator.FAMILIES[:2]) if given.quick else Settings(given.scenes, given.seed)
    main(chosen, given.folder)
    sys.exit(0)
