"""Read and write files.

* `read`, `read_truth`: a whole scene, or its reference; `open_source`: a scene that is read window by window.
* `open_xarray`: any scene as an xarray Dataset.
* `write_scene`: write a scene.

`formats` chooses the reader. Each format has a module or a folder: `envi`, `matlab`, `missions` (EMIT, PRISMA),
`geotiff`, `zarr`, `netcdf`, `npz`, `labelled_arrays` (arrays in the conventions of xarray); `xarrays` is the adapter of
xarray and rioxarray. To add a mission, add a module to
`missions` and a line to `missions/detect.py`. `atomic` replaces a finished file in one step; `lock` admits one writer
to an output.
"""

from typing import TYPE_CHECKING

from dequnmix_jax.lazy import attach

if TYPE_CHECKING:
    from dequnmix_jax.io.formats import open_source, open_xarray, read, read_truth
    from dequnmix_jax.io.scene_writer import write_scene

__all__ = ["open_source", "open_xarray", "read", "read_truth", "write_scene"]

__getattr__, __dir__ = attach(
    __name__, {"io.formats": ["open_source", "open_xarray", "read", "read_truth"], "io.scene_writer": ["write_scene"]}
)
