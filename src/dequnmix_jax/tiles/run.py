"""Stages of a tiled unmixing: each keeps its results, so that a killed run resumes where it was."""

import errno
import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from dequnmix_jax.abundances import nonlinear
from dequnmix_jax.abundances.methods import Known
from dequnmix_jax.checks import InputError
from dequnmix_jax.equilibrium.config import Model
from dequnmix_jax.equilibrium.scene_statistics import Scenewide, pooling_reach
from dequnmix_jax.io.disk_space import in_words
from dequnmix_jax.io.raw import Guard
from dequnmix_jax.parallel import cluster
from dequnmix_jax.tiles import halo as tiles_halo
from dequnmix_jax.tiles import solve as tiles_solve
from dequnmix_jax.tiles import tasks
from dequnmix_jax.tiles.channels import Channels
from dequnmix_jax.tiles.grid import Plan, choose_size, plan
from dequnmix_jax.tiles.journal import Store, Work
from dequnmix_jax.tiles.options import Progress
from dequnmix_jax.tiles.output import Export
from dequnmix_jax.tiles.records import sound_record, sound_state
from dequnmix_jax.tiles.survey import Survey, View, glance, strips, survey_of
from dequnmix_jax.types import Params

_TRIES = 3
"""How often finished tiles are read back, and unmixed again where they differ from what was written."""


class Prepared(NamedTuple):
    """What is known of a scene before its tiles are unmixed.

    Attributes:
        survey: of the scene.
        whole: statistics of the whole scene that each solve needs.
        plan: how the scene is cut.
        halo: of the tiles.
    """

    survey: Survey
    whole: Scenewide
    plan: Plan
    halo: tiles_halo.HaloWidth


@dataclass(frozen=True)
class Run:
    """A tiled unmixing.

    Attributes:
        params: from `init` or `fit`.
        seen: the scene.
        config: the parts of the map.
        tile: N, for tiles of N x N pixels, or None.
        halo: pixels around a tile; None: measured.
        guard: notices changes of the input.
        on_progress: see `options.Progress`.
        client: of Dask, whose workers do the parts; None: this process.
        retries: how often a part is tried again whose worker died.
        known: the method, where each pixel is unmixed by known spectra; None: by the map of `config`.
        given: statistics of another scene, that of the training, to use in place of those of this one; or None.
    """

    params: Params
    seen: View
    config: Model
    tile: int | None
    halo: int | None
    guard: Guard
    on_progress: Progress
    client: Any = None
    retries: int = 2
    known: Known | None = None
    given: Scenewide | None = None

    def fingerprint(self) -> str:
        """Return a hash of everything that determines the result; for an input in memory, of its values and mask."""
        digest = hashlib.sha256()
        stored, path = self.seen.stored, self.guard.path if self.seen.stored.lazy else None
        known = (stored.nodata, stored.scale, stored.saturation, stored.shape, self.seen.drop, self.tile, self.halo)
        who = None if path is None else (str(path.resolve()), self.guard.stamp)
        digest.update(repr((self.config, self.known, known, who, tasks.versions())).encode())
        for part in (stored.gains, stored.offsets, self.seen.bands, stored.use):
            _add(digest, part)
        if path is None:  # in memory, where mask and values may differ from any file
            for part in stored.stored(None)[:2]:
                _add(digest, part)
        more = {} if self.given is None else {"whole": self.given}
        for place, leaf in jax.tree_util.tree_leaves_with_path(self.params | more):
            digest.update(f"{jax.tree_util.keystr(place)} {np.shape(leaf)} {np.asarray(leaf).dtype}".encode())
            _add(digest, leaf)
        return digest.hexdigest()

    def sound(self, state: Mapping[str, Any]) -> bool:
        """Return whether the numbers that an earlier run has kept are plausible for this scene and model."""
        width = 0 if self.config.network is None else self.config.network.width
        return sound_state(state, self.seen.source.shape, width)

    def part(self, *more: Any, **named: Any) -> tasks.Part:
        """Return what all tasks of a stage share; its last fields are given."""
        params = jax.tree.map(np.asarray, self.params)
        return tasks.Part(self.seen, self.guard, tasks.versions(), params, self.config, self.known, *more, **named)

    def each(self, stage: str, function: Callable[..., Any], items: Any, **more: Any) -> list[Any]:
        """Return what a function of `tasks` returns for all items; `more` are fields of `tasks.Part`."""
        part = self.part(**more)
        self.on_progress(stage, 0.0, 0, 0)

        def on_progress(done: int, total: int) -> None:
            self.on_progress(stage, done / total, 0, 0)

        found = tasks.each(function, list(items), part, self.client, self.retries, on_progress)
        self.guard.check()
        return found

    def survey(self, work: Work) -> Survey:
        """Read through the scene, or return what an earlier run has kept of that."""
        kept = work.state.get("survey")
        if kept is None:
            shape = self.seen.source.shape
            windows = strips(shape) if self.given is None else glance(shape)
            found = self.each("looking through", tasks.strip, windows)
            if self.given is not None and not any(strip.valid or strip.bad for strip in found):
                found = self.each("looking through", tasks.strip, strips(shape))  # masked wherever it was looked at
            survey = survey_of(found, self.seen)
            if self.config.nonlinear is not None:
                nonlinear.check_unit(survey.scale)
            if self.given is not None:
                survey = survey._replace(scale=float(self.given.scale))
            kept = survey._asdict() | {"colour_limits": survey.colour_limits.tolist()}
            work.remember(survey=kept)
        colours = {"colour_limits": np.asarray(kept["colour_limits"]), "colour_bands": tuple(kept["colour_bands"])}
        return Survey(**(kept | colours))

    def prepare(self, work: Work, survey: Survey) -> Prepared:
        """Compute the statistics of the whole scene, measure the halo and cut the scene into tiles."""
        height, width, bands = shape = self.seen.source.shape
        pools = work.state.get("pools")
        if pools is None and self.given is not None:
            pools = [np.asarray(values).tolist() for values in self.given.pools or ()]
            work.remember(pools=pools)
        if pools is None:
            size = choose_size(height, width, bands, pooling_reach(self.config), self.tile)
            tiles = tiles_solve.pool_plan(shape, self.config, size)
            pools = []
            if tiles is not None:
                found = self.each("pooling", tasks.pool, range(len(tiles.tiles)), survey=survey, tiles=tiles)
                both = tiles_solve.pooled(found, survey).pools
                assert both is not None
                pools = [np.asarray(values).tolist() for values in both]
            work.remember(pools=pools)
        arrays: Any = tuple(np.asarray(values, np.float32) for values in pools) or None
        whole = Scenewide(np.asarray(survey.scale, np.float32), arrays)  # type: ignore[arg-type]  # as it travels
        measured = work.state.get("reach")
        if measured is None:
            if self.known is not None:  # no pixel depends on another
                measured = [0, None, None]
            elif self.halo is None:
                windows = tiles_halo.windows(shape, self.config)
                found = self.each("measuring the halo", tasks.halo_window, windows, whole=whole) if windows else []
                measured = list(tiles_halo.width_of(found, self.config))
            else:
                measured = [self.halo, None, None]
            work.remember(reach=measured)
        halo = tiles_halo.HaloWidth(*measured)
        size = choose_size(height, width, bands, halo.halo, self.tile)
        return Prepared(survey, whole, plan(height, width, *size, halo.halo), halo)

    def write(self, function: Callable[..., list[Path]], names: Sequence[str], export: Export) -> list[list[Path]]:
        """Write the large files of a result, `output.Each`."""
        found: dict[int, list[Path]] = {}
        for outcome in cluster.run(function, names, self.client, 0, shared=export):
            if outcome.error is not None:
                raise outcome.error
            found[outcome.number] = outcome.value
            self.on_progress("writing", len(found) / len(names), 0, len(names))
        return [found[number] for number in range(len(names))]

    def solve(self, store: Store, prepared: Prepared, channels: Channels) -> int:
        """Unmix the unfinished tiles, and return how many were finished before."""
        finished, total = store.finished(sound_record), len(store.cores)
        left = [number for number in range(total) if number not in finished]
        self.on_progress("unmixing", len(finished) / total, 0, total)

        def on_progress(done: int, _: int) -> None:
            self.on_progress("unmixing", (len(finished) + done) / total, done, total)

        part = self.part(prepared.whole, prepared.survey, prepared.plan, store, channels)
        tasks.each(tasks.unmix, left, part, self.client, self.retries, on_progress)
        return len(finished)

    def complete(self, store: Store, prepared: Prepared, channels: Channels) -> list[dict[str, Any]]:
        """Return the records of all tiles in order; a damaged tile is unmixed again.

        Raises:
            OSError: tiles are damaged however often they are written.
        """
        total = len(store.cores)
        for _ in range(_TRIES):
            done = store.finished(sound_record)
            if len(done) == total:
                return [done[number] for number in range(total)]
            self.solve(store, prepared, channels)
        raise OSError(
            errno.EIO,
            f"{total - len(done)} of {total} tiles are read back otherwise than they were written, "
            f"{_TRIES} times; the disk or its driver is at fault",
            str(store.path),
        )


def _add(digest: Any, values: Any) -> None:
    """Add an array or None to a hash."""
    if values is None:
        digest.update(b"-")
        return
    array = np.ascontiguousarray(values)
    digest.update(f"{array.shape} {array.dtype}".encode())
    digest.update(memoryview(array.reshape(-1).view(np.uint8)))  # type: ignore[arg-type]


def check_free_space(folder: Path, shape: tuple[int, int, int], channels: int) -> None:
    """Raise InputError if the disk is too small for the maps of the tiles and the output made of them.

    Args:
        folder: of the work.
        shape: of the scene.
        channels: float32 numbers per pixel.
    """
    output = folder.name.removeprefix(".").removesuffix(".tiles")
    needed = 2 * 4 * shape[0] * shape[1] * channels
    used = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    free = shutil.disk_usage(folder).free
    if free + used < needed:
        raise InputError(
            f"The file system of {folder.parent.absolute()} has {in_words(free)} free, and {output} needs up to "
            f"{in_words(needed)} while it is made, {in_words(used)} of which it has; expected more free space. Free "
            "some, or choose an output on another disk."
        )
