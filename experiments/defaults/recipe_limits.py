"""Limits on the paper's synthetic scenes: the true mean spectra, a soft sum and smooth maps, one by one.

    python -m experiments.defaults.recipe_limits [--quick] [-o results]

Rows with the true mean of each bundle use the truth, which no method has. `smoothed` filters each map with a Gaussian
of half a pixel, chosen with the truth among 0.5, 1 and 2. `purified` are the blind spectra of the table's closed form,
the mean of the purest pixels of scaled NNLS. Five draws of the scene.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from experiments.shared import results_table, scenes


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment."""

    scenes: tuple[str, ...] = ("recipe, 15 dB", "recipe, 30 dB")
    seeds: int = 5
    crop: int | None = None


QUICK = Settings(scenes=("varied, 30 dB",), seeds=2, crop=16)


class Row(NamedTuple):
    """aRMSE of one draw, and the mean angle of the spectra."""

    fcls: float
    fcls_smoothed: float
    soft: float
    soft_smoothed: float
    msad: float


@jax.jit
def spectra(key: jax.Array, cube: jax.Array, means: jax.Array) -> tuple[jax.Array, ...]:
    """Return the true means, VCA's spectra, and those purified."""
    E = jnp.maximum(dq.endmembers.vca(key, cube, means.shape[0], runs=10), 1e-5)
    return means, E, jnp.maximum(dq.endmembers.purify(cube, E, dq.abundances.scaled_nnls(cube, E)[0]), 1e-5)


@jax.jit
def maps(cube: jax.Array, E: jax.Array, means: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the maps of FCLS and of a soft sum in the order of the reference, and the mean angle."""
    order = dq.metrics.align(E, means)
    abundances = dq.abundances.fcls(cube, E)[..., order], dq.abundances.soft_nnls(cube, E)[0][..., order]
    return *abundances, dq.metrics.msad(E[order], means)


def main(settings: Settings, folder: Path) -> Path:
    """Run all and write `recipe_limits.csv` and `recipe_limits.md`."""
    from scipy.ndimage import gaussian_filter

    rows = []
    for name in settings.scenes:
        runs: dict[str, list[Row]] = {}
        for seed in range(settings.seeds):
            loaded = scenes.load(name, seed, settings.crop)
            truth = loaded.references[0][0]
            A, means = np.asarray(truth.abundances), jnp.asarray(truth.endmembers)
            three = spectra(jax.random.key(seed), loaded.cube, means)
            for label, E in zip(("true means (oracle)", "VCA, largest of 10", "purified"), three, strict=True):
                *both, angle = maps(loaded.cube, E, means)
                errors = []
                for one in both:
                    smooth = gaussian_filter(np.asarray(one), (0.5, 0.5, 0), mode="nearest")
                    errors += [float(dq.metrics.armse(each, jnp.asarray(A))) for each in (one, jnp.asarray(smooth))]
                runs.setdefault(label, []).append(Row(*errors, float(angle)))
        rows += [results_table.summary({"scene": name, "spectra": label}, each) for label, each in runs.items()]
    note = f"aRMSE against the exact abundances, as given. {settings}"
    return results_table.write(folder, "recipe_limits", rows, "python -m experiments.defaults.recipe_limits", note)


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
