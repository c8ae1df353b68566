"""The constants of `minimum_volume`, each against other values, on generated scenes.

    python -m experiments.defaults.minimum_volume [--quick] [-o results]

Scenes differ in the number of endmembers, purity and noise, and some have spectra that vary from pixel to pixel. Each
row changes one constant and compares the angles between estimated and true spectra with those of the defaults.
"""

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax.datasets import synthetic
from dequnmix_jax.endmembers import minimum_volume_simplex
from dequnmix_jax.endmembers.minimum_volume_simplex import Constants, enclosing
from dequnmix_jax.endmembers.noise import simplex_noise
from dequnmix_jax.endmembers.subspace import frame, pixels
from experiments.shared import results_table
from experiments.shared.kinds import Kind, draw_scene


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment: `draws` scenes of each kind, for each change of one constant."""

    kinds: tuple[Kind, ...] = (
        *(
            Kind(count, purity, snr)
            for count, purity in ((3, 1.0), (3, 0.8), (5, 0.8), (8, 0.7), (8, 0.9))
            for snr in (20.0, 30.0, 40.0)
        ),
        Kind(3, 0.8, 30.0, varied=0.1),
        Kind(5, 0.8, 40.0, varied=0.1),
    )
    changes: tuple[tuple[str, float | tuple[float, ...]], ...] = (
        ("weight", 1.0),
        ("weight", 4.0),
        ("dilations", (1.0,)),
        ("far", 2.0),
        ("far", 10.0),
        ("flat", 0.0),
        ("flat", 20.0),
        ("flat", 300.0),
    )
    draws: int = 3
    side: int = 40
    bands: int = 100


QUICK = Settings(kinds=(Kind(3, 0.8, 30.0),), changes=(("flat", 0.0),), draws=2, side=16, bands=24)


Scene = tuple[jax.Array, synthetic.Sample]


def angles(scenes: list[Scene], constant: str, value: float | tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean spectral angles of all scenes, radians, and the steps taken, with one constant changed."""
    weight = value if constant == "weight" else minimum_volume_simplex.WEIGHT
    constants = Constants() if constant == "weight" else Constants()._replace(**{constant: value})

    @jax.jit
    def one(key: jax.Array, cube: jax.Array, truth: jax.Array) -> tuple[jax.Array, jax.Array]:
        count = len(truth)
        start = dq.endmembers.vca(key, cube, count, runs=minimum_volume_simplex.RUNS)
        Y, valid = pixels(cube, None)
        E, trace = enclosing(
            frame(Y, valid, count, False), valid, start, simplex_noise(cube, count), False, weight, constants=constants
        )
        E = jnp.maximum(E, 0)
        return dq.metrics.msad(E[dq.metrics.align(E, truth)], truth), trace.steps

    results = [one(key, sample.cube, sample.endmembers) for key, sample in scenes]
    return np.asarray([angle for angle, _ in results]), np.asarray([steps for _, steps in results])


def main(settings: Settings, folder: Path) -> Path:
    """Run all changes and write the table."""
    changes = (("weight", minimum_volume_simplex.WEIGHT), *settings.changes)  # the first changes nothing
    rows, scenes, reference = [], [], None
    for draw in range(settings.draws):
        for number, kind in enumerate(settings.kinds):
            key, seek = jax.random.split(jax.random.key(7000 * (draw + 1) + number))
            scenes.append((seek, draw_scene(key, kind, settings)[0]))
    for constant, value in changes:
        errors, steps = angles(scenes, constant, value)
        reference = errors if reference is None else reference
        ratio = errors / reference
        rows.append({
            "constant": "as they are" if not rows else constant,
            "value": "" if not rows else str(value),
            "scenes": len(errors),
            "geometric mean of mSAD, rad": float(np.exp(np.log(errors).mean())),
            "over that of the constants as they are": float(np.exp(np.log(ratio).mean())),
            "worst ratio": float(ratio.max()),
            "worse by a tenth": int((ratio > 1.1).sum()),
            "better by a tenth": int((ratio < 0.9).sum()),
            "largest mSAD, rad": float(errors.max()),
            "most steps": int(steps.max()),
        })  # fmt: skip
        print(results_table.line(rows[-1]), flush=True)
    note = f"One constant at a time; keys are fixed. {settings}"
    return results_table.write(
        folder, "minimum_volume", rows, "python -m experiments.defaults.minimum_volume", note, "One run."
    )


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
