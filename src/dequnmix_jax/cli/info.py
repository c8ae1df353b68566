"""`dequnmix info`: print what a file holds, without the arrays."""

import json
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.cli.scene_options import read_scene
from dequnmix_jax.escaping import shown
from dequnmix_jax.io import formats
from dequnmix_jax.scenes.scene import check_scene, mask_invalid
from dequnmix_jax.training.words import plain

if TYPE_CHECKING:
    pass


def info(args: Namespace) -> None:
    """Print what a file holds and what is odd about it."""
    scene = read_scene(args)
    used = scene.with_good_bands()
    problem, warnings = None, []
    try:
        warnings = check_scene(mask_invalid(used) if args.nodata is not None else used)
    except InputError as error:
        problem = str(error)
    height, width, bands = scene.cube.shape
    values = used.cube[used.valid]
    finite = values[np.isfinite(values)]
    found = {
        "file": str(args.file),
        "rows": height,
        "columns": width,
        "bands": bands,
        "good_bands": used.cube.shape[2],
        "valid_pixels": int(scene.valid.sum()),
        "wavelengths_nm": None if scene.wavelengths is None else [scene.wavelengths.min(), scene.wavelengths.max()],
        "values": [finite.min(), finite.max()] if finite.size else None,
        "envi_fields": dict(scene.envi_fields),
        "transform": None if scene.georeference is None else scene.georeference.transform,
        "crs": scene.crs,
        "reference": _reference(args),
        "notes": list(scene.notes),
        "warnings": warnings,
        "problem": problem,
    }
    if args.json:
        print(json.dumps(plain(found), indent=2, allow_nan=False))
        return
    print(f"{shown(str(args.file))}: {height} rows, {width} columns, {bands} bands")
    span = found["wavelengths_nm"]
    print(f"wavelengths: {f'{span[0]:.1f} to {span[1]:.1f} nm' if span else 'not in the file'}")
    print(f"good bands: {used.cube.shape[2]} of {bands}{'' if scene.good_bands is not None else ' (none marked bad)'}")
    print(f"valid pixels: {found['valid_pixels']} of {height * width}")
    print(f"values: {f'{finite.min():.4g} to {finite.max():.4g}' if finite.size else 'none is finite'}")
    print(f"on the ground: {shown(scene.envi_fields.get('map info', 'not in the file'))}")
    print(f"reference: {shown(_reference_text(found['reference']))}")
    for label in ("note", "warning"):
        for text in found[f"{label}s"]:
            print(f"{label}: {shown(text)}")
    if problem is not None:
        print(f"cannot be unmixed as it is: {shown(problem)}")


def _reference(args: Namespace) -> dict[str, Any] | None:
    if Path(args.file).suffix.lower() not in (".mat", ".npz"):
        return None
    try:
        truth = formats.read_truth(args.file, shape=None if args.shape is None else tuple(args.shape), order=args.order)
    except InputError:
        return None  # most scenes come without one
    return {
        "whose": truth.reference,
        "names": truth.names,
        "abundances": None if truth.abundances is None else truth.abundances.shape,
        "endmembers": None if truth.endmembers is None else truth.endmembers.shape,
        "notes": truth.notes,
    }


def _reference_text(found: dict[str, Any] | None) -> str:
    if found is None:
        return "none in the file"
    held = " and ".join(f"{what} {found[what]}" for what in ("abundances", "endmembers") if found[what] is not None)
    names = f", {', '.join(found['names'])}" if found["names"] else ""
    return f"{held}{names} ({found['whose']})"
