"""Read the scene that the command line names, say what was assumed of it, and keep that for the record."""

import sys
from argparse import Namespace
from dataclasses import fields
from typing import Any, NamedTuple

from dequnmix_jax.checks import InputError, check_count
from dequnmix_jax.escaping import shown
from dequnmix_jax.io import formats
from dequnmix_jax.scenes.read_options import ReadOptions
from dequnmix_jax.scenes.scene import Scene, check_scene, mask_invalid
from dequnmix_jax.scenes.source import Source

_MANY = 12
"""Endmembers above which an automatic count deserves a second look."""

_MOST = 15
"""Endmembers above which an automatic count is not used: on real scenes what varies within materials counts as signals,
and many more than the materials are found."""


class Reading(NamedTuple):
    """A scene ready to be unmixed.

    Attributes:
        scene: its good bands, checked.
        record: for summary.json: the options of its reading, and warnings.
    """

    scene: Scene
    record: dict[str, Any]


def warn(text: str) -> None:
    """Say something on stderr that is no failure, in one line whatever it quotes."""
    print(shown(text), file=sys.stderr, flush=True)


def read_scene(args: Namespace) -> Scene:
    """Read the scene that the options name, as it is stored."""
    return open_scene(args).scene()


def open_scene(args: Namespace) -> Source:
    """Open the scene that the options name without reading it."""
    return formats.open_source(args.file, **options_of(args))


def read_for_unmixing(args: Namespace, count: int | str | None = None) -> Reading:
    """Read the good bands of a scene, check it, and say on stderr what was assumed and what is odd."""
    scene = read_scene(args).with_good_bands()
    if args.nodata is not None:
        scene = mask_invalid(scene)
    warnings = check_scene(scene, count=count if isinstance(count, int) else None)
    for note in scene.notes:
        warn(f"note: {note}")
    for warning in warnings:
        warn(f"warning: {warning}")
    return Reading(scene, {"reading": options_of(args), "warnings": warnings})


def options_of(args: Namespace) -> dict[str, Any]:
    """Return the options of reading that were given, for the record."""
    return ReadOptions(**{option.name: getattr(args, option.name) for option in fields(ReadOptions)}).given()


def count_endmembers(asked: int | str, scene: Scene, option: str) -> int:
    """Return how many endmembers to look for: as many as asked, or, for "auto", as many signals as HySime finds.

    An estimate is said on stderr before anything is done with it.

    Args:
        asked: a number, or "auto".
        scene: what is counted in.
        option: the one that asks, such as "--endmembers", for the message.

    Raises:
        InputError: HySime finds fewer than two, more than 15, or more than the scene has room for.
    """
    if isinstance(asked, int):
        return asked
    import jax
    import jax.numpy as jnp

    from dequnmix_jax.endmembers.dimension import hysime

    mask = None if scene.mask is None else jnp.asarray(scene.mask)
    found = int(jax.jit(hysime)(jnp.asarray(scene.cube), mask=mask).number)
    pixels, bands = int(scene.valid.sum()), scene.cube.shape[2]
    if pixels <= bands:
        raise InputError(
            f"{scene.name or 'The scene'} has {pixels} valid pixels and {bands} bands, too few for HySime to tell "
            f"signal from noise; expected several times as many pixels. Say how many materials to look for: {option} N."
        )
    if found < 2:
        raise InputError(
            f"HySime finds {found} signal{'' if found == 1 else 's'} above the noise of {scene.name or 'the scene'}; "
            f"expected at least two to unmix. Say how many materials to look for: {option} N."
        )
    if found > _MOST:
        raise InputError(
            f"HySime finds {found} signals above the noise of {scene.name or 'the scene'}; expected at most {_MOST}, "
            "because what varies within a material counts as a signal too, and so many materials are not told apart. "
            f"Say how many to look for: {option} N, or {option} {found} for as many as that."
        )
    many = f", and more than {_MANY} are seldom told apart: ask for fewer where that is so" if found > _MANY else ""
    warn(
        f"note: HySime finds {found} signals above the noise, so {found} endmembers are looked for; what varies within "
        f"a material counts, too{many}."
    )
    check_count(found, scene.cube, scene.valid)
    return found
