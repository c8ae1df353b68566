"""MESMA: against every model solved by itself, its rules, its limits, its memory."""

from itertools import combinations, product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.abundances import Mesma, fcls, mesma
from dequnmix_jax.abundances.multiple import best_models
from dequnmix_jax.checks import InputError
from dequnmix_jax.results.writer import write_result

H, W, B = 5, 6, 20
WORDS = ("a", "b", "a", "b", "b", "c", "c")  # classes need not lie together
N, K = len(WORDS), 3


def library():
    return np.random.default_rng(0).uniform(0.1, 0.8, (N, B)).astype(np.float32)


def drawn(light):
    """Return a cube that mixes one to three classes in each pixel, with noise, and its coefficients."""
    rng = np.random.default_rng(1)
    x = np.zeros((H, W, N))
    for at in np.ndindex(H, W):
        classes = rng.choice(K, rng.integers(1, K + 1), replace=False)
        rows = [rng.choice([r for r in range(N) if WORDS[r] == "abc"[c]]) for c in classes]
        x[at][rows] = rng.dirichlet(np.ones(len(rows)))
    x = x * (rng.uniform(0.5, 1.0, (H, W, 1)) if light else 1.0)
    return (x @ library() + 0.003 * rng.standard_normal((H, W, B))).astype(np.float32), x


def one_by_one(cube, shaded, threshold):
    """Return coefficients, error and number of classes by FCLS of every model in turn."""
    E, solve = library(), jax.jit(fcls)
    answer = None
    for size in range(1, K + 1):
        error, x = np.full((H, W), np.inf), np.zeros((H, W, N))
        for classes in combinations("abc", size):
            for rows in product(*[[r for r in range(N) if WORDS[r] == c] for c in classes]):
                P = E[list(rows)]
                P = np.concatenate([P, np.zeros((4 - len(P) if shaded else 0, B), np.float32)])
                a = np.asarray(solve(cube, P)) if len(P) > 1 else np.ones((H, W, 1))
                found = np.sqrt(np.mean((cube - a @ P) ** 2, axis=-1))
                better = found < error
                whole = np.zeros((H, W, N))
                whole[..., list(rows)] = a[..., : len(rows)]
                error, x = np.where(better, found, error), np.where(better[..., None], whole, x)
        if answer is None:
            answer = x, error, np.ones((H, W), int)
            continue
        larger = answer[1] - error > threshold
        answer = (
            np.where(larger[..., None], x, answer[0]),
            np.where(larger, error, answer[1]),
            np.where(larger, size, answer[2]),
        )
    return answer


@pytest.mark.parametrize("shade", ["none", "kept"])
def test_the_model_is_that_of_every_one_solved_by_itself(shade):
    cube, truth = drawn(shade != "none")
    x, error, size = one_by_one(cube, shade != "none", 0.007)
    found = mesma(cube, library(), WORDS, options=Mesma(shade=shade))
    np.testing.assert_array_equal(found.classes, size)
    np.testing.assert_allclose(found.coefficients, x, atol=2e-5)
    np.testing.assert_allclose(found.error, error, atol=1e-6)
    assert {1, 2, 3} == set(np.unique(size)) and float(found.change.max()) < 1e-6
    np.testing.assert_allclose(found.shade, 1 - x.sum(axis=-1), atol=2e-5)
    right = ((np.asarray(found.coefficients) > 0) == (truth > 0)).all(axis=-1)
    assert right.mean() > 0.6  # the rest has a fraction below the threshold


def test_masked_pixels_and_another_threshold():
    cube, _ = drawn(False)
    mask = np.ones((H, W), np.bool_)
    mask[1, 2] = False
    cube[1, 2] = np.nan
    found = mesma(cube, library(), WORDS, mask=mask)
    assert not found.coefficients[1, 2].any() and found.classes[1, 2] == 0 and found.error[1, 2] == 0
    assert found.classes[mask].min() == 1
    single = mesma(cube, library(), WORDS, mask=mask, options=Mesma(max_classes=1))
    assert set(np.unique(single.coefficients)) == {0.0, 1.0}


def test_limits_of_fractions_and_errors_discard_models():
    cube, _ = drawn(False)
    beyond = library()[0] + 0.04 * (library()[0] - library()[1])  # 1.04 and -0.04 of a model of two classes
    cube[0, 0], cube[0, 1] = beyond, 1.0 - library()[0]
    limits = Mesma(lowest=-0.05, highest=1.05, largest_rmse=0.025, threshold=0.002)
    found = mesma(cube, library(), WORDS, options=limits)
    np.testing.assert_allclose(found.coefficients[0, 0, :2], [1.04, -0.04], atol=1e-3)
    assert found.classes[0, 1] == 0 and not found.coefficients[0, 1].any() and np.isinf(found.error[0, 1])
    assert float(found.coefficients.min()) >= -0.05 and float(found.coefficients.max()) <= 1.05
    np.testing.assert_allclose(found.coefficients.sum(axis=-1)[found.classes > 0], 1, atol=1e-5)
    held = mesma(cube, library(), WORDS)
    assert float(held.coefficients.min()) >= 0 and held.classes.min() == 1


def test_memory_does_not_grow_with_the_models():
    def memory(each):
        E = jax.ShapeDtypeStruct((3 * each, B), jnp.float32)
        cube, mask = jax.ShapeDtypeStruct((40, 40, B), jnp.float32), jax.ShapeDtypeStruct((40, 40), jnp.bool_)
        rules = Mesma().of(("a",) * each + ("b",) * each + ("c",) * each)
        # The fractions of all spectra are an output, and are held twice.
        own = 4 * 1600 * 3 * each * 2
        return rules.models, best_models.lower(
            cube, E, mask, rules
        ).compile().memory_analysis().temp_size_in_bytes - own

    (few, small), (many, large) = memory(4), memory(20)
    assert many > 50 * few and large < 2 * small + 2**20


@pytest.mark.slow  # tests/cli/test_known.py draws models by default
def test_models_drawn_by_a_seed():
    cube, _ = drawn(False)
    one, again, other = (
        mesma(cube, library(), WORDS, options=Mesma(draws=4, max_classes=2, seed=seed)).coefficients
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, again)
    assert Mesma(draws=4).of(WORDS).models == 12 and Mesma().of(WORDS).models == 7 + 16 + 12
    assert not np.array_equal(one, other)


def test_fractions_and_errors_are_differentiable_where_the_choice_stays():
    cube, _ = drawn(False)
    part = jnp.asarray(cube[:1])

    @jax.jit
    def error(E):
        return jnp.sum(jnp.square(mesma(part, E, WORDS).error))

    E = jnp.asarray(library())
    direction = jnp.asarray(np.random.default_rng(3).standard_normal((N, B)).astype(np.float32))
    slope = jnp.sum(jax.grad(error)(E) * direction)
    step = 1e-3
    change = (error(E + step * direction) - error(E - step * direction)) / (2 * step)
    np.testing.assert_allclose(slope, change, rtol=0.02)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"shade": "some"}, "shade is 'some'; expected none, normalised, kept"),
        ({"max_classes": 0}, "max_classes is 0"),
        ({"draws": 0}, "draws is 0"),
        ({"threshold": -1.0}, "threshold is -1.0; expected a value from 0"),
        ({"lowest": 0.1}, "expected a range that holds 0 to 1"),
        ({"largest_rmse": 0.0}, r"\(--max-rmse\) is 0.0"),
    ],
)
def test_rules_that_do_not_fit_are_a_sentence(more, sentence):
    with pytest.raises(InputError, match=sentence):
        Mesma(**more)


def test_too_many_models_and_the_advice_works():
    cube = np.full((1, 1, 4), 0.3, np.float32)
    many = np.random.default_rng(0).uniform(0.1, 0.8, (450, 4)).astype(np.float32)
    words = ["a"] * 150 + ["b"] * 150 + ["c"] * 150
    with pytest.raises(InputError, match=r"450 spectra in 3 classes make 3,442,950 models .* \(draws\)"):
        mesma(cube, many, words)
    assert mesma(cube, many, words, options=Mesma(max_classes=1)).classes[0, 0] == 1
    with pytest.raises(InputError, match="4 classes and shade, and the scene 3 bands"):
        mesma(cube[..., :3], many[:5, :3], "abcde", options=Mesma(max_classes=4, shade="kept"))
    with pytest.raises(InputError, match="2 classes for 5 spectra given"):
        mesma(cube, many[:5], "ab")


def test_unmix_with_maps_models_spectra_and_shade(tmp_path):
    cube, _ = drawn(True)
    wavelengths = np.linspace(400.0, 900.0, B)
    scene = dq.Scene(cube, wavelengths=wavelengths, fwhm=np.full(B, 5.0))
    fine = np.linspace(390.0, 910.0, 400)
    spectra = np.stack([np.interp(fine, wavelengths, row) for row in library()])
    names = tuple(f"s{row}" for row in range(N))
    known = dq.libraries.Library(names, fine, spectra, columns={"Class": WORDS})
    normalised, kept = (
        dq.unmix_with(scene, known, classes="Class", method=Mesma(shade=word)) for word in ("normalised", "kept")
    )
    assert kept.names == (*names, "shade") and kept.class_names == ("a", "b", "c", "shade")
    np.testing.assert_allclose(kept.abundances[..., N], 1 - normalised.brightness, atol=1e-5)
    np.testing.assert_allclose(
        kept.abundances[..., :N], normalised.abundances * normalised.brightness[..., None], atol=1e-5
    )
    np.testing.assert_allclose(normalised.residual, kept.residual, atol=1e-6)
    models = normalised.models
    for at in np.ndindex(H, W):
        rows = np.flatnonzero(normalised.abundances[at])
        assert models[at][0] == sum(2 ** "abc".index(WORDS[row]) for row in rows)
        assert sorted(models[at][1:][models[at][1:] > 0]) == [row + 1 for row in np.sort(rows)]
    shares = normalised.summary["models"]
    assert sum(entry["share"] for entry in shares) == pytest.approx(1)
    np.testing.assert_allclose(
        [entry["share"] for entry in shares], [(models[..., 0] == entry["model"]).mean() for entry in shares]
    )
    write_result(tmp_path / "out", normalised, scene)
    np.testing.assert_array_equal(dq.read(tmp_path / "out" / "models.img").cube, models)
    np.testing.assert_array_equal(dq.read_result(tmp_path / "out").models, models)
    assert "spectrum of class b" in (tmp_path / "out" / "models.hdr").read_text()
    assert dq.unmix_with(scene, known, classes="Class").models is None
    pruned = dq.unmix_with(scene, known, classes="Class", method="mesma", prune="ear:1")
    assert len(pruned.names) == 3 and not any("mesma" in text for text in pruned.summary["warnings"])
    assert any("3 of 7 spectra are kept" in note for note in pruned.summary["notes"])
    with pytest.raises(InputError, match="no classes are named"):
        dq.unmix_with(scene, known, method="mesma")
    bright = dq.Scene(cube * 100, wavelengths=wavelengths, fwhm=np.full(B, 5.0))
    percent = dq.libraries.Library(names, fine, spectra * 100, columns={"Class": WORDS})
    warned = dq.unmix_with(bright, percent, classes="Class", method="mesma", prune="ear:1").summary["warnings"]
    assert any("threshold 0.007 of mesma is for reflectance" in text for text in warned)


def test_models_of_any_spectra_sum_classes_afterwards():
    cube, _ = drawn(False)
    E = np.concatenate([library(), library()[:1] * 0.6])  # two spectra of the first class, far apart
    words = (*WORDS, WORDS[0])
    mixed = 0.5 * E[0] + 0.5 * E[-1]
    cube[0, 0] = mixed
    free = mesma(cube, E, words, options=Mesma(combine="spectra"))
    np.testing.assert_allclose(np.asarray(free.coefficients[0, 0])[[0, -1]], 0.5, atol=1e-4)
    classes = mesma(cube, E, words)
    assert (np.asarray(classes.coefficients[0, 0])[[0, -1]] > 0).sum() < 2  # one spectrum of a class
    np.testing.assert_array_equal(free.error <= classes.error + 0.007 + 1e-6, True)
