"""Each experiment runs from end to end in its quick form and writes its table."""

import csv

import pytest

from experiments import blind_table, certificate_table, choose_training, remedies

COLUMN = {
    blind_table: "msad",
    choose_training: "worst of msad",
    remedies: "armse",
    certificate_table: "certified steps",
}


@pytest.mark.parametrize("experiment", COLUMN, ids=lambda module: module.__name__.split(".")[-1])
def test_quick_form_writes_a_table_with_its_origin(experiment, tmp_path):
    target = experiment.main(experiment.QUICK, tmp_path)
    text = target.read_text(encoding="utf-8")
    assert f"python -m {experiment.__name__}" in text
    assert "jax" in text and "commit" in text and "cores" in text
    with target.with_suffix(".csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows and all(float(row[COLUMN[experiment]]) > 0 for row in rows)


def test_the_blind_table_names_the_reference_and_counts_broken_solves(tmp_path):
    settings = blind_table.Settings(scenes=(("hapke_relab", None),), seeds=1, ablation_seeds=0, epochs=1)
    with blind_table.main(settings, tmp_path).with_suffix(".csv").open(encoding="utf-8") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert all(row["reference"] for row in rows.values())
    assert float(rows["DEQ-Unmix"]["failed"]) == 0
    assert float(rows["DEQ-Unmix"]["residual"]) <= 1e-3
