"""Profile: bands, the parts of a training step, 300 epochs with compilation, and the unrolled network.

    python -m benchmarks.speed [--quick] [-o results]

Scene: Samson (95 x 95 x 156, from the folder DEQUNMIX_DATA) with three endmembers, or a synthetic scene of that size.
Every figure is the fastest of several runs, taken in turn; compare CPU times and ratios, because other programs may
run.
"""

import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import dequnmix_jax as dq
from benchmarks.timing import Timing, compiled, matmul_peak, once, race
from dequnmix_jax import metrics
from dequnmix_jax.checks import InputError
from dequnmix_jax.datasets import registry, synthetic
from dequnmix_jax.equilibrium import fixed_point_map, model
from dequnmix_jax.ops import convolution
from dequnmix_jax.solvers import implicit
from dequnmix_jax.training import fitting
from dequnmix_jax.training.objective import spread
from experiments.plans import EVERY_STAGE_AND_RATES
from experiments.shared import results_table

COUNT = 3  # endmembers


@dataclass(frozen=True)
class Settings:
    """Sizes and repetitions."""

    side: int = 95
    bands: int = 156
    width: int = 32
    other_bands: tuple[int, ...] = (50, 500)
    before: int = 60  # epochs before the step that is profiled
    epochs: int = 300
    trainings: tuple[str, ...] = ("the paper's", "recommended")
    unrolled: tuple[int, ...] = (10, 20, 50)
    rounds: int = 20
    matmul: int = 2048
    attention: bool = True
    real: bool = True  # Samson, if it is available


QUICK = Settings(
    side=12, bands=20, width=4, other_bands=(10,), before=2, epochs=3, trainings=("recommended",), unrolled=(3,),
    rounds=2, matmul=128, attention=False, real=False,
)  # fmt: skip

TRAININGS = {"the paper's": (dq.Training(), dq.Rates()), "recommended": EVERY_STAGE_AND_RATES}


def row(part: str, case: str, spent: Timing, **more: Any) -> dict[str, Any]:
    """Return one row of the table: a time in milliseconds and what it is compared with."""
    figures = {"ratio": float("nan"), "of": "", "GFLOP per CPU s": float("nan"), "share of matmul peak": float("nan")}
    return {"part": part, "case": case, "wall ms": spent.wall * 1e3, "CPU ms": spent.cpu * 1e3} | figures | more


def made_up(settings: Settings, bands: int) -> jax.Array:
    """Return a synthetic cube of the size of the settings."""
    E = synthetic.spectra(jax.random.key(0), COUNT, bands)
    return synthetic.linear_scene(jax.random.key(1), (settings.side, settings.side), E, 30.0, brightness=0.2).cube


def scene(settings: Settings) -> tuple[jax.Array, str]:
    """Return the cube to train on, and its name."""
    if settings.real:
        try:
            return jnp.asarray(registry.load("samson_zhu", download=False)[0].cube), "Samson"
        except InputError:
            pass
    return made_up(settings, settings.bands), f"synthetic, {settings.side} x {settings.side} x {settings.bands}"


def independence_of_bands(settings: Settings, config: dq.Model) -> list[dict[str, Any]]:
    """Time one step of the solve at several numbers of bands; the preparation, once per solve, is not counted."""
    endless = replace(config.forward, tolerance=0.0, max_steps=30)
    ways, steps, names = {}, {}, {}
    for bands in (settings.bands, *settings.other_bands):
        cube = made_up(settings, bands)
        E = synthetic.spectra(jax.random.key(0), COUNT, bands)
        params = alive(dq.init(jax.random.key(2), cube, config, endmembers=E))
        theta = fixed_point_map.factor(params, cube, config)
        start = fixed_point_map.initial_state(params, cube, config)
        f = fixed_point_map.state_map(config)
        name = f"{bands} bands"
        ways[name] = compiled(lambda theta, start, f=f: implicit.solve(f, endless, theta, start), theta, start)
        steps[name] = int(ways[name]()[1].steps)
        names[bands] = name
    spent = race(ways, settings.rounds)
    each = {name: Timing(t.wall / steps[name], t.cpu / steps[name]) for name, t in spent.items()}
    base = names[settings.bands]
    return [row("one step of the solve", name, t, ratio=t.cpu / each[base].cpu, of=base) for name, t in each.items()]


def alive(params: Any) -> Any:
    """Give the energy of an untrained model a gain; without it the solve ends after two steps."""
    energy = params["network"]["energy"]
    return params | {"network": params["network"] | {"energy": energy | {"gain": jnp.full_like(energy["gain"], 0.5)}}}


def objective(params: Any, state: jax.Array, cube: jax.Array, held: jax.Array, config: dq.Model) -> jax.Array:
    """Return the loss of `dequnmix_jax.training.objective.loss` at a given state."""
    judged = held.astype(cube.dtype)
    estimate = model.read_state(params, state, cube, config)
    rebuilt = model.reconstruct(estimate._replace(endmembers=estimate.endmembers * judged[None]))
    target = cube * judged[None, None]
    angle = jnp.mean(metrics.spectral_angle(target, rebuilt))
    return angle + 0.2 * jnp.mean(jnp.square(rebuilt - target)) + 0.1 * spread(estimate.endmembers)


def profile(
    settings: Settings, config: dq.Model, cube: jax.Array, state: fitting.FitState, step: Any, peak: Timing
) -> list[dict[str, Any]]:
    """Time the parts of a training step, each compiled alone, and the convolutions against the matmul peak."""
    plan, rates = EVERY_STAGE_AND_RATES
    held = jnp.arange(cube.shape[-1]) % 2 == 0
    f = fixed_point_map.state_map(config)

    theta = jax.jit(
        lambda params, cube: fixed_point_map.factor(params, cube, config, None, (~held).astype(cube.dtype))
    )(state.params, cube)
    z, trace = jax.jit(lambda t, z: implicit.solve(f, config.forward, t, z))(theta, state.equilibrium)
    w = jax.random.normal(jax.random.key(0), z.shape)
    u, back = jax.jit(lambda t, z, w: implicit.adjoint_trace(f, config.backward, t, z, w))(theta, z, w)

    def without_faces(factors: fixed_point_map.Factors) -> fixed_point_map.Factors:
        return factors._replace(metric=factors.metric and factors.metric._replace(faces=None))

    learned = without_faces(theta)

    def factor(cube: jax.Array, params: Any) -> fixed_point_map.Factors:
        return without_faces(fixed_point_map.factor(params, cube, config, None, (~held).astype(cube.dtype)))

    def map_gradient(theta: Any, z: jax.Array, u: jax.Array) -> Any:
        return jax.vjp(lambda t: f(t, z), theta)[1](u)

    ways = {
        "whole step": lambda: step(state, cube),
        "v(Y) network and products with the cube": compiled(factor, cube, state.params),
        "the same, with its gradient": compiled(
            lambda cube, params, t: jax.vjp(lambda p: factor(cube, p), params)[1](t), cube, state.params, learned
        ),
        f"solve, {int(trace.steps)} steps": compiled(
            lambda t, z: implicit.solve(f, config.forward, t, z), theta, state.equilibrium
        ),
        f"adjoint, {int(back.steps)} products": compiled(
            lambda t, z, w: implicit.adjoint_trace(f, config.backward, t, z, w), theta, z, w
        ),
        "gradient of the map in its parameters": compiled(map_gradient, theta, z, u),
        "loss head, with its gradient": compiled(
            jax.value_and_grad(partial(objective, config=config), (0, 1)), state.params, z, cube, held
        ),
        "optimiser": compiled(
            lambda s, g: fitting._step(s, g, plan, rates), state, jax.tree.map(jnp.ones_like, state.params)
        ),
    }
    spent = race(ways, settings.rounds)
    whole = spent["whole step"]
    rows = [row("training step", name, t, ratio=t.cpu / whole.cpu, of="whole step") for name, t in spent.items()]
    return rows + convolutions(settings, peak)


def convolutions(settings: Settings, peak: Timing) -> list[dict[str, Any]]:
    """Time the convolutions of a step and their gradients, inside a loop as in training."""
    side, width = settings.side, settings.width
    ways, gflop = {}, {}
    for channels, out in ((COUNT, width), (width, COUNT), (width, width)):
        x = jax.random.normal(jax.random.key(0), (side, side, channels))
        g = jax.random.normal(jax.random.key(1), (side, side, out))
        w = jax.random.normal(jax.random.key(2), (3, 3, channels, out))

        def forward(x: jax.Array, w: jax.Array, g: jax.Array) -> jax.Array:
            return convolution.convolve(x, w)

        def kernel(x: jax.Array, w: jax.Array, g: jax.Array) -> jax.Array:
            return jax.vjp(lambda w: convolution.convolve(x, w), w)[1](g)[0]

        for name, f in (("image", forward), ("kernel gradient", kernel)):
            case = f"{name}, {channels} -> {out}"
            ways[case] = compiled(partial(ten_times, f), x, w, g)
            gflop[case] = 10 * 2 * side * side * 9 * channels * out / 1e9
    spent = race(ways, settings.rounds)
    return [
        row(
            "convolution 3 x 3", case, Timing(t.wall / 10, t.cpu / 10),
            **{"GFLOP per CPU s": gflop[case] / t.cpu, "share of matmul peak": gflop[case] * peak.cpu / t.cpu},
        )
        for case, t in spent.items()
    ]  # fmt: skip


def ten_times(f: Any, x: jax.Array, w: jax.Array, g: jax.Array) -> jax.Array:
    """Run f ten times in a scan that the compiler cannot shorten."""

    def again(x: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        out = f(x, w, g)
        return x + 1e-30 * jnp.sum(out), out.ravel()[0]

    return jax.lax.scan(again, x, None, length=10)[1]


def epochs(settings: Settings, config: dq.Model, cube: jax.Array) -> list[dict[str, Any]]:
    """Train as a user would, including compilation and VCA."""
    rows = []
    for name in settings.trainings:
        plan, rates = TRAININGS[name]
        plan = replace(plan, epochs=settings.epochs)
        run = jax.jit(lambda key, cube, plan=plan, rates=rates: dq.fit(key, cube, config, plan, rates, count=COUNT))
        whole = once(lambda run=run: run(jax.random.key(0), cube))
        again = once(lambda run=run: run(jax.random.key(0), cube))
        both = f"{settings.epochs} epochs, {name} training"
        rows.append(row("fit", f"{both}, compilation included", whole, ratio=whole.wall / 60, of="60 s on the clock"))
        rows.append(row("fit", f"{both}, compiled", again, ratio=again.cpu / whole.cpu, of="with compilation"))
    return rows


def against_unrolled(
    settings: Settings, config: dq.Model, cube: jax.Array, state: fitting.FitState
) -> list[dict[str, Any]]:
    """Time value and gradient of the loss by the equilibrium and by K unrolled steps of the same map."""
    held = jnp.arange(cube.shape[-1]) % 2 == 0
    f = fixed_point_map.state_map(config)

    def gradient(solve: Any, params: Any, cube: jax.Array, start: jax.Array) -> tuple[jax.Array, Any]:
        def value(params: Any) -> jax.Array:
            theta = fixed_point_map.factor(params, cube, config, None, (~held).astype(cube.dtype))
            return objective(params, solve(theta, start), cube, held, config)

        return jax.value_and_grad(value)(params)

    def equilibrium(forward: dq.Solver, backward: dq.Adjoint) -> Any:
        return lambda theta, start: implicit.fixed_point(f, forward, backward, theta, start)[0]

    ways = {"equilibrium": equilibrium(config.forward, config.backward)}
    ways |= {f"unrolled, K = {k}": partial(implicit.unrolled, f, k) for k in settings.unrolled}
    # From a cold start, as an unrolled network always starts.
    start = fixed_point_map.initial_state(state.params, cube, config)
    ready = {name: compiled(partial(gradient, way), state.params, cube, start) for name, way in ways.items()}
    tight = equilibrium(replace(config.forward, tolerance=1e-6), replace(config.backward, tolerance=1e-6))
    exact = compiled(partial(gradient, tight), state.params, cube, start)()[1]
    spent = race(ready, settings.rounds)
    base = spent["equilibrium"]
    return [
        row(
            "loss and gradient, cold start", f"{name}, gradient error {distance(ready[name]()[1], exact):.1e}", t,
            ratio=t.cpu / base.cpu, of="equilibrium",
        )
        for name, t in spent.items()
    ]  # fmt: skip


def distance(a: Any, b: Any) -> float:
    """Return |a - b| / |b| over all leaves."""

    def length(tree: Any) -> float:
        return sum(float(jnp.sum(jnp.square(leaf))) for leaf in jax.tree.leaves(tree)) ** 0.5

    return length(jax.tree.map(jnp.subtract, a, b)) / length(b)


def shown(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Print rows, and return them."""
    for entry in rows:
        print(results_table.line(entry), flush=True)
    return rows


def main(settings: Settings, folder: Path) -> Path:
    """Run all parts and write the table."""
    jax.config.update("jax_enable_compilation_cache", False)  # compilation is part of what is timed
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    config = dq.Model(gradient=dq.equilibrium.Energy(width=settings.width, attention=settings.attention))
    cube, name = scene(settings)
    rows = shown(epochs(settings, config, cube))
    state = fitting.begin(jax.random.key(0), cube, config, count=COUNT)
    step = jax.jit(lambda state, cube: fitting.advance(state, cube, config, *EVERY_STAGE_AND_RATES, 1))
    for _ in range(settings.before):
        state, _ = step(state, cube)
    peak = matmul_peak(settings.matmul, settings.rounds)
    rate = {"GFLOP per CPU s": 1 / peak.cpu, "share of matmul peak": 1.0}
    rows.append(row("matmul", f"{settings.matmul} squared, 1 GFLOP", peak, **rate))
    rows += shown(profile(settings, config, cube, state, step, peak))
    rows += shown(against_unrolled(settings, config, cube, state))
    rows += shown(independence_of_bands(settings, config))
    note = (
        f"Scene: {name}. Load of the machine in the minute before: {load:.2f}. The parts of a step are compiled "
        "alone, so that their sum differs from the whole; the second of them holds the first. Ratios are of CPU time, "
        f"that to 60 s of wall time. {settings}"
    )
    return results_table.write(
        folder, "speed", rows, "python -m benchmarks.speed", note, kind="Fastest of several runs."
    )


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
