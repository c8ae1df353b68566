"""Read the published text files of the USGS libraries, one spectrum in each.

splib07 (Kokaly et al. 2017): a title in the first line, then one value on each line; the wavelengths and the bandpass
(FWHM) of each spectrometer are in files of the same form, in micrometres. splib06 (Clark et al. 2007): sixteen lines of
text, the fifteenth of which is the title, then wavelength in micrometres, reflectance and its standard deviation.
Deleted values are -1.23e34 in both.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dequnmix_jax.checks import InputError, how_many
from dequnmix_jax.libraries.library import Library, from_file, read_text
from dequnmix_jax.scenes.scene import Array

_WAVELENGTHS, _BANDPASS = "*_Wavelengths_*.txt", "*_Bandpass_*.txt"
_RECORD = re.compile(r"\s*splib07\w*\s+Record=\d+\s*:\s*(.*?)\s*$", re.IGNORECASE)
_FIRST_DATA_LINE_06 = 17


def looks_like_usgs(lines: Sequence[str]) -> bool:
    """Return whether a file begins like a USGS spectrum."""
    first = lines[0].lower()
    if _RECORD.match(lines[0]) or ("usgs" in first and "spectral library" in first):
        return True
    rest = [line.split() for line in lines[1:50] if line.strip()]
    return not _is_number(lines[0]) and bool(rest) and all(len(row) == 1 and _is_number(row[0]) for row in rest)


def spectra_of(folder: Path) -> list[Path]:
    """Return the spectra in a folder, sorted by name, without the files of wavelengths and bandpasses.

    Raises:
        InputError: the folder holds no spectra.
    """
    positions = {*folder.glob(_WAVELENGTHS), *folder.glob(_BANDPASS)}
    texts = (entry for entry in folder.iterdir() if entry.is_file() and entry.suffix.lower() in (".txt", ".asc"))
    spectra = [file for file in sorted(texts) if file not in positions and looks_like_usgs(read_text(file))]
    if not spectra:
        raise InputError(
            f"{folder} holds no USGS spectra (.txt or .asc) and no ECOSTRESS, ASTER or Spectra Vista spectra; expected "
            "some, or pass a file."
        )
    return spectra


def read_usgs(
    paths: Sequence[Path],
    *,
    wavelengths: Path | None = None,
    fwhm: Path | None = None,
    scale: float | None = None,
    sort: bool = False,
) -> Library:
    """Read USGS spectra of one spectrometer as a library.

    Args:
        paths: one file or several, on the same bands.
        wavelengths: the file of wavelengths of splib07; by default the only one with as many values beside the first
            file or up to two folders above.
        fwhm: the file of bandpasses; by default the one near it with the spectrometer's name.
        scale: divisor of the values.
        sort: sort the bands by wavelength (the four spectrometers of AVIRIS overlap).

    Returns:
        A Library.

    Raises:
        InputError: a file is missing, truncated or of another kind, the numbers of values differ, or the wavelengths
            are missing.
    """
    names, columns, own = zip(*(_spectrum(path) for path in paths), strict=True)
    first, count = paths[0], columns[0].size
    for path, values, positions in zip(paths, columns, own, strict=True):
        if values.size != count:
            raise InputError(
                f"{path} holds {how_many(values.size, 'value')} and {first.name} {count}; expected spectra of one "
                "spectrometer. Read those of each by themselves, or a truncated file may be among them."
            )
        if (positions is None) != (own[0] is None) or (
            positions is not None and not np.allclose(positions, own[0], rtol=1e-6, atol=0.0)
        ):
            raise InputError(f"{path} is on other wavelengths than {first.name}; expected spectra of one spectrometer.")
    notes: list[str] = []
    positions = own[0]
    if positions is None:
        place = wavelengths if wavelengths is not None else _beside(first, _WAVELENGTHS, count, notes)
        if place is None:
            raise InputError(
                f"{first} holds values without wavelengths, and no single file of {how_many(count, 'wavelength')} lies "
                "with it; expected one like splib07a_Wavelengths_ASD_*.txt. Pass wavelengths=FILE (--wavelengths "
                "FILE)."
            )
        positions = _values(place, count, "wavelengths")
    width = fwhm if fwhm is not None else _beside(first, _BANDPASS, count, notes)
    with np.errstate(over="ignore"):  # overflow is rejected with other values that are not finite
        positions = positions * 1000.0
        widths = None if width is None else _values(width, count, "bandpasses") * 1000.0
    return from_file(
        first if len(paths) == 1 else first.parent,
        names,
        positions,
        np.stack(columns),
        widths,
        scale=scale,
        sort=sort,
        notes=tuple(notes),
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _spectrum(path: Path) -> tuple[str, Array, Array | None]:
    """Return title, values (B,) and, for splib06, wavelengths in micrometres (B,)."""
    lines = read_text(path)
    if not looks_like_usgs(lines):
        raise InputError(
            f"{path} does not begin like a USGS spectrum; expected a title and one value a line (splib07), or sixteen "
            "lines of text and three columns (splib06)."
        )
    record = _RECORD.match(lines[0])
    if record is None and "usgs" in lines[0].lower():
        return _old_spectrum(path, lines)
    values = _column(path, lines)
    return (record.group(1) if record else lines[0].strip()) or path.stem, values, None


def _old_spectrum(path: Path, lines: list[str]) -> tuple[str, Array, Array]:
    start = next(
        (i for i, line in enumerate(lines) if len(line.split()) == 3 and all(map(_is_number, line.split()))), None
    )
    if start is None:
        raise InputError(
            f"{path} holds no row of three numbers; expected wavelength, reflectance and standard deviation from line "
            f"{_FIRST_DATA_LINE_06} on. It may be truncated."
        )
    rows = [(i, line.split()) for i, line in enumerate(lines[start:], start + 1) if line.strip()]
    for number, row in rows:
        if len(row) != 3 or not all(map(_is_number, row)):
            raise InputError(f"{path} holds {' '.join(row)[:40]!r} in line {number}; expected three numbers.")
    table = np.array([[float(entry) for entry in row] for _, row in rows])
    title = lines[start - 2].strip() if start >= 2 else ""  # a line of history separates title and numbers
    return title or path.stem, table[:, 1], table[:, 0]


def _column(path: Path, lines: list[str]) -> Array:
    rows = [(number, line.strip()) for number, line in enumerate(lines[1:], 2) if line.strip()]
    if not rows:
        raise InputError(f"{path} holds a title and no values; expected one a line. It may be truncated.")
    for number, text in rows:
        if not _is_number(text):
            raise InputError(f"{path} holds {text[:40]!r} in line {number}; expected one number a line.")
    return np.array([float(text) for _, text in rows])


def _values(path: Path, count: int, what: str) -> Array:
    """Return the values of a file of wavelengths or bandpasses, micrometres, (count,)."""
    values = _column(path, read_text(path))
    if values.size != count:
        raise InputError(
            f"{path} holds {values.size} {what} and the spectrum has {count} values; expected as many. Pass those of "
            "the same spectrometer."
        )
    if not (np.isfinite(values) & (values > 0)).all():
        raise InputError(f"{path} holds {what} that are not positive; expected micrometres.")
    return values


def _beside(path: Path, pattern: str, count: int, notes: list[str]) -> Path | None:
    """Return the only matching file beside the spectrum or up to two folders above, or None."""
    for folder in (path.parent, *list(path.resolve().parent.parents)[:2]):
        fitting = [
            file
            for file in sorted(folder.glob(pattern))
            if sum(1 for line in read_text(file)[1:] if line.strip()) == count
        ]
        if pattern == _BANDPASS:  # several spectrometers share wavelengths but not bandpasses
            named = [file for file in fitting if _spectrometer(file) and _spectrometer(file) in path.name.upper()]
            fitting = named or fitting
        if len(fitting) == 1:
            notes.append(f"{fitting[0].name} was taken for the spectrum, for its {how_many(count, 'value')}.")
            return fitting[0]
        if fitting:
            return None
    return None


def _spectrometer(file: Path) -> str:
    """Return the spectrometer in the name of a bandpass file, such as ASDFR, or ""."""
    match = re.search(r"Bandpass_\(FWHM\)_([A-Za-z0-9]+)", file.name)
    return match.group(1).upper() if match else ""
