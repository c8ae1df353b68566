"""`dequnmix unmix` for a scene larger than memory, or with --tile: from disk to disk, tile by tile."""

import json
import os
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from dequnmix_jax.checks import InputError, how_many
from dequnmix_jax.cli.known import Request, check_units_of
from dequnmix_jax.cli.options import SceneOptions, UnmixOptions
from dequnmix_jax.cli.progress import Line
from dequnmix_jax.cli.scene_options import warn
from dequnmix_jax.cli.verdicts import print_verdicts
from dequnmix_jax.cli.workflow import describe_trace, read_library_of, say
from dequnmix_jax.equilibrium.config import Analytic, Model
from dequnmix_jax.io.atomic import reserved
from dequnmix_jax.io.disk_space import in_words
from dequnmix_jax.known_spectra import model_of_known, record_of, threshold_warning
from dequnmix_jax.known_uncertainty import OFF
from dequnmix_jax.parallel.cluster import JOBS, workers
from dequnmix_jax.report.page import report
from dequnmix_jax.report.plots import save_pictures
from dequnmix_jax.results.library_names import library_names
from dequnmix_jax.results.result import Result
from dequnmix_jax.results.writer import check_ours, write_page
from dequnmix_jax.scenes.source import Source
from dequnmix_jax.tiles.journal import folder_of
from dequnmix_jax.tiles.survey import view
from dequnmix_jax.trained import TrainedModel, check_fits, model_record, names_of, statistics_in
from dequnmix_jax.training.words import plain

# Copies of the cube in memory while it is unmixed whole: the cube itself, its valid pixels and two reconstructions; and
# copies of the state of the solver, and images per channel of the network.
_CUBES, _STATES, _LAYERS = 4, 16, 6

# Share of the free memory that a scene may take.
_SHARE = 0.7


def _free_memory() -> int | None:
    """Return the bytes of memory that are free on the host and on the device, or None if unknown.

    Of a worker its share.
    """
    sizes = []
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                sizes.append(1024 * int(line.split()[1]))
    except OSError:
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    import jax

    limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit")
    free = min([*sizes, *([limit] if limit else [])], default=None)
    return None if free is None else free // int(os.environ.get(JOBS, "1"))


def needed(shape: tuple[int, int, int], count: int, config: Model) -> int:
    """Return about how many bytes it takes to unmix a whole scene.

    Args:
        shape: (H, W, B).
        count: R, endmembers.
        config: the parts of the map.
    """
    height, width, bands = shape
    layers = 0 if config.network is None else _LAYERS * config.network.width
    return 4 * height * width * (_CUBES * bands + _STATES * count + layers)


def needs_tiles(options: UnmixOptions, model: TrainedModel, source: Source) -> bool:
    """Return whether a scene is unmixed in tiles: because an option says so, or because it does not fit into memory."""
    if _asks(options):
        return True
    if model.config.pools_in_loop:
        return False
    free = _free_memory() if source.lazy else None
    if free is None:
        return False
    size = needed(view(source).source.shape, len(model.params["endmembers"]), model.config)
    if size <= _SHARE * free:
        return False
    warn(
        f"note: The scene is unmixed in tiles: whole, it would take about {in_words(size)} of memory, and "
        f"{in_words(free)} are free."
    )
    return True


def _asks(options: UnmixOptions) -> bool:
    """Return whether an option says that a scene is divided."""
    batch = options.batch
    return options.unit == "model" or any(
        value is not None for value in (options.tile, options.halo, batch.jobs, batch.scheduler)
    )


def spectra_need_tiles(options: UnmixOptions, request: Request, source: Source) -> bool:
    """Return whether a scene is unmixed by known spectra in tiles, as `needs_tiles` for a model.

    Raises:
        InputError: tiles are needed or asked for, and the method looks at the whole scene.
    """
    size = needed(source.shape, len(request.chosen.names), Model(gradient=Analytic()))
    free = _free_memory() if source.lazy else None
    asked = _asks(options)
    wanted = asked or (free is not None and size > _SHARE * free)
    known = request.known
    if wanted and (known is None or not known.by_pixel):
        method = "deq" if known is None else known.method
        raise InputError(
            f"--method {method} looks at the whole scene, which "
            f"{'takes about ' + in_words(size) + ' of memory' if not asked else 'tiles divide'}; expected a method of "
            "single pixels for tiles: fcls, nnls, scaled, soft, sunsal, mesma, or one that is not linear."
        )
    if wanted and request.asked.by != OFF:
        raise InputError(
            "--uncertainty is computed for a whole scene, and this one is unmixed in tiles; expected a part of it that "
            "fits into memory. Leave one of them out."
        )
    if options.unit == "model":
        raise InputError(
            "--unit model takes the unit of the training of a MODEL; expected none with known spectra. Leave it out."
        )
    if options.halo:
        raise InputError("--halo is for a model whose pixels depend on each other; expected none with known spectra.")
    if wanted and not asked:
        warn(f"note: The scene is unmixed in tiles: whole, it would take about {in_words(size)} of memory.")
    return wanted


def unmix_spectra_in_tiles(options: UnmixOptions, request: Request, source: Source) -> None:
    """Unmix a scene by known spectra tile by tile; arguments as for `unmix_in_tiles`, `request` the spectra."""
    known = request.known
    assert known is not None
    highest = check_units_of(request, source)
    source = replace(source, notes=(*source.notes, *threshold_warning(known, highest)))
    metadata = {"model": {"method": plain(known.record())}, "start": record_of(known)["start"]}
    model = TrainedModel({"endmembers": request.chosen.spectra}, model_of_known(known), metadata)
    unmix_in_tiles(options, model, options.scene, source, request)


class _Progress:
    """A line on stderr: the stage, tiles per second, and the time left."""

    def __init__(self) -> None:
        self.line = Line()
        self.first: tuple[float, int] | None = None

    def warn(self, text: str) -> None:
        """Print a warning above the line."""
        self.line.clear()
        warn(f"warning: {text}")

    def __call__(self, stage: str, share: float, done: int, total: int) -> None:
        filled = round(24 * share)
        text = f"{stage} [{'#' * filled}{'.' * (24 - filled)}] {share:.0%}"
        if total and stage == "unmixing":
            now = time.perf_counter()
            if done == 1:
                self.first = (now, done)  # the first tile includes compilation and does not show the speed
            finished = round(share * total)
            text = f"{stage} [{'#' * filled}{'.' * (24 - filled)}] {finished}/{total} tiles"
            if self.first is not None and done > 1:
                rate = (done - self.first[1]) / max(now - self.first[0], 1e-9)
                minutes, seconds = divmod(round((total - finished) / rate), 60)
                text += f"  {rate:.2g} tiles/s  {minutes}:{seconds:02d} left"
        self.line.show(text)


def unmix_in_tiles(
    options: UnmixOptions,
    model: TrainedModel,
    reading: SceneOptions,
    source: Source,
    request: Request | None = None,
) -> None:
    """Unmix a scene tile by tile, and write maps, spectra, pictures and a report.

    Args:
        options: of the command.
        model: of as many bands as the good ones of the scene.
        reading: how the scene is read, with the bands of the model.
        source: the scene.
        request: the spectra that the endmembers of `model` are, and the method; None: the map of the model.
    """
    from dequnmix_jax.tiles.options import Hooks, Output, Tiling
    from dequnmix_jax.tiles.unmix import unmix_to_folder

    used = view(source).source
    check_fits(model, used, say)
    for note in used.notes:
        warn(f"note: {note}")
    library = read_library_of(options.library, options.library_scale)
    configuration, entries = model_record(model)
    if request is not None:
        configuration = {"method": None if request.known is None else request.known.record()}
    labels = names_of(model) if request is None else request.chosen.names
    if request is None and library is not None:
        spectra = np.asarray(model.params["endmembers"])
        labels, of_names = library_names(spectra, used.wavelengths, used.fwhm, library, labels)
        entries = {**entries, **of_names}
    page, target = options.report, options.output
    page_outside = page is not None and page.absolute().parent != target.absolute()
    progress = _Progress()
    with ExitStack() as stack:
        check_ours(target, options.force)
        targets = [target, page] if page_outside and page is not None else [target]
        places = stack.enter_context(reserved(*targets, overwrite=options.force))
        batch = options.batch
        client = stack.enter_context(workers(batch.jobs, batch.scheduler, batch.retries))

        def extra_files(folder: Path, result: Result) -> list[Path]:
            written = [] if options.no_plots else save_pictures(folder, result)
            if page is not None:
                place = places.part(page) if page_outside else folder / page.name
                write_page(place, report(result, library))
            return written

        try:
            tiled = unmix_to_folder(
                model.params,
                source,
                model.config,
                Tiling(
                    options.tile,
                    options.halo,
                    reading.nodata is not None,
                    statistics_in(model) if options.unit == "model" else None,
                ),
                Output(
                    target,
                    labels,
                    class_of=() if request is None else request.chosen.classes,
                    configuration=configuration,
                    record={"reading": reading.given(), **entries},
                    overwrite=options.force,
                    format=options.format or "envi",
                ),
                Hooks(progress, progress.warn, extra_files),
                client,
                batch.retries,
                places,
                None if request is None else request.known,
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt("interrupted; finished tiles are kept, and the same command resumes.") from None
        except OSError:
            progress.line.clear()
            if folder_of(target).is_dir():
                warn("note: Finished tiles are kept; the same command resumes with them.")
            raise
        finally:
            progress.line.clear()
    if tiled.resumed:
        warn(f"note: {tiled.resumed} of {tiled.tiles} tiles were finished by an earlier run.")
    names = [str(path) for path in tiled.files] + ([str(page)] if page else [])
    if options.json:
        print(json.dumps(plain({**tiled.summary, "files": names}), indent=2, allow_nan=False))
        return
    tiles = tiled.summary["tiles"]
    error = "" if tiles["halo_error"] is None else f", beyond which an abundance changes by {tiles['halo_error']:.1e}"
    halo = "" if request is not None else f", halo of {how_many(tiles['halo'], 'pixel')}{error}"
    print(f"{how_many(tiles['count'], 'tile')} of {tiles['rows']} x {tiles['columns']} pixels{halo}")
    print(describe_trace(tiled.trace, request is not None))
    print_verdicts(tiled.summary)
    print("\n".join(names))
