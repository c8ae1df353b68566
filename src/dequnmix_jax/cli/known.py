"""Unmix by the spectra of a library: what `dequnmix unmix` and `dequnmix report` do with --endmembers LIBRARY."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dequnmix_jax.abundances.methods import METHODS, Known
from dequnmix_jax.checks import InputError
from dequnmix_jax.cli.clock import stage
from dequnmix_jax.cli.options import KnownOptions, SceneOptions
from dequnmix_jax.cli.scene_options import read_for_unmixing, warn
from dequnmix_jax.known_spectra import (
    check_uncertainty,
    method_of,
    on_common_bands,
    solve_with,
    train_with,
)
from dequnmix_jax.libraries.chosen import Chosen, choose_spectra
from dequnmix_jax.libraries.reading import read_library
from dequnmix_jax.libraries.units import check_units, rms_and_highest
from dequnmix_jax.results.result import Result
from dequnmix_jax.scenes.scene import Scene
from dequnmix_jax.scenes.source import Source, Window
from dequnmix_jax.training.config import RECOMMENDED

if TYPE_CHECKING:
    from dequnmix_jax.types import History, Trace

_SAMPLED_ROWS = 32
"""Rows of a scene larger than memory from which its unit is judged."""


class Request(NamedTuple):
    """Spectra and method of an unmixing.

    Attributes:
        chosen: spectra on the bands of the scene.
        known: the method; None: "deq".
        options: of the command.
    """

    chosen: Chosen
    known: Known | None
    options: KnownOptions


def no_known_options(options: KnownOptions, epochs: bool = False) -> None:
    """Raise InputError where options of known spectra are given without a library.

    Args:
        options: of the command.
        epochs: whether --epochs and --seed are among them.
    """
    given = options.given()
    if epochs:
        given += [f"--{name}" for name in ("epochs", "seed") if getattr(options, name) is not None]
    if given:
        raise InputError(
            f"{' and '.join(given)} {'applies' if len(given) == 1 else 'apply'} to the spectra of a library; expected "
            "--endmembers LIBRARY as well. Add it, or leave the others out."
        )


def request_of(options: KnownOptions, library: Path, scale: float | None, source: Source) -> Request:
    """Read a library and choose its spectra for a scene.

    Args:
        options: of the command.
        library: the file.
        scale: divisor of its values, or None.
        source: the scene.
    """
    if not library.exists():
        raise InputError(
            f"{library} does not exist; expected a spectral library (ENVI, CSV, USGS text) for --endmembers, or a "
            "number of endmembers."
        )
    known = method_of(options.method or METHODS[0], sparsity=options.sparsity, variation=options.variation)
    chosen = choose_spectra(
        read_library(library, scale=scale, sort=True),
        source.wavelengths,
        source.fwhm,
        good=source.good_bands,
        spectra=options.spectra,
        classes=options.classes,
    )
    check_uncertainty(options.uncertainty, known)
    (known or Known("soft")).check_count(*chosen.spectra.shape)
    return Request(chosen, known, options)


def source_for(request: Request, source: Source) -> Source:
    """Return a scene of which only the bands that the spectra cover are good, with the notes about the spectra."""
    used = np.ones(source.shape[2], np.bool_) if source.good_bands is None else source.good_bands
    return replace(source, good_bands=request.chosen.covered & used, notes=(*source.notes, *request.chosen.notes))


def check_units_of(request: Request, source: Source) -> None:
    """Raise InputError where spectra and scene have different units, judged from a few rows of the scene."""
    if request.known is not None and request.known.method == "scaled":
        return
    rows = np.unique(np.linspace(0, source.shape[0] - 1, _SAMPLED_ROWS).astype(int))
    parts = [
        source.read(Window(slice(int(row), int(row) + 1), slice(0, source.shape[1])), source.good_bands) for row in rows
    ]
    cube, seen = (np.concatenate(part) for part in zip(*parts, strict=True))
    check_units(request.chosen.spectra, *rms_and_highest(cube, seen & np.isfinite(cube).all(axis=2)), source.name)


def unmix_by_spectra(request: Request, reading: SceneOptions, source: Source) -> "tuple[Result, Trace, Scene]":
    """Unmix a scene by spectra, print notes and warnings, and return result, trace and scene.

    Args:
        request: from `request_of`.
        reading: how the scene is read.
        source: the scene.
    """
    scene, record = read_for_unmixing(reading, source=source)
    scene = on_common_bands(scene, request.chosen._replace(covered=request.chosen.covered[_used(source)]))
    for note in request.chosen.notes:
        warn(f"note: {note}")
    before = len(record["warnings"])
    result, trace = _solved(request, scene, record)
    for text in result.summary["warnings"][before:]:
        warn(f"warning: {text}")
    return result, trace, scene


def _used(source: Source) -> Any:
    good = source.good_bands
    return np.ones(source.shape[2], np.bool_) if good is None else good


def _solved(request: Request, scene: Scene, record: dict[str, Any]) -> "tuple[Result, Trace]":
    if request.known is not None:
        with stage("unmixing"):
            return solve_with(scene, request.chosen, request.known, record, request.options.uncertainty)
    import jax

    from dequnmix_jax.cli.progress import Line

    options, line = request.options, Line()
    training = RECOMMENDED[0] if options.epochs is None else replace(RECOMMENDED[0], epochs=options.epochs)

    def show(history: "History") -> None:
        line.show(f"training: {history.loss.size} steps")

    with stage("training and unmixing"):
        key = jax.random.key(options.seed or 0)
        found = train_with(key, scene, request.chosen, record, training=training, on_progress=show)
    line.clear()
    return found
