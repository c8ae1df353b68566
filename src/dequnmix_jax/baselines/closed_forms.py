"""Closed forms: the initial spectra, and the abundances that follow from them.

    VCA + FCLS          min |y - a E|^2 over a >= 0, sum a = 1
    VCA + scaled NNLS   min |y - x E'|^2 over x >= 0, E' at maximum one; a = x / sum x
    purified + ...      the same, after each spectrum is replaced by the mean of its purest 3 % of pixels (`purify`)
    select_endmembers   what `dq.endmembers.select_endmembers` chooses of sixteen such answers without the truth
    ..., smoothed       the same after `dq.abundances.smooth`, whose strength is estimated from the maps

Nascimento and Bioucas-Dias, Vertex component analysis, IEEE TGRS 43(4), 2005; Heinz and Chang, Fully constrained least
squares, IEEE TGRS 39(3), 2001. Nothing guessed: all are solved exactly, by `dq.abundances`.
"""

import jax
import jax.numpy as jnp

from dequnmix_jax.abundances.least_squares import fcls, scaled_nnls
from dequnmix_jax.abundances.smoothing import smooth
from dequnmix_jax.baselines.method import Method, MethodResult
from dequnmix_jax.endmembers.pure_pixel import purify
from dequnmix_jax.endmembers.selection import select_endmembers


def _fcls(key: jax.Array, cube: jax.Array, start: jax.Array) -> MethodResult:
    return MethodResult(fcls(cube, start), start)


def _scaled(key: jax.Array, cube: jax.Array, start: jax.Array) -> MethodResult:
    return MethodResult(scaled_nnls(cube, start)[0], start)


def _purified(key: jax.Array, cube: jax.Array, start: jax.Array) -> MethodResult:
    return _fcls(key, cube, jnp.maximum(purify(cube, start, fcls(cube, start)), 0))


def _purified_scaled(key: jax.Array, cube: jax.Array, start: jax.Array) -> MethodResult:
    return _scaled(key, cube, jnp.maximum(purify(cube, start, scaled_nnls(cube, start)[0]), 0))


def _selected(key: jax.Array, cube: jax.Array, start: jax.Array) -> MethodResult:
    selection = select_endmembers(key, cube, start.shape[0])  # finds endmembers itself
    return MethodResult(selection.abundances, selection.endmembers, selection.constraint_index)


def _smoothed(key: jax.Array, cube: jax.Array, start: jax.Array) -> MethodResult:
    result = _selected(key, cube, start)
    return result._replace(abundances=smooth(result.abundances))


VCA_FCLS = Method("VCA + FCLS", _fcls)
VCA_SCALED = Method("VCA + scaled NNLS", _scaled, constraint="cone")
PURIFIED_FCLS = Method("purified + FCLS", _purified)
PURIFIED_SCALED = Method("purified + scaled NNLS", _purified_scaled, constraint="cone")
FOUR = (VCA_FCLS, VCA_SCALED, PURIFIED_FCLS, PURIFIED_SCALED)
SELECTED = Method("select_endmembers", _selected)
SMOOTHED = Method("select_endmembers, smoothed", _smoothed)
