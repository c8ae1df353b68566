r"""Multiple endmember spectral mixture analysis: in each pixel the best model of few classes, one spectrum of each.

A model is a set of at most R spectra of different classes, with or without shade, a spectrum of zeros. Its answer is
that of fully constrained least squares,

    min |y - sum_r x_r e_r|^2,   x >= 0,   sum x = 1 (with shade: sum x <= 1)

Where a fraction of that answer is zero, it is the answer of a model with fewer classes, which is tried too. So only the
answers inside count, which are linear in the pixel: a model costs a product of a small matrix and the pixel, and no
iteration. Spectra of all models of one size are tried block by block, with the best of each pixel kept.

    Roberts, Gardner, Church, Ustin, Scheer and Green, Mapping chaparral in the Santa Monica Mountains using multiple
    endmember spectral mixture models, Remote Sensing of Environment 65(3), 1998
"""

from collections.abc import Sequence
from functools import partial
from itertools import combinations
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dequnmix_jax.abundances.methods import KEPT, Mesma
from dequnmix_jax.checks import Array, InputError, check_cube, check_endmembers, check_mask, how_many
from dequnmix_jax.mixing import wide
from dequnmix_jax.ops import lapack
from dequnmix_jax.ops.guards import nonzero, positive
from dequnmix_jax.ops.xla import alongside, computed

_PIXELS = 512
"""Pixels of a block."""

_NUMBERS = 2**17
"""Coefficients of a block of models and pixels; memory does not depend on the number of models."""

_DEPENDENT = 16.0
"""Tolerance, in units of eps times its length, on the rest of a dependent column (Bjorck 1967)."""


class Multiple(NamedTuple):
    """Maps of the chosen models.

    Attributes:
        coefficients: (H, W, N), x, one number for each spectrum of the library; 0 off the model.
        shade: (H, W), the fraction of shade; 0 without.
        classes: (H, W) int32, number of classes of the model; 0 in masked pixels, and where no model is allowed.
        error: (H, W), RMSE over the bands, units of the cube; infinite where no model is allowed, 0 where masked.
        change: (H, W), RMS over spectra of the change of x by a further step of gradients inside the model.
    """

    coefficients: jax.Array
    shade: jax.Array
    classes: jax.Array
    error: jax.Array
    change: jax.Array


def mesma(
    cube: Array,
    endmembers: Array,
    classes: Sequence[str],
    *,
    mask: Array | None = None,
    options: Mesma | None = None,
) -> Multiple:
    r"""Choose in each pixel the spectra, one of a class, that explain it with as few classes as needed.

    Of the models with k classes the one of the least RMSE is taken, k = 1, 2, .. R; a larger model only where it lowers
    the RMSE of the one taken so far by more than `options.threshold`.

    Models are compared in float32 by |t - p|^2, t the pixel in coordinates of the span of the library: two models whose
    squared errors differ by less than about 1e-6 of the pixel's squared distance from the library's mean may be taken
    for one another. Fractions and errors of those taken are computed anew by orthogonalisation.

    Args:
        cube: (H, W, B), any units.
        endmembers: (N, B), the library, in the units of the cube.
        classes: N words.
        mask: (H, W) bool, True where the pixel is valid.
        options: the rules; None: `Mesma()`. Its `members` are those of `classes`.

    Returns:
        A Multiple. Fractions and errors are differentiable in cube and endmembers where the choice does not change.

    Raises:
        InputError: the shapes do not fit, or there are too many models.
    """
    check_cube(cube)
    check_endmembers(endmembers, np.shape(cube)[2])
    check_mask(mask, cube)
    words = tuple(classes)
    if len(words) != np.shape(endmembers)[0]:
        raise InputError(
            f"{how_many(len(words), 'class')} for {how_many(np.shape(endmembers)[0], 'spectrum')} given; expected "
            "one for each."
        )
    rules = (Mesma() if options is None else options).of(words)
    rules.check_count(*np.shape(endmembers))
    seen = jnp.ones(np.shape(cube)[:2], jnp.bool_) if mask is None else jnp.asarray(mask)
    return best_models(wide(cube), wide(endmembers), seen, rules)


@partial(jax.jit, static_argnames="rules")
def best_models(cube: jax.Array, endmembers: jax.Array, mask: jax.Array, rules: Mesma) -> Multiple:
    """Do what `mesma` does, without checks; `rules` with the classes of the spectra."""
    height, width, bands = cube.shape
    count = len(rules.members)
    E = endmembers[:count]  # a row of shade may follow
    Y = jnp.where(mask[..., None], cube, 0).reshape(-1, bands)
    points = jnp.concatenate([E, jnp.zeros((1, bands), E.dtype)]) if rules.shaded else E
    m = jnp.mean(points, axis=0, keepdims=True)
    Q, T = lapack.qr((points - m).T)
    P = T.T  # (N or N + 1, D)
    t = jnp.matmul(Y - m, Q, precision="highest")
    rest = Y - m - jnp.matmul(t, Q.T, precision="highest")
    apart = jnp.sum(jnp.square(rest), axis=1)  # what no spectrum explains
    groups = models_of(rules)
    allowed, at, real = _search(lax.stop_gradient(P), lax.stop_gradient(t), groups, rules)
    x, square, change = _exact(P, t, at, real, rules)  # each with a first axis of groups
    square = (square + apart[None]) / bands
    error = jnp.where(square == 0, 0, jnp.sqrt(nonzero(square)))
    error = jnp.where(allowed & (error <= rules.largest_rmse), error, jnp.inf)

    least = jnp.full(Y.shape[0], jnp.inf, Y.dtype)
    taken = jnp.zeros(Y.shape[0], jnp.int32)
    for size in range(1, rules.most_classes + 1):
        first, *others = (number for number, group in enumerate(groups) if group.classes == size)
        best, which = error[first], jnp.full(Y.shape[0], first, jnp.int32)
        for other in others:  # without shade
            better = error[other] < best
            best, which = jnp.where(better, error[other], best), jnp.where(better, jnp.int32(other), which)
        lower = least - best > (rules.threshold if size > 1 else 0.0)  # inf - inf is NaN, which is not larger
        least, taken = jnp.where(lower, best, least), jnp.where(lower, which, taken)

    rows = jnp.arange(Y.shape[0])
    some = jnp.isfinite(least)
    fractions = jnp.where(some[:, None], x[taken, rows], 0)
    whole = jnp.zeros((Y.shape[0], P.shape[0]), Y.dtype).at[rows[:, None], at[taken, rows]].add(fractions)
    sizes = jnp.asarray(np.array([group.classes for group in groups], np.int32))[taken]
    maps = (whole, least, jnp.where(some, sizes, 0), jnp.where(some, change[taken, rows], 0))

    def shaped(values: jax.Array) -> jax.Array:
        values = values.reshape(height, width, *values.shape[1:])
        return jnp.where(mask.reshape(mask.shape + (1,) * (values.ndim - 2)), values, 0)

    whole, least, sizes, change = maps
    shade = whole[:, count] if rules.shaded else jnp.zeros_like(least)
    return Multiple(*map(shaped, (whole[:, :count], shade, sizes, least, change)))


class Group(NamedTuple):
    """Models of one number of classes, with shade or without.

    Attributes:
        classes: their number.
        rows: (M, v) int32, the points that each mixes; v is that of the largest models, and a smaller one repeats its
            first point.
        corners: how many of the v are real.
    """

    classes: int
    rows: np.ndarray
    corners: int


def models_of(rules: Mesma) -> list[Group]:
    """Return the models of 1, 2, .. R classes; with shade, the last point is the first of a model."""
    members = np.asarray(rules.members)
    count, largest = len(members), rules.most_classes + rules.shaded
    spectra = [np.flatnonzero(members == number) for number in range(max(rules.members) + 1)]
    found = []
    for size in range(1, rules.most_classes + 1):
        parts = [
            np.stack([grid.ravel() for grid in np.meshgrid(*chosen, indexing="ij")], axis=1)
            for chosen in combinations(spectra, size)
        ]
        models = np.concatenate(parts).astype(np.int32)
        if rules.draws is not None and len(models) > rules.draws:
            order = np.random.Generator(np.random.PCG64(rules.seed)).permutation(len(models))[: rules.draws]
            models = models[np.sort(order)]
        lists = [models]
        if rules.shaded:
            with_shade = np.concatenate([np.full((len(models), 1), count, np.int32), models], axis=1)
            lists = [with_shade, *([models] if rules.exact else [])]
        for rows in lists:
            padding = np.repeat(rows[:, :1], largest - rows.shape[1], axis=1)
            found.append(Group(size, np.concatenate([rows, padding], axis=1), rows.shape[1]))
    return found


def _basis(V: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return orthonormal rows Q (M, q, D) of vectors V (M, q, D), and the inverse C (M, q, q) of x V = z Q, x = z C.

    By modified Gram-Schmidt; a vector that depends on those before it has a row of zeros and the coefficient 0.
    """
    count = V.shape[1]
    eps = jnp.finfo(V.dtype).eps
    rows: list[jax.Array] = []
    inverse: list[jax.Array] = []  # C of each row of Q: q_j = sum_i c_ji v_i
    units = jnp.broadcast_to(jnp.eye(count, dtype=V.dtype), (V.shape[0], count, count))
    for j in range(count):
        v, c = V[:, j], units[:, j]
        small = jnp.square(_DEPENDENT * eps) * jnp.sum(v * v, axis=1)
        for q, d in zip(rows, inverse, strict=True):
            along = jnp.sum(q * v, axis=1, keepdims=True)
            v, c = v - along * q, c - along * d
        square = jnp.sum(v * v, axis=1)
        scale = jnp.where(square > small, 1 / jnp.sqrt(nonzero(square)), 0)[:, None]
        rows.append(v * scale)
        inverse.append(c * scale)
    if not rows:
        return V, units
    return jnp.stack(rows, axis=1), jnp.stack(inverse, axis=1)


def _inside(x: Sequence[jax.Array], real: jax.Array, rules: Mesma) -> jax.Array:
    """Return whether all fractions are allowed: above zero in exact problems, whose smaller models are others.

    Args:
        x: v arrays (M, n).
        real: (M, v), whether a point of a model is no repetition.
        rules: of the choice.
    """
    allowed = jnp.ones(x[0].shape, jnp.bool_)
    for j, part in enumerate(x):
        highest = rules.most_shade if rules.shaded and j == 0 else rules.highest
        fits = part > 0 if rules.exact else (part >= rules.lowest) & (part <= highest)
        allowed = allowed & (fits | ~real[:, j, None])
    return allowed


def _search(
    P: jax.Array, t: jax.Array, groups: Sequence[Group], rules: Mesma
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Find the best model of each group in pixels t (n, D).

    Returns:
        Whether any is allowed (G, n), its points (G, n, v), and which of them are no repetition (G, n, v).
    """
    pixels, D = t.shape
    corners = groups[0].rows.shape[1]
    block = min(_PIXELS, pixels)
    size = min(max(len(group.rows) for group in groups), max(1, _NUMBERS // (block * max(corners - 1, 1))))
    pieces = -(-pixels // block)
    blocks, firsts, belongs = [], [], []
    for number, group in enumerate(groups):
        some = -(-len(group.rows) // size)
        padding = np.repeat(group.rows[:1], some * size - len(group.rows), axis=0)
        blocks.append(np.concatenate([group.rows, padding]).reshape(some, size, corners))
        firsts += [size * i for i in range(some)]
        belongs += [number] * some
    reals = np.array([np.arange(corners) < group.corners for group in groups])
    T = jnp.pad(t, ((0, pieces * block - pixels), (0, 0))).reshape(pieces, block, D).transpose(0, 2, 1)
    flag = jnp.abs(t[0, 0]) >= 0  # unknown to the compiler

    def models_block(carry: tuple[jax.Array, jax.Array], part: tuple[jax.Array, ...]) -> tuple:
        rows, first, group, real = part
        origin = P[rows[:, 0]]
        level = jnp.sum(origin * origin, axis=1)[:, None]
        Q, C = _basis(jnp.where(real[None, 1:, None], P[rows[:, 1:]] - origin[:, None], 0))
        start = jnp.einsum("mqd,md->qm", Q, origin, precision="highest")[:, :, None]
        table = jnp.concatenate([-2 * origin[None], Q.transpose(1, 0, 2)]).reshape(corners * size, D)

        def pixels_block(state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            y, least, number = state
            products = jnp.matmul(table, y, precision="highest").reshape(corners, size, block)
            z, none = products[1:] - start, jnp.zeros_like(products[0])
            x = [sum((z[j] * C[:, j, i, None] for j in range(i, corners - 1)), none) for i in range(corners - 1)]
            x = [1 - sum(x, none), *x]
            # Less |y|^2, which all models share.
            error = products[0] + level - sum((part * part for part in z), none)
            error = jnp.where(_inside(x, jnp.broadcast_to(real[None], (size, corners)), rules), error, jnp.inf)
            error = computed(error, flag)
            best = jnp.min(error, axis=0)
            order = jnp.arange(size, dtype=jnp.int32)[:, None]
            at = jnp.min(jnp.where(error == best[None], order, jnp.int32(size)), axis=0)
            better = best < least
            return jnp.where(better, best, least), jnp.where(better, first + at, number)

        least, number = (lax.dynamic_index_in_dim(part, group, keepdims=False) for part in carry)
        found = lax.map(pixels_block, (T, least, number))
        return tuple(
            lax.dynamic_update_index_in_dim(part, new, group, 0) for part, new in zip(carry, found, strict=True)
        ), None

    shape = (len(groups), pieces, block)
    start = (jnp.full(shape, jnp.inf, t.dtype), jnp.zeros(shape, jnp.int32))
    parts = (np.concatenate(blocks), np.array(firsts, np.int32), np.array(belongs, np.int32), reals[belongs])
    (least, numbers), _ = lax.scan(models_block, alongside(start, t, P), tuple(map(jnp.asarray, parts)))
    picks = numbers.reshape(len(groups), -1)[:, :pixels]
    at = jnp.stack([
        jnp.asarray(group.rows)[jnp.minimum(picked, len(group.rows) - 1)]
        for group, picked in zip(groups, picks, strict=True)
    ])  # fmt: skip
    real = jnp.broadcast_to(jnp.asarray(reals)[:, None], at.shape)
    return jnp.isfinite(least.reshape(len(groups), -1)[:, :pixels]), at, real


def _exact(
    P: jax.Array, t: jax.Array, at: jax.Array, real: jax.Array, rules: Mesma
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return fractions (G, n, v) of pixels t (n, D) by models `at` (G, n, v), squared errors and changes, (G, n)."""
    groups, pixels, corners = at.shape
    block = min(pixels, max(_PIXELS, _NUMBERS // (corners * P.shape[1])))
    pieces = -(-pixels // block)

    def one(part: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        y, rows, there = part
        points = P[rows]  # (n, v, D)
        V = jnp.where(there[:, 1:, None], points[:, 1:] - points[:, :1], 0)
        Q, C = _basis(V)
        rest, z = y - points[:, 0], []
        for j in range(corners - 1):  # each from what is left: as accurate as Householder's
            z.append(jnp.sum(rest * Q[:, j], axis=1))
            rest = rest - z[j][:, None] * Q[:, j]
        x = jnp.zeros_like(y[:, :0])
        if z:
            x = jnp.einsum("nj,nji->ni", jnp.stack(z, axis=1), C, precision="highest")
        x = jnp.concatenate([1 - jnp.sum(x, axis=1, keepdims=True), x], axis=1)
        if rules.exact:  # a rounding beyond the bound
            x = jnp.maximum(x, 0)
            x = x / positive(jnp.sum(x, axis=1))[:, None]
        x = jnp.where(there, x, 0)
        rest = y - jnp.einsum("nv,nvd->nd", x, points, precision="highest")
        g = jnp.where(there, -jnp.einsum("nd,nvd->nv", rest, points, precision="highest"), 0)
        mean = jnp.sum(g, axis=1, keepdims=True) / jnp.sum(there, axis=1, keepdims=True).astype(g.dtype)
        L = positive(jnp.sum(jnp.square(V), axis=(1, 2)))  # not below the largest eigenvalue
        step = jnp.where(there & (L > 0)[:, None], (g - mean) / L[:, None], 0)
        return x, jnp.sum(jnp.square(rest), axis=1), jnp.sqrt(jnp.sum(jnp.square(step), axis=1) / P.shape[0])

    def cut(values: jax.Array) -> jax.Array:
        padding = ((0, 0), (0, pieces * block - pixels), (0, 0))
        return jnp.pad(values, padding, mode="edge").reshape(values.shape[0] * pieces, block, -1)

    split = (jnp.tile(cut(t[None]), (groups, 1, 1)), cut(at), cut(real))
    x, square, change = lax.map(one, split)
    x = x.reshape(groups, pieces * block, corners)[:, :pixels]
    return x, *(part.reshape(groups, pieces * block)[:, :pixels] for part in (square, change))


def with_shade(endmembers: Array, rules: Mesma) -> np.ndarray:
    """Return spectra with a last row of zeros where the fraction of shade is kept as a map."""
    spectra = np.asarray(endmembers, np.float32)
    return np.concatenate([spectra, np.zeros_like(spectra[:1])]) if rules.shade == KEPT else spectra
