"""Train an equilibrium model on the scene that it unmixes: a scan of a pure update, which never sees a reference."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from dequnmix_jax import metrics, model, noise
from dequnmix_jax.checks import InputError, check_count, check_cube, check_finite, check_mask
from dequnmix_jax.config import Model, Rates, Training
from dequnmix_jax.endmembers import vca
from dequnmix_jax.implicit import fixed_point
from dequnmix_jax.records import History, Params, Trace

FLOOR = 1e-5
"""E stays at least this, relative to its largest value, as in the script of the authors' sibling paper."""


STARTS = 10
"""Draws of VCA among which `begin` keeps the one of largest volume."""


class FitState(NamedTuple):
    """All that training carries from one step to the next; a pytree of arrays.

    Attributes:
        params: the parameters.
        moments: of the optimiser.
        equilibrium: (H, W, R), the state of the last solve.
        key: of jax.random.
        step: () int32.
        best: (), the lowest loss so far that counted as progress.
        waited: () int32, steps since.
        size: (), RMS of the endmembers at the start, the unit of their learning rate.
        inside: (), `inside` of the scene, the unit of the weight of the spread.
        subspace: (B, B), `noise.signal_subspace` of the scene, in which E moves.
    """

    params: Params
    moments: Any
    equilibrium: jax.Array
    key: jax.Array
    step: jax.Array
    best: jax.Array
    waited: jax.Array
    size: jax.Array
    inside: jax.Array
    subspace: jax.Array


_ADAM = optax.scale_by_adam()


def loss(
    params: Params,
    cube: jax.Array,
    config: Model,
    rates: Rates | None = None,
    *,
    initial: jax.Array | None = None,
    mask: jax.Array | None = None,
    held: jax.Array | None = None,
    probes: jax.Array | None = None,
    tolerance: jax.Array | None = None,
) -> tuple[jax.Array, dict[str, Any]]:
    """Return the training objective of an equilibrium model, which needs no reference.

    mean spectral angle(y, s a E) + alpha mean (y - s a E)^2 / max(Y)^2 + weight spread(E) [+ weight |J|_F^2 / size]

    The first two terms are the paper's (its cubes have maximum one); the third, zero unless asked for, keeps the
    simplex of the endmembers small where reconstruction alone would let it drift.

    Args:
        params, cube, config, mask: as `unmix`.
        rates: `error` is alpha, `spread` the weight of the third term.
        initial: (H, W, R), where the solve starts.
        held: (B,) bool, bands that the equilibrium must not see and on which alone the first two terms are taken.
        probes: (P, H, W, R), standard normal, for the penalty on the Jacobian (`jacobian_penalty`); None: no penalty.
        tolerance: in the place of `config.forward.tolerance`.

    Returns:
        (loss, {"angle", "error", "trace", "state"}): angle in radians, error in units of the cube squared.
    """
    rates = Rates() if rates is None else rates
    valid = jnp.ones(cube.shape[:2], bool) if mask is None else mask
    clean = jnp.where(valid[..., None], cube, 0)
    start = model.start_state(params, cube, config) if initial is None else initial
    seen = None if held is None else (~held).astype(cube.dtype)
    theta = model.factor(params, cube, config, mask, seen)
    state, trace = fixed_point(model.state_map(config), config.forward, config.backward, theta, start, tolerance)
    estimate = model.read_state(params, state, cube, config, mask)
    judged = jnp.ones(cube.shape[-1], cube.dtype) if held is None else held.astype(cube.dtype)
    target = clean * judged[None, None]
    rebuilt = model.reconstruct(estimate._replace(endmembers=estimate.endmembers * judged[None]))
    pixels = jnp.sum(valid).astype(cube.dtype)
    angle = jnp.sum(jnp.where(valid, metrics.spectral_angle(target, rebuilt), 0)) / pixels
    error = jnp.sum(jnp.square(rebuilt - target)) / (pixels * jnp.sum(judged))
    peak = jnp.max(jnp.abs(clean))
    total = angle + rates.error * error / jnp.square(jnp.where(peak > 0, peak, 1))
    total = total + rates.spread * spread(estimate.endmembers)
    if probes is not None:
        total = total + rates.jacobian * jacobian_penalty(theta, lax.stop_gradient(state), config, probes)
    return total, {"angle": angle, "error": error, "trace": trace, "state": state}


def spread(endmembers: jax.Array) -> jax.Array:
    """Return the RMS distance of the unit spectra from their mean: 0 for one and the same, below 1 always.

    The size of the simplex as in ICE (Berman et al. 2004, IEEE TGRS 42(10)), here its root: an angle in radians where
    the spectra are similar, as the first term of the loss is one. A determinant has no lower bound: on five similar
    minerals its logarithm drew the spectra into one.
    """
    norms = jnp.sqrt(jnp.sum(jnp.square(endmembers), axis=1, keepdims=True))
    U = endmembers / jnp.where(norms > 0, norms, 1)
    square = jnp.mean(jnp.sum(jnp.square(U - jnp.mean(U, axis=0, keepdims=True)), axis=1))
    # Equal spectra differ by rounding: there the root has no derivative, and gets 0.
    apart = square > jnp.finfo(square.dtype).eps ** 2
    return jnp.where(apart, jnp.sqrt(jnp.where(apart, square, 1)), 0)


def inside(cube: jax.Array, count: int, mask: jax.Array | None = None) -> jax.Array:
    """Return which part of the angle that the model leaves unexplained stands inside its own space, as it is expected.

    (v + (1 - v) R / B)^(1/2), v the `noise.variability`: white noise has R / B of its energy along R of B directions,
    and the variability of the materials' spectra is taken to have all of it there. A simplex that is to hold pixels
    which stand apart by so much must grow by as much: this is the unit of the weight that holds it.
    """
    v = noise.variability(cube, count, mask=mask)
    return jnp.sqrt(v + (1 - v) * min(count / cube.shape[-1], 1.0))


def jacobian_penalty(theta: dict[str, Any], state: jax.Array, config: Model, probes: jax.Array) -> jax.Array:
    """Estimate |J|_F^2 / size, the mean square of the singular values of the map's Jacobian at a state.

    |J|_F^2 = E |J^T v|^2 for standard normal v (Hutchinson 1989), averaged over the probes; differentiable in theta.
    The projection's own derivative counts as that of the face on which a pixel lies.

    Reference:
        Bai, Koltun and Kolter, Stabilizing equilibrium models by Jacobian regularization, ICML 2021.
    """
    _, pull = jax.vjp(lambda z: model.state_map(config)(theta, z), state)
    return jnp.mean(lax.map(lambda v: jnp.mean(jnp.square(pull(v)[0])), probes))


def begin(
    key: jax.Array,
    cube: jax.Array,
    config: Model,
    *,
    endmembers: jax.Array | None = None,
    count: int | None = None,
    mask: jax.Array | None = None,
) -> FitState:
    """Return the state from which `advance` trains: endmembers given, or found by VCA."""
    check_cube(cube)
    check_mask(mask, cube)
    if (endmembers is None) == (count is None):
        raise InputError(
            "endmembers and count are both given or both missing; expected one of them: the spectra to start "
            "from, (R, B), or how many to look for by VCA."
        )
    start, draw, rest = jax.random.split(key, 3)
    if endmembers is None:
        check_count(int(count or 0), cube, mask)
        check_finite(cube, mask)
        endmembers = jnp.maximum(vca(start, cube, int(count or 0), mask=mask, runs=STARTS), 0)
    params = model.init(draw, cube, config, endmembers=endmembers, mask=mask)
    E = params["endmembers"]
    return FitState(
        params=params,
        moments=_ADAM.init(params),
        equilibrium=model.start_state(params, cube, config),
        key=rest,
        step=jnp.asarray(0, jnp.int32),
        best=jnp.asarray(jnp.inf, cube.dtype),
        waited=jnp.asarray(0, jnp.int32),
        size=jnp.sqrt(jnp.mean(jnp.square(E))),
        inside=lax.stop_gradient(inside(cube, E.shape[0], mask)),
        subspace=lax.stop_gradient(noise.signal_subspace(cube, E.shape[0], mask=mask)),
    )


def advance(
    state: FitState,
    cube: jax.Array,
    config: Model,
    training: Training,
    rates: Rates,
    steps: int,
    *,
    mask: jax.Array | None = None,
) -> tuple[FitState, History]:
    """Train for `steps` more steps; the result does not depend on how the steps are divided into calls."""
    weights = rates._replace(spread=rates.spread * state.inside)

    def update(state: FitState, _: None) -> tuple[FitState, History]:
        key, draw = jax.random.split(state.key)
        held = None
        if training.holdout > 0:
            # Exactly the share asked for, so that no draw leaves a side empty. Ranks by comparison, because a sort
            # compiles slowly.
            bands = cube.shape[-1]
            draws = jax.random.uniform(draw, (bands,))
            rank = jnp.sum(draws[None, :] < draws[:, None], axis=1)
            held = rank < max(1, min(bands - 1, round(training.holdout * bands)))
        probes = None
        if training.probes > 0:
            shape = (training.probes, *state.equilibrium.shape)
            probes = jax.random.normal(jax.random.fold_in(draw, 1), shape, state.equilibrium.dtype)
        start = state.equilibrium if training.warm_start else model.start_state(state.params, cube, config)
        (value, extra), gradient = jax.value_and_grad(loss, has_aux=True)(
            state.params, cube, config, weights, initial=start, mask=mask, held=held, probes=probes,
            tolerance=_tolerance(config, training, state.step),
        )  # fmt: skip
        trace: Trace = extra["trace"]
        progress = value < state.best - training.least * jnp.abs(state.best)
        progress = progress | ~jnp.isfinite(state.best)
        waited = jnp.where(progress, 0, state.waited + 1)
        active = jnp.isfinite(value)  # a NaN loss changes nothing any more, and shows in the history
        if training.patience > 0:
            active = active & (state.waited < training.patience)
        new = _step(state, gradient, training, rates)
        new = new._replace(
            key=key,
            equilibrium=jnp.where(jnp.isfinite(trace.residual), extra["state"], state.equilibrium),
            best=jnp.where(progress, value, state.best),
            waited=waited,
        )
        kept = jax.tree.map(lambda a, b: jnp.where(active, a, b), new, state)
        row = History(value, extra["angle"], extra["error"], trace.steps, trace.residual, trace.converged, active)
        return kept, row

    return lax.scan(update, state, None, length=steps)


def _tolerance(config: Model, training: Training, step: jax.Array) -> jax.Array | None:
    """Return the tolerance of a training step: loose at first, that of the solver at the last; None: always that."""
    tight = config.forward.tolerance
    if not 0 < tight < training.loosest:
        return None
    left = jnp.clip(1 - step.astype(jnp.float32) / max(training.epochs - 1, 1), 0, 1)
    return tight * (training.loosest / tight) ** left


def _step(state: FitState, gradient: Params, training: Training, rates: Rates) -> FitState:
    """Take one feasible step of AdamW (Loshchilov & Hutter 2019), E and the network each at their own rate."""
    params = state.params
    with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
        direction, moments = _ADAM.update(gradient, state.moments)
    dtype = params["endmembers"].dtype
    schedule = jnp.asarray(rates.decay, dtype) ** (state.step // training.decay_every).astype(dtype)

    def move(rate: Any, decay: Any, p: jax.Array, d: jax.Array) -> jax.Array:
        return p - jnp.asarray(rate, dtype) * schedule * (d + jnp.asarray(decay, dtype) * p)

    network = jax.tree.map(
        lambda p, d: move(rates.network, rates.network_decay, p, d), params["network"], direction["network"]
    )
    for part in ("energy", "prox"):
        if part in network:  # the energy is convex while its gains are not negative
            network = network | {part: network[part] | {"gain": jnp.maximum(network[part]["gain"], 0)}}
    E = params["endmembers"]
    new = move(jnp.asarray(rates.endmembers, dtype) * state.size, rates.endmember_decay, E, direction["endmembers"])
    if training.subspace == "signal":
        # Adam gives every band a step of the same size, whether noise or signal asks for it.
        new = E + jnp.matmul(new - E, state.subspace, precision=lax.Precision.HIGHEST)
    E = new
    E = jnp.maximum(E, FLOOR * jnp.max(E))
    return state._replace(params={"endmembers": E, "network": network}, moments=moments, step=state.step + 1)


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
) -> tuple[Params, History]:
    """Train an equilibrium model on one scene.

    No reference takes part: the loss is that of `loss`, and an early stop, if asked for, looks at it alone.

    Args:
        key: of jax.random; the start of VCA, the weights and the held-out bands follow from it.
        cube: (H, W, B), non-negative reflectance or radiance.
        config: the parts of the map and its solvers.
        training: epochs, schedule, stopping.
        rates: learning rates and weights of the loss; any of them may be traced and mapped over.
        endmembers: (R, B), where E starts; or
        count: R, how many to find by VCA.
        mask: (H, W) bool, True where the pixel is valid.

    Returns:
        (params, History): parameters for `unmix`, and per step the loss, the residual and steps of the solve.

    Raises:
        InputError: where shapes or values do not fit, in a sentence.

    Reference:
        Wang, Gao, Zhu and Chen, arXiv 2604.11279, 2026: loss and unsupervised training on the image itself. Optimiser,
        rates and schedule are those of the first author's script for the sibling paper.
    """
    training = Training() if training is None else training
    rates = Rates() if rates is None else rates
    state = begin(key, cube, config, endmembers=endmembers, count=count, mask=mask)
    state, history = advance(state, cube, config, training, rates, training.epochs, mask=mask)
    return state.params, history
