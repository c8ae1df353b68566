"""How `start` was taught to choose: on generated scenes alone, none of which is in any table of results.

    python -m experiments.choose_start [--quick] [-o results]

Scenes differ in the number of endmembers, purity, noise, brightness, variability and contrast of the spectra. For each,
all candidates are run and measured without the truth; the truth then says how far each is from the best of them. The
weights are those of the least mean log ratio aRMSE / least aRMSE, of many drawn at random, over the first draws of all
kinds; the table also shows the draws left out. Where pixels have a brightness of their own the reference is in the
convention of scaled mixing (endmembers at maximum one), else in that of linear mixing.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax import measuring, mixing, starting, synthetic
from experiments import tables
from experiments.choose_training import Kind, vary


@dataclass(frozen=True)
class Settings:
    """What is run: `draws` scenes of each kind to choose by, `held_out` more to judge by; `trials` weights."""

    kinds: tuple[Kind, ...] = (
        Kind(3, 1.0, 20.0),
        Kind(3, 1.0, 40.0),
        Kind(5, 1.0, 30.0),
        Kind(3, 0.8, 20.0),
        Kind(3, 0.8, 40.0),
        Kind(5, 0.8, 30.0),
        Kind(6, 0.7, 30.0),
        Kind(3, 1.0, 30.0, brightness=0.2),
        Kind(3, 0.8, 40.0, brightness=0.2),
        Kind(5, 0.8, 30.0, brightness=0.3),
        Kind(3, 1.0, 30.0, varied=0.1),
        Kind(3, 0.8, 30.0, varied=0.1),
        Kind(3, 1.0, 30.0, brightness=0.2, varied=0.1),
        Kind(4, 0.9, 40.0, brightness=0.2, varied=0.2),
        Kind(5, 1.0, 40.0, brightness=0.3, varied=0.05),
        Kind(4, 1.0, 30.0, varied=0.03),
        Kind(5, 1.0, 30.0, contrast=0.15),
        Kind(6, 0.8, 30.0, contrast=0.3),
        Kind(4, 1.0, 30.0, brightness=0.2, varied=0.1, contrast=0.3),
        Kind(3, 1.0, 15.0, uneven=0.15),
        Kind(3, 1.0, 30.0, uneven=0.15),
        Kind(5, 1.0, 30.0, uneven=0.1),
        Kind(4, 0.9, 40.0, uneven=0.2, varied=0.05),
    )
    draws: int = 3
    held_out: int = 2
    side: int = 40
    bands: int = 100
    trials: int = 4000


QUICK = Settings(
    kinds=(Kind(3, 1.0, 30.0), Kind(3, 0.8, 30.0, brightness=0.2)), draws=1, held_out=1, side=16, bands=24, trials=20
)


NAMES = [str(candidate) for candidate in measuring.CANDIDATES]
NAMES += [name.replace("scaled NNLS", "soft NNLS") for name in NAMES if "scaled" in name]


@jax.jit
def errors(E: jax.Array, cube: jax.Array, truth: jax.Array, spectra: jax.Array) -> jax.Array:
    """Return the aRMSE of all candidates, then of the scaled ones' spectra under soft mixing, (3 C / 2,)."""
    half = len(measuring.CANDIDATES) // 2

    def one(E: jax.Array, A: jax.Array) -> jax.Array:
        return dq.armse(A[..., dq.align(E, spectra)], truth)

    linear = jax.lax.map(lambda e: one(e, dq.fcls(cube, e)), E[:half])
    scaled = jax.lax.map(lambda e: one(e, dq.scaled_nnls(cube, e)[0]), E[half:])
    soft = jax.lax.map(lambda e: one(e, dq.soft_nnls(cube, e)[0]), E[half:])
    return jnp.concatenate([linear, scaled, soft])


def draw_scene(key: jax.Array, kind: Kind, settings: Settings) -> tuple[synthetic.Sample, jax.Array]:
    """Draw a scene of a kind, and its reference abundances."""
    spectra, mix, own = jax.random.split(key, 3)
    E = synthetic.spectra(spectra, kind.count, settings.bands)
    E = (1 - kind.contrast) * jnp.mean(E, axis=0, keepdims=True) + kind.contrast * E
    shape = (settings.side, settings.side)
    # Between few and many pure pixels.
    contrast = jax.random.uniform(jax.random.fold_in(mix, 1), (), minval=0.7, maxval=2.0)
    sample = synthetic.linear_scene(mix, shape, E, purity=kind.purity, brightness=kind.brightness, contrast=contrast)
    sample = vary(own, sample, kind.varied, kind.snr, kind.uneven)
    if not kind.brightness:
        return sample, sample.abundances
    return sample, mixing.normalise_abundances(sample.abundances * jnp.max(E, axis=1)[None, None])[0]


@jax.jit
def pick(scores: measuring.Scores, whole: measuring.Whole, weights: starting.Weights) -> tuple[jax.Array, jax.Array]:
    """Return the entries of `errors` that `start` decides for, (S,), and whether it is unsure, for scores (S, C)."""
    found = jax.vmap(lambda one, v: starting.decide(one, v, weights))(scores, whole)
    return found.chosen + len(measuring.CANDIDATES) // 2 * found.soft.astype(jnp.int32), found.unsure


def drawn(key: int, trials: int) -> list[starting.Weights]:
    """Return weights drawn at random."""
    draw = np.random.default_rng(key)
    found = []
    for _ in range(trials):
        # A weight of zero is a measure that is not needed. Small ones are as likely as large ones.
        size = draw.uniform(size=6) * (draw.uniform(size=6) < 0.5)
        largest = {"purified": 0.1, "varied": 1.2, "angle": 1.0, "volume": 0.5, "instability": 0.2, "impurity": 0.5}
        some = {name: float(most * x) for (name, most), x in zip(largest.items(), size, strict=True)}
        mixing_model = {"bright": float(draw.uniform(0.0, 0.5)), "shared": float(draw.uniform(0.0, 0.4))}
        found.append(starting.Weights()._replace(**mixing_model, **some))
    return found


def main(settings: Settings, folder: Path) -> Path:
    """Run all candidates on all scenes, choose the weights and write the table."""
    scores, ratios, kinds, fit, scenes = [], [], [], [], []
    for (number, kind), draw in itertools.product(enumerate(settings.kinds), range(settings.draws + settings.held_out)):
        key, seek = jax.random.split(jax.random.key(5000 * (draw + 1) + number))
        sample, truth = draw_scene(key, kind, settings)
        E, measured, whole = measuring.candidates(seek, sample.cube, jnp.ones(sample.cube.shape[:2], bool), kind.count)
        error = np.asarray(errors(E, sample.cube, truth, sample.endmembers))
        scores.append(measured)
        scenes.append(whole)
        ratios.append(np.log(error / error.min()))
        kinds.append(kind)
        fit.append(draw < settings.draws)
        print(kind, draw, NAMES[int(error.argmin())], error.round(3).tolist(), flush=True)
    table = jax.tree.map(lambda *x: jnp.stack(x), *scores)
    regret, inside = np.stack(ratios), np.asarray(fit)
    v = jax.tree.map(lambda *x: jnp.stack(x), *scenes)
    tried = drawn(0, settings.trials)
    # The mean of the logarithm, with the worst tenth once more: a choice that is seldom far off is worth something.
    costs = []
    for weights in tried:
        at = regret[np.arange(len(regret)), np.asarray(pick(table, v, weights)[0])][inside]
        costs.append(at.mean() + 0.25 * np.sort(at)[-max(1, len(at) // 10) :].mean())
    best = tried[int(np.argmin(costs))]
    rows = []

    def add(name: str, chosen: np.ndarray, unsure: np.ndarray | None = None) -> None:
        at = regret[np.arange(len(regret)), chosen]
        for scenes, which in (("chosen by", inside), ("left out", ~inside)):
            sure = which if unsure is None else which & ~unsure
            rows.append({
                "rule": name,
                "scenes": scenes,
                "number": int(which.sum()),
                "geometric mean of aRMSE / best": float(np.exp(at[which].mean())),
                "worst": float(np.exp(at[which].max())),
                "within 10 %": float((at[which] < np.log(1.1)).mean()),
                "sure": float(sure.sum() / which.sum()),
                "geometric mean where sure": float(np.exp(at[sure].mean())) if sure.any() else float("nan"),
                "worst where sure": float(np.exp(at[sure].max())) if sure.any() else float("nan"),
            })  # fmt: skip

    for row, candidate in enumerate(NAMES):
        add(f"always {candidate}", np.full(len(regret), row))
    for name, weights in (("start, weights of the least cost here", best), ("start, as it is", starting.Weights())):
        chosen, unsure = (np.asarray(x) for x in pick(table, v, weights))
        add(name, chosen, unsure)
        print(name, weights)
        for kind, which, ratio, row in zip(kinds, inside, regret, chosen, strict=True):
            print(kind, "fit" if which else "left out", NAMES[row], round(float(np.exp(ratio[row])), 2))
    note = (
        f"Ratios: aRMSE of the choice over that of the best of {len(NAMES)} ways, picked with the "
        f"truth. Least cost here: {best}. As it is: {starting.Weights()}. {settings}"
    )
    return tables.write(folder, "choose_start", rows, "python -m experiments.choose_start", note, "One run.")


if __name__ == "__main__":
    tables.command_line(__doc__, main, Settings(), QUICK)
