"""What the measurements of a result say about it, one sentence each with its figure."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from dequnmix_jax.conventions import SCALED
from dequnmix_jax.results.areas import distinctness, distinctness_in_models
from dequnmix_jax.results.result import Result
from dequnmix_jax.results.words import area_words
from dequnmix_jax.scenes.scene import Array
from dequnmix_jax.training.words import plain


class Verdict(NamedTuple):
    """A sentence about a result.

    Attributes:
        name: of the question: "converged", "initialisation", "distinct", "half", "residual" or "areas".
        good: whether nothing is to be done.
        figure: the number that decides.
        text: the sentence, which holds the number.
    """

    name: str
    good: bool
    figure: float
    text: str


ALIKE = 0.03
"""Radians. Spectra of one material differ by as much between samples."""

UNSURE = 0.1
"""Expected root mean square error of the fractions from which the choice of endmembers is unsure."""

STRUCTURED = 0.5
"""Share of the residual in one direction from which a further endmember is suggested. On 72 generated scenes of nine
families, with all true endmembers and with one left out, it is right in 80 %, as any share from 0.2 to 0.6 is: spectra
that vary or mix nonlinearly leave as much structure as a missing one (`experiments/defaults/report_rules.py`)."""

_HALF = 0.5


def judge(result: Result) -> list[Verdict]:
    """Return what the measurements say, in the order in which a reader asks; questions without an answer are left out.

    Args:
        result: from `result_of` or `read_result`.
    """
    found = [ask(result) for ask in _QUESTIONS]
    return [verdict for verdict in found if verdict is not None]


def with_verdicts(result: Result) -> Result:
    """Return a result whose summary holds the verdicts about it."""
    entries = [plain(verdict._asdict()) for verdict in judge(result)]
    return replace(result, summary={**result.summary, "verdicts": entries})


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> float | None:
    right = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if right and np.isfinite(value) else None


def _converged(result: Result) -> Verdict | None:
    trace = _table(result.summary.get("trace"))
    if not trace:
        return None
    residual, good = _number(trace.get("residual")), trace.get("converged") is True
    configuration = _table(result.summary.get("configuration"))
    change = "by an unknown amount" if residual is None else f"by {residual:.1e} of their size"
    if "method" in configuration:
        text = f"a further step changes the fractions {change}."
        words = f"The fractions are optimal: {text}" if good else f"The fractions are not optimal: {text}"
    else:
        tolerance = _number(_table(_table(configuration.get("model")).get("forward")).get("tolerance"))
        asked = "" if tolerance is None else f" (tolerance {tolerance:g})"
        text = f"a further step changes the maps {change}{asked}"
        words = f"Converged: {text}." if good else f"Not converged: {text}; do not trust the maps."
    return Verdict("converged", good, float("nan") if residual is None else residual, words)


_EXPECTED = re.compile(r"Expected error of the abundances: ([\d.e+-]+) \(from ([\d.e+-]+) to ([\d.e+-]+) in")


def _initialisation(result: Result) -> Verdict | None:
    start = result.summary.get("start")
    match = _EXPECTED.search(start) if isinstance(start, str) else None
    if match is None:
        return None
    error, low, high = (float(word) for word in match.groups())
    good = error < UNSURE
    text = (
        f"The choice of endmembers is {'sure' if good else 'unsure'}: the expected error of the fractions is {error:g} "
        f"({low:g} to {high:g} in two of three scenes)"
    )
    cure = "." if good else "; compare with another number of endmembers, or with spectra of a library."
    return Verdict("initialisation", good, error, text + cure)


def _distinct(result: Result) -> Verdict | None:
    spectra = np.asarray(result.endmembers, np.float64)
    lengths = np.linalg.norm(spectra, axis=1)
    seen = np.flatnonzero(lengths > 0)
    if seen.size < 2 or result.residual is None or not result.valid.any():
        return None
    angles = _angles(spectra[seen] / lengths[seen, None])
    by_model = "models" in result.summary
    if by_model:  # spectra of one class are never in one model, and may be alike
        angles[np.equal.outer(*[np.array(result.class_of)[seen]] * 2)] = np.inf
        if np.isinf(angles).all():
            return None
    i, j = np.unravel_index(int(np.argmin(angles)), angles.shape)
    first, second = result.names[seen[i]], result.names[seen[j]]
    angle = float(angles[i, j])
    unexplained = np.sqrt(spectra.shape[1]) * float(np.median(result.residual[result.valid]))
    brightness = float(np.median(result.brightness[result.valid]))
    distances = _in_models(result, spectra) if by_model else distinctness(spectra, result.convention)
    ratios = distances * brightness / max(unexplained, 1e-30)
    hidden = int(np.argmin(ratios))
    if ratios[hidden] < 1:
        others, cure = ("the others", "use fewer endmembers")
        if by_model:
            others, cure = "the others in its models", "leave it out, or allow fewer classes"
        text = (
            f"{result.names[hidden]} cannot be distinguished from mixtures of {others}: a whole pixel of it differs "
            f"from them by {ratios[hidden]:.2g} times what the model leaves unexplained; {cure}."
        )
        return Verdict("distinct", False, float(ratios[hidden]), text)
    # With fractions that sum to one, a dark and a bright spectrum of one shape are two endmembers (shade).
    level = max(lengths[seen[i]], lengths[seen[j]]) / min(lengths[seen[i]], lengths[seen[j]])
    if angle < ALIKE and (result.convention == SCALED or level < 1 + ALIKE):
        text = f"{first} and {second} are nearly equal: {np.degrees(angle):.2g}° apart; use fewer endmembers."
        return Verdict("distinct", False, angle, text)
    text = f"All endmembers are distinct: the nearest, {first} and {second}, are {np.degrees(angle):.2g}° apart"
    if angle < ALIKE:
        text += f" and differ in brightness by a factor of {level:.2g}"
    return Verdict("distinct", True, angle, text + ".")


def _in_models(result: Result, spectra: Array) -> Array:
    """Return the median distance of each spectrum from the others in its models, (R,), inf for those in no pixel."""
    fractions = result.abundances[result.valid]
    distances = np.where(fractions != 0, distinctness_in_models(fractions, spectra, result.convention), np.inf)
    return np.array(
        [np.median(column[np.isfinite(column)]) if np.isfinite(column).any() else np.inf for column in distances.T]
    )


def _angles(units: Array) -> Array:
    """Return the angles between unit vectors (R, B), inf on the diagonal."""
    apart = np.linalg.norm(units[:, None] - units[None], axis=2)
    together = np.linalg.norm(units[:, None] + units[None], axis=2)
    angles = 2 * np.arctan2(apart, together)
    np.fill_diagonal(angles, np.inf)
    return np.asarray(angles)


def _half(result: Result) -> Verdict | None:
    if not result.valid.any():
        return None
    highest = result.abundances[result.valid].max(axis=0)
    below = np.flatnonzero(highest <= _HALF)
    if below.size == 0:
        lowest = int(np.argmin(highest))
        text = f"Every endmember is above half somewhere; the lowest maximum is {highest[lowest]:.2f}"
        return Verdict("half", True, float(highest[lowest]), f"{text} ({result.names[lowest]}).")
    listed = ", ".join(f"{result.names[r]} (at most {highest[r]:.2f})" for r in below)
    text = (
        f"Nowhere above half: {listed}; no pixel shows {'its spectrum' if below.size == 1 else 'their spectra'} "
        "alone, so that it may be a mixture or a variant of others."
    )
    return Verdict("half", False, float(highest[below].min()), text)


def _residual(result: Result) -> Verdict | None:
    entry = _table(result.summary.get("residual_structure"))
    share, row, column = (_number(entry.get(name)) for name in ("share", "row", "column"))
    if share is None or row is None or column is None:
        return None
    if share < STRUCTURED:
        text = f"No further endmember stands out: one more direction explains {100 * share:.0f} % of the residual."
        return Verdict("residual", True, share, text)
    text = (
        f"One more direction explains {100 * share:.0f} % of the residual, most at row {row:.0f}, column {column:.0f}: "
        "a further endmember, or a spectrum that varies or is not right yet."
    )
    return Verdict("residual", False, share, text)


def _areas(result: Result) -> Verdict | None:
    summary = result.summary
    means = summary.get("mean_abundances")
    above = _table(summary.get("above_error")).get("mean_abundances")
    if not isinstance(means, list) or not isinstance(above, list) or not len(means) == len(above) == len(result.names):
        return None
    shares = [float(b) / float(a) if a > 0 else 1.0 for a, b in zip(means, above, strict=True)]
    lowest = int(np.argmin(shares))
    if shares[lowest] >= _HALF:
        text = f"The areas are above their error: at least {100 * shares[lowest]:.0f} % of each"
        return Verdict("areas", True, shares[lowest], f"{text} ({result.names[lowest]}).")
    area, valid = summary.get("pixel_area_m2"), summary.get("valid_pixels")
    whole = area * valid if isinstance(area, int | float) and isinstance(valid, int) else None
    below = [r for r, share in enumerate(shares) if share < _HALF]

    def amount(mean: float) -> str:
        percent = f"{100 * mean:.2g}" if mean < 0.995 else "100"
        return f"{percent} %" if whole is None else area_words(mean * whole)

    listed = ", ".join(f"{result.names[r]} ({amount(above[r])} of {amount(means[r])})" for r in below)
    whose, verb = ("its", "lies") if len(below) == 1 else ("their", "lie")
    text = f"Mostly below {whose} error: {listed} {verb} above it; do not use the whole sum."
    return Verdict("areas", False, shares[lowest], text)


_QUESTIONS: tuple[Callable[[Result], Verdict | None], ...] = (
    _converged, _initialisation, _distinct, _half, _residual, _areas,
)  # fmt: skip
