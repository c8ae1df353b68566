"""Width of the halo that a tile needs: how far a pixel's abundances depend on its neighbours.

Each step of the solve passes a change in a pixel on to its neighbours, weakened by the contraction of the map. A bound
from the certified rate of the plain iteration is far too wide (at a rate of 0.99 and two pixels per step, 1e-5 is
reached after 2,300 pixels): where that rate is near one, the weak directions of the data term move slowly, and those
hardly couple pixels. So the decay over space is measured on the scene's own pixels: a window is solved twice, the
second time without its first rows and columns, and the difference is a function of the distance from them. A third
solve from another initial state measures the error of the solver itself, below which a difference means nothing.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dequnmix_jax.equilibrium import fixed_point_map, model
from dequnmix_jax.equilibrium.config import Conv, Energy, Model
from dequnmix_jax.equilibrium.scene_statistics import Scenewide
from dequnmix_jax.scenes.scene import Array
from dequnmix_jax.scenes.source import Window
from dequnmix_jax.tiles.survey import View
from dequnmix_jax.types import Params

# A hundredth of the promised difference: few windows are measured and they are cut at two sides, but a scene has many
# places and tiles have four sides. On a small scene whose windows showed 9e-6 at nine pixels, tiles were 1.7e-4 wrong.
_AIM = 1e-6

# Side of a window, rows and columns omitted in the second solve, and number of windows, spread over the rows.
_SIDE, _CUT, _WINDOWS = 144, 8, 3

# Largest halo: with a wider one, tiles would be mostly halo.
_WIDEST = 128


class HaloWidth(NamedTuple):
    """Width of a halo, and its error.

    Attributes:
        halo: pixels.
        error: largest change of an abundance at that distance from a border, measured (including the error of the
            solver) or extrapolated; None if the halo was given.
        decay: factor by which that change falls per pixel; 0 where pixels are independent, None if the halo was given.
    """

    halo: int
    error: float | None
    decay: float | None


def couples_pixels(config: Model) -> bool:
    """Return whether the abundances of a pixel depend on other pixels, beyond statistics of the whole scene."""
    return config.network is not None or config.prox is not None or config.smooths


def network_reach(config: Model) -> int:
    """Return how many pixels away the networks read before the first step and in it."""
    net = config.network
    guide = 0 if net is None else 2 * (net.kernel // 2) + (3 if net.attention else 0)
    filters = [part.kernel // 2 for part in (config.gradient, config.prox) if isinstance(part, Energy | Conv)]
    return guide + 2 * max(filters, default=0)


@partial(jax.jit, static_argnums=5)
def _solved(
    params: Params, cube: jax.Array, mask: jax.Array, whole: Scenewide, initial: jax.Array, config: Model
) -> tuple[jax.Array, jax.Array]:
    """Return state and abundances."""
    estimate = model.equilibrium(params, cube, config, initial=initial, mask=mask, whole=whole).estimate
    return estimate.state, estimate.abundances


Change = tuple[Array, float]
"""Largest change of an abundance at each distance from the omitted pixels, and that of the solver itself."""


def windows(shape: tuple[int, int, int], config: Model) -> list[Window]:
    """Return the windows in which the halo of a scene is measured; none where pixels are independent."""
    if not couples_pixels(config):
        return []
    height, width, _ = shape
    rows, columns = min(height, _SIDE), min(width, _SIDE)
    left = (width - columns) // 2
    places = np.unique(np.linspace(0, height - rows, _WINDOWS).astype(int))
    return [Window(slice(int(top), int(top) + rows), slice(left, left + columns)) for top in places]


def measure(params: Params, seen: View, config: Model, whole: Scenewide) -> HaloWidth:
    """Measure the width of the halo that a scene needs.

    Args:
        params: from `init` or `fit`.
        seen: the scene.
        config: the parts of the map.
        whole: statistics of the scene.
    """
    found = [change_at(window, params, seen, config, whole) for window in windows(seen.source.shape, config)]
    return width_of(found, config)


def width_of(found: Sequence[Change | None], config: Model) -> HaloWidth:
    """Return the width of the halo from what each of `windows` shows."""
    if not couples_pixels(config):
        return HaloWidth(0, 0.0, 0.0)
    least = network_reach(config)
    seen = [each for each in found if each is not None]
    profile = np.max([each for each, _ in seen], axis=0) if seen else np.zeros(1)
    noise = max((own for _, own in seen), default=0.0)
    # Beyond a distance, the largest change from there on.
    beyond = np.maximum.accumulate(profile[::-1])[::-1]
    noise = min(noise, float(beyond[beyond.size // 2]))  # at a large distance only the error of the solver is left
    aim = max(_AIM, 2 * noise)
    decay = _decay(beyond, aim)
    decays = 0 < decay < 1
    enough = np.flatnonzero(beyond <= aim)
    if enough.size:
        # Below the error of the solver the decay continues unseen.
        halo = int(enough[0]) + (int(np.ceil(np.log(_AIM / aim) / np.log(decay))) if decays else 0)
        halo = min(max(halo, least), _WIDEST)
        return HaloWidth(halo, float(beyond[min(halo, beyond.size - 1)]), decay)
    last = float(beyond[-1])
    more = np.ceil(np.log(_AIM / last) / np.log(decay)) if decays else np.inf
    halo = int(min(max(beyond.size - 1 + more, least), _WIDEST))
    return HaloWidth(halo, last * decay ** max(halo - beyond.size + 1, 0), decay)


def change_at(window: Window, params: Params, seen: View, config: Model, whole: Scenewide) -> Change | None:
    """Solve a window with and without its first rows and columns; None where it has no valid pixel left."""
    tight = replace(config, forward=replace(config.forward, tolerance=1e-6, max_steps=1000))
    height, width, _ = seen.source.shape
    rows, columns = window.shape
    cut_rows, cut_columns = (
        min(_CUT, side // 2) if side < full else 0 for side, full in ((rows, height), (columns, width))
    )
    if not cut_rows and not cut_columns:  # the scene is one window: cut its rows
        cut_rows = min(_CUT, rows // 2)
    down = np.arange(rows)[:, None] - cut_rows + np.zeros((1, columns), int)
    across = np.arange(columns)[None, :] - cut_columns + np.zeros((rows, 1), int)
    distance = np.minimum(down if cut_rows else across, across if cut_columns else down)
    profile = np.zeros(int(distance.max()) + 1)
    values, mask = seen.read(window)
    outside = mask & (distance >= 0)
    if not outside.any():
        return None
    cube = jnp.asarray(values)
    initial = fixed_point_map.initial_state(params, cube, config)
    _, full = _solved(params, cube, mask, whole, initial, tight)
    state, cut = _solved(params, jnp.where(outside[..., None], cube, 0), outside, whole, initial, tight)
    _, again = _solved(params, cube, mask, whole, state, tight)
    change = np.abs(np.asarray(full) - np.asarray(cut)).max(axis=2)
    np.maximum.at(profile, distance[outside], change[outside])
    return profile, float(np.abs(np.asarray(full) - np.asarray(again)).max())


def _decay(beyond: Array, noise: float) -> float:
    """Return the decay per pixel: the slope of the logarithms above the error of the solver."""
    used = beyond > noise
    if used.sum() < 3:
        return 0.0
    slope = np.polyfit(np.flatnonzero(used), np.log(beyond[used]), 1)[0]
    return float(min(np.exp(slope), 1.0))
