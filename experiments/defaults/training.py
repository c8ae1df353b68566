"""How the defaults of training were chosen: on synthetic scenes only, none of which is in any table of results.

    python -m experiments.defaults.training [--quick] [-o results]

Scenes differ in the number of endmembers, purity, noise, brightness, the variation of spectra from pixel to pixel and
the contrast between spectra. The spectra are random, not measured. For each choice: the ratio of the errors
after training to those of the untrained start, and its worst case. References are in the cone's convention (endmembers
at maximum one).
"""

import functools
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

import dequnmix_jax as dq
from dequnmix_jax import mixing
from dequnmix_jax.datasets import synthetic
from dequnmix_jax.training import fitting
from experiments.shared import results_table
from experiments.shared.kinds import Kind, draw_scene
from experiments.shared.results_table import geometric_mean


class Choice(NamedTuple):
    """A way to train: held-out bands, space and rate of E, weight of the spread, epochs of E alone, network's rate."""

    holdout: float = 0.5
    subspace: Literal["all", "signal"] = "signal"
    rate: float = 0.007
    spread: float = 2.0
    first: float = 0.6
    network: float = 0.002


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment: every choice on every kind of scene, with so many draws of each."""

    kinds: tuple[Kind, ...] = (
        Kind(3, 1.0, 20.0),
        Kind(5, 1.0, 30.0),
        Kind(3, 0.8, 40.0, brightness=0.2),
        Kind(3, 1.0, 30.0, brightness=0.2, varied=0.1),
        Kind(3, 0.8, 30.0, varied=0.1),
        Kind(5, 1.0, 40.0, brightness=0.2, varied=0.2),
        Kind(5, 1.0, 30.0, contrast=0.15),
        Kind(6, 0.8, 30.0, contrast=0.3),
        Kind(4, 1.0, 30.0, brightness=0.2, varied=0.1, contrast=0.3),
    )
    # The first is the paper's, the second the recommended one; the others change one thing of it.
    choices: tuple[Choice, ...] = (
        Choice(0.0, "all", spread=0.0, first=0.0, network=0.01),
        Choice(),
        Choice(holdout=0.0),
        Choice(subspace="all"),
        Choice(rate=0.003),
        Choice(spread=0.0),
        Choice(spread=1.0),
        Choice(spread=4.0),
        Choice(first=0.0),
        Choice(first=1.0),
        Choice(network=0.01),
    )
    draws: int = 2
    side: int = 32
    bands: int = 100
    epochs: int = 100


QUICK = Settings(
    kinds=(Kind(3, 1.0, 20.0, varied=0.1),),
    choices=(Choice(),),
    draws=1,
    side=12,
    bands=30,
    epochs=3,
)


class Ratios(NamedTuple):
    """Error after training over error of the start."""

    armse: float
    msad: float


def errors(estimate: dq.Estimate, sample: synthetic.Sample) -> tuple[float, float]:
    """Return aRMSE and mSAD against the truth of a synthetic scene, in the cone's convention."""
    order = dq.metrics.align(estimate.endmembers, sample.endmembers)
    weighted = sample.abundances * jnp.max(sample.endmembers, axis=1)[None, None]
    truth, _ = mixing.normalise_abundances(weighted)
    return (
        float(dq.metrics.armse(estimate.abundances[..., order], truth)),
        float(dq.metrics.msad(estimate.endmembers[order], sample.endmembers)),
    )


def main(settings: Settings, folder: Path) -> Path:
    """Run all choices on all scenes and write the table."""
    config = dq.Model()
    unmix = jax.jit(lambda params, cube: dq.unmix(params, cube, config)[0])
    find = jax.jit(dq.endmembers.vca, static_argnames=("count", "runs"))
    results: dict[Choice, list[Ratios]] = {choice: [] for choice in settings.choices}
    for (number, kind), draw in itertools.product(enumerate(settings.kinds), range(settings.draws)):
        key, seek = jax.random.split(jax.random.key(1000 * (draw + 1) + number))
        sample, _ = draw_scene(key, kind, settings, contrast=2.0)
        start = jnp.maximum(find(seek, sample.cube, count=kind.count, runs=fitting.STARTS), 1e-5)
        untrained = dq.init(seek, sample.cube, config, endmembers=start)
        before = errors(unmix(untrained, sample.cube), sample)
        for choice in settings.choices:
            plan = dq.Training(
                epochs=settings.epochs, holdout=choice.holdout, subspace=choice.subspace, endmembers_first=choice.first
            )
            rates = jax.tree.map(
                jnp.float32, dq.Rates(endmembers=choice.rate, spread=choice.spread, network=choice.network)
            )
            params, _ = fit(seek, sample.cube, config, plan, rates, start)
            after = errors(unmix(params, sample.cube), sample)
            results[choice].append(Ratios(after[0] / before[0], after[1] / before[1]))
        print(f"{kind}, draw {draw}: start {before}", flush=True)
    rows = [
        {
            "held out": choice.holdout,
            "E moves in": choice.subspace,
            "rate of E": choice.rate,
            "weight of spread": choice.spread,
            "E alone at first": choice.first,
            "rate of network": choice.network,
            "scenes": len(runs),
            **{
                f"{name} {field}": float(function([getattr(run, field) for run in runs]))
                for field in Ratios._fields
                for name, function in (("geometric mean of", geometric_mean), ("worst of", max))
            },
            "each armse / msad": " ".join(f"{run.armse:.2f}/{run.msad:.2f}" for run in runs),
        }
        for choice, runs in results.items()
    ]
    note = (
        "Figures are ratios: error after training over error of the untrained start. The weight of the spread is "
        f"multiplied by `objective.variability_ratio` of the scene. {settings}"
    )
    return results_table.write(folder, "choose_training", rows, "python -m experiments.defaults.training", note)


@functools.partial(jax.jit, static_argnums=(2, 3))
def fit(
    key: jax.Array, cube: jax.Array, config: dq.Model, plan: dq.Training, rates: dq.Rates, start: jax.Array
) -> tuple:
    """Train, compiled once for each plan and number of endmembers."""
    return dq.fit(key, cube, config, plan, rates, endmembers=start)


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
