"""A scene in memory or on disk, without jax.

* `Scene`: cube (H, W, B), wavelengths in nanometres, mask (True where valid), names, place.
* `Source`: a scene on disk, read window by window.
* `Ground`: its coordinate system and transform.
"""

from typing import TYPE_CHECKING

from dequnmix_jax.lazy import attach

if TYPE_CHECKING:
    from dequnmix_jax.scenes.georeference import Ground
    from dequnmix_jax.scenes.scene import Scene
    from dequnmix_jax.scenes.source import Source

__all__ = ["Ground", "Scene", "Source"]

__getattr__, __dir__ = attach(
    __name__, {"scenes.georeference": ["Ground"], "scenes.scene": ["Scene"], "scenes.source": ["Source"]}
)
