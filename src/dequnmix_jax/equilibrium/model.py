"""The equilibrium map of DEQ-Unmix, its start, and the unmixing that it defines (arXiv 2604.11279).

    A* = f(A*; Y),    f(A) = C(P(A - eta G(A; Y, E)))                                                    (1)

G stands in for the gradient of the data term, P is a proximal step, C the constraint. Inside the loop nothing has the
B bands of the cube: the data enter as Y E^T (R numbers a pixel) and through features computed once.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dequnmix_jax import mixing
from dequnmix_jax.abundances import smoothing
from dequnmix_jax.checks import (
    InputError,
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
from dequnmix_jax.equilibrium import energy, scene_statistics
from dequnmix_jax.equilibrium.config import Analytic, Energy, Model, Softmax
from dequnmix_jax.equilibrium.fixed_point_map import factor, network_of, start_state, state_map
from dequnmix_jax.solvers.implicit import fixed_point
from dequnmix_jax.types import Estimate, Params, Trace


def read_state(
    params: Params,
    state: jax.Array,
    cube: jax.Array,
    config: Model,
    mask: jax.Array | None = None,
    whole: scene_statistics.Scenewide | None = None,
) -> Estimate:
    """Turn a state of the map into abundances, endmembers and brightness, smoothed by the parameters' prior."""
    E = params["endmembers"]
    valid = jnp.ones(cube.shape[:2], bool) if mask is None else mask
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
    if "prior" in params:
        A = smoothing.smooth(A, smoothing.Smoother(**params["prior"]), mask=valid)
    return Estimate(A, E, brightness, state)


def reconstruct(estimate: Estimate) -> jax.Array:
    """Mix an estimate back: Y = s A E, (H, W, B), in the units of the cube; 0 in masked pixels."""
    check_kind(estimate, Estimate, "estimate", "`unmix` returns a pair: estimate, trace = unmix(...).")
    return mixing.scaled_mix(estimate.abundances, estimate.endmembers, estimate.brightness)


def init(
    key: jax.Array, cube: jax.Array, config: Model, *, endmembers: jax.Array, mask: jax.Array | None = None
) -> Params:
    """Draw the parameters of an equilibrium model for one scene.

    Args:
        key: of jax.random.
        cube: (H, W, B), reflectance or any other non-negative unit; only its shape and dtype are used.
        config: the parts of the map.
        endmembers: (R, B), where E starts, in the units of the cube (from `vca`, a library, ...).
        mask: (H, W) bool, True where the pixel is valid.

    Returns:
        `{"endmembers": (R, B), "network": {...}}`. With `init="physical"` the last layers are zero and `unmix`
        returns FCLS (Simplex()) or NNLS divided by its sum (Cone(); Soft(): with the sum as one more band). With
        `Model.prior` also "prior", which smooths nothing yet.

    Raises:
        InputError: where shapes or values do not fit, in a sentence.
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
    return params | ({"prior": smoothing.nothing(count)._asdict()} if config.smooths else {})


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
    """Raise InputError where parameters, cube, choices and mask do not fit."""
    check_params(params)
    check_kind(config, Model, "config")
    check_cube(cube)
    check_endmembers(params["endmembers"], np.shape(cube)[2])
    check_mask(mask, cube)
    check_finite(cube, mask)


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
        initial: (H, W, R), the state to start from (`Estimate.state` of an earlier solve); it moves the number of
            steps, not the answer.
        mask: (H, W) bool, True where the pixel is valid.

    Returns:
        (Estimate, Trace): abundances (H, W, R), endmembers (R, B), brightness (H, W), state (H, W, R); steps, relative
        residual, converged.

    Raises:
        InputError: where shapes or values do not fit, in a sentence.
    """
    check(params, cube, config, mask)
    cube = mixing.wide(cube)
    if initial is None:
        initial = start_state(params, cube, config)
    elif initial.shape != (*cube.shape[:2], params["endmembers"].shape[0]):
        raise InputError(
            f"initial has shape {initial.shape}; expected one state for each pixel and endmember, "
            f"{(*cube.shape[:2], params['endmembers'].shape[0])}. Pass Estimate.state of the same scene."
        )
    return equilibrium(params, cube, config, initial, mask)


def equilibrium(
    params: Params,
    cube: jax.Array,
    config: Model,
    initial: jax.Array,
    mask: jax.Array | None = None,
    whole: scene_statistics.Scenewide | None = None,
    bands: jax.Array | None = None,
) -> tuple[Estimate, Trace]:
    """Find the equilibrium from a state, as `unmix` does, of inputs that are checked; `whole`, `bands` as `factor`."""
    theta = factor(params, cube, config, mask, bands, whole)
    state, trace = fixed_point(state_map(config), config.forward, config.backward, theta, initial)
    return read_state(params, state, cube, config, mask, whole), trace
