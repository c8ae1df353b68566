"""`dequnmix convert`: write a scene in another format, with its metadata."""

import json

from dequnmix_jax.checks import how_many
from dequnmix_jax.cli.options import ConvertOptions
from dequnmix_jax.cli.scene_options import read_scene, warn
from dequnmix_jax.cli.workflow import not_its_own_input
from dequnmix_jax.io import georaster, xarrays, zarr
from dequnmix_jax.io.envi.header import find_header
from dequnmix_jax.io.formats import kind_of_file
from dequnmix_jax.io.scene_writer import kind_of, write_scene
from dequnmix_jax.training.words import plain


def convert(options: ConvertOptions) -> None:
    """Read a scene and write it in the format that the output's suffix names."""
    kind = kind_of(options.output)
    file = options.scene.file
    header = find_header(file) if kind_of_file(file) == "envi" else None  # an ENVI scene is two files
    inputs = (file,) if header is None else (file, header)
    not_its_own_input(options.output, *inputs)
    if kind == "envi":
        not_its_own_input(options.output.with_suffix(".hdr"), *inputs)
    if kind == "geotiff":
        georaster.require(str(options.output))  # reported before the scene is read
    elif kind in ("netcdf", "zarr"):
        if kind == "zarr":
            zarr.require(str(options.output))
        xarrays.require(str(options.output))
    scene = read_scene(options.scene)
    for note in scene.notes:
        warn(f"note: {note}")
    if scene.georeference is not None and scene.georeference.lookup is not None and kind != "npz":
        rows, columns = scene.georeference.lookup.shape[:2]
        warn(
            f"note: The swath is rectified to {how_many(rows, 'row')} and {how_many(columns, 'column')}, nearest pixel."
        )
    written = write_scene(options.output, scene, overwrite=options.force)
    height, width, bands = scene.cube.shape
    if options.json:
        summary = {"files": [str(path) for path in written], "format": kind, "rows": height, "columns": width}
        summary |= {"bands": bands, "valid_pixels": int(scene.valid.sum()), "notes": list(scene.notes)}
        print(json.dumps(plain(summary), indent=2, allow_nan=False))
        return
    print(
        f"{how_many(height, 'row')}, {how_many(width, 'column')}, {how_many(bands, 'band')}, "
        f"{how_many(int(scene.valid.sum()), 'valid pixel')}"
    )
    for path in written:
        print(path)
