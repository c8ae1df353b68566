"""Write a table of results with all that is needed to reproduce it: versions, device, date, command."""

import argparse
import csv
import math
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np

import dequnmix_jax
from dequnmix_jax.report import style
from experiments.shared.together import leave, together


def summary(labels: dict[str, Any], runs: Sequence[Any]) -> dict[str, Any]:
    """Return mean and standard deviation (n - 1) of each field over runs, NaN if a field does not apply.

    `runs`: named tuples or dictionaries, all with the same fields.
    """
    row = labels | {"seeds": len(runs)}
    figures = [run if isinstance(run, dict) else run._asdict() for run in runs]
    for name in figures[0]:
        values = np.array([run[name] for run in figures], float)
        row[name] = float(values.mean())
        row[f"{name}_sd"] = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    return row


def line(row: dict[str, Any]) -> str:
    """Return one row as text for the terminal."""
    return "  ".join(f"{key}={_text(value)}" for key, value in row.items() if _text(value))


def _text(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4g}"
    return str(value)


def commit_of(checkout: Path) -> str:
    """Return the short hash of the commit that a folder is a checkout of, or "unknown"."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return (
        subprocess.run(command, capture_output=True, text=True, check=False, cwd=checkout).stdout.strip() or "unknown"
    )


def origin() -> dict[str, str]:
    """Return versions, device, commit and date."""
    device = jax.devices()[0]
    return {
        "dequnmix_jax": dequnmix_jax.__version__,
        "jax": jax.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "device": f"{device.platform} {device.device_kind}, {os.cpu_count()} cores",
        "commit": commit_of(Path(__file__).parent),
        "date": datetime.now(UTC).date().isoformat(),
    }


def write_csv(target: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows of the same fields as a CSV file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, fieldnames=list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def named_once(rows: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], str]:
    """Return rows without their column of references, and a list (or "") that names each reference once.

    Of several references of a scene each row has the author, or the number, beside the name of the scene.
    """
    if not rows or not {"scene", "reference"} <= set(rows[0]):
        return list(rows), ""
    several: dict[str, list[str]] = {}
    for row in rows:
        known = several.setdefault(row["scene"], [])
        if row["reference"] not in known:
            known.append(row["reference"])
    names: dict[tuple[str, str], str] = {}
    said: dict[str, list[str]] = {}
    for scene, references in several.items():
        for number, reference in enumerate(references, start=1):
            author = re.search(r"reference of (\w+)", reference)
            mark = f" ({author[1] if author else number})" if len(references) > 1 else ""
            names[scene, reference] = scene + mark
            said.setdefault(reference, []).append(scene + mark)
    shown = [
        {key: names[row["scene"], row["reference"]] if key == "scene" else value for key, value in row.items()
         if key != "reference"}
        for row in rows
    ]  # fmt: skip
    lines = [f"* {'; '.join(scenes)}: {reference}" for reference, scenes in said.items()]
    return shown, "References:\n\n" + "\n".join(lines) + "\n\n"


def write(
    folder: Path,
    name: str,
    rows: Sequence[dict[str, Any]],
    command: str,
    note: str,
    kind: str = "Mean (standard deviation over seeds).",
    shown: Sequence[dict[str, Any]] | None = None,
) -> Path:
    """Write `name`.csv (every figure) and `name`.md, and return the latter.

    In the Markdown fields with _sd are in brackets, and the reference of each scene is named once, above the table.
    `kind` says in a sentence what the figures are; `shown`: other rows for the Markdown.
    """
    write_csv(folder / f"{name}.csv", rows)
    where = ", ".join(f"{key} {value}" for key, value in origin().items())
    target = folder / f"{name}.md"
    text = f"# {name}\n\n`{command}`\n\n{kind} {where}.\n\n{note}\n\n" + markdown(rows if shown is None else shown)
    target.write_text(text, encoding="utf-8")
    return target


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as a Markdown table, below the references of their scenes."""
    rows, references = named_once(rows)
    shown = [key for key in rows[0] if not key.endswith("_sd")]
    lines = ["| " + " | ".join(shown) + " |", "|" + "---|" * len(shown)]
    for row in rows:
        cells = []
        for key in shown:
            spread = row.get(f"{key}_sd", math.nan)
            cells.append(_text(row[key]) + (f" ({spread:.2g})" if _text(row[key]) and not math.isnan(spread) else ""))
        lines.append("| " + " | ".join(cells) + " |")
    return references + "\n".join(lines) + "\n"


def report(
    folder: Path, name: str, figure: Any, rows: Sequence[dict[str, Any]], points: Sequence[dict[str, Any]], finding: str
) -> Path:
    """Write a figure with its table: `name`.png, `name`.csv (each point drawn) and `name`.md, which is returned.

    Args:
        folder, name: where, and what it is called; the command is `python -m experiments.equilibrium.name`.
        figure: of matplotlib, from `dequnmix_jax.report.style.new_figure`.
        rows: the summary that the Markdown file shows.
        points: every number behind the figure.
        finding: what it says, and under which settings.
    """
    note = f"![{name}]({name}.png)\n\n{finding}\n\nEvery point: `{name}.csv`."
    target = write(folder, name, rows, f"python -m experiments.equilibrium.{name}", note, kind="One run, one seed.")
    write_csv(folder / f"{name}.csv", points)
    style.save(figure, folder / f"{name}.png", overwrite=True)
    return target


def command_line(about: str, main: Callable[[Any, Path], Path], full: Any, quick: Any) -> None:
    """Run an experiment as `python -m experiments.WING.NAME [--quick] [-o FOLDER]` and print the table's path.

    With `--only`, where the settings know of it, methods whose names begin so are run again and take the place of their
    rows in the table that is there; `--scenes` and `--seeds` limit what is run. With `--distributed`, in each process
    of a job (`dequnmix_jax.join_team`), the processes divide the scenes of the settings among them, and the first one
    puts their tables together, in the order of the scenes.
    """
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small run to check that everything works")
    parser.add_argument("-o", "--output", type=Path, default=Path("results"))
    parser.add_argument("--distributed", action="store_true", help="divide the scenes among the processes of this job")
    if hasattr(full, "update"):
        words = "run these methods again, in a table that is there"
        parser.add_argument("--only", nargs="+", metavar="NAME", help=words)
        words = "with --only: of these scenes; a row says how many seeds it has"
        if all(isinstance(scene, str) for scene in full.scenes):
            parser.add_argument("--scenes", nargs="+", choices=full.scenes, metavar="SCENE", help=words)
        parser.add_argument("--seeds", type=int, choices=range(1, full.seeds + 1), help="number of seeds")
    arguments = parser.parse_args()
    settings = quick if arguments.quick else full
    if getattr(arguments, "only", None):
        settings = replace(settings, only=tuple(arguments.only), update=True)
        if getattr(arguments, "scenes", None):
            settings = replace(settings, scenes=tuple(arguments.scenes))
    elif getattr(arguments, "scenes", None):
        parser.error("--scenes needs --only: the rows of other scenes would be lost.")
    if getattr(arguments, "seeds", None):
        settings = replace(settings, seeds=arguments.seeds)
    try:
        if arguments.distributed:
            found = run_together(dequnmix_jax.parallel.join_team(), main, settings, arguments.output)
        else:
            found = main(settings, arguments.output)
    except dequnmix_jax.InputError as error:
        raise SystemExit(str(error)) from None
    if found is not None:
        print(found)


def run_together(
    team: dequnmix_jax.parallel.Team, main: Callable[[Any, Path], Path], settings: Any, folder: Path
) -> Path | None:
    """Run the scenes of this process, and put the tables of all together in the first one.

    Raises:
        InputError: the settings have fewer scenes than there are processes, or another process failed.
    """
    scenes = getattr(settings, "scenes", ())
    if len(scenes) < team.size:
        raise dequnmix_jax.InputError(
            f"This experiment has {len(scenes)} scenes and the job {team.size} processes; expected at least one scene "
            "for each. Start fewer."
        )
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{team.token}.parts"
    # Neighbours in the table stay neighbours: blocks, and not every size-th scene.
    blocks = [list(block) for block in np.array_split(np.arange(len(scenes)), team.size)]
    with together(team, target, "finished"):
        mine = replace(settings, scenes=tuple(scenes[i] for i in blocks[team.rank]))
        main(mine, target.with_suffix(f".{team.rank}"))
    parts = [target.with_suffix(f".{rank}") for rank in range(team.size)]
    made = put_together(parts, folder) if team.rank == 0 else None
    leave(team, target)
    if team.rank == 0:
        for each in parts:
            shutil.rmtree(each)
    return made


def put_together(parts: Sequence[Path], folder: Path) -> Path:
    """Write the tables of several folders, the same in each, as one; return the first Markdown file."""
    for path in sorted(parts[0].glob("*.csv")):
        texts = [(each / path.name).read_text(encoding="utf-8") for each in parts]
        rows = [text.split("\n", 1)[1] for text in texts]
        (folder / path.name).write_text(texts[0].split("\n", 1)[0] + "\n" + "".join(rows), encoding="utf-8")
    for path in sorted(parts[0].glob("*.md")):
        texts = [(each / path.name).read_text(encoding="utf-8") for each in parts]
        heads, tables = zip(*(text.split("\n\n|", 1) for text in texts), strict=True)
        notes = [head.split("\n\n", 3)[3] for head in heads]
        said = "\n\n".join(f"Process {rank}: {note}" for rank, note in enumerate(notes))
        rows = [table.split("\n", 2)[2] for table in tables]
        top = "\n".join(tables[0].split("\n", 2)[:2])
        head = "\n\n".join(heads[0].split("\n\n", 3)[:3])
        (folder / path.name).write_text(f"{head}\n\n{said}\n\n|{top}\n{''.join(rows)}", encoding="utf-8")
    return folder / sorted(parts[0].glob("*.md"))[0].name


def geometric_mean(values: list[float]) -> float:
    """Return exp(mean(log x))."""
    return float(np.exp(np.mean(np.log(values))))
