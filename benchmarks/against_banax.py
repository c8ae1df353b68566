"""Against banax (JAX, Python 3.12 and newer): the same maps and weights, timed in turn in one run.

    python -m benchmarks.against_banax [--quick] [-o results]

Needs banax in the same environment (`pip install banax`); the library itself does not.

Both sides use our maps (`benchmarks.maps`) and convolution, so that this compares the solvers and adjoints: Anderson
acceleration over five differences and the implicit adjoint, which banax solves by the same method. Of banax's two ways
of solving the small system, the faster one counts.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import maps
from benchmarks.timing import compiled, race
from experiments.shared import results_table


@dataclass(frozen=True)
class Settings:
    """Sizes, tolerances, repetitions."""

    sides: tuple[int, ...] = (64, 95)
    tolerances: tuple[float, ...] = (1e-3, 1e-5)
    width: int = 32
    rounds: int = 9


QUICK = Settings(sides=(12,), tolerances=(1e-3,), width=4, rounds=2)


def its_ways(
    f: Any, theta: Any, start: Any, weights: np.ndarray, tolerance: float, linalg: bool
) -> dict[str, Callable[[], Any]]:
    """Return banax's forward solve and its gradient, compiled."""
    from banax.adjoint import Implicit
    from banax.solver import Anderson

    solver = Anderson(rtol=tolerance, max_steps=maps.MOST_STEPS, depth=5, use_linalg=linalg)
    layer = Implicit(solver, solver)

    def solve(theta: Any, start: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = layer((lambda z, theta: f(theta, z), (theta,)), start)
        return found.value, found.stats.steps

    def gradient(theta: Any, start: jax.Array, c: jax.Array) -> tuple[Any, jax.Array]:
        def value(theta: Any) -> tuple[jax.Array, jax.Array]:
            z, _ = solve(theta, start)
            return jnp.sum(z * c), z

        (_, z), slope = jax.value_and_grad(value, has_aux=True)(theta)
        return slope, z

    return {
        "forward": compiled(solve, theta, start),
        "with gradient": compiled(gradient, theta, start, jnp.asarray(weights)),
    }


def main(settings: Settings, folder: Path) -> Path:
    """Run everything and write the table."""
    try:
        import banax  # noqa: F401
    except ImportError as error:
        raise SystemExit("This benchmark needs banax beside the library: pip install banax (Python 3.12).") from error
    from importlib.metadata import version

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    rows = []
    for side in settings.sides:
        for name, (f, theta, start) in maps.problems(side, settings.width).items():
            weights = np.random.default_rng(0).standard_normal(start.shape).astype(np.float32)
            for tolerance in settings.tolerances:
                ours = maps.ours(f, theta, start, weights, tolerance)
                forms = {
                    word: its_ways(f, theta, start, weights, tolerance, word == "linalg")
                    for word in ("linalg", "Cholesky")
                }
                bare = maps.without_solver(f, theta, start, weights, int(ours["forward"]()[1]))
                for kind in ours:
                    ways = {"ours": ours[kind], "map": bare[kind]} | {k: form[kind] for k, form in forms.items()}
                    spent = race(ways, settings.rounds)
                    form = min(forms, key=lambda k, spent=spent: spent[k].wall)
                    mine, its = ours["forward"](), forms[form]["forward"]()
                    row = {
                        "map": name, "side": side, "tolerance": tolerance, "what": kind,
                        "ours, wall ms": spent["ours"].wall * 1e3, "banax, wall ms": spent[form].wall * 1e3,
                        "ratio, wall": spent[form].wall / spent["ours"].wall,
                        "ratio, CPU": spent[form].cpu / spent["ours"].cpu,
                        "the map alone, of our time": spent["map"].wall / spent["ours"].wall,
                        "our steps": int(mine[1]), "its steps": int(its[1]), "its form": form,
                        "largest difference": float(jnp.max(jnp.abs(mine[0] - its[0]))),
                        "gradient difference": float("nan"),
                    }  # fmt: skip
                    if kind == "with gradient":
                        row["gradient difference"] = maps.distance(forms[form][kind]()[0], ours[kind]()[0])
                    print(results_table.line(row), flush=True)
                    rows.append(row)
    note = (
        f"banax {version('banax')}. Load of the machine in the minute before: {load:.2f}. Ratios are banax's time over "
        f"ours: above one, ours is faster. {maps.ALONE} {settings}"
    )
    command = "python -m benchmarks.against_banax"
    return results_table.write(folder, "against_banax", rows, command, note, kind="Fastest of several runs.")


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
