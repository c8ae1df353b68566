"""What a checkpoint says about a trained model besides its parameters, and whether the two fit."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.choice_words import from_older, model_of, words_of
from dequnmix_jax.config import Model, Rates, Training
from dequnmix_jax.scene import Scene

if TYPE_CHECKING:
    from dequnmix_jax.records import History


def plain(value: Any) -> Any:
    """Return numbers, arrays and mappings as JSON can hold them; a number that is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [plain(entry) for entry in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    array = np.asarray(value)
    if array.ndim:
        return plain(array.tolist())
    return plain(array.item()) if array.dtype.kind != "f" else (float(array) if np.isfinite(array) else None)


def model_metadata(
    scene: Scene, config: Model, training: Training, rates: Rates, seed: int, history: "History"
) -> dict[str, Any]:
    """Return what a checkpoint says about a model besides its parameters, fit for JSON."""
    from dequnmix_jax.verdict import sentences

    found = {
        "model": words_of(config),
        "training": asdict(training),
        "rates": rates._asdict(),
        "seed": seed,
        "scene": {"name": scene.name, "shape": scene.cube.shape, "valid_pixels": int(scene.valid.sum())},
        "wavelengths_nm": scene.wavelengths,
        "history": {name: values for name, values in history._asdict().items() if name != "stages"},
        "stages": None if history.stages is None else sentences(history.stages),
    }
    return dict(plain(found))


def model_from(metadata: Mapping[str, Any], path: Path) -> Model:
    """Return the choices that a checkpoint was trained with, or raise InputError."""
    try:
        return model_of(from_older(metadata["model"]), lambda table, word: f"{path} says {table}.{word}")
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} does not say how its model was made ({str(error)[:80]}); expected the metadata of `dequnmix fit`. "
            "Fit the model again with this version."
        ) from error


def check_params(params: Mapping[str, Any], config: Model, path: Path) -> None:
    """Raise InputError unless the parameters have the names and shapes of a model with these choices."""
    import jax

    from dequnmix_jax import model

    E = jax.ShapeDtypeStruct(np.shape(params["endmembers"]), np.float32)
    cube = jax.ShapeDtypeStruct((1, max(E.shape[0], 2), E.shape[1]), np.float32)
    key = jax.eval_shape(jax.random.key, 0)  # shapes alone: nothing is drawn
    expected = jax.eval_shape(lambda k, c, e: model.init(k, c, config, endmembers=e), key, cube, E)
    same = jax.tree.structure(expected) == jax.tree.structure(dict(params)) and all(  # type: ignore[operator]
        a.shape == np.shape(b) for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(params), strict=True)
    )
    if not same:
        raise InputError(
            f"The parameters in {path} do not fit the model that it describes; the file was changed or made by another "
            "version. Fit the model again."
        )
