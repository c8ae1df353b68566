"""Read single spectra in text files that begin with a record of what was measured.

| format | the record | the numbers |
| --- | --- | --- |
| ECOSTRESS, ASTER (*.spectrum.txt) | lines `Name: ...`, `X Units: ...`, `Y Units: ...` | wavelength, value |
| Spectra Vista (*.sig) | lines `name= ...`, then `data=` | wavelength, reference, target, reflectance (%) |

Reference:
    Meerdink et al., The ECOSTRESS spectral library version 1.0, Remote Sensing of Environment 230, 2019; Baldridge et
    al., The ASTER spectral library version 2.0, 2009. Spectra Vista, SIG file format, HR-1024i user guide.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.libraries.library import Library, from_file, positions, read_text
from dequnmix_jax.libraries.resampling import resample
from dequnmix_jax.scenes.scene import Array

_SUFFIXES = (".txt", ".asc", ".sig")
_NEEDED = ("name", "x units", "y units")


class _Record(NamedTuple):
    """A spectrum as it is stored.

    Attributes:
        name: of the spectrum.
        centres: (B,) in the unit that `unit` names.
        values: (B,).
        unit: a text that names the unit of the wavelengths.
        scale: divisor of the values, 100 for per cent.
    """

    name: str
    centres: Array
    values: Array
    unit: str
    scale: float


def _fields(lines: Sequence[str], mark: str) -> dict[str, str]:
    """Return the record of a file by name: the lines before the first row of numbers."""
    fields: dict[str, str] = {}
    for line in lines:
        key, found, value = line.partition(mark)
        if _row(line) is not None:
            break
        if found:
            fields.setdefault(key.strip().lower(), value.strip())
    return fields


def _row(line: str) -> list[float] | None:
    """Return a line of two or more numbers, or None."""
    words = line.replace(",", " ").split()
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        return None
    return numbers if len(numbers) >= 2 else None


def looks_like_record(lines: Sequence[str]) -> bool:
    """Return whether a file begins like one of the formats."""
    first = lines[0].lower()
    return _is_svc(first) or all(name in _fields(lines[:60], ":") for name in _NEEDED)


def _is_svc(first: str) -> bool:
    return "spectra vista sig" in first


def records_of(folder: Path) -> list[Path]:
    """Return the spectra of these formats in a folder, sorted by name."""
    files = sorted(entry for entry in folder.iterdir() if entry.is_file() and entry.suffix.lower() in _SUFFIXES)
    return [file for file in files if file.stat().st_size and looks_like_record(read_text(file))]


def _read(path: Path) -> _Record:
    lines = read_text(path)
    if not looks_like_record(lines):
        raise InputError(
            f"{path} does not begin like an ECOSTRESS, ASTER or Spectra Vista spectrum; expected lines such as "
            "'Name: ...' and 'X Units: ...' before the numbers. Read it by itself."
        )
    svc = _is_svc(lines[0].lower())
    start = next((i for i, line in enumerate(lines) if _row(line) is not None and (not svc or i > 0)), None)
    if svc:
        start = next((i + 1 for i, line in enumerate(lines) if line.strip().lower().startswith("data=")), start)
    rows = [] if start is None else [(i, line) for i, line in enumerate(lines[start:], start + 1) if line.strip()]
    if not rows:
        raise InputError(f"{path} holds a record and no numbers; expected a row for each wavelength. Copy it again.")
    table = []
    for number, line in rows:
        row = _row(line)
        if row is None or len(row) < (4 if svc else 2):
            raise InputError(
                f"{path} holds {line.strip()[:40]!r} in line {number}; expected {'four' if svc else 'two'} numbers. "
                "The file may be truncated."
            )
        table.append(row[:4] if svc else row[:2])
    numbers = np.array(table)
    if svc:
        fields = _fields(lines, "=")
        name = Path(fields.get("name", "").split(",")[-1].strip()).name or path.stem
        return _Record(name, numbers[:, 0], numbers[:, 3], "nm", 100.0)
    fields = _fields(lines, ":")
    x, y = fields["x units"], fields["y units"].lower()
    if fields.get("first column", "x").lower().startswith("y"):
        numbers = numbers[:, ::-1]
    return _Record(
        fields["name"], numbers[:, 0], numbers[:, 1], x, 100.0 if re.search(r"percent|per cent|%", y) else 1.0
    )


def read_records(
    paths: Sequence[Path], *, nodata: float | None = None, scale: float | None = None, sort: bool = False
) -> Library:
    """Read spectra of these formats as a library.

    Spectra on different wavelengths are put on the union of their wavelengths, by linear interpolation within the
    range of each; a note says so.

    Args:
        paths: one file or several.
        nodata: value of missing entries, before scaling.
        scale: divisor of the values; by default 100 where the file says per cent.
        sort: sort the bands by wavelength, where spectrometers overlap.

    Returns:
        A Library; equal names get the stem of their file.

    Raises:
        InputError: a file is missing, truncated or of another kind, or its wavelengths have no known unit.
    """
    libraries = []
    for path in paths:
        record = _read(path)
        if not (np.isfinite(record.centres) & (record.centres > 0)).all():
            raise InputError(f"{path} holds wavelengths that are not positive; expected positive numbers. Correct it.")
        centres, _, notes = positions(record.centres, record.unit, path)
        divisor = record.scale if scale is None else scale
        libraries.append(
            from_file(
                path, (record.name,), centres, record.values[None], nodata=nodata, scale=divisor, sort=sort,
                notes=tuple(notes),
            )
        )  # fmt: skip
    if len(libraries) == 1:
        return libraries[0]
    notes = list(dict.fromkeys(note for library in libraries for note in library.notes))
    grids = [library.wavelengths_nm for library in libraries]
    union = grids[0]
    if any(grid.shape != union.shape or not np.allclose(grid, union, rtol=1e-6, atol=0.0) for grid in grids):
        union = np.unique(np.concatenate(grids))
        libraries = [resample(library, union) for library in libraries]
        notes.append(
            f"The {len(paths)} spectra are on different wavelengths, and were interpolated linearly to all "
            f"{union.size} of them; values outside the range of a spectrum are NaN."
        )
    names = [library.names[0] for library in libraries]
    labels = tuple(
        f"{name} ({path.stem})" if names.count(name) > 1 else name for name, path in zip(names, paths, strict=True)
    )
    spectra = np.concatenate([library.spectra for library in libraries])
    return Library(labels, union, spectra, None, paths[0].parent, tuple(notes))
