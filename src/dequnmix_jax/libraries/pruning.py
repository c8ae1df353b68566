r"""Prune the spectra of each class to those that stand for the others best: EAR, MASA and CoB.

A spectrum f is modelled by another, e, and shade: |f - x e|^2 least, 0 <= x <= 1.05; RMSE over the bands.

    ear     mean RMSE of the other spectra of the class, each modelled by e (Dennison and Roberts 2003); small is good
    masa    mean angle to the other spectra of the class (Dennison, Halligan and Roberts 2004); small is good
    cob     spectra of the class that e models with RMSE <= 0.025 (Roberts et al. 2003); large is good, and of equal
            ones the one that models fewer spectra of other classes, then the one of smaller EAR
"""

from collections.abc import Sequence

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.libraries.chosen import Chosen
from dequnmix_jax.scenes.scene import Array

WAYS = ("ear", "masa", "cob")

_HIGHEST = 1.05
"""Most of a spectrum in a model of another; the smallest is 0, and the rest of a sum of one is shade."""

_MODELLED = 0.025
"""RMSE, reflectance, up to which a spectrum counts as modelled."""


def prune(chosen: Chosen, by: str) -> Chosen:
    """Return the spectra that stand for their classes best.

    Args:
        chosen: from `choose_spectra`, with classes.
        by: "ear:5", "masa:5" or "cob:5": the measure, and how many spectra of each class are kept.

    Returns:
        A Chosen of the kept spectra in their order, with a note.

    Raises:
        InputError: no classes, or another word.
    """
    way, _, number = by.partition(":")
    if way not in WAYS or not number.isdecimal() or int(number) < 1:
        raise InputError(
            f"prune is {by!r}; expected a measure and the number of spectra to keep of each class, such as 'ear:5' "
            f"({', '.join(WAYS)})."
        )
    if not chosen.classes:
        raise InputError(
            "The spectra have no classes, of which the best are kept; expected the column of the library that holds "
            "them. Add classes=COLUMN (--class COLUMN)."
        )
    best = order(chosen.spectra, chosen.classes, way)
    kept: list[int] = []
    for word in dict.fromkeys(chosen.classes):
        kept += [row for row in best if chosen.classes[row] == word][: int(number)]
    rows = sorted(kept)
    note = f"{len(rows)} of {len(chosen.names)} spectra are kept, of each class up to {number} by {way.upper()}."
    return chosen._replace(
        names=tuple(chosen.names[row] for row in rows),
        classes=tuple(chosen.classes[row] for row in rows),
        spectra=chosen.spectra[rows],
        notes=(*chosen.notes, note),
    )


def order(spectra: Array, classes: Sequence[str], by: str) -> list[int]:
    """Return the numbers of the spectra (N, B), the best of each class before the others of it.

    Args:
        spectra: (N, B), reflectance.
        classes: N words.
        by: "ear", "masa" or "cob".
    """
    words = np.asarray(classes)
    same = words[:, None] == words[None, :]
    np.fill_diagonal(same, False)
    others = np.maximum(same.sum(axis=1), 1)
    error = model_errors(spectra)
    ear = np.where(same, error, 0).sum(axis=1) / others
    if by == "ear":
        keys = [ear]
    elif by == "masa":
        lengths = np.linalg.norm(np.asarray(spectra, np.float64), axis=1)
        cosine = np.asarray(spectra, np.float64) @ np.asarray(spectra, np.float64).T
        cosine /= np.maximum(np.outer(lengths, lengths), np.finfo(float).tiny)
        keys = [np.where(same, np.arccos(np.clip(cosine, -1, 1)), 0).sum(axis=1) / others]
    else:
        modelled = error <= _MODELLED
        keys = [ear, (modelled & (words[:, None] != words[None, :])).sum(axis=1), -(modelled & same).sum(axis=1)]
    return [int(row) for row in np.lexsort(keys)]


def model_errors(spectra: Array) -> Array:
    """Return (N, N), the RMSE of spectrum j modelled by spectrum i and shade; 0 where i = j."""
    E = np.asarray(spectra, np.float64)
    G = E @ E.T
    squares = np.diag(G)
    x = np.clip(G / np.maximum(squares, np.finfo(float).tiny)[:, None], 0, _HIGHEST)
    error = np.sqrt(np.maximum(squares[None, :] - 2 * x * G + x * x * squares[:, None], 0) / E.shape[1])
    np.fill_diagonal(error, 0)
    return np.asarray(error)
