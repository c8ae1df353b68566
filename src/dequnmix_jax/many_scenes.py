"""Many scenes by one model, on the processes of this machine or of a cluster; what is finished is not done again."""

import csv
import glob
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dequnmix_jax.checks import InputError, sentence_of
from dequnmix_jax.equilibrium.config import Model
from dequnmix_jax.io import stac
from dequnmix_jax.io.lock import only_writer
from dequnmix_jax.io.provenance import SUMMARY
from dequnmix_jax.io.raw import stamp
from dequnmix_jax.io.remote import Remote, as_local, as_place
from dequnmix_jax.parallel import cluster
from dequnmix_jax.results import files
from dequnmix_jax.results.record import read_record
from dequnmix_jax.results.writer import write_result
from dequnmix_jax.scenes.read_options import ReadOptions
from dequnmix_jax.scenes.scene import check_scene, mask_invalid
from dequnmix_jax.trained import TrainedModel, load_model, open_for, unmix_by, with_bands_of

TABLE = "batch.csv"
"""Name of the table of a batch, in its folder."""

DONE, KEPT, FAILED = "done", "kept", "failed"

_PATTERN = "*?["

_MADE = ".batch.json"
"""Name of the file that says with which options each output was made."""


class Row(NamedTuple):
    """What became of a scene: a row of batch.csv.

    Attributes:
        scene: its path or URL.
        output: name of its output in the folder of the batch.
        seconds: wall time of its task, reading and writing included; of a kept one those of the run that did it, NaN
            where that is not known.
        state: "done"; "kept", finished by an earlier run; or "failed".
        sentence: why it failed; empty otherwise.
    """

    scene: str
    output: str
    seconds: float
    state: str
    sentence: str = ""


OnRow = Callable[[Row, int, int], None]
"""Called with a row, the number of rows so far, and the number of scenes."""


def ignore_row(row: Row, done: int, total: int) -> None:
    """Do nothing."""


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
    with table_of(target, places, overwrite, made_by, repr((who, options.given(), format))) as table:
        return table.run(_unmix_one, item, client, jobs, retries, on_row)


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
                f"model is a tuple of {len(model)} values; expected a file that `dequnmix fit` made, or (params, "
                "config). Pass one of these."
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


# --- which scenes, and under which names -----------------------------------------------------------------------------


def is_list(word: Path) -> bool:
    """Return whether a word means several scenes: a pattern, a text file, or a STAC item or collection of items."""
    if word.suffix.lower() == stac.SUFFIX:
        return True
    if isinstance(word, Remote):
        return False
    return word.suffix.lower() == ".txt" or _is_pattern(word)


def _is_pattern(word: Path) -> bool:
    return not isinstance(word, Remote) and any(c in str(word) for c in _PATTERN) and not word.exists()


def places_of(scenes: Any) -> list[Path]:
    """Return the scenes that paths, URLs, patterns and text files name, each once.

    Raises:
        InputError: a pattern or a text file names none, or a text file cannot be read.
    """
    words = [scenes] if isinstance(scenes, str | os.PathLike) else list(scenes)
    places = [place for word in words for place in _expanded(word if isinstance(word, Remote) else as_place(word))]
    if not places:
        raise InputError("No scenes are given; expected paths, patterns or text files. Name at least one.")
    several: dict[Any, Path] = {}  # one scene may be named in several ways
    for place in places:
        several.setdefault(place if isinstance(place, Remote) else place.resolve(), place)
    return list(several.values())


def _expanded(word: Any) -> list[Path]:
    if not is_list(word):
        return [word]
    if word.suffix.lower() == stac.SUFFIX and not _is_pattern(word):
        return _of_items(word)
    if word.suffix.lower() == ".txt" and word.exists():
        found = [
            place
            for line in _lines(word)
            for match in (_matches(line) if _is_pattern(line) else [line])
            for place in _of_items(match)
        ]
    else:
        found = [place for match in _matches(word) for place in _of_items(match)]
    if not found:
        raise InputError(f"{word} names no scene; expected at least one. Check the spelling and the folder.")
    return found


def _of_items(place: Path) -> list[Path]:
    return stac.scenes_of(place) if place.suffix.lower() == stac.SUFFIX else [place]


def _matches(pattern: Path) -> list[Path]:
    """Return the paths that a pattern matches, sorted."""
    return [Path(name) for name in sorted(glob.glob(str(pattern), recursive=True))]  # noqa: PTH207 - of absolute ones too


def _lines(path: Path) -> list[Any]:
    """Return the scenes that a text file names."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); expected a list of scenes, one in each line.") from error
    return [as_place(line.strip()) for line in lines if line.strip() and not line.lstrip().startswith("#")]


def names_for(places: Sequence[Path], taken: Mapping[str, str] | None = None) -> list[str]:
    """Return a name for the output of each scene: that of its file, with its folders where several have that name.

    Args:
        places: the scenes, all different.
        taken: names that outputs of scenes have already; these keep theirs, and no other gets it.
    """
    taken = {} if taken is None else taken
    known = [taken.get(str(place)) for place in places]
    used = set(taken.values())
    # The folders above, one after the other, until all names differ; then the suffix too.
    parts = [[*(part for part in _parents(place) if part), place.stem] for place in places]
    depth = [1] * len(places)
    names = [part[-1] for part in parts]
    for _ in range(max(map(len, parts))):
        twice = Counter(names)
        clash = [
            own is None and (twice[name] > 1 or name in used) and deep < len(part)
            for own, name, deep, part in zip(known, names, depth, parts, strict=True)
        ]
        if not any(clash):
            break
        depth = [deep + more for deep, more in zip(depth, clash, strict=True)]
        names = ["_".join(part[-deep:]) for part, deep in zip(parts, depth, strict=True)]
    twice = Counter(names)
    found = [
        own or (name if twice[name] == 1 and name not in used else f"{name}{place.suffix}".replace(".", "_"))
        for own, name, place in zip(known, names, places, strict=True)
    ]
    used |= {own for own in known if own}
    for number, name in enumerate(found):
        if known[number] is None:
            several = 1
            while found[number] in used:  # such as a/b_x and a_b/x
                several += 1
                found[number] = f"{name}_{several}"
            used.add(found[number])
    return found


def _parents(place: Path) -> list[str]:
    text = str(place.parent) if isinstance(place, Remote) else str(place.parent.resolve())
    return text.replace("://", "/").strip("/").replace("\\", "/").replace(":", "").split("/")


# --- the table -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
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
        _write(path, [row for scene, row in self.before.items() if scene not in asked])

        def add(number: int, row: Row) -> None:
            rows[number] = row
            with path.open("a", newline="", encoding="utf-8") as file:
                csv.writer(file).writerow(_cells(row))
            on_row(row, len(rows), len(self.places))

        made = _read_made(self.folder)
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
            _write_made(self.folder, made)
            jobs = min(cluster.cores() if jobs is None else jobs, len(left))
            alone = client is not None or jobs == 1
            with nullcontext(client) if alone else cluster.local(jobs, retries) as workers:
                keys = [f"{self.names[number]}-{os.urandom(4).hex()}" for number in left]
                for outcome in cluster.run(_Timed(function), items, workers, retries, keys):
                    number = left[outcome.number]
                    row = self._row(number, outcome)
                    if self.overwrite and row.state == DONE:
                        made[self.names[number]] = self._made_with(self.places[number])
                        _write_made(self.folder, made)
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
def table_of(
    folder: Path, places: Sequence[Path], overwrite: bool, made_by: str | None = None, made_with: str = ""
) -> Iterator[Table]:
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
        before = {row.scene: row for row in _read(folder / TABLE)}
        names = names_for(places, {scene: row.output for scene, row in before.items()})
        yield Table(folder, tuple(places), tuple(names), before, overwrite, made_by, made_with)


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


def _read_made(folder: Path) -> dict[str, str]:
    """Return what each output of a folder was made with, by its name."""
    try:
        held = json.loads((folder / _MADE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(what) for name, what in held.items()} if isinstance(held, dict) else {}


def _write_made(folder: Path, made: Mapping[str, str]) -> None:
    part = folder / f"{_MADE}.part"
    part.write_text(json.dumps(made), encoding="utf-8")
    part.replace(folder / _MADE)


def _made_by(output: Path) -> Any:
    """Return the checksum of the model of an output, or None."""
    try:
        return read_record(output)["model_file"]["sha256"]
    except (InputError, OSError, KeyError, TypeError):
        return None


def _cells(row: Row) -> list[str]:
    return [row.scene, row.output, "" if np.isnan(row.seconds) else f"{row.seconds:.2f}", row.state, row.sentence]


def _write(path: Path, rows: Sequence[Row]) -> None:
    """Write the table of these rows, at once."""
    part = path.with_name(f".{path.name}.part")
    with part.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([list(Row._fields), *map(_cells, rows)])
    part.replace(path)


def _read(path: Path) -> list[Row]:
    """Return the rows of an earlier run; lines that are not rows are left out."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        head = next(csv.reader(file), [])
        if head and head != list(Row._fields):
            raise InputError(
                f"{path} is another table ({', '.join(head)[:60]}); expected none, or that of an earlier run of this "
                "command. It is not replaced; name another folder."
            )
        cells = [line for line in csv.reader(file) if len(line) == len(Row._fields)]
    rows = []
    for scene, output, seconds, state, sentence in cells:
        if state in (DONE, KEPT, FAILED) and output and Path(output).name == output:
            try:
                rows.append(Row(scene, output, float(seconds or "nan"), state, sentence))
            except ValueError:
                continue
    return rows
