"""How the defaults of training were chosen: on synthetic scenes alone, none of which is in any table of results.

    python -m experiments.choose_training [--quick] [-o results]

Scenes differ in the number of endmembers, in purity, noise and brightness. The spectra are drawn, not measured ones.
For each setting: the ratio of the errors after training to those of the untrained start, and its worst case. References
are in the cone's convention (endmembers at maximum one).
"""

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
    """Scenes: (endmembers, purity, SNR in dB, sd of the log brightness, relative sd of the spectra in a pixel)."""

    scenes: tuple[tuple[int, float, float, float, float], ...] = (
        (3, 1.0, 20.0, 0.0, 0.0),
        (5, 1.0, 30.0, 0.0, 0.0),
        (3, 0.8, 40.0, 0.2, 0.0),
        (3, 1.0, 30.0, 0.2, 0.1),
        (3, 0.8, 30.0, 0.0, 0.1),
        (5, 1.0, 40.0, 0.2, 0.2),
    )
    # (held-out share of the bands, rate of E, weight of the spread); the first is the paper's.
    choices: tuple[tuple[float, float, float], ...] = (
        (0.0, 0.007, 0.0),
        (0.0, 0.003, 0.1),
        (0.5, 0.007, 0.0),
        (0.5, 0.003, 0.0),
        (0.5, 0.003, 0.03),
        (0.5, 0.003, 0.1),
        (0.5, 0.003, 0.3),
    )
    side: int = 32
    bands: int = 100
    epochs: int = 100


QUICK = Settings(scenes=((3, 1.0, 20.0, 0.0, 0.1),), choices=((0.5, 0.003, 0.1),), side=12, bands=30, epochs=3)


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


def vary(key: jax.Array, sample: synthetic.Sample, amount: float, snr: float) -> synthetic.Sample:
    """Give every pixel spectra of its own: e (1 + amount * a random smooth function of the band), then the noise."""
    height, width, bands = sample.cube.shape
    draw, noise = jax.random.split(key)
    waves = jnp.cos(jnp.pi * jnp.arange(1.0, 5.0)[:, None] * jnp.linspace(0.0, 1.0, bands)[None]) / 2**0.5
    shape = (height, width, sample.endmembers.shape[0], 4)
    own = 1 + amount * jnp.matmul(jax.random.normal(draw, shape), waves)
    mixed = jnp.sum(sample.abundances[..., None] * sample.endmembers[None, None] * own, axis=2)
    return sample._replace(cube=synthetic.add_noise(noise, sample.brightness[..., None] * mixed, snr))


def main(settings: Settings, folder: Path) -> Path:
    """Run all settings on all scenes and write the table."""
    config = dq.Model()
    unmix = jax.jit(lambda params, cube: dq.unmix(params, cube, config)[0])
    results: dict[tuple[float, float, float], list[Ratios]] = {}
    for number, (count, purity, snr, brightness, varied) in enumerate(settings.scenes):
        draw, mix, find, own = jax.random.split(jax.random.key(1000 + number), 4)
        E = synthetic.spectra(draw, count, settings.bands)
        shape = (settings.side, settings.side)
        sample = synthetic.linear_scene(mix, shape, E, purity=purity, brightness=brightness, contrast=2.0)
        sample = vary(own, sample, varied, snr)
        start = jnp.maximum(dq.vca(find, sample.cube, count), 1e-5)
        untrained = dq.init(find, sample.cube, config, endmembers=start)
        before = errors(unmix(untrained, sample.cube), sample)
        for holdout, rate, spread in settings.choices:
            plan = dq.Training(epochs=settings.epochs, holdout=holdout)
            rates = jax.tree.map(jnp.float32, dq.Rates(endmembers=rate, spread=spread))
            params, _ = fit(find, sample.cube, config, plan, rates, start)
            after = errors(unmix(params, sample.cube), sample)
            ratios = Ratios(after[0] / before[0], after[1] / before[1])
            results.setdefault((holdout, rate, spread), []).append(ratios)
            print(f"scene {number}, {holdout=}, {rate=}, {spread=}: {before} -> {after}", flush=True)
    rows = [
        {
            "held out": choice[0],
            "rate of E": choice[1],
            "weight of spread": choice[2],
            "scenes": len(runs),
            **{
                f"{name} {field}": float(function([getattr(run, field) for run in runs]))
                for field in Ratios._fields
                for name, function in (("geometric mean of", geometric_mean), ("worst of", max))
            },
            "each armse": " ".join(f"{run.armse:.2f}" for run in runs),
        }
        for choice, runs in results.items()
    ]
    note = f"Figures are ratios: error after training over error of the untrained start, one seed a scene. {settings}"
    return tables.write(folder, "choose_training", rows, "python -m experiments.choose_training", note)


@functools.partial(jax.jit, static_argnums=(2, 3))
def fit(
    key: jax.Array, cube: jax.Array, config: dq.Model, plan: dq.Training, rates: dq.Rates, start: jax.Array
) -> tuple:
    """Train, compiled once for each plan and number of endmembers."""
    return dq.fit(key, cube, config, plan, rates, endmembers=start)


def geometric_mean(values: list[float]) -> float:
    """Return exp(mean(log x))."""
    return float(np.exp(np.mean(np.log(values))))


if __name__ == "__main__":
    tables.command_line(__doc__, main, Settings(), QUICK)
