"""Read NetCDF in the CF conventions, formats 3 and 4: a cube with its coordinates, as xarray writes it."""

import os
from dataclasses import replace
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.io import labelled_arrays, xarrays
from dequnmix_jax.io.remote import as_place
from dequnmix_jax.scenes.read_options import ReadOptions
from dequnmix_jax.scenes.source import Source, Stored, Window
from dequnmix_jax.scenes.truth import Truth

CLASSIC = (b"CDF\x01", b"CDF\x02", b"CDF\x05")
"""First bytes of NetCDF 3; NetCDF 4 is HDF5."""


RESULT = frozenset({"abundances", "endmembers", "brightness"})
"""Variables of a result, which is NetCDF too."""


def describes_itself(file: Any) -> bool:
    """Return whether an open HDF5 file is NetCDF 4: it says so, or its cubes name their axes."""
    if any(name in file.attrs for name in ("Conventions", "_NCProperties")):
        return True
    return any("DIMENSION_LIST" in item.attrs for item in file.values() if len(getattr(item, "shape", None) or ()) > 2)


def open_image(path: str | os.PathLike[str], options: ReadOptions) -> Source:
    """Open the cube of a NetCDF file.

    Args:
        path: the file; needs the extra `xarray`.
        options: nodata overrides the attributes, scale their scale_factor and add_offset; variable names the cube in a
            file of several.

    Returns:
        A Source.

    Raises:
        InputError: the file is damaged, holds no cube or a result, or its axes cannot be identified; or xarray is not
            installed.
    """
    path = as_place(path)
    with xarrays.opened(path) as data:
        if options.variable is None and set(data.variables) >= RESULT:
            raise InputError(
                f"{path} holds the maps of a result, not a scene; expected the scene that was unmixed. "
                "`read_result`, `score` and `report` read the result."
            )
        source = labelled_arrays.open_array(data, options)

    def stored(window: Window | None) -> Stored:
        with xarrays.opened(path) as data:
            return labelled_arrays.open_array(data, options).stored(window)

    return replace(source, stored=stored, source=path, name=path.stem)


def read_truth(path: str | os.PathLike[str]) -> Truth:
    """Read abundances, endmembers and names of a result in a NetCDF file.

    Args:
        path: the file; needs the extra `xarray`.

    Returns:
        A Truth; its reference is the name of the file. Abundances are 0 in masked pixels.

    Raises:
        InputError: the file cannot be read, or holds no result.
    """
    path = as_place(path)
    with xarrays.opened(path) as data:
        if not set(data.variables) >= {"abundances", "endmembers", "endmember"}:
            listed = ", ".join(map(str, data.data_vars)) or "nothing"
            raise InputError(f"{path} holds {listed}; expected abundances and endmembers, as in a result.")
        return Truth(
            abundances=np.nan_to_num(data["abundances"].values, nan=0.0),
            endmembers=np.array(data["endmembers"].values),
            names=tuple(map(str, data["endmember"].values.tolist())),
            reference=path.name,
            convention=str(data.attrs["convention"]) if "convention" in data.attrs else None,
        )
