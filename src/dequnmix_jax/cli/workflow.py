"""Steps that several commands share: train a model on a scene, read a model from its file, unmix a scene by it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.cli.clock import stage
from dequnmix_jax.cli.config_file import Configuration, read_configuration
from dequnmix_jax.cli.options import FixedOptions, SceneOptions, TrainingOptions
from dequnmix_jax.cli.progress import Fitted, fit_scene
from dequnmix_jax.cli.scene_options import open_scene, warn
from dequnmix_jax.equilibrium.config import Analytic, Model
from dequnmix_jax.io.provenance import file_record
from dequnmix_jax.io.remote import Remote
from dequnmix_jax.libraries.library import Library
from dequnmix_jax.libraries.reading import read_library
from dequnmix_jax.pipeline import (
    UNIT,
    Fixed,
    choose,
    fixed_spectra,
    not_reached,
    operator_record,
    unmix_scene,
    untrained,
)
from dequnmix_jax.results.maps import names_after
from dequnmix_jax.results.result import Result, result_of
from dequnmix_jax.scenes.band_order import source_in_order
from dequnmix_jax.scenes.scene import Scene
from dequnmix_jax.scenes.source import Source
from dequnmix_jax.training import checkpoint
from dequnmix_jax.training.checkpoint import check_params, model_from, model_metadata

if TYPE_CHECKING:
    from dequnmix_jax.tiles.patches import Patches
    from dequnmix_jax.training.resume import Keep
    from dequnmix_jax.types import Trace

_SHOWN = ("loss", "residual", "steps", "converged")
"""Entries of the training's history that summary.json repeats; the model's file has all of them."""


class TrainedModel(NamedTuple):
    """A model, trained here or read from its file.

    Attributes:
        params: for `unmix`.
        config: the parts of the map.
        metadata: as a checkpoint holds it; "model_file" too where it was read from one.
    """

    params: Any
    config: Model
    metadata: dict[str, Any]


def read_library_of(path: Path | None, scale: float | None) -> Library | None:
    """Read a spectral library, or return None where the options name none."""
    # The order of overlapping spectrometers does not change a comparison, and the page says how it was resolved.
    return None if path is None else read_library(path, scale=scale, sort=True)


def fixed_of(options: FixedOptions, scene: Scene) -> Fixed:
    """Return the spectra of --fixed on the bands of a scene, and check their unit; none without the option."""
    if options.fixed_library is None:
        given = [("--fixed-names", options.fixed_names), ("--fixed-scale", options.fixed_scale)]
        alone = [name for name, value in given if value is not None]
        if alone:
            raise InputError(f"{' and '.join(alone)} without a library; expected --fixed FILE as well. Add it.")
        return Fixed()
    library = read_library(options.fixed_library, scale=options.fixed_scale, sort=True)
    return fixed_spectra(library, options.fixed_names, scene)


def configure(options: TrainingOptions, *, patches: int | None = None) -> Configuration:
    """Return the configuration that the options and their TOML file describe; an option overrides the file.

    Raises:
        InputError: an option or the file is wrong, or `--start auto` is given with `--patches`.
    """
    if patches is not None and options.start == "auto":
        raise InputError(
            "--start auto looks at the whole scene, and --patches is for one larger than memory; expected one of the "
            "two. Leave one out."
        )
    words = {"gradient": options.gradient, "constraint": options.constraint, "mixing": options.mixing}
    words |= {"prox": options.prox, "prior": options.prior}
    configuration = read_configuration(options.config, {name: word for name, word in words.items() if word})
    if options.epochs is not None:
        configuration = configuration._replace(training=replace(configuration.training, epochs=options.epochs))
    return configuration


def train(
    options: TrainingOptions,
    configuration: Configuration,
    reading: SceneOptions,
    scene: Scene,
    count: int,
    keep: "Keep | None" = None,
    patches: "Patches | None" = None,
    fixed: Fixed | None = None,
    counted: Mapping[str, Any] | None = None,
) -> tuple[TrainedModel, Fitted]:
    """Train a model on a scene, or on patches of one.

    Args:
        options: of the training.
        configuration: from `configure`.
        reading: how the scene was read; the model remembers its bands.
        scene: a checked scene, or that of the patches.
        count: R.
        keep: where the training is kept, so that it can be resumed, or None.
        patches: from `draw_patches`, or None.
        fixed: from `fixed_of`; None: no spectrum is fixed.
        counted: what `count_endmembers` says about the number.
    """
    import jax

    from dequnmix_jax.tiles import patches as tiles_patches

    fixed = Fixed() if fixed is None else fixed
    if fixed.names and (patches is not None or options.start == "vca"):
        raise InputError(
            "--fixed spectra stay while candidates of the others are compared; expected no --start vca and no "
            "--patches with it. Leave these out."
        )

    config, training, rates, stated = configuration
    trains = trains_on_scene(options, configuration)
    initial: dict[str, Any] = {}
    key = jax.random.key(options.seed)
    reason = None
    if patches is not None:
        _, first, key = jax.random.split(key, 3)
        initial = {"endmembers": tiles_patches.start(first, patches, count), "whole": patches.whole}
    elif _compares(options.start, scene, count, config) or fixed.names:
        first, key = jax.random.split(key)
        with stage("choosing endmembers"):
            initial["endmembers"], config, rates, reason = choose(
                first, scene, count, config, rates, stated, fixed.spectra
            )
        warn(f"note: {reason}")
    else:
        initial["count"] = count
        trains = True
    if trains:
        with stage("training"):
            held = np.arange(count) < len(fixed.names) if fixed.names else None
            fitted = fit_scene(key, scene, config, training, rates, keep=keep, fixed=held, **initial)
    else:
        training = replace(training, epochs=0)
        config = config if "model.gradient" in stated else replace(config, gradient=Analytic())
        with stage("judging the prior"):
            params, history = untrained(key, scene, config, initial["endmembers"])
        fitted = Fitted(params, history, 0.0)
    metadata = model_metadata(scene, config, training, rates, options.seed, fitted.history, fixed.names)
    metadata |= dict(counted or {})
    if patches is not None:
        metadata["scene"] = patches.record()
    if reason is not None:
        metadata["start"] = reason
        metadata["operator"] = operator_record()
    metadata["ignore"] = [list(pair) for pair in reading.ignore or ()]
    metadata["bands"] = None if reading.bands is None else [list(pair) for pair in reading.bands]
    metadata["drop_bands"] = [list(pair) for pair in reading.drop_bands]
    return TrainedModel(jax.tree.map(np.asarray, fitted.params), config, metadata), fitted


def trains_on_scene(options: TrainingOptions, configuration: Configuration) -> bool:
    """Return whether the model is trained on the scene: if asked for, by any option that only a training reads."""
    stated = any(name.startswith(("training.", "rates.")) or name == "model.gradient" for name in configuration.stated)
    if options.epochs == 0:
        return False
    return options.train or options.epochs is not None or options.start == "vca" or stated


def _compares(start: str | None, scene: Scene, count: int, config: Model) -> bool:
    """Return whether candidates of the initial endmembers are compared; print why not if the bands are too few."""
    bands = scene.cube.shape[2]
    if start is None and bands < 2 * count:
        warn(
            f"note: Endmembers: VCA. Mixing: {config.constraint.word}. A comparison of candidates needs two bands per "
            f"endmember, and {count} endmembers are looked for in {bands} bands."
        )
        return False
    return start != "vca"


def draw_patches(
    reading: SceneOptions, seed: int, count: int, size: int, config: Model
) -> tuple["Patches", dict[str, Any]]:
    """Draw patches of a scene, print notes and warnings about it, and return patches and record."""
    import jax

    from dequnmix_jax.tiles.patches import draw

    cells, _, _ = jax.random.split(jax.random.key(seed), 3)
    patches = draw(cells, open_scene(reading), count, size, config, drop_invalid=reading.nodata is not None)
    for note in patches.scene.notes:
        warn(f"note: {note}")
    for warning in patches.warnings:
        warn(f"warning: {warning}")
    record = {"reading": reading.given(), "warnings": list(patches.warnings), "patches": patches.record()}
    return patches, record


def not_its_own_input(output: Path, *inputs: Path) -> None:
    """Raise InputError where an output would replace one of its inputs."""
    for path in inputs:
        if not isinstance(path, Remote) and output.exists() and path.exists() and output.samefile(path):
            raise InputError(f"{output} is also the input; expected another name for the output. Choose one.")


def load_model(path: Path, count: int | None) -> TrainedModel:
    """Read a model from its file.

    Args:
        path: of the model.
        count: number of endmembers that it must have, or None.
    """
    params, metadata = checkpoint.load(path)
    checkpoint.check_matches(params, count=count)
    config = model_from(metadata, path)
    check_params(params, config, path)
    return TrainedModel(params, config, metadata | {"model_file": file_record(path)})


def with_bands_of(model: TrainedModel, reading: SceneOptions) -> SceneOptions:
    """Return the options of a scene with the bands that the model was trained on, unless the options say otherwise."""
    ignore, bands, dropped = reading.ignore, reading.bands, reading.drop_bands
    if not ignore:
        ignore = tuple((float(low), float(high)) for low, high in model.metadata.get("ignore") or ())
    if bands is None:
        bands = model.metadata.get("bands") or None
    if not dropped:
        dropped = model.metadata.get("drop_bands") or ()
    return replace(reading, ignore=ignore, bands=bands, drop_bands=dropped)


def open_for(model: TrainedModel, reading: SceneOptions) -> Source:
    """Open a scene with its bands in the order of those that a model was trained on, matched by wavelength.

    Raises:
        InputError: the scene cannot be opened, or has as many bands of other wavelengths.
    """
    source = open_scene(reading)
    trained = model.metadata.get("wavelengths_nm")
    return source if trained is None else source_in_order(source, np.asarray(trained, np.float64))


def unmix_by(model: TrainedModel, scene: Scene, record: dict[str, Any]) -> tuple[Result, "Trace"]:
    """Unmix a scene by a model, print a warning if the solver did not converge, and return result and trace."""
    check_fits(model, scene)
    with stage("unmixing"):
        estimate, trace, change = unmix_scene(model.params, scene, model.config)
    configuration, entries = model_record(model)
    if not trace.converged:
        text = not_reached(trace, model.config)
        warn(f"warning: {text}")
        record = record | {"warnings": [*record["warnings"], text]}
    result = result_of(
        estimate,
        scene,
        names=names_of(model),
        configuration=configuration,
        trace=trace,
        convergence=change,
        record=record | entries,
        convention=model.config.convention,
    )
    return result, trace


def check_fits(model: TrainedModel, scene: Scene | Source) -> None:
    """Raise InputError where scene and model differ in the number of bands; print a warning where bands are shifted.

    Args:
        model: of B bands.
        scene: its good bands.
    """
    checkpoint.check_matches(model.params, bands=scene.cube.shape[2] if isinstance(scene, Scene) else scene.shape[2])
    trained = model.metadata.get("wavelengths_nm")
    if trained is None or scene.wavelengths is None:
        return
    shift = float(np.max(np.abs(np.asarray(trained, np.float64) - scene.wavelengths)))
    if shift > 1.0:  # nm; a tenth of the band width of an imaging spectrometer
        warn(f"warning: The bands of the scene lie up to {shift:.1f} nm from those that the model was trained on.")


def model_record(model: TrainedModel) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what summary.json says about a model: its configuration, and further entries."""
    configuration = {name: model.metadata.get(name) for name in ("model", "training", "rates", "seed")}
    whole = model.metadata.get("history")
    history = {name: whole[name] for name in _SHOWN if name in whole} if isinstance(whole, dict) else None
    return configuration, {
        "model_file": model.metadata.get("model_file"),
        "history": history,
        "start": model.metadata.get("start"),
        "operator": model.metadata.get("operator"),
        "stages": model.metadata.get("stages"),
        "unit": UNIT,
        **{name: model.metadata[name] for name in ("count", "fixed") if name in model.metadata},
    }


def names_of(model: TrainedModel) -> tuple[str, ...] | None:
    """Return the names of the endmembers of a model some of whose spectra were fixed; None for others."""
    return names_after(model.metadata.get("fixed") or (), np.shape(model.params["endmembers"])[0])


def describe_trace(trace: "Trace", known: bool = False) -> str:
    """Return a solve in a line of text: steps, residual, convergence; of known spectra, whether it is optimal."""
    if known:
        reached = "optimal" if trace.converged else "not optimal"
        return f"{reached}: a further step changes the fractions by {float(trace.residual):.1e} of their size"
    reached = "converged" if trace.converged else "not converged"
    return f"{int(trace.steps)} steps, relative residual {float(trace.residual):.2e}, {reached}"
