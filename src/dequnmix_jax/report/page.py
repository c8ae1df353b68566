"""Report of an unmixing: one HTML page with maps, spectra, errors, and what was assumed about the file."""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dequnmix_jax.checks import InputError, check_kind, ending, how_many
from dequnmix_jax.io.atomic import replacing_file
from dequnmix_jax.io.remote import as_local
from dequnmix_jax.libraries.library import Library
from dequnmix_jax.libraries.naming import named
from dequnmix_jax.report import html
from dequnmix_jax.report.html import Row
from dequnmix_jax.report.map_sections import (
    abundance_part,
    class_part,
    convergence_part,
    fit_part,
    mapping,
    scene_part,
    short,
    uncertainty_part,
)
from dequnmix_jax.report.spectra_section import Matched, matched, spectra_part
from dequnmix_jax.report.style import require
from dequnmix_jax.results.result import Result
from dequnmix_jax.results.verdicts import judge


def report(result: Result, library: Library | None = None) -> str:
    """Return an HTML page about an unmixing that needs no other file and no network.

    Args:
        result: from `read_result` or `result_of`.
        library: spectra that name the endmembers, or None.

    Returns:
        The text of the page.

    Raises:
        InputError: matplotlib is not installed, or the library cannot be compared.
    """
    require()
    if library is not None:
        check_kind(library, Library, "library", "Read it with dq.libraries.read_library(path).")
    nearest = None if library is None else matched(result, library)
    if nearest is not None:
        result = replace(result, names=named(result.names, nearest.matches).labels)
    summary = result.summary
    name = str(summary.get("scene") or "a scene")
    parts = [
        "<header>",
        f"<h1>{html.escape(f'Unmixing of {name}')}</h1>",
        html.paragraph(_subtitle(result), "soft"),
        "</header>",
        conclusion_part(result),
        _warnings(result),
        _count(summary),
        scene_part(result),
        class_part(result),
        abundance_part(result, nearest),
        uncertainty_part(result),
        spectra_part(result, nearest),
        fit_part(result),
        convergence_part(result),
        html.section("assumed", "Assumptions about the file", *_assumptions(summary, nearest)),
        _record(summary),
    ]
    return html.document(f"Unmixing of {name}", [part for part in parts if part])


def conclusion_part(result: Result) -> str:
    """Return the section that says what the measurements mean, what asks for something first; "" without any."""
    found = judge(result)
    if not found:
        return ""
    good = sum(verdict.good for verdict in found)
    count = f"{good} of {len(found)} questions are answered well; what asks for a look comes first."
    if good == len(found):
        count = "Nothing asks for a change."
    ordered = [verdict for verdict in found if not verdict.good] + [verdict for verdict in found if verdict.good]
    return html.section(
        "conclusion", "Conclusion", html.verdicts(count, [(verdict.good, verdict.text) for verdict in ordered])
    )


def check_page(path: Path) -> None:
    """Raise InputError unless a file to make has the suffix of an HTML page."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(
            f"{path} {ending(path)}; expected .html or .htm, because the report is a page for a "
            f"browser. Write {path.with_suffix('.html') if path.name else 'report.html'}; a browser prints it as PDF."
        )


def write_report(
    path: str | os.PathLike[str], result: Result, library: Library | None = None, *, overwrite: bool = False
) -> Path:
    """Write `report` to a file, atomically.

    Args:
        path: the file to make, .html or .htm.
        result: from `read_result` or `result_of`.
        library: spectra that name the endmembers, or None.
        overwrite: replace an existing file.

    Returns:
        The file.

    Raises:
        InputError: as for `report`; the file has another suffix, or exists and `overwrite` is False.
    """
    target = as_local(path)
    check_page(target)
    with replacing_file(target, overwrite=overwrite) as temporary:
        temporary.write_text(report(result, library), encoding="utf-8")
    return target


def _subtitle(result: Result) -> str:
    height, width, count = result.abundances.shape
    summary = result.summary
    # Earlier versions wrote the date at the top level.
    date = str(mapping(summary.get("run")).get("date") or summary.get("date") or "")[:16].replace("T", " ")
    return (
        f"{how_many(count, 'endmember')} in {how_many(height, 'row')} and {how_many(width, 'column')}, "
        f"{summary.get('bands', '?')} bands{f'; {date} UTC' if date else ''}; dequnmix_jax "
        f"{mapping(summary.get('versions')).get('dequnmix-jax', '')}"
    ).strip()


def _texts(value: Any) -> list[str]:
    return [str(entry) for entry in value] if isinstance(value, list | tuple) else []


def _warnings(result: Result) -> str:
    trace = mapping(result.summary.get("trace"))
    texts = _texts(result.summary.get("warnings"))
    if trace and trace.get("converged") is not True and not any("was not reached" in text for text in texts):
        texts.append(f"The equilibrium was not reached (relative residual {short(trace.get('residual'))}).")
    if "Confidence: low" in str(result.summary.get("start")):
        texts.append(
            "The choice of endmembers and mixing is unsure: others may explain the scene as well. Compare with "
            "--start vca or another --mixing."
        )
    if not texts:
        return ""
    return html.section("cautions", "Warnings", *(html.paragraph(text, "alert") for text in texts))


_CRITERIA = {
    "held_out": "held-out error: a further endmember lowers it by less than 5 %",
    "gap": "largest gap of eigenvalues over correlated noise",
    "correlated": "signals above correlated noise",
    "nwhfc": "NWHFC (virtual dimension)",
    "hysime": "HySime",
}


def _count(summary: Mapping[str, Any]) -> str:
    """Return the section about the number of endmembers and its criteria, if it was counted."""
    count = mapping(summary.get("count"))
    bounds, criteria = count.get("range_90_percent"), mapping(count.get("criteria"))
    if not isinstance(bounds, list) or len(bounds) != 2:
        return ""
    text = (
        f"{count.get('number')} endmembers, counted in the scene: with a probability of 90 % there are {bounds[0]} to "
        f"{bounds[1]}. The largest number looked for is {count.get('most')}."
    )
    rows: list[Row] = [[label, str(criteria[name])] for name, label in _CRITERIA.items() if name in criteria]
    table = html.table("By single criteria", [], rows)
    return html.section("count", "Number of endmembers", html.paragraph(text), table)


def _assumptions(summary: Mapping[str, Any], nearest: Matched | None) -> list[str]:
    parts = []
    notes = _texts(summary.get("notes"))
    parts.append(html.bullets(notes) if notes else html.paragraph("None: the file is complete."))
    options = {name: value for name, value in mapping(summary.get("reading")).items() if value not in (None, [])}
    if options:
        listed = ", ".join(f"--{name} {_words(value)}" for name, value in options.items())
        parts.append(html.paragraph(f"Options of reading: {listed}."))
    if nearest is not None and nearest.notes:
        parts += [f"<h3>{html.escape('About the library')}</h3>", html.bullets(nearest.notes)]
    return parts


def _words(value: Any) -> str:
    if isinstance(value, list):
        pairs = value if value and isinstance(value[0], list) else [value]
        return " ".join(
            ":".join(f"{number:g}" if isinstance(number, float) else str(number) for number in pair) for pair in pairs
        )
    return f"{value:g}" if isinstance(value, float) else str(value)


def _record(summary: Mapping[str, Any]) -> str:
    rows: list[Row] = []
    source, model = mapping(summary.get("source")), mapping(summary.get("model_file"))
    for label, entry in (("scene", source), ("its header", mapping(source.get("header"))), ("model", model)):
        if entry:
            checksum = f", sha256 {entry['sha256']}" if "sha256" in entry else ""
            size = f"{entry['bytes']} bytes" if "bytes" in entry else "size unknown"
            rows.append([label, f"{entry.get('url', entry.get('file'))}, {size}{checksum}"])
    versions = mapping(summary.get("versions"))
    rows.append(["versions", ", ".join(f"{name} {number}" for name, number in versions.items())])
    parts = [html.table("Files and versions", [], rows)]
    if summary.get("configuration"):
        text = json.dumps(summary["configuration"], indent=2, ensure_ascii=False)
        parts += ["<h3>Configuration</h3>", f"<pre>{html.escape(text)}</pre>"]
    return html.section("record", "Provenance", *parts)
