"""What `dequnmix info`, `fit` and `unmix` do; `cli` reads their options and says their failures."""

import json
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dequnmix_jax import canvas, checkpoint, files, georaster
from dequnmix_jax.atomic import check_file, reserved
from dequnmix_jax.checks import InputError
from dequnmix_jax.command_tiles import in_tiles, library_of, unmix_in_tiles
from dequnmix_jax.outputs import check_ours, placed_together, put_result, write_page
from dequnmix_jax.progress import describe_fit
from dequnmix_jax.reading import count_endmembers, read_for_unmixing, read_scene
from dequnmix_jax.reporting import report
from dequnmix_jax.results import Result
from dequnmix_jax.resuming import kept_beside
from dequnmix_jax.scene import Scene, check_scene, mask_invalid
from dequnmix_jax.shown import shown
from dequnmix_jax.team import Team, join
from dequnmix_jax.trained import plain
from dequnmix_jax.unmixing import (
    choices,
    describe_trace,
    draw_patches,
    history_record,
    load_model,
    not_its_own_input,
    train,
    unmixed,
)

if TYPE_CHECKING:
    from dequnmix_jax.records import Estimate


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
        "ground_fields": dict(scene.crs),
        "transform": None if scene.ground is None else scene.ground.transform,
        "projection": None if scene.ground is None else scene.ground.projection,
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
    print(f"on the ground: {shown(scene.crs.get('map info', 'not in the file'))}")
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
        truth = files.read_truth(args.file, shape=None if args.shape is None else tuple(args.shape), order=args.order)
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


def fit(args: Namespace) -> None:
    """Train a model on a scene and keep it in a file."""
    not_its_own_input(args.output, args.file)
    choices(args)  # a misspelt word is said before the scene is read
    # The place is taken before the work begins: a missing folder is said now and not in half an hour.
    check_file(args.output)
    with reserved(args.output, overwrite=args.force) as outputs:
        drawn = None
        if args.patches is None:
            scene, record = read_for_unmixing(args, args.endmembers)
            count = count_endmembers(args.endmembers, scene, "--endmembers")
        else:
            drawn, record = draw_patches(args)
            scene = drawn.scene
            sample = replace(scene, cube=drawn.sample[None], mask=None)
            count = count_endmembers(args.endmembers, sample, "--endmembers")
        keep = kept_beside(args.output)
        trained = train(args, scene, count, keep, drawn)
        checkpoint.put(outputs.part(args.output), trained.params, trained.metadata)
        outputs.place(spent=[keep])
    if args.json:
        found = {"model": str(args.output), "endmembers": count, "seconds": trained.seconds}
        found |= {"training": history_record(trained.history), "notes": list(scene.notes), **record}
        found["stages"] = trained.metadata.get("stages")
        print(json.dumps(plain(found), indent=2, allow_nan=False))
        return
    for line in describe_fit(trained.history) + (trained.metadata.get("stages") or []):
        print(line)
    print(f"model: {args.output} ({trained.seconds:.1f} s)")


def unmix(args: Namespace) -> None:
    """Unmix a scene by a trained model and write maps, spectra and pictures into a folder."""
    if args.report is not None or not args.no_plots:
        canvas.require()
    if args.library is not None and args.report is None:
        raise InputError("--library names spectra for a report, and none is asked for; expected --report FILE as well.")
    if args.format == "geotiff":
        georaster.require("--format geotiff")  # said now, and not after the work
    check_ours(args.output, args.force)
    team = join() if args.distributed else Team()
    known = load_model(args)
    if args.distributed or in_tiles(args, known):
        unmix_in_tiles(args, known, team)
        return
    with placed_together(args.output, args.report, args.force) as (folder, sheet):
        assert folder is not None
        scene, record = read_for_unmixing(args)
        library = library_of(args)
        found, trace = unmixed(known, scene, record)
        written = write_everything(folder, found, scene, args.format, pictures=not args.no_plots)
        if sheet is not None:
            write_page(sheet, report(found, library))
    names = [str(args.output / path.name) for path in written] + ([str(args.report)] if args.report else [])
    if args.json:
        print(json.dumps(plain({**found.summary, "files": names}), indent=2, allow_nan=False))
        return
    print(describe_trace(trace))
    print("\n".join(names))


def write_everything(folder: Path, found: Result, scene: Scene, format: str, pictures: bool) -> list[Path]:
    """Write maps, spectra, record and pictures of a result into an empty folder, and return the files."""
    written = put_result(folder, found, scene, format=format)
    if pictures:
        written += save_pictures(folder, found, scene, None, str(found.summary["unit"]))
    return written


def save_pictures(
    folder: Path, estimate: "Estimate | Result", scene: Scene, names: Sequence[str] | None, unit: str, **spectra: Any
) -> list[Path]:
    """Draw abundances, spectra and the scene into a folder, and return the files."""
    from dequnmix_jax import plots

    figures = {
        "abundances.png": plots.abundance_maps(estimate.abundances, names, mask=scene.mask),
        "endmembers.png": plots.endmember_spectra(
            estimate.endmembers, names, wavelengths=scene.wavelengths, unit=unit, **spectra
        ),
        "composite.png": plots.composite(scene),
    }
    return [plots.save(figure, folder / name) for name, figure in figures.items()]
