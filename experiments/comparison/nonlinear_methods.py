"""Nonlinear unmixing with known and with blind spectra: which model serves which mixing, and what K-Hype costs.

    python -m experiments.comparison.nonlinear_methods [--quick] [-o results]

Scenes of three minerals, 50 x 50 pixels, drawn by the seed, each mixed by one model of `dq.abundances.nonlinear` with
white noise of 30 dB: linear; Fan; GBM with g uniform in [0, 1]; PPNM with b uniform in [-0.3, 0.3]; MLM with P the
absolute value of a normal number of deviation 0.3, at most 0.9. And RELAB's powders, measured: one cube, whose seed
draws VCA alone. `armse_true`: with the spectra that were mixed; `armse_blind`: with those of VCA. No constant is tuned:
they are the defaults of the functions, the authors'. NNLS over its sum has a brightness of each pixel, which explains
much of what PPNM's b does.

K-Hype is also solved by the public route, the dual quadratic programme of B + R + 1 unknowns a pixel, with an active
set on its sign constraints and a dense solve in each step (NumPy, float64): on 100 pixels of a scene, per pixel.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax.abundances import kernel, nonlinear
from dequnmix_jax.datasets import registry, synthetic
from experiments.shared import results_table, scenes

RELAB = "hapke_relab"


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment; `only`: methods whose names start with one of these, K-Hype among them."""

    mixing: tuple[str, ...] = ("linear", "Fan", "GBM", "PPNM", "MLM")
    measured: tuple[str, ...] = (RELAB,)
    side: int = 50
    bands: int | None = None
    snr: float = 30.0
    seeds: int = 5
    dual_pixels: int = 100
    only: tuple[str, ...] = ("",)


QUICK = Settings(
    mixing=("PPNM",), measured=(), side=8, bands=20, seeds=2, dual_pixels=10, only=("FCLS", "PPNM", "K-Hype")
)


class Row(NamedTuple):
    """Figures of one run; seconds: CPU, of the scene, without compilation."""

    armse_true: float
    armse_blind: float
    seconds: float


Unmix = Callable[[jax.Array, jax.Array], jax.Array]
"""(cube, endmembers) -> abundances (H, W, R)."""


def methods() -> dict[str, Unmix]:
    """Return the methods, compiled."""
    a = dq.abundances
    return {
        name: jax.jit(function)
        for name, function in {
            "FCLS": a.fcls,
            "NNLS over its sum": lambda Y, E: dq.mixing.normalise_abundances(a.nnls(Y, E))[0],
            "Nascimento": lambda Y, E: a.nascimento(Y, E).abundances,
            "Fan": lambda Y, E: a.fan(Y, E).abundances,
            "GBM": lambda Y, E: a.gbm(Y, E).abundances,
            "PPNM": lambda Y, E: a.ppnm(Y, E).abundances,
            "MLM": lambda Y, E: a.mlm(Y, E).abundances,
            "MLM, multiplied out": lambda Y, E: a.mlm(Y, E, fit="multiplied").abundances,
            "K-Hype": lambda Y, E: a.khype(Y, E).abundances,
            "SK-Hype": lambda Y, E: a.skhype(Y, E).abundances,
            "residual component, interactions": lambda Y, E: a.residual_component(Y, E).abundances,
            "residual component, smooth": lambda Y, E: a.residual_component(Y, E, kind="smooth").abundances,
        }.items()
    }


class Drawn(NamedTuple):
    """A scene, its spectra, its abundances, and the spectra of VCA in their order."""

    cube: jax.Array
    endmembers: jax.Array
    abundances: jax.Array
    blind: jax.Array


def draw(name: str, seed: int, settings: Settings) -> Drawn:
    """Return a scene of a seed."""
    if name == RELAB:
        scene, truth = registry.load(name, download=False)
        return _with_blind(jnp.asarray(scene.cube), jnp.asarray(truth.endmembers), jnp.asarray(truth.abundances), seed)
    key = jax.random.fold_in(jax.random.key(2609), seed)
    spectra, maps, own, noise = jax.random.split(key, 4)
    E = scenes.minerals(spectra, 3) if settings.bands is None else synthetic.spectra(spectra, 3, settings.bands)
    A = synthetic.abundance_field(maps, (settings.side,) * 2, 3, length=scenes.LENGTH, contrast=scenes.CONTRAST)
    shape = A.shape[:2]
    cube = {
        "linear": lambda: dq.mixing.linear_mix(A, E),
        "Fan": lambda: nonlinear.bilinear(A, E),
        "GBM": lambda: nonlinear.bilinear(A, E, jax.random.uniform(own, (*shape, nonlinear.pairs(3)))),
        "PPNM": lambda: nonlinear.post_nonlinear(A, E, jax.random.uniform(own, shape, minval=-0.3, maxval=0.3)),
        "MLM": lambda: nonlinear.multilinear(A, E, jnp.minimum(0.3 * jnp.abs(jax.random.normal(own, shape)), 0.9)),
    }[name]()
    return _with_blind(synthetic.add_noise(noise, cube, settings.snr), E, A, seed)


def _with_blind(cube: jax.Array, E: jax.Array, A: jax.Array, seed: int) -> Drawn:
    found = jnp.maximum(dq.endmembers.vca(jax.random.key(seed), cube, E.shape[0]), 1e-5)
    return Drawn(cube, E, A, found[dq.metrics.align(found, E)])


def by_dual(y: np.ndarray, E: np.ndarray, K: np.ndarray, mu: float, xi: float) -> np.ndarray:
    """Return the abundances of K-Hype of one pixel (B,) from its dual, in float64.

    With M = E^T, the kernel K (B, B) of its rows and a = (M^T beta + gamma - l) / mu, over beta (B,), gamma (R,) >= 0
    and a number l:

        min beta (I + K / xi) beta / 2 - beta y + mu |a|^2 / 2 + l

    The gradient in gamma is a: gamma_r is free while a_r would be negative.
    """
    M, R = E.T, E.shape[0]
    B = len(M)
    rows = np.concatenate([M, np.eye(R), -np.ones((1, R))])  # a mu = rows^T (beta, gamma, l)
    Q = rows @ rows.T / mu
    Q[:B, :B] += np.eye(B) + K / xi
    right = np.concatenate([y, np.zeros(R), [-1.0]])
    free = np.zeros(R, bool)
    for _ in range(4 * R):
        kept = np.concatenate([np.ones(B, bool), free, [True]])
        z = np.zeros(B + R + 1)
        z[kept] = np.linalg.solve(Q[np.ix_(kept, kept)], right[kept])
        a, gamma = rows.T @ z / mu, z[B : B + R]
        if free.any() and gamma.min() < 0:
            free[np.argmin(gamma)] = False
        elif (a[~free] < -1e-12).any():
            free[np.argmin(np.where(free, 0, a))] = True
        else:
            break
    return a


def measure(settings: Settings) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the rows of the table, and sentences about the dual."""
    rows: list[dict[str, Any]] = []
    said = []
    compiled = {label: unmix for label, unmix in methods().items() if label.startswith(settings.only)}
    for name in (*settings.mixing, *settings.measured):
        drawn = [draw(name, seed, settings) for seed in range(settings.seeds)]
        known: dict[str, float] = {}
        for label, unmix in compiled.items():
            jax.block_until_ready(unmix(drawn[0].cube, drawn[0].endmembers))  # compilation is not counted
            runs = []
            for each in drawn:
                began = time.process_time()
                true = jax.block_until_ready(unmix(each.cube, each.endmembers))
                seconds = time.process_time() - began
                blind = unmix(each.cube, each.blind)
                error = [float(dq.metrics.armse(x, each.abundances)) for x in (true, blind)]
                runs.append(Row(*error, seconds))
            rows.append(results_table.summary({"scene": name, "method": label}, runs))
            known[label] = rows[-1]["seconds"]
            print(results_table.line(rows[-1]), flush=True)
        said.append(_dual(name, drawn[0], known["K-Hype"], settings))
        print(said[-1], flush=True)
    return rows, said


def _dual(name: str, drawn: Drawn, seconds: float, settings: Settings) -> str:
    """Return how much more the dual costs, and how far its answers are from ours."""
    cube = np.asarray(drawn.cube, np.float64).reshape(-1, drawn.cube.shape[2])
    some = np.random.default_rng(0).choice(len(cube), min(settings.dual_pixels, len(cube)), replace=False)
    E = np.asarray(drawn.endmembers, np.float64)
    ours = np.asarray(dq.abundances.khype(drawn.cube, drawn.endmembers).abundances).reshape(-1, len(E))[some]
    K = np.asarray(kernel.kernel(drawn.endmembers), np.float64)
    began = time.process_time()
    theirs = np.stack([by_dual(cube[n], E, K, kernel.MU, kernel.XI) for n in some])
    each = (time.process_time() - began) / len(some)
    return (
        f"{name}: {1e6 * each:.0f} us a pixel by the dual, {1e6 * seconds / len(cube):.2f} us by FCLS in the metric "
        f"({each * len(cube) / seconds:.0f} times), largest difference of an abundance "
        f"{np.abs(ours - theirs).max():.1g}."
    )


def main(settings: Settings, folder: Path) -> Path:
    """Run all and write `nonlinear_methods.csv` and `nonlinear_methods.md`."""
    rows, said = measure(settings)
    note = (
        "armse: mean over endmembers of the RMSE of each map; true: with the spectra that were mixed, blind: with "
        "those of VCA. seconds: CPU, of a scene with the true spectra, without compilation, on a shared machine. "
        "RELAB's truth is weighed mass: no model here is exact for it. K-Hype by its dual: "
        f"{' '.join(said)} {settings}"
    )
    return results_table.write(
        folder, "nonlinear_methods", rows, "python -m experiments.comparison.nonlinear_methods", note
    )


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
