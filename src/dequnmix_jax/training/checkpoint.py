"""Keep trained parameters in a .npz file, without pickle.

The file holds one array for each leaf of the nested dict, named by its keys joined with "/", and one JSON
text, `checkpoint.json`, with the format's version, this package's version, the empty dicts and the caller's metadata.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dequnmix_jax.checks import InputError, how_many
from dequnmix_jax.equilibrium.config import Model
from dequnmix_jax.escaping import reason_of
from dequnmix_jax.io.atomic import replacing_file
from dequnmix_jax.io.disk_space import writing
from dequnmix_jax.io.npz import MODEL
from dequnmix_jax.io.npz_arrays import load as load_arrays
from dequnmix_jax.io.remote import as_local
from dequnmix_jax.scenes.scene import Array, Scene
from dequnmix_jax.training.config import Rates, Training
from dequnmix_jax.training.words import from_older, model_of, plain, words_of

if TYPE_CHECKING:
    from dequnmix_jax.types import History

_FORMAT = 1
_PREFIX = "params/"


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Array | None]]:
    """Yield every leaf with its path; an empty dict is a leaf None."""
    for key, value in tree.items():
        if not isinstance(key, str) or not key or "/" in key:
            raise InputError(
                f"The parameters have the key {key!r} in {above or 'the top'!r}; expected text without '/'."
            )
        path = f"{above}{key}"
        if isinstance(value, Mapping):
            if value:
                yield from _leaves(value, path + "/")
            else:
                yield path, None
            continue
        try:
            array = np.asarray(value)
        except ValueError:  # a ragged list
            array = np.empty(0, object)
        if array.dtype.kind not in "biuf":
            raise InputError(
                f"The parameter {path} is {type(value).__name__} of data type {array.dtype}; expected an array of real "
                "numbers that numpy knows. Convert it, for example to float32."
            )
        yield path, array


def save(
    path: str | os.PathLike[str],
    params: Mapping[str, Any],
    metadata: Mapping[str, Any],
    overwrite: bool = False,
    *,
    alone: bool = False,
) -> Path:
    """Write parameters and metadata to a .npz file, whole or not at all.

    Args:
        path: the file; the name is not changed.
        params: nested dict of arrays (numpy or jax), such as `types.Params`; keys are text without "/".
        metadata: dicts, lists, text and finite numbers.
        overwrite: replace an existing file.
        alone: the caller holds the lock of this file.

    Returns:
        The path written.

    Raises:
        InputError: a leaf is not an array of real numbers, the metadata do not fit JSON, or the file exists and
            `overwrite` is False.
    """
    arrays = _arrays(params, metadata)
    with replacing_file(path, overwrite=overwrite, alone=alone) as temporary:
        _put(temporary, arrays)
    return as_local(path)


def put(path: Path, params: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    """Write the file of `save` in place: without a check for an existing file, without renaming."""
    _put(path, _arrays(params, metadata))


def _put(path: Path, arrays: Mapping[str, Any]) -> None:
    with writing(path), path.open("wb") as file:
        np.savez_compressed(file, **arrays)
        file.flush()
        os.fsync(file.fileno())


def _arrays(params: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    leaves = dict(_leaves(params))
    try:
        package = version("dequnmix-jax")
    except PackageNotFoundError:
        package = "unknown"
    header = {
        "format": _FORMAT,
        "written_by": "dequnmix_jax",
        "version": package,
        "empty": [name for name, value in leaves.items() if value is None],
        "metadata": dict(metadata),
    }
    try:
        text = json.dumps(header, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"The metadata do not fit JSON ({error}); expected dicts, lists, text and finite numbers."
        ) from error
    arrays: dict[str, Any] = {_PREFIX + name: value for name, value in leaves.items() if value is not None}
    arrays[MODEL] = np.array(text)
    return arrays


def load(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read parameters and metadata that `save` wrote.

    Args:
        path: the file.

    Returns:
        The nested dict of numpy arrays, with the data types they had, and the metadata.

    Raises:
        InputError: the file is missing, truncated, damaged, not a checkpoint, or of a later format.
    """
    path = as_local(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected a checkpoint file written by `fit`.")
    arrays = load_arrays(path)
    foreign = f"{path} is not a checkpoint of dequnmix_jax"
    text = arrays.pop(MODEL, None)
    if text is None or text.dtype.kind != "U":
        listed = ", ".join(list(arrays)[:6])
        raise InputError(
            f"{foreign}: it holds {listed or 'nothing'}; expected a file written by `fit` or checkpoint.save."
        )
    try:
        header = json.loads(str(text))
        written, empty, metadata = header["format"], list(header["empty"]), dict(header["metadata"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{foreign}: its {MODEL} cannot be understood ({error}). Write it again.") from error
    if written != _FORMAT:
        raise InputError(
            f"{path} has checkpoint format {written} and this version reads format {_FORMAT}; install the dequnmix-jax "
            f"that wrote it (version {header.get('version', 'unknown')}) or a later one."
        )
    params: dict[str, Any] = {}
    entries: list[tuple[str, Any]] = [(name, value) for name, value in arrays.items()]
    for name, value in entries + [(_PREFIX + str(name), {}) for name in empty]:
        if not name.startswith(_PREFIX) or (isinstance(value, np.ndarray) and value.dtype.kind not in "biuf"):
            raise InputError(f"{foreign}: the entry {name!r} is not a parameter. Write it again.")
        *above, last = name.removeprefix(_PREFIX).split("/")
        place = params
        for key in above:
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise InputError(f"{foreign}: {name!r} is both an array and a group of arrays. Write it again.")
        if last in place:
            raise InputError(f"{foreign}: {name!r} occurs twice. Write it again.")
        place[last] = value
    return params, metadata


def check_matches(params: Mapping[str, Any], count: int | None = None, bands: int | None = None) -> None:
    """Raise InputError unless the parameters have this number of endmembers and bands.

    Args:
        params: holds "endmembers" (R, B).
        count: the expected R, or None.
        bands: the B of the scene, or None.

    Raises:
        InputError: the parameters have no endmembers, or are for another R or B.
    """
    shape = np.shape(params.get("endmembers", ()))
    if len(shape) != 2:
        raise InputError(
            f"The parameters have the entries {', '.join(params) or 'none'} and endmembers of shape {shape}; expected "
            "endmembers (R, B). This is not a trained model."
        )
    if bands is not None and shape[1] != bands:
        raise InputError(
            f"The model was trained on {how_many(shape[1], 'band')} and the scene has {bands}; expected the same "
            "bands. Leave out the same bad bands as for the training, or fit a model to this scene."
        )
    if count is not None and shape[0] != count:
        raise InputError(
            f"The model has {how_many(shape[0], 'endmember')} and {count} were asked for; expected the same number. "
            f"Ask for {shape[0]}, or fit a model with as many."
        )


def model_metadata(
    scene: Scene,
    config: Model,
    training: Training,
    rates: Rates,
    seed: int | None,
    history: "History",
    fixed: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the metadata of a model for its checkpoint, fit for JSON; `fixed`: names of the first, fixed spectra."""
    from dequnmix_jax.training.verdict import sentences

    metadata = {
        "model": words_of(config),
        "training": asdict(training),
        "rates": rates._asdict(),
        "seed": seed,
        "scene": {"name": scene.name, "shape": scene.cube.shape, "valid_pixels": int(scene.valid.sum())},
        "wavelengths_nm": scene.wavelengths,
        "history": {name: values for name, values in history._asdict().items() if name != "stages"},
        "stages": None if history.stages is None else sentences(history.stages),
    }
    metadata |= {"fixed": list(fixed)} if fixed else {}
    return dict(plain(metadata))


def model_from(metadata: Mapping[str, Any], path: Path) -> Model:
    """Return the model of a checkpoint, or raise InputError."""
    try:
        return model_of(from_older(metadata["model"]), lambda table, word: f"{path} says {table}.{word}")
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} does not say how its model was made ({reason_of(error)}); expected the metadata of `dequnmix "
            "fit`. Fit the model again with this version."
        ) from error


def check_params(params: Mapping[str, Any], config: Model, path: Path) -> None:
    """Raise InputError unless the parameters have the names and shapes of a model with these choices."""
    import jax

    from dequnmix_jax.equilibrium import model

    E = jax.ShapeDtypeStruct(np.shape(params["endmembers"]), np.float32)
    cube = jax.ShapeDtypeStruct((1, max(E.shape[0], 2), E.shape[1]), np.float32)
    key = jax.eval_shape(jax.random.key, 0)  # shapes only: no random numbers
    expected = jax.eval_shape(lambda k, c, e: model.init(k, c, config, endmembers=e), key, cube, E)
    same = jax.tree.structure(expected) == jax.tree.structure(dict(params)) and all(  # type: ignore[operator]
        a.shape == np.shape(b) for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(params), strict=True)
    )
    if not same:
        raise InputError(
            f"The parameters in {path} do not fit the model that it describes; the file was changed or made by another "
            "version. Fit the model again."
        )
