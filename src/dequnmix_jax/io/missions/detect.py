"""Open the HDF5 files of missions; the layout of the file tells which mission it is."""

import os
from pathlib import Path

from dequnmix_jax.checks import InputError
from dequnmix_jax.io import netcdf
from dequnmix_jax.io.missions import emit, hdf5, prisma, table
from dequnmix_jax.io.remote import as_place
from dequnmix_jax.scenes.read_options import ReadOptions
from dequnmix_jax.scenes.source import Source


def open_image(path: str | os.PathLike[str], options: ReadOptions) -> Source:
    """Open an EMIT (L2A reflectance, L1B radiance) or PRISMA (L2D, L2C, L2B) file, or one of `table.MISSIONS`.

    Other files are read as NetCDF in the CF conventions if they describe themselves (extra `xarray`).

    Args:
        path: the file; needs the extra `geo`.
        options: nodata overrides the value that the mission documents, scale the file's own scale.

    Returns:
        A Source.

    Raises:
        InputError: the file is damaged, of another mission, or its arrays do not fit together.
    """
    path = as_place(path)
    with hdf5.opened(path) as file:
        for mission in (emit, prisma):
            if mission.holds(file):
                _check_no_variable(options, path)
                return mission.open_image(file, path, options)
        found = table.mission_of(file)
        if found is not None:
            _check_no_variable(options, path)
            return table.open_image(file, path, options, *found)
        names = ", ".join(sorted(file)[:8]) or "nothing"
        described = netcdf.describes_itself(file)
    if described:
        return netcdf.open_image(path, options)
    known = "; ".join(mission.name for mission in table.MISSIONS)
    raise InputError(
        f"{path} is an HDF5 file that holds {names}; expected the layout of EMIT L2A (reflectance), PRISMA L2 "
        f"(HDFEOS/SWATHS/PRS_L2D_HCO), of {known}, or NetCDF whose cube names its axes. "
        "Convert it to GeoTIFF, ENVI, .npz or Zarr; a MATLAB file needs "
        "the suffix .mat."
    )


def _check_no_variable(options: ReadOptions, path: Path) -> None:
    if options.variable is not None:
        raise InputError(
            f"{path} is an HDF5 file of a mission, which holds one cube; variable does not apply. Leave it out."
        )
