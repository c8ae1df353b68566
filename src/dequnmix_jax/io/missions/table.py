"""Layouts of HDF5 and NetCDF files of missions: a row of `MISSIONS` each.

A path may begin with `*`, a group of any name (the site in NEON's files); `@name` is an attribute of the cube. The cube
is the first of several paths that the file has.

| mission | source of the layout |
| --- | --- |
| AVIRIS-3, AVIRIS-5, AVIRIS-NG | the public reader HyperCoast (`aviris.py`) |
| Tanager | the public readers HyperCoast (`tanager.py`) and i.hyper.import of GRASS |
| NEON AOP | NEON Data Skills, tutorials on reflectance files (`h5refl2array`) |
| PACE OCI Level 2 | the public reader HyperCoast (`pace.py`) |
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError, how_many
from dequnmix_jax.io import georaster
from dequnmix_jax.io.bands import bands_to_use, spectral_axis
from dequnmix_jax.io.missions import hdf5
from dequnmix_jax.io.placement import Variable, georeference_of
from dequnmix_jax.scenes.georeference import Georeference
from dequnmix_jax.scenes.read_options import ReadOptions
from dequnmix_jax.scenes.scene import Array
from dequnmix_jax.scenes.source import Source, Stored, Window
from dequnmix_jax.scenes.values import missing_value

Place = Callable[[Any, str, tuple[int, int], Path, list[str]], Georeference | None]


@dataclass(frozen=True)
class Mission:
    """The layout of a mission's files.

    Attributes:
        name: of the mission.
        cubes: paths of the cube, the preferred first.
        axes: rows, columns and bands among the axes of the cube in the file.
        wavelengths, widths: paths or attributes, nanometres, first found; (B,).
        good: paths or attributes, 1 for good bands.
        bad_ranges: attributes of the cube's group with a range of bad bands each, nanometres.
        fill: attributes with the value of missing data.
        missing: that value where no attribute gives it.
        divisors: attributes by which the stored numbers are divided; NetCDF's scale_factor multiplies them.
        hidden: datasets beside the cube, (rows, columns), not 0 where there is no measurement.
        place: returns the georeference; None: the pixels have no transform.
    """

    name: str
    cubes: tuple[str, ...]
    axes: tuple[int, int, int]
    wavelengths: tuple[str, ...]
    widths: tuple[str, ...] = ()
    good: tuple[str, ...] = ()
    bad_ranges: tuple[str, ...] = ()
    fill: tuple[str, ...] = ("_FillValue",)
    missing: float | None = -9999.0
    divisors: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    place: Place | None = None


def _text(file: Any, path: str) -> str:
    """Return a dataset of one text, "" when it is missing."""
    item = file.get(path)
    if item is None or getattr(item, "shape", None) not in ((), (1,)):
        return ""
    value = np.ravel(item[()])[0]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _by_coordinates(file: Any, cube: str, shape: tuple[int, int], path: Path, notes: list[str]) -> Georeference | None:
    """Return the georeference of northing and easting (or y and x), in the group of the cube or at the top."""
    group = cube.rpartition("/")[0]
    found: dict[str, Variable] = {}
    for axis, words in (("y", ("northing", "y")), ("x", ("easting", "x"))):
        for name in (f"{place}{word}" for word in words for place in (f"{group}/", "")):
            if axis not in found and file.get(name) is not None and len(getattr(file[name], "shape", ())) == 1:
                found[axis] = Variable(hdf5.dataset(file, name, path, 1)[()], (axis,), {})
    mapping = hdf5.text(file[cube], "grid_mapping")
    for name in (f"{group}/{mapping}", mapping, "transverse_mercator", "spatial_ref", "crs"):
        item = file.get(name) if name.strip("/") else None
        if item is not None:
            keys = ("crs_wkt", "spatial_ref", "GeoTransform")
            attributes = {key: hdf5.text(item, key) for key in keys if key in item.attrs}
            found.setdefault("spatial_ref", Variable(np.zeros(()), (), attributes))
    return georeference_of(Variable(file[cube], (), {}), found, ("y", "x"), shape, notes)


_POINT = r"\s*=\s*\(\s*([-+0-9.eE]+)\s*,\s*([-+0-9.eE]+)\s*\)"


def _by_struct_metadata(
    file: Any, cube: str, shape: tuple[int, int], path: Path, notes: list[str]
) -> Georeference | None:
    """Return the georeference of an HDF-EOS5 grid: its corners in StructMetadata.0, and the attribute epsg_code."""
    if "/GRIDS/" not in f"/{cube}":
        return None
    text = _text(file, "HDFEOS INFORMATION/StructMetadata.0")
    corners = [re.search(name + _POINT, text) for name in ("UpperLeftPointMtrs", "LowerRightMtrs")]
    code = hdf5.numbers(file[cube.split("/Data Fields")[0]], "epsg_code", 1, path)
    if code is None or corners[0] is None or corners[1] is None:
        notes.append(
            "The file has no epsg_code or no corners in StructMetadata.0; outputs are not placed on the ground."
        )
        return None
    (west, north), (east, south) = ((float(point[1]), float(point[2])) for point in corners if point)
    height, width = shape
    return Georeference(
        f"EPSG:{int(code[0])}", ((east - west) / width, 0.0, west, 0.0, (south - north) / height, north)
    )


def _by_map_info(file: Any, cube: str, shape: tuple[int, int], path: Path, notes: list[str]) -> Georeference | None:
    """Return the georeference of NEON's files: ENVI's map info as a text, and an EPSG code."""
    folder = f"{cube.rpartition('/')[0]}/Metadata/Coordinate_System"
    entries = _text(file, f"{folder}/Map_Info").split(",")
    code = _text(file, f"{folder}/EPSG Code").strip()
    try:
        column, row, x, y, across, down = (float(entry) for entry in entries[1:7])
    except ValueError:
        notes.append("The file has no readable Map_Info; outputs are not placed on the ground.")
        return None
    crs = f"EPSG:{int(code)}" if code.isdecimal() else ""
    return Georeference(crs, (across, 0.0, x - (column - 1) * across, 0.0, -down, y + (row - 1) * down))


_SWATH, _GRID = "HDFEOS/SWATHS/HYP/Data Fields", "HDFEOS/GRIDS/HYP/Data Fields"

MISSIONS = (
    Mission(
        "AVIRIS-3, AVIRIS-5 and AVIRIS-NG (reflectance/reflectance, radiance/radiance)",
        cubes=("reflectance/reflectance", "radiance/radiance"),
        axes=(1, 2, 0),
        wavelengths=("wavelength",),
        widths=("fwhm",),
        place=_by_coordinates,
    ),
    Mission(
        "Tanager (HDFEOS/SWATHS/HYP or HDFEOS/GRIDS/HYP)",
        cubes=tuple(f"{root}/{name}" for name in ("surface_reflectance", "toa_radiance") for root in (_SWATH, _GRID)),
        axes=(1, 2, 0),
        wavelengths=("@wavelengths", "wavelength", "Wavelength", "wavelengths"),
        widths=("@fwhm", "fwhm", "FWHM"),
        good=("@good_wavelengths", "@all_good_wavelengths"),
        hidden=("nodata_pixels",),
        place=_by_struct_metadata,
    ),
    Mission(
        "NEON AOP (SITE/Reflectance/Reflectance_Data)",
        cubes=("*/Reflectance/Reflectance_Data", "*/Radiance/Radiance_Data"),
        axes=(0, 1, 2),
        wavelengths=("Metadata/Spectral_Data/Wavelength",),
        widths=("Metadata/Spectral_Data/FWHM",),
        bad_ranges=("Band_Window_1_Nanometers", "Band_Window_2_Nanometers"),
        fill=("Data_Ignore_Value", "_FillValue"),
        divisors=("Scale_Factor",),
        place=_by_map_info,
    ),
    Mission(
        "PACE OCI Level 2 (geophysical_data/Rrs or rhos)",
        cubes=("geophysical_data/Rrs", "geophysical_data/rhos"),
        axes=(0, 1, 2),
        wavelengths=("/sensor_band_parameters/wavelength_3d",),
        missing=None,
    ),
)


def mission_of(file: Any) -> tuple[Mission, str] | None:
    """Return the mission of an open HDF5 file and the path of its cube, or None."""
    for mission in MISSIONS:
        for pattern in mission.cubes:
            first, _, rest = pattern.partition("/")
            for name in (f"{group}/{rest}" for group in (sorted(file) if first == "*" else [first])):
                if name in file and len(getattr(file[name], "shape", ())) == 3:
                    return mission, name
    return None


def _band_numbers(
    file: Any, cube: str, names: tuple[str, ...], bands: int | None, path: Path
) -> tuple[Array | None, str]:
    """Return the first of some datasets beside the cube, or attributes (@), with a number for each band, and its unit.

    Args:
        file: the open file.
        cube: path of the cube.
        names: of datasets and attributes.
        bands: their number, or None for any.
        path: of the file, for messages.
    """
    group = cube.rpartition("/")[0]
    for name in names:
        if name.startswith("@"):
            values = hdf5.numbers(file[cube], name[1:], None, path)
            values = None if values is None else np.reshape(values, (-1, values.shape[-1]))[0]
            if values is not None and bands in (None, values.size):
                return np.asarray(values), ""
        else:
            full = name.strip("/") if name.startswith("/") else f"{group}/{name}"
            if file.get(full) is not None:
                size = hdf5.dataset(file, full, path, 1).size if bands is None else bands
                return hdf5.vector(file, full, path, size), hdf5.text(file[full], "units")
    return None, ""


def _axes(mission: Mission, shape: tuple[int, ...], centres: Array | None, notes: list[str]) -> tuple[int, int, int]:
    """Return the axes of rows, columns and bands: those of the mission, unless another one alone fits the bands."""
    if centres is None or shape[mission.axes[2]] == centres.size or shape.count(centres.size) != 1:
        return mission.axes
    last = shape.index(centres.size)
    first, second = (axis for axis in range(3) if axis != last)
    notes.append(f"The cube of shape {shape} has its {how_many(centres.size, 'band')} on axis {last} (counted from 0).")
    return first, second, last


def _first_number(item: Any, names: tuple[str, ...], path: Path) -> float | None:
    for name in names:
        values = hdf5.numbers(item, name, None, path)
        if values is not None and values.size == 1:
            return float(values[0])
    return None


def open_image(file: Any, path: Path, options: ReadOptions, mission: Mission, cube: str) -> Source:
    """Open the scene of a file of the table.

    Args:
        file: the open file; each reading opens it again.
        path: its path.
        options: nodata, scale and saturation apply to the stored numbers and override what the file says.
        mission, cube: from `mission_of`.

    Returns:
        A Source (rows, columns, bands) with the file's good bands and mask.

    Raises:
        InputError: arrays are missing or do not fit together.
    """
    stored = hdf5.dataset(file, cube, path, 3)
    notes: list[str] = []
    centres, unit = _band_numbers(file, cube, mission.wavelengths, None, path)
    axes = _axes(mission, stored.shape, centres, notes)
    height, width, bands = (int(stored.shape[axis]) for axis in axes)
    group = cube.rpartition("/")[0]
    if "radiance" in cube.rpartition("/")[2].lower():
        notes.append("The file holds radiance, not reflectance.")
    wavelengths, fwhm = None, None
    if centres is None:
        notes.append("The file gives no wavelengths.")
    elif centres.size != bands:
        raise InputError(
            f"{path} holds {how_many(centres.size, 'wavelength')} and {cube!r} of shape {tuple(stored.shape)}; "
            f"expected one for each of {bands} bands. It is damaged, or of another layout."
        )
    else:
        widths, width_unit = _band_numbers(file, cube, mission.widths, bands, path)
        wavelengths, fwhm, more = spectral_axis(centres, unit or "nm", widths=widths, width_unit=width_unit)
        notes += more
    listed, _ = _band_numbers(file, cube, mission.good, bands, path)
    good = None if listed is None else listed > 0.5
    ranges = [hdf5.numbers(file[group], name, 2, path) for name in mission.bad_ranges]
    if wavelengths is not None and any(span is not None for span in ranges):
        good = np.ones(bands, np.bool_)
        for span in ranges:
            good &= True if span is None else (wavelengths < span[0]) | (wavelengths > span[1])
    good, ignore_notes = bands_to_use(good, wavelengths, bands, options, str(path))
    declared = _first_number(stored, mission.fill, path)
    hidden = [f"{group}/{name}" for name in mission.hidden if f"{group}/{name}" in file]
    for name in hidden:
        sides = hdf5.dataset(file, name, path, 2).shape
        if sides != (height, width):
            raise InputError(
                f"{path} holds {name!r} of shape {sides} and a cube of {height} x {width} pixels; expected one value a "
                "pixel. It is damaged, or of another layout."
            )

    def read(window: Window | None) -> Stored:
        area = Window(slice(0, height), slice(0, width)) if window is None else window
        places = dict(zip(axes, (*area, slice(0, bands)), strict=True))
        with hdf5.opened(path) as again:
            values = hdf5.dataset(again, cube, path, 3)[tuple(places[axis] for axis in range(3))]
            masks = [np.asarray(hdf5.dataset(again, name, path, 2)[area.rows, area.columns]) for name in hidden]
        seen = None
        for mask in masks:
            seen = mask == 0 if seen is None else seen & (mask == 0)
        return Stored(values.transpose(axes), seen)

    scale, gains, offsets = options.scale, None, None
    if scale is None:
        scale = _first_number(stored, mission.divisors, path)
        gain, offset = (_first_number(stored, (name,), path) for name in ("scale_factor", "add_offset"))
        if scale is None and (gain not in (None, 1.0) or offset not in (None, 0.0)):
            gains = np.full(bands, 1.0 if gain is None else gain)
            offsets = np.full(bands, 0.0 if offset is None else offset)
            notes.append(f"Values were multiplied by {gains[0]:g} and {offsets[0]:g} added, by the attributes.")
    georeference = None if mission.place is None else mission.place(file, cube, (height, width), path, notes)
    placement = georaster.placement(georeference, notes)
    return Source(
        (height, width, bands),
        read,
        nodata=missing_value(options.nodata, mission.missing if declared is None else declared),
        scale=scale,
        saturation=options.saturation,
        gains=gains,
        offsets=offsets,
        wavelengths=wavelengths,
        good_bands=good,
        name=path.stem,
        source=path,
        notes=(*notes, *ignore_notes),
        fwhm=fwhm,
        **placement,
    )
