"""Score ways to unmix without the truth: 16 candidates, and how well each explains held-out bands."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dequnmix_jax import metrics
from dequnmix_jax.abundances.least_squares import fcls, nnls, scaled_nnls
from dequnmix_jax.checks import Array
from dequnmix_jax.endmembers.minimum_volume_simplex import RUNS, enclosing
from dequnmix_jax.endmembers.noise import band_noise, signal_directions, signal_subspace, simplex_noise, variability
from dequnmix_jax.endmembers.pure_pixel import corners, exchange, purify, vca
from dequnmix_jax.endmembers.subspace import frame, pixels
from dequnmix_jax.mixing import normalise_abundances
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


@partial(jax.jit, static_argnames="count")  # eager calls would compile some twenty loops each time
def candidates(key: Array, cube: jax.Array, valid: jax.Array, count: int) -> tuple[jax.Array, Scores, SceneScores]:
    """Return the spectra of all candidates, (C, R, B), their scores and the scene's; the cube is 0 off `valid`."""
    split, seeds = jax.random.split(key)
    side = jax.random.bernoulli(split, shape=valid.shape)
    masks = jnp.stack([valid, valid & side, valid & ~side])
    keys = jax.random.split(seeds, 3)
    spectra = lax.map(partial(_extract, cube=cube, count=count), (keys, masks))  # simplex and cone, (3, C / 2, R, B)
    measured = [
        lax.map(partial(_measure, cube=cube, valid=valid, scaled=scaled), tuple(E))
        for E, scaled in zip(spectra, (False, True), strict=True)
    ]
    scores = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), *measured)
    return jnp.concatenate([E[0] for E in spectra]), scores, _scene_scores(cube, valid, count)


def _scene_scores(cube: jax.Array, valid: jax.Array, count: int) -> SceneScores:
    pixels = jnp.sum(valid.astype(cube.dtype))
    noise = jnp.sum(jnp.square(band_noise(cube, mask=valid))) * pixels / jnp.sum(jnp.square(cube))
    noise = jnp.where(jnp.isfinite(noise), noise, 0)
    # Abundances estimated from half of the bands carry noise, one share for each degree of freedom.
    free = jnp.asarray([count - 1, count], cube.dtype)
    beyond = jnp.round(jnp.trace(signal_subspace(cube, count, mask=valid))) - count
    lacking = jnp.maximum(count - signal_directions(cube, mask=valid), 0)
    return SceneScores(variability(cube, count, mask=valid), beyond, noise * (1 + 2 * free / cube.shape[2]), lacking)


def _extract(inputs: tuple[jax.Array, jax.Array], cube: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """Return the spectra (C / 2, R, B) of the four methods as they are, then purified: for the simplex and the cone."""
    key, mask = inputs
    Y, valid = pixels(cube, mask)
    first = vca(key, cube, count, mask=mask, runs=RUNS)
    noise = simplex_noise(cube, count, mask=mask)
    both = []
    for scaled in (False, True):
        view = frame(Y, valid, count, scaled)
        greedy = corners(view, valid, count)
        largest = exchange(view, valid, greedy)
        inner = [jnp.matmul(view.points[rows], view.lift, precision="highest") for rows in (greedy, largest)]
        E = jnp.maximum(jnp.stack([first, *inner, enclosing(view, valid, first, noise, scaled)[0]]), 0)

        def purer(E: jax.Array, scaled: bool = scaled) -> jax.Array:
            A = scaled_nnls(cube, E, mask=mask)[0] if scaled else fcls(cube, E, mask=mask)
            return jnp.maximum(purify(cube, E, A, mask=mask), 0)

        both.append(jnp.concatenate([E, lax.map(purer, E)]))
    return both[0], both[1]


def _measure(
    spectra: tuple[jax.Array, jax.Array, jax.Array], cube: jax.Array, valid: jax.Array, scaled: bool
) -> Scores:
    """Return the scores () of one candidate, from its spectra (R, B) of all pixels and of either half of them."""
    E, first, second = spectra
    even = jnp.arange(E.shape[1]) % 2 == 0

    def coefficients(seen: jax.Array) -> jax.Array:
        """Return the coefficients (H, W, R) of the spectra, estimated from some of the bands."""
        seen_cube, seen_spectra = jnp.where(seen[None, None], cube, 0), jnp.where(seen[None], E, 0)
        return (nnls if scaled else fcls)(seen_cube, seen_spectra, mask=valid)

    x, from_even, from_odd = lax.map(coefficients, jnp.stack([even | True, even, ~even]))
    rebuilt = jnp.where(
        even[None, None],
        jnp.matmul(from_odd, E, precision="highest"),
        jnp.matmul(from_even, E, precision="highest"),
    )
    error = _relative(rebuilt, cube)
    shared = error
    if scaled:  # abundances refer to spectra of maximum one
        x, _ = normalise_abundances(x * jnp.max(E, axis=1)[None, None])
    else:
        around = _neighbour_brightness(nnls(cube, E, mask=valid), valid)
        from_even, from_odd = (
            fcls(jnp.where(seen[None, None], cube / around, 0), jnp.where(seen[None], E, 0), mask=valid)
            for seen in (even, ~even)
        )
        halves = [jnp.matmul(a, E, precision="highest") for a in (from_odd, from_even)]
        shared = _relative(around * jnp.where(even[None, None], halves[0], halves[1]), cube)
    a = jnp.where(valid[..., None], x, -1).reshape(-1, E.shape[0])
    rank = jnp.maximum(jnp.sum(valid) // 100, 1) - 1
    U = unit_rows(E)
    return Scores(
        error=error,
        angle=metrics.mean_spectral_angle(cube, rebuilt, valid),
        volume=lapack.log_determinant(jnp.matmul(U, U.T, precision="highest")) / (2 * (E.shape[0] - 1)),
        instability=metrics.msad(first[metrics.align(first, second)], second),
        purity=jnp.mean(jnp.sort(a, axis=0, descending=True)[rank]),
        shared=shared,
    )


def _relative(rebuilt: jax.Array, cube: jax.Array) -> jax.Array:
    energy = jnp.sum(jnp.square(cube))
    return jnp.sqrt(jnp.sum(jnp.square(rebuilt - cube)) / positive(energy))


def _neighbour_brightness(x: jax.Array, valid: jax.Array) -> jax.Array:
    """Return the mean brightness of the eight neighbours of each pixel (H, W, 1), 1 where it is unknown or zero."""
    kernel = jnp.ones((3, 3, 1, 1), x.dtype).at[1, 1].set(0)
    level = jnp.where(valid, jnp.sum(x, axis=-1), 0)[..., None]
    total, number = convolve(level, kernel), convolve(valid[..., None].astype(x.dtype), kernel)
    return jnp.where(total > 0, total / jnp.maximum(number, 1), 1)
