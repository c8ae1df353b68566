"""What `dequnmix convert` does: write a scene in another format, with everything known of it."""

import json
from argparse import Namespace

from dequnmix_jax.cli.scene_options import read_scene, warn
from dequnmix_jax.cli.workflow import not_its_own_input
from dequnmix_jax.io import georaster, zarr
from dequnmix_jax.io.scene_writer import kind_of, write_scene
from dequnmix_jax.training.words import plain


def convert(args: Namespace) -> None:
    """Read a scene and write it in the format that the output's suffix names."""
    kind = kind_of(args.output)
    inputs = (args.file, args.file.with_suffix(".hdr"))
    not_its_own_input(args.output, *inputs)
    if kind == "envi":
        not_its_own_input(args.output.with_suffix(".hdr"), *inputs)
    if kind == "geotiff":
        georaster.require(str(args.output))  # said now, and not after the reading
    elif kind == "zarr":
        zarr.require(str(args.output))
    scene = read_scene(args)
    for note in scene.notes:
        warn(f"note: {note}")
    if scene.georeference is not None and scene.georeference.lookup is not None and kind != "npz":
        rows, columns = scene.georeference.lookup.shape[:2]
        warn(f"note: The swath is rectified to {rows} rows and {columns} columns, nearest pixel.")
    written = write_scene(args.output, scene, overwrite=args.force)
    height, width, bands = scene.cube.shape
    if args.json:
        found = {"files": [str(path) for path in written], "format": kind, "rows": height, "columns": width}
        found |= {"bands": bands, "valid_pixels": int(scene.valid.sum()), "notes": list(scene.notes)}
        print(json.dumps(plain(found), indent=2, allow_nan=False))
        return
    print(f"{height} rows, {width} columns, {bands} bands, {int(scene.valid.sum())} valid pixels")
    for path in written:
        print(path)
