"""Read and write tables of spectra, in CSV and similar formats: a column of wavelengths, a column for each spectrum.

A table with a row for each spectrum, columns of text or a number first, below a row of wavelengths (EMIT's unmixing) is
transposed; if the first row and the first column could both be wavelengths, it is refused. The delimiter is a comma,
semicolon, tab or blank; the last three allow decimal commas. Lines that start with #, %, ! or // are comments, and so
are all lines before the first row of numbers; the last of these names the columns. ENVI's plot files, which name the
columns in lines like `Column 2: grass`, are read too.
"""

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from dequnmix_jax.checks import InputError, how_many
from dequnmix_jax.io.units import SHORT, units_in
from dequnmix_jax.libraries.library import Library, from_file, read_text
from dequnmix_jax.libraries.library import positions as positions_of
from dequnmix_jax.scenes.scene import Array

_COMMENTS = ("#", "%", "!", "//")
_MISSING = {"", "nan", "na", "n/a", "null", "none", "-"}
_NAME_COLUMNS = ("name", "names", "spectrum", "spectra", "material", "endmember", "label", "title")
_SAYS_WAVELENGTH = re.compile(r"wav|lambda|λ", re.IGNORECASE)
_PLOT_COLUMN = re.compile(r"\s*column\s+(\d+)\s*:\s*(.*?)\s*$", re.IGNORECASE)
_WIDTHS = ("fwhm", "bandpass", "band width", "bandwidth")


def read_table(
    path: Path, *, nodata: float | None = None, scale: float | None = None, units: str = "", sort: bool = False
) -> Library:
    """Read a table of spectra.

    Args:
        path: the file.
        nodata: value of missing entries, before scaling. Empty cells and NaN are always missing.
        scale: divisor of the values.
        units: a key of `units.SHORT`, such as "um"; by default the unit in the header of the first column, or else a
            guess from the values.
        sort: sort the bands by wavelength.

    Returns:
        A Library; a column named fwhm or bandpass, in the unit of the wavelengths, becomes its widths.

    Raises:
        InputError: the file is missing or holds no table; a row has another length, or an entry is not a number; the
            wavelengths do not increase or have no known unit; or the first column counts the bands.
    """
    lines = read_text(path)
    kept = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    delimiter = _delimiter([line for _, line in kept if not _is_comment(line)])
    rows = [(number, _cells(line, delimiter), _is_comment(line)) for number, line in kept]
    rows = _without_empty_column(rows)
    by_columns, notes, words = _transposed(rows, delimiter, path)
    rows = rows if by_columns is None else by_columns
    first = next((i for i, (_, cells, aside) in enumerate(rows) if not aside and _numeric(cells, delimiter)), None)
    if first is None:
        raise InputError(
            f"{path} holds no row of numbers; expected a column of wavelengths and one for each spectrum, or USGS text."
        )
    width = len(rows[first][1])
    if width < 2:
        raise InputError(
            f"{path} has one column; expected wavelengths in the first and a spectrum in each other. A spectrum in one "
            "column begins with a line that names it, and takes its wavelengths from wavelengths=FILE (--wavelengths "
            "FILE), a file of the same form."
        )
    header = _header([line for _, line in kept[:first]], [cells for _, cells, _ in rows[:first]], width)
    data = [(number, cells) for number, cells, aside in rows[first:] if not aside]
    values = np.array([_numbers(cells, delimiter, width, number, path) for number, cells in data])
    positions = values[:, 0]
    if header is not None and header[0].strip().lower() == "band" and positions[0] in (0, 1):
        raise InputError(
            f"{path} has band numbers in its first column; expected wavelengths. A score needs none: pass the .sli "
            "file beside it, or the folder of the result."
        )
    if by_columns is None and _counts(positions) and not units and not (header and _of_wavelengths(header[0])):
        if header is None or width < 3 or not _of_wavelengths(header[1]):
            raise InputError(
                f"{path} counts from {positions[0]:g} to {positions[-1]:g} in its first column; expected wavelengths. "
                "Remove the column if it numbers the bands, or name it wavelength_um (or pass units='um', --units um) "
                "if these are micrometres."
            )
        notes.append(f"The first column counts the rows and was left out; wavelengths are in {header[1]!r}.")
        header, values, width = header[1:], values[:, 1:], width - 1
        centres = values[:, 0]
    else:
        centres = positions
    if not (np.isfinite(centres) & (centres > 0)).all():
        line = data[int(np.flatnonzero(~(np.isfinite(centres) & (centres > 0)))[0])][0]
        raise InputError(f"{path} holds no positive wavelength in line {line}; expected one in the first column.")
    if by_columns is not None:
        notes.append("Each row holds a spectrum, below a row of wavelengths.")
    if header is None:
        header = ["wavelength", *(f"spectrum {i}" for i in range(1, width))]
        notes.append("No row names the columns; the spectra were numbered.")
    widths = [i for i in range(1, width) if header[i].lower().startswith(_WIDTHS)]
    spectra = [i for i in range(1, width) if i not in widths]
    if not spectra:
        raise InputError(f"{path} holds wavelengths and widths and no spectrum; expected a column for each spectrum.")
    fwhm: Array | None = values[:, widths[0]] if widths else None
    if fwhm is not None and not (np.isfinite(fwhm) & (fwhm > 0)).all():
        notes.append(f"The column {header[widths[0]]!r} holds values that are not widths and was left out.")
        fwhm = None
    unit = SHORT.get(units, "") or header[0]
    width_unit = header[widths[0]] if widths else ""
    wavelengths, fwhm, unit_notes = positions_of(centres, unit, path, fwhm, width_unit, sure=bool(units))
    notes += unit_notes
    return from_file(
        path,
        tuple(header[i] for i in spectra),
        wavelengths,
        values[:, spectra].T,
        fwhm,
        nodata=nodata,
        scale=scale,
        sort=sort,
        notes=tuple(notes),
        columns=words,
    )


def _without_empty_column(rows: list[tuple[int, list[str], bool]]) -> list[tuple[int, list[str], bool]]:
    """Return a table without a last column that is empty in every row, as a delimiter at the end of the lines makes."""
    kept = [cells for _, cells, aside in rows if not aside]
    width = max((len(cells) for cells in kept), default=0)
    full = [cells for cells in kept if len(cells) == width]
    # The row of names may lack the last delimiter.
    if width < 3 or 2 * len(full) <= len(kept) or any(cells[-1] for cells in full):
        return rows
    return [
        (number, cells[:-1] if len(cells) == width and not aside else cells, aside) for number, cells, aside in rows
    ]


def _transposed(
    rows: list[tuple[int, list[str], bool]], delimiter: str, path: Path
) -> tuple[list[tuple[int, list[str], bool]] | None, list[str], dict[str, tuple[str, ...]]]:
    """Return the transpose of a table with a spectrum in each row, below a row of wavelengths, or None; notes; columns.

    Columns of text precede the values; the first of them, or the one that its header calls a name, names the spectra.
    All are returned by their headers, for the classes of the spectra.

    Raises:
        InputError: the row and the column could both be wavelengths.
    """
    kept = [(number, cells) for number, cells, aside in rows if not aside]
    if len(kept) < 2 or any(len(cells) != len(kept[0][1]) for _, cells in kept):
        return None, [], {}
    head, data = kept[0][1], [cells for _, cells in kept[1:]]
    numbers = [_number_or_none(cell, delimiter) for cell in head]
    texts = next((len(head) - i for i, value in enumerate(reversed(numbers)) if value is None or value != value), 0)
    centres = np.array([value for value in numbers[texts:] if value is not None])
    below = [[_number_or_none(cell, delimiter) for cell in cells] for cells in data]
    if texts == 0 or centres.size < 2 or any(None in row[texts:] for row in below):
        return None, [], {}
    textual = [i for i in range(texts) if any(row[i] is None for row in below)]
    if not textual and _names_are_numbers(head, centres, np.array([row[0] for row in below], np.float64), path):
        return None, [], {}
    named = next((i for i in textual if head[i].strip().lower() in _NAME_COLUMNS), (textual or [0])[0])
    others = [head[i] for i in range(texts) if i != named]
    left = f"The columns {', '.join(others)} were left out of the names; {head[named]!r} names the spectra."
    notes = [left] if others else []
    words = {head[i].strip(): tuple(cells[i] for cells in data) for i in range(texts)}
    columns = zip(*([cells[named], *cells[texts:]] for _, cells in kept), strict=True)
    return [(kept[0][0], list(column), False) for column in columns], notes, words


def _names_are_numbers(head: list[str], centres: Array, column: Array, path: Path) -> bool:
    """Return whether a first row of numbers names the spectra and the first column holds wavelengths.

    Args:
        head: the first row.
        centres: its numbers.
        column: the numbers below its first cell.
        path: the file, for messages.
    """
    if not _monotone(centres) or _counts(centres) or (_of_wavelengths(head[0]) and not _counts(column)):
        return True
    if _monotone(column) and not _counts(column):
        raise InputError(
            f"{path} could hold a spectrum in each column, with wavelengths {column[0]:g} to {column[-1]:g}, or one in "
            f"each row, with wavelengths {centres[0]:g} to {centres[-1]:g}; expected one reading. Call the first cell "
            "wavelength_nm (or wavelength_um) for columns, or put a name in front of each row."
        )
    return False


def _monotone(values: Array) -> bool:
    steps = np.diff(values)
    return bool((steps > 0).all() or (steps < 0).all())


def _counts(values: Array) -> bool:
    """Return whether numbers count from 0 or 1."""
    return bool(values.size > 0 and values[0] in (0, 1) and (values == values[0] + np.arange(values.size)).all())


def _of_wavelengths(text: str) -> bool:
    return bool(_SAYS_WAVELENGTH.search(text) or units_in(text))


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith(_COMMENTS)


def _delimiter(lines: list[str]) -> str:
    """Return the delimiter of the columns, from the last lines, which hold numbers; " " for blanks."""
    tail = lines[-5:]
    for mark in (";", "\t"):
        if _most(mark in line for line in tail):
            return mark
    # A comma may be decimal: in `417,4 0,06` blanks separate the numbers.
    if _most("," in line for line in tail) and not _most(bool(re.search(r"\d,\d+\s+\d", line)) for line in tail):
        return ","
    return " "


def _most(flags: Iterable[bool]) -> bool:
    values = list(flags)
    return 2 * sum(values) > len(values)


def _cells(line: str, delimiter: str) -> list[str]:
    if delimiter == " ":
        return line.split()
    return [cell.strip() for cell in next(csv.reader([line.strip("\r\n")], delimiter=delimiter, skipinitialspace=True))]


def _number(cell: str, delimiter: str) -> float:
    text = cell.strip()
    if text.lower() in _MISSING:
        return np.nan
    return float(text.replace(",", ".") if delimiter != "," else text)


def _number_or_none(cell: str, delimiter: str) -> float | None:
    """Return a cell as a number, NaN where it is empty or says that the value is missing, None for text."""
    try:
        return _number(cell, delimiter)
    except ValueError:
        return None


def _numeric(cells: list[str], delimiter: str) -> bool:
    try:
        return np.isfinite(_number(cells[0], delimiter)) and bool([_number(cell, delimiter) for cell in cells])
    except ValueError:
        return False


def _numbers(cells: list[str], delimiter: str, width: int, line: int, path: Path) -> list[float]:
    if len(cells) != width:
        raise InputError(
            f"{path} holds {how_many(len(cells), 'column')} in line {line} and {width} before; expected the same "
            "number in every row. The file may be truncated."
        )
    try:
        return [_number(cell, delimiter) for cell in cells]
    except ValueError:
        raise InputError(f"{path} holds {','.join(cells)[:40]!r} in line {line}; expected numbers.") from None


def _header(lines: list[str], cells: list[list[str]], width: int) -> list[str] | None:
    """Return one name for each column, or None when no line before the numbers has as many entries."""
    plot = {match[1]: match[2] for line in lines if (match := _PLOT_COLUMN.match(line))}
    if len(plot) == width and all(str(i + 1) in plot for i in range(width)):
        return [re.sub(r"~~\d+$", "", plot[str(i + 1)]) for i in range(width)]
    for line in reversed(cells):
        names = [re.sub(r"^[#%!/]+\s*", "", line[0]), *line[1:]] if line else []
        if line and line[0] in _COMMENTS:
            names = line[1:]  # `# wavelength grass` delimiter by blanks
        if len(names) == width:
            return [_name(name) or f"spectrum {i}" for i, name in enumerate(names)]
    return None


# The beginning of a formula in a spreadsheet, also in full-width characters and after blanks.
_FORMULA = re.compile(r"'*\s*[=+\-@\t\r＝＋－＠]")

# Line ends of `str.splitlines`, and so of the reader; the code for each, and for a backslash before a code.
_BREAKS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
_CODE = re.compile(r"\\(?:x(0a|0d|0b|0c|1c|1d|1e|85|5c)|u(2028|2029))")


def _cell(name: str) -> str:
    """Return a name as a cell that a spreadsheet does not run and a reader does not split; `_name` inverts it.

    An apostrophe, which marks text in a spreadsheet, precedes anything that looks like a formula.
    """
    text = _CODE.sub(lambda match: r"\x5c" + match[0][1:], name)
    text = "".join((rf"\x{ord(c):02x}" if ord(c) < 256 else rf"\u{ord(c):04x}") if c in _BREAKS else c for c in text)
    return f"'{text}" if _FORMULA.match(name) else text


def _name(cell: str) -> str:
    """Return the name that `_cell` encoded."""
    text = _CODE.sub(lambda match: chr(int(match[1] or match[2], 16)), cell)
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def write_table(path: Path, spectra: Array, names: Sequence[str], wavelengths: Array | None) -> None:
    """Write spectra as the columns of a table, after the wavelengths or the band numbers. A file is replaced.

    A name that a spreadsheet would run as a formula gets a leading apostrophe, which `read_table` removes.

    Args:
        path: the file.
        spectra: (K, B).
        names: K names.
        wavelengths: (B,) nm, or None.
    """
    first = np.arange(spectra.shape[1]) if wavelengths is None else wavelengths
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        table = csv.writer(file)
        table.writerow(["band" if wavelengths is None else "wavelength_nm", *(_cell(str(name)) for name in names)])
        table.writerows(
            [f"{position:.10g}", *(f"{value:.8g}" for value in row)]
            for position, row in zip(first, spectra.T, strict=True)
        )
