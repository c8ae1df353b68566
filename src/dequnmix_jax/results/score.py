"""Compare an estimate with a reference, for `dequnmix score`."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.io.envi.header import find_header
from dequnmix_jax.io.formats import TABLES, read_truth
from dequnmix_jax.libraries.reading import read_library
from dequnmix_jax.metrics import match
from dequnmix_jax.results.maps import endmember_names
from dequnmix_jax.scenes.scene import Array
from dequnmix_jax.scenes.truth import Truth

UNITS = {
    "as_they_are": "fractions as they are",
    "in_the_unit_of_the_estimate": "reference in the unit of the estimate's spectra",
}
"""Names of two ways to compare fractions. Fractions depend on the unit of their spectra: those of a scaled model, whose
spectra have maximum 1, differ from those of a reference in the units of the scene, though both describe the same
mixtures."""


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
    path = Path(path)
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


def compare(estimate: Truth, truth: Truth, mask: Array | None = None) -> dict[str, Any]:
    """Match the endmembers of an estimate with those of a reference and measure the errors.

    The matching minimises the sum of spectral angles or, if a side has no spectra, the sum of squared differences of
    the abundances, which favours the estimate.

    Args:
        estimate: abundances (H, W, R) and endmembers (R, B); one of them may be missing.
        truth: the reference; one of them may be missing too.
        mask: (H, W) bool, True where the pixel counts.

    Returns:
        armse, pooled_rmse and msad (None where inputs are missing), one row for each endmember, the name of the
        reference, notes, and the criterion of the matching. If both sides have fractions and spectra, armse and
        pooled_rmse also in two ways, named in `UNITS`: as they are (the same numbers as armse and pooled_rmse), and
        with the reference in the unit of the estimate's spectra, by `metrics.in_unit` with the ratios of the maxima of
        the spectra. The two agree if the spectra have the same levels.

    Raises:
        InputError: the numbers of endmembers, pixels or bands differ, or there is nothing to compare.
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
        order = _align_maps(A, A_true, mask)
        matched_by = "abundances, because spectra are missing: the least squared difference, which favours the estimate"
    count = order.size
    names = endmember_names(estimate.names, count)
    true_names = endmember_names(truth.names, count)
    scores: dict[str, Any] = {"reference": truth.reference, "notes": list(truth.notes), "matched_by": matched_by}
    rmse: list[float | None] = [None] * count
    sad: list[float | None] = [None] * count
    scores |= {"armse": None, "pooled_rmse": None, "msad": None, **dict.fromkeys(UNITS)}
    rows = [(names[int(order[i])], true_names[i]) for i in range(count)]
    if A is not None and A_true is not None:
        where = None if mask is None else jnp.asarray(mask)
        a, b = jnp.asarray(A[:, :, order]), jnp.asarray(A_true)
        scores |= errors(a, b, where)
        scores["as_they_are"] = errors(a, b, where)
        if E is not None and E_true is not None:
            factors = ratios(E[order], E_true)
            if factors is None:
                scores["notes"].append("A spectrum has no positive value, so fractions are compared as they are.")
            else:
                scores["in_the_unit_of_the_estimate"] = errors(a, metrics.in_unit(b, jnp.asarray(factors)), where)
        rmse = [float(metrics.armse(a[:, :, i : i + 1], b[:, :, i : i + 1], where)) for i in range(count)]
    if E is not None and E_true is not None:
        sad = np.asarray(metrics.spectral_angle(E[order], E_true)).astype(float).tolist()
        scores["msad"] = float(metrics.msad(E[order], E_true))
    scores["endmembers"] = [
        {"estimate": mine, "reference": theirs, "rmse": rmse[i], "sad": sad[i]} for i, (mine, theirs) in enumerate(rows)
    ]
    return scores


def ratios(estimate: Array, reference: Array) -> Array | None:
    """Return g_r = max_b e_r / max_b e^_r for reference spectra e and estimated spectra e^ (R, B); None if one is 0.

    Fractions a of the reference spectra become `metrics.in_unit(a, g)` for spectra at the levels of e^.
    """
    levels = [np.max(spectra, axis=1).astype(np.float64) for spectra in (estimate, reference)]
    return (levels[1] / levels[0]).astype(np.float32) if min(level.min() for level in levels) > 0 else None


def _check(estimate: Truth, truth: Truth) -> None:
    """Raise InputError if estimate and reference cannot be compared."""
    counts = []
    for entry in (estimate, truth):
        maps, spectra = entry.abundances, entry.endmembers
        counts.append(maps.shape[2] if maps is not None else 0 if spectra is None else spectra.shape[0])
    if counts[0] != counts[1]:
        raise InputError(
            f"The estimate has {counts[0]} endmembers and the reference {counts[1]}; expected as many in both. Fit a "
            f"model with --endmembers {counts[1]}, or pass another reference."
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


def _align_maps(maps: Array, reference: Array, mask: Array | None) -> Array:
    """Return the order of the abundance maps that matches the reference best."""
    valid = np.ones(maps.shape[:2], np.bool_) if mask is None else mask
    a, b = maps[valid].astype(np.float64), reference[valid].astype(np.float64)
    cost = np.square(b[:, :, None] - a[:, None, :]).mean(axis=0)  # rows: reference, columns: estimate
    rows, columns = match(cost)
    order = np.empty(maps.shape[2], np.int64)
    order[rows] = columns
    return order
