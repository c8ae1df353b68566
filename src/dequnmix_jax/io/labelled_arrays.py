"""From an array whose axes may have names to a scene: the conventions of xarray, read without xarray.

Axes are identified by their names in any case (`y`, `row`, `lat`, `downtrack`; `x`, `column`, `lon`, `crosstrack`;
`band`, `wavelength`, `channel`); a single unknown name takes the remaining role. Other axes must have length one.
Without names the array is (rows, columns, bands).
"""

import base64
import binascii
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.io import georaster, pixel_order
from dequnmix_jax.io.bands import bands_to_use, spectral_axis
from dequnmix_jax.io.placement import Variable, georeference_of
from dequnmix_jax.io.units import units_in
from dequnmix_jax.scenes.georeference import Georeference
from dequnmix_jax.scenes.read_options import ReadOptions
from dequnmix_jax.scenes.scene import Array
from dequnmix_jax.scenes.source import Source, Stored, Window
from dequnmix_jax.scenes.values import missing_value


def _variable(array: Any) -> Variable:
    # xarray moves what it has decoded from the attributes to `encoding`.
    mapping = getattr(array, "encoding", {}).get("grid_mapping")
    attributes = ({} if mapping is None else {"grid_mapping": mapping}) | dict(getattr(array, "attrs", {}))
    return Variable(array, tuple(str(dim) for dim in getattr(array, "dims", ())), attributes)


def _coordinate(array: Any) -> Variable:
    return Variable(np.asarray(array), tuple(str(dim) for dim in array.dims), array.attrs)


def open_array(values: Any, options: ReadOptions) -> Source:
    """Return an object in memory, or one that reads when it is sliced, as a `Source`.

    Args:
        values: an array of numpy, jax, dask, h5py or zarr, (rows, columns, bands), whose mask is kept if it is a masked
            array; or an xarray DataArray, whose axes are identified by their names, with its coordinates wavelength,
            fwhm, good_wavelengths or bbl, x, y, spatial_ref; or an xarray Dataset that holds one.
        options: nodata overrides the attributes, scale their scale_factor and add_offset; variable names the cube in a
            Dataset.

    Returns:
        A Source.

    Raises:
        InputError: the object has no shape or cannot be sliced, or its axes cannot be identified.
    """
    others: dict[str, Variable] = {}
    title = ""
    if hasattr(values, "data_vars"):
        names = [str(name) for name in values.data_vars]
        cubes = [name for name in names if getattr(values[name], "ndim", 0) >= 3]
        chosen = options.variable if options.variable is not None else (cubes[0] if len(cubes) == 1 else None)
        if chosen not in names:
            raise InputError(
                f"The data set holds {', '.join(names) or 'nothing'}; expected one cube, or its name. Pass "
                "variable=NAME, or the array itself."
            )
        others |= {str(name): _coordinate(values[name]) for name in names if getattr(values[name], "ndim", 2) < 2}
        title = str(getattr(values, "attrs", {}).get("title", ""))
        values = values[chosen]
    if not (hasattr(values, "shape") and hasattr(values, "__getitem__")):
        raise InputError(
            f"{type(values).__name__} is neither a path nor an array; expected one of these, (rows, columns, bands)."
        )
    for name, coordinate in getattr(values, "coords", {}).items():
        others[str(name)] = _coordinate(coordinate)
    # In xarray NaN is what is missing: it replaces fill values by it, and so do its functions.
    missing = np.nan if hasattr(values, "coords") and np.dtype(values.dtype).kind == "f" else None
    return source_from(
        _variable(values),
        others,
        name=title or str(getattr(values, "name", "") or ""),
        missing=missing,
        options=options,
    )


def place_of(values: Any) -> Georeference | None:
    """Return the georeference of a DataArray with the axes y and x, as of a part of it, or None."""
    coordinates = {str(name): _coordinate(coordinate) for name, coordinate in values.coords.items()}
    shape = int(values.sizes["y"]), int(values.sizes["x"])
    return georeference_of(_variable(values), coordinates, ("y", "x"), shape, [])


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
_FILLS = ("_FillValue", "missing_value", "nodata")


def _order(dims: tuple[str, ...], shape: tuple[int, ...], label: str) -> list[int]:
    """Return the axes of rows, columns and bands."""
    roles: list[int | None] = [None, None, None]
    rest = []
    for axis, dim in enumerate(dims):
        role = next((i for i, names in enumerate(_AXES) if str(dim).lower() in names), None)
        if role is not None and roles[role] is None:
            roles[role] = axis
        elif shape[axis] > 1 or len(shape) == 3:
            rest.append(axis)
    if len(rest) == roles.count(None) == 1:
        roles[roles.index(None)] = rest.pop()
    axes = [axis for axis in roles if axis is not None]
    if len(axes) < 3 or rest:
        named = ", ".join(f"{dim} ({size})" for dim, size in zip(dims, shape, strict=True))
        raise InputError(
            f"{label} has the axes {named}; expected rows, columns and bands, named y, x and band or wavelength. "
            "Rename them, and select one of what else there is."
        )
    return axes


def _axes(variable: Variable, bands: int | None, label: str) -> tuple[tuple[int, ...], list[str]]:
    """Return the axes of rows, columns and bands, and notes on how they were identified.

    Args:
        variable: an array of three axes, and perhaps others of length one.
        bands: number of known wavelengths, or None.
        label: its name, for messages.

    Raises:
        InputError: not three axes, or axes that cannot be identified.
    """
    shape = tuple(variable.values.shape)
    if variable.dims and len(variable.dims) == len(shape):
        return tuple(_order(variable.dims, shape, label)), []
    if len(shape) != 3:
        raise InputError(f"{label} has shape {shape}; expected (rows, columns, bands).")
    # Only the shape matters of an array that is not in memory; this one takes no memory.
    values = np.ma.getdata(variable.values) if isinstance(variable.values, np.ndarray) else None
    seen = np.broadcast_to(np.zeros((), np.int8), shape) if values is None else values
    turned, notes = pixel_order.bands_last(seen, bands, label)
    return ((0, 1, 2) if turned.shape == shape else (1, 2, 0)), notes


def _read_window(values: Any, axes: tuple[int, ...], window: Window | None, good: Array | None, label: str) -> Stored:
    """Return a window of an array, or all of it, as (rows, columns, bands), with the mask of a masked array.

    A pixel is masked where one of its good bands is.
    """
    if window is not None:
        # All other axes have length one.
        places = dict(zip(axes, (*window, slice(None)), strict=True))
        values = values[tuple(places.get(axis, slice(0, 1)) for axis in range(len(values.shape)))]
    array, hidden = _real(values, label)
    turned = _turned(array, axes)
    if hidden is None:
        return Stored(turned)
    hidden = _turned(hidden, axes)
    counted = hidden if good is None or not good.any() else hidden[:, :, good]
    return Stored(turned, np.logical_not(np.any(counted, axis=2)))


def _turned(array: Array, axes: tuple[int, ...]) -> Array:
    for axis in sorted(set(range(array.ndim)) - set(axes), reverse=True):
        array = array.take(0, axis)
        axes = tuple(other - (other > axis) for other in axes)
    return array.transpose(axes)


def _real(values: Any, label: str) -> tuple[Array, Array | None]:
    """Return the values of an array and its mask, True where masked, of the same shape, or None without a mask."""
    if not isinstance(values, np.ndarray | memoryview):
        # Slicing a variable of netCDF4 or h5py may give a masked array, whose mask np.asarray would drop; and numpy
        # would read an object without __array__ number by number.
        values = values[(slice(None),) * len(values.shape)]
        values = values.compute() if hasattr(values, "compute") else values  # dask
        values = getattr(values, "values", values)  # xarray
    hidden = np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else None
    array = np.ma.getdata(values) if hidden is not None else np.asarray(values)
    if array.dtype.kind not in "iuf":
        raise InputError(f"{label} has the data type {array.dtype}; expected real numbers.")
    return array, hidden


def _number(value: Any) -> float | None:
    """Return an attribute as a number, or None; zarr 3 stores the fill value of xarray's floats in base64."""
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
    """Return name, values and unit of the first variable in `names` with one number for each band."""
    for name in names:
        variable = others.get(name)
        if variable is not None and tuple(variable.values.shape) == (size,):
            values = np.asarray(variable.values[...])
            if values.dtype.kind in "biuf":
                unit = "nm" if name.endswith("_nm") else str(variable.attributes.get("units", ""))
                return name, values.astype(np.float64), unit
    return None


def source_from(
    variable: Variable,
    others: Mapping[str, Variable],
    *,
    name: str = "",
    source: Path | None = None,
    missing: float | None = None,
    options: ReadOptions,
) -> Source:
    """Return the unread scene of a cube and the arrays beside it.

    Args:
        variable: the cube.
        others: coordinates and arrays beside it by name: wavelength (with units), fwhm, good_wavelengths or bbl, x, y,
            spatial_ref.
        name: name of the scene.
        source: the file, or None.
        missing: value of missing data if the attributes of the cube name none.
        options: nodata overrides the attributes, scale their scale_factor and add_offset.

    Returns:
        A Source with notes on what was assumed.

    Raises:
        InputError: axes that cannot be identified, or values that are not real numbers.
    """
    label = f"{source or name or 'The array'}"
    centres = (others[name].values.shape for name in _CENTRES if name in others)
    known = next((shape[0] for shape in centres if shape), None)
    order, notes = _axes(variable, known, label)
    height, width, bands = (int(variable.values.shape[axis]) for axis in order)
    dims = [str(dim) for dim in variable.dims]
    spectral = next((dim for dim in dims if dim.lower() in _AXES[2]), None)
    listed = _along(others, _CENTRES, bands)
    if listed is None and spectral is not None:  # a coordinate `band` with a unit of length holds wavelengths
        listed = _along(others, [spectral], bands)
        if listed is not None and not units_in(listed[2]):
            listed = None
    wavelengths: Array | None = None
    fwhm: Array | None = None
    if listed is not None:
        widths = _along(others, ("fwhm", "fwhm_nm"), bands)
        wavelengths, fwhm, unit_notes = spectral_axis(
            listed[1],
            listed[2],
            f"{listed[0]} of {label}",
            None if widths is None else widths[1],
            "" if widths is None else widths[2],
        )
        notes += unit_notes
    flags = _along(others, _GOOD, bands)
    good = None if flags is None else flags[1] > 0.5
    good, ignore_notes = bands_to_use(good, wavelengths, bands, options, label)
    declared = _first(variable.attributes, _FILLS)
    nodata = missing_value(options.nodata, missing if declared is None else declared)
    gain, offset = (_first(variable.attributes, (word,)) for word in ("scale_factor", "add_offset"))
    gains = offsets = None
    if options.scale is None and (gain not in (None, 1.0) or offset not in (None, 0.0)):
        gain, offset = 1.0 if gain is None else gain, 0.0 if offset is None else offset
        gains, offsets = np.full(bands, gain), np.full(bands, offset)
        notes.append(f"Values were multiplied by {gain:g} and {offset:g} added, by the attributes.")
    axes = [next((dim for dim in dims if dim.lower() in names), "") for names in _AXES[:2]]
    georeference = georeference_of(variable, others, axes, (height, width), notes)
    placement = georaster.placement(georeference, notes)
    return Source(
        (height, width, bands),
        lambda window: _read_window(variable.values, order, window, good, label),
        nodata=nodata,
        scale=options.scale,
        saturation=options.saturation,
        gains=gains,
        offsets=offsets,
        wavelengths=wavelengths,
        good_bands=good,
        name=name,
        source=source,
        notes=(*notes, *ignore_notes),
        fwhm=fwhm,
        **placement,
    )
