"""The stages of a tiled unmixing: each keeps what it finds, so that a run that was killed goes on where it was."""

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dequnmix_jax import reach, streaming
from dequnmix_jax.checks import InputError
from dequnmix_jax.config import Model
from dequnmix_jax.journal import Work
from dequnmix_jax.rawpixels import Guard
from dequnmix_jax.records import Params, Trace
from dequnmix_jax.scenewide import Scenewide
from dequnmix_jax.sidecar import package_version
from dequnmix_jax.survey import Survey, View, look
from dequnmix_jax.team import ALONE, Team
from dequnmix_jax.tiled_outputs import Channels
from dequnmix_jax.tiling import Plan, choose_size, plan

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
        """Return a hash of all that decides the result; that of an input in memory is good for this process only."""
        digest = hashlib.sha256()
        stored, path = self.seen.stored, self.guard.path
        known = (stored.nodata, stored.scale, stored.saturation, stored.shape, self.seen.drop, self.tile, self.halo)
        who = os.getpid() if path is None else (str(path.resolve()), self.guard.stamp)
        versions = (package_version("dequnmix-jax"), jax.__version__, jax.default_backend())
        digest.update(repr((self.config, known, who, versions)).encode())
        for part in (stored.gains, stored.offsets, self.seen.bands):
            digest.update(b"-" if part is None else np.ascontiguousarray(part).tobytes())
        for place, leaf in jax.tree_util.tree_leaves_with_path(self.params):
            digest.update(f"{jax.tree_util.keystr(place)} {np.shape(leaf)} {np.asarray(leaf).dtype}".encode())
            digest.update(np.ascontiguousarray(leaf).tobytes())
        return digest.hexdigest()

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

    def prepare(self, work: Work, found: Survey) -> tuple[Scenewide, Plan, reach.Reach]:
        """Return what the scene as a whole decides, how it is cut into tiles, and how far a pixel sees."""
        height, width, bands = self.seen.source.shape
        pools = work.state.get("pools")
        if pools is None:
            size = choose_size(height, width, bands, self.config.kernel // 2, self.tile)
            told = lambda share: self.watch("pooling", share, 0, 0)  # noqa: E731
            whole = streaming.statistics(self.params, self.seen, found.scale, found.valid, self.config, size, told)
            self.guard.check()
            pools = [] if whole.pools is None else [np.asarray(part).tolist() for part in whole.pools]
            work.remember(pools=pools)
        both = [jnp.asarray(np.asarray(part, np.float32)) for part in pools]
        whole = Scenewide(jnp.asarray(found.scale, jnp.float32), (both[0], both[1]) if both else None)
        reached = work.state.get("reach")
        if reached is None:
            if self.halo is None:
                self.watch("measuring the halo", 0.0, 0, 0)
                reached = list(reach.measure(self.params, self.seen, self.config, whole))
            else:
                reached = [self.halo, None, None]
            work.remember(reach=reached)
        far = reach.Reach(*reached)
        size = choose_size(height, width, bands, far.halo, self.tile)
        return whole, plan(height, width, *size, far.halo), far

    def solve(self, work: Work, found: Survey, whole: Scenewide, tiles: Plan, channels: Channels) -> int:
        """Unmix the tiles that are not finished, this process its share of them; return how many were finished."""
        entries = work.look()
        resumed, total = len(entries), len(tiles.tiles)
        numbers = {(tile.core.rows.start, tile.core.columns.start): i for i, tile in enumerate(tiles.tiles)}
        wanted = self.team.mine([tile for i, tile in enumerate(tiles.tiles) if i not in entries])
        low, high = np.asarray(found.colour_limits)
        self.watch("unmixing", resumed / total, 0, total)
        answers = streaming.solve(self.params, self.seen, self.config, whole, tiles, wanted)
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


def check_room(folder: Path, shape: tuple[int, int, int], channels: int) -> None:
    """Raise InputError where the disk has no room for the maps of the tiles and the output made of them.

    Args:
        folder: of the work.
        shape: of the scene.
        channels: float32 numbers a pixel.
    """
    needed = 2 * 4 * shape[0] * shape[1] * channels
    there = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    free = shutil.disk_usage(folder).free
    if free + there < needed:
        raise InputError(
            f"The disk of {folder.parent} has {free / 1e6:.0f} MB free and the output needs up to "
            f"{needed / 1e6:.0f} MB while it is made; expected more room. Make some, or choose another disk."
        )


def traced(entries: Sequence[Mapping[str, Any]], valid: int) -> tuple[Trace, float]:
    """Return how the solves of all tiles went together, and the RMS of the whole state.

    Args:
        entries: records of the tiles.
        valid: pixels that are.
    """
    solved = [entry for entry in entries if entry["valid"]]
    trace = Trace(
        np.int32(max(entry["steps"] for entry in solved)),  # type: ignore[arg-type]
        np.float32(max(entry["residual"] for entry in solved)),  # type: ignore[arg-type]
        np.bool_(all(entry["converged"] for entry in solved)),  # type: ignore[arg-type]
    )
    size = (sum(entry["size"] for entry in solved) / valid) ** 0.5
    return trace, size if size > 0 else 1.0


def unreached(entries: Sequence[Mapping[str, Any]], config: Model) -> list[str]:
    """Return a sentence where an equilibrium was not reached, or nothing.

    Args:
        entries: records of the tiles.
        config: the parts of the map.
    """
    solved = [entry for entry in entries if entry["valid"]]
    failed = [entry for entry in solved if not entry["converged"]]
    if not failed:
        return []
    return [
        f"The equilibrium was not reached within {config.forward.max_steps} steps in {len(failed)} of {len(solved)} "
        f"tiles: the relative residual is up to {max(entry['residual'] for entry in failed):.2e} and "
        f"{config.forward.tolerance:g} was asked for; do not trust the maps there."
    ]


def told(entries: Sequence[Mapping[str, Any]], tiles: Plan, reached: reach.Reach) -> dict[str, Any]:
    """Return what summary.json says about the tiles.

    Args:
        entries: their records.
        tiles: how the scene was cut.
        reached: how far a pixel sees.
    """
    rows, columns = tiles.tiles[0].core.shape
    solved = [entry for entry in entries if entry["valid"]]
    kept = ("rows", "columns", "steps", "residual", "converged")
    return {
        "count": len(entries),
        "rows": rows,
        "columns": columns,
        "halo": tiles.halo,
        "halo_error": reached.error,
        "decay_per_pixel": reached.decay,
        "mean_steps": sum(entry["steps"] for entry in solved) / len(solved),
        "not_converged": sum(not entry["converged"] for entry in solved),
        "each": [{name: entry[name] for name in kept} for entry in solved],
    }
