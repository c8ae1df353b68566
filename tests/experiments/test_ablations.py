"""The ablations change one thing at a time, and each change reaches the run."""

import csv
from dataclasses import fields

import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.baselines import MethodResult
from experiments.comparison import ablations
from experiments.plans import EVERY_STAGE_AND_RATES
from experiments.shared import methods, scenes, side_by_side


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Run the quick form once."""
    target = ablations.main(ablations.QUICK, tmp_path_factory.mktemp("ablations"))
    text = target.read_text(encoding="utf-8")
    assert "python -m experiments.comparison.ablations" in text and "commit" in text
    with target.with_suffix(".csv").open(encoding="utf-8") as file:
        return {row["change"]: row for row in csv.DictReader(file)}


def differences(change, base):
    """Return the names of what a row changes."""
    found = ["twin"] if change.twin else []
    for name in ("config", "plan"):
        one, other = getattr(change, name), getattr(base, name)
        found += [item.name for item in fields(one) if getattr(one, item.name) != getattr(other, item.name)]
    return found + [name for name in base.rates._fields if getattr(change.rates, name) != getattr(base.rates, name)]


def test_one_thing_is_changed_at_a_time():
    base, *others = ablations.changes(100, dq.Model(prior="neighbours"), dq.RECOMMENDED[1])
    assert len({change.name for change in others} | {base.name}) == len(others) + 1
    assert (base.config, base.plan, base.rates) == (dq.Model(prior="neighbours"), *EVERY_STAGE_AND_RATES)
    several = {
        "residual network, random start": {"gradient", "init"},
        "softmax, gamma 10": {"constraint"},
        "softmax, gamma 1000": {"constraint"},
        "unrolled, as many layers as steps": {"twin", "prior"},
    }
    for change in others:
        found = set(differences(change, base))
        if not change.name.startswith("paper's"):
            assert found == several.get(change.name, found) and len(found) == len(several.get(change.name, " "))
    paper = next(change for change in others if change.name == "paper's loss and schedule")
    assert (paper.config, paper.plan, paper.rates) == (base.config, dq.Training(epochs=100), dq.Rates())


def test_quick_form_has_the_rows_asked_for(rows):
    assert [*rows] == ["recommended", "alpha 0", "E trained", "unrolled, as many layers as steps"]
    assert all(float(row["msad"]) > 0 and float(row["armse"]) > 0 and row["reference"] for row in rows.values())
    assert float(rows["recommended"]["failed"]) == 0 < float(rows["recommended"]["residual"]) <= 1e-3
    steps = round(float(rows["recommended"]["steps"]))
    assert float(rows["unrolled, as many layers as steps"]["steps"]) == steps > 1


def test_a_change_of_rates_reaches_the_run(rows):
    """Spectra vary on this scene and the sum is soft: E rests where it is recommended, on what
    `select_endmembers` found."""
    (scene,), seeds, crop = ablations.QUICK.scenes, ablations.QUICK.seeds, ablations.QUICK.crop
    drawn = side_by_side.Drawn(scene, methods.Settings((scene,), seeds=seeds, crop=crop))
    angles = []
    for seed, references in enumerate(drawn.references):
        found = dq.endmembers.select_endmembers(drawn.keys[seed], drawn.cube(seed), 3)
        answer = MethodResult(found.abundances, found.endmembers)
        angles.append(side_by_side.errors(answer, "simplex", drawn.cube(seed), *references[0])["msad"])
    np.testing.assert_allclose(float(rows["recommended"]["msad"]), np.mean(angles), rtol=1e-3)
    assert abs(float(rows["E trained"]["msad"]) / np.mean(angles) - 1) > 1e-2


def test_rows_that_take_too_long_are_named():
    text = ablations.note(
        ablations.Settings(left_out=(("samson", "random start"), ("elsewhere", "8 channels"))), ["x: cone"]
    )
    assert "random start (samson)" in text and "8 channels (elsewhere)" not in text


def test_a_scene_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("DEQUNMIX_DATA", str(tmp_path))
    there, missing = scenes.at_hand(("samson", "hapke_relab"))
    assert there == ["hapke_relab"] and "'samson' left out: samson_zhu.npz was not found" in missing
    with pytest.raises(dq.InputError, match="None of the scenes"):
        scenes.at_hand(("samson",))
