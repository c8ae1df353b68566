"""What `dequnmix info`, `fit` and `unmix` do; `cli` reads their options and says their failures."""

import json
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dequnmix_jax import checkpoint, files, georaster
from dequnmix_jax.atomic import replacing_file, replacing_folder
from dequnmix_jax.checks import InputError
from dequnmix_jax.config import RECOMMENDED, Model
from dequnmix_jax.outputs import SUMMARY
from dequnmix_jax.progress import describe_fit, fit_scene
from dequnmix_jax.scene import Scene, check_scene, mask_invalid
from dequnmix_jax.trained import check_params, model_from, model_metadata, plain

if TYPE_CHECKING:
    from dequnmix_jax.records import Estimate, Trace


def warn(text: str) -> None:
    """Say something on stderr that is no failure."""
    print(text, file=sys.stderr)


def read_scene(args: Namespace) -> Scene:
    """Read the scene that the options name, as it is stored."""
    shape = None if args.shape is None else tuple(args.shape)
    return files.read(
        args.file,
        variable=args.variable,
        shape=shape,
        order=args.order,
        nodata=args.nodata,
        scale=args.scale,
        saturation=args.saturation,
        ignore=args.ignore or (),
        bands=args.bands,
    )


def read_for_unmixing(args: Namespace, count: int | None = None) -> Scene:
    """Read the good bands of a scene, check it, and say on stderr what was assumed and what is odd."""
    scene = read_scene(args).with_good_bands()
    if args.nodata is not None:
        scene = mask_invalid(scene)
    warnings = check_scene(scene, count=count)
    for note in scene.notes:
        warn(f"note: {note}")
    for warning in warnings:
        warn(f"warning: {warning}")
    return scene


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
    print(f"{args.file}: {height} rows, {width} columns, {bands} bands")
    span = found["wavelengths_nm"]
    print(f"wavelengths: {f'{span[0]:.1f} to {span[1]:.1f} nm' if span else 'not in the file'}")
    print(f"good bands: {used.cube.shape[2]} of {bands}{'' if scene.good_bands is not None else ' (none marked bad)'}")
    print(f"valid pixels: {found['valid_pixels']} of {height * width}")
    print(f"values: {f'{finite.min():.4g} to {finite.max():.4g}' if finite.size else 'none is finite'}")
    print(f"on the ground: {scene.crs.get('map info', 'not in the file')}")
    print(f"reference: {_reference_text(found['reference'])}")
    for label in ("note", "warning"):
        for text in found[f"{label}s"]:
            print(f"{label}: {text}")
    if problem is not None:
        print(f"cannot be unmixed as it is: {problem}")


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
    import jax

    chosen = {name: getattr(args, name) for name in ("gradient", "constraint", "prox") if getattr(args, name)}
    config = Model(**chosen)
    training = RECOMMENDED[0] if args.epochs is None else replace(RECOMMENDED[0], epochs=args.epochs)
    _not_its_own_input(args.output, args.file)
    # The place is taken before the work begins: a missing folder is said now and not in half an hour.
    with replacing_file(args.output, overwrite=args.force) as temporary:
        scene = read_for_unmixing(args, args.endmembers)
        fitted = fit_scene(jax.random.key(args.seed), scene, config, training, RECOMMENDED[1], count=args.endmembers)
        metadata = model_metadata(scene, config, training, RECOMMENDED[1], args.seed, fitted.history)
        metadata["ignore"] = [list(pair) for pair in args.ignore or ()]
        metadata["bands"] = None if args.bands is None else list(args.bands)
        params = jax.tree.map(np.asarray, fitted.params)
        checkpoint.save(temporary, params, metadata, overwrite=True)
    for line in describe_fit(fitted.history):
        print(line)
    print(f"model: {args.output} ({fitted.seconds:.1f} s)")


def _not_its_own_input(output: Path, *inputs: Path) -> None:
    for path in inputs:
        if output.exists() and path.exists() and output.samefile(path):
            raise InputError(f"{output} is also the input; expected another name for the output. Choose one.")


def unmix_scene(params: Any, scene: Scene, config: Model) -> tuple["Estimate", "Trace"]:
    """Unmix a scene, compiled, and return numpy arrays."""
    import jax
    import jax.numpy as jnp

    from dequnmix_jax import model

    mask = None if scene.mask is None else jnp.asarray(scene.mask)
    found = jax.jit(model.unmix, static_argnums=2)(params, jnp.asarray(scene.cube), config, mask=mask)
    estimate, trace = jax.tree.map(np.asarray, found)
    return estimate, trace


def check_folder(path: Path, force: bool) -> None:
    """Raise InputError where `--force` would replace a folder that no earlier run made."""
    if force and path.is_dir() and any(path.iterdir()) and not (path / SUMMARY).is_file():
        raise InputError(
            f"{path} holds files and no {SUMMARY}, so no earlier output of this program; it is not replaced. Choose "
            "another folder."
        )


def unit_of(config: Model) -> str:
    """Return what the spectra of a model are measured in, for the axis of a picture."""
    return "reflectance, scaled to maximum 1" if config.constraint == "cone" else "reflectance"


def unmix(args: Namespace) -> None:
    """Unmix a scene by a trained model and write maps, spectra and pictures into a folder."""
    from dequnmix_jax import plots

    if not args.no_plots:
        plots.require()
    if args.format == "geotiff":
        georaster.require("--format geotiff")  # said now, and not after the work
    check_folder(args.output, args.force)
    params, metadata = checkpoint.load(args.model)
    checkpoint.check_matches(params, count=args.endmembers)
    config = model_from(metadata, args.model)
    check_params(params, config, args.model)
    if args.ignore is None:
        args.ignore = [(float(low), float(high)) for low, high in metadata.get("ignore") or ()]  # as for `fit`
    if args.bands is None and metadata.get("bands"):
        args.bands = tuple(int(number) for number in metadata["bands"])
    with replacing_folder(args.output, overwrite=args.force) as folder:
        scene = read_for_unmixing(args)
        checkpoint.check_matches(params, bands=scene.cube.shape[2])
        _compare_wavelengths(scene, metadata)
        estimate, trace = unmix_scene(params, scene, config)
        configuration = {name: metadata.get(name) for name in ("model", "training", "rates", "seed")}
        written = files.write(
            folder, estimate, scene, configuration=configuration, trace=trace, overwrite=True, format=args.format
        )
        if not args.no_plots:
            written += save_pictures(folder, estimate, scene, None, unit_of(config))
    print(f"{int(trace.steps)} steps, relative residual {float(trace.residual):.2e}, ", end="")
    print("converged" if trace.converged else "not converged")
    for path in written:
        print(args.output / path.name)
    if not trace.converged:
        warn(
            f"warning: The equilibrium was not reached within {config.forward.max_steps} steps: the relative residual "
            f"is {float(trace.residual):.2e} and {config.forward.tolerance:g} was asked for; do not trust the maps."
        )


def save_pictures(
    folder: Path, estimate: "Estimate", scene: Scene, names: Sequence[str] | None, unit: str, **spectra: Any
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


def _compare_wavelengths(scene: Scene, metadata: Mapping[str, Any]) -> None:
    trained = metadata.get("wavelengths_nm")
    if trained is None or scene.wavelengths is None:
        return
    apart = float(np.max(np.abs(np.asarray(trained, np.float64) - scene.wavelengths)))
    if apart > 1.0:  # nm; a tenth of the band width of an imaging spectrometer
        warn(f"warning: The bands of the scene lie up to {apart:.1f} nm from those that the model was trained on.")
