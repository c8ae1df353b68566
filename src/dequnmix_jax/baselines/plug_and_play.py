"""Plug-and-play unmixing: ADMM whose proximal step is a denoiser of abundance maps.

    a <- argmin over a >= 0, sum a = 1 of |y - a E|^2 / 2 + rho |a - (z - u)|^2 / 2        each pixel, exactly
    z <- D(a + u; sigma),  sigma = (lambda / rho)^(1/2)                                     each map
    u <- u + a - z,  rho <- growth rho

Zhao, Wang, Chen and Chen, A plug-and-play priors framework for hyperspectral unmixing, IEEE TGRS 60, 2022
(arXiv 2012.13074), in the form that denoises abundances. The endmembers are VCA's and fixed. Constants of the authors'
script (`PAPER`): lambda 2e-4, rho 10, growth 1.1, 40 iterations, for cubes of maximum one. sigma is then 0.0045 and
falls to 0.0007: far below the error of an abundance map, so that a denoiser for this level changes nothing
(`experiments.comparison.plug_and_play_noise`).

The script uses rho times a matrix of ones instead of rho I, which under sum a = 1 is a constant: that is FCLS. Here it
is as in the paper. Guessed: the rule `ESTIMATED` for the noise, which is not in the paper. The noise of a pixel,
`noise.simplex_noise`, needs no reference; lambda is its mean variance v over the bands, as in the maximum a posteriori
estimate, and rho = v / s^2, where s^2 is the mean variance that this noise causes in the least-squares abundances, so
that sigma = s: the denoiser gets the estimated noise level, which is constant (growth 1).
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax

from dequnmix_jax.abundances.least_squares import fcls
from dequnmix_jax.baselines.method import Method, MethodResult
from dequnmix_jax.endmembers import noise

Denoiser = Callable[[jax.Array, jax.Array], jax.Array]
"""(maps (H, W, R), sigma ()) -> maps (H, W, R)."""


@dataclass(frozen=True)
class Penalty:
    """Constants of the iteration; `weight` None: the noise is estimated from the cube, and rho follows from it."""

    weight: float | None = 2e-4
    rho: float = 10.0
    growth: float = 1.1
    iterations: int = 40


PAPER = Penalty()
ESTIMATED = Penalty(weight=None, growth=1.0)


def abundance_noise(cube: jax.Array, endmembers: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return (v, s): the mean variance of the noise over bands, and the standard deviation it causes in the abundances.

    Under sum a = 1 the least-squares abundances are 1/R + (y - m) P, m the mean endmember and P the pseudoinverse of
    E - m, so that noise of covariance N causes the covariance P^T N P in them; s^2 is the mean of its diagonal.
    """
    variance = noise.simplex_noise(cube, endmembers.shape[0])
    P = jnp.linalg.pinv(endmembers - jnp.mean(endmembers, axis=0, keepdims=True))
    return jnp.mean(variance), jnp.sqrt(jnp.mean(jnp.sum(jnp.square(P) * variance[:, None], axis=0)))


_Carry = tuple[jax.Array, jax.Array, jax.Array, jax.Array]
"""a, z, u and rho."""


def constants(cube: jax.Array, endmembers: jax.Array, penalty: Penalty) -> tuple[jax.Array, jax.Array]:
    """Return lambda and the first rho."""
    if penalty.weight is not None:
        return jnp.asarray(penalty.weight, cube.dtype), jnp.asarray(penalty.rho, cube.dtype)
    v, s = abundance_noise(cube, endmembers)
    return v, v / jnp.maximum(jnp.square(s), jnp.finfo(cube.dtype).tiny)


def constrained_step(cube: jax.Array, endmembers: jax.Array, target: jax.Array, rho: jax.Array) -> jax.Array:
    """Return argmin over the simplex of |y - a E|^2 + rho |a - target|^2: FCLS with R additional bands."""
    root = jnp.sqrt(rho)
    wider = jnp.concatenate([endmembers, root * jnp.eye(endmembers.shape[0], dtype=cube.dtype)], axis=1)
    return fcls(jnp.concatenate([cube, root * target], axis=-1), wider)


def plug_and_play(name: str, denoise: Denoiser, penalty: Penalty = PAPER, *, pure: bool = True) -> Method:
    """Return the method with a denoiser; `pure` if that is JAX throughout (the iteration is then one scan).

    The estimate is the last a, which obeys the constraints.
    """

    def estimate(key: jax.Array, cube: jax.Array, start: jax.Array) -> MethodResult:
        peak = jnp.max(jnp.abs(cube))
        Y, E = cube / peak, start / peak
        weight, rho = constants(Y, E, penalty)

        def step(carry: _Carry, _nothing: None) -> tuple[_Carry, None]:
            _, z, u, rho = carry
            a = first(Y, E, z - u, rho)
            z = denoise(a + u, jnp.sqrt(weight / rho))
            return (a, z, u + a - z, rho * penalty.growth), None

        first = constrained_step if pure else jax.jit(constrained_step)
        z = fcls(Y, E)
        carry = (z, z, jnp.zeros_like(z), rho)
        if pure:
            carry, _ = lax.scan(step, carry, None, length=penalty.iterations)
        else:
            for _i in range(penalty.iterations):
                carry, _ = step(carry, None)
        return MethodResult(carry[0], start)

    return Method(name, estimate, pure=pure)
