"""The trivial competitors: VCA's spectra as they are, and the abundances that follow from them in closed form.

    VCA + FCLS          min |y - a E|^2 over a >= 0, sum a = 1
    VCA + scaled NNLS   min |y - x E'|^2 over x >= 0, E' at maximum one; a = x / sum x

Nascimento and Bioucas-Dias, Vertex component analysis, IEEE TGRS 43(4), 2005; Heinz and Chang, Fully constrained least
squares, IEEE TGRS 39(3), 2001. Nothing was guessed: both are solved exactly, by `dequnmix_jax.classical`.
"""

import jax

import dequnmix_jax as dq
from experiments.baselines import Found, Method


def _fcls(key: jax.Array, cube: jax.Array, start: jax.Array) -> Found:
    return Found(dq.fcls(cube, start), start)


def _scaled(key: jax.Array, cube: jax.Array, start: jax.Array) -> Found:
    return Found(dq.scaled_nnls(cube, start)[0], start)


VCA_FCLS = Method("VCA + FCLS", _fcls)
VCA_SCALED = Method("VCA + scaled NNLS", _scaled, scaled=True)
