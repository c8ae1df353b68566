"""Options of a tiled unmixing: how the scene is cut, what is written, and who is informed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dequnmix_jax.equilibrium.scene_statistics import Scenewide
from dequnmix_jax.results.result import Result

Progress = Callable[[str, float, int, int], None]
"""Called with the stage, its share done in [0, 1], tiles done in this run and tiles of the scene."""


def ignore_progress(stage: str, share: float, done: int, total: int) -> None:
    """Do nothing."""


def ignore_warning(text: str) -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Tiling:
    """How a scene is cut.

    Attributes:
        size: N, for tiles of N x N pixels; None: as large as some 100 MB hold.
        halo: pixels around a tile that are read and not kept; None: measured.
        drop_invalid: mask pixels that are zero in every band, NaN or infinite, as `mask_invalid` does.
        whole: unit and pools to use in place of those of the scene, which is then read once; None: those of the scene.
    """

    size: int | None = None
    halo: int | None = None
    drop_invalid: bool = False
    whole: Scenewide | None = None


@dataclass(frozen=True)
class Output:
    """What is written.

    Attributes:
        path: the folder.
        names: R names; None: "endmember 1" and so on.
        configuration, record: further entries of summary.json, as for `results.write`.
        overwrite: replace a folder that an earlier run made.
        format: one of `results.files.TILED`, of the maps.
        class_of: the class of each endmember, R words, or none.
    """

    path: Path
    names: Sequence[str] | None = None
    configuration: Any = None
    record: Mapping[str, Any] | None = None
    overwrite: bool = False
    format: str = "envi"
    class_of: Sequence[str] = ()


@dataclass(frozen=True)
class Hooks:
    """What a run calls.

    Attributes:
        on_progress: see `Progress`.
        on_warning: called with a sentence as soon as there is a warning.
        extra_files: makes further files in the folder before it is put in place, from a `Result` of every k-th pixel
            (at most about a thousand along each side), and returns them; or None.
    """

    on_progress: Progress = ignore_progress
    on_warning: Callable[[str], None] = ignore_warning
    extra_files: Callable[[Path, Result], Sequence[Path]] | None = None
