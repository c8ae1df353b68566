"""Unmix by the spectra of a library: what `dequnmix unmix` and `dequnmix report` do with --endmembers LIBRARY."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dequnmix_jax.abundances.methods import MESMA, METHODS, Known, Mesma
from dequnmix_jax.checks import InputError, how_many
from dequnmix_jax.cli.clock import stage
from dequnmix_jax.cli.options import OF_MESMA, KnownOptions, SceneOptions
from dequnmix_jax.cli.scene_options import read_for_unmixing, warn
from dequnmix_jax.known_spectra import (
    method_of,
    on_common_bands,
    settled,
    solve_with,
    train_with,
    with_normalised,
)
from dequnmix_jax.known_uncertainty import CLOSED, DRAWS, Asked, asked_for, noise_on_bands
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
        asked: which uncertainty.
    """

    chosen: Chosen
    known: Known | None
    options: KnownOptions
    asked: Asked = Asked()


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


def needless_seed(options: KnownOptions) -> bool:
    """Return whether a seed is given and nothing random is asked for."""
    return options.seed is not None and options.models is None and options.uncertainty_by != DRAWS


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
    known = _method_of(options)
    chosen = choose_spectra(
        read_library(library, scale=scale, sort=True),
        source.wavelengths,
        source.fwhm,
        good=source.good_bands,
        spectra=options.spectra,
        classes=options.classes,
    )
    chosen, known = settled(chosen, known, options.prune)
    asked = _asked(options, known)
    (known or Known("soft")).check_count(*chosen.spectra.shape)
    return Request(chosen, known, options, asked)


def _method_of(options: KnownOptions) -> Known | None:
    """Return the method of the options; None: "deq"."""
    known = method_of(options.method or METHODS[0], sparsity=options.sparsity, variation=options.variation)
    known = with_normalised(known, options.normalise)
    given = {name: getattr(options, name) for name in OF_MESMA if getattr(options, name) is not None}
    if not isinstance(known, Mesma):
        if given:
            words = [f"--{name.replace('_', '-')}" for name in given]
            raise InputError(
                f"{' and '.join(words)} {'applies' if len(words) == 1 else 'apply'} to --method {MESMA}; expected that "
                "method. Write it, or leave the others out."
            )
        return known
    names = {"max_rmse": "largest_rmse", "models": "draws"}
    if "fractions" in given:
        given["lowest"], given["highest"] = given.pop("fractions")
    return replace(known, **{names.get(name, name): value for name, value in given.items()}, seed=options.seed or 0)


def _asked(options: KnownOptions, known: Known | None) -> Asked:
    """Return which uncertainty the options ask for."""
    words = {"closed-form": CLOSED}
    by = None if options.uncertainty_by is None else words.get(options.uncertainty_by, options.uncertainty_by)
    if options.draws is not None and by != DRAWS:
        raise InputError("--draws applies to --uncertainty-by draws; expected that as well. Add it, or leave it out.")
    key = None
    if by == DRAWS:
        import jax

        key = jax.random.key(options.seed or 0)
    return asked_for(options.uncertainty, by, draws=options.draws or 20, bounds=options.bounds, key=key, known=known)


def source_for(request: Request, source: Source) -> Source:
    """Return a scene of which only the bands that the spectra cover are good, with the notes about the spectra."""
    used = np.ones(source.shape[2], np.bool_) if source.good_bands is None else source.good_bands
    return replace(source, good_bands=request.chosen.covered & used, notes=(*source.notes, *request.chosen.notes))


def check_units_of(request: Request, source: Source) -> float:
    """Raise InputError where spectra and scene have different units, judged from a few rows of the scene.

    Returns:
        The largest value in these rows.
    """
    rows = np.unique(np.linspace(0, source.shape[0] - 1, _SAMPLED_ROWS).astype(int))
    parts = [
        source.read(Window(slice(int(row), int(row) + 1), slice(0, source.shape[1])), source.good_bands) for row in rows
    ]
    cube, seen = (np.concatenate(part) for part in zip(*parts, strict=True))
    rms, highest = rms_and_highest(cube, seen & np.isfinite(cube).all(axis=2))
    if request.known is None or request.known.method != "scaled":
        check_units(request.chosen.spectra, rms, highest, source.name)
    return highest


def unmix_by_spectra(request: Request, reading: SceneOptions, source: Source) -> "tuple[Result, Trace, Scene]":
    """Unmix a scene by spectra, print notes and warnings, and return result, trace and scene.

    Args:
        request: from `request_of`.
        reading: how the scene is read.
        source: the scene.
    """
    scene, record = read_for_unmixing(reading, source=source)
    covered = request.chosen.covered[_used(source)]
    asked = request.asked._replace(noise=noise_on_bands(request.asked.noise, scene, covered))
    scene = on_common_bands(scene, request.chosen._replace(covered=covered))
    for note in request.chosen.notes:
        warn(f"note: {note}")
    before = len(record["warnings"])
    result, trace = _solved(request._replace(asked=asked), scene, record)
    for text in result.summary["warnings"][before:]:
        warn(f"warning: {text}")
    return result, trace, scene


def _used(source: Source) -> Any:
    good = source.good_bands
    return np.ones(source.shape[2], np.bool_) if good is None else good


def _solved(request: Request, scene: Scene, record: dict[str, Any]) -> "tuple[Result, Trace]":
    if request.known is not None:
        with stage("unmixing"):
            return solve_with(scene, request.chosen, request.known, record, request.asked)
    import jax

    from dequnmix_jax.cli.progress import Line

    options, line = request.options, Line()
    training = RECOMMENDED[0] if options.epochs is None else replace(RECOMMENDED[0], epochs=options.epochs)

    def show(history: "History") -> None:
        line.show(f"training: {how_many(history.loss.size, 'step')}")

    with stage("training and unmixing"):
        key = jax.random.key(options.seed or 0)
        found = train_with(key, scene, request.chosen, record, training=training, on_progress=show)
    line.clear()
    return found
