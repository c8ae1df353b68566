"""Checks of inputs before anything is compiled; each error is one sentence.

Shapes are known under every transformation and always checked. Values are known, and checked, only outside jit, vmap
and grad (under a trace `Trace.converged` is False for NaN).
"""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import field, fields, is_dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_origin, get_type_hints

import numpy as np

from dequnmix_jax.escaping import shown


class Choice:
    """Base of the values of a field that is a choice, frozen dataclasses.

    `word` is the name in files; given for a field, it stands for the value with its defaults: Solver("picard") is
    Solver(Picard()).
    """

    word: ClassVar[str]

    def __post_init__(self) -> None:
        """Raise InputError if a field is not what its type and its range allow."""
        check_choices(self)
        for item in fields(self):  # type: ignore[arg-type]
            if "range" in item.metadata:
                check_range(self, item.name, *item.metadata["range"])


Number = TypeVar("Number", int, float)


def ranged(default: Number, low: float, high: float) -> Number:
    """Return a field of a `Choice`, a number between two others, both included."""
    made: Number = field(default=default, metadata={"range": (low, high)})
    return made


def check_choices(config: Any) -> None:
    """Put values in the place of words; raise InputError if a field is none that its type allows."""
    hints = get_type_hints(type(config))
    owner = type(config).__name__
    for item in fields(config):
        value, allowed = getattr(config, item.name), get_args(hints[item.name])
        kinds = [kind for kind in allowed if isinstance(kind, type) and issubclass(kind, Choice)]
        named = {kind.word: kind for kind in kinds} if isinstance(value, str) else {}
        if value in named:
            object.__setattr__(config, item.name, named[value]())  # completes a frozen dataclass
            continue
        if get_origin(hints[item.name]) is Literal and value not in allowed:
            words = ", ".join(repr(word) for word in allowed)
            raise InputError(f"{owner}.{item.name} is {value!r}; expected one of {words}.")
        if kinds and not isinstance(value, allowed):
            given = f"the class {value.__name__}" if isinstance(value, type) else repr(value)
            raise InputError(f"{owner}.{item.name} is {given}; {_to_write(item.name, value, kinds, allowed)}.")
        if is_dataclass(hints[item.name]) and not isinstance(value, hints[item.name]):
            kind, inside = hints[item.name].__name__, f"{value!r}" if isinstance(value, Choice) else ""
            raise InputError(f"{owner}.{item.name} is {value!r}; write {item.name}={kind}({inside}).")
        if hints[item.name] is bool and not isinstance(value, bool):
            raise InputError(f"{owner}.{item.name} is {value!r}; expected True or False.")


def _to_write(name: str, value: Any, kinds: Sequence[type[Choice]], allowed: Sequence[type]) -> str:
    """Return advice for a value that is not one of a choice."""
    for kind in kinds:
        if value is kind:
            return f"write {name}={kind()!r}"
    none = type(None) in allowed
    if none and value == "none":
        return f"write {name}=None"
    return f"expected one of {', '.join([*(repr(kind()) for kind in kinds), *['None'] * none])}"


def check_range(config: Any, name: str, low: float, high: float) -> None:
    """Raise InputError unless a field is a number of its type between two others, both included."""
    value = getattr(config, name)
    whole = get_type_hints(type(config))[name] is int
    kind: Any = Integral if whole else Real
    if not isinstance(value, kind) or isinstance(value, bool):
        what = "an integer" if whole else "a number"
    elif not low <= value <= high:
        what = "a value"
    else:
        return
    raise InputError(f"{type(config).__name__}.{name} is {value!r}; expected {what} from {low:g} to {high:g}.")


Array = Any  # a numpy or a jax array, concrete or traced


class InputError(ValueError):
    """An input that cannot be used; the message says what was found, what was expected and what to do."""


def concrete(*arrays: Array) -> bool:
    """Return whether the values of all arrays are known (False under a trace)."""
    jax = sys.modules.get("jax")  # without jax nothing is traced
    return jax is None or not any(isinstance(array, jax.core.Tracer) for array in arrays)


_INSIDE = {"endmembers": ("endmembers", "spectra"), "values": ("abundances",)}
"""The attributes of our records for an argument of this name; by default the name itself."""


def sentence_of(error: BaseException) -> str:
    """Return a failure in the user's terms, one or two sentences on one line."""
    if isinstance(error, InputError):
        text = str(error)
    elif isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        text = "The machine has too little memory for this scene; unmix a part of it, or fewer bands."
    elif isinstance(error, OSError):
        problem = error.strerror or str(error) or type(error).__name__
        text = f"{problem}: {error.filename or 'an output'}. Check the space and the permissions there."
    else:
        reason = (str(error).splitlines() or ["no message"])[0][:200]
        text = (
            f"{type(error).__name__}: {reason}. This is a fault of the program and not of the input; please report it "
            "with what `dequnmix env` and -v print."
        )
    return shown(" ".join(text.split()))


def pip_hint(extra: str) -> str:
    """Return the command that installs an extra."""
    return f"pip install 'dequnmix-jax[{extra}]'"


def described(value: Any) -> str:
    """Return a short description of a value."""
    if value is None or isinstance(value, bool | int | float | complex | np.generic):
        return repr(value)
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if type(value) is tuple and 0 < len(value) <= 3:
        return f"a tuple of {' and '.join(type(part).__name__ for part in value)}"
    return _one(type(value).__name__)


def how_many(number: Any, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1: "1 band", "2 bands", "3 spectra".

    Args:
        number: of type int, of Python or numpy.
        noun: in the singular, with its adjectives before it.
    """
    if number == 1:
        return f"1 {noun}"
    if noun.endswith("spectrum"):
        return f"{number} {noun.removesuffix('um')}a"
    if noun.endswith("entry"):
        return f"{number} {noun.removesuffix('y')}ies"
    return f"{number} {noun}{'es' if noun.endswith(('s', 'ch')) else 's'}"


def ending(path: Path) -> str:
    """Return how the name of a file ends, for a message."""
    return f"ends in {path.suffix!r}" if path.suffix else "has no suffix"


def _one(kind: str) -> str:
    return f"{'an' if kind[:1] in 'AEIOaeio' or kind == 'ndarray' else 'a'} {kind}"


def check_array(value: Any, name: str) -> None:
    """Raise InputError unless a value is an array.

    Arrays of numpy and jax, traced ones too, pass, and so do lists of numbers. An array of another library (xarray,
    h5py, dask, torch) does not, though numpy could convert it: the axes of a DataArray have names and any order (often
    band first), which `read` handles and numpy ignores.
    """
    jax = sys.modules.get("jax")  # without jax there is no array of jax
    arrays: Any = np.ndarray | np.generic | (np.ndarray if jax is None else jax.Array)
    if isinstance(value, arrays) or hasattr(value, "__jax_array__"):
        return
    problem = f"{name} is {described(value)}"
    kind = type(value).__name__.lower()
    attributes = [part for part in _INSIDE.get(name, (name,)) if not isinstance(value, type) and hasattr(value, part)]
    if attributes:
        raise InputError(f"{problem}; expected an array. Pass {kind}.{attributes[0]}.")
    if hasattr(value, "__array__"):
        named = f" Its axes have names and may stand in another order: read({name}).cube brings them into this one."
        raise InputError(
            f"{problem}; expected an array of numpy or jax. Pass numpy.asarray({name})."
            + (named if hasattr(value, "dims") and name == "cube" else "")
        )
    if name == "cube" and isinstance(value, str | os.PathLike):
        raise InputError(f"{problem}; expected an array (rows, columns, bands). Pass read(path).cube.")
    if name == "cube" and hasattr(value, "scene"):
        raise InputError(f"{problem}; expected an array (rows, columns, bands). Pass {kind}.scene().cube.")
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        try:
            if np.asarray(value).dtype.kind in "biuf":
                return
        except (ValueError, TypeError):  # ragged, or of records
            pass
    mixed = " reconstruct(estimate) mixes one back." if hasattr(value, "brightness") and name == "cube" else ""
    raise InputError(f"{problem}; expected an array of numbers.{mixed}")


def check_kind(value: Any, kind: type, name: str, cure: str = "") -> None:
    """Raise InputError unless a value is of its class; `cure` is the advice, if it is not to call the class."""
    if isinstance(value, kind):
        return
    word = kind.__name__
    if isinstance(value, type) and issubclass(value, kind):
        raise InputError(f"{name} is the class {word}; expected one of its values. Write {word}().")
    cure = cure or f"Write {word}(...)."
    if type(value) is tuple and name in ("config", "training", "rates"):
        cure = (
            "RECOMMENDED is a pair of training and rates, which stand after the model: "
            "fit(key, cube, Model(), *RECOMMENDED, count=R)."
        )
    raise InputError(f"{name} is {described(value)}; expected {_one(word)}. {cure}")


def check_params(params: Any) -> None:
    """Raise InputError unless parameters are a mapping with endmembers, as `init` and `fit` return it."""
    if isinstance(params, Mapping) and "endmembers" in params:
        check_array(params["endmembers"], "endmembers")
        if hasattr(params["endmembers"], "shape"):
            return
    pair = " `fit` returns a pair: params, history = fit(...)." if isinstance(params, tuple) else ""
    raise InputError(
        f"params is {described(params)}; expected the parameters that `init` or `fit` returns, a dict with "
        f"endmembers.{pair}"
    )


def check_key(key: Any, name: str = "key") -> None:
    """Raise InputError unless `key` is one random key of jax: typed, or two or four uint32."""
    jax = sys.modules.get("jax")  # without jax there is no key
    dtype, shape = getattr(key, "dtype", None), np.shape(key) if hasattr(key, "dtype") else ()
    typed = jax is not None and dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)
    if (typed and shape == ()) or (dtype == np.uint32 and len(shape) == 1):
        return
    if typed or (dtype == np.uint32 and len(shape) > 1):
        raise InputError(
            f"{name} has shape {shape}, which is several keys; expected one. Pass {name}[0], or map over them by "
            "jax.vmap."
        )
    if isinstance(key, int) or (dtype is not None and shape == () and np.issubdtype(dtype, np.integer)):
        number = key if isinstance(key, int) else int(key) if concrete(key) else name
        raise InputError(f"{name} is {number}; expected a random key of jax. Pass jax.random.key({number}).")
    raise InputError(f"{name} is {described(key)}; expected a random key of jax. Pass jax.random.key(0).")


def check_cube(cube: Array, name: str = "cube") -> None:
    """Raise InputError unless `cube` is a real (H, W, B) array with at least one entry on each axis."""
    check_array(cube, name)
    if isinstance(cube, np.ma.MaskedArray):
        raise InputError(
            f"{name} is a masked array of numpy, whose mask would be lost; expected an array. Pass cube.filled(0), and "
            "mask=~numpy.ma.getmaskarray(cube).any(-1), or the Scene that read(cube) returns."
        )
    shape = np.shape(cube)
    if len(shape) != 3 or 0 in shape:
        raise InputError(
            f"{name} has shape {shape}; expected (rows, columns, bands), none of them zero. "
            "A matrix of pixels (N, B) becomes a cube by cube.reshape(1, N, B); a batch of cubes goes through jax.vmap."
        )
    if not np.issubdtype(np.asarray(cube).dtype if not hasattr(cube, "dtype") else cube.dtype, np.floating) and (
        str(getattr(cube, "dtype", "")) != "bfloat16"
    ):
        raise InputError(
            f"{name} has the data type {getattr(cube, 'dtype', type(cube).__name__)}; expected floating point "
            "reflectance. Convert it, for example by (cube / 10000).astype('float32')."
        )


def check_endmembers(endmembers: Array, bands: int | None = None) -> None:
    """Raise InputError unless `endmembers` is (R, B) of real numbers with the cube's number of bands."""
    check_array(endmembers, "endmembers")
    shape = np.shape(endmembers)
    if len(shape) != 2 or 0 in shape:
        raise InputError(f"endmembers have shape {shape}; expected (endmembers, bands), one spectrum a row.")
    if bands is not None and shape[1] != bands:
        turned = " They look transposed: pass endmembers.T." if shape[0] == bands else ""
        raise InputError(
            f"endmembers have {how_many(shape[1], 'band')} and the cube has {bands}; both must be on the same "
            f"bands.{turned}"
        )
    dtype = endmembers.dtype if hasattr(endmembers, "dtype") else np.asarray(endmembers).dtype
    if dtype.kind not in "iuf" and str(dtype) != "bfloat16":
        raise InputError(f"endmembers have the data type {dtype}; expected real numbers in the units of the cube.")


def check_fixed(fixed: Array, count: int, bands: int) -> Any:
    """Return fixed spectra (F, B); raise InputError unless they are fewer than `count`, finite and all different."""
    check_array(fixed, "fixed")
    shape = np.shape(fixed)
    if len(shape) != 2 or shape[1] != bands or not shape[0] >= 1:
        raise InputError(f"fixed has shape {shape}; expected spectra on the bands of the scene, (spectra, {bands}).")
    if shape[0] >= count:
        raise InputError(
            f"{shape[0]} spectra are fixed and {count} endmembers asked for; expected at least one more, because the "
            f"number counts the fixed ones too. Ask for {shape[0] + 1} or more, or unmix by the spectra alone: "
            "dq.unmix_with(scene, library), `dequnmix unmix SCENE --endmembers LIBRARY`."
        )
    if concrete(fixed):
        values = np.asarray(fixed, np.float64)
        check_finite(values[None], name="fixed")
        largest = np.sqrt(np.sum(values**2, axis=1).max())
        for later in range(shape[0]):
            for earlier in range(later):
                if np.linalg.norm(values[later] - values[earlier]) <= 1e-4 * largest:
                    raise InputError(
                        f"The fixed spectra {earlier + 1} and {later + 1} are the same; expected different ones, "
                        "because nothing divides a pixel between two equal spectra. Leave one out."
                    )
    return fixed


def check_mask(mask: Array | None, cube: Array) -> None:
    """Raise InputError unless `mask` is None or a boolean (H, W) array with a valid pixel."""
    if mask is None:
        return
    check_array(mask, "mask")
    if not hasattr(mask, "dtype"):
        raise InputError(f"mask is {described(mask)}; expected an array of bool. Pass numpy.asarray(mask).")
    if np.shape(mask) != np.shape(cube)[:2]:
        raise InputError(
            f"mask has shape {np.shape(mask)} and the cube {np.shape(cube)}; expected one value a pixel, "
            f"{np.shape(cube)[:2]}, True where the pixel is valid."
        )
    if mask.dtype != np.bool_:
        raise InputError(f"mask has the data type {mask.dtype}; expected bool, True where the pixel is valid.")
    if concrete(mask) and not np.asarray(mask).any():
        raise InputError("mask leaves no valid pixel; expected True where the pixel is valid (is it inverted?).")


def check_count(count: int, cube: Array, mask: Array | None = None) -> None:
    """Raise InputError unless 2 <= count <= min(bands, valid pixels)."""
    if isinstance(count, bool) or not hasattr(count, "__index__"):
        raise InputError(f"count is {described(count)}; expected how many endmembers to look for, an integer.")
    height, width, bands = np.shape(cube)
    pixels = height * width if mask is None or not concrete(mask) else int(np.asarray(mask).sum())
    if count < 2:
        raise InputError(
            f"{how_many(count, 'endmember')} asked for; expected at least 2: with one, every abundance is 1."
        )
    if count > bands:
        raise InputError(
            f"{how_many(count, 'endmember')} asked for in {how_many(bands, 'band')}; expected at most as many as "
            "bands, or the abundances are not determined. Ask for fewer."
        )
    if count > pixels:
        raise InputError(
            f"{how_many(count, 'endmember')} asked for in {how_many(pixels, 'valid pixel')}; expected at most one for "
            "each pixel."
        )


def bands_named(bands: Array, most: int = 5) -> str:
    """Return a list of band numbers for a message."""
    listed = ", ".join(str(int(band)) for band in bands[:most])
    rest = f" and {len(bands) - most} more" if len(bands) > most else ""
    return f"band{'s' if len(bands) > 1 else ''} {listed}{rest} (counted from 0)"


def check_finite(cube: Array, mask: Array | None = None, name: str = "cube") -> None:
    """Raise InputError if a valid pixel holds NaN or infinity (nothing is checked under a trace)."""
    if not concrete(cube) or (mask is not None and not concrete(mask)):
        return
    values = np.asarray(cube)
    finite = np.isfinite(values).all(axis=-1)
    bad = ~finite if mask is None else ~finite & np.asarray(mask)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        if name == "endmembers":
            raise InputError(
                f"endmembers hold NaN or infinite values in {int(bad.sum())} of {bad.size} spectra, the first in "
                f"spectrum {where[1]}; expected finite values. Leave out these spectra, or these bands of endmembers "
                "and cube."
            )
        empty = np.flatnonzero(~np.isfinite(values if mask is None else values[np.asarray(mask)][None]).any((0, 1)))
        if 0 < empty.size < values.shape[-1]:
            alive = f"numpy.isfinite({name}).any((0, 1))" if mask is None else f"numpy.isfinite({name}[mask]).any(0)"
            raise InputError(
                f"{name} holds no finite value in {bands_named(empty)}; expected finite values in every valid pixel. "
                f"Leave {'it' if empty.size == 1 else 'them'} out, of endmembers as well: keep = {alive}, "
                f"{name}[:, :, keep]."
            )
        raise InputError(
            f"{name} holds NaN or infinite values in {int(bad.sum())} of {bad.size} pixels, the first at {where}; "
            "expected finite values in every valid pixel. Pass mask=numpy.isfinite(cube).all(-1) to leave them out."
        )
    problem = "" if name == "abundances" else magnitude_problem(largest_of(values, mask))
    if problem:
        parts = "spectra" if name == "endmembers" else name
        raise InputError(
            f"{name} {'hold' if name.endswith('s') else 'holds'} {problem}. Pass {parts} divided by a power of ten, "
            "cube and endmembers by the same one, or leave the pixels out that hold no measurement: "
            "mask=(abs(cube) < 1e15).all(-1)."
        )


LARGEST, SMALLEST = 1e15, 1e-15
"""Between these the largest value of a scene must be. Results do not depend on the unit in this range; beyond it
squares, and sums of squares over many pixels, leave the range of float32."""


def magnitude_problem(largest: float) -> str:
    """Return what is wrong with the largest magnitude of a scene, or nothing; 0 is right."""
    if largest > LARGEST:
        found, bound = "values up to", f"most {LARGEST:.0e}"
    elif 0 < largest < SMALLEST:
        found, bound = "no value beyond", f"least {SMALLEST:.0e}"
    else:
        return ""
    return f"{found} {largest:.4g}; expected at {bound}, because float32 cannot hold the squares of others"


def largest_of(values: Array, mask: Array | None = None) -> float:
    """Return the largest magnitude in (..., B), of the pixels where `mask` (...) is True."""
    numbers = values if values.dtype.kind in "iuf" else values.astype(np.float32)  # bfloat16
    where = True if mask is None else np.asarray(mask)[..., None]
    return max(float(np.max(numbers, where=where, initial=0)), -float(np.min(numbers, where=where, initial=0)))
