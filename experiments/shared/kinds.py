"""Generated scenes of a few kinds: number of endmembers, purity, noise, brightness, and variability of the spectra.

Older and narrower than `experiments.shared.families`; the choices that were made on them are still judged on them.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from dequnmix_jax import mixing
from dequnmix_jax.datasets import synthetic


class Kind(NamedTuple):
    """A kind of scene.

    Attributes:
        count: endmembers.
        purity: largest abundance.
        snr: dB.
        brightness: standard deviation of the logarithm of the brightness.
        varied: relative standard deviation of the spectra from pixel to pixel.
        contrast: of the spectra about their common mean; 1: as drawn, less: similar materials.
        uneven: standard deviation of the logarithm of each material's own brightness, from pixel to pixel.
    """

    count: int
    purity: float
    snr: float
    brightness: float = 0.0
    varied: float = 0.0
    contrast: float = 1.0
    uneven: float = 0.0


@dataclass(frozen=True)
class Scenes:
    """The kinds of scenes and their size."""

    kinds: tuple[Kind, ...] = (
        Kind(3, 1.0, 20.0),
        Kind(3, 1.0, 40.0),
        Kind(5, 1.0, 30.0),
        Kind(3, 0.8, 20.0),
        Kind(3, 0.8, 40.0),
        Kind(5, 0.8, 30.0),
        Kind(6, 0.7, 30.0),
        Kind(3, 1.0, 30.0, brightness=0.2),
        Kind(3, 0.8, 40.0, brightness=0.2),
        Kind(5, 0.8, 30.0, brightness=0.3),
        Kind(3, 1.0, 30.0, varied=0.1),
        Kind(3, 0.8, 30.0, varied=0.1),
        Kind(3, 1.0, 30.0, brightness=0.2, varied=0.1),
        Kind(4, 0.9, 40.0, brightness=0.2, varied=0.2),
        Kind(5, 1.0, 40.0, brightness=0.3, varied=0.05),
        Kind(4, 1.0, 30.0, varied=0.03),
        Kind(5, 1.0, 30.0, contrast=0.15),
        Kind(6, 0.8, 30.0, contrast=0.3),
        Kind(4, 1.0, 30.0, brightness=0.2, varied=0.1, contrast=0.3),
        Kind(3, 1.0, 15.0, uneven=0.15),
        Kind(3, 1.0, 30.0, uneven=0.15),
        Kind(5, 1.0, 30.0, uneven=0.1),
        Kind(4, 0.9, 40.0, uneven=0.2, varied=0.05),
    )
    side: int = 40
    bands: int = 100


QUICK = Scenes((Kind(3, 1.0, 30.0), Kind(3, 0.8, 30.0, brightness=0.2)), side=16, bands=24)


class Size(Protocol):
    """Rows and columns, and bands, of the scenes of an experiment."""

    @property
    def side(self) -> int: ...
    @property
    def bands(self) -> int: ...


def vary(key: jax.Array, sample: synthetic.Sample, amount: float, snr: float, uneven: float = 0) -> synthetic.Sample:
    """Vary the spectra from pixel to pixel: e exp(uneven n) (1 + amount * a random smooth function of the band).

    n is standard normal, one number for each pixel and material. Then noise is added.
    """
    height, width, bands = sample.cube.shape
    draw, noise = jax.random.split(key)
    waves = jnp.cos(jnp.pi * jnp.arange(1.0, 5.0)[:, None] * jnp.linspace(0.0, 1.0, bands)[None]) / 2**0.5
    shape = (height, width, sample.endmembers.shape[0], 4)
    own = 1 + amount * jnp.matmul(jax.random.normal(draw, shape), waves)
    own = own * jnp.exp(uneven * jax.random.normal(jax.random.fold_in(draw, 1), (*shape[:3], 1)))
    mixed = jnp.sum(sample.abundances[..., None] * sample.endmembers[None, None] * own, axis=2)
    return sample._replace(cube=synthetic.add_noise(noise, sample.brightness[..., None] * mixed, snr))


def draw_scene(
    key: jax.Array, kind: Kind, size: Size, contrast: float | None = None
) -> tuple[synthetic.Sample, jax.Array]:
    """Draw a scene of a kind, and its reference abundances.

    `contrast` of the abundance field: None draws it, between few and many pure pixels.
    """
    spectra, mix, own = jax.random.split(key, 3)
    E = synthetic.spectra(spectra, kind.count, size.bands)
    E = (1 - kind.contrast) * jnp.mean(E, axis=0, keepdims=True) + kind.contrast * E
    shape = (size.side, size.side)
    if contrast is None:
        contrast = jax.random.uniform(jax.random.fold_in(mix, 1), (), minval=0.7, maxval=2.0)
    sample = synthetic.linear_scene(mix, shape, E, purity=kind.purity, brightness=kind.brightness, contrast=contrast)
    sample = vary(own, sample, kind.varied, kind.snr, kind.uneven)
    if not kind.brightness:
        return sample, sample.abundances
    return sample, mixing.normalise_abundances(sample.abundances * jnp.max(E, axis=1)[None, None])[0]
