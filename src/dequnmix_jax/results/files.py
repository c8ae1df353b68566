"""A result in one file: maps as the bands of a GeoTIFF, as the variables of a NetCDF file, or as matrices of MATLAB."""

from pathlib import Path
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.io import georaster, xarrays
from dequnmix_jax.io.matlab import variables
from dequnmix_jax.results.labelled import result_dataset
from dequnmix_jax.results.maps import UNCERTAIN, band_labels, description
from dequnmix_jax.results.result import Result
from dequnmix_jax.scenes.georeference import rectify
from dequnmix_jax.scenes.scene import Array, Scene

FORMATS = ("envi", "geotiff", "cog", "netcdf", "mat")
"""Formats of maps; the first is the default. A COG is a GeoTIFF with overviews, laid out for reading over a network."""

TILED = ("envi", "geotiff", "cog", "netcdf")
"""Those of them that are written in strips, where a scene is unmixed in tiles."""

NODATA = -9999.0
"""Value of masked pixels in ENVI and GeoTIFF maps, which no map has; 0 would be a measurement."""

_BY_SUFFIX = {".tif": "cog", ".tiff": "cog", ".nc": "netcdf", ".mat": "mat"}


def format_of(path: Path, format: str | None) -> tuple[str, bool]:
    """Return the format of an output, and whether it is one file.

    Args:
        path: a file ending in .tif, .nc or .mat, or a folder.
        format: one of `FORMATS`; None: that of the suffix (a COG for .tif), or ENVI in a folder.

    Raises:
        InputError: the format is unknown, or another one than the suffix says.
    """
    if format is not None and format not in FORMATS:
        raise InputError(f"format is {format!r}; expected {', '.join(FORMATS[:-1])} or {FORMATS[-1]}.")
    named = None if path.is_dir() else _BY_SUFFIX.get(path.suffix.lower())
    if named is None:
        return format or FORMATS[0], False
    fits = ("cog", "geotiff") if named == "cog" else (named,)
    if format is not None and format not in fits:
        raise InputError(
            f"{path} names one file, and the format is {format!r}; expected {' or '.join(fits)} for this suffix. Name "
            "a folder, or leave the format out."
        )
    return format or named, True


def require(format: str) -> None:
    """Raise InputError that names the extra if a format needs one that is not installed."""
    if format in ("geotiff", "cog"):
        georaster.require(f"The format {format}")
    elif format == "netcdf":
        xarrays.require("The format netcdf")


def maps_as_bands(result: Result, scene: Scene, georeference: Any) -> tuple[Array, list[str]]:
    """Return all maps as bands (H, W, K), -9999 where masked, and the names of the bands; a swath is rectified."""
    labels = [label for name in result.layers for label in band_labels(name, result.names, result.class_of)]
    picture = np.concatenate([np.asarray(one, np.float32) for one in result.layers.values()], axis=2)
    picture = np.where(scene.valid[:, :, None], picture, np.float32(NODATA))
    return rectify(picture, georeference, NODATA), labels


def write_file(path: Path, result: Result, scene: Scene, format: str) -> None:
    """Write a result into one file; an existing one is replaced.

    * geotiff, cog: the maps of `Result.layers` as bands, abundances first, under the names of the endmembers; float32.
    * netcdf: the data set of `to_xarray`, which `read_result` reads.
    * mat: see `matrices`.

    Args:
        path: the file.
        result: of the scene.
        scene: the unmixed scene.
        format: "geotiff", "cog", "netcdf" or "mat".

    Raises:
        InputError: an extra is not installed, or the result is too large for the format.
    """
    if format == "netcdf":
        xarrays.write_netcdf(path, result_dataset(result))
    elif format == "mat":
        variables.save(path, matrices(result, scene))
    else:
        georeference = georaster.georeference_for(scene)
        picture, labels = maps_as_bands(result, scene, georeference)
        holes = not scene.valid.all() or (georeference is not None and georeference.lookup is not None)
        text = description("abundances", scene.name, result.convention)
        georaster.write_maps(
            path, picture, labels, georeference, NODATA if holes else None, text, cloud=format == "cog"
        )


def matrices(result: Result, scene: Scene) -> dict[str, Any]:
    """Return the variables of a MATLAB file: y = s a E pixel by pixel, N = H W, pixels down the columns (order F).

    Y (B, N), A (R, N), E (B, R), the spectra that the fractions refer to, H, W; brightness (1, N); valid_mask (H, W);
    names, a cell array; wavelengths_nm (B, 1); order "F"; convention. `reshape(A', H, W, [])` makes pictures of A.
    Where spectra have classes: class_names and class_of, cell arrays, and classes (K, N), the sums of their fractions;
    abundances_sd (R, N) and classes_sd (K, N), standard deviations, and abundances_p05 and so on, bounds of 5 and 95 %,
    where they were computed; models (1 + K, N) of "mesma" (`maps.MODELS`).
    """
    height, width, bands = scene.cube.shape

    def columns(values: Array) -> Array:
        return np.asarray(values.reshape(height * width, -1, order="F").T)

    def cells(words: tuple[str, ...]) -> Array:
        cell = np.empty((len(words), 1), object)
        cell[:, 0] = words
        return cell

    arrays: dict[str, Any] = {
        "Y": columns(scene.cube),
        "A": columns(result.abundances),
        "E": np.asarray(result.referred).T,
        "H": np.array([[height]], np.float64),
        "W": np.array([[width]], np.float64),
        "brightness": columns(result.brightness),
        "valid_mask": scene.valid.astype(np.uint8),
        "names": cells(result.names),
        "order": "F",
        "convention": result.convention,
    }
    if result.class_of:
        arrays |= {"class_names": cells(result.class_names), "class_of": cells(result.class_of)}
    for name in ("classes", "models", *UNCERTAIN):
        if name in result.layers:
            arrays[name] = columns(result.layers[name])
    if result.wavelengths_nm is not None:
        arrays["wavelengths_nm"] = np.asarray(result.wavelengths_nm, np.float64).reshape(bands, 1)
    return arrays
