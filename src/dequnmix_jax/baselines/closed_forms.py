"""Closed forms: the initial spectra, and the abundances that follow from them.

    VCA + FCLS          min |y - a E|^2 over a >= 0, sum a = 1
    VCA + scaled NNLS   min |y - x E'|^2 over x >= 0, E' at maximum one; a = x / sum x
    purified + ...      the same, after each spectrum is replaced by the mean of its purest 3 % of pixels (`purify`)
    select_endmembers   what `dq.endmembers.select_endmembers` chooses of sixteen such answers without the truth
    ..., smoothed       the same after `dq.abundances.smooth`, whose strength is estimated from the maps
    VCA + SUnSAL (TV)   sparse regression on the initial spectra (Iordache et al. 2012), weights of `Known`
    minimum volume      `endmembers.minimum_volume`, then FCLS (Li et al. 2015, here by maximum likelihood)
    MVC-NMF, ...        the factorisations of `endmembers.nmf`, from the initial spectra

Nascimento and Bioucas-Dias, Vertex component analysis, IEEE TGRS 43(4), 2005; Heinz and Chang, Fully constrained least
squares, IEEE TGRS 39(3), 2001. Nothing guessed: all are solved exactly, by `dq.abundances`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from dequnmix_jax.abundances.known import unmix_known
from dequnmix_jax.abundances.least_squares import fcls, scaled_nnls
from dequnmix_jax.abundances.methods import Known
from dequnmix_jax.abundances.smoothing import smooth
from dequnmix_jax.baselines.method import Method, MethodResult
from dequnmix_jax.endmembers.minimum_volume_simplex import minimum_volume
from dequnmix_jax.endmembers.nmf import l_half_nmf, mvc_nmf, sgs_nmf
from dequnmix_jax.endmembers.nmf_graph import gl_nmf
from dequnmix_jax.endmembers.nmf_quadratic import qmv_nmf
from dequnmix_jax.endmembers.pure_pixel import purify
from dequnmix_jax.endmembers.selection import select_endmembers
from dequnmix_jax.types import Descent


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


def known(name: str, words: Known) -> Method:
    """Return a method that keeps the initial spectra and finds the fractions by `abundances.unmix_known`."""

    def estimate(key: jax.Array, cube: jax.Array, start: jax.Array) -> MethodResult:
        norm = jnp.sqrt(jnp.mean(jnp.sum(jnp.square(cube), axis=-1)))
        found = unmix_known(cube, start, jnp.ones(cube.shape[:2], jnp.bool_), norm, words)
        return MethodResult(found.abundances, start)

    return Method(name, estimate, constraint="simplex" if words.sums_to_one else "soft")


def _enclosed(key: jax.Array, cube: jax.Array, start: jax.Array) -> MethodResult:
    E, _ = minimum_volume(key, cube, start.shape[0])  # finds endmembers itself
    return _fcls(key, cube, E)


def factored(name: str, factor: Callable[..., tuple[jax.Array, jax.Array, Descent]]) -> Method:
    """Return a factorisation of `endmembers.nmf`, which begins with the initial spectra."""

    def estimate(key: jax.Array, cube: jax.Array, start: jax.Array) -> MethodResult:
        E, A, _ = factor(None, cube, endmembers=start)
        return MethodResult(A, E)

    return Method(name, estimate)


VCA_FCLS = Method("VCA + FCLS", _fcls)
VCA_SCALED = Method("VCA + scaled NNLS", _scaled, constraint="cone")
PURIFIED_FCLS = Method("purified + FCLS", _purified)
PURIFIED_SCALED = Method("purified + scaled NNLS", _purified_scaled, constraint="cone")
FOUR = (VCA_FCLS, VCA_SCALED, PURIFIED_FCLS, PURIFIED_SCALED)
SUNSAL = known("VCA + SUnSAL", Known("sunsal"))
SUNSAL_TV = known("VCA + SUnSAL-TV", Known("sunsal-tv"))
SOFT = known("VCA + soft NNLS", Known("soft"))
MINIMUM_VOLUME = Method("minimum volume + FCLS", _enclosed)
QMV_NMF, GL_NMF = factored("NMF-QMV", qmv_nmf), factored("GLNMF", gl_nmf)
MVC_NMF, L_HALF_NMF, SGS_NMF = (
    factored("MVC-NMF", mvc_nmf),
    factored("L1/2-NMF", l_half_nmf),
    factored("SGSNMF", sgs_nmf),
)
SELECTED = Method("select_endmembers", _selected)
SMOOTHED = Method("select_endmembers, smoothed", _smoothed)
