"""Score ways to unmix without the truth: 16 candidates, and how well each explains held-out bands."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dequnmix_jax import metrics
from dequnmix_jax.abundances.least_squares import fcls, nnls
from dequnmix_jax.checks import Array
from dequnmix_jax.endmembers.minimum_volume_simplex import RUNS, enclosing
from dequnmix_jax.endmembers.noise import band_noise, signal_directions, signal_subspace, simplex_noise, variability
from dequnmix_jax.endmembers.pure_pixel import corners, exchange, purify, vca
from dequnmix_jax.endmembers.subspace import Frame, frame, in_frame, pixels
from dequnmix_jax.mixing import normalise_abundances, scale_to_unit_maximum
from dequnmix_jax.ops import lapack
from dequnmix_jax.ops.convolution import convolve
from dequnmix_jax.ops.guards import positive, unit_rows


class Candidate(NamedTuple):
    """A way to unmix: a `method`, whether its spectra are `purified`, and the `constraint`, "simplex" or "cone"."""

    method: str
    purified: bool
    constraint: str

    def __str__(self) -> str:
        unmixing = "FCLS" if self.constraint == "simplex" else "scaled NNLS"
        return f"{self.method}{', purified' if self.purified else ''} + {unmixing}"


METHODS = ("VCA", "SiVM", "N-FINDR", "minimum volume")
CANDIDATES = tuple(
    Candidate(method, purified, constraint)
    for constraint in ("simplex", "cone")
    for purified in (False, True)
    for method in METHODS
)
"""The entries of `Selection.scores`, in this order."""


class Scores(NamedTuple):
    """Scores of each candidate, (C,) each, without a reference.

    Attributes:
        error: RMS residual in one half of the bands with the abundances estimated from the other half, relative to the
            RMS of the cube, both ways: noise, which is independent from band to band, is not rewarded.
        angle: mean spectral angle of the same, radians.
        volume: log det(U U^T) / 2 (R - 1), U the unit spectra: log size of the simplex on the sphere.
        instability: mean angle between the spectra from two random halves of the pixels, with different seeds.
        purity: mean over the endmembers of the abundance that 1 % of the pixels exceed.
        shared: as `error`, under the simplex times the mean brightness of the eight neighbours; for candidates under
            the cone it is `error` itself.
    """

    error: jax.Array
    angle: jax.Array
    volume: jax.Array
    instability: jax.Array
    purity: jax.Array
    shared: jax.Array


class SceneScores(NamedTuple):
    """What is measured of the scene itself.

    Attributes:
        variability: (), `noise.variability`.
        beyond: (), how many directions of spectral space beyond the first R hold more signal than noise
            (`noise.signal_subspace`): 0 if linear mixing of R spectra fits to the noise, all if the noise is unknown
            (no more valid pixels than bands).
        floor: (2,), squared `Scores.error` that noise alone leaves, under the simplex and under the cone.
        lacking: (2,), how many of the R directions that R spectra span hold no more signal than noise, under the
            simplex and under the cone (`noise.signal_directions`): that many materials cannot be distinguished.
    """

    variability: jax.Array
    beyond: jax.Array
    floor: jax.Array
    lacking: jax.Array


def random_half(key: Array, shape: tuple[int, ...]) -> jax.Array:
    """Return one of the random halves of the pixels, (H, W) bool, that `candidates` compares."""
    return jax.random.bernoulli(jax.random.split(key)[0], shape=shape)


@partial(jax.jit, static_argnames="count")  # eager calls would compile some twenty loops each time
def candidates(
    key: Array,
    cube: jax.Array,
    valid: jax.Array,
    count: int,
    half: jax.Array | None = None,
    fixed: jax.Array | None = None,
) -> tuple[jax.Array, Scores, SceneScores]:
    """Return the spectra of all candidates, (C, R, B), their scores and the scene's; the cube is 0 off `valid`.

    `half` (H, W) bool is one random half of the pixels; None: `random_half`. `fixed` (F, B) are the first spectra of
    every candidate.
    """
    spectra = candidate_spectra(key, cube, valid, count, half, fixed)
    pairs = pairs_of(spectra)  # a candidate of each kind, so that both share compiled code
    scores = lax.map(partial(measure, cube=cube, valid=valid), pairs)
    scores = jax.tree.map(lambda x: x.T.reshape(-1), scores)  # (C / 2, 2): simplex first
    return spectra[0], scores, scene_scores(cube, valid, count)


def candidate_spectra(
    key: Array,
    cube: jax.Array,
    valid: jax.Array,
    count: int,
    half: jax.Array | None = None,
    fixed: jax.Array | None = None,
) -> jax.Array:
    """Return the spectra of all candidates from all pixels and from each of two random halves, (3, C, R, B)."""
    seeds = jax.random.split(key)[1]
    side = random_half(key, valid.shape) if half is None else half
    masks = jnp.stack([valid, valid & side, valid & ~side])
    keys = jax.random.split(seeds, 3)
    spectra = lax.map(partial(_extract, cube=cube, count=count, fixed=fixed), (keys, masks))  # (3, 2, C / 2, R, B)
    return spectra.reshape(3, -1, *spectra.shape[3:])


def pairs_of(spectra: jax.Array) -> jax.Array:
    """Return pairs of a candidate under the simplex and one under the cone, (C / 2, 3, 2, R, B), from (3, C, R, B)."""
    return jnp.moveaxis(spectra.reshape(3, 2, -1, *spectra.shape[2:]), 2, 0)


def scene_scores(cube: jax.Array, valid: jax.Array, count: int) -> SceneScores:
    """Return what is measured of the scene itself."""
    pixels = jnp.sum(valid.astype(cube.dtype))
    noise = jnp.sum(jnp.square(band_noise(cube, mask=valid))) * pixels / jnp.sum(jnp.square(cube))
    noise = jnp.where(jnp.isfinite(noise), noise, 0)
    # Abundances estimated from half of the bands carry noise, one share for each degree of freedom.
    free = jnp.asarray([count - 1, count], cube.dtype)
    beyond = jnp.round(jnp.trace(signal_subspace(cube, count, mask=valid))) - count
    lacking = jnp.maximum(count - signal_directions(cube, mask=valid), 0)
    return SceneScores(variability(cube, count, mask=valid), beyond, noise * (1 + 2 * free / cube.shape[2]), lacking)


def _extract(inputs: tuple[jax.Array, jax.Array], cube: jax.Array, count: int, fixed: jax.Array | None) -> jax.Array:
    """Return the spectra (2, C / 2, R, B) of the four methods as they are, then purified, simplex and cone.

    The first are the `fixed` ones, unchanged, and the searches begin with them. The operations that both geometries
    need are in a loop over the two: every copy in a program is compiled separately.
    """
    key, mask = inputs
    Y, valid = pixels(cube, mask)
    first = vca(key, cube, count, mask=mask, runs=RUNS, fixed=fixed)
    noise = simplex_noise(cube, count, mask=mask)
    views = jax.tree.map(lambda *x: jnp.stack(x), *(frame(Y, valid, count, scaled, fixed) for scaled in (False, True)))
    kinds = jnp.asarray([False, True])

    def with_fixed(E: jax.Array, whole: bool = False) -> jax.Array:
        """Return spectra with the fixed ones before them, or in the place of the first of the `whole`."""
        if fixed is None:
            return E
        return jnp.concatenate([fixed, E[fixed.shape[0] :] if whole else E])

    def four(entry: tuple[Frame, jax.Array]) -> jax.Array:
        view, scaled = entry
        held = None if fixed is None else in_frame(view, fixed, scaled)
        greedy = corners(view, valid, count, held)
        largest = exchange(view, valid, greedy, held)
        inner = [jnp.matmul(view.points[rows], view.lift, precision="highest") for rows in (greedy, largest)]
        inner = [with_fixed(E) for E in inner]
        smallest = with_fixed(enclosing(view, valid, first, noise, scaled, held=held)[0], whole=True)
        return jnp.maximum(jnp.stack([first, *inner, smallest]), 0)

    def purer(entry: tuple[jax.Array, jax.Array]) -> jax.Array:
        E, scaled = entry
        unit = jnp.where(scaled, scale_to_unit_maximum(E), E)
        points, reduced = (x[0, 0] for x in _coordinates(unit[None], jnp.ones((1, cube.shape[2]), jnp.bool_), cube))
        A = lax.cond(
            scaled,
            lambda: normalise_abundances(nnls(points, reduced, mask=mask), mask)[0],
            lambda: fcls(points, reduced, mask=mask),
        )
        return jnp.maximum(with_fixed(purify(cube, E, A, mask=mask), whole=True), 0)

    E = lax.map(four, (views, kinds))
    pairs = (E.reshape(-1, *E.shape[2:]), jnp.repeat(kinds, len(METHODS)))
    return jnp.concatenate([E, lax.map(purer, pairs).reshape(E.shape)], axis=1)


def measure(spectra: jax.Array, cube: jax.Array, valid: jax.Array) -> Scores:
    """Return the scores (2,) of a simplex and a cone candidate: spectra (3, 2, R, B) of all pixels and each half.

    The cube is 0 off `valid`.
    """
    linear, scaled = spectra[0]
    even = jnp.arange(cube.shape[2]) % 2 == 0
    coordinates, reduced = _coordinates(spectra[0], jnp.stack([jnp.ones_like(even), even, ~even]), cube)

    # One loop for what is solved in the same way: every copy in a program is compiled separately.
    of_cone = lax.map(
        lambda entry: nnls(*entry, mask=valid),
        (jnp.concatenate([coordinates[0, :1], coordinates[1]]), jnp.concatenate([reduced[0, :1], reduced[1]])),
    )
    x, cones = of_cone[0], of_cone[1:]
    around = _neighbour_brightness(x, valid)
    plain = coordinates[0]
    of_simplex = lax.map(
        lambda entry: fcls(*entry, mask=valid),
        (
            jnp.concatenate([plain, plain[1:] / around[None]]),
            jnp.concatenate([reduced[0], reduced[0, 1:]]),
        ),
    )

    def rebuilt(from_even: jax.Array, from_odd: jax.Array, E: jax.Array) -> jax.Array:
        """Return every band with the coefficients of the other half of the bands."""
        both = jnp.concatenate([jnp.where(even[None], 0, E), jnp.where(even[None], E, 0)])
        return jnp.matmul(jnp.concatenate([from_even, from_odd], axis=-1), both, precision="highest")

    energy = positive(jnp.sum(jnp.square(cube)))
    size = jnp.sqrt(jnp.sum(jnp.square(cube), axis=2))

    def relative(reconstruction: jax.Array) -> jax.Array:
        return jnp.sqrt(jnp.sum(jnp.square(reconstruction - cube)) / energy)

    shared = relative(around * rebuilt(of_simplex[3], of_simplex[4], linear))
    # Abundances under the cone refer to spectra of maximum one.
    a, _ = normalise_abundances(cones[0] * jnp.max(scaled, axis=1)[None, None])
    coefficients = jnp.stack([of_simplex[:3], jnp.stack([a, *cones[1:]])])
    most = max(valid.size // 100, 1)

    def scores_of(entry: tuple[jax.Array, jax.Array]) -> Scores:
        (E, first, second), (x, from_even, from_odd) = entry
        reconstruction = rebuilt(from_even, from_odd, E)
        a = jnp.where(valid[..., None], x, -1).reshape(-1, E.shape[0])
        rank = jnp.maximum(jnp.sum(valid) // 100, 1) - 1
        U = unit_rows(E)
        return Scores(
            error=relative(reconstruction),
            angle=_mean_angle(cube, size, reconstruction, valid),
            volume=lapack.log_determinant(jnp.matmul(U, U.T, precision="highest")) / (2 * (E.shape[0] - 1)),
            instability=metrics.msad(first[metrics.align(first, second)], second),
            purity=jnp.mean(lax.top_k(a.T, most)[0][:, rank]),
            shared=shared,
        )

    scores = lax.map(scores_of, (jnp.swapaxes(spectra, 0, 1), coefficients))
    return scores._replace(shared=scores.error.at[0].set(shared))


def _coordinates(E: jax.Array, seen: jax.Array, cube: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the cube in the coordinates of the spans of spectra as some of the bands see them, and these spectra.

    |y - x E|^2 over the bands seen is |y Q - x T^T|^2 and what does not depend on x, for E^T = Q T. All solves then
    read R numbers of a pixel in the place of B: the pixels are read once, for all spans together.

    Args:
        E: (K, R, B).
        seen: (M, B) bool.
        cube: (H, W, B).

    Returns:
        (K, M, H, W, R) and (K, M, R, R).
    """
    kinds, count, bands = E.shape
    visible = jnp.where(seen[None, :, None], E[:, None], 0).reshape(-1, count, bands)
    hidden = ~jnp.broadcast_to(seen[None], (kinds, *seen.shape)).reshape(-1, bands)
    Q, T = lax.map(lambda e: lapack.qr(e.T), visible)
    # Without full rank there, the decomposition completes Q by directions among the hidden bands.
    Q = jnp.where(hidden[..., None], 0, Q)
    both = jnp.matmul(cube, jnp.moveaxis(Q, 0, 1).reshape(bands, -1), precision="highest")
    points = jnp.moveaxis(both.reshape(*cube.shape[:2], kinds, len(seen), count), (2, 3), (0, 1))
    return points, jnp.swapaxes(T, 1, 2).reshape(kinds, len(seen), count, count)


def _mean_angle(cube: jax.Array, size: jax.Array, rebuilt: jax.Array, valid: jax.Array) -> jax.Array:
    """Return `metrics.mean_spectral_angle` by 2 arcsin(|u - v| / 2), u and v of length one: fewer passes over the cube.

    `size` (H, W) are the lengths of the pixels.
    """
    other = jnp.sqrt(jnp.sum(jnp.square(rebuilt), axis=2))
    u, v = (jnp.where(length > 0, 1 / positive(length), 0)[..., None] for length in (size, other))
    half = jnp.sqrt(jnp.sum(jnp.square(cube * u - rebuilt * v), axis=2)) / 2
    # A pixel of zeros has an angle of a quarter turn, or none if both are zero.
    angle = jnp.where((size > 0) & (other > 0), 2 * jnp.arcsin(jnp.minimum(half, 1)), jnp.pi * half)
    return jnp.sum(jnp.where(valid, angle, 0)) / positive(jnp.sum(valid.astype(angle.dtype)))


def _neighbour_brightness(x: jax.Array, valid: jax.Array) -> jax.Array:
    """Return the mean brightness of the eight neighbours of each pixel (H, W, 1), 1 where it is unknown or zero."""
    kernel = jnp.ones((3, 3, 1, 1), x.dtype).at[1, 1].set(0)
    level = jnp.where(valid, jnp.sum(x, axis=-1), 0)[..., None]
    total, number = convolve(level, kernel), convolve(valid[..., None].astype(x.dtype), kernel)
    return jnp.where(total > 0, total / jnp.maximum(number, 1), 1)
