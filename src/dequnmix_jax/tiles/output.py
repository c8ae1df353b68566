"""Write the output of a tiled unmixing from the maps of its tiles, in strips: the same files as `results.write`."""

import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dequnmix_jax.io import georaster, netcdf_strips, npz, xarrays
from dequnmix_jax.io.disk_space import writing
from dequnmix_jax.io.envi.writer import write_library, write_strips
from dequnmix_jax.io.provenance import SUMMARY
from dequnmix_jax.libraries.csv import write_table
from dequnmix_jax.results.areas import AREAS, above_error, areas_table
from dequnmix_jax.results.dataset import dataset_of
from dequnmix_jax.results.files import NODATA
from dequnmix_jax.results.maps import (
    KINDS,
    band_labels,
    class_sums,
    description,
    level_sums,
    levels,
    model_map,
    model_record,
    no_levels,
)
from dequnmix_jax.results.result import ARRAYS
from dequnmix_jax.scenes.scene import Array
from dequnmix_jax.scenes.source import Source
from dequnmix_jax.tiles.channels import Channels
from dequnmix_jax.tiles.journal import Store

Strips = Iterator[tuple[int, Array]]

_ALL_MAPS = "maps.nc"

# Most pixels along a side of a picture.
_SIDE = 1000

# Rows are written in strips of about this many bytes, in whole tiles of a GeoTIFF.
_STRIP = 16 * 2**20
_ROWS = 256


class TileMaps(NamedTuple):
    """Maps of all tiles.

    Attributes:
        store: holds them on disk.
        channels: their order.
        state_rms: RMS of the whole state; the unit of the convergence map, which a tile does not know.
    """

    store: Store
    channels: Channels
    state_rms: float


class Contents(NamedTuple):
    """What is written beside the maps.

    Attributes:
        source: metadata of the bands that were unmixed.
        endmembers: (R, B), in the units of the scene.
        names: R names.
        colour_words: the bands of the picture in colour, in words.
        summary: the content of summary.json.
        convention: of the fractions.
        class_of: R classes, or none.
    """

    source: Source
    endmembers: Array
    names: tuple[str, ...]
    colour_words: str
    summary: dict[str, Any]
    convention: str
    class_of: tuple[str, ...] = ()


def map_means(maps: TileMaps) -> dict[str, Array]:
    """Return the means of the maps over the valid pixels, by the names of `results.maps.KINDS`."""
    channels = maps.channels
    total, valid = np.zeros(channels.total), 0
    for _, block in _strips(maps.store):
        inside = block[..., channels.of("valid").start] > 0
        valid += int(inside.sum())
        total += block[inside].sum(axis=0, dtype=np.float64)
    total[channels.of("convergence")] /= maps.state_rms
    means = {name: total[channels.of(name)] / max(valid, 1) for name in KINDS}
    return {name: mean if name == "abundances" else mean[0] for name, mean in means.items()}


def map_models(maps: TileMaps, class_of: tuple[str, ...]) -> dict[str, Any]:
    """Return the entry "models" of summary.json, `results.maps.model_record`."""
    channels = maps.channels
    codes = [
        model_map(block[block[..., channels.of("valid").start] > 0][:, channels.of("abundances")], class_of)[:, 0]
        for _, block in _strips(maps.store)
    ]
    return model_record(np.concatenate(codes), class_of)


def endmember_levels(maps: TileMaps) -> Array:
    """Return the levels (R,) of the spectra of a scaled model, as `results.maps.levels` defines them."""
    channels = maps.channels
    sums = no_levels(channels.count)
    for _, block in _strips(maps.store):
        inside = block[..., channels.of("valid").start] > 0
        sums += level_sums(block[..., channels.of("abundances")], block[..., channels.of("brightness").start], inside)
    return levels(sums)


def mean_above_error(maps: TileMaps, endmembers: Array, convention: str, by_model: bool = False) -> list[float]:
    """Return the mean fractions above their error, R numbers, as `results.areas.above_error` defines them."""
    channels = maps.channels
    total, valid = np.zeros(channels.count), 0
    for _, block in _strips(maps.store):
        inside = block[..., channels.of("valid").start] > 0
        valid += int(np.count_nonzero(inside))
        brightness, residual = (block[..., channels.of(name).start] for name in ("brightness", "residual"))
        total += above_error(
            block[..., channels.of("abundances")], brightness, residual, inside, endmembers, convention, by_model
        )
    return [float(value) for value in total / max(valid, 1)]


def thumbnails(maps: TileMaps) -> dict[str, Any]:
    """Return the maps of a `Result` at every k-th pixel, k the smallest that leaves a thousand along each side."""
    store, channels = maps.store, maps.channels
    step = -(-max(store.shape[:2]) // _SIDE)
    rows = [store.read(slice(row, row + 1))[0, ::step] for row in range(0, store.shape[0], step)]
    block = np.stack(rows)
    values = {name: block[..., channels.of(name)] for name in (*KINDS, "composite", "valid")}
    single = {name: values[name][..., 0] for name in ("brightness", "residual", "convergence")}
    single["convergence"] = single["convergence"] / np.float32(maps.state_rms)
    mask = values["valid"][..., 0] > 0
    composite = values["composite"].astype(np.uint8)
    return {"abundances": values["abundances"], "composite": composite, "mask": mask, **single}


class Export(NamedTuple):
    """What the files of a result are written from.

    Attributes:
        folder: an existing folder.
        maps: of all tiles.
        contents: what is written beside them.
        format: one of `results.files.TILED`, of the maps.
    """

    folder: Path
    maps: TileMaps
    contents: Contents
    format: str

    @property
    def masked(self) -> bool:
        """Return whether some pixels are not valid."""
        return bool(self.contents.summary["valid_pixels"] < self.maps.store.shape[0] * self.maps.store.shape[1])


Each = Callable[[Callable[[str, Export], list[Path]], Sequence[str], Export], list[list[Path]]]
"""Returns `function(name, export)` for all names, in their order."""


def one_by_one(function: Callable[[str, Export], list[Path]], names: Sequence[str], export: Export) -> list[list[Path]]:
    """Write the large files one after the other."""
    return [function(name, export) for name in names]


def write_files(export: Export, each: Each = one_by_one) -> list[Path]:
    """Write maps, spectra, arrays and summary into an empty folder.

    Args:
        export: what is written, and where.
        each: writes the large files, which do not depend on each other.

    Returns:
        The files written.
    """
    folder, (source, endmembers, names, _, summary, _, class_of) = export.folder, export.contents
    of_classes = [name for name in _OF_CLASSES if class_of and (name == "classes" or name in summary)]
    maps = [_ALL_MAPS] if export.format == "netcdf" else [*KINDS, *of_classes]
    large = each(write_large, [ARRAYS, *maps], export)
    written = [path for paths in large[1:] for path in paths]
    written += write_library(folder / "endmembers.sli", endmembers, names, source.wavelengths)
    with writing(folder / "endmembers.csv"):
        write_table(folder / "endmembers.csv", endmembers, names, source.wavelengths)
    with writing(folder / AREAS):
        (folder / AREAS).write_text(areas_table(summary), encoding="utf-8")
    with writing(folder / SUMMARY):
        (folder / SUMMARY).write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return [*written, folder / "endmembers.csv", folder / AREAS, folder / ARRAYS, folder / SUMMARY]


def write_large(name: str, export: Export) -> list[Path]:
    """Write estimate.npz, maps.nc, or the map of a name, and return the files."""
    if name in (ARRAYS, _ALL_MAPS):
        with writing(export.folder / name):
            (_write_arrays if name == ARRAYS else _write_data_set)(export)
        return [export.folder / name]
    return _write_map(name, export)


_OF_CLASSES = {"classes": class_sums, "models": model_map}


def _write_map(name: str, export: Export) -> list[Path]:
    folder, (store, channels, state_rms), contents, format = export
    source = contents.source
    georeference = georaster.georeference_for(source) if format != "envi" else source.georeference
    lookup = None if georeference is None else georeference.lookup
    nodata = NODATA if export.masked or lookup is not None else None
    height, width = store.shape[:2] if lookup is None else lookup.shape[:2]
    labels = band_labels(name, contents.names, contents.class_of)
    text = description(name, source.name, contents.convention)

    def strips() -> Strips:
        for first, block in _strips(store) if lookup is None else _placed(store, lookup):
            inside = block[..., channels.of("valid")] > 0
            values = block[..., channels.of("abundances" if name in _OF_CLASSES else name)]
            if name in _OF_CLASSES:
                values = _OF_CLASSES[name](values, contents.class_of)
            elif name == "convergence":
                values = values / np.float32(state_rms)
            yield first, np.where(inside, values, np.float32(NODATA))

    shape = (height, width, len(labels))
    if format in ("geotiff", "cog"):
        path, cloud = folder / f"{name}.tif", format == "cog"
        georaster.write_strips(path, strips, shape, labels, georeference, nodata, text, cloud=cloud)
        return [path]
    return write_strips(
        folder / f"{name}.img",
        strips(),
        shape,
        band_names=labels,
        envi_fields=georaster.fields_for(source),
        nodata=nodata,
        description=text,
    )


def _write_data_set(export: Export) -> None:
    """Write maps.nc: the data set of `results.dataset`, strip by strip."""
    store, channels, state_rms = export.maps
    contents = export.contents
    source = contents.source
    georeference = georaster.georeference_for(source)
    lookup = None if georeference is None else georeference.lookup
    place = None if georeference is None else replace(georeference, lookup=None)
    shape = store.shape[:2] if lookup is None else lookup.shape[:2]
    dtypes = {"composite": np.uint8, "mask": np.bool_}
    names = ["abundances", "brightness", "residual", "convergence", "composite"]
    names += ["mask"] if export.masked or lookup is not None else []
    pixel: dict[str, Array] = {}
    for name in names:
        width = channels.of("valid" if name == "mask" else name)
        one = np.ones((1, 1, width.stop - width.start), dtypes.get(name, np.float32))
        pixel[name] = one if name in ("abundances", "composite") else one[:, :, 0]
    sample = dataset_of(_small_arrays(contents) | pixel, contents.summary, place, source.name)

    def strips() -> Iterator[tuple[int, dict[str, Array]]]:
        for first, block in _strips(store) if lookup is None else _placed(store, lookup):
            inside = block[..., channels.of("valid")] > 0
            maps = {name: block[..., channels.of(name)] for name in KINDS}
            maps["convergence"] = maps["convergence"] / np.float32(state_rms)
            if contents.class_of:
                maps |= {name: of(maps["abundances"], contents.class_of) for name, of in _OF_CLASSES.items()}
            maps = {name: np.where(inside, values, np.float32(np.nan)) for name, values in maps.items()}
            maps |= {"composite": block[..., channels.of("composite")], "valid": inside}
            yield (
                first,
                {
                    name: (maps[name] if variable.ndim == 3 else maps[name][..., 0]).astype(variable.dtype)
                    for name, variable in sample.data_vars.items()
                    if variable.dims[:2] == ("y", "x")
                },
            )

    netcdf_strips.write(export.folder / _ALL_MAPS, sample, shape, xarrays.centres(place, shape), strips)


def _strips(store: Store) -> Strips:
    height, width, channels = store.shape
    rows = -(-max(1, _STRIP // (4 * width * channels)) // _ROWS) * _ROWS
    for first in range(0, height, rows):
        yield first, store.read(slice(first, min(first + rows, height)))


def _placed(store: Store, lookup: Array) -> Strips:
    """Yield strips of the rectified picture; pixels outside the swath are not valid."""
    for first in range(0, lookup.shape[0], _ROWS):
        rows, columns = lookup[first : first + _ROWS, :, 0], lookup[first : first + _ROWS, :, 1]
        seen = (rows >= 0) & (columns >= 0)
        block = np.zeros((*rows.shape, store.channels), np.float32)
        block[seen] = store.gather(rows[seen], columns[seen])
        yield first, block


def _small_arrays(contents: Contents) -> dict[str, Array]:
    """Return what does not depend on the pixel, by the names of estimate.npz."""
    source, endmembers, names, colour_words, _, convention, class_of = contents
    small = {"names": np.array(names), "composite_bands": np.array(colour_words), "endmembers": endmembers}
    small["convention"] = np.array(convention)
    small |= {"class_of": np.array(class_of)} if class_of else {}
    spectral = {"wavelengths_nm": source.wavelengths, "fwhm_nm": source.fwhm}
    return small | {key: value for key, value in spectral.items() if value is not None}


def _write_arrays(export: Export) -> None:
    """Write a .npz, its large arrays in strips."""
    store, channels, state_rms = export.maps
    small = _small_arrays(export.contents) | npz.place_of(georaster.georeference_for(export.contents.source))
    height, width, _ = store.shape
    large: list[tuple[str, tuple[int, ...], Any]] = [
        ("abundances", (height, width, channels.count), np.dtype("<f4")),
        *((name, (height, width), np.dtype("<f4")) for name in ("brightness", "residual", "convergence")),
        ("composite", (height, width, 3), np.dtype("u1")),
        *([("mask", (height, width), np.dtype("?"))] if export.masked else []),
    ]
    # Fastest compression: most of the values are noise.
    with zipfile.ZipFile(export.folder / ARRAYS, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, values in small.items():
            with _member(archive, name) as member:
                np.lib.format.write_array(member, values, allow_pickle=False)
        for name, shape, dtype in large:
            place = channels.of("valid" if name == "mask" else name)
            with _member(archive, name) as member:
                header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(member, header)
                for _, block in _strips(store):
                    values = block[..., place] / np.float32(state_rms) if name == "convergence" else block[..., place]
                    member.write(np.ascontiguousarray(values, dtype).tobytes())


def _member(archive: zipfile.ZipFile, name: str) -> Any:
    entry = zipfile.ZipInfo(f"{name}.npy")  # dated 1980, as in numpy's files: the same maps give the same bytes
    entry.compress_type = archive.compression
    entry._compresslevel = archive.compresslevel  # type: ignore[attr-defined]
    return archive.open(entry, "w", force_zip64=True)
