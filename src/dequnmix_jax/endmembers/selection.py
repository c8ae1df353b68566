"""Select endmembers and a mixing model without the truth: candidates, scores that need no reference, a decision."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dequnmix_jax.abundances.least_squares import fcls, scaled_nnls, soft_nnls
from dequnmix_jax.checks import Array, InputError, check_fixed, check_key, check_kind
from dequnmix_jax.endmembers.candidates import CANDIDATES, METHODS, SceneScores, Scores, candidates, random_half
from dequnmix_jax.endmembers.subspace import checked
from dequnmix_jax.mixing import wide
from dequnmix_jax.ops.padding import pad, padded_shape
from dequnmix_jax.ops.quick_compile import effort_once, is_traced, quick_jit

CONSTRAINTS = ("simplex", "cone", "soft")
"""The mixing models, in the order of `Selection.constraint_index`: abundances that sum to one; a free brightness for
each pixel; a sum near one, for materials each of which varies in brightness by itself."""

SIMPLEX, CONE, SOFT = range(3)


def constraint_index(word: str) -> int:
    """Return the index of a constraint; "softmax", which sums to one too, counts as the simplex."""
    return CONSTRAINTS.index(word) if word in CONSTRAINTS else SIMPLEX


_ALIKE = 1e-4
"""Costs, logarithms of an error, that differ by less count as equal."""

DOUBTS = (
    "signal exceeds noise in {known} of the {count} directions that {count} spectra span, so not every material can be "
    "distinguished",
    "signal exceeds noise in more directions than {count} spectra span (spectra vary, mix nonlinearly, or there are "
    "more materials), or the noise is unknown",
    "each material has a brightness of its own",
    "no pixel is nearly pure, so the spectra lie beyond the pixels",
    "random halves of the pixels give different spectra",
)
"""Why a choice is unsure: the entries of `Selection.doubts`, in this order."""


class Weights(NamedTuple):
    """How the scores decide; the defaults were chosen on generated scenes (`experiments.defaults.selection_weights`).

    On 324 scenes of eighteen families the choice has 1.10 times the aRMSE of the best of 24 ways (geometric mean; worst
    9.7, where mixing is bilinear). The defaults have seen all of these scenes. Simple rules chosen without a family
    have 1.12 times on that family (worst 9.9), the best of 3000 random weights of all scores 1.14, and the earlier
    weights, without `whole`, 1.22 (worst 44). The optimum is flat: `bright` from 0.05 to 0.25 and `purified` from 0.005
    to 0.015 give the same, but without `purified` the mean is 1.2.

    The choice is sure on 68 % of the scenes, where it has 1.06 times (worst 2.9), and unsure on the others, where it
    has 1.17 times (worst 9.7); with rules chosen without the family: 69 %, 1.06 (2.9) and 1.26 (9.9). An earlier rule,
    the margin between kinds of candidates, was sure on 27 % and had 1.53 times there, and 1.12 times where it was
    unsure. Directions of signal beyond R separate the two most; purity and instability add little. A wrong choice among
    candidates that all fit to the noise is seldom detected. Most real scenes have such directions.

    Attributes:
        bright: threshold on the log ratio of the lowest error under the simplex to that under the cone, above what
            noise alone leaves: above it, pixels differ in brightness.
        shared: the part of that ratio (of at most 1) that the brightness of the neighbours must explain for the
            constraint to be the cone.
            Illumination changes little from one pixel to the next; if it does not explain the ratio, each material
            varies by itself, and the constraint is soft.
        whole: above this ratio the constraint is the cone whatever the neighbours explain: one brightness for each
            pixel then explains the error, even if it is as rough as shade.
        purified: how much worse in log error a purified candidate may be if the spectra do not vary: the mean of
            several pixels has less noise than an extreme pixel, which the error of noisy bands hardly shows.
        varied: the same for each unit of `noise.variability`, and how much more a minimum volume must gain: a larger
            simplex fits variable spectra better and is not closer to the truth for that.
        angle, volume, instability, impurity: weights of log angle, volume, log instability and 1 - purity.
        pure: a chosen candidate of lower purity is unsure.
        unstable: angle between the spectra from the two halves of the pixels above which a choice is unsure, radians.
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


class Selection(NamedTuple):
    """What `select_endmembers` chose, and why.

    Attributes:
        endmembers: (R, B), >= 0, units of the cube.
        abundances: (H, W, R), >= 0 and summing to one; 0 in masked pixels.
        constraint_index: () int32, the mixing model as an index into `CONSTRAINTS`; `constraint` is its word.
        chosen: () int32, an index into `CANDIDATES`.
        cost: (C,), of each candidate, infinite for those of another mixing model; the lowest is chosen.
        scores: Scores of each candidate.
        variability: (), `noise.variability` of the scene.
        beyond: (), how many directions beyond R hold more signal than noise; if there are any, spectra vary.
        brightness: (), log ratio of the lowest error under the simplex to that under the cone, above the noise; and
        shared: (), the same for the simplex alone and the simplex under the brightness of the neighbours. These two
            decide the mixing model.
        margin: (), gap between the cost of the choice and the lowest of another kind (extreme pixels, minimum volume,
            purified); infinite if the mixing model allows one kind only. On generated scenes it does not predict the
            error.
        lacking: (), how many of the R directions that R spectra span hold no more signal than noise.
        doubts: (5,) bool, which of `DOUBTS` apply.
        unsure: () bool, whether any of them applies. Not every failure is detected: see `Weights`.
    """

    endmembers: jax.Array
    abundances: jax.Array
    constraint_index: jax.Array
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

    @property
    def constraint(self) -> str:
        """The mixing model, "simplex", "cone" or "soft" (host side: the index must be concrete)."""
        return CONSTRAINTS[int(self.constraint_index)]

    def with_constraint(self, word: str) -> "Selection":
        """Return the selection under another mixing model."""
        return self._replace(constraint_index=jnp.asarray(constraint_index(word), jnp.int32))


def check_bands(cube: Array, count: int, mask: Array | None) -> None:
    """Raise InputError unless candidates can be compared: arguments that fit, and two bands for each endmember."""
    Y, _ = checked(cube, count, mask)
    if Y.shape[1] < 2 * count:
        raise InputError(
            f"{count} endmembers asked for in {Y.shape[1]} bands; expected at least twice as many, because half "
            "of them judge what the other half says. Ask for fewer, or use VCA: dq.endmembers.vca, `fit --start vca`, "
            "`endmembers --method vca`."
        )


def select_endmembers(
    key: Array,
    cube: Array,
    count: int,
    *,
    mask: Array | None = None,
    weights: Weights | None = None,
    abundances: bool = True,
    fixed: Array | None = None,
) -> Selection:
    """Choose endmembers and a mixing model for a scene, without a reference.

    VCA, SiVM, N-FINDR and the minimum volume, each as it is and purified (`purify`), under the simplex (`fcls`) and
    under the cone (`scaled_nnls`): 16 candidates, with `Scores`, from which `Weights` decide. First the mixing model:
    the cone if a brightness for each pixel explains held-out bands better than the simplex does, and if either the
    brightness of its neighbours does so too or little error is left; soft (`soft_nnls`, with purified spectra) if
    neither holds; else the simplex. Then the lowest cost

        log error - (purified + varied * v) [of a purified candidate] + varied * v [of a minimum volume],

    v = noise.variability, to which weights can add log angle, volume, log instability and 1 - purity.

    Args:
        key: random key, of VCA and of the halves of the pixels.
        cube: (H, W, B), any units, B >= 2 R.
        count: R, static, at least 2.
        mask: (H, W) bool, True for valid pixels.
        weights: static numbers; None: the defaults.
        abundances: False leaves `Selection.abundances` empty and saves their solve.
        fixed: (F, B), spectra that are known, in the units of the cube, F < R and all different: they are the first
            endmembers, unchanged, and the other R - F are looked for beside them. None: all are looked for.

    Returns:
        A Selection. `reason` explains it in three sentences. Endmembers and scores are not differentiated (derivative 0
        in the cube); the abundances are, for these endmembers.

    Raises:
        InputError: if the shapes do not fit, the count is out of range, the bands are fewer than 2 R, or outside jit if
            valid values are not finite.
    """
    check_key(key)
    weights = Weights() if weights is None else weights
    check_kind(weights, Weights, "weights")
    check_bands(cube, count, mask)
    known = None if fixed is None else fixed_spectra(fixed, count, cube)
    if is_traced(key, cube, mask):
        selection = _selected(key, cube, mask, None, count, weights, known)
    else:  # a scene of another size runs the same program
        true = np.shape(cube)[:2]
        valid = np.ones(true, np.bool_) if mask is None else mask
        half, shape = _random_half(key, true), padded_shape(cube, count)
        image, valid, half = (pad(x, shape) for x in (cube, valid, half))
        selection = _selected(key, image, valid, half, count, weights, known)
    return selection._replace(abundances=_abundances_of(cube, mask, selection)) if abundances else selection


def fixed_spectra(fixed: Array, count: int, cube: Array) -> jax.Array:
    """Check fixed spectra (F, B) and return them in the type of the computation."""
    return wide(jnp.asarray(check_fixed(fixed, count, np.shape(cube)[2])))


_random_half = quick_jit(lambda *_: "quick", static_argnums=1)(random_half)


# Eager operations, some seventy, would be compiled one by one.
@quick_jit(lambda _, cube, mask, half, count, weights, fixed: effort_once(cube, count), static_argnums=(4, 5))
def _selected(
    key: Array,
    cube: Array,
    mask: Array | None,
    half: Array | None,
    count: int,
    weights: Weights,
    fixed: jax.Array | None,
) -> Selection:
    """Return what `select_endmembers` returns, without abundances."""
    valid = jnp.ones(np.shape(cube)[:2], jnp.bool_) if mask is None else jnp.asarray(mask)
    cube = jnp.where(valid[..., None], wide(cube), 0)
    E, scores, scene = candidates(key, cube, valid, count, half, fixed)
    selection = decide(scores, scene, weights)
    return selection._replace(endmembers=E[selection.chosen])


@jax.jit
def _abundances_of(cube: Array, mask: Array | None, selection: Selection) -> jax.Array:
    """Return the abundances of the selected endmembers under the selected constraint."""
    return lax.switch(
        selection.constraint_index,
        (
            lambda: fcls(cube, selection.endmembers, mask=mask),
            lambda: scaled_nnls(cube, selection.endmembers, mask=mask)[0],
            lambda: soft_nnls(cube, selection.endmembers, mask=mask)[0],
        ),
    )


def decide(scores: Scores, scene: SceneScores, weights: Weights) -> Selection:
    """Return the selection that follows from the scores; endmembers and abundances are empty."""
    half = len(CANDIDATES) // 2
    error = jnp.log(jnp.maximum(scores.error, 1e-9))
    error = jnp.where(jnp.isnan(error), jnp.inf, error)

    def above_noise(errors: jax.Array, floor: jax.Array) -> jax.Array:
        """Return half the log of the lowest squared error above the noise, which is known to 2 %."""
        least = jnp.min(jnp.where(jnp.isnan(errors), jnp.inf, errors))
        return 0.5 * jnp.log(jnp.maximum(jnp.maximum(least**2 - floor, 0) + 0.02 * floor, 1e-18))

    linear = above_noise(scores.error[:half], scene.floor[0])
    # If nothing could be measured, neither model is better.
    brightness = jnp.nan_to_num(linear - above_noise(scores.error[half:], scene.floor[1]), nan=0)
    shared = jnp.nan_to_num(linear - above_noise(scores.shared[:half], scene.floor[0]), nan=0)
    differ = brightness > weights.bright
    # A model that fits to the noise has an unbounded ratio, which a neighbour's brightness never reaches.
    enough = weights.shared * jnp.minimum(brightness, 1)
    cone = differ & ((shared > enough) | (brightness > weights.whole))
    soft = differ & ~cone
    index = jnp.where(cone, CONE, jnp.where(soft, SOFT, SIMPLEX)).astype(jnp.int32)
    purified = jnp.asarray([candidate.purified for candidate in CANDIDATES])
    smallest = jnp.asarray([candidate.method == METHODS[-1] for candidate in CANDIDATES])
    cost = (
        error
        - jnp.where(purified, weights.purified + weights.varied * scene.variability, 0)
        + jnp.where(smallest, weights.varied * scene.variability, 0)
        + weights.angle * jnp.log(jnp.maximum(scores.angle, 1e-9))
        + weights.volume * scores.volume
        + weights.instability * jnp.log(jnp.maximum(scores.instability, 1e-4))
        + weights.impurity * (1 - scores.purity)
    )
    # If a material varies by itself, its extreme pixel is a bright one; the mean of several has the true level.
    free = jnp.asarray([candidate.constraint != "simplex" for candidate in CANDIDATES])
    allowed = (free == differ) & (purified | ~soft)
    cost = jnp.where(allowed & jnp.isfinite(cost), cost, jnp.inf)
    # Methods that find the same pixels differ by rounding and in the order of the spectra: take the first.
    chosen = jnp.argmax(cost <= jnp.min(cost) + _ALIKE).astype(jnp.int32)
    kind = jnp.asarray([2 if entry.purified else int(entry.method == METHODS[-1]) for entry in CANDIDATES])
    margin = jnp.min(jnp.where(kind != kind[chosen], cost, jnp.inf)) - cost[chosen]
    lacking = scene.lacking[differ.astype(jnp.int32)]
    pure, stable = scores.purity[chosen] >= weights.pure, scores.instability[chosen] <= weights.unstable
    doubts = jnp.stack([lacking >= 1, scene.beyond >= 1, soft, ~pure, ~stable])  # NaN is a doubt
    empty = jnp.zeros(0, cost.dtype)
    return Selection(
        empty, empty, index, chosen, cost, scores, scene.variability, scene.beyond, brightness, shared,
        margin, lacking, doubts, jnp.any(doubts),
    )  # fmt: skip


MIXING = {
    "linear": "abundances sum to one (linear model)",
    "scaled": "brightness varies per pixel (scaled linear model)",
    "soft": "brightness varies per pixel and material (soft sum-to-one)",
}
ASKED = {
    "simplex": "abundances sum to one (simplex)",
    "softmax": "abundances sum to one (softmax)",
    "cone": "brightness varies per pixel (cone)",
    "soft": "the sum of abundances stays near one (soft)",
}
_NEAR = 0.5
"""Relative distance in cost up to which the runner-up is mentioned."""


def reason(selection: Selection, constraint: str | None = None) -> str:
    """Say in short sentences what was chosen, why, and how sure the choice is (host side: arrays must be concrete).

    "Better" compares the least held-out errors above noise (`Selection.brightness`, `Selection.shared`); the runner-up
    is the best candidate of another kind (`Selection.margin`); confidence is low where there is a doubt
    (`Selection.doubts`).

    Args:
        selection: from `select_endmembers`.
        constraint: "simplex", "cone", "soft" or "softmax" where the caller keeps that constraint whatever the scene
            says; None where mixing is as `selection` has it.

    Returns:
        Three sentences: endmembers, mixing, confidence.
    """
    chosen, count = CANDIDATES[int(selection.chosen)], selection.endmembers.shape[0]
    refined = ", refined on the purest pixels" if chosen.purified else ""
    per_pixel = f"with a brightness per pixel, held-out bands fit {_better(selection.brightness)}"
    if constraint is not None:
        mixing = f"{ASKED[constraint]}, as asked for; {per_pixel}"
    elif selection.constraint == "cone":
        mixing = f"{MIXING['scaled']}; held-out bands fit {_better(selection.brightness)} than with sum-to-one"
    elif selection.constraint == "soft":
        mixing = f"{MIXING['soft']}; {per_pixel}, but with that of the neighbours {_better(selection.shared)}"
    else:
        mixing = f"{MIXING['linear']}; {per_pixel}"
    doubts = [
        text.format(count=count, known=count - int(selection.lacking))
        for text, applies in zip(DOUBTS, selection.doubts, strict=True)
        if bool(applies)
    ]
    distance = float(np.expm1(np.float64(selection.margin)))
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
    loss = np.expm1(-np.float64(log_ratio))
    return f"{100 * loss:.0f} % worse" if loss < 9 else "more than ten times worse"
