"""Read GeoTIFF: bands, their wavelengths from any of the usual places, masks, scales and the georeference.

Wavelengths are taken from the first of these places in which every band has one:

| place | written by |
| --- | --- |
| band metadata CENTRAL_WAVELENGTH_UM and FWHM_UM in the domain IMAGERY | GDAL from 3.10 |
| band metadata wavelength, wavelength_units, fwhm, bbl | GDAL from ENVI files, EnMAP-Box |
| metadata wavelength, wavelength_units, fwhm, bbl of the whole file, plain or in the domain ENVI | the same |
| band descriptions such as "450.0 nm" or "band 19 (0.513 Micrometers)" | GDAL, QGIS, many scripts |
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.io import georaster
from dequnmix_jax.io.bands import bands_to_use, spectral_axis
from dequnmix_jax.io.remote import Remote, as_place
from dequnmix_jax.io.units import lengths_in_names
from dequnmix_jax.scenes.georeference import Georeference
from dequnmix_jax.scenes.read_options import ReadOptions
from dequnmix_jax.scenes.scene import Array
from dequnmix_jax.scenes.source import Source, Stored, Window
from dequnmix_jax.scenes.values import check_declared, mask_nodata, missing_value

# Bytes of a block of rows: file and cube are not in memory at the same time.
_BLOCK = 64 * 2**20


def outline(path: Path) -> tuple[tuple[int, int, int], Georeference | None]:
    """Return the shape (H, W, B) of all bands, and the georeference.

    Raises:
        InputError: the file cannot be read, or rasterio is not installed.
    """
    with georaster.opened(path, driver="GTiff") as file:
        return (file.height, file.width, file.count), georaster.georeference_of(file)


def values(path: Path, window: Window | None = None) -> Array:
    """Return the stored values of all bands, (H, W, B), or those in a window.

    Raises:
        InputError: the file cannot be read, or rasterio is not installed.
    """
    with georaster.opened(path, driver="GTiff") as file:
        return _read(file, list(file.indexes), path, window)


def _read(file: Any, bands: list[int], path: Path, window: Window | None = None) -> Array:
    kinds = {np.dtype(kind) for kind in file.dtypes}
    if any(kind.kind not in "iuf" for kind in kinds):
        names = ", ".join(sorted(kind.name for kind in kinds))
        raise InputError(f"{file.name} holds {names}; expected real numbers in every band.")
    dtype = np.result_type(*kinds)
    shape = (file.height, file.width, len(bands))
    if not isinstance(path, Remote):
        parts = [part for part in {path, *map(Path, file.files)} if part.is_file()]  # of a virtual raster
        check_declared(shape, dtype.itemsize, sum(part.stat().st_size for part in parts), path)
    area = Window(slice(0, file.height), slice(0, file.width)) if window is None else window
    cube = np.empty((*area.shape, len(bands)), dtype)
    begin, end, columns = area.rows.start, area.rows.stop, (area.columns.start, area.columns.stop)
    rows = max(1, _BLOCK // (area.shape[1] * len(bands) * dtype.itemsize))
    rows = -(-rows // file.block_shapes[0][0]) * file.block_shapes[0][0]  # whole strips or tiles
    first = begin
    while first < end:
        last = min((first // rows + 1) * rows, end)
        window_of = ((first, last), columns)
        if len(kinds) == 1:
            block = file.read(bands, window=window_of)
        else:  # bands of a virtual raster
            block = np.stack([file.read(band, window=window_of) for band in bands]).astype(dtype)
        cube[first - begin : last - begin] = block.transpose(1, 2, 0)
        first = last
    return cube


def _lower(tags: dict[str, str]) -> dict[str, str]:
    return {name.lower().replace(" ", "_"): text for name, text in tags.items()}


def _number(text: str | None) -> float:
    try:
        return float(text) if text is not None else np.nan
    except ValueError:
        return np.nan


def _listed(text: str | None, count: int) -> Array:
    entries = (text or "").strip().strip("{}").split(",")
    values = np.array([_number(entry) for entry in entries])
    return values if values.size == count else np.full(count, np.nan)


class _Spectral:
    """Spectral metadata of an open file; an array is None unless every band has a value."""

    def __init__(self, file: Any, bands: list[int]) -> None:
        count = len(bands)
        whole = _lower(file.tags()) | _lower(file.tags(ns="ENVI"))
        own = [_lower(file.tags(band)) | _lower(file.tags(band, ns="ENVI")) for band in bands]
        imagery = [_lower(file.tags(band, ns="IMAGERY")) for band in bands]

        def each(tags: list[dict[str, str]], name: str) -> Array:
            return np.array([_number(entry.get(name)) for entry in tags])

        described = lengths_in_names([file.descriptions[band - 1] or "" for band in bands])
        candidates: list[tuple[Array, Array, str]] = [
            (each(imagery, "central_wavelength_um"), each(imagery, "fwhm_um"), "um"),
            (each(own, "wavelength"), each(own, "fwhm"), own[0].get("wavelength_units", "")),
            (_listed(whole.get("wavelength"), count), _listed(whole.get("fwhm"), count),
             whole.get("wavelength_units", "")),
        ]  # fmt: skip
        if described is not None:
            candidates.append((described[0], np.full(count, np.nan), described[1]))
        self.wavelengths: Array | None = None
        self.fwhm: Array | None = None
        self.notes: list[str] = []
        for centres, widths, unit in candidates:
            if np.isnan(centres).any():
                continue
            listed = None if np.isnan(widths).any() else widths
            self.wavelengths, self.fwhm, notes = spectral_axis(centres, unit, widths=listed)
            self.notes += notes
            if self.wavelengths is not None:
                break
        good = each(own, "bbl")
        if not np.isfinite(good).all():
            good = _listed(whole.get("bbl"), count)
        self.good = good > 0.5 if np.isfinite(good).all() else None
        self.scale = _number(whole.get("reflectance_scale_factor"))
        self.saturation = _number(whole.get("saturation_value"))


def open_image(path: str | os.PathLike[str], options: ReadOptions, *, driver: str = "GTiff") -> Source:
    """Open a GeoTIFF, or another raster of GDAL.

    An alpha band, a mask band and the nodata value of every band become the mask.

    Args:
        path: the file; needs the extra `geo`.
        options: nodata overrides the file's own values in all bands, scale its scales and offsets, saturation its
            metadata `saturation_value`.
        driver: of GDAL.

    Returns:
        A Source with coordinate reference system and transform.

    Raises:
        InputError: the file is damaged or complex, or rasterio is not installed.
    """
    path = as_place(path)
    nodata, scale, saturation = options.nodata, options.scale, options.saturation
    with georaster.opened(path, driver=driver) as file:
        origins = [Path(name).name for name in file.files if Path(name) != path] if driver == "VRT" else []
        alphas = [band for band, kind in zip(file.indexes, file.colorinterp, strict=True) if kind.name == "alpha"]
        bands = [band for band in file.indexes if band not in alphas]
        if not bands:
            raise InputError(f"{path} holds nothing but alpha bands; expected a scene of spectral bands.")
        spectral = _Spectral(file, bands)
        shape = (file.height, file.width, len(bands))
        own_nodata = [file.nodatavals[band - 1] for band in bands]
        gains = np.array([file.scales[band - 1] for band in bands], np.float64)
        offsets = np.array([file.offsets[band - 1] for band in bands], np.float64)
        georeference = georaster.georeference_of(file)
        unplaced = georeference is None and bool(file.gcps[0])
    good, ignore_notes = bands_to_use(spectral.good, spectral.wavelengths, len(bands), options, str(path))
    notes = [*spectral.notes, *ignore_notes]
    if origins:
        more = f" and {len(origins) - 3} more" if len(origins) > 3 else ""
        notes.append(f"The values come from the files that the virtual raster names: {', '.join(origins[:3])}{more}.")
    if alphas:
        notes.append("The alpha band became the mask and is not a spectral band.")
    if unplaced:
        notes.append("The file has ground control points and no transform; outputs are not placed on the ground.")
    per_band = (nodata is None or bool(np.isnan(nodata))) and len(set(map(str, own_nodata))) > 1
    # NaN and infinity are missing in addition to the value of each band.
    nodata = np.nan if per_band else missing_value(nodata, own_nodata[0])

    def stored(window: Window | None) -> Stored:
        with georaster.opened(path, driver=driver) as file:
            cube, seen = _read(file, bands, path, window), _seen(file, alphas, bands, window)
        if not per_band:
            return Stored(cube, seen)
        complete = _complete(cube, own_nodata, good)
        note = f"{int((~complete).sum())} of {complete.size} pixels hold the nodata value of one of their bands."
        return Stored(cube, complete if seen is None else seen & complete, (note,))

    plain = (gains == 1).all() and (offsets == 0).all()
    if scale is None and plain and np.isfinite(spectral.scale):
        scale = spectral.scale
    scaled = scale is None and not plain
    if scaled:
        lowest, highest = gains.min(), gains.max()
        span = f"{lowest:g}" if lowest == highest else f"{lowest:g} to {highest:g}"
        notes.append(f"Values were multiplied by {span}, the scale in the file, and its offsets were added.")
    placement = georaster.placement(georeference, notes)
    return Source(
        shape,
        stored,
        nodata=nodata,
        scale=scale,
        saturation=spectral.saturation if saturation is None and np.isfinite(spectral.saturation) else saturation,
        gains=gains if scaled else None,
        offsets=offsets if scaled else None,
        wavelengths=spectral.wavelengths,
        good_bands=good,
        name=path.stem,
        source=path,
        notes=tuple(notes),
        fwhm=spectral.fwhm,
        **placement,
    )


def _seen(file: Any, alphas: list[int], bands: list[int], window: Window | None) -> Array | None:
    """Return the file's own mask (H, W), True where valid, from its alpha bands or mask band; None without them."""
    seen = None
    area = None if window is None else tuple((side.start, side.stop) for side in window)
    for band in alphas:
        shown = file.read(band, window=area) > 0
        seen = shown if seen is None else seen & shown
    flags = {flag.name for flag in file.mask_flag_enums[bands[0] - 1]}
    if "per_dataset" in flags and "alpha" not in flags:
        shown = file.read_masks(bands[0], window=area) > 0
        seen = shown if seen is None else seen & shown
    return seen


def _complete(cube: Array, own_nodata: list[float | None], good: Array | None) -> Array:
    complete = np.ones(cube.shape[:2], np.bool_)
    for band, missing in enumerate(own_nodata):
        if missing is not None and (good is None or good[band]):
            complete &= mask_nodata(cube[:, :, band : band + 1], missing)
    return complete
