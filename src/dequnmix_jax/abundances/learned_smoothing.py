r"""A convex prior over neighbours with learned filters, one for all maps and scenes.

In coordinates u = a V of the maps a (H, W, R) in which their errors are independent, smoothed maps are the minimum of

    1/2 |u - u_0|^2 + sum_d sum_f lambda_df sum_p phi_f((w_f * u_d)_p),
    phi_f(t) = delta_f^2 (sqrt(1 + (t / delta_f)^2) - 1)

over pixels p whose window, the part of 5 x 5 pixels where w_f is not zero, is valid, then projected on the simplex. The
filters w_f, of mean zero and unit norm, and their bends delta_f are the same for all directions d, endmembers and
scenes; a small network predicts the strengths lambda_df >= 0 and the scale of u_d from statistics of that direction
without size (`map_statistics`). All numbers were trained on generated scenes (`experiments.operator.spatial`). Which
part of these strengths a scene gets, down to none, is decided by its own estimated risk
(`prior_choice.learned_smoother`), which may also choose the linear prior of `smoothing.smoother`: the same energy with
differences of neighbours as filters and phi(t) = t^2 / 2 (`in_filters`).

**Curvature.** phi'' lies in (0, 1]. With C_f the convolution on the infinite grid and M_f the pixels with valid
windows (a diagonal of zeros and ones), the Hessian of the second term is sum_f lambda_f C_f^T M_f diag(phi'') C_f,
restricted to valid pixels. u, extended by zeros, is a function on the infinite grid, and 0 <= M_f diag(phi'') <= I, so
that by Parseval

    0 <= <u, Hessian u> <= sum_f lambda_f |C_f u|^2 = int sum_f lambda_f |w_f(omega)|^2 |u(omega)|^2 <= L |u|^2,
    L = max_omega sum_f lambda_f |w_f(omega)|^2,

for every image size, mask and u: zeros outside are never seen, because windows that hold one do not count. Each
direction's energy is 1-strongly convex with curvature at most 1 + L_d, and the gradient step of size 2 / (2 + L_d) is a
contraction with the factor L_d / (2 + L_d) (`contraction`). L is computed on a grid of frequencies; between its points
the trigonometric polynomial, of degree 4, is larger by at most 1 / cos(4 pi / N)^2 (Ehlich and Zeller 1964).

**Limits.** Nothing in maps alone distinguishes texture that is independent from pixel to pixel from errors; the
difference of maps by even and odd bands shows errors from noise, but not those of wrong or varying spectra, which stay.
The strengths are those of a network and may be wrong on scenes unlike its training; what protects them is the estimate
of the risk, which holds for noise that is independent between bands. A pixel at the border, or next to masked ones,
lies in fewer windows and is smoothed less; where no 5 x 5 window is valid, nothing is smoothed.

References:
    Goujon, Neumayer, Bohra, Ducotterd and Unser, A neural-network-based convex regularizer for inverse problems, IEEE
    TCI 9, 2023 (learned filters and convex profiles, noise-dependent scale); Roth and Black, Fields of experts, IJCV
    82, 2009; Ehlich and Zeller, Schwankung von Polynomen zwischen Gitterpunkten, Math. Z. 86, 1964. The directions are
    those of `smoothing.smoother`; their combination, and strengths from statistics of the maps, are ours.
"""

import json
from functools import cache
from importlib.resources import as_file, files
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dequnmix_jax.abundances import map_statistics
from dequnmix_jax.abundances.smoothing import FEWEST, Smoother, checked, error_directions, semivariance
from dequnmix_jax.checks import Array, InputError, check_array, check_kind
from dequnmix_jax.mixing import project_simplex
from dequnmix_jax.ops import lapack
from dequnmix_jax.ops.convolution import convolve, transpose, valid_windows
from dequnmix_jax.solvers.config import Adjoint, Solver
from dequnmix_jax.solvers.implicit import fixed_point

KERNEL, FILTERS, HIDDEN = 5, 8, 20
"""Side of the filters, their number, and the width of the network."""

NUMBER_OF_WEIGHTS = 817
"""Trained numbers in all."""

STEEPEST = 50.0
"""Largest L: the factor of the contraction is at most 50 / 52."""

MOST = 0.9
"""Largest share of errors that is distinguished from 1."""

SOLVER, ADJOINT = Solver(tolerance=1e-6, max_steps=300), Adjoint(tolerance=1e-4)
"""Tight, so that tiles and the whole scene agree: 5 to 50 steps, where 1e-4 takes 4 to 30."""

_POINTS = 32

_STRAIGHT = 1e6
"""A bend far above all differences of neighbours, of the order of 1: there phi(t) is t^2 / 2."""


class SpatialWeights(NamedTuple):
    """The trained numbers, before their constraints.

    Attributes:
        filters: (5, 5, F); the mean is subtracted, and each is divided by its norm.
        log_delta: (F,), logarithm of delta, in units of the root of the semivariance of neighbours.
        first, bias: (S, K), (K,), the hidden layer.
        second, shift: (K, F + 1), (F + 1,), the output: strengths before softplus, and the logarithm of the scale.
    """

    filters: jax.Array
    log_delta: jax.Array
    first: jax.Array
    bias: jax.Array
    second: jax.Array
    shift: jax.Array


class LearnedSmoother(NamedTuple):
    """The learned prior of a scene, all that a tile of it needs.

    Attributes:
        directions: V (R, R - 1), combinations of the maps, of sum zero.
        back: (R - 1, R), V back = I: what a unit of each combination changes in the maps; its rows sum to zero.
        strength: lambda (R - 1, F), >= 0; 0: not smoothed.
        filters: w (5, 5, F), of mean zero and unit norm.
        bend: delta (F,), > 0.
    """

    directions: jax.Array
    back: jax.Array
    strength: jax.Array
    filters: jax.Array
    bend: jax.Array


def init_weights(key: jax.Array) -> SpatialWeights:
    """Draw weights: filters of differences with some noise, strengths of about 0.1 errors over signal."""
    for_filters, for_first, for_second = jax.random.split(key, 3)
    simple = np.zeros((KERNEL, KERNEL, FILTERS), np.float32)
    c = KERNEL // 2
    for f, (down, across) in enumerate(((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0))):
        simple[c, c, f] = 1
        simple[c + down, c + across, f] = -1
    simple[c, c - 1 : c + 2, 6] = -1, 2, -1
    simple[c - 1 : c + 2, c, 7] = -1, 2, -1
    noise = jax.random.normal(for_filters, simple.shape)
    first = jax.random.normal(for_first, (map_statistics.COUNT, HIDDEN)) / map_statistics.COUNT**0.5
    second = 0.1 * jax.random.normal(for_second, (HIDDEN, FILTERS + 1))
    shift = jnp.full(FILTERS + 1, -2.0).at[FILTERS].set(0)
    return SpatialWeights(
        jnp.asarray(simple) + 0.05 * noise, jnp.zeros(FILTERS), first, jnp.zeros(HIDDEN), second, shift
    )


@cache
def _shipped() -> dict[str, np.ndarray]:
    with as_file(files("dequnmix_jax") / "data" / "operator_spatial.npz") as path, np.load(path) as stored:
        return dict(stored)


def shipped_weights() -> SpatialWeights:
    """Return the trained weights of the package, as NumPy arrays."""
    arrays: list[Any] = [_shipped()[name] for name in SpatialWeights._fields]
    return SpatialWeights(*arrays)


def weights_provenance() -> dict[str, Any]:
    """Return how the weights of the package were made: command, seed, generator, versions, date."""
    return dict(json.loads(str(_shipped()["provenance"])))


def smooth_learned(abundances: Array, prior: LearnedSmoother, *, mask: Array | None = None) -> jax.Array:
    """Smooth abundance maps by the learned prior.

    Args:
        abundances: (H, W, R), >= 0 and summing to one.
        prior: from `learned_smoother`, of these maps or of a larger scene.
        mask: (H, W) bool, True where the pixel is valid.

    Returns:
        (H, W, R), >= 0 and summing to one; 0 in masked pixels; the maps as they are if all strengths are 0.
        Differentiable in maps and prior by the implicit function theorem.

    Raises:
        InputError: if the shapes do not fit, or outside jit if valid values are not finite.
    """
    A, valid = checked(abundances, mask)
    check_kind(prior, LearnedSmoother, "prior", "Make it by learned_smoother(abundances, even, odd).")
    check_array(prior.directions, "prior.directions")
    if np.shape(prior.directions) != (A.shape[2], A.shape[2] - 1):
        raise InputError(
            f"The prior has directions {np.shape(prior.directions)}; expected those of {A.shape[2]} maps, "
            f"{(A.shape[2], A.shape[2] - 1)}. Make it by learned_smoother() from maps of the same endmembers."
        )
    return smoothed(A, valid, LearnedSmoother(*(jnp.asarray(part, A.dtype) for part in prior)))


def identity_learned(count: int) -> LearnedSmoother:
    """Return the learned prior of strength zero for `count` maps."""
    basis = jnp.asarray(contrasts(count), jnp.float32)
    filters = jnp.zeros((KERNEL, KERNEL, FILTERS), jnp.float32)
    return LearnedSmoother(
        basis, basis.T, jnp.zeros((count - 1, FILTERS), jnp.float32), filters, jnp.ones(FILTERS, jnp.float32)
    )


def in_filters(linear: Smoother, count: int) -> LearnedSmoother:
    """Return the linear prior of the contrasts of `count` maps as an energy of filters: the same smoothed maps.

    With w the differences of neighbours over sqrt(2), along rows and columns, and bends so large that
    phi(t) = t^2 / 2, strengths 2 lambda give 1/2 |u - u_0|^2 + lambda / 2 sum over neighbours of (u_i - u_j)^2.
    """
    dtype = linear.strength.dtype
    differences = np.zeros((KERNEL, KERNEL, FILTERS))
    c = KERNEL // 2
    differences[c, c, :2] = 0.5**0.5
    differences[c, c + 1, 0] = differences[c + 1, c, 1] = -(0.5**0.5)
    basis = jnp.asarray(contrasts(count), dtype)
    used = jnp.asarray(np.arange(FILTERS) < 2, dtype)
    return LearnedSmoother(
        jnp.matmul(basis, linear.directions, precision="highest"),
        jnp.matmul(lapack.inverse(linear.directions), basis.T, precision="highest"),
        2 * linear.strength[:, None] * used[None],
        jnp.asarray(differences, dtype),
        jnp.full(FILTERS, _STRAIGHT, dtype),
    )


def contraction(prior: LearnedSmoother) -> jax.Array:
    """Return the certified factor L / (2 + L) < 1 of each direction's gradient step, (R - 1,)."""
    bound = curvature_bound(prior.filters, prior.strength)
    return bound / (2 + bound)


def contrasts(count: int) -> np.ndarray:
    """Return an orthonormal basis (R, R - 1) of vectors of sum zero (Helmert 1876)."""
    basis = np.triu(np.ones((count, count - 1)))
    basis[np.arange(1, count), np.arange(count - 1)] = -np.arange(1, count)
    return basis / np.linalg.norm(basis, axis=0, keepdims=True)


def look(A: jax.Array, difference: jax.Array | None, valid: jax.Array) -> tuple[jax.Array, ...]:
    """Return what `assemble` needs of maps: their statistics (D, S), directions (R, D), their inverse, whether any.

    `difference`: half the difference of the maps by even and odd bands; None: errors are taken to be the nugget of the
    maps, as in a part of the training.
    """
    A, difference = lax.stop_gradient((A, difference))
    basis = jnp.asarray(contrasts(A.shape[2]), A.dtype)
    c = jnp.matmul(A, basis, precision="highest")
    pixels = jnp.maximum(jnp.sum(valid).astype(A.dtype), 1)
    mean = jnp.sum(c, axis=(0, 1)) / pixels
    c = jnp.where(valid[..., None], c - mean[None, None], 0)
    d = None if difference is None else jnp.matmul(difference, basis, precision="highest")
    V, _, _, pairs = error_directions(c, valid, None if d is None else semivariance(d, valid, 1)[0])
    # v^T G(1) v = 1, so that V^-1 (V^-1)^T is G(1) in these directions.
    inverse = lapack.inverse(V)
    varies = (pairs >= FEWEST) & jnp.all(jnp.isfinite(V)) & jnp.all(jnp.isfinite(inverse)) & jnp.any(c != 0)
    eye = jnp.eye(c.shape[2], dtype=A.dtype)
    V, inverse = jnp.where(varies, V, eye), jnp.where(varies, inverse, eye)
    u = jnp.moveaxis(jnp.matmul(c, V, precision="highest"), -1, 0)
    h = None if d is None else jnp.moveaxis(jnp.matmul(d, V, precision="highest"), -1, 0)
    seen = map_statistics.statistics(u, valid, jnp.sum(jnp.square(inverse), axis=1), h)
    return seen, jnp.matmul(basis, V), jnp.matmul(inverse, basis.T), varies


def assemble(
    weights: SpatialWeights, seen: jax.Array, directions: jax.Array, back: jax.Array, varies: jax.Array
) -> LearnedSmoother:
    """Return the prior of directions (R, R - 1) with statistics `seen` (R - 1, S); strength 0 unless it `varies`."""
    hidden = jnp.tanh(jnp.matmul(seen, weights.first, precision="highest") + weights.bias[None])
    out = jnp.matmul(hidden, weights.second, precision="highest") + weights.shift[None]
    share = jnp.clip(seen[:, map_statistics.SHARE], 0, MOST)
    strength = jax.nn.softplus(out[:, :FILTERS]) * (share / (1 - share))[:, None]
    scale = jnp.exp(2 * jnp.tanh(out[:, FILTERS] / 2))
    w = weights.filters - jnp.mean(weights.filters, axis=(0, 1), keepdims=True)
    w = w / jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(w), axis=(0, 1), keepdims=True), 1e-12))
    bound = curvature_bound(w, strength)
    strength = strength * jnp.minimum(1, STEEPEST / jnp.maximum(bound, STEEPEST / 2))[:, None]
    strength = jnp.where(varies, strength, 0)
    return LearnedSmoother(directions / scale[None], back * scale[:, None], strength, w, jnp.exp(weights.log_delta))


def curvature_bound(filters: jax.Array, strength: jax.Array) -> jax.Array:
    """Return L (D,) of filters (K, K, F) and strengths (D, F)."""
    symbol = jnp.fft.fft2(filters, s=(_POINTS, _POINTS), axes=(0, 1))
    power = (jnp.square(jnp.real(symbol)) + jnp.square(jnp.imag(symbol))).reshape(-1, filters.shape[-1])
    between = np.cos(np.pi * (filters.shape[0] - 1) / _POINTS) * np.cos(np.pi * (filters.shape[1] - 1) / _POINTS)
    return jnp.max(jnp.matmul(strength, power.T, precision="highest"), axis=1) / float(between)


@jax.jit
def smoothed(A: jax.Array, valid: jax.Array, prior: LearnedSmoother) -> jax.Array:
    """Return smoothed and projected maps; arguments checked already."""
    moved = project_simplex(A + correction(A, valid, prior))
    return jnp.where(valid[..., None], jnp.where(jnp.any(prior.strength > 0), moved, A), 0)


def correction(
    A: jax.Array, valid: jax.Array, prior: LearnedSmoother, solver: Solver = SOLVER, adjoint: Adjoint = ADJOINT
) -> jax.Array:
    """Return the change of the maps (H, W, R) before the projection."""
    theta = terms(A, valid, prior)
    x, _ = fixed_point(descend, solver, adjoint, theta, jnp.zeros((*theta[0].shape[:3], 1), A.dtype))
    return jnp.matmul(jnp.moveaxis(x[..., 0], 0, -1), prior.back, precision="highest")


def terms(A: jax.Array, valid: jax.Array, prior: LearnedSmoother) -> tuple[jax.Array, ...]:
    """Return what `descend` needs of maps and their prior, computed once."""
    u = jnp.moveaxis(jnp.matmul(A, prior.directions, precision="highest"), -1, 0)[..., None]
    windows = valid_windows(valid.astype(A.dtype)[..., None], prior.filters[:, :, None, :])
    drive = _filtered(jnp.where(valid[None, ..., None], u, 0), prior.filters)
    step = lax.stop_gradient(2 / (2 + curvature_bound(prior.filters, prior.strength)))  # the answer has none of it
    return drive, windows, step, prior.strength, prior.filters, prior.bend


def descend(theta: tuple[jax.Array, ...], x: jax.Array) -> jax.Array:
    """Return the change x = u - u_0 (D, H, W, 1) after a gradient step.

    `theta`: w * u_0 (D, H, W, F), valid windows (H, W, F), steps (D,), strength, filters, bend.
    """
    drive, windows, step, strength, filters, bend = theta
    t = drive + _filtered(x, filters)
    force = t / jnp.sqrt(1 + jnp.square(t / bend[None, None, None])) * strength[:, None, None] * windows[None]
    pulled = jax.vmap(transpose, (0, None))(force, filters[:, :, None, :])
    return x - step[:, None, None, None] * (x + pulled)


def _filtered(u: jax.Array, filters: jax.Array) -> jax.Array:
    """Return w_f * u_d, (D, H, W, F)."""
    return jax.vmap(convolve, (0, None))(u, filters[:, :, None, :])
