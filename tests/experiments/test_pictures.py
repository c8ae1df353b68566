"""The pictures show the arrays as they are stored, each map beside its reference."""

import csv
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dequnmix_jax.baselines import Method, MethodResult
from dequnmix_jax.datasets.hysu import MATERIALS
from dequnmix_jax.scenes.truth import Truth
from experiments.comparison import pictures
from experiments.shared import scenes

pytest.importorskip("matplotlib")


def loaded(exact=True):
    """Return a scene of 4 x 6 pixels, no two alike, and its parts."""
    A = np.random.default_rng(0).dirichlet(np.ones(3), (4, 6)).astype(np.float32)
    E = np.random.default_rng(1).uniform(0.1, 1.0, (3, 9)).astype(np.float32)
    E[1] *= 0.4
    truth = Truth(A, E, ("soil", "tree", "water"), "someone's")
    references = ((truth, exact),) if exact else ((truth, False), (truth, False))
    return scenes.Loaded(jnp.asarray(A @ E), references), A, E


def answer(A, E, constraint="simplex"):
    """Return a method that gives its result in another order."""
    shuffled = np.asarray([2, 0, 1])
    return Method(
        "known",
        lambda key, cube, start: MethodResult(jnp.asarray(A[..., shuffled]), jnp.asarray(E[shuffled])),
        constraint,
    )


def inputs(scene, E):
    """Return what a method gets, and the reference."""
    return (jax.random.key(0), scene.cube, jnp.asarray(E)), scene.references[0][0]


def test_quick_form_draws_two_pictures_of_each_scene(tmp_path):
    target = pictures.main(pictures.QUICK, tmp_path)
    text = target.read_text(encoding="utf-8")
    assert "python -m experiments.comparison.pictures" in text and "commit" in text and "Seed 0" in text
    for name in ("maps_varied_30_dB.png", "spectra_varied_30_dB.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG") and f"({name})" in text
    with target.with_suffix(".csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["VCA + FCLS", "DEQ-Unmix, cone", "DEQ-Unmix, cone"]
    assert rows[1]["reference"] + "; spectra at maximum one" == rows[2]["reference"]
    assert all(float(row["armse"]) > 0 for row in rows)
    pictures.main(replace(pictures.QUICK, only=("VCA + FCLS",)), tmp_path)  # replaces them


def test_maps_lie_as_the_arrays_do():
    scene, A, E = loaded()
    held = pictures.targets("", scene.references)
    shown = [pictures.compare(answer(A, E), *inputs(scene, E), held)]
    figure = pictures.draw_maps(["a title", "and more"], ("soil", "tree", "water"), held, shown)
    figure.canvas.draw()
    panels, bar = figure.axes[:-1], figure.axes[-1]
    assert len(panels) == 9 and bar.get_ylabel() == "abundance (fraction)"
    for number, axes in enumerate(panels):
        (image,) = axes.images
        line, r = divmod(number, 3)
        expected = (A, np.asarray(held[1].abundances), A)[line]
        np.testing.assert_array_equal(image.get_array(), expected[..., r])
        assert image.get_clim() == (0, 1)
        (left, top), (right, below) = (axes.transData.transform(place) for place in ((0, 0), (5, 3)))
        assert left < right and top > below  # row 0 is at the top, column 0 at the left
    assert [axes.get_title() for axes in panels[:3]] == ["soil", "tree", "water"]
    assert panels[6].get_ylabel() == "known\naRMSE 0.000"
    assert figure.get_suptitle() == "a title\nand more"


def test_a_method_under_the_cone_is_held_against_spectra_at_maximum_one():
    scene, A, E = loaded()
    held = pictures.targets("", scene.references)
    peaks = E.max(axis=1)
    weighted = A * peaks / (A * peaks).sum(axis=2, keepdims=True)
    np.testing.assert_allclose(held[1].abundances, weighted, atol=1e-6)
    for constraint, maps in (("simplex", A), ("cone", weighted)):
        found = pictures.compare(answer(maps, E, constraint), *inputs(scene, E), held)
        assert [target.after for target, _ in found.errors] == ["", " in its unit"][: 1 + (constraint == "cone")]
        assert found.errors[-1][1] < 1e-6 < 0.01 < (found.errors[0][1] if constraint == "cone" else 1)
        np.testing.assert_allclose(found.angles, 0, atol=1e-3)


def test_regions_of_hysu_are_shown_and_nothing_is_held_against_them():
    hysu = scenes.load("hysu", 0)
    (target,) = pictures.targets("hysu", hysu.references)
    assert target.constraints == () and target.abundances.shape == (*hysu.cube.shape[:2], 6) and hysu.mask is None
    names = hysu.references[0][0].names
    assert names[:5] == MATERIALS and names[5] == "grass"


def test_two_references_are_told_apart():
    scene, A, E = loaded(exact=False)
    held = pictures.targets("", scene.references)
    shown = [pictures.compare(answer(A, E), *inputs(scene, E), held)]
    figure = pictures.draw_maps([], ("soil", "tree", "water"), held, shown)
    assert [axes.get_ylabel() for axes in figure.axes[:-1:3]] == [
        "reference a", "reference b", "known\naRMSE 0.000 to a\naRMSE 0.000 to b",
    ]  # fmt: skip


def test_spectra_stand_at_maximum_one_with_their_angles():
    scene, A, E = loaded()
    shown = [pictures.compare(answer(A, 3 * E), *inputs(scene, E), pictures.targets("", scene.references))]
    nm = np.asarray([500.0, 400, 600, 700, 800, 900, 2000, 2100, 2200])
    for places, label in ((nm, "wavelength (nm)"), (None, "band (counted from 0)")):
        figure = pictures.draw_spectra([], ("soil", "tree", "water"), ("theirs", E), shown, places)
        assert len(figure.axes) == 3
        for axes, e in zip(figure.axes, E, strict=True):
            assert axes.get_xlabel() == label
            reference, found = axes.lines
            np.testing.assert_allclose(reference.get_ydata(), found.get_ydata(), rtol=1e-6)
            values = e / e.max()
            if places is not None:  # in the order of the wavelengths, with a gap
                values = np.insert(values[np.argsort(nm)], 6, np.nan)
            np.testing.assert_allclose(reference.get_ydata(), values, rtol=1e-6)
            assert [text.get_text() for text in axes.get_legend().get_texts()] == ["theirs", "known: 0.000 rad"]
        assert figure.axes[0].get_ylabel() == "spectrum / its maximum"
