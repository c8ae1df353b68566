"""A trained model applied to scenes: read it from its file, find its bands in a scene, unmix, and say what it is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.equilibrium.config import Model
from dequnmix_jax.io import formats
from dequnmix_jax.io.provenance import file_record
from dequnmix_jax.pipeline import UNIT, check_unit_of, doubts, unmix_scene
from dequnmix_jax.results.maps import names_after
from dequnmix_jax.results.result import Result, result_of
from dequnmix_jax.scenes.band_order import source_in_order
from dequnmix_jax.scenes.read_options import ReadOptions
from dequnmix_jax.scenes.scene import Scene
from dequnmix_jax.scenes.source import Source
from dequnmix_jax.training import checkpoint
from dequnmix_jax.training.checkpoint import check_params, model_from

if TYPE_CHECKING:
    from dequnmix_jax.equilibrium.scene_statistics import Scenewide
    from dequnmix_jax.types import Trace

Reading = TypeVar("Reading", bound=ReadOptions)

Say = Callable[[str], None]
"""Called with a warning, a sentence."""

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


def statistics_record(params: Any, scene: Scene, config: Model) -> dict[str, Any]:
    """Return unit and pools of the scene of a training, for the metadata of the model."""
    from dequnmix_jax.tiles.solve import statistics_of

    whole = statistics_of(params, scene, config)
    pools = None if whole.pools is None else [np.asarray(values).tolist() for values in whole.pools]
    return {"scale": float(whole.scale), "pools": pools}


def statistics_in(model: TrainedModel) -> "Scenewide":
    """Return unit and pools of the scene that a model was trained on.

    Raises:
        InputError: the model does not hold them.
    """
    from dequnmix_jax.equilibrium.scene_statistics import Scenewide

    held = model.metadata.get("whole")
    try:
        scale = np.float32(held["scale"])  # type: ignore[index]
        pools = None if held["pools"] is None else tuple(np.asarray(part, np.float32) for part in held["pools"])  # type: ignore[index]
        return Scenewide(scale, pools)  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            "The model does not hold the unit of the scene that it was trained on; expected one that `dequnmix fit` of "
            "this version made on a whole scene. Fit it again, or leave out --unit model."
        ) from error


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


def with_bands_of(model: TrainedModel, reading: Reading) -> Reading:
    """Return the options of a scene with the bands that the model was trained on, unless the options say otherwise."""
    ignore, bands, dropped = reading.ignore, reading.bands, reading.drop_bands
    if not ignore:
        ignore = tuple((float(low), float(high)) for low, high in model.metadata.get("ignore") or ())
    if bands is None:
        bands = model.metadata.get("bands") or None
    if not dropped:
        dropped = model.metadata.get("drop_bands") or ()
    return replace(reading, ignore=ignore, bands=bands, drop_bands=dropped)


def open_for(model: TrainedModel, file: Any, reading: ReadOptions) -> Source:
    """Open a scene with its bands in the order of those that a model was trained on, matched by wavelength.

    Raises:
        InputError: the scene cannot be opened, or has as many bands of other wavelengths.
    """
    source = formats.open_source(file, **reading.given())
    trained = model.metadata.get("wavelengths_nm")
    return source if trained is None else source_in_order(source, np.asarray(trained, np.float64))


def unmix_by(model: TrainedModel, scene: Scene, record: dict[str, Any], on_warning: Say) -> tuple[Result, "Trace"]:
    """Unmix a scene by a model and return result and trace.

    Args:
        model: of as many bands as the scene.
        scene: a checked scene.
        record: for summary.json, with "warnings".
        on_warning: called with a sentence if the solver did not converge or bands are shifted.
    """
    check_fits(model, scene, on_warning)
    check_unit_of(model.config, scene)
    estimate, trace, change = unmix_scene(model.params, scene, model.config)
    configuration, entries = model_record(model)
    for text in doubts(trace, model.config, estimate, scene):
        on_warning(text)
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


def check_fits(model: TrainedModel, scene: Scene | Source, on_warning: Say) -> None:
    """Raise InputError where scene and model differ in the number of bands; warn where bands are shifted.

    Args:
        model: of B bands.
        scene: its good bands.
        on_warning: called with a sentence.
    """
    checkpoint.check_matches(model.params, bands=scene.cube.shape[2] if isinstance(scene, Scene) else scene.shape[2])
    trained = model.metadata.get("wavelengths_nm")
    if trained is None or scene.wavelengths is None:
        return
    shift = float(np.max(np.abs(np.asarray(trained, np.float64) - scene.wavelengths)))
    if shift > 1.0:  # nm; a tenth of the band width of an imaging spectrometer
        on_warning(f"The bands of the scene lie up to {shift:.1f} nm from those that the model was trained on.")


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
