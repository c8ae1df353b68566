"""Train an equilibrium model on the scene that it unmixes: a scan of a pure update, without a reference."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from dequnmix_jax.checks import (
    InputError,
    check_count,
    check_cube,
    check_endmembers,
    check_finite,
    check_key,
    check_kind,
    check_mask,
    concrete,
)
from dequnmix_jax.endmembers import noise
from dequnmix_jax.endmembers.pure_pixel import vca
from dequnmix_jax.equilibrium import fixed_point_map, model
from dequnmix_jax.equilibrium.config import Model
from dequnmix_jax.equilibrium.scene_statistics import Scenewide
from dequnmix_jax.mixing import wide
from dequnmix_jax.ops.padding import pad, padded_shape
from dequnmix_jax.ops.quick_compile import Effort, effort_loop, effort_once, is_traced, quick_jit
from dequnmix_jax.ops.xla import alongside
from dequnmix_jax.training import pixel_blocks, stages
from dequnmix_jax.training.config import RECOMMENDED, Rates, Training
from dequnmix_jax.training.objective import loss, variability_ratio
from dequnmix_jax.types import History, Params, Trace, Verdict

FLOOR = 1e-5
"""Lower bound of E, relative to its largest value, as in the script of the authors' sibling paper."""


STARTS = 10
"""Draws of VCA among which `begin` keeps the one of largest volume."""


class FitState(NamedTuple):
    """The state of training from one step to the next; a pytree of arrays.

    Attributes:
        params: the parameters.
        moments: of the optimiser.
        equilibrium: (H, W, R), the state of the last solve.
        key: of jax.random.
        step: () int32.
        best: (), the lowest loss that counted as progress; while E is trained alone, the latest loss.
        waited: () int32, steps since then.
        size: (), RMS of the initial endmembers, the unit of their learning rate.
        variability_ratio: (), of the scene, the unit of the weight of the spread.
        subspace: (B, B), `noise.signal_subspace` of the scene, in which E moves.
        initial: the initial parameters.
        held_out_pixels: (H, W) bool, held out of training if stages are judged (`pixel_blocks.hold_out_pixels`).
        verdict: on the trained endmembers, once they are fixed; before that "kept".
        fixed: (R,) bool, endmembers that are not trained; None: all are.
    """

    params: Params
    moments: Any
    equilibrium: jax.Array
    key: jax.Array
    step: jax.Array
    best: jax.Array
    waited: jax.Array
    size: jax.Array
    variability_ratio: jax.Array
    subspace: jax.Array
    initial: Params
    held_out_pixels: jax.Array
    verdict: Verdict
    fixed: jax.Array | None = None


_ADAM = optax.scale_by_adam()


def check_arguments(
    key: jax.Array,
    cube: jax.Array,
    config: Model,
    endmembers: jax.Array | None,
    count: int | None,
    mask: jax.Array | None,
    fixed: jax.Array | None = None,
) -> int:
    """Return R; raise InputError where arguments of `begin` do not fit, values included unless they are traced."""
    check_key(key)
    check_kind(config, Model, "config")
    check_cube(cube)
    check_mask(mask, cube)
    if (endmembers is None) == (count is None):
        raise InputError(
            "endmembers and count are both given or both missing; expected one of them: the spectra to start "
            "from, (R, B), or how many to look for by VCA."
        )
    if endmembers is not None:
        check_endmembers(endmembers, np.shape(cube)[2])
        if concrete(endmembers):
            check_finite(np.asarray(endmembers)[None], name="endmembers")
    number = int(count or 0) if endmembers is None else int(np.shape(endmembers)[0])
    check_count(number if endmembers is not None else count, cube, mask)  # type: ignore[arg-type]
    check_finite(cube, mask)
    if fixed is not None:
        told = np.shape(fixed), str(getattr(fixed, "dtype", type(fixed).__name__))
        if endmembers is None or told != ((number,), "bool"):
            raise InputError(
                f"fixed has shape {told[0]} and the data type {told[1]}; expected one bool for each of the endmembers, "
                f"({number},), True where it is not trained, and the spectra as endmembers=E."
            )
    return number


def begin(
    key: jax.Array,
    cube: jax.Array,
    config: Model,
    *,
    endmembers: jax.Array | None = None,
    count: int | None = None,
    mask: jax.Array | None = None,
    shared: str | tuple[str, ...] = (),
    held_out: jax.Array | None = None,
    fixed: jax.Array | None = None,
) -> FitState:
    """Return the initial state for `advance`: endmembers given, or from VCA; `shared` and `fixed` as for `fit`.

    `held_out` (H, W) bool are the pixels held out of training; None: `held_out_pixels`.
    """
    check_arguments(key, cube, config, endmembers, count, mask, fixed)
    cube = wide(cube)
    vca_key, init_key, rest = jax.random.split(key, 3)
    if endmembers is None:
        endmembers = jnp.maximum(vca(vca_key, cube, int(count or 0), mask=mask, runs=STARTS), 0)
    # The prior is estimated at the end: training uses the unsmoothed maps.
    params = model.init(init_key, cube, replace(config, prior="none"), endmembers=endmembers, mask=mask)
    if shared:  # all scenes take the network of the first
        first = jnp.all(jnp.asarray([lax.axis_index(axis) == 0 for axis in _names(shared)]))
        network = jax.tree.map(lambda w: lax.psum(jnp.where(first, w, 0), shared), params["network"])
        params = params | {"network": network}
    E = params["endmembers"]
    return FitState(
        params=params,
        moments=_ADAM.init(params),
        equilibrium=fixed_point_map.initial_state(params, cube, config),
        key=rest,
        step=jnp.asarray(0, jnp.int32),
        best=jnp.asarray(jnp.inf, cube.dtype),
        waited=jnp.asarray(0, jnp.int32),
        size=jnp.sqrt(jnp.mean(jnp.square(E))),
        variability_ratio=lax.stop_gradient(variability_ratio(cube, E, mask)),
        subspace=lax.stop_gradient(noise.signal_subspace(cube, E.shape[0], mask=mask)),
        initial=params,
        held_out_pixels=held_out_pixels(key, cube.shape[:2]) if held_out is None else held_out,
        verdict=stages.undecided(cube.dtype),
        fixed=None if fixed is None else jnp.asarray(fixed),
    )


def held_out_pixels(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Return the pixels (H, W) that a training with this key holds out, if its stages are judged."""
    return pixel_blocks.hold_out_pixels(jax.random.fold_in(jax.random.split(key, 3)[2], 1), shape)


def advance(
    state: FitState,
    cube: jax.Array,
    config: Model,
    training: Training,
    rates: Rates,
    steps: int,
    *,
    mask: jax.Array | None = None,
    shared: str | tuple[str, ...] = (),
    objective: Callable[..., tuple[jax.Array, dict[str, Any]]] = loss,
    whole: Scenewide | None = None,
) -> tuple[FitState, History]:
    """Train for `steps` more steps; the result does not depend on how the steps are divided into calls.

    `objective` takes the arguments of `objective.loss` and returns the same values; `whole` as for `loss`.
    """
    if shared and training.patience > 0:
        raise InputError(
            f"shared is {shared} and Training.patience {training.patience}; expected no early stop if scenes train "
            "one network, because each would stop at another step. Use patience=0."
        )
    cube = wide(cube)
    weights = rates._replace(spread=rates.spread * state.variability_ratio)
    if training.judged:
        mask = ~state.held_out_pixels if mask is None else mask & ~state.held_out_pixels

    def update(state: FitState, _: None) -> tuple[FitState, History]:
        key, draw = jax.random.split(state.key)
        held_out = None
        if training.holdout > 0:
            # Exactly this share, so that neither side is ever empty. Ranks by comparison, because a sort compiles
            # slowly; of integers, because XLA's copies of a floating-point draw may differ; ties in order.
            bands = cube.shape[-1]
            draws, place = jax.random.bits(draw, (bands,), jnp.uint32), jnp.arange(bands)
            before = (draws[None, :] < draws[:, None]) | (
                (draws[None, :] == draws[:, None]) & (place[None, :] < place[:, None])
            )
            rank = jnp.sum(before, axis=1)
            held_out = rank < max(1, min(bands - 1, round(training.holdout * bands)))
        probes = None
        if training.probes > 0:
            shape = (training.probes, *state.equilibrium.shape)
            probes = jax.random.normal(jax.random.fold_in(draw, 1), shape, state.equilibrium.dtype)
        initial = state.equilibrium
        if not training.warm_start:
            initial = fixed_point_map.initial_state(state.params, cube, config)
        (value, extra), gradient = jax.value_and_grad(objective, has_aux=True)(
            state.params, cube, config, weights, initial=initial, mask=mask, held_out=held_out, probes=probes,
            tolerance=_tolerance(config, training, state.step), **({} if whole is None else {"whole": whole}),
        )  # fmt: skip
        if shared:
            gradient = gradient | {"network": _averaged(gradient["network"], jnp.isfinite(value), shared)}
        trace: Trace = extra["trace"]
        progress = value < state.best - training.least * jnp.abs(state.best)
        progress = progress | ~jnp.isfinite(state.best) | (state.step < training.settled)
        waited = jnp.where(progress, 0, state.waited + 1)
        active = jnp.isfinite(value)  # after a NaN loss nothing changes; the history shows it
        if training.patience > 0:
            active = active & (state.waited < training.patience)
        new = _step(state, gradient, training, rates)
        new = new._replace(
            key=key,
            equilibrium=jnp.where(jnp.isfinite(trace.residual), extra["state"], state.equilibrium),
            best=jnp.where(progress, value, state.best),
            waited=waited,
        )
        after = jax.tree.map(lambda a, b: jnp.where(active, a, b), new, state)
        row = History(value, extra["angle"], extra["error"], trace.steps, trace.residual, trace.converged, active)
        return after, row

    return lax.scan(update, alongside(state, cube, state), None, length=steps)


def _names(shared: str | tuple[str, ...]) -> tuple[str, ...]:
    return (shared,) if isinstance(shared, str) else shared


def _check_axes(shared: str | tuple[str, ...]) -> None:
    """Raise InputError unless each name is that of a mapped axis around this call."""
    for axis in _names(shared):
        try:
            lax.axis_index(axis)
        except NameError as error:
            raise InputError(
                f"shared names the axis {axis!r}, which nothing around this call maps over; expected an axis of "
                f"jax.vmap or jax.shard_map. Map the scenes over it, as in jax.vmap(fit_one, axis_name={axis!r})."
            ) from error


def _averaged(gradient: Any, finite: jax.Array, shared: str | tuple[str, ...]) -> Any:
    """Return the mean of a gradient over the scenes with a finite loss."""
    number = jnp.maximum(lax.psum(finite.astype(jnp.int32), shared), 1)
    return jax.tree.map(lambda g: lax.psum(jnp.where(finite, g, 0), shared) / number.astype(g.dtype), gradient)


def _tolerance(config: Model, training: Training, step: jax.Array) -> jax.Array | None:
    """Return the tolerance of a training step, falling to that of the solver; None: always that of the solver."""
    last = config.forward.tolerance
    if not 0 < last < training.loosest:
        return None
    left = jnp.clip(1 - step.astype(jnp.float32) / max(training.epochs - 1, 1), 0, 1)
    return last * (training.loosest / last) ** left


def _step(state: FitState, gradient: Params, training: Training, rates: Rates) -> FitState:
    """Take one feasible step of AdamW (Loshchilov & Hutter 2019), E and the network each at their own rate."""
    params = state.params
    settled = training.settled
    first = state.step < settled
    if settled > 0:  # before E is fixed, the moments of the network belong to another map
        fresh = state.step == settled
        state = state._replace(
            moments=jax.tree.map(lambda new, old: jnp.where(fresh, new, old), _ADAM.init(params), state.moments)
        )
    with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
        direction, moments = _ADAM.update(gradient, state.moments)
    dtype = params["endmembers"].dtype
    done = jnp.where(first, state.step, state.step - settled)
    schedule = jnp.asarray(rates.decay, dtype) ** (done // training.decay_every).astype(dtype)
    network_turn = jnp.where(first, 0, schedule)
    # Both at once if E is not trained first.
    endmember_turn = jnp.where(first, schedule, 0) if settled > 0 else schedule

    def move(turn: jax.Array, rate: Any, decay: Any, p: jax.Array, d: jax.Array) -> jax.Array:
        return p - jnp.asarray(rate, dtype) * turn * (d + jnp.asarray(decay, dtype) * p)

    network = jax.tree.map(
        lambda p, d: move(network_turn, rates.network, rates.network_decay, p, d),
        params["network"],
        direction["network"],
    )
    for name in ("energy", "prox"):
        if name in network:  # the energy is convex for gains >= 0
            network = network | {name: network[name] | {"gain": jnp.maximum(network[name]["gain"], 0)}}
    E = params["endmembers"]
    rate = jnp.asarray(rates.endmembers, dtype) * state.size
    new = move(endmember_turn, rate, rates.endmember_decay, E, direction["endmembers"])
    if training.subspace == "signal":
        # Adam gives every band a step of the same size, for noise as for signal.
        new = E + jnp.matmul(new - E, state.subspace, precision=lax.Precision.HIGHEST)
    E = new
    E = jnp.maximum(E, FLOOR * jnp.max(E))
    if state.fixed is not None:
        E = jnp.where(state.fixed[:, None], params["endmembers"], E)
    return state._replace(params={"endmembers": E, "network": network}, moments=moments, step=state.step + 1)


def rests(training: Training, rates: Rates) -> bool:
    """Return whether the first phase would change nothing: E alone is trained in it, at a rate of zero.

    Rates that are traced or mapped over are not known to be zero. An early stop counts from the last loss of the phase.
    """
    zero = np.ndim(rates.endmembers) == 0 and float(rates.endmembers) == 0
    return zero and len(training.phases) > 1 and training.patience == 0


def phases_of(training: Training, rates: Rates) -> tuple[int, ...]:
    """Return the steps of the phases that change anything; `rates` are concrete."""
    return training.phases[1:] if rests(training, rates) else training.phases


def past_first_phase(state: FitState, training: Training) -> FitState:
    """Return the first state as a first phase without effect leaves it, but for the equilibrium of its last solve.

    The verdict on E is "left out, nothing changed", its misfit unknown (NaN).
    """
    steps, dtype = jnp.asarray(training.settled, jnp.int32), state.size.dtype
    nothing = jnp.zeros(2, dtype)
    unknown = jnp.asarray(jnp.nan, dtype)
    verdict = Verdict(nothing, nothing, unknown, unknown, jnp.asarray(False))
    return state._replace(key=_skipped(state.key, steps), step=steps, verdict=verdict)


@jax.jit
def _skipped(key: jax.Array, steps: jax.Array) -> jax.Array:
    """Return the key of a training after some steps."""
    return lax.fori_loop(0, steps, lambda _, k: jax.random.split(k)[0], key)


_held_out_pixels = quick_jit(lambda *_: "quick", static_argnums=1)(held_out_pixels)


def padded(key: jax.Array, cube: Any, mask: Any, count: int) -> tuple[Any, Any, Any]:
    """Return cube, mask and held-out pixels of a training, padded to one of a few sizes (`ops.padding`)."""
    true, shape = np.shape(cube)[:2], padded_shape(cube, count)
    valid = np.ones(true, np.bool_) if mask is None else mask
    cube, valid, held_out = (pad(image, shape) for image in (cube, valid, _held_out_pixels(key, true)))
    return cube, valid, held_out


def _of_begin(key: Any, cube: Any, config: Any, *, endmembers: Any = None, count: Any = None, **_: Any) -> Effort:
    return effort_once(cube, int(count or 0) if endmembers is None else np.shape(endmembers)[0])


_compiled_begin = quick_jit(_of_begin, static_argnums=2, static_argnames=("count", "shared"))(begin)
_compiled_advance = quick_jit(
    lambda state, cube, *_, **__: effort_loop(cube, state.params["endmembers"].shape[0]),
    static_argnums=(2, 3, 5),
    static_argnames=("shared", "objective"),
)(advance)


def fit(
    key: jax.Array,
    cube: jax.Array,
    config: Model,
    training: Training | None = None,
    rates: Rates | None = None,
    *,
    endmembers: jax.Array | None = None,
    count: int | None = None,
    mask: jax.Array | None = None,
    shared: str | tuple[str, ...] = (),
    fixed: jax.Array | None = None,
) -> tuple[Params, History]:
    """Train an equilibrium model on one scene.

    No reference is used: the loss is `objective.loss`, and an early stop (`Training.patience`) depends on it alone.

    Args:
        key: of jax.random, for VCA, the weights and the held-out bands.
        cube: (H, W, B), non-negative reflectance or radiance.
        config: the parts of the map and its solvers.
        training: epochs, schedule, stopping; None: `RECOMMENDED[0]`. `PAPER[0]` is the paper's.
        rates: learning rates and weights of the loss; they may be traced or mapped over; None: `RECOMMENDED[1]`.
        endmembers: (R, B), the initial E; or
        count: R, the number of endmembers for VCA.
        mask: (H, W) bool, True where the pixel is valid.
        shared: names of mapped axes (jax.vmap, jax.shard_map) of scenes that train one network, each with its own E:
            the gradient of the network is the mean over them. They have the same schedule; a scene with a loss of NaN
            is left out. If one process splits its cores into several devices, each step waits for all of them: with as
            many devices as cores this can deadlock. Force more devices than the mesh uses
            (XLA_FLAGS=--xla_force_host_platform_device_count=8), or map over the scenes on one device (jax.vmap).
        fixed: (R,) bool, True for the spectra among `endmembers` that are known and are not trained; None: all are.

    Returns:
        (params, History): parameters for `unmix`; for each step the loss, and residual and steps of the solve.

    Raises:
        InputError: if shapes or values do not fit, in a sentence.

    Reference:
        Wang, Gao, Zhu and Chen, arXiv 2604.11279, 2026: loss and unsupervised training on the image itself. Optimiser,
        rates and schedule are those of the first author's script for the sibling paper.
    """
    training = RECOMMENDED[0] if training is None else training
    rates = RECOMMENDED[1] if rates is None else rates
    check_kind(training, Training, "training")
    check_kind(rates, Rates, "rates")
    _check_axes(shared)
    start, step, phases, held_out = begin, advance, training.phases, None
    resting, divided = False, 1
    if not is_traced(key, cube, endmembers, mask, rates):
        # Eager operations would be compiled one by one, and both phases by themselves: steps of one number need one
        # compilation.
        number = check_arguments(key, cube, config, endmembers, count, mask, fixed)
        resting, phases = rests(training, rates), phases_of(training, rates)
        start, step, divided = _compiled_begin, _compiled_advance, max(math.gcd(*phases), 1)
        cube, mask, held_out = padded(key, cube, mask, number)
    state = start(
        key, cube, config, endmembers=endmembers, count=count, mask=mask, shared=shared, held_out=held_out, fixed=fixed
    )
    state = past_first_phase(state, training) if resting else state
    rows = []
    for phase, steps in enumerate(phases):
        if phase:
            state = stages.settle(state, cube, config, mask=mask)
        piece = divided if divided > 1 else steps
        for _ in range(steps // piece if steps else 1):
            state, row = step(state, cube, config, training, rates, piece, mask=mask, shared=shared)
            rows.append(row)
    history = rows[0] if len(rows) == 1 else jax.tree.map(lambda *x: jnp.concatenate(x), *rows)
    params, verdicts = stages.finish(state, cube, config, training, mask=mask)
    return params, history._replace(stages=verdicts)
