"""Read EMIT Level 2A reflectance (and Level 1B radiance), NetCDF-4.

Layout (NASA, EMIT L2A Algorithm and Product User Guide):

| name | axes | content |
| --- | --- | --- |
| reflectance (L1B: radiance) | downtrack, crosstrack, bands | float32, -9999 where missing |
| sensor_band_parameters/wavelengths, fwhm | bands | nanometres |
| sensor_band_parameters/good_wavelengths | bands | 1, or 0 in the absorption of water vapour |
| location/glt_x, glt_y | ortho_y, ortho_x | crosstrack, downtrack (from 1) of a pixel of the map; 0: none |
| location/lat, lon | downtrack, crosstrack | degrees; redundant beside the table |
| attributes geotransform, spatial_ref | | of the map: GDAL's six numbers, and WKT |

The cube stays in the sensor's own pixels, without resampling; written maps are rectified by the table.
"""

from pathlib import Path
from typing import Any

import numpy as np

from dequnmix_jax.io import georaster
from dequnmix_jax.io.bands import bands_to_use, nanometres, valid_lengths
from dequnmix_jax.io.missions import hdf5
from dequnmix_jax.scenes.georeference import Georeference, from_gdal
from dequnmix_jax.scenes.read_options import ReadOptions
from dequnmix_jax.scenes.scene import Array
from dequnmix_jax.scenes.source import Source, Stored, Window
from dequnmix_jax.scenes.values import missing_value

_FILL = -9999.0
_CUBES = ("reflectance", "radiance")
_BANDS = "sensor_band_parameters"


def holds(file: Any) -> bool:
    """Return whether an open HDF5 file has EMIT's layout."""
    return _BANDS in file and any(name in file for name in _CUBES)


def _georeference(file: Any, path: Path, notes: list[str]) -> Georeference | None:
    numbers = hdf5.numbers(file, "geotransform", 6, path)
    if numbers is None or "location/glt_x" not in file or "location/glt_y" not in file:
        notes.append("The file has no table of the map (geotransform, location/glt_x, glt_y); outputs are not placed.")
        return None
    columns, rows = (hdf5.dataset(file, f"location/{name}", path, 2)[()] for name in ("glt_x", "glt_y"))
    # Counted from 1; some tools mark pixels that they fill from a neighbour by a minus sign. NaN becomes "none".
    seen = np.abs(np.stack([rows, columns], axis=2, dtype=np.float64, casting="unsafe"))
    lookup = np.where(seen < 2**31, seen, 0).astype(np.int32) - 1
    lookup[(lookup < 0).any(axis=2)] = -1
    notes.append("Pixels are the sensor's own; maps written as GeoTIFF or ENVI are rectified by the file's table.")
    return Georeference(hdf5.text(file, "spatial_ref"), from_gdal(numbers), lookup)


def open_image(file: Any, path: Path, options: ReadOptions) -> Source:
    """Open the scene of an EMIT file.

    Args:
        file: the open file; each reading opens it again.
        path: its path.
        options: nodata, scale and saturation apply to the stored numbers and override what the file says.

    Returns:
        A Source (downtrack, crosstrack, bands), with the file's good bands and lookup table.

    Raises:
        InputError: arrays are missing or do not fit together.
    """
    name = next(name for name in _CUBES if name in file)
    stored = hdf5.dataset(file, name, path, 3)
    bands = stored.shape[2]
    fill = hdf5.numbers(stored, "_FillValue", 1, path)
    notes: list[str] = []
    if name == "radiance":
        notes.append("The file holds radiance, not reflectance.")
    centres, fwhm, listed = (
        hdf5.vector(file, f"{_BANDS}/{word}", path, bands) for word in ("wavelengths", "fwhm", "good_wavelengths")
    )
    wavelengths: Array | None = None
    if centres is not None:
        wavelengths, unit_notes = nanometres(centres, "nm")
        notes += unit_notes
    fwhm, width_notes = valid_lengths(fwhm, "The file", "widths (fwhm)")
    notes += width_notes
    good = None if listed is None else listed > 0.5
    good, ignore_notes = bands_to_use(good, wavelengths, bands, options, str(path))
    nodata = missing_value(options.nodata, _FILL if fill is None else float(fill[0]))

    def read(window: Window | None) -> Stored:
        with hdf5.opened(path) as again:
            values = hdf5.dataset(again, name, path, 3)
            return Stored(values[()] if window is None else values[window.rows, window.columns])

    placement = georaster.placement(_georeference(file, path, notes), notes)
    return Source(
        stored.shape,
        read,
        nodata=nodata,
        scale=options.scale,
        saturation=options.saturation,
        wavelengths=wavelengths,
        good_bands=good,
        name=path.stem,
        source=path,
        notes=(*notes, *ignore_notes),
        fwhm=fwhm,
        **placement,
    )
