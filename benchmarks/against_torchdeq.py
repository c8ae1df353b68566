"""Against torchdeq (PyTorch, CPU): the same maps, weights, sizes and tolerances, timed in turn in one run.

    python -m benchmarks.against_torchdeq [--quick] [-o results]

Needs PyTorch and torchdeq in the same environment (`pip install torch torchdeq`); the library itself does not.

Two maps (`benchmarks.maps`). Both sides solve by Anderson acceleration over six iterates, to the same relative
residual, and by their own adjoint to the same tolerance; the gradient is that of a sum over all parameters of the map.
For PyTorch the faster of two memory layouts and of two ridges of its Anderson step counts, and its forward solve runs
under no_grad. torch.compile is not used; XLA's compilation is not timed.

One thread: if another program occupies a core, the threads of PyTorch wait for each other, and ratios for two threads
are meaningless.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import maps
from experiments.shared import results_table


@dataclass(frozen=True)
class Settings:
    """Sizes, tolerances, repetitions."""

    sides: tuple[int, ...] = (64, 95)
    tolerances: tuple[float, ...] = (1e-3, 1e-5)
    threads: tuple[int, ...] = (1,)
    width: int = 32
    rounds: int = 7


QUICK = Settings(sides=(12,), tolerances=(1e-3,), threads=(1,), width=4, rounds=2)


def torch_map(name: str, theta: dict[str, Any], last: bool) -> Any:
    """Return the same map in PyTorch, on states (1, channels, H, W) or, with channels last, (1, H, W, channels)."""
    import torch
    from torch.nn import functional

    def inwards(z: Any) -> Any:
        return z.permute(0, 3, 1, 2) if last else z

    def outwards(z: Any) -> Any:
        return z.permute(0, 2, 3, 1) if last else z

    def network(z: Any) -> Any:
        hidden = torch.tanh(functional.conv2d(inwards(z), theta["W1"], padding=1) + theta["x"])
        return outwards(functional.conv2d(hidden, theta["W2"], padding=1))

    def energy(z: Any) -> Any:
        A = inwards(z)
        d, s = theta["d"][None, :, None, None], theta["s"][None, :, None, None]
        t = functional.conv2d(A, theta["W"], padding=1) - theta["v"]
        back = functional.conv_transpose2d(s * d * torch.tanh(t / d), theta["W"], padding=1)
        G = functional.conv2d(A, theta["H"].T[:, :, None, None]) - theta["b"] + back
        return outwards(torch.relu(A - theta["eta"] * G))

    return {"network": network, "energy": energy}[name]


def to_torch(theta: dict[str, Any], last: bool) -> dict[str, Any]:
    """Copy our parameters into PyTorch's order: images (1, C, H, W), kernels (O, I, K, L)."""
    import torch

    out = {}
    for name, leaf in theta.items():
        x = torch.from_numpy(np.array(leaf))
        if x.ndim == 3:
            x = x.permute(2, 0, 1)[None]
        if x.ndim == 4 and np.ndim(leaf) == 4:
            x = x.permute(3, 2, 0, 1)
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
        out[name] = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    return out


def from_torch(name: str, x: Any) -> np.ndarray:
    """Return a gradient in our order."""
    a = x.detach().numpy()
    if name.startswith("W"):
        return a.transpose(2, 3, 1, 0)
    return a[0].transpose(1, 2, 0) if a.ndim == 4 else a


def torch_ways(
    name: str, theta: Any, start: Any, weights: np.ndarray, tolerance: float, last: bool, ridge: float
) -> dict[str, Callable[[], Any]]:
    """Return torchdeq's forward solve and its gradient."""
    import torch
    from torchdeq import get_deq

    held = to_torch(theta, last)
    f = torch_map(name, held, last)

    def image(x: np.ndarray) -> Any:
        x = torch.from_numpy(np.array(x))[None]
        return x if last else x.permute(0, 3, 1, 2).contiguous()

    z0, c = image(start), image(weights)
    deq = get_deq(
        core="indexing", ift=True, f_solver="anderson", b_solver="anderson", f_tol=tolerance, b_tol=tolerance,
        f_stop_mode="rel", b_stop_mode="rel", f_max_iter=maps.MOST_STEPS, b_max_iter=maps.MOST_STEPS,
    )  # fmt: skip
    options = {"m": 6, "lam": ridge}  # six iterates are five differences

    def ordered(z: Any) -> np.ndarray:
        z = z.detach()[0]
        return (z if last else z.permute(1, 2, 0)).numpy()

    def forward() -> tuple[np.ndarray, Any]:
        deq.eval()
        with torch.no_grad():
            z, info = deq(f, z0, solver_kwargs=options)
        return ordered(z[-1]), info["nstep"].item()

    def gradient() -> tuple[Any, np.ndarray]:
        deq.train()
        z, _ = deq(f, z0, solver_kwargs=options)
        slopes = torch.autograd.grad((z[-1] * c).sum(), list(held.values()))
        return {k: from_torch(k, g) for k, g in zip(held, slopes, strict=True)}, ordered(z[-1])

    return {"forward": forward, "with gradient": gradient}


def compare(settings: Settings, threads: int) -> list[dict[str, Any]]:
    """Run everything on one number of threads, which the caller has set."""
    import torch

    from benchmarks.timing import race

    torch.set_num_threads(threads)
    rows = []
    for side in settings.sides:
        for name, (f, theta, start) in maps.problems(side, settings.width).items():
            weights = np.random.default_rng(0).standard_normal(start.shape).astype(np.float32)
            for tolerance in settings.tolerances:
                ours = maps.ours(f, theta, start, weights, tolerance)
                forms = {
                    f"{'channels last' if last else 'channels first'}, ridge {ridge:g}": torch_ways(
                        name, theta, start, weights, tolerance, last, ridge
                    )
                    for last in (True, False)
                    for ridge in (1e-4, 1e-8)  # torchdeq's default, absolute, and one that allows tight tolerances
                }
                bare = maps.without_solver(f, theta, start, weights, int(ours["forward"]()[1]))
                for kind in ours:
                    ways = {"ours": ours[kind], "map": bare[kind]} | {k: form[kind] for k, form in forms.items()}
                    spent = race(ways, settings.rounds)
                    form = min(forms, key=lambda k, spent=spent: spent[k].wall)
                    mine, theirs = ours["forward"](), forms[form]["forward"]()
                    row = {
                        "map": name, "side": side, "tolerance": tolerance, "threads": threads, "what": kind,
                        "ours, wall ms": spent["ours"].wall * 1e3, "torchdeq, wall ms": spent[form].wall * 1e3,
                        "ratio, wall": spent[form].wall / spent["ours"].wall,
                        "ratio, CPU": spent[form].cpu / spent["ours"].cpu,
                        "the map alone, of our time": spent["map"].wall / spent["ours"].wall,
                        "our steps": int(mine[1]), "its steps": int(theirs[1]),
                        "its form": form,
                        "largest difference": float(np.max(np.abs(np.asarray(mine[0]) - theirs[0]))),
                        "gradient difference": float("nan"),
                    }  # fmt: skip
                    if kind == "with gradient":
                        row["gradient difference"] = maps.distance(forms[form][kind]()[0], ours[kind]()[0])
                    print(results_table.line(row), file=sys.stderr, flush=True)
                    rows.append(row)
    return rows


def main(settings: Settings, folder: Path) -> Path:
    """Run each number of threads in a separate process with as many cores, and write the table."""
    try:
        import torch  # noqa: F401
        import torchdeq  # noqa: F401
    except ImportError as error:
        raise SystemExit(
            "This benchmark needs PyTorch and torchdeq beside the library: pip install torch torchdeq."
        ) from error
    from importlib.metadata import version

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    rows: list[dict[str, Any]] = []
    for threads in settings.threads:
        words = [sys.executable, "-m", "benchmarks.against_torchdeq", "--threads", str(threads)]
        words += ["--quick"] if settings == QUICK else []
        answer = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
        rows += json.loads(answer.splitlines()[-1])
    note = (
        f"torch {version('torch')}, torchdeq {version('torchdeq')}. Load of the machine in the minute before: "
        f"{load:.2f}. Ratios are torchdeq's time over ours: above one, ours is faster. {maps.ALONE} "
        f"Largest difference: of the two answers; gradient difference: the largest relative one over the parameters. "
        f"{settings}"
    )
    return results_table.write(
        folder, "against_torchdeq", rows, "python -m benchmarks.against_torchdeq", note, kind="Fastest of several runs."
    )


def child(threads: int, settings: Settings) -> None:
    """Restrict the process to `cores` cores before jax counts them, and print the rows."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    print(json.dumps(compare(settings, threads)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--quick", action="store_true")
    known, _ = parser.parse_known_args()
    if known.threads:
        child(known.threads, QUICK if known.quick else Settings())
    else:
        results_table.command_line(__doc__, main, Settings(), QUICK)
