"""Read numpy files: a cube in .npy, or named arrays (cube, maps, spectra) in .npz. Nothing is unpickled.

Names in an .npz: cube (H, W, B); abundances (H, W, R); endmembers (R, B); names (R,); wavelengths_nm (B,), or
wavelengths in a unit that follows from their size; fwhm_nm (B,), or fwhm or bandwidths in the unit of the wavelengths;
bbl (B,), 1 for good bands; mask (H, W), True for valid pixels; note; reflectance_scale_factor, which divides the
cube; envi_fields, a JSON object of ENVI header fields; crs, a text, transform (6,) and lookup (H', W', 2) as in
`Georeference`. Earlier versions wrote `crs` as `projection`, and `envi_fields` as `crs`; such files are read too.
"""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.io import pixel_order
from dequnmix_jax.io.bands import bands_to_use, nanometres, spectral_axis, valid_lengths
from dequnmix_jax.io.npz_arrays import header, load
from dequnmix_jax.io.raw import read_window
from dequnmix_jax.io.remote import as_place
from dequnmix_jax.scenes.georeference import Georeference
from dequnmix_jax.scenes.read_options import ReadOptions
from dequnmix_jax.scenes.scene import Array, Scene
from dequnmix_jax.scenes.source import Source, Stored, Window, source_in_memory
from dequnmix_jax.scenes.truth import Truth

MODEL = "checkpoint.json"
"""Name of the array that says how a trained model was made; only models have it."""

_CENTRES = ("wavelengths_nm", "wavelengths", "wavelength")
_WIDTHS = ("fwhm_nm", "fwhm", "bandwidths", "bandwidth")
_READ = (*_CENTRES, *_WIDTHS, "bbl", "transform", "reflectance_scale_factor")


# Rows of a .npy that show whether its first axis holds bands.
_SAMPLED_ROWS = 24


def _real(arrays: dict[str, Array], name: str, path: Path) -> Array | None:
    value = arrays.get(name)
    if value is not None and value.dtype.kind not in "biuf":
        raise InputError(f"{name!r} in {path} has the data type {value.dtype}; expected real numbers.")
    return value


def _number(arrays: dict[str, Array], name: str, path: Path) -> float | None:
    value = _real(arrays, name, path)
    if value is not None and value.size != 1:
        raise InputError(f"{name!r} in {path} has shape {value.shape}; expected one number.")
    return None if value is None else float(value.item())


def _text(arrays: dict[str, Array], name: str) -> str:
    value = arrays.get(name)
    return str(value) if value is not None and value.dtype.kind == "U" else ""


def _is_json(arrays: dict[str, Array]) -> bool:
    """Return whether `crs` holds ENVI header fields, as in files of earlier versions; no WKT begins with a brace."""
    return _text(arrays, "crs").lstrip().startswith("{")


def _envi_fields(arrays: dict[str, Array], path: Path) -> dict[str, str]:
    name = "envi_fields" if "envi_fields" in arrays else "crs"
    text = _text(arrays, name) if name == "envi_fields" or _is_json(arrays) else ""
    try:
        fields: Any = json.loads(text) if text else {}
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{name!r} in {path} is not JSON ({error}); expected an object of ENVI header fields."
        ) from error
    if not isinstance(fields, dict):
        raise InputError(
            f"{name!r} in {path} is {type(fields).__name__}; expected a JSON object of ENVI header fields."
        )
    return {str(key): str(value) for key, value in fields.items()}


def place_of(georeference: Georeference | None) -> dict[str, Array]:
    """Return a georeference as the arrays that `georeference_in` reads, by name; none without one."""
    if georeference is None:
        return {}
    arrays = {"crs": np.array(georeference.crs), "transform": np.array(georeference.transform)}
    return arrays if georeference.lookup is None else arrays | {"lookup": georeference.lookup}


def georeference_in(arrays: dict[str, Array], path: Path) -> Georeference | None:
    """Return the georeference among the arrays of a file, or None; raise InputError if it is none."""
    transform, lookup = _real(arrays, "transform", path), _real(arrays, "lookup", path)
    if transform is None:
        return None
    if transform.shape != (6,) or (lookup is not None and lookup.dtype.kind not in "iu"):
        raise InputError(
            f"'transform' in {path} has shape {transform.shape}; expected six numbers (a, b, x0, d, e, y0), and whole "
            "numbers in 'lookup'."
        )
    a, b, x0, d, e, y0 = (float(value) for value in transform)
    crs = _text(arrays, "projection") if "projection" in arrays or _is_json(arrays) else _text(arrays, "crs")
    return Georeference(crs, (a, b, x0, d, e, y0), lookup)


def _check_scene(arrays: dict[str, Array], variable: str | None, path: Path) -> None:
    """Raise InputError if the arrays are those of a model or of a result, both of which are .npz files too."""
    if MODEL in arrays:
        raise InputError(
            f"{path} is a trained model, which `fit` made, not a scene; expected the scene as well. A model unmixes a "
            f"scene by `dequnmix unmix SCENE {path.name} -o FOLDER`."
        )
    if variable is None and "cube" not in arrays and {"abundances", "endmembers", "brightness"} <= arrays.keys():
        raise InputError(
            f"{path} holds the maps of a result, not a scene; expected the scene that was unmixed. To report on the "
            f"result, name its folder, {path.parent}."
        )


def _cube_name(arrays: dict[str, Array], variable: str | None, path: Path) -> str:
    listed = ", ".join(f"{name} {value.shape}" for name, value in arrays.items()) or "nothing"
    if variable is not None:
        if variable not in arrays:
            raise InputError(f"{path} has no array named {variable!r}; it holds {listed}. Pass one of these.")
        return variable
    if "cube" in arrays:
        return "cube"
    others = ("abundances", "lookup")
    cubes = [n for n, v in arrays.items() if v.ndim == 3 and v.dtype.kind in "iuf" and n not in others]
    if len(cubes) != 1:
        raise InputError(
            f"{path} holds {listed}, and none of these is known to be the cube; expected an array named cube. Pass "
            "variable=NAME (--variable NAME)."
        )
    return cubes[0]


def _first(arrays: dict[str, Array], names: Sequence[str], path: Path) -> tuple[Array | None, str]:
    """Return the first of some arrays that is there, and its name."""
    name = next((name for name in names if name in arrays), names[0])
    return _real(arrays, name, path), name


def _spectral_axis(
    arrays: dict[str, Array], centres: Array | None, name: str, path: Path
) -> tuple[Array | None, Array | None, list[str]]:
    """Return wavelengths and widths (B,) in nm, each None if missing or out of range, and notes.

    Without `_nm` in its name, the unit of the wavelengths follows from their size; the widths have the same one.
    """
    widths, width_name = _first(arrays, _WIDTHS, path)
    in_nanometres = width_name == _WIDTHS[0]
    if centres is None or name == _CENTRES[0]:
        wavelengths, notes = valid_lengths(centres, f"{name} in {path.name}")
        unit = "nm"
    else:
        wavelengths, notes = nanometres(centres.astype(np.float64), "", path.name)
        unit = ""
    if widths is None or in_nanometres:
        fwhm, width_notes = valid_lengths(widths, f"{width_name} in {path.name}", "widths")
    elif wavelengths is None or centres is None:
        return wavelengths, None, [*notes, f"{width_name!r} was not used: its unit is that of missing wavelengths."]
    else:
        _, fwhm, both = spectral_axis(centres.astype(np.float64), unit, path.name, widths.astype(np.float64))
        width_notes = [note for note in both if note not in notes]
    return wavelengths, fwhm, [*notes, *width_notes]


def open_image(path: str | os.PathLike[str], options: ReadOptions) -> Source:
    """Open the cube of a .npz or .npy file.

    Windows of a plain .npy are read from the file; a .npz is read whole.

    Args:
        path: the file.
        options: scale overrides the file's reflectance_scale_factor; the default order of a matrix is "C".

    Returns:
        A Source.

    Raises:
        InputError: the file cannot be read, holds no cube, or its arrays do not fit together.
    """
    path = as_place(path)
    if options.variable is None and options.shape is None and options.order is None:
        plain = _open_plain(path, options)
        if plain is not None:
            return plain
    arrays = load(path)
    _check_scene(arrays, options.variable, path)
    name = _cube_name(arrays, options.variable, path)
    value = _real(arrays, name, path)
    wavelengths, spectral_name = _first(arrays, _CENTRES, path)
    assert value is not None  # _cube_name returns the name of an array
    if value.ndim == 2:
        bands = None if wavelengths is None else wavelengths.size
        pixels = None if options.shape is None else math.prod(options.shape)
        rows, notes = pixel_order.pixels_first(value, pixels=pixels, bands=bands, what=name, path=path)
        sides, side_notes = pixel_order.side_lengths(rows.shape[0], options.shape, name, path)
        value, order_notes = pixel_order.picture(
            rows, sides, customary=options.order or "C", fixed=options.order is not None, what=name
        )
        notes = [*notes, *side_notes, *order_notes]
    elif value.ndim == 3:
        value, notes = pixel_order.bands_last(value, None if wavelengths is None else wavelengths.size, name)
    else:
        raise InputError(f"{name!r} in {path} has shape {value.shape}; expected (rows, columns, bands).")
    wavelengths, fwhm, length_notes = _spectral_axis(arrays, wavelengths, spectral_name, path)
    unread = [
        f"{other!r} holds one number for each band and was not used; names that are read: wavelengths_nm, fwhm_nm, bbl."
        for other, numbers in arrays.items()
        if numbers.shape == value.shape[2:] and numbers.dtype.kind in "biuf" and other not in _READ
    ]
    listed = _real(arrays, "bbl", path)
    good = None if listed is None else listed > 0.5
    good, ignore_notes = bands_to_use(good, wavelengths, value.shape[2], options, str(path))
    if options.scale is None:
        options = replace(options, scale=_number(arrays, "reflectance_scale_factor", path))
    stored = _real(arrays, "mask", path)
    if stored is not None and stored.shape != value.shape[:2]:
        raise InputError(f"'mask' in {path} has shape {stored.shape}; expected one value a pixel, {value.shape[:2]}.")
    seen = None if stored is None else stored.astype(np.bool_)
    return source_in_memory(
        value,
        options,
        seen,
        wavelengths=wavelengths,
        good_bands=good,
        name=path.stem,
        source=path,
        envi_fields=_envi_fields(arrays, path),
        notes=(*notes, *length_notes, *unread, *ignore_notes),
        georeference=georeference_in(arrays, path),
        fwhm=fwhm,
    )


def arrays_of(scene: Scene) -> dict[str, Array]:
    """Return a scene as the arrays that `open_image` reads, by name."""
    arrays: dict[str, Array | None] = {
        "cube": scene.cube,
        "wavelengths_nm": scene.wavelengths,
        "fwhm_nm": scene.fwhm,
        "bbl": None if scene.good_bands is None else scene.good_bands.astype(np.uint8),
        "mask": scene.mask,
        "envi_fields": np.array(json.dumps(dict(scene.envi_fields))) if scene.envi_fields else None,
    }
    present = {name: values for name, values in arrays.items() if values is not None}
    return present | place_of(scene.georeference)


def _open_plain(path: Path, options: ReadOptions) -> Source | None:
    """Open a .npy of a cube without reading it; return None for a file that must be read whole."""
    with path.open("rb") as file:
        try:
            shape, fortran, dtype = header(file)
        except Exception:  # of many kinds; `load` says what is wrong
            return None
        offset = file.tell()
    size = offset + math.prod(shape) * dtype.itemsize
    if len(shape) != 3 or min(shape) < 1 or fortran or dtype.kind not in "iuf" or path.stat().st_size != size:
        return None

    def stored(window: Window | None) -> Stored:
        whole = Window(slice(0, shape[0]), slice(0, shape[1]))
        return Stored(read_window(path, shape, dtype, offset, "bip", whole if window is None else window))

    good, notes = bands_to_use(None, None, shape[2], options, str(path))
    rows = np.unique(np.linspace(0, shape[0] - 1, min(shape[0], _SAMPLED_ROWS)).astype(int))
    sample = np.concatenate([stored(Window(slice(row, row + 1), slice(0, shape[1]))).values for row in rows.tolist()])
    if pixel_order.bands_look_first(sample):
        notes += pixel_order.first_axis_words(shape)
    return Source(
        shape,
        stored,
        nodata=options.nodata,
        scale=options.scale,
        saturation=options.saturation,
        good_bands=good,
        name=path.stem,
        source=path,
        notes=tuple(notes),
    )


def read_truth(path: str | os.PathLike[str]) -> Truth:
    """Read abundances, endmembers and names of a .npz file.

    Args:
        path: the file, for example `estimate.npz` of an unmixing.

    Returns:
        A Truth; its reference is the file's note, or else its name.

    Raises:
        InputError: the file cannot be read, or holds neither abundances nor endmembers.
    """
    path = as_place(path)
    arrays = load(path)
    abundances, endmembers = (_real(arrays, name, path) for name in ("abundances", "endmembers"))
    if abundances is None and endmembers is None:
        raise InputError(
            f"{path} holds {', '.join(arrays) or 'nothing'}; expected abundances (H, W, R) or endmembers (R, B)."
        )
    names = arrays.get("names")
    return Truth(
        abundances=abundances,
        endmembers=endmembers,
        names=None if names is None or names.dtype.kind != "U" else tuple(names.tolist()),
        reference=_text(arrays, "note") or path.name,
        initial_endmembers=_real(arrays, "initial_endmembers", path),
        initial_abundances=_real(arrays, "initial_abundances", path),
        convention=_text(arrays, "convention") or None,
    )
