"""Steps that several commands share: train a model on a scene, read a model from its file, unmix a scene by it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dequnmix_jax import trained
from dequnmix_jax.checks import InputError, how_many
from dequnmix_jax.cli.clock import stage
from dequnmix_jax.cli.config_file import Configuration, read_configuration
from dequnmix_jax.cli.options import FixedOptions, SceneOptions, TrainingOptions
from dequnmix_jax.cli.progress import Fitted, fit_scene
from dequnmix_jax.cli.scene_options import open_scene, warn
from dequnmix_jax.equilibrium.config import Analytic, Model
from dequnmix_jax.io.remote import Remote
from dequnmix_jax.libraries.library import Library
from dequnmix_jax.libraries.reading import read_library
from dequnmix_jax.pipeline import (
    Fixed,
    check_unit_of,
    choose,
    fixed_spectra,
    operator_record,
    untrained,
)
from dequnmix_jax.results.result import Result
from dequnmix_jax.scenes.scene import Scene
from dequnmix_jax.scenes.source import Source
from dequnmix_jax.trained import TrainedModel, statistics_record
from dequnmix_jax.training.checkpoint import model_metadata

if TYPE_CHECKING:
    from dequnmix_jax.tiles.patches import Patches
    from dequnmix_jax.training.resume import Keep
    from dequnmix_jax.types import Trace


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
    words |= {"prox": options.prox, "nonlinear": options.nonlinear, "prior": options.prior}
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
    saved: bool = True,
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
        saved: the model is written to a file, which holds the unit of its scene too.
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
    check_unit_of(config, scene)
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
    elif saved:
        metadata["whole"] = statistics_record(fitted.params, scene, config)
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
            f"endmember, and {how_many(count, 'endmember')} are looked for in {how_many(bands, 'band')}."
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


def open_for(model: TrainedModel, reading: SceneOptions) -> Source:
    """Open a scene with its bands in the order of those that a model was trained on, matched by wavelength."""
    return trained.open_for(model, reading.file, reading)


def unmix_by(model: TrainedModel, scene: Scene, record: dict[str, Any]) -> tuple[Result, "Trace"]:
    """Unmix a scene by a model, print a warning if the solver did not converge, and return result and trace."""
    with stage("unmixing"):
        return trained.unmix_by(model, scene, record, say)


def say(text: str) -> None:
    """Print a warning on stderr."""
    warn(f"warning: {text}")


def describe_trace(trace: "Trace", known: bool = False) -> str:
    """Return a solve in a line of text: steps, residual, convergence; of known spectra, whether it is optimal."""
    if known:
        reached = "optimal" if trace.converged else "not optimal"
        return f"{reached}: a further step changes the fractions by {float(trace.residual):.1e} of their size"
    reached = "converged" if trace.converged else "not converged"
    return f"{how_many(int(trace.steps), 'step')}, relative residual {float(trace.residual):.2e}, {reached}"
