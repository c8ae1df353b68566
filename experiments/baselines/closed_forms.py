"""The trivial competitors: the start's spectra, and the abundances that follow from them in closed form.

    VCA + FCLS          min |y - a E|^2 over a >= 0, sum a = 1
    VCA + scaled NNLS   min |y - x E'|^2 over x >= 0, E' at maximum one; a = x / sum x
    purified + ...      the same, after each spectrum is replaced by the mean of its purest 3 % of pixels (`dq.purify`)
    dq.start            what `dequnmix_jax.start` chooses of sixteen such answers without the truth, VCA's not alone
    dq.start, smoothed  the same after `dequnmix_jax.smooth`, whose strength the maps themselves say

Nascimento and Bioucas-Dias, Vertex component analysis, IEEE TGRS 43(4), 2005; Heinz and Chang, Fully constrained least
squares, IEEE TGRS 39(3), 2001. Nothing was guessed: all are solved exactly, by `dequnmix_jax.classical`.
"""

import jax
import jax.numpy as jnp

import dequnmix_jax as dq
from experiments.baselines import Found, Method


def _fcls(key: jax.Array, cube: jax.Array, start: jax.Array) -> Found:
    return Found(dq.abundances.fcls(cube, start), start)


def _scaled(key: jax.Array, cube: jax.Array, start: jax.Array) -> Found:
    return Found(dq.abundances.scaled_nnls(cube, start)[0], start)


def _purified(key: jax.Array, cube: jax.Array, start: jax.Array) -> Found:
    return _fcls(key, cube, jnp.maximum(dq.endmembers.purify(cube, start, dq.abundances.fcls(cube, start)), 0))


def _purified_scaled(key: jax.Array, cube: jax.Array, start: jax.Array) -> Found:
    return _scaled(
        key, cube, jnp.maximum(dq.endmembers.purify(cube, start, dq.abundances.scaled_nnls(cube, start)[0]), 0)
    )


def _start(key: jax.Array, cube: jax.Array, start: jax.Array) -> Found:
    found = dq.endmembers.start(key, cube, start.shape[0])  # looks for endmembers itself
    return Found(found.abundances, found.endmembers, found.scaled, found.scaled | found.soft)


def _smoothed(key: jax.Array, cube: jax.Array, start: jax.Array) -> Found:
    found = _start(key, cube, start)
    return found._replace(abundances=dq.abundances.smooth(found.abundances))


VCA_FCLS = Method("VCA + FCLS", _fcls)
VCA_SCALED = Method("VCA + scaled NNLS", _scaled, scaled=True)
PURIFIED_FCLS = Method("purified + FCLS", _purified)
PURIFIED_SCALED = Method("purified + scaled NNLS", _purified_scaled, scaled=True)
FOUR = (VCA_FCLS, VCA_SCALED, PURIFIED_FCLS, PURIFIED_SCALED)
START = Method("dq.start", _start)
SMOOTHED = Method("dq.start, smoothed", _smoothed)
