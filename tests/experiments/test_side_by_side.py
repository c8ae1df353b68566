"""Shared by the tables of competitors: figures in both units, reconstructions, the oracle, missing data."""

import csv
import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax import mixing
from dequnmix_jax.baselines import Method, MethodResult, closed_forms
from dequnmix_jax.datasets import synthetic
from dequnmix_jax.scenes.truth import Truth
from experiments.shared import methods, results_table, side_by_side


@pytest.fixture(scope="module")
def sample():
    E = jnp.asarray([0.3, 0.6, 0.9])[:, None] * synthetic.spectra(jax.random.key(1), 3, 20)
    return synthetic.linear_scene(jax.random.key(0), (8, 9), E, contrast=2.0)


def test_an_exact_reference_is_given_and_converted(sample):
    """Abundances of spectra at maximum one, the endmembers in another order."""
    x = sample.abundances * jnp.max(sample.endmembers, axis=1)[None, None]
    A, _ = mixing.normalise_abundances(x)
    found = MethodResult(A[..., ::-1], mixing.scale_to_unit_maximum(sample.endmembers)[::-1])
    truth = Truth(np.asarray(sample.abundances), np.asarray(sample.endmembers))
    exact = side_by_side.errors(found, "cone", sample.cube, truth, True)
    assert exact["armse_unit"] < 1e-6 < 0.02 < exact["armse"]
    assert exact["msad"] < 1e-3 and set(exact) >= {"sad_1", "sad_2", "sad_3"}
    for constraint, known in (("cone", False), ("simplex", True)):  # another's convention, or a linear method
        other = side_by_side.errors(found, constraint, sample.cube, truth, known)
        assert other["armse_unit"] == other["armse"] == pytest.approx(exact["armse"])


def test_a_reconstruction_has_the_best_brightness_where_pixels_have_one(sample):
    found = MethodResult(sample.abundances, sample.endmembers)
    cube = jnp.linspace(0.5, 2, 72).reshape(8, 9, 1) * mixing.linear_mix(
        sample.abundances, mixing.scale_to_unit_maximum(sample.endmembers)
    )
    simplex, cone, soft = jnp.arange(3)
    varied = jnp.linspace(0.5, 2, 72).reshape(8, 9, 1) * sample.cube  # soft: spectra as they are
    for constraint, seen in ((cone, cube), (simplex, sample.cube), (soft, varied)):
        psnr, sad = side_by_side.reconstruction(found, constraint, seen)
        assert psnr > 100 and sad < 1e-3
    assert side_by_side.reconstruction(found, simplex, cube)[0] < 30


def test_a_method_that_draws_nothing_runs_once_for_starts_that_agree():
    calls = []

    def estimate(key, cube, start):
        calls.append(1)
        return MethodResult(dq.abundances.fcls(cube, start), start)

    settings = methods.quick("hapke_relab", seeds=3, crop=30)
    drawn = side_by_side.Drawn("hapke_relab", settings)
    drawn.starts = drawn.starts.at[1].set(drawn.starts[0] * (1 + 1e-6)).at[2].set(drawn.starts[0] * 1.1)
    found, _, memory = side_by_side.run(Method("once", estimate, pure=False), drawn, 3)
    assert len(calls) == 2 and found[0] is found[1] and math.isnan(memory)
    together, seconds, memory = side_by_side.run(closed_forms.VCA_FCLS, drawn, 3)
    np.testing.assert_allclose(found[2].abundances, together[2].abundances, atol=1e-3)
    assert seconds > 0 and memory > 0


def test_starts_do_not_depend_on_the_order_in_which_vca_found_them():
    drawn = side_by_side.Drawn("misicnet_sim1, 30 dB", methods.quick("misicnet_sim1, 30 dB", crop=24))
    brightness = jnp.sum(drawn.starts, axis=2)
    assert not drawn.shared and drawn.cubes.shape == (2, 24, 24, 224) and drawn.starts.shape == (2, 6, 224)
    assert bool(jnp.all(brightness[:, :-1] >= brightness[:, 1:])) and float(jnp.min(drawn.starts)) > 0


def test_a_scene_that_is_not_there_is_said_and_the_others_are_written(tmp_path, monkeypatch):
    monkeypatch.delenv("DEQUNMIX_DATA", raising=False)
    settings = methods.quick("apex", "varied, 20 dB", only=("VCA", "purified"))
    target = side_by_side.write(settings, tmp_path, "table")
    assert "apex is missing: apex_dataset.mat was not found" in target.read_text(encoding="utf-8")
    with target.with_suffix(".csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == [side_by_side.ORACLE, *(method.name for method in closed_forms.FOUR)]
    assert float(rows[0]["armse"]) <= min(float(row["armse"]) for row in rows[1:]) + 1e-12
    assert list(rows[0])[-2:] == ["sad_3", "sad_3_sd"] and float(rows[0]["sad_3"]) > 0
    with pytest.raises(dq.InputError, match=r"No scene of table could be had.*apex is missing"):
        side_by_side.write(methods.quick("apex"), tmp_path, "table")


def test_some_methods_are_run_again_and_the_other_rows_stay(tmp_path):
    settings = methods.quick("varied, 20 dB", only=("VCA", "purified + FCLS"))
    again = replace(settings, only=("purified",), update=True)
    with pytest.raises(dq.InputError, match=r"expected a table to update. Run the experiment without --only first"):
        side_by_side.write(again, tmp_path, "table")
    target = side_by_side.write(settings, tmp_path, "table")

    def rows():
        with target.with_suffix(".csv").open(encoding="utf-8") as file:
            return list(csv.DictReader(file))

    old = rows()
    assert all(row["commit"] and row["date"] for row in old)
    # Of a table of an earlier time: rows say nothing of their origin, but its head does.
    text = target.read_text(encoding="utf-8")
    text = text.replace(f"commit {old[0]['commit']}", "commit 0123abc")
    elsewhere = "Endmembers: purity 0.7, 30 dB: rock, mud; varied"
    target.write_text(text.replace("Endmembers: varied", elsewhere), encoding="utf-8")
    results_table.write_csv(
        target.with_suffix(".csv"), [{k: v for k, v in row.items() if k not in ("commit", "date")} for row in old]
    )
    side_by_side.write(again, tmp_path, "table")
    new = rows()
    assert [row["method"] for row in new] == [*(row["method"] for row in old), "purified + scaled NNLS"]
    assert [row["commit"] for row in new] == ["0123abc", "0123abc", old[0]["commit"], old[0]["commit"]]
    assert [row["armse"] for row in new[:3]] == [row["armse"] for row in old]
    assert elsewhere in target.read_text(encoding="utf-8")  # what the scenes of other rows hold is still said


@pytest.mark.parametrize("installed", [True, False])
def test_a_package_that_is_not_installed_is_said(installed, monkeypatch):
    monkeypatch.setattr(methods.importlib.util, "find_spec", lambda name: installed or None)
    settings = methods.quick("samson", packages=("samson",), only=("PnP-BM",))
    assert len(methods.methods(settings, "samson")) == (4 if installed else 0)
    assert len(methods.absent(settings)) == (0 if installed else 2)
    assert methods.absent(methods.quick("samson")) == []


def test_a_wrong_name_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(dq.InputError, match="There is no scene 'moon'"):
        side_by_side.write(methods.quick("varied, 20 dB", "moon"), tmp_path, "table")
    assert not list(tmp_path.iterdir())


def test_rows_of_scenes_with_more_endmembers_share_their_columns():
    rows = [{"a": 1, "sad_1": 2, "sad_1_sd": 3, "sad": 4, "sad_sd": 5}, {"a": 6, "sad_2": 7, "sad_2_sd": 8}]
    rows = side_by_side._same_fields(rows, 3)
    ends = [f"sad_{r}{end}" for r in (1, 2, 3) for end in ("", "_sd")]
    assert list(rows[0]) == list(rows[1]) == ["a", "sad", "sad_sd", *ends]
    assert math.isnan(rows[1]["sad_1"]) and math.isnan(rows[0]["sad_2"]) and math.isnan(rows[0]["sad_3"])


@pytest.mark.slow
def test_the_row_of_the_default_is_what_it_gives():
    """The key, the scene and the number of endmembers of `dq.run`, and its mixing model."""
    drawn = side_by_side.Drawn("misicnet_sim1, 30 dB", methods.quick("misicnet_sim1, 30 dB", crop=24))
    method = methods.as_run(None)
    (found, _), _, _ = side_by_side.run(method, drawn, 2)
    alone = dq.run(np.asarray(drawn.cube(0)), 6, jax.random.key(0), training=None)
    np.testing.assert_allclose(found.abundances, alone.abundances, atol=1e-5)
    np.testing.assert_allclose(found.endmembers, alone.params["endmembers"], rtol=1e-5)
    assert method.constraint_of(found) == alone.config.constraint.word


def test_each_list_of_methods_holds_what_it_should():
    settings = methods.quick("varied, 20 dB", "PPNM, 30 dB", short=("PPNM, 30 dB",), only=("",))
    names = {method.name for method in methods.methods(settings, "varied, 20 dB")}
    few = [method.name for method in methods.methods(settings, "PPNM, 30 dB")]
    assert {"unrolled, 2 layers, untied", "AE-RED"} < names
    assert set(few) < names and "DeepTrans" in few and "select_endmembers" in few and "dq.run" in few and len(few) == 13


def test_a_reference_is_named_once_and_one_of_several_beside_its_scene():
    zhu, rasti, other = "Samson; reference of Zhu et al.", "Samson; reference of Rasti et al.", "exact"
    pairs = (("samson", zhu), ("samson", rasti), ("a", other), ("b", other), ("c", other), ("c", zhu))
    rows = [{"scene": scene, "reference": reference, "method": "VCA", "armse": 0.5} for scene, reference in pairs]
    text = results_table.markdown(rows)
    lines = ["* samson (Zhu); c (Zhu): " + zhu, "* samson (Rasti): " + rasti, "* a; b; c (1): " + other]
    assert text.startswith("References:\n\n" + "\n".join(lines) + "\n\n| scene | method | armse |\n")
    assert "| samson (Rasti) | VCA | 0.5 |" in text and text.count("reference of Zhu") == 1
    assert results_table.markdown([{"scene": "a", "armse": 0.5}]).startswith("| scene | armse |")


@pytest.mark.parametrize(("words", "said"), [("--seeds 1", "seeds=1"), ("--scenes b --only VCA", "scenes=('b',)")])
def test_a_part_of_a_table_is_run(words, said, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("sys.argv", ["program", *words.split(), "-o", str(tmp_path)])
    full = methods.Settings(("a", "b"), seeds=2)
    results_table.command_line("About.", lambda settings, folder: settings, full, full)
    shown = capsys.readouterr().out
    assert said in shown and ("update=True" in shown) == ("--only" in words)


def test_scenes_without_methods_would_lose_rows(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["program", "--scenes", "a"])
    full = methods.Settings(("a", "b"))
    with pytest.raises(SystemExit):
        results_table.command_line("About.", lambda settings, folder: settings, full, full)
    assert "--scenes needs --only" in capsys.readouterr().err
