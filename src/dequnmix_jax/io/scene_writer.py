"""Write a scene with everything known of it, so that another program, or this one, reads it back: nothing is lost.

Values are float32, scaled as they were read; masked pixels hold a nodata value that the file names. ENVI, GeoTIFF and
Zarr hold a picture on the ground, so that a swath such as EMIT's is rectified; .npz keeps the sensor's pixels and their
table.
"""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.io import georaster, npz, zarr
from dequnmix_jax.io.atomic import check_replaceable, replacing_file, replacing_folder
from dequnmix_jax.io.envi import writer
from dequnmix_jax.io.envi.header import find_header
from dequnmix_jax.scenes.georeference import rectify
from dequnmix_jax.scenes.scene import Scene

KINDS = {
    ".npz": "npz",
    ".tif": "geotiff",
    ".tiff": "geotiff",
    ".zarr": "zarr",
    ".img": "envi",
    ".dat": "envi",
    ".bsq": "envi",
    ".hdr": "envi",
}
"""What a suffix asks for."""

# The first that no valid pixel holds marks the masked ones.
_HOLES = (-9999.0, -32768.0, -1e30, -3e38)


def kind_of(path: Path) -> str:
    """Return what the suffix of a file asks for: "npz", "geotiff", "zarr" or "envi".

    Raises:
        InputError: no such suffix.
    """
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise InputError(
            f"{path} ends in {path.suffix or 'nothing'!r}; expected one of {', '.join(KINDS)}, which says the format."
        )
    return kind


def write_scene(path: str | os.PathLike[str], scene: Scene, *, overwrite: bool = False) -> list[Path]:
    """Write a scene to .npz, ENVI (.img, .dat, .bsq or .hdr), GeoTIFF (.tif) or Zarr (.zarr), whole or not at all.

    Cube, wavelengths, widths, good bands, mask, coordinate system and transform are kept; `read` gives them back.
    Values of masked pixels are not kept, save in .npz.

    Args:
        path: the file, or the folder of a Zarr store, to make; its suffix says the format.
        scene: any scene.
        overwrite: replace what is there already.

    Returns:
        The files, or the folder, written.

    Raises:
        InputError: no such format, its extra (`geo`, `zarr`) is not installed, or the output exists and `overwrite` is
            False.
    """
    target = Path(path)
    kind = kind_of(target)
    if kind == "npz":
        with replacing_file(target, overwrite=overwrite) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **npz.arrays_of(scene))  # type: ignore[arg-type]
        return [target]
    scene, hole = _placed(scene, kind)
    name = scene.name or target.stem
    if kind == "envi":
        data = target.with_suffix(".img") if target.suffix.lower() == ".hdr" else target
        return writer.write_image(
            data,
            scene.cube,
            envi_fields=scene.envi_fields,
            nodata=hole,
            spectral=writer.spectral_fields(scene.wavelengths, scene.fwhm, scene.good_bands),
            description=f"{name}, written by dequnmix_jax",
            overwrite=overwrite,
        )
    if kind == "geotiff":
        header = find_header(target)
        if header is not None:
            raise InputError(
                f"{header} lies beside {target} and would be taken for its header, scale and all; expected a name that "
                "no header has. Choose another one."
            )
        with replacing_file(target, overwrite=overwrite) as temporary:
            _write_geotiff(temporary, scene, hole, name)
        return [target]
    check_replaceable(target, overwrite, zarr.looks_like(target), "is a folder and no Zarr store")
    with replacing_folder(target, overwrite=overwrite) as folder:
        zarr.write_scene(folder, scene, hole)
    return [target]


def _placed(scene: Scene, kind: str) -> tuple[Scene, float | None]:
    """Return a scene as its place on the ground shows it, with holes where it is masked, and their value."""
    georeference = scene.georeference
    if georeference is None and kind != "envi" and "map info" in scene.envi_fields:
        georeference = georaster.georeference_from_envi(scene.envi_fields)
    masked = not scene.valid.all()
    rectified = georeference is not None and georeference.lookup is not None
    if not masked and not rectified:
        return replace(scene, georeference=georeference), None
    valid = scene.cube[scene.valid]
    hole = next(value for value in (*_HOLES, float("nan")) if not (valid == np.float32(value)).any())
    cube = rectify(np.where(scene.valid[:, :, None], scene.cube, np.float32(hole)), georeference, hole)
    placed = None if georeference is None else replace(georeference, lookup=None)
    return replace(scene, cube=cube, mask=None, georeference=placed), hole


def _write_geotiff(path: Path, scene: Scene, hole: float | None, name: str) -> None:
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
    georaster.write_maps(path, scene.cube, labels, scene.georeference, hole, text, band_tags=tags)
