"""Remedies that keep an equilibrium of the paper's free network: none, spectral normalisation, a Jacobian penalty,
both.

    python -m experiments.equilibrium.remedies [--quick] [-o results]

The residual operator (CNN with CBAM) with each remedy, on the paper's literal map and on ours with a physical start,
and the energy operator, which needs none. The paper's loss; all runs of a seed start from the same VCA spectra.
"""

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

import dequnmix_jax as dq
from dequnmix_jax import mixing
from dequnmix_jax.datasets import registry, synthetic
from experiments.shared import results_table, trained_maps

PENALTY = 1.0
"""Weight of the mean squared singular value of the Jacobian; of the order used by Bai, Koltun and Kolter 2021, not
tuned."""


@dataclass(frozen=True)
class Settings:
    """Settings; `steps`: most applications of a map with physical initialisation, forward and backward."""

    scenes: tuple[str, ...] = ("samson_zhu", "synthetic")
    maps: tuple[str, ...] = ("literal", "cone", "energy, cone")  # or "simplex" and "energy, simplex"
    remedies: tuple[str, ...] = ("none", "spectral", "jacobian", "both")
    seeds: int = 2
    epochs: int = 60
    steps: int = 30
    crop: int | None = None


QUICK = Settings(
    scenes=("synthetic",), maps=("literal", "energy, cone"), remedies=("none", "both"),
    seeds=1, epochs=2, steps=5, crop=12,
)  # fmt: skip


class Row(NamedTuple):
    """Figures of one run: of its training solves, of the map at the end, and against the reference."""

    above_1e3: float
    largest: float
    median: float
    radius: float
    final: float
    armse: float
    msad: float


def maps(steps: int) -> dict[str, dq.Model]:
    """Return the maps with a residual operator, and the energy operator in the same places."""
    limits = {"forward": dq.Solver(max_steps=steps), "backward": dq.Adjoint(max_steps=steps)}
    return {
        "literal": trained_maps.LITERAL,
        "cone": dq.Model(gradient=dq.equilibrium.Residual(), **limits),
        "simplex": dq.Model(gradient=dq.equilibrium.Residual(), constraint=dq.equilibrium.Simplex(), **limits),
        "energy, cone": dq.Model(**limits),
        "energy, simplex": dq.Model(constraint=dq.equilibrium.Simplex(), **limits),
    }


def scene(name: str, crop: int | None) -> tuple[jax.Array, jax.Array, jax.Array, str]:
    """Return cube, endmembers, abundances and the name of the reference."""
    if name == "synthetic":
        # Of maximum one, so that the abundances of the cone and of the simplex are the same.
        E = mixing.scale_to_unit_maximum(synthetic.spectra(jax.random.key(50), 4, 100))
        sample = synthetic.linear_scene(jax.random.key(51), (crop or 40, crop or 40), E, 30.0, contrast=2.0)
        return sample.cube, sample.endmembers, sample.abundances, "exact"
    loaded, truth = registry.load(name)
    cut = (slice(crop), slice(crop))
    A = jnp.asarray(truth.abundances)[cut]
    return jnp.asarray(loaded.cube)[cut], jnp.asarray(truth.endmembers), A, truth.reference


@functools.partial(jax.jit, static_argnums=(3, 4))
def run(
    key: jax.Array, cube: jax.Array, start: jax.Array, config: dq.Model, training: dq.Training, rates: dq.Rates
) -> tuple[dq.History, dq.equilibrium.Certificate, dq.Estimate]:
    """Train on the scene and certify the trained map."""
    params, history = dq.fit(key, cube, config, training, rates, endmembers=start)
    return history, dq.equilibrium.certificate(params, cube, config), dq.unmix(params, cube, config)[0]


def main(settings: Settings, folder: Path) -> Path:
    """Run all and write `remedies.csv` and `remedies.md`."""
    rows = []
    for name in settings.scenes:
        cube, E, A, reference = scene(name, settings.crop)
        for place in settings.maps:
            base = maps(settings.steps)[place]
            for remedy in (
                settings.remedies if isinstance(base.gradient, dq.equilibrium.Residual) else ("by construction",)
            ):
                config = (
                    replace(base, gradient=replace(base.gradient, normalisation="spectral"))
                    if remedy in ("spectral", "both")
                    else base
                )
                penalised = remedy in ("jacobian", "both")
                training = dq.Training(epochs=settings.epochs, probes=1 if penalised else 0)
                rates = jax.tree.map(jnp.float32, dq.Rates(jacobian=PENALTY if penalised else 0.0))
                runs = []
                for seed in range(settings.seeds):
                    key = jax.random.key(seed)
                    start = jnp.maximum(dq.endmembers.vca(key, cube, E.shape[0]), 1e-5)
                    history, certified, estimate = run(key, cube, start, config, training, rates)
                    order = dq.metrics.align(estimate.endmembers, E)
                    figures = (
                        jnp.sum(~(history.residual <= 1e-3)),  # NaN counts as a failure
                        jnp.max(history.residual),
                        jnp.median(history.residual),
                        certified.observed_rate,
                        certified.trace.residual,
                        dq.metrics.armse(estimate.abundances[..., order], A),
                        dq.metrics.msad(estimate.endmembers[order], E),
                    )
                    runs.append(Row(*map(float, figures)))
                labels = {"scene": name, "reference": reference, "map": place, "remedy": remedy}
                rows.append(results_table.summary(labels, runs))
                print(results_table.line(rows[-1]), flush=True)
        note = (
            f"Of {settings.epochs} training solves: how many stay above a relative residual of 1e-3, the largest and "
            "the median residual; then the spectral radius of the Jacobian at the last state, the residual there, "
            f"aRMSE, mSAD. Penalty {PENALTY}. {settings}"
        )
        target = results_table.write(folder, "remedies", rows, "python -m experiments.equilibrium.remedies", note)
    return target


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
