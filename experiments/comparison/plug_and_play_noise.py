"""Plug-and-play unmixing on DC1: the denoisers at the noise level of the paper and at an estimated one.

    python -m experiments.comparison.plug_and_play_noise [--quick] [-o results]

All use VCA's spectra, which are fixed, so that only the prior differs from VCA + FCLS. `first level` and `last level`
are the standard deviations given to the denoiser in its first and last iteration; `error of FCLS` is the error to be
denoised (with VCA's spectra), and `moved` the distance of the abundances from VCA + FCLS, both RMS. At a level far
below the noise, a denoiser that compares patches in units of the level finds no similar ones and returns its input;
total variation and a network remove a little in each iteration, which adds up. The estimated level follows from the
cube alone (`dequnmix_jax.baselines.plug_and_play`).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

import dequnmix_jax as dq
from dequnmix_jax.baselines import denoisers, dncnn
from dequnmix_jax.baselines.plug_and_play import ESTIMATED, PAPER, Denoiser, Penalty, constants, plug_and_play
from experiments.shared import results_table
from experiments.shared.scenes import scene


@dataclass(frozen=True)
class Settings:
    """Noise in dB that is added to DC1, seeds of VCA."""

    noise: tuple[float, ...] = (20.0, 30.0)
    seeds: int = 3
    steps: int = dncnn.Settings().steps
    crop: int | None = None


QUICK = Settings(noise=(20.0,), seeds=1, steps=3, crop=20)


class Row(NamedTuple):
    """Figures of one run."""

    armse: float
    moved: float
    error_of_fcls: float
    first_level: float
    last_level: float


def levels(cube: jax.Array, start: jax.Array, penalty: Penalty) -> tuple[float, float]:
    """Return the first and the last level given to the denoiser."""
    peak = jnp.max(jnp.abs(cube))
    weight, rho = constants(cube / peak, start / peak, penalty)
    first = float(jnp.sqrt(weight / rho))
    return first, first * float(penalty.growth) ** (-(penalty.iterations - 1) / 2)


def main(settings: Settings, folder: Path) -> Path:
    """Run all and write `denoising.csv` and `denoising.md`."""
    weights, _ = dncnn.train(jax.random.key(2017), dncnn.Settings(steps=settings.steps))
    ways: dict[str, Denoiser] = {
        "non-local means": denoisers.non_local_means,
        "total variation": denoisers.total_variation,
        "DnCNN": dncnn.denoiser(weights),
    }
    rows: list[dict[str, object]] = []
    for noise in settings.noise:
        cube, truth = scene("dc1", noise, settings.crop)
        E = jnp.asarray(truth.endmembers)
        A = jnp.asarray(truth.abundances)[: cube.shape[0], : cube.shape[1]]
        for name, denoise in ways.items():
            for label, penalty in (("the paper's", PAPER), ("estimated", ESTIMATED)):
                run = jax.jit(plug_and_play(name, denoise, penalty).estimate)
                runs = []
                for seed in range(settings.seeds):
                    key = jax.random.key(seed)
                    start = jnp.maximum(dq.endmembers.vca(key, cube, E.shape[0]), 1e-5)
                    order = dq.metrics.align(start, E)
                    plain, abundances = dq.abundances.fcls(cube, start), run(key, cube, start).abundances
                    moved = jnp.sqrt(jnp.mean(jnp.square(abundances - plain)))
                    errors = (
                        dq.metrics.armse(abundances[..., order], A),
                        moved,
                        dq.metrics.pooled_rmse(plain[..., order], A),
                    )
                    runs.append(Row(*map(float, errors), *levels(cube, start, penalty)))
                labels = {"scene": f"dc1, {noise:g} dB", "denoiser": name, "noise level": label}
                rows.append(results_table.summary(labels, runs))
                print(results_table.line(rows[-1]), flush=True)
    note = f"{PAPER}; {ESTIMATED}; {settings}"
    return results_table.write(folder, "denoising", rows, "python -m experiments.comparison.plug_and_play_noise", note)


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
