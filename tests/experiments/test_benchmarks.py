"""The benchmarks run from end to end in their quick form, and an absent rival is one sentence."""

import csv
import json
import sys

import jax.numpy as jnp
import pytest

from benchmarks import (
    abundances,
    against_banax,
    against_torchdeq,
    clusters,
    device,
    first_map,
    large_images,
    many_scenes,
    maps,
    mesma,
    quick_compile,
    speed,
)


def test_the_quick_form_of_speed_writes_every_part(tmp_path, monkeypatch):
    monkeypatch.setattr(speed.jax.config, "update", lambda *_: None)  # the cache of the test process stays as it is
    target = speed.main(speed.QUICK, tmp_path)
    text = target.read_text(encoding="utf-8")
    assert "python -m benchmarks.speed" in text and "Load of the machine" in text and "commit" in text
    with target.with_suffix(".csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert all(float(row["CPU ms"]) > 0 for row in rows)
    parts = {row["part"] for row in rows}
    assert parts == {
        "fit", "matmul", "training step", "convolution 3 x 3", "loss and gradient, cold start", "one step of the solve",
    }  # fmt: skip


def test_the_quick_form_of_abundances_compares_with_scipy(tmp_path):
    pytest.importorskip("scipy.optimize")
    target = abundances.main(abundances.QUICK, tmp_path)
    with target.with_suffix(".csv").open(encoding="utf-8") as file:
        rows = {row["way"]: row for row in csv.DictReader(file)}
    assert float(rows["dequnmix_jax fcls"]["largest difference from scipy"]) < 1e-4
    assert all(float(row["largest optimality residual"]) < 1e-5 for row in rows.values())


@pytest.mark.slow  # it compiles every model's problem
def test_the_quick_form_of_mesma_agrees_with_models_one_by_one(tmp_path):
    with mesma.main(mesma.QUICK, tmp_path).with_suffix(".csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 and {row["shade"] for row in rows} == {"none", "normalised"}
    assert all(float(row["agree"]) > 0.95 and float(row["largest excess of our RMSE"]) < 1e-4 for row in rows)


@pytest.mark.slow  # a minute of compilation
def test_the_checks_of_a_device_write_one_file(tmp_path):
    found = json.loads(device.main(device.QUICK, tmp_path).read_text(encoding="utf-8"))
    assert found["device"] and found["gradients"]["implicit_against_unrolled"] < 1e-2
    assert len(set(found["temporary_mb_of_a_gradient_at_iterations"].values())) == 1
    assert found["accuracy"]["fcls_largest_optimality_residual"] < 1e-5
    with many_scenes.main(many_scenes.QUICK, tmp_path).with_suffix(".csv").open(encoding="utf-8") as file:
        assert all(float(row["scenes / s"]) > 0 for row in csv.DictReader(file))


@pytest.mark.slow  # a minute of compilation
def test_the_parts_of_large_images_are_timed(tmp_path):
    with large_images.main(large_images.QUICK, tmp_path).with_suffix(".csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10 and all(float(row["CPU s"]) > 0 for row in rows)


@pytest.mark.slow  # three processes that compile
def test_the_first_map_is_measured_cold_and_warm(tmp_path):
    with first_map.main(first_map.QUICK, tmp_path).with_suffix(".csv").open(encoding="utf-8") as file:
        cold, warm, _ = csv.DictReader(file)
    assert float(cold["CPU s"]) > float(warm["CPU s"]) > 0
    assert float(cold["programs in the cache"]) >= 6


@pytest.mark.slow  # large programs are compiled several times
def test_quick_compilation_is_quicker(tmp_path):
    with quick_compile.main(quick_compile.QUICK, tmp_path).with_suffix(".csv").open(encoding="utf-8") as file:
        rows = {(row["what"], row["options"]): row for row in csv.DictReader(file)}
    for what in ("select_endmembers", "dq.run"):
        own, quick = (rows[what, options] for options in ("XLA's own", "quick"))
        assert float(quick["first, CPU s"]) < float(own["first, CPU s"]) and quick["chosen"] == "quick"
        assert 0 < float(own["again, CPU s"]) < float(own["first, CPU s"])


@pytest.mark.parametrize(
    ("benchmark", "package", "words"),
    [
        (abundances, "spams", "pip install spams-bin"),
        (against_torchdeq, "torch", "pip install torch torchdeq"),
        (against_banax, "banax", "pip install banax"),
    ],
)
def test_a_rival_is_asked_for_in_a_sentence(benchmark, package, words, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit, match=words):
        benchmark.main(benchmark.Settings() if benchmark is abundances else benchmark.QUICK, tmp_path)


def test_the_maps_of_the_rivals_can_be_applied():
    for f, theta, start in maps.problems(8, 4).values():
        image = f(theta, start)
        assert image.shape == start.shape and bool(jnp.isfinite(image).all()) and float(jnp.max(jnp.abs(image))) > 0


@pytest.mark.slow  # a scene, a training and two clusters
def test_workers_of_a_cluster_are_compared_with_one_process(tmp_path):
    with clusters.main(clusters.QUICK, tmp_path, tmp_path).with_suffix(".csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["way"], row["processes"]) for row in rows] == [
        ("one process", "1"), ("workers", "1"), ("workers", "2"),
        ("a process for each", "1"), ("workers", "1"), ("workers", "2"),
    ]  # fmt: skip
