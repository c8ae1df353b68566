"""What `dequnmix info`, `fit` and `unmix` do; `cli` reads their options and says their failures."""

import json
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from dequnmix_jax.checks import InputError
from dequnmix_jax.cli.scene_options import read_for_unmixing
from dequnmix_jax.cli.unmix_tiles import in_tiles, unmix_in_tiles
from dequnmix_jax.cli.workflow import (
    describe_trace,
    library_of,
    load_model,
    unmixed,
)
from dequnmix_jax.io import georaster
from dequnmix_jax.parallel.processes import Team, join
from dequnmix_jax.report import style
from dequnmix_jax.report.page import report
from dequnmix_jax.results.result import Result
from dequnmix_jax.results.writer import check_ours, placed_together, put_result, write_page
from dequnmix_jax.scenes.scene import Scene
from dequnmix_jax.training.words import plain

if TYPE_CHECKING:
    pass
from dequnmix_jax.report.plots import save_pictures


def unmix(args: Namespace) -> None:
    """Unmix a scene by a trained model and write maps, spectra and pictures into a folder."""
    if args.report is not None or not args.no_plots:
        style.require()
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
