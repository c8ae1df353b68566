"""The equilibrium map f(A) = C(P(A - eta G(A; Y, E))), equation (1) of the paper, as a pure function.

`factor` computes everything that does not depend on the state, one NamedTuple for each term; `state_map` applies the
map; `solve_map` finds its fixed point.
"""

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dequnmix_jax import mixing
from dequnmix_jax.abundances import least_squares, projection
from dequnmix_jax.equilibrium import curvature, network, nonlinear_terms
from dequnmix_jax.equilibrium.config import Energy, KHype, Model, Network, Residual, Soft, Softmax
from dequnmix_jax.equilibrium.energy import EnergyWeights, energy_bound, energy_gradient, energy_weights
from dequnmix_jax.equilibrium.scene_statistics import Scenewide, unit
from dequnmix_jax.ops import convolution, lapack
from dequnmix_jax.ops.guards import positive
from dequnmix_jax.solvers.forward import Map
from dequnmix_jax.solvers.implicit import fixed_point
from dequnmix_jax.types import Params, Trace


class DataTerm(NamedTuple):
    """|Y - A E|^2 / 2 L, L a bound of the norm of E E^T: its gradient A H - b has a Lipschitz constant of at most 1.

    Attributes:
        H: (R, R), E E^T / L.
        b: (H, W, R), Y E^T / L; None in the metric of the data, which never forms it.
    """

    H: jax.Array
    b: jax.Array | None


class Metric(NamedTuple):
    """The metric of the data, M = H + shift I = root root^T, in which the step is taken and C projects.

    Attributes:
        M: (R, R).
        root, unroot: (R, R), lower triangular, and its inverse.
        shift: (), `Model.proximity` and the bound of the learned curvature.
        w: (H, W, R), root^-1 b, the pixels in whitened coordinates.
        faces: the answers on all supports, for few endmembers; None: a search in every pixel.
    """

    M: jax.Array
    root: jax.Array
    unroot: jax.Array
    shift: jax.Array
    w: jax.Array
    faces: projection.Faces | None


class EnergyTerm(NamedTuple):
    """The learned energy of `Energy()`.

    Attributes:
        weights: of the energy.
        drive: (H, W, F), W v(Y).
        windows: (H, W, 1), 1 where a whole window of the filters is valid.
    """

    weights: EnergyWeights
    drive: jax.Array
    windows: jax.Array


class ResidualTerm(NamedTuple):
    """The network of `Residual()` on A E - Y = A first - offset.

    Attributes:
        first: (R, width), E W1.
        offset: (H, W, width), Y W1 - bias.
        net: weights of the layers after the first.
    """

    first: jax.Array
    offset: jax.Array
    net: Any


class ProxTerm(NamedTuple):
    """The learned proximal operator of `Conv()`: weights of its energy, and the windows as in `EnergyTerm`."""

    weights: EnergyWeights
    windows: jax.Array


class Factors(NamedTuple):
    """Everything in the map that does not depend on the state; None for a term that the model does not have.

    Attributes:
        mask: (H, W, 1), 1 in valid pixels, else 0.
        step: (), `Model.step`, or the certified best one.
        eta: (), the step over the Lipschitz constant of G; in the metric of the data the step itself.
        data, metric, energy, residual, prox, pixel: the terms.
    """

    mask: jax.Array
    step: jax.Array
    eta: jax.Array
    data: DataTerm | None
    metric: Metric | None
    energy: EnergyTerm | None
    residual: ResidualTerm | None
    prox: ProxTerm | None
    pixel: nonlinear_terms.PixelTerm | None = None


class Solution(NamedTuple):
    """A fixed point of the map: the state (H, W, R), how the solve went, and the factors of the map."""

    state: jax.Array
    trace: Trace
    factors: Factors


def network_of(gradient: Network, config: Model, count: int) -> network.Net:
    """Return the flax module of a gradient for `count` endmembers."""
    return network.Net(gradient.width, count, gradient.kernel, gradient.attention, config.physical)


def factor(
    params: Params,
    cube: jax.Array,
    config: Model,
    mask: jax.Array | None = None,
    bands: jax.Array | None = None,
    whole: Scenewide | None = None,
) -> Factors:
    """Compute once everything in the map that does not depend on the state.

    The RMS of the scene is divided out of cube and endmembers. Under sum A = 1 the mean endmember is subtracted from
    both, which changes the gradient by a constant over endmembers only and makes the problem better conditioned
    (Samson: 62 to 10). A first linear layer of a network factors in the same way: W1 (A E - Y) = A (E W1) - Y W1.

    Args:
        params, cube, config, mask: as `model.unmix`, checked.
        bands: (B,), weights of the bands in all terms; a band of weight 0 has no influence.
        whole: numbers of the whole scene, if the cube is a tile of it.
    """
    E = params["endmembers"]
    weights = params["network"]
    valid = mixing.valid_pixels(cube, mask)[..., None]
    m, Y = valid.astype(cube.dtype), jnp.where(valid, cube, 0)
    whole = Scenewide(unit(cube, mask)) if whole is None else whole
    scale = whole.scale
    E = mixing.scale_to_unit_maximum(E) if config.scales_endmembers else E / scale
    weight = jnp.ones(Y.shape[-1], Y.dtype) if bands is None else bands
    E = E * weight[None]
    eye = jnp.eye(E.shape[0], dtype=E.dtype)

    def correlate(spectra: jax.Array) -> jax.Array:
        # The spectra take the scale and the weights, so that no scaled copy of the cube is written in each training
        # step.
        return mixing.correlate(Y, spectra * (weight / scale)[None])

    D, of_data = E, correlate  # spectra of the data term, and products of the pixels with such spectra
    if isinstance(config.nonlinear, KHype):
        back, _ = nonlinear_terms.whitening(config.nonlinear, params["endmembers"], weight)
        D = jnp.concatenate([_exactly(E, back.T), (config.nonlinear.mu**0.5 / scale) * eye], axis=1)

        def of_data(spectra: jax.Array) -> jax.Array:
            return correlate(_exactly(spectra[:, : back.shape[0]], back))

    data, flat = None, jnp.zeros((), cube.dtype)  # flat: the Lipschitz constant of the data term
    if config.physical:
        centre = jnp.zeros_like(D[:1]) if config.free_brightness else jnp.mean(D, axis=0, keepdims=True)
        # (sum A - 1)^2: one more band, of ones. In units of the RMS the mean square norm of the pixels is B.
        level = config.constraint.slack**2 * jnp.sum(weight) if isinstance(config.constraint, Soft) else flat
        H = mixing.gram(D - centre) + level
        L = positive(curvature.spectral_bound(H))
        b = None
        if not config.in_data_metric:
            b = m * (of_data(D - centre) - mixing.correlate(centre[None], D - centre) + level) / L
        data, flat = DataTerm(H / L, b), flat + 1
    gradient, residual, energy, prox = config.gradient, None, None, None
    if isinstance(gradient, Residual):
        first, net, norm = jnp.matmul(E, weights["first"]), weights["net"], jnp.ones((), E.dtype)
        if gradient.spectral:
            norm = jnp.sqrt(jnp.maximum(curvature.spectral_bound(mixing.gram(first)), 1))
            first, net = first / norm, network.bounded(net)
        residual = ResidualTerm(first, correlate(weights["first"].T) / norm - weights["bias"][None, None], net)
    learned = jnp.zeros((), cube.dtype)
    if isinstance(gradient, Energy):
        features = correlate(weights["first"].T) + weights["bias"][None, None]
        guide = network_of(gradient, config, E.shape[0]).apply({"params": weights["net"]}, features, m, whole.pools)
        made = energy_weights(weights["energy"], pointwise=gradient.width // 2)
        # With fewer bands the noise is stronger: the learned energy belongs to the data term of all bands, and has
        # twice the weight beside that of half the bands.
        made = made._replace(gain=made.gain * (weight.size / jnp.maximum(jnp.sum(weight), 1)))
        windows = convolution.whole_windows(m, gradient.kernel)
        energy = EnergyTerm(made, convolution.convolve(guide, made.filters), windows)
        learned = energy_bound(made)
    if config.prox is not None:
        made = energy_weights(weights["prox"])
        made = made._replace(gain=jnp.minimum(made.gain, 1))
        prox = ProxTerm(made, convolution.whole_windows(m, config.prox.kernel))
    # The paper's literal network has no known Lipschitz constant: eta is then the step itself.
    shift = learned + (config.proximity if config.in_data_metric else flat)
    if config.step is None:
        assert data is not None  # Model refuses step=None without the data term
        step = curvature.best_step(data.H, shift, config.in_data_metric, config.sums_to_one)
    else:
        step = jnp.asarray(config.step, cube.dtype)
    metric, pixel, eta = None, None, step
    if config.post_nonlinear:
        seen = Y * weight[None, None]
        proximity = jnp.asarray(config.proximity, cube.dtype)
        spectra = params["endmembers"] * weight[None]
        pixel = nonlinear_terms.PixelTerm(spectra, seen, L * jnp.square(scale), proximity, learned)
    elif data is not None and config.in_data_metric:
        # The root of M comes from spectra and not from products of them, and the pixels are taken in its coordinates,
        # w = Y V^T with V = root^-1 E: the condition of E E^T enters by its square root. (sum A - 1)^2 is the last
        # column.
        X = jnp.concatenate([D - centre, jnp.broadcast_to(jnp.sqrt(level), (E.shape[0], 1))], axis=1) / jnp.sqrt(L)
        root = lapack.root_of_gram(jnp.concatenate([X, jnp.sqrt(shift) * eye], axis=1))
        unroot = lapack.inverse(root)
        V = jnp.matmul(unroot, X, precision=lax.Precision.HIGHEST)
        w = of_data(V[:, :-1]) - mixing.correlate(centre[None], V[:, :-1]) + jnp.sqrt(level) * V[:, -1][None, None]
        few = E.shape[0] <= projection.LARGEST
        faces = lax.stop_gradient(projection.faces(root, config.sums_to_one)) if few else None
        metric = Metric(data.H + shift * eye, root, unroot, shift, m * w / jnp.sqrt(L), faces)
    else:
        eta = step / positive(shift)
    return Factors(m, step, eta, data, metric, energy, residual, prox, pixel)


def _exactly(p: jax.Array, q: jax.Array) -> jax.Array:
    return jnp.matmul(p, q, precision=lax.Precision.HIGHEST)


@cache
def state_map(config: Model) -> Map:
    """Return equation (1) as a function f(factors, state) with a stable identity; the factors come from `factor`."""

    # Read for Softmax() alone.
    gamma = config.constraint.gamma if isinstance(config.constraint, Softmax) else jnp.nan

    def f(factors: Factors, state: jax.Array) -> jax.Array:
        m, data, eta = factors.mask, factors.data, factors.eta
        A = jax.nn.softmax(gamma * state, axis=-1) * m if config.on_logits else state
        G = learned(factors, A, config)
        if factors.pixel is not None:
            return nonlinear_terms.step(factors.pixel, state, G, eta, config) * m
        if factors.metric is not None:
            return _project_in_metric(factors, factors.metric, state, G, config) * m
        if data is not None:
            assert data.b is not None
            G = G + jnp.matmul(A, data.H, precision=lax.Precision.HIGHEST) - data.b
        if config.on_logits:
            # Mirror descent on the entropy-regularised problem: z* = -G, A* = softmax(gamma z*).
            return proximal(factors, state - eta / (1 + gamma / 2) * (G + state)) * m
        A = proximal(factors, state - eta * G)
        if isinstance(config.constraint, Softmax):
            return jax.nn.softmax(gamma * A, axis=-1) * m
        return (mixing.project_simplex(A) if config.sums_to_one else mixing.project_cone(A)) * m

    return f


def learned(factors: Factors, A: jax.Array, config: Model) -> jax.Array:
    """Return the network's part of G(A; Y, E), (H, W, R)."""
    energy, residual = factors.energy, factors.residual
    if energy is not None:
        return energy_gradient(A, energy.drive, energy.weights, factors.mask, energy.windows)
    if residual is None:
        return jnp.zeros_like(A)
    features = jnp.matmul(A, residual.first) - residual.offset
    net = network_of(config.gradient, config, A.shape[-1])  # type: ignore[arg-type]
    answer: jax.Array = net.apply({"params": residual.net}, features, factors.mask)
    return answer


def proximal(factors: Factors, X: jax.Array) -> jax.Array:
    """Return P(X) = X - W^T s sigma(W X), 0 <= s <= 1: the proximal operator of some function.

    It is the gradient of a convex function and nonexpansive, and every such map is one (Moreau 1965, corollary 10.c).
    """
    if factors.prox is None:
        return X
    weights, windows = factors.prox
    return X - energy_gradient(X, jnp.zeros((1, 1, 1), X.dtype), weights, factors.mask, windows)


def _project_in_metric(factors: Factors, metric: Metric, A: jax.Array, G: jax.Array, config: Model) -> jax.Array:
    """Take the step and the constraint in the metric M: argmin over the set of |a - P(A - eta M^-1 (A H - b + G))|_M.

    With M = L L^T = H + shift I the step is w = L^T A (1 - eta) + eta (L^-1 b + L^-1 (shift A - G)) in the coordinates
    L^T a: no term is larger than the answer, as A M - eta (A H - b) is, and b is never formed.
    """
    root, eta = metric.root, factors.step
    pulled = jnp.matmul(metric.shift * A - G, metric.unroot.T, precision=lax.Precision.HIGHEST)
    w = eta * (metric.w + pulled) + (1 - eta) * jnp.matmul(A, root, precision=lax.Precision.HIGHEST)
    if factors.prox is not None:
        X = jnp.matmul(w, metric.unroot, precision=lax.Precision.HIGHEST)
        w = jnp.matmul(proximal(factors, X), root, precision=lax.Precision.HIGHEST)
    if metric.faces is not None:
        return projection.minimise(root, w, metric.faces)
    exact = least_squares.fcls if config.sums_to_one else least_squares.nnls
    return exact(w, root)


def initial_state(params: Params, cube: jax.Array, config: Model) -> jax.Array:
    """Return the default first state of the solve, (H, W, R): A = 1/R; zero on the cone; equal logits.

    Of PPNM() and MLM() the answer of the method of single pixels, because there may be more than one equilibrium.
    """
    if config.post_nonlinear:
        return nonlinear_terms.first_state(params["endmembers"], cube, config)
    count = params["endmembers"].shape[0]
    level = 0.0 if config.free_brightness or config.on_logits else 1 / count
    return jnp.full((*cube.shape[:2], count), level, cube.dtype)


def solve_map(
    params: Params,
    cube: jax.Array,
    config: Model,
    *,
    initial: jax.Array | None = None,
    mask: jax.Array | None = None,
    whole: Scenewide | None = None,
    bands: jax.Array | None = None,
    tolerance: jax.Array | None = None,
) -> Solution:
    """Find the fixed point of the map, with implicit gradients; inputs are checked already.

    Args:
        params, cube, config, mask, whole, bands: as `factor`.
        initial: (H, W, R), the first state; None: `initial_state`.
        tolerance: overrides that of `config.forward`.
    """
    factors = factor(params, cube, config, mask, bands, whole)
    initial = initial_state(params, cube, config) if initial is None else initial
    state, trace = fixed_point(state_map(config), config.forward, config.backward, factors, initial, tolerance)
    return Solution(state, trace, factors)
