"""Many scenes, several devices, several processes.

Many scenes by one model: `dequnmix_jax.unmix_many`; the tiles of one: `unmix_tiled`; both take a client of Dask.

* `stack`: scenes of different size as one padded array for `jax.vmap`; `alike`: groups of scenes that can be stacked.
* `over_scenes`: a batch of scenes divided among devices; `shared`: one network for all of them;
  `unmix_in_strips`: one scene divided into strips of rows, one per device.
* `join_team`: the processes of a job, a `Team`, as one JAX, for a mesh over the devices of all.
"""

from typing import TYPE_CHECKING

from dequnmix_jax.lazy import attach

if TYPE_CHECKING:
    from dequnmix_jax.parallel.batching import alike, stack
    from dequnmix_jax.parallel.devices import over_scenes, shared, unmix_in_strips
    from dequnmix_jax.parallel.processes import Team
    from dequnmix_jax.parallel.processes import join as join_team

__all__ = ["Team", "alike", "join_team", "over_scenes", "shared", "stack", "unmix_in_strips"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "parallel.batching": ["alike", "stack"],
        "parallel.devices": ["over_scenes", "shared", "unmix_in_strips"],
        "parallel.processes": ["Team", "join:join_team"],
    },
)
