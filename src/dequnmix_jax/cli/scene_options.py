"""Read the scene that the command line names, print notes and warnings about it, and record how it was read."""

import sys
from typing import Any, NamedTuple

from dequnmix_jax.checks import InputError, check_count
from dequnmix_jax.cli.options import SceneOptions
from dequnmix_jax.escaping import shown
from dequnmix_jax.io import formats
from dequnmix_jax.scenes.scene import Scene, check_scene, mask_invalid
from dequnmix_jax.scenes.source import Source


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


def count_endmembers(
    count: int | str, scene: Scene, option: str, most: int | None = None, fewest: int = 2
) -> tuple[int, dict[str, Any]]:
    """Return the number of endmembers to look for, and what summary.json says about it.

    The given number; or, for "auto", that of `learned.count_endmembers`, which is printed on stderr with the criteria.

    Args:
        count: a number, or "auto".
        scene: in which endmembers are counted.
        option: the option that holds `count`, such as "--endmembers", for messages.
        most: the largest number that is looked for; None: 15.
        fewest: the smallest number, with fixed spectra.

    Raises:
        InputError: the scene is too small to count, or `most` is given beside a number.
    """
    if isinstance(count, int):
        if most is not None:
            raise InputError(
                f"--max-endmembers limits what {option} auto finds; expected no such limit beside the number {count}. "
                "Leave one out."
            )
        return count, {}
    from dequnmix_jax.learned.count import reason
    from dequnmix_jax.pipeline import count_of

    try:
        counted = count_of(scene, most, fewest)
    except InputError as error:
        raise InputError(f"{scene.name or 'The scene'}: {error} ({option} N)") from None
    warn(f"note: {reason(counted)} {option} N sets another number.")
    check_count(counted.number, scene.cube, scene.valid)
    return counted.number, {"count": counted.record()}
