"""The stages of a tiled unmixing: each keeps what it finds, so that a run that was killed goes on where it was."""

import errno
import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

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
from dequnmix_jax.tiles.output import Channels
from dequnmix_jax.tiles.records import sound_record, sound_state
from dequnmix_jax.tiles.survey import Survey, View, look
from dequnmix_jax.types import Params

_TRIES = 3
"""Times that tiles are looked at which were written, and done again where they are not what was written."""

Watch = Callable[[str, float, int, int], None]
"""Is told the stage, its share done, tiles done in this run and tiles of the scene."""


@dataclass(frozen=True)
class Run:
    """A tiled unmixing.

    Attributes:
        params: from `init` or `fit`.
        seen: the scene.
        config: the parts of the map.
        tile: N, for tiles of N x N pixels, or None.
        halo: pixels around a tile, or None for what is measured.
        guard: watches the input.
        watch: is told how far it is.
        team: the processes among which the tiles are divided.
    """

    params: Params
    seen: View
    config: Model
    tile: int | None
    halo: int | None
    guard: Guard
    watch: Watch
    team: Team = ALONE

    def fingerprint(self) -> str:
        """Return a hash of all that decides the result: of an input in memory, its values and its mask."""
        digest = hashlib.sha256()
        stored, path = self.seen.stored, self.guard.path if self.seen.stored.lazy else None
        known = (stored.nodata, stored.scale, stored.saturation, stored.shape, self.seen.drop, self.tile, self.halo)
        who = None if path is None else (str(path.resolve()), self.guard.stamp)
        versions = (package_version("dequnmix-jax"), jax.__version__, jax.default_backend())
        digest.update(repr((self.config, known, who, versions)).encode())
        for part in (stored.gains, stored.offsets, self.seen.bands):
            _add(digest, part)
        if path is None:  # in memory, where a mask or a value may be another one than in any file
            for part in stored.stored(None)[:2]:
                _add(digest, part)
        for place, leaf in jax.tree_util.tree_leaves_with_path(self.params):
            digest.update(f"{jax.tree_util.keystr(place)} {np.shape(leaf)} {np.asarray(leaf).dtype}".encode())
            _add(digest, leaf)
        return digest.hexdigest()

    def sound(self, state: Mapping[str, Any]) -> bool:
        """Return whether numbers that an earlier run has found can be such, for this scene and this model."""
        width = 0 if self.config.network is None else self.config.network.width
        return sound_state(state, self.seen.source.shape, width)

    def survey(self, work: Work) -> Survey:
        """Look through the scene."""
        known = work.state.get("survey")
        if known is None:
            found = look(self.seen, lambda share: self.watch("looking through", share, 0, 0))
            self.guard.check()
            known = found._asdict() | {"colour_limits": found.colour_limits.tolist()}
            work.remember(survey=known)
        more = {"colour_limits": np.asarray(known["colour_limits"]), "colour_bands": tuple(known["colour_bands"])}
        return Survey(**(known | more))

    def prepare(self, work: Work, found: Survey) -> tuple[Scenewide, Plan, tiles_halo.Reach]:
        """Return what the scene as a whole decides, how it is cut into tiles, and how far a pixel sees."""
        height, width, bands = self.seen.source.shape
        pools = work.state.get("pools")
        if pools is None:
            size = choose_size(height, width, bands, pooling_reach(self.config), self.tile)
            told = lambda share: self.watch("pooling", share, 0, 0)  # noqa: E731
            whole = tiles_solve.statistics(self.params, self.seen, found.scale, found.valid, self.config, size, told)
            self.guard.check()
            pools = [] if whole.pools is None else [np.asarray(part).tolist() for part in whole.pools]
            work.remember(pools=pools)
        both = [jnp.asarray(np.asarray(part, np.float32)) for part in pools]
        whole = Scenewide(jnp.asarray(found.scale, jnp.float32), (both[0], both[1]) if both else None)
        reached = work.state.get("reach")
        if reached is None:
            if self.halo is None:
                self.watch("measuring the halo", 0.0, 0, 0)
                reached = list(tiles_halo.measure(self.params, self.seen, self.config, whole))
            else:
                reached = [self.halo, None, None]
            work.remember(reach=reached)
        far = tiles_halo.Reach(*reached)
        size = choose_size(height, width, bands, far.halo, self.tile)
        return whole, plan(height, width, *size, far.halo), far

    def solve(self, work: Work, found: Survey, whole: Scenewide, tiles: Plan, channels: Channels) -> int:
        """Unmix the tiles that are not finished, this process its share of them; return how many were finished."""
        entries = work.look(_cores(tiles), sound_record)
        resumed, total = len(entries), len(tiles.tiles)
        numbers = {(tile.core.rows.start, tile.core.columns.start): i for i, tile in enumerate(tiles.tiles)}
        wanted = self.team.mine([tile for i, tile in enumerate(tiles.tiles) if i not in entries])
        low, high = np.asarray(found.colour_limits)
        self.watch("unmixing", resumed / total, 0, total)
        answers = tiles_solve.solve(self.params, self.seen, self.config, whole, tiles, wanted)
        for done, (tile, answer, cube, mask) in enumerate(answers, start=1):
            self.guard.check()
            record: dict[str, Any] = {"valid": int(mask.sum())}
            if answer is None:
                values = np.zeros((*mask.shape, channels.total), np.float32)
            else:
                colours = (cube[..., list(found.colour_bands)] - low) / np.where(high > low, high - low, 1)
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
            # What the others have done meanwhile is taken to be as much.
            share = min((resumed + done * self.team.size) / total, 1.0)
            self.watch("unmixing", share, done * self.team.size, total)
        return resumed

    def tidy(self, work: Work, tiles: Plan) -> None:
        """Leave of the tiles' records those that are whole; before others join."""
        work.finished(_cores(tiles), sound_record)

    def kept(self, work: Work, tiles: Plan) -> list[dict[str, Any]]:
        """Return the records that are whole."""
        return list(work.look(_cores(tiles), sound_record).values())

    def complete(
        self, work: Work, found: Survey, whole: Scenewide, tiles: Plan, channels: Channels
    ) -> list[dict[str, Any]]:
        """Return the records of all tiles in their order; a tile that is not as it was written is done again.

        Raises:
            OSError: some are not, however often they are written.
        """
        cores = _cores(tiles)
        for _ in range(_TRIES):
            done = work.finished(cores, sound_record)
            if len(done) == len(cores):
                return [done[number] for number in range(len(cores))]
            replace(self, team=ALONE).solve(work, found, whole, tiles, channels)
        raise OSError(
            errno.EIO,
            f"{len(cores) - len(done)} of {len(cores)} tiles are read back otherwise than they were written, "
            f"{_TRIES} times; the disk or its driver is at fault",
            str(work.folder / "maps.raw"),
        )


def _add(digest: Any, values: Any) -> None:
    """Add an array, or that there is none, to a hash."""
    if values is None:
        digest.update(b"-")
        return
    array = np.ascontiguousarray(values)
    digest.update(f"{array.shape} {array.dtype}".encode())
    digest.update(memoryview(array.reshape(-1).view(np.uint8)))  # type: ignore[arg-type]


def _cores(tiles: Plan) -> list[Window]:
    return [tile.core for tile in tiles.tiles]


def check_room(folder: Path, shape: tuple[int, int, int], channels: int) -> None:
    """Raise InputError where the disk has no room for the maps of the tiles and the output made of them.

    Args:
        folder: of the work.
        shape: of the scene.
        channels: float32 numbers a pixel.
    """
    output = folder.name.removeprefix(".").removesuffix(".tiles")
    needed = 2 * 4 * shape[0] * shape[1] * channels
    there = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    free = shutil.disk_usage(folder).free
    if free + there < needed:
        raise InputError(
            f"The file system of {folder.parent.absolute()} has {in_words(free)} free, and {output} needs up to "
            f"{in_words(needed)} while it is made, {in_words(there)} of which it has; expected more room. Make some, "
            "or choose an output on another disk."
        )
