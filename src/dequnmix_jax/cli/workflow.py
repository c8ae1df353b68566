"""The steps that commands share: train a model on a scene, read one from its file, unmix a scene by it."""

from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.cli.config_file import read_configuration, stated_in
from dequnmix_jax.cli.progress import fit_scene
from dequnmix_jax.cli.scene_options import open_scene, options_of, warn
from dequnmix_jax.equilibrium.config import Model
from dequnmix_jax.io.provenance import file_record
from dequnmix_jax.libraries.library import Library
from dequnmix_jax.libraries.reading import read_library
from dequnmix_jax.results.result import Result, result_of
from dequnmix_jax.scenes.scene import Scene
from dequnmix_jax.scenes.source import Source
from dequnmix_jax.training import checkpoint
from dequnmix_jax.training.checkpoint import check_params, model_from, model_metadata
from dequnmix_jax.training.config import Rates, Training

if TYPE_CHECKING:
    from dequnmix_jax.tiles.patches import Patches
    from dequnmix_jax.types import History, Trace
from dequnmix_jax.pipeline import choose, not_reached, unit_of, unmix_scene


def library_of(args: Namespace) -> Library | None:
    """Read the library that the options name, or None."""
    if args.library is None:
        return None
    # Where spectrometers overlap the order is a matter of course for a comparison, and the page says so.
    return read_library(args.library, scale=args.library_scale, sort=True)


_SHOWN = ("loss", "residual", "steps", "converged")
"""What of a training's history the record of an unmixing repeats; the model's file has all of it."""


class Trained(NamedTuple):
    """A model trained on a scene, with all that a checkpoint says about it."""

    params: Any
    config: Model
    metadata: dict[str, Any]
    history: "History"
    seconds: float


def train(
    args: Namespace, scene: Scene, count: int, keep: Path | None = None, drawn: "Patches | None" = None
) -> Trained:
    """Train a model on a scene, or on patches of one, as the options say; keep the training where a file is named."""
    import jax

    from dequnmix_jax.tiles import patches

    config, training, rates = choices(args)
    more: dict[str, Any] = {} if keep is None else {"keep": keep, "every": args.checkpoint, "anew": args.force}
    key = jax.random.key(args.seed)
    why = None
    if drawn is None and _compares(args, scene, count, config):
        first, key = jax.random.split(key)
        more["endmembers"], config, rates, why = choose(first, scene, count, config, rates, _asked(args))
        warn(f"note: {why}")
    elif drawn is None:
        more["count"] = count
    else:
        _, first, key = jax.random.split(key, 3)
        more |= {"endmembers": patches.start(first, drawn, count), "whole": drawn.whole}
    fitted = fit_scene(key, scene, config, training, rates, **more)
    metadata = model_metadata(scene, config, training, rates, args.seed, fitted.history)
    if drawn is not None:
        metadata["scene"] = drawn.record()
    if why is not None:
        metadata["start"] = why
    metadata["ignore"] = [list(pair) for pair in args.ignore or ()]
    metadata["bands"] = None if args.bands is None else list(args.bands)
    return Trained(jax.tree.map(np.asarray, fitted.params), config, metadata, fitted.history, fitted.seconds)


def _compares(args: Namespace, scene: Scene, count: int, config: Model) -> bool:
    """Return whether the start is chosen of several; where nobody asked and the bands are too few, say why not."""
    bands = scene.cube.shape[2]
    if args.start is None and bands < 2 * count:
        warn(
            f"note: the start is VCA, and the constraint {config.constraint.word}: a choice between several needs two "
            f"bands for each endmember, and {count} are looked for in {bands} bands."
        )
        return False
    return args.start != "vca"


def _asked(args: Namespace) -> set[str]:
    """Return the names of the choices that are asked for, in the file of choices or by an option."""
    options = {f"model.{name}" for name in ("constraint", "prior") if getattr(args, name)}
    return stated_in(args.config) | options


def draw_patches(args: Namespace) -> tuple["Patches", dict[str, Any]]:
    """Draw patches of the scene that the options name, say what was assumed and what is odd, and return the record."""
    import jax

    from dequnmix_jax.tiles.patches import draw

    cells, _, _ = jax.random.split(jax.random.key(args.seed), 3)
    config, _, _ = choices(args)
    drop = args.nodata is not None
    drawn = draw(cells, open_scene(args), args.patches, args.patch_size, config, drop_invalid=drop)
    for note in drawn.scene.notes:
        warn(f"note: {note}")
    for warning in drawn.warnings:
        warn(f"warning: {warning}")
    return drawn, {"reading": options_of(args), "warnings": list(drawn.warnings), "patches": drawn.record()}


def choices(args: Namespace) -> tuple[Model, Training, Rates]:
    """Return what the options and their file of choices ask for; an option overrides the file."""
    if getattr(args, "patches", None) is not None and args.start == "auto":
        raise InputError(
            "--start auto looks at the whole scene, and --patches is for one larger than memory; expected one of the "
            "two. Leave one out."
        )
    options = {name: getattr(args, name) for name in ("gradient", "constraint", "prox", "prior") if getattr(args, name)}
    config, training, rates = read_configuration(args.config, options)
    if args.epochs is not None:
        training = replace(training, epochs=args.epochs)
    return config, training, rates


def not_its_own_input(output: Path, *inputs: Path) -> None:
    """Raise InputError where an output would replace what it is made of."""
    for path in inputs:
        if output.exists() and path.exists() and output.samefile(path):
            raise InputError(f"{output} is also the input; expected another name for the output. Choose one.")


class Known(NamedTuple):
    """A model read from its file."""

    params: Any
    config: Model
    metadata: dict[str, Any]


def load_model(args: Namespace) -> Known:
    """Read a model, and let the scene be read with the bands that it was trained on."""
    params, metadata = checkpoint.load(args.model)
    checkpoint.check_matches(params, count=args.endmembers)
    config = model_from(metadata, args.model)
    check_params(params, config, args.model)
    if args.ignore is None:
        args.ignore = [(float(low), float(high)) for low, high in metadata.get("ignore") or ()]  # as for `fit`
    if args.bands is None and metadata.get("bands"):
        args.bands = tuple(int(number) for number in metadata["bands"])
    return Known(params, config, metadata | {"model_file": file_record(args.model)})


def unmixed(known: Known, scene: Scene, record: dict[str, Any]) -> tuple[Result, "Trace"]:
    """Unmix a scene by a model, say where it was not trustworthy, and return all of it."""
    check_fits(known, scene, scene.cube.shape[2])
    estimate, trace, change = unmix_scene(known.params, scene, known.config)
    configuration, more = model_record(known)
    if not trace.converged:
        text = not_reached(trace, known.config)
        warn(f"warning: {text}")
        record = record | {"warnings": [*record["warnings"], text]}
    found = result_of(
        estimate, scene, configuration=configuration, trace=trace, convergence=change, record=record | more
    )
    return found, trace


def check_fits(known: Known, scene: Scene | Source, bands: int) -> None:
    """Raise InputError where the model is of another number of bands; say where they lie elsewhere."""
    checkpoint.check_matches(known.params, bands=bands)
    trained = known.metadata.get("wavelengths_nm")
    if trained is None or scene.wavelengths is None:
        return
    apart = float(np.max(np.abs(np.asarray(trained, np.float64) - scene.wavelengths)))
    if apart > 1.0:  # nm; a tenth of the band width of an imaging spectrometer
        warn(f"warning: The bands of the scene lie up to {apart:.1f} nm from those that the model was trained on.")


def model_record(known: Known) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what summary.json says of a model: its configuration, and further entries."""
    configuration = {name: known.metadata.get(name) for name in ("model", "training", "rates", "seed")}
    whole = known.metadata.get("history")
    history = {name: whole[name] for name in _SHOWN if name in whole} if isinstance(whole, dict) else None
    return configuration, {
        "model_file": known.metadata.get("model_file"),
        "history": history,
        "start": known.metadata.get("start"),
        "stages": known.metadata.get("stages"),
        "unit": unit_of(known.config),
    }


def describe_trace(trace: "Trace") -> str:
    """Return how a solve went, in a line of text."""
    reached = "converged" if trace.converged else "not converged"
    return f"{int(trace.steps)} steps, relative residual {float(trace.residual):.2e}, {reached}"
