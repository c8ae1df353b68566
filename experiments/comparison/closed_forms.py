"""Four scenes, five VCA seeds, one rule: closed forms against DEQ-Unmix, all from the same start.

    python -m experiments.comparison.closed_forms [--quick] [-o results]

Every method gets the endmembers that VCA found with the seed, clipped at zero. No method sees a reference; references
are used for the columns of errors only. These are the figures of `dequnmix score` (`results.score.compare`): fractions
are compared in the convention of the reference, which the reference and its scene decide; those of a method with the
other convention are converted with the levels of its own spectra. The closed forms are those of the literature: FCLS,
and NNLS on
spectra of maximum one divided by its sum, each with VCA's spectra or with the mean of the purest 3 % of pixels. `as
found`: constraint, rates and prior are those that `select_endmembers` finds for the scene (`dq.training.model_for`,
`dq.training.rates_for`), with the spectra still those of VCA; the closed form of that mixing is the start of DEQ-Unmix
in that row.
"""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax.results import score
from dequnmix_jax.scenes.truth import Truth
from experiments.plans import EVERY_STAGE
from experiments.shared import results_table
from experiments.shared.scenes import scene
from experiments.shared.trained_maps import LITERAL


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment. `scenes`: (data set, SNR in dB of the white noise that is added, or None)."""

    scenes: tuple[tuple[str, float | None], ...] = (
        ("samson_zhu", None),
        ("dc1", 30.0),
        ("hapke_relab", None),
        ("misicnet_sim1", 30.0),
    )
    seeds: int = 5
    ablation_seeds: int = 2
    epochs: int = 100
    crop: int | None = None


QUICK = Settings(scenes=(("hapke_relab", None),), seeds=2, ablation_seeds=1, epochs=3, crop=24)

Constraint = dq.equilibrium.Simplex | dq.equilibrium.Cone | dq.equilibrium.Soft | dq.equilibrium.Softmax


ABLATIONS = ("DEQ-Unmix, paper's loss", "literal map")
"""Methods that show the effect of a choice, with fewer seeds."""


class Row(NamedTuple):
    """Figures of one run."""

    armse: float
    pooled: float
    msad: float
    seconds: float
    steps: float = float("nan")
    residual: float = float("nan")
    failed: float = float("nan")


class Estimate(NamedTuple):
    """What a method finds, under which constraint, and steps, residual and failures of its solves."""

    abundances: jax.Array
    endmembers: jax.Array
    brightness: jax.Array
    constraint: Constraint
    solve: tuple[float, float, float] = (float("nan"),) * 3


Method = Callable[[jax.Array, jax.Array, jax.Array], Estimate]
"""(key, cube, start) -> what is found."""


def figures(found: Estimate, cube: jax.Array, truth: Truth) -> tuple[float, float, float]:
    """Return aRMSE, pooled RMSE and mSAD as `dequnmix score` prints them."""
    convention = dq.Model(constraint=found.constraint).convention
    estimate = score.as_estimate(found.abundances, found.endmembers, found.brightness, convention)
    errors = score.compare(estimate, truth, cube=np.asarray(cube))
    return errors["armse"], errors["pooled_rmse"], errors["msad"]


def closed_form(constraint: Constraint, purified: bool = False) -> Method:
    """Return a closed form."""

    @jax.jit
    def estimate(cube: jax.Array, start: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        def answer(E: jax.Array) -> tuple[jax.Array, jax.Array]:
            if isinstance(constraint, dq.equilibrium.Simplex):
                return dq.abundances.fcls(cube, E), jnp.ones(cube.shape[:2])
            if isinstance(constraint, dq.equilibrium.Cone):
                return dq.abundances.scaled_nnls(cube, E)
            return dq.abundances.soft_nnls(cube, E)

        E = dq.endmembers.purify(cube, start, answer(start)[0]) if purified else start
        abundances, brightness = answer(E)
        return abundances, E, brightness

    return lambda key, cube, start: Estimate(*estimate(cube, start), constraint)


def equilibrium(config: dq.Model, training: dq.Training, rates: dq.Rates) -> Method:
    """Return DEQ-Unmix, trained on the scene itself."""

    @jax.jit
    def estimate(key: jax.Array, cube: jax.Array, start: jax.Array, rates: dq.Rates) -> tuple:
        params, history = dq.fit(key, cube, config, training, rates, endmembers=start)
        result, trace = dq.unmix(params, cube, config)
        return result, trace, history

    def run(key: jax.Array, cube: jax.Array, start: jax.Array, rates: dq.Rates = rates) -> Estimate:
        result, trace, history = estimate(key, cube, start, jax.tree.map(jnp.float32, rates))
        steps = jnp.concatenate([history.steps, trace.steps[None]])
        residual = jnp.concatenate([history.residual, trace.residual[None]])
        # The requirement is a relative residual of 1e-3 at every training step; NaN counts as a failure.
        return Estimate(result.abundances, result.endmembers, result.brightness, config.constraint, (
            float(jnp.mean(steps.astype(jnp.float32))), float(jnp.max(residual)), int(jnp.sum(~(residual <= 1e-3))),
        ))  # fmt: skip

    return run


def as_found(training: dq.Training) -> tuple[Method, Method]:
    """Return the closed form and DEQ-Unmix under the constraint that `select_endmembers` finds."""
    select = jax.jit(dq.endmembers.select_endmembers, static_argnums=2)
    trained: dict[Constraint, Callable[..., Estimate]] = {}

    def closed(key: jax.Array, cube: jax.Array, start: jax.Array) -> Estimate:
        config = dq.training.model_for(select(key, cube, start.shape[0]))
        return closed_form(config.constraint)(key, cube, start)

    def learned(key: jax.Array, cube: jax.Array, start: jax.Array) -> Estimate:
        selection = select(key, cube, start.shape[0])
        config = dq.training.model_for(selection)
        if config.constraint not in trained:
            trained[config.constraint] = equilibrium(config, training, dq.RECOMMENDED[1])
        return trained[config.constraint](key, cube, start, dq.training.rates_for(selection))

    return closed, learned


def main(settings: Settings, folder: Path) -> Path:
    """Run all and write `blind_table.csv` and `blind_table.md`."""
    training = replace(EVERY_STAGE, epochs=settings.epochs)
    whole = dq.Training(epochs=settings.epochs)
    closed, learned = as_found(training)
    methods: dict[str, Method] = {
        "VCA + FCLS": closed_form(dq.equilibrium.Simplex()),
        "VCA + scaled NNLS": closed_form(dq.equilibrium.Cone()),
        "purified + FCLS": closed_form(dq.equilibrium.Simplex(), purified=True),
        "purified + scaled NNLS": closed_form(dq.equilibrium.Cone(), purified=True),
        "VCA, mixing as found (the start)": closed,
        "DEQ-Unmix, as found": learned,
        "DEQ-Unmix, always cone": equilibrium(dq.Model(), training, dq.RECOMMENDED[1]),
        "DEQ-Unmix, paper's loss": equilibrium(dq.Model(), whole, dq.Rates()),
        "literal map": equilibrium(LITERAL, whole, dq.Rates()),
    }
    rows: list[dict[str, object]] = []
    for name, snr in settings.scenes:
        cube, truth = scene(name, snr, settings.crop)
        E = jnp.asarray(truth.endmembers)
        assert truth.abundances is not None
        A = truth.abundances[: cube.shape[0], : cube.shape[1]]
        find = jax.jit(functools.partial(dq.endmembers.vca, count=E.shape[0]))
        cropped = replace(truth, abundances=A)
        for method, run in methods.items():
            seeds = settings.ablation_seeds if method in ABLATIONS else settings.seeds
            if seeds == 0:
                continue
            runs = []
            for seed in range(seeds):
                key = jax.random.key(seed)
                start = jnp.maximum(find(key, cube), 1e-5)
                began = time.perf_counter()
                found = run(key, cube, start)
                jax.block_until_ready(found.abundances)
                seconds = time.perf_counter() - began
                runs.append(Row(*figures(found, cube, cropped), seconds, *found.solve))
            label = name if snr is None else f"{name}, {snr:g} dB"
            rows.append(results_table.summary({"scene": label, "reference": truth.reference, "method": method}, runs))
            print(results_table.line(rows[-1]), flush=True)
        note = f"{dq.Model()}; {training}; {dq.RECOMMENDED[1]}; {settings}"
        target = results_table.write(folder, "blind_table", rows, "python -m experiments.comparison.closed_forms", note)
    return target


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
