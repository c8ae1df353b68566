"""`dequnmix unmix`: unmix a scene by a trained model or by the spectra of a library, whole or in tiles."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dequnmix_jax.checks import InputError
from dequnmix_jax.cli.batch import is_batch, run_batch
from dequnmix_jax.cli.clock import stage
from dequnmix_jax.cli.known import needless_seed, no_known_options, request_of, source_for, unmix_by_spectra
from dequnmix_jax.cli.options import UnmixOptions
from dequnmix_jax.cli.scene_options import open_scene, read_for_unmixing
from dequnmix_jax.cli.unmix_tiles import needs_tiles, spectra_need_tiles, unmix_in_tiles, unmix_spectra_in_tiles
from dequnmix_jax.cli.verdicts import print_verdicts
from dequnmix_jax.cli.workflow import describe_trace, open_for, read_library_of, unmix_by
from dequnmix_jax.io import npz
from dequnmix_jax.io.remote import Remote, as_local
from dequnmix_jax.report import style
from dequnmix_jax.report.page import check_page, report
from dequnmix_jax.report.plots import save_pictures
from dequnmix_jax.results import files
from dequnmix_jax.results.library_names import with_library_names
from dequnmix_jax.results.result import Result
from dequnmix_jax.results.verdicts import with_verdicts
from dequnmix_jax.results.writer import check_ours, placed_together, put_result, write_page
from dequnmix_jax.scenes.scene import Scene
from dequnmix_jax.trained import load_model, with_bands_of
from dequnmix_jax.training.words import plain

if TYPE_CHECKING:
    from dequnmix_jax.types import Trace


def unmix(options: UnmixOptions) -> None:
    """Unmix a scene by a trained model or by known spectra, and write maps, spectra and pictures into a folder."""
    if options.report is not None:
        check_page(options.report)
    if options.report is not None or not options.no_plots:
        style.require()
    format, single = files.format_of(options.output, options.format)
    files.require(format)  # reported before the work
    options, words = _words(options)
    if is_batch(words):
        by_model = options.model
        if by_model is not None:
            load_model(by_model, options.endmembers if isinstance(options.endmembers, int) else None)
        run_batch(unmix, options, words, options.output, _of_scene, model=by_model)
        return
    if not single:
        check_ours(options.output, options.force)
    if _by_spectra(options):
        _unmix_by_spectra(options)
        return
    assert options.model is not None and not isinstance(options.endmembers, Path | Remote)
    model = load_model(options.model, options.endmembers)
    reading = with_bands_of(model, options.scene)
    source = open_for(model, reading)
    if needs_tiles(options, model, source):
        _check_tiled(options)
        unmix_in_tiles(options, model, reading, source)
        return
    with placed_together(options.output, options.report, options.force) as (folder, page):
        assert folder is not None
        scene, record = read_for_unmixing(reading, source=source)
        library = read_library_of(options.library, options.library_scale)
        result, trace = unmix_by(model, scene, record)
        if library is not None:
            result = with_library_names(result, library)
        with stage("maps and pictures"):
            written = write_everything(folder, result, scene, format, pictures=not options.no_plots)
        if page is not None:
            with stage("report"):
                write_page(page, report(result, library))
    _print_result(options, result, trace, written)


def _words(options: UnmixOptions) -> tuple[UnmixOptions, tuple[Path, ...]]:
    """Return the options with the model, and the scenes that the words name.

    Raises:
        InputError: it is not clear which word is the model.
    """
    first, second, more, by_model = options.scene.file, options.model, options.batch.more, options.batch.by_model
    scenes = tuple(word for word in (first, second, *more) if word is not None)
    if by_model is not None:
        return replace(options, model=by_model), scenes
    by_library = isinstance(options.endmembers, Path | Remote)
    if by_library and second is not None and (more or not _is_model(second)):
        return replace(options, model=None), scenes
    if more:
        raise InputError(
            f"{len(scenes)} scenes and no model are given; expected -m MODEL, or --endmembers LIBRARY, with more than "
            "one scene. Add it."
        )
    return (options if second is None else replace(options, model=as_local(second))), (first,)


def _is_model(path: Path) -> bool:
    """Return whether a file is a model, or does not exist and is named like one."""
    if path.suffix.lower() != ".npz" or isinstance(path, Remote) or is_batch((path,)):
        return False
    try:
        return not path.is_file() or npz.MODEL in npz.load(path)
    except InputError:
        return False


def _of_scene(options: UnmixOptions, place: Path, output: Path) -> UnmixOptions:
    """Return the options of one of many scenes."""
    page = None if options.report is None else output / options.report.name
    return replace(options, scene=replace(options.scene, file=place), output=output, report=page, json=False)


def _check_tiled(options: UnmixOptions) -> None:
    """Raise InputError for an output that tiles, which go from disk to disk, do not make."""
    format, single = files.format_of(options.output, options.format)
    if single or format not in files.TILED:
        wanted = format if format in files.TILED else "geotiff"
        raise InputError(
            f"The scene is unmixed in tiles, from disk to disk, and the output is {options.output} with the format "
            f"{format}; expected a folder of envi, geotiff, cog or netcdf maps. Pass -o FOLDER --format {wanted}."
        )


def _by_spectra(options: UnmixOptions) -> bool:
    """Return whether a scene is unmixed by the spectra of a library and not by a model; refuse both and neither."""
    library = isinstance(options.endmembers, Path | Remote)
    if options.model is not None and library:
        raise InputError(
            f"{options.model} is a MODEL and {options.endmembers} a LIBRARY; expected one of the two. Leave the model "
            "out to unmix by the spectra, or write a number after --endmembers."
        )
    if options.model is None and not library:
        number = "" if options.endmembers is None else " A number of endmembers goes with a model."
        raise InputError(
            f"No model and no spectra are given for {options.scene.file}; expected a MODEL that `dequnmix fit` made, "
            f"or --endmembers LIBRARY.{number}"
        )
    if not library:
        no_known_options(options.known, epochs=True)
    elif options.known.method != "deq" and (options.known.epochs is not None or needless_seed(options.known)):
        raise InputError("--epochs and --seed are for the training of --method deq; expected neither. Leave them out.")
    return library


def _unmix_by_spectra(options: UnmixOptions) -> None:
    """Unmix a scene by the spectra of a library, whole or in tiles."""
    assert isinstance(options.endmembers, Path | Remote)
    source = open_scene(options.scene)
    request = request_of(options.known, options.endmembers, options.library_scale, source)
    if spectra_need_tiles(options, request, source):
        _check_tiled(options)
        unmix_spectra_in_tiles(options, request, source_for(request, source))
        return
    format, _ = files.format_of(options.output, options.format)
    with placed_together(options.output, options.report, options.force) as (folder, page):
        assert folder is not None
        library = read_library_of(options.library, options.library_scale)
        result, trace, scene = unmix_by_spectra(request, options.scene, source)
        with stage("maps and pictures"):
            written = write_everything(folder, result, scene, format, pictures=not options.no_plots)
        if page is not None:
            with stage("report"):
                write_page(page, report(result, library))
    _print_result(options, result, trace, written)


def _print_result(options: UnmixOptions, result: Result, trace: "Trace", written: Sequence[Path]) -> None:
    """Print the files of a result, or its record and them as JSON."""
    single = files.format_of(options.output, options.format)[1]
    names = [str(options.output if single else options.output / path.name) for path in written]
    names += [str(options.report)] if options.report else []
    result = with_verdicts(result)
    if options.json:
        print(json.dumps(plain({**result.summary, "files": names}), indent=2, allow_nan=False))
        return
    print(describe_trace(trace, isinstance(options.endmembers, Path | Remote) and options.known.method != "deq"))
    print_verdicts(result.summary)
    print("\n".join(names))


def write_everything(folder: Path, result: Result, scene: Scene, format: str, pictures: bool) -> list[Path]:
    """Write maps, spectra, record and pictures of a result into an empty folder, or its maps into a file.

    Returns:
        The files written.
    """
    if not folder.is_dir():
        files.write_file(folder, result, scene, format)
        return [folder]
    written = put_result(folder, result, scene, format=format)
    return written + (save_pictures(folder, result) if pictures else [])
