"""How sure fractions are: their standard deviation by the noise of the pixels, in closed form on the support."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dequnmix_jax.abundances.least_squares import with_sum_band
from dequnmix_jax.abundances.methods import Known
from dequnmix_jax.mixing import gram, linear_mix, scale_to_unit_maximum
from dequnmix_jax.ops import lapack, small_systems
from dequnmix_jax.ops.guards import nonzero, positive, row_lengths

_BLOCK = 2**20
"""Numbers of a block of pixels, R^2 a pixel."""


class Deviations(NamedTuple):
    """Standard deviations of fractions.

    Attributes:
        abundances: (H, W, R).
        classes: (H, W, K), of sums of fractions, whose errors are correlated.
    """

    abundances: jax.Array
    classes: jax.Array


@partial(jax.jit, static_argnames=("known", "by_residual"))
def deviations(
    coefficients: jax.Array,
    cube: jax.Array,
    endmembers: jax.Array,
    mask: jax.Array,
    norm: jax.Array,
    variances: jax.Array,
    members: jax.Array,
    known: Known,
    by_residual: bool,
) -> Deviations:
    r"""Return the standard deviations of fractions by noise in the pixels, on the support of the solution.

    Where the support S of a solution does not change it is linear in the pixel: x_S = K E_S y, with the Gram matrix
    M = E_S E_S^T and

        K = M^{-1}                                              on the cone
        K = M^{-1} - M^{-1} 1 1^T M^{-1} / (1^T M^{-1} 1)       with sum x = 1

    so that noise of covariance N = diag(v) gives cov x_S = K E_S N E_S^T K. Fractions a = x / s have the covariance
    J cov x J^T with J = (I - a 1^T) / s, and sums of classes P cov a P^T. A fraction that is zero has the deviation 0:
    the bound holds it, and larger noise than that of the pixel would release it.

    The noise is taken as independent between bands, and the spectra as those of the pixel. On generated scenes of
    four materials (`datasets.generator`, 40 x 40 x 60, three of each family) the 90 % interval holds the true
    fraction, where it is above zero, in 85 to 92 % of the pixels under white noise; in 52 % (67 % by the residual)
    where noise is correlated between bands; and in 10 to 50 % where spectra vary or mix nonlinearly: there the error
    of the model is larger than that by noise. The covariance of `scene_errors` counts it (`experiments.comparison.
    coverage`).

    Args:
        coefficients: (H, W, R), x of `unmix_known`.
        cube, endmembers, mask, norm, known: as `unmix_known`; not "sunsal-tv", whose pixels are coupled. The
            spectra that "mesma" chooses are taken as certain.
        variances: of the noise, squared units of the cube: v (B,), of each band; (H, W, B), of each pixel and band; or
            the covariance (B, B) between bands. With `by_residual` v, relative.
        members: P^T (R, K), 1 where a spectrum belongs to a class.
        by_residual: multiply v in each pixel by |y - x E|^2 / (sum v (B - d) / B), d the free coefficients: the noise
            is what the pixel's spectra do not explain.

    Returns:
        Deviations; 0 in masked pixels and in those of brightness 0.

    Reference:
        Settle and Drake, Linear mixing and the estimation of ground cover proportions, International Journal of Remote
        Sensing 14(6), 1993 (covariance of fractions); Hastie, Tibshirani and Friedman, The Elements of Statistical
        Learning, 2009, section 3.2 (the residual's variance).
    """
    height, width, count = coefficients.shape
    bands = cube.shape[2]
    E = scale_to_unit_maximum(endmembers) if known.method == "scaled" else endmembers
    sum_to_one = known.sums_to_one
    inside = coefficients.reshape(-1, count) != 0
    factor = jnp.ones(inside.shape[0], cube.dtype)
    if by_residual:
        free = jnp.sum(inside, axis=1).astype(cube.dtype) - jnp.asarray(float(sum_to_one), cube.dtype)
        rest = jnp.sum(jnp.square(linear_mix(coefficients, E) - cube), axis=-1).reshape(-1)
        factor = rest / positive(jnp.sum(variances) * (bands - free) / bands)
    if known.method == "soft":  # the further band is no measurement and has no noise
        _, E = with_sum_band(cube[:1, :1], E, known.slack * norm)
        padding = ((0, 1),) * variances.ndim if variances.ndim < 3 else ((0, 0), (0, 0), (0, 1))
        variances = jnp.pad(variances, padding)
    if sum_to_one:  # as in the derivative of `fcls`: a shift of all spectra changes nothing
        E = E - jnp.mean(E, axis=0, keepdims=True)
        units = jnp.sqrt(nonzero(jnp.max(jnp.diagonal(gram(E))))) * jnp.ones((count, 1), E.dtype)
    else:
        units = nonzero(row_lengths(E))
    U = E / units
    G = gram(U) + (1.0 if sum_to_one else 0.0)
    by_pixel = variances.ndim == 3
    if not by_pixel:
        NU = U * variances[None, :] if variances.ndim == 1 else jnp.matmul(U, variances, precision="highest")
        V = jnp.matmul(NU, U.T, precision="highest")[None]

    def block(part: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        x, seen, f, *own = part
        # A matrix for all pixels of the block, or one for each.
        N = jnp.einsum("rb,nb,sb->nrs", U, own[0], U, precision="highest") if own else V

        def column(unit: jax.Array) -> jax.Array:
            return small_systems.solve_on_faces(G, seen, jnp.broadcast_to(unit, seen.shape))

        K = jnp.moveaxis(jax.vmap(column)(jnp.eye(count, dtype=x.dtype)), 0, 2)  # (n, R, R)
        if sum_to_one:
            u = jnp.sum(K, axis=2)
            K = K - u[:, :, None] * u[:, None, :] / nonzero(jnp.sum(u, axis=1))[:, None, None]
        K = K / units[None]
        if not sum_to_one:
            s = jnp.sum(x, axis=1)
            a = x / positive(s)[:, None]
            K = (K - a[:, :, None] * jnp.sum(K, axis=1, keepdims=True)) / positive(s)[:, None, None]
            K = jnp.where((s > 0)[:, None, None], K, 0)
        return _spread(K, N, f), _spread(jnp.einsum("rk,nrj->nkj", members, K, precision="highest"), N, f)

    size = min(max(1, _BLOCK // (count * max(count, bands if by_pixel else 1))), inside.shape[0])
    pieces = -(-inside.shape[0] // size)
    parts: tuple[jax.Array, ...] = (coefficients.reshape(-1, count), inside, factor)
    if by_pixel:
        parts = (*parts, variances.reshape(-1, variances.shape[-1]))
    padded = [jnp.pad(p, ((0, pieces * size - p.shape[0]), *((0, 0),) * (p.ndim - 1))) for p in parts]
    found = lax.map(block, tuple(p.reshape(pieces, size, *p.shape[1:]) for p in padded))
    maps = [part.reshape(pieces * size, -1)[: height * width].reshape(height, width, -1) for part in found]
    return Deviations(*(jnp.where(mask[..., None], part, 0) for part in maps))


def _spread(L: jax.Array, V: jax.Array, factor: jax.Array) -> jax.Array:
    """Return the square root of the diagonal of f L V L^T, (n, K)."""
    square = (
        jnp.einsum("nki,ij,nkj->nk", L, V[0], L, precision="highest")
        if V.shape[0] == 1
        else jnp.einsum("nki,nij,nkj->nk", L, V, L, precision="highest")
    )
    return jnp.sqrt(jnp.maximum(square, 0) * factor[:, None])


class Bounds(NamedTuple):
    """The 5 % and 95 % bounds of fractions.

    Attributes:
        low, high: (H, W, R).
        classes_low, classes_high: (H, W, K).
    """

    low: jax.Array
    high: jax.Array
    classes_low: jax.Array
    classes_high: jax.Array


NINETY = 1.6448536
"""Standard deviations on each side that hold 90 % of a normal distribution."""


@partial(jax.jit, static_argnames="known")
def free_bounds(
    abundances: jax.Array,
    cube: jax.Array,
    endmembers: jax.Array,
    mask: jax.Array,
    norm: jax.Array,
    variances: jax.Array,
    members: jax.Array,
    known: Known,
) -> Bounds:
    r"""Return 90 % intervals of fractions from the solution without the constraint of sign, cut to [0, 1].

    u = L y + u_0 is linear in the pixel, so that u +- 1.645 sd(u) holds the true fraction, positive or zero, in 90 % of
    draws of normal errors of the given covariance; no true fraction lies outside [0, 1], and cutting loses none. An
    interval is widened to hold the fraction that is reported. A fraction that a bound holds at zero has an interval
    here, and deviation 0 in `deviations`.

    Args:
        abundances: (H, W, R), of `unmix_known`.
        cube, endmembers, mask, norm, variances, members, known: as `deviations`; the endmembers are independent.

    Returns:
        Bounds; 0 in masked pixels.
    """
    E = scale_to_unit_maximum(endmembers) if known.method == "scaled" else endmembers
    Y = cube
    if known.method == "soft":
        Y, E = with_sum_band(Y, E, known.slack * norm)
        padding = ((0, 1),) * variances.ndim if variances.ndim < 3 else ((0, 0), (0, 0), (0, 1))
        variances = jnp.pad(variances, padding)
    count = E.shape[0]
    if known.sums_to_one:
        m = jnp.mean(E, axis=0, keepdims=True)
        L = lapack.pinv(E - m, rtol=_RANK).T  # (R, B), columns of a sum of zero
        u = jnp.einsum("hwb,rb->hwr", Y - m[None], L, precision="highest") + 1.0 / count
    else:
        L = lapack.pinv(E, rtol=_RANK).T
        u = jnp.einsum("hwb,rb->hwr", Y, L, precision="highest")

    def spread(rows: jax.Array, others: jax.Array) -> jax.Array:
        """Return the diagonal of rows N others^T: (K,) for one noise, (H, W, K) for one of each pixel."""
        if variances.ndim == 2:
            return jnp.sum(jnp.matmul(rows, variances, precision="highest") * others, axis=1)
        products = rows * others
        if variances.ndim == 1:
            return jnp.matmul(products, variances, precision="highest")
        return jnp.einsum("hwb,kb->hwk", variances, products, precision="highest")

    def interval(rows: jax.Array, value: jax.Array, reported: jax.Array) -> tuple[jax.Array, jax.Array]:
        square = jnp.broadcast_to(spread(rows, rows), value.shape)
        if not known.sums_to_one:  # of x / s
            whole = jnp.broadcast_to(jnp.sum(L, axis=0, keepdims=True), rows.shape)
            s = jnp.sum(u, axis=-1, keepdims=True)
            value = value / nonzero(s)
            both = jnp.broadcast_to(spread(rows, whole), value.shape)
            square = square - 2 * value * both + value * value * jnp.broadcast_to(spread(whole, whole), value.shape)
            square = square / nonzero(jnp.square(s))
        reach = NINETY * jnp.sqrt(jnp.maximum(square, 0))
        low = jnp.minimum(jnp.clip(value - reach, 0, 1), reported)
        high = jnp.maximum(jnp.clip(value + reach, 0, 1), reported)
        return jnp.where(mask[..., None], low, 0), jnp.where(mask[..., None], high, 0)

    sums = partial(jnp.matmul, precision="highest")
    return Bounds(
        *interval(L, u, abundances), *interval(sums(members.T, L), sums(u, members), sums(abundances, members))
    )


_RANK = 1e-6
"""Singular values, relative to the largest, that count as zero."""


def class_members(class_of: tuple[str, ...], names: tuple[str, ...], count: int) -> np.ndarray:
    """Return (R, K) float32, 1 where a spectrum belongs to a class; (R, 0) without classes."""
    rows = [[float(word == name) for name in names] for word in class_of]
    return np.array(rows, np.float32).reshape(count, len(names) if rows else 0)
