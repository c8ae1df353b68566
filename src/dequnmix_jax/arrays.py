"""Take a scene from memory: an xarray DataArray or Dataset, or anything with a shape that can be sliced."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.named import Variable, source_from
from dequnmix_jax.scene import Scene
from dequnmix_jax.source import Source


def _variable(held: Any) -> Variable:
    return Variable(held, tuple(str(dim) for dim in getattr(held, "dims", ())), getattr(held, "attrs", {}))


def _coordinate(held: Any) -> Variable:
    return Variable(np.asarray(held), tuple(str(dim) for dim in held.dims), held.attrs)


def read_array(
    held: Any,
    *,
    variable: str | None = None,
    nodata: float | None = None,
    scale: float | None = None,
    saturation: float | None = None,
    ignore: Sequence[tuple[float, float]] = (),
) -> Scene:
    """Return the scene that an object in memory holds.

    Args:
        held: an array of numpy, jax, dask, h5py or zarr, (rows, columns, bands), of which a masked one keeps its mask;
            or an xarray DataArray, whose axes are told by their names, with its coordinates wavelength, fwhm,
            good_wavelengths or bbl, x, y, spatial_ref; or an xarray Dataset with the name of one.
        variable: the name of the cube in a Dataset.
        nodata: value of missing data; what the attributes say by default.
        scale: divide the values by this, in place of scale_factor and add_offset of the attributes.
        saturation: value from which a pixel is saturated.
        ignore: ranges (shortest, longest) of wavelength in nm whose bands are marked bad.

    Returns:
        A Scene.

    Raises:
        InputError: the object has no shape or cannot be sliced, or its axes cannot be told.
    """
    return open_array(held, variable=variable, nodata=nodata, scale=scale, saturation=saturation, ignore=ignore).scene()


def open_array(
    held: Any,
    *,
    variable: str | None = None,
    nodata: float | None = None,
    scale: float | None = None,
    saturation: float | None = None,
    ignore: Sequence[tuple[float, float]] = (),
) -> Source:
    """Return an object in memory, or one that reads when it is sliced, as a source; the rest as for `read_array`."""
    if hasattr(held, "data_vars"):
        names = [str(name) for name in held.data_vars]
        cubes = [name for name in names if getattr(held[name], "ndim", 0) >= 3]
        chosen = variable if variable is not None else (cubes[0] if len(cubes) == 1 else None)
        if chosen not in names:
            raise InputError(
                f"The data set holds {', '.join(names) or 'nothing'}; expected one cube, or its name. Pass "
                "variable=NAME, or the array itself."
            )
        held = held[chosen]
    if not (hasattr(held, "shape") and hasattr(held, "__getitem__")):
        raise InputError(
            f"{type(held).__name__} is neither a path nor an array; expected one of these, (rows, columns, bands)."
        )
    others: dict[str, Variable] = {}
    for name, coordinate in getattr(held, "coords", {}).items():
        others[str(name)] = _coordinate(coordinate)
    # xarray moves the fill value there when it has put NaN in its place.
    missing = np.nan if "_FillValue" in getattr(held, "encoding", {}) else None
    if missing is not None and np.dtype(held.dtype).kind != "f":
        missing = None
    return source_from(
        _variable(held),
        others,
        name=str(getattr(held, "name", "") or ""),
        missing=missing,
        nodata=nodata,
        scale=scale,
        saturation=saturation,
        ignore=ignore,
    )
