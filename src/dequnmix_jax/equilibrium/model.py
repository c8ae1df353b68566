"""The equilibrium model of DEQ-Unmix: its initial parameters, and the unmixing that it defines (arXiv 2604.11279).

    A* = f(A*; Y),    f(A) = C(P(A - eta G(A; Y, E)))                                                    (1)

G is the gradient of the data term with a learned part, P a proximal step, C the constraint. No array inside the loop
has the B bands of the cube: the data enter as Y E^T (R numbers a pixel) and as features computed once.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dequnmix_jax import mixing
from dequnmix_jax.abundances import learned_smoothing, smoothing
from dequnmix_jax.abundances.learned_smoothing import LearnedSmoother
from dequnmix_jax.abundances.nonlinear import check_reflectance
from dequnmix_jax.checks import (
    Array,
    InputError,
    check_array,
    check_count,
    check_cube,
    check_endmembers,
    check_finite,
    check_key,
    check_kind,
    check_mask,
    check_params,
    concrete,
)
from dequnmix_jax.equilibrium import energy, nonlinear_terms, scene_statistics
from dequnmix_jax.equilibrium.config import Analytic, Energy, Model, Softmax
from dequnmix_jax.equilibrium.fixed_point_map import (
    Factors,
    factor,
    network_of,
    solve_map,
    state_map,
)
from dequnmix_jax.types import Estimate, Params, Trace


class Equilibrium(NamedTuple):
    """An equilibrium: the estimate read from its state, how the solve went, and the factors of the map."""

    estimate: Estimate
    trace: Trace
    factors: Factors


def smoother_of(params: Params) -> smoothing.Smoother | LearnedSmoother | None:
    """Return the prior over neighbours among the parameters; None without one."""
    if "prior" not in params:
        return None
    return LearnedSmoother(**params["prior"]) if "filters" in params["prior"] else smoothing.Smoother(**params["prior"])


def resting_prior(config: Model, count: int) -> dict[str, Any]:
    """Return what a prior of strength zero adds to the parameters: nothing without one."""
    if not config.smooths:
        return {}
    make = learned_smoothing.identity_learned if config.prior == "learned" else smoothing.identity_smoother
    return {"prior": make(count)._asdict()}


def read_state(
    params: Params,
    state: jax.Array,
    cube: jax.Array,
    config: Model,
    mask: jax.Array | None = None,
    whole: scene_statistics.Scenewide | None = None,
    bands: jax.Array | None = None,
) -> Estimate:
    """Turn a state of the map into abundances, endmembers and brightness, smoothed by the prior of the parameters."""
    E = params["endmembers"]
    valid = mixing.valid_pixels(cube, mask)
    brightness = valid.astype(cube.dtype)
    if config.free_brightness:
        A, brightness = mixing.normalise_abundances(state, mask)
    else:
        A = state
        if isinstance(config.constraint, Softmax) and config.on_logits:
            A = jax.nn.softmax(config.constraint.gamma * state, axis=-1)
        A = jnp.where(valid[..., None], A, 0)
    if config.scales_endmembers:
        brightness = brightness * (scene_statistics.unit(cube, mask) if whole is None else whole.scale)
        E = mixing.scale_to_unit_maximum(E)
    prior = smoother_of(params)
    if isinstance(prior, LearnedSmoother):
        A = learned_smoothing.smooth_learned(A, prior, mask=valid)
    elif prior is not None:
        A = smoothing.smooth(A, prior, mask=valid)
    added = None
    if config.nonlinear is not None:
        added = nonlinear_terms.fluctuation(A, E, cube, valid, config, bands)
    return Estimate(A, E, brightness, state, added)


def reconstruct(estimate: Estimate) -> jax.Array:
    """Mix an estimate back: Y = s A E + fluctuation, (H, W, B), in the units of the cube; 0 in masked pixels."""
    check_kind(estimate, Estimate, "estimate", "`unmix` returns a pair: estimate, trace = unmix(...).")
    linear = mixing.scaled_mix(estimate.abundances, estimate.endmembers, estimate.brightness)
    return linear if estimate.fluctuation is None else linear + estimate.fluctuation


def init(
    key: jax.Array, cube: jax.Array, config: Model, *, endmembers: jax.Array, mask: jax.Array | None = None
) -> Params:
    """Draw the parameters of an equilibrium model for one scene.

    Args:
        key: of jax.random.
        cube: (H, W, B), reflectance or any other non-negative unit; only its shape and dtype are used.
        config: the parts of the map.
        endmembers: (R, B), the initial E, in the units of the cube (from `vca`, a library, ...).
        mask: (H, W) bool, True where the pixel is valid.

    Returns:
        `{"endmembers": (R, B), "network": {...}}`. With `init="physical"` the last layers are zero and `unmix`
        returns FCLS (Simplex()) or NNLS divided by its sum (Cone(); Soft(): with the sum as one more band); with
        `Model.nonlinear` the answer of that method. With `Model.prior` also "prior", of strength zero.

    Raises:
        InputError: if shapes or values do not fit, in a sentence.
    """
    check_key(key)
    check_kind(config, Model, "config")
    check_cube(cube)
    check_endmembers(endmembers, np.shape(cube)[2])
    check_mask(mask, cube)
    check_count(np.shape(endmembers)[0], cube, mask)
    check_finite(cube, mask)
    if concrete(endmembers):
        check_finite(np.asarray(endmembers)[None], name="endmembers")
    if config.nonlinear is not None:
        check_reflectance(endmembers)
    count, bands = np.shape(endmembers)
    keys = jax.random.split(key, 5)
    weights: dict[str, Any] = {}
    gradient, prox = config.gradient, config.prox
    if not isinstance(gradient, Analytic):
        weights["first"] = jax.random.normal(keys[0], (bands, gradient.width)) / bands**0.5
        weights["bias"] = jnp.zeros(gradient.width)
        features, ones = jnp.zeros((1, 1, gradient.width), jnp.float32), jnp.ones((1, 1, 1), jnp.float32)
        weights["net"] = network_of(gradient, config, count).init(keys[1], features, ones)["params"]
    if isinstance(gradient, Energy):
        gain = 0.0 if config.physical else 1.0
        weights["energy"] = energy.init_energy(keys[2], gradient.kernel, count, gradient.width, gain)
    if prox is not None:
        gain = 0.0 if config.physical else 0.5
        weights["prox"] = energy.init_energy(keys[3], prox.kernel, count, prox.width, gain)
    E = mixing.wide(endmembers)
    if config.scales_endmembers:
        E = mixing.scale_to_unit_maximum(E)
    params = {"endmembers": E, "network": jax.tree.map(lambda x: x.astype(E.dtype), weights)}
    return params | resting_prior(config, count)


def equilibrium_map(
    params: Params, state: jax.Array, cube: jax.Array, config: Model, *, mask: jax.Array | None = None
) -> jax.Array:
    """Apply the equilibrium map of the paper once.

    f(A) = C(P(A - eta G(A; Y, E))), with the choices of `config`. The state is A itself (Simplex()), A times the
    brightness (Soft(); in units of the RMS of the cube: Cone()), or logits z with A = softmax(gamma z) (Softmax()).

    Args:
        params: from `init` or `fit`.
        state: (H, W, R).
        cube: (H, W, B).
        config: the parts of the map.
        mask: (H, W) bool, True where the pixel is valid.

    Returns:
        (H, W, R), the next state; 0 in masked pixels.

    Reference:
        Wang, Gao, Zhu and Chen, A deep equilibrium network for hyperspectral unmixing, arXiv 2604.11279, 2026.
    """
    check(params, cube, config, mask)
    cube = mixing.wide(cube)
    return state_map(config)(factor(params, cube, config, mask), state)


def check(params: Params, cube: jax.Array, config: Model, mask: jax.Array | None) -> None:
    """Raise InputError unless parameters, cube, choices and mask fit each other."""
    check_params(params)
    check_kind(config, Model, "config")
    check_cube(cube)
    check_endmembers(params["endmembers"], np.shape(cube)[2])
    check_mask(mask, cube)
    check_finite(cube, mask)
    if config.nonlinear is not None:
        check_reflectance(params["endmembers"])


def unmix(
    params: Params,
    cube: jax.Array,
    config: Model,
    *,
    initial: jax.Array | None = None,
    mask: jax.Array | None = None,
) -> tuple[Estimate, Trace]:
    """Unmix a scene: find the equilibrium A* = f(A*; Y).

    Differentiable in `params` and `cube` by the implicit function theorem, at constant memory.

    Args:
        params: from `init` or `fit`.
        cube: (H, W, B), in the units of the cube that `params` were made for; float16 or bfloat16 are read as float32.
        config: the parts of the map and its solvers.
        initial: (H, W, R), the first state (`Estimate.state` of an earlier solve); it changes the number of steps, not
            the answer. None: A = 1/R, or zero on the cone.
        mask: (H, W) bool, True where the pixel is valid.

    Returns:
        (Estimate, Trace): abundances (H, W, R), endmembers (R, B), brightness (H, W), state (H, W, R), fluctuation
        (H, W, B) with `Model.nonlinear`; steps, relative residual, converged.

    Raises:
        InputError: if shapes or values do not fit, in a sentence.
    """
    check(params, cube, config, mask)
    cube = mixing.wide(cube)
    if initial is not None:
        check_state(initial, params, cube, "initial")
    estimate, trace, _ = equilibrium(params, cube, config, initial=initial, mask=mask)
    return estimate, trace


def check_state(state: Array, params: Params, cube: Array, name: str) -> None:
    """Raise InputError unless a state is (H, W, R)."""
    check_array(state, name)
    expected = (*np.shape(cube)[:2], np.shape(params["endmembers"])[0])
    if np.shape(state) != expected:
        raise InputError(
            f"{name} has shape {np.shape(state)}; expected one state for each pixel and endmember, "
            f"{expected}. Pass Estimate.state of the same scene."
        )


def equilibrium(
    params: Params,
    cube: jax.Array,
    config: Model,
    *,
    initial: jax.Array | None = None,
    mask: jax.Array | None = None,
    whole: scene_statistics.Scenewide | None = None,
    bands: jax.Array | None = None,
    tolerance: jax.Array | None = None,
) -> Equilibrium:
    """Find the equilibrium and read its state; arguments as `solve_map`, checked already."""
    state, trace, factors = solve_map(
        params, cube, config, initial=initial, mask=mask, whole=whole, bands=bands, tolerance=tolerance
    )
    return Equilibrium(read_state(params, state, cube, config, mask, whole, bands), trace, factors)
