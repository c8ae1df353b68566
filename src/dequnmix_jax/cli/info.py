"""`dequnmix info`: print the metadata of a scene and warnings about it."""

import json
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError, how_many
from dequnmix_jax.cli.options import InfoOptions, SceneOptions
from dequnmix_jax.cli.scene_options import read_scene
from dequnmix_jax.escaping import shown
from dequnmix_jax.io import formats
from dequnmix_jax.scenes.scene import check_scene, mask_invalid
from dequnmix_jax.training.words import plain


def info(options: InfoOptions) -> None:
    """Print the metadata of a scene and warnings about it."""
    scene = read_scene(options.scene)
    used = scene.with_good_bands()
    problem, warnings = None, []
    try:
        warnings = check_scene(mask_invalid(used) if options.scene.nodata is not None else used)
    except InputError as error:
        problem = str(error)
    height, width, bands = scene.cube.shape
    values = used.cube[used.valid]
    finite = values[np.isfinite(values)]
    summary = {
        "file": str(options.scene.file),
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
        "reference": _reference(options.scene),
        "notes": list(scene.notes),
        "warnings": warnings,
        "problem": problem,
    }
    if options.json:
        print(json.dumps(plain(summary), indent=2, allow_nan=False))
        return
    print(
        f"{shown(str(options.scene.file))}: {how_many(height, 'row')}, {how_many(width, 'column')}, "
        f"{how_many(bands, 'band')}"
    )
    span = summary["wavelengths_nm"]
    print(f"wavelengths: {f'{span[0]:.1f} to {span[1]:.1f} nm' if span else 'not in the file'}")
    print(f"good bands: {used.cube.shape[2]} of {bands}{'' if scene.good_bands is not None else ' (none marked bad)'}")
    print(f"valid pixels: {summary['valid_pixels']} of {height * width}")
    print(f"values: {f'{finite.min():.4g} to {finite.max():.4g}' if finite.size else 'no value is finite'}")
    print(f"on the ground: {shown(scene.envi_fields.get('map info', 'not in the file'))}")
    print(f"reference: {shown(_reference_text(summary['reference']))}")
    for label in ("note", "warning"):
        for text in summary[f"{label}s"]:
            print(f"{label}: {shown(text)}")
    if problem is not None:
        print(f"cannot be unmixed as it is: {shown(problem)}")


def _reference(options: SceneOptions) -> dict[str, Any] | None:
    """Return the shapes and names of the reference in the scene's file, or None."""
    if options.file.suffix.lower() not in (".mat", ".npz"):
        return None
    try:
        truth = formats.read_truth(options.file, shape=options.shape, order=options.order)
    except InputError:
        return None  # most scenes come without one
    return {
        "whose": truth.reference,
        "names": truth.names,
        "abundances": None if truth.abundances is None else truth.abundances.shape,
        "endmembers": None if truth.endmembers is None else truth.endmembers.shape,
        "notes": truth.notes,
    }


def _reference_text(reference: dict[str, Any] | None) -> str:
    if reference is None:
        return "none in the file"
    shapes = [f"{kind} {reference[kind]}" for kind in ("abundances", "endmembers") if reference[kind] is not None]
    names = f", {', '.join(reference['names'])}" if reference["names"] else ""
    return f"{' and '.join(shapes)}{names} ({reference['whose']})"
