"""Each experiment runs from end to end in its quick form and writes its table."""

import csv

import pytest

from experiments import blind_table, choose_training


@pytest.mark.parametrize("experiment", [blind_table, choose_training], ids=["blind_table", "choose_training"])
def test_quick_form_writes_a_table_with_its_origin(experiment, tmp_path):
    target = experiment.main(experiment.QUICK, tmp_path)
    text = target.read_text(encoding="utf-8")
    assert f"python -m experiments.{target.stem}" in text
    assert "jax" in text and "commit" in text and "cores" in text
    with target.with_suffix(".csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    column = "msad" if experiment is blind_table else "worst of msad"
    assert rows and all(float(row[column]) > 0 for row in rows)


def test_the_blind_table_names_the_reference_and_counts_broken_solves(tmp_path):
    settings = blind_table.Settings(scenes=(("hapke_relab", None),), seeds=1, ablation_seeds=0, epochs=1)
    with blind_table.main(settings, tmp_path).with_suffix(".csv").open(encoding="utf-8") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert all(row["reference"] for row in rows.values())
    assert float(rows["DEQ-Unmix"]["failed"]) == 0
    assert float(rows["DEQ-Unmix"]["residual"]) <= 1e-3
