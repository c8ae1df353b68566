"""All methods on all scenes in one table, made of the tables of single scenes that are there.

    python -m experiments.comparison.overview [-o results]

Reads `table_*.csv` in the output folder and runs nothing. `overview.csv` has a row for each method and scene.
"""

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dequnmix_jax.checks import InputError
from experiments.shared import results_table, side_by_side


@dataclass(frozen=True)
class Scene:
    """A column: its heading, table, scene and author of the reference there, and the error beside the angle."""

    heading: str
    table: str
    scene: str
    author: str = ""
    error: str = "armse"


SCENES = (
    Scene("recipe, 15 dB", "table_synthetic", "recipe, 15 dB"),
    Scene("recipe, 30 dB", "table_synthetic", "recipe, 30 dB"),
    Scene("Samson (Zhu)", "table_samson", "samson", "Zhu"),
    Scene("Samson (Rasti)", "table_samson", "samson", "Rasti"),
    Scene("RELAB", "table_relab", "hapke_relab"),
    Scene("DC1", "table_known", "dc1, 30 dB"),
    Scene("MiSiCNet", "table_known", "misicnet_sim1, 30 dB"),
    Scene("Apex stand-in", "table_apex", "apex stand-in, 25 dB"),
    Scene("HySU", "table_hysu", "hysu", error="area_error"),
)
COST = "Samson (Zhu)"
"""The scene of seconds and memory."""

GROUPS = {
    "Closed forms": ("VCA + FCLS", "VCA + scaled NNLS", "purified + FCLS", "purified + scaled NNLS", "polyhedral"),
    "Spectral variability": ("ELMM", "PLMM", "bundles, group sparsity", "bundles, elitist sparsity"),
    "Nonnegative factorisation": ("MVC-NMF", "NMF-QMV", "L1/2-NMF", "GLNMF", "SGSNMF"),
    "Plug-and-play": tuple(
        f"PnP-{denoiser}, {level}"
        for denoiser in ("NLM", "TV", "DnCNN", "BM3D", "BM4D")
        for level in ("paper's noise level", "estimated level")
    ),
    "Autoencoders and transformers": (
        "CNNAEU", "EndNet", "CyCU-Net", "MLM autoencoder, 3-D", "MLM autoencoder, 1-D (a reconstruction)", "AE-RED",
        "DeepTrans", "UST-Net", "DTU-Net",
    ),
    "Unrolled": (
        "SNMF-Net", "ADMM-Net", "unrolled PnP-DnCNN, untied", "unrolled PnP-DnCNN, tied", "unrolled SGSNMF",
        "unrolled, 5 layers, tied", "unrolled, 10 layers, tied", "unrolled, 20 layers, tied",
        "unrolled, 5 layers, untied", "unrolled, 10 layers, untied", "unrolled, 20 layers, untied",
    ),
    "Equilibria": ("DE-GRAD", "DE-GRAD, inertial", "DE-PROX", "DE-ADMM"),
    "Ours": (
        "select_endmembers", "select_endmembers, smoothed", "DEQ-Unmix, cone", "DEQ-Unmix, simplex",
        "DEQ-Unmix, from select_endmembers", "dq.run", "dq.run, trained on the scene",
    ),
}  # fmt: skip
CSV_ONLY = tuple(f"unrolled, {layers} layers, {kind}" for layers in (5, 20) for kind in ("tied", "untied"))
"""Twins that differ from those of ten layers in the third digit."""

SLOW = (
    "CNNAEU", "MLM autoencoder, 3-D", "MLM autoencoder, 1-D (a reconstruction)", "DTU-Net", "DE-GRAD",
    "DE-GRAD, inertial", "DE-PROX", "DE-ADMM",
)  # fmt: skip
"""Methods that take minutes a seed on Samson: they have a row even where they were not run."""

RENEWED = "2026-11-29"
"""Since then VCA draws other random numbers."""
SEEDS = 5
EARLY = "\N{DAGGER}"

NOTE = (
    "Each cell: aRMSE / mSAD (radians), the mean over five seeds, or [over as many as the brackets say], fewer where a "
    "seed takes more than 30 CPU seconds on Samson; a dash: not run. HySU has no abundances: there the first number is "
    "the mean relative error of the areas of its targets. Best of those run in each column in bold; nobody knows "
    "beforehand which that will be. The best of several methods picked with the truth is in the tables of single "
    "scenes, not here. "
    f"Cost is that on {COST.split(' (', maxsplit=1)[0]}, for one seed: CPU seconds without compilation, on two shared "
    "cores, so accurate to a factor of two; and MB of the compiled program by XLA's analysis (arguments, results and "
    "temporaries; the resident memory of a process is mostly the compiler's), a dash for methods of several programs. "
    "All methods begin with the same spectra of VCA, except those that have a start of their own, and have the "
    "constants of their authors, the same on all scenes. "
    f"{EARLY}: run before {RENEWED}, since when VCA draws other numbers, so with other starts than the rest. Twins are "
    "those of DEQ-Unmix, cone; 5 and 20 layers are in the CSV file."
)


def read(folder: Path) -> list[dict[str, Any]]:
    """Return a row for each method and column, in the order of `GROUPS`, from the tables in a folder.

    Raises:
        InputError: if there is no table, or a method of a table has no group.
    """
    groups = {method: group for group, methods in GROUPS.items() for method in methods}
    found = []
    for column in SCENES:
        path = folder / f"{column.table}.csv"
        if not path.is_file():
            continue
        with path.open(newline="", encoding="utf-8") as file:
            rows = [r for r in csv.DictReader(file) if r["scene"] == column.scene and column.author in r["reference"]]
        for row in rows:
            if row["method"] == side_by_side.ORACLE:
                continue
            if row["method"] not in groups:
                raise InputError(
                    f"{path.name} has the method {row['method']!r}; expected one of experiments.comparison.overview."
                    "GROUPS. Put it in one of the groups."
                )
            number = {key: float(row[key] or "nan") for key in row if key not in side_by_side.WORDS}
            found.append(
                {
                    "group": groups[row["method"]],
                    "method": row["method"],
                    "column": column.heading,
                    "reference": row["reference"],
                    "seeds": int(row["seeds"]),
                    "error": number[column.error],
                    "error_sd": number[f"{column.error}_sd"],
                    "msad": number["msad"],
                    "msad_sd": number["msad_sd"],
                    "seconds": number["seconds"],
                    "memory": number["memory"],
                    "date": row["date"],
                }
            )
    if not found:
        tables = ", ".join(sorted({f"{scene.table}.csv" for scene in SCENES}))
        raise InputError(
            f"{folder} holds none of {tables}; expected at least one. Run experiments.comparison.samson or another "
            "table first."
        )
    order = list(groups)
    return sorted(found, key=lambda row: order.index(row["method"]))  # columns stay in their order


def wide(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the table as text: methods in rows below the names of their groups, scenes in columns."""
    kept = [row for row in rows if row["method"] not in CSV_ONLY]
    headings = [scene.heading for scene in SCENES if any(row["column"] == scene.heading for row in kept)]
    least = {
        (heading, key): min(round(row[key], 4) for row in kept if row["column"] == heading)
        for heading in headings
        for key in ("error", "msad")
    }
    fields = ["method", *headings, "CPU s", "MB"]
    lines: list[dict[str, Any]] = []
    for group, methods in GROUPS.items():
        mine = [method for method in methods if method in SLOW or any(row["method"] == method for row in kept)]
        if mine:
            lines.append(dict.fromkeys(fields, "") | {"method": f"**{group}**"})
        for method in mine:
            cells = dict.fromkeys(fields, "-") | {"method": method}
            for row in (row for row in kept if row["method"] == method):
                heading = row["column"]
                both = [
                    f"**{row[key]:.4f}**" if round(row[key], 4) == least[heading, key] else f"{row[key]:.4f}"
                    for key in ("error", "msad")
                ]
                few = f" [{row['seeds']}]" if row["seeds"] < SEEDS else ""
                early = EARLY if row["date"] < RENEWED else ""
                cells[heading] = " / ".join(both) + few + early
                if heading == COST:
                    digits = ".0f" if row["seconds"] >= 10 else ".2g"
                    cells["CPU s"] = "-" if math.isnan(row["seconds"]) else f"{row['seconds']:{digits}}"
                    cells["MB"] = "-" if math.isnan(row["memory"]) else f"{row['memory']:.3g}"
            lines.append(cells)
    return lines


def references(rows: list[dict[str, Any]]) -> str:
    """Return a list that names the reference and the table of each column."""
    tables = {scene.heading: scene.table for scene in SCENES}
    said = {row["column"]: row["reference"] for row in rows}
    lines = [f"* {s.heading}: {said[s.heading]} (`{tables[s.heading]}.md`)" for s in SCENES if s.heading in said]
    return "References, and the tables with all figures:\n\n" + "\n".join(lines)


def main(settings: None, folder: Path) -> Path:
    """Write `overview.csv` and `overview.md`."""
    rows = read(folder)
    absent = [method for method in SLOW if method not in {row["method"] for row in rows}]
    left_out = f" Not run, for a seed takes minutes or a quarter of an hour: {'; '.join(absent)}." if absent else ""
    note = f"{NOTE}{left_out}\n\n{references(rows)}"
    command = "python -m experiments.comparison.overview"
    return results_table.write(folder, "overview", rows, command, note, "Made of the tables beside it.", wide(rows))


if __name__ == "__main__":
    results_table.command_line(__doc__, main, None, None)
