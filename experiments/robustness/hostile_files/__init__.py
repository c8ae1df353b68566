"""Files of every kind that the package reads: small valid ones, and damaged copies.

`KINDS` holds for each kind how a case is made, by a numpy Generator in an empty folder, and how it is read: by the
functions of the command line.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from dequnmix_jax.checks import InputError
from dequnmix_jax.cli.config_file import read_configuration
from dequnmix_jax.libraries import reading
from experiments.robustness.hostile_files.checkpoints import make_checkpoint
from experiments.robustness.hostile_files.grid_files import make_raster, make_tiff, make_zarr
from experiments.robustness.hostile_files.matlab_files import make_mat5, make_mat73, make_struct
from experiments.robustness.hostile_files.mission_files import make_emit, make_prisma, make_product, make_table_mission
from experiments.robustness.hostile_files.netcdf_files import make_netcdf, make_result, read_netcdf_result
from experiments.robustness.hostile_files.numpy_files import make_npy, make_npz
from experiments.robustness.hostile_files.readers import read_checkpoint, read_reference, read_scene
from experiments.robustness.hostile_files.text_files import (
    make_config,
    make_envi,
    make_framed,
    make_library,
    make_records,
    make_rows,
    make_table,
    make_usgs,
)
from experiments.robustness.mutations import Random


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
        make: writes a damaged file into an empty folder and returns the path to read.
        read: reads it, and raises InputError if it cannot.
    """

    make: Callable[[Random, Path], Path]
    read: Callable[[Path], Any]


KINDS: dict[str, Kind] = {
    ".npz": Kind(make_npz, read_reference),
    ".npy": Kind(make_npy, read_scene),
    ".mat, version 4 and 5": Kind(make_mat5, read_reference),
    ".mat, version 7.3": Kind(make_mat73, read_reference),
    "ENVI image": Kind(make_envi, read_scene),
    "ENVI library": Kind(make_library, reading.read_library),
    "library, table": Kind(make_table, reading.read_library),
    "library, USGS text": Kind(make_usgs, reading.read_library),
    "GeoTIFF": Kind(make_tiff, read_scene),
    "Zarr": Kind(make_zarr, read_scene),
    "EMIT": Kind(make_emit, read_scene),
    "PRISMA": Kind(make_prisma, read_scene),
    "checkpoint": Kind(make_checkpoint, read_checkpoint),
    "configuration": Kind(make_config, read_configuration),
    ".mat, struct": Kind(make_struct, read_scene),
    "AVIRIS, Tanager, NEON, PACE": Kind(make_table_mission, read_scene),
    "EnMAP, DESIS": Kind(make_product, read_scene),
    "VRT, ESRI .bil": Kind(make_raster, read_scene),
    "ENVI image, frames and gains": Kind(make_framed, read_scene),
    "library, rows": Kind(make_rows, reading.read_library),
    "library, ECOSTRESS and SVC": Kind(make_records, reading.read_library),
    "NetCDF": Kind(make_netcdf, read_scene),
    "NetCDF, result": Kind(make_result, read_netcdf_result),
}
"""Kinds of file by name."""


def outcome(kind: Kind, path: Path) -> str:
    """Return "read" or "refused"; any other exception is a fault."""
    try:
        kind.read(path)
    except InputError as error:
        return "refused" if str(error).strip() else "refused without a word"
    return "read"
