"""Unmix a scene tile by tile; the next tile is read while the current one is unmixed.

A tile has the result of the whole scene if it uses the statistics of the whole scene (`equilibrium.scene_statistics`)
and its halo is wide enough (`halo`). All tiles are padded with masked pixels to one shape, so that one program serves
them.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dequnmix_jax import mixing
from dequnmix_jax.abundances.known import unmix_known
from dequnmix_jax.abundances.methods import Known
from dequnmix_jax.checks import InputError
from dequnmix_jax.equilibrium import fixed_point_map, model
from dequnmix_jax.equilibrium.config import Model
from dequnmix_jax.equilibrium.convergence import change_of
from dequnmix_jax.equilibrium.scene_statistics import Scenewide, pool_tile, pooling_reach, pools_channels
from dequnmix_jax.io.formats import read
from dequnmix_jax.scenes.scene import Array, Scene
from dequnmix_jax.scenes.source import source_of
from dequnmix_jax.tiles.grid import Plan, Tile, choose_size, plan
from dequnmix_jax.tiles.survey import Survey, View, scan, view
from dequnmix_jax.types import Params, Trace


def check_statistics(config: Model, whole: Scenewide | None) -> None:
    """Raise InputError where given statistics are no unit, or lack the pools that a model needs."""
    if whole is None:
        return
    scale = float(np.asarray(whole.scale))
    if not (np.isfinite(scale) and scale > 0):
        raise InputError(f"The unit in whole is {scale}; expected the RMS of a scene, above 0.")
    if pools_channels(config):
        assert config.network is not None
        expected = [(config.network.width,)] * 2
        found = [np.shape(values) for values in whole.pools or ()]
        if found != expected:
            raise InputError(
                f"The pools in whole have the shapes {found}; expected {expected}, because the network of this model "
                "pools over the scene of its training. Take them from that scene by tiles.statistics_of."
            )


def statistics_of(params: Params, scene: Any, config: Model) -> Scenewide:
    """Return unit and pools of a scene, as the tiles of another scene may use them (`unmix_tiled`, `whole`).

    Args:
        params: from `init` or `fit`.
        scene: a Scene, or anything that `io.read` takes, that of the training for instance; its good bands are used.
        config: the parts of the map.
    """
    loaded = scene if isinstance(scene, Scene) else read(scene)
    seen = view(source_of(loaded))
    height, width, bands = seen.source.shape
    survey = scan(seen)
    found = statistics(params, seen, survey, config, choose_size(height, width, bands, pooling_reach(config)))
    return jax.tree.map(np.asarray, found)


def check_tileable(config: Model) -> None:
    """Raise InputError if the map cannot be evaluated exactly on tiles."""
    if config.pools_in_loop:
        raise InputError(
            "Model(gradient=Residual(attention=True)) pools over all pixels of the scene at each step of the solve, "
            "so that no tile can be unmixed alone; expected gradient=Energy() or Analytic(), or attention=False. Fit "
            "such a model, or unmix a part of the scene that fits into memory."
        )


class Solved(NamedTuple):
    """Result of a tile; maps of its whole window.

    Attributes:
        abundances: (h, w, R).
        brightness: (h, w).
        residual: (h, w), RMS over bands of what the model leaves of y, units of the scene; 0 where masked.
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
    """Unmix a tile of a scene.

    Args:
        params: from `init` or `fit`.
        cube: (h, w, B), 0 where masked.
        mask: (h, w) bool.
        whole: statistics of the scene.
        config: the parts of the map.
    """
    estimate, trace, factors = model.equilibrium(params, cube, config, mask=mask, whole=whole)
    change, size = change_of(estimate.state, fixed_point_map.state_map(config)(factors, estimate.state))
    valid = mask.astype(cube.dtype)
    difference = cube - model.reconstruct(estimate)
    return Solved(
        abundances=estimate.abundances,
        brightness=estimate.brightness,
        residual=jnp.sqrt(jnp.mean(jnp.square(difference), axis=-1)) * valid,
        change=change * valid,
        size=size * valid,
        trace=trace,
    )


@partial(jax.jit, static_argnums=4)
def known_tile(params: Params, cube: jax.Array, mask: jax.Array, whole: Scenewide, known: Known) -> Solved:
    """Unmix a tile by known spectra; arguments as `solve_tile`, `known` the method."""
    E = jnp.asarray(params["endmembers"], cube.dtype)
    norm = whole.scale * jnp.sqrt(jnp.asarray(cube.shape[2], cube.dtype))
    found = unmix_known(cube, E, mask, norm, known)
    spectra = mixing.scale_to_unit_maximum(E) if known.method == "scaled" else E
    difference = cube - mixing.scaled_mix(found.abundances, spectra, found.brightness)
    residual = jnp.sqrt(jnp.mean(jnp.square(difference), axis=-1)) * mask.astype(cube.dtype)
    residual = residual if found.error is None else found.error
    return Solved(found.abundances, found.brightness, residual, found.change, found.size, found.trace)


def read_padded(seen: View, tile: Tile, shape: tuple[int, int]) -> tuple[Array, Array]:
    """Return the values and the mask of a tile's window, padded to a shape."""
    cube, mask = seen.read(tile.window)
    height, width = tile.window.shape
    if (height, width) == shape:
        return cube, mask
    padding = ((0, shape[0] - height), (0, shape[1] - width))
    return np.pad(cube, (*padding, (0, 0))), np.pad(mask, padding)


def read_ahead(seen: View, tiles: Iterable[Tile], shape: tuple[int, int]) -> Iterator[tuple[Tile, Array, Array]]:
    """Yield tiles with their values and masks, padded to one shape; each is read while the previous one is in use."""

    def read(tile: Tile) -> tuple[Tile, Array, Array]:
        return tile, *read_padded(seen, tile, shape)

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

Pool = tuple[Array, Array]
"""Sum and maximum (K,) of the channels over a tile."""


def pool_of(params: Params, tile: Tile, cube: Array, mask: Array, scale: float) -> Pool:
    """Return what the attention pools over the core of a tile that was read by `read_ahead`."""
    core = np.zeros(mask.shape, np.bool_)
    core[tile.inside] = True
    added, top = _pool(params, cube, mask, core, jnp.asarray(scale, jnp.float32))
    return np.asarray(added), np.asarray(top)


def pool_plan(shape: tuple[int, int, int], config: Model, size: tuple[int, int]) -> Plan | None:
    """Return the tiles over which the attention pools; None where it does not.

    Args:
        shape: (H, W, B) of the scene.
        config: the parts of the map.
        size: rows and columns of the tiles.
    """
    if config.network is None or not pools_channels(config):
        return None
    return plan(*shape[:2], *size, pooling_reach(config))


def pooled(pools: Iterable[Pool], survey: Survey) -> Scenewide:
    """Return the statistics of the whole scene from the pools of its tiles, in order."""
    sums, tops = zip(*pools, strict=True)
    total = np.sum(np.asarray(sums, np.float64), axis=0)
    both = jnp.asarray(total / survey.valid, jnp.float32), jnp.asarray(np.max(tops, axis=0), jnp.float32)
    return Scenewide(jnp.asarray(survey.scale, jnp.float32), both)


def statistics(params: Params, seen: View, survey: Survey, config: Model, size: tuple[int, int]) -> Scenewide:
    """Return the statistics of the whole scene; where attention pools over the scene, it is read once more.

    Args:
        params: from `init` or `fit`.
        seen: the scene.
        survey: of the scene.
        config: the parts of the map.
        size: rows and columns of the tiles.
    """
    tiles = pool_plan(seen.source.shape, config, size)
    if tiles is None:
        return Scenewide(jnp.asarray(survey.scale, jnp.float32))
    read = read_ahead(seen, tiles.tiles, tiles.shape)
    return pooled([pool_of(params, tile, cube, mask, survey.scale) for tile, cube, mask in read], survey)


def solved_core(
    params: Params,
    tile: Tile,
    cube: Array,
    mask: Array,
    whole: Scenewide,
    config: Model,
    known: Known | None = None,
) -> Solved | None:
    """Unmix a tile that was read by `read_ahead`; return numpy arrays of its core, None where no pixel is valid."""
    inside = tile.inside
    if not mask[inside].any():
        return None
    solved = (
        solve_tile(params, cube, mask, whole, config) if known is None else known_tile(params, cube, mask, whole, known)
    )
    trace = jax.tree.map(np.asarray, solved.trace)
    maps = {name: np.asarray(getattr(solved, name))[inside] for name in Solved._fields if name != "trace"}
    return Solved(**maps, trace=trace)  # type: ignore[arg-type]


def solve(
    params: Params,
    seen: View,
    config: Model,
    whole: Scenewide,
    tiles: Plan,
    known: Known | None = None,
) -> Iterator[tuple[Tile, Any, Array, Array]]:
    """Yield all tiles with their results, values and masks; of their cores only, as numpy arrays.

    Args:
        params: from `init` or `fit`.
        seen: the scene.
        config: the parts of the map.
        whole: statistics of the scene.
        tiles: how it is cut.
        known: the method, where pixels are unmixed by known spectra.

    Returns:
        Tile, `Solved` (None where the tile has no valid pixel), values (h, w, B) and mask (h, w).
    """
    for tile, cube, mask in read_ahead(seen, tiles.tiles, tiles.shape):
        answer = solved_core(params, tile, cube, mask, whole, config, known)
        yield tile, answer, cube[tile.inside], mask[tile.inside]
