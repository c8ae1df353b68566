"""Files of NetCDF in the CF conventions, formats 4 and 3, and results in NetCDF."""

from pathlib import Path
from typing import Any

import numpy as np

from dequnmix_jax.results.result import read_result
from experiments.robustness.hostile_files.hdf5 import attributes, dataset, huge
from experiments.robustness.hostile_files.samples import CENTRES, CUBE, MAPS, SPECTRA, B, H, R, W, often, perhaps
from experiments.robustness.mutations import Random, Tree, pick

_PLACE: Tree = {
    "grid_mapping_name": "transverse_mercator",
    "longitude_of_central_meridian": 9.0,
    "scale_factor_at_central_meridian": 0.9996,
    "false_easting": 5e5,
    "latitude_of_projection_origin": 0.0,
    "false_northing": 0.0,
    "semi_major_axis": 6378137.0,
    "inverse_flattening": 298.257223563,
    "GeoTransform": "500000 30 0 5000000 0 -30",
}
_STORED: Tree = {"_FillValue": np.array([-999], "i2"), "scale_factor": 1e-4, "add_offset": 0.01, "grid_mapping": "utm"}
_AXES: Tree = {"y": 4999985.0 - 30 * np.arange(H), "x": 500015.0 + 30 * np.arange(W), "wavelength": CENTRES / 1000}


def _described(draw: Random, file: Any, axes: dict[str, tuple[str, ...]]) -> None:
    """Name the axes of datasets, as NetCDF 4 does."""
    for name in {axis for names in axes.values() for axis in names}:
        if name in file and hasattr(file[name], "make_scale"):
            file[name].make_scale(name)
    for name, names in axes.items():
        if name not in file or draw.random() < 0.1:
            continue
        for place, axis in enumerate(names):
            try:
                file[name].dims[place].attach_scale(file[axis])
            except (KeyError, IndexError, TypeError, ValueError, RuntimeError, AttributeError):
                continue  # a spoilt array has other axes, or does not hold numbers


def make_netcdf(draw: Random, folder: Path) -> Path:
    """Make a file of a scene: integers, bands first, a grid mapping without WKT; format 4 or 3."""
    counts = np.round(CUBE.transpose(2, 0, 1) * 1e4).astype("i2")
    counts[:, 1, 2] = -999
    path = folder / "s.nc"
    if draw.random() < 0.4:
        return _make_classic(draw, path, counts)
    import h5py

    with h5py.File(path, "w") as file:
        for name, values in often(draw, {"sr": counts, "utm": 0, **_AXES}).items():
            dataset(file, name, values)
        _described(draw, file, {"sr": ("wavelength", "y", "x")})
        for name, tree in (("sr", _STORED), ("utm", _PLACE), ("wavelength", {"units": "um"})):
            if name in file:
                attributes(draw, file[name], tree)
        attributes(draw, file, {"Conventions": "CF-1.8"})
        huge(draw, file, ("sr", "wavelength", "x"))
    path.write_bytes(perhaps(draw, path.read_bytes()))
    return path


def _make_classic(draw: Random, path: Path, counts: Any) -> Path:
    from scipy.io import netcdf_file

    with netcdf_file(path, "w") as file:
        for name, size in (("wavelength", B), ("y", H), ("x", W)):
            file.createDimension(name, size)
        held = file.createVariable("sr", "i2", ("wavelength", "y", "x"))
        held[:] = counts
        for name, values in _AXES.items():
            file.createVariable(name, "f8", (name,))[:] = values
        held.scale_factor, held.grid_mapping = pick(draw, (1e-4, 0.0, np.nan, -1e300)), "utm"
        held._attributes["_FillValue"] = np.int16(-999)
        file.variables["wavelength"].units = pick(draw, ("um", "nm", "", "furlong"))
        mapping = file.createVariable("utm", "i4", ())
        for name, value in _PLACE.items():
            mapping._attributes[name] = value if isinstance(value, str) else np.float64(value)
    path.write_bytes(perhaps(draw, path.read_bytes()))
    return path


def make_result(draw: Random, folder: Path) -> Path:
    """Make a result as `-o result.nc` does."""
    import h5py

    path = folder / "r.nc"
    tree: Tree = {
        "abundances": MAPS,
        "endmembers": SPECTRA,
        "brightness": np.ones((H, W), "f4"),
        "valid": np.ones((H, W), "u1"),
        "wavelength": CENTRES,
        "y": _AXES["y"],
        "x": _AXES["x"],
        "spatial_ref": 0,
    }
    with h5py.File(path, "w") as file:
        for name, values in often(draw, tree).items():
            dataset(file, name, values)
        if draw.random() < 0.9:
            file.create_dataset("endmember", data=["soil", "tree", "roof"][:R], dtype=h5py.string_dtype())
        for name, size in (("band", B), ("colour", 3)):
            if name not in file:
                file.create_dataset(name, data=np.arange(size))
        _described(
            draw,
            file,
            {
                "abundances": ("y", "x", "endmember"),
                "endmembers": ("endmember", "band"),
                "brightness": ("y", "x"),
                "valid": ("y", "x"),
                "wavelength": ("band",),
            },
        )
        if "spatial_ref" in file:
            attributes(draw, file["spatial_ref"], _PLACE)
        attributes(draw, file, {"convention": "reflectance", "summary": pick(draw, (*["{}"] * 9, "{", '{"notes": 3}'))})
        huge(draw, file, ("abundances", "brightness", "wavelength"))
    path.write_bytes(perhaps(draw, path.read_bytes()))
    return path


def read_netcdf_result(path: Path) -> None:
    """Read a result, as `report` does."""
    read_result(path)
