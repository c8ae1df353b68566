"""Each verdict follows from a measurement: where the measurement changes, the verdict does."""

from dataclasses import replace

import numpy as np
import pytest

from dequnmix_jax.conventions import SCALED
from dequnmix_jax.results import Verdict, judge, read_result, write
from dequnmix_jax.results.result import result_of
from dequnmix_jax.results.unexplained import structure
from dequnmix_jax.results.verdicts import with_verdicts
from dequnmix_jax.scenes.scene import Scene
from dequnmix_jax.types import Estimate, Trace

H, W, B = 16, 18, 10
RNG = np.random.default_rng(0)
SPECTRA = np.stack([0.1 + 0.5 * np.exp(-((np.arange(B) - c) ** 2) / 6) for c in (1, 5, 9)])
FRACTIONS = RNG.dirichlet(np.full(3, 0.4), (H, W))
FRACTIONS[0, :3] = np.eye(3)
NOISE = RNG.normal(0, 2e-3, (H, W, B))


def found(spectra=SPECTRA, fractions=FRACTIONS, cube=None, trace=(7, 1e-6, True), **options):
    cube = FRACTIONS @ SPECTRA + NOISE if cube is None else cube
    parts = [np.asarray(values, np.float32) for values in (fractions, spectra, np.ones((H, W)), fractions)]
    solved = Trace(np.int32(trace[0]), np.float32(trace[1]), np.bool_(trace[2]))
    return result_of(Estimate(*parts), Scene(cube.astype(np.float32)), trace=solved, **options)


def verdict(result, name):
    return next((entry for entry in judge(result) if entry.name == name), None)


def test_a_right_result_is_good():
    result = found(record={"start": START.format(0.04)})
    assert [(v.name, v.good) for v in judge(result)] == [
        (name, True) for name in ("converged", "initialisation", "distinct", "half", "residual", "areas")
    ]
    assert all(isinstance(v, Verdict) and np.isfinite(v.figure) for v in judge(result))


def test_not_converged():
    trace = verdict(found(trace=(9, 0.5, False)), "converged")
    assert not trace.good and trace.figure == 0.5 and "5.0e-01" in trace.text and "do not trust" in trace.text
    broken = verdict(found(trace=(9, np.nan, False)), "converged")
    assert not broken.good and "unknown amount" in broken.text
    known = found(configuration={"method": {"method": "fcls"}})
    assert "optimal" in verdict(known, "converged").text
    asked = found(configuration={"model": {"forward": {"tolerance": 1e-4}}})
    assert "(tolerance 0.0001)" in verdict(asked, "converged").text


START = "Endmembers: VCA. Expected error of the abundances: {} (from 0.02 to 0.3 in two of three scenes)."


@pytest.mark.parametrize(("error", "good"), [(0.04, True), (0.099, True), (0.1, False), (0.21, False)])
def test_the_initialisation_is_as_sure_as_its_expected_error(error, good):
    sure = verdict(found(record={"start": START.format(error)}), "initialisation")
    assert sure.good is good and sure.figure == error and f"{error:g}" in sure.text
    assert verdict(found(), "initialisation") is None  # nothing is known


def test_two_endmembers_nearly_equal():
    spectra = SPECTRA.copy()
    spectra[2] = spectra[1] * (1 + 0.004 * np.arange(B))
    alike = verdict(found(spectra, cube=FRACTIONS @ spectra + 0.01 * NOISE), "distinct")
    assert not alike.good and "endmember 2 and endmember 3 are nearly equal" in alike.text
    cosine = spectra[1] @ spectra[2] / np.linalg.norm(spectra[1]) / np.linalg.norm(spectra[2])
    assert alike.figure == pytest.approx(np.arccos(cosine), rel=1e-3)


def test_a_dark_spectrum_of_the_same_shape_is_another_one_unless_brightness_is_free():
    spectra = np.stack([SPECTRA[0], SPECTRA[1], 0.3 * SPECTRA[1]])
    result = found(spectra, cube=FRACTIONS @ spectra + 0.01 * NOISE)
    other = verdict(result, "distinct")
    assert other.good and "differ in brightness by a factor of 3.3" in other.text
    assert not verdict(replace(result, convention=SCALED), "distinct").good


def test_an_endmember_that_others_mix():
    spectra = np.stack([SPECTRA[0], SPECTRA[1], 0.5 * SPECTRA[:2].sum(axis=0) + 1e-4])
    hidden = verdict(found(spectra, cube=FRACTIONS @ spectra + NOISE), "distinct")
    assert not hidden.good and hidden.figure < 1 and "mixtures of the others" in hidden.text


def test_an_endmember_nowhere_above_half():
    fractions = FRACTIONS.copy()
    fractions[..., 2] = np.minimum(fractions[..., 2], 0.31)
    fractions /= fractions.sum(axis=2, keepdims=True)
    fractions[..., 2] = np.minimum(fractions[..., 2], 0.5)
    low = verdict(found(fractions=fractions, cube=fractions @ SPECTRA + NOISE), "half")
    highest = fractions[..., 2].max()
    assert not low.good and low.figure == pytest.approx(highest) and f"endmember 3 (at most {highest:.2f})" in low.text


def test_a_missing_endmember_is_structure_and_noise_is_not():
    foreign = 0.1 + 0.4 * np.cos(np.arange(B)) ** 2
    part = np.zeros((H, W, 1))
    part[5:8, 6:10] = 0.8
    missing = verdict(found(cube=(1 - part) * (FRACTIONS @ SPECTRA) + part * foreign + NOISE), "residual")
    assert not missing.good and missing.figure > 0.5
    row, column = (int(missing.text.split(f"{word} ")[1].split(",")[0].split(":")[0]) for word in ("row", "column"))
    assert 5 <= row < 8 and 6 <= column < 10
    assert verdict(found(), "residual").figure < 0.1
    few = structure(np.ones((3, 3, B)), np.ones((3, 3, 1)), np.ones((1, B)), np.ones((3, 3)), np.ones((3, 3), bool))
    assert few is None
    zero = structure(np.zeros((H, W, B)), FRACTIONS, SPECTRA, np.ones((H, W)), np.ones((H, W), bool))
    assert zero is None


def library(models):
    """Return a result by 8 spectra of 3 classes, in each pixel one of each class at most; `models`: by "mesma"."""
    rng = np.random.default_rng(3)
    bands = 6  # fewer than spectra: mixtures of all the others reach every spectrum
    base = np.eye(3).repeat(2, axis=1) * 0.5 + 0.1
    classes = ["soil", "soil", "soil", "leaf", "leaf", "roof", "roof", "roof"]
    order = ["soil", "leaf", "roof"]
    spectra = base[[order.index(word) for word in classes]] * rng.uniform(0.98, 1.02, (8, bands))
    fractions = np.zeros((H, W, 8))
    for k, word in enumerate(order):
        rows = np.flatnonzero(np.array(classes) == word)
        np.put_along_axis(fractions, rng.choice(rows, (H, W, 1)), FRACTIONS[..., k : k + 1], axis=2)
    parts = [np.asarray(values, np.float32) for values in (fractions, spectra, np.ones((H, W)), fractions)]
    cube = (fractions @ spectra + rng.normal(0, 1e-4, (H, W, bands))).astype(np.float32)
    record = {"models": []} if models else {}
    return result_of(Estimate(*parts), Scene(cube), class_of=classes, record=record)


def test_spectra_of_mesma_are_judged_within_their_models():
    """Variants of a class are never in one model; the areas of the classes are as sure as those of three spectra."""
    result = library(models=True)
    assert verdict(result, "distinct").good and verdict(result, "areas").good
    assert not verdict(library(models=False), "distinct").good  # one pixel may mix all of them
    means = np.array(result.summary["mean_abundances"])
    above = np.array(result.summary["above_error"]["mean_abundances"])
    assert (above > 0.9 * means).all()
    named = {
        word
        for name, word in zip(result.names, result.class_of, strict=True)
        if name in verdict(result, "distinct").text
    }
    assert len(named) == 2  # the nearest are of two classes


def test_a_mean_of_one_is_a_hundred_percent():
    fractions = np.zeros((H, W, 3))
    fractions[..., 1] = 1
    low = verdict(found(fractions=fractions, cube=np.zeros((H, W, B))), "areas")
    assert not low.good and "(0 % of 100 %) lies above it" in low.text


def test_areas_below_their_error():
    fractions = 0.9 * FRACTIONS
    fractions[..., 2] = 0.1
    fractions[..., 0] += 1 - fractions.sum(axis=2)
    foreign = np.where(np.arange(B) % 2, 0.06, -0.06)
    low = verdict(found(fractions=fractions, cube=fractions @ SPECTRA + foreign), "areas")
    assert not low.good and low.figure < 0.5 and "endmember 3 (" in low.text and "10 %" in low.text


def test_verdicts_are_written_and_read(tmp_path):
    result = found(trace=(9, 0.5, False))
    record = with_verdicts(result).summary["verdicts"]
    assert record[0]["name"] == "converged" and record[0]["good"] is False
    parts = Estimate(*(np.asarray(v) for v in (result.abundances, result.endmembers, result.brightness, result.state)))
    write(tmp_path / "out", parts, Scene((FRACTIONS @ SPECTRA).astype(np.float32)))
    again = read_result(tmp_path / "out")
    assert [entry["text"] for entry in again.summary["verdicts"]] == [v.text for v in judge(again)]
    older = replace(again, summary={}, residual=None)
    assert [v.name for v in judge(older)] == ["half"]  # of an earlier version, which measured less
    odd = {"trace": 3, "above_error": [], "mean_abundances": "x", "residual_structure": {"share": "y"}, "start": 7}
    assert [v.name for v in judge(replace(again, summary=odd, residual=None))] == ["half"]
