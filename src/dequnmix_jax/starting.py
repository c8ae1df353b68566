"""Choose a start without the truth: candidates, measures that need no reference, and a decision."""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dequnmix_jax import metrics
from dequnmix_jax.checks import Array, InputError
from dequnmix_jax.classical import fcls, nnls, scaled_nnls
from dequnmix_jax.config import Model
from dequnmix_jax.convolution import convolve
from dequnmix_jax.endmembers import purify, vca
from dequnmix_jax.extreme import corners
from dequnmix_jax.minimum_volume import RUNS, enclosing
from dequnmix_jax.mixing import normalise_abundances, wide
from dequnmix_jax.noise import simplex_noise, variability
from dequnmix_jax.simplex_volume import exchange
from dequnmix_jax.subspace import checked, frame, pixels


class Candidate(NamedTuple):
    """A way to unmix: `method`, whether its spectra are `purified`, and whether mixing is `scaled` or linear."""

    method: str
    purified: bool
    scaled: bool

    def __str__(self) -> str:
        return f"{self.method}{', purified' if self.purified else ''} + {'scaled NNLS' if self.scaled else 'FCLS'}"


METHODS = ("VCA", "SiVM", "N-FINDR", "minimum volume")
CANDIDATES = tuple(
    Candidate(method, purified, scaled) for scaled in (False, True) for purified in (False, True) for method in METHODS
)
"""The rows of `Start.scores`, in their order."""


class Scores(NamedTuple):
    """What is measured of each candidate, (C,) each, without a reference.

    Attributes:
        error: RMS of what is left of the bands of one half when the abundances come from the other half, relative to
            the RMS of the cube, both ways: noise is not rewarded, as it is independent from band to band.
        angle: mean spectral angle of the same, radians.
        volume: log det(U U^T) / 2 (R - 1), U the unit spectra: log size of the simplex on the sphere.
        instability: mean angle between the spectra that two random halves of the pixels give, with seeds of their own.
        purity: mean over the endmembers of the abundance that 1 % of the pixels exceed.
        shared: as `error`, of linear mixing under the mean brightness of the eight neighbours; that of scaled
            candidates is `error` itself.
    """

    error: jax.Array
    angle: jax.Array
    volume: jax.Array
    instability: jax.Array
    purity: jax.Array
    shared: jax.Array


class Weights(NamedTuple):
    """How the measures decide; the defaults were chosen on generated scenes alone (`experiments.choose_start`).

    There only the first three were of use: the best of 4000 weights drawn leave the other four at zero. On 38 scenes
    left out the choice has 1.13 times the aRMSE of the best candidate (geometric mean; worst 2.84), where it is sure
    (two in five) 1.04 times (worst 1.46).

    Attributes:
        scaled: log ratio of the least error of linear and of scaled mixing from which on mixing is taken as scaled.
        shared: part of that ratio which the brightness of the neighbours must explain as well. Illumination changes
            from one pixel to the next by little; where it does not, each material varies by itself, and a free
            brightness only fits it better.
        purified: how much of log error a purified candidate may lack, where the spectra do not vary: the mean of
            several pixels has less noise than an extreme one, which the error of the noisy bands hardly shows.
        varied: the same for each unit of `noise.variability`: a larger simplex fits variable spectra better, and is not
            truer for that.
        angle, volume, instability, impurity: weights of log angle, of volume, of log instability and of 1 - purity.
        margin: gap of costs to a candidate of another kind (extreme pixels, minimum volume, purified), below which the
            choice is called unsure.
        unstable: angle between the halves of the pixels above which it is unsure, radians.
        near: distance of the log ratio of the mixing models from `scaled`, or of what the neighbours explain of it
            from `shared`, below which it is unsure.
    """

    scaled: float = 0.12
    shared: float = 0.15
    purified: float = 0.02
    varied: float = 0.35
    angle: float = 0.0
    volume: float = 0.0
    instability: float = 0.0
    impurity: float = 0.0
    margin: float = 0.1
    unstable: float = 0.05
    near: float = 0.04


class Start(NamedTuple):
    """What `start` chose, and why.

    Attributes:
        endmembers: (R, B), >= 0, units of the cube.
        abundances: (H, W, R), >= 0 and summing to one; 0 in masked pixels.
        scaled: () bool, whether mixing is scaled (each pixel has a brightness) or linear.
        chosen: () int32, the row of `CANDIDATES`.
        cost: (C,), of each candidate, infinite for those of the other mixing model; the least is chosen.
        scores: Scores, what was measured of each candidate.
        variability: (), `noise.variability` of the scene.
        brightness: (), log ratio of the least error of linear and of scaled mixing; and
        shared: (), the same of linear mixing and of linear mixing under the neighbours' brightness: what decided on
            `scaled`.
        margin: (), gap between the cost of the choice and the least of another kind (`Weights.margin`).
        unsure: () bool, the margin is small, the mixing models are nearly equal, or the spectra depend on the pixels.
    """

    endmembers: jax.Array
    abundances: jax.Array
    scaled: jax.Array
    chosen: jax.Array
    cost: jax.Array
    scores: Scores
    variability: jax.Array
    brightness: jax.Array
    shared: jax.Array
    margin: jax.Array
    unsure: jax.Array


def start(key: Array, cube: Array, count: int, *, mask: Array | None = None, weights: Weights | None = None) -> Start:
    """Choose endmembers and a mixing model for a scene, without a reference.

    VCA, SiVM, N-FINDR and the minimum volume, each as it is and purified (`purify`), with linear mixing (FCLS) and with
    scaled mixing (`scaled_nnls`): 16 candidates, measured by `Scores` and decided by `Weights`. First the mixing model:
    scaled where a brightness of each pixel explains held-out bands better than linear mixing does, and that of its
    neighbours does so too. Then the least cost

        log error - (purified + varied * v) [of a purified candidate], v = noise.variability,

    to which weights can add log angle, volume, log instability and 1 - purity.

    Args:
        key: random key, of VCA and of the halves.
        cube: (H, W, B), any units, B >= 2 R.
        count: R, static, at least 2.
        mask: (H, W) bool, True where the pixel is valid.
        weights: static numbers; None: the defaults.

    Returns:
        A Start. `reason` says it in a sentence.

    Raises:
        InputError: if the shapes do not fit, the count is out of range, the bands are fewer than 2 R, or outside jit if
            valid values are not finite.
    """
    Y, _ = checked(cube, count, mask)
    if Y.shape[1] < 2 * count:
        raise InputError(
            f"{count} endmembers asked for in {Y.shape[1]} bands; expected at least twice as many, because half "
            "of them judge what the other half says."
        )
    valid = jnp.ones(np.shape(cube)[:2], jnp.bool_) if mask is None else jnp.asarray(mask)
    cube = jnp.where(valid[..., None], wide(cube), 0)
    E, scores, varied = candidates(key, cube, valid, count)
    weights = Weights() if weights is None else weights
    chosen, cost, brightness, shared, margin, unsure = decide(scores, varied, weights)
    best, scaled = E[chosen], chosen >= len(CANDIDATES) // 2
    A = lax.cond(scaled, lambda: scaled_nnls(cube, best, mask=valid)[0], lambda: fcls(cube, best, mask=valid))
    return Start(best, A, scaled, chosen, cost, scores, varied, brightness, shared, margin, unsure)


def decide(
    scores: Scores, varied: Array, weights: Weights
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]:
    """Return the row chosen, costs (C,), log ratios of the mixing models, margin, and whether it is unsure."""
    half = len(CANDIDATES) // 2
    error, under = (jnp.log(jnp.maximum(one, 1e-9)) for one in (scores.error, scores.shared))
    error, under = (jnp.where(jnp.isnan(one), jnp.inf, one) for one in (error, under))
    brightness = jnp.min(error[:half]) - jnp.min(error[half:])
    shared = jnp.min(error[:half]) - jnp.min(under[:half])
    beyond = brightness > weights.scaled
    scaled = beyond & (shared > weights.shared * brightness)
    purified = jnp.asarray([candidate.purified for candidate in CANDIDATES])
    cost = (
        error
        - jnp.where(purified, weights.purified + weights.varied * varied, 0)
        + weights.angle * jnp.log(jnp.maximum(scores.angle, 1e-9))
        + weights.volume * scores.volume
        + weights.instability * jnp.log(jnp.maximum(scores.instability, 1e-4))
        + weights.impurity * (1 - scores.purity)
    )
    asked = jnp.asarray([candidate.scaled for candidate in CANDIDATES]) == scaled
    cost = jnp.where(asked & jnp.isfinite(cost), cost, jnp.inf)
    chosen = jnp.argmin(cost).astype(jnp.int32)
    kind = jnp.asarray([2 if entry.purified else int(entry.method == METHODS[-1]) for entry in CANDIDATES])
    margin = jnp.min(jnp.where(kind != kind[chosen], cost, jnp.inf)) - cost[chosen]
    unsure = ~(margin >= weights.margin) | ~(scores.instability[chosen] <= weights.unstable)
    unsure = unsure | (jnp.abs(brightness - weights.scaled) < weights.near)
    unsure = unsure | (beyond & (jnp.abs(shared - weights.shared * brightness) < weights.near))
    return chosen, cost, brightness, shared, margin, unsure


def reason(found: Start) -> str:
    """Say in a sentence what was chosen and why (host side: the arrays must be concrete)."""
    chosen, scores = int(found.chosen), found.scores
    mixing = "scaled" if bool(found.scaled) else "linear"
    return (
        f"{CANDIDATES[chosen]}: {mixing} mixing, because a brightness of each pixel changes the error of held-out "
        f"bands by a factor of {float(jnp.exp(-found.brightness)):.3g} and that of its neighbours by one of "
        f"{float(jnp.exp(-found.shared)):.3g}; there it has the least cost, held-out error "
        f"{float(scores.error[chosen]):.2g}, log volume {float(scores.volume[chosen]):.2f}, purity "
        f"{float(scores.purity[chosen]):.2f}, {float(scores.instability[chosen]):.2g} rad between halves of the "
        f"pixels, {float(found.margin):.2g} ahead of the next kind{' (unsure)' if bool(found.unsure) else ''}."
    )


def model_for(found: Start, config: Model | None = None) -> Model:
    """Return the choices of a model whose mixing is what `start` found (host side: the arrays must be concrete).

    The cone where mixing is scaled, the simplex where it is linear:

        found = dq.start(key, cube, count)
        config = dq.model_for(found)
        params, history = dq.fit(key, cube, config, *dq.RECOMMENDED, endmembers=found.endmembers)

    Args:
        found: of `start`.
        config: all other choices; None: the defaults.
    """
    return replace(Model() if config is None else config, constraint="cone" if bool(found.scaled) else "simplex")


@partial(jax.jit, static_argnames="count")  # some twenty loops, run eagerly, would be compiled at every call
def candidates(key: Array, cube: jax.Array, valid: jax.Array, count: int) -> tuple[jax.Array, Scores, jax.Array]:
    """Return the spectra of all candidates, (C, R, B), scores and variability; the cube is zero where not `valid`."""
    split, seeds = jax.random.split(key)
    side = jax.random.bernoulli(split, shape=valid.shape)
    masks = jnp.stack([valid, valid & side, valid & ~side])
    keys = jax.random.split(seeds, 3)
    spectra = lax.map(partial(_extract, cube=cube, count=count), (keys, masks))  # linear and scaled, (3, C / 2, R, B)
    measured = [
        lax.map(partial(_measure, cube=cube, valid=valid, scaled=scaled), tuple(E))
        for E, scaled in zip(spectra, (False, True), strict=True)
    ]
    scores = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), *measured)
    return jnp.concatenate([E[0] for E in spectra]), scores, variability(cube, count, mask=valid)


def _extract(inputs: tuple[jax.Array, jax.Array], cube: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """Return the spectra (C / 2, R, B) of the four methods as they are, then purified, for either mixing."""
    key, mask = inputs
    Y, valid = pixels(cube, mask)
    first = vca(key, cube, count, mask=mask, runs=RUNS)
    noise = simplex_noise(cube, count, mask=mask)
    found = []
    for scaled in (False, True):
        view = frame(Y, valid, count, scaled)
        greedy = corners(view, valid, count)
        largest = exchange(view, valid, greedy)
        inner = [jnp.matmul(view.points[rows], view.lift, precision="highest") for rows in (greedy, largest)]
        E = jnp.maximum(jnp.stack([first, *inner, enclosing(view, valid, first, noise, scaled)[0]]), 0)

        def purer(E: jax.Array, scaled: bool = scaled) -> jax.Array:
            A = scaled_nnls(cube, E, mask=mask)[0] if scaled else fcls(cube, E, mask=mask)
            return jnp.maximum(purify(cube, E, A, mask=mask), 0)

        found.append(jnp.concatenate([E, lax.map(purer, E)]))
    return found[0], found[1]


def _measure(
    spectra: tuple[jax.Array, jax.Array, jax.Array], cube: jax.Array, valid: jax.Array, scaled: bool
) -> Scores:
    """Return the scores () of one candidate: its spectra (R, B) from all pixels and from either half of them."""
    E, first, second = spectra
    even = jnp.arange(E.shape[1]) % 2 == 0

    def coefficients(seen: jax.Array) -> jax.Array:
        """Return what mixes the spectra (H, W, R), told from some of the bands."""
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
    if scaled:  # abundances are those of spectra of maximum one
        x, _ = normalise_abundances(x * jnp.max(E, axis=1)[None, None])
    else:
        around = _around(nnls(cube, E, mask=valid), valid)
        from_even, from_odd = (
            fcls(jnp.where(seen[None, None], cube / around, 0), jnp.where(seen[None], E, 0), mask=valid)
            for seen in (even, ~even)
        )
        halves = [jnp.matmul(part, E, precision="highest") for part in (from_odd, from_even)]
        shared = _relative(around * jnp.where(even[None, None], halves[0], halves[1]), cube)
    a = jnp.where(valid[..., None], x, -1).reshape(-1, E.shape[0])
    rank = jnp.maximum(jnp.sum(valid) // 100, 1) - 1
    lengths = jnp.sqrt(jnp.sum(E * E, axis=1, keepdims=True))
    U = E / jnp.where(lengths > 0, lengths, 1)
    return Scores(
        error=error,
        angle=metrics.mean_spectral_angle(cube, rebuilt, valid),
        volume=jnp.linalg.slogdet(jnp.matmul(U, U.T, precision="highest"))[1] / (2 * (E.shape[0] - 1)),
        instability=metrics.msad(first[metrics.align(first, second)], second),
        purity=jnp.mean(jnp.sort(a, axis=0, descending=True)[rank]),
        shared=shared,
    )


def _relative(rebuilt: jax.Array, cube: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.sum(jnp.square(rebuilt - cube)) / jnp.sum(jnp.square(cube)))


def _around(x: jax.Array, valid: jax.Array) -> jax.Array:
    """Return the mean brightness of the eight neighbours of each pixel (H, W, 1), 1 where that is unknown or zero."""
    kernel = jnp.ones((3, 3, 1, 1), x.dtype).at[1, 1].set(0)
    level = jnp.where(valid, jnp.sum(x, axis=-1), 0)[..., None]
    total, number = convolve(level, kernel), convolve(valid[..., None].astype(x.dtype), kernel)
    return jnp.where(total > 0, total / jnp.maximum(number, 1), 1)
