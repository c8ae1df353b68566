"""The table of a comparison of methods: CSV with all figures, Markdown and LaTeX with those that a paper prints."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dequnmix_jax.io.disk_space import writing

CSV, MARKDOWN, LATEX = "comparison.csv", "comparison.md", "comparison.tex"

_COLUMNS = {
    "armse": ("aRMSE", ".4f"),
    "msad": ("mSAD, rad", ".4f"),
    "residual": ("residual", ".4f"),
    "spread": ("spread", ".4f"),
    "cpu_seconds": ("CPU s", ".3g"),
}
"""Figures of the short tables: head and format. The least of each is best."""

_COMPARED = ("armse", "msad")
"""Figures of which the best is bold: the others do not say which answer is right."""

_MEANINGS = {
    "armse": "aRMSE: mean over endmembers of the RMSE of each map.",
    "msad": "mSAD: mean spectral angle to the reference.",
    "residual": "residual: RMS of y - s a E relative to that of the scene; a better fit is not a better answer.",
    "spread": "spread: RMS of the fractions' standard deviation over the seeds.",
    "cpu_seconds": "CPU s: of one run, without compilation.",
}


def write(folder: Path, rows: Sequence[Mapping[str, Any]], reference: str) -> None:
    """Write the three tables into a folder.

    Args:
        folder: an existing folder.
        rows: one for each method: "method", "name", "seeds" and figures, of some also the standard deviation, `_sd`.
        reference: its name; "" without one.
    """
    for name, text in (
        (CSV, as_csv(rows)),
        (MARKDOWN, as_markdown(rows, reference)),
        (LATEX, as_latex(rows, reference)),
    ):
        with writing(folder / name):
            (folder / name).write_text(text, encoding="utf-8")


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return all figures, a line for each method; a figure that a method lacks is empty."""
    fields = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, fields or ["method"], lineterminator="\n", restval="")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: "" if value is None else f"{value:.6g}" if isinstance(value, float) else value
                         for name, value in row.items()})  # fmt: skip
    return text.getvalue()


def _shown(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [name for name in _COLUMNS if any(row.get(name) is not None for row in rows)]


def _cells(rows: Sequence[Mapping[str, Any]], name: str, bold: str) -> list[str]:
    """Return a column; `bold` holds {} where the best goes."""
    kind = _COLUMNS[name][1]
    values = [row.get(name) for row in rows]
    texts = ["-" if value is None else format(value, kind) for value in values]
    known = [value for value in values if value is not None]
    best = format(min(known), kind) if known and name in _COMPARED else None
    cells = []
    for row, text in zip(rows, texts, strict=True):
        deviation = row.get(f"{name}_sd")
        spread = f" ({deviation:{kind}})" if deviation is not None and row.get("seeds", 1) > 1 else ""
        cells.append((bold.format(text) if text == best else text) + spread)
    return cells


def _note(rows: Sequence[Mapping[str, Any]], reference: str) -> str:
    seeds = sorted({row["seeds"] for row in rows})
    several = f"Mean (standard deviation) over {seeds[-1]} seeds. " if seeds and seeds[-1] > 1 else "One seed. "
    against = f"Reference: {reference.rstrip('.')}. " if reference else ""
    return against + several + " ".join(_MEANINGS[name] for name in _shown(rows))


def as_markdown(rows: Sequence[Mapping[str, Any]], reference: str) -> str:
    """Return the short table in Markdown."""
    shown = _shown(rows)
    columns = [
        [str(row["name"]).replace("|", "\\|") for row in rows],
        *(_cells(rows, name, "**{}**") for name in shown),
    ]
    lines = ["| method | " + " | ".join(_COLUMNS[name][0] for name in shown) + " |"]
    lines.append("|---|" + "---|" * len(shown))
    lines += ["| " + " | ".join(cells) + " |" for cells in zip(*columns, strict=True)]
    return "\n".join([*lines, "", _note(rows, reference), ""])


_SPECIAL = {letter: f"\\{letter}" for letter in "&%_#${}"}
_SPECIAL |= {"^": r"\^{}", "~": r"\~{}", "\\": r"\textbackslash{}"}


def _latex(text: str) -> str:
    return "".join(_SPECIAL.get(letter, letter) for letter in text)


def as_latex(rows: Sequence[Mapping[str, Any]], reference: str) -> str:
    """Return the short table in LaTeX, for the package booktabs."""
    shown = _shown(rows)
    columns = [[_latex(str(row["name"])) for row in rows], *(_cells(rows, name, r"\textbf{{{}}}") for name in shown)]
    head = " & ".join(["method", *(_latex(_COLUMNS[name][0]) for name in shown)])
    return "\n".join(
        [
            f"% {_note(rows, reference)}",
            rf"\begin{{tabular}}{{l{'r' * len(shown)}}}",
            r"\toprule",
            rf"{head} \\",
            r"\midrule",
            *(" & ".join(cells) + r" \\" for cells in zip(*columns, strict=True)),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )
