"""One scene larger than memory: unmixed tile by tile from disk to disk, with the result of the whole scene."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dequnmix_jax import mixing
from dequnmix_jax.checks import InputError, check_endmembers, check_kind, check_params
from dequnmix_jax.equilibrium.config import Model
from dequnmix_jax.io import formats, georaster
from dequnmix_jax.io.atomic import Reserved, check_folder, check_target_now, reserved
from dequnmix_jax.parallel.processes import ALONE, Team, leave, together
from dequnmix_jax.results.maps import composite_words, endmember_names
from dequnmix_jax.results.result import Result
from dequnmix_jax.results.summary import summary_of
from dequnmix_jax.results.writer import FORMATS, check_ours
from dequnmix_jax.scenes.scene import Scene
from dequnmix_jax.scenes.source import Source, source_of
from dequnmix_jax.tiles import journal, output, solve
from dequnmix_jax.tiles.records import told, traced, unreached
from dequnmix_jax.tiles.run import Guard, Run, Watch, check_room
from dequnmix_jax.tiles.survey import view
from dequnmix_jax.types import Params, Trace


class Tiled(NamedTuple):
    """What a tiled unmixing made.

    Attributes:
        files: written.
        trace: most steps of a tile, largest relative residual of a tile, whether all converged.
        tiles: how many, and how many of them an earlier run had finished.
        resumed: see `tiles`.
        summary: the content of summary.json.
    """

    files: list[Path]
    trace: Trace
    tiles: int
    resumed: int
    summary: dict[str, Any]


def _silent(stage: str, share: float, done: int, total: int) -> None:
    pass


def unmix_tiled(
    params: Params,
    scene: Any,
    config: Model,
    path: str | os.PathLike[str],
    *,
    tile: int | None = None,
    halo: int | None = None,
    drop_invalid: bool = False,
    names: Sequence[str] | None = None,
    configuration: Any = None,
    record: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    format: str = "envi",
    watch: Watch = _silent,
    say: Callable[[str], None] = lambda text: None,
    also: Callable[[Path, Result], Sequence[Path]] | None = None,
    team: Team = ALONE,
    outputs: Reserved | None = None,
) -> Tiled:
    """Unmix a scene of any size, tile by tile, and write the result into a folder as `write` does.

    The result is that of `unmix` on the whole scene, to the tolerance of the solver and 1e-4: what the scene as a whole
    decides is found first (`scenewide`), each tile sees a halo around the pixels that it answers for (`reach`), and the
    solve does the rest. Memory does not depend on the number of rows. The next tile is read while one is unmixed.

    A run that is killed goes on where it was when it is started again with the same input, parameters and choices, and
    ends with the same bits: finished tiles are kept in the folder `.NAME.tiles` beside the output until it is complete.

    Args:
        params: from `init` or `fit`.
        scene: from `open_source`, or what that takes (a path, an array), or a Scene.
        config: the parts of the map and its solvers; no Residual() with attention, which pools over the whole
            scene at each step.
        path: the folder to make.
        tile: N, for tiles of N x N pixels; as large as some 100 MB hold by default.
        halo: pixels around a tile that are read and not kept; measured by default.
        drop_invalid: mask pixels that are zero in every band, NaN or infinite, as `mask_invalid` does.
        names: R names, "endmember 1" and so on by default.
        configuration, record: further entries of summary.json, as for `write`.
        overwrite: replace a folder that an earlier run made.
        format: "envi" or "geotiff" (which needs the extra `geo`), of the maps.
        watch: is told how far it is.
        say: is told what is odd, in sentences, as soon as it is known.
        team: from `join_team`, where several processes divide the tiles among them: each calls this with the same
            arguments, and sees the same files. Process 0 looks through the scene first, and writes at last.
        outputs: what the caller has reserved, this folder among it, all of which is to be put in place together; this
            folder alone by default.
        also: makes further files in the folder, before it is renamed, from a Result of every k-th pixel (at most about
            a thousand along each side), and returns them.

    Returns:
        A Tiled; abundances.img and the like hold (H, W, R) and so on.

    Raises:
        InputError: the scene cannot be unmixed, the model cannot be tiled, the folder exists, another process writes
            it, or the input changed while it was read.
        OSError: no room on the disk, or no permission to write; what is finished is kept.
    """
    target = Path(path)
    if format not in FORMATS:
        raise InputError(f"format is {format!r}; expected {' or '.join(FORMATS)}.")
    check_params(params)
    check_kind(config, Model, "config")
    solve.check_tileable(config)
    check_target_now(target, overwrite or outputs is not None or team.rank > 0)
    check_folder(target)
    check_ours(target, overwrite)
    if format == "geotiff":
        georaster.require('format="geotiff"')
    source = _source(scene)
    seen = view(source, drop_invalid)
    bands = seen.source.shape[2]
    check_endmembers(params["endmembers"], bands)
    count = len(params["endmembers"])
    labels = endmember_names(names, count)
    run = Run(params, seen, config, tile, halo, Guard(source), watch, team)
    channels = output.Channels(count)
    if team.rank > 0:
        return _help(run, target, channels)
    with ExitStack() as stack:
        with together(team, target, "ready"):
            if outputs is None:
                outputs = stack.enter_context(reserved(target, overwrite=overwrite))
            work = journal.opened(target, run.fingerprint(), run.sound, say)
        with together(team, target, "prepared"):
            check_room(work.folder, seen.source.shape, channels.total)
            work.begin((*seen.source.shape[:2], channels.total))
            found = run.survey(work)
            for text in found.warnings:
                say(text)
            whole, tiles, reached = run.prepare(work, found)
            run.tidy(work, tiles)
        with together(team, target, "unmixed"):
            resumed = run.solve(work, found, whole, tiles, channels)
        with together(team, target, "written"):
            entries = run.complete(work, found, whole, tiles, channels)
            trace, state = traced(entries, found.valid)
            failed = unreached(entries, config)
            for text in failed:
                say(text)
            spectra = np.asarray(params["endmembers"], np.float32)
            if config.scales_endmembers:
                spectra = np.asarray(mixing.scale_to_unit_maximum(spectra))
            more = {
                "endmember_levels": output.heights(work, channels, spectra).tolist(),
                "tiles": told(entries, tiles, reached),
                "warnings": [*found.warnings, *failed],
                **({"processes": team.size} if team.size > 1 else {}),
                **(record or {}),
            }
            hidden = seen.source.shape[0] * seen.source.shape[1] - found.valid
            notes = (*seen.source.notes, f"{hidden} of {hidden + found.valid} pixels are masked.")
            means = output.means(work, channels, state)
            summary = summary_of(
                means,
                labels,
                replace(seen.source, notes=notes if hidden else seen.source.notes),
                seen.source.shape,
                found.valid,
                configuration=configuration,
                trace=trace,
                record=more,
            )
            run.guard.check()
            watch("writing", 0.0, 0, len(tiles.tiles))
            folder = outputs.part(target)
            folder.mkdir()
            words = composite_words(found.colour_bands, seen.source.wavelengths)
            written = output.write_files(
                folder, work, channels, state, seen.source, spectra, labels, words, summary, format
            )
            if also is not None:
                maps = output.every(work, channels, state)
                small = Result(
                    labels,
                    endmembers=spectra,
                    wavelengths_nm=seen.source.wavelengths,
                    fwhm_nm=seen.source.fwhm,
                    composite_bands=words,
                    summary=summary,
                    **maps,
                )
                written += also(folder, small)
            outputs.place(spent=[*work.files(), work.folder])
    leave(team, target)
    return Tiled([target / file.name for file in written], trace, len(tiles.tiles), resumed, summary)


def _help(run: Run, target: Path, channels: output.Channels) -> Tiled:
    """Do the share of a process that is not the first: unmix tiles, while that one prepares and writes."""
    for stage in ("ready", "prepared"):
        with together(run.team, target, stage):
            pass
    with together(run.team, target, "unmixed"):
        work = journal.joined(target, run.team.rank, run.fingerprint(), run.sound)
        work.begin((*run.seen.source.shape[:2], channels.total))
        found = run.survey(work)
        whole, tiles, _ = run.prepare(work, found)
        resumed = run.solve(work, found, whole, tiles, channels)
        trace, _ = traced(run.kept(work, tiles), found.valid)
    with together(run.team, target, "written"):
        pass
    leave(run.team, target)
    return Tiled([], trace, len(tiles.tiles), resumed, {})


def _source(scene: Any) -> Source:
    source = scene
    if isinstance(scene, Scene):
        source = source_of(scene)
    elif not isinstance(scene, Source):
        source = formats.open_source(scene)
    # What cannot be read in windows is read once.
    return source if source.lazy else source_of(source.scene())
