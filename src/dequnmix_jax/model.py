"""The equilibrium map of DEQ-Unmix, its start, and the unmixing that it defines (arXiv 2604.11279).

    A* = f(A*; Y),    f(A) = C(P(A - eta G(A; Y, E)))                                                    (1)

G stands in for the gradient of the data term, P is a proximal step, C the constraint. Inside the loop nothing has the
B bands of the cube: the data enter as Y E^T (R numbers a pixel) and through features computed once.
"""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dequnmix_jax import (
    answer,
    classical,
    convolution,
    curvature,
    lapack,
    mixing,
    neighbours,
    network,
    projection,
    scenewide,
)
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
from dequnmix_jax.choices import Analytic, Energy, Network, Residual, Soft, Softmax
from dequnmix_jax.config import Model
from dequnmix_jax.implicit import fixed_point
from dequnmix_jax.records import Estimate, Params, Trace
from dequnmix_jax.solvers import Map


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
        weights["net"] = _net(gradient, config, count).init(keys[1], features, ones)["params"]
    if isinstance(gradient, Energy):
        gain = 0.0 if config.physical else 1.0
        weights["energy"] = network.init_energy(keys[2], gradient.kernel, count, gradient.width, gain)
    if prox is not None:
        gain = 0.0 if config.physical else 0.5
        weights["prox"] = network.init_energy(keys[3], prox.kernel, count, prox.width, gain)
    E = mixing.wide(endmembers)
    if config.scales_endmembers:
        E = mixing.scale_to_unit_maximum(E)
    params = {"endmembers": E, "network": jax.tree.map(lambda x: x.astype(E.dtype), weights)}
    return params | ({"prior": neighbours.nothing(count)._asdict()} if config.smooths else {})


def _net(gradient: Network, config: Model, count: int) -> network.Net:
    return network.Net(gradient.width, count, gradient.kernel, gradient.attention, config.physical)


def factor(
    params: Params,
    cube: jax.Array,
    config: Model,
    mask: jax.Array | None = None,
    bands: jax.Array | None = None,
    whole: scenewide.Scenewide | None = None,
) -> dict[str, Any]:
    """Compute once all of the map that does not depend on the state.

    With a common scale taken out of cube and endmembers, H = E E^T / L and b = Y E^T / L, L a bound of the norm of
    E E^T, so that the data term |Y - A E|^2 / 2L has the gradient A H - b of Lipschitz constant at most 1. Under
    sum A = 1 the mean endmember is taken out of both, which changes the gradient by a constant over endmembers only
    and makes the problem better conditioned (Samson: 62 to 10). A first linear layer of a network factors likewise:
    W1 (A E - Y) = A (E W1) - Y W1. `bands` (B,) weighs the bands in all of this; a band of weight 0 is not seen.
    `whole` is what a larger scene decides, of which the cube is a tile.
    """
    E = params["endmembers"]
    weights = params["network"]
    valid = (jnp.ones(cube.shape[:2], bool) if mask is None else mask)[..., None]
    m, Y = valid.astype(cube.dtype), jnp.where(valid, cube, 0)
    whole = scenewide.Scenewide(scenewide.unit(cube, mask)) if whole is None else whole
    scale = whole.scale
    E = mixing.scale_to_unit_maximum(E) if config.scales_endmembers else E / scale
    weight = jnp.ones(Y.shape[-1], Y.dtype) if bands is None else bands
    E = E * weight[None]

    def correlate(spectra: jax.Array) -> jax.Array:
        # What Y is multiplied by takes the scale and the weights, so that no scaled copy of the cube is written at
        # each step of training.
        return mixing.correlate(Y, spectra * (weight / scale)[None])

    theta: dict[str, Any] = {"mask": m}
    flat = jnp.zeros((), cube.dtype)  # the Lipschitz constant of the data term
    if config.physical:
        centre = jnp.zeros_like(E[:1]) if config.free_brightness else jnp.mean(E, axis=0, keepdims=True)
        # (sum A - 1)^2: one more band, of ones. In units of the RMS the mean square norm of the pixels is B.
        level = config.constraint.slack**2 * jnp.sum(weight) if isinstance(config.constraint, Soft) else flat
        H = mixing.gram(E - centre) + level
        L = convolution.spectral_bound(H)
        L = jnp.where(L > 0, L, 1)
        theta["H"] = H / L
        if not config.in_data_metric:
            b = correlate(E - centre) - mixing.correlate(centre[None], E - centre) + level
            theta["b"] = m * b / L
        flat = flat + 1
    gradient = config.gradient
    if isinstance(gradient, Residual):
        theta["first"], theta["net"] = jnp.matmul(E, weights["first"]), weights["net"]
        unit = jnp.ones((), E.dtype)
        if gradient.spectral:
            unit = jnp.sqrt(jnp.maximum(convolution.spectral_bound(mixing.gram(theta["first"])), 1))
            theta |= {"first": theta["first"] / unit, "net": network.bounded(weights["net"])}
        theta["offset"] = correlate(weights["first"].T) / unit - weights["bias"][None, None]
    learned = jnp.zeros((), cube.dtype)
    if isinstance(gradient, Energy):
        features = correlate(weights["first"].T) + weights["bias"][None, None]
        guide = _net(gradient, config, E.shape[0]).apply({"params": weights["net"]}, features, m, whole.pools)
        energy = network.energy_weights(weights["energy"], pointwise=gradient.width // 2)
        # Fewer bands, more noise, more to mend: the learned energy is one of the whole data term, and stands against
        # that of half the bands with twice the weight.
        theta["energy"] = energy | {"gain": energy["gain"] * (weight.size / jnp.maximum(jnp.sum(weight), 1))}
        theta["drive"] = convolution.convolve(guide, theta["energy"]["filters"])
        theta["windows"] = convolution.whole_windows(m, gradient.kernel)
        learned = network.energy_bound(theta["energy"])
    if config.prox is not None:
        prox = network.energy_weights(weights["prox"])
        theta["prox"] = prox | {"gain": jnp.minimum(prox["gain"], 1)}
        theta["prox_windows"] = convolution.whole_windows(m, config.prox.kernel)
    in_data_metric = config.in_data_metric
    # The paper's literal network has no known Lipschitz constant: eta is then the step itself.
    shift = learned + (config.proximity if in_data_metric else flat)
    if config.step is None:
        theta["step"] = curvature.best_step(theta["H"], shift, in_data_metric, config.sums_to_one)
    else:
        theta["step"] = jnp.asarray(config.step, cube.dtype)
    if in_data_metric:
        M = theta["H"] + shift * jnp.eye(E.shape[0], dtype=E.dtype)
        # The root of M from spectra and not from products of them, and the pixels in its coordinates, w = Y V^T with
        # V = root^-1 E: the condition of E E^T enters by its square root. (sum A - 1)^2 is the last column.
        X = jnp.concatenate([E - centre, jnp.broadcast_to(jnp.sqrt(level), (E.shape[0], 1))], axis=1) / jnp.sqrt(L)
        eye = jnp.eye(E.shape[0], dtype=E.dtype)
        root = lapack.root_of_gram(jnp.concatenate([X, jnp.sqrt(shift) * eye], axis=1))
        unroot = lapack.inverse(root)
        V = jnp.matmul(unroot, X, precision=lax.Precision.HIGHEST)
        w = correlate(V[:, :-1]) - mixing.correlate(centre[None], V[:, :-1]) + jnp.sqrt(level) * V[:, -1][None, None]
        theta |= {"M": M, "root": root, "unroot": unroot, "shift": shift, "w": m * w / jnp.sqrt(L)}
        if E.shape[0] <= projection.LARGEST:
            theta["faces"] = lax.stop_gradient(projection.faces(root, config.sums_to_one))
    else:
        theta["eta"] = theta["step"] / jnp.where(shift > 0, shift, 1)
    return theta


@cache
def state_map(config: Model) -> Map:
    """Return equation (1) as a function f(theta, state) with a stable identity; theta comes from `factor`."""

    # Of Softmax() alone, and read there alone.
    gamma = config.constraint.gamma if isinstance(config.constraint, Softmax) else jnp.nan

    def f(theta: dict[str, Any], state: jax.Array) -> jax.Array:
        m = theta["mask"]
        A = jax.nn.softmax(gamma * state, axis=-1) * m if config.on_logits else state
        G = _learned(theta, A, config)
        if config.in_data_metric:
            return _project_in_metric(theta, state, G, config) * m
        if "H" in theta:
            G = G + jnp.matmul(A, theta["H"], precision=lax.Precision.HIGHEST) - theta["b"]
        if config.on_logits:
            # Mirror descent on the entropy-regularised problem: z* = -G, A* = softmax(gamma z*).
            eta = theta["eta"] / (1 + gamma / 2)
            return _prox(theta, state - eta * (G + state)) * m
        A = _prox(theta, state - theta["eta"] * G)
        if isinstance(config.constraint, Softmax):
            return jax.nn.softmax(gamma * A, axis=-1) * m
        return (mixing.project_simplex(A) if config.sums_to_one else mixing.project_cone(A)) * m

    return f


def _learned(theta: dict[str, Any], A: jax.Array, config: Model) -> jax.Array:
    """Return the network's part of G(A; Y, E), without bands: (H, W, R)."""
    G = jnp.zeros_like(A)
    if isinstance(config.gradient, Energy):
        G = G + network.energy_gradient(A, theta["drive"], theta["energy"], theta["mask"], theta["windows"])
    if isinstance(config.gradient, Residual):
        features = jnp.matmul(A, theta["first"]) - theta["offset"]
        G = G + _net(config.gradient, config, A.shape[-1]).apply({"params": theta["net"]}, features, theta["mask"])
    return G


def _prox(theta: dict[str, Any], X: jax.Array) -> jax.Array:
    """Return P(X) = X - W^T s sigma(W X), 0 <= s <= 1: the proximal operator of some function.

    It is the gradient of a convex function and nonexpansive, and every such map is one (Moreau 1965, corollary 10.c).
    """
    if "prox" not in theta:
        return X
    weights = theta["prox"]
    return X - network.energy_gradient(X, jnp.zeros((1, 1, 1), X.dtype), weights, theta["mask"], theta["prox_windows"])


def _project_in_metric(theta: dict[str, Any], A: jax.Array, G: jax.Array, config: Model) -> jax.Array:
    """Take the step and the constraint in the metric M: argmin over the set of |a - P(A - eta M^-1 (A H - b + G))|_M.

    With M = L L^T = H + shift I the step is w = L^T A (1 - eta) + eta (L^-1 b + L^-1 (shift A - G)) in the coordinates
    L^T a: no term is larger than the answer, as A M - eta (A H - b) is, and b is never formed.
    """
    root, eta = theta["root"], theta["step"]
    drawn = jnp.matmul(theta["shift"] * A - G, theta["unroot"].T, precision=lax.Precision.HIGHEST)
    w = eta * (theta["w"] + drawn) + (1 - eta) * jnp.matmul(A, root, precision=lax.Precision.HIGHEST)
    if "prox" in theta:
        X = jnp.matmul(w, theta["unroot"], precision=lax.Precision.HIGHEST)
        w = jnp.matmul(_prox(theta, X), root, precision=lax.Precision.HIGHEST)
    if "faces" in theta:
        return projection.minimise(root, w, theta["faces"])
    exact = classical.fcls if config.sums_to_one else classical.nnls
    return exact(w, root)


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


def start_state(params: Params, cube: jax.Array, config: Model) -> jax.Array:
    """Return the state from which the solve starts when none is given: A = 1/R, or darkness, or level logits."""
    count = params["endmembers"].shape[0]
    level = 0.0 if config.free_brightness or config.on_logits else 1 / count
    return jnp.full((*cube.shape[:2], count), level, cube.dtype)


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
    whole: scenewide.Scenewide | None = None,
    bands: jax.Array | None = None,
) -> tuple[Estimate, Trace]:
    """Find the equilibrium from a state, as `unmix` does, of inputs that are checked; `whole`, `bands` as `factor`."""
    theta = factor(params, cube, config, mask, bands, whole)
    state, trace = fixed_point(state_map(config), config.forward, config.backward, theta, initial)
    return answer.read_state(params, state, cube, config, mask, whole), trace
