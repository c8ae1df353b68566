"""Read MATLAB files in the layouts of unmixing papers.

| layout | cube | abundances | endmembers | rows, columns | order of pixels |
| --- | --- | --- | --- | --- | --- |
| DEQ-Unmix, DeepTrans | Y (B, N) | A (R, N), initial A1 | M (B, R), initial M1 | square | down the columns |
| Zhu | V or Y (B, N) | A (R, N) | M (B, R), names `cood` | nRow, nCol | down the columns |
| Palsson | Y (B, N) | S_GT (H, W, R) | GT (R, B) | lines, cols | along the rows |
| HySUPP | Y (L, N) | A (p, N) | E (L, p), names `labels` | H, W | along the rows |
| MUUFL Gulfport | hsi.Data (H, W, B) | | | from the shape | as they are; hsi.valid_mask |
| plain | any (H, W, B) | A_cube, abundances (H, W, R) | endmembers | from the shape | as they are |
"""

import os
from pathlib import Path

import numpy as np

from dequnmix_jax.checks import InputError, how_many
from dequnmix_jax.io import pixel_order
from dequnmix_jax.io.bands import bands_to_use
from dequnmix_jax.io.matlab import variables as mat
from dequnmix_jax.io.remote import as_place
from dequnmix_jax.scenes.read_options import ReadOptions
from dequnmix_jax.scenes.scene import Array
from dequnmix_jax.scenes.source import Source, source_in_memory
from dequnmix_jax.scenes.truth import Truth


def _maps(value: Array, count: int | None) -> tuple[Array, list[str]]:
    """Return maps as (H, W, R), given (H, W, R) or (R, H, W), which the number of spectra reveals."""
    if count is not None and value.shape[0] == count != value.shape[2]:
        return np.moveaxis(value, 0, 2), [
            f"Abundances of shape {value.shape} were taken as (endmembers, rows, columns)."
        ]
    return value, []


def _count(variables: mat.Variables, bands: int | None) -> int | None:
    name, spectra = mat.first(variables, mat.ENDMEMBERS)
    if name is None or spectra is None or spectra.ndim != 2:
        return None
    return spectra.shape[1 - spectra.shape.index(bands)] if bands in spectra.shape else min(spectra.shape)


def _cube_of_axes(variables: mat.Variables, name: str, value: Array) -> tuple[Array, list[str]]:
    """Return a cube of three axes as (H, W, B), which wavelengths, spectra and maps of the file reveal."""
    wavelengths, _ = mat.band_centres(variables)
    spectra_name, spectra = mat.first(variables, mat.ENDMEMBERS)
    maps_name, maps = mat.first(variables, mat.ABUNDANCES)
    longer = max(spectra.shape) if spectra is not None and spectra.ndim == 2 else None
    sizes = [None if wavelengths is None else wavelengths.size, longer]
    bands = next((size for size in sizes if size is not None and size in value.shape), None)
    cube, notes = pixel_order.bands_last(value, bands, name)
    turned = bands is not None and value.shape[0] == bands != value.shape[2]
    if maps is not None and maps.ndim == 3:
        sides = _maps(maps, _count(variables, cube.shape[2]))[0].shape[:2]
        if turned and sides != cube.shape[:2] and sides == cube.shape[1::-1]:
            cube = np.swapaxes(cube, 0, 1)
            notes = [f"{name} of shape {value.shape} was taken as (bands, columns, rows): {maps_name} says so."]
        elif sides != cube.shape[:2]:
            notes.append(f"{name} has {cube.shape[0]} x {cube.shape[1]} pixels, {maps_name} {sides[0]} x {sides[1]}.")
    if longer is not None and spectra is not None and cube.shape[2] not in spectra.shape:
        notes.append(f"{name} has {how_many(cube.shape[2], 'band')} and {spectra_name} {longer}.")
    return cube, notes


def _cube(
    variables: mat.Variables, name: str, value: Array, options: ReadOptions, path: Path
) -> tuple[Array, list[str]]:
    if value.ndim == 3:
        return _cube_of_axes(variables, name, value)
    known, customary = mat.side_numbers(variables, options.shape)
    maps_name, maps = mat.first(variables, mat.ABUNDANCES)
    spectra_name, spectra = mat.first(variables, mat.ENDMEMBERS)
    pixels = None if known is None else known[0] * known[1]
    if pixels is None and maps_name is not None and maps is not None and maps.ndim == 2:
        pixels = max(maps.shape)  # there are more pixels than endmembers
    bands = max(spectra.shape) if spectra_name is not None and spectra is not None and spectra.ndim == 2 else None
    rows, notes = pixel_order.pixels_first(value, pixels=pixels, bands=bands, what=name, path=path)
    if bands is not None and rows.shape[1] != bands and spectra is not None and rows.shape[1] not in spectra.shape:
        notes.append(f"{name} has {how_many(rows.shape[1], 'band')} and {spectra_name} {bands}.")
    sides, side_notes = pixel_order.side_lengths(rows.shape[0], known, name, path)
    companion = None
    if maps is not None and maps.ndim == 3:
        candidate, _ = _maps(maps, _count(variables, rows.shape[1]))
        companion = candidate if candidate.shape[:2] == sides else None
    cube, order_notes = pixel_order.picture(
        rows,
        sides,
        customary=options.order or customary,
        fixed=options.order is not None,
        companion=companion,
        companion_is_cube=False,
        what=name,
    )
    return cube, [*notes, *side_notes, *order_notes]


def open_image(path: str | os.PathLike[str], options: ReadOptions) -> Source:
    """Open the cube of a MATLAB file; it is read whole.

    Args:
        path: the .mat file, of any version.
        options: the default variable is Y, V, X, cube, hsi, img or the only array with three axes; the default order of
            pixels is that of the layout, as the file's maps confirm.

    Returns:
        A Source with notes on what was assumed.

    Raises:
        InputError: the file cannot be read, holds no cube, or its matrices do not fit together.
    """
    path = as_place(path)
    variables = mat.load(path)
    name, value = mat.cube_variable(variables, options.variable, path)
    cube, notes = _cube(variables, name, value, options, path)
    wavelengths, unit_notes = mat.band_centres(variables)
    if wavelengths is not None and wavelengths.size != cube.shape[2]:
        unit_notes = [f"{how_many(wavelengths.size, 'wavelength')} for {how_many(cube.shape[2], 'band')} left out."]
        wavelengths = None
    largest = variables.get("maxValue")
    if isinstance(largest, np.ndarray) and largest.size == 1 and largest.dtype.kind in "iuf" and options.scale is None:
        notes.append(f"The file's maxValue = {largest.item():g} was not applied; pass scale to divide by it.")
    good, ignore_notes = bands_to_use(None, wavelengths, cube.shape[2], options, str(path))
    seen = mat.valid_pixels(variables, name, cube.shape[:2])
    return source_in_memory(
        cube,
        options,
        seen,
        wavelengths=wavelengths,
        good_bands=good,
        name=path.stem,
        source=path,
        notes=(*notes, *unit_notes, *ignore_notes),
    )


def _spectra(value: Array, bands: int | None, count: int | None, name: str, path: Path) -> Array:
    """Return spectra as (R, B), given in either orientation."""
    for known, axis in ((bands, 0), (count, 1)):
        if known in value.shape:
            return value.T if value.shape[axis] == known else value
    if bands is not None or count is not None:
        raise InputError(
            f"{name} in {path} has shape {value.shape}, and the other variables say {bands or 'unknown'} bands and "
            f"{count or 'unknown'} endmembers; expected (bands, endmembers). Check that they belong together."
        )
    return value.T if value.shape[0] > value.shape[1] else value  # there are more bands than endmembers


def _abundances(
    variables: mat.Variables,
    name: str,
    cube: Array | None,
    options: ReadOptions,
    path: Path,
) -> tuple[Array | None, list[str]]:
    value = mat.numeric(variables, name)
    if value is None:
        return None, []
    if value.ndim == 3:
        return _maps(value, _count(variables, None if cube is None else cube.shape[2]))
    rows = value if value.shape[0] > value.shape[1] else value.T  # there are more pixels than endmembers
    known, customary = mat.side_numbers(variables, options.shape)
    if known is None and cube is not None:
        known = cube.shape[:2]
    sides, notes = pixel_order.side_lengths(rows.shape[0], known, name, path)
    maps, order_notes = pixel_order.picture(
        rows, sides, customary=options.order or customary, fixed=options.order is not None, companion=cube, what=name
    )
    return maps, [*notes, *order_notes]


def read_truth(path: str | os.PathLike[str], options: ReadOptions) -> Truth:
    """Read abundances and endmembers of a MATLAB file, with the authors' own initialisation (M1, A1) if present.

    Args:
        path: the .mat file, of any version, with or without the cube.
        options: shape and order of the maps; the default order is that of the layout, as the file's cube confirms.

    Returns:
        A Truth with notes on what was assumed.

    Raises:
        InputError: the file cannot be read, holds neither abundances nor endmembers, or they do not fit together.
    """
    path = as_place(path)
    variables = mat.load(path)
    maps_name, _ = mat.first(variables, mat.ABUNDANCES)
    spectra_name, spectra = mat.first(variables, mat.ENDMEMBERS)
    if maps_name is None and spectra_name is None:
        raise InputError(
            f"{path} holds {mat.described(variables)}; expected abundances (A, S_GT, abundances) or endmembers "
            "(M, E, GT, endmembers)."
        )
    cube_name, value = mat.first(variables, mat.CUBES)
    cube = None
    if cube_name is not None and value is not None:
        cube, _ = _cube(variables, cube_name, value, options, path)
    abundances, notes = (None, []) if maps_name is None else _abundances(variables, maps_name, cube, options, path)
    initial, _ = _abundances(variables, "A1", cube, options, path)
    bands = None if cube is None else cube.shape[2]
    count = None if abundances is None else abundances.shape[2]
    first_spectra = mat.numeric(variables, "M1")
    endmembers = (
        None if spectra_name is None or spectra is None else _spectra(spectra, bands, count, spectra_name, path)
    )
    if count is None and endmembers is not None:
        count = endmembers.shape[0]
    return Truth(
        abundances=abundances,
        endmembers=endmembers,
        names=None if count is None else mat.material_names(variables, count),
        reference=f"{', '.join(name for name in (maps_name, spectra_name) if name)} of {path.name}",
        initial_endmembers=None if first_spectra is None else _spectra(first_spectra, bands, count, "M1", path),
        initial_abundances=initial,
        notes=tuple(notes),
    )
