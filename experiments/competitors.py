"""The competitors and DEQ-Unmix side by side: one start for all, blind, the reference only in the columns of errors.

    python -m experiments.competitors [--quick] [-o results]

Every method (`experiments.baselines`) gets the endmembers that VCA found with the seed, clipped at zero, and its
constants are the same on all scenes. Samson is unmixed once and held against both of its references, which are 0.23
apart: that of Zhu measures abundances of spectra at maximum one, that of Rasti sums to one. A method whose abundances
are those of spectra at maximum one is held against an exact reference in that unit. `moved` is the RMS distance of the
abundances from those of VCA + FCLS, where the method keeps VCA's spectra: what the prior has done at all.
"""

import functools
import importlib.util
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

import dequnmix_jax as dq
from dequnmix_jax import mixing
from dequnmix_jax.truth import Truth
from experiments import scenes, tables
from experiments.baselines import (
    Found,
    Method,
    ae_red,
    bm3d_bm4d,
    closed_forms,
    deeptrans,
    denoisers,
    dncnn,
    plug_and_play,
    snmf_net,
    unrolled,
)


@dataclass(frozen=True)
class Settings:
    """What is run; `slow_seeds` are those of the untied twins, `package_seeds` those of BM3D and BM4D.

    `packages`: the scenes on which BM3D and BM4D run where they are installed; they take minutes each.
    """

    scenes: tuple[str, ...] = ("samson", "varied, 15 dB", "varied, 30 dB", "hapke_relab")
    seeds: int = 3
    slow_seeds: int = 1
    package_seeds: int = 1
    packages: tuple[str, ...] = ("varied, 15 dB",)
    layers: tuple[int, ...] = (5, 10, 20)
    epochs: int = 100
    transformer: deeptrans.Settings = field(default_factory=deeptrans.Settings)
    autoencoder: ae_red.Settings = field(default_factory=ae_red.Settings)
    factorisation: snmf_net.Settings = field(default_factory=snmf_net.Settings)
    denoiser: dncnn.Settings = field(default_factory=dncnn.Settings)
    crop: int | None = None
    only: tuple[str, ...] = ("",)  # names begin with one of these


QUICK = Settings(
    scenes=("varied, 15 dB",), seeds=2, packages=(), layers=(2,), epochs=3, crop=16,
    transformer=deeptrans.Settings(width=200, epochs=2),
    autoencoder=ae_red.Settings(widths=(6, 4), rounds=2, steps=2),
    factorisation=snmf_net.Settings(layers=2, steps=2, pixels=50),
    denoiser=dncnn.Settings(layers=3, width=4, steps=5, patches=2, side=12),
    only=("VCA", "PnP-NLM, paper", "DEQ-Unmix, scaled"),
)  # fmt: skip


class Row(NamedTuple):
    """Figures of one run; seconds are CPU seconds without compilation."""

    armse: float
    pooled: float
    msad: float
    moved: float
    seconds: float


def equilibrium(config: dq.Model, epochs: int) -> Method:
    """Return DEQ-Unmix, trained on the scene itself."""
    schedule = replace(dq.RECOMMENDED[0], epochs=epochs)

    def estimate(key: jax.Array, cube: jax.Array, start: jax.Array) -> Found:
        params, _ = dq.fit(key, cube, config, schedule, dq.RECOMMENDED[1], endmembers=start)
        result, _ = dq.unmix(params, cube, config)
        return Found(result.abundances, result.endmembers)

    scaled = config.constraint == "cone"
    return Method(f"DEQ-Unmix, {'scaled' if scaled else 'sum to one'}", estimate, scaled)


def methods(settings: Settings, scene: str) -> list[tuple[Method, int]]:
    """Return the methods for a scene, each with its number of seeds."""
    schedule = replace(dq.RECOMMENDED[0], epochs=settings.epochs)
    weights, _ = dncnn.train(jax.random.key(2017), settings.denoiser)
    plug = plug_and_play.plug_and_play
    many = [
        closed_forms.VCA_FCLS,
        closed_forms.VCA_SCALED,
        plug("PnP-NLM, paper's noise level", denoisers.non_local_means),
        plug("PnP-NLM, estimated level", denoisers.non_local_means, plug_and_play.ESTIMATED),
        plug("PnP-TV, paper's noise level", denoisers.total_variation),
        plug("PnP-TV, estimated level", denoisers.total_variation, plug_and_play.ESTIMATED),
        plug("PnP-DnCNN, paper's noise level", dncnn.denoiser(weights)),
        plug("PnP-DnCNN, estimated level", dncnn.denoiser(weights), plug_and_play.ESTIMATED),
        deeptrans.deeptrans(settings.transformer),
        ae_red.ae_red(settings.autoencoder),
        snmf_net.snmf_net(settings.factorisation),
        *(unrolled.unrolled(n, True, schedule=schedule) for n in settings.layers),
        equilibrium(dq.Model(), settings.epochs),
        equilibrium(dq.Model(constraint="simplex"), settings.epochs),
    ]
    few = [unrolled.unrolled(n, False, schedule=schedule) for n in settings.layers]
    packages = [
        plug(f"PnP-{name.upper()}, {label}", getattr(bm3d_bm4d, name), penalty, pure=False)
        for name in ("bm3d", "bm4d")
        for label, penalty in (
            ("paper's noise level", plug_and_play.PAPER),
            ("estimated level", plug_and_play.ESTIMATED),
        )
        if scene in settings.packages and importlib.util.find_spec(name)
    ]
    chosen = [
        *((method, settings.seeds) for method in many),
        *((method, settings.slow_seeds) for method in few),
        *((method, settings.package_seeds) for method in packages),
    ]
    return [(method, seeds) for method, seeds in chosen if method.name.startswith(settings.only)]


def run(method: Method, cube: jax.Array, starts: jax.Array) -> tuple[Found, float]:
    """Return what a method finds from each start, and CPU seconds a start, compilation not counted."""
    keys = jnp.stack([jax.random.key(seed) for seed in range(len(starts))])
    if method.pure:
        program = jax.jit(jax.vmap(method.estimate, in_axes=(0, None, 0))).lower(keys, cube, starts).compile()
        began = time.process_time()
        found = jax.block_until_ready(program(keys, cube, starts))
    else:
        began = time.process_time()
        each = [method.estimate(key, cube, start) for key, start in zip(keys, starts, strict=True)]
        found = jax.block_until_ready(Found(*(jnp.stack(x) for x in zip(*each, strict=True))))
    return found, (time.process_time() - began) / len(starts)


def main(settings: Settings, folder: Path) -> Path:
    """Run all and write `competitors.csv` and `competitors.md`, anew after each scene."""
    rows: list[dict[str, object]] = []
    for name in settings.scenes:
        loaded = scenes.load(name, 0, settings.crop)
        cube, references = loaded.cube, loaded.references
        find = jax.jit(functools.partial(dq.vca, count=references[0][0].endmembers.shape[0]))
        starts = jnp.stack([jnp.maximum(find(jax.random.key(s), cube), 1e-5) for s in range(settings.seeds)])
        plain = jax.block_until_ready(jax.jit(jax.vmap(dq.fcls, in_axes=(None, 0)))(cube, starts))
        for method, seeds in methods(settings, name):
            found, seconds = run(method, cube, starts[:seeds])
            for truth, exact in references:
                runs = [
                    figures(Found(*one), truth, method.scaled, exact, start, base, seconds)
                    for *one, start, base in zip(*found, starts[:seeds], plain[:seeds], strict=True)
                ]
                label = {"scene": name, "reference": truth.reference, "method": method.name}
                rows.append(tables.summary(label, runs))
                print(tables.line(rows[-1]), flush=True)
        note = (
            f"Seeds vmapped; fewer for what is slow. The unrolled twins are those of DEQ-Unmix, scaled. `varied` is a "
            f"scene of `scenes`, not the recipe of the paper. {settings}"
        )
        target = tables.write(folder, "competitors", rows, "python -m experiments.competitors", note)
    return target


def figures(
    found: Found, truth: Truth, scaled: bool, exact: bool, start: jax.Array, plain: jax.Array, seconds: float
) -> Row:
    """Return the errors of one estimate."""
    E, A = jnp.asarray(truth.endmembers), jnp.asarray(truth.abundances)
    if scaled and exact:
        A, _ = mixing.normalise_abundances(A * jnp.max(E, axis=1)[None, None])
    order = dq.align(found.endmembers, E)
    maps = found.abundances[..., order]
    kept = not scaled and bool(jnp.all(found.endmembers == start))
    moved = float(jnp.sqrt(jnp.mean(jnp.square(found.abundances - plain)))) if kept else float("nan")
    errors = (dq.armse(maps, A), dq.pooled_rmse(maps, A), dq.msad(found.endmembers[order], E))
    return Row(*map(float, errors), moved, seconds)


if __name__ == "__main__":
    tables.command_line(__doc__, main, Settings(), QUICK)
