"""Nonlinear mixing in the equilibrium: against the method of single pixels, with and without a prior over neighbours.

    python -m experiments.equilibrium.mixing_models [--quick] [-o results]

Scenes of three minerals drawn by the seed, 40 x 40 pixels whose neighbours are alike, mixed by one model with white
noise of 15 dB: linear; GBM with g uniform in [0, 1]; PPNM with b uniform in [-0.3, 0.3]; MLM with P the absolute value
of a normal number of deviation 0.3, at most 0.9. Spectra are those that were mixed; no network; no constant is tuned.
The prior over neighbours is the linear one, estimated and judged as after a training (`training.stages`).

Then where the map contracts: scenes with one b or one P everywhere, 30 dB, and a linear scene whose brightness is
uniform in [0.3, 1.3], solved from FCLS, which is farther than the default first state, and from that.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax.abundances import nonlinear
from dequnmix_jax.datasets import synthetic
from dequnmix_jax.training.stages import without_training
from experiments.shared import results_table, scenes

COUNT = 3


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment."""

    mixing: tuple[str, ...] = ("linear", "GBM", "PPNM", "MLM")
    curvatures: tuple[float, ...] = (-1.0, -0.8, -0.6, -0.3, 0.3, 1.0)
    probabilities: tuple[float, ...] = (-1.0, 0.3, 0.6, 0.9, 0.99)
    bright: bool = True
    side: int = 40
    bands: int | None = None
    snr: float = 15.0
    seeds: int = 5


QUICK = Settings(mixing=("PPNM",), curvatures=(), probabilities=(0.9,), bright=False, side=12, bands=20, seeds=2)


class Scene(NamedTuple):
    """A scene: cube (H, W, B), spectra (R, B) and abundances (H, W, R)."""

    cube: jax.Array
    endmembers: jax.Array
    abundances: jax.Array


def draw(name: str, value: float | None, seed: int, settings: Settings, snr: float) -> Scene:
    """Return a scene; `value`: b or P of all pixels, None: drawn."""
    spectra, maps, own, noise = jax.random.split(jax.random.fold_in(jax.random.key(2611), seed), 4)
    E = scenes.minerals(spectra, COUNT) if settings.bands is None else synthetic.spectra(spectra, COUNT, settings.bands)
    A = synthetic.abundance_field(maps, (settings.side,) * 2, COUNT, length=scenes.LENGTH, contrast=scenes.CONTRAST)
    shape = A.shape[:2]

    def given(drawn: jax.Array) -> jax.Array:
        return drawn if value is None else jnp.full_like(drawn, value)

    cube = {
        "linear": lambda: dq.mixing.linear_mix(A, E),
        "brightness": lambda: dq.mixing.scaled_mix(A, E, jax.random.uniform(own, shape, minval=0.3, maxval=1.3)),
        "GBM": lambda: nonlinear.bilinear(A, E, jax.random.uniform(own, (*shape, nonlinear.pairs(COUNT)))),
        "PPNM": lambda: nonlinear.post_nonlinear(A, E, given(jax.random.uniform(own, shape, minval=-0.3, maxval=0.3))),
        "MLM": lambda: nonlinear.multilinear(
            A, E, given(jnp.minimum(0.3 * jnp.abs(jax.random.normal(own, shape)), 0.9))
        ),
    }[name]()
    return Scene(synthetic.add_noise(noise, cube, snr), E, A)


def model(word: str, prior: str = "none") -> dq.Model:
    """Return the model without a network."""
    return dq.Model(
        gradient="analytic", constraint="simplex", nonlinear=None if word == "linear" else word, prior=prior
    )


SINGLE = {
    "linear": jax.jit(dq.abundances.fcls),
    **{
        word: jax.jit(lambda Y, E, word=word: getattr(dq.abundances, word)(Y, E).abundances)
        for word in ("khype", "ppnm", "mlm")
    },
}
"""The methods of single pixels by the words of the equilibrium."""

_unmix = jax.jit(dq.equilibrium.unmix, static_argnums=2)
_rate = jax.jit(lambda *x: dq.equilibrium.certificate(*x).observed_rate, static_argnums=2)


def of_neighbours(name: str, settings: Settings) -> list[dict[str, Any]]:
    """Return the rows of one mixing: each method by itself, its equilibrium, and that with the prior."""
    drawn = [draw(name, None, seed, settings, settings.snr) for seed in range(settings.seeds)]
    rows = []
    for word, single in SINGLE.items():
        runs: dict[str, list[dict[str, float]]] = {
            "single pixels": [],
            "equilibrium": [],
            "equilibrium, neighbours": [],
        }
        for seed, each in enumerate(drawn):
            exact = single(each.cube, each.endmembers)
            nothing = dict.fromkeys(("difference", "converged", "steps", "from_fcls", "rate", "share"), np.nan)
            runs["single pixels"].append({"armse": error(exact, each), **nothing})
            for prior in ("none", "neighbours"):
                config = model(word, prior)
                params, _ = without_training(jax.random.key(seed), each.cube, config, each.endmembers)
                found, trace = _unmix(params, each.cube, config)
                kind = "equilibrium" if prior == "none" else "equilibrium, neighbours"
                figures = {"converged": float(trace.converged), "steps": float(trace.steps)}
                if prior == "none":
                    figures["difference"] = float(dq.metrics.pooled_rmse(found.abundances, exact))
                runs[kind].append({"armse": error(found.abundances, each), **(nothing | figures)})
        label = "FCLS" if word == "linear" else word
        rows += [
            results_table.summary({"scene": name, "method": f"{label}, {kind}"}, run) for kind, run in runs.items()
        ]
        for row in rows[-len(runs) :]:
            print(results_table.line(row), flush=True)
    return rows


def of_one_value(name: str, word: str, value: float | None, settings: Settings) -> dict[str, Any]:
    """Return the row of one b or P: where the map contracts."""
    runs = []
    for seed in range(settings.seeds):
        each = draw(name, value, seed, settings, 30.0)
        config, params = model(word), {"endmembers": each.endmembers, "network": {}}
        found, trace = _unmix(params, each.cube, config)
        linear = dq.abundances.fcls(each.cube, each.endmembers)
        far = _unmix(params, each.cube, config, initial=linear)[1]
        exact = SINGLE[word](each.cube, each.endmembers)
        runs.append(
            {
                "armse": error(found.abundances, each),
                "difference": float(dq.metrics.pooled_rmse(found.abundances, exact)),
                "converged": float(trace.converged),
                "steps": float(trace.steps),
                "from_fcls": float(far.steps),
                "rate": float(_rate(params, each.cube, config)),
                "share": float(jnp.mean(dq.equilibrium.folded(found, config))),
            }
        )
    named = {"PPNM": "b", "MLM": "P"}.get(name)
    scene = name if named is None else f"{name}, {named} = {value:g}"
    row = results_table.summary({"scene": scene, "method": f"{word}, equilibrium"}, runs)
    print(results_table.line(row), flush=True)
    return row


def at_a_bound(settings: Settings) -> dict[str, Any]:
    """Return the share of GBM's interactions that end at 0 or 1, by the method of single pixels."""
    runs = []
    for seed in range(settings.seeds):
        each = draw("GBM", None, seed, settings, settings.snr)
        found = dq.abundances.gbm(each.cube, each.endmembers)
        nothing = dict.fromkeys(("difference", "converged", "steps", "from_fcls", "rate"), np.nan)
        share = float(jnp.mean((found.parameters <= 0) | (found.parameters >= 1)))
        runs.append({"armse": error(found.abundances, each), **nothing, "share": share})
    return results_table.summary({"scene": "GBM", "method": "gbm, single pixels"}, runs)


def error(abundances: jax.Array, scene: Scene) -> float:
    """Return the aRMSE."""
    return float(dq.metrics.armse(abundances, scene.abundances))


def main(settings: Settings, folder: Path) -> Path:
    """Run all and write `mixing_models.csv` and `mixing_models.md`."""
    rows = [row for name in settings.mixing for row in of_neighbours(name, settings)]
    rows += [of_one_value("PPNM", "ppnm", value, settings) for value in settings.curvatures]
    rows += [of_one_value("MLM", "mlm", value, settings) for value in settings.probabilities]
    if settings.bright:
        rows += [of_one_value("brightness", word, None, settings) for word in ("ppnm", "mlm")]
        rows.append(at_a_bound(settings))
    note = (
        "armse: mean over endmembers of the RMSE of each map. difference: RMS between the equilibrium without prior "
        "and the method of single pixels. converged: share of seeds whose relative residual is at most 1e-4. steps: "
        "from the default first state, which for ppnm and mlm is the method of single pixels; from_fcls: from FCLS, "
        "where 200 is the limit. rate: spectral radius of the Jacobian at the equilibrium. share: of pixels whose "
        f"curve falls in some band (folded); of gbm, of interactions at 0 or 1. {settings}"
    )
    command = "python -m experiments.equilibrium.mixing_models"
    return results_table.write(folder, "mixing_models", rows, command, note)


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
