"""Abundance maps of generated scenes and their truth, in groups of one size: what a smoother is trained and judged on.

Each scene is unmixed by all bands, by the even and the odd ones, and by the lower and the upper half of them, with
spectra of one of three kinds: the true ones, disturbed ones (drawn towards their mean by up to 15 %, and with a smooth
error of up to 5 %), and those that VCA finds.
"""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax import datasets
from dequnmix_jax.datasets import SceneShape, generator
from dequnmix_jax.datasets.generator.families import FREE_BRIGHTNESS
from dequnmix_jax.mixing import scale_to_unit_maximum

WAYS = ("true", "disturbed", "vca")
"""Kinds of spectra."""


class MapSet(NamedTuple):
    """Maps of scenes of one size, NumPy arrays with a first axis of scenes.

    Attributes:
        whole, even, odd, lower, upper: (N, H, W, R), abundances by all, even and odd bands, lower and upper half.
        truth: (N, H, W, R).
        family, way: (N,) int, index in `datasets.FAMILIES` and in `WAYS`.
    """

    whole: np.ndarray
    even: np.ndarray
    odd: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    truth: np.ndarray
    family: np.ndarray
    way: np.ndarray


def _disturbed(key: jax.Array, E: jax.Array) -> jax.Array:
    """Return spectra drawn towards their mean, with a smooth error."""
    share, size, waves, phase = jax.random.split(key, 4)
    p = jax.random.uniform(share, (), E.dtype, 0, 0.15)
    x = jnp.linspace(0, 1, E.shape[1], dtype=E.dtype)
    frequency = jax.random.uniform(waves, (E.shape[0], 1), E.dtype, 2, 12)
    shift = jax.random.uniform(phase, (E.shape[0], 1), E.dtype, 0, 6.3)
    error = jax.random.uniform(size, (), E.dtype, 0, 0.05) * jnp.sin(frequency * x[None] + shift)
    return ((1 - p) * E + p * jnp.mean(E, axis=0, keepdims=True)) * (1 + error)


@partial(jax.jit, static_argnums=2)
def _unmixed(key: jax.Array, scenes: generator.DrawnScene, free: bool) -> tuple[jax.Array, ...]:
    """Return the first six fields of `MapSet`."""
    truth = generator.reference_abundances(scenes)

    def one(scene: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        key, cube, E, way = scene
        for_vca, for_error = jax.random.split(key)
        found = dq.endmembers.vca(for_vca, cube, E.shape[0])
        found = jnp.maximum(found[dq.metrics.align(found, E)], 1e-5)
        spectra = jnp.where(way == 0, E, jnp.where(way == 1, _disturbed(for_error, E), found))
        middle = (cube.shape[2] + 1) // 2
        subsets = slice(None), slice(0, None, 2), slice(1, None, 2), slice(middle), slice(middle, None)
        if free:
            spectra = scale_to_unit_maximum(spectra)
            return tuple(dq.abundances.scaled_nnls(cube[..., s], spectra[:, s])[0] for s in subsets)
        return tuple(dq.abundances.fcls(cube[..., s], spectra[:, s]) for s in subsets)

    number = truth.shape[0]
    keys = jax.random.split(key, number)
    maps = jax.lax.map(one, (keys, scenes.cube, scenes.endmembers, jnp.arange(number) % len(WAYS)))
    return *maps, truth


def map_set(
    key: jax.Array, families: tuple[str, ...], size: SceneShape, sources: tuple[str, ...], number: int
) -> MapSet:
    """Draw and unmix `number` scenes of each family and source of spectra."""
    parts = []
    for f, family in enumerate(datasets.FAMILIES):
        if family not in families:
            continue
        for s, source in enumerate(sources):
            here = jax.random.fold_in(jax.random.fold_in(key, f), s)
            scenes = datasets.draw_batch(here, family, number, size, source)
            maps = [np.asarray(x) for x in _unmixed(jax.random.fold_in(here, 1), scenes, family in FREE_BRIGHTNESS)]
            parts.append(MapSet(*maps, np.full(number, f), np.arange(number) % len(WAYS)))
    return MapSet(*(np.concatenate(x) for x in zip(*parts, strict=True)))


def map_sets(
    seed: int, families: tuple[str, ...], sizes: tuple[SceneShape, ...], sources: tuple[str, ...], number: int
) -> Iterator[MapSet]:
    """Yield the maps of each size; `seed` is their random seed."""
    for i, size in enumerate(sizes):
        yield map_set(jax.random.fold_in(jax.random.key(seed), i), families, size, sources, number)
