"""Stages of a tiled unmixing: each keeps its results, so that a killed run resumes where it was."""

import errno
import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dequnmix_jax.abundances.methods import Known
from dequnmix_jax.checks import InputError
from dequnmix_jax.equilibrium.config import Model
from dequnmix_jax.equilibrium.scene_statistics import Scenewide, pooling_reach
from dequnmix_jax.io.disk_space import in_words
from dequnmix_jax.io.provenance import package_version
from dequnmix_jax.io.raw import Guard
from dequnmix_jax.parallel.processes import ALONE, Team
from dequnmix_jax.scenes.source import Window
from dequnmix_jax.tiles import halo as tiles_halo
from dequnmix_jax.tiles import solve as tiles_solve
from dequnmix_jax.tiles.grid import Plan, choose_size, plan
from dequnmix_jax.tiles.journal import Work
from dequnmix_jax.tiles.options import Progress
from dequnmix_jax.tiles.output import Channels
from dequnmix_jax.tiles.records import sound_record, sound_state
from dequnmix_jax.tiles.survey import Survey, View, scan
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
        team: the processes that divide the tiles.
        known: the method, where each pixel is unmixed by known spectra; None: by the map of `config`.
    """

    params: Params
    seen: View
    config: Model
    tile: int | None
    halo: int | None
    guard: Guard
    on_progress: Progress
    team: Team = ALONE
    known: Known | None = None

    def fingerprint(self) -> str:
        """Return a hash of everything that determines the result; for an input in memory, of its values and mask."""
        digest = hashlib.sha256()
        stored, path = self.seen.stored, self.guard.path if self.seen.stored.lazy else None
        known = (stored.nodata, stored.scale, stored.saturation, stored.shape, self.seen.drop, self.tile, self.halo)
        who = None if path is None else (str(path.resolve()), self.guard.stamp)
        versions = (package_version("dequnmix-jax"), jax.__version__, jax.default_backend())
        digest.update(repr((self.config, self.known, known, who, versions)).encode())
        for part in (stored.gains, stored.offsets, self.seen.bands, stored.use):
            _add(digest, part)
        if path is None:  # in memory, where mask and values may differ from any file
            for part in stored.stored(None)[:2]:
                _add(digest, part)
        for place, leaf in jax.tree_util.tree_leaves_with_path(self.params):
            digest.update(f"{jax.tree_util.keystr(place)} {np.shape(leaf)} {np.asarray(leaf).dtype}".encode())
            _add(digest, leaf)
        return digest.hexdigest()

    def sound(self, state: Mapping[str, Any]) -> bool:
        """Return whether the numbers that an earlier run has kept are plausible for this scene and model."""
        width = 0 if self.config.network is None else self.config.network.width
        return sound_state(state, self.seen.source.shape, width)

    def survey(self, work: Work) -> Survey:
        """Read through the scene, or return what an earlier run has kept of that."""
        kept = work.state.get("survey")
        if kept is None:
            survey = scan(self.seen, lambda share: self.on_progress("looking through", share, 0, 0))
            self.guard.check()
            kept = survey._asdict() | {"colour_limits": survey.colour_limits.tolist()}
            work.remember(survey=kept)
        colours = {"colour_limits": np.asarray(kept["colour_limits"]), "colour_bands": tuple(kept["colour_bands"])}
        return Survey(**(kept | colours))

    def prepare(self, work: Work, survey: Survey) -> Prepared:
        """Compute the statistics of the whole scene, measure the halo and cut the scene into tiles."""
        height, width, bands = self.seen.source.shape
        pools = work.state.get("pools")
        if pools is None:
            size = choose_size(height, width, bands, pooling_reach(self.config), self.tile)
            whole = tiles_solve.statistics(
                self.params,
                self.seen,
                survey,
                self.config,
                size,
                lambda share: self.on_progress("pooling", share, 0, 0),
            )
            self.guard.check()
            pools = [] if whole.pools is None else [np.asarray(pool).tolist() for pool in whole.pools]
            work.remember(pools=pools)
        both = [jnp.asarray(np.asarray(pool, np.float32)) for pool in pools]
        whole = Scenewide(jnp.asarray(survey.scale, jnp.float32), (both[0], both[1]) if both else None)
        measured = work.state.get("reach")
        if measured is None:
            if self.known is not None:  # no pixel depends on another
                measured = [0, None, None]
            elif self.halo is None:
                self.on_progress("measuring the halo", 0.0, 0, 0)
                measured = list(tiles_halo.measure(self.params, self.seen, self.config, whole))
            else:
                measured = [self.halo, None, None]
            work.remember(reach=measured)
        halo = tiles_halo.HaloWidth(*measured)
        size = choose_size(height, width, bands, halo.halo, self.tile)
        return Prepared(survey, whole, plan(height, width, *size, halo.halo), halo)

    def solve(self, work: Work, prepared: Prepared, channels: Channels) -> int:
        """Unmix this process's share of the unfinished tiles, and return how many were finished before."""
        survey, tiles = prepared.survey, prepared.plan
        entries = work.intact_records(_cores(tiles), sound_record)
        resumed, total = len(entries), len(tiles.tiles)
        numbers = {(tile.core.rows.start, tile.core.columns.start): i for i, tile in enumerate(tiles.tiles)}
        wanted = self.team.mine([tile for i, tile in enumerate(tiles.tiles) if i not in entries])
        low, high = np.asarray(survey.colour_limits)
        self.on_progress("unmixing", resumed / total, 0, total)
        answers = tiles_solve.solve(self.params, self.seen, self.config, prepared.whole, tiles, wanted, self.known)
        for done, (tile, answer, cube, mask) in enumerate(answers, start=1):
            self.guard.check()
            record: dict[str, Any] = {"valid": int(mask.sum())}
            if answer is None:
                values = np.zeros((*mask.shape, channels.total), np.float32)
            else:
                colours = (cube[..., list(survey.colour_bands)] - low) / np.where(high > low, high - low, 1)
                values = channels.gather(
                    answer.abundances,
                    np.round(255 * np.clip(colours, 0, 1)) * mask[..., None],
                    brightness=answer.brightness,
                    residual=answer.residual,
                    convergence=answer.change,
                    valid=mask,
                )
                record |= {
                    "steps": int(answer.trace.steps),
                    "residual": float(answer.trace.residual),
                    "converged": bool(answer.trace.converged),
                    "size": float(np.sum(answer.size, dtype=np.float64)),
                }
            number = numbers[tile.core.rows.start, tile.core.columns.start]
            work.put(number, tile.core, values, record)
            # The other processes are assumed to have done as much meanwhile.
            share = min((resumed + done * self.team.size) / total, 1.0)
            self.on_progress("unmixing", share, done * self.team.size, total)
        return resumed

    def tidy(self, work: Work, tiles: Plan) -> None:
        """Remove damaged records of tiles, before other processes join."""
        work.finished(_cores(tiles), sound_record)

    def intact(self, work: Work, tiles: Plan) -> list[dict[str, Any]]:
        """Return the intact records of tiles."""
        return list(work.intact_records(_cores(tiles), sound_record).values())

    def complete(self, work: Work, prepared: Prepared, channels: Channels) -> list[dict[str, Any]]:
        """Return the records of all tiles in order; a damaged tile is unmixed again.

        Raises:
            OSError: tiles are damaged however often they are written.
        """
        cores = _cores(prepared.plan)
        for _ in range(_TRIES):
            done = work.finished(cores, sound_record)
            if len(done) == len(cores):
                return [done[number] for number in range(len(cores))]
            replace(self, team=ALONE).solve(work, prepared, channels)
        raise OSError(
            errno.EIO,
            f"{len(cores) - len(done)} of {len(cores)} tiles are read back otherwise than they were written, "
            f"{_TRIES} times; the disk or its driver is at fault",
            str(work.folder / "maps.raw"),
        )


def _add(digest: Any, values: Any) -> None:
    """Add an array or None to a hash."""
    if values is None:
        digest.update(b"-")
        return
    array = np.ascontiguousarray(values)
    digest.update(f"{array.shape} {array.dtype}".encode())
    digest.update(memoryview(array.reshape(-1).view(np.uint8)))  # type: ignore[arg-type]


def _cores(tiles: Plan) -> list[Window]:
    return [tile.core for tile in tiles.tiles]


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
