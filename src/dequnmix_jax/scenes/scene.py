"""A hyperspectral scene on the host: the cube and its metadata, none of which enters jit."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dequnmix_jax.checks import InputError, bands_named, check_count, check_cube, how_many, magnitude_problem
from dequnmix_jax.escaping import as_text, shown
from dequnmix_jax.scenes.georeference import Georeference

Array = np.ndarray[Any, Any]

# Snow and specular pixels exceed a reflectance of 1; integers scaled by 100 or 10,000 exceed it by far.
_LARGEST_REFLECTANCE = 1.5

_CUSTOMARY = 10000
"""By which products multiply reflectance to store it in 16 bits."""

USUAL_FILLS = (-9999.0, -999.0, -99999.0, -32768.0)
"""Values of missing entries that no measurement has, for files that do not declare one."""

LONGEST_WAVELENGTH = 1e6
"""Nanometres. No imaging spectrometer measures beyond a millimetre."""


def _band_values(values: Any, bands: int, name: str, dtype: Any) -> Array | None:
    if values is None:
        return None
    values = np.asarray(values, dtype)
    if values.shape != (bands,):
        raise InputError(
            f"{name} has shape {values.shape} and the cube has {how_many(bands, 'band')}; expected one value a band."
        )
    return values


def first_invalid_length(values: Array) -> int | None:
    """Return the first band whose wavelength or width is not above 0 and at most `LONGEST_WAVELENGTH`, or None."""
    with np.errstate(invalid="ignore"):
        lengths = np.asarray(values, np.float64)  # float16 does not reach the limit
        invalid = ~(np.isfinite(lengths) & (lengths > 0) & (lengths <= LONGEST_WAVELENGTH))
    return int(np.flatnonzero(invalid)[0]) if invalid.any() else None


def check_lengths(values: Array | None, name: str) -> None:
    """Raise InputError unless wavelengths or widths (B,) in nm are above 0 and at most a millimetre; None passes."""
    band = None if values is None else first_invalid_length(values)
    if values is not None and band is not None:
        raise InputError(
            f"{name} hold {values[band]:g} in band {band} (counted from 0); expected nanometres above 0 and at most "
            f"{LONGEST_WAVELENGTH:g}. Correct them, or leave them out."
        )


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Metadata:
    """What is known about a scene besides its values; the attributes are those of `Scene`."""

    wavelengths: Array | None = None
    good_bands: Array | None = None
    name: str = ""
    source: Path | None = None
    envi_fields: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    georeference: Georeference | None = None
    fwhm: Array | None = None

    @property
    def ground(self) -> Georeference | None:
        """The georeference, under its earlier name."""
        return self.georeference

    def metadata(self) -> dict[str, Any]:
        """Return the metadata by the names of the fields."""
        return {item.name: getattr(self, item.name) for item in fields(Metadata)}


@dataclass(frozen=True, eq=False, repr=False)
class Scene(Metadata):
    """A cube with its metadata; all fields but the cube and the mask are keywords.

    Attributes:
        cube: (H, W, B) float32, C order, reflectance or radiance; may be memory-mapped. A masked array of numpy keeps
            its mask: a pixel with a masked value in a good band is not valid.
        mask: (H, W) bool, True where the pixel is valid, or None when all pixels are valid.
        wavelengths: (B,) float64, nanometres, above 0 and at most 1e6, or None when unknown.
        good_bands: (B,) bool, False for bands to leave out, or None when unknown.
        name: a short name.
        source: the file it was read from, or None.
        envi_fields: the georeferencing fields of an ENVI header (`map info` and so on), copied to the outputs verbatim.
        georeference: coordinate reference system and transform, or None when the file has none or only ENVI's fields.
        fwhm: (B,) float64, full width at half maximum of the bands, nanometres, or None when unknown.
        notes: one sentence for each assumption made while reading.
    """

    cube: Array
    mask: Array | None = None

    def __post_init__(self) -> None:
        """Convert the arrays to their documented types; raise InputError if that is impossible."""
        set_field = object.__setattr__  # completes a frozen dataclass
        hidden = np.ma.getmaskarray(self.cube) if isinstance(self.cube, np.ma.MaskedArray) else None
        if hidden is not None:
            set_field(self, "cube", np.ma.getdata(self.cube))
        if hasattr(self.cube, "__array__"):  # an array of any library becomes a host array
            set_field(self, "cube", np.asarray(self.cube))
        check_cube(self.cube)
        set_field(self, "cube", np.ascontiguousarray(self.cube, np.float32))
        bands = self.cube.shape[2]
        for name in ("wavelengths", "fwhm"):
            values = _band_values(getattr(self, name), bands, name, np.float64)
            check_lengths(values, name)
            set_field(self, name, values)
        set_field(self, "good_bands", _band_values(self.good_bands, bands, "good_bands", np.bool_))
        if self.mask is not None:
            mask = np.asarray(self.mask, np.bool_)
            if mask.shape != self.cube.shape[:2]:
                raise InputError(
                    f"mask has shape {mask.shape} and the cube {self.cube.shape}; expected one value a pixel, "
                    f"{self.cube.shape[:2]}, True where the pixel is valid."
                )
            set_field(self, "mask", mask)
        if hidden is not None and hidden.any():
            valid = self.valid & ~hidden[:, :, _bands_in_use(self)].any(axis=2)
            # Masked values must be finite, because a mask multiplies and 0 * NaN is NaN.
            set_field(self, "cube", np.where(valid[:, :, None], self.cube, np.float32(0)))
            set_field(self, "mask", valid)
        if self.georeference is not None:
            self.georeference.check_fits(self.cube.shape[:2])
        set_field(self, "notes", tuple(self.notes))
        set_field(self, "name", as_text(self.name))

    def __repr__(self) -> str:
        height, width, bands = self.cube.shape
        nanometres = "no wavelengths"
        if self.wavelengths is not None:
            nanometres = f"{self.wavelengths.min():.4g} to {self.wavelengths.max():.4g} nm"
        bad = 0 if self.good_bands is None else int((~self.good_bands).sum())
        return (
            f"<Scene{f' {shown(self.name)}' if self.name else ''}: {height} x {width} pixels, "
            f"{how_many(bands, 'band')}{f' ({bad} bad)' if bad else ''}, {nanometres}, "
            f"{100 * (1 - self.valid.mean()):.3g} % masked, "
            f"{'georeferenced' if self.georeference or self.envi_fields else 'no georeference'}>"
        )

    @property
    def crs(self) -> str | None:
        """Return the coordinate reference system as WKT or as a code such as "EPSG:32632"; None when unknown."""
        crs = "" if self.georeference is None else self.georeference.crs
        return crs or self.envi_fields.get("coordinate system string", "").strip("{} \n") or None

    @property
    def valid(self) -> Array:
        """Return the (H, W) bool mask, all True when the scene has none."""
        return np.ones(self.cube.shape[:2], np.bool_) if self.mask is None else self.mask

    def with_good_bands(self) -> "Scene":
        """Return the scene restricted to its good bands.

        Returns:
            A Scene whose `good_bands` are all True; the scene itself when no band is marked bad.

        Raises:
            InputError: every band is marked bad.
        """
        good = self.good_bands
        if good is None or good.all():
            return self
        if not good.any():
            raise InputError(
                f"All {good.size} bands of {self.name or 'the scene'} are marked bad; expected at least one good one. "
                "Correct the bad band list (1 means good), or unmix without it."
            )
        return replace(
            self,
            cube=self.cube[:, :, good],
            wavelengths=None if self.wavelengths is None else self.wavelengths[good],
            fwhm=None if self.fwhm is None else self.fwhm[good],
            good_bands=good[good],
            notes=(
                *self.notes,
                f"{int((~good).sum())} of {good.size} bands left out: marked bad, ignored, or not asked for.",
            ),
        )

    def bands_nearest(self, *nanometres: float) -> tuple[int, ...]:
        """Return the bands nearest to the given wavelengths, for a colour composite.

        If the scene has no wavelengths, or so different ones that the nearest bands coincide, the bands are spread
        evenly over the range in the same order: the usual false-colour picture.

        Args:
            nanometres: wavelengths, nm; by default red, green and blue (640, 550, 460).

        Returns:
            One band index for each wavelength, good bands only.
        """
        wanted = np.asarray(nanometres or (640.0, 550.0, 460.0))
        bands = np.arange(self.cube.shape[2])
        if self.good_bands is not None and self.good_bands.any():
            bands = bands[self.good_bands]
        if self.wavelengths is not None:
            nearest = bands[np.abs(self.wavelengths[bands][None] - wanted[:, None]).argmin(axis=1)]
            if np.unique(nearest).size == np.unique(wanted).size or bands.size < wanted.size:
                return tuple(int(band) for band in nearest)
        ranks = wanted.argsort().argsort()
        spread = bands[((ranks + 0.5) / wanted.size * bands.size).astype(int)]
        return tuple(int(band) for band in spread)


def _listed(values: list[str], most: int = 5) -> str:
    return ", ".join(values[:most]) + (f" and {len(values) - most} more" if len(values) > most else "")


def _bands_in_use(scene: Scene) -> Array:
    good = scene.good_bands
    return np.ones(scene.cube.shape[2], np.bool_) if good is None or not good.any() else good


def check_scene(scene: Scene, *, count: int | None = None) -> list[str]:
    """Return warnings about a scene, one sentence each; raise InputError when it cannot be unmixed.

    Warnings concern constant bands, all-zero pixels, negative reflectance and reflectance above 1.5. They ignore bands
    marked bad; the check for NaN does not.

    Args:
        scene: the scene to unmix.
        count: number of endmembers R, or None.

    Returns:
        Sentences, empty when there is nothing to warn about.

    Raises:
        InputError: no valid pixel, or none that is not zero; NaN, infinity or values beyond all units in a valid pixel;
            fewer than two endmembers, more endmembers than bands or than valid pixels.
    """
    valid, cube = scene.valid, scene.cube
    label = scene.name or "the scene"
    if not valid.any():
        raise InputError(
            f"All {valid.size} pixels of {label} are masked; expected at least one valid pixel. Check the mask (True "
            f"means valid) and the nodata value. {MISSING_BAND}"
        )
    finite = np.isfinite(cube)
    bad = valid & ~finite.all(axis=2)
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        good = _bands_in_use(scene)
        empty = np.flatnonzero(~np.isfinite(cube[valid]).any(axis=0) & good)
        if 0 < empty.size < good.sum():
            raise InputError(
                f"{label} holds no finite value in {bands_named(empty)}; expected finite values in every valid pixel. "
                f"{leave_out_advice(empty, scene.wavelengths, scene.good_bands is not None)}"
            )
        cure = (
            "All of them lie in bands marked bad: use scene.with_good_bands()."
            if finite[valid][:, good].all() and not good.all()
            else "Leave them out by dq.scenes.mask_invalid(scene), of an array by "
            "dq.scenes.mask_invalid(dq.Scene(array)), or by nodata=nan when reading a file (--nodata nan)."
        )
        raise InputError(
            f"{label} holds NaN or infinite values in {int(bad.sum())} of {how_many(int(valid.sum()), 'valid pixel')}, "
            f"the first at row {row}, column {column}; expected finite values in every valid pixel. {cure}"
        )
    if count is not None:
        check_count(count, cube, valid)
    where = valid[:, :, None]
    good = _bands_in_use(scene)
    lowest = np.min(cube, axis=(0, 1), where=where, initial=np.inf)
    negative = (cube < 0) & where & good if lowest[good].min() < 0 else np.zeros((1, 1, 1), np.bool_)
    ranges = Ranges(
        valid=int(valid.sum()),
        lowest=lowest,
        highest=np.max(cube, axis=(0, 1), where=where, initial=-np.inf),
        zero=int((valid & ~nonzero(cube)).sum()),
        negative_pixels=int(negative.any(axis=2).sum()),
        negative_bands=int(negative.any(axis=(0, 1)).sum()),
    )
    check_ranges(label, ranges, good, divisor_in(scene.notes))
    return warnings_of(ranges, good, scene.wavelengths, divisor_in(scene.notes))


MISSING_BAND = (
    "A band that is missing in every pixel masks all of them: leave it out by its wavelength (--ignore FROM:TO)."
)


def leave_out_advice(bands: Array, wavelengths: Array | None, marked: bool, partly: bool = False) -> str:
    """Return advice on how to leave out empty bands.

    Args:
        bands: their numbers.
        wavelengths: (B,) nm, or None.
        marked: whether the scene has `good_bands` already.
        partly: whether some of their pixels are finite, less than half.
    """
    and_good = "scene.good_bands & " if marked else ""
    finite = "numpy.isfinite(scene.cube[scene.valid])"
    kept = f"{and_good}({finite}.mean(0) >= 0.5)" if partly else f"{and_good}{finite}.any(0)"
    code = f"dataclasses.replace(scene, good_bands={kept}).with_good_bands()"
    if wavelengths is None:
        return f"Leave {'it' if bands.size == 1 else 'them'} out: {code}."
    # Rounded outwards to a tenth of a nanometre, so the range contains the wavelength.
    low, high = (np.floor(wavelengths[bands] * 10) / 10, np.ceil(wavelengths[bands] * 10) / 10)
    options = " ".join(f"--ignore {a:.1f}:{b:.1f}" for a, b in zip(low, high, strict=True))
    return f"Leave {'it' if bands.size == 1 else 'them'} out when reading ({options}), or by {code}."


class Ranges(NamedTuple):
    """The ranges of the values of a scene.

    Attributes:
        valid: number of valid pixels.
        lowest, highest: (B,), over the valid pixels.
        zero: number of valid pixels that are zero in every band.
        negative_pixels, negative_bands: how many of them hold a negative value.
    """

    valid: int
    lowest: Array
    highest: Array
    zero: int
    negative_pixels: int
    negative_bands: int


def check_ranges(label: str, ranges: Ranges, good: Array, divisor: float | None = 1.0) -> None:
    """Raise InputError if all pixels are zero, or the largest value is one whose square float32 cannot hold.

    Args:
        label: name of the scene.
        ranges: of its values.
        good: (B,) bool, the bands to consider.
        divisor: by which the stored numbers were divided, or None if there is no single one.
    """
    if ranges.zero == ranges.valid:
        raise InputError(
            f"All {ranges.valid} valid pixels of {label} are zero in every band; expected measurements. Check the "
            "file, and which variable and which bands of it are read."
        )
    ends = np.concatenate([ranges.lowest[good], ranges.highest[good]])
    extreme = np.float32(ends[np.argmax(np.abs(ends))])
    largest, value = float(np.abs(extreme)), str(extreme)  # the shortest number that reads as the same
    problem = magnitude_problem(largest)
    if not problem:
        return
    fill = f" If {value} marks missing values, read with nodata={value} (--nodata={value})." if divisor == 1 else ""
    total = None if divisor is None else f"{10.0 ** int(np.ceil(np.log10(largest) - 1e-6)) * divisor:.10g}"
    cure = "correct its scale" if total is None else f"read with scale={total} (--scale {total})"
    raise InputError(
        f"{label} holds {problem}.{fill if largest > 1 else ''} If these are measurements in another unit, {cure}."
    )


_DIVIDED = re.compile(r"^Values were divided by ([-+.\w]+)\.$")
_MULTIPLIED = re.compile(r"^Values were multiplied by ([-+.\w]+)(?: and 0 added|, the scale in the file)")


def divisor_in(notes: Sequence[str]) -> float | None:
    """Return the divisor of the stored numbers that the notes of a scene tell; None if it differs between bands."""
    total = 1.0
    for note in notes:
        divided, multiplied = _DIVIDED.match(note), _MULTIPLIED.match(note)
        if divided or multiplied:
            factor = float((divided or multiplied)[1])  # type: ignore[index]
            total = total * factor if divided else total / factor
        elif note.startswith(("Values were multiplied", "Values were divided")):
            return None
    return total


def warnings_of(ranges: Ranges, good: Array, wavelengths: Array | None, divisor: float | None = 1.0) -> list[str]:
    """Return warnings about a scene, one sentence each; see `check_scene`.

    Args:
        ranges: of its values.
        good: (B,) bool, the bands to consider.
        wavelengths: (B,) nm, or None.
        divisor: by which the stored numbers were divided, or None if there is no single one.
    """
    bands = np.flatnonzero(good)
    lowest, highest = ranges.lowest[bands], ranges.highest[bands]
    warnings = []
    constant = bands[lowest == highest]
    if constant.size and ranges.valid > 1:
        named = [f"{b}" if wavelengths is None else f"{b} ({wavelengths[b]:.1f} nm)" for b in constant]
        warnings.append(
            f"{constant.size} band{'s are' if constant.size > 1 else ' is'} constant over all valid pixels, without "
            f"information about mixtures: {_listed(named)} (counted from 0)."
        )
    if ranges.zero:
        warnings.append(
            f"{ranges.zero} of {how_many(ranges.valid, 'valid pixel')} {'is' if ranges.zero == 1 else 'are'} zero in "
            "every band and have no abundances; leave them out by dq.scenes.mask_invalid(scene) (--nodata 0)."
        )
    if lowest.min() < 0:
        filled = next((f"{value:g}" for value in USUAL_FILLS if value in lowest), None)
        advice = f" If {filled} marks missing values, read with nodata={filled} (--nodata={filled})." if filled else ""
        warnings.append(
            f"Reflectance is negative in {how_many(ranges.negative_pixels, 'pixel')} and "
            f"{how_many(ranges.negative_bands, 'band')}, down to {lowest.min():.4g}; it is used unchanged, although no "
            f"mixture of reflectances is negative.{advice}"
        )
    if highest.max() > _LARGEST_REFLECTANCE:
        # The suggested divisor is the next power of ten: 8141 is reflectance times 10,000. So is 11752, a bright pixel
        # or cloud, because products use 10,000 and not 100,000.
        factor = 10 ** int(np.ceil(np.log10(highest.max())))
        total = None if divisor is None else f"{factor * divisor:.10g}"
        if divisor is not None and _CUSTOMARY < highest.max() * divisor <= _LARGEST_REFLECTANCE * _CUSTOMARY:
            total = f"{_CUSTOMARY:.10g}"
        advice = "" if total is None else f" For reflectance times {total}, read with scale={total} (--scale {total})."
        warnings.append(
            f"Values reach {highest.max():.6g}, and reflectance stays below {_LARGEST_REFLECTANCE}; these look like "
            f"scaled integers or radiance.{advice}"
        )
    return warnings


def nonzero(values: Array) -> Array:
    """Return which pixels of (..., B) have a nonzero value in some band; NaN counts as nonzero."""
    with np.errstate(invalid="ignore"):  # numpy warns about a signalling NaN, which a damaged file may hold
        return np.asarray(values.any(axis=-1))


def mask_invalid(scene: Scene) -> Scene:
    """Mask the pixels that are zero in every band or hold NaN or infinity, and set their values to 0.

    Args:
        scene: any scene. Leave out bands that are bad everywhere first, by `with_good_bands`.

    Returns:
        The scene with the reduced mask and a note; the scene itself when no pixel is invalid.

    Raises:
        InputError: no valid pixel remains.
    """
    finite = np.isfinite(scene.cube).all(axis=2)
    zero = ~nonzero(scene.cube)
    invalid = scene.valid & (~finite | zero)
    if not invalid.any():
        return scene
    mask = scene.valid & ~invalid
    if not mask.any():
        share = np.isfinite(scene.cube[scene.valid]).mean(axis=0)
        empty = np.flatnonzero(share == 0)
        empty = empty if empty.size else np.flatnonzero(share < 0.5)
        cure = ""
        if 0 < empty.size < scene.cube.shape[2]:
            partly = bool(share[empty].any())
            advice = leave_out_advice(empty, scene.wavelengths, scene.good_bands is not None, partly)
            what = "Less than half of the pixels are" if partly else "Nothing is"
            cure = f" {what} finite in {bands_named(empty)}. {advice}"
        raise InputError(
            f"All {mask.size} pixels of {scene.name or 'the scene'} are masked, zero, NaN or infinite; expected at "
            f"least one valid pixel.{cure}"
        )
    zeros, others = int((invalid & zero).sum()), int((invalid & ~zero).sum())
    note = f"Masked {how_many(zeros, 'all-zero pixel')} and {others} with NaN or infinite values."
    # Masked values must be finite, because a mask multiplies and 0 * NaN is NaN.
    cube = np.where(mask[:, :, None], scene.cube, np.float32(0))
    return replace(scene, cube=cube, mask=mask, notes=(*scene.notes, note))
