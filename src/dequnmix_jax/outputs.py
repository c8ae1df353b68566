"""Write an estimate: maps and spectra as ENVI files, arrays as .npz, and a summary that says how they came about."""

import csv
import hashlib
import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dequnmix_jax import georaster
from dequnmix_jax.atomic import replacing_folder
from dequnmix_jax.checks import InputError, check_endmembers
from dequnmix_jax.envi_writing import write_image, write_library
from dequnmix_jax.ground import on_the_ground
from dequnmix_jax.scene import Array, Scene

if TYPE_CHECKING:
    from dequnmix_jax.records import Estimate, Trace

SUMMARY = "summary.json"

# How maps are written; the first one by default.
FORMATS = ("envi", "geotiff")

# In the maps for other programs, masked pixels hold a value that no abundance has; 0 would be a measurement.
_NODATA = -9999.0


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _folder(path: Path) -> dict[str, Any]:
    """Return name, size and hash of a folder (Zarr): of the lines "sha256 name" of its files, sorted by name."""
    files = sorted((file.relative_to(path).as_posix(), file) for file in path.rglob("*") if file.is_file())
    digest = hashlib.sha256("".join(f"{_sha256(file)} {name}\n" for name, file in files).encode())
    return {"file": path.name, "bytes": sum(file.stat().st_size for _, file in files), "sha256": digest.hexdigest()}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it; numbers that are not finite become text, since JSON has none."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    array = np.asarray(value)
    if array.dtype.kind in "biufU":
        return _plain(array.tolist())
    raise InputError(f"The configuration holds {type(value).__name__}; expected numbers, text, lists and dataclasses.")


def _checked(
    estimate: "Estimate", scene: Scene, names: Sequence[str] | None
) -> tuple[dict[str, Array], tuple[str, ...]]:
    arrays = {name: np.asarray(getattr(estimate, name)) for name in ("abundances", "endmembers", "brightness", "state")}
    height, width, bands = scene.cube.shape
    if arrays["abundances"].ndim != 3 or arrays["abundances"].shape[:2] != (height, width):
        raise InputError(
            f"The abundances have shape {arrays['abundances'].shape} and the scene {scene.cube.shape}; expected one "
            f"vector a pixel, ({height}, {width}, endmembers)."
        )
    check_endmembers(arrays["endmembers"], bands)
    count = arrays["abundances"].shape[2]
    found = tuple(names) if names is not None else tuple(f"endmember {i + 1}" for i in range(count))
    if len(found) != count or arrays["endmembers"].shape[0] != count:
        raise InputError(
            f"There are {count} abundance maps, {arrays['endmembers'].shape[0]} endmembers and {len(found)} names; "
            "expected as many of each."
        )
    return arrays, found


def _write_table(path: Path, spectra: Array, names: Sequence[str], wavelengths: Array | None) -> None:
    first = np.arange(spectra.shape[1]) if wavelengths is None else wavelengths
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["band" if wavelengths is None else "wavelength_nm", *names])
        table.writerows(
            [f"{place:g}", *(f"{value:.8g}" for value in row)] for place, row in zip(first, spectra.T, strict=True)
        )


def _summary(
    arrays: Mapping[str, Array], names: Sequence[str], scene: Scene, configuration: Any, trace: "Trace | None"
) -> dict[str, Any]:
    source = None
    if scene.source is not None and scene.source.is_file():
        source = {"file": scene.source.name, "bytes": scene.source.stat().st_size, "sha256": _sha256(scene.source)}
    elif scene.source is not None and scene.source.is_dir():
        source = _folder(scene.source)
    height, width, bands = scene.cube.shape
    return {
        "written_by": "dequnmix_jax",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "scene": scene.name,
        "source": source,
        "rows": height,
        "columns": width,
        "bands": bands,
        "valid_pixels": int(scene.valid.sum()),
        "endmembers": list(names),
        "mean_abundances": _plain(arrays["abundances"][scene.valid].astype(np.float64).mean(axis=0)),
        "configuration": _plain(configuration),
        "trace": None if trace is None else {name: _plain(np.asarray(getattr(trace, name))) for name in trace._fields},
        "notes": list(scene.notes),
        "versions": {
            "python": platform.python_version(),
            **{package: _version(package) for package in ("dequnmix-jax", "jax", "jaxlib", "numpy")},
        },
    }


def write(
    path: str | os.PathLike[str],
    estimate: "Estimate",
    scene: Scene,
    *,
    names: Sequence[str] | None = None,
    configuration: Any = None,
    trace: "Trace | None" = None,
    overwrite: bool = False,
    format: str = "envi",
) -> list[Path]:
    """Write an estimate into a folder, whole or not at all.

    The folder gets abundances.img and brightness.img (ENVI float32 with the scene's ground fields) or abundances.tif
    and brightness.tif (GeoTIFF float32 with coordinate system and transform); masked pixels hold -9999, which the files
    say, and a swath such as EMIT's is rectified. Beside them endmembers.sli (ENVI spectral library), endmembers.csv,
    estimate.npz (what `score` reads) and summary.json (configuration, trace, versions, the input's sha256, notes).

    Args:
        path: the folder to make.
        estimate: abundances (H, W, R), endmembers (R, B), brightness (H, W), state; numpy or jax.
        scene: the scene as it was unmixed: same pixels, same bands.
        names: R names, "endmember 1" and so on by default.
        configuration: a dataclass or a mapping of numbers, text and dataclasses, or None.
        trace: how the solve went, or None.
        overwrite: replace a folder that an earlier `write` made, with everything in it.
        format: "envi" or "geotiff" (which needs the extra `geo`), of the maps.

    Returns:
        The files written.

    Raises:
        InputError: the arrays do not fit the scene, the folder exists and `overwrite` is False, or it is not ours.
    """
    target = Path(path)
    arrays, found = _checked(estimate, scene, names)
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
    hole = _NODATA if masked or rectified else None
    maps = {"abundances": arrays["abundances"], "brightness": arrays["brightness"][:, :, None]}
    with replacing_folder(target, overwrite=overwrite) as folder:
        written = []
        for name, labels in (("abundances", found), ("brightness", ("brightness",))):
            values = np.where(scene.valid[:, :, None], maps[name], _NODATA) if masked else maps[name]
            values = on_the_ground(values, ground, _NODATA)
            text = f"{name} of {scene.name or 'a scene'} by dequnmix_jax"
            if format == "geotiff":
                georaster.write_maps(folder / f"{name}.tif", values, labels, ground, hole, text)
                written.append(folder / f"{name}.tif")
            else:
                written += write_image(
                    folder / f"{name}.img",
                    values,
                    band_names=labels,
                    ground=scene.crs,
                    nodata=hole,
                    description=text,
                )
        written += write_library(folder / "endmembers.sli", arrays["endmembers"], found, scene.wavelengths)
        _write_table(folder / "endmembers.csv", arrays["endmembers"], found, scene.wavelengths)
        stored: dict[str, Any] = {"names": np.array(found), **arrays}
        if scene.mask is not None:
            stored["mask"] = scene.mask
        if scene.wavelengths is not None:
            stored["wavelengths_nm"] = scene.wavelengths
        if scene.fwhm is not None:
            stored["fwhm_nm"] = scene.fwhm
        np.savez_compressed(folder / "estimate.npz", **stored)
        text = json.dumps(_summary(arrays, found, scene, configuration, trace), indent=2, allow_nan=False) + "\n"
        (folder / SUMMARY).write_text(text, encoding="utf-8")
        written += [folder / "endmembers.csv", folder / "estimate.npz", folder / SUMMARY]
    return [target / file.name for file in written]
