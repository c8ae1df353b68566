"""A scene in memory or on disk, without jax.

* `Scene`: cube (H, W, B), wavelengths in nanometres, mask (True where valid), name, georeference.
* `Source`: a scene on disk, read window by window.
* `Georeference`: coordinate reference system and transform.
* `Truth`: a reference: maps, spectra or both, and the convention of its fractions.
* `ReadOptions`: the options of `read`, documented once.
* `mask_invalid`: the scene without pixels of zeros, NaN or infinity.
"""

from typing import TYPE_CHECKING

from dequnmix_jax.lazy import attach

if TYPE_CHECKING:
    from dequnmix_jax.scenes.georeference import Georeference
    from dequnmix_jax.scenes.read_options import ReadOptions
    from dequnmix_jax.scenes.scene import Scene, mask_invalid
    from dequnmix_jax.scenes.source import Source
    from dequnmix_jax.scenes.truth import Truth

__all__ = ["Georeference", "ReadOptions", "Scene", "Source", "Truth", "mask_invalid"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "scenes.georeference": ["Georeference"],
        "scenes.read_options": ["ReadOptions"],
        "scenes.scene": ["Scene", "mask_invalid"],
        "scenes.source": ["Source"],
        "scenes.truth": ["Truth"],
    },
)
