"""Read and write files: which reader a file needs is told by `formats`.

* `read`, `read_truth`: a whole scene or its reference; `open_source`: a scene read by windows.
* `write_scene`: a scene.

One module or folder a format: `envi`, `matlab`, `missions` (EMIT, PRISMA: a new mission is a module there and a line in
`missions/detect.py`), `geotiff`, `zarr`, `npz`, `labelled_arrays` (arrays in the conventions of xarray). `atomic`
places a finished file in one step; `lock` lets one process write an output.
"""

from typing import TYPE_CHECKING

from dequnmix_jax.lazy import attach

if TYPE_CHECKING:
    from dequnmix_jax.io.formats import open_source, read, read_truth
    from dequnmix_jax.io.scene_writer import write_scene

__all__ = ["open_source", "read", "read_truth", "write_scene"]

__getattr__, __dir__ = attach(
    __name__, {"io.formats": ["open_source", "read", "read_truth"], "io.scene_writer": ["write_scene"]}
)
