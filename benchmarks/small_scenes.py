"""Many small scenes, and the loop over them that the benchmarks compare with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from dequnmix_jax.datasets import synthetic


@dataclass(frozen=True)
class Size:
    """Rows and columns of a scene, its bands and endmembers."""

    side: int = 32
    bands: int = 100
    count: int = 4


def draw_cube(key: jax.Array, size: Size) -> jax.Array:
    """Return one noisy cube."""
    spectra, mix, noise = jax.random.split(key, 3)
    E = synthetic.spectra(spectra, size.count, size.bands)
    sample = synthetic.linear_scene(mix, (size.side, size.side), E, brightness=0.1, contrast=2.0)
    return synthetic.add_noise(noise, sample.cube, 30.0)


def in_turn(run: Callable[..., Any], keys: jax.Array, cubes: jax.Array) -> list[Any]:
    """Run scene after scene, waiting for each, as a script that inspects its results does."""
    return [jax.block_until_ready(run(*each)) for each in zip(keys, cubes, strict=True)]


class SceneSize(NamedTuple):
    """A synthetic scene: rows, columns, bands and endmembers."""

    rows: int
    columns: int
    bands: int
    count: int


def noisy_cube(size: SceneSize) -> np.ndarray[Any, Any]:
    """Return a noisy synthetic cube."""
    E = synthetic.spectra(jax.random.key(0), size.count, size.bands)
    sample = synthetic.linear_scene(jax.random.key(1), (size.rows, size.columns), E, 35.0, brightness=0.1)
    return np.asarray(sample.cube)
