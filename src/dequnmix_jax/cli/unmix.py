"""`dequnmix unmix`: unmix a scene by a trained model, whole or in tiles."""

import json
from pathlib import Path

from dequnmix_jax.checks import InputError
from dequnmix_jax.cli.clock import stage
from dequnmix_jax.cli.options import UnmixOptions
from dequnmix_jax.cli.scene_options import read_for_unmixing
from dequnmix_jax.cli.unmix_tiles import needs_tiles, unmix_in_tiles
from dequnmix_jax.cli.workflow import describe_trace, load_model, open_for, read_library_of, unmix_by, with_bands_of
from dequnmix_jax.parallel.processes import Team, join
from dequnmix_jax.report import style
from dequnmix_jax.report.page import check_page, report
from dequnmix_jax.report.plots import save_pictures
from dequnmix_jax.results import files
from dequnmix_jax.results.result import Result
from dequnmix_jax.results.writer import check_ours, placed_together, put_result, write_page
from dequnmix_jax.scenes.scene import Scene
from dequnmix_jax.training.words import plain


def unmix(options: UnmixOptions) -> None:
    """Unmix a scene by a trained model and write maps, spectra and pictures into a folder."""
    if options.report is not None:
        check_page(options.report)
    if options.report is not None or not options.no_plots:
        style.require()
    if options.library is not None and options.report is None:
        raise InputError("--library names the spectra of a report; expected --report FILE as well. Add it.")
    format, single = files.format_of(options.output, options.format)
    files.require(format)  # reported before the work
    if not single:
        check_ours(options.output, options.force)
    team = join() if options.distributed else Team()
    model = load_model(options.model, options.endmembers)
    reading = with_bands_of(model, options.scene)
    source = open_for(model, reading)
    if options.distributed or needs_tiles(options, model, source):
        if single or format not in ("envi", "geotiff", "cog"):
            raise InputError(
                f"The scene is unmixed in tiles, from disk to disk, and the output is {options.output} with the format "
                f"{format}; expected a folder of envi, geotiff or cog maps. Pass -o FOLDER --format geotiff."
            )
        unmix_in_tiles(options, model, reading, source, team)
        return
    with placed_together(options.output, options.report, options.force) as (folder, page):
        assert folder is not None
        scene, record = read_for_unmixing(reading, source=source)
        library = read_library_of(options.library, options.library_scale)
        result, trace = unmix_by(model, scene, record)
        with stage("maps and pictures"):
            written = write_everything(folder, result, scene, format, pictures=not options.no_plots)
        if page is not None:
            with stage("report"):
                write_page(page, report(result, library))
    names = [str(options.output if single else options.output / path.name) for path in written]
    names += [str(options.report)] if options.report else []
    if options.json:
        print(json.dumps(plain({**result.summary, "files": names}), indent=2, allow_nan=False))
        return
    print(describe_trace(trace))
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
