"""Measure, on the host and in double precision, what says how many endmembers a scene has.

`evidence` returns curves over the number of endmembers; `criteria` counts by classical rules. `learned.count` reads
both and decides. No random numbers: samples of pixels are taken at even steps.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MOST = 15
"""Largest number of endmembers that is looked for, unless another is given."""

_PIXELS = 25_000
"""Larger scenes are measured in tiles that hold about as many pixels."""

_TILE = 16
_SOLVED = 200
"""Pixels on which the unmixing is judged."""

_ALIKE = 0.3
"""Share of the pairs of neighbours, the most alike ones, whose differences count as noise."""

_EXCHANGES = 5
_LEAST_GAIN = 0.05
"""Relative fall of the held-out error that a further endmember must bring."""


class Evidence(NamedTuple):
    """Curves over k = 1 .. K, the number of a direction or of endmembers; logarithms of ratios, without a unit.

    Attributes:
        above: log eigenvalues of the covariance, each band divided by its noise (`noise.band_noise`), over the largest
            of pure noise.
        smooth: log of the share of a direction that neighbours have in common: eigenvalues of the covariance over that
            of the differences between neighbours (maximum noise fraction).
        correlated: log eigenvalues over the noise with its correlation between bands.
        along: correlation of neighbours along the directions of `above`.
        tails: log kurtosis along them: rare materials have heavy tails.
        height: (2, K), log distance of the k-th extreme pixel to the span of those before, over the noise, on the plane
            (sum to one) and on the cone (free brightness).
        error: (2, K), log RMS error of held-out bands with k extreme pixels, over the noise, plane and cone.
        left: log energy that k directions leave, over the noise.
        share: log energy that k directions leave, over all.
        freedom: pixels over bands.
    """

    above: Floats
    smooth: Floats
    correlated: Floats
    along: Floats
    tails: Floats
    height: Floats
    error: Floats
    left: Floats
    share: Floats
    freedom: float


class Criteria(NamedTuple):
    """Numbers of endmembers by single rules, for comparison.

    Attributes:
        hysime: directions whose energy exceeds twice the noise of regression (Bioucas-Dias and Nascimento 2008).
        nwhfc: directions in which the mean has a component, bands divided by their noise (Chang and Du 2004).
        correlated: directions above twice the noise with its correlation between bands, and the mean.
        gap: the largest ratio of successive eigenvalues under that noise.
        held_out: from this number on, a further endmember lowers the error of held-out bands by less than 5 %.
    """

    hysime: int
    nwhfc: int
    correlated: int
    gap: int
    held_out: int


class _Moments(NamedTuple):
    """Pixels (N, B) over their RMS, second moments, mean, covariance, and the noise of each band and in full."""

    pixels: Floats
    second: Floats
    mean: Floats
    covariance: Floats
    band_noise: Floats
    differences: Floats
    noise: Floats


def measure(cube: NDArray[np.generic], mask: NDArray[np.bool_] | None, most: int = MOST) -> tuple[Evidence, Criteria]:
    """Return the evidence for 1 to `most` + 2 endmembers, and the counts of single rules.

    Args:
        cube: (H, W, B), finite where valid, not zero everywhere, more valid pixels than bands.
        mask: (H, W) bool, or None.
        most: the largest number that rules by curves may find.
    """
    tiles, valid = _tiles(np.asarray(cube), mask)
    moments, whitened = _moments(tiles, valid)
    longest = min(most + 2, moments.mean.size - 1)
    sigma = np.sqrt(moments.band_noise)
    pixels, bands = moments.pixels.shape
    edge = (1 + np.sqrt(bands / pixels)) ** 2
    values, axes = _descending(moments.covariance / np.outer(sigma, sigma))
    scores = (moments.pixels - moments.mean) / sigma @ axes[:, :longest]
    above = _log(values[:longest] / edge)
    maps = np.zeros((*valid.shape, longest))
    maps[valid] = scores
    along = _neighbour_correlation(maps, valid)
    tails = _log(np.mean(scores**4, axis=0) / np.maximum(np.mean(scores**2, axis=0) ** 2, 1e-300))
    smooth = _log(_relative_values(moments.covariance, moments.differences, sigma)[:longest])
    by_noise = _relative_values(moments.covariance, moments.noise, sigma)
    raw = _descending(moments.second)[0]
    tail = np.cumsum(raw[::-1])[::-1]
    energy = float(np.sum(moments.band_noise))
    plane, cone = (_unmixed(moments.pixels / whitened, longest, scaled) for scaled in (False, True))
    evidence = Evidence(
        above, smooth, _log(by_noise[:longest]), along, tails, np.stack([plane[0], cone[0]]),
        np.stack([plane[1], cone[1]]), _log(tail[1 : longest + 1] / energy), _log(tail[1 : longest + 1] / tail[0]),
        pixels / bands,
    )  # fmt: skip
    least = np.minimum.reduce(evidence.error)
    fall = least[:-1] - least[1:]
    enough = np.flatnonzero(fall[1:most] < _LEAST_GAIN)
    gaps = -np.diff(evidence.correlated)[:most]
    return evidence, Criteria(
        _hysime(moments), _virtual_dimension(moments), 1 + int(np.sum(by_noise > 2)), 2 + int(np.argmax(gaps)),
        2 + int(enough[0]) if enough.size else most,
    )  # fmt: skip


def _tiles(cube: NDArray[np.generic], mask: NDArray[np.bool_] | None) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the scene as tiles (T, h, w, B), all of it in one if it is small, and the valid pixels (T, h, w)."""
    rows, columns = cube.shape[:2]
    valid = np.ones((rows, columns), np.bool_) if mask is None else np.asarray(mask)
    if rows * columns <= _PIXELS:
        return np.asarray(cube[None], np.float64), valid[None]
    high, wide = min(_TILE, rows), min(_TILE, columns)
    corners = [(i, j) for i in range(0, rows - high + 1, high) for j in range(0, columns - wide + 1, wide)]
    # Tiles without valid pixels, outside the swath, say nothing.
    filled = [(i, j) for i, j in corners if valid[i : i + high, j : j + wide].any()] or corners
    number = min(len(filled), max(_PIXELS // (high * wide), 1))
    kept = [filled[int((n + 0.5) * len(filled) / number)] for n in range(number)]
    cut = [np.s_[i : i + high, j : j + wide] for i, j in kept]
    return np.stack([np.asarray(cube[where], np.float64) for where in cut]), np.stack([valid[where] for where in cut])


def _moments(tiles: Floats, valid: NDArray[np.bool_]) -> tuple[_Moments, Floats]:
    """Return moments and noise, in units of the RMS, and the noise of each band, not below a third of the median."""
    tiles = np.where(valid[..., None], tiles, 0)
    Y = tiles[valid]
    rms = float(np.sqrt(np.mean(Y**2)))
    tiles, Y = tiles / rms, Y / rms
    pixels, bands = Y.shape
    second = Y.T @ Y / pixels
    mean = Y.mean(axis=0)
    covariance = second - np.outer(mean, mean)
    ridge = 1e-14 * np.trace(second)  # rounding of the stored values
    precision = np.linalg.inv(second + ridge * np.eye(bands))
    variance = pixels / max(pixels - bands + 1, 1) / np.diag(precision)
    scaled = Y / np.sqrt(variance)
    axes = _descending(scaled.T @ scaled / pixels)[1][:, : min(10, bands)]
    differences = np.concatenate(
        [
            (tiles[:, 1:] - tiles[:, :-1])[valid[:, 1:] & valid[:, :-1]],
            (tiles[:, :, 1:] - tiles[:, :, :-1])[valid[:, :, 1:] & valid[:, :, :-1]],
        ]
    )
    if differences.shape[0] < 4 * bands:  # a line of pixels, or scattered ones
        return _Moments(Y, second, mean, covariance, variance, covariance, np.diag(variance)), np.sqrt(variance)
    size = np.sum(np.square((differences / np.sqrt(variance)) @ axes), axis=1)
    alike = differences[size <= np.quantile(size, _ALIKE)]
    full = alike.T @ alike / (2 * len(alike))
    # Few pairs for many bands: the diagonal is known better than the rest.
    noise = 0.95 * full + 0.05 * np.diag(np.diag(full)) + ridge * np.eye(bands)
    of_neighbours = differences.T @ differences / (2 * len(differences)) + ridge * np.eye(bands)
    sigma = np.sqrt(np.maximum(variance, np.median(variance) / 9))
    return _Moments(Y, second, mean, covariance, variance, of_neighbours, noise), sigma


def _descending(matrix: Floats) -> tuple[Floats, Floats]:
    values, vectors = np.linalg.eigh(matrix)
    return np.maximum(values[::-1], 0), vectors[:, ::-1]


def _relative_values(covariance: Floats, noise: Floats, sigma: Floats) -> Floats:
    """Return the eigenvalues of a covariance over that of the noise, largest first; sigma conditions the bands."""
    scale = np.outer(sigma, sigma)
    values, axes = _descending(noise / scale)
    root = axes / np.sqrt(np.maximum(values, 1e-6 * values[0]))
    return _descending(root.T @ (covariance / scale) @ root)[0]


def _neighbour_correlation(maps: Floats, valid: NDArray[np.bool_]) -> Floats:
    """Return the mean correlation (K,) of horizontal and vertical neighbours of maps (T, h, w, K) of mean zero."""
    across, down = valid[:, :, 1:] & valid[:, :, :-1], valid[:, 1:] & valid[:, :-1]
    products = np.sum((maps[:, :, 1:] * maps[:, :, :-1])[across], axis=0)
    products += np.sum((maps[:, 1:] * maps[:, :-1])[down], axis=0)
    pairs = max(int(across.sum() + down.sum()), 1)
    variance = np.sum(maps**2, axis=(0, 1, 2)) / max(int(valid.sum()), 1)
    return products / pairs / np.maximum(variance, 1e-300)


def _unmixed(Y: Floats, longest: int, scaled: bool) -> tuple[Floats, Floats]:
    """Return, for 1 to `longest` extreme pixels, the log height of the last and the log error of held-out bands.

    Extreme pixels by successive projection in the first `longest` directions: each is the one farthest from the span of
    those before, averaged with the 0.1 % that reach farthest in its direction. Coefficients, >= 0, follow from one half
    of the bands (in blocks, because the noise of neighbouring bands may be correlated) and judge the other half; on the
    plane a heavy further band holds their sum at one.

    Args:
        Y: (N, B), bands divided by their noise.
        longest: K.
        scaled: whether pixels are first divided by their brightness.
    """
    pixels, bands = Y.shape
    mean = Y.mean(axis=0)
    if scaled:
        axes = _descending(Y.T @ Y / pixels)[1][:, :longest]
        level = Y @ mean / (mean @ mean)
        bright = level > 0.1 * np.median(level)
        x = Y @ axes / np.where(bright, level, 1)[:, None] * bright[:, None]
    else:
        centred = Y - mean
        axes = _descending(centred.T @ centred / pixels)[1][:, :longest]
        x = centred @ axes
        x = np.concatenate([x, np.full((pixels, 1), np.sqrt(np.max(np.sum(x**2, axis=1))))], axis=1)
    rest = x.copy()
    near = max(pixels // 1000, 1)
    spectra, heights = [], []
    for _ in range(longest):
        size = np.sum(rest**2, axis=1)
        first = rest[int(np.argmax(size))]
        heights.append(np.sqrt(size.max()))
        kept = np.argpartition(-(rest @ first), near - 1)[:near]
        spectra.append((Y[kept] / (level[kept, None] if scaled else 1)).mean(axis=0))
        # The direction of the mean of these, because the extreme pixel alone has more noise.
        u = rest[kept].mean(axis=0)
        u = u / max(float(np.linalg.norm(u)), 1e-300)
        rest = rest - np.outer(rest @ u, u)
    E = np.stack(spectra)
    sample = Y[:: max(pixels // _SOLVED, 1)]
    block = max(bands // 32, 1)
    even = (np.arange(bands) // block) % 2 == 0
    squares = np.zeros(longest)
    for seen in (even, ~even):
        weight = 0.0 if scaled else 10 * float(np.sqrt(np.mean(np.sum(sample[:, seen] ** 2, axis=1))))
        G = E[:, seen] @ E[:, seen].T + weight**2
        F = sample[:, seen] @ E[:, seen].T + weight**2
        used = np.zeros((len(sample), 0), np.bool_)
        for k in range(1, longest + 1):
            x, used = _not_negative(G[:k, :k], F[:, :k], np.pad(used, ((0, 0), (0, 1)), constant_values=True))
            squares[k - 1] += np.sum(np.square(sample[:, ~seen] - x @ E[:k, ~seen]))
    return _log(np.asarray(heights)), 0.5 * _log(squares / sample.size)


def _not_negative(G: Floats, F: Floats, kept: NDArray[np.bool_]) -> tuple[Floats, NDArray[np.bool_]]:
    """Return x (N, k) >= 0 that minimises x G x / 2 - F x in each pixel, and which coefficients may differ from zero.

    Block pivoting from the coefficients `kept` (N, k); where it has not ended after a few exchanges, coefficients are
    only left out from then on, so that the error is a little above that of the solution.
    """
    k = G.shape[0]
    G = G + 1e-9 * np.trace(G) / k * np.eye(k)
    kept, x = kept.copy(), np.zeros(F.shape)
    wrong: NDArray[np.intp] = np.arange(len(F))
    for step in range(_EXCHANGES + k):
        some = kept[wrong]
        both = some[:, :, None] & some[:, None, :]
        matrices = np.where(both, G, 0)
        matrices[:, np.arange(k), np.arange(k)] += ~some
        x[wrong] = np.linalg.solve(matrices, np.where(some, F[wrong], 0)[..., None])[..., 0]
        out = some & (x[wrong] < 0)
        back = ~some & (F[wrong] - x[wrong] @ G > 1e-9 * np.abs(F[wrong])) & (step < _EXCHANGES)
        change = out | back
        kept[wrong] = some ^ change
        wrong = wrong[change.any(axis=1)]
        if not wrong.size:
            break
    return np.maximum(x, 0), kept


def _hysime(moments: _Moments) -> int:
    """Count as `dimension.hysime`, from the second moments."""
    bands, pixels = moments.mean.size, len(moments.pixels)
    values, vectors = _descending(moments.second)
    values = np.maximum(values, 1e-14 * values[0])
    precision = (vectors / values) @ vectors.T
    D = np.diag(precision)
    signal = moments.second - np.eye(bands) / D[:, None] - np.eye(bands) / D[None] + precision / np.outer(D, D)
    noise = pixels / max(pixels - bands + 1, 1) * precision / np.outer(D, D)
    axes = _descending(signal)[1]
    energy, cost = (np.sum(axes * (matrix @ axes), axis=0) for matrix in (moments.second, noise))
    return int(np.sum(energy > 2 * cost))


def _virtual_dimension(moments: _Moments) -> int:
    """Count as `dimension.virtual_dimension`, whitened, with a false alarm of 0.001."""
    scale = np.sqrt(np.outer(moments.band_noise, moments.band_noise))
    second, covariance = (_descending(matrix / scale)[0] for matrix in (moments.second, moments.covariance))
    spread = np.sqrt(2 * (second**2 + covariance**2) / len(moments.pixels))
    return int(np.sum(second - covariance > 3.0902323 * spread))


def _log(values: Floats) -> Floats:
    return np.log(np.maximum(values, 1e-12))
