"""Many scenes by one model, on the processes of this machine or of a cluster; what is finished is not done again.

* `unmix_many(scenes, model, folder)`: each scene into a folder of its own; it can be interrupted and goes on.
* `Row`: what became of a scene, as in batch.csv.
* `places_of`: the scenes that paths, patterns, text files and STAC items mean; `names_for`: the names of their outputs.

`dequnmix unmix` and `dequnmix report` run the same batches for several scenes. For the tiles of one large scene see
`tiles`.
"""

from typing import TYPE_CHECKING

from dequnmix_jax.lazy import attach

if TYPE_CHECKING:
    from dequnmix_jax.many_scenes.names import names_for, places_of
    from dequnmix_jax.many_scenes.run import unmix_many
    from dequnmix_jax.many_scenes.table import Row

__all__ = ["Row", "names_for", "places_of", "unmix_many"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "many_scenes.names": ["names_for", "places_of"],
        "many_scenes.run": ["unmix_many"],
        "many_scenes.table": ["Row"],
    },
)
