"""Choose a start without the truth: candidates, measures that need no reference, and a decision."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dequnmix_jax.abundances.least_squares import fcls, scaled_nnls, soft_nnls
from dequnmix_jax.checks import Array, InputError, check_key, check_kind
from dequnmix_jax.endmembers.candidates import CANDIDATES, METHODS, Scores, Whole, candidates
from dequnmix_jax.endmembers.subspace import checked
from dequnmix_jax.mixing import wide

_ALIKE = 1e-4
"""Costs, logarithms of an error, that differ by less are taken as equal."""

DOUBTS = (
    "signal exceeds noise in {known} of the {count} directions that {count} spectra span, so not every material can be "
    "distinguished",
    "signal exceeds noise in more directions than {count} spectra span (spectra vary, mix nonlinearly, or there are "
    "more materials), or the noise is unknown",
    "each material has a brightness of its own",
    "no pixel is nearly pure, so the spectra lie beyond the pixels",
    "random halves of the pixels give different spectra",
)
"""Why a choice is unsure: the rows of `Start.doubts`, in their order."""


class Weights(NamedTuple):
    """How the measures decide; the defaults were chosen on generated scenes alone (`experiments.defaults.start`).

    On 324 scenes of eighteen families the choice has 1.10 times the aRMSE of the best of 24 ways (geometric mean; worst
    9.7, where mixing is bilinear). The defaults have seen all of them; simple rules that were chosen without a family
    have 1.12 times there (worst 9.9), the best of 3000 random weights of all measures 1.14, and the weights before,
    without `whole`, 1.22 (worst 44). The optimum is flat: `bright` from 0.05 to 0.25 and `purified` from 0.005 to 0.015
    are alike, but without any `purified` the mean is 1.2.

    It is sure of 68 % of the scenes, where it has 1.06 times (worst 2.9), and unsure of the others, where it has 1.17
    times (worst 9.7); by rules chosen without the family 69 %, 1.06 (2.9) and 1.26 (9.9). Before, by the margin between
    kinds of candidates, it was sure of 27 %, where it had 1.53 times, and 1.12 times where it was unsure. Most of what
    separates the two are directions of signal beyond R; purity and instability add little, and what is seldom
    seen is a wrong choice among candidates that all hold to the noise. Real scenes mostly have such directions.

    Attributes:
        bright: log ratio of the least error of linear and of scaled mixing, above what noise alone leaves, from which
            on pixels differ in brightness.
        shared: part of that ratio, of at most 1, which the brightness of the neighbours must explain for mixing to be
            scaled.
            Illumination changes from one pixel to the next by little; where it does not, each material varies by
            itself, and mixing is soft.
        whole: that ratio from which on mixing is scaled whatever the neighbours explain: one brightness of each pixel
            then explains what there is, be it as rough as shade.
        purified: how much of log error a purified candidate may lack, where the spectra do not vary: the mean of
            several pixels has less noise than an extreme one, which the error of the noisy bands hardly shows.
        varied: the same for each unit of `noise.variability`, and how much more a minimum volume must gain: a larger
            simplex fits variable spectra better, and is not truer for that.
        angle, volume, instability, impurity: weights of log angle, of volume, of log instability and of 1 - purity.
        pure: purity of the chosen candidate below which the choice is called unsure.
        unstable: angle between the spectra from the halves of the pixels above which it is unsure, radians.
    """

    bright: float = 0.1
    shared: float = 0.15
    whole: float = 1.0
    purified: float = 0.01
    varied: float = 0.5
    angle: float = 0.0
    volume: float = 0.0
    instability: float = 0.0
    impurity: float = 0.0
    pure: float = 0.7
    unstable: float = 0.05


class Start(NamedTuple):
    """What `start` chose, and why.

    Attributes:
        endmembers: (R, B), >= 0, units of the cube.
        abundances: (H, W, R), >= 0 and summing to one; 0 in masked pixels.
        scaled: () bool, whether mixing is scaled: each pixel has a brightness of its own.
        soft: () bool, whether each material has one in each pixel; linear where neither.
        chosen: () int32, the row of `CANDIDATES`.
        cost: (C,), of each candidate, infinite for those of the other mixing model; the least is chosen.
        scores: Scores, what was measured of each candidate.
        variability: (), `noise.variability` of the scene.
        beyond: (), how many directions beyond R hold more signal than noise; spectra vary where there is any.
        brightness: (), log ratio of the least error of linear and of scaled mixing, above the noise; and
        shared: (), the same of linear mixing and of linear mixing under the neighbours' brightness: what decided on
            the mixing model.
        margin: (), gap between the cost of the choice and the least of another kind (extreme pixels, minimum volume,
            purified); infinite where no other kind is asked for. On generated scenes it says nothing about the error.
        lacking: (), how many of the R directions that R spectra span hold no more signal than noise.
        doubts: (5,) bool, which of `DOUBTS` there are.
        unsure: () bool, whether there is any. It does not see every failure: see `Weights`.
    """

    endmembers: jax.Array
    abundances: jax.Array
    scaled: jax.Array
    soft: jax.Array
    chosen: jax.Array
    cost: jax.Array
    scores: Scores
    variability: jax.Array
    beyond: jax.Array
    brightness: jax.Array
    shared: jax.Array
    margin: jax.Array
    lacking: jax.Array
    doubts: jax.Array
    unsure: jax.Array


def start(key: Array, cube: Array, count: int, *, mask: Array | None = None, weights: Weights | None = None) -> Start:
    """Choose endmembers and a mixing model for a scene, without a reference.

    VCA, SiVM, N-FINDR and the minimum volume, each as it is and purified (`purify`), with linear mixing (FCLS) and with
    scaled mixing (`scaled_nnls`): 16 candidates, measured by `Scores` and decided by `Weights`. First the mixing model:
    scaled where a brightness of each pixel explains held-out bands better than linear mixing does, and either that of
    its neighbours does so too or little is left; soft (`soft_nnls`, with purified spectra) where neither holds; else
    linear. Then the least cost

        log error - (purified + varied * v) [of a purified candidate] + varied * v [of a minimum volume],

    v = noise.variability, to which weights can add log angle, volume, log instability and 1 - purity.

    Args:
        key: random key, of VCA and of the halves.
        cube: (H, W, B), any units, B >= 2 R.
        count: R, static, at least 2.
        mask: (H, W) bool, True where the pixel is valid.
        weights: static numbers; None: the defaults.

    Returns:
        A Start. `reason` explains it in three sentences.

    Raises:
        InputError: if the shapes do not fit, the count is out of range, the bands are fewer than 2 R, or outside jit if
            valid values are not finite.
    """
    check_key(key)
    weights = Weights() if weights is None else weights
    check_kind(weights, Weights, "weights")
    Y, _ = checked(cube, count, mask)
    if Y.shape[1] < 2 * count:
        raise InputError(
            f"{count} endmembers asked for in {Y.shape[1]} bands; expected at least twice as many, because half "
            "of them judge what the other half says. Ask for fewer, or start from dq.vca (--start vca)."
        )
    valid = jnp.ones(np.shape(cube)[:2], jnp.bool_) if mask is None else jnp.asarray(mask)
    cube = jnp.where(valid[..., None], wide(cube), 0)
    E, scores, whole = candidates(key, cube, valid, count)
    found = decide(scores, whole, weights)
    best = E[found.chosen]
    A = lax.switch(
        found.scaled.astype(jnp.int32) + 2 * found.soft.astype(jnp.int32),
        (
            lambda: fcls(cube, best, mask=valid),
            lambda: scaled_nnls(cube, best, mask=valid)[0],
            lambda: soft_nnls(cube, best, mask=valid)[0],
        ),
    )
    return found._replace(endmembers=best, abundances=A)


def decide(scores: Scores, whole: Whole, weights: Weights) -> Start:
    """Return what follows from the scores; endmembers and abundances are left empty."""
    half = len(CANDIDATES) // 2
    error = jnp.log(jnp.maximum(scores.error, 1e-9))
    error = jnp.where(jnp.isnan(error), jnp.inf, error)

    def beyond(errors: jax.Array, floor: jax.Array) -> jax.Array:
        """Return half the log of the least squared error above the noise, of which 2 % are not known."""
        least = jnp.min(jnp.where(jnp.isnan(errors), jnp.inf, errors))
        return 0.5 * jnp.log(jnp.maximum(jnp.maximum(least**2 - floor, 0) + 0.02 * floor, 1e-18))

    linear = beyond(scores.error[:half], whole.floor[0])
    # Where nothing could be measured neither model is better.
    brightness = jnp.nan_to_num(linear - beyond(scores.error[half:], whole.floor[1]), nan=0)
    shared = jnp.nan_to_num(linear - beyond(scores.shared[:half], whole.floor[0]), nan=0)
    differ = brightness > weights.bright
    # A model that holds to the noise has a ratio without bound; a neighbour's brightness is never that good.
    enough = weights.shared * jnp.minimum(brightness, 1)
    scaled = differ & ((shared > enough) | (brightness > weights.whole))
    soft = differ & ~scaled
    purified = jnp.asarray([candidate.purified for candidate in CANDIDATES])
    wrapped = jnp.asarray([candidate.method == METHODS[-1] for candidate in CANDIDATES])
    cost = (
        error
        - jnp.where(purified, weights.purified + weights.varied * whole.variability, 0)
        + jnp.where(wrapped, weights.varied * whole.variability, 0)
        + weights.angle * jnp.log(jnp.maximum(scores.angle, 1e-9))
        + weights.volume * scores.volume
        + weights.instability * jnp.log(jnp.maximum(scores.instability, 1e-4))
        + weights.impurity * (1 - scores.purity)
    )
    # An extreme pixel of a material that varies by itself is a bright one: the mean of several has its true level.
    asked = (jnp.asarray([candidate.scaled for candidate in CANDIDATES]) == differ) & (purified | ~soft)
    cost = jnp.where(asked & jnp.isfinite(cost), cost, jnp.inf)
    # Methods that find the same pixels differ by rounding, and in the order of the spectra: the first of them.
    chosen = jnp.argmax(cost <= jnp.min(cost) + _ALIKE).astype(jnp.int32)
    kind = jnp.asarray([2 if entry.purified else int(entry.method == METHODS[-1]) for entry in CANDIDATES])
    margin = jnp.min(jnp.where(kind != kind[chosen], cost, jnp.inf)) - cost[chosen]
    lacking = whole.lacking[differ.astype(jnp.int32)]
    pure, stable = scores.purity[chosen] >= weights.pure, scores.instability[chosen] <= weights.unstable
    doubts = jnp.stack([lacking >= 1, whole.beyond >= 1, soft, ~pure, ~stable])  # what is not a number is a doubt
    empty, measured = jnp.zeros(0, cost.dtype), (whole.variability, whole.beyond)
    unsure = (lacking, doubts, jnp.any(doubts))
    return Start(empty, empty, scaled, soft, chosen, cost, scores, *measured, brightness, shared, margin, *unsure)


_MIXING = {
    "linear": "abundances sum to one (linear model)",
    "scaled": "brightness varies per pixel (scaled linear model)",
    "soft": "brightness varies per pixel and material (soft sum-to-one)",
}
_ASKED = {
    "simplex": "abundances sum to one (simplex)",
    "softmax": "abundances sum to one (softmax)",
    "cone": "brightness varies per pixel (cone)",
    "soft": "the sum of abundances stays near one (soft)",
}
_NEAR = 0.5
"""Relative distance in cost up to which the runner-up is mentioned."""


def reason(found: Start, constraint: str | None = None) -> str:
    """Say in short sentences what was chosen, why, and how sure the choice is (host side: arrays must be concrete).

    "Better" compares the least held-out errors above noise (`Start.brightness`, `Start.shared`); the runner-up is the
    best candidate of another kind (`Start.margin`); confidence is low where there is a doubt (`Start.doubts`).

    Args:
        found: from `start`.
        constraint: "simplex", "cone", "soft" or "softmax" where the caller keeps that constraint whatever the scene
            says; None where mixing is as `found` has it.

    Returns:
        Three sentences: endmembers, mixing, confidence.
    """
    chosen, count = CANDIDATES[int(found.chosen)], found.endmembers.shape[0]
    refined = ", refined on the purest pixels" if chosen.purified else ""
    per_pixel = f"with a brightness per pixel, held-out bands fit {_better(found.brightness)}"
    if constraint is not None:
        mixing = f"{_ASKED[constraint]}, as asked for; {per_pixel}"
    elif bool(found.scaled):
        mixing = f"{_MIXING['scaled']}; held-out bands fit {_better(found.brightness)} than with sum-to-one"
    elif bool(found.soft):
        mixing = f"{_MIXING['soft']}; {per_pixel}, but with that of the neighbours {_better(found.shared)}"
    else:
        mixing = f"{_MIXING['linear']}; {per_pixel}"
    doubts = [
        text.format(count=count, known=count - int(found.lacking))
        for text, there in zip(DOUBTS, found.doubts, strict=True)
        if bool(there)
    ]
    distance = float(np.expm1(np.float64(found.margin)))
    near = f", the runner-up is within {max(100 * distance, 0.1):.2g} %" if distance < _NEAR else ""
    confidence = f"low{near}: {'; '.join(doubts)}" if doubts else "high"
    return f"Endmembers: {chosen.method}{refined}. Mixing: {mixing}. Confidence: {confidence}."


def _better(log_ratio: Array) -> str:
    """Return a log ratio of errors in words: "29 % better"."""
    gain = -np.expm1(-np.float64(log_ratio))
    if round(100 * gain) == 0:
        return "no better"
    if gain > 0:
        return "more than 99 % better" if gain > 0.99 else f"{100 * gain:.0f} % better"
    return f"{min(100 * np.expm1(-np.float64(log_ratio)), 999):.0f} % worse"
