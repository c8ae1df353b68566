"""The methods of the tables and their settings: the competitors (`dequnmix_jax.baselines`) and DEQ-Unmix."""

import functools
import importlib.util
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax.baselines import (
    Method,
    MethodResult,
    admm_net,
    ae_red,
    bundles,
    closed_forms,
    deep_equilibria,
    deeptrans,
    denoisers,
    dncnn,
    elmm,
    plmm,
    plug_and_play,
    polyhedral,
    snmf_net,
    unrolled,
    unrolled_nmf,
    unrolled_pnp,
)
from dequnmix_jax.endmembers.selection import constraint_index
from experiments.plans import EVERY_STAGE
from experiments.shared import autoencoders, bm3d_bm4d


@dataclass(frozen=True)
class Settings:
    """Settings of a table.

    Attributes:
        scenes: names of `experiments.shared.scenes`.
        short: scenes with the short list of methods.
        packages: scenes with BM3D and BM4D, if installed; they take minutes each.
        seeds: number for every method.
        layers: of the unrolled twins; none: without them.
        epochs: of DEQ-Unmix and of its twins.
        crop: rows and columns kept of each scene; None: all.
        angles: number of columns for the angles of endmembers, the same in the parts of a divided table.
        only: run methods whose names start with one of these.
        update: keep the other rows of the existing table.
        transformer, autoencoder, factorisation, denoiser, sparse, plugged, groups, implicit, networks: constants of
            the competitors; those with a denoiser get the weights that `denoiser` says.
    """

    scenes: tuple[str, ...]
    short: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    seeds: int = 5
    layers: tuple[int, ...] = (5, 10, 20)
    epochs: int = 100
    crop: int | None = None
    angles: int = 3
    only: tuple[str, ...] = ("",)
    update: bool = False
    transformer: deeptrans.Settings = field(default_factory=deeptrans.Settings)
    autoencoder: ae_red.Settings = field(default_factory=ae_red.Settings)
    factorisation: snmf_net.Settings = field(default_factory=snmf_net.Settings)
    denoiser: dncnn.Settings = field(default_factory=dncnn.Settings)
    sparse: admm_net.Settings = field(default_factory=admm_net.Settings)
    plugged: unrolled_pnp.Settings = field(default_factory=unrolled_pnp.Settings)
    groups: unrolled_nmf.Settings = field(default_factory=unrolled_nmf.Settings)
    implicit: deep_equilibria.Settings = field(default_factory=deep_equilibria.Settings)
    networks: autoencoders.Constants = field(default_factory=autoencoders.Constants)


PACKAGES = ("bm3d", "bm4d")


def absent(settings: Settings) -> list[str]:
    """Return a sentence for each requested package that is not installed."""
    return [
        f"PnP-{name.upper()} is missing: the package {name} is not installed (extra noncommercial)."
        for name in PACKAGES
        if settings.packages
        and any(
            f"PnP-{name.upper()}, ".startswith(each) or each.startswith(f"PnP-{name.upper()}, ")
            for each in settings.only
        )
        and not importlib.util.find_spec(name)
    ]


def quick(*scenes: str, **changes: Any) -> Settings:
    """Return settings of a small run to check that everything works."""
    small = Settings(
        scenes, seeds=2, layers=(2,), epochs=3, crop=16,
        transformer=deeptrans.Settings(width=200, epochs=2),
        autoencoder=ae_red.Settings(widths=(6, 4), rounds=2, steps=2),
        factorisation=snmf_net.Settings(layers=2, steps=2, pixels=50),
        denoiser=dncnn.Settings(layers=3, width=4, steps=5, patches=2, side=12),
        sparse=admm_net.Settings(epochs=2),
        plugged=unrolled_pnp.Settings(layers=2, width=4, epochs=2),
        groups=unrolled_nmf.Settings(layers=2, steps=2),
        implicit=deep_equilibria.Settings(epochs=2),
        networks=autoencoders.QUICK,
        only=("VCA", "purified", "DEQ-Unmix, cone"),
    )  # fmt: skip
    return replace(small, **changes)


def equilibrium(config: dq.Model, epochs: int) -> Method:
    """Return DEQ-Unmix, trained on the scene itself."""
    schedule = replace(EVERY_STAGE, epochs=epochs)

    def estimate(key: jax.Array, cube: jax.Array, start: jax.Array) -> MethodResult:
        return _trained(key, cube, start, config, schedule, dq.RECOMMENDED[1])

    word = config.constraint.word
    return Method(f"DEQ-Unmix, {word}", estimate, word)


def selected(epochs: int) -> Method:
    """Return DEQ-Unmix as `dequnmix fit` trains it: spectra and mixing model are those of `select_endmembers`."""
    schedule = replace(dq.RECOMMENDED[0], epochs=epochs)

    def estimate(key: jax.Array, cube: jax.Array, start: jax.Array) -> MethodResult:
        selection = _select(key, cube, start.shape[0])
        config, E = dq.training.model_for(selection), jnp.maximum(selection.endmembers, 1e-5)
        result = _trained_at_once(key, cube, E, config, schedule, dq.training.rates_for(selection))
        return result._replace(constraint_index=selection.constraint_index)

    return Method("DEQ-Unmix, from select_endmembers", estimate, pure=False, draws=True)


def as_run(training: dq.Training | None) -> Method:
    """Return what `dq.run` does: the learned operator, and training on the scene after it if asked for."""

    def estimate(key: jax.Array, cube: jax.Array, start: jax.Array) -> MethodResult:
        result = dq.run(np.asarray(cube), start.shape[0], key, training=training)
        index = jnp.asarray(constraint_index(result.config.constraint.word), jnp.int32)
        return MethodResult(jnp.asarray(result.abundances), jnp.asarray(result.params["endmembers"]), index)

    name = "dq.run" if training is None else "dq.run, trained on the scene"
    return Method(name, estimate, pure=False, draws=True)


def _trained(
    key: jax.Array, cube: jax.Array, E: jax.Array, config: dq.Model, schedule: dq.Training, rates: dq.Rates
) -> MethodResult:
    params, _ = dq.fit(key, cube, config, schedule, rates, endmembers=E)
    result, _ = dq.unmix(params, cube, config)
    return MethodResult(result.abundances, result.endmembers)


_select = jax.jit(dq.endmembers.select_endmembers, static_argnums=2)
_trained_at_once = jax.jit(_trained, static_argnums=(3, 4))


@functools.cache
def _weights(settings: dncnn.Settings) -> Any:
    # Called while a method is traced: trained then, once, and only if a method needs it. Wait: unfinished work would
    # count as CPU seconds of the first method.
    with jax.ensure_compile_time_eval():
        return jax.block_until_ready(dncnn.train(jax.random.key(2017), settings)[0])


def methods(settings: Settings, scene: str) -> list[Method]:
    """Return the methods for a scene; the four closed forms come first."""
    plug, level = plug_and_play.plug_and_play, plug_and_play.ESTIMATED
    chosen = [
        *closed_forms.FOUR,
        closed_forms.SELECTED,
        closed_forms.SMOOTHED,
        plug("PnP-TV, estimated level", denoisers.total_variation, level),
        deeptrans.deeptrans(settings.transformer),
        equilibrium(dq.Model(), settings.epochs),
        equilibrium(dq.Model(constraint=dq.equilibrium.Simplex()), settings.epochs),
        selected(settings.epochs),
        as_run(None),
        as_run(replace(dq.RECOMMENDED[0], epochs=settings.epochs)),
    ]
    if scene not in settings.short:
        schedule = replace(EVERY_STAGE, epochs=settings.epochs)
        chosen += _rivals(settings)
        chosen += [unrolled.unrolled(n, tied, schedule=schedule) for tied in (True, False) for n in settings.layers]
    if scene in settings.packages:
        chosen += [
            plug(f"PnP-{name.upper()}, {words}", getattr(bm3d_bm4d, name), penalty, pure=False)
            for name in PACKAGES
            if importlib.util.find_spec(name)
            for words, penalty in (("paper's noise level", plug_and_play.PAPER), ("estimated level", level))
        ]
    return [method for method in chosen if method.name.startswith(settings.only)]


def _rivals(settings: Settings) -> list[Method]:
    """Return the competitors that only the long list has, the unrolled twins and the packages aside."""
    plug, level = plug_and_play.plug_and_play, plug_and_play.ESTIMATED

    def learned(maps: jax.Array, sigma: jax.Array) -> jax.Array:
        return dncnn.denoiser(_weights(settings.denoiser))(maps, sigma)

    return [
        plug("PnP-NLM, paper's noise level", denoisers.non_local_means),
        plug("PnP-NLM, estimated level", denoisers.non_local_means, level),
        plug("PnP-TV, paper's noise level", denoisers.total_variation),
        plug("PnP-DnCNN, paper's noise level", learned),
        plug("PnP-DnCNN, estimated level", learned, level),
        ae_red.ae_red(settings.autoencoder),
        snmf_net.snmf_net(settings.factorisation),
        admm_net.admm_net(settings.sparse),
        unrolled_nmf.unrolled_nmf(settings.groups),
        *(unrolled_pnp.unrolled_pnp(replace(settings.plugged, tied=tied), learned) for tied in (False, True)),
        *_equilibria(settings),
        *autoencoders.methods(settings.networks),
        polyhedral.polyhedral(),
        elmm.elmm(),
        plmm.plmm(),
        bundles.bundles(),
        bundles.bundles(bundles.Settings(bundles.ELITIST, 0.5)),
        closed_forms.MVC_NMF,
        closed_forms.L_HALF_NMF,
        closed_forms.SGS_NMF,
        closed_forms.QMV_NMF,
        closed_forms.GL_NMF,
    ]


def _equilibria(settings: Settings) -> list[Method]:
    """Return the equilibria of Gilton et al., and the first with momentum instead of Anderson acceleration."""
    weights = functools.partial(_weights, replace(settings.denoiser, bounded=True))
    kinds = [replace(settings.implicit, kind=kind) for kind in deep_equilibria.MAPS]
    inertial = replace(kinds[0], solver=deep_equilibria.Inertia())
    return [deep_equilibria.deep_equilibrium(each, weights) for each in (*kinds, inertial)]
