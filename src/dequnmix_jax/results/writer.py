"""Write an estimate: maps, spectra, arrays as .npz, and a summary of how they were computed."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dequnmix_jax.io import georaster
from dequnmix_jax.io.atomic import (
    check_file,
    check_folder,
    check_replaceable,
    replacing_file,
    replacing_folder,
    reserved,
)
from dequnmix_jax.io.disk_space import writing
from dequnmix_jax.io.envi.writer import write_image, write_library
from dequnmix_jax.io.provenance import SUMMARY
from dequnmix_jax.io.remote import as_local
from dequnmix_jax.io.scene_writer import check_no_header
from dequnmix_jax.libraries.csv import write_table
from dequnmix_jax.results.areas import AREAS, areas_table, deviation_of_mean
from dequnmix_jax.results.files import NODATA, format_of, write_file
from dequnmix_jax.results.maps import band_labels, description
from dequnmix_jax.results.result import ARRAYS, Result, arrays_of, result_of
from dequnmix_jax.results.summary import as_text
from dequnmix_jax.results.verdicts import with_verdicts
from dequnmix_jax.scenes.georeference import rectify
from dequnmix_jax.scenes.scene import Scene

if TYPE_CHECKING:
    from dequnmix_jax.types import Estimate, Trace


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
    convention: str | None = None,
    overwrite: bool = False,
    format: str | None = None,
) -> list[Path]:
    """Write an estimate into a folder, or into one file, completely or not at all.

    The folder holds the maps abundances, brightness, residual and convergence (see `maps.KINDS`) as ENVI float32 (.img)
    with the scene's georeferencing fields, or as GeoTIFF float32 (.tif) with coordinate reference system and transform.
    Masked pixels hold -9999, which the files declare as nodata; a swath such as EMIT's is rectified. Where spectra have
    classes, the map classes holds the sums of their fractions; abundances_sd and classes_sd hold standard deviations,
    abundances_p05 and so on bounds of 5 and 95 %; models holds the models that "mesma" chose.
    The folder also holds endmembers.sli (ENVI spectral library), endmembers.csv, areas.csv (mean fractions and areas,
    and those above their error, see `areas.above_error`), estimate.npz (for `score` and
    `report`) and summary.json (configuration, trace, versions, sha256 of the input, notes, the convention of the
    fractions in a word and a sentence, and endmember_levels, the largest value of each spectrum). Spectra are in the
    units of the scene.

    A path that ends in .tif, .nc or .mat means this one file (`files.write_file`): all maps as the bands of a Cloud
    Optimized GeoTIFF, everything as the variables of a NetCDF file, or Y, A, E, H, W for MATLAB.

    Args:
        path: the folder, or the file.
        estimate: abundances (H, W, R), endmembers (R, B), brightness (H, W), state; numpy or jax.
        scene: the unmixed scene, with the same pixels and bands.
        names: R names; by default "endmember 1" and so on.
        configuration: a dataclass or a mapping of numbers, text and dataclasses, or None.
        trace: the trace of the solver, or None.
        convergence: (H, W), from `last_change`, or None; then this map is not written.
        record: further entries of summary.json, such as the options of reading.
        convention: of the fractions, as for `result_of`.
        overwrite: replace a folder of an earlier `write`, with everything in it.
        format: of the maps: "envi"; "geotiff" or "cog" (a GeoTIFF with overviews; extra `geo`); "netcdf" (one file
            maps.nc; extra `xarray`); "mat" (maps.mat; extra `io`). None: "envi", or that of the file's suffix.

    Returns:
        The written files.

    Raises:
        InputError: the arrays do not fit the scene, or the folder exists and `overwrite` is False or it is not the
            output of an unmixing.
    """
    result = result_of(
        estimate,
        scene,
        names=names,
        configuration=configuration,
        trace=trace,
        convergence=convergence,
        record=record,
        convention=convention,
    )
    return write_result(path, result, scene, overwrite=overwrite, format=format)


def write_result(
    path: str | os.PathLike[str], result: Result, scene: Scene, *, overwrite: bool = False, format: str | None = None
) -> list[Path]:
    """Write a result, like `write`, with the georeference of the scene.

    Args:
        path: the folder, or one file that ends in .tif, .nc or .mat.
        result: from `unmix_with`, `run` or `read_result`.
        scene: the unmixed scene, with the same pixels and bands.
        overwrite, format: as for `write`.

    Returns:
        The written files.

    Raises:
        InputError: as for `write`.
    """
    target = as_local(path)
    format, single = format_of(target, format)
    if single:
        check_single(target)
        with replacing_file(target, overwrite=overwrite) as part:
            write_file(part, with_verdicts(result), scene, format)
        return [target]
    check_ours(target, overwrite)
    with replacing_folder(target, overwrite=overwrite) as folder:
        written = put_result(folder, result, scene, format=format)
    return [target / file.name for file in written]


def check_single(target: Path) -> None:
    """Raise InputError if an output in one file has the name of a folder, or would be read as an ENVI image."""
    check_file(target)
    if target.suffix.lower() in (".tif", ".tiff"):
        check_no_header(target)


def check_ours(target: Path, overwrite: bool) -> None:
    """Raise InputError if `overwrite` would replace a folder that is not the output of an unmixing."""
    check_replaceable(target, overwrite, (target / SUMMARY).is_file(), f"holds files and no {SUMMARY}")


@contextmanager
def placed_together(
    folder: Path | None, page: Path | None, overwrite: bool
) -> Iterator[tuple[Path | None, Path | None]]:
    """Yield temporary paths for the maps and a page; both are renamed together at the end.

    Args:
        folder: the folder of the maps, or their one file (`files.format_of`), or None.
        page: the file, or None; it may be inside the folder.
        overwrite: replace existing outputs.

    Returns:
        A context manager that yields an empty folder, or a path, and the path of a page, each None if not requested.

    Raises:
        InputError, OSError: as from `atomic.reserved`; or the folder is not the output of an unmixing.
    """
    inside = folder is not None and page is not None and page.absolute().parent == folder.absolute()
    targets = [target for target in (folder, None if inside else page) if target is not None]
    single = folder is not None and format_of(folder, None)[1]
    if folder is not None and single:
        check_single(folder)
    elif folder is not None:
        check_ours(folder, overwrite)
        check_folder(folder)
    if page is not None:
        check_file(page)
    with reserved(*targets, overwrite=overwrite) as outputs:
        folder_part = None if folder is None else outputs.part(folder)
        if folder_part is not None and not single:
            folder_part.mkdir()
        if page is None or folder is None or not inside:
            page_part = None if page is None else outputs.part(page)
        else:
            page_part = outputs.part(folder) / page.name
        yield folder_part, page_part
        outputs.place()


def write_page(path: Path, text: str) -> None:
    """Write the text of a page as UTF-8."""
    data = text.encode()
    with writing(path, len(data)):
        path.write_bytes(data)


def put_result(folder: Path, result: Result, scene: Scene, *, format: str | None = None) -> list[Path]:
    """Write the files of `write_result` into an empty folder, and return their paths."""
    result = with_verdicts(result)
    format, _ = format_of(folder, format)
    written = _put_maps(folder, result, scene, format)
    written += write_library(folder / "endmembers.sli", result.endmembers, result.names, scene.wavelengths)
    with writing(folder / "endmembers.csv"):
        write_table(folder / "endmembers.csv", result.endmembers, result.names, scene.wavelengths)
    deviations = None if result.abundances_sd is None else deviation_of_mean(result.abundances_sd, result.valid)
    with writing(folder / AREAS):
        (folder / AREAS).write_text(areas_table(result.summary, deviations), encoding="utf-8")
    with writing(folder / ARRAYS):
        np.savez_compressed(folder / ARRAYS, **arrays_of(result))  # type: ignore[arg-type]
    with writing(folder / SUMMARY):
        (folder / SUMMARY).write_text(as_text(result.summary), encoding="utf-8")
    return [*written, folder / "endmembers.csv", folder / AREAS, folder / ARRAYS, folder / SUMMARY]


def _put_maps(folder: Path, result: Result, scene: Scene, format: str) -> list[Path]:
    """Write the maps into a folder: one file each, or for NetCDF and MATLAB one for all."""
    if format in ("netcdf", "mat"):
        path = folder / ("maps.nc" if format == "netcdf" else "maps.mat")
        with writing(path):
            write_file(path, result, scene, format)
        return [path]
    georeference = georaster.georeference_for(scene) if format in ("geotiff", "cog") else scene.georeference
    masked = not scene.valid.all()
    rectified = georeference is not None and georeference.lookup is not None
    fill = NODATA if masked or rectified else None
    written: list[Path] = []
    for name, values in result.layers.items():
        labels = band_labels(name, result.names, result.class_of)
        picture = np.where(scene.valid[:, :, None], values, NODATA) if masked else values
        picture = rectify(picture, georeference, NODATA)
        text = description(name, scene.name, result.convention)
        if format in ("geotiff", "cog"):
            georaster.write_maps(
                folder / f"{name}.tif", picture, labels, georeference, fill, text, cloud=format == "cog"
            )
            written.append(folder / f"{name}.tif")
        else:
            written += write_image(
                folder / f"{name}.img",
                picture,
                band_names=labels,
                envi_fields=georaster.fields_for(scene),
                nodata=fill,
                description=text,
            )
    return written
