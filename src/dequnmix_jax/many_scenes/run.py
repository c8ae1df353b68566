"""Unmix many scenes by one model, on the processes of this machine or of a cluster."""

import hashlib
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dequnmix_jax.checks import InputError, how_many
from dequnmix_jax.equilibrium.config import Model
from dequnmix_jax.io.raw import stamp
from dequnmix_jax.io.remote import as_local
from dequnmix_jax.many_scenes.batch import OnRow, batch_of, ignore_row
from dequnmix_jax.many_scenes.names import places_of
from dequnmix_jax.many_scenes.table import Row
from dequnmix_jax.results import files
from dequnmix_jax.results.writer import write_result
from dequnmix_jax.scenes.read_options import ReadOptions
from dequnmix_jax.scenes.scene import check_scene, mask_invalid
from dequnmix_jax.trained import TrainedModel, load_model, open_for, unmix_by, with_bands_of


def unmix_many(
    scenes: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    model: Any,
    folder: str | os.PathLike[str],
    client: Any = None,
    retries: int = 2,
    *,
    jobs: int | None = None,
    format: str | None = None,
    overwrite: bool = False,
    on_row: OnRow = ignore_row,
    **reading: Any,
) -> list[Row]:
    """Unmix many scenes by one model, each into a folder of its own, as `write` makes it.

    A scene that fails is a row of `batch.csv` in the folder, with a sentence, and the others go on. The same call again
    skips the scenes that are done. Processes that die are replaced, and their scene is tried again.

    Each scene is in memory as a whole, one for each process. `dequnmix unmix A B C -m MODEL -o FOLDER` does the same,
    and takes those that are too large in tiles.

    Args:
        scenes: paths, URLs, patterns such as "2024/*.nc", text files (.txt) with one of these in each line, or
            STAC items and collections of items (.json), of which the data asset of each is taken.
        model: the file that `dequnmix fit` made, or (params, config) as `fit` takes and returns them.
        folder: where the outputs go, one for each scene under the name of its file; made if it does not exist.
        client: of Dask (`distributed.Client`), whose workers see the same files and have this package; None: processes
            on this machine (extra "dask").
        retries: how often a scene is tried again whose process died, or which failed for another reason than its input.
        jobs: processes on this machine, without a client; None: one for each core; 1: this process.
        format: of the maps, as for `write`.
        overwrite: unmix again what is done.
        on_row: called after each scene with its `Row`, the number of rows and the number of scenes.
        **reading: options of `read` for all scenes; bands are those of the training by default.

    Returns:
        A `Row` for each scene, in the order of the scenes.

    Raises:
        InputError: no scene, no model, another process works on this folder, or Dask is not installed.
    """
    if type(retries) is not int or retries < 0:
        raise InputError(f"retries is {retries!r}; expected a whole number from 0.")
    target, places = as_local(folder), places_of(scenes)
    format = format or files.FORMATS[0]
    files.format_of(target, format)
    files.require(format)
    options = ReadOptions.of(reading)
    chosen, made_by = _model(model)

    def item(place: Path, output: Path) -> _Scene:
        return _Scene(place, output, chosen, options, format, overwrite)

    who = made_by or _hash_of(chosen)
    with batch_of(target, places, overwrite, made_by, repr((who, options.given(), format))) as batch:
        return batch.run(_unmix_one, item, client, jobs, retries, on_row)


class _Scene(NamedTuple):
    """A task: the arguments of `_unmix_one`; `model` is a path, or parameters and parts of the map."""

    file: Path
    output: Path
    model: Path | tuple[Any, Model]
    reading: ReadOptions
    format: str
    overwrite: bool


def _model(model: Any) -> tuple[Path | tuple[Any, Model], str | None]:
    """Return a model as the tasks take it, and the checksum of its file."""
    if isinstance(model, tuple):
        if len(model) != 2 or not isinstance(model[1], Model):
            raise InputError(
                f"model is a tuple of {how_many(len(model), 'value')}; expected a file that `dequnmix fit` made, or "
                "(params, config). Pass one of these."
            )
        import jax

        return (jax.tree.map(np.asarray, model[0]), model[1]), None
    path = as_local(model).absolute()
    return path, load_model(path, None).metadata["model_file"]["sha256"]


def _hash_of(model: Any) -> str:
    """Return a hash of parameters and parts of the map."""
    import jax

    digest = hashlib.sha256(repr(model[1]).encode())
    for place, leaf in jax.tree_util.tree_leaves_with_path(model[0]):
        digest.update(f"{jax.tree_util.keystr(place)} {np.shape(leaf)}".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


@lru_cache(maxsize=2)
def _loaded(path: Path, state: tuple[int, int]) -> TrainedModel:
    """Return a model from its file, read once by each process."""
    return load_model(path, None)


def _unmix_one(task: _Scene) -> None:
    """Unmix a scene and write its result."""
    model = (
        _loaded(task.model, stamp(task.model))
        if isinstance(task.model, Path)
        else TrainedModel(task.model[0], task.model[1], {})
    )
    reading = with_bands_of(model, task.reading)
    scene = open_for(model, task.file, reading).scene().with_good_bands()
    if reading.nodata is not None:
        scene = mask_invalid(scene)
    said = check_scene(scene)
    record = {"reading": reading.given(), "warnings": said}
    result, _ = unmix_by(model, scene, record, said.append)
    write_result(task.output, result, scene, overwrite=task.overwrite, format=task.format)
