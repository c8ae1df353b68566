"""Many generated scenes on disk, in shards of one size, family and source of spectra.

`write_corpus(folder, key, plan)` makes the shards that are missing, so that an interrupted run goes on where it
stopped and a longer plan adds to what is there; nothing is overwritten. Each shard is an uncompressed `.npz` with the
arrays of `DrawnScene`, stacked, and a stamp: the generator's version and fingerprint, the key, size, family, source,
part and type. A folder belongs to one generator, key and way of cutting (`corpus.json`); another one is refused.

A cube is stored in float32, or in float16, which rounds to 3 digits: the rounding is a noise of some 75 dB, so that
scenes of less noise (up to 90 dB) are no longer what their truth says. Choose it where such scenes do not matter.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from dequnmix_jax.checks import Array, InputError, check_key
from dequnmix_jax.datasets.generator.families import FAMILIES, VERSION, Numbers
from dequnmix_jax.datasets.generator.materials import SOURCES
from dequnmix_jax.datasets.generator.scenes import DrawnScene, SceneShape, draw, fingerprint
from dequnmix_jax.io import npz_arrays
from dequnmix_jax.io.atomic import check_folder, replacing_file

SIZES: tuple[SceneShape, ...] = tuple(
    SceneShape(*size)
    for size in (
        (20, 20, 40, 2), (20, 28, 64, 3), (32, 32, 80, 4), (32, 32, 200, 5), (40, 48, 120, 3), (48, 48, 96, 6),
        (48, 48, 160, 4), (64, 64, 64, 5), (64, 64, 128, 8), (64, 80, 220, 3), (96, 96, 100, 4), (96, 96, 180, 6),
        (128, 128, 72, 10), (128, 128, 300, 7),
    )
)  # fmt: skip
"""Sizes of a corpus by default, over the range that the generator is for."""

TYPES = ("float32", "float16")
_INDEX = "corpus.json"
_FORMAT = 1


@dataclass(frozen=True)
class Plan:
    """Which scenes a corpus has.

    Attributes:
        families: some of `FAMILIES`.
        sizes: of scenes; each is one compiled program.
        sources: of the spectra, some of "training", "test" and "random".
        scenes: of a shard, at most.
        values: of the cubes of a shard, at most: large scenes are fewer. A shard has at least one scene.
        parts: shards of each size, family and source.
        dtype: of the cubes, "float32" or "float16".
    """

    families: tuple[str, ...] = FAMILIES
    sizes: tuple[SceneShape, ...] = SIZES
    sources: tuple[str, ...] = ("training", "random")
    scenes: int = 8
    values: int = 4_000_000
    parts: int = 1
    dtype: str = "float32"

    def __post_init__(self) -> None:
        """Check the choices."""
        for name, given, known in (
            ("families", self.families, FAMILIES),
            ("sources", self.sources, SOURCES),
            ("dtype", (self.dtype,), TYPES),
        ):
            unknown = [str(value) for value in given if value not in known]
            if unknown or not given:
                raise InputError(
                    f"{name} names {', '.join(unknown) or 'nothing'}; expected some of {', '.join(known)}. Choose "
                    "among them."
                )
        if min(self.scenes, self.values, self.parts) < 1 or not self.sizes:
            raise InputError(
                f"The plan has {len(self.sizes)} sizes, {self.scenes} scenes and {self.values} values a shard and "
                f"{self.parts} parts; expected at least one of each."
            )


class Shard(NamedTuple):
    """What a shard holds: size, family, source, and which part of them."""

    size: SceneShape
    family: str
    source: str
    part: int

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{'x'.join(map(str, self.size))}-{self.family}-{self.source}-{self.part:04d}.npz"


def planned(plan: Plan) -> Iterator[Shard]:
    """Yield the shards of a plan, part by part, so that an early stop leaves all families."""
    for part, size, family, source in product(range(plan.parts), plan.sizes, plan.families, plan.sources):
        yield Shard(SceneShape(*size), family, source, part)


def write_corpus(
    folder: str | Path, key: Array, plan: Plan = Plan(), on_progress: Callable[[str], Any] = lambda text: None
) -> tuple[int, int]:
    """Make the shards of a plan that are missing.

    Args:
        folder: is made if its parent is there.
        key: random key of the corpus; a shard depends on it and on what the shard is, not on the rest of the plan.
        plan: which scenes.
        on_progress: called with a line of text after each new shard.

    Returns:
        The numbers of new shards and of those that were there.

    Raises:
        InputError: the folder is of another generator, key or cutting, or of something else, or a shard is damaged.
        OSError: the disk is full or not writable.
    """
    check_key(key)
    folder = Path(folder)
    check_folder(folder)
    wanted = {
        "format": _FORMAT,
        "version": VERSION,
        "generator": fingerprint(),
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "scenes": plan.scenes,
        "values": plan.values,
        "dtype": plan.dtype,
    }
    _open_folder(folder, wanted)
    new = there = 0
    shards_planned = list(planned(plan))
    for number, shard in enumerate(shards_planned):
        path = folder / shard.name
        stamp = wanted | {"size": list(shard.size), "family": shard.family, "source": shard.source, "part": shard.part}
        if path.exists():
            _check_stamp(path, read_stamp(path), stamp)
            there += 1
            continue
        arrays = _drawn(key, shard, plan)
        with replacing_file(path) as temporary, temporary.open("wb") as file:
            np.savez(file, stamp=np.asarray(json.dumps(stamp)), **arrays)
        new += 1
        on_progress(f"{number + 1} of {len(shards_planned)}: {shard.name}, {len(arrays['snr'])} scenes")
    return new, there


def _open_folder(folder: Path, wanted: dict[str, Any]) -> None:
    """Make a folder for a corpus, or check that it holds this one."""
    index = folder / _INDEX
    if not folder.exists():
        if not folder.absolute().parent.is_dir():
            raise InputError(f"The folder {folder.parent} does not exist; expected one to make {folder.name} in.")
        folder.mkdir()
    if index.exists():
        _check_stamp(index, _parsed(index.read_text(encoding="utf-8"), index), wanted)
        return
    if any(not path.name.startswith(".") for path in folder.iterdir()):
        raise InputError(
            f"{folder} holds files and no {_INDEX}, so it is not a corpus; expected a new or empty folder, or a "
            "corpus. Choose another folder."
        )
    with replacing_file(index) as temporary:
        temporary.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")


def _drawn(key: Array, shard: Shard, plan: Plan) -> dict[str, Array]:
    """Draw the scenes of a shard and stack them."""
    for part in (*shard.size, SOURCES.index(shard.source), shard.part):
        key = jax.random.fold_in(key, part)
    rows, columns, bands, _ = shard.size
    number = max(1, min(plan.scenes, plan.values // (rows * columns * bands)))
    scenes = [
        jax.device_get(draw(jax.random.fold_in(key, i), shard.family, shard.size, shard.source)) for i in range(number)
    ]
    fields = [name for name in DrawnScene._fields if name != "numbers"]
    arrays = {name: np.stack([getattr(scene, name) for scene in scenes]) for name in fields}
    arrays["cube"] = arrays["cube"].astype(plan.dtype)
    arrays["numbers"] = np.asarray([scene.numbers for scene in scenes], np.float64)
    return arrays


def _parsed(text: str, path: Path) -> dict[str, Any]:
    try:
        stamp = json.loads(text)
    except ValueError:
        stamp = None
    if not isinstance(stamp, dict):
        raise InputError(f"{path} has no readable stamp; expected that of a corpus. Remove it and make it again.")
    return stamp


def _check_stamp(path: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise InputError where a stamp differs from what is wanted."""
    differs = [name for name, value in wanted.items() if found.get(name) != value]
    if differs:
        raise InputError(
            f"{path} has " + ", ".join(f"{name} {found.get(name)!r}" for name in differs) + "; expected "
            + ", ".join(f"{name} {wanted[name]!r}" for name in differs)
            + ". It is of another corpus and is not replaced. Choose another folder."
        )  # fmt: skip


def read_stamp(path: str | Path) -> dict[str, Any]:
    """Return the stamp of a shard without reading its arrays.

    Raises:
        InputError: the file is not a shard, or damaged.
    """
    path = Path(path)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            text = str(archive["stamp"])
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; expected a shard of a corpus.") from error
    except Exception as error:  # numpy and zipfile raise many kinds of error
        raise InputError(
            f"{path} is not a shard of a corpus, or damaged ({type(error).__name__}). Remove it and make it again."
        ) from error
    return _parsed(text, path)


def read_shard(path: str | Path, *, any_version: bool = False) -> DrawnScene:
    """Read the scenes of a shard.

    Args:
        path: of the shard.
        any_version: accept a shard of another generator.

    Returns:
        The scenes as NumPy arrays with a first axis of scenes, the cube in float32.

    Raises:
        InputError: the file is not a shard, is damaged, or is of another generator.
    """
    path = Path(path)
    stamp = read_stamp(path)
    _check_stamp(path, stamp, {"format": _FORMAT} | ({} if any_version else {"generator": fingerprint()}))
    arrays: dict[str, Any] = npz_arrays.load(path)
    numbers = arrays["numbers"].T.astype(np.float32)
    choices = [values.astype(np.int32) for values in numbers[:3]]
    fields: dict[str, Any] = {name: arrays[name] for name in DrawnScene._fields if name != "numbers"}
    fields["cube"] = fields["cube"].astype(np.float32)
    return DrawnScene(**fields, numbers=Numbers(*choices, *numbers[3:]))


def shards(
    folder: str | Path,
    *,
    families: tuple[str, ...] = FAMILIES,
    without: tuple[str, ...] = (),
    sources: tuple[str, ...] = SOURCES,
) -> list[Path]:
    """Return the shards of a corpus in the order of their names, of some families and sources.

    Args:
        folder: of the corpus.
        families: which to return.
        without: families that are left out.
        sources: of the spectra.

    Raises:
        InputError: if the folder is not a corpus.
    """
    folder = Path(folder)
    if not (folder / _INDEX).is_file():
        raise InputError(f"{folder} is not a corpus: it has no {_INDEX}. Make one by write_corpus.")
    found = []
    for path in sorted(folder.glob("*.npz")):
        parts = path.stem.split("-")
        hidden = path.name.startswith(".")  # of a process that is writing, or died
        if len(parts) == 4 and not hidden and parts[1] in families and parts[1] not in without and parts[2] in sources:
            found.append(path)
    return found
