"""Find endmembers as pixels of a scene (VCA, SiVM, N-FINDR, ATGP), and purify them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dequnmix_jax.checks import Array, InputError, check_cube, check_finite, check_fixed, check_key, check_mask
from dequnmix_jax.endmembers.subspace import Frame, checked, directions, frame, on_plane, principal
from dequnmix_jax.endmembers.subspace import pixels as pixels_of
from dequnmix_jax.mixing import check_abundances
from dequnmix_jax.ops import lapack
from dequnmix_jax.ops.guards import nonzero, positive, unit_rows
from dequnmix_jax.ops.xla import alongside


def vca(
    key: Array, cube: Array, count: int, *, mask: Array | None = None, runs: int = 1, fixed: Array | None = None
) -> jax.Array:
    r"""Find endmembers as extreme pixels: vertex component analysis.

    For i = 1..R: draw w ~ N(0, I), f = (I - A A^+) w, take the pixel with the largest |f . y|, append it to A; in R
    coordinates y of the signal subspace. A starts with the direction that all y have in common. If SNR >= 15 + 10
    log10 R dB, the subspace is that of Y^T Y, and y is divided by y . mean(y), which turns a cone into a simplex;
    otherwise it is that of the covariance, R - 1 coordinates, with a constant appended. SNR = 10 log10((P_x - P_y R /
    B) / (P_y - P_x)), P_y the mean |y|^2 and P_x that of its projection.

    w is drawn in the bands and projected: the signs of the axes and the directions of axes of nearly equal variance
    depend on rounding and would otherwise decide which pixel is found first. A factor on the cube therefore multiplies
    the result.

    Args:
        key: random key; different keys give different results.
        cube: (H, W, B), any units; the mean of the valid pixels must not be zero.
        count: R, static, 2 <= R <= B and at most one for each valid pixel.
        mask: (H, W) bool, True for valid pixels.
        runs: static; number of draws, of which the one whose unit spectra span the largest volume det(U U^T) is kept.
            One of 24 draws on Samson took two pixels of the same material and missed another; such a pair has a small
            volume.
        fixed: (F, B), spectra that are known, F < R: the search begins with them, and they come first, unchanged.

    Returns:
        (R, B), spectra of R pixels of the scene projected on the signal subspace (less noise than the pixels), in the
        units of the cube. They can be slightly negative. Differentiable in the cube as the projection of the chosen
        pixels; the choice and the subspace count as constants.

    Raises:
        InputError: if the shapes do not fit, the count is out of range, or outside jit if valid values are not finite.

    Reference:
        Nascimento and Bioucas-Dias, Vertex component analysis: a fast algorithm to unmix hyperspectral data, IEEE TGRS
        43(4), 2005 (algorithm 1, threshold of its section III-C).
    """
    check_key(key)
    Y, valid = checked(cube, count, mask)
    known = None if fixed is None else check_fixed(fixed, count, Y.shape[1]).astype(Y.dtype)
    if runs == 1:
        return _vca(key, Y, valid, count, known)
    draws = jax.vmap(lambda k: _vca(k, Y, valid, count, known))(jax.random.split(key, runs))
    U = unit_rows(draws)
    volumes = jax.vmap(lapack.log_determinant)(jnp.matmul(U, jnp.swapaxes(U, 1, 2), precision="highest"))
    # Draws that find the same spectra in another order differ by rounding: take the first, on every machine.
    tolerance = count * jnp.finfo(draws.dtype).eps ** 0.5
    volumes = lax.stop_gradient(volumes)
    return draws[jnp.argmax(volumes >= jnp.max(volumes) - tolerance)]


@partial(jax.jit, static_argnames="count")  # an eager call would compile its branches and its loop each time
def _vca(key: Array, Y: jax.Array, valid: jax.Array, count: int, fixed: jax.Array | None = None) -> jax.Array:
    """Return `count` spectra of pixels Y (N, B), which are zero if not `valid`."""
    # Without a mask this is a constant; under shard_map the batching rule of `cond` makes it vary and then fails.
    pixels = alongside(jnp.maximum(jnp.sum(valid), 1).astype(Y.dtype), Y)
    # Neither the subspace (eigenvectors have no derivative where eigenvalues meet) nor the choice is differentiated.
    S = lax.stop_gradient(Y)
    # A power of two near the largest value: nothing is rounded, and squares stay within float32.
    largest = jnp.max(jnp.abs(S))
    shift = -jnp.frexp(jnp.where(jnp.isfinite(largest), largest, 1))[1]
    unit = jnp.ldexp(jnp.ones_like(largest), jnp.clip(shift, -126, 126))  # itself within float32
    S = S * unit
    # Without fixed spectra there are none of them, and every step looks for a pixel.
    known = jnp.zeros((0, S.shape[1]), S.dtype) if fixed is None else fixed * unit
    mean = jnp.sum(S, axis=0) / pixels
    C = jnp.where(valid[:, None], S - mean[None, :], 0.0)
    variances, axes = principal(C, pixels)
    # P_y - P_x is the part of the covariance outside the subspace: summed there, nothing cancels.
    noise = jnp.sum(jnp.maximum(variances[count:], 0.0))
    signal = jnp.sum(variances[:count]) + jnp.sum(mean * mean)
    share = count / S.shape[1]
    snr = 10.0 * (jnp.log10(jnp.maximum(signal - share * (signal + noise), 0.0)) - jnp.log10(noise))
    threshold = 15.0 + 10.0 * np.log10(count)

    last = jnp.zeros((count,), Y.dtype).at[-1].set(1.0)

    def centred() -> tuple[jax.Array, ...]:
        axis = axes[:, :count].at[:, -1].set(0.0)  # R - 1 axes
        if fixed is not None:
            through = directions(C, pixels, count - 1, known - mean[None])[1][:, : count - 1]
            axis = jnp.pad(through, ((0, 0), (0, 1)))
        x = jnp.matmul(C, axis, precision="highest")
        farthest = jnp.sqrt(jnp.max(jnp.sum(x * x, axis=-1)))
        own = jnp.matmul(known - mean[None], axis, precision="highest").at[:, -1].set(farthest)
        return x.at[:, -1].set(farthest), own, axis, last, jnp.ones_like(last[0])

    def projective() -> tuple[jax.Array, ...]:
        axis = directions(S, pixels, count, None if fixed is None else known)[1][:, :count]
        x = jnp.matmul(S, axis, precision="highest")
        middle = jnp.sum(x, axis=0) / pixels
        scale = jnp.sum(x * middle[None, :], axis=-1, keepdims=True)
        length = jnp.sqrt(jnp.sum(middle * middle))
        # A dark pixel has no direction: it stays at the origin and is never extreme.
        y = x / nonzero(scale)
        own = jnp.matmul(known, axis, precision="highest")
        own = own / nonzero(jnp.sum(own * middle[None, :], axis=-1, keepdims=True))
        return y, own, axis, middle / nonzero(length), jnp.zeros_like(length)

    y, own, U, common, affine = lax.cond(snr < threshold, centred, projective)

    def add(A: jax.Array, step: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        i, key = step
        drawn = jax.random.normal(key, (S.shape[1] + 1,), Y.dtype)
        w = jnp.matmul(drawn[:-1], U, precision="highest") + affine * drawn[-1] * last
        f = w - jnp.matmul(A, jnp.matmul(lapack.pinv(A), w, precision="highest"), precision="highest")
        distance = jnp.where(valid, jnp.abs(jnp.matmul(y, f, precision="highest")), -1.0)
        pixel = jnp.argmax(distance)
        if fixed is None:
            return A.at[:, i].set(y[pixel]), pixel
        vertex = jnp.where(i < own.shape[0], own[jnp.minimum(i, own.shape[0] - 1)], y[pixel])
        return A.at[:, i].set(vertex), pixel

    # The first draw is orthogonal to the direction that all pixels have in common.
    A = alongside(jnp.zeros((count, count), Y.dtype).at[:, 0].set(common), y)
    _, chosen = lax.scan(add, A, (jnp.arange(count), jax.random.split(key, count)))
    origin = affine * jnp.sum(lax.stop_gradient(Y), axis=0) / pixels
    x = jnp.matmul(Y[chosen] - origin[None, :], U, precision="highest")
    found = jnp.matmul(x, U.T, precision="highest") + origin[None, :]
    return found if fixed is None else found.at[: fixed.shape[0]].set(fixed)


def purify(
    cube: Array, endmembers: Array, abundances: Array, *, fraction: float = 0.03, mask: Array | None = None
) -> jax.Array:
    r"""Replace each endmember by the mean spectrum of its purest pixels.

    e_r = mean of y over the pixels with a_r >= t_r, t_r the n-th largest a_r, n = max(1, round(fraction * pixels)). All
    pixels that tie with the n-th count, so that the order of the pixels does not matter.

    It helps if pure pixels exist and harms if they do not.

    Args:
        cube: (H, W, B).
        endmembers: (R, B); an endmember that no pixel holds (its largest abundance is 0) is kept.
        abundances: (H, W, R), from any method, of these endmembers.
        fraction: share of the valid pixels averaged, static, in (0, 1].
        mask: (H, W) bool, True for valid pixels.

    Returns:
        (R, B), in the units of the cube. Differentiable in cube; the choice of pixels counts as constant.

    Raises:
        InputError: if the shapes do not fit, the fraction is out of range, or outside jit if valid values are not
            finite.
    """
    check_cube(cube)
    check_abundances(abundances, endmembers)
    check_mask(mask, cube)
    check_finite(cube, mask)
    if np.shape(abundances)[:2] != np.shape(cube)[:2] or np.shape(endmembers)[1] != np.shape(cube)[2]:
        raise InputError(
            f"cube has shape {np.shape(cube)}, abundances {np.shape(abundances)} and endmembers "
            f"{np.shape(endmembers)}; expected (H, W, B), (H, W, R) and (R, B)."
        )
    if not 0.0 < fraction <= 1.0:
        raise InputError(f"fraction is {fraction}; expected a share of the pixels in (0, 1], such as 0.03.")
    Y, valid = pixels_of(cube, mask)
    a = lax.stop_gradient(jnp.asarray(abundances)).reshape(Y.shape[0], -1)
    a = jnp.where(valid[:, None], a, -jnp.inf)
    most = max(1, round(fraction * Y.shape[0]))
    largest, places = lax.top_k(a.T, most)
    # The mask may be traced: the number of averaged pixels is data, at most `most`.
    wanted = jnp.clip(jnp.round(fraction * jnp.sum(valid).astype(Y.dtype)).astype(jnp.int32), 1, most)
    # By index as well: compiled code may recompute an abundance, which then differs from its copy among the largest.
    counted = jnp.arange(most, dtype=jnp.int32) < wanted
    first = jnp.zeros(a.T.shape, bool).at[jnp.arange(a.shape[1])[:, None], places].set(counted[None, :]).T
    purest = (first | (a >= largest[:, wanted - 1][None, :])) & valid[:, None]
    weight = purest.astype(Y.dtype)
    mean = jnp.matmul(weight.T, Y, precision="highest") / jnp.maximum(jnp.sum(weight, axis=0), 1.0)[:, None]
    return jnp.where((largest[:, 0] > 0.0)[:, None], mean, jnp.asarray(endmembers))


def atgp(cube: Array, count: int, *, mask: Array | None = None) -> jax.Array:
    r"""Find endmembers as targets: the automatic target generation process.

    The brightest pixel, argmax |y|; then R - 1 times argmax |(I - A^+ A) y|, the pixel with the longest component
    orthogonal to all before. Deterministic. It depends on brightness as much as on shape: a dark material is found
    late.

    Args:
        cube: (H, W, B), any units.
        count: R, static, 2 <= R <= B and at most one for each valid pixel.
        mask: (H, W) bool, True for valid pixels.

    Returns:
        (R, B), unchanged pixels of the scene, in the order of the search. Differentiable in the cube as these pixels;
        the choice counts as constant.

    Raises:
        InputError: if the shapes do not fit, the count is out of range, or outside jit if valid values are not finite.

    Reference:
        Ren and Chang, Automatic spectral target recognition in hyperspectral imagery, IEEE Transactions on Aerospace
        and Electronic Systems 39(4), 2003.
    """
    Y, valid = checked(cube, count, mask)
    return Y[_farthest(lax.stop_gradient(Y), valid, count)]


def sivm(cube: Array, count: int, *, mask: Array | None = None, scaled: bool = False) -> jax.Array:
    r"""Find endmembers by simplex volume maximisation, one vertex after the other.

    The pixel farthest from the mean; then R - 1 times the pixel farthest from the affine hull of those before, which
    maximises the volume of the simplex. Distances are Euclidean, in the plane of R - 1 principal directions (`scaled`:
    of the pixels divided by their brightness). Deterministic.

    Args:
        cube: (H, W, B), any units.
        count: R, static, 2 <= R <= B and at most one for each valid pixel.
        mask: (H, W) bool, True for valid pixels.
        scaled: static; divide each pixel by its brightness first, if the illumination varies.

    Returns:
        (R, B), spectra of R pixels projected on the plane (or the span), in the units of the cube. They can be slightly
        negative. Not differentiated (derivative 0).

    Raises:
        InputError: if the shapes do not fit, the count is out of range, or outside jit if valid values are not finite.

    Reference:
        Thurau, Kersting, Wahabzada and Bauckhage, Descriptive matrix factorization for sustainability, Data Mining and
        Knowledge Discovery 24, 2012; Heylen, Burazerovic and Scheunders, Fully constrained least squares spectral
        unmixing by simplex projection, IEEE TGRS 49(11), 2011 (the same in exact distances).
    """
    Y, valid = checked(cube, count, mask)
    view = frame(Y, valid, count, scaled)
    return jnp.matmul(view.points[corners(view, valid, count)], view.lift, precision="highest")


@partial(jax.jit, static_argnames="count")
def corners(view: Frame, valid: jax.Array, count: int, held: jax.Array | None = None) -> jax.Array:
    """Return the pixels, (R,) int32, that simplex volume maximisation chooses in a frame.

    With vertices `held` (F, R), from `subspace.in_frame`, the other R - F.
    """
    x, bright = on_plane(view.points, view.height, valid)
    (triangle,) = lapack.qr_root(view.lift[1:].T)
    x = jnp.matmul(x, triangle.T, precision="highest")  # distances as between spectra
    if held is not None:
        v = jnp.matmul(held[:, 1:] / nonzero(held[:, :1]), triangle.T, precision="highest")
        x = x - v[:1]
        if v.shape[0] > 1:
            axes = lapack.qr((v[1:] - v[:1]).T)[0]
            for _ in range(2):  # twice, because one subtraction leaves a rounding error
                x = x - jnp.matmul(jnp.matmul(x, axes, precision="highest"), axes.T, precision="highest")
        return _farthest(x, bright, count - v.shape[0])
    first = jnp.argmax(jnp.where(bright, jnp.sum(x * x, axis=1), -1)).astype(jnp.int32)
    rest = _farthest(x - x[first][None], bright, count - 1)
    return jnp.concatenate([first[None], rest])


@partial(jax.jit, static_argnames="count")  # an eager call would compile its loop each time
def _farthest(x: jax.Array, valid: jax.Array, count: int) -> jax.Array:
    """Return `count` points, (count,) int32, each with the longest component orthogonal to all before."""

    def add(x: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        square = jnp.where(valid, jnp.sum(x * x, axis=1), -1)
        point = jnp.argmax(square).astype(jnp.int32)
        length = jnp.sqrt(jnp.maximum(square[point], 0))
        u = x[point] / positive(length)
        # Twice, because one subtraction leaves a rounding error along u.
        x = x - jnp.matmul(x, u, precision="highest")[:, None] * u[None]
        return x - jnp.matmul(x, u, precision="highest")[:, None] * u[None], point

    return lax.scan(add, x, None, length=count)[1]


_GAIN = 1e-3
"""Relative growth of the volume below which no vertex is exchanged: gains from rounding could repeat without end."""

_EXCHANGES = 20
"""Maximum number of exchanges for each endmember; each enlarges the volume, so that none repeats."""


def nfindr(cube: Array, count: int, *, mask: Array | None = None, scaled: bool = False) -> jax.Array:
    r"""Find endmembers as the vertices of the largest simplex of pixels.

    max over R pixels of |det (1, x_1; ..; 1, x_R)|, x the R - 1 principal coordinates (`scaled`: of the pixels divided
    by their brightness). Replacing vertex r by a pixel multiplies the volume by the modulus of its barycentric
    coordinate r, so that one solve gives the gain of all N R exchanges; the best one is made until none gains. It
    starts from `sivm` and is deterministic.

    Args:
        cube, count, mask, scaled: as `sivm`.

    Returns:
        (R, B), as `sivm`. Not differentiated (derivative 0).

    Raises:
        InputError: as `sivm`.

    Reference:
        Winter, N-FINDR: an algorithm for fast autonomous spectral end-member determination in hyperspectral data, Proc.
        SPIE 3753, 1999.
    """
    Y, valid = checked(cube, count, mask)
    view = frame(Y, valid, count, scaled)
    chosen = exchange(view, valid, corners(view, valid, count))
    return jnp.matmul(view.points[chosen], view.lift, precision="highest")


@jax.jit  # an eager call would compile its loop each time
def exchange(view: Frame, valid: jax.Array, chosen: jax.Array, held: jax.Array | None = None) -> jax.Array:
    """Return the pixels (R,) at which no single exchange enlarges the simplex; with `held` as for `corners`."""
    x, bright = on_plane(view.points, view.height, valid)
    x = jnp.concatenate([bright.astype(x.dtype)[:, None], x], axis=1)
    R = chosen.size
    first = jnp.zeros((0, x.shape[1]), x.dtype) if held is None else held / nonzero(held[:, :1])

    def gains(chosen: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the largest factor of the volume, and the exchange (pixel * R + vertex) that gives it."""
        simplex = x[chosen] if held is None else jnp.concatenate([first, x[chosen]])
        ratio = jnp.abs(jnp.matmul(x, lapack.inverse(simplex), precision="highest"))[:, first.shape[0] :]
        # Vertices that coincide span no volume: NaN, and no gain.
        ratio = jnp.where(bright[:, None] & jnp.isfinite(ratio), ratio, 0).reshape(-1)
        best = jnp.argmax(ratio).astype(jnp.int32)
        return ratio[best], best

    def gains_left(carry: tuple) -> jax.Array:
        return (carry[1] > 1 + _GAIN) & (carry[3] < _EXCHANGES * R)

    def swap(carry: tuple) -> tuple:
        chosen, _, best, steps = carry
        chosen = chosen.at[jnp.mod(best, R)].set(best // R)
        return chosen, *gains(chosen), steps + 1

    return lax.while_loop(gains_left, swap, (chosen, *gains(chosen), jnp.zeros((), jnp.int32)))[0]
