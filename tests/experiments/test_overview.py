"""The table of all methods and scenes: what stands in a cell, what is bold, and that it is that of the tables here."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

import dequnmix_jax as dq
from experiments.comparison import overview
from experiments.shared import methods, results_table, side_by_side

RESULTS = Path(__file__).parents[2] / "results"
REFERENCES = {"Zhu": "reference of Zhu et al.", "Rasti": "reference of Rasti et al."}


def row(method, author="Zhu", armse=0.2, msad=0.1, **changes):
    figures = {"armse": armse, "armse_sd": 0.01, "msad": msad, "msad_sd": 0.01, "seconds": 1.5, "memory": 20.25}
    label = {"scene": "samson", "reference": REFERENCES[author], "method": method, "seeds": 5}
    return label | figures | {"commit": "0123abc", "date": "2026-11-30"} | changes


def made(folder, *rows):
    results_table.write_csv(folder / "table_samson.csv", rows)
    return overview.main(None, folder)


def cells(target):
    """Return the cells of each method by heading."""
    lines = [line for line in target.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    head, *rest = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return {each[0]: dict(zip(head, each, strict=True)) for each in rest}


def test_the_least_of_each_column_is_bold_and_seeds_and_dates_are_said(tmp_path):
    nan = float("nan")
    found = cells(
        made(
            tmp_path,
            row("VCA + FCLS", armse=0.2, msad=0.05),
            row(side_by_side.ORACLE, armse=0.01, msad=0.01),
            row("CNNAEU", armse=0.31, msad=0.06, seeds=1, armse_sd=nan, date="2026-11-26"),
            row("DEQ-Unmix, from select_endmembers", armse=0.1, msad=0.07, memory=nan),
            row("VCA + FCLS", "Rasti", armse=0.12, msad=0.09),
        )
    )
    assert list(found)[:2] == ["**Closed forms**", "VCA + FCLS"] and "**Ours**" in found
    assert len(found) == 6 + len(overview.SLOW) and side_by_side.ORACLE not in found
    assert found["VCA + FCLS"]["Samson (Zhu)"] == "0.2000 / **0.0500**"
    assert found["VCA + FCLS"]["Samson (Rasti)"] == "**0.1200** / **0.0900**"
    assert found["CNNAEU"]["Samson (Zhu)"] == f"0.3100 / 0.0600 [1]{overview.EARLY}"
    assert found["CNNAEU"]["Samson (Rasti)"] == "-" and found["CNNAEU"]["MB"] == "20.2"
    ours = found["DEQ-Unmix, from select_endmembers"]
    assert (ours["Samson (Zhu)"], ours["CPU s"], ours["MB"]) == ("**0.1000** / 0.0700", "1.5", "-")


def test_each_reference_is_named_once_and_the_csv_has_a_row_for_each_method_and_scene(tmp_path):
    target = made(tmp_path, row("VCA + FCLS"), row("polyhedral"), row("VCA + FCLS", "Rasti"))
    text = target.read_text(encoding="utf-8")
    assert text.count(REFERENCES["Zhu"]) == text.count(REFERENCES["Rasti"]) == 1
    with target.with_suffix(".csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(each["method"], each["reference"]) for each in rows] == [
        ("VCA + FCLS", REFERENCES["Zhu"]), ("VCA + FCLS", REFERENCES["Rasti"]), ("polyhedral", REFERENCES["Zhu"]),
    ]  # fmt: skip


def test_a_slow_method_that_was_not_run_has_dashes_and_is_named(tmp_path):
    target = made(tmp_path, row("VCA + FCLS"), row("DTU-Net"))
    assert set(cells(target)["CNNAEU"].values()) == {"CNNAEU", "-"}
    note = target.read_text(encoding="utf-8").split("References")[0]
    assert "CNNAEU; MLM autoencoder, 3-D" in note and "DTU-Net" not in note


def test_nothing_is_left_out_without_a_word(tmp_path):
    with pytest.raises(dq.InputError, match=r"Run experiments.comparison.samson or another table first"):
        overview.main(None, tmp_path)
    with pytest.raises(dq.InputError, match=r"method 'guess'; expected one of .* Put it in one of the groups"):
        made(tmp_path, row("guess"))


def test_every_method_of_the_tables_has_a_group():
    settings = methods.Settings(("samson",), packages=("samson",))
    grouped = {method for group in overview.GROUPS.values() for method in group}
    assert {method.name for method in methods.methods(settings, "samson")} <= grouped
    few = replace(settings, layers=(), packages=())
    assert {m.name for m in methods.methods(few, "hysu")} == {
        m for m in grouped if not m.startswith(("unrolled, ", "PnP-BM"))
    }


def test_the_table_here_is_made_of_the_tables_here():
    rows = overview.read(RESULTS)
    text = (RESULTS / "overview.md").read_text(encoding="utf-8")
    assert text.endswith("\n\n" + results_table.markdown(overview.wide(rows)))
    with (RESULTS / "overview.csv").open(encoding="utf-8") as file:
        written = list(csv.DictReader(file))
    assert written == [{key: str(value) for key, value in each.items()} for each in rows]
