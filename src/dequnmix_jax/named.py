"""From an array whose axes may have names to a scene: xarray's conventions, read without xarray.

Axes are told by their names, in any case (`y`, `row`, `lat`, `downtrack`; `x`, `column`, `lon`, `crosstrack`; `band`,
`wavelength`, `channel`), and one nameless axis by what is left. Other axes must have length one. Without names the
array is (rows, columns, bands).
"""

import base64
import binascii
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dequnmix_jax import georaster, pixelorder
from dequnmix_jax.bandaxis import nanometres, without_ignored
from dequnmix_jax.checks import InputError
from dequnmix_jax.ground import Ground, from_gdal
from dequnmix_jax.scene import Array
from dequnmix_jax.source import Source, Stored, Window

_AXES = (
    ("y", "row", "rows", "line", "lines", "lat", "latitude", "northing", "downtrack", "height"),
    (
        "x",
        "column",
        "columns",
        "col",
        "cols",
        "sample",
        "samples",
        "lon",
        "longitude",
        "easting",
        "crosstrack",
        "width",
    ),
    ("band", "bands", "wavelength", "wavelengths", "wavelengths_nm", "wl", "channel", "channels", "spectral", "lambda"),
)  # fmt: skip
_CENTRES = ("wavelengths_nm", "wavelength_nm", "wavelength", "wavelengths", "center_wavelength", "wl", "lambda")
_GOOD = ("good_wavelengths", "good_bands", "bbl")
_PLACES = ("spatial_ref", "crs")
_FILLS = ("_FillValue", "missing_value", "nodata")


class Variable(NamedTuple):
    """An array with what is known of it.

    Attributes:
        values: anything with a shape that numpy can take.
        dims: names of its axes, empty when they have none.
        attributes: what is said of it.
    """

    values: Any
    dims: tuple[str, ...]
    attributes: Mapping[str, Any]


def _order(dims: tuple[str, ...], shape: tuple[int, ...], label: str) -> list[int]:
    """Return the axes of rows, columns and bands."""
    found: list[int | None] = [None, None, None]
    rest = []
    for axis, dim in enumerate(dims):
        role = next((i for i, names in enumerate(_AXES) if str(dim).lower() in names), None)
        if role is not None and found[role] is None:
            found[role] = axis
        elif shape[axis] > 1 or len(shape) == 3:
            rest.append(axis)
    if len(rest) == found.count(None) == 1:
        found[found.index(None)] = rest.pop()
    axes = [axis for axis in found if axis is not None]
    if len(axes) < 3 or rest:
        named = ", ".join(f"{dim} ({size})" for dim, size in zip(dims, shape, strict=True))
        raise InputError(
            f"{label} has the axes {named}; expected rows, columns and bands, named y, x and band or wavelength. "
            "Rename them, and select one of what else there is."
        )
    return axes


def _unread(variable: Variable, bands: int | None, label: str) -> tuple[tuple[int, ...], list[str]]:
    """Return the axes of rows, columns and bands in what is stored, and notes on how they were told.

    Args:
        variable: an array of three axes, or more of length one.
        bands: how many wavelengths are known, or None.
        label: its name, for messages.

    Raises:
        InputError: not three axes, or axes that cannot be told.
    """
    shape = tuple(variable.values.shape)
    if variable.dims and len(variable.dims) == len(shape):
        return tuple(_order(variable.dims, shape, label)), []
    if len(shape) != 3:
        raise InputError(f"{label} has shape {shape}; expected (rows, columns, bands).")
    # Of the shape alone it is told, by an array that takes no memory.
    turned, notes = pixelorder.bands_last(np.broadcast_to(np.zeros((), np.int8), shape), bands, label)
    return ((0, 1, 2) if turned.shape == shape else (1, 2, 0)), notes


def _taken(values: Any, axes: tuple[int, ...], window: Window | None, label: str) -> Array:
    """Return what an array holds in a window, or all of it, as (rows, columns, bands)."""
    if window is None:
        array = _real(values, label)
    else:
        # Axes that are none of the three have length one.
        places = dict(zip(axes, (*window, slice(None)), strict=True))
        array = _real(values[tuple(places.get(axis, slice(0, 1)) for axis in range(len(values.shape)))], label)
    for axis in sorted(set(range(array.ndim)) - set(axes), reverse=True):
        array = array.take(0, axis)
        axes = tuple(other - (other > axis) for other in axes)
    return array.transpose(axes)


def _real(values: Any, label: str) -> Array:
    if not (hasattr(values, "__array__") or isinstance(values, memoryview)):
        values = values[(slice(None),) * len(values.shape)]  # asked one by one, numpy would read it number by number
    array = np.asarray(values)
    if array.dtype.kind not in "iuf":
        raise InputError(f"{label} has the data type {array.dtype}; expected real numbers.")
    return array


def _number(value: Any) -> float | None:
    """Return an attribute as a number, or None; zarr 3 holds the fill value of xarray's floats in base64."""
    if isinstance(value, str):
        try:
            return float(struct.unpack("<d", base64.b64decode(value, validate=True))[0])
        except (binascii.Error, struct.error, ValueError):
            pass
    try:
        return float(np.ravel(value)[0])
    except (TypeError, ValueError, IndexError):
        return None


def _first(attributes: Mapping[str, Any], names: Sequence[str]) -> float | None:
    return next((number for name in names if (number := _number(attributes.get(name))) is not None), None)


def _along(others: Mapping[str, Variable], names: Sequence[str], size: int) -> tuple[str, Array, str] | None:
    """Return the name, the values and the unit of the first of the names that has a number for each band."""
    for name in names:
        held = others.get(name)
        if held is not None and tuple(held.values.shape) == (size,):
            values = np.asarray(held.values[...])
            if values.dtype.kind in "biuf":
                unit = "nm" if name.endswith("_nm") else str(held.attributes.get("units", ""))
                return name, values.astype(np.float64), unit
    return None


def _ground(variable: Variable, others: Mapping[str, Variable], axes: Sequence[str]) -> Ground | None:
    places = [others[name].attributes for name in _PLACES if name in others] + [variable.attributes]
    said = [place.get(name) for place in places for name in ("crs_wkt", "spatial_ref", "crs")]
    projection = next((text for text in said if isinstance(text, str) and text), "")
    for place in places:
        for name in ("GeoTransform", "transform"):
            held = place.get(name)
            numbers = held.split() if isinstance(held, str) else held
            try:
                values = [float(number) for number in numbers or ()]
            except (TypeError, ValueError):
                continue
            if len(values) >= 6:
                a, b, x0, d, e, y0 = values[:6]
                return Ground(projection, from_gdal(values[:6]) if name == "GeoTransform" else (a, b, x0, d, e, y0))
    if not projection or not all(axis in others for axis in axes):
        return None
    y, x = (np.asarray(others[axis].values[...]) for axis in axes)
    if not all(values.ndim == 1 and values.size > 1 and values.dtype.kind in "iuf" for values in (x, y)):
        return None
    steps = [np.diff(values.astype(np.float64)) for values in (x, y)]
    # Coordinates are centres of pixels; in float32 degrees their steps wander by a hundredth.
    if any(np.abs(step - step.mean()).max() > 0.05 * abs(step.mean()) for step in steps):
        return None
    across, down = (float(values[-1] - values[0]) / (values.size - 1) for values in (x, y))
    return Ground(projection, (across, 0.0, float(x[0]) - across / 2, 0.0, down, float(y[0]) - down / 2))


def source_from(
    variable: Variable,
    others: Mapping[str, Variable],
    *,
    name: str = "",
    source: Path | None = None,
    missing: float | None = None,
    nodata: float | None = None,
    scale: float | None = None,
    saturation: float | None = None,
    ignore: Sequence[tuple[float, float]] = (),
) -> Source:
    """Return the scene of a cube and what lies beside it, unread.

    Args:
        variable: the cube.
        others: coordinates and arrays beside it by name: wavelength (with units), fwhm, good_wavelengths or bbl, x, y,
            spatial_ref.
        name: name of the scene.
        source: the file, or None.
        missing: value of missing data when the attributes of the cube say none.
        nodata: value of missing data; overrides what the attributes say.
        scale: divide the values by this; overrides scale_factor and add_offset of the attributes.
        saturation: value from which a pixel is saturated.
        ignore: ranges (shortest, longest) of wavelength in nm whose bands are marked bad.

    Returns:
        A Source with notes on what was assumed.

    Raises:
        InputError: axes that cannot be told, values that are no real numbers.
    """
    label = f"{source or name or 'The array'}"
    known = next((held.values.shape[0] for word in _CENTRES if (held := others.get(word)) and held.values.shape), None)
    order, notes = _unread(variable, known, label)
    height, width, bands = (int(variable.values.shape[axis]) for axis in order)
    dims = [str(dim) for dim in variable.dims]
    spectral = next((dim for dim in dims if dim.lower() in _AXES[2]), None)
    found = _along(others, _CENTRES, bands)
    if found is None and spectral is not None:  # a coordinate `band` that has a unit of length holds wavelengths
        found = _along(others, [spectral], bands)
        if found is not None and found[2].lower() not in ("nm", "um", "µm", "nanometers", "nanometres", "micrometers"):
            found = None
    wavelengths: Array | None = None
    fwhm = None
    if found is not None:
        wavelengths, unit_notes = nanometres(found[1], found[2], f"{found[0]} of {label}")
        notes += unit_notes
        widths = _along(others, ("fwhm", "fwhm_nm"), bands)
        if widths is not None and wavelengths is not None and (widths[1] > 0).all():
            fwhm = widths[1] * (wavelengths[0] / found[1][0] if widths[0] == "fwhm" and found[1][0] > 0 else 1.0)
    listed = _along(others, _GOOD, bands)
    good = None if listed is None else listed[1] > 0.5
    good, ignore_notes = without_ignored(good, wavelengths, bands, ignore, label)
    if nodata is None:
        nodata = _first(variable.attributes, _FILLS)
    if nodata is None:
        nodata = missing
    gain, offset = (_first(variable.attributes, (word,)) for word in ("scale_factor", "add_offset"))
    gains = offsets = None
    if scale is None and (gain not in (None, 1.0) or offset not in (None, 0.0)):
        gain, offset = 1.0 if gain is None else gain, 0.0 if offset is None else offset
        gains, offsets = np.full(bands, gain), np.full(bands, offset)
        notes.append(f"Values were multiplied by {gain:g} and {offset:g} added, as the attributes say.")
    axes = [next((dim for dim in dims if dim.lower() in names), "") for names in _AXES[:2]]
    ground = _ground(variable, others, axes)
    fields = georaster.header_fields(ground, notes)
    return Source(
        (height, width, bands),
        lambda window: Stored(_taken(variable.values, order, window, label)),
        nodata=nodata,
        scale=scale,
        saturation=saturation,
        gains=gains,
        offsets=offsets,
        wavelengths=wavelengths,
        good_bands=good,
        name=name,
        source=source,
        crs=fields,
        notes=(*notes, *ignore_notes),
        ground=ground,
        fwhm=fwhm,
    )
