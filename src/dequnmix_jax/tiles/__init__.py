"""Scenes larger than memory.

* `unmix_tiled(params, source, config, ...)`: tile by tile with a halo, to files; it can be interrupted and resumed.
* `fit_patches`: train on patches of such a scene.
"""

from typing import TYPE_CHECKING

from dequnmix_jax.lazy import attach

if TYPE_CHECKING:
    from dequnmix_jax.tiles.patches import fit_patches
    from dequnmix_jax.tiles.unmix import Tiled, unmix_tiled

__all__ = ["Tiled", "fit_patches", "unmix_tiled"]

__getattr__, __dir__ = attach(__name__, {"tiles.patches": ["fit_patches"], "tiles.unmix": ["Tiled", "unmix_tiled"]})
