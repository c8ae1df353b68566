"""Write the output of a tiled unmixing from the maps of its tiles, in strips: the files that `writer.write` makes."""

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dequnmix_jax.io import georaster
from dequnmix_jax.io.disk_space import writing
from dequnmix_jax.io.envi.writer import write_library, write_strips
from dequnmix_jax.io.provenance import SUMMARY
from dequnmix_jax.libraries.csv import write_table
from dequnmix_jax.results.maps import KINDS, level_sums, levels
from dequnmix_jax.results.result import ARRAYS
from dequnmix_jax.results.writer import NODATA
from dequnmix_jax.scenes.scene import Array
from dequnmix_jax.scenes.source import Source, Window
from dequnmix_jax.tiles.journal import Work

Strips = Iterator[tuple[int, Array]]

# Most pixels along a side of a picture.
_SIDE = 1000

# Rows are written in strips of about so many bytes, whole tiles of a GeoTIFF.
_STRIP = 16 * 2**20
_ROWS = 256

_MAPS = ("brightness", "residual", "convergence", "red", "green", "blue", "valid")


@dataclass(frozen=True)
class Channels:
    """Where the values of a pixel lie in the maps of the tiles.

    Attributes:
        count: R, endmembers.
    """

    count: int

    @property
    def total(self) -> int:
        """How many there are."""
        return self.count + len(_MAPS)

    def of(self, name: str) -> slice:
        """Return the channels of a map."""
        if name == "abundances":
            return slice(0, self.count)
        if name == "composite":
            return slice(self.of("red").start, self.of("blue").stop)
        place = self.count + _MAPS.index(name)
        return slice(place, place + 1)

    def gather(self, abundances: Array, colours: Array, **maps: Array) -> Array:
        """Return (h, w, channels) of the maps of a tile."""
        single = {"red": colours[..., 0], "green": colours[..., 1], "blue": colours[..., 2], **maps}
        return np.concatenate([abundances, *(single[name][..., None] for name in _MAPS)], axis=2, dtype=np.float32)


def means(work: Work, channels: Channels, state: float) -> dict[str, Array]:
    """Return the means of the maps over the valid pixels, by the names of `maps.KINDS`.

    Args:
        work: the maps of all tiles.
        channels: what they hold.
        state: RMS of the whole state, which the convergence map is in units of and the tiles do not know.
    """
    total, valid = np.zeros(channels.total), 0
    for _, block in _strips(work):
        inside = block[..., channels.of("valid").start] > 0
        valid += int(inside.sum())
        total += block[inside].sum(axis=0, dtype=np.float64)
    total[channels.of("convergence")] /= state
    found = {name: total[channels.of(name)] / max(valid, 1) for name in KINDS}
    return {name: mean if name == "abundances" else mean[0] for name, mean in found.items()}


def heights(work: Work, channels: Channels, endmembers: Array) -> Array:
    """Return the level of each endmember in the units of the scene, (R,), as `maps.levels` defines it."""
    light = np.zeros((2, channels.count))
    for _, block in _strips(work):
        inside = block[..., channels.of("valid").start] > 0
        light += level_sums(block[..., channels.of("abundances")], block[..., channels.of("brightness").start], inside)
    return levels(endmembers, light)


def every(work: Work, channels: Channels, state: float) -> dict[str, Array]:
    """Return the maps of a `Result` at every k-th pixel, k the smallest that leaves a thousand along each side.

    Args:
        work: the maps of all tiles.
        channels: what they hold.
        state: RMS of the whole state.
    """
    step = -(-max(work.shape[:2]) // _SIDE)
    rows = [work.read(Window(slice(row, row + 1), slice(0, work.shape[1])))[0, ::step] for row in
            range(0, work.shape[0], step)]  # fmt: skip
    block = np.stack(rows)
    found = {name: block[..., channels.of(name)] for name in (*KINDS, "composite", "valid")}
    single = {name: found[name][..., 0] for name in ("brightness", "residual", "convergence")}
    single["convergence"] = single["convergence"] / np.float32(state)
    mask = found["valid"][..., 0] > 0
    return {"abundances": found["abundances"], "composite": found["composite"].astype(np.uint8), "mask": mask, **single}


def write_files(
    folder: Path,
    work: Work,
    channels: Channels,
    state: float,
    source: Source,
    endmembers: Array,
    names: Sequence[str],
    colour_words: str,
    summary: Mapping[str, Any],
    format: str,
) -> list[Path]:
    """Write maps, spectra, arrays and summary into an empty folder.

    Args:
        folder: where.
        work: the maps of all tiles.
        channels: what they hold.
        state: RMS of the whole state.
        source: metadata of the bands that were unmixed.
        endmembers: (R, B).
        names: R names.
        colour_words: which bands the picture in colour shows.
        summary: the content of summary.json.
        format: "envi" or "geotiff".

    Returns:
        The files written.
    """
    georeference = georaster.georeference_for(source) if format == "geotiff" else source.georeference
    lookup = None if georeference is None else georeference.lookup
    masked = summary["valid_pixels"] < work.shape[0] * work.shape[1]
    hole = NODATA if masked or lookup is not None else None
    height, width = work.shape[:2] if lookup is None else lookup.shape[:2]
    written: list[Path] = []
    for name, kind in KINDS.items():
        labels = names if name == "abundances" else (f"{name} ({kind.unit})",)
        text = f"{name} of {source.name or 'a scene'} by dequnmix_jax; {kind.unit}"
        place = channels.of(name)

        def strips(place: slice = place, unit: float = state if name == "convergence" else 1.0) -> Strips:
            for first, block in _strips(work) if lookup is None else _placed(work, lookup):
                inside = block[..., channels.of("valid")] > 0
                yield first, np.where(inside, block[..., place] / np.float32(unit), np.float32(NODATA))

        shape = (height, width, place.stop - place.start)
        if format == "geotiff":
            georaster.write_strips(folder / f"{name}.tif", strips, shape, labels, georeference, hole, text)
            written.append(folder / f"{name}.tif")
        else:
            written += write_strips(
                folder / f"{name}.img",
                strips(),
                shape,
                band_names=labels,
                envi_fields=source.envi_fields,
                nodata=hole,
                description=text,
            )
    written += write_library(folder / "endmembers.sli", endmembers, names, source.wavelengths)
    with writing(folder / "endmembers.csv"):
        write_table(folder / "endmembers.csv", endmembers, names, source.wavelengths)
    small = {"names": np.array(names), "composite_bands": np.array(colour_words), "endmembers": endmembers}
    spectral = {"wavelengths_nm": source.wavelengths, "fwhm_nm": source.fwhm}
    small |= {key: value for key, value in spectral.items() if value is not None}
    with writing(folder / ARRAYS):
        _write_arrays(folder / ARRAYS, work, channels, state, masked, small)
    with writing(folder / SUMMARY):
        (folder / SUMMARY).write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return [*written, folder / "endmembers.csv", folder / ARRAYS, folder / SUMMARY]


def _strips(work: Work) -> Strips:
    height, width, channels = work.shape
    rows = -(-max(1, _STRIP // (4 * width * channels)) // _ROWS) * _ROWS
    for first in range(0, height, rows):
        yield first, work.read(Window(slice(first, min(first + rows, height)), slice(0, width)))


def _placed(work: Work, lookup: Array) -> Strips:
    """Yield strips of the rectified picture; pixels where nothing is seen are not valid."""
    height, width, channels = work.shape
    maps = np.memmap(work.folder / "maps.raw", "<f4", "r", shape=(height, width, channels))
    for first in range(0, lookup.shape[0], _ROWS):
        rows, columns = lookup[first : first + _ROWS, :, 0], lookup[first : first + _ROWS, :, 1]
        seen = (rows >= 0) & (columns >= 0)
        block = np.zeros((*rows.shape, channels), np.float32)
        block[seen] = maps[rows[seen], columns[seen]]
        yield first, block


def _write_arrays(
    path: Path, work: Work, channels: Channels, state: float, masked: bool, small: Mapping[str, Array]
) -> None:
    """Write a .npz, its large arrays in strips."""
    height, width, _ = work.shape
    large: list[tuple[str, tuple[int, ...], Any]] = [
        ("abundances", (height, width, channels.count), np.dtype("<f4")),
        *((name, (height, width), np.dtype("<f4")) for name in ("brightness", "residual", "convergence")),
        ("composite", (height, width, 3), np.dtype("u1")),
        *([("mask", (height, width), np.dtype("?"))] if masked else []),
    ]
    # As quick as it goes: most of it is noise.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, values in small.items():
            with _member(archive, name) as member:
                np.lib.format.write_array(member, values, allow_pickle=False)
        for name, shape, dtype in large:
            place = channels.of("valid" if name == "mask" else name)
            with _member(archive, name) as member:
                header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(member, header)
                for _, block in _strips(work):
                    values = block[..., place] / np.float32(state) if name == "convergence" else block[..., place]
                    member.write(np.ascontiguousarray(values, dtype).tobytes())


def _member(archive: zipfile.ZipFile, name: str) -> Any:
    entry = zipfile.ZipInfo(f"{name}.npy")  # of 1980, as numpy's own: the same maps make the same file
    entry.compress_type = archive.compression
    entry._compresslevel = archive.compresslevel  # type: ignore[attr-defined]
    return archive.open(entry, "w", force_zip64=True)
