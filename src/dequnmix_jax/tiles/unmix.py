"""Unmix a scene larger than memory tile by tile, from disk to disk, with the result of the whole scene."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dequnmix_jax.abundances.methods import Known, Mesma
from dequnmix_jax.checks import InputError, check_endmembers, check_kind, check_params
from dequnmix_jax.conventions import SCALED
from dequnmix_jax.equilibrium.config import Model
from dequnmix_jax.equilibrium.scene_statistics import Scenewide
from dequnmix_jax.io import formats, georaster, xarrays
from dequnmix_jax.io.atomic import Reserved, check_folder, check_target_now, reserved
from dequnmix_jax.io.raw import Guard
from dequnmix_jax.io.remote import as_local
from dequnmix_jax.results.files import TILED
from dequnmix_jax.results.maps import (
    at_level,
    check_class_of,
    composite_words,
    convention_record,
    endmember_names,
    referred,
)
from dequnmix_jax.results.result import Result
from dequnmix_jax.results.summary import summary
from dequnmix_jax.results.verdicts import judge
from dequnmix_jax.results.writer import check_ours
from dequnmix_jax.scenes.scene import Scene
from dequnmix_jax.scenes.source import Source, source_of
from dequnmix_jax.tiles import journal, output, solve
from dequnmix_jax.tiles.channels import Channels
from dequnmix_jax.tiles.options import Hooks, Output, Progress, Tiling, ignore_progress, ignore_warning
from dequnmix_jax.tiles.records import combined_trace, not_converged, tiles_summary
from dequnmix_jax.tiles.run import Prepared, Run, check_free_space
from dequnmix_jax.tiles.survey import view
from dequnmix_jax.training.words import plain
from dequnmix_jax.types import Params, Trace


class Tiled(NamedTuple):
    """Result of a tiled unmixing.

    Attributes:
        files: the files written.
        trace: most steps of a tile, largest relative residual of a tile, whether all tiles converged.
        tiles: number of tiles.
        resumed: number of tiles that an earlier run had finished.
        summary: the content of summary.json.
    """

    files: list[Path]
    trace: Trace
    tiles: int
    resumed: int
    summary: dict[str, Any]


def unmix_tiled(
    params: Params,
    scene: Any,
    config: Model,
    path: str | os.PathLike[str],
    *,
    tile: int | None = None,
    halo: int | None = None,
    drop_invalid: bool = False,
    whole: Scenewide | None = None,
    names: Sequence[str] | None = None,
    configuration: Any = None,
    record: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    format: str = "envi",
    on_progress: Progress = ignore_progress,
    on_warning: Callable[[str], None] = ignore_warning,
    client: Any = None,
    retries: int = 2,
) -> Tiled:
    """Unmix a scene of any size, tile by tile, and write the result into a folder as `write` does.

    The result is that of `unmix` on the whole scene, up to the tolerance of the solver and 1e-4: statistics of the
    whole scene are computed first, each tile is solved with a halo around the pixels that are kept, and the next tile
    is read meanwhile. Memory does not depend on the number of rows.

    A killed run resumes when it is started again with the same input, parameters and options, and ends with the same
    bits: finished tiles are kept in the folder `.NAME.tiles` beside the output until the output is complete.

    Args:
        params: from `init` or `fit`.
        scene: from `io.open_source`, or what that takes (a path, an array), or a Scene.
        config: the parts of the map and its solvers; not Residual() with attention, which pools over the whole scene
            at each step.
        path: the folder to make.
        tile: N, for tiles of N x N pixels; None: as large as some 100 MB hold.
        halo: pixels around a tile that are read and not kept; None: measured.
        drop_invalid: mask pixels that are zero in every band, NaN or infinite, as `mask_invalid` does.
        whole: unit and pools of the scene that the model was trained on (`tiles.statistics_of`), to use in place of
            those of this scene: maps of neighbouring scenes are then comparable, and the scene is read once, without a
            pass before. None: those of this scene.
        names: R names; None: "endmember 1" and so on.
        configuration, record: further entries of summary.json, as for `write`.
        overwrite: replace a folder that an earlier run made.
        format: "envi", "geotiff" or "cog" (extra "geo"), or "netcdf" (one file maps.nc; extra "xarray"), of the maps.
        on_progress: called with the stage, its share done, tiles done in this run and tiles of the scene.
        on_warning: called with a sentence as soon as there is a warning.
        client: of Dask (`distributed.Client`), whose workers see the same files and have this package; they do what
            does not depend on each other, with the same bits (extra "dask"). None: this process, which reads the next
            tile meanwhile.
        retries: how often a part is tried again whose worker died.

    Returns:
        A Tiled; abundances.img and the other maps hold (H, W, R) and so on.

    Raises:
        InputError: the scene cannot be unmixed, the model cannot be tiled, the folder exists, another process writes
            it, or the input changed while it was read.
        OSError: the disk is full, or the folder cannot be written; finished tiles are kept.
    """
    tiling, target = Tiling(tile, halo, drop_invalid, whole), as_local(path)
    out = Output(target, names, configuration, record, overwrite, format)
    return unmix_to_folder(params, scene, config, tiling, out, Hooks(on_progress, on_warning), client, retries)


def unmix_to_folder(
    params: Params,
    scene: Any,
    config: Model,
    tiling: Tiling,
    out: Output,
    hooks: Hooks,
    client: Any = None,
    retries: int = 2,
    places: Reserved | None = None,
    known: Known | None = None,
) -> Tiled:
    """Do what `unmix_tiled` does, by records.

    Args:
        params, scene, config, client, retries: as for `unmix_tiled`.
        tiling, out, hooks: its options.
        places: outputs that the caller has reserved, this folder among them, which are put in place together; None:
            this folder alone.
        known: unmix each pixel by this method and the spectra of `params`, in place of the map of `config`.
    """
    _check(params, config, out, places is not None)
    source = _source(scene)
    seen = view(source, tiling.drop_invalid)
    check_endmembers(params["endmembers"], seen.source.shape[2])
    check_class_of(out.class_of, len(params["endmembers"]))
    names = endmember_names(out.names, len(params["endmembers"]))
    guard = Guard(source)
    solve.check_statistics(config, tiling.whole)
    run = Run(
        params, seen, config, tiling.size, tiling.halo, guard, hooks.on_progress, client, retries, known, tiling.whole
    )
    channels = Channels(len(names))
    with ExitStack() as stack:
        if places is None:
            places = stack.enter_context(reserved(out.path, overwrite=out.overwrite))
        work = journal.open_work(out.path, run.fingerprint(), run.sound, hooks.on_warning)
        check_free_space(work.folder, seen.source.shape, channels.total)
        survey = run.survey(work)
        for text in survey.warnings:
            hooks.on_warning(text)
        prepared = run.prepare(work, survey)
        store = work.store([tile.core for tile in prepared.plan.tiles], channels.total)
        resumed = run.solve(store, prepared, channels)
        entries = run.complete(store, prepared, channels)
        trace, state_rms = combined_trace(entries, sum(entry["valid"] for entry in entries))
        maps = output.TileMaps(store, channels, state_rms)
        contents = _contents(run, out, names, prepared, entries, maps, trace)
        for text in not_converged(entries, config, known):
            hooks.on_warning(text)
        run.guard.check()
        hooks.on_progress("writing", 0.0, 0, len(entries))
        folder = places.part(out.path)
        folder.mkdir()
        small = _small_result(maps, contents)
        contents.summary["verdicts"] = [plain(verdict._asdict()) for verdict in judge(small)]
        written = output.write_files(output.Export(folder, maps, contents, out.format), run.write)
        if hooks.extra_files is not None:
            written += hooks.extra_files(folder, small)
        places.place(spent=[*work.files(), work.folder])
    files = [out.path / file.name for file in written]
    return Tiled(files, trace, len(entries), resumed, contents.summary)


def _check(params: Params, config: Model, out: Output, reserved_elsewhere: bool) -> None:
    """Raise InputError where options do not fit or the output cannot be made."""
    if out.format not in TILED:
        listed = f"{', '.join(TILED[:-1])} or {TILED[-1]}"
        raise InputError(f"format is {out.format!r}; expected {listed}, which are written in tiles.")
    check_params(params)
    check_kind(config, Model, "config")
    solve.check_tileable(config)
    check_target_now(out.path, out.overwrite or reserved_elsewhere)
    check_folder(out.path)
    check_ours(out.path, out.overwrite)
    if out.format == "netcdf":
        xarrays.require('format="netcdf"')
    elif out.format != "envi":
        georaster.require(f'format="{out.format}"')


def _contents(
    run: Run,
    out: Output,
    names: tuple[str, ...],
    prepared: Prepared,
    entries: Sequence[Mapping[str, Any]],
    maps: output.TileMaps,
    trace: Trace,
) -> output.Contents:
    """Return what is written beside the maps: spectra, names and the content of summary.json."""
    source, valid = run.seen.source, sum(int(entry["valid"]) for entry in entries)
    spectra = np.asarray(run.params["endmembers"], np.float32)
    convention = run.config.convention
    if convention == SCALED and run.known is None:  # known spectra have their level
        spectra = at_level(referred(spectra, convention), output.endmember_levels(maps))
    record = {
        **convention_record(convention),
        "endmember_levels": np.max(spectra, axis=1).astype(np.float64).tolist(),
        "tiles": tiles_summary(entries, prepared.plan, prepared.halo),
        **({} if run.given is None else {"statistics": "model"}),
        "warnings": [*prepared.survey.warnings, *not_converged(entries, run.config, run.known)],
        **(output.map_models(maps, tuple(out.class_of)) if isinstance(run.known, Mesma) else {}),
        **(out.record or {}),
    }
    masked = source.shape[0] * source.shape[1] - valid
    notes = (*source.notes, f"{masked} of {masked + valid} pixels are masked.") if masked else source.notes
    content = summary(
        output.map_means(maps),
        names,
        replace(source, notes=notes),
        source.shape,
        valid,
        configuration=out.configuration,
        trace=trace,
        record=record,
        class_of=out.class_of,
        above=output.mean_above_error(maps, spectra, convention, isinstance(run.known, Mesma)),
    )
    words = composite_words(prepared.survey.colour_bands, source.wavelengths)
    return output.Contents(source, spectra, names, words, content, convention, tuple(out.class_of))


def _small_result(maps: output.TileMaps, contents: output.Contents) -> Result:
    """Return a result of every k-th pixel."""
    return Result(
        contents.names,
        endmembers=contents.endmembers,
        wavelengths_nm=contents.source.wavelengths,
        fwhm_nm=contents.source.fwhm,
        composite_bands=contents.colour_words,
        summary=contents.summary,
        convention=contents.convention,
        class_of=contents.class_of,
        **output.thumbnails(maps),
    )


def _source(scene: Any) -> Source:
    source = scene
    if isinstance(scene, Scene):
        source = source_of(scene)
    elif not isinstance(scene, Source):
        source = formats.open_source(scene)
    # A source that cannot be read in windows is read once.
    return source if source.lazy else source_of(source.scene())
