r"""K-Hype: linear mixing plus a smooth function of the spectra, as fully constrained least squares in a metric.

Chen, Richard and Honeine add to the linear mixture a function psi of the R reflectances at a band, from the space of a
reproducing kernel. With m_l the column of E at band l, and K (B, B) the kernel of these columns,

    min over a on the simplex and psi of   mu / 2 |a|^2 + xi / 2 |psi|^2 + |y - a E - psi|^2 / 2

Given a, psi at the bands is K (K + xi I)^-1 (y - a E), which leaves a quadratic problem in a alone:

    min over a on the simplex of   a (E W E^T + mu I) a^T / 2 - a E W y,     W = (I + K / xi)^-1

This is FCLS of the spectra [E C^-T, sqrt(mu) I] and the pixel [y C^-T, 0], C C^T = I + K / xi. K depends on E alone, so
that C is found once for a scene, and a pixel costs what it costs in `fcls`: no quadratic programme of B unknowns.

SK-Hype weighs the two parts of each pixel, and drops the sum to one:

    min over u in [0, 1], h >= 0 and psi of   |h|^2 / u + |psi|^2 / (1 - u) + |y - h E - psi|^2 / mu,   a = h / sum h

which is convex in u and, given u, NNLS in the metric of K (1 - u) / mu with the ridge mu / u.

References:
    Chen, Richard and Honeine, Nonlinear unmixing of hyperspectral data based on a linear-mixture/nonlinear-fluctuation
    model, IEEE Transactions on Signal Processing 61(2), 2013. Kernels and constants: its authors' public demos.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from dequnmix_jax.abundances.least_squares import check_problem, fcls, nnls
from dequnmix_jax.checks import Array, InputError
from dequnmix_jax.mixing import normalise_abundances, wide
from dequnmix_jax.ops import lapack
from dequnmix_jax.ops.guards import nonzero, positive

POLYNOMIAL, HOMOGENEOUS, GAUSSIAN = "polynomial", "homogeneous", "gaussian"
KERNELS = (POLYNOMIAL, HOMOGENEOUS, GAUSSIAN)
"""(1 + (m_k - 1/2) . (m_l - 1/2) / R^2)^2; (m_k . m_l)^2 over its maximum; exp(-|m_k - m_l|^2 / (2 width^2))."""

MU, XI, SK_MU = 1e-4, 10.0, 0.01
"""Weights of one of the authors' demos, and that of SK-Hype; the paper's 1 / mu is about 100."""

_WEIGHTS, _WIDEST = 25, 6.0
"""Values of u that SK-Hype tries, and the largest log(u / (1 - u)); evenly spaced in this logit."""


class Kernelled(NamedTuple):
    """What is found in each pixel.

    Attributes:
        abundances: (H, W, R), >= 0 and summing to one; 0 in masked pixels.
        fluctuation: (H, W, B), psi at the bands, units of the cube; 0 in masked pixels.
        weight: (H, W), u of SK-Hype; of K-Hype 1/2. 0 in masked pixels.
        coefficients: (H, W, R), what multiplies the spectra: of K-Hype the abundances.
    """

    abundances: jax.Array
    fluctuation: jax.Array
    weight: jax.Array
    coefficients: jax.Array


def kernel(endmembers: Array, word: str = POLYNOMIAL, width: float = 2.0) -> jax.Array:
    """Return the kernel K (B, B) of the columns of the endmembers (R, B), reflectance.

    Args:
        endmembers: (R, B).
        word: of `KERNELS`.
        width: s of the Gaussian kernel.

    Raises:
        InputError: if the word is unknown.
    """
    if word not in KERNELS:
        raise InputError(f"kernel is {word!r}; expected {', '.join(KERNELS)}.")
    E = wide(endmembers)
    if word == POLYNOMIAL:
        centred = E - 0.5
        return jnp.square(1 + jnp.matmul(centred.T, centred, precision="highest") / E.shape[0] ** 2)
    G = jnp.matmul(E.T, E, precision="highest")
    if word == HOMOGENEOUS:
        square = jnp.square(G)
        return square / positive(jnp.max(square))
    lengths = jnp.diagonal(G)
    return jnp.exp((2 * G - lengths[:, None] - lengths[None]) / (2 * width**2))


def khype(
    cube: Array,
    endmembers: Array,
    *,
    mu: float | Array = MU,
    xi: float | Array = XI,
    kernel_word: str = POLYNOMIAL,
    width: float = 2.0,
    mask: Array | None = None,
) -> Kernelled:
    """Unmix by K-Hype, exactly.

    Args:
        cube: (H, W, B), reflectance.
        endmembers: (R, B), reflectance.
        mu: > 0, weight of |a|^2; 1e-4 in one of its authors' demos.
        xi: > 0, weight of |psi|^2; 10 there. Large: FCLS.
        kernel_word, width: as `kernel`.
        mask: (H, W) bool, True where the pixel is valid.

    Returns:
        Kernelled. Differentiable in cube, endmembers and weights, as `fcls`.

    Raises:
        InputError: as `fcls`, or the kernel is unknown.
    """
    check_problem(cube, endmembers, mask)
    E = wide(endmembers)
    Y = _zero_where_masked(cube, mask)
    K = kernel(E, kernel_word, width)
    back = whitening(K, 1 / jnp.asarray(xi, E.dtype))
    F, project = _in_span(E, back, jnp.asarray(mu, E.dtype))
    a = fcls(jnp.matmul(Y, project, precision="highest"), F, mask=mask)
    rest = Y - jnp.matmul(a, E, precision="highest")
    smoother = jnp.matmul(jnp.matmul(back.T, back, precision="highest"), K, precision="highest") / xi
    psi = _zero_where_masked(jnp.matmul(rest, smoother, precision="highest"), mask)
    weight = jnp.full(a.shape[:2], 0.5, a.dtype)
    return Kernelled(a, psi, weight if mask is None else jnp.where(mask, weight, 0), a)


def skhype(
    cube: Array,
    endmembers: Array,
    *,
    mu: float | Array = SK_MU,
    kernel_word: str = POLYNOMIAL,
    width: float = 2.0,
    mask: Array | None = None,
) -> Kernelled:
    """Unmix by SK-Hype: u is the best of 25 values in (0, 1), each solved exactly for all pixels.

    Args:
        cube, endmembers, kernel_word, width, mask: as `khype`.
        mu: > 0, weight of the two norms; the paper's 1 / mu is about 100.

    Returns:
        Kernelled. Derivatives are exact for this function: those at the u found, which is constant between two of its
        values. They are not those of the paper's problem, whose u is continuous and moves with the data: between two
        values, a ratio of 1.65 in u / (1 - u), the function jumps.

    Raises:
        InputError: as `khype`.
    """
    check_problem(cube, endmembers, mask)
    E = wide(endmembers)
    Y, mu = _zero_where_masked(cube, mask), jnp.asarray(mu, E.dtype)
    K = kernel(E, kernel_word, width)
    tried = jax.nn.sigmoid(jnp.linspace(-_WIDEST, _WIDEST, _WEIGHTS, dtype=E.dtype))

    def at(best: tuple, u: jax.Array) -> tuple[tuple, None]:
        back = whitening(K, (1 - u) / mu)
        F, project = _in_span(E, back, mu / u)
        t = jnp.matmul(Y, project, precision="highest")
        h = nnls(t, F, mask=mask)
        rest = Y - jnp.matmul(h, E, precision="highest")
        cost = jnp.sum(jnp.square(jnp.matmul(rest, back.T, precision="highest")), axis=-1)
        cost = cost + mu / u * jnp.sum(jnp.square(h), axis=-1)
        smoother = jnp.matmul(jnp.matmul(back.T, back, precision="highest"), K, precision="highest") * ((1 - u) / mu)
        psi = jnp.matmul(rest, smoother, precision="highest")
        lower = ~(cost >= best[0])  # also where the pixel is NaN
        new = (cost, h, psi, jnp.broadcast_to(u, cost.shape))
        return tuple(
            jnp.where(lower if x.ndim == 2 else lower[..., None], x, y) for x, y in zip(new, best, strict=True)
        ), None

    zero = Y[..., 0] * 0
    start = (zero + jnp.inf, jnp.matmul(Y * 0, E.T), Y * 0, zero)
    (_, h, psi, weight), _ = jax.lax.scan(at, start, tried)
    abundances, _ = normalise_abundances(h, mask)
    if mask is not None:
        weight = jnp.where(mask, weight, 0)
    return Kernelled(abundances, _zero_where_masked(psi, mask), weight, h)


def _zero_where_masked(cube: Array, mask: Array | None) -> jax.Array:
    Y = wide(cube)
    return Y if mask is None else jnp.where(jnp.asarray(mask)[..., None], Y, 0)


def whitening(K: jax.Array, by: jax.Array) -> jax.Array:
    """Return C^-1 (B, B), C C^T = I + by K, so that |r C^-T|^2 = r (I + by K)^-1 r^T."""
    return lapack.inverse(lapack.cholesky(jnp.eye(K.shape[0], dtype=K.dtype) + by * K))


def _in_span(E: jax.Array, back: jax.Array, ridge: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return spectra F (R, R) and a projection (B, R): |y P - x F|^2 is |(y - x E) C^-T|^2 + ridge |x|^2 + const.

    F^T is the triangular factor of [E C^-T, sqrt(ridge) I]^T = Q F^T, and P = C^-T Q_1, its first B rows.
    """
    B = E.shape[1]
    root = jnp.sqrt(nonzero(ridge)) * jnp.eye(E.shape[0], dtype=E.dtype)
    Q, T = lapack.qr(jnp.concatenate([jnp.matmul(back, E.T, precision="highest"), root]))
    return T.T, jnp.matmul(back.T, Q[:B], precision="highest")
