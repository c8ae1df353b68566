"""What `dequnmix report` does: from a result, or from a scene in one go, to a page that any browser shows."""

import json
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.cli.scene_options import count_endmembers, read_for_unmixing
from dequnmix_jax.cli.unmix import library_of, write_everything
from dequnmix_jax.cli.workflow import Known, choices, load_model, not_its_own_input, train, unmixed
from dequnmix_jax.io import formats
from dequnmix_jax.io.provenance import SUMMARY
from dequnmix_jax.report import style
from dequnmix_jax.report.page import report
from dequnmix_jax.results.maps import colour_composite, composite_words, residual_map
from dequnmix_jax.results.result import Result, read_result
from dequnmix_jax.results.writer import placed_together, write_page
from dequnmix_jax.scenes.scene import Scene, mask_invalid
from dequnmix_jax.training import checkpoint
from dequnmix_jax.training.words import plain


def make_report(args: Namespace) -> None:
    """Report on a result; on a scene, train or read a model and unmix the scene first."""
    style.require()
    is_result = args.file.is_dir() and (args.file / SUMMARY).is_file()
    inputs = [path for path in (args.file, args.scene, args.library, args.model) if path is not None]
    not_its_own_input(args.output, *inputs)
    folder = None if is_result else args.result
    with placed_together(folder, args.output, args.force) as (place, page):
        assert page is not None
        library = library_of(args)
        result = _of_result(args) if is_result else _of_scene(args, place)
        write_page(page, report(result, library))
    if args.json:
        written = {"report": str(args.output), "result": None if args.result is None else str(args.result)}
        print(json.dumps(plain({**result.summary, **written}), indent=2, allow_nan=False))
        return
    if args.result is not None:
        print(f"result: {args.result}")
    print(f"report: {args.output}")


def _of_result(args: Namespace) -> Result:
    given = [
        f"--{name}" for name in ("endmembers", "model", "result", "config", "epochs") if getattr(args, name) is not None
    ]
    if given:
        raise InputError(
            f"{args.file} is the output of an unmixing, to which {' and '.join(given)} does not apply; leave it out, "
            "or name a scene."
        )
    found = read_result(args.file)
    if args.scene is None:
        return found
    return with_scene(found, _scene_of(args, found.summary))


def _scene_of(args: Namespace, summary: Mapping[str, Any]) -> Scene:
    """Read the scene of a result with the options that it was read with then; those given now go before."""
    then = summary.get("reading")
    options = dict(then) if isinstance(then, dict) else {}
    for name in ("variable", "shape", "order", "nodata", "scale", "saturation", "ignore", "bands"):
        if getattr(args, name) is not None:
            options[name] = getattr(args, name)
    for name in ("shape", "bands"):
        if options.get(name) is not None:
            options[name] = tuple(options[name])
    try:
        options["ignore"] = [(float(low), float(high)) for low, high in options.get("ignore") or ()]
        scene = formats.read(args.scene, **options).with_good_bands()
    except TypeError as error:
        raise InputError(f"{args.file / SUMMARY} was changed ({error}); unmix the scene again.") from error
    return mask_invalid(scene) if options.get("nodata") is not None else scene


def with_scene(result: Result, scene: Scene) -> Result:
    """Return a result with what only its scene can tell: the residual and the picture in colour.

    Raises:
        InputError: the scene has other pixels or other bands.
    """
    expected = (*result.abundances.shape[:2], result.endmembers.shape[1])
    if scene.cube.shape != expected:
        raise InputError(
            f"The scene has shape {scene.cube.shape} and the result {expected} (rows, columns, bands); expected the "
            "scene that was unmixed, read with the same options."
        )
    valid = result.valid & scene.valid
    residual = residual_map(scene.cube, result.abundances, result.endmembers, result.brightness, valid)
    colours, bands = colour_composite(scene)
    return replace(
        result,
        residual=residual,
        composite=np.round(255 * colours).astype(np.uint8),
        composite_bands=composite_words(bands, scene.wavelengths),
    )


def _of_scene(args: Namespace, folder: Path | None) -> Result:
    if args.scene is not None:
        raise InputError(
            f"{args.file} is no output of an unmixing, so that a second scene has no meaning; expected RESULT SCENE, "
            "or one SCENE with --endmembers N."
        )
    if (args.endmembers is None) == (args.model is None):
        raise InputError(
            f"{args.file} is a scene; expected either --endmembers N (or auto), to train on it, or --model FILE."
        )
    choices(args)  # a misspelt word is said before the scene is read
    if args.model is not None:
        known = load_model(args)
        scene, record = read_for_unmixing(args)
    else:
        scene, record = read_for_unmixing(args, args.endmembers)
        trained = train(args, scene, count_endmembers(args.endmembers, scene, "--endmembers"))
        known = Known(trained.params, trained.config, trained.metadata)
    result, _ = unmixed(known, scene, record)
    if folder is not None:
        write_everything(folder, result, scene, args.format, pictures=True)
        if args.model is None:
            checkpoint.save(folder / "model.npz", known.params, trained.metadata)
    return result
