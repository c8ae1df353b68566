"""One call from a scene to a result: the same numbers as the command line, and what it returns."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax import pipeline
from dequnmix_jax.cli.main import main
from dequnmix_jax.datasets import synthetic

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Return the path of a small scene and its cube."""
    endmembers = synthetic.spectra(jax.random.key(4), 3, 20)
    sample = synthetic.linear_scene(jax.random.key(5), (10, 9), endmembers, 30.0, length=3.0)
    path = tmp_path_factory.mktemp("pipeline") / "scene.npz"
    cube = np.array(sample.cube, np.float32)
    cube[2, 3] = -1
    np.savez(path, cube=cube)
    return path


@pytest.fixture(scope="module")
def told():
    """Return what the progress of the run said."""
    return []


@pytest.fixture(scope="module")
def found(scene, told):
    training = replace(dq.RECOMMENDED[0], epochs=4)
    return dq.run(scene, 3, KEY, training=training, nodata=-1, on_progress=lambda *words: told.append(words))


def test_the_numbers_are_those_of_the_command_line(scene, found, tmp_path):
    words = ["report", str(scene), "--endmembers", "3", "--nodata", "-1", "--epochs", "4", "--seed", "0"]
    assert main([*words, "-o", str(tmp_path / "page.html"), "--result", str(tmp_path / "out")]) == 0
    theirs = dq.results.read_result(tmp_path / "out")
    np.testing.assert_allclose(found.endmembers, theirs.endmembers, rtol=1e-5)
    np.testing.assert_allclose(found.abundances, theirs.abundances, atol=1e-5)
    assert found.summary["start"] == theirs.summary["start"] and found.summary["stages"] == theirs.summary["stages"]


def test_nothing_is_trained_unless_asked_for(scene, tmp_path):
    found = dq.run(scene, 3, KEY, nodata=-1)
    words = ["report", str(scene), "--endmembers", "3", "--nodata", "-1", "--seed", "0"]
    assert main([*words, "-o", str(tmp_path / "page.html"), "--result", str(tmp_path / "out")]) == 0
    theirs = dq.results.read_result(tmp_path / "out")
    np.testing.assert_allclose(found.endmembers, theirs.endmembers, rtol=1e-5)
    np.testing.assert_allclose(found.abundances, theirs.abundances, atol=1e-5)
    assert found.history.loss.size == 0 and found.config.gradient == dq.equilibrium.Analytic()
    for summary in (found.summary, theirs.summary):
        assert summary["configuration"]["training"]["epochs"] == 0
        assert summary["operator"]["generator"] == dq.datasets.generator.fingerprint()
        assert "Expected error" in summary["start"]
        assert [text for text in summary["stages"] if text.startswith("Prior over neighbours")]
    again = main(["unmix", str(scene), str(tmp_path / "out" / "model.npz"), "--nodata", "-1", "-o",
                  str(tmp_path / "again")])  # fmt: skip
    assert again == 0
    np.testing.assert_allclose(dq.results.read_result(tmp_path / "again").abundances, theirs.abundances, atol=1e-5)


def test_what_comes_back_can_be_written_and_read(found, tmp_path):
    found.write(tmp_path / "out")
    theirs = dq.results.read_result(tmp_path / "out")
    np.testing.assert_array_equal(theirs.abundances, found.abundances)
    assert not found.valid[2, 3] and found.abundances.shape == (10, 9, 3)
    with pytest.raises(dq.InputError, match="exists"):
        found.write(tmp_path / "out")
    page = found.report(tmp_path / "page.html")
    assert "<html" in page.read_text(encoding="utf-8")


def test_the_chosen_rates_are_recorded_in_the_digits_that_were_meant(found):
    assert found.summary["configuration"]["rates"]["endmembers"] in (0.0, dq.RECOMMENDED[1].endmembers)


def test_it_says_itself_in_a_line(found):
    text = repr(found)
    assert "3 endmembers in 10 x 9 pixels, 20 bands" in text and "4 training steps" in text and len(text) < 250


def test_the_record_says_the_convention_of_the_fractions(found):
    assert found.convention == found.config.convention == found.summary["convention"]
    other = {"scaled": "reflectance", "reflectance": "scaled"}[found.convention]
    converted = found.in_convention(other)
    assert type(converted) is type(found) and converted.summary["convention"] == other
    for one in (found, converted):
        mixed = one.brightness[..., None] * (one.abundances @ one.referred)
        residual = np.sqrt(np.mean((mixed - found.scene.cube) ** 2, axis=2))
        np.testing.assert_allclose(residual[found.valid], found.residual[found.valid], atol=1e-5)


class StopError(Exception):
    """Ends a run after the choice."""


@pytest.mark.parametrize(
    ("options", "word", "stated"),
    [
        ({}, "cone", set()),
        ({"mixing": "linear"}, "simplex", {"model.constraint"}),
        ({"mixing": "soft"}, "soft", {"model.constraint"}),
        (
            {"mixing": "linear", "config": dq.Model(constraint=dq.equilibrium.Softmax())},
            "softmax",
            {"model.constraint", "model.prior"},
        ),
    ],
)
def test_a_mixing_that_is_asked_for_is_stated(monkeypatch, options, word, stated):
    def chosen(key, scene, count, config, rates, names, *_):
        assert config.constraint.word == word and names == stated
        raise StopError

    monkeypatch.setattr(pipeline, "choose", chosen)
    with pytest.raises(StopError):
        dq.run(np.random.default_rng(0).uniform(0.1, 1, (5, 5, 12)), 3, KEY, **options)


@pytest.mark.slow
@pytest.mark.parametrize("mixing", ["linear", "scaled", "soft"])
def test_a_mixing_that_is_asked_for_is_that_of_the_command_line(scene, tmp_path, mixing):
    training = replace(dq.RECOMMENDED[0], epochs=4)
    found = dq.run(scene, 3, KEY, training=training, nodata=-1, mixing=mixing)
    words = ["report", str(scene), "--endmembers", "3", "--nodata", "-1", "--epochs", "4", "--mixing", mixing]
    assert main([*words, "-o", str(tmp_path / "page.html"), "--result", str(tmp_path / "out")]) == 0
    theirs = dq.results.read_result(tmp_path / "out")
    np.testing.assert_allclose(found.abundances, theirs.abundances, atol=1e-5)
    np.testing.assert_allclose(found.endmembers, theirs.endmembers, rtol=1e-4)
    assert found.convention == theirs.convention == ("scaled" if mixing == "scaled" else "reflectance")
    assert f"Convention: {found.convention}." in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_progress_is_told(found, told):
    assert told[-1][:2] == (4, 4) and np.isfinite(told[-1][2])


@pytest.mark.parametrize(
    ("words", "options", "sentence"),
    [
        ((np.ones((4, 4, 9)), 3, 0), {}, "jax.random.key(0)"),
        ((np.ones((4, 4, 9)), 1, KEY), {}, "count is 1; expected the number of endmembers"),
        ((np.ones((4, 9)), 3, KEY), {}, "rows, columns, bands"),
        ((jnp.ones((4, 4, 9)), 3, KEY), {"nodata": 0}, "nodata: options for a file"),
        ((np.ones((4, 4, 9)), 3, KEY), {"training": dq.RECOMMENDED}, "training"),
        (("no such file.hdr", 3, KEY), {}, "no such file.hdr"),
        ((np.ones((4, 4, 9)), 3, KEY), {"mixing": "cone"}, "mixing is 'cone'; expected one of 'linear', 'scaled'"),
        (
            (np.ones((4, 4, 9)), 3, KEY),
            {"mixing": "linear", "config": dq.Model()},
            "mixing is 'linear' and config.constraint is 'cone', which is scaled mixing; expected one mixing model",
        ),
    ],
)
def test_wrong_arguments_are_named(words, options, sentence):
    with pytest.raises(dq.InputError, match=sentence.replace("(", r"\(").replace(")", r"\)")):
        dq.run(*words, **options)
