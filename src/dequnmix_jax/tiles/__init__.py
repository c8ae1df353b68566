"""Scenes larger than memory.

* `unmix_tiled(params, source, config, ...)`: tile by tile with a halo, to files; it can be interrupted and resumed.
* `statistics_of`: unit and pools of a scene, for `unmix_tiled(..., whole=)` on its neighbours.
* `fit_patches`: train on patches of such a scene.
"""

from typing import TYPE_CHECKING

from dequnmix_jax.lazy import attach

if TYPE_CHECKING:
    from dequnmix_jax.tiles.patches import fit_patches
    from dequnmix_jax.tiles.solve import statistics_of
    from dequnmix_jax.tiles.unmix import Tiled, unmix_tiled

__all__ = ["Tiled", "fit_patches", "statistics_of", "unmix_tiled"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "tiles.patches": ["fit_patches"],
        "tiles.solve": ["statistics_of"],
        "tiles.unmix": ["Tiled", "unmix_tiled"],
    },
)
