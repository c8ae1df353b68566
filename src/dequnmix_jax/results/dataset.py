"""A result as a data set of xarray: its maps and spectra with coordinates and a place, in memory and in NetCDF."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.conventions import MEANINGS
from dequnmix_jax.escaping import reason_of
from dequnmix_jax.io import labelled_arrays, netcdf, npz, xarrays
from dequnmix_jax.io.missions import hdf5
from dequnmix_jax.results.maps import UNCERTAIN, class_names, class_sums, kind_of, model_map
from dequnmix_jax.results.summary import as_text
from dequnmix_jax.scenes.georeference import Georeference, rectify
from dequnmix_jax.scenes.scene import Array

SUFFIXES = (".nc", ".nc4")
"""Of a result in one file that `read_result` reads."""

_AXES = {
    **dict.fromkeys(("brightness", "residual", "convergence"), ("y", "x")),
    **dict.fromkeys(("abundances", "state"), ("y", "x", "endmember")),
    "classes": ("y", "x", "class"),
    **{name: ("y", "x", "class" if name.startswith("classes") else "endmember") for name in UNCERTAIN},
    "models": ("y", "x", "model"),
    "composite": ("y", "x", "colour"),
    "endmembers": ("endmember", "band"),
}
_WORDS = {
    "state": ("1", "Equilibrium of the map, of which abundances and brightness are the parts."),
    "endmembers": ("1", "Spectra of the endmembers, in the units of the scene."),
    "composite": ("1", "Red, green and blue of a colour composite of the scene."),
}


def _described(name: str) -> dict[str, str]:
    if name in _WORDS:
        return {"units": _WORDS[name][0], "long_name": _WORDS[name][1]}
    kind = kind_of(name)
    return {"units": "1", "long_name": name, "comment": f"{kind.meaning} In: {kind.unit}."}


def dataset_of(
    arrays: Mapping[str, Array], summary: Mapping[str, Any], georeference: Georeference | None, title: str
) -> Any:
    """Return a data set of the arrays of a result; masked pixels are NaN, and a swath is rectified.

    Args:
        arrays: as in estimate.npz, by name.
        summary: the content of summary.json; it becomes the attribute `summary`.
        georeference: of the scene, or None.
        title: name of the scene.

    Raises:
        InputError: xarray is not installed, or the coordinate reference system is unknown.
    """
    lookup = None if georeference is None else georeference.lookup
    mask = arrays.get("mask")
    valid = np.ones(arrays["abundances"].shape[:2], np.bool_) if mask is None else mask
    class_of = [str(word) for word in arrays.get("class_of", ())]
    if class_of:
        arrays = {**arrays, "classes": class_sums(arrays["abundances"], class_of)}
    if class_of and "models" in summary:
        arrays = {**arrays, "models": model_map(arrays["abundances"], class_of)}
    variables: dict[str, Any] = {}
    for name, axes in _AXES.items():
        values = arrays.get(name)
        if values is None:
            continue
        if axes[0] == "y":
            picture = values if values.ndim == 3 else values[:, :, None]
            if picture.dtype.kind == "f":
                picture = np.where(valid[:, :, None], picture, np.array(np.nan, picture.dtype))
            picture = rectify(picture, georeference, np.nan if picture.dtype.kind == "f" else 0)
            values = picture if values.ndim == 3 else picture[:, :, 0]
        variables[name] = (axes, values, _described(name))
    if mask is not None or lookup is not None:
        seen = rectify(valid[:, :, None].astype(np.uint8), georeference, 0)[:, :, 0]
        words = {"flag_values": np.array([0, 1], np.uint8), "flag_meanings": "masked valid"}
        variables["valid"] = (("y", "x"), seen, words)
    coordinates = xarrays.spectral_coordinates(arrays.get("wavelengths_nm"), arrays.get("fwhm_nm"))
    coordinates["endmember"] = ("endmember", np.asarray(arrays["names"], object), {"long_name": "endmember"})
    if class_of:
        coordinates["class_of"] = ("endmember", np.array(class_of, object), {"long_name": "class of the endmember"})
        coordinates["class"] = ("class", np.array(class_names(class_of), object), {"long_name": "class"})
    convention = str(arrays.get("convention", ""))
    attributes = {
        "title": title,
        "convention": convention,
        "comment": f"Fractions: {MEANINGS[convention]}" if convention in MEANINGS else "",
        "composite_bands": str(arrays.get("composite_bands", "")),
        "summary": as_text(summary),
    }
    place = None if georeference is None else replace(georeference, lookup=None)
    return xarrays.dataset(variables, coordinates, place, {key: value for key, value in attributes.items() if value})


def is_result(path: Path) -> bool:
    """Return whether a file is NetCDF 4 with the maps of a result; raise InputError if it is damaged HDF5."""
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        return False
    with path.open("rb") as file:
        if not file.read(4).startswith(b"\x89HDF"):
            return False
    with hdf5.opened(path, "xarray") as file:
        return set(file) >= netcdf.RESULT


def arrays_in(path: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return the arrays of a result in a NetCDF file, by their names in estimate.npz, and its summary.

    Raises:
        InputError: the file is damaged, holds no result, or xarray is not installed.
    """
    with xarrays.opened(path) as data:
        return arrays_of_dataset(data, str(path))


def arrays_of_dataset(data: Any, place: str) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return the arrays of a result as a data set, as `arrays_in`; `place` begins the sentence of an error."""
    if not set(data.variables) >= netcdf.RESULT or "endmember" not in data.variables or "summary" not in data.attrs:
        listed = ", ".join(map(str, data.data_vars)) or "nothing"
        raise InputError(
            f"{place} holds {listed}; expected the result of an unmixing, which `-o result.nc` writes. Unmix the "
            "scene again."
        )
    # Sums of classes and models follow from the fractions.
    names = [name for name in _AXES if name in data.variables and name not in ("classes", "models")]
    arrays = {name: np.array(data[name].values) for name in names}
    for name, own in (("endmember", "names"), ("class_of", "class_of")):
        if name in data.variables:
            arrays[own] = np.asarray(data[name].values).astype(np.str_)
    for name, own in (("wavelength", "wavelengths_nm"), ("fwhm", "fwhm_nm")):
        if name in data.variables:
            arrays[own] = np.asarray(data[name].values)
    if "valid" in data.variables:
        arrays["mask"] = np.asarray(data["valid"].values) == 1
    for name in ("convention", "composite_bands"):
        if name in data.attrs:
            arrays[name] = np.array(str(data.attrs[name]))
    if {"y", "x"} <= set(data["brightness"].dims):
        arrays |= npz.place_of(labelled_arrays.place_of(data["brightness"]))
    text = str(data.attrs["summary"])
    mask = arrays.get("mask")
    if mask is not None and mask.shape == arrays["abundances"].shape[:2]:
        for name, axes in _AXES.items():
            values = arrays.get(name)
            if values is not None and axes[0] == "y" and values.dtype.kind == "f" and values.shape[:2] == mask.shape:
                values[~mask] = 0
    try:
        return arrays, json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"The attribute summary of {place} is not JSON ({reason_of(error)}); unmix the scene again."
        ) from error
