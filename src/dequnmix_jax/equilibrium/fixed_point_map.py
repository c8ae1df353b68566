"""The equilibrium map f(A) = C(P(A - eta G(A; Y, E))), equation (1) of the paper, as a pure function."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from dequnmix_jax import mixing
from dequnmix_jax.abundances import least_squares, projection
from dequnmix_jax.equilibrium import curvature, network, scene_statistics
from dequnmix_jax.equilibrium import energy as equilibrium_energy
from dequnmix_jax.equilibrium.config import Energy, Model, Network, Residual, Soft, Softmax
from dequnmix_jax.ops import convolution, lapack
from dequnmix_jax.solvers.forward import Map
from dequnmix_jax.types import Params


def network_of(gradient: Network, config: Model, count: int) -> network.Net:
    return network.Net(gradient.width, count, gradient.kernel, gradient.attention, config.physical)


def factor(
    params: Params,
    cube: jax.Array,
    config: Model,
    mask: jax.Array | None = None,
    bands: jax.Array | None = None,
    whole: scene_statistics.Scenewide | None = None,
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
    whole = scene_statistics.Scenewide(scene_statistics.unit(cube, mask)) if whole is None else whole
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
        L = curvature.spectral_bound(H)
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
            unit = jnp.sqrt(jnp.maximum(curvature.spectral_bound(mixing.gram(theta["first"])), 1))
            theta |= {"first": theta["first"] / unit, "net": network.bounded(weights["net"])}
        theta["offset"] = correlate(weights["first"].T) / unit - weights["bias"][None, None]
    learned = jnp.zeros((), cube.dtype)
    if isinstance(gradient, Energy):
        features = correlate(weights["first"].T) + weights["bias"][None, None]
        guide = network_of(gradient, config, E.shape[0]).apply({"params": weights["net"]}, features, m, whole.pools)
        energy = equilibrium_energy.energy_weights(weights["energy"], pointwise=gradient.width // 2)
        # Fewer bands, more noise, more to mend: the learned energy is one of the whole data term, and stands against
        # that of half the bands with twice the weight.
        theta["energy"] = energy | {"gain": energy["gain"] * (weight.size / jnp.maximum(jnp.sum(weight), 1))}
        theta["drive"] = convolution.convolve(guide, theta["energy"]["filters"])
        theta["windows"] = convolution.whole_windows(m, gradient.kernel)
        learned = equilibrium_energy.energy_bound(theta["energy"])
    if config.prox is not None:
        prox = equilibrium_energy.energy_weights(weights["prox"])
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
        G = learned(theta, A, config)
        if config.in_data_metric:
            return _project_in_metric(theta, state, G, config) * m
        if "H" in theta:
            G = G + jnp.matmul(A, theta["H"], precision=lax.Precision.HIGHEST) - theta["b"]
        if config.on_logits:
            # Mirror descent on the entropy-regularised problem: z* = -G, A* = softmax(gamma z*).
            eta = theta["eta"] / (1 + gamma / 2)
            return proximal(theta, state - eta * (G + state)) * m
        A = proximal(theta, state - theta["eta"] * G)
        if isinstance(config.constraint, Softmax):
            return jax.nn.softmax(gamma * A, axis=-1) * m
        return (mixing.project_simplex(A) if config.sums_to_one else mixing.project_cone(A)) * m

    return f


def learned(theta: dict[str, Any], A: jax.Array, config: Model) -> jax.Array:
    """Return the network's part of G(A; Y, E), without bands: (H, W, R)."""
    G = jnp.zeros_like(A)
    if isinstance(config.gradient, Energy):
        G = G + equilibrium_energy.energy_gradient(A, theta["drive"], theta["energy"], theta["mask"], theta["windows"])
    if isinstance(config.gradient, Residual):
        features = jnp.matmul(A, theta["first"]) - theta["offset"]
        G = G + network_of(config.gradient, config, A.shape[-1]).apply(
            {"params": theta["net"]}, features, theta["mask"]
        )
    return G


def proximal(theta: dict[str, Any], X: jax.Array) -> jax.Array:
    """Return P(X) = X - W^T s sigma(W X), 0 <= s <= 1: the proximal operator of some function.

    It is the gradient of a convex function and nonexpansive, and every such map is one (Moreau 1965, corollary 10.c).
    """
    if "prox" not in theta:
        return X
    weights = theta["prox"]
    return X - equilibrium_energy.energy_gradient(
        X, jnp.zeros((1, 1, 1), X.dtype), weights, theta["mask"], theta["prox_windows"]
    )


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
        w = jnp.matmul(proximal(theta, X), root, precision=lax.Precision.HIGHEST)
    if "faces" in theta:
        return projection.minimise(root, w, theta["faces"])
    exact = least_squares.fcls if config.sums_to_one else least_squares.nnls
    return exact(w, root)


def start_state(params: Params, cube: jax.Array, config: Model) -> jax.Array:
    """Return the state from which the solve starts when none is given: A = 1/R, or darkness, or level logits."""
    count = params["endmembers"].shape[0]
    level = 0.0 if config.free_brightness or config.on_logits else 1 / count
    return jnp.full((*cube.shape[:2], count), level, cube.dtype)
