"""Whether a prior over neighbours takes texture for errors where spectra vary, by how many of such errors count.

    python -m experiments.operator.prior_texture [--quick] [-o results]

Spectra that vary from pixel to pixel make errors in the maps that even and odd bands share.
`prior_stage.shared_errors` finds them by the halves of the spectrum, which share texture, and counts a part of them,
`prior_stage.COUNTED`. Here that part is varied.

Scenes: 40 x 40 pixels, 60 bands, four test minerals, noise of 20 and 40 dB. Maps of families of the generator, smooth
maps of which a tenth of the pixels is pure and alone, and maps of which one half is smooth, the other without order.
Spectra that do not vary; whose level does, by 10 or 25 %; whose shape does, by 8 %; and both, by 15 and 6 %, each
material and pixel on its own. FCLS with the true endmembers gives the maps.

A ratio is the aRMSE with the prior that is kept over that without; below 1 it helps. "harmed": the share of scenes
whose ratio is above 1.05. `COUNTED` was chosen by these ratios on other draws of such scenes.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax.abundances import learned_smoothing, smoothing
from dequnmix_jax.datasets import generator, synthetic
from dequnmix_jax.equilibrium.model import init
from dequnmix_jax.training import prior_stage
from experiments.shared import results_table

FAMILIES = ("smooth", "matern", "fine", "unordered", "blocks", "farmland", "squares", "targets")

VARIATION = {"none": (0.0, 0.0), "level 10 %": (0.1, 0.0), "level 25 %": (0.25, 0.0), "shape 8 %": (0.0, 0.08),
             "level 15 %, shape 6 %": (0.15, 0.06)}  # fmt: skip
"""Standard deviations of the logarithms of level and shape."""

PRIORS = ("neighbours", "learned")

_WIDTH = 6.0
"""Bands over which the shape of a spectrum varies."""

_SIMPLEX = dq.Model(gradient=dq.equilibrium.Analytic(), constraint=dq.equilibrium.Simplex())


SIZE = generator.SceneShape(40, 40, 60, 4)


@dataclass(frozen=True)
class Settings:
    """Kinds of maps, noise (dB), seeds, shares that count, and the size of the scenes."""

    maps: tuple[str, ...] = (*FAMILIES, "isolated pixels", "half unordered")
    noise: tuple[float, ...] = (20.0, 40.0)
    seeds: tuple[int, ...] = (40, 41, 42, 43, 44)
    shares: tuple[float, ...] = (0.0, 0.25, 0.5, 0.7, 1.0)
    size: generator.SceneShape = SIZE


QUICK = Settings(
    maps=("smooth", "isolated pixels"), noise=(40.0,), seeds=(40,), shares=(0.5, 1.0),
    size=generator.SceneShape(24, 24, 30, 3),
)  # fmt: skip


def drawn_maps(key: jax.Array, kind: str, size: generator.SceneShape) -> tuple[jax.Array, jax.Array]:
    """Return abundances (H, W, R) of a kind, and endmembers (R, B)."""
    first, second, third = jax.random.split(key, 3)
    scene = generator.draw(first, kind if kind in FAMILIES else "smooth", size, "test")
    A = scene.abundances
    if kind == "isolated pixels":
        pure = jax.nn.one_hot(jax.random.randint(second, A.shape[:2], 0, A.shape[2]), A.shape[2])
        A = jnp.where(jax.random.uniform(third, (*A.shape[:2], 1)) < 0.1, pure, A)
    elif kind == "half unordered":
        other = generator.draw(second, "unordered", size, "test").abundances
        A = jnp.where((jnp.arange(A.shape[1]) < A.shape[1] // 2)[None, :, None], A, other)
    return A, scene.endmembers


@jax.jit
def mixed(key: jax.Array, A: jax.Array, E: jax.Array, level: jax.Array, shape: jax.Array, snr: jax.Array) -> jax.Array:
    """Return a cube whose spectra vary: y = sum_r a_r e_r exp(level z_r + shape g_r), g_r smooth over the bands."""
    for_level, for_shape, for_noise = jax.random.split(key, 3)
    b = np.arange(E.shape[1])
    window = np.exp(-0.5 * np.square(np.subtract.outer(b, b) / _WIDTH))
    window = jnp.asarray(window / np.linalg.norm(window, axis=0), E.dtype)
    g = jnp.matmul(jax.random.normal(for_shape, (*A.shape, E.shape[1])), window, precision="highest")
    z = jax.random.normal(for_level, (*A.shape, 1))
    cube = jnp.einsum("hwr,hwrb->hwb", A, E[None, None] * jnp.exp(level * z + shape * g), precision="highest")
    return synthetic.add_noise(for_noise, cube, snr)


@partial(jax.jit, static_argnums=(3, 4))
def ratios(A: jax.Array, E: jax.Array, cube: jax.Array, prior: str, shares: tuple[float, ...]) -> jax.Array:
    """Return the aRMSE with a prior over that without it, for each share that counts."""
    valid = jnp.ones(A.shape[:2], bool)
    params = init(jax.random.key(0), cube, _SIMPLEX, endmembers=E)
    maps = prior_stage.maps_of(params, cube, _SIMPLEX, valid)
    errors = prior_stage.shared_errors(maps, valid) / prior_stage.COUNTED
    smooth: Any = smoothing.smooth if prior == "neighbours" else learned_smoothing.smooth_learned
    before = dq.metrics.armse(maps.whole, A)

    def one(share: jax.Array) -> jax.Array:
        _, found = prior_stage.judge_prior(maps, prior, valid, share * errors)
        return dq.metrics.armse(smooth(maps.whole, found), A) / before

    return jax.lax.map(one, jnp.asarray(shares, A.dtype))


def summarised(label: str, prior: str, settings: Settings, found: list[np.ndarray]) -> list[dict[str, Any]]:
    """Return a row for each share."""
    table = np.asarray(found)
    return [
        {
            "spectra": label, "prior": prior, "share": share, "scenes": len(table),
            "ratio": results_table.geometric_mean(list(table[:, i])), "worst": float(table[:, i].max()),
            "harmed": float((table[:, i] > 1.05).mean()),
        }
        for i, share in enumerate(settings.shares)
    ]  # fmt: skip


def main(settings: Settings, folder: Path) -> Path:
    """Draw and judge all scenes, and write `prior_texture.csv` and `.md`."""
    found: dict[tuple[str, str, str], list[np.ndarray]] = {}
    for m, kind in enumerate(settings.maps):
        for seed in settings.seeds:
            A, E = drawn_maps(jax.random.fold_in(jax.random.key(seed), m), kind, settings.size)
            for v, (variation, (level, shape)) in enumerate(VARIATION.items()):
                for snr in settings.noise:
                    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 100 + m), 10 * v + int(snr))
                    cube = mixed(key, A, E, *(jnp.asarray(x, A.dtype) for x in (level, shape, snr)))
                    for prior in PRIORS:
                        row = np.asarray(ratios(A, E, cube, prior, settings.shares))
                        found.setdefault((kind, variation, prior), []).append(row)
        print(kind, flush=True)
    rows = []
    for prior in PRIORS:
        groups: dict[str, list[np.ndarray]] = {"vary": [], "do not vary": []}
        for (_, variation, own), values in found.items():
            if own == prior:
                groups["do not vary" if variation == "none" else "vary"] += values
        for label, values in groups.items():
            rows += summarised(label, prior, settings, values)
        for kind in settings.maps:
            some = [x for (k, v, p), values in found.items() if (k, p) == (kind, prior) and v != "none" for x in values]
            rows += summarised(f"vary; maps: {kind}", prior, settings, some)
    share = prior_stage.COUNTED
    note = f"Generator {generator.fingerprint()}. Share {share:g} is that of the package. Seeds {settings.seeds}."
    command = "python -m experiments.operator.prior_texture"
    return results_table.write(folder, "prior_texture", rows, command, note, "Over scenes.")


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
