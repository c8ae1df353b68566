"""How sure the fractions of endmembers that were found in the scene are: their spread over other ways to find them."""

from dataclasses import replace
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError, how_many
from dequnmix_jax.conventions import SCALED, factors_to
from dequnmix_jax.results.result import Result
from dequnmix_jax.scenes.scene import Array, Scene

STARTS = "starts"
"""The word for this uncertainty."""

SEEDS = 3
"""Seeds of the random numbers that are tried by default."""

_BEYOND = 0.7
"""Ways whose predicted log error is at most this much above the least count: those with up to twice the error."""

_NINETY = 1.6448536269514722

MEANING = (
    "The spread of the fractions over other starts: the candidates of endmembers and mixing models whose predicted "
    "error is at most twice the least, with several seeds, and the error that the learned operator expects of the "
    "whole scene. It is no noise, and it does not hold what all starts have in common."
)
"""What the deviations are, for the summary and the page."""


def check_starts(uncertainty: Any, seeds: int, bounds: bool) -> None:
    """Raise InputError unless an uncertainty of found endmembers is "starts" or None, and its numbers fit."""
    if uncertainty not in (None, STARTS):
        raise InputError(
            f"uncertainty is {uncertainty!r}; expected {STARTS!r} or None for endmembers that are found in the scene. "
            "Other words are for spectra of a library (unmix_with, --endmembers LIBRARY)."
        )
    if type(seeds) is not int or seeds < 1:
        raise InputError(f"seeds is {seeds!r}; expected a whole number above 0.")
    if bounds and uncertainty is None:
        raise InputError("bounds are asked for without an uncertainty; expected uncertainty='starts' with them.")


def check_linear(nonlinear: Any) -> None:
    """Raise InputError for a model of nonlinear mixing (`Model.nonlinear`): other starts are unmixed linearly."""
    if nonlinear is not None:
        raise InputError(
            f"uncertainty is 'starts' and Model.nonlinear is {nonlinear.word!r}; expected linear mixing, because other "
            "starts are unmixed linearly, and the spread would be that of two models. Leave one of them out."
        )


def check_bands(scene: Scene, count: int) -> None:
    """Raise InputError if a scene has fewer than two bands for each endmember, so that nothing can be compared."""
    if scene.cube.shape[2] < 2 * count:
        raise InputError(
            f"uncertainty is 'starts' and the scene has {how_many(scene.cube.shape[2], 'band')} for "
            f"{how_many(count, 'endmember')}; expected at least two bands for each, because candidates are compared. "
            "Leave it out."
        )


def with_start_uncertainty(
    result: Result, scene: Scene, keys: Any, *, fixed: Array | None = None, bounds: bool = False
) -> Result:
    """Return a result with deviations of its fractions by the spread over starts.

    sd^2 = sum_w p_w (a_w - a)^2 + e^2 in each pixel and endmember, a_w the fractions by way w (candidate spectra with a
    mixing model, of every seed; in the order and the convention of the result), p_w in proportion to the inverse square
    of their predicted errors, e the error that is predicted of the whole scene. Ways count up to twice the least
    predicted error. The fractions of each way are exact (`abundances.unmix_known`).

    Coverage of the 90 % interval a +- 1.645 sd is measured by `experiments.comparison.coverage`, rows "starts".

    Args:
        result: of spectra that were found in the scene.
        scene: that was unmixed, its good bands.
        keys: of jax.random, one for each seed.
        fixed: (F, B), the first endmembers, which are known; or None.
        bounds: whether bounds of 5 and 95 % are added, a +- 1.645 sd cut to 0 and 1.

    Raises:
        InputError: there are fewer than two bands for each endmember, so that nothing can be compared.
    """
    from dequnmix_jax.learned import selection

    count = result.endmembers.shape[0]
    check_bands(scene, count)
    constraint = "simplex" if fixed is not None and not np.any(fixed, axis=1).all() else None
    chosen = [
        selection.select(key, scene.cube, count, mask=scene.mask, constraint=constraint, fixed=fixed) for key in keys
    ]
    error = float(np.mean([each.expected_error[0] for each in chosen]))
    weights, squares, ways = 0.0, np.zeros(result.abundances.shape, np.float64), 0
    for each in chosen:
        predicted = np.asarray(each.prediction.relative)
        for way in np.flatnonzero(predicted - predicted.min() <= _BEYOND):
            maps = _maps(scene, np.asarray(each.spectra), int(way), result)
            if maps is None:
                continue
            weight = float(np.exp(-2 * (predicted[way] - predicted.min())))
            squares += weight * np.square(maps - result.abundances)
            weights, ways = weights + weight, ways + 1
    spread = np.sqrt(squares / weights) if ways else np.zeros_like(squares)
    valid = scene.valid
    sd = np.where(valid[..., None], np.sqrt(np.square(spread) + error**2), 0).astype(np.float32)
    record = {
        "noise": STARTS, "meaning": MEANING, "mean_noise": None, "by": "spread", "seeds": len(chosen), "ways": ways,
        "expected_error": error, "mean_abundances_sd": sd[valid].mean(axis=0, dtype=np.float64).tolist(),
        "mean_spread": spread[valid].mean(axis=0).tolist(),
    }  # fmt: skip
    found: dict[str, Any] = {"abundances_sd": sd}
    if bounds:
        reach = np.float32(_NINETY) * sd
        inside = valid[..., None]
        found["abundances_p05"] = np.where(inside, np.clip(result.abundances - reach, 0, 1), 0)
        found["abundances_p95"] = np.where(inside, np.clip(result.abundances + reach, 0, 1), 0)
        record["bounds"] = "5 % and 95 %, 1.645 standard deviations around the fraction, cut to 0 and 1."
    return replace(result, **found, summary={**result.summary, "uncertainty": record})


def _maps(scene: Scene, spectra: Array, way: int, result: Result) -> Array | None:
    """Return the fractions (H, W, R) by one way, in the order and the convention of a result; None if it has none."""
    import jax.numpy as jnp

    from dequnmix_jax import metrics
    from dequnmix_jax.abundances.known import unmix_known
    from dequnmix_jax.abundances.methods import Known
    from dequnmix_jax.learned.selection import WAYS

    E = spectra[WAYS[way].spectra]
    if not np.isfinite(E).all() or (E.max(axis=1) <= 0).any():
        return None
    known = Known(("fcls", "scaled", "soft")[WAYS[way].constraint])
    cube = np.where(scene.valid[..., None], scene.cube, np.float32(0))
    norm = np.sqrt(np.square(scene.cube[scene.valid], dtype=np.float64).sum(axis=1).mean())
    found = unmix_known(jnp.asarray(cube), jnp.asarray(E), jnp.asarray(scene.valid), jnp.float32(norm), known)
    order = np.asarray(metrics.align(E, result.endmembers))
    maps, E = np.asarray(found.abundances)[..., order], E[order]
    if not np.isfinite(maps).all():
        return None
    convention = SCALED if known.method == "scaled" else known.convention
    if convention != result.convention:
        factors = factors_to(result.convention, E.max(axis=1).astype(np.float32))
        maps = np.asarray(metrics.in_unit(jnp.asarray(maps), jnp.asarray(factors)))
    return maps
