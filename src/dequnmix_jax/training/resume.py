"""Train in pieces, keep the state beside the output, and continue from it after the process was ended.

The file holds everything that `fitting.advance` carries from one step to the next, and the history so far. A training
that was ended at any moment and continued gives the same bits as one without interruption on the same machine.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dequnmix_jax.checks import InputError, check_kind
from dequnmix_jax.equilibrium.config import Model
from dequnmix_jax.equilibrium.scene_statistics import Scenewide
from dequnmix_jax.io.atomic import reserved
from dequnmix_jax.io.provenance import package_version
from dequnmix_jax.ops.quick_compile import effort_loop, effort_once, quick_jit
from dequnmix_jax.training import checkpoint, fitting, stages
from dequnmix_jax.training.config import RECOMMENDED, Rates, Training
from dequnmix_jax.training.fitting import FitState
from dequnmix_jax.training.words import plain, words_of
from dequnmix_jax.types import History, Params

_LARGEST_PIECE = 10
"""Training steps in one call: a compiled call cannot be interrupted, and one of ten takes seconds."""

OnProgress = Callable[[History], None]

_COLUMNS = History._fields[:7]
_TYPES = (np.float32, np.float32, np.float32, np.int32, np.float32, np.bool_, np.bool_)


@dataclass(frozen=True)
class Keep:
    """The file in which an unfinished training is kept.

    Attributes:
        path: the file, written whole or not at all.
        every: seconds between two writings; 0: after each piece of up to ten steps.
        replace: replace a training that is kept there of another scene, with other choices, or by other versions.
    """

    path: str | os.PathLike[str]
    every: float = 60.0
    replace: bool = False


def kept_beside(output: Path) -> Path:
    """Return the file that keeps the training of a model whose file will be `output`."""
    return output.parent / f".{output.name}.training"


def piece_of(*phases: int) -> int:
    """Return the largest common divisor of the phases up to ten: pieces of one size need one compilation."""
    return max(size for size in range(1, _LARGEST_PIECE + 1) if not any(steps % size for steps in phases))


def resumable_fit(
    key: jax.Array,
    cube: jax.Array,
    config: Model,
    training: Training | None = None,
    rates: Rates | None = None,
    *,
    endmembers: jax.Array | None = None,
    count: int | None = None,
    mask: jax.Array | None = None,
    whole: Scenewide | None = None,
    keep: Keep | None = None,
    on_progress: OnProgress | None = None,
    fixed: jax.Array | None = None,
) -> tuple[Params, History]:
    """Train as `fit` does, keeping the training in a file, and continue an ended training that is kept there.

    The result is that of `fit` in pieces of up to ten steps: the same bits, however often it was ended. At the end the
    file holds the whole training, and another call with the same arguments returns at once; remove the file when the
    parameters are written.

    Args:
        key, cube, config, training, rates, endmembers, count, mask, fixed: as for `fit`; never traced.
        whole: numbers of the whole scene, if the cube holds parts of it (`tiles.fit_patches`).
        keep: the file to keep the training in; None keeps nothing.
        on_progress: called with the history so far, after each piece and once before the first.

    Returns:
        (params, History), as `fit` does; the history as numpy arrays.

    Raises:
        InputError: the file holds another training and `keep.replace` is False, is damaged, or is in use by another
            process; or as for `fit`.
    """
    training = RECOMMENDED[0] if training is None else training
    rates = RECOMMENDED[1] if rates is None else rates
    check_kind(training, Training, "training")
    check_kind(rates, Rates, "rates")
    if keep is not None:
        check_kind(keep, Keep, "keep", "Write Keep(path).")
    number = fitting.check_arguments(key, cube, config, endmembers, count, mask, fixed)
    path = None if keep is None else Path(keep.path)
    given: dict[str, Any] = {"endmembers": endmembers, "count": count, "mask": mask}
    given |= {} if fixed is None else {"fixed": np.asarray(fixed)}
    marks = {} if path is None else fingerprint(key, cube, config, training, rates, whole=whole, **given)
    phases, held_out = fitting.phases_of(training, rates), None
    if whole is None:
        cube, mask, held_out = fitting.padded(key, cube, mask, number)
        given["mask"] = mask
    once, loop = effort_once(cube, number), effort_loop(cube, number)
    begin = quick_jit(lambda *_, **__: once, static_argnums=2, static_argnames="count")(fitting.begin)
    advance = quick_jit(lambda *_, **__: loop, static_argnums=(2, 3, 5))(fitting.advance)
    # For judged stages one compiled program serves them all (`stages.judge`), here and between the phases.
    finish = stages.finish if training.judged else jax.jit(stages.finish, static_argnums=(2, 3))
    total = sum(phases)
    with nullcontext() if path is None else reserved(path, overwrite=True):
        kept = None
        if keep is not None and path is not None:

            def shapes() -> FitState:
                state: FitState = jax.eval_shape(lambda: fitting.begin(key, cube, config, **given))
                return state

            kept = _read(path, marks, shapes, keep.replace)
        if kept is None:
            state, history = begin(key, cube, config, **given, held_out=held_out), joined([])
            state = fitting.past_first_phase(state, training) if fitting.rests(training, rates) else state
        else:
            state, history = kept
        piece, written, last = piece_of(*phases), kept is not None, time.monotonic()
        if on_progress is not None:
            on_progress(history)
        try:
            while history.loss.size < total and (not history.loss.size or history.active[-1]):
                new, rows = advance(state, cube, config, training, rates, piece, mask=mask, whole=whole)
                if history.loss.size + piece == phases[0] < total:
                    new = stages.settle(new, cube, config, mask=mask, whole=whole)
                # In one statement, so that an interruption finds all of the same step.
                state, history, written = new, joined([history, rows]), False
                if on_progress is not None:
                    on_progress(history)
                if keep is not None and path is not None and time.monotonic() - last >= keep.every:
                    written, last = _write(path, state, history, marks), time.monotonic()
        except KeyboardInterrupt as error:
            if path is None or not (written or _write(path, state, history, marks)):
                raise
            message = f"interrupted; the same command continues from step {history.loss.size}, kept in {path}."
            raise KeyboardInterrupt(message) from error
        if path is not None and not written:
            _write(path, state, history, marks)
    params, verdicts = finish(state, cube, config, training, mask=mask, whole=whole)
    return params, history._replace(stages=jax.tree.map(np.asarray, verdicts))


def joined(rows: Sequence[History]) -> History:
    """Return the histories of pieces as one, of numpy arrays."""
    empty = History(*(np.empty(0, dtype) for dtype in _TYPES))  # type: ignore[arg-type]
    whole: History = jax.tree.map(lambda *parts: np.concatenate([np.asarray(part) for part in parts]), empty, *rows)
    return whole


def fingerprint(
    key: jax.Array,
    cube: jax.Array,
    config: Model,
    training: Training,
    rates: Rates,
    *,
    endmembers: jax.Array | None = None,
    count: int | None = None,
    mask: jax.Array | None = None,
    whole: Scenewide | None = None,
    fixed: jax.Array | None = None,
) -> dict[str, Any]:
    """Return everything that determines the result of a training, under names for messages, as JSON holds it."""
    marks = {
        "scene": _digest(cube, mask, *jax.tree.leaves(whole)),
        "start": count if endmembers is None else _digest(endmembers, *([] if fixed is None else [fixed])),
        "seed": np.asarray(jax.random.key_data(key)).tolist(),
        "model": words_of(config),
        "training": asdict(training),
        "rates": rates._asdict(),
        "versions": {name: package_version(name) for name in ("dequnmix-jax", "jax", "jaxlib", "numpy")},
        "device": f"{jax.devices()[0].platform} {jax.devices()[0].device_kind}",
    }
    copy: dict[str, Any] = json.loads(json.dumps(plain(marks)))
    return copy


def _digest(*arrays: Any) -> str:
    digest = hashlib.sha256()
    for values in arrays:
        array = np.ascontiguousarray(np.empty(0) if values is None else values)
        digest.update(f"{array.shape} {array.dtype}".encode())
        digest.update(memoryview(array.reshape(-1).view(np.uint8)))  # type: ignore[arg-type]
    return digest.hexdigest()


def _write(path: Path, state: FitState, history: History, marks: Mapping[str, Any]) -> bool:
    """Write a training to its file; a full disk gives a warning and does not end the training."""
    numbers = state._replace(key=jax.random.key_data(state.key))
    leaves = {f"{i:03d}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(numbers))}
    try:
        content = {"state": leaves, "history": {name: getattr(history, name) for name in _COLUMNS}}
        metadata = {"training": dict(marks), "sha256": _checksum(content)}
        checkpoint.save(path, content, metadata, overwrite=True, alone=True)
    except OSError as error:
        print(
            f"warning: The training cannot be kept in {path} ({error.strerror}); if the process ends, the next one "
            "continues from the last step that was kept.",
            file=sys.stderr,
        )
        return False
    return True


def _read(
    path: Path, marks: Mapping[str, Any], shapes: Callable[[], FitState], replace: bool
) -> tuple[FitState, History] | None:
    """Return the training that is kept in a file, or None if a new one has to begin."""
    if not path.exists():
        return None
    try:
        return _kept(path, marks, shapes)
    except InputError:
        if replace:
            return None
        raise


def _kept(path: Path, marks: Mapping[str, Any], shapes: Callable[[], FitState]) -> tuple[FitState, History] | None:
    """Return the training that is kept in a file; None, with a warning, if it is ours and damaged."""
    try:
        content, metadata = checkpoint.load(path)
    except InputError as error:
        if not _begins_as_ours(path):
            raise InputError(
                f"{path} cannot be read as a training that is kept ({error}) Remove it or name another file, or "
                "replace it by Keep(path, replace=True) (--force)."
            ) from error
        _warn_lost(path, str(error))
        return None
    kept = metadata.get("training")
    if not isinstance(kept, dict) or set(content) != {"state", "history"}:
        raise InputError(f"{path} holds no training; expected what an earlier `fit` kept there. Name another file.")
    others = [name for name in marks if kept.get(name) != marks[name]]
    if others:
        raise InputError(
            f"{path} keeps an unfinished `fit` of another {', '.join(others)}; expected the same call. Repeat that "
            "call to continue, or replace the training by Keep(path, replace=True) (--force)."
        )
    restored = _restored(content, shapes()) if metadata.get("sha256") == _checksum(content) else None
    if restored is None:
        _warn_lost(path, "Its arrays are not those that were written.")
    return restored


def _warn_lost(path: Path, reason: str) -> None:
    print(f"warning: The training kept in {path} is damaged, and starts again. {reason}", file=sys.stderr)


def _begins_as_ours(path: Path) -> bool:
    """Return whether a file that cannot be read begins like one of `_write`: no other file is replaced."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return b"params/state/000.npy" in file.read(100)


def _checksum(content: Mapping[str, Any]) -> str:
    """Return a hash of all arrays that are kept, with their names; empty if anything else is among them."""
    if not all(isinstance(entry, np.ndarray) for group in content.values() for entry in _entries(group)):
        return ""
    named = [(f"{group}/{name}", content[group][name]) for group in sorted(content) for name in sorted(content[group])]
    return hashlib.sha256("".join(f"{name} {_digest(value)}\n" for name, value in named).encode()).hexdigest()


def _entries(group: Any) -> list[Any]:
    return list(group.values()) if isinstance(group, Mapping) else [None]


def _restored(content: Mapping[str, Any], shapes: FitState) -> tuple[FitState, History] | None:
    wanted, structure = jax.tree.flatten(shapes._replace(key=jax.eval_shape(jax.random.key_data, shapes.key)))
    names = [f"{i:03d}" for i in range(len(wanted))]
    leaves = [content["state"].get(name) for name in names]
    fits = set(names) == set(content["state"]) and all(
        np.shape(leaf) == want.shape and leaf.dtype == want.dtype for leaf, want in zip(leaves, wanted, strict=True)
    )
    fits = fits and set(content["history"]) == set(_COLUMNS)
    columns = [np.asarray(content["history"].get(name)) for name in _COLUMNS]
    if not fits or any(
        column.dtype != dtype or column.shape != columns[0].shape or column.ndim != 1
        for column, dtype in zip(columns, _TYPES, strict=True)
    ):
        return None
    state: FitState = jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in leaves])
    return state._replace(key=jax.random.wrap_key_data(state.key)), History(*columns)  # type: ignore[arg-type]
