"""Read a spectral library of any format: ENVI, CSV, or the text files of the USGS."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.io.envi import header as headers
from dequnmix_jax.io.envi import image
from dequnmix_jax.io.formats import TABLES
from dequnmix_jax.io.remote import as_place
from dequnmix_jax.io.units import SHORT
from dequnmix_jax.libraries import csv, records, usgs
from dequnmix_jax.libraries.library import Library, from_file, read_text
from dequnmix_jax.scenes.values import missing_value

Path_ = str | os.PathLike[str]


def read_library(
    path: Path_ | Sequence[Path_],
    *,
    wavelengths: Path_ | None = None,
    fwhm: Path_ | None = None,
    units: str = "",
    nodata: float | None = None,
    scale: float | None = None,
    sort: bool = False,
) -> Library:
    """Read named spectra on common bands.

    Formats: ENVI libraries (.sli, .lib) with their header; tables with a column of wavelengths and a column for each
    spectrum, or a row for each (CSV, also with semicolons, tabs or blanks, and ENVI plot files); and text files of one
    spectrum each: of the USGS libraries splib06 and splib07, of the ECOSTRESS and ASTER libraries, and of Spectra Vista
    spectrometers (.sig).

    Args:
        path: the file, an ENVI header, or a folder or a list of text files of one spectrum each (those of the USGS of
            one spectrometer).
        wavelengths: for splib07, the file of wavelengths; by default the matching file near the spectra.
        fwhm: for the USGS libraries, the file of bandpasses; by default the matching file near the spectra.
        units: for a table, "nm", "um", "angstrom" or "cm-1"; by default the file's unit, or else a guess from the
            values.
        nodata: value of missing entries, before scaling; overrides an ENVI header's data ignore value. NaN and the
            USGS's -1.23e34 are always missing.
        scale: divisor of the values; overrides an ENVI header's reflectance scale factor, gains and offsets. Some
            libraries hold reflectance times 10,000 under a factor of 1 (that of HySU).
        sort: sort the bands by wavelength, for overlapping spectrometers.

    Returns:
        A Library; its notes state what was assumed.

    Raises:
        InputError: a file is missing, damaged, truncated, or of another kind; header and file, or the files, disagree;
            the wavelengths are missing, do not increase, or have no known unit.

    Reference:
        Kokaly et al., USGS spectral library version 7, Data Series 1035, 2017; Clark et al., USGS digital spectral
        library splib06a, Data Series 231, 2007 (their text formats).
    """
    if units not in ("", *SHORT):
        raise InputError(f"units are {units!r}; expected {', '.join(map(repr, SHORT))}.")
    given = {"wavelengths": wavelengths, "fwhm": fwhm}
    bands = {name: None if value is None else as_place(value) for name, value in given.items()}
    if not isinstance(path, str | os.PathLike):
        many = [as_place(entry) for entry in path]
        if not many:
            raise InputError("The list of files is empty; expected at least one spectrum.")
        if all(entry.is_file() and records.looks_like_record(read_text(entry)) for entry in many):
            _not_for("a list of such spectra", {**bands, "units": units or None})
            return records.read_records(many, nodata=nodata, scale=scale, sort=sort)
        return usgs.read_usgs(many, **bands, scale=scale, sort=sort)
    path = as_place(path)
    if path.is_dir():
        single = records.records_of(path)
        if single:
            _not_for("a folder of such spectra", {**bands, "units": units or None})
            return records.read_records(single, nodata=nodata, scale=scale, sort=sort)
        files = usgs.spectra_of(path)
        return usgs.read_usgs(files, **bands, scale=scale, sort=sort)
    if not path.is_file():
        raise InputError(
            f"{path} does not exist; expected a spectral library (ENVI, CSV, or USGS, ECOSTRESS or ASTER text)."
        )
    # A table is recognised before a header, because endmembers.csv lies beside endmembers.sli and endmembers.hdr.
    table = path.suffix.lower() in TABLES
    if not table and (path.suffix.lower() == ".hdr" or headers.find_header(path) is not None):
        _not_for("an ENVI library", {**bands, "units": units or None})
        return _read_envi(path, nodata, scale, sort)
    lines = read_text(path)
    if usgs.looks_like_usgs(lines):
        _not_for("a USGS spectrum", {"units": units or None, "nodata": nodata})
        return usgs.read_usgs([path], **bands, scale=scale, sort=sort)
    if records.looks_like_record(lines):
        _not_for("a spectrum that names its units", {**bands, "units": units or None})
        return records.read_records([path], nodata=nodata, scale=scale, sort=sort)
    _not_for("a table", bands)
    return csv.read_table(path, nodata=nodata, scale=scale, units=units, sort=sort)


def _not_for(what: str, options: Mapping[str, object]) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise InputError(f"The file is {what}, to which {' and '.join(given)} does not apply; leave it out.")


def _read_envi(path: Path, nodata: float | None, scale: float | None, sort: bool) -> Library:
    values, names, header, header_path = image.library_values(path)
    bands = values.shape[1]
    centres, fwhm, notes = headers.spectral_axis(header, bands, header_path)
    if centres is None and notes:
        raise InputError(f"{header_path} gives no wavelengths: {notes[0]} Give them in nanometres or micrometres.")
    factor, linear, gain_notes = headers.conversion(header, bands, header_path, None, scale)
    return from_file(
        path,
        names,
        centres,
        np.asarray(values),
        fwhm,
        nodata=missing_value(nodata, headers.real(header, "data ignore value", header_path)),
        scale=factor,
        linear=linear,
        sort=sort,
        notes=(*notes, *gain_notes),
    )
