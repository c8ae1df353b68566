"""Write a scene with all its metadata, for this and other programs.

Values are float32, scaled as they were read; masked pixels hold a nodata value that the file names. For ENVI, GeoTIFF,
NetCDF and Zarr a swath such as EMIT's is rectified; .npz keeps the sensor's pixels and their lookup table.
"""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from dequnmix_jax.checks import InputError, ending
from dequnmix_jax.io import georaster, npz, xarrays, zarr
from dequnmix_jax.io.atomic import check_replaceable, replacing_file, replacing_folder
from dequnmix_jax.io.envi import writer
from dequnmix_jax.io.envi.header import find_header
from dequnmix_jax.io.remote import as_local
from dequnmix_jax.scenes.georeference import rectify
from dequnmix_jax.scenes.scene import Scene

KINDS = {
    ".npz": "npz",
    ".tif": "geotiff",
    ".tiff": "geotiff",
    ".nc": "netcdf",
    ".zarr": "zarr",
    ".img": "envi",
    ".dat": "envi",
    ".bsq": "envi",
    ".hdr": "envi",
}
"""Formats by suffix."""

# Masked pixels hold the first of these values that no valid pixel holds.
_FILLS = (-9999.0, -32768.0, -1e30, -3e38)


def kind_of(path: Path) -> str:
    """Return the format for the suffix of a file: "npz", "geotiff", "netcdf", "zarr" or "envi".

    Raises:
        InputError: the suffix is unknown.
    """
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"{path} {ending(path)}; expected one of {', '.join(KINDS)}, which says the format.")
    return kind


def write_scene(path: str | os.PathLike[str], scene: Scene, *, overwrite: bool = False) -> list[Path]:
    """Write a scene to .npz, ENVI (.img, .dat, .bsq, .hdr), GeoTIFF (.tif), NetCDF (.nc) or Zarr (.zarr), whole or not.

    Cube, wavelengths, widths, good bands, mask, coordinate reference system and transform are kept, and `read` returns
    them. The values of masked pixels are kept only in .npz.

    Args:
        path: the file, or the folder of a Zarr store; its suffix selects the format.
        scene: any scene.
        overwrite: replace an existing output.

    Returns:
        The files, or the folder, written.

    Raises:
        InputError: the format is unknown, its extra (`geo`, `xarray`) is not installed, or the output exists and
            `overwrite` is False.
    """
    target = as_local(path)
    kind = kind_of(target)
    if kind == "npz":
        with replacing_file(target, overwrite=overwrite) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **npz.arrays_of(scene))  # type: ignore[arg-type]
        return [target]
    if kind in ("netcdf", "zarr"):
        return _write_labelled(target, scene, kind, overwrite)
    scene, fill = _rectified(scene, kind)
    name = scene.name or target.stem
    if kind == "envi":
        data = target.with_suffix(".img") if target.suffix.lower() == ".hdr" else target
        return writer.write_image(
            data,
            scene.cube,
            envi_fields=georaster.fields_for(scene),
            nodata=fill,
            spectral=writer.spectral_fields(scene.wavelengths, scene.fwhm, scene.good_bands),
            description=f"{name}, written by dequnmix_jax",
            overwrite=overwrite,
        )
    check_no_header(target)
    with replacing_file(target, overwrite=overwrite) as temporary:
        _write_geotiff(temporary, scene, fill, name)
    return [target]


def check_no_header(target: Path) -> None:
    """Raise InputError if a file would have an ENVI header beside it that is not its own."""
    header = find_header(target)
    if header is not None:
        raise InputError(
            f"{header} lies beside {target} and would be taken for its header, scale and all; expected a name that no "
            "header has. Choose another one."
        )


def _write_labelled(target: Path, scene: Scene, kind: str, overwrite: bool) -> list[Path]:
    if kind == "netcdf":
        with replacing_file(target, overwrite=overwrite) as temporary:
            xarrays.write_netcdf(temporary, xarrays.scene_dataset(scene))
        return [target]
    zarr.require("Writing a Zarr store")
    check_replaceable(target, overwrite, zarr.looks_like(target), "is a folder and no Zarr store")
    with replacing_folder(target, overwrite=overwrite) as folder:
        xarrays.write_zarr(folder, xarrays.scene_dataset(scene))
    return [target]


def _rectified(scene: Scene, kind: str) -> tuple[Scene, float | None]:
    """Return a scene in the pixels of its transform, with the fill value where masked, and this value."""
    georeference = scene.georeference if kind == "envi" else georaster.georeference_for(scene)
    if scene.valid.all() and (georeference is None or georeference.lookup is None):
        return replace(scene, georeference=georeference), None
    valid = scene.cube[scene.valid]
    fill = next(value for value in (*_FILLS, float("nan")) if not (valid == np.float32(value)).any())
    cube = rectify(np.where(scene.valid[:, :, None], scene.cube, np.float32(fill)), georeference, fill)
    georeference = None if georeference is None else replace(georeference, lookup=None)
    return replace(scene, cube=cube, mask=None, georeference=georeference), fill


def _write_geotiff(path: Path, scene: Scene, fill: float | None, name: str) -> None:
    bands = scene.cube.shape[2]
    labels = [f"band {band}" for band in range(bands)]
    tags: list[dict[str, str]] = [{} for _ in range(bands)]
    for band in range(bands):
        if scene.wavelengths is not None:
            labels[band] = f"{scene.wavelengths[band]:.10g} nm"
            tags[band] |= {"wavelength": repr(float(scene.wavelengths[band])), "wavelength_units": "Nanometers"}
        if scene.fwhm is not None:
            tags[band]["fwhm"] = repr(float(scene.fwhm[band]))
        if scene.good_bands is not None:
            tags[band]["bbl"] = str(int(scene.good_bands[band]))
    text = f"{name}, written by dequnmix_jax"
    georaster.write_maps(path, scene.cube, labels, scene.georeference, fill, text, band_tags=tags)
