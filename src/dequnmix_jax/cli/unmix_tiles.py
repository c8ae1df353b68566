"""What `dequnmix unmix` does with a scene larger than memory, or with --tile: from disk to disk, tile by tile."""

import json
import os
import time
from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from dequnmix_jax.cli.progress import Line
from dequnmix_jax.cli.scene_options import open_scene, options_of, warn
from dequnmix_jax.cli.workflow import Known, check_fits, describe_trace, library_of, model_record
from dequnmix_jax.equilibrium.config import Model
from dequnmix_jax.io.atomic import reserved
from dequnmix_jax.io.disk_space import in_words
from dequnmix_jax.parallel.processes import Team
from dequnmix_jax.report.page import report
from dequnmix_jax.results.result import Result
from dequnmix_jax.results.writer import check_ours, write_page
from dequnmix_jax.scenes.scene import Scene
from dequnmix_jax.tiles.journal import folder_of
from dequnmix_jax.tiles.survey import view
from dequnmix_jax.training.words import plain

# Copies of the cube that lie in memory while it is unmixed whole: what was read, the valid pixels of it, two that are
# mixed back; and images of one number: states of the solver, images and layers of the network.
_CUBES, _STATES, _LAYERS = 4, 16, 6

# Share of the memory that is free which a scene may take.
_SHARE = 0.7


def _free() -> int | None:
    """Return the bytes of memory that are free for use, on the host and on the device, or None where nothing tells."""
    found = []
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                found.append(1024 * int(line.split()[1]))
    except OSError:
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    import jax

    limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit")
    return min([*found, *([limit] if limit else [])], default=None)


def needed(shape: tuple[int, int, int], count: int, config: Model) -> int:
    """Return the bytes that unmixing a whole scene takes, about.

    Args:
        shape: (H, W, B).
        count: R, endmembers.
        config: the parts of the map.
    """
    height, width, bands = shape
    layers = 0 if config.network is None else _LAYERS * config.network.width
    return 4 * height * width * (_CUBES * bands + _STATES * count + layers)


def in_tiles(args: Namespace, known: Known) -> bool:
    """Return whether a scene is to be unmixed in tiles: as asked, or because it does not fit into memory."""
    if args.tile is not None or args.halo is not None:
        return True
    if known.config.pools_in_loop:
        return False
    source = open_scene(args)
    room = _free() if source.lazy else None
    if room is None:
        return False
    good = source.shape[2] if source.good_bands is None else int(source.good_bands.sum())
    size = needed((*source.shape[:2], good), len(known.params["endmembers"]), known.config)
    if size <= _SHARE * room:
        return False
    warn(
        f"note: The scene is unmixed in tiles: whole it would take about {in_words(size)} of memory, and "
        f"{in_words(room)} are free."
    )
    return True


class _Progress:
    """A line on stderr: the stage, tiles a second, and the time left."""

    def __init__(self) -> None:
        self.line = Line()
        self.first: tuple[float, int] | None = None

    def say(self, text: str) -> None:
        """Say what is odd, above the line."""
        self.line.clear()
        warn(f"warning: {text}")

    def __call__(self, stage: str, share: float, done: int, total: int) -> None:
        filled = round(24 * share)
        text = f"{stage} [{'#' * filled}{'.' * (24 - filled)}] {share:.0%}"
        if total and stage == "unmixing":
            now = time.perf_counter()
            if done == 1:
                self.first = (now, done)  # the first tile waited for the compiler and tells nothing about the speed
            finished = round(share * total)
            text = f"{stage} [{'#' * filled}{'.' * (24 - filled)}] {finished}/{total} tiles"
            if self.first is not None and done > 1:
                rate = (done - self.first[1]) / max(now - self.first[0], 1e-9)
                minutes, seconds = divmod(round((total - finished) / rate), 60)
                text += f"  {rate:.2g} tiles/s  {minutes}:{seconds:02d} left"
        self.line.show(text)


def unmix_in_tiles(args: Namespace, known: Known, team: Team) -> None:
    """Unmix the scene that the options name tile by tile, and write maps, spectra, pictures and a report."""
    from dequnmix_jax.tiles.unmix import unmix_tiled

    source = open_scene(args)
    good = source.shape[2] if source.good_bands is None else int(source.good_bands.sum())
    check_fits(known, source, good)
    for note in view(source).source.notes if team.rank == 0 else ():
        warn(f"note: {note}")
    library = library_of(args)
    configuration, more = model_record(known)
    beside = team.rank == 0 and args.report is not None and args.report.absolute().parent != args.output.absolute()
    progress = _Progress()
    with ExitStack() as stack:
        places = None
        if team.rank == 0:
            check_ours(args.output, args.force)
            targets = [args.output, args.report] if beside else [args.output]
            places = stack.enter_context(reserved(*targets, overwrite=args.force))

        def also(folder: Path, result: Result) -> list[Path]:
            written = [] if args.no_plots else save_pictures(folder, result)
            if args.report is not None:
                page = places.part(args.report) if beside and places else folder / args.report.name
                write_page(page, report(result, library))
            return written

        try:
            found = unmix_tiled(
                known.params,
                source,
                known.config,
                args.output,
                tile=args.tile,
                halo=args.halo,
                drop_invalid=args.nodata is not None,
                configuration=configuration,
                record={"reading": options_of(args), **more},
                overwrite=args.force,
                format=args.format,
                watch=progress if team.rank == 0 else lambda *_: None,
                say=progress.say,
                also=also,
                team=team,
                outputs=places,
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt("interrupted; finished tiles are kept, and the same command goes on.") from None
        except OSError:
            progress.line.clear()
            if folder_of(args.output).is_dir():
                warn("note: Finished tiles are kept; the same command goes on with them.")
            raise
        finally:
            progress.line.clear()
    if team.rank > 0:
        return  # the first process speaks for all
    if found.resumed:
        warn(f"note: {found.resumed} of {found.tiles} tiles were finished by an earlier run.")
    names = [str(path) for path in found.files] + ([str(args.report)] if args.report else [])
    if args.json:
        print(json.dumps(plain({**found.summary, "files": names}), indent=2, allow_nan=False))
        return
    told = found.summary["tiles"]
    error = "" if told["halo_error"] is None else f", beyond which an abundance changes by {told['halo_error']:.1e}"
    print(f"{told['count']} tiles of {told['rows']} x {told['columns']} pixels, halo of {told['halo']} pixels{error}")
    print(describe_trace(found.trace))
    print("\n".join(names))


def save_pictures(folder: Path, result: Result) -> list[Path]:
    """Draw abundances, spectra and the scene of a result into a folder, and return the files."""
    from dequnmix_jax.report import plots

    assert result.composite is not None  # tiles have one
    # Colours as bands from short to long wavelengths, which `composite` turns again.
    shown = Scene(
        result.composite[..., ::-1] / np.float32(255), wavelengths=np.array([460.0, 550.0, 640.0]), mask=result.mask
    )
    picture = plots.composite(shown, low=0.0, high=100.0)
    picture.axes[0].set_title(f"{result.composite_bands} as red, green, blue", fontsize=9)
    figures = {
        "abundances.png": plots.abundance_maps(result.abundances, mask=result.mask),
        "endmembers.png": plots.endmember_spectra(
            result.endmembers, wavelengths=result.wavelengths_nm, unit=str(result.summary["unit"])
        ),
        "composite.png": picture,
    }
    return [plots.save(figure, folder / name) for name, figure in figures.items()]
