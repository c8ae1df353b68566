"""Pages of `results/`: the claims of the paper one by one, tables from the CSV files, and every record as it is."""

import csv
import re
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path


@dataclass(frozen=True)
class Table:
    """A table from a CSV file of `results/`.

    Attributes:
        file: its name without ".csv".
        rows: column and value that a row must have, or a tuple of values.
        columns: heading and column; a column that has another NAME_sd beside it is shown as mean (standard deviation).
        lowest: columns whose least value is bold, among the rows with the same value of `per`.
        per: the column that groups rows for `lowest`, or none.
    """

    file: str
    columns: dict[str, str]
    rows: dict[str, str | tuple[str, ...]]
    lowest: tuple[str, ...] = ()
    per: str = ""


_COMPETITORS = (
    "VCA + FCLS", "PnP-BM3D, paper's noise level", "PnP-BM4D, paper's noise level", "DeepTrans", "AE-RED", "SNMF-Net",
    "best of four closed forms, picked with the truth (oracle)", "select_endmembers", "DEQ-Unmix, cone",
    "DEQ-Unmix, simplex", "DEQ-Unmix, from select_endmembers", "dq.run", "dq.run, trained on the scene",
)  # fmt: skip
_BOTH = ("armse", "msad")
_ERRORS = {"method": "method", "aRMSE": "armse", "mSAD": "msad", "CPU s": "seconds"}
TABLES = {
    "recipe_15": Table("table_synthetic", _ERRORS, {"scene": "recipe, 15 dB", "method": _COMPETITORS}, _BOTH),
    "recipe_30": Table("table_synthetic", _ERRORS, {"scene": "recipe, 30 dB", "method": _COMPETITORS}, _BOTH),
    "samson": Table("table_samson", _ERRORS, {"reference": "*Zhu*", "method": _COMPETITORS}, _BOTH),
    "samson_rasti": Table("table_samson", _ERRORS, {"reference": "*Rasti*", "method": _COMPETITORS}, _BOTH),
    "relab": Table("table_relab", _ERRORS, {"method": _COMPETITORS}, _BOTH),
    "apex": Table("table_apex", _ERRORS, {"method": _COMPETITORS}, _BOTH),
    "left_out": Table(
        "left_out",
        {"method": "method", "scenes": "scenes", "aRMSE": "aRMSE", "relative to the start": "aRMSE / start",
         "worst": "worst", "share harmed by more than 5 %": "harmed", "mSAD relative to the start": "mSAD / start"},
        {"judged on": "families left out"},
    ),
    "zero_shot": Table(
        "zero_shot",
        {"scene": "scene", "method": "method", "aRMSE": "aRMSE", "mSAD": "mSAD"},
        {"method": ("VCA + FCLS", "start", "start + neighbours", "learned operator")},
        ("aRMSE", "mSAD"),
        "scene",
    ),
    "memory": Table(
        "memory",
        {"gradient": "form", "iterations": "iterations", "temporaries, MB": "temporary MB"},
        {"iterations": ("5", "50", "500")},
    ),
    "first_map": Table(
        "first_map",
        {"scene": "scene", "version": "version", "cache": "cache", "CPU s": "CPU s", "wall s": "wall s"},
        {},
    ),
    "fcls": Table(
        "abundances",
        {"scene": "scene", "program": "way", "pixels a second": "pixels / s"},
        {},
    ),
}  # fmt: skip


@cache
def read(folder: Path, file: str) -> tuple[dict[str, str], ...]:
    """Return the rows of a CSV file."""
    with (folder / f"{file}.csv").open(newline="", encoding="utf-8") as text:
        return tuple(csv.DictReader(text))


def _fits(value: str, wanted: str | tuple[str, ...]) -> bool:
    if isinstance(wanted, tuple):
        return value in wanted
    return wanted.strip("*") in value if wanted.startswith("*") else value == wanted


def rows_of(folder: Path, table: Table) -> list[dict[str, str]]:
    """Return the rows of a table, in the order in which it names them; fail if there is none."""
    found = [row for row in read(folder, table.file) if all(_fits(row[c], v) for c, v in table.rows.items())]
    if not found:
        raise ValueError(f"{table.file}.csv has no row with {table.rows}")
    order = [values for values in table.rows.values() if isinstance(values, tuple)]
    if order and not table.per:
        names = next(c for c, v in table.rows.items() if isinstance(v, tuple))
        found.sort(key=lambda row: order[0].index(row[names]))
    return found


def number(text: str) -> str:
    """Return a number with four digits, or the text as it is.

    >>> number("0.069813"), number("864"), number("VCA"), number("12947024.6"), number("nan")
    ('0.0698', '864', 'VCA', '12.9 million', '')
    """
    try:
        value = float(text)
    except ValueError:
        return text
    if value != value:
        return ""
    if value >= 1e5:
        return f"{value / 1e6:.3g} million"
    if value == int(value) and "." not in text:
        return text
    return f"{value:.4f}" if abs(value) < 1 else f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def markdown(folder: Path, name: str, records: str) -> str:
    """Return a table of `TABLES` as Markdown, with a link to its record in the folder `records`."""
    table = TABLES[name]
    rows = rows_of(folder, table)
    lines = ["| " + " | ".join(table.columns) + " |", "|" + "---|" * len(table.columns)]
    for row in rows:
        cells = []
        for column in table.columns.values():
            spread = row.get(f"{column}_sd", "")
            text = number(row[column])
            if spread and number(spread) and float(spread) > 0 and column != "seconds":
                text += f" ({float(spread):.2g})"
            group = [r for r in rows if not table.per or r[table.per] == row[table.per]]
            if column in table.lowest and float(row[column]) == min(float(r[column]) for r in group):
                text = f"**{text}**"
            cells.append(text.replace("|", "\\|"))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(
        [*lines, "", f"From [`results/{table.file}.csv`]({records}{table.file}.md); mean (standard deviation)."]
    )


def overview(folder: Path, records: str) -> str:
    """Return the table of all methods and scenes, with what its record says before it."""
    body = (folder / "overview.md").read_text(encoding="utf-8").split("\n\n", 3)[3]
    return _linked(body, records, {path.stem for path in folder.glob("table_*.md")})


def replaced(text: str, folder: Path, records: str) -> str:
    """Return a page with `{{ table NAME }}` and `{{ overview }}` filled in."""
    if "{{ overview }}" in text:
        text = text.replace("{{ overview }}", overview(folder, records))
    return re.sub(r"\{\{ table (\w+) \}\}", lambda found: markdown(folder, found[1], records), text)


def _linked(text: str, prefix: str, names: set[str]) -> str:
    """Link the names of records, such as `stages.md` or `table_samson`, to their pages."""

    def link(found: re.Match[str]) -> str:
        name = found[1].removesuffix(".md").removesuffix(".csv")
        return f"[`{found[1]}`]({prefix}{name}.md)" if name in names else found[0]

    return re.sub(r"(?<!\[)`(?:results/)?([a-z_0-9]+(?:\.md|\.csv)?)`(?!\])", link, text)


def _claims(readme: str, names: set[str]) -> str:
    """Return the claims of the paper one by one: each row of the table of `results/README.md` becomes a section."""
    section = readme.split("\n## ")[1]
    title, *lines = section.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("|"))
    table = list(takewhile(lambda line: line.startswith("|"), lines[first:]))
    parts = [f"# {title}", *lines[:first]]
    for number_, row in enumerate(table[2:], start=1):
        claim, verdict, evidence, against = (cell.strip() for cell in row.strip("|").split(" | "))
        parts += [
            f"\n## {number_}. {claim}\n",
            f"Reproduced: {verdict}.\n",
            f"*For.* {evidence}\n",
            f"*Against.* {against}\n",
        ]
    parts += ["\n## How these figures came about\n", *lines[first + len(table) :]]
    return _linked("\n".join(parts), "files/", names)


def pages(folder: Path) -> dict[str, str]:
    """Return a page for each record of `results/`, their index, and the page of the claims."""
    names = {path.stem for path in folder.glob("*.md")} - {"README"}
    readme = (folder / "README.md").read_text(encoding="utf-8")
    made = {"results/claims.md": _claims(readme, names)}
    listed = readme.split("\n## ")[2].split("\n", 1)[1]
    head = (
        "# All records\n\nEach has the command that made it in its head, and a CSV file of the same name beside it.\n\n"
    )
    made["results/files/index.md"] = head + _linked(listed, "", names)
    for name in sorted(names):
        text = (folder / f"{name}.md").read_text(encoding="utf-8")
        made[f"results/files/{name}.md"] = _linked(text, "", names - {name})
    return made
