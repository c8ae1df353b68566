"""The maps of an unmixing: their meaning and units, and how to compute them from an estimate."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dequnmix_jax.checks import InputError, how_many
from dequnmix_jax.conventions import MEANINGS, REFLECTANCE, SCALED
from dequnmix_jax.scenes.scene import Array, Scene

# Bytes of a block of reconstructed rows: no second cube is held in memory.
_BLOCK = 32 * 2**20


class Kind(NamedTuple):
    """Description of a map.

    Attributes:
        unit: unit of its values, in words.
        meaning: a sentence.
    """

    unit: str
    meaning: str


KINDS = {
    "abundances": Kind("fraction of the pixel", "Share of each endmember in the pixel; the shares sum to one."),
    "brightness": Kind(
        "units of the scene",
        "Factor s that multiplies the mixture, which illumination and slope change: y = s a E, E at the level that the "
        "convention of the fractions names; 1 if the mixing model has none.",
    ),
    "residual": Kind(
        "units of the scene",
        "Root mean square, over the bands, of what the model does not explain: y - s a E.",
    ),
    "convergence": Kind(
        "relative change",
        "Change of the pixel in one further step of the solver, divided by the root mean square of the whole state; "
        "the root mean square of the map is the relative residual.",
    ),
}
"""The written maps, by file name."""

CLASSES = Kind("fraction of the pixel", "Sum of the fractions of the spectra of each class.")
"""The maps of classes, in the file "classes", of a result whose spectra have classes."""


def endmember_names(names: Sequence[str] | None, count: int) -> tuple[str, ...]:
    """Return the names of `count` endmembers, by default "endmember 1" and so on; raise InputError for another number.

    >>> endmember_names(None, 2)
    ('endmember 1', 'endmember 2')
    """
    labels = tuple(f"endmember {i + 1}" for i in range(count)) if names is None else tuple(str(name) for name in names)
    if len(labels) != count:
        raise InputError(
            f"{how_many(len(labels), 'name')} for {how_many(count, 'endmember')} given; expected as many of each."
        )
    return labels


def names_after(fixed: Sequence[str], count: int) -> tuple[str, ...] | None:
    """Return the names of `count` endmembers of which the first are known by name; None if none is.

    >>> names_after(["shade"], 3)
    ('shade', 'endmember 2', 'endmember 3')
    """
    return (*fixed, *endmember_names(None, count)[len(fixed) :]) if fixed else None


DEVIATION = Kind("fraction of the pixel", "Standard deviation of each fraction.")
"""The maps of deviations, in the files "abundances_sd" and "classes_sd", of a result that has them."""


BOUND = Kind("fraction of the pixel", "Bound of each fraction: with probability 0.05 it is lower, or higher.")
"""The maps of bounds, in the files "abundances_p05", "abundances_p95" and so on."""


UNCERTAIN = ("abundances_sd", "classes_sd", "abundances_p05", "abundances_p95", "classes_p05", "classes_p95")
"""Maps of the uncertainty, which a result has where they were asked for."""

_ENDS = {"_sd": "sd of", "_p05": "5 % of", "_p95": "95 % of"}


def kind_of(name: str) -> Kind:
    """Return what a map shows, by its name (`band_labels`)."""
    of = {"classes": CLASSES, "models": MODELS} | {
        name: DEVIATION if name.endswith("_sd") else BOUND for name in UNCERTAIN
    }
    return of.get(name) or KINDS[name]


def class_names(class_of: Sequence[str]) -> tuple[str, ...]:
    """Return the classes in the order of their first spectra.

    >>> class_names(["soil", "plant", "soil"])
    ('soil', 'plant')
    """
    return tuple(dict.fromkeys(class_of))


def class_sums(fractions: Array, class_of: Sequence[str]) -> Array:
    """Return the sums of the fractions of each class, c_k = sum_{r in k} a_r.

    Args:
        fractions: (..., R).
        class_of: R classes.

    Returns:
        (..., K), in the order of `class_names`.
    """
    members = np.array([[word == name for name in class_names(class_of)] for word in class_of], fractions.dtype)
    return np.matmul(fractions, members)


MODELS = Kind(
    "number",
    "Of the model chosen in each pixel: the sum of 2^k over its classes k = 0, 1, .., and for each class the row of "
    "its spectrum in endmembers.csv, from 1; 0 for none.",
)
"""The map of models, in the file "models", of a result of "mesma"."""


def model_map(abundances: Array, class_of: Sequence[str]) -> Array:
    """Return the chosen models, (..., 1 + K) float32, see `MODELS`.

    Args:
        abundances: (..., R), not zero for at most one spectrum of each class.
        class_of: R classes.
    """
    parts = []
    for name in class_names(class_of):
        rows = np.flatnonzero([word == name for word in class_of])
        there = abundances[..., rows] != 0
        parts.append(np.where(there.any(axis=-1), rows[np.argmax(there, axis=-1)] + 1, 0))
    code = sum(2.0**k * (part > 0) for k, part in enumerate(parts))
    return np.stack([code, *parts], axis=-1).astype(np.float32)


def model_bands(class_of: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the bands of the map of models."""
    return ("model", *(f"spectrum of class {name}" for name in class_names(class_of)))


def model_record(codes: Array, class_of: Sequence[str]) -> dict[str, list[dict[str, object]]]:
    """Return the entry "models" of summary.json: each combination of classes, and its share of the valid pixels.

    Args:
        codes: (n,), the first band of `model_map` in the valid pixels.
        class_of: R classes.
    """
    names = class_names(class_of)
    found, counts = np.unique(np.asarray(codes, np.int64), return_counts=True)
    return {
        "models": [
            {
                "model": int(code),
                "classes": [name for k, name in enumerate(names) if int(code) >> k & 1],
                "share": float(count / max(len(codes), 1)),
            }
            for code, count in zip(found, counts, strict=True)
        ]
    }


def class_bands(class_of: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the bands of the class maps."""
    return tuple(f"class {name}" for name in class_names(class_of))


def band_labels(name: str, names: Sequence[str], class_of: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the bands of a map.

    Args:
        name: of a map: one of `KINDS` or `UNCERTAIN`, "classes" or "models".
        names: of the endmembers.
        class_of: the class of each, or none.

    >>> band_labels("abundances_sd", ["soil", "plant"], ())
    ('sd of soil', 'sd of plant')
    """
    for end, words in _ENDS.items():
        if name in UNCERTAIN and name.endswith(end):
            return tuple(f"{words} {label}" for label in band_labels(name.removesuffix(end), names, class_of))
    if name == "models":
        return model_bands(class_of)
    if name == "abundances":
        return tuple(names)
    return class_bands(class_of) if name == "classes" else (f"{name} ({KINDS[name].unit})",)


def check_class_of(class_of: Sequence[str], count: int) -> None:
    """Raise InputError unless there is no class or one for each endmember."""
    if class_of and len(class_of) != count:
        raise InputError(
            f"{how_many(len(class_of), 'class')} for {how_many(count, 'endmember')} given; expected one for each, "
            "or none."
        )


def residual_map(cube: Array, abundances: Array, endmembers: Array, brightness: Array, mask: Array) -> Array:
    """Return RMS_b(y - s a E) of each pixel, (H, W) float32, units of the cube; 0 in masked pixels.

    Args:
        cube: (H, W, B).
        abundances: (H, W, R).
        endmembers: (R, B), those that the fractions refer to (`referred`).
        brightness: (H, W).
        mask: (H, W) bool, True where the pixel is valid.
    """
    height, width, bands = cube.shape
    residual = np.zeros((height, width), np.float32)
    rows = max(1, _BLOCK // max(width * bands * 8, 1))
    spectra = np.asarray(endmembers, np.float64)
    for first in range(0, height, rows):
        block = slice(first, first + rows)
        mixed = (
            np.asarray(abundances[block], np.float64) @ spectra * np.asarray(brightness[block], np.float64)[..., None]
        )
        mixed -= cube[block]
        residual[block] = np.sqrt(np.mean(np.square(mixed), axis=2))
    return np.where(mask, residual, np.float32(0))


def convention_of(endmembers: Array, brightness: Array, mask: Array) -> str:
    """Return "scaled" if all spectra have maximum 1 and brightness is not 1 everywhere, else "reflectance".

    An estimate of a scaled model has this form; for one whose model is known, ask `Model.convention`.

    Args:
        endmembers: (R, B), of an estimate.
        brightness: (H, W).
        mask: (H, W) bool, True where the pixel is valid.
    """
    free = bool(np.any(np.abs(np.asarray(brightness)[mask] - 1) > 1e-6))
    return SCALED if free and at_one_level(endmembers) else REFLECTANCE


def at_one_level(endmembers: Array) -> bool:
    """Return whether the maxima of all spectra (R, B) are 1 to rounding."""
    return bool(np.all(np.abs(np.max(endmembers, axis=1) - 1) <= 1e-4))


def convention_record(word: str) -> dict[str, str]:
    """Return what summary.json says about a convention: its word, and what it means."""
    return {"convention": word, "convention_meaning": MEANINGS[word]}


def referred(endmembers: Array, convention: str) -> Array:
    """Return the spectra that fractions of a convention refer to, (R, B): as they are, or divided by their maxima.

    Args:
        endmembers: (R, B), in any units; a spectrum without a positive value does not change.
        convention: "reflectance" or "scaled".
    """
    if convention == REFLECTANCE:
        return endmembers
    top = np.max(endmembers, axis=1, keepdims=True)
    return endmembers / np.where(top > 0, top, 1).astype(endmembers.dtype)


def at_level(spectra: Array, found: Array) -> Array:
    """Return spectra (R, B) of maximum 1 at the levels (R,), in the units of the scene."""
    return spectra * np.asarray(found, spectra.dtype)[:, None]


def description(name: str, scene: str, convention: str) -> str:
    """Return the description of the file of a map; for fractions it names their convention."""
    unit = kind_of(name).unit
    unit = f"{unit}; convention: {convention}" if name in ("abundances", "classes", *UNCERTAIN) else unit
    return f"{name} of {scene or 'a scene'} by dequnmix_jax; {unit}"


def no_levels(count: int) -> Array:
    """Return the sums of `level_sums` over no pixel, for `count` endmembers."""
    return np.zeros((count + 1, count))


def level_sums(abundances: Array, brightness: Array, mask: Array) -> Array:
    """Return the sums for `levels` over the valid pixels, (R + 1, R) float64: of w s a a^T, and of w a.

    w = (max_r a_r)^8 is the weight of a pixel; sums of parts of a scene add up.

    Args:
        abundances: (H, W, R).
        brightness: (H, W).
        mask: (H, W) bool, True where the pixel is valid.
    """
    sums = no_levels(abundances.shape[2])
    rows = max(1, _BLOCK // max(abundances.shape[1] * abundances.shape[2] * 8, 1))
    for first in range(0, abundances.shape[0], rows):
        block = slice(first, first + rows)
        inside = mask[block]
        a = np.asarray(abundances[block][inside], np.float64)
        if a.size:
            weight = np.max(a, axis=1) ** _PURITY_POWER
            light = weight * np.asarray(brightness[block][inside], np.float64)
            sums[:-1] += (light[:, None] * a).T @ a
            sums[-1] += weight @ a
    return sums


def levels(sums: Array) -> Array:
    """Return the levels of the spectra of a scaled model in the units of the scene.

    Fractions of spectra at the levels c sum to one where s sum_r a_r / c_r = 1. With g = 1 / c

        min_g sum_i w_i (s_i sum_r a_ir g_r - 1)^2 / s_i,    w_i = (max_r a_ir)^8

    over the pixels i. In a pure pixel the level is its brightness, so that c is the level of the purest pixels,
    corrected by what else is in them. For linear mixing it is exact without pure pixels too; where brightness varies, c
    is the level under a mean brightness.

    Args:
        sums: (R + 1, R), from `level_sums`.

    Returns:
        (R,) float64, > 0. An endmember that is absent from all valid pixels gets the mean level; 1 without light.
    """
    normal, right = sums[:-1], sums[-1]
    total = normal.sum()
    if not total > 0:  # no light in any valid pixel
        return np.ones(len(right))
    mean = right.sum() / total
    rows = normal.sum(axis=1)
    # The mean of 1 / s in pixels with this material: the answer where the equations do not determine it.
    around = np.where((rows > 0) & (right > 0), right / np.where(rows > 0, rows, 1), mean)
    ridge = _RIDGE * np.maximum(np.diag(normal), 1e-6 * total / len(rows))
    inverse = np.linalg.solve(normal + np.diag(ridge), right + ridge * around)
    return 1 / np.clip(inverse, around / _WIDEST, around * _WIDEST)


_PURITY_POWER = 8
"""Power of the largest abundance as the weight of a pixel: half an abundance counts 256 times less. Measured on 48
scenes of `datasets.generator`, VCA and scaled NNLS, geometric mean of the aRMSE in the unit of the scene: 0.0316 with
one brightness and 0.107 where it varies (with the true levels 0.0321 and 0.106); with the mean brightness of the purest
pixels 0.0400 and 0.109, with the power 0 0.0318 and 0.117."""

_RIDGE, _WIDEST = 1e-5, 20.0
"""Weight of the mean around a material relative to the data, and the largest ratio between that mean and its level."""


def colour_composite(scene: Scene, low: float = 2.0, high: float = 98.0) -> tuple[Array, tuple[int, ...]]:
    """Return a colour composite: red, green and blue from the nearest bands, each stretched between two percentiles.

    Args:
        scene: any scene.
        low, high: percentiles of the valid pixels that become black and full colour.

    Returns:
        (H, W, 3) float64 in [0, 1], 0 in masked pixels, and the three bands.

    Raises:
        InputError: the percentiles are not a range.
    """
    if not 0 <= low < high <= 100:
        raise InputError(f"The percentiles are {low:g} and {high:g}; expected 0 <= low < high <= 100.")
    bands = scene.bands_nearest()
    values = np.asarray(scene.cube[:, :, list(bands)], np.float64)
    bottom, top = np.nanpercentile(values[scene.valid], [low, high], axis=0)
    colours = np.clip((values - bottom) / np.where(top > bottom, top - bottom, 1), 0, 1)
    return np.where(scene.valid[:, :, None], np.nan_to_num(colours), 0.0), bands


def composite_words(bands: Sequence[int], wavelengths: Array | None) -> str:
    """Return the three bands of a colour composite in words: their wavelengths, or their numbers."""
    if wavelengths is None:
        return "bands {}, {}, {} (counted from 0)".format(*bands)
    return "{:.0f}, {:.0f}, {:.0f} nm".format(*wavelengths[list(bands)])
