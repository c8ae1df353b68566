"""Generated scenes of few kinds: endmembers, purity, noise, brightness, variability and contrast of the spectra differ.

Older and narrower than `experiments.shared.families`; choices that were made on them are judged on them still.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from dequnmix_jax import mixing
from dequnmix_jax.datasets import synthetic
from experiments.defaults.training import Kind, vary


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


def draw_scene(key: jax.Array, kind: Kind, settings: Scenes) -> tuple[synthetic.Sample, jax.Array]:
    """Draw a scene of a kind, and its reference abundances."""
    spectra, mix, own = jax.random.split(key, 3)
    E = synthetic.spectra(spectra, kind.count, settings.bands)
    E = (1 - kind.contrast) * jnp.mean(E, axis=0, keepdims=True) + kind.contrast * E
    shape = (settings.side, settings.side)
    # Between few and many pure pixels.
    contrast = jax.random.uniform(jax.random.fold_in(mix, 1), (), minval=0.7, maxval=2.0)
    sample = synthetic.linear_scene(mix, shape, E, purity=kind.purity, brightness=kind.brightness, contrast=contrast)
    sample = vary(own, sample, kind.varied, kind.snr, kind.uneven)
    if not kind.brightness:
        return sample, sample.abundances
    return sample, mixing.normalise_abundances(sample.abundances * jnp.max(E, axis=1)[None, None])[0]
