"""Spectral libraries on the host: named spectra on common bands, NaN where a value is missing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError, how_many
from dequnmix_jax.io.bands import LONGEST_UNNAMED, spectral_axis
from dequnmix_jax.io.units import unit_in
from dequnmix_jax.scenes.scene import USUAL_FILLS, Array, check_lengths

LARGEST_FILE = 256 * 2**20
"""Bytes of the largest text library accepted; 2000 spectra in 2151 bands take a fifth of that."""

_LARGEST_MICROMETRES = 100.0  # as for images: bands lie between 0.2 and 100 micrometres
_LARGEST_NANOMETRES = 100_000.0

_LOWEST = -10.0

DELETED = -1.23e34
"""The USGS libraries' value of deleted entries. Values below a tenth of it count too, because of rounding."""


@dataclass(frozen=True, eq=False, repr=False)
class Library:
    """Named spectra on common bands.

    Attributes:
        names: N names.
        wavelengths_nm: (B,) float64, band centres, nanometres.
        spectra: (N, B) float32, one spectrum a row, NaN where a value is missing.
        fwhm_nm: (B,) float64, full width at half maximum of the bands, nanometres, or None when unknown.
        source: the file it was read from, or None.
        notes: one sentence for each assumption made while reading.
        columns: further words about each spectrum, such as its class: N of them under the name of each column.
    """

    names: tuple[str, ...]
    wavelengths_nm: Array
    spectra: Array
    fwhm_nm: Array | None = None
    source: Path | None = None
    notes: tuple[str, ...] = ()
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Convert the fields to their documented types; raise InputError if that is impossible."""
        spectra = np.asarray(self.spectra)
        if spectra.ndim != 2 or 0 in spectra.shape or spectra.dtype.kind not in "biuf":
            raise InputError(
                f"The spectra have shape {spectra.shape} and type {spectra.dtype}; expected real numbers, (spectra, "
                "bands), at least one of each."
            )
        names = tuple(str(name) for name in self.names)
        if len(names) != len(spectra):
            raise InputError(
                f"{how_many(len(spectra), 'spectrum')} and {how_many(len(names), 'name')} are given; expected one name "
                "a spectrum."
            )
        set_field = object.__setattr__  # completes a frozen dataclass
        set_field(self, "names", names)
        with np.errstate(over="ignore", invalid="ignore"):  # values beyond float32 become infinite: unknown
            set_field(self, "spectra", np.ascontiguousarray(spectra, np.float32))
        set_field(self, "wavelengths_nm", band_positions(self.wavelengths_nm, spectra.shape[1], "wavelengths"))
        if self.fwhm_nm is not None:
            set_field(self, "fwhm_nm", band_positions(self.fwhm_nm, spectra.shape[1], "fwhm"))
        set_field(self, "notes", tuple(self.notes))
        set_field(self, "columns", {str(key): tuple(map(str, words)) for key, words in self.columns.items()})
        for key, words in self.columns.items():
            if len(words) != len(names):
                raise InputError(
                    f"The column {key!r} has {how_many(len(words), 'entry')} for {how_many(len(names), 'spectrum')}; "
                    "expected one a spectrum."
                )

    def __repr__(self) -> str:
        low, high = self.wavelengths_nm.min(), self.wavelengths_nm.max()
        return (
            f"<Library: {how_many(len(self.names), 'spectrum')} in {how_many(self.wavelengths_nm.size, 'band')}, "
            f"{low:.4g} to {high:.4g} nm>"
        )

    @property
    def valid(self) -> Array:
        """Return which values are known, (N, B) bool."""
        return np.isfinite(self.spectra)


def band_positions(values: Any, bands: int, what: str) -> Array:
    """Return one positive, finite number for each band as float64, or raise InputError."""
    try:
        positions = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"The {what} are {type(values).__name__}; expected {bands} numbers in nanometres.") from None
    if positions.shape != (bands,):
        raise InputError(f"The {what} have shape {positions.shape}; expected one value for each of {bands} bands.")
    check_lengths(positions, f"The {what}")
    return positions


def from_file(
    path: Path,
    names: tuple[str, ...],
    wavelengths_nm: Array | None,
    spectra: Array,
    fwhm_nm: Array | None = None,
    *,
    nodata: float | None = None,
    scale: float | None = None,
    linear: tuple[Array, Array] | None = None,
    sort: bool = False,
    notes: tuple[str, ...] = (),
    columns: Mapping[str, tuple[str, ...]] | None = None,
) -> Library:
    """Return the contents of a file as a Library: scaled, sorted by wavelength, NaN for missing values.

    Args:
        path: the file, for messages.
        names, wavelengths_nm, spectra, fwhm_nm, notes, columns: its contents; `wavelengths_nm` is None if it has none.
        nodata: value of missing entries, before scaling; the USGS's value is always missing.
        scale: divisor of the values.
        linear: gains and offsets (B,) each, of value = stored * gain + offset, or None.
        sort: sort the bands by wavelength.

    Raises:
        InputError: wavelengths are missing or not sorted, or a scale is not positive.
    """
    if wavelengths_nm is None:
        raise InputError(f"{path} has no wavelengths; expected one for each band. Add them to the file.")
    if scale is not None and not (scale > 0 and np.isfinite(scale)):
        raise InputError(f"The scale is {scale}; expected a positive number to divide by, such as 10000.")
    with np.errstate(invalid="ignore"):  # numpy warns about a signalling NaN, which a damaged file may hold
        values = np.asarray(spectra, np.float64)
    missing = ~np.isfinite(values) | (values < DELETED / 10)
    all_notes = list(notes)
    if nodata is not None:
        missing |= np.isclose(values, nodata, rtol=1e-6, atol=0.0)
    elif (fills := np.isin(values, USUAL_FILLS)).any() and values[~missing & ~fills].min(initial=0.0) > _LOWEST:
        found = ", ".join(f"{value:g}" for value in np.unique(values[fills]))
        all_notes.append(f"No value of missing entries is declared; {found} was taken for one.")
        missing |= fills
    if missing.any():
        all_notes.append(f"{int(missing.sum())} of {missing.size} values are missing and became NaN.")
    with np.errstate(over="ignore"):
        if scale not in (None, 1):
            values = values / scale
            all_notes.append(f"Values were divided by {scale:g}.")
        if linear is not None:
            values = values * linear[0] + linear[1]
    if np.isinf(values[~missing]).any():
        raise InputError(
            f"The values of {path}, divided by its scale or multiplied by its gains, are beyond all numbers; expected "
            "reflectance. Pass scale=1, or another divisor."
        )
    values = np.where(missing, np.nan, values)
    step = np.diff(wavelengths_nm)
    if wavelengths_nm.size > 1 and (step < 0).all():
        sort = True  # from long to short, as wavenumbers are listed
        all_notes.append("The bands ran from long to short wavelengths and were reversed.")
    elif not (step > 0).all():
        at = int(np.flatnonzero(~(step > 0))[0])
        if not sort or np.unique(wavelengths_nm).size < wavelengths_nm.size:
            raise InputError(
                f"The wavelengths of {path} do not increase: {wavelengths_nm[at]:g} nm is followed by "
                f"{wavelengths_nm[at + 1]:g} nm; expected each band once, from short to long. Remove bands that occur "
                "twice, and pass sort=True (--sort) where spectrometers overlap."
            )
        all_notes.append("The bands were sorted by wavelength.")
    if sort:
        order = np.argsort(wavelengths_nm, kind="stable")
        wavelengths_nm, values = wavelengths_nm[order], values[:, order]
        fwhm_nm = None if fwhm_nm is None else fwhm_nm[order]
    return Library(names, wavelengths_nm, values, fwhm_nm, path, tuple(all_notes), columns or {})


def positions(
    values: Array, unit: str, path: Path, widths: Array | None = None, width_unit: str = "", *, sure: bool = False
) -> tuple[Array, Array | None, list[str]]:
    """Return wavelengths and widths in nanometres, and notes on what was assumed.

    Args:
        values: (B,) wavelengths or wavenumbers, as stored.
        unit: a text that names the unit, or none.
        path: the file, for messages.
        widths: (B,) full widths at half maximum, or None.
        width_unit: a text that names their unit; by default that of the wavelengths.
        sure: the unit is the user's, and is not corrected.

    Raises:
        InputError: the unit is unknown and the values are not wavelengths in either unit, or the text names two units.
    """
    named = unit_in(unit, str(path))
    notes = []
    if not named:
        low, high = float(np.min(values)), float(np.max(values))
        if LONGEST_UNNAMED < high <= _LARGEST_NANOMETRES and low > _LARGEST_MICROMETRES:
            raise InputError(
                f"The wavelengths of {path} run from {low:g} to {high:g} and no unit is given; they may be nanometres, "
                "angstroms or wavenumbers (1/cm). Name the unit in the header, as in wavelength_nm, or pass "
                "units='nm', 'angstrom' or 'cm-1' (--units)."
            )
        if low > 0 and high <= _LARGEST_MICROMETRES:
            named = "micrometres"
        elif low > _LARGEST_MICROMETRES and high <= _LARGEST_NANOMETRES:
            named = "nanometres"
        else:
            raise InputError(
                f"The wavelengths of {path} run from {low:g} to {high:g} and no unit is given; expected nanometres "
                "(100 to 100000) or micrometres (0 to 100). Name the unit in the header, as in wavelength_nm, or pass "
                "units='um' (--units um)."
            )
        notes.append(f"No unit is given for the wavelengths; {named} were assumed, {low:g} to {high:g}.")
    centres, fwhm, more = spectral_axis(values, named, path.name, widths, width_unit, sure=sure)
    if centres is None:
        raise InputError(f"{path} gives no wavelengths: {more[0]} Correct them, or name their unit.")
    return centres, fwhm, notes + more


def read_text(path: Path) -> list[str]:
    """Return the lines of a text file in UTF-8 or else Latin-1.

    Raises:
        InputError: the file is missing, a folder, empty, too large, or not text.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise InputError(f"{path} has {size} bytes, too many for a text library; expected at most {LARGEST_FILE}.")
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); expected a spectral library.") from error
    if b"\0" in raw[:4096]:
        raise InputError(
            f"{path} is not text and has no ENVI header beside it; expected CSV, USGS text, or an ENVI library with "
            f"{path.stem}.hdr. Copy both files together."
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    lines = text.splitlines()
    if not any(line.strip() for line in lines):
        raise InputError(f"{path} is empty; expected a spectral library. Copy it again.")
    return lines
