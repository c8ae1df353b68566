"""What finished methods found, kept beside the output of a comparison, so that one that was ended goes on.

The folder `.NAME.methods` beside the output NAME holds a file for each method that is finished, with the answers of all
its seeds, the CPU seconds, and all that determines them (`marks`). A file is renamed when it is complete.
"""

import hashlib
import json
import sys
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.conventions import MEANINGS
from dequnmix_jax.io.atomic import check_folder, check_target
from dequnmix_jax.io.disk_space import writing
from dequnmix_jax.scenes.scene import Scene


class Answer(NamedTuple):
    """Maps (H, W, R), spectra (R, B) and brightness (H, W) of a method, and the convention of its fractions."""

    abundances: Any
    endmembers: Any
    brightness: Any
    convention: str


class Finished(NamedTuple):
    """What a method found.

    Attributes:
        answers: one for each seed.
        seconds: CPU seconds of each without compilation, NaN where unknown.
        first: CPU seconds of the first one with compilation.
    """

    answers: list[Answer]
    seconds: list[float]
    first: float


def kept_beside(output: Path) -> Path:
    """Return the folder that keeps the finished methods of a comparison whose output will be `output`."""
    return output.parent / f".{output.name}.methods"


def spent(folder: Path) -> list[Path]:
    """Return the files in a folder of finished methods, and then the folder: nothing needs them after the output."""
    return [*sorted(folder.glob("*.npz")), *sorted(folder.glob("*.part")), folder]


def hash_of(scene: Scene) -> str:
    """Return a hash of the values and the valid pixels of a scene."""
    digest = hashlib.sha256()
    for array in (scene.cube, scene.valid):
        digest.update(f"{array.shape} {array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


class KeptMethods:
    """The finished methods in a folder.

    Attributes:
        folder: that holds them.
        marks: all that determines the answers, by names for messages; fit for JSON.
        finished: what is there, by the word of the method.
    """

    def __init__(self, folder: Path, marks: Mapping[str, Any], shape: tuple[int, int, int], count: int) -> None:
        """Keep the methods of a comparison in a folder, which is made if it does not exist; see `read`.

        Args:
            folder: that holds them.
            marks: see above.
            shape: (H, W, B) of the scene.
            count: R, number of endmembers.

        Raises:
            InputError: the folder is a file, or its parent folder does not exist.
        """
        check_target(folder, overwrite=True)
        check_folder(folder)
        folder.mkdir(exist_ok=True)
        self.folder, self.marks = folder, json.loads(json.dumps(marks))
        self.finished: dict[str, Finished] = {}
        self._shapes = ((*shape[:2], count), (count, shape[2]), shape[:2])

    def read(self, overwrite: bool) -> "KeptMethods":
        """Find what is finished already; a file that is damaged is done again, with a warning.

        Args:
            overwrite: discard what another comparison has left here.

        Raises:
            InputError: the folder keeps methods of another comparison and `overwrite` is False.
        """
        for path in sorted(self.folder.glob("*.npz")):
            marks, finished = _read(path)
            others = [name for name in self.marks if marks is not None and marks.get(name) != self.marks[name]]
            if others and not overwrite:
                raise InputError(
                    f"{self.folder} keeps finished methods of a comparison with another {' and another '.join(others)};"
                    " expected the same. Repeat that command to go on with it, or begin anew with overwrite=True "
                    "(--force)."
                )
            if others:
                path.unlink(missing_ok=True)
            elif finished is not None and self._fits(finished):
                self.finished[path.stem] = finished
            else:
                print(f"warning: {path} is damaged; {path.stem} is done again.", file=sys.stderr)
        return self

    def _fits(self, finished: Finished) -> bool:
        """Return whether arrays have the shapes of the scene."""
        return all(
            tuple(values.shape for values in answer[:3]) == self._shapes
            and all(values.dtype.kind == "f" for values in answer[:3])
            for answer in finished.answers
        )

    def put(self, word: str, finished: Finished) -> None:
        """Keep what a method found; a full disk is a warning, because the comparison can go on."""
        path, part = self.folder / f"{word}.npz", self.folder / f"{word}.part"
        record = {"marks": self.marks, "conventions": [answer.convention for answer in finished.answers]}
        arrays = {
            f"{name}_{number}": np.asarray(getattr(answer, name))
            for number, answer in enumerate(finished.answers)
            for name in _ARRAYS
        }
        arrays |= {"record": np.asarray(json.dumps(record)), "seconds": np.asarray([finished.first, *finished.seconds])}
        try:
            with writing(part, shown=path):
                with part.open("wb") as file:
                    np.savez(file, **arrays)  # type: ignore[arg-type]
                part.replace(path)
        except OSError as error:
            print(f"warning: {word} cannot be kept in {path} ({error.strerror}).", file=sys.stderr)
        else:
            self.finished[word] = finished
        finally:
            part.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the folder if nothing is in it."""
        with suppress(OSError):
            self.folder.rmdir()


_ARRAYS = Answer._fields[:3]


def _read(path: Path) -> tuple[dict[str, Any] | None, Finished | None]:
    """Return the marks and the answers in a file of `KeptMethods.put`, or None twice."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:  # checks the CRC of each array
            record = json.loads(str(file["record"][()]))
            first, *seconds = (float(value) for value in file["seconds"])
            answers = [
                Answer(**{name: file[f"{name}_{number}"] for name in _ARRAYS}, convention=word)
                for number, word in enumerate(record["conventions"])
            ]
        marks = record["marks"]
    except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, RecursionError, zipfile.BadZipFile):
        return None, None
    sound = isinstance(marks, dict) and answers and len(seconds) == len(answers)
    if not sound or any(answer.convention not in MEANINGS for answer in answers):
        return None, None
    return marks, Finished(answers, seconds, first)
