"""Write an estimate: maps and spectra as ENVI files, arrays as .npz, and a summary that says how they came about."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.io import georaster
from dequnmix_jax.io.atomic import check_file, check_folder, check_replaceable, replacing_folder, reserved
from dequnmix_jax.io.disk_space import writing
from dequnmix_jax.io.envi.writer import write_image, write_library
from dequnmix_jax.io.provenance import SUMMARY
from dequnmix_jax.libraries.csv import write_table
from dequnmix_jax.results.maps import KINDS
from dequnmix_jax.results.result import ARRAYS, Result, arrays_of, result_of
from dequnmix_jax.results.summary import as_text
from dequnmix_jax.scenes.georeference import rectify
from dequnmix_jax.scenes.scene import Scene

if TYPE_CHECKING:
    from dequnmix_jax.types import Estimate, Trace


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
    check_ours(target, overwrite)
    with replacing_folder(target, overwrite=overwrite) as folder:
        written = put_result(folder, result, scene, format=format)
    return [target / file.name for file in written]


def check_ours(target: Path, overwrite: bool) -> None:
    """Raise InputError where `overwrite` would replace a folder that is not the output of an unmixing."""
    check_replaceable(target, overwrite, (target / SUMMARY).is_file(), f"holds files and no {SUMMARY}")


@contextmanager
def placed_together(
    folder: Path | None, page: Path | None, overwrite: bool
) -> Iterator[tuple[Path | None, Path | None]]:
    """Give temporary names of a folder of maps and of a page, which get their own names one right after the other.

    Args:
        folder: the folder to make, or None.
        page: the file to make, or None; it may lie in the folder.
        overwrite: replace what is there already.

    Returns:
        A context manager that gives an empty folder and the name of a file, each None if it is not asked for.

    Raises:
        InputError, OSError: as from `atomic.reserved`, or the folder is not ours.
    """
    inside = folder is not None and page is not None and page.absolute().parent == folder.absolute()
    targets = [target for target in (folder, None if inside else page) if target is not None]
    if folder is not None:
        check_ours(folder, overwrite)
        check_folder(folder)
    if page is not None:
        check_file(page)
    with reserved(*targets, overwrite=overwrite) as outputs:
        place = None if folder is None else outputs.part(folder)
        if place is not None:
            place.mkdir()
        if page is None or folder is None or not inside:
            sheet = None if page is None else outputs.part(page)
        else:
            sheet = outputs.part(folder) / page.name
        yield place, sheet
        outputs.place()


def write_page(path: Path, text: str) -> None:
    """Write a page."""
    data = text.encode()
    with writing(path, len(data)):
        path.write_bytes(data)


def put_result(folder: Path, result: Result, scene: Scene, *, format: str = "envi") -> list[Path]:
    """Write what `write_result` writes into an empty folder, and return the files. Nothing is renamed here."""
    if format not in FORMATS:
        raise InputError(f"format is {format!r}; expected {' or '.join(FORMATS)}.")
    georeference = georaster.georeference_for(scene) if format == "geotiff" else scene.georeference
    masked = not scene.valid.all()
    rectified = georeference is not None and georeference.lookup is not None
    hole = NODATA if masked or rectified else None
    written = []
    for name, values in result.maps.items():
        if values is None:
            continue
        labels = result.names if name == "abundances" else (f"{name} ({KINDS[name].unit})",)
        picture = values if values.ndim == 3 else values[:, :, None]
        picture = np.where(scene.valid[:, :, None], picture, NODATA) if masked else picture
        picture = rectify(picture, georeference, NODATA)
        text = f"{name} of {scene.name or 'a scene'} by dequnmix_jax; {KINDS[name].unit}"
        if format == "geotiff":
            georaster.write_maps(folder / f"{name}.tif", picture, labels, georeference, hole, text)
            written.append(folder / f"{name}.tif")
        else:
            written += write_image(
                folder / f"{name}.img",
                picture,
                band_names=labels,
                envi_fields=scene.envi_fields,
                nodata=hole,
                description=text,
            )
    written += write_library(folder / "endmembers.sli", result.endmembers, result.names, scene.wavelengths)
    with writing(folder / "endmembers.csv"):
        write_table(folder / "endmembers.csv", result.endmembers, result.names, scene.wavelengths)
    with writing(folder / ARRAYS):
        np.savez_compressed(folder / ARRAYS, **arrays_of(result))  # type: ignore[arg-type]
    with writing(folder / SUMMARY):
        (folder / SUMMARY).write_text(as_text(result.summary), encoding="utf-8")
    return [*written, folder / "endmembers.csv", folder / ARRAYS, folder / SUMMARY]
