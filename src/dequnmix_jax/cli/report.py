"""`dequnmix report`: from a result, or from a scene in one command, to a page that any browser shows."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.cli.batch import is_batch, run_batch
from dequnmix_jax.cli.clock import stage
from dequnmix_jax.cli.known import no_known_options, request_of, unmix_by_spectra
from dequnmix_jax.cli.options import ReportOptions
from dequnmix_jax.cli.scene_options import count_endmembers, open_scene, read_for_unmixing
from dequnmix_jax.cli.unmix import write_everything
from dequnmix_jax.cli.verdicts import print_verdicts
from dequnmix_jax.cli.workflow import (
    configure,
    fixed_of,
    open_for,
    read_library_of,
    train,
    unmix_by,
)
from dequnmix_jax.io import formats
from dequnmix_jax.io.provenance import SUMMARY
from dequnmix_jax.io.remote import Remote
from dequnmix_jax.libraries.library import Library
from dequnmix_jax.report import style
from dequnmix_jax.report.page import check_page, report
from dequnmix_jax.results import dataset, files
from dequnmix_jax.results.library_names import with_library_names
from dequnmix_jax.results.maps import colour_composite, composite_words, residual_map
from dequnmix_jax.results.result import Result, read_result
from dequnmix_jax.results.verdicts import with_verdicts
from dequnmix_jax.results.writer import placed_together, write_page
from dequnmix_jax.scenes.band_order import scene_in_order
from dequnmix_jax.scenes.read_options import IN_MEMORY
from dequnmix_jax.scenes.scene import Scene, mask_invalid
from dequnmix_jax.start_uncertainty import SEEDS, STARTS, check_bands, check_linear, with_start_uncertainty
from dequnmix_jax.trained import load_model, with_bands_of
from dequnmix_jax.training import checkpoint
from dequnmix_jax.training.words import plain


def make_report(options: ReportOptions) -> None:
    """Report on a result; for a scene, train or read a model and unmix the scene first."""
    style.require()
    file = options.scene.file
    scenes = (file, *options.batch.more) if options.scene_of_result is None else (
        file, options.scene_of_result, *options.batch.more
    )  # fmt: skip
    is_list = is_batch((file,)) or bool(options.batch.more)
    is_result = not is_list and ((file.is_dir() and (file / SUMMARY).is_file()) or dataset.is_result(file))
    if is_list or (is_batch(scenes) and not is_result and options.output.suffix.lower() != ".html"):
        run_batch(make_report, options, scenes, options.output, _of_scene, ".html")
        return
    check_page(options.output)
    folder = None if is_result else options.result
    if folder is not None:
        files.require(files.format_of(folder, options.format)[0])  # reported before the work
    with placed_together(folder, options.output, options.force) as (place, page):
        assert page is not None
        library = read_library_of(options.library, options.library_scale)
        result = _read_result(options) if is_result else _unmix_scene(options, place, library)
        with stage("report"):
            write_page(page, report(result, library))
    result = with_verdicts(result)
    if options.json:
        written = {"report": str(options.output), "result": None if options.result is None else str(options.result)}
        print(json.dumps(plain({**result.summary, **written}), indent=2, allow_nan=False))
        return
    if options.result is not None:
        print(f"result: {options.result}")
    print_verdicts(result.summary)
    print(f"report: {options.output}")


def _of_scene(options: ReportOptions, place: Path, output: Path) -> ReportOptions:
    """Return the options of one of many scenes, or results."""
    kept = None if options.result is None else options.result / output.stem
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
    scene = replace(options.scene, file=place)
    return replace(options, scene=scene, scene_of_result=None, output=output, result=kept, json=False)


def _read_result(options: ReportOptions) -> Result:
    folder = options.scene.file
    of_a_scene = {
        "--endmembers": options.endmembers,
        "--model": options.model,
        "--result": options.result,
        "--config": options.training.config,
        "--epochs": options.training.epochs,
        "--mixing": options.training.mixing,
        "--constraint": options.training.constraint,
    }
    given = [name for name, value in of_a_scene.items() if value is not None] + options.known.given()
    if given:
        raise InputError(
            f"{folder} is the output of an unmixing, to which {' and '.join(given)} does not apply; leave it out, "
            "or name a scene."
        )
    result = read_result(folder)
    if options.scene_of_result is None:
        return result
    return with_scene(result, _read_scene_of(options, options.scene_of_result, result.summary))


def _read_scene_of(options: ReportOptions, path: Path, summary: Mapping[str, Any]) -> Scene:
    """Read the scene of a result as it was read for the unmixing; options given now override those of then."""
    recorded = summary.get("reading")
    reading = (dict(recorded) if isinstance(recorded, dict) else {}) | options.scene.given()
    if reading.get("shape") is not None:
        reading["shape"] = tuple(reading["shape"])
    if reading.get("mask") == IN_MEMORY:  # the result knows its mask
        for name in ("mask", "mask_values", "mask_invert"):
            reading.pop(name, None)
    try:
        reading["ignore"] = [(float(low), float(high)) for low, high in reading.get("ignore") or ()]
        scene = formats.read(path, **reading).with_good_bands()
    except TypeError as error:
        raise InputError(f"{options.scene.file / SUMMARY} was changed ({error}); unmix the scene again.") from error
    return mask_invalid(scene) if reading.get("nodata") is not None else scene


def with_scene(result: Result, scene: Scene) -> Result:
    """Return a result with the maps that need its scene: the picture in colour, and the residual where there is none.

    A residual that is kept stays: of mixing that is not linear it is not that of s a E.

    Raises:
        InputError: the scene has a different shape or other bands.
    """
    if result.wavelengths_nm is not None:
        scene = scene_in_order(scene, result.wavelengths_nm)
    expected = (*result.abundances.shape[:2], result.endmembers.shape[1])
    if scene.cube.shape != expected:
        raise InputError(
            f"The scene has shape {scene.cube.shape} and the result {expected} (rows, columns, bands); expected the "
            "scene that was unmixed, read with the same options."
        )
    valid = result.valid & scene.valid
    residual = result.residual
    if residual is None:
        residual = residual_map(scene.cube, result.abundances, result.referred, result.brightness, valid)
    colours, bands = colour_composite(scene)
    return replace(
        result,
        residual=residual,
        composite=np.round(255 * colours).astype(np.uint8),
        composite_bands=composite_words(bands, scene.wavelengths),
    )


def _unmix_by_spectra(options: ReportOptions, library: Path, folder: Path | None) -> Result:
    """Unmix a scene by the spectra of a library, and keep the result in a folder if there is one."""
    training = options.training
    words = ("start", "gradient", "mixing", "constraint", "prox", "nonlinear", "prior", "config")
    foreign = [f"--{word}" for word in words if getattr(training, word) is not None]
    if training.epochs is not None and options.known.method != "deq":
        foreign.append("--epochs")
    if foreign:
        raise InputError(
            f"{' and '.join(foreign)} {'is' if len(foreign) == 1 else 'are'} for a training, and the spectra of "
            f"{library} are used as they are; leave it out, or write --endmembers N to train."
        )
    source = open_scene(options.scene)
    request = request_of(options.known, library, options.library_scale, source)
    result, _, scene = unmix_by_spectra(request, options.scene, source)
    if folder is not None:
        assert options.result is not None
        write_everything(folder, result, scene, files.format_of(options.result, options.format)[0], pictures=True)
    return result


def _only_of_starts(options: ReportOptions, starts: bool) -> None:
    """Raise InputError for options of known spectra, but for those of the uncertainty "starts" of a new model."""
    if not starts:
        if options.endmembers is not None and (options.known.uncertainty is not None or options.known.bounds):
            raise InputError(
                "--uncertainty and --bounds of endmembers that are found in the scene are by the spread over other "
                "starts; expected --uncertainty starts with --endmembers N. Write it, or pass a LIBRARY."
            )
        no_known_options(options.known)
        return
    if options.endmembers is None:
        raise InputError(
            "--uncertainty starts compares other ways to find the endmembers of a scene; expected --endmembers N with "
            "it. Add it, or leave it out."
        )
    no_known_options(replace(options.known, uncertainty=None, draws=None, bounds=False))


def _unmix_scene(options: ReportOptions, folder: Path | None, library: Library | None) -> Result:
    """Train on a scene, or read a model, unmix the scene, and keep the result in a folder if there is one."""
    file, reading = options.scene.file, options.scene
    if options.scene_of_result is not None:
        raise InputError(
            f"{file} is not the output of an unmixing, so that a second scene does not apply; expected RESULT SCENE, "
            "or one SCENE with --endmembers N."
        )
    starts = options.known.uncertainty == STARTS and not isinstance(options.endmembers, Path | Remote)
    if not isinstance(options.endmembers, Path | Remote):
        _only_of_starts(options, starts)
    if (options.endmembers is None) == (options.model is None):
        open_scene(reading)  # if the file is not a scene, this error says what it is
        raise InputError(
            f"{file} is a scene; expected either --endmembers N (or auto), to train on it, --endmembers LIBRARY, to "
            "unmix by its spectra, or --model FILE. If it is a map of a result, pass its folder or .nc file."
        )
    if isinstance(options.endmembers, Path | Remote):
        return _unmix_by_spectra(options, options.endmembers, folder)
    configuration = configure(options.training)  # errors in it are reported before the scene is read
    if starts:
        check_linear(configuration.model.nonlinear)
    for name, word in (("--mixing", options.training.mixing), ("--constraint", options.training.constraint)):
        if options.model is not None and word is not None:
            raise InputError(
                f"{options.model} is a trained model, to which {name} does not apply; leave one of them out."
            )
    if options.model is not None:
        model = load_model(options.model, None)
        reading = with_bands_of(model, reading)
        scene, record = read_for_unmixing(reading, source=open_for(model, reading))
    else:
        assert options.endmembers is not None
        scene, record = read_for_unmixing(reading, options.endmembers)
        fixed = fixed_of(options.fixed, scene)
        count, counted = count_endmembers(
            options.endmembers, scene, "--endmembers", options.max_endmembers, len(fixed.names) + 1
        )
        if starts:
            check_bands(scene, count)
        model, _ = train(
            options.training, configuration, reading, scene, count, fixed=fixed, counted=counted, saved=bool(folder)
        )
    result, _ = unmix_by(model, scene, record)
    if starts:
        import jax

        _, rest = jax.random.split(jax.random.key(options.training.seed))  # as `run` does
        first = jax.random.fold_in(rest, 1)
        keys = jax.random.split(first, options.known.draws or SEEDS)
        with stage("comparing starts"):
            result = with_start_uncertainty(result, scene, keys, fixed=fixed.spectra, bounds=options.known.bounds)
    if library is not None:
        result = with_library_names(result, library)
    if folder is not None:
        assert options.result is not None
        format, _ = files.format_of(options.result, options.format)
        write_everything(folder, result, scene, format, pictures=True)
        if options.model is None and folder.is_dir():
            checkpoint.save(folder / "model.npz", model.params, model.metadata)
    return result
