"""What the learned choice reads of each way to unmix a scene, without the truth and without any size.

A way is a candidate's spectra and a mixing: the candidates of `endmembers.candidates` under the constraint they were
made for, and those under the cone with a soft sum too. Features are ratios, logarithms and shares, bounded: numbers of
pixels, bands or endmembers and units are not among them, because a network trained on some sizes is wrong on others.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dequnmix_jax.endmembers.candidates import CANDIDATES, METHODS, SceneScores, Scores
from dequnmix_jax.endmembers.selection import SIMPLEX, SOFT
from dequnmix_jax.ops import small_systems
from dequnmix_jax.ops.guards import positive


class Way(NamedTuple):
    """A way to unmix: an index into the spectra, and an index into `selection.CONSTRAINTS`."""

    spectra: int
    constraint: int


HALF = len(CANDIDATES) // 2

PLAIN = 3 * HALF
"""Ways before those with refined spectra, of which the learned equilibrium makes one for each geometry."""


def ways_of(refined: bool) -> tuple[Way, ...]:
    """Return the ways: 24, or 27 with refined spectra."""
    first = [Way(i, i // HALF) for i in range(2 * HALF)] + [Way(i, SOFT) for i in range(HALF, 2 * HALF)]
    more = [Way(2 * HALF, 0), Way(2 * HALF + 1, 1), Way(2 * HALF + 1, SOFT)]
    return tuple(first + (more if refined else []))


class Shape(NamedTuple):
    """Geometric scores of one candidate, () each, from its unconstrained coefficients.

    Attributes:
        outside: mean sum of the negative fractions.
        outside_noise: RMS of the negative fractions in units of their noise.
        far: share of the pixels with a fraction more than 4 standard deviations below zero.
        brightness: standard deviation of the log brightness (under the simplex: of the sum).
        rough: semivariance of the maps at distance one over their variance.
        slope: the same at distance two less that at one.
        brightness_rough: semivariance of the log brightness over its variance.
        dominance: mean largest fraction.
        rarest: R times the smallest mean fraction.
        explained: share of the variance of the log brightness that is linear in the fractions.
        pure, least_pure: the fraction that 0.5 % of the pixels exceed: mean and smallest of the endmembers.
        noise_share: noise of the fractions over the variance of the maps.
        noise: largest standard deviation of a fraction.
        light: of the log brightness.
    """

    outside: jax.Array
    outside_noise: jax.Array
    far: jax.Array
    brightness: jax.Array
    rough: jax.Array
    slope: jax.Array
    brightness_rough: jax.Array
    dominance: jax.Array
    rarest: jax.Array
    explained: jax.Array
    pure: jax.Array
    least_pure: jax.Array
    noise_share: jax.Array
    noise: jax.Array
    light: "Light"


class Light(NamedTuple):
    """How the log brightness of the pixels depends on their fractions under one candidate, () each.

    A brightness of each material bends it linearly, products of spectra bend it at mixed pixels, and one of each pixel
    not at all: what tells the mixing models apart. Mixedness is 1 - sum_r a_r^2; "the rest" is what is not linear in
    the fractions.

    Attributes:
        bent: correlation of the rests of the log brightness and of the mixedness, absolute.
        bend: slope of the rest of the log brightness on that of the mixedness.
        products: share of the rest of the log brightness that products of two fractions explain.
        darkening: correlation of the log brightness and the mixedness.
        skew, kurtosis: third and fourth moment, standardised.
        darkest, brightest: the standardised values below and above which 2 % of the pixels lie.
        pure: log of its variance among the 5 % purest pixels, around the mean of each endmember, over that of all.
        mixed: log of the variance of the rest among the 30 % most mixed pixels over that of all.
        purest: largest fraction that 5 % of the pixels exceed.
    """

    bent: jax.Array
    bend: jax.Array
    products: jax.Array
    darkening: jax.Array
    skew: jax.Array
    kurtosis: jax.Array
    darkest: jax.Array
    brightest: jax.Array
    pure: jax.Array
    mixed: jax.Array
    purest: jax.Array


def shape_scores(
    points: jax.Array,
    noise: jax.Array,
    facets: jax.Array,
    level: jax.Array,
    valid: jax.Array,
    scaled: bool | jax.Array,
) -> Shape:
    """Return the geometric scores of a candidate.

    Args:
        points: (H W, R), in the frame of its geometry.
        noise: (R, R), covariance of the points.
        facets: (R, R), inverse of its vertices, transposed: coefficients are points facets^T.
        level: (R,), maximum of each spectrum; under the cone fractions are those of spectra of maximum one.
        valid: (H, W) bool.
        scaled: () bool, True for the cone.
    """
    unit = jnp.where(scaled, level, 1)
    x = jnp.matmul(points, facets.T, precision="highest") * unit[None]
    count = x.shape[1]
    inside = valid.reshape(-1)
    total = jnp.sum(x, axis=1)
    pixels = jnp.maximum(jnp.sum(inside), 1)
    middle = _quantile(total, inside, 0.5)
    ok = inside & (total >= 0.05 * middle)
    number = jnp.maximum(jnp.sum(ok), 1).astype(x.dtype)
    a = jnp.where(ok[:, None], x / jnp.where(ok, total, 1)[:, None], 0)
    variance = jnp.maximum(jnp.sum(jnp.matmul(facets, noise, precision="highest") * facets, axis=1), 1e-12)
    sigma = jnp.sqrt(variance) * unit / jnp.where(scaled, positive(middle), 1)
    mean_of = lambda y: jnp.sum(jnp.where(ok, y, 0)) / number  # noqa: E731
    low = jnp.minimum(a / sigma[None], 0)
    light = jnp.log(jnp.where(ok, total, 1))
    light = jnp.where(ok, light - mean_of(light), 0)
    spread = jnp.sum(jnp.square(light)) / number
    inner = jnp.maximum(a, 0)
    inner = inner / jnp.maximum(jnp.sum(inner, axis=1), 1e-9)[:, None]
    average = jnp.sum(inner, axis=0) / number
    centred = jnp.where(ok[:, None], inner - average[None], 0)
    varied = jnp.sum(jnp.square(centred)) / (number * count) + 1e-9
    one, two = (_semivariance(inner, ok, valid.shape, d) for d in (1, 2))
    light_one = _semivariance(light[:, None], ok, valid.shape, 1)
    G = jnp.matmul(centred.T, centred, precision="highest")
    G = G + (1e-3 * jnp.trace(G) + 1e-12) * jnp.eye(count, dtype=x.dtype)
    b = jnp.matmul(light, centred, precision="highest")
    explained = jnp.sum(b * small_systems.solve(G, b)) / jnp.maximum(spread * number, 1e-9)
    rank = jnp.maximum(pixels // 200, 1) - 1
    largest = jax.lax.top_k(jnp.where(ok[:, None], a, -jnp.inf).T, max(valid.size // 200, 1))[0]
    top = jnp.clip(largest[:, rank], 0, 1.5)
    return Shape(
        mean_of(jnp.sum(jnp.maximum(-a, 0), axis=1)),
        jnp.sqrt(jnp.sum(jnp.square(low)) / (number * count)),
        mean_of((jnp.min(low, axis=1) < -4).astype(x.dtype)),
        jnp.sqrt(spread),
        one / varied,
        (two - one) / varied,
        light_one / (spread + 1e-9),
        mean_of(jnp.max(inner, axis=1)),
        jnp.min(average) * count,
        explained,
        jnp.mean(top),
        jnp.min(top),
        jnp.mean(jnp.square(sigma)) / varied,
        jnp.max(sigma),
        light_scores(inner, light, ok, pixels),
    )


def light_scores(inner: jax.Array, light: jax.Array, ok: jax.Array, pixels: jax.Array) -> Light:
    """Return how the log brightness depends on the fractions.

    Args:
        inner: (N, R), fractions, >= 0, of sum one.
        light: (N,), log brightness less its mean over the pixels that count, 0 elsewhere.
        ok: (N,) bool, the pixels that count.
        pixels: () int, the number of valid pixels, which sets the ranks.
    """
    total, count = inner.shape
    number = jnp.maximum(jnp.sum(ok), 1).astype(light.dtype)
    mean_of = lambda y: jnp.sum(jnp.where(ok, y, 0)) / number  # noqa: E731
    variance = mean_of(jnp.square(light))
    centred = jnp.where(ok[:, None], inner - (jnp.sum(jnp.where(ok[:, None], inner, 0), axis=0) / number)[None], 0)
    mixedness = 1 - jnp.sum(jnp.square(inner), axis=1)
    about = jnp.where(ok, mixedness - mean_of(mixedness), 0)
    rest, bent = _rest(light, centred), _rest(about, centred)
    of_rest, of_bent = mean_of(jnp.square(rest)), mean_of(jnp.square(bent))
    along = mean_of(rest * bent)
    standard = jnp.clip(light / jnp.sqrt(variance + 1e-9), -6, 6)
    square = jnp.square(standard)

    def exceeded(y: jax.Array, most: int, rank: jax.Array) -> jax.Array:
        """Return the value of a rank, from 0, among the largest; -9, below all, where there are not so many."""
        return jax.lax.top_k(jnp.where(ok, y, -9), min(most, total))[0][jnp.clip(rank, 0, min(most, total) - 1)]

    tail = jnp.floor(0.02 * (number - 1)).astype(jnp.int32)
    largest = jnp.max(inner, axis=1)
    purest = exceeded(largest, total // 20 + 1, pixels // 20)
    dominant = jax.nn.one_hot(jnp.argmax(inner, axis=1), count, dtype=light.dtype)
    pure = jnp.where((ok & (largest >= purest))[:, None], dominant, 0)
    among = jnp.sum(pure, axis=0)
    of_pure = jnp.matmul(light, pure, precision="highest") / jnp.maximum(among, 1)
    around = jnp.square(light[:, None] - of_pure[None])
    pure_variance = jnp.sum(pure * around) / jnp.maximum(jnp.sum(among), 1)
    mixed = ok & (mixedness >= exceeded(mixedness, 3 * total // 10 + 1, 3 * pixels // 10 - 1))
    mixed_variance = jnp.sum(jnp.where(mixed, jnp.square(rest), 0)) / jnp.maximum(jnp.sum(mixed), 1).astype(rest.dtype)
    return Light(
        jnp.abs(along) / jnp.sqrt((of_rest + 1e-9) * (of_bent + 1e-5)),
        along / (of_bent + 1e-5),
        _of_products(inner, light, ok, rest),
        mean_of(light * about) / jnp.sqrt((variance + 1e-9) * (mean_of(jnp.square(about)) + 1e-6)),
        mean_of(square * standard),
        mean_of(jnp.square(square)),
        -exceeded(-standard, total // 50 + 1, tail),
        exceeded(standard, total // 50 + 1, tail),
        jnp.log((pure_variance + 1e-7) / (variance + 1e-7)),
        jnp.log((mixed_variance + 1e-7) / (of_rest + 1e-7)),
        purest,
    )


def _rest(y: jax.Array, x: jax.Array) -> jax.Array:
    """Return what of y (N,) is not linear in x (N, K)."""
    G = jnp.matmul(x.T, x, precision="highest")
    G = G + (1e-4 * jnp.trace(G) / x.shape[1] + 1e-9) * jnp.eye(x.shape[1], dtype=x.dtype)
    return y - jnp.matmul(x, small_systems.solve(G, jnp.matmul(y, x, precision="highest")), precision="highest")


_SOME = 4096
"""Pixels of which the products of fractions are made at least, where the image has so many."""


def _of_products(inner: jax.Array, light: jax.Array, ok: jax.Array, rest: jax.Array) -> jax.Array:
    """Return the share of the rest of the log brightness that products of two fractions explain, on some pixels."""
    step = max(1, inner.shape[0] // _SOME)
    inner, light, rest, ok = inner[::step], light[::step], rest[::step], ok[::step]
    first, second = np.triu_indices(inner.shape[1], 1)
    x = jnp.concatenate([inner, inner[:, first] * inner[:, second]], axis=1)
    number = jnp.maximum(jnp.sum(ok), 1).astype(x.dtype)
    x = jnp.where(ok[:, None], x - (jnp.sum(jnp.where(ok[:, None], x, 0), axis=0) / number)[None], 0)
    light = jnp.where(ok, light - jnp.sum(light) / number, 0)
    left = jnp.sum(jnp.square(_rest(light, x))) / number
    return 1 - left / (jnp.sum(jnp.square(rest)) / number + 1e-9)


def _quantile(x: jax.Array, inside: jax.Array, share: float) -> jax.Array:
    last = jnp.maximum(jnp.sum(inside) - 1, 0).astype(jnp.float32)
    return jnp.sort(jnp.where(inside, x, jnp.inf))[jnp.floor(share * last).astype(jnp.int32)]


def _semivariance(x: jax.Array, ok: jax.Array, shape: tuple[int, ...], distance: int) -> jax.Array:
    """Return half the mean squared difference at a distance along rows and columns, mean of both and of the maps."""
    maps, both = x.reshape(*shape, -1), ok.reshape(shape)
    sides = []
    for axis in (0, 1):
        size = shape[axis]
        if size <= distance:
            continue
        ends = [
            tuple(jax.lax.slice_in_dim(z, begin, size - distance + begin, axis=axis) for z in (maps, both))
            for begin in (distance, 0)
        ]
        pairs = ends[0][1] & ends[1][1]
        square = jnp.mean(jnp.square(ends[0][0] - ends[1][0]), axis=-1)
        number = jnp.maximum(jnp.sum(pairs), 1).astype(x.dtype)
        sides.append(jnp.sum(jnp.where(pairs, square, 0)) / number)
    return jnp.mean(jnp.stack(sides)) / 2 if sides else jnp.zeros((), x.dtype)


def _log(x: jax.Array, least: float = 1e-9) -> jax.Array:
    return jnp.log(jnp.maximum(jnp.nan_to_num(x, nan=1.0, posinf=1.0), least))


def context(scores: Scores, scene: SceneScores, scaled: bool) -> jax.Array:
    """Return the features of a scene that the learned equilibrium reads, (5,), from the scores of the candidates."""
    error = _log(scores.error[: 2 * HALF])
    linear, cone = jnp.min(error[:HALF]), jnp.min(error[HALF:])
    floor = 0.5 * _log(scene.floor, 1e-14)[int(scaled)]
    values = (
        jnp.clip(_log(scene.variability, 1e-4) / 3, -3, 0.5),
        jnp.clip(floor / 3, -3, 0),
        jnp.clip((cone if scaled else linear) - floor, -1, 5),
        jnp.clip(linear - cone, -1, 3),
        jnp.asarray(scaled, error.dtype),
    )
    return jnp.stack([jnp.asarray(v, error.dtype) for v in values])


def features(scores: Scores, scene: SceneScores, shape: Shape, rule: jax.Array, refined: bool) -> jax.Array:
    """Return the features (W, F) of all ways.

    Args:
        scores, shape: (C,) each, of 16 candidates, or of 18 with the refined ones.
        scene: of the scene.
        rule: () int32, the way that `selection.decide` chooses.
        refined: static, whether there are 18.
    """
    ways = ways_of(refined)
    index = np.asarray([way.spectra for way in ways])
    plane = np.asarray([way.constraint == SIMPLEX for way in ways])
    error, angle = _log(scores.error)[index], _log(scores.angle)[index]
    floors = 0.5 * _log(scene.floor, 1e-14)
    floor = jnp.where(plane, floors[0], floors[1])
    volume = jnp.nan_to_num(scores.volume)[index]
    low_plane = jnp.min(jnp.where(plane, error, jnp.inf))
    low_cone = jnp.min(jnp.where(plane, jnp.inf, error))
    shared = _log(scores.shared)[index]
    of_way = [
        jnp.clip(error - jnp.min(error), 0, 3),
        jnp.clip(error - floor, -1, 5),
        jnp.clip(angle - jnp.min(angle), 0, 3),
        jnp.clip(volume - jnp.median(volume), -3, 3),
        jnp.clip(_log(scores.instability, 1e-4)[index], -8, 0) / 3,
        jnp.clip(jnp.nan_to_num(scores.purity)[index], 0, 1),
        jnp.clip(shared - error, -2, 2),
    ]
    of_scene = [
        jnp.clip(low_plane - low_cone, -1, 3),
        jnp.clip(jnp.min(jnp.where(plane, shared, jnp.inf)) - low_cone, -1, 3),
        jnp.clip(low_plane - floors[0], -1, 5),
        jnp.clip(floors[0], -9, 0) / 3,
        jnp.clip(_log(scene.variability, 1e-4), -9, 1) / 3,
        (scene.beyond >= 1).astype(error.dtype),
        (scene.lacking[0] >= 1).astype(error.dtype),
    ]
    geometric = _shape_features(shape)[index]
    relative = geometric - jnp.median(geometric, axis=0)[None]
    number = len(ways)
    columns = [
        jnp.stack(of_way, axis=-1),
        jnp.broadcast_to(jnp.stack(of_scene)[None], (number, len(of_scene))),
        jnp.asarray(_kinds(ways), error.dtype),
        (jnp.arange(number) == rule).astype(error.dtype)[:, None],
        geometric,
        relative[:, np.asarray([0, 1, 2, 4, 7])],
    ]
    # A degenerate simplex can have any coefficient.
    return jnp.clip(jnp.nan_to_num(jnp.concatenate([c.astype(jnp.float32) for c in columns], axis=-1)), -10, 10)


def _shape_features(s: Shape) -> jax.Array:
    def log(x: jax.Array, least: float) -> jax.Array:
        return jnp.log(jnp.maximum(jnp.nan_to_num(x, nan=1.0, posinf=1e3), least))

    values = (
        log(s.outside, 1e-5) / 3,
        jnp.clip(log(s.outside_noise, 1e-3), -5, 5) / 3,
        log(s.far, 1e-4) / 3,
        log(s.brightness, 1e-3) / 2,
        jnp.clip(log(s.rough, 1e-4), -9, 1) / 3,
        jnp.clip(s.slope, -1, 1),
        jnp.clip(s.brightness_rough, -0.2, 2),
        s.dominance,
        jnp.clip(s.rarest, 0, 1),
        jnp.clip(s.explained, -0.2, 1),
        jnp.clip(s.pure, 0, 1.5),
        jnp.clip(s.least_pure, -0.2, 1.5),
        jnp.clip(log(s.noise_share, 1e-8), -14, 2) / 4,
        jnp.clip(log(s.noise, 1e-6), -10, 1) / 3,
        jnp.clip(s.light.bent, 0, 1),
        jnp.clip(s.light.bend, -2, 2),
        jnp.clip(s.light.products, -0.2, 1),
        s.light.darkening,
        jnp.clip(s.light.skew, -3, 3),
        jnp.clip(log(s.light.kurtosis, 1), 0, 3.4),
        jnp.clip(s.light.darkest, -6, 6),
        jnp.clip(s.light.brightest, -6, 6),
        jnp.clip(s.light.pure, -6, 2),
        jnp.clip(s.light.mixed, -3, 3),
        jnp.clip(s.light.purest, 0, 1),
    )
    return jnp.nan_to_num(jnp.stack(values, axis=-1))


def _kinds(ways: tuple[Way, ...]) -> np.ndarray:
    """Return what each way is: one of four methods, purified, one of three constraints, refined."""
    kinds = np.zeros((len(ways), 9), np.float32)
    for i, way in enumerate(ways):
        kinds[i, 5 + way.constraint] = 1
        if way.spectra >= 2 * HALF:
            kinds[i, 8] = 1
        else:
            candidate = CANDIDATES[way.spectra]
            kinds[i, METHODS.index(candidate.method)] = 1
            kinds[i, 4] = candidate.purified
    return kinds
