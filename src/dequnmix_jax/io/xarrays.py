"""Adapter for xarray and rioxarray: scenes as data sets, in memory, in NetCDF (CF) and in Zarr."""

import json
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError, pip_hint
from dequnmix_jax.io import georaster
from dequnmix_jax.io.missions import hdf5
from dequnmix_jax.io.provenance import package_version
from dequnmix_jax.io.remote import Remote
from dequnmix_jax.scenes.georeference import Georeference, rectify
from dequnmix_jax.scenes.scene import Array, Scene
from dequnmix_jax.scenes.values import check_declared

_CHUNK = 8 * 2**20  # bytes of a chunk, approximately


def require(what: str) -> Any:
    """Return xarray with the accessor `.rio`, or raise InputError that names the extra.

    Args:
        what: the subject of the message.
    """
    try:
        import rioxarray  # noqa: F401 - adds the accessor
        import xarray
    except ImportError as error:
        raise InputError(f"{what} needs xarray and rioxarray: {pip_hint('xarray')}.") from error
    return xarray


def crs_from_cf(attributes: Mapping[str, Any]) -> str | None:
    """Return as WKT the coordinate reference system that the parameters of a CF grid mapping describe.

    Args:
        attributes: of the grid mapping: grid_mapping_name and its parameters.

    Returns:
        The WKT; "" if the parameters describe none; None if pyproj, which comes with rioxarray, is not installed.
    """
    values = {
        name: value.item() if np.size(value) == 1 and hasattr(value, "item") else value
        for name, value in attributes.items()
    }
    plain = {name: value.decode("utf-8", "replace") if isinstance(value, bytes) else value
             for name, value in values.items()}  # fmt: skip
    return _crs_of(json.dumps(plain, default=str, sort_keys=True))


@lru_cache(maxsize=16)  # takes up to a second, and each window of a file asks for it
def _crs_of(parameters: str) -> str | None:
    try:
        from pyproj import CRS
        from pyproj.exceptions import CRSError
    except ImportError:
        return None
    values = json.loads(parameters)
    if any(isinstance(value, float) and not np.isfinite(value) for value in values.values()):
        return ""
    try:
        return str(CRS.from_cf(values).to_wkt())
    except (CRSError, KeyError, TypeError, ValueError):
        return ""


def spectral_coordinates(wavelengths: Array | None, fwhm: Array | None) -> dict[str, Any]:
    """Return the coordinates of the axis band: wavelength and fwhm, nm, where they are known."""
    named = {
        "wavelength": (wavelengths, "centre of the band", {"standard_name": "radiation_wavelength"}),
        "fwhm": (fwhm, "full width at half maximum of the band", {}),
    }
    return {
        name: ("band", values, {"units": "nm", "long_name": words, **more})
        for name, (values, words, more) in named.items()
        if values is not None
    }


def dataset(
    variables: Mapping[str, Any],
    coordinates: Mapping[str, Any],
    georeference: Georeference | None,
    attributes: Mapping[str, Any],
) -> Any:
    """Return a data set with the axes y and x, placed on the ground by CF and by `.rio`.

    Args:
        variables: (axes, values, attributes) by name.
        coordinates: the same; wavelengths become an index, so that `.sel(wavelength=650, method="nearest")` works.
        georeference: of the pixels, without a lookup table, or None.
        attributes: of the data set.

    Raises:
        InputError: xarray is not installed, or the coordinate reference system is unknown.
    """
    xarray = require("A data set of xarray")
    data = xarray.Dataset(
        variables,
        coordinates,
        {"Conventions": "CF-1.11", "source": f"dequnmix_jax {package_version('dequnmix-jax')}", **attributes},
    )
    if georeference is not None:
        found = centres(georeference, (data.sizes["y"], data.sizes["x"]))
        data = data.assign_coords({name: (name, values) for name, values in found.items()})
        crs = georaster.crs_of(georeference)
        if crs is not None:
            data = data.rio.write_crs(crs).rio.write_coordinate_system()
        data = data.rio.write_transform(georaster.affine_of(georeference))
    return with_index(data)


def centres(georeference: Georeference | None, shape: tuple[int, int]) -> dict[str, Array]:
    """Return the coordinates "y" and "x" of the centres of rows and columns; none where they have no single one."""
    if georeference is None:
        return {}
    a, b, x0, d, e, y0 = georeference.transform
    if b != 0 or d != 0:
        return {}
    y, x = (np.arange(size) + 0.5 for size in shape)
    return {"y": y0 + e * y, "x": x0 + a * x}


def with_index(data: Any) -> Any:
    """Return a data set whose wavelengths are an index, if they differ from one another."""
    if "wavelength" not in data.coords or data["wavelength"].dims != ("band",) or "wavelength" in data.xindexes:
        return data
    values = data["wavelength"].values
    return data.set_xindex("wavelength") if np.unique(values).size == values.size else data


def scene_dataset(scene: Scene) -> Any:
    """Return a scene as a data set: reflectance (y, x, band), float32, NaN where masked.

    Coordinates: wavelength and fwhm (nm) and good_wavelengths along band; x, y and spatial_ref. A swath is rectified.

    Args:
        scene: any scene.

    Raises:
        InputError: xarray is not installed, or the coordinate reference system is unknown.
    """
    georeference = georaster.georeference_for(scene)
    masked = not scene.valid.all() or (georeference is not None and georeference.lookup is not None)
    cube = scene.cube
    if masked:
        cube = np.where(scene.valid[:, :, None], cube, np.float32(np.nan))
        cube = rectify(cube, georeference, np.nan)
    coordinates = spectral_coordinates(scene.wavelengths, scene.fwhm)
    if scene.good_bands is not None:
        words = {"flag_values": np.array([0, 1], np.uint8), "flag_meanings": "bad good"}
        coordinates["good_wavelengths"] = ("band", scene.good_bands.astype(np.uint8), words)
    place = None if georeference is None else replace(georeference, lookup=None)
    attributes = {"title": scene.name} | ({"comment": "\n".join(scene.notes)} if scene.notes else {})
    data = dataset({"reflectance": (("y", "x", "band"), cube)}, coordinates, place, attributes)
    data["reflectance"].encoding["_FillValue"] = np.float32(np.nan) if masked else None
    return data


def _check_inside(path: Path) -> None:
    """Raise InputError if an HDF5 file takes values from other files, or axes and values differ in size."""
    with hdf5.opened(path, "xarray") as file:

        def inside(_: str, item: Any) -> None:
            if not hasattr(item, "dtype"):
                return
            hdf5.check_inside(item, path)
            for axis, size in enumerate(item.shape or ()):
                # By number: `values` asks for the names of the scales, and h5py frees a damaged one twice.
                scales = [item.dims[axis][i] for i in range(len(item.dims[axis]))]
                sizes = [scale.shape[0] for scale in scales if scale.shape]
                # Only along an axis without limit may a variable hold less than its axis.
                if item.maxshape[axis] is not None and any(other != size for other in sizes):
                    raise InputError(
                        f"{path} holds {size} values of {item.name!r} along an axis of {sizes[0]}; expected as many. "
                        "It is damaged or was put together from others; write it again."
                    )

        file.visititems(inside)


def _mend_h5netcdf() -> None:
    """Let h5netcdf close a damaged file: it asks for an attribute that a file which was not opened lacks."""
    import h5netcdf

    if not hasattr(h5netcdf.File, "_writable"):
        h5netcdf.File._writable = False


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Yield a NetCDF file as a data set whose values are as stored: neither scaled nor masked, and read when sliced.

    Raises:
        InputError: the file is damaged or takes values from others, or xarray is not installed.
    """
    xarray = require(f"{path} is a NetCDF file, which")
    with path.open("rb") as file:
        classic = file.read(3) == b"CDF"
    # A classic file that is mapped into memory cannot be closed while an array of it is in use.
    engine: dict[str, Any] = {"engine": "h5netcdf"}
    if classic:
        engine = {"engine": "scipy", "mmap": False}
    else:
        _mend_h5netcdf()
        _check_inside(path)
    try:
        with warnings.catch_warnings(), ExitStack() as stack:
            warnings.simplefilter("ignore")
            where = stack.enter_context(path.open("rb")) if isinstance(path, Remote) else path
            options = {"mask_and_scale": False, "decode_times": False, "decode_coords": "all", **engine}
            data = stack.enter_context(xarray.open_dataset(where, **options))
            for variable in data.variables.values():
                check_declared(tuple(variable.shape), variable.dtype.itemsize, path.stat().st_size, path)
            yield data
    except InputError:
        raise
    except Exception as error:  # of many kinds: of xarray, h5netcdf, h5py and scipy
        if isinstance(error, MemoryError) and not classic:  # scipy reads what a classic file declares, however much
            raise
        raise InputError(
            f"{path} cannot be read as NetCDF ({type(error).__name__}: {' '.join(str(error).split())[:100]}); it is "
            "damaged, incomplete, or packed by a filter that is not installed. Copy it again."
        ) from error


def _rows(variable: Any) -> int:
    """Return the rows of a chunk."""
    return max(1, min(variable.shape[0], _CHUNK // max(variable[:1].nbytes, 1)))


def netcdf_bytes(data: Any) -> Any:
    """Return a data set as a NetCDF 4 file in memory; to be released before the process ends (`write_netcdf`).

    xarray takes a lock, which is one of the cluster where a client of Dask is at work: there is none for memory.
    """
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        if "distributed" in sys.modules:  # otherwise no client can be at work
            stack.enter_context(sys.modules["dask"].config.set(scheduler="synchronous"))
        return data.to_netcdf(None, engine="h5netcdf", format="NETCDF4")


def netcdf_file(file: Any, mode: str) -> Any:
    """Return an open file of h5netcdf.

    Args:
        file: a file of Python in binary mode.
        mode: "r" or "w".
    """
    import h5netcdf

    return h5netcdf.File(file, mode)


def write_netcdf(path: Path, data: Any) -> None:
    """Write a data set as NetCDF 4, its large arrays deflated.

    Args:
        path: the file; an existing one is replaced.
        data: of `dataset`.
    """
    data = data.copy()
    for variable in data.variables.values():
        if variable.ndim >= 2:
            chunks = (_rows(variable), *variable.shape[1:])
            variable.encoding |= {"zlib": True, "complevel": 4, "shuffle": True, "chunksizes": chunks}
    content = netcdf_bytes(data)
    # On a full disk HDF5 ends the process when it closes a file; Python's own writing raises an error. The view is
    # released in any case: kept by the traceback of that error, it ends the process when garbage is collected.
    with memoryview(content) as view, path.open("wb") as file:
        del content
        file.write(view)


def write_zarr(path: Path, data: Any) -> None:
    """Write a data set into an empty folder as Zarr 2, which all versions read.

    Args:
        path: the folder.
        data: of `dataset`.
    """
    data = data.copy()
    for variable in data.variables.values():
        if variable.ndim == 3:
            variable.encoding["chunks"] = (_rows(variable), *variable.shape[1:])
        elif variable.dtype.kind in "iu":
            # Zarr 2 has a fill value in every array, 0 by default, which xarray interprets as missing data.
            variable.encoding["_FillValue"] = np.iinfo(variable.dtype).max
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.to_zarr(path, mode="w", zarr_format=2, consolidated=True)
