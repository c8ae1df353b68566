"""The uncertainty of found endmembers: the formula, orders and conventions, masks, and refusals."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.checks import InputError
from dequnmix_jax.cli import main
from dequnmix_jax.learned import selection
from dequnmix_jax.results.result import result_of
from dequnmix_jax.start_uncertainty import with_start_uncertainty
from dequnmix_jax.types import Estimate

H, W, B, R = 5, 6, 8, 2
WAYS = selection.WAYS


def scene_and_result():
    """Return a scene of two spectra with a masked pixel, and its exact result."""
    rng = np.random.default_rng(0)
    E = rng.uniform(0.1, 0.9, (R, B)).astype(np.float32)
    A = rng.dirichlet(np.ones(R), (H, W)).astype(np.float32)
    mask = np.ones((H, W), np.bool_)
    mask[1, 1] = False
    A[1, 1] = 0
    cube = (A @ E).astype(np.float32)
    scene = dq.Scene(cube, mask=mask)
    estimate = Estimate(A, E, mask.astype(np.float32), A)
    return scene, result_of(estimate, scene, convention="reflectance"), E


def operator(monkeypatch, spectra, predicted, error):
    """Let the learned operator return these spectra (18, R, B) and predictions (27,) for every key."""

    def select(key, cube, count, **options):
        prediction = SimpleNamespace(relative=jnp.asarray(predicted, jnp.float32))
        return SimpleNamespace(prediction=prediction, spectra=jnp.asarray(spectra), expected_error=(error, 2.0))

    monkeypatch.setattr(selection, "select", select)


def test_the_deviation_is_the_weighted_spread_and_the_expected_error(monkeypatch):
    scene, result, E = scene_and_result()
    wrong = np.stack([0.7 * E[0] + 0.3 * E[1], E[1]])
    spectra = np.tile(E, (18, 1, 1))
    linear = [number for number, way in enumerate(WAYS) if way.constraint == 0 and way.spectra < 8][:3]
    spectra[WAYS[linear[1]].spectra] = wrong[::-1]  # in another order
    spectra[WAYS[linear[2]].spectra] = 0.5  # predicted to be three times as wrong: left out
    predicted = np.full(len(WAYS), 9.0)
    predicted[linear] = 0.0, 0.5, 1.1
    operator(monkeypatch, spectra, predicted, 0.02)
    found = with_start_uncertainty(result, scene, [1, 2], bounds=True)
    other = np.asarray(dq.fcls(scene.cube, wrong, mask=scene.mask))
    weight = np.exp(-1) / (1 + np.exp(-1))
    expected = np.sqrt(weight * np.square(other - result.abundances) + 0.02**2)
    np.testing.assert_allclose(found.abundances_sd[scene.mask], expected[scene.mask], atol=2e-4)
    assert np.square(other - result.abundances).max() > 0.01 and not found.abundances_sd[1, 1].any()
    record = found.summary["uncertainty"]
    assert (record["ways"], record["seeds"], record["expected_error"]) == (4, 2, 0.02)
    inside = (found.abundances_p05 <= result.abundances) & (result.abundances <= found.abundances_p95)
    assert inside.all() and found.abundances_p05.min() >= 0 and found.abundances_p95.max() <= 1


def test_ways_of_another_convention_are_converted(monkeypatch):
    scene, result, E = scene_and_result()
    predicted = np.full(len(WAYS), 9.0)
    predicted[next(number for number, way in enumerate(WAYS) if way.constraint == 1)] = 0.0
    operator(monkeypatch, np.tile(E, (18, 1, 1)), predicted, 0.0)
    found = with_start_uncertainty(result, scene, [1])
    assert found.abundances_sd.max() < 1e-3  # the same mixtures, though the fractions of the cone are others


def test_a_run_and_a_report_take_the_word(tmp_path, monkeypatch, capsys):
    import dequnmix_jax.cli.report as report_command
    import dequnmix_jax.pipeline as pipeline

    seen = []

    def spread(result, scene, keys, *, fixed=None, bounds=False):
        seen.append((len(keys), fixed, bounds))
        return result

    monkeypatch.setattr(pipeline, "with_start_uncertainty", spread)
    monkeypatch.setattr(report_command, "with_start_uncertainty", spread)
    rng = np.random.default_rng(1)
    cube = (rng.dirichlet(np.ones(3), (10, 9)) @ rng.uniform(0.1, 0.9, (3, 12))).astype(np.float32)
    config = dq.Model(gradient=dq.equilibrium.Analytic())
    chosen = pipeline.Choice(cube[0, :3] + 0.1, config, dq.RECOMMENDED[1], "chosen")
    monkeypatch.setattr(pipeline, "choose", lambda *_: chosen)  # compiles nothing
    options = {"config": config, "training": dq.Training(epochs=1)}
    dq.run(cube, 3, jax.random.key(0), uncertainty="starts", seeds=2, bounds=True, **options)
    np.savez(tmp_path / "scene.npz", cube=cube)
    monkeypatch.chdir(tmp_path)
    words = ["report", "scene.npz", "--endmembers", "3", "--epochs", "1", "--gradient", "analytic", "--start", "vca"]
    words += ["-o", "page.html"]
    assert main.main([*words, "--uncertainty", "starts", "--draws", "4"]) == 0
    assert seen == [(2, None, True), (4, None, False)]
    np.savez(tmp_path / "other.npz", cube=cube)
    assert main.main(["report", "other.npz", "--uncertainty", "starts", "-o", "b.html"]) == 1
    assert "expected --endmembers N with it" in capsys.readouterr().err
    assert main.main([*words[:-1], "d.html", "--uncertainty", "residual"]) == 1
    assert "expected --uncertainty starts with --endmembers N" in capsys.readouterr().err
    assert main.main([*words[:-1], "c.html", "--uncertainty", "starts", "--method", "fcls"]) == 1
    assert "--method applies to the spectra of a library" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"uncertainty": "bands"}, "uncertainty is 'bands'; expected 'starts' or None"),
        ({"uncertainty": "starts", "seeds": 0}, "seeds is 0; expected a whole number above 0"),
        ({"bounds": True}, "bounds are asked for without an uncertainty; expected uncertainty='starts'"),
    ],
)
def test_refusals(words, sentence):
    with pytest.raises(InputError, match=sentence):
        dq.run(np.ones((4, 4, 9), np.float32), 2, jax.random.key(0), **words)


def test_too_few_bands():
    scene, result, _ = scene_and_result()
    narrow = dq.Scene(scene.cube[:, :, :3])
    with pytest.raises(InputError, match="3 bands for 2 endmembers; expected at least two bands for each"):
        with_start_uncertainty(result, narrow, [1])
