"""Sparse unmixing of DC1 with a dictionary of 240 spectra, with and without total variation, at 20, 30 and 40 dB.

    python -m experiments.comparison.sunsal_tv [--quick] [-o results]

The setting of Iordache et al. (IEEE TGRS 50(11), 2012, DC1): five of the 240 USGS spectra, 75 x 75 pixels, white noise.
All weights that were tried are shown; the best one can be identified only with the truth, as in that paper, so that it
is not a method. SRE is over the maps of all 240 spectra, in dB.
"""

import functools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax.datasets import registry, synthetic
from experiments.shared import results_table


@dataclass(frozen=True)
class Settings:
    """Noise in dB with the (weight, variation) pairs tried at it; variation 0 is SUnSAL."""

    tried: tuple[tuple[float, tuple[tuple[float, float], ...]], ...] = (
        (20.0, ((5e-2, 0.0), (1e-2, 5e-2), (5e-2, 5e-2))),
        (30.0, ((1e-2, 0.0), (5e-3, 1e-2), (1e-2, 1e-2))),
        (40.0, ((1e-2, 0.0), (1e-3, 3e-3), (5e-3, 5e-3))),  # the first two: the authors' demonstration program
    )
    tolerance: float = 1e-4
    max_steps: int = 400
    crop: int | None = None
    spectra: int | None = None  # number of spectra kept of the dictionary
    seed: int = 0


QUICK = Settings(tried=((30.0, ((1e-2, 0.0), (1e-2, 1e-1))),), crop=10, spectra=12, max_steps=2000)


def main(settings: Settings, folder: Path) -> Path:
    """Unmix with every pair and write the table."""
    scene, truth = registry.load("dc1")
    library = registry.library(pruned=True)[0][: settings.spectra].astype("f")
    A = np.zeros((*truth.abundances.shape[:2], len(library)), "f")
    for r, spectrum in enumerate(truth.endmembers):
        A[..., int(np.argmin(np.abs(library - spectrum[None]).max(axis=1)))] = truth.abundances[..., r]
    A, clean = (x[: settings.crop, : settings.crop] for x in (A, jnp.asarray(scene.cube, jnp.float32)))
    solver = dq.abundances.Admm(tolerance=settings.tolerance, max_steps=settings.max_steps)
    plain = jax.jit(functools.partial(dq.abundances.sunsal, solver=solver))
    smooth = jax.jit(functools.partial(dq.abundances.sunsal_tv, solver=solver))
    rows: list[dict[str, Any]] = []
    for snr, pairs in settings.tried:
        cube = synthetic.add_noise(jax.random.key(settings.seed), clean, snr)
        for weight, variation in pairs:
            began = time.process_time()
            result = smooth(cube, library, weight, variation) if variation else plain(cube, library, weight)
            x, trace = jax.block_until_ready(result)
            rows.append(
                {
                    "noise dB": snr,
                    "method": "SUnSAL-TV" if variation else "SUnSAL",
                    "weight": weight,
                    "variation": variation,
                    "SRE dB": float(dq.metrics.sre(x, A)),
                    "positive maps a pixel": float(jnp.mean(jnp.sum(x > 1e-3, axis=-1))),
                    "steps": int(trace.steps),
                    "residual": float(trace.residual),
                    "converged": bool(trace.converged),
                    "CPU s": time.process_time() - began,
                }
            )
            print(results_table.line(rows[-1]), flush=True)
    note = (
        "One noise seed; CPU seconds of the first run of a method include compilation. The figures of the paper are "
        f"not quoted, because no copy of its table was available. {settings}"
    )
    return results_table.write(
        folder, "sunsal_tv", rows, "python -m experiments.comparison.sunsal_tv", note, kind="One seed."
    )


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
