"""ENVI header files: parse, interpret, format.

The format: a first line `ENVI`, then `name = value` lines; a value in braces may run over many lines; lines that
start with a semicolon are comments.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dequnmix_jax.checks import InputError, how_many
from dequnmix_jax.io.bands import spectral_axis as bands_of
from dequnmix_jax.io.remote import as_place
from dequnmix_jax.io.units import lengths_in_names
from dequnmix_jax.scenes.scene import Array

# ENVI's codes of the real data types; 6 and 9 are complex.
DATA_TYPES = {1: "u1", 2: "i2", 3: "i4", 4: "f4", 5: "f8", 12: "u2", 13: "u4", 14: "i8", 15: "u8"}
INTERLEAVES = ("bsq", "bil", "bip")

# Fields that georeference a picture: copied to the outputs verbatim.
GEOREFERENCING_FIELDS = (
    "map info",
    "coordinate system string",
    "projection info",
    "pixel size",
    "x start",
    "y start",
    "geo points",
    "rpc info",
)

# Fields that change what is read: given twice with different values, they are refused.
_ONCE = frozenset(
    (*GEOREFERENCING_FIELDS, "samples", "lines", "bands", "header offset", "file type", "data type", "interleave",
     "byte order", "file compression", "wavelength", "wavelength units", "fwhm", "bbl", "data ignore value",
     "reflectance scale factor", "data gain values", "data offset values", "data reflectance gain values",
     "data reflectance offset values", "saturation value", "major frame offsets", "minor frame offsets")
)  # fmt: skip

# Bytes of the longest header accepted. That of a library in 2000 bands with long names stays below 1 MB.
_LONGEST_HEADER = 64 * 2**20

Header = Mapping[str, str]


def find_header(path: Path) -> Path | None:
    """Return the header that belongs to a data file (`x.img.hdr` or `x.hdr`, in any case), or None.

    ESRI's headers have the same names and are passed over.
    """
    for name in (f"{path.name}.hdr", f"{path.stem}.hdr"):
        for candidate in (name, name[:-4] + ".HDR"):
            header = path.parent / candidate
            if header.is_file() and not is_esri_header(header):
                return header
    return None


def is_esri_header(path: Path) -> bool:
    """Return whether a .hdr file is ESRI's, which describes raw files and lies beside some exported TIFF files."""
    try:
        with path.open("rb") as file:
            lines = file.read(4096).decode("latin-1").upper().splitlines()
    except OSError:
        return False
    first = {line.split()[0] for line in lines if line.split()}
    return {"NROWS", "NCOLS"} <= first and not lines[0].strip().startswith("ENVI")


def read_header(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read an ENVI header file.

    Args:
        path: the .hdr file.

    Returns:
        Field names in lower case and their values as text, braces included.

    Raises:
        InputError: the file is missing, is not an ENVI header, or a brace is never closed.
    """
    path = as_place(path)
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
        field, value = re.sub(r"\s+", " ", name.strip().lower()), value.strip()
        if field in _ONCE and header.get(field, value) != value:
            raise InputError(
                f"{path} gives '{field}' twice, as '{_short(header[field])}' and as '{_short(value)}' in line "
                f"{number}; expected one of the two. Remove the wrong one."
            )
        header[field] = value
    return header


def _short(value: str) -> str:
    text = " ".join(value.split())
    return text if len(text) <= 40 else f"{text[:37]}..."


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return False
    return True


def number(header: Header, name: str, path: Path, default: int | None = None) -> int:
    """Return a whole-number field, or `default` when it is absent; raise InputError for anything else."""
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
    """Return a field as a float, or None when it is absent or empty; raise InputError when it is not a number."""
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
    """Return a field with one number for each band as (B,) float64, or None when it is absent."""
    entries = words(header, name)
    if not entries:
        return None
    try:
        values = np.array([float(entry) for entry in entries])
    except ValueError:
        raise InputError(
            f"{path} holds entries in '{name}' that are not numbers; expected {how_many(bands, 'number')}."
        ) from None
    if values.size != bands:
        raise InputError(
            f"{path} lists {how_many(values.size, 'value')} in '{name}' and says 'bands = {bands}'; expected one value "
            "a band. Correct the header, or remove the field."
        )
    return values


def spectral_axis(header: Header, bands: int, path: Path) -> tuple[Array | None, Array | None, list[str]]:
    """Return the band centres and the field fwhm in nanometres.

    Without the field `wavelength`, the wavelengths in `band names` are taken.

    Args:
        header: from `read_header`.
        bands: number of bands B.
        path: the header, for messages.

    Returns:
        (B,) float64 nm or None; the widths, which have the unit of the wavelengths, or None; and notes about a unit
        that was guessed and widths that were left out.

    Raises:
        InputError: entries that are not numbers, or not one for each band.
    """
    values = band_values(header, "wavelength", bands, path)
    unit, notes = header.get("wavelength units", ""), []
    if values is None:
        names = words(header, "band names")
        named = lengths_in_names(list(names)) if len(names) == bands else None
        if named is None:
            return None, None, []
        values, unit = named
        notes = ["The header has no field 'wavelength'; the wavelengths in its band names were taken."]
    centres, fwhm, unit_notes = bands_of(values, unit, "The header", band_values(header, "fwhm", bands, path))
    return centres, fwhm, [*notes, *unit_notes]


def wavelengths(header: Header, bands: int, path: Path) -> tuple[Array | None, list[str]]:
    """Return the band centres in nanometres and notes; see `spectral_axis`."""
    centres, _, notes = spectral_axis(header, bands, path)
    return centres, notes


def good_bands(header: Header, bands: int, path: Path) -> Array | None:
    """Return the bad band list `bbl` as (B,) bool, True for good, or None when it is absent."""
    values = band_values(header, "bbl", bands, path)
    return None if values is None else values > 0.5  # some tools write 0 as a small float


class Linear(NamedTuple):
    """Conversion of stored numbers, value = stored * gain + offset, band by band; (B,) float64 each."""

    gains: Array
    offsets: Array


# The words before "gain values" and "offset values"; reflectance has precedence over radiance.
_CONVERSIONS = ("data reflectance", "data")


def conversion(
    header: Header, bands: int, path: Path, good: Array | None, scale: float | None
) -> tuple[float | None, Linear | None, list[str]]:
    """Return the divisor of the stored numbers, or their gains and offsets, by the fields of a header.

    value = stored * gain + offset, band by band, from `data reflectance gain values` and `data reflectance offset
    values`, or else from `data gain values` and `data offset values`; a missing gain is 1, a missing offset 0, and a
    single number applies to all bands. Without these fields value = stored / (reflectance scale factor).

    Args:
        header: from `read_header`.
        bands: number of bands B.
        path: the header, for messages.
        good: (B,) bool or None; a band marked bad may have a gain of 0.
        scale: the user's divisor, which overrides all of these, or None.

    Returns:
        The divisor or None, gains and offsets or None (never both), and notes on the fields used and ignored.

    Raises:
        InputError: gains that are not numbers, not one for each band, not finite, or 0 in a good band; or a reflectance
            scale factor that contradicts them.
    """
    if scale is not None:
        given = [name for word in _CONVERSIONS for name in _fields_of(word) if words(header, name)]
        listed = "', '".join(given)
        note = f"The header's '{listed}' were not applied, because a scale is given."
        return scale, None, [note] if given else []
    factor = real(header, "reflectance scale factor", path)
    conversions = [(word, linear) for word in _CONVERSIONS if (linear := _linear(header, word, bands, path, good))]
    if not conversions:
        return factor, None, []
    word, linear = conversions[0]
    low, high = linear.gains.min(), linear.gains.max()
    same = factor is not None and np.allclose(linear.gains * factor, 1.0, rtol=1e-5) and not linear.offsets.any()
    if factor is not None and factor != 1 and not same:
        raise InputError(
            f"{path} says 'reflectance scale factor = {factor:g}', and '{word} gain values' of {_span(low, high)} with "
            f"offsets of {_span(linear.offsets.min(), linear.offsets.max())}; expected one of the two, or gains of "
            f"{1 / factor:g} without offsets. Remove the wrong one from the header, or pass scale to divide by "
            "(--scale NUMBER), which overrides both."
        )
    if same:  # both fields agree
        return factor, None, []
    offsets = linear.offsets
    notes = [
        f"Values were multiplied by {_span(low, high)} and {_span(offsets.min(), offsets.max())} added, band by band, "
        f"by '{word} gain values' and '{word} offset values' of the header."
    ]
    notes += [f"The header's '{other} gain values' were not applied beside these." for other, _ in conversions[1:]]
    return None, linear, notes


def _fields_of(word: str) -> tuple[str, str]:
    return f"{word} gain values", f"{word} offset values"


def _span(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _linear(header: Header, word: str, bands: int, path: Path, good: Array | None) -> Linear | None:
    """Return gains and offsets of the fields that begin with a word, or None if they are missing or the identity."""
    columns = []
    for name, default in zip(_fields_of(word), (1.0, 0.0), strict=True):
        listed = words(header, name)
        values = band_values(header, name, 1 if len(listed) == 1 else bands, path)
        columns.append(np.full(bands, default if values is None else values[0]) if len(listed) <= 1 else values)
    gains, offsets = columns
    assert gains is not None and offsets is not None  # `band_values` returns None only for an empty list
    if (gains == 1).all() and (offsets == 0).all():
        return None
    used = np.ones(bands, np.bool_) if good is None else good
    wrong = ~np.isfinite(gains) | ~np.isfinite(offsets) | ((gains == 0) & used)
    if wrong.any():
        band = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"{path} says gain {gains[band]:g} and offset {offsets[band]:g} of band {band + 1} in '{word} gain values' "
            f"and '{word} offset values'; expected finite numbers, and no gain of 0 in a good band. Correct the "
            "header, or pass scale to divide by (--scale NUMBER), which overrides them."
        )
    return Linear(gains, offsets)


def georeferencing_fields(header: Header) -> dict[str, str]:
    """Return the fields that georeference the picture, verbatim."""
    return {name: header[name] for name in GEOREFERENCING_FIELDS if name in header}


def braces(entries: Sequence[Any]) -> str:
    """Return a list value for a header; commas and braces inside entries, which ENVI does not allow, become ; ( )."""
    table = str.maketrans({",": ";", "{": "(", "}": ")", "\n": " "})
    return "{\n " + ",\n ".join(str(entry).translate(table) for entry in entries) + "}"


def format_header(fields: Mapping[str, Any]) -> str:
    """Return the text of a header file; values are written verbatim, in order."""
    return "ENVI\n" + "".join(f"{name} = {value}\n" for name, value in fields.items())
