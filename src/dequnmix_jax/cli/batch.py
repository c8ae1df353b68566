"""Many scenes by one command: each in a process of this machine or of a cluster, failures in a table."""

import io
import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from dequnmix_jax.checks import InputError, how_many
from dequnmix_jax.cli.options import BatchOptions, ReportOptions, UnmixOptions
from dequnmix_jax.cli.progress import Line, clock_text
from dequnmix_jax.cli.scene_options import warn
from dequnmix_jax.io.provenance import file_record
from dequnmix_jax.io.raw import stamp
from dequnmix_jax.many_scenes.batch import batch_of
from dequnmix_jax.many_scenes.names import is_list, places_of
from dequnmix_jax.many_scenes.table import FAILED, TABLE, Row
from dequnmix_jax.parallel import cluster
from dequnmix_jax.results import files

Options = TypeVar("Options", UnmixOptions, ReportOptions)

_ALONE = BatchOptions((), None, None, None, 2)


def is_batch(words: tuple[Path, ...]) -> bool:
    """Return whether words mean many scenes: more than one, a pattern, or a text file."""
    return len(words) > 1 or any(is_list(word) for word in words)


class _Quietly:
    """A command that prints nothing."""

    def __init__(self, command: Callable[[Any], None]) -> None:
        self.command = command
        self.__name__ = command.__name__

    def __call__(self, options: Any) -> None:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            self.command(options)


class _Progress:
    """A line on stderr: scenes done and failed, scenes per second, and the time left; failures are printed above it."""

    def __init__(self) -> None:
        self.line, self.began = Line(), time.perf_counter()
        self.worked = self.failed = 0

    def __call__(self, row: Row, done: int, total: int) -> None:
        self.worked += row.state != "kept"
        if row.state == FAILED:
            self.failed += 1
            self.line.clear()
            warn(f"warning: {row.scene}: {row.sentence}")
        filled = round(24 * done / total)
        text = f"scenes [{'#' * filled}{'.' * (24 - filled)}] {done}/{total}"
        text += f", {self.failed} failed" if self.failed else ""
        if self.worked:
            rate = self.worked / max(time.perf_counter() - self.began, 1e-9)
            text += f"  {rate:.2g}/s  {clock_text((total - done) / rate)} left"
        self.line.show(text)


def run_batch(
    command: Callable[[Options], None],
    options: Options,
    words: tuple[Path, ...],
    folder: Path,
    of_scene: Callable[[Options, Path, Path], Options],
    suffix: str = "",
    model: Path | None = None,
) -> None:
    """Run a command for each of many scenes, and write and print what became of them.

    Args:
        command: of one scene.
        options: for all scenes.
        words: that name the scenes.
        folder: of the outputs.
        of_scene: returns the options of one scene and its output.
        suffix: of the outputs, ".html" for pages; none: folders.
        model: file of the model, whose outputs are kept; None: none, or another for each scene.

    Raises:
        InputError: no scene is named, or some of them failed.
    """
    batch = options.batch
    if files.format_of(folder, None)[1] or folder.suffix.lower() == ".html":
        raise InputError(f"{folder} is one file, and there are many scenes; expected a folder. Pass -o FOLDER.")
    places, progress = places_of(words), _Progress()
    made_by = None if model is None else file_record(model)["sha256"]
    plain_options = replace(options, batch=_ALONE, output=Path(), force=False, json=False)
    plain_options = replace(plain_options, scene=replace(plain_options.scene, file=Path()))
    inputs = [path for path in (getattr(options, "endmembers", None), getattr(options, "library", None)) if path]
    states = [stamp(path) for path in inputs if isinstance(path, Path) and path.is_file()]
    made_with = repr((made_by, plain_options, states))

    def item(place: Path, output: Path) -> Options:
        return of_scene(replace(options, batch=_ALONE), place, output.with_name(output.name + suffix))

    scheduler = cluster.workers(batch.jobs if batch.scheduler else None, batch.scheduler)
    with scheduler as client, batch_of(folder, places, options.force, made_by, made_with) as running:
        try:
            rows = running.run(_Quietly(command), item, client, batch.jobs, batch.retries, progress, suffix)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("interrupted; finished scenes are kept, and the same command goes on.") from None
        finally:
            progress.line.clear()
    _print_rows(rows, folder, options.json)


def _print_rows(rows: list[Row], folder: Path, as_json: bool) -> None:
    counts = Counter(row.state for row in rows)
    if as_json:
        each = [row._asdict() | {"seconds": None if row.seconds != row.seconds else row.seconds} for row in rows]
        print(json.dumps({"scenes": each, **counts, "table": str(folder / TABLE)}, indent=2, allow_nan=False))
    else:
        words = ", ".join(f"{counts[state]} {state}" for state in ("done", "kept", "failed") if counts[state])
        print(f"{how_many(len(rows), 'scene')}: {words}\n{folder / TABLE}")
    if counts[FAILED]:
        raise InputError(
            f"{counts[FAILED]} of {len(rows)} scenes failed; {folder / TABLE} says why. The same command tries them "
            "again."
        )
