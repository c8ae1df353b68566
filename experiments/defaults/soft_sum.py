"""Costs and benefits of a soft sum: abundances by `soft_nnls` against FCLS, on generated scenes.

    python -m experiments.defaults.soft_sum [--quick] [-o results]

The scenes are those of `experiments.shared.kinds` whose pixels have no brightness of their own, in three groups:
spectra that do not vary, spectra that vary in shape only (abundances sum exactly to one), and materials each of which
varies in brightness independently (`uneven`). Endmembers are those of the candidate (VCA, SiVM, N-FINDR,
minimum volume, each as it is and purified) with which FCLS has the lowest aRMSE, which favours FCLS.
"""

from dataclasses import dataclass, field
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax.endmembers import candidates
from experiments.shared import kinds, results_table


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment: the weights of the sum, and so many draws of each kind of scene."""

    weights: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0)
    draws: int = 2
    scenes: kinds.Scenes = field(default_factory=kinds.Scenes)


QUICK = Settings(weights=(0.3,), draws=1, scenes=kinds.QUICK)


@jax.jit
def ratios(
    E: jax.Array, cube: jax.Array, truth: jax.Array, spectra: jax.Array, weights: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return the lowest aRMSE of FCLS, and the ratios to it of `soft_nnls` with its endmembers, one for each weight."""

    def error(E: jax.Array, A: jax.Array) -> jax.Array:
        return dq.metrics.armse(A[..., dq.metrics.align(E, spectra)], truth)

    linear = jax.lax.map(lambda e: error(e, dq.abundances.fcls(cube, e)), E)
    best = E[jnp.argmin(linear)]
    soft = jax.lax.map(lambda w: error(best, dq.abundances.soft_nnls(cube, best, weight=w)[0]), weights)
    return jnp.min(linear), soft / jnp.min(linear)


def main(settings: Settings, folder: Path) -> Path:
    """Run all and write `soft_sum.csv` and `soft_sum.md`."""
    rows = []
    for number, kind in enumerate(settings.scenes.kinds):
        if kind.brightness:
            continue
        group = "brightness of a material" if kind.uneven else "shape of the spectra" if kind.varied else "nothing"
        for draw in range(settings.draws):
            key, seek = jax.random.split(jax.random.key(5000 * (draw + 1) + number))
            sample, truth = kinds.draw_scene(key, kind, settings.scenes)
            E, _, _ = candidates.candidates(seek, sample.cube, jnp.ones(sample.cube.shape[:2], bool), kind.count)
            half = E[: len(candidates.CANDIDATES) // 2]
            fcls, relative = ratios(half, sample.cube, truth, sample.endmembers, jnp.asarray(settings.weights))
            rows.append((group, float(fcls), np.log(np.asarray(relative))))
            print(group, kind, float(fcls), np.exp(rows[-1][2]).round(3), flush=True)
    table = []
    for group in dict.fromkeys(row[0] for row in rows):
        mine = [row for row in rows if row[0] == group]
        mean = np.exp(np.mean([row[2] for row in mine], axis=0))
        table.append(
            {"what varies from pixel to pixel": group, "scenes": len(mine)}
            | {"aRMSE of FCLS": float(np.exp(np.mean([np.log(row[1]) for row in mine])))}
            | {f"weight {w:g}": float(ratio) for w, ratio in zip(settings.weights, mean, strict=True)}
        )
    note = f"Geometric means. Under each weight: aRMSE of `soft_nnls` over that of FCLS. {settings}"
    return results_table.write(folder, "soft_sum", table, "python -m experiments.defaults.soft_sum", note, "One run.")


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
