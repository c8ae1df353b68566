"""Pruning of a library: each measure against its definition, spectrum by spectrum."""

import numpy as np
import pytest

from dequnmix_jax.checks import InputError
from dequnmix_jax.libraries.chosen import Chosen
from dequnmix_jax.libraries.pruning import order, prune

WORDS = ("soil", "soil", "soil", "soil", "plant", "plant", "plant")


def spectra():
    rng = np.random.default_rng(0)
    x = np.linspace(0, 1, 30)
    soils = [0.2 + 0.3 * x + shift for shift in (0.0, 0.01, -0.01)] + [0.6 - 0.5 * x]
    plants = [0.05 + 0.5 / (1 + np.exp(-20 * (x - 0.5))) * scale for scale in (1.0, 1.1, 0.3)]
    return np.array([*soils, *plants]) + 0.002 * rng.standard_normal((7, 30))


def modelled(e, f):
    """Return the RMSE of f by e and shade, by a fine search."""
    x = np.linspace(0, 1.05, 20001)[:, None]
    return np.sqrt(np.mean((f - x * e) ** 2, axis=1)).min()


def scores(by):
    E, rows = spectra(), range(7)
    error = np.array([[modelled(E[i], E[j]) for j in rows] for i in rows])
    angle = [[np.arccos(E[i] @ E[j] / np.sqrt(E[i] @ E[i] * (E[j] @ E[j]))) for j in rows] for i in rows]
    same = [[j for j in rows if j != i and WORDS[j] == WORDS[i]] for i in rows]
    other = [[j for j in rows if WORDS[j] != WORDS[i]] for i in rows]
    ear = [error[i, same[i]].mean() for i in rows]
    if by == "ear":
        return ear
    if by == "masa":
        return [np.mean([angle[i][j] for j in same[i]]) for i in rows]
    return [(-(error[i, same[i]] <= 0.025).sum(), (error[i, other[i]] <= 0.025).sum(), ear[i]) for i in rows]


@pytest.mark.parametrize("by", ["ear", "masa", "cob"])
def test_the_order_is_that_of_the_definition(by):
    found, expected = order(spectra(), WORDS, by), scores(by)
    for word in ("soil", "plant"):
        mine = [row for row in found if WORDS[row] == word]
        assert mine == sorted(mine, key=lambda row: expected[row])
    assert [row for row in found if WORDS[row] == "soil"][-1] == 3  # the soil that is unlike the others


def chosen(classes=WORDS):
    names = tuple(f"s{row}" for row in range(7))
    return Chosen(names, classes, spectra(), np.ones(30, np.bool_), ("a note",))


def test_the_best_of_each_class_stay_in_their_order():
    kept = prune(chosen(), "ear:2")
    assert len(kept.names) == 4 and kept.classes == ("soil", "soil", "plant", "plant") and "s3" not in kept.names
    np.testing.assert_array_equal(kept.spectra, [spectra()[int(name[1:])] for name in kept.names])
    assert kept.notes[-1].startswith("4 of 7 spectra are kept") and kept.notes[0] == "a note"
    assert prune(chosen(), "cob:9").names == chosen().names


@pytest.mark.parametrize("by", ["ear", "best:3", "ear:0", "ear:-1", "ear:x"])
def test_another_word_is_a_sentence(by):
    with pytest.raises(InputError, match="expected a measure and the number of spectra"):
        prune(chosen(), by)


def test_classes_are_needed():
    with pytest.raises(InputError, match="The spectra have no classes"):
        prune(chosen(()), "ear:2")
