"""Convergence of the equilibrium and error of its gradient when products are rounded.

    python -m experiments.equilibrium.precision [--quick] [-o results]

A GPU may round the operands of a float32 product to 10 bits of mantissa (TF32), a TPU to 7 (bfloat16). Here the CPU
does the same to both operands of every convolution, with sums in float32 (`convolution.rounded_operands`); the products
with H, the projection and the products of the solvers request full precision and
keep it. "state" has the whole map in bfloat16: state, data and weights, with the solver around it in float32. Floor:
the smallest relative residual within the limit of steps. Error of state and gradient: against float64, as in
`gradient_error`.
"""

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import dequnmix_jax as dq
from dequnmix_jax.equilibrium import fixed_point_map
from dequnmix_jax.ops import convolution
from dequnmix_jax.solvers import forward as solvers_forward
from experiments.shared import results_table, trained_maps
from experiments.shared.gradients import compare, true_gradient


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment. `bits` of the mantissa of the operands of a convolution; 23: float32."""

    maps: tuple[str, ...] = ("energy, data metric", "energy, euclidean metric")
    bits: tuple[int, ...] = (23, 10, 7)
    state: bool = True
    steps: int = 200
    epochs: int = 30
    crop: int | None = 48
    seed: int = 0


QUICK = Settings(maps=("energy, data metric",), bits=(10,), state=False, steps=5, epochs=0, crop=8)


def rounded(x: jax.Array, bits: int) -> jax.Array:
    """Round float32 to `bits` bits of mantissa, to nearest, ties to even; NaN and infinity are unchanged."""
    drop = 23 - bits
    if drop == 0 or x.dtype != jnp.float32:
        return x
    whole = lax.bitcast_convert_type(x, jnp.uint32)
    half = jnp.uint32((1 << (drop - 1)) - 1) + ((whole >> drop) & jnp.uint32(1))
    near = lax.bitcast_convert_type((whole + half) & jnp.uint32(~((1 << drop) - 1) & 0xFFFFFFFF), jnp.float32)
    return jnp.where(jnp.isfinite(x), near, x)


def measure(params: Any, cube: jax.Array, config: dq.Model, steps: int, low: bool) -> tuple[Any, jax.Array, jax.Array]:
    """Return gradient, residuals and state; `low`: the map in bfloat16."""
    f = fixed_point_map.state_map(config)
    # The smallest residual: the tolerance cannot be met, and stagnation or the step limit ends the solve.
    forward = replace(config.forward, tolerance=0.0, max_steps=steps)
    backward = dq.Adjoint(tolerance=1e-7, max_steps=steps)

    def lower(tree: Any) -> Any:
        return jax.tree.map(lambda x: x.astype(jnp.bfloat16), tree) if low else tree

    def solve(theta: Any, start: jax.Array) -> jax.Array:
        return dq.fixed_point(f, forward, backward, lower(theta), lower(start))[0].astype(jnp.float32)

    theta, start = fixed_point_map.factor(params, cube, config), fixed_point_map.initial_state(params, cube, config)
    gradient = jax.grad(trained_maps.objective)(params, cube, config, solve)
    return gradient, solvers_forward.residuals(f, forward, lower(theta), lower(start), steps), solve(theta, start)


def true_state(params: Any, cube: jax.Array, config: dq.Model) -> np.ndarray:
    """Return the equilibrium in float64."""
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), params)
        exact = replace(config, forward=replace(config.forward, tolerance=1e-11, max_steps=2000))
        run = jax.jit(lambda p, y: dq.unmix(p, y, exact)[0].state)
        return np.asarray(run(wide, jnp.asarray(cube, jnp.float64)))


def main(settings: Settings, folder: Path) -> Path:
    """Measure every precision on every map and write the table."""
    cube = trained_maps.samson(settings.crop)
    rows: list[dict[str, Any]] = []
    for name in settings.maps:
        plan = trained_maps.MAPS[name]
        config = plan[0]
        (params,) = trained_maps.snapshots(cube, plan, (settings.epochs,), seed=settings.seed)
        truth, exact = true_gradient(params, cube, config), true_state(params, cube, config)
        cases = [(bits, False) for bits in settings.bits] + ([(23, True)] if settings.state else [])
        for bits, low in cases:
            with convolution.rounded_operands(functools.partial(rounded, bits=bits)):
                run = jax.jit(functools.partial(measure, config=config, steps=settings.steps, low=low))
                gradient, curve, state = run(params, cube)
            errors = compare(gradient, truth)
            words = "state, data and weights bfloat16" if low else f"convolutions of {bits} bits"
            off = float(np.sqrt(np.mean((np.asarray(state, float) - exact) ** 2) / np.mean(exact**2)))
            floor = float(np.nanmin(np.asarray(curve)))
            rows.append({"map": name, "precision": words, "floor of the residual": floor, "error of the state": off})
            rows[-1] |= {"error of the gradient": errors["error"], "cosine": errors["cosine"]}
            print(results_table.line(rows[-1]), flush=True)
    sentence = "; ".join(
        f"{row['map']}, {row['precision']}: floor {row['floor of the residual']:.1e}, gradient off by "
        f"{row['error of the gradient']:.1e}"
        for row in rows
    )
    return results_table.write(
        folder,
        "precision",
        rows,
        "python -m experiments.equilibrium.precision",
        f"{sentence}.\n\n{settings}",
        kind="One run, one seed.",
    )


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
