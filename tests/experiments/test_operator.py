"""The training of the learned operator and its judging, in their quick forms, and zero-shot on a known scene."""

import csv

import jax
import numpy as np
import pytest

from dequnmix_jax.datasets import generator
from dequnmix_jax.learned import select
from dequnmix_jax.learned import weights as files
from experiments.comparison import demo_scenes, zero_shot
from experiments.operator import left_out, narrowed, seeds, train
from experiments.shared import operator_scenes, scenes
from experiments.shared.operator_ways import answer, errors_of


def test_expected_errors_are_judged_by_what_other_folds_show():
    rng = np.random.default_rng(0)
    said, spread = rng.uniform(-6, -1, 3000), rng.uniform(0.2, 0.8, 3000)
    real = np.maximum(said + spread * (0.5 + 2 * rng.standard_normal(3000)), np.log(1e-3))
    fold = np.repeat(["0", "1"], 1500)
    real[fold == "1"] = said[fold == "1"]
    assert left_out.fitted(said[:1500] + 9, spread[:1500], real[:1500] + 9) == pytest.approx((0.5, 2), abs=0.2)
    scenes = [
        {"fold": f, "said": p, "spread": s, "found": {"learned operator": (np.exp(r),)}}
        for f, p, s, r in zip(fold, said, spread, real, strict=True)
    ]
    above, wide = left_out.fitted(said[:1500], spread[:1500], real[:1500])
    rows, text = left_out.calibration(scenes)
    assert f"({0:.2f} to {above:.2f}, {0:.2f} to {wide:.2f})" in text
    assert sum(row["scenes"] for row in rows) == 3000
    # The first fold is judged with deviations of zero, those of the second; the second with those of the first.
    inside = np.mean(np.abs(above * spread[1500:]) <= wide * spread[1500:]) / 2
    assert np.mean([row["within one standard deviation"] for row in rows]) == pytest.approx(inside, abs=1e-6)


@pytest.mark.slow
def test_quick_training_and_judging(tmp_path):
    train.main(tmp_path, ["0", "all"], 0, True)
    assert (tmp_path / "fold_0_0.npz").exists() and (tmp_path / "all_0.npz").exists()
    train.main(tmp_path, ["0"], 0, True)  # a part that is there is not made again
    left_out.main(tmp_path, tmp_path / "results", 0, True)
    with (tmp_path / "results" / "left_out.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for judged in ("families left out", "other minerals"):
        assert {row["method"] for row in rows if row["judged on"] == judged} == set(left_out.METHODS)
    start = [row for row in rows if row["method"] == "start"]
    assert all(float(row["aRMSE / start"]) == 1 for row in start)
    judge_seeds(tmp_path)
    oracle = [row for row in rows if row["method"] == "oracle of 24"]
    assert all(float(row["worst"]) <= 1 + 1e-6 for row in oracle)
    families = {row["judged on"] for row in rows}
    assert (
        "smooth" in families and "blocks" not in families
    )  # of eight families, the fold leaves out the first and seventh


def judge_seeds(folder):
    """The weights of the quick training, as another seed than that of the package."""
    operator, made = files.read(folder / "all_0.npz")
    files.save(folder / "all_7.npz", operator, made._replace(seed=7))
    (folder / "all_0.npz").unlink()
    used = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seeds, "select", lambda *given, weights: used.append(weights) or select(*given, weights=weights))
        target = seeds.main(seeds.QUICK, folder, folder / "results")
    own = [files.shipped()[0], files.read(folder / "all_7.npz")[0]]
    assert len(used) == 4
    for weights, expected in zip(used, own * 2, strict=True):  # both scenes, by the package's weights and the folder's
        jax.tree.map(np.testing.assert_array_equal, weights, expected)
    with target.with_suffix(".csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    own = [row for row in rows if row["seed"] in ("0", "7")]
    assert [row["scenes of"] for row in own] == [name for name in seeds._GROUPS.values() for _ in range(2)]
    for name in seeds._GROUPS.values():
        values = [float(row["aRMSE / start"]) for row in own if row["scenes of"] == name]
        mean = next(row for row in rows if row["scenes of"] == name and row["seed"] == "mean")
        assert float(mean["aRMSE / start"]) == pytest.approx(sum(values) / 2)
    with (folder / "results" / "seeds_scenes.csv").open(encoding="utf-8") as file:
        found = {(row["scene"], row["weights"]): float(row["aRMSE"]) for row in csv.DictReader(file)}
    scene = scenes.load(seeds.QUICK.known[0], 0, seeds.QUICK.crop)
    truth = scene.references[0][0]
    result = answer("learned operator", jax.random.key(0), scene.cube, len(truth.endmembers))
    expected = errors_of(*result, truth, scene.cube)["armse"]  # the package's seed is dq.run
    assert found[f"{seeds.QUICK.known[0]}, reference 1", "0"] == pytest.approx(expected, rel=1e-3)


def measured(count, **fields):
    """Scenes of which only the given fields are known."""
    unknown = jax.tree.map(lambda _: np.zeros(len(fields["seed"])), operator_scenes._EMPTY)
    return unknown._replace(endmembers=np.zeros((len(fields["seed"]), count, 80)), **fields)


def test_further_seeds_add_scenes_of_the_families_of_the_training_alone():
    groups = {
        3: measured(3, seed=np.array([10, 10, 11, 11]), family=np.array([0, 1, 0, 1]), index=np.arange(4)),
        4: measured(4, seed=np.array([10, 11]), family=np.array([1, 0]), index=np.arange(2)),
    }
    kept = operator_scenes.without(groups, (0,))
    assert {count: list(group.index) for count, group in kept.items()} == {3: [0, 1, 3], 4: [0]}
    first = operator_scenes.of_first_seed(groups)
    assert {count: list(group.index) for count, group in first.items()} == {3: [0, 1], 4: [0]}


def test_a_measured_scene_is_drawn_again_with_its_own_seed():
    size, settings = operator_scenes.SIZES[0], operator_scenes.Settings(seed=4)
    group = measured(
        size.count,
        **{name: np.array([x]) for name, x in zip(("seed", "family", "source", "index"), (4, 2, 1, 5), strict=True)},
    )
    again = operator_scenes.drawn(group, 0).cube
    np.testing.assert_array_equal(again, operator_scenes.draw(settings, generator.FAMILIES[2], size, 5).cube)


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
