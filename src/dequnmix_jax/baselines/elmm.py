r"""ELMM, the extended linear mixing model: in each pixel every endmember has a brightness of its own.

    min over S_n, A, psi of   1/2 sum over n of (|y_n - a_n S_n|^2 + l_S |S_n - diag(psi_n) E|^2)
                              + l_A TV(A) + l_psi / 2 |grad psi|^2,   S, psi >= 0, a_n on the simplex

with E the initial spectra, in turns, each solved by what it is:

    S_n   (a a^T + l_S I)^-1 (a^T y + l_S diag(psi) E), clipped at 1e-6; the inverse of rank one in closed form
    A     the alternating direction method: a copy on the simplex, one on the image, one of its differences
    psi   (l_S |e|^2 + l_psi D^T D) psi = l_S <e, s_n>, a division of Fourier coefficients, clipped at 0

from FCLS and psi = 1, until S, A and psi change by less than 1e-3, at most 100 turns. Equal psi of all endmembers of a
pixel are the scaled mixing of this library.

Drumetz, Veganzones, Henrot, Phlypo, Chanussot and Jutten, Blind hyperspectral unmixing using an extended linear mixing
model to address spectral variability, IEEE TIP 25(8), 2016. From the public variability toolbox: l_S = 1, l_A = 0.05,
l_psi = 0.01, at most 100 inner steps to 1e-2, a penalty of 10 that is doubled or halved where one residual is ten times
the other. Guessed: TV sums absolute differences of each map; the image is a torus, in psi and in A.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dequnmix_jax.abundances.admm import differences, differences_adjoint, shrink, smooth
from dequnmix_jax.abundances.least_squares import fcls
from dequnmix_jax.baselines.method import Method, MethodResult
from dequnmix_jax.mixing import project_simplex
from dequnmix_jax.ops import small_systems
from dequnmix_jax.ops.guards import nonzero

_LEAST = 1e-6
_BALANCE, _FACTOR = 10.0, 2.0


@dataclass(frozen=True)
class Settings:
    """Weights and steps; see the module."""

    spectra: float = 1.0
    variation: float = 0.05
    smoothness: float = 0.01
    turns: int = 100
    tolerance: float = 1e-3
    steps: int = 100
    inner: float = 1e-2
    penalty: float = 10.0


class State(NamedTuple):
    """S (H, W, R, B), A (H, W, R) and psi (H, W, R)."""

    spectra: jax.Array
    abundances: jax.Array
    scales: jax.Array


def pixel_spectra(cube: jax.Array, E: jax.Array, state: State, weight: float) -> jax.Array:
    """Return the S_n, (H, W, R, B), that minimise the objective at A and psi, clipped."""
    a = state.abundances
    right = a[..., None] * cube[:, :, None] + weight * state.scales[..., None] * E[None, None]
    along = jnp.einsum("hwr,hwrb->hwb", a, right, precision="highest")
    share = a / (weight + jnp.sum(a * a, axis=-1, keepdims=True))
    return jnp.maximum((right - share[..., None] * along[:, :, None]) / weight, _LEAST)


def scales(E: jax.Array, S: jax.Array, weight: float, smoothness: float) -> jax.Array:
    """Return psi, (H, W, R), that minimises the objective at S, clipped at 0."""
    H, W = S.shape[:2]
    turn = lambda n: 2.0 - 2.0 * jnp.cos(2.0 * jnp.pi * jnp.arange(n, dtype=S.dtype) / n)  # noqa: E731
    waves = (turn(H)[:, None] + turn(W)[None, : W // 2 + 1])[..., None]
    right = weight * jnp.einsum("hwrb,rb->hwr", S, E, precision="highest")
    below = weight * jnp.sum(E * E, axis=1)[None, None] + smoothness * waves
    found = jnp.fft.rfft2(right, axes=(0, 1))
    found = found * (1 / nonzero(below)).astype(found.dtype)
    return jnp.maximum(jnp.fft.irfft2(found, s=(H, W), axes=(0, 1)), 0)


def abundances(cube: jax.Array, S: jax.Array, start: jax.Array, settings: Settings) -> jax.Array:
    """Return A, (H, W, R), near the minimiser of |y - a S_n|^2 / 2 + l_A TV(A) on the simplex."""
    G = jnp.einsum("hwrb,hwsb->rshw", S, S, precision="highest").reshape(S.shape[2], S.shape[2], -1)
    c = jnp.einsum("hwrb,hwb->hwr", S, cube, precision="highest")
    eye = jnp.eye(S.shape[2], dtype=S.dtype)[:, :, None]

    def step(carry: tuple) -> tuple:
        (U, W, V), (du, dw, dv), mu, number, _ = carry
        right = c + mu * (U + du + W + dw)
        X = small_systems.eliminate(G + 2 * mu * eye, right.reshape(-1, right.shape[-1]).T[:, None])[:, 0].T
        X = X.reshape(c.shape)
        new_U = project_simplex(X - du)
        new_W = smooth(X - dw + differences_adjoint(V + dv))
        D = differences(new_W)
        new_V = shrink(D - dv, settings.variation / mu)
        moved = (du + new_U - X, dw + new_W - X, dv + new_V - D)
        primal = _length(new_U - X, new_W - X, new_V - D) / nonzero(_length(X, new_W, new_V))
        dual = mu * _length(new_U - U, new_W - W, new_V - V) / nonzero(mu * _length(*moved))
        up, down = primal > _BALANCE * dual, dual > _BALANCE * primal
        change = jnp.where(up, _FACTOR, jnp.where(down, 1 / _FACTOR, 1.0))
        scaled = tuple(each / change for each in moved)
        return (new_U, new_W, new_V), scaled, mu * change, number + 1, jnp.maximum(primal, dual)

    def unfinished(carry: tuple) -> jax.Array:
        return (carry[3] < settings.steps) & (carry[4] > settings.inner)

    copies, zero = (start, start, differences(start)), start * 0
    duals = (zero, zero, differences(zero))
    first = (copies, duals, zero[0, 0, 0] + settings.penalty, jnp.int32(0), zero[0, 0, 0] + jnp.inf)
    return lax.while_loop(unfinished, step, first)[0][0]


def _length(*parts: jax.Array) -> jax.Array:
    return jnp.sqrt(sum((jnp.sum(part * part) for part in parts), jnp.zeros((), parts[0].dtype)))


def objective(cube: jax.Array, E: jax.Array, state: State, settings: Settings) -> jax.Array:
    """Return the objective of the module."""
    rest = cube - jnp.einsum("hwr,hwrb->hwb", state.abundances, state.spectra, precision="highest")
    away = state.spectra - state.scales[..., None] * E[None, None]
    return (
        0.5 * (jnp.sum(rest * rest) + settings.spectra * jnp.sum(away * away))
        + settings.variation * jnp.sum(jnp.abs(differences(state.abundances)))
        + 0.5 * settings.smoothness * jnp.sum(jnp.square(differences(state.scales)))
    )


def turn(cube: jax.Array, E: jax.Array, state: State, settings: Settings) -> State:
    """Return the state after S, A and psi have been found in turn."""
    S = pixel_spectra(cube, E, state, settings.spectra)
    A = abundances(cube, S, state.abundances, settings)
    return State(S, A, scales(E, S, settings.spectra, settings.smoothness))


def begin(cube: jax.Array, E: jax.Array) -> State:
    """Return FCLS, psi = 1, and S = E."""
    A = fcls(cube, E)
    return State(jnp.broadcast_to(E, (*A.shape, E.shape[1])) + A[..., None] * 0, A, jnp.ones_like(A))


def elmm(settings: Settings | None = None) -> Method:
    """Return the method; its endmembers are the mean over pixels of diag(psi_n) E."""
    return Method("ELMM", partial(_unmix, settings or Settings()), constraint="soft")


def _unmix(settings: Settings, key: jax.Array, cube: jax.Array, start: jax.Array) -> MethodResult:
    def unfinished(carry: tuple) -> jax.Array:
        return (carry[2] < settings.turns) & (carry[1] > settings.tolerance)

    def advance(carry: tuple) -> tuple:
        now, _, number = carry
        new = turn(cube, start, now, settings)
        change = jnp.stack([_length(x - y) / nonzero(_length(y)) for x, y in zip(new, now, strict=True)])
        return new, jnp.max(change), number + 1

    first = (begin(cube, start), start[0, 0] * 0 + jnp.inf, jnp.int32(0))
    state = lax.while_loop(unfinished, advance, first)[0]
    level = jnp.mean(state.scales, axis=(0, 1))
    return MethodResult(state.abundances, level[:, None] * start)
