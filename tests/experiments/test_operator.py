"""The training of the learned operator and its judging, in their quick forms, and zero-shot on a known scene."""

import csv

import pytest

from experiments.comparison import demo_scenes, zero_shot
from experiments.operator import left_out, narrowed, train


@pytest.mark.slow
def test_quick_training_and_judging(tmp_path):
    train.main(tmp_path, ["0", "all"], 0, True)
    assert (tmp_path / "fold_0_0.npz").exists() and (tmp_path / "all_0.npz").exists()
    train.main(tmp_path, ["0"], 0, True)  # a part that is there is not made again
    left_out.main(tmp_path, tmp_path / "results", 0, True)
    with (tmp_path / "results" / "left_out.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["method"] for row in rows} >= set(left_out.METHODS)
    start = [row for row in rows if row["method"] == "start"]
    assert all(float(row["aRMSE / start"]) == 1 for row in start)
    oracle = [row for row in rows if row["method"] == "oracle of 24"]
    assert all(float(row["worst"]) <= 1 + 1e-6 for row in oracle)
    families = {row["judged on"] for row in rows}
    assert (
        "smooth" in families and "blocks" not in families
    )  # of eight families, the fold leaves out the first and seventh


@pytest.mark.slow
def test_quick_narrowed_training(tmp_path):
    target = narrowed.main(narrowed.QUICK, tmp_path, tmp_path / "results")
    with target.with_suffix(".csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["training"] for row in rows] == ["narrow"] * 4 + ["wide"] * 4
    assert all(float(row["aRMSE / start"]) == 1 for row in rows if row["method"] == "start")
    assert {int(row["scenes"]) for row in rows} == {8}


@pytest.mark.slow
def test_quick_zero_shot(tmp_path):
    target = zero_shot.main(zero_shot.QUICK, tmp_path)
    with target.with_suffix(".csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {"start", "learned operator", "VCA + FCLS"} <= {row["method"] for row in rows}
    assert all(float(row["aRMSE"]) > 0 for row in rows if row["scene"] != "geometric mean")


@pytest.mark.slow
def test_quick_demo_scenes(tmp_path):
    target = demo_scenes.main(demo_scenes.QUICK, tmp_path)
    with target.with_suffix(".csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["VCA + FCLS", "VCA + FCLS, one draw", "dq.run"] * 2 + ["dq.run"]
    errors = [float(row["aRMSE"]) for row in rows[:6]]
    assert float(rows[2]["aRMSE / VCA + FCLS"]) == pytest.approx(errors[2] / errors[0])
