r"""How many endmembers a scene has: a rule learned on generated scenes, which reads `endmembers.counting`.

A logistic regression reads, for each k, what the scene says about one more endmember than k (`features`): eigenvalues
under three estimates of the noise, the correlation of neighbours along a direction, how far the next extreme pixel lies
from the span of those before, and how much it lowers the error of held-out bands. It gives the probability h_k that
there is one more, so that

    P(R = k) = (1 - h_k) prod_{j < k} h_j,    k = 2 .. most,

and the number is the k whose neighbourhood k - 1 .. k + 1 is the most probable.
"""

from functools import cache
from importlib.resources import as_file, files
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dequnmix_jax.checks import Array, InputError, check_cube, check_finite, check_mask, how_many
from dequnmix_jax.endmembers.counting import MOST, Criteria, Evidence, measure
from dequnmix_jax.io import npz_arrays

Floats = NDArray[np.float64]

FEWEST = 2
_CLIP = 4.0
"""Standard deviations of the training scenes within which features are read."""


class CountWeights(NamedTuple):
    """Weights: mean and scale of the features (F,), of each feature (F,), and the bias."""

    mean: Floats
    scale: Floats
    weight: Floats
    bias: float


class Count(NamedTuple):
    """How many endmembers a scene has.

    Attributes:
        number: the answer, from 2.
        low, high: the answer lies within with a probability of 90 % on scenes like those of the training.
        probabilities: of 2, 3, .. most endmembers.
        criteria: what single rules say, for comparison.
        most: the largest number that was looked for.
    """

    number: int
    low: int
    high: int
    probabilities: Floats
    criteria: Criteria
    most: int

    def record(self) -> dict[str, Any]:
        """Return the entry of summary.json."""
        return {
            "number": self.number,
            "range_90_percent": [self.low, self.high],
            "probabilities": {str(FEWEST + i): round(float(p), 4) for i, p in enumerate(self.probabilities)},
            "criteria": dict(self.criteria._asdict()),
            "most": self.most,
        }


def features(evidence: Evidence) -> Floats:
    """Return what a scene says about one more endmember than k = 2, 3, .. (K - 2, F)."""
    longest = evidence.above.size
    usual = MOST + 2  # curves of the training

    def at(curve: Floats, shift: int) -> Floats:
        """Return entry k + shift of a curve that begins with 1, for each k; the ends repeat."""
        return curve[np.clip(np.arange(FEWEST, longest) - 1 + shift, 0, longest - 1)]

    def tail(curve: Floats) -> float:
        return float(np.mean(curve[usual - 4 : usual] if longest >= usual else curve[-4:]))

    columns = []
    # Direction k about the mean is there from k + 1 endmembers on.
    for curve in (evidence.above, evidence.smooth, evidence.correlated):
        columns += [at(curve, 0), at(curve, 1), at(curve, 2)]
        columns += [at(curve, -1) - at(curve, 0), at(curve, 0) - at(curve, 1), at(curve, 1) - at(curve, 2)]
    # Where spectra vary, all directions are above the noise: over the tail, what is common to all does not count.
    for curve in (evidence.above, evidence.smooth, evidence.correlated, *evidence.height):
        columns += [at(curve, 0) - tail(curve), at(curve, 1) - tail(curve)]
    columns += [at(evidence.along, shift) for shift in (-1, 0, 1)] + [at(evidence.tails, shift) for shift in (0, 1)]
    for height, error in zip(evidence.height, evidence.error, strict=True):
        columns += [at(height, 1), at(height, 0) - at(height, 1), at(height, 1) - at(height, 2)]
        columns += [at(error, 0), at(error, 1), at(error, -1) - at(error, 0), at(error, 0) - at(error, 1)]
        columns += [at(error, 1) - at(error, 2), at(error, 0) - np.min(error[:usual])]
    columns += [at(evidence.left, 0), at(evidence.left, 1), at(evidence.share, 0)]
    columns += [np.full(longest - FEWEST, float(np.sum(evidence.above[:usual] > 1.0)) ** 0.5)]
    columns += [np.full(longest - FEWEST, np.log(evidence.freedom)), np.log(np.arange(FEWEST, longest))]
    return np.stack(columns, axis=1)


def probabilities(weights: CountWeights, evidence: Evidence, most: int) -> Floats:
    """Return the probability of 2, 3, .. `most` endmembers."""
    x = np.clip((features(evidence)[: most - FEWEST] - weights.mean) / weights.scale, -_CLIP, _CLIP)
    more = 1 / (1 + np.exp(-(x @ weights.weight + weights.bias)))
    reached = np.concatenate([[1.0], np.cumprod(more)])
    return reached * np.append(1 - more, 1.0)


def decide(probability: Floats) -> tuple[int, int, int]:
    """Return the number whose neighbourhood is the most probable, and the bounds of 90 %.

    Args:
        probability: of 2, 3, .. endmembers.
    """
    padded = np.pad(probability, 1)
    around = padded[:-2] + padded[1:-1] + padded[2:]
    # Of equal neighbourhoods the one whose middle is the most probable.
    number = FEWEST + int(np.argmax(around + 0.05 * probability))
    cumulated = np.cumsum(probability)
    low = FEWEST + int(np.searchsorted(cumulated, 0.05))
    high = FEWEST + min(int(np.searchsorted(cumulated, 0.95)), probability.size - 1)
    return number, min(low, number), max(high, number)


def count_endmembers(
    cube: Array, *, mask: Array | None = None, most: int | None = None, weights: CountWeights | None = None
) -> Count:
    """Count the endmembers of a scene without a reference, on the host.

    Args:
        cube: (H, W, B), any units, with more valid pixels than bands. Never traced. Of a scene of more than 25,000
            pixels, tiles of 16 x 16 pixels are read that hold about as many.
        mask: (H, W) bool, True for valid pixels.
        most: the largest number that is looked for, from 2; None: 15. No more than the bands allow.
        weights: of the rule; None: those of the package.

    Returns:
        A Count. `reason` says it in sentences.

    Raises:
        InputError: the shapes do not fit, valid values are not finite or all zero, there are no more valid pixels than
            bands, or `most` is out of range.
    """
    check_cube(cube)
    check_mask(mask, cube)
    check_finite(cube, mask)
    most = MOST if most is None else most
    if isinstance(most, bool) or not isinstance(most, int | np.integer) or most < FEWEST:
        raise InputError(
            f"The largest number of endmembers is {most!r}; expected an integer from {FEWEST} (most, max_endmembers, "
            "--max-endmembers)."
        )
    values = np.asarray(cube)
    bands = values.shape[2]
    valid = np.ones(values.shape[:2], np.bool_) if mask is None else np.asarray(mask)
    pixels = int(valid.sum())
    if pixels <= bands or bands < 4:
        raise InputError(
            f"{how_many(pixels, 'valid pixel')} and {how_many(bands, 'band')} are too few to count endmembers; "
            "expected at least 4 bands, and several times as many pixels as bands, to separate signal from noise. "
            "Give the number instead of auto."
        )
    if not np.any(values[valid]):
        raise InputError("The valid pixels are zero in every band; expected signal. Correct nodata or the mask.")
    weights = shipped_count() if weights is None else weights
    most = int(min(most, bands - 1))
    evidence, criteria = measure(values, mask, max(most, MOST))  # as in the training
    probability = probabilities(weights, evidence, most)
    return Count(*decide(probability), probability, criteria, most)


def reason(count: Count) -> str:
    """Say in two sentences how many endmembers there are, and what single criteria say."""
    c = count.criteria
    within = f"{count.low}" if count.low == count.high else f"{count.low} to {count.high}"
    limit = f" {count.most} is the largest number looked for." if count.number >= count.most else ""
    return (
        f"{count.number} endmembers ({within} with a probability of 90 %).{limit} Single criteria: held-out error "
        f"{c.held_out}, eigenvalue gap {c.gap}, signals above correlated noise {c.correlated}, NWHFC {c.nwhfc}, HySime "
        f"{c.hysime}."
    )


@cache
def shipped_count() -> CountWeights:
    """Return the weights of this version of the package."""
    with as_file(files("dequnmix_jax") / "data" / "count.npz") as path:
        arrays = npz_arrays.load(path)
    mean, scale, weight = (arrays[name].astype(np.float64) for name in ("mean", "scale", "weight"))
    return CountWeights(mean, scale, weight, float(arrays["bias"]))
