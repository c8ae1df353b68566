"""Compare an estimate with a reference, for `dequnmix score`."""

import os
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError, how_many
from dequnmix_jax.conventions import AS_IS, REFLECTANCE, SCALED, check_convention, factors_to
from dequnmix_jax.io.envi.header import find_header
from dequnmix_jax.io.formats import TABLES, read_truth
from dequnmix_jax.io.remote import as_place
from dequnmix_jax.libraries.reading import read_library
from dequnmix_jax.metrics import match
from dequnmix_jax.results.maps import at_level, at_one_level, endmember_names, level_sums, levels, referred
from dequnmix_jax.scenes.scene import Array
from dequnmix_jax.scenes.truth import Truth

UNITS = {
    "as_they_are": "fractions as they are",
    "in_the_unit_of_the_estimate": "reference in the unit of the estimate's spectra",
}
"""Names of two further ways to compare fractions. Fractions depend on the unit of their spectra (`conventions`): those
of a scaled model differ from those of a reference in the units of the scene, though both describe the same mixtures."""

_ALIKE = 1.01
"""Ratio of the maxima of the spectra of a reference up to which they have one level, as after a normalisation."""

_CLEARLY = 0.95
"""Ratio of errors below which spectra of maximum one explain the cube better than spectra at their level. On 48 scenes
of `datasets.generator` the ratio of a reference at its level is above 1, and of one at maximum one below 0.94, but for
intimate mixing (0.75 to 0.86 for both) and two scenes whose conventions differ by 0.02."""


_ROUNDING = 0.01
"""How far outside 0 to 1 the fractions of a reference may be before it is said."""

_ARRAYS = (".npz", ".npy", ".mat", ".hdr")


def read_reference(
    path: str | os.PathLike[str], *, shape: tuple[int, int] | None = None, order: str | None = None
) -> Truth:
    """Read a reference, or an estimate, as `io.read_truth` does; or a spectral library in a text file (CSV, USGS).

    Args:
        path: the file or folder.
        shape, order: as for `io.read_truth`.

    Raises:
        InputError: as from `io.read_truth` and `libraries.read_library`.
    """
    path = as_place(path)
    # A table is recognised before a header, because endmembers.csv lies beside endmembers.sli and endmembers.hdr.
    table = path.suffix.lower() in TABLES
    if path.is_file() and path.suffix.lower() not in _ARRAYS and (table or find_header(path) is None):
        with path.open("rb") as file:
            is_text = b"\0" not in file.read(512)
        if is_text:
            library = read_library(path)
            notes = tuple(library.notes)
            return Truth(endmembers=library.spectra, names=library.names, reference=path.name, notes=notes)
    return read_truth(path, shape=shape, order=order)


def reference_convention(truth: Truth, cube: Array | None = None, mask: Array | None = None) -> tuple[str, str]:
    """Decide which convention the fractions of a reference have, from the reference alone and its scene.

    The convention that the reference states; else the one whose spectra reproduce the cube better
    (`metrics.convention_errors`), "scaled" only if clearly; without a cube "scaled" if the spectra have one level.

    Args:
        truth: the reference, with abundances (H, W, R).
        cube: (H, W, B), its scene, or None.
        mask: (H, W) bool, True where the pixel counts.

    Returns:
        A word of `conventions.MEANINGS`, and the reason, a phrase.
    """
    from dequnmix_jax import metrics

    A, E = truth.abundances, truth.endmembers
    if truth.convention is not None:
        return truth.convention, "the reference says so"
    if A is None or E is None:
        return REFLECTANCE, "the reference has no spectra that would say otherwise"
    top = np.max(E, axis=1)
    one_level = bool(0 < top.max() <= _ALIKE * top.min())
    if cube is None:
        why = "spectra of one level" if one_level else "spectra of several levels"
        return SCALED if one_level else REFLECTANCE, f"the reference has {why}; no scene is at hand to test it"
    of_scene, at_level, at_one = (float(error) for error in metrics.convention_errors(A, E, cube, mask))
    # Spectra of one level reproduce the cube alike in both, and only a constant brightness can speak for reflectance.
    own = of_scene if one_level else at_level
    # A brightness per pixel fits one of the R directions of the noise.
    fair = np.sqrt((len(E) - 1) / len(E)) if one_level else 1.0
    word = SCALED if at_one < _CLEARLY * fair * own else REFLECTANCE
    how = "one brightness" if one_level else "a brightness per pixel"
    return word, (
        f"in the span of its spectra its fractions reproduce the scene with a relative error of {own:.3g} with spectra "
        f"at their level and {how}, and of {at_one:.3g} at maximum 1 and a brightness per pixel"
    )


def compare(
    estimate: Truth,
    truth: Truth,
    mask: Array | None = None,
    *,
    cube: Array | None = None,
    convention: str | None = None,
) -> dict[str, Any]:
    """Match the endmembers of an estimate with those of a reference and measure the errors.

    The matching minimises the sum of spectral angles or, if a side has no spectra, the sum of squared differences of
    the abundances, which favours the estimate. Fractions are compared in the convention of the reference, into which
    those of the estimate are converted with the levels of the estimate's own spectra; if these are unknown, because all
    spectra have maximum 1, with the levels of the reference.

    Args:
        estimate: abundances (H, W, R) and endmembers (R, B); one of them may be missing. Without a stated convention,
            spectra of maximum 1 mean "scaled".
        truth: the reference; one of them may be missing too.
        mask: (H, W) bool, True where the pixel counts.
        cube: (H, W, B), the scene, by which the convention of the reference is decided; None: by its spectra.
        convention: of the reference, "reflectance" or "scaled"; "as-is": nothing is converted; None: decided by
            `reference_convention`.

    Returns:
        armse, pooled_rmse and msad (None where inputs are missing), one row for each endmember, the name of the
        reference, notes, the criterion of the matching, and "convention": that of estimate and reference, whether the
        fractions were converted, and why, in a sentence. If both sides have fractions and spectra, armse and
        pooled_rmse also in two ways, named in `UNITS`: as they are, and with the reference in the unit of the
        estimate's spectra, by `metrics.in_unit` with the ratios of the maxima of the spectra.

    Raises:
        InputError: the numbers of endmembers, pixels or bands differ, there is nothing to compare, or the convention is
            unknown.
    """
    import jax.numpy as jnp

    from dequnmix_jax import metrics

    def errors(mine: Any, theirs: Any, where: Any) -> dict[str, float]:
        return {
            "armse": float(metrics.armse(mine, theirs, where)),
            "pooled_rmse": float(metrics.pooled_rmse(mine, theirs, where)),
        }

    _check(estimate, truth)
    A, A_true, E, E_true = estimate.abundances, truth.abundances, estimate.endmembers, truth.endmembers
    if E is not None and E_true is not None:
        order = np.asarray(metrics.align(E, E_true))
        matched_by = "spectral angle (the least sum over all matchings)"
    else:
        assert A is not None and A_true is not None  # _check ensures a common quantity
        order = align_maps(A, A_true, mask)
        matched_by = "abundances, because spectra are missing: the least squared difference, which favours the estimate"
    count = order.size
    names = endmember_names(estimate.names, count)
    true_names = endmember_names(truth.names, count)
    scores: dict[str, Any] = {"reference": truth.reference, "notes": list(truth.notes), "matched_by": matched_by}
    rmse: list[float | None] = [None] * count
    sad: list[float | None] = [None] * count
    scores |= {"armse": None, "pooled_rmse": None, "msad": None, "convention": None, **dict.fromkeys(UNITS)}
    rows = [(names[int(order[i])], true_names[i]) for i in range(count)]
    if A is not None and A_true is not None:
        scores["notes"] += _range_note(A_true, mask)
        where = None if mask is None else jnp.asarray(mask)
        given, b = jnp.asarray(A[:, :, order]), jnp.asarray(A_true)
        said, factors = _conversion(estimate, truth, order, mask, cube, convention)
        a = given if factors is None else metrics.in_unit(given, jnp.asarray(factors))
        scores["convention"] = said
        scores |= errors(a, b, where)
        scores["as_they_are"] = errors(given, b, where)
        if E is not None and E_true is not None:
            factors = ratios(referred(E[order], said["estimate"]), referred(E_true, said["reference"]))
            if factors is None:
                scores["notes"].append("A spectrum has no positive value, so fractions are compared as they are.")
            else:
                scores["in_the_unit_of_the_estimate"] = errors(given, metrics.in_unit(b, jnp.asarray(factors)), where)
        rmse = [float(metrics.armse(a[:, :, i : i + 1], b[:, :, i : i + 1], where)) for i in range(count)]
    if E is not None and E_true is not None:
        sad = np.asarray(metrics.spectral_angle(E[order], E_true)).astype(float).tolist()
        scores["msad"] = float(metrics.msad(E[order], E_true))
    scores["endmembers"] = [
        {"estimate": mine, "reference": theirs, "rmse": rmse[i], "sad": sad[i]} for i, (mine, theirs) in enumerate(rows)
    ]
    return scores


def _range_note(abundances: Array, mask: Array | None) -> list[str]:
    """Return a sentence if a reference has values that no fraction has, or none."""
    values = abundances[np.isfinite(abundances) & (True if mask is None else np.asarray(mask, bool)[..., None])]
    if not values.size or (values.min() >= -_ROUNDING and values.max() <= 1 + _ROUNDING):
        return []
    return [
        f"The fractions of the reference go from {values.min():.3g} to {values.max():.3g}; expected 0 to 1. They are "
        "compared as they are: check that they are fractions, and not percent or those of an unconstrained method."
    ]


def _conversion(
    estimate: Truth, truth: Truth, order: Array, mask: Array | None, cube: Array | None, convention: str | None
) -> tuple[dict[str, Any], Array | None]:
    """Return what is said about the conventions, and the factors (R,) that convert the ordered fractions, or None."""
    if convention is not None and convention != AS_IS:
        check_convention(convention)
    theirs, why = (
        (convention, "as asked for") if convention not in (None, AS_IS) else reference_convention(truth, cube, mask)
    )
    assert theirs is not None
    E, E_true = estimate.endmembers, truth.endmembers
    known = estimate.convention
    mine = known or (SCALED if E is not None and at_one_level(E) else theirs if E is None else REFLECTANCE)
    said: dict[str, Any] = {"estimate": mine, "reference": theirs, "converted": False}
    start = f"The fractions of the reference are {theirs!r}: {why}."
    factors = None
    if convention == AS_IS or mine == theirs:
        kept = "are compared as they are" if mine != theirs else f"are {theirs!r} too"
        said["sentence"] = f"{start} Those of the estimate {kept}."
        return said, None
    spectra, whose = (E, "its own spectra") if E is not None and not at_one_level(E) else (None, "")
    if spectra is None and E_true is not None:
        spectra, whose = E_true, "the spectra of the reference, because those of its own are unknown"
        order = np.arange(order.size)
    if spectra is None or np.max(spectra, axis=1).min() <= 0:
        lacking = "levels of the spectra are unknown"
        said["sentence"] = f"{start} Those of the estimate, {mine!r}, are compared as they are, because {lacking}."
        return said, None
    factors = factors_to(theirs, np.max(spectra[order], axis=1).astype(np.float32))
    said["converted"] = True
    said["sentence"] = f"{start} Those of the estimate, {mine!r}, are converted with the levels of {whose}."
    return said, factors


def ratios(estimate: Array, reference: Array) -> Array | None:
    """Return g_r = max_b e_r / max_b e^_r for reference spectra e and estimated spectra e^ (R, B); None if one is 0.

    Fractions a of the reference spectra become `metrics.in_unit(a, g)` for spectra at the levels of e^.
    """
    levels = [np.max(spectra, axis=1).astype(np.float64) for spectra in (estimate, reference)]
    return (levels[1] / levels[0]).astype(np.float32) if min(level.min() for level in levels) > 0 else None


def as_estimate(
    abundances: Array, endmembers: Array, brightness: Array, convention: str, mask: Array | None = None
) -> Truth:
    """Return an estimate for `compare` as `write` and `read_reference` would: spectra in the units of the scene.

    Args:
        abundances: (H, W, R).
        endmembers: (R, B); under "scaled" their level does not matter.
        brightness: (H, W).
        convention: of the fractions, `Model.convention`.
        mask: (H, W) bool, True where the pixel is valid.
    """
    A, s, E = (np.asarray(values, np.float32) for values in (abundances, brightness, endmembers))
    if convention == SCALED:
        valid = np.ones(s.shape, np.bool_) if mask is None else mask
        E = at_level(referred(E, convention), levels(level_sums(A, s, valid)))
    return Truth(A, E, convention=convention)


def _check(estimate: Truth, truth: Truth) -> None:
    """Raise InputError if estimate and reference cannot be compared."""
    counts = []
    for entry in (estimate, truth):
        maps, spectra = entry.abundances, entry.endmembers
        counts.append(maps.shape[2] if maps is not None else 0 if spectra is None else spectra.shape[0])
    if counts[0] != counts[1]:
        raise InputError(
            f"The estimate has {how_many(counts[0], 'endmember')} and the reference {counts[1]}; expected as many in "
            f"both. Fit a model with --endmembers {counts[1]}, or pass another reference."
        )
    common = 0
    for what, axes in (("abundances", "(rows, columns, endmembers)"), ("endmembers", "(endmembers, bands)")):
        mine, reference = getattr(estimate, what), getattr(truth, what)
        if mine is None or reference is None:
            continue
        common += 1
        if mine.shape != reference.shape:
            raise InputError(
                f"The {what} of the estimate have shape {mine.shape} and those of the reference {reference.shape}; "
                f"expected the same {axes}. Check that both are of the same scene and bands."
            )
        for side, values in (("estimate", mine), ("reference", reference)):
            if not np.isfinite(values).all():
                raise InputError(f"The {what} of the {side} hold NaN or infinity; expected finite values.")
    if not common:
        raise InputError(
            "The estimate and the reference have neither abundances nor endmembers in common; expected one of them."
        )


def align_maps(maps: Array, reference: Array, mask: Array | None) -> Array:
    """Return the order of the abundance maps that matches the reference best."""
    valid = np.ones(maps.shape[:2], np.bool_) if mask is None else mask
    a, b = maps[valid].astype(np.float64), reference[valid].astype(np.float64)
    cost = np.square(b[:, :, None] - a[:, None, :]).mean(axis=0)  # rows: reference, columns: estimate
    rows, columns = match(cost)
    order = np.empty(maps.shape[2], np.int64)
    order[rows] = columns
    return order
