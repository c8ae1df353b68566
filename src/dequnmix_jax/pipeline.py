"""From a scene to a result in one call, as `dequnmix report` does, and the steps that the command line shares."""

import os
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from dequnmix_jax.checks import InputError, check_key, check_kind, how_many
from dequnmix_jax.equilibrium.config import Analytic, Model, Simplex
from dequnmix_jax.libraries.chosen import choose_fixed
from dequnmix_jax.libraries.library import Library
from dequnmix_jax.libraries.reading import read_library
from dequnmix_jax.libraries.units import check_units, rms_and_highest
from dequnmix_jax.report.page import write_report
from dequnmix_jax.results.labelled import is_labelled, to_xarray
from dequnmix_jax.results.maps import names_after
from dequnmix_jax.results.result import Result, result_of
from dequnmix_jax.results.writer import write_result
from dequnmix_jax.scenes.read_options import ReadOptions
from dequnmix_jax.scenes.scene import Scene, check_scene, mask_invalid
from dequnmix_jax.start_uncertainty import SEEDS, check_bands, check_linear, check_starts, with_start_uncertainty
from dequnmix_jax.training.checkpoint import model_metadata
from dequnmix_jax.training.config import RECOMMENDED, Rates, Training
from dequnmix_jax.training.words import constraint_for, model_of, shortest

if TYPE_CHECKING:
    from dequnmix_jax.learned.count import Count
    from dequnmix_jax.types import Estimate, History, Params, Trace

UNIT = "reflectance"
"""Unit of the spectra of a result, for the axis of a picture."""

Progress = Callable[[int, int, float], None]
"""Called with the steps done, the number of steps and the loss."""


@dataclass(frozen=True, eq=False, repr=False)
class Unmixing(Result):
    """What `run` returns: a `Result` with the scene, the trained model, and the records of training and solve.

    Attributes:
        scene: as it was unmixed: good bands, invalid pixels masked.
        params, config: of the trained model, for `unmix` on further scenes with the same bands.
        history: of the training; without steps if there was none.
        trace: of the last solve: steps, relative residual, converged.
        warnings: sentences; empty if there are none.
        reason: which endmembers and mixing were chosen, and the expected error (`learned.reason`); None with too few
            bands to choose.
    """

    scene: Scene = None  # type: ignore[assignment]  # always set; the fields before it have defaults
    params: Any = None
    config: Model = None  # type: ignore[assignment]
    history: "History" = None  # type: ignore[assignment]
    trace: "Trace" = None  # type: ignore[assignment]
    warnings: tuple[str, ...] = ()
    reason: str | None = None

    def write(self, path: str | os.PathLike[str], *, overwrite: bool = False, format: str | None = None) -> list[Path]:
        """Write maps, spectra and summary.json into a folder, or one file, as `results.write` does."""
        return write_result(path, self, self.scene, overwrite=overwrite, format=format)

    def report(self, path: str | os.PathLike[str], library: Library | None = None, *, overwrite: bool = False) -> Path:
        """Write the result as one HTML page, as `report.write_report` does (extra "plots")."""
        return write_report(path, self, library, overwrite=overwrite)

    def __repr__(self) -> str:
        height, width, count = self.abundances.shape
        solved = "converged" if bool(self.trace.converged) else "NOT converged"
        return (
            f"<Unmixing: {how_many(count, 'endmember')} in {height} x {width} pixels, "
            f"{how_many(self.endmembers.shape[1], 'band')}; {self.config.constraint.word}, "
            f"{how_many(self.history.loss.size, 'training step')}, {solved} in "
            f"{how_many(int(self.trace.steps), 'step')}; {how_many(len(self.warnings), 'warning')}>"
        )


def run(
    scene: Any,
    count: int | str,
    key: Any,
    *,
    fixed: "Library | str | os.PathLike[str] | Any" = None,
    fixed_names: Sequence[str] | None = None,
    max_endmembers: int | None = None,
    config: Model | None = None,
    mixing: str | None = None,
    training: Training | None = None,
    rates: Rates | None = None,
    uncertainty: str | None = None,
    seeds: int = SEEDS,
    bounds: bool = False,
    on_progress: Progress | None = None,
    **reading: Any,
) -> Unmixing:
    """Unmix a scene in one call: read it, choose endmembers and mixing by the learned operator, and unmix.

    Nothing is trained on the scene unless `training` or `rates` is given: the operator (`learned.select`) was trained
    on generated scenes. With them its choice is what the training starts from, without a reference. With fewer than
    two bands for each endmember nothing can be compared: then the model is trained from VCA.

    The result is that of `dequnmix report SCENE --endmembers COUNT --seed 0` for `jax.random.key(0)`. It is float32, as
    the cube of every `Scene` is, whatever the type of the array and under `jax_enable_x64` too: measured spectra have
    fewer digits. In float64 compute by `fit` and `unmix`, which take the array itself.

    Args:
        scene: a path, a `Scene`, an array (H, W, B), or an xarray DataArray or Dataset.
        count: R, number of endmembers, at least 2, fixed ones included; or "auto", as many as
            `learned.count_endmembers` finds, which `summary["count"]` records.
        key: of jax.random.
        fixed: spectra that are known (a target, a background, shade), while the others are found beside them: a
            `Library`, the path of one, or an array (F, B) on the bands of the scene. They come first in the result,
            under their names and unchanged, also by a training.
        fixed_names: names of the spectra of the library that are fixed; None: all.
        max_endmembers: with "auto", the largest number that is looked for; None: 15.
        config: the parts of the equilibrium map; None: chosen for the scene (`training.model_for`).
        mixing: "linear", "scaled" or "soft" in place of the mixing model that is chosen for the scene; None: chosen, or
            that of `config`.
        training, rates: if one is given, the model is trained on the scene, the other by default as in `RECOMMENDED`,
            with the endmembers' rate chosen for the scene. None both: it is not.
        uncertainty: "starts": also the standard deviations of the fractions, `abundances_sd`, by the spread over other
            starts (`start_uncertainty.with_start_uncertainty`); None: none.
        seeds: of these starts.
        bounds: with it, also their bounds of 5 and 95 %, `abundances_p05` and `abundances_p95`.
        on_progress: called with (steps done, number of steps, loss) a few times during training, or None.
        **reading: options of `read`, such as `nodata`, `scale`, `bands`.

    Returns:
        An `Unmixing`: `.abundances` (H, W, R), `.endmembers` (R, B), `.brightness` (H, W), `.trace`, `.history`,
        `.write(folder)`, `.report(page)`. `.convention` says what the fractions refer to, and `.in_convention(word)`
        converts them. For a DataArray or Dataset: its maps and spectra as a Dataset, those of `to_xarray`, which
        `read_result` turns into a `Result` with what xarray has no place for.

    Raises:
        InputError: the scene, the count or an option does not fit.
    """
    import jax
    import jax.numpy as jnp

    from dequnmix_jax.training.fitting import phases_of
    from dequnmix_jax.training.resume import resumable_fit

    check_key(key)
    if count != "auto" and (not isinstance(count, int | np.integer) or isinstance(count, bool) or count < 2):
        raise InputError(f'count is {count!r}; expected the number of endmembers, an integer from 2, or "auto".')
    for value, kind, name in ((config, Model, "config"), (training, Training, "training"), (rates, Rates, "rates")):
        if value is not None:
            check_kind(value, kind, name)
    check_starts(uncertainty, seeds, bounds)
    read_scene = scene_of(scene, reading)
    known = fixed_spectra(fixed, fixed_names, read_scene)
    counted = None
    if isinstance(count, str):
        counted = count_of(read_scene, max_endmembers, fewest=len(known.names) + 1)
        count = counted.number
    elif max_endmembers is not None:
        raise InputError(
            'max_endmembers limits what "auto" finds; expected no such limit beside a number. Leave it out.'
        )
    warnings = check_scene(read_scene, count=int(count))
    if uncertainty is not None:
        check_bands(read_scene, int(count))
    model = _model(config, mixing)
    check_unit_of(model, read_scene)
    if uncertainty is not None:
        check_linear(model.nonlinear)
    trains = training is not None or rates is not None
    training = RECOMMENDED[0] if training is None else training
    explanation: str | None = None
    initial: dict[str, Any] = {}
    if read_scene.cube.shape[2] >= 2 * count:
        first, key = jax.random.split(key)
        stated = set() if config is None else {"model.constraint", "model.prior"}
        stated |= set() if mixing is None else {"model.constraint"}
        stated |= set() if rates is None else {"rates.endmembers"}
        chosen = choose(
            first, read_scene, int(count), model, RECOMMENDED[1] if rates is None else rates, stated, known.spectra
        )
        initial["endmembers"], model, rates, explanation = chosen
    else:
        if known.names:
            raise InputError(
                f"{count} endmembers asked for in {read_scene.cube.shape[2]} bands; expected at least twice as many "
                "bands where some spectra are fixed and others found. Ask for fewer."
            )
        initial["count"] = int(count)
        rates = RECOMMENDED[1] if rates is None else rates
    trains = trains or "count" in initial
    if not trains:
        training = replace(training, epochs=0)
        model = model if config is not None else replace(model, gradient=Analytic())

    def progress(history: "History") -> None:
        if on_progress is not None and history.loss.size:
            on_progress(int(history.loss.size), sum(phases_of(training, rates)), float(history.loss[-1]))

    mask = None if read_scene.mask is None else jnp.asarray(read_scene.mask)
    cube = jnp.asarray(read_scene.cube)
    if trains:
        held = None if not known.names else jnp.arange(int(count)) < len(known.names)
        params, history = resumable_fit(
            key, cube, model, training, rates, mask=mask, on_progress=progress, fixed=held, **initial
        )
    else:
        params, history = untrained(key, read_scene, model, initial["endmembers"])
    params = jax.tree.map(np.asarray, params)
    estimate, trace, change = unmix_scene(params, read_scene, model)
    warnings = [*warnings, *doubts(trace, model, estimate, read_scene)]
    metadata = model_metadata(read_scene, model, training, rates, None, history, known.names)
    configuration = {name: metadata.get(name) for name in ("model", "training", "rates")}
    record: dict[str, Any] = {"warnings": warnings, "reading": ReadOptions.of(reading).given()}
    record |= {"start": explanation, "unit": UNIT, "operator": operator_record() if explanation else None}
    record |= {name: metadata.get(name) for name in ("history", "stages")}
    record |= {} if counted is None else {"count": counted.record()}
    record |= {"fixed": list(known.names)} if known.names else {}
    result = result_of(
        estimate,
        read_scene,
        names=names_after(known.names, int(count)),
        configuration=configuration,
        trace=trace,
        convergence=change,
        record=record,
        convention=model.convention,
    )
    if uncertainty is not None:
        starts = jax.random.split(jax.random.fold_in(key, 1), seeds)
        result = with_start_uncertainty(result, read_scene, starts, fixed=known.spectra, bounds=bounds)
    maps = {item.name: getattr(result, item.name) for item in fields(Result)}
    unmixing = Unmixing(
        **maps, scene=read_scene, params=params, config=model, history=jax.tree.map(np.asarray, history), trace=trace,
        warnings=tuple(warnings), reason=explanation,
    )  # fmt: skip
    return cast("Unmixing", to_xarray(unmixing)) if is_labelled(scene) else unmixing


def _model(config: Model | None, mixing: str | None) -> Model:
    """Return the model with the constraint of a mixing model; raise InputError if `config` has another one."""
    if mixing is None:
        return Model() if config is None else config
    asked = None if config is None else config.constraint.word
    word = constraint_for(mixing, asked, "mixing", "config.constraint")
    return model_of({"constraint": word}) if config is None else config


def scene_of(scene: Any, reading: Mapping[str, Any]) -> Scene:
    """Return the good bands of a scene in memory or in a file; with `nodata`, invalid pixels are masked."""
    from dequnmix_jax.io.formats import read

    if isinstance(scene, Scene) or type(scene).__module__.split(".")[0] in ("numpy", "jax", "jaxlib"):
        if reading:
            names = ", ".join(sorted(reading))
            raise InputError(f"{names}: options for a file, but the scene is in memory; leave them out.")
        loaded = scene if isinstance(scene, Scene) else Scene(np.asarray(scene))
    else:
        loaded = read(scene, **reading)
    loaded = loaded.with_good_bands()
    return mask_invalid(loaded) if reading.get("nodata") is not None else loaded


_FIXED_SCALE = ("--fixed-scale", "fixed=dq.read_library(path, scale=N), N")


class Fixed(NamedTuple):
    """Fixed spectra (F, B) and their names; None and none without any."""

    names: tuple[str, ...] = ()
    spectra: Any = None


def fixed_spectra(fixed: Any, names: Sequence[str] | None, scene: Scene) -> Fixed:
    """Return the fixed spectra of a library, of its path or of an array on the bands of a scene.

    Raises:
        InputError: names without a library, or what `choose_fixed` says.
    """
    if fixed is None or not isinstance(fixed, Library | str | os.PathLike):
        if names is not None:
            raise InputError(
                "fixed_names chooses spectra of a library; expected fixed to be a Library or its path. Pass one, or "
                "leave fixed_names out."
            )
        if fixed is None:
            return Fixed()
        spectra = np.asarray(fixed, np.float32)
        return Fixed(tuple(f"fixed {i + 1}" for i in range(len(spectra) if spectra.ndim else 0)), spectra)
    library = fixed if isinstance(fixed, Library) else read_library(fixed, sort=True)
    chosen = choose_fixed(library, scene.wavelengths, scene.fwhm, names=names)
    check_units(chosen.spectra, *rms_and_highest(scene.cube, scene.valid), scene.name, _FIXED_SCALE)
    return Fixed(chosen.names, chosen.spectra)


def count_of(scene: Scene, most: int | None = None, fewest: int = 2) -> "Count":
    """Return how many endmembers a scene has, `learned.count_endmembers`; at least `fewest`."""
    from dequnmix_jax.learned.count import count_endmembers

    counted = count_endmembers(scene.cube, mask=scene.mask, most=most)
    return counted._replace(number=max(counted.number, fewest))


class Choice(NamedTuple):
    """Initial endmembers, model and rates of a training, and the reason of the choice."""

    endmembers: Any
    config: Model
    rates: Rates
    reason: str


def choose(
    key: Any, scene: Scene, count: int, config: Model, rates: Rates, stated: Set[str], fixed: Any = None
) -> Choice:
    """Choose initial endmembers, and constraint, prior and endmembers' rate unless they are stated.

    Args:
        key: of jax.random.
        scene: its good bands.
        count: R.
        config, rates: values of everything else, and of what is stated.
        stated: names that keep their value: "model.constraint", "model.prior", "rates.endmembers"; others are ignored.
        fixed: (F, B), spectra that are known, or None. With one of zeros (shade), fractions sum to one.
    """
    import jax

    from dequnmix_jax.endmembers.selection import CONSTRAINTS
    from dequnmix_jax.learned.selection import reason, select
    from dequnmix_jax.training.recipe import model_for, rates_for

    word = config.constraint.word if "model.constraint" in stated else None
    if fixed is not None and np.ndim(fixed) == 2 and not np.any(fixed, axis=1).all():
        if word not in (None, "simplex", "softmax"):
            raise InputError(
                f"A fixed spectrum is zero in every band (shade) and the constraint is {word}; expected fractions that "
                "sum to one, because a free brightness already stands for shade. Leave out one of the two."
            )
        word = word or "simplex"
        config = replace(config, constraint=Simplex()) if word == "simplex" else config
    compared = "simplex" if word == "softmax" else word
    compared = compared if compared in CONSTRAINTS else None
    chosen = select(key, scene.cube, count, mask=scene.mask, constraint=compared, fixed=fixed)
    selection = chosen.as_selection()
    kept = {name: getattr(config, name) for name in ("constraint", "prior") if f"model.{name}" in stated}
    config = replace(model_for(selection, config), **kept)
    if "rates.endmembers" not in stated:
        rates = jax.tree.map(shortest, rates_for(selection, rates))
    return Choice(selection.endmembers, config, rates, reason(chosen, word))


def operator_record() -> dict[str, Any]:
    """Return how the weights of the learned operator were made, for summary.json."""
    from dequnmix_jax.learned.weights import shipped

    return dict(shipped()[1]._asdict())


def untrained(key: Any, scene: Scene, config: Model, endmembers: Any) -> tuple["Params", "History"]:
    """Return parameters of chosen endmembers without training on the scene, and an empty history with its verdicts."""
    import jax
    import jax.numpy as jnp

    from dequnmix_jax.ops.padding import pad, padded_shape
    from dequnmix_jax.training.resume import joined
    from dequnmix_jax.training.stages import without_training

    shape = padded_shape(scene.cube, np.shape(endmembers)[0])
    valid = np.ones(scene.cube.shape[:2], np.bool_) if scene.mask is None else scene.mask
    cube, mask = (jnp.asarray(pad(image, shape)) for image in (scene.cube, valid))
    params, verdicts = without_training(key, cube, config, endmembers, mask=mask)
    return params, joined([])._replace(stages=jax.tree.map(np.asarray, verdicts))


def unmix_scene(params: "Params", scene: Scene, config: Model) -> tuple["Estimate", "Trace", Any]:
    """Unmix a scene, compiled, and return estimate, trace and convergence map as numpy arrays."""
    import jax
    import jax.numpy as jnp

    from dequnmix_jax.equilibrium.convergence import unmix_with_change
    from dequnmix_jax.ops.padding import pad, padded_shape

    rows, columns = scene.cube.shape[:2]
    shape = padded_shape(scene.cube, np.shape(params["endmembers"])[0])
    valid = np.ones((rows, columns), np.bool_) if scene.mask is None else scene.mask
    cube, mask = (jnp.asarray(pad(image, shape)) for image in (scene.cube, valid))
    estimate, trace, change = jax.tree.map(np.asarray, unmix_with_change(params, cube, config, mask))
    names = [
        name for name in ("abundances", "brightness", "state", "fluctuation") if getattr(estimate, name) is not None
    ]
    maps = {name: getattr(estimate, name)[:rows, :columns] for name in names}
    return estimate._replace(**maps), trace, change[:rows, :columns]


def check_unit_of(config: Model, scene: Scene) -> None:
    """Raise InputError where mixing is not linear and the scene is no reflectance."""
    if config.nonlinear is not None:
        from dequnmix_jax.abundances.nonlinear import check_unit

        check_unit(rms_and_highest(scene.cube, scene.valid)[0])


def doubts(trace: "Trace", config: Model, estimate: "Estimate", scene: Scene) -> list[str]:
    """Return the warnings about an equilibrium: it was not reached, or its pixels have two answers."""
    said = [] if trace.converged else [not_reached(trace, config)]
    if config.post_nonlinear:
        from dequnmix_jax.equilibrium.nonlinear_terms import folded

        lit = scene.valid & (scene.cube != 0).any(axis=2)  # a pixel of zeros has no abundances
        number = int(np.sum(np.asarray(folded(estimate, config)) & lit))
        if number:
            word = "" if config.nonlinear is None else config.nonlinear.word
            said.append(
                f"In {how_many(number, 'pixel')} the curve of {word} falls where it should rise: two mixtures may have "
                "the same spectrum there. What it takes for nonlinear mixing may be brightness or shade: compare with "
                "the constraint cone or soft, without nonlinear."
            )
    return said


def not_reached(trace: "Trace", config: Model) -> str:
    """Return the warning about a solve that did not converge."""
    return (
        f"The equilibrium was not reached within {how_many(config.forward.max_steps, 'step')}: the relative residual "
        f"is {float(trace.residual):.2e} and {config.forward.tolerance:g} was asked for; do not trust the maps."
    )
