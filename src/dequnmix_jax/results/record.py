"""Read summary.json, the record of a result, and check the entries that a report reads."""

import json
from pathlib import Path
from typing import Any

from dequnmix_jax.checks import InputError
from dequnmix_jax.escaping import reason_of
from dequnmix_jax.io.provenance import SUMMARY


def read_record(path: Path) -> dict[str, Any]:
    """Return the content of summary.json in the folder of a result.

    Raises:
        InputError: there is none, it is not JSON, or its entries have other types than `summary` writes.
    """
    if not (path / SUMMARY).is_file():
        raise InputError(
            f"{path} is not the output of an unmixing; expected a folder with {SUMMARY}, which `dequnmix unmix` makes."
        )
    try:
        record: Any = json.loads((path / SUMMARY).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path / SUMMARY} is not JSON ({reason_of(error)}); unmix the scene again.") from error
    return checked_record(record, path / SUMMARY)


def checked_record(record: Any, place: Path) -> dict[str, Any]:
    """Return a record that was read from a place; raise InputError if its entries have other types."""
    if not _is_valid_record(record):
        raise InputError(f"{place} was changed, or is of another program; unmix the scene again.")
    return record


def _is_valid_record(record: Any) -> bool:
    """Return whether the entries of summary.json that a report reads have the types that `summary` writes."""
    number = (int, float)
    if not isinstance(record, dict):
        return False
    span, area = record.get("wavelengths_nm"), record.get("pixel_area_m2")
    lists = [record.get("notes", []), record.get("warnings", [])]
    tables = [record.get(name) or {} for name in ("trace", "history", "source", "model_file", "versions", "reading")]
    if not all(isinstance(table, dict) for table in tables) or not all(isinstance(texts, list) for texts in lists):
        return False
    entries = [entry for column in tables[1].values() for entry in (column if isinstance(column, list) else [column])]
    return (
        (span is None or (isinstance(span, list) and len(span) == 2 and all(isinstance(end, number) for end in span)))
        and (area is None or isinstance(area, number))
        and all(isinstance(column, list) for column in tables[1].values())
        and all(entry is None or isinstance(entry, number) for entry in entries)
    )
