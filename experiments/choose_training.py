"""How the defaults of training were chosen: on synthetic scenes alone, none of which is in any table of results.

    python -m experiments.choose_training [--quick] [-o results]

Scenes differ in the number of endmembers, in purity, noise and brightness. The spectra are drawn, not measured ones.
For each setting: the ratio of the errors after training to those of the untrained start, and its worst case. References
are in the cone's convention (endmembers at maximum one).
"""

import argparse
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax import mixing, synthetic
from experiments import tables


@dataclass(frozen=True)
class Settings:
    """Scenes: (endmembers, purity, SNR in dB, standard deviation of the log brightness)."""

    scenes: tuple[tuple[int, float, float, float], ...] = (
        (3, 1.0, 20.0, 0.0), (5, 1.0, 30.0, 0.0), (3, 0.8, 40.0, 0.2), (5, 0.8, 30.0, 0.2), (3, 1.0, 30.0, 0.2),
    )  # fmt: skip
    holdouts: tuple[float, ...] = (0.0, 0.2, 0.5)
    endmember_rates: tuple[float, ...] = (0.002, 0.007, 0.02)
    side: int = 32
    bands: int = 100
    epochs: int = 150


QUICK = Settings(scenes=((3, 1.0, 20.0, 0.0),), holdouts=(0.5,), endmember_rates=(0.007,), side=12, bands=30, epochs=3)


class Ratios(NamedTuple):
    """Error after training over error of the start."""

    armse: float
    msad: float


def errors(estimate: dq.Estimate, sample: synthetic.Sample) -> tuple[float, float]:
    """Return aRMSE and mSAD against the truth of a synthetic scene, in the cone's convention."""
    order = dq.align(estimate.endmembers, sample.endmembers)
    weighted = sample.abundances * jnp.max(sample.endmembers, axis=1)[None, None]
    truth, _ = mixing.normalise_abundances(weighted)
    return (
        float(dq.armse(estimate.abundances[..., order], truth)),
        float(dq.msad(estimate.endmembers[order], sample.endmembers)),
    )


def main(settings: Settings, folder: Path) -> Path:
    """Run all settings on all scenes and write the table."""
    config = dq.Model()
    unmix = jax.jit(lambda params, cube: dq.unmix(params, cube, config)[0])
    results: dict[tuple[float, float], list[Ratios]] = {}
    for number, (count, purity, snr, brightness) in enumerate(settings.scenes):
        draw, mix, find = jax.random.split(jax.random.key(1000 + number), 3)
        E = synthetic.spectra(draw, count, settings.bands)
        shape = (settings.side, settings.side)
        sample = synthetic.linear_scene(mix, shape, E, snr, purity=purity, brightness=brightness, contrast=2.0)
        start = jnp.maximum(dq.vca(find, sample.cube, count), 1e-5)
        untrained = dq.init(find, sample.cube, config, endmembers=start)
        before = errors(unmix(untrained, sample.cube), sample)
        for holdout in settings.holdouts:
            plan = dq.Training(epochs=settings.epochs, holdout=holdout)
            fit = jax.jit(functools.partial(dq.fit, config=config, training=plan))
            for rate in settings.endmember_rates:
                rates = jax.tree.map(jnp.float32, dq.Rates(endmembers=rate))
                params, _ = fit(find, sample.cube, rates=rates, endmembers=start)
                after = errors(unmix(params, sample.cube), sample)
                ratios = Ratios(after[0] / before[0], after[1] / before[1])
                results.setdefault((holdout, rate), []).append(ratios)
                print(f"scene {number}, holdout {holdout}, rate {rate}: {before} -> {after}", flush=True)
    rows = [
        tables.summary({"holdout": holdout, "rate of E": rate, "worst aRMSE ratio": max(r.armse for r in runs)}, runs)
        | {"geometric mean aRMSE ratio": float(np.exp(np.mean(np.log([r.armse for r in runs]))))}
        for (holdout, rate), runs in results.items()
    ]
    note = f"Ratios of errors after to before training, over {len(settings.scenes)} scenes (`seeds`). {settings}"
    return tables.write(folder, "choose_training", rows, "python -m experiments.choose_training", note)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small run that only shows that all works")
    parser.add_argument("-o", "--output", type=Path, default=Path("results"))
    arguments = parser.parse_args()
    print(main(QUICK if arguments.quick else Settings(), arguments.output))
