"""Masks that are given beside a scene: an array, a raster of the same grid, EMIT's mask file, or polygons.

| mask | pixels that are used |
| --- | --- |
| array (H, W), .npy | True, or any number but 0 |
| raster (ENVI, GeoTIFF, any of GDAL) of one band | any number but 0 and nodata |
| the same with `mask_values` | these numbers |
| polygons (GeoJSON, GeoPackage, shapefile) | the centre lies inside one |
| EMIT L2A mask, .nc | no flag of cloud, cirrus, dilated cloud or spacecraft; water is used |

`mask_invert` uses the others. For a swath, a raster may have the grid of the sensor or that of the map.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.io import georaster
from dequnmix_jax.io.missions import hdf5
from dequnmix_jax.io.npz_arrays import load
from dequnmix_jax.io.vectors import polygons
from dequnmix_jax.scenes.georeference import Georeference
from dequnmix_jax.scenes.read_options import ReadOptions
from dequnmix_jax.scenes.scene import Array
from dequnmix_jax.scenes.source import Source, Stored, Window

_FLAGS = ("cloud", "cirrus", "spacecraft")
"""Words in the names of EMIT's flags that leave a pixel out; the aggregate flag is not used, as it includes water."""

_NAMES, _MASK = "sensor_band_parameters/mask_bands", "mask"

_NEAR = 0.5
"""Pixels by which the corners of two grids may differ."""


def applied(source: Source, options: ReadOptions, opened: Callable[[Path], Source]) -> Source:
    """Return a scene of which only the pixels are valid that a mask marks.

    Args:
        source: the scene.
        options: mask, mask_values and mask_invert.
        opened: opens a raster.

    Raises:
        InputError: the mask has another grid, marks no pixel, or cannot be read.
    """
    use, known, label, notes = _read(source, options, opened)
    if options.mask_invert:
        use = known & ~use
    count = int(use.sum())
    if not count:
        raise InputError(
            f"{label} uses none of the {use.size} pixels of {source.name or 'the scene'}; expected some. Not 0 (inside "
            "a polygon, without a flag) means use: mask_values=(VALUE,) (--mask-values VALUE) names other values, and "
            "mask_invert=True (--mask-invert) uses the other pixels."
        )
    notes.append(f"{label}{' (inverted)' if options.mask_invert else ''} uses {count} of {use.size} pixels.")

    def stored(window: Window | None) -> Stored:
        values, seen, said = source.stored(window)
        part = use if window is None else use[window.rows, window.columns]
        return Stored(values, part if seen is None else seen & part, said)

    return replace(source, stored=stored, use=use, notes=(*source.notes, *notes))


def _read(
    source: Source, options: ReadOptions, opened: Callable[[Path], Source]
) -> tuple[Array, Array, str, list[str]]:
    """Return the mask (H, W) in the scene's own pixels, where it is known, what it is called, and notes."""
    mask, everywhere = options.mask, np.ones(source.shape[:2], np.bool_)
    if not isinstance(mask, str | os.PathLike):
        return _of_array(np.asarray(mask), source, options, "The mask"), everywhere, "The mask", []
    path = Path(mask)
    label = f"The mask {path}"
    if polygons.are_polygons(path):
        _refuse_values(options, path, "polygons")
        return _of_polygons(path, source), everywhere, label, []
    if not path.exists():
        raise InputError(
            f"The mask {path} does not exist; expected a raster of the same grid, polygons "
            f"({', '.join(polygons.SUFFIXES)}), or EMIT's mask file. Check the spelling."
        )
    if path.suffix.lower() == ".npy":
        return _of_array(load(path)["cube"], source, options, label), everywhere, label, []
    if path.suffix.lower() in (".nc", ".nc4", ".h5", ".hdf5"):
        _refuse_values(options, path, "flags")
        use, notes = _of_flags(path, source)
        return use, everywhere, label, notes
    raster = opened(path)
    stored = raster.stored(None)
    use = _of_array(np.asarray(stored.values), source, options, label)
    known = np.asarray(stored.values)[:, :, 0] != (np.nan if raster.nodata is None else raster.nodata)
    known = _on_grid(known if stored.seen is None else known & stored.seen, source, label)
    _check_place(raster, source, label)
    return use & known, known, label, []


def _refuse_values(options: ReadOptions, path: Path, what: str) -> None:
    if options.mask_values:
        raise InputError(
            f"The mask {path} holds {what}, to which mask_values (--mask-values) does not apply; expected a raster. "
            "Leave it out; mask_invert=True (--mask-invert) uses the other pixels."
        )


def _of_array(values: Array, source: Source, options: ReadOptions, label: str) -> Array:
    """Return where an array (H, W), or (H, W, 1), means use."""
    if values.ndim == 3 and 1 in (values.shape[2], values.shape[0]):
        values = values[:, :, 0] if values.shape[2] == 1 else values[0]
    if values.ndim != 2 or values.dtype.kind not in "biuf":
        raise InputError(
            f"{label} has shape {values.shape} and data type {values.dtype}; expected one number a pixel. Take out one "
            "band of it (gdal_translate -b 1)."
        )
    use = np.isin(values, options.mask_values) if options.mask_values else (values != 0) & ~np.isnan(values)
    return _on_grid(use, source, label)


def _on_grid(use: Array, source: Source, label: str) -> Array:
    """Return a mask in the scene's own pixels; one on the map of a swath is looked up there."""
    if use.shape == source.shape[:2]:
        return use
    lookup = None if source.georeference is None else source.georeference.lookup
    if lookup is not None and use.shape == lookup.shape[:2]:
        return _from_map(use, lookup, source.shape[:2])
    on_map = "" if lookup is None else f", or its map {lookup.shape[:2]}"
    raise InputError(
        f"{label} has {use.shape} rows and columns and {source.name or 'the scene'} {source.shape[:2]}{on_map}; "
        "expected the same grid. Resample it to the grid of the scene (gdalwarp -te ... -ts COLUMNS ROWS -r near)."
    )


def _from_map(use: Array, lookup: Array, shape: tuple[int, int]) -> Array:
    """Return which pixels of a swath are marked in at least half of their pixels on the map."""
    rows, columns = lookup[:, :, 0], lookup[:, :, 1]
    seen = (rows >= 0) & (columns >= 0)
    votes = np.zeros((2, *shape), np.int64)
    for count, where in zip(votes, (seen, seen & use), strict=True):
        np.add.at(count, (rows[where], columns[where]), 1)
    return (votes[1] > 0) & (2 * votes[1] >= votes[0])


def _check_place(raster: Source, source: Source, label: str) -> None:
    """Raise InputError where both have a place and the corners differ by more than half a pixel."""
    places = [georaster.georeference_for(image) for image in (raster, source)]
    if any(place is None for place in places):
        return
    own, scene = places
    assert own is not None and scene is not None
    if raster.shape[:2] != source.shape[:2] and scene.lookup is None:
        return
    if (own.lookup is None) != (scene.lookup is None) and raster.shape[:2] == source.shape[:2]:
        return
    height, width = raster.shape[:2]
    corners = np.array([(0, 0, 1), (width, 0, 1), (0, height, 1), (width, height, 1)], np.float64)
    a, b, x0, d, e, y0 = np.array([own.transform, scene.transform]).T
    ground = np.stack([corners @ np.stack([a, b, x0]), corners @ np.stack([d, e, y0])], axis=2)
    pixel = max(np.hypot(a[1], d[1]), np.hypot(b[1], e[1]))
    gap = float(np.linalg.norm(ground[:, 0] - ground[:, 1], axis=1).max())
    if gap > _NEAR * pixel:
        raise InputError(
            f"{label} has the size of the scene and lies elsewhere: its corners are up to {gap / pixel:.3g} pixels "
            "from those of the scene; expected the same grid. Resample it to the grid of the scene (gdalwarp)."
        )


def _of_polygons(path: Path, source: Source) -> Array:
    place = georaster.georeference_for(source)
    label = source.name or "the scene"
    shape = source.shape[:2]
    if place is not None and place.lookup is not None:
        found = polygons.covered(polygons.read_polygons(path), _of_map(place), place.lookup.shape[:2], label)
        return _from_map(found, place.lookup, shape)
    return polygons.covered(polygons.read_polygons(path), place, shape, label)


def _of_map(place: Georeference) -> Georeference:
    return Georeference(place.crs, place.transform)


def _of_flags(path: Path, source: Source) -> tuple[Array, list[str]]:
    """Return where no flag of EMIT's mask file is set that leaves a pixel out, and a note that names them."""
    with hdf5.opened(path) as file:
        if _MASK not in file or _NAMES not in file:
            raise InputError(
                f"The mask {path} holds {', '.join(sorted(file)[:8]) or 'nothing'}; expected EMIT's mask file (mask, "
                f"{_NAMES}). Convert another mask to GeoTIFF, ENVI or .npy."
            )
        values = hdf5.dataset(file, _MASK, path, 3)
        names = _texts(file[_NAMES][()])
        if len(names) != values.shape[2]:
            raise InputError(
                f"The mask {path} names {len(names)} flags and holds {values.shape[2]}; expected a name for each. It "
                "is damaged; copy it again."
            )
        chosen = [i for i, name in enumerate(names) if any(word in name.lower() for word in _FLAGS)]
        if not chosen:
            raise InputError(
                f"The mask {path} has the flags {', '.join(names)}; expected some of {', '.join(_FLAGS)} among them."
            )
        flags = [values[:, :, i] for i in chosen]
    use = ~np.any([flag > 0.5 for flag in flags], axis=0)
    counts = ", ".join(f"{names[i]} {int((flag > 0.5).sum())}" for i, flag in zip(chosen, flags, strict=True))
    return _on_grid(use, source, f"The mask {path}"), [f"Pixels with these flags are masked: {counts}."]


def _texts(values: Any) -> Sequence[str]:
    return [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in np.ravel(values)]
