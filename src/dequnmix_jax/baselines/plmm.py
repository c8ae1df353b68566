r"""PLMM, the perturbed linear mixing model: y_n = a_n (E + dE_n), with small additive changes of each spectrum.

    min over A, E, dE of   1/2 sum over n of |y_n - a_n (E + dE_n)|^2 + alpha / 2 |grad A|^2
                           + beta / 2 sum over i < j of |e_i - e_j|^2 + gamma / 2 sum |dE_n|^2
    a_n on the simplex, E >= 0, E + dE_n >= 0

from VCA, FCLS and dE = 0, block by block, each exactly:

    dE_n   a^T (y - a E) / (gamma + |a|^2), clipped at -E
    A      FCLS of each pixel with its own spectra; |grad A|^2 by its paraboloid at the A of the step before
    E      (A^T A + beta (R I - 1 1^T)) E = sum a_n^T (y_n - a_n dE_n), clipped at 0

so that the objective falls, but for the clipping of E.

Thouvenin, Dobigeon and Tourneret, Hyperspectral unmixing with spectral variability using a perturbed linear mixing
model, IEEE Transactions on Signal Processing 64(2), 2016. From the authors' demo: gamma = 0.1, alpha and beta such that
at the start their terms have 10 % of the misfit, 1e-4, 100 steps. Guessed: exact blocks in place of 100 steps of the
alternating direction method each (penalties 100 and 0.1 there); the mutual distance of their three penalties on E; the
image is a torus.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dequnmix_jax.abundances.admm import differences, differences_adjoint
from dequnmix_jax.abundances.least_squares import fcls
from dequnmix_jax.abundances.simplex_steps import simplex_step
from dequnmix_jax.baselines.method import Method, MethodResult
from dequnmix_jax.ops import lapack
from dequnmix_jax.ops.guards import nonzero

_CURVATURE = 8.0
"""Largest eigenvalue of D^T D, D the differences on a torus."""


@dataclass(frozen=True)
class Settings:
    """Weights and steps; see the module."""

    perturbation: float = 0.1
    share: float = 0.1
    steps: int = 100
    tolerance: float = 1e-4


class State(NamedTuple):
    """A (H, W, R), E (R, B) and dE (H, W, R, B)."""

    abundances: jax.Array
    endmembers: jax.Array
    changes: jax.Array


class Weights(NamedTuple):
    """alpha, beta, gamma."""

    smoothness: jax.Array
    distance: jax.Array
    perturbation: jax.Array


def terms(cube: jax.Array, state: State) -> tuple[jax.Array, ...]:
    """Return misfit, |grad A|^2, sum of squared distances of the endmembers, and |dE|^2, each without weight."""
    A, E, dE = state
    rest = cube - jnp.matmul(A, E, precision="highest") - jnp.einsum("hwr,hwrb->hwb", A, dE, precision="highest")
    apart = E.shape[0] * jnp.sum(E * E) - jnp.sum(jnp.square(jnp.sum(E, axis=0)))
    return jnp.sum(rest * rest), jnp.sum(jnp.square(differences(A))), apart, jnp.sum(dE * dE)


def objective(cube: jax.Array, state: State, weights: Weights) -> jax.Array:
    """Return the objective of the module."""
    misfit, *priors = terms(cube, state)
    return 0.5 * (misfit + sum(w * each for w, each in zip(weights, priors, strict=True)))


def perturbations(cube: jax.Array, state: State, gamma: jax.Array) -> jax.Array:
    """Return dE (H, W, R, B) at A and E."""
    A, E, _ = state
    rest = cube - jnp.matmul(A, E, precision="highest")
    share = A / (gamma + jnp.sum(A * A, axis=-1, keepdims=True))
    return jnp.maximum(share[..., None] * rest[:, :, None], -E[None, None])


def abundances(cube: jax.Array, state: State, alpha: jax.Array) -> jax.Array:
    """Return A (H, W, R) at E and dE."""
    A, E, dE = state
    R, B = E.shape
    root = jnp.sqrt(_CURVATURE * alpha)
    pull = -differences_adjoint(differences(A)) * (root / _CURVATURE)
    rest = cube - jnp.einsum("hwr,hwrb->hwb", A, E[None, None] + dE, precision="highest")
    rows = (E[None, None] + dE).reshape(-1, R, B)
    held = jnp.broadcast_to(root * jnp.eye(R, dtype=E.dtype), (rows.shape[0], R, R))
    J = jnp.concatenate([rows, held], axis=2)
    left = jnp.concatenate([rest, pull], axis=2).reshape(-1, B + R)
    return simplex_step(J, A.reshape(-1, R), left).reshape(A.shape)


def endmembers(cube: jax.Array, state: State, beta: jax.Array) -> jax.Array:
    """Return E (R, B) at A and dE."""
    A, E, dE = state
    R = E.shape[0]
    left = cube - jnp.einsum("hwr,hwrb->hwb", A, dE, precision="highest")
    flat = A.reshape(-1, R)
    spread = R * jnp.eye(R, dtype=E.dtype) - 1.0
    G = jnp.matmul(flat.T, flat, precision="highest")
    G = G + beta * spread + 1e-6 * jnp.trace(G) * jnp.eye(R, dtype=E.dtype)
    right = jnp.matmul(flat.T, left.reshape(-1, E.shape[1]), precision="highest")
    return jnp.maximum(jnp.matmul(lapack.inverse(G), right, precision="highest"), 0)


def weigh(cube: jax.Array, state: State, settings: Settings) -> Weights:
    """Return the weights: at the start the terms of A and of E have a share of the misfit."""
    misfit, rough, apart, _ = terms(cube, state)
    gamma = jnp.asarray(settings.perturbation, cube.dtype)
    return Weights(settings.share * misfit / nonzero(rough), settings.share * misfit / nonzero(apart), gamma)


def step(cube: jax.Array, state: State, weights: Weights) -> State:
    """Return the state after one round of the blocks."""
    state = state._replace(changes=perturbations(cube, state, weights.perturbation))
    state = state._replace(abundances=abundances(cube, state, weights.smoothness))
    return state._replace(endmembers=endmembers(cube, state, weights.distance))


def begin(cube: jax.Array, start: jax.Array) -> State:
    """Return FCLS at the initial spectra, unchanged."""
    A = fcls(cube, start)
    return State(A, start, jnp.zeros((*A.shape, start.shape[1]), start.dtype) + A[..., None] * 0)


def plmm(settings: Settings | None = None) -> Method:
    """Return the method."""
    return Method("PLMM", partial(_unmix, settings or Settings()))


def _unmix(settings: Settings, key: jax.Array, cube: jax.Array, start: jax.Array) -> MethodResult:
    first = begin(cube, start)
    weights = weigh(cube, first, settings)

    def unfinished(carry: tuple) -> jax.Array:
        return (carry[2] < settings.steps) & (carry[1] > settings.tolerance)

    def advance(carry: tuple) -> tuple:
        now, _, number = carry
        new = step(cube, now, weights)
        pairs = zip(new[:2], now[:2], strict=True)
        sizes = [jnp.sum(jnp.square(x - y)) / nonzero(jnp.sum(jnp.square(y))) for x, y in pairs]
        return new, jnp.sqrt(jnp.maximum(*sizes)), number + 1

    state = lax.while_loop(unfinished, advance, (first, start[0, 0] * 0 + jnp.inf, jnp.int32(0)))[0]
    return MethodResult(state.abundances, state.endmembers)
