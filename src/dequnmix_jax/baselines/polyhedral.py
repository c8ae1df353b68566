r"""Polyhedral unmixing: classes as cones, abundances from signed distances to them; nothing is trained on spectra.

    x_n = y_n / |y_n|, in 12 principal components (centred)
    labels: a Gaussian mixture of R classes, fitted on 25 % of the pixels
    h_ij: linear support vector machines without bias between each two classes, on 15 % of the pixels
    C_i = {x: x . h_ij <= 0 for all j}, a polyhedral cone
    d_i(x): Euclidean distance to C_i outside, max over j of x . h_ij (negative) inside
    D: row i the largest distances d_j among pixels inside C_i, and -min over j of these in its own place
    a' = simplex(0.45 d D^-1 / std(d D^-1)); E = (a'^T a' + 1e-5)^-1 a'^T x; a = x E^T (E E^T + 1e-5)^-1, clipped, over
    its sum

The projection on the polar of a cone is least squares with nonnegative coefficients of the h_ij, so that the distance
needs no iteration here (`nnls`). Abundances refer to spectra and pixels of length one.

Bottenmuller, Decenciere and Dokladal, 2026 (arXiv 2603.29438). Constants are those of the authors' public notebook for
Samson. Guessed: the seeds of the mixture are those of plain k-means++ (there the greedy form); both start the mixture
ten times and keep the likeliest. Where no pixel is inside a cone, the one nearest to it stands for it, as there; where
it stands for two of them D has no inverse, and the pseudo-inverse takes its place (`coordinates`).
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dequnmix_jax.abundances.least_squares import nnls
from dequnmix_jax.baselines.method import Method, MethodResult
from dequnmix_jax.mixing import project_simplex
from dequnmix_jax.ops import lapack
from dequnmix_jax.ops.guards import positive, unit_rows


@dataclass(frozen=True)
class Settings:
    """The authors' constants.

    Attributes:
        components: principal components kept.
        clustered: share of the pixels that the mixture is fitted on.
        separated: share of the pixels that the machines are trained on.
        saturation: of the first abundances.
        starts: of the mixture, of which the likeliest is kept.
        steps: of each, at most; they end where the mean log-likelihood rises by less than `tolerance`.
        floor: added to the variances.
        penalty: C of the machines.
        sweeps: over their pixels, at most; they end where no gradient exceeds `tolerance`.
        ridge: of the spectra and of the abundances.
    """

    components: int = 12
    clustered: float = 0.25
    separated: float = 0.15
    saturation: float = 0.45
    starts: int = 10
    steps: int = 100
    tolerance: float = 1e-3
    floor: float = 1e-6
    penalty: float = 1.0
    sweeps: int = 1000
    ridge: float = 1e-5


class Mixture(NamedTuple):
    """A Gaussian mixture: log weights (R,), means (R, D), inverse Cholesky factors (R, D, D) of the covariances."""

    weights: jax.Array
    means: jax.Array
    whitening: jax.Array


def fit_mixture(key: jax.Array, x: jax.Array, count: int, settings: Settings) -> Mixture:
    """Return the likeliest of several mixtures of `count` Gaussians for points x (N, D), by EM."""

    def one(key: jax.Array) -> tuple[jax.Array, Mixture]:
        start = jax.nn.one_hot(_seeds(key, x, count), x.shape[0], dtype=x.dtype).T

        def unfinished(carry: tuple) -> jax.Array:
            _, now, before, step = carry
            return (step < settings.steps) & ~(jnp.abs(now - before) < settings.tolerance)

        def advance(carry: tuple) -> tuple:
            mixture, now, _, step = carry
            each = log_densities(mixture, x)
            mean = jnp.mean(jax.nn.logsumexp(each, axis=1))
            return _maximised(x, jax.nn.softmax(each, axis=1), settings.floor), mean, now, step + 1

        first = (_maximised(x, start, settings.floor), x[0, 0] * 0 - jnp.inf, x[0, 0] * 0 + jnp.inf, jnp.int32(0))
        mixture, likelihood, *_ = lax.while_loop(unfinished, advance, first)
        return likelihood, mixture

    likelihoods, mixtures = lax.map(one, jax.random.split(key, settings.starts))
    best = jnp.argmax(likelihoods)
    return jax.tree.map(lambda each: each[best], mixtures)


def _seeds(key: jax.Array, x: jax.Array, count: int) -> jax.Array:
    """Return the numbers of `count` points, each drawn by its squared distance from those before (k-means++)."""
    first, *keys = jax.random.split(key, count)
    chosen = [jax.random.randint(first, (), 0, x.shape[0])]
    square = jnp.full(x.shape[0], jnp.inf, x.dtype)
    for each in keys:
        square = jnp.minimum(square, jnp.sum(jnp.square(x - x[chosen[-1]][None]), axis=1))
        chosen.append(jax.random.categorical(each, jnp.log(jnp.maximum(square, jnp.finfo(x.dtype).tiny))))
    return jnp.stack(chosen)


def _maximised(x: jax.Array, shares: jax.Array, floor: float) -> Mixture:
    """Return the mixture of largest likelihood for shares (N, R) of the points."""
    total = jnp.sum(shares, axis=0) + 10 * jnp.finfo(x.dtype).eps
    means = jnp.matmul(shares.T, x, precision="highest") / total[:, None]

    def whitening(one: tuple[jax.Array, ...]) -> jax.Array:
        share, mean, whole = one
        away = x - mean[None]
        C = jnp.matmul((share[:, None] * away).T, away, precision="highest") / whole
        return lapack.inverse(lapack.cholesky(C + floor * jnp.eye(x.shape[1], dtype=x.dtype)))

    return Mixture(jnp.log(total / jnp.sum(total)), means, lax.map(whitening, (shares.T, means, total)))


def log_densities(mixture: Mixture, x: jax.Array) -> jax.Array:
    """Return log(weight density) of points x (N, D) in each Gaussian, (N, R)."""

    def one(each: Mixture) -> jax.Array:
        z = jnp.matmul(x - each.means[None], each.whitening.T, precision="highest")
        log_root = jnp.sum(jnp.log(jnp.abs(jnp.diagonal(each.whitening))))
        return each.weights + log_root - 0.5 * (jnp.sum(z * z, axis=1) + x.shape[1] * np.log(2 * np.pi))

    return lax.map(one, mixture).T


def separate(x: jax.Array, sign: jax.Array, settings: Settings) -> jax.Array:
    """Return the normal w (D,) of a linear support vector machine without bias, by coordinate descent on its dual.

    min |w|^2 / 2 + C sum max(0, 1 - s x . w) over points with s = 1 or -1; those with s = 0 take no part.

    Args:
        x: (N, D).
        sign: (N,), s.
        settings: penalty, tolerance and sweeps.
    """
    square = jnp.sum(x * x, axis=1)
    top = settings.penalty * jnp.abs(sign)

    def visit(carry: tuple, n: jax.Array) -> tuple[tuple, None]:
        w, a, worst = carry
        g = sign[n] * jnp.sum(w * x[n]) - 1
        projected = jnp.where(a[n] <= 0, jnp.minimum(g, 0), jnp.where(a[n] >= top[n], jnp.maximum(g, 0), g))
        new = jnp.clip(a[n] - g / positive(square[n]), 0, top[n])
        worst = jnp.maximum(worst, jnp.where(top[n] > 0, jnp.abs(projected), 0))
        return (w + (new - a[n]) * sign[n] * x[n], a.at[n].set(new), worst), None

    def sweep(carry: tuple) -> tuple:
        w, a, _, step = carry
        (w, a, worst), _ = lax.scan(visit, (w, a, w[0] * 0), jnp.arange(x.shape[0], dtype=jnp.int32))
        return w, a, worst, step + 1

    def unfinished(carry: tuple) -> jax.Array:
        return (carry[2] > settings.tolerance) & (carry[3] < settings.sweeps)

    zero = x[0] * 0
    return lax.while_loop(unfinished, sweep, (zero, top * 0, zero[0] + jnp.inf, jnp.int32(0)))[0]


def signed_distances(x: jax.Array, normals: jax.Array) -> jax.Array:
    """Return signed distances (N,) of points x (N, D) from the cone {z: z . h <= 0} of unit normals h (K, D)."""
    outside = jnp.matmul(nnls(x[None], normals)[0], normals, precision="highest")
    square = jnp.sum(outside * outside, axis=1)
    depth = jnp.max(jnp.matmul(x, normals.T, precision="highest"), axis=1)
    return jnp.where(depth < 0, depth, jnp.sqrt(square))


def extremes(distances: jax.Array) -> jax.Array:
    """Return D (R, R): in row i the largest distances of the pixels inside cone i; its own is minus the least of these.

    Where no pixel is inside, the row is the distances of the pixel nearest to the cone.
    """
    rows = []
    for i in range(distances.shape[1]):
        inside = distances[:, i] <= 0
        largest = jnp.max(jnp.where(inside[:, None], distances, -jnp.inf), axis=0)
        others = np.delete(np.arange(distances.shape[1]), i)
        row = largest.at[i].set(-jnp.min(largest[others]))
        rows.append(jnp.where(inside.any(), row, distances[jnp.argmin(distances[:, i])]))
    return jnp.stack(rows)


def coordinates(distances: jax.Array) -> jax.Array:
    """Return d D^-1, (N, R), of distances d (N, R).

    By the pseudo-inverse, for one pixel may stand for two cones, so that D is singular: both classes then have the same
    coordinate.
    """
    return jnp.matmul(distances, lapack.pinv(extremes(distances)), precision="highest")


def polyhedral(settings: Settings | None = None) -> Method:
    """Return the method."""
    return Method("polyhedral", partial(_unmix, settings or Settings()), constraint="soft")


def _unmix(settings: Settings, key: jax.Array, cube: jax.Array, start: jax.Array) -> MethodResult:
    count = start.shape[0]
    unit = unit_rows(cube.reshape(-1, cube.shape[2]))
    N = unit.shape[0]
    centred = unit - jnp.mean(unit, axis=0)[None]
    C = jnp.matmul(centred.T, centred, precision="highest") / N
    axes = lapack.eigh(C)[1][:, ::-1][:, : settings.components]
    x = jnp.matmul(centred, axes, precision="highest")
    some, seeds, others = jax.random.split(key, 3)

    def drawn(key: jax.Array, share: float) -> jax.Array:
        return jax.random.choice(key, N, (max(int(share * N), count),), replace=False)

    mixture = fit_mixture(seeds, x[drawn(some, settings.clustered)], count, settings)
    labels = jnp.argmax(log_densities(mixture, x), axis=1)
    kept = drawn(others, settings.separated)
    points, of = x[kept], labels[kept]
    normals = [[jnp.zeros_like(x[0])] * count for _ in range(count)]
    for i in range(count):
        for j in range(i + 1, count):
            w = separate(points, (of == j).astype(x.dtype) - (of == i).astype(x.dtype), settings)
            normals[i][j], normals[j][i] = w, -w
    cones = [unit_rows(jnp.stack([normals[i][j] for j in range(count) if j != i])) for i in range(count)]
    d = jnp.stack([signed_distances(x, each) for each in cones], axis=1)
    new = coordinates(d)
    first = project_simplex(settings.saturation * new / positive(jnp.std(new)))
    eye = settings.ridge * jnp.eye(count, dtype=x.dtype)
    E = jnp.matmul(
        lapack.inverse(jnp.matmul(first.T, first, precision="highest") + eye),
        jnp.matmul(first.T, unit, precision="highest"),
        precision="highest",
    )
    G = lapack.inverse(jnp.matmul(E, E.T, precision="highest") + eye)
    a = jnp.maximum(jnp.matmul(unit, jnp.matmul(E.T, G, precision="highest"), precision="highest"), 0)
    total = jnp.sum(a, axis=1, keepdims=True)
    a = jnp.where(total > 0, a / positive(total), 1 / count)
    return MethodResult(a.reshape(*cube.shape[:2], count), jnp.maximum(E, 0))
