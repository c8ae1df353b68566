"""What `dequnmix convert` does: write a scene in another format, with everything known of it."""

import json
from argparse import Namespace

from dequnmix_jax import georaster, zarrfiles
from dequnmix_jax.reading import read_scene, warn
from dequnmix_jax.scene_writing import kind_of, write_scene
from dequnmix_jax.trained import plain
from dequnmix_jax.unmixing import not_its_own_input


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
        zarrfiles.require(str(args.output))
    scene = read_scene(args)
    for note in scene.notes:
        warn(f"note: {note}")
    if scene.ground is not None and scene.ground.lookup is not None and kind != "npz":
        rows, columns = scene.ground.lookup.shape[:2]
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
