"""Unmix a scene tile by tile, the next tile being read while the current one is unmixed.

A tile gets the answer of the whole scene if it knows what the scene as a whole decides (`scenewide`) and sees enough of
what lies around it (`reach`). All tiles have one shape, filled up by masked pixels, so that one program serves them.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dequnmix_jax import mixing
from dequnmix_jax.checks import InputError
from dequnmix_jax.equilibrium import fixed_point_map, model
from dequnmix_jax.equilibrium.config import Model
from dequnmix_jax.equilibrium.convergence import change_of
from dequnmix_jax.equilibrium.scene_statistics import Scenewide, pool_tile, pooling_reach, pools_channels
from dequnmix_jax.scenes.scene import Array
from dequnmix_jax.tiles.grid import Plan, Tile, plan
from dequnmix_jax.tiles.survey import View
from dequnmix_jax.types import Params, Trace


def check_tileable(config: Model) -> None:
    """Raise InputError where the map cannot be cut into tiles exactly."""
    if config.pools_in_loop:
        raise InputError(
            "Model(gradient=Residual(attention=True)) pools over all pixels of the scene at each step of the solve, "
            "so that no tile can be unmixed alone; expected gradient=Energy() or Analytic(), or attention=False. Fit "
            "such a model, or unmix a part of the scene that fits into memory."
        )


class Solved(NamedTuple):
    """The answer of a tile; maps of its whole window.

    Attributes:
        abundances: (h, w, R).
        brightness: (h, w).
        residual: (h, w), RMS over bands of what is not explained, units of the scene; 0 where masked.
        change: (h, w), RMS over endmembers of f(z) - z; 0 where masked.
        size: (h, w), mean square over endmembers of f(z); 0 where masked.
        trace: of the tile.
    """

    abundances: jax.Array
    brightness: jax.Array
    residual: jax.Array
    change: jax.Array
    size: jax.Array
    trace: Trace


@partial(jax.jit, static_argnums=4)
def solve_tile(params: Params, cube: jax.Array, mask: jax.Array, whole: Scenewide, config: Model) -> Solved:
    """Unmix a tile of a scene as the scene is unmixed.

    Args:
        params: from `init` or `fit`.
        cube: (h, w, B), 0 where masked.
        mask: (h, w) bool.
        whole: of the scene.
        config: the parts of the map.
    """
    found, trace, factors = model.equilibrium(params, cube, config, mask=mask, whole=whole)
    change, size = change_of(found.state, fixed_point_map.state_map(config)(factors, found.state))
    valid = mask.astype(cube.dtype)
    apart = cube - mixing.scaled_mix(found.abundances, found.endmembers, found.brightness)
    return Solved(
        abundances=found.abundances,
        brightness=found.brightness,
        residual=jnp.sqrt(jnp.mean(jnp.square(apart), axis=-1)) * valid,
        change=change * valid,
        size=size * valid,
        trace=trace,
    )


def read_ahead(seen: View, tiles: Iterable[Tile], shape: tuple[int, int]) -> Iterator[tuple[Tile, Array, Array]]:
    """Yield tiles with their values and masks, filled up to one shape; each is read while the one before is in use."""

    def read(tile: Tile) -> tuple[Tile, Array, Array]:
        cube, mask = seen.read(tile.window)
        height, width = tile.window.shape
        if (height, width) == shape:
            return tile, cube, mask
        more = ((0, shape[0] - height), (0, shape[1] - width))
        return tile, np.pad(cube, (*more, (0, 0))), np.pad(mask, more)

    with ThreadPoolExecutor(1) as reader:
        pending = None
        for tile in tiles:
            following = reader.submit(read, tile)
            if pending is not None:
                yield pending.result()
            pending = following
        if pending is not None:
            yield pending.result()


_pool = jax.jit(pool_tile)


def statistics(
    params: Params,
    seen: View,
    scale: float,
    valid: int,
    config: Model,
    size: tuple[int, int],
    then: Callable[[float], None] = lambda share: None,
) -> Scenewide:
    """Return what the scene as a whole decides, from one more look at it where attention pools over it.

    Args:
        params: from `init` or `fit`.
        seen: the scene.
        scale: RMS of its valid pixels.
        valid: how many there are.
        config: the parts of the map.
        size: rows and columns of the tiles.
        then: is told after each tile what share is done.
    """
    unit = jnp.asarray(scale, jnp.float32)
    network = config.network
    if network is None or not pools_channels(config):
        return Scenewide(unit)
    height, width, _ = seen.source.shape
    tiles = plan(height, width, *size, pooling_reach(config))
    total = np.zeros(network.width, np.float64)
    highest = np.full(network.width, np.finfo(np.float32).min)
    for done, (tile, cube, mask) in enumerate(read_ahead(seen, tiles.tiles, tiles.shape), start=1):
        core = np.zeros(tiles.shape, np.bool_)
        core[tile.inside] = True
        added, top = (np.asarray(part) for part in _pool(params, cube, mask, core, unit))
        total += added
        highest = np.maximum(highest, top)
        then(done / len(tiles.tiles))
    return Scenewide(unit, (jnp.asarray(total / valid, jnp.float32), jnp.asarray(highest, jnp.float32)))


def solve(
    params: Params, seen: View, config: Model, whole: Scenewide, tiles: Plan, wanted: Iterable[Tile] | None = None
) -> Iterator[tuple[Tile, Any, Array, Array]]:
    """Yield tiles with their answers, values and masks, of their cores alone, as numpy arrays.

    Args:
        params: from `init` or `fit`.
        seen: the scene.
        config: the parts of the map.
        whole: of the scene.
        tiles: how it is cut.
        wanted: the tiles to unmix, all by default.

    Returns:
        Tile, `Solved` (None where the tile has no valid pixel), values (h, w, B) and mask (h, w).
    """
    for tile, cube, mask in read_ahead(seen, tiles.tiles if wanted is None else wanted, tiles.shape):
        inside = tile.inside
        if not mask[inside].any():
            yield tile, None, cube[inside], mask[inside]
            continue
        found = solve_tile(params, cube, mask, whole, config)
        trace = jax.tree.map(np.asarray, found.trace)
        maps = {name: np.asarray(getattr(found, name))[inside] for name in Solved._fields if name != "trace"}
        yield tile, Solved(**maps, trace=trace), cube[inside], mask[inside]  # type: ignore[arg-type]
