"""The run of a batch: what is done is kept, the rest is done by processes, and each scene is a row as soon as known."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from dequnmix_jax.checks import InputError, sentence_of
from dequnmix_jax.io.lock import only_writer
from dequnmix_jax.io.provenance import SUMMARY
from dequnmix_jax.io.raw import stamp
from dequnmix_jax.io.remote import Remote
from dequnmix_jax.many_scenes.names import names_for
from dequnmix_jax.many_scenes.table import (
    DONE,
    FAILED,
    KEPT,
    TABLE,
    Row,
    append_row,
    read_made,
    read_rows,
    write_made,
    write_rows,
)  # fmt: skip
from dequnmix_jax.parallel import cluster
from dequnmix_jax.results.record import read_record

OnRow = Callable[[Row, int, int], None]
"""Called with a row, the number of rows so far, and the number of scenes."""


def ignore_row(row: Row, done: int, total: int) -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Batch:
    """The batch of a folder: its scenes, the names of their outputs, and what is known of them.

    Attributes:
        folder: of the batch.
        places: the scenes.
        names: of their outputs.
        before: rows of earlier runs, by scene.
        overwrite: whether finished outputs are made again.
        made_by: sha256 of the model; None: of any.
        made_with: a hash of all options that the outputs depend on.
    """

    folder: Path
    places: tuple[Path, ...]
    names: tuple[str, ...]
    before: Mapping[str, Row]
    overwrite: bool
    made_by: str | None
    made_with: str = ""

    def run(
        self,
        function: Callable[[Any], Any],
        item: Callable[[Path, Path], Any],
        client: Any,
        jobs: int | None,
        retries: int,
        on_row: OnRow = ignore_row,
        suffix: str = "",
    ) -> list[Row]:
        """Do what is not done, and write a row for each scene as soon as it is known.

        Args:
            function: makes the output of one scene.
            item: returns the argument of `function` for a scene and the path of its output.
            client: of Dask, or None.
            jobs: processes on this machine without a client; None: one for each core.
            retries: see `unmix_many`.
            on_row: see `unmix_many`.
            suffix: of outputs that are files; none: they are folders with a summary.json.
        """
        rows: dict[int, Row] = {}
        path = self.folder / TABLE
        asked = {str(place) for place in self.places}
        write_rows(path, [row for scene, row in self.before.items() if scene not in asked])

        def add(number: int, row: Row) -> None:
            rows[number] = row
            append_row(path, row)
            on_row(row, len(rows), len(self.places))

        made = read_made(self.folder)
        left = []
        for number, (place, name) in enumerate(zip(self.places, self.names, strict=True)):
            row = self._kept(place, name, suffix, made)
            if row is None:
                left.append(number)
            else:
                add(number, row)
        if left:
            outputs = [self.folder / self.names[number] for number in left]
            marks = [output.with_name(output.name + suffix) if suffix else output / SUMMARY for output in outputs]
            items = [
                _Task(item(self.places[number], output), None if self.overwrite else mark)
                for number, output, mark in zip(left, outputs, marks, strict=True)
            ]
            # What is known of an output has to be there before it is; of one that is replaced only after it is.
            for number, mark in zip(left, marks, strict=True):
                made.pop(self.names[number], None)
                if not mark.is_file():
                    made[self.names[number]] = self._made_with(self.places[number])
            write_made(self.folder, made)
            jobs = min(cluster.cores() if jobs is None else jobs, len(left))
            alone = client is not None or jobs == 1
            with nullcontext(client) if alone else cluster.local(jobs, retries) as workers:
                keys = [f"{self.names[number]}-{os.urandom(4).hex()}" for number in left]
                for outcome in cluster.run(_Timed(function), items, workers, retries, keys):
                    number = left[outcome.number]
                    row = self._row(number, outcome)
                    if self.overwrite and row.state == DONE:
                        made[self.names[number]] = self._made_with(self.places[number])
                        write_made(self.folder, made)
                    add(number, row)
        return [rows[number] for number in range(len(self.places))]

    def _row(self, number: int, outcome: cluster.Outcome) -> Row:
        scene, name = str(self.places[number]), self.names[number]
        if outcome.error is not None:
            return Row(scene, name, float("nan"), FAILED, sentence_of(outcome.error))
        seconds, error = outcome.value
        return Row(scene, name, seconds, DONE) if error is None else Row(scene, name, seconds, FAILED, error)

    def _made_with(self, place: Path) -> str:
        """Return a hash of the options and of the state of a scene."""
        state = None if isinstance(place, Remote) or not place.exists() else stamp(place)
        return hashlib.sha256(repr((self.made_with, state)).encode()).hexdigest()[:20]

    def _kept(self, place: Path, name: str, suffix: str, made: Mapping[str, str]) -> Row | None:
        """Return the row of a scene whose output is there, or None."""
        output = self.folder / name
        mark = output.with_name(output.name + suffix) if suffix else output / SUMMARY
        if self.overwrite or not mark.is_file():
            return None
        scene = str(place)
        if not suffix and self.made_by is not None and _made_by(output) != self.made_by:
            text = (
                f"{output} is of another model; expected a new folder for another model, or its replacement. Name "
                "another folder, or pass overwrite=True (--force on the command line)."
            )
            return Row(scene, name, float("nan"), FAILED, text)
        if made.get(name) != self._made_with(place):
            text = (
                f"{mark if suffix else output} is there, and was made with other options, or before the scene was "
                "changed, or not by this command; expected a new folder for other options, or its replacement. Name "
                "another folder, or pass overwrite=True (--force on the command line)."
            )
            return Row(scene, name, float("nan"), FAILED, text)
        before = self.before.get(scene)
        return Row(scene, name, float("nan") if before is None else before.seconds, KEPT)


@contextmanager
def batch_of(
    folder: Path, places: Sequence[Path], overwrite: bool, made_by: str | None = None, made_with: str = ""
) -> Iterator[Batch]:
    """Yield the batch of a folder, which no other process works on meanwhile.

    Args:
        folder: made if it does not exist.
        places: the scenes.
        overwrite: whether finished outputs are made again.
        made_by: sha256 of the model, or None.
        made_with: a hash of all options that the outputs depend on.

    Raises:
        InputError: another process works on this folder, it cannot be made, or holds another table of this name.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; expected the name of a folder for many outputs. Choose another.")
    folder.mkdir(parents=True, exist_ok=True)
    with only_writer(folder / TABLE):
        before = {row.scene: row for row in read_rows(folder / TABLE)}
        names = names_for(places, {scene: row.output for scene, row in before.items()})
        yield Batch(folder, tuple(places), tuple(names), before, overwrite, made_by, made_with)


class _Task(NamedTuple):
    """A scene: the argument of the function that does it, and the file that is there when it is done, or None."""

    item: Any
    mark: Path | None


class _Timed:
    """A function that returns the seconds it took, and the sentence of an InputError.

    Where a process dies before its answer is fetched, Dask runs the task again, and the output is there.
    """

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function
        self.__name__ = function.__name__

    def __call__(self, task: _Task) -> tuple[float, str | None]:
        if task.mark is not None and task.mark.is_file():
            return float("nan"), None
        began = time.perf_counter()
        try:
            self.function(task.item)
        except InputError as error:
            return time.perf_counter() - began, sentence_of(error)
        return time.perf_counter() - began, None


def _made_by(output: Path) -> Any:
    """Return the checksum of the model of an output, or None."""
    try:
        return read_record(output)["model_file"]["sha256"]
    except (InputError, OSError, KeyError, TypeError):
        return None
