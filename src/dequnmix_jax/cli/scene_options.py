"""Read the scene that the command line names, print notes and warnings about it, and record how it was read."""

import sys
from typing import Any, NamedTuple

from dequnmix_jax.checks import InputError, check_count
from dequnmix_jax.cli.options import SceneOptions
from dequnmix_jax.escaping import shown
from dequnmix_jax.io import formats
from dequnmix_jax.scenes.scene import Scene, check_scene, mask_invalid
from dequnmix_jax.scenes.source import Source

_MANY = 12
"""Number of endmembers above which an automatic count deserves a second look."""

_MOST = 15
"""Largest automatic count. On real scenes the variation within materials counts as signals too, so that HySime finds
many more signals than there are materials."""


class Reading(NamedTuple):
    """A scene ready to be unmixed.

    Attributes:
        scene: its good bands, checked.
        record: for summary.json: the options of its reading, and warnings.
    """

    scene: Scene
    record: dict[str, Any]


def warn(text: str) -> None:
    """Print a note or a warning on stderr, on one line whatever it quotes."""
    print(shown(text), file=sys.stderr, flush=True)


def open_scene(options: SceneOptions) -> Source:
    """Open the scene that the options name, without reading its values."""
    return formats.open_source(options.file, **options.given())


def read_scene(options: SceneOptions) -> Scene:
    """Read the scene that the options name, as it is stored."""
    return open_scene(options).scene()


def read_for_unmixing(
    options: SceneOptions, count: int | str | None = None, *, source: Source | None = None
) -> Reading:
    """Read the good bands of a scene, check them, and print what was assumed and what may be wrong.

    Args:
        options: of the scene.
        count: number of endmembers, for the check; "auto" and None are not checked.
        source: the scene where it is open already.

    Raises:
        InputError: the scene cannot be read or unmixed.
    """
    scene = (open_scene(options) if source is None else source).scene().with_good_bands()
    if options.nodata is not None:
        scene = mask_invalid(scene)
    warnings = check_scene(scene, count=count if isinstance(count, int) else None)
    for note in scene.notes:
        warn(f"note: {note}")
    for warning in warnings:
        warn(f"warning: {warning}")
    return Reading(scene, {"reading": options.given(), "warnings": warnings})


def count_endmembers(count: int | str, scene: Scene, option: str) -> int:
    """Return the number of endmembers to look for: the given number, or, for "auto", the signals that HySime finds.

    An automatic count is printed on stderr.

    Args:
        count: a number, or "auto".
        scene: in which HySime counts signals.
        option: the option that holds `count`, such as "--endmembers", for messages.

    Raises:
        InputError: HySime finds fewer than two signals, more than 15, or more than the scene has bands or pixels for.
    """
    if isinstance(count, int):
        return count
    import jax
    import jax.numpy as jnp

    from dequnmix_jax.endmembers.dimension import hysime

    mask = None if scene.mask is None else jnp.asarray(scene.mask)
    signals = int(jax.jit(hysime)(jnp.asarray(scene.cube), mask=mask).number)
    label = scene.name or "the scene"
    pixels, bands = int(scene.valid.sum()), scene.cube.shape[2]
    if pixels <= bands:
        raise InputError(
            f"{scene.name or 'The scene'} has {pixels} valid pixels and {bands} bands, too few for HySime to separate "
            f"signal from noise; expected several times as many pixels. Say how many materials to look for: {option} N."
        )
    if signals < 2:
        raise InputError(
            f"HySime finds {signals} signal{'' if signals == 1 else 's'} above the noise of {label}; expected at least "
            f"two to unmix. Say how many materials to look for: {option} N."
        )
    if signals > _MOST:
        raise InputError(
            f"HySime finds {signals} signals above the noise of {label}; expected at most {_MOST}, because variation "
            "within a material counts as a signal too, and so many materials can hardly be distinguished. Say how many "
            f"to look for: {option} N, or {option} {signals} for as many as that."
        )
    many = f"; more than {_MANY} can seldom be distinguished, so consider fewer" if signals > _MANY else ""
    warn(
        f"note: HySime finds {signals} signals above the noise, so {signals} endmembers are looked for; variation "
        f"within a material counts too{many}."
    )
    check_count(signals, scene.cube, scene.valid)
    return signals
