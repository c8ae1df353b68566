"""Speed and accuracy of exact unmixing: FCLS against scipy, SPAMS and cvxopt.

    taskset -c 0 python -m benchmarks.abundances [--quick] [-o results]

Scenes are synthetic: random smooth spectra, Dirichlet abundances, noise. All methods run in turn in one process, on
the cores of the process; slow ones get the first pixels only. Accuracy is the optimality residual of
`kkt_residual` in float32 and the largest difference from scipy's nnls in float64 (its sum-to-one a row of weight 1e3).
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from benchmarks.timing import compiled, race
from experiments.shared import results_table


@dataclass(frozen=True)
class Settings:
    """Scenes (rows, columns, bands, endmembers), repetitions, and the number of pixels for slow methods and checks."""

    scenes: tuple[tuple[int, int, int, int], ...] = (
        (95, 95, 156, 3), (307, 307, 162, 6), (1000, 1000, 224, 10), (100, 200, 224, 20), (50, 100, 224, 40),
        (50, 60, 224, 60),
    )  # fmt: skip
    rounds: int = 5
    few: int = 2000
    compared: int = 10_000
    rivals: tuple[str, ...] = ("spams", "cvxopt")


QUICK = Settings(scenes=((9, 11, 20, 3),), rounds=1, few=20, compared=30, rivals=())

HEAVY = 1e3
"""Weight of the row for the sum to one in scipy: the error of the sum is about its inverse squared."""


def scene(rows: int, columns: int, bands: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a cube and its endmembers, float32; sparser mixtures from a larger library."""
    draw = np.random.default_rng(0)
    E = 0.05 * np.cumsum(draw.normal(size=(count, bands)), axis=1)
    E = (E - E.min(axis=1, keepdims=True) + 0.05).astype("f")
    share = 0.5 if count < 15 else 0.1
    A = draw.dirichlet(np.full(count, share), size=rows * columns).astype("f")
    Y = A @ E + np.float32(0.01) * draw.standard_normal(size=(rows * columns, bands), dtype="f")
    return Y.reshape(rows, columns, bands), E


def by_scipy(Y: np.ndarray, E: np.ndarray) -> np.ndarray:
    """Return FCLS of pixels (N, B) by scipy's nnls with a heavy row."""
    nnls = import_module("scipy.optimize").nnls
    M = np.concatenate([E.T.astype(float), np.full((1, E.shape[0]), HEAVY)])
    return np.stack([nnls(M, np.append(y, HEAVY))[0] for y in Y.astype(float)])


def by_spams(Y: np.ndarray, E: np.ndarray) -> Callable[[], Any]:
    """Return FCLS by the archetype decomposition of SPAMS, in double precision, with E E^T formed once."""
    spams = import_module("spams")
    X, D = np.asfortranarray(Y.T.astype(float)), np.asfortranarray(E.T.astype(float))
    threads = len(os.sched_getaffinity(0))
    return lambda: spams.decompSimplex(X, D, computeXtX=True, numThreads=threads)


def by_cvxopt(Y: np.ndarray, E: np.ndarray) -> Callable[[], Any]:
    """Return FCLS by cvxopt's quadratic programming, pixel by pixel, as pysptools and HySUPP call it."""
    cvxopt = import_module("cvxopt")
    cvxopt.solvers.options["show_progress"] = False
    R = E.shape[0]
    E = E.astype(float)
    G, lower, zero = cvxopt.matrix(E @ E.T), cvxopt.matrix(-np.eye(R)), cvxopt.matrix(np.zeros((R, 1)))
    ones, one = cvxopt.matrix(np.ones((1, R))), cvxopt.matrix(1.0)

    def run() -> np.ndarray:
        solutions = [
            cvxopt.solvers.qp(G, cvxopt.matrix(-(E @ y)[:, None]), lower, zero, ones, one)["x"] for y in Y.astype(float)
        ]
        return np.concatenate([np.asarray(x).T for x in solutions])

    return run


def measure(settings: Settings, size: tuple[int, int, int, int]) -> list[dict[str, Any]]:
    """Return the rows of one scene."""
    cube, E = scene(*size)
    Y = cube.reshape(-1, size[2])
    few = Y[: settings.few]
    draw = np.random.default_rng(1).permutation(len(Y))[: settings.compared]
    reference = by_scipy(Y[draw], E)
    ways: dict[str, tuple[int, Callable[[], Any]]] = {
        "dequnmix_jax fcls": (len(Y), compiled(dq.abundances.fcls, jnp.asarray(cube), jnp.asarray(E))),
        "dequnmix_jax nnls": (len(Y), compiled(dq.abundances.nnls, jnp.asarray(cube), jnp.asarray(E))),
        "scipy nnls, heavy row": (len(few), lambda: by_scipy(few, E)),
    }
    if "spams" in settings.rivals:
        ways["SPAMS decompSimplex"] = (len(Y), by_spams(Y, E))
    if "cvxopt" in settings.rivals:
        ways["cvxopt qp"] = (len(few[:200]), by_cvxopt(few[:200], E))
    spent = race({name: run for name, (_, run) in ways.items()}, settings.rounds)
    rate = {name: pixels / spent[name].wall for name, (pixels, _) in ways.items()}
    rows = []
    for name, (pixels, run) in ways.items():
        x = run()
        x = np.asarray(x.todense()).T if name.startswith("SPAMS") else np.asarray(x).reshape(-1, len(E))
        constrained = "nnls" not in name.split(",")[0] or "heavy" in name
        part = jnp.asarray(Y[None, :pixels][:, : settings.compared])
        residual = dq.abundances.kkt_residual(part, E, x[None, : settings.compared].astype("f"), constrained)
        off = float("nan")
        if constrained and pixels == len(Y):
            off = float(np.abs(x[draw] - reference).max())
        rows.append({
            "scene": " x ".join(map(str, size[:3])) + f", R = {size[3]}",
            "cores": len(os.sched_getaffinity(0)),
            "way": name,
            "pixels timed": pixels,
            "pixels / s": rate[name],
            "pixels / CPU s": pixels / spent[name].cpu,
            "fcls is so many times as fast": rate["dequnmix_jax fcls"] / rate[name],
            "in CPU time": pixels and (len(Y) / spent["dequnmix_jax fcls"].cpu) / (pixels / spent[name].cpu),
            "largest optimality residual": float(jnp.max(residual)),
            "largest difference from scipy": off,
        })  # fmt: skip
    return rows


def main(settings: Settings, folder: Path) -> Path:
    """Run all scenes and write the table."""
    absent = []
    for package in (*settings.rivals, "scipy.optimize"):
        try:
            import_module(package)
        except ImportError:
            absent.append(package)
    if absent:
        raise SystemExit(f"{', '.join(absent)} cannot be imported: pip install spams-bin cvxopt scipy.")
    load = os.getloadavg()[0]
    rows = []
    for size in settings.scenes:
        for row in measure(settings, size):
            rows.append(row)
            print(results_table.line(row), flush=True)
    cores = len(os.sched_getaffinity(0))
    note = (
        f"Cores: {cores}. Load of the machine in the minute before: {load:.2f}. dequnmix_jax computes in float32, the "
        "others in float64 (SPAMS returns NaN in float32). Wall time of the fastest of the rounds. Largest residuals "
        f"are over the first {settings.compared} pixels timed, differences over as many random ones. {settings}"
    )
    name = "abundances" if cores == 1 else f"abundances_{cores}_cores"
    return results_table.write(
        folder, name, rows, "python -m benchmarks.abundances", note, kind="Fastest of several runs, in turn."
    )


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
