"""ENVI header files: parse, interpret, format.

The format: a first line `ENVI`, then `name = value` lines; a value in braces may run over many lines; lines that
start with a semicolon are comments.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dequnmix_jax.bandaxis import nanometres
from dequnmix_jax.checks import InputError
from dequnmix_jax.scene import Array

# ENVI's numbers of the real data types; 6 and 9 are complex.
DATA_TYPES = {1: "u1", 2: "i2", 3: "i4", 4: "f4", 5: "f8", 12: "u2", 13: "u4", 14: "i8", 15: "u8"}
INTERLEAVES = ("bsq", "bil", "bip")

# What places a picture on the ground: passed through to the outputs word by word.
GROUND_FIELDS = (
    "map info",
    "coordinate system string",
    "projection info",
    "pixel size",
    "x start",
    "y start",
    "geo points",
    "rpc info",
)

# Longest header accepted. That of a 2000-band library with long names stays below 1 MB.
_LONGEST_HEADER = 64 * 2**20

Header = Mapping[str, str]


def find_header(path: Path) -> Path | None:
    """Return the header that belongs to a data file (`x.img.hdr` or `x.hdr`, in any case), or None."""
    for name in (f"{path.name}.hdr", f"{path.stem}.hdr"):
        for candidate in (name, name[:-4] + ".HDR"):
            if (path.parent / candidate).is_file():
                return path.parent / candidate
    return None


def read_header(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read an ENVI header file.

    Args:
        path: the .hdr file.

    Returns:
        Field names in lower case and their values as they stand in the file, braces included.

    Raises:
        InputError: the file is missing, is no ENVI header, or a brace is never closed.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _LONGEST_HEADER:
            raise InputError(
                f"{path} has {path.stat().st_size} bytes, too many for an ENVI header; pass the .hdr file."
            )
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); expected an ENVI header file.") from error
    text = raw.decode("utf-8-sig", errors="strict") if _is_utf8(raw) else raw.decode("latin-1")
    lines = text.splitlines()
    if not lines or not lines[0].strip().upper().startswith("ENVI"):
        raise InputError(f"{path} does not begin with the line ENVI; expected an ENVI header file.")
    header: dict[str, str] = {}
    rest = iter(enumerate(lines[1:], start=2))
    for number, line in rest:
        if line.lstrip().startswith(";") or "=" not in line:
            continue
        name, _, value = line.partition("=")
        value = value.strip()
        if value.startswith("{"):
            while "}" not in value:
                following = next(rest, None)
                if following is None:
                    raise InputError(
                        f"{path} opens a brace in line {number} ({name.strip()}) and never closes it; expected a "
                        "complete ENVI header. It may be truncated."
                    )
                value += "\n" + following[1]
        header[re.sub(r"\s+", " ", name.strip().lower())] = value.strip()
    return header


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return False
    return True


def number(header: Header, name: str, path: Path, default: int | None = None) -> int:
    """Return a whole-number field, or `default` when it is absent; raise InputError when it is neither."""
    text = header.get(name)
    if text is None:
        if default is None:
            raise InputError(f"{path} has no field '{name}'; expected a whole number there. Add it to the header.")
        return default
    try:
        value = int(text)
    except ValueError:
        raise InputError(f"{path} says '{name} = {text[:40]}'; expected a whole number.") from None
    if value < 0:
        raise InputError(f"{path} says '{name} = {value}'; expected a number that is not negative.")
    return value


def real(header: Header, name: str, path: Path) -> float | None:
    """Return a field as a float, or None when it is absent or empty; raise InputError when it is no number."""
    text = header.get(name, "").strip("{} \n")
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{path} says '{name} = {text[:40]}'; expected a number.") from None


def words(header: Header, name: str) -> tuple[str, ...]:
    """Return the entries of a list field, empty when it is absent."""
    text = header.get(name, "").strip().removeprefix("{").split("}")[0]
    entries = [entry.strip() for entry in text.split(",")]
    if entries and not entries[-1]:  # a comma after the last entry
        entries.pop()
    return tuple(entries)


def band_values(header: Header, name: str, bands: int, path: Path) -> Array | None:
    """Return a field of one number a band as (B,) float64, or None when it is absent; raise InputError otherwise."""
    entries = words(header, name)
    if not entries:
        return None
    try:
        values = np.array([float(entry) for entry in entries])
    except ValueError:
        raise InputError(f"{path} holds entries in '{name}' that are not numbers; expected {bands} numbers.") from None
    if values.size != bands:
        raise InputError(
            f"{path} lists {values.size} values in '{name}' and says 'bands = {bands}'; expected one value a band. "
            "Correct the header, or remove the field."
        )
    return values


def wavelengths(header: Header, bands: int, path: Path) -> tuple[Array | None, list[str]]:
    """Return the band centres in nanometres.

    Args:
        header: what `read_header` returned.
        bands: number of bands B.
        path: the header, for messages.

    Returns:
        (B,) float64 nm or None, and notes about a unit that was guessed.

    Raises:
        InputError: entries that are not numbers, or another number of them than bands.
    """
    values = band_values(header, "wavelength", bands, path)
    if values is None:
        return None, []
    return nanometres(values, header.get("wavelength units", ""), "The header")


def good_bands(header: Header, bands: int, path: Path) -> Array | None:
    """Return the bad band list `bbl` as (B,) bool, True for good, or None when there is none."""
    values = band_values(header, "bbl", bands, path)
    return None if values is None else values > 0.5  # written as 0/1, 0.0/1.0, and as small floats by some tools


def widths(header: Header, bands: int, path: Path, centres: Array | None, notes: list[str]) -> Array | None:
    """Return the field fwhm in nanometres, in the unit that the wavelengths turned out to have, or None.

    Args:
        header: what `read_header` returned.
        bands: number of bands B.
        path: the header, for messages.
        centres: (B,) nm, or None.
        notes: gets a sentence where widths were left out.

    Raises:
        InputError: entries that are not numbers, or another number of them than bands.
    """
    values = band_values(header, "fwhm", bands, path)
    listed = band_values(header, "wavelength", bands, path)
    if values is None or centres is None or listed is None:
        return None
    if not (np.isfinite(values) & (values > 0)).all():
        notes.append("The header gives widths (fwhm) that are not positive; they were left out.")
        return None
    if header.get("wavelength units", "").strip().lower() == "wavenumber":
        return centres**2 * values / 1e7  # d(1e7 / v) = 1e7 / v^2 dv
    return values * (1000.0 if centres.max() > 100 * listed.max() else 1.0)


def ground_fields(header: Header) -> dict[str, str]:
    """Return the fields that place the picture on the ground, as they stand."""
    return {name: header[name] for name in GROUND_FIELDS if name in header}


def braces(entries: Sequence[Any]) -> str:
    """Return a list value for a header; commas and braces inside entries, which ENVI cannot hold, become ; ( )."""
    table = str.maketrans({",": ";", "{": "(", "}": ")", "\n": " "})
    return "{\n " + ",\n ".join(str(entry).translate(table) for entry in entries) + "}"


def format_header(fields: Mapping[str, Any]) -> str:
    """Return the text of a header file; values are written as they are, in order."""
    return "ENVI\n" + "".join(f"{name} = {value}\n" for name, value in fields.items())
