"""Write an estimate: maps and spectra as ENVI files, arrays as .npz, and a summary that says how they came about."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dequnmix_jax import georaster
from dequnmix_jax.atomic import replacing_folder
from dequnmix_jax.checks import InputError
from dequnmix_jax.envi_writing import write_image, write_library
from dequnmix_jax.ground import on_the_ground
from dequnmix_jax.library_csv import write_table
from dequnmix_jax.maps import KINDS
from dequnmix_jax.results import ARRAYS, Result, arrays_of, result_of
from dequnmix_jax.scene import Scene
from dequnmix_jax.sidecar import SUMMARY, as_text

if TYPE_CHECKING:
    from dequnmix_jax.records import Estimate, Trace

# How maps are written; the first one by default.
FORMATS = ("envi", "geotiff")

# In the maps for other programs, masked pixels hold a value that no map has; 0 would be a measurement.
NODATA = -9999.0


def write(
    path: str | os.PathLike[str],
    estimate: "Estimate",
    scene: Scene,
    *,
    names: Sequence[str] | None = None,
    configuration: Any = None,
    trace: "Trace | None" = None,
    convergence: Any = None,
    record: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    format: str = "envi",
) -> list[Path]:
    """Write an estimate into a folder, whole or not at all.

    The folder gets the maps abundances, brightness, residual and convergence (`maps.KINDS` says what they measure) as
    ENVI float32 (.img) with the scene's ground fields, or as GeoTIFF float32 (.tif) with coordinate system and
    transform; masked pixels hold -9999, which the files say, and a swath such as EMIT's is rectified. Beside them
    endmembers.sli (ENVI spectral library), endmembers.csv, estimate.npz (what `score` and `report` read) and
    summary.json (configuration, trace, versions, the input's sha256, notes, and endmember_levels, the level of each
    endmember in the units of the scene: `maps.levels`).

    Args:
        path: the folder to make.
        estimate: abundances (H, W, R), endmembers (R, B), brightness (H, W), state; numpy or jax.
        scene: the scene as it was unmixed: same pixels, same bands.
        names: R names, "endmember 1" and so on by default.
        configuration: a dataclass or a mapping of numbers, text and dataclasses, or None.
        trace: how the solve went, or None.
        convergence: (H, W), from `last_change`, or None; without it that map is not written.
        record: further entries of summary.json, such as how the scene was read.
        overwrite: replace a folder that an earlier `write` made, with everything in it.
        format: "envi" or "geotiff" (which needs the extra `geo`), of the maps.

    Returns:
        The files written.

    Raises:
        InputError: the arrays do not fit the scene, the folder exists and `overwrite` is False, or it is not ours.
    """
    found = result_of(
        estimate,
        scene,
        names=names,
        configuration=configuration,
        trace=trace,
        convergence=convergence,
        record=record,
    )
    return write_result(path, found, scene, overwrite=overwrite, format=format)


def write_result(
    path: str | os.PathLike[str], result: Result, scene: Scene, *, overwrite: bool = False, format: str = "envi"
) -> list[Path]:
    """Write a result, from `result_of`, as `write` does; the scene says where it lies."""
    target = Path(path)
    if overwrite and target.is_dir() and any(target.iterdir()) and not (target / SUMMARY).is_file():
        raise InputError(
            f"{target} holds files and no {SUMMARY}, so no earlier output of this program; it is not replaced. Choose "
            "another folder."
        )
    if format not in FORMATS:
        raise InputError(f"format is {format!r}; expected {' or '.join(FORMATS)}.")
    ground = scene.ground
    if format == "geotiff" and ground is None:
        ground = georaster.ground_from_envi(scene.crs)
    masked = not scene.valid.all()
    rectified = ground is not None and ground.lookup is not None
    hole = NODATA if masked or rectified else None
    with replacing_folder(target, overwrite=overwrite) as folder:
        written = []
        for name, values in result.maps.items():
            if values is None:
                continue
            labels = result.names if name == "abundances" else (f"{name} ({KINDS[name].unit})",)
            picture = values if values.ndim == 3 else values[:, :, None]
            picture = np.where(scene.valid[:, :, None], picture, NODATA) if masked else picture
            picture = on_the_ground(picture, ground, NODATA)
            text = f"{name} of {scene.name or 'a scene'} by dequnmix_jax; {KINDS[name].unit}"
            if format == "geotiff":
                georaster.write_maps(folder / f"{name}.tif", picture, labels, ground, hole, text)
                written.append(folder / f"{name}.tif")
            else:
                written += write_image(
                    folder / f"{name}.img",
                    picture,
                    band_names=labels,
                    ground=scene.crs,
                    nodata=hole,
                    description=text,
                )
        written += write_library(folder / "endmembers.sli", result.endmembers, result.names, scene.wavelengths)
        write_table(folder / "endmembers.csv", result.endmembers, result.names, scene.wavelengths)
        np.savez_compressed(folder / ARRAYS, **arrays_of(result))  # type: ignore[arg-type]
        (folder / SUMMARY).write_text(as_text(result.summary), encoding="utf-8")
        written += [folder / "endmembers.csv", folder / ARRAYS, folder / SUMMARY]
    return [target / file.name for file in written]
