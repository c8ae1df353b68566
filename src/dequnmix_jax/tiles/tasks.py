"""The parts of a tiled unmixing that do not depend on each other: in this process one by one, or on workers of Dask.

Each task reads what it needs of the scene from its file, so that nothing large travels. Sums are formed in the order of
the parts, whoever computed them: any number of workers gives the same bits.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from dequnmix_jax.abundances.methods import Known
from dequnmix_jax.checks import InputError
from dequnmix_jax.equilibrium.config import Model
from dequnmix_jax.equilibrium.scene_statistics import Scenewide
from dequnmix_jax.io.provenance import package_version
from dequnmix_jax.io.raw import Guard
from dequnmix_jax.parallel import cluster
from dequnmix_jax.scenes.scene import Array
from dequnmix_jax.scenes.source import Window
from dequnmix_jax.tiles import halo as tiles_halo
from dequnmix_jax.tiles import solve as tiles_solve
from dequnmix_jax.tiles.channels import Channels
from dequnmix_jax.tiles.grid import Plan
from dequnmix_jax.tiles.journal import Store
from dequnmix_jax.tiles.records import sound_record
from dequnmix_jax.tiles.survey import Strip, Survey, View, scan_strip
from dequnmix_jax.types import Params

Share = Callable[[int, int], None]
"""Called with the number of parts done and of all parts."""


class Part(NamedTuple):
    """What all tasks of a stage share.

    Attributes:
        seen: the scene.
        guard: notices changes of the input.
        versions: of the process that started the run.
        params, config, known: how pixels are unmixed.
        whole: statistics of the scene, as far as they are known.
        survey: of the scene, or None before it.
        tiles: how the scene is cut, or None.
        store: of the values of the tiles, or None.
        channels: order of these values.
    """

    seen: View
    guard: Guard
    versions: tuple[str, ...]
    params: Params
    config: Model
    known: Known | None
    whole: Scenewide | None = None
    survey: Survey | None = None
    tiles: Plan | None = None
    store: Store | None = None
    channels: Channels | None = None


def versions() -> tuple[str, ...]:
    """Return what the numbers depend on beside the input: versions, and the kind of device."""
    return package_version("dequnmix-jax"), jax.__version__, jax.default_backend()


def check_worker(part: Part) -> None:
    """Raise InputError where this process sees another input, or has other versions, than the one that started."""
    if part.versions != versions():
        raise InputError(
            f"A worker has {', '.join(versions())} (this package, jax, device) and the process that started the run "
            f"{', '.join(part.versions)}; expected the same everywhere. Install the same versions."
        )
    part.guard.check()


def strip(window: Window, part: Part) -> Strip:
    """Read through a strip of the scene."""
    part.guard.check()
    return scan_strip(window, part.seen)


def halo_window(window: Window, part: Part) -> tiles_halo.Change | None:
    """Measure how far an abundance depends on others, in a window."""
    check_worker(part)
    assert part.whole is not None
    return tiles_halo.change_at(window, part.params, part.seen, part.config, part.whole)


def pool(number: int, part: Part, read: tuple[Array, Array] | None = None) -> tiles_solve.Pool:
    """Pool over a tile; `read` are its values and mask where they are read already."""
    check_worker(part)
    assert part.tiles is not None and part.survey is not None
    tile = part.tiles.tiles[number]
    cube, mask = tiles_solve.read_padded(part.seen, tile, part.tiles.shape) if read is None else read
    return tiles_solve.pool_of(part.params, tile, cube, mask, part.survey.scale)


def unmix(number: int, part: Part, read: tuple[Array, Array] | None = None) -> dict[str, Any]:
    """Unmix a tile, write its values, and return its record; a tile that is done is not done again.

    Args:
        number: of the tile.
        part: see `Part`.
        read: its values and mask where they are read already.
    """
    check_worker(part)
    assert part.tiles is not None and part.survey is not None and part.store is not None
    assert part.whole is not None and part.channels is not None
    if read is None:  # in a worker: the process that had done it died before it was heard
        done = part.store.record(number, sound_record)
        if done is not None:
            return done
    tile, survey = part.tiles.tiles[number], part.survey
    cube, mask = tiles_solve.read_padded(part.seen, tile, part.tiles.shape) if read is None else read
    answer = tiles_solve.solved_core(part.params, tile, cube, mask, part.whole, part.config, part.known)
    part.guard.check()
    cube, mask = cube[tile.inside], mask[tile.inside]
    record: dict[str, Any] = {"valid": int(mask.sum())}
    if answer is None:
        return part.store.put(number, np.zeros((*mask.shape, part.channels.total), np.float32), record)
    low, high = np.asarray(survey.colour_limits)
    colours = (cube[..., list(survey.colour_bands)] - low) / np.where(high > low, high - low, 1)
    maps: dict[str, Any] = {"brightness": answer.brightness, "residual": answer.residual, "convergence": answer.change}
    values = part.channels.gather(
        np.asarray(answer.abundances),
        np.round(255 * np.clip(colours, 0, 1)) * mask[..., None],
        valid=mask,
        **maps,
    )
    record |= {
        "steps": int(answer.trace.steps),
        "residual": float(answer.trace.residual),
        "converged": bool(answer.trace.converged),
        "size": float(np.sum(answer.size, dtype=np.float64)),
    }
    return part.store.put(number, values, record)


def each(
    function: Callable[..., Any],
    items: Sequence[Any],
    part: Part,
    client: Any = None,
    retries: int = 2,
    on_progress: Share = lambda done, total: None,
) -> list[Any]:
    """Return `function(item, part)` of all items, in their order.

    Args:
        function: `strip`, `halo_window`, `pool` or `unmix`, or another one of a module.
        items: windows for the first two, numbers of tiles for the others.
        part: what they share; it travels to each worker once.
        client: of Dask; None: one after the other here, while the next tile is read.
        retries: see `cluster.run`.
        on_progress: called after each.

    Raises:
        InputError, OSError: what a task raised, in its last try.
    """
    found: dict[int, Any] = {}
    if client is None:
        for number, value in enumerate(_in_turn(function, items, part)):
            found[number] = value
            on_progress(len(found), len(items))
    else:
        for outcome in cluster.run(function, items, client, retries, shared=part):
            if outcome.error is not None:
                raise outcome.error
            found[outcome.number] = outcome.value
            on_progress(len(found), len(items))
    return [found[number] for number in range(len(items))]


def _in_turn(function: Callable[..., Any], items: Sequence[Any], part: Part) -> Iterable[Any]:
    if function not in (pool, unmix):
        return map(partial(function, part=part), items)
    assert part.tiles is not None
    numbers = {id(part.tiles.tiles[number]): number for number in items}
    read = tiles_solve.read_ahead(part.seen, [part.tiles.tiles[number] for number in items], part.tiles.shape)
    return (function(numbers[id(tile)], part, (cube, mask)) for tile, cube, mask in read)
