"""Unmix by spectra that are known: one compiled function for every method, with its measured error.

    fcls        min |y - a E|^2                                       a >= 0, sum a = 1, s = 1
    nnls        min |y - x E|^2                                       x >= 0, a = x / s, s = sum x
    scaled      min |y - x U|^2, u_r = e_r / max(e_r)                 as nnls
    soft        min |y - x E|^2 + (w n)^2 (sum x - 1)^2               as nnls, n the RMS norm of the scene's pixels
    sunsal      min |y - x E|^2 / 2 + l sum x                         as nnls
    sunsal-tv   min |Y - X E|^2 / 2 + l sum X + v TV(X)               as nnls
    nascimento, fan, gbm, ppnm, mlm, khype, skhype    mixing that is not linear: `nonlinear_inversion`, `kernel`
    mesma       as fcls, by one spectrum of each of few classes       `multiple.mesma`

l and v are given relative to n m, m the mean norm of the spectra: they have no unit.
"""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dequnmix_jax.abundances.least_squares import fcls, nnls, with_sum_band
from dequnmix_jax.abundances.methods import KEPT, NORMALISED, Known, Mesma
from dequnmix_jax.abundances.multiple import best_models
from dequnmix_jax.abundances.nonlinear_known import unmix_nonlinear
from dequnmix_jax.abundances.sparse import Admm, sunsal, sunsal_tv
from dequnmix_jax.mixing import (
    linear_mix,
    normalise_abundances,
    project_cone,
    project_simplex,
    scale_to_unit_maximum,
)
from dequnmix_jax.ops.guards import positive, row_lengths
from dequnmix_jax.types import Trace

OPTIMAL = 1e-3
"""Largest relative change of the maps by a further step at which a solution counts as optimal."""


_ADMM = Admm(max_steps=4000)


class Unmixed(NamedTuple):
    """Maps of a scene or of a part of it.

    Attributes:
        abundances: (H, W, R), a; summing to one, 0 in masked pixels.
        brightness: (H, W), s; 0 in masked pixels.
        coefficients: (H, W, R), x = s a in the terms of the method.
        change: (H, W), RMS over spectra of f(x) - x, f one step of projected gradients: 0 at the optimum.
        size: (H, W), mean square over spectra of x.
        trace: steps of an iterative method, RMS of change / RMS of x over the pixels, and whether that is small.
        error: (H, W), RMS of what a nonlinear method leaves unexplained; None: that of s a E.
    """

    abundances: jax.Array
    brightness: jax.Array
    coefficients: jax.Array
    change: jax.Array
    size: jax.Array
    trace: Trace
    error: jax.Array | None = None


@partial(jax.jit, static_argnums=4)
def unmix_known(cube: jax.Array, endmembers: jax.Array, mask: jax.Array, norm: jax.Array, known: Known) -> Unmixed:
    """Unmix a scene, or a part of one, by known spectra.

    Args:
        cube: (H, W, B), 0 where masked.
        endmembers: (R, B), in the units of the cube; of any level for "scaled".
        mask: (H, W) bool, True where the pixel is valid.
        norm: n, the RMS over the valid pixels of the whole scene of |y|.
        known: the method.
    """
    if known.normalised:
        return _normalised(cube, endmembers, mask, known)
    if isinstance(known, Mesma):
        return _by_models(cube, endmembers, mask, known)
    if known.nonlinear:
        return _not_linear(cube, endmembers, mask, known)
    E, Y = endmembers, cube
    steps, weight, variation = jnp.zeros((), jnp.int32), jnp.zeros((), Y.dtype), jnp.zeros((), Y.dtype)
    reached: jax.Array | bool = True
    if known.method == "scaled":
        E = scale_to_unit_maximum(E)
    elif known.method == "soft":
        Y, E = with_sum_band(Y, E, known.slack * norm)
    if known.method.startswith("sunsal"):
        unit = norm * jnp.mean(row_lengths(E))
        weight, variation = known.sparsity * unit, known.variation * unit
        found, trace = (
            sunsal(Y, E, weight, mask=mask, solver=_ADMM)
            if known.method == "sunsal"
            else sunsal_tv(Y, E, weight, variation, mask=mask, solver=_ADMM)
        )
        x = jnp.where(mask[..., None], project_cone(found), 0)
        steps, reached = trace.steps, trace.converged
    else:
        x = fcls(Y, E, mask=mask) if known.method == "fcls" else nnls(Y, E, mask=mask)
    if known.method == "fcls":
        abundances, brightness = x, mask.astype(x.dtype)
    else:
        abundances, brightness = normalise_abundances(x, mask)
    size = jnp.mean(jnp.square(x), axis=-1)
    if known.method == "sunsal-tv":  # its pixels are coupled: the error is that of its own iteration
        change = jnp.where(mask, trace.residual * jnp.sqrt(size), 0)
        residual = trace.residual
    else:
        change = jnp.where(mask, _change(Y, E, x, weight, known.method == "fcls"), 0)
        residual = jnp.sqrt(jnp.sum(jnp.square(change)) / positive(jnp.sum(size)))
        reached = reached & (residual <= OPTIMAL)
    return Unmixed(abundances, brightness, x, change, size, Trace(steps, residual, jnp.asarray(reached)))


def _normalised(cube: jax.Array, endmembers: jax.Array, mask: jax.Array, known: Known) -> Unmixed:
    """Return the maps by pixels and spectra that are divided by their brightness, the mean over the bands.

    y / m(y) = sum_r b_r e_r / m(e_r) with sum_r b_r = 1 wherever y = s a E, because the mean m is linear;
    x_r = m(y) b_r / m(e_r) are the coefficients of the spectra at their level. Wu, Normalized spectral mixture analysis
    for monitoring urban composition using ETM+ imagery, Remote Sensing of Environment 93(4), 2004.
    """
    root = endmembers.shape[1] ** 0.5
    levels = jnp.maximum(jnp.mean(endmembers, axis=-1, keepdims=True), 0)  # (R, 1)
    lights = jnp.maximum(jnp.mean(cube, axis=-1, keepdims=True), 0)  # (H, W, 1)
    Y, E = cube / positive(lights), endmembers / positive(levels)
    found = unmix_known(Y, E, mask, jnp.asarray(root, Y.dtype), replace(known, normalised=False))
    x = found.coefficients * lights / positive(levels)[None, None, :, 0]
    abundances, brightness = normalise_abundances(x, mask)
    none = jnp.sum(found.abundances, axis=-1, keepdims=True) == 0  # discarded by mesma: no fractions, and not 1 / R
    return found._replace(abundances=jnp.where(none, 0, abundances), brightness=brightness, coefficients=x)


def _not_linear(cube: jax.Array, endmembers: jax.Array, mask: jax.Array, known: Known) -> Unmixed:
    """Return the maps of a nonlinear method, whose brightness is 1."""
    a, error, change = unmix_nonlinear(cube, endmembers, mask, known.method)
    size = jnp.mean(jnp.square(a), axis=-1)
    residual = jnp.sqrt(jnp.sum(jnp.square(change)) / positive(jnp.sum(size)))
    trace = Trace(jnp.zeros((), jnp.int32), residual, residual <= OPTIMAL)
    return Unmixed(a, mask.astype(a.dtype), a, change, size, trace, error)


def _by_models(cube: jax.Array, endmembers: jax.Array, mask: jax.Array, rules: Mesma) -> Unmixed:
    """Return the maps of the models that `mesma` chooses; with shade kept, its spectrum is the last."""
    found = best_models(cube, endmembers, mask, rules)
    x = found.coefficients
    if rules.shade == KEPT:
        x = jnp.concatenate([x, found.shade[..., None]], axis=-1)
    abundances, brightness = x, mask.astype(x.dtype)
    if rules.shade == NORMALISED:
        abundances, brightness = normalise_abundances(x, mask)
        none = (found.classes == 0)[..., None]  # discarded: no fractions, and not 1 / R
        abundances = jnp.where(none, 0, abundances)
    size = jnp.mean(jnp.square(x), axis=-1)
    residual = jnp.sqrt(jnp.sum(jnp.square(found.change)) / positive(jnp.sum(size)))
    trace = Trace(jnp.zeros((), jnp.int32), residual, residual <= OPTIMAL)
    return Unmixed(abundances, brightness, x, found.change, size, trace)


def _change(Y: jax.Array, E: jax.Array, x: jax.Array, weight: jax.Array, sum_to_one: bool) -> jax.Array:
    """Return the RMS over spectra of P(x - g / L) - x, g the gradient and L its constant, (H, W)."""
    if sum_to_one:  # the gradient is determined up to a constant, which the projection removes
        m = jnp.mean(E, axis=0)
        Y, E = Y - m[None, None, :], E - m[None, :]
    L = positive(jnp.linalg.norm(jnp.matmul(E, E.T, precision="highest")))
    rest = linear_mix(x, E) - Y
    g = jnp.matmul(rest, E.T, precision="highest") + weight
    moved = x - g / L
    moved = project_simplex(moved) if sum_to_one else project_cone(moved)
    return jnp.sqrt(jnp.mean(jnp.square(moved - x), axis=-1))
