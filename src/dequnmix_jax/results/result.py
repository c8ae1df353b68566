"""The result of an unmixing: maps, spectra and the record of how they were computed."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dequnmix_jax.checks import InputError, check_endmembers, how_many
from dequnmix_jax.conventions import MEANINGS, REFLECTANCE, SCALED, check_convention, factors_to, rescale
from dequnmix_jax.io import georaster, npz
from dequnmix_jax.io.provenance import SUMMARY
from dequnmix_jax.io.remote import as_place
from dequnmix_jax.results.areas import above_error, areas_record
from dequnmix_jax.results.dataset import SUFFIXES, arrays_in, arrays_of_dataset
from dequnmix_jax.results.maps import (
    UNCERTAIN,
    at_level,
    check_class_of,
    class_names,
    class_sums,
    colour_composite,
    composite_words,
    convention_of,
    convention_record,
    endmember_names,
    level_sums,
    levels,
    model_map,
    referred,
    residual_map,
)
from dequnmix_jax.results.record import checked_record, read_record
from dequnmix_jax.results.summary import classes_record, summary
from dequnmix_jax.results.unexplained import structure
from dequnmix_jax.scenes.georeference import Georeference
from dequnmix_jax.scenes.scene import Array, Scene

if TYPE_CHECKING:
    from dequnmix_jax.types import Estimate, Trace


ARRAYS = "estimate.npz"


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """The result of an unmixing, on the host.

    Attributes:
        names: R names.
        abundances: (H, W, R), fractions; 0 in masked pixels, like all maps.
        endmembers: (R, B), in the units of the cube, at their level (`maps.levels`).
        brightness: (H, W); 1 or near 1, or in the units of the scene under "scaled".
        state: (H, W, R), the equilibrium.
        residual: (H, W), root mean square of y - s a E, units of the scene; None for outputs of earlier versions.
        convergence: (H, W), relative change in one further step, or None.
        mask: (H, W) bool, True where the pixel is valid, or None when all pixels are valid.
        wavelengths_nm, fwhm_nm: (B,), or None.
        composite: (H, W, 3) uint8, a colour composite of the scene, or None.
        composite_bands: its red, green and blue bands, in words.
        summary: the content of summary.json.
        georeference: of the scene, or None.
        convention: of the fractions, a word of `conventions.MEANINGS`. "reflectance": y = s a E. "scaled": y = s a U, U
            the endmembers divided by their maxima (`referred`). `in_convention` converts.
        class_of: the class of each endmember, R words, or () without classes.
        abundances_sd: (H, W, R), standard deviations of the fractions, or None where they were not asked for.
        classes_sd: (H, W, K), of the sums of each class, or None.
        abundances_p05, abundances_p95, classes_p05, classes_p95: bounds of 5 % and 95 % of the same, or None.
    """

    names: tuple[str, ...]
    abundances: Array
    endmembers: Array
    brightness: Array
    state: Array | None = None
    residual: Array | None = None
    convergence: Array | None = None
    mask: Array | None = None
    wavelengths_nm: Array | None = None
    fwhm_nm: Array | None = None
    composite: Array | None = None
    composite_bands: str = ""
    summary: Mapping[str, Any] = field(default_factory=dict)
    convention: str = REFLECTANCE
    class_of: tuple[str, ...] = ()
    abundances_sd: Array | None = None
    classes_sd: Array | None = None
    abundances_p05: Array | None = None
    abundances_p95: Array | None = None
    classes_p05: Array | None = None
    classes_p95: Array | None = None
    georeference: Georeference | None = None

    def __post_init__(self) -> None:
        """Raise InputError for an unknown convention, or another number of classes."""
        check_convention(self.convention)
        check_class_of(self.class_of, len(self.names))

    def __repr__(self) -> str:
        height, width, count = self.abundances.shape
        return (
            f"<Result: {how_many(count, 'endmember')} in {height} x {width} pixels, "
            f"{how_many(self.endmembers.shape[1], 'band')}>"
        )

    @property
    def valid(self) -> Array:
        """Return the (H, W) bool mask, all True when there is none."""
        return np.ones(self.abundances.shape[:2], np.bool_) if self.mask is None else self.mask

    @property
    def levels(self) -> Array:
        """Return (R,), the level of each endmember in the units of the scene: the maximum of its spectrum."""
        return np.max(self.endmembers, axis=1).astype(np.float64)

    @property
    def referred(self) -> Array:
        """Return (R, B), the spectra U that the fractions refer to: y = s a U."""
        return referred(self.endmembers, self.convention)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the K classes in the order of their first endmembers; () without classes."""
        return class_names(self.class_of)

    @property
    def classes(self) -> Array | None:
        """Return (H, W, K), the sums of the fractions of each class, or None without classes."""
        return class_sums(self.abundances, self.class_of) if self.class_of else None

    @property
    def layers(self) -> dict[str, Array]:
        """Return the maps that a writer writes, (H, W, K) by name: those of `maps`, classes, uncertainty, models."""
        further = {"classes": self.classes, **{name: getattr(self, name) for name in UNCERTAIN}, "models": self.models}
        present = {name: values for name, values in {**self.maps, **further}.items() if values is not None}
        return {name: values if values.ndim == 3 else values[:, :, None] for name, values in present.items()}

    def in_convention(self, word: str) -> "Result":
        """Return the result with fractions and brightness in a convention; spectra and residual stay as they are.

        Standard deviations of fractions are left out: those of the other convention need the covariance of all.

        Args:
            word: "reflectance" or "scaled", see `conventions`.

        Raises:
            InputError: the word is unknown, or a spectrum has no positive value, so that its level is unknown.
        """
        check_convention(word)
        if word == self.convention:
            return self
        if self.levels.min() <= 0:
            raise InputError(
                "A spectrum has no positive value; expected spectra with a level, by which fractions are converted."
            )
        abundances, brightness = rescale(self.abundances, factors_to(word, self.levels), self.brightness)
        brightness = brightness.astype(self.brightness.dtype)
        return replace(
            self,
            abundances=abundances,
            brightness=brightness,
            convention=word,
            **dict.fromkeys(UNCERTAIN),  # type: ignore[arg-type]
            summary={
                **{name: entry for name, entry in self.summary.items() if name != "uncertainty"},
                **convention_record(word),
                **self._means(abundances, brightness, word),
            },
        )

    @property
    def models(self) -> Array | None:
        """Return (H, W, 1 + K), the models that "mesma" chose (`maps.MODELS`), or None for other methods."""
        if not self.class_of or "models" not in self.summary:
            return None
        return np.where(self.valid[..., None], model_map(self.abundances, self.class_of), np.float32(0))

    def _means(self, abundances: Array, brightness: Array, word: str) -> dict[str, Any]:
        """Return the entries of the summary that change with fractions and brightness."""
        means: list[float] = np.mean(abundances[self.valid], axis=0, dtype=np.float64).tolist()  # type: ignore[assignment]
        entries: dict[str, Any] = {"mean_abundances": means}
        maps, area = self.summary.get("maps"), self.summary.get("pixel_area_m2")
        whole = area * int(self.valid.sum()) if isinstance(area, int | float) else None
        entries |= classes_record(means, self.class_of, whole)
        if self.residual is not None:
            sums = above_error(
                abundances, brightness, self.residual, self.valid, self.endmembers, word, "models" in self.summary
            )
            entries |= areas_record((sums / max(int(self.valid.sum()), 1)).tolist(), whole)
        if isinstance(area, int | float):
            entries["areas_m2"] = [mean * area * int(self.valid.sum()) for mean in means]
        if isinstance(maps, Mapping):
            light = float(np.mean(brightness[self.valid], dtype=np.float64))
            changed = {"abundances": means, "brightness": light}
            entries["maps"] = {
                name: {**kind, "mean": changed.get(name, kind.get("mean"))} for name, kind in maps.items()
            }
        return entries

    @property
    def maps(self) -> dict[str, Array | None]:
        """Return the maps by the names of `maps.KINDS`."""
        return {
            "abundances": self.abundances,
            "brightness": self.brightness,
            "residual": self.residual,
            "convergence": self.convergence,
        }


def result_of(
    estimate: "Estimate",
    scene: Scene,
    *,
    names: Sequence[str] | None = None,
    configuration: Any = None,
    trace: "Trace | None" = None,
    convergence: Any = None,
    record: Mapping[str, Any] | None = None,
    convention: str | None = None,
    class_of: Sequence[str] = (),
    levels_known: bool = False,
    residual: Any = None,
) -> Result:
    """Return the result of an estimate: its arrays, the residual map, a colour composite, and the record.

    The spectra of a scaled model, of maximum 1, get their level back here (`maps.levels`).

    Args:
        estimate: abundances (H, W, R), endmembers (R, B), brightness (H, W), state; numpy or jax.
        scene: the unmixed scene, with the same pixels and bands.
        names: R names; by default "endmember 1" and so on.
        configuration: a dataclass or a mapping of numbers, text and dataclasses, or None.
        trace: the trace of the solver, or None.
        convergence: (H, W), from `last_change`, or None.
        record: further entries of the summary, such as how the scene was read.
        convention: of the fractions, `Model.convention`; None: "scaled" if all spectra have maximum 1 and brightness is
            not 1 in all pixels, as in the estimate of a scaled model.
        class_of: the class of each endmember, R words, or none.
        levels_known: the spectra have their level, as those of a library have, and keep it.
        residual: (H, W), RMS of what the model leaves of each pixel, where it is not s a E; None: that of s a E, and of
            the estimate's fluctuation if it has one.

    Raises:
        InputError: the arrays do not fit the scene.
    """
    arrays = {name: np.asarray(getattr(estimate, name)) for name in ("abundances", "endmembers", "brightness", "state")}
    height, width, bands = scene.cube.shape
    if arrays["abundances"].ndim != 3 or arrays["abundances"].shape[:2] != (height, width):
        raise InputError(
            f"The abundances have shape {arrays['abundances'].shape} and the scene {scene.cube.shape}; expected one "
            f"vector a pixel, ({height}, {width}, endmembers)."
        )
    check_endmembers(arrays["endmembers"], bands)
    count = arrays["abundances"].shape[2]
    if len(arrays["endmembers"]) != count:
        raise InputError(
            f"There are {count} abundance maps and {how_many(len(arrays['endmembers']), 'endmember')}; expected as "
            "many of each."
        )
    labels = endmember_names(names, count)
    check_class_of(class_of, count)
    change = None if convergence is None else np.asarray(convergence)
    for name, values in (("brightness", arrays["brightness"]), ("convergence", change)):
        if values is not None and values.shape != (height, width):
            raise InputError(f"The {name} has shape {values.shape}; expected one value a pixel, ({height}, {width}).")
    spectra, abundances, brightness = (arrays[name] for name in ("endmembers", "abundances", "brightness"))
    word = convention_of(spectra, brightness, scene.valid) if convention is None else convention
    check_convention(word)
    units = referred(spectra, word)
    linear = residual is None
    added = estimate.fluctuation
    seen = scene.cube if added is None else scene.cube - np.asarray(added)  # what s a E is to explain
    residual = residual_map(seen, abundances, units, brightness, scene.valid) if linear else np.asarray(residual)
    maps = {"abundances": abundances, "brightness": brightness, "residual": residual, "convergence": change}
    means = {
        name: np.mean(values[scene.valid], axis=0, dtype=np.float64)
        for name, values in maps.items()
        if values is not None
    }
    if word == SCALED and not levels_known:
        arrays["endmembers"] = at_level(units, levels(level_sums(abundances, brightness, scene.valid)))
    endmember_levels = np.max(arrays["endmembers"], axis=1).astype(np.float64).tolist()
    by_model = "models" in (record or {})
    above = above_error(abundances, brightness, residual, scene.valid, arrays["endmembers"], word, by_model)
    record = {**convention_record(word), "endmember_levels": endmember_levels, **(record or {})}
    record["residual_structure"] = structure(seen, abundances, units, brightness, scene.valid) if linear else None
    colours, composite_bands = colour_composite(scene)
    return Result(
        names=labels,
        **arrays,
        residual=residual,
        convergence=change,
        mask=scene.mask,
        wavelengths_nm=scene.wavelengths,
        fwhm_nm=scene.fwhm,
        composite=np.round(255 * colours).astype(np.uint8),
        composite_bands=composite_words(composite_bands, scene.wavelengths),
        summary=summary(
            means,
            labels,
            scene,
            scene.cube.shape,
            int(scene.valid.sum()),
            configuration=configuration,
            trace=trace,
            record=record,
            class_of=class_of,
            above=(above / max(int(scene.valid.sum()), 1)).tolist(),
        ),
        convention=word,
        class_of=tuple(class_of),
        georeference=georaster.georeference_for(scene),
    )


def arrays_of(result: Result) -> dict[str, Array]:
    """Return the arrays of a result by their names in estimate.npz."""
    arrays = {name: getattr(result, name) for name in _STORED}
    stored = {name: values for name, values in arrays.items() if values is not None}
    words: dict[str, Any] = {"names": result.names, "composite_bands": result.composite_bands}
    words |= {"convention": result.convention} | ({"class_of": result.class_of} if result.class_of else {})
    return {**{name: np.array(word) for name, word in words.items()}, **stored} | npz.place_of(result.georeference)


_STORED = (
    "abundances", "endmembers", "brightness", "state", "residual", "convergence", "mask", "wavelengths_nm", "fwhm_nm",
    "composite", *UNCERTAIN,
)  # fmt: skip


def read_result(path: Any) -> Result:
    """Read a folder written by `write`, or a NetCDF file written by `write` or `to_xarray(result).to_netcdf`.

    Args:
        path: the folder, or the file; or the xarray Dataset of a result, as `to_xarray` and `run` return it.

    Returns:
        A Result; maps that earlier versions did not write are None.

    Raises:
        InputError: the folder or a file is missing, a file is damaged, or arrays do not fit together.
    """
    if hasattr(path, "data_vars"):
        arrays, record = arrays_of_dataset(path, "The data set")
        return _result_in(arrays, checked_record(record, Path("The data set")), Path("The data set"))
    if not isinstance(path, str | os.PathLike):
        raise InputError(
            f"read_result got {type(path).__name__}; expected a folder, a NetCDF file, or the Dataset of a result, as "
            "`run` and `to_xarray` return it."
        )
    path = as_place(path)
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        arrays, record = arrays_in(path)
        return _result_in(arrays, checked_record(record, path), path)
    if not path.is_dir() or not (path / SUMMARY).is_file() or not (path / ARRAYS).is_file():
        raise InputError(
            f"{path} is not the output of an unmixing; expected a folder with {ARRAYS} and {SUMMARY}, which `dequnmix "
            "unmix` makes, or a NetCDF file of one."
        )
    arrays = npz.load(path / ARRAYS)
    return _result_in(arrays, read_record(path), path / ARRAYS)


def _result_in(arrays: dict[str, Array], record: dict[str, Any], place: Path) -> Result:
    """Return the result of stored arrays and their record; raise InputError if they do not fit together."""
    stored = {name: arrays.get(name) for name in _STORED}
    abundances, spectra, brightness = stored["abundances"], stored["endmembers"], stored["brightness"]
    names, words, class_of = arrays.get("names"), arrays.get("composite_bands"), arrays.get("class_of")
    if (
        abundances is None
        or spectra is None
        or brightness is None
        or names is None
        or abundances.ndim != 3
        or spectra.ndim != 2
        or spectra.shape[:1] != abundances.shape[2:]
        or names.shape != abundances.shape[2:]
        or (class_of is not None and class_of.shape != names.shape)
        or not _classes_agree(stored, class_of)
        or not _shapes_agree(stored, abundances.shape, spectra.shape[1:])
    ):
        raise InputError(
            f"{place} does not hold abundances, endmembers, brightness and names that fit together; it was "
            "changed, or is of another program. Unmix the scene again."
        )
    mask = stored["mask"]
    valid = np.ones(abundances.shape[:2], np.bool_) if mask is None else mask
    word = arrays.get("convention")
    if word is None:  # An earlier version, whose scaled spectra have maximum 1.
        convention = convention_of(spectra, brightness, valid)
        if convention == SCALED:
            spectra = at_level(spectra, levels(level_sums(abundances, brightness, valid)))
    else:
        convention = str(word)
        if convention not in MEANINGS:
            raise InputError(
                f"{place} says that the convention of the fractions is {convention[:40]!r}; expected "
                f"{' or '.join(MEANINGS)}. It was changed, or is of a later version; unmix the scene again."
            )
    return Result(
        names=tuple(str(name) for name in names),
        abundances=abundances,
        endmembers=spectra,
        convention=convention,
        brightness=brightness,
        **{name: stored[name] for name in _STORED[3:]},
        composite_bands="" if words is None else str(words),
        summary=record,
        class_of=() if class_of is None else tuple(str(word) for word in class_of),
        georeference=npz.georeference_in(arrays, place),
    )


def _shapes_agree(stored: Mapping[str, Array | None], shape: tuple[int, ...], bands: tuple[int, ...]) -> bool:
    """Return whether the arrays that are present have the shapes and types of a result of (H, W, R) abundances."""
    picture = shape[:2]
    shapes = {
        "brightness": picture,
        "residual": picture,
        "convergence": picture,
        "mask": picture,
        "state": shape,
        "wavelengths_nm": bands,
        "fwhm_nm": bands,
        "composite": (*picture, 3),
        **{name: shape for name in UNCERTAIN if name.startswith("abundances")},
    }
    kinds = {"mask": "b", "composite": "u"}
    present = {name: values for name, values in stored.items() if values is not None}
    return all(
        values.shape == shapes.get(name, values.shape) and values.dtype.kind in kinds.get(name, "f")
        for name, values in present.items()
    )


def _classes_agree(stored: Mapping[str, Array | None], class_of: Array | None) -> bool:
    """Return whether the deviations of classes, if there are any, are those of the classes."""
    abundances = stored["abundances"]
    maps = [stored[name] for name in UNCERTAIN if name.startswith("classes")]
    if abundances is None:
        return True
    count = 0 if class_of is None else len(class_names([str(word) for word in class_of]))
    return all(values is None or values.shape == (*abundances.shape[:2], count) for values in maps)
