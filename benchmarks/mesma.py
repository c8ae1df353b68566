"""Speed of MESMA: all models at once, against FCLS model by model.

    taskset -c 0 python -m benchmarks.mesma [--quick] [-o results]

Scenes are synthetic: each pixel mixes one spectrum of each of up to three classes, with noise. The rival solves fully
constrained least squares for every model of one to three classes in turn by SPAMS, and keeps the best of each size; the
error of a model is computed from its Gram matrix, so that no cube is reconstructed. Both run in turn in one process, on
the cores of the process; the rival gets the first pixels only. `agree`: share of these pixels in which both choose the
same spectra, without the threshold that decides between sizes.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks.timing import compiled, race
from dequnmix_jax.abundances import Mesma, fcls
from dequnmix_jax.abundances.multiple import best_models, models_of
from experiments.shared import results_table


@dataclass(frozen=True)
class Settings:
    """Scenes (rows, columns, bands, spectra of each class), with shade or without; repetitions; pixels of the rival."""

    scenes: tuple[tuple[int, int, int, int], ...] = ((100, 100, 150, 5), (100, 100, 150, 10), (100, 100, 150, 20))
    shades: tuple[str, ...] = ("none", "normalised")
    rounds: int = 3
    few: int = 400
    rival: str | None = "spams"


QUICK = Settings(scenes=((6, 5, 12, 2),), rounds=1, few=10, rival=None)


def scene(rows: int, columns: int, bands: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a cube and its library (3 each, B), float32."""
    draw = np.random.default_rng(0)
    E = 0.03 * np.cumsum(draw.normal(size=(3 * each, bands)), axis=1)
    E = (E - E.min(axis=1, keepdims=True) + 0.05).astype("f")
    A = draw.dirichlet(np.full(3, 0.5), (rows, columns))
    pick = draw.integers(0, each, (rows, columns, 3)) + each * np.arange(3)
    Y = np.einsum("hwk,hwkb->hwb", A, E[pick]) + 0.005 * draw.standard_normal((rows, columns, bands))
    return Y.astype("f"), E


def one_by_one(
    Y: np.ndarray, E: np.ndarray, rules: Mesma, solve: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the squared error and the spectra, (n,) and (n, v), of the best model of each number of classes.

    Args:
        Y: (n, B).
        E: (N, B), or with a row of zeros for shade.
        rules: with the classes of the spectra.
        solve: fully constrained least squares, (n, v) of pixels and spectra (v, B).
    """
    Y = Y.astype(float)
    G, c, y2 = E.astype(float) @ E.T.astype(float), Y @ E.T.astype(float), np.sum(Y * Y, axis=1)
    best = []
    for group in models_of(rules):
        if rules.shaded and group.rows[0, 0] != len(rules.members):
            continue  # without shade: a face of the models with it
        rows = group.rows[:, : group.corners]
        least, which = np.full(len(Y), np.inf), np.zeros((len(Y), group.corners), int)
        for model in rows:
            x = solve(Y, E[model]) if len(model) > 1 else np.ones((len(Y), 1))
            error = y2 - 2 * np.sum(x * c[:, model], axis=1) + np.einsum("nv,vw,nw->n", x, G[np.ix_(model, model)], x)
            better = error < least
            least[better] = error[better]
            which[better] = model
        best.append((least, which))
    return best


def by_spams(Y: np.ndarray, E: np.ndarray) -> np.ndarray:
    """Return FCLS by the archetype decomposition of SPAMS, in double precision."""
    spams = import_module("spams")
    X, D = np.asfortranarray(Y.T.astype(float)), np.asfortranarray(E.T.astype(float))
    threads = len(os.sched_getaffinity(0))
    return np.asarray(spams.decompSimplex(X, D, computeXtX=True, numThreads=threads).todense()).T


def by_ours(Y: np.ndarray, E: np.ndarray) -> np.ndarray:
    """Return FCLS of this package, which stands in for the rival in tests."""
    return np.asarray(fcls(Y[None].astype("f"), E.astype("f")))[0].astype(float)


def measure(settings: Settings, size: tuple[int, int, int, int], shade: str) -> list[dict[str, Any]]:
    """Return the rows of one scene."""
    cube, E = scene(*size)
    words = [word for word in "abc" for _ in range(size[3])]
    rules = Mesma(shade=shade).of(words)
    points = np.concatenate([E, np.zeros_like(E[:1])])
    few = cube.reshape(-1, size[2])[: settings.few]
    solve = by_ours if settings.rival is None else by_spams
    mask = jnp.ones(cube.shape[:2], bool)
    program = compiled(lambda Y, E, seen: best_models(Y, E, seen, rules), jnp.asarray(cube), jnp.asarray(E), mask)
    ways: dict[str, tuple[int, Callable[[], Any]]] = {
        "dequnmix_jax mesma": (cube[..., 0].size, program),
        "FCLS model by model": (len(few), lambda: one_by_one(few, points, rules, solve)),
    }
    spent = race({name: run for name, (_, run) in ways.items()}, settings.rounds)
    rate = {name: pixels / spent[name].wall for name, (pixels, _) in ways.items()}
    cpu = {name: pixels / spent[name].cpu for name, (pixels, _) in ways.items()}
    largest = Mesma(shade=shade, threshold=0.0).of(words)  # the largest models win
    ours = best_models(jnp.asarray(few[None]), jnp.asarray(E), jnp.ones((1, len(few)), bool), largest)
    x = np.asarray(ours.coefficients)[0]
    error, which = one_by_one(few, points, largest, solve)[-1]
    same = []
    for i, model in enumerate(which):
        fractions = solve(few[i : i + 1], points[model])[0]
        theirs = {int(row) for row, part in zip(model, fractions, strict=True) if part > 1e-6 and row < len(E)}
        same.append(theirs == set(np.flatnonzero(x[i])))
    worse = np.asarray(ours.error)[0] - np.sqrt(np.maximum(error, 0) / size[2])
    return [
        {
            "scene": " x ".join(map(str, size[:3])) + f", 3 classes of {size[3]}",
            "shade": shade,
            "models": rules.models,
            "cores": len(os.sched_getaffinity(0)),
            "way": name,
            "pixels timed": ways[name][0],
            "pixels / s": rate[name],
            "pixels / CPU s": cpu[name],
            "mesma is so many times as fast": rate["dequnmix_jax mesma"] / rate[name],
            "in CPU time": cpu["dequnmix_jax mesma"] / cpu[name],
            "agree": float(np.mean(same)),
            "largest excess of our RMSE": float(worse.max()),
        }
        for name in ways
    ]


def main(settings: Settings, folder: Path) -> Path:
    """Run all scenes and write the table."""
    if settings.rival is not None:
        try:
            import_module(settings.rival)
        except ImportError:
            raise SystemExit(f"{settings.rival} cannot be imported: pip install spams-bin.") from None
    load = os.getloadavg()[0]
    rows = []
    for size in settings.scenes:
        for shade in settings.shades:
            for row in measure(settings, size, shade):
                rows.append(row)
                print(results_table.line(row), flush=True)
    note = (
        f"Cores: {len(os.sched_getaffinity(0))}. Load of the machine in the minute before: {load:.2f}. dequnmix_jax "
        "computes in float32, SPAMS in float64 (it returns NaN in float32). Wall time of the fastest of the rounds; "
        f"the ratios are of one run. Models with shade have one more spectrum, of zeros. {settings}"
    )
    return results_table.write(
        folder, "mesma", rows, "python -m benchmarks.mesma", note, kind="Fastest of several runs, in turn."
    )


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
