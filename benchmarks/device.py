"""Check this machine's device: gradients, memory, throughput and accuracy, in one JSON file.

    python -m benchmarks.device [--quick] [-o results]

Runs on whatever device JAX finds first; nothing here or in the package assumes a CPU. Figures are shown beside the peak
of the device: a product of square matrices (arithmetic, in float32 as asked and at the default precision, which is TF32
on newer GPUs) and a copy of a large array (memory).
"""

import json
import os
import platform
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from benchmarks import small_scenes
from benchmarks.timing import compiled, race
from dequnmix_jax.datasets import synthetic
from dequnmix_jax.io.atomic import replacing_file
from experiments.plans import EVERY_STAGE, EVERY_STAGE_AND_RATES
from experiments.shared import results_table


@dataclass(frozen=True)
class Settings:
    """Sizes and repetitions."""

    side: int = 95
    bands: int = 156
    count: int = 3
    large: tuple[int, int, int, int] = (1000, 1000, 224, 9)
    epochs: int = 100
    matmul: int = 4096
    copy: int = 2**27
    scenes: int = 16
    iterations: tuple[int, ...] = (5, 50, 500)
    rounds: int = 5


QUICK = Settings(side=10, bands=16, large=(20, 20, 24, 4), epochs=2, matmul=128, copy=2**16, scenes=2, rounds=1)


def ceilings(settings: Settings) -> dict[str, float]:
    """Return what the device reaches on a matrix product and on a copy."""
    n = settings.matmul
    A = jax.random.normal(jax.random.key(0), (n, n))
    x = jnp.zeros(settings.copy, jnp.float32)
    spent = race(
        {
            "highest": compiled(lambda a: jnp.matmul(a, a, precision="highest"), A),
            "default": compiled(lambda a: jnp.matmul(a, a), A),
            "bfloat16": compiled(lambda a: jnp.matmul(a, a), A.astype(jnp.bfloat16)),
            "copy": compiled(lambda x: x + 1, x),
        },
        settings.rounds,
    )
    flops = {f"matmul_{name}_tflops": 2 * n**3 / spent[name].wall / 1e12 for name in ("highest", "default", "bfloat16")}
    return flops | {"copy_gb_per_s": 2 * 4 * settings.copy / spent["copy"].wall / 1e9}


def scene(settings: Settings) -> synthetic.Sample:
    """Return a synthetic scene of the size of Samson, 30 dB."""
    E = synthetic.spectra(jax.random.key(0), settings.count, settings.bands)
    sample = synthetic.linear_scene(jax.random.key(1), (settings.side, settings.side), E, brightness=0.2, contrast=2.0)
    return sample._replace(cube=synthetic.add_noise(jax.random.key(2), sample.cube, 30.0))


def gradients(params: Any, cube: jax.Array) -> dict[str, float]:
    """Return errors of gradients, relative to the largest entry: implicit against unrolled, both in float32."""
    tight = dq.Model(forward=dq.Solver(tolerance=1e-6))
    weight = jax.random.normal(jax.random.key(3), (*cube.shape[:2], params["endmembers"].shape[0]))

    def implicit(params: Any) -> jax.Array:
        return jnp.mean(weight * dq.unmix(params, cube, tight)[0].abundances)

    def unrolled(params: Any) -> jax.Array:
        from dequnmix_jax.equilibrium import fixed_point_map, model

        theta = fixed_point_map.factor(params, cube, tight)
        start = fixed_point_map.initial_state(params, cube, tight)
        state = dq.solvers.unrolled(fixed_point_map.state_map(tight), 60, theta, start)
        return jnp.mean(weight * model.read_state(params, state, cube, tight).abundances)

    a, b = jax.jit(jax.grad(implicit))(params), jax.jit(jax.grad(unrolled))(params)
    error = jax.tree.map(lambda x, y: jnp.abs(x - y).max() / (jnp.abs(y).max() + 1e-12), a, b)
    return {"implicit_against_unrolled": float(jnp.max(jnp.asarray(jax.tree.leaves(error))))}


def memory(params: Any, cube: jax.Array, settings: Settings) -> dict[str, Any]:
    """Return the temporary memory of a compiled gradient for several limits of iterations, in MB."""

    def temporary(steps: int) -> float | None:
        config = dq.Model(forward=dq.Solver(tolerance=0.0, max_steps=steps), backward=dq.Adjoint(max_steps=steps))
        program = jax.jit(jax.grad(lambda p: jnp.mean(dq.unmix(p, cube, config)[0].abundances[..., 0])))
        analysis = program.lower(params).compile().memory_analysis()
        return None if analysis is None else analysis.temp_size_in_bytes / 1e6

    return {str(steps): temporary(steps) for steps in settings.iterations}


def throughput(settings: Settings) -> dict[str, float]:
    """Return pixels per second of FCLS and of `unmix` on a large scene, and the cube's bytes that pass."""
    rows, columns, bands, count = settings.large
    draw = np.random.default_rng(0)
    E = jnp.maximum(synthetic.spectra(jax.random.key(0), count, bands), 0.01)
    A = draw.dirichlet(np.full(count, 0.5), size=(rows, columns)).astype("f")
    cube = jnp.asarray(A) @ E
    cube = cube + 0.01 * jax.random.normal(jax.random.key(1), cube.shape)
    config = dq.Model()
    params = dq.init(jax.random.key(2), jnp.maximum(cube, 0), config, endmembers=E)
    ways = {
        "fcls": compiled(dq.abundances.fcls, cube, E),
        "unmix": compiled(lambda c: dq.unmix(params, c, config), cube),
        "unmix_bfloat16_cube": compiled(lambda c: dq.unmix(params, c, config), cube.astype(jnp.bfloat16)),
    }
    spent = race(ways, settings.rounds)
    rates = {f"{name}_pixels_per_s": rows * columns / each.wall for name, each in spent.items()}
    return rates | {"fcls_cube_gb_per_s": cube.nbytes / spent["fcls"].wall / 1e9}


def many(settings: Settings) -> dict[str, float]:
    """Return how much faster many small scenes are in one program than in a loop."""
    size = small_scenes.Size()
    keys = jax.random.split(jax.random.key(0), settings.scenes)
    cubes = jax.vmap(lambda key: small_scenes.draw_cube(key, size))(keys)
    training = replace(EVERY_STAGE, epochs=min(settings.epochs, 20))

    def fit(key: jax.Array, cube: jax.Array) -> Any:
        return dq.fit(key, cube, dq.Model(), training, dq.RECOMMENDED[1], count=size.count)

    alone, together = jax.jit(fit), jax.jit(jax.vmap(fit))
    spent = race(
        {
            "loop": lambda: small_scenes.in_turn(alone, keys, cubes),
            "vmap": lambda: together(keys, cubes),
        },
        1,
    )
    return {
        "scenes": settings.scenes,
        "vmap_scenes_per_s": settings.scenes / spent["vmap"].wall,
        "times_the_loop": spent["loop"].wall / spent["vmap"].wall,
    }


def accuracy(settings: Settings) -> tuple[Any, jax.Array, dict[str, float]]:
    """Train as recommended and return parameters, cube, and errors against the truth before and after."""
    sample = scene(settings)
    config, (training, rates) = dq.Model(), EVERY_STAGE_AND_RATES
    key = jax.random.key(0)
    training = replace(training, epochs=settings.epochs)
    program = compiled(lambda c: dq.fit(key, c, config, training, rates, count=settings.count), sample.cube)
    spent = race({"fit": program}, 1)["fit"]
    params, history = program()
    estimate, trace = jax.jit(dq.unmix, static_argnums=2)(params, sample.cube, config)
    order = dq.metrics.align(estimate.endmembers, sample.endmembers)
    maximum = jnp.max(sample.endmembers, axis=1)[None, None]
    weighted = sample.abundances * maximum
    truth = weighted / jnp.sum(weighted, axis=-1, keepdims=True)
    exact = dq.abundances.fcls(sample.cube, sample.endmembers)
    return params, sample.cube, {
        "armse": float(dq.metrics.armse(estimate.abundances[..., order], truth)),
        "msad": float(dq.metrics.msad(estimate.endmembers[order], sample.endmembers)),
        "fit_seconds": spent.wall,
        "training_solves_not_converged": int((~history.converged).sum()),
        "steps": int(trace.steps),
        "residual": float(trace.residual),
        "fcls_largest_optimality_residual": float(
            dq.abundances.kkt_residual(sample.cube, sample.endmembers, exact, True).max()
        ),
    }  # fmt: skip


def main(settings: Settings, folder: Path) -> Path:
    """Run all checks and write one JSON file, named after the device."""
    device = jax.devices()[0]
    params, cube, errors = accuracy(settings)
    figures = {
        "device": f"{device.platform} {device.device_kind}",
        "devices": len(jax.devices()),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        **results_table.origin(),
        "settings": asdict(settings),
        "ceilings": ceilings(settings),
        "accuracy": errors,
        "gradients": gradients(params, cube),
        "temporary_mb_of_a_gradient_at_iterations": memory(params, cube, settings),
        "throughput": throughput(settings),
        "many_scenes": many(settings),
    }
    name = "".join(c if c.isalnum() else "_" for c in device.device_kind.lower())
    target = folder / f"device_{name}.json"
    folder.mkdir(parents=True, exist_ok=True)
    with replacing_file(target, overwrite=True) as temporary:
        temporary.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=2))
    return target


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
