"""Train in pieces, keep the state beside the output, and go on from it after the process was ended.

What is kept is all that `fitting.advance` carries from a step to the next, and the history so far, so that a training
that was ended at any moment and went on gives, bit for bit, what one in one go gives on the same machine.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dequnmix_jax.checks import InputError, check_cube, check_key, check_kind
from dequnmix_jax.equilibrium.config import Model
from dequnmix_jax.equilibrium.scene_statistics import Scenewide
from dequnmix_jax.io.atomic import reserved
from dequnmix_jax.io.provenance import package_version
from dequnmix_jax.ops.quick_compile import LARGEST_LOOP, is_small, quick_jit
from dequnmix_jax.training import checkpoint, fitting, stages
from dequnmix_jax.training.config import RECOMMENDED, Rates, Training
from dequnmix_jax.training.fitting import FitState
from dequnmix_jax.training.words import plain, words_of
from dequnmix_jax.types import History, Params

_LARGEST_PIECE = 10
"""Training steps in one call: a compiled call cannot be interrupted, and one of ten takes seconds."""

Told = Callable[[History], None]

_COLUMNS = History._fields[:7]
_TYPES = (np.float32, np.float32, np.float32, np.int32, np.float32, np.bool_, np.bool_)


def kept_beside(output: Path) -> Path:
    """Return where the training of a model is kept that will be written to `output`."""
    return output.parent / f".{output.name}.training"


def piece_of(*phases: int) -> int:
    """Return the largest common divisor of phases up to ten: with pieces of one size, one compilation does."""
    return max(size for size in range(1, _LARGEST_PIECE + 1) if not any(steps % size for steps in phases))


def resumable_fit(
    path: str | os.PathLike[str] | None,
    key: jax.Array,
    cube: jax.Array,
    config: Model,
    choices: Training | None = None,
    rates: Rates | None = None,
    *,
    endmembers: jax.Array | None = None,
    count: int | None = None,
    mask: jax.Array | None = None,
    whole: Scenewide | None = None,
    every: float = 60.0,
    anew: bool = False,
    told: Told | None = None,
) -> tuple[Params, History]:
    """Train as `fit` does, keeping the training in a file, and go on from what an ended process left there.

    The result is that of `fit` in pieces of up to ten steps: the same, bit for bit, however often it was ended. At
    the end the file holds the whole training, and another call with the same arguments returns at once; remove it when
    the parameters are written.

    Args:
        path: the file to keep the training in, written whole or not at all; None keeps nothing.
        key, cube, config, endmembers, count, mask: as for `fit`; never traced.
        whole: what a larger scene decides, of which the cube holds parts (`patches`), or None.
        choices: epochs, schedule, stopping; those of `RECOMMENDED` by default, as for `fit`.
        rates: numbers.
        every: seconds between two writings; 0: after each piece.
        anew: replace what is kept of another scene, of other choices, or by other versions.
        told: is called with the history so far, after each piece and once before the first.

    Returns:
        (params, History), as `fit` does; the history as numpy arrays.

    Raises:
        InputError: the file is of another training and `anew` is False, damaged, or another process is at it; or as for
            `fit`.
    """
    path = None if path is None else Path(path)
    choices = RECOMMENDED[0] if choices is None else choices
    rates = RECOMMENDED[1] if rates is None else rates
    check_key(key)
    check_kind(config, Model, "config")
    check_kind(choices, Training, "training")
    check_kind(rates, Rates, "rates")
    check_cube(cube)
    given: dict[str, Any] = {"endmembers": endmembers, "count": count, "mask": mask}
    marks = {} if path is None else fingerprint(key, cube, config, choices, rates, whole=whole, **given)
    number = int(count or 0) if endmembers is None else np.shape(endmembers)[0]
    begin = quick_jit(lambda *_, **__: is_small(cube, number), static_argnums=2, static_argnames="count")(fitting.begin)
    advance = quick_jit(lambda *_, **__: is_small(cube, number, LARGEST_LOOP), static_argnums=(2, 3, 5))(
        fitting.advance
    )
    # Where stages are judged, one compiled program serves them all (`stages.judge`), here and between the phases.
    finish = stages.finish if choices.judged else jax.jit(stages.finish, static_argnums=(2, 3))
    phases = choices.phases
    with nullcontext() if path is None else reserved(path, overwrite=True):
        found = None
        if path is not None:
            found = _read(path, marks, lambda: jax.eval_shape(lambda: fitting.begin(key, cube, config, **given)), anew)
        state, history = (begin(key, cube, config, **given), joined([])) if found is None else found
        piece, written, last = piece_of(*phases), found is not None, time.monotonic()
        if told is not None:
            told(history)
        try:
            while history.loss.size < choices.epochs and (not history.loss.size or history.active[-1]):
                new, more = advance(state, cube, config, choices, rates, piece, mask=mask, whole=whole)
                if history.loss.size + piece == phases[0] < choices.epochs:
                    new = stages.settle(new, cube, config, mask=mask, whole=whole)
                # At once, so that an interruption finds the two of the same step.
                state, history, written = new, joined([history, more]), False
                if told is not None:
                    told(history)
                if path is not None and time.monotonic() - last >= every:
                    written, last = _write(path, state, history, marks), time.monotonic()
        except KeyboardInterrupt as error:
            if path is None or not (written or _write(path, state, history, marks)):
                raise
            said = f"interrupted; the same command goes on from step {history.loss.size}, kept in {path}."
            raise KeyboardInterrupt(said) from error
        if path is not None and not written:
            _write(path, state, history, marks)
    params, verdicts = finish(state, cube, config, choices, mask=mask, whole=whole)
    return params, history._replace(stages=jax.tree.map(np.asarray, verdicts))


def joined(rows: Sequence[History]) -> History:
    """Return the histories of pieces as one, of numpy arrays."""
    empty = History(*(np.empty(0, dtype) for dtype in _TYPES))  # type: ignore[arg-type]
    found: History = jax.tree.map(lambda *parts: np.concatenate([np.asarray(part) for part in parts]), empty, *rows)
    return found


def fingerprint(
    key: jax.Array,
    cube: jax.Array,
    config: Model,
    choices: Training,
    rates: Rates,
    *,
    endmembers: jax.Array | None = None,
    count: int | None = None,
    mask: jax.Array | None = None,
    whole: Scenewide | None = None,
) -> dict[str, Any]:
    """Return all that decides what a training gives, under names for messages, as JSON holds it."""
    found = {
        "scene": _digest(cube, mask, *jax.tree.leaves(whole)),
        "start": count if endmembers is None else _digest(endmembers),
        "seed": np.asarray(jax.random.key_data(key)).tolist(),
        "model": words_of(config),
        "training": asdict(choices),
        "rates": rates._asdict(),
        "versions": {name: package_version(name) for name in ("dequnmix-jax", "jax", "jaxlib", "numpy")},
        "device": f"{jax.devices()[0].platform} {jax.devices()[0].device_kind}",
    }
    copy: dict[str, Any] = json.loads(json.dumps(plain(found)))
    return copy


def _digest(*arrays: Any) -> str:
    digest = hashlib.sha256()
    for values in arrays:
        array = np.ascontiguousarray(np.empty(0) if values is None else values)
        digest.update(f"{array.shape} {array.dtype}".encode())
        digest.update(memoryview(array.reshape(-1).view(np.uint8)))  # type: ignore[arg-type]
    return digest.hexdigest()


def _write(path: Path, state: FitState, history: History, marks: Mapping[str, Any]) -> bool:
    """Keep a training; a full disk does not end it, but is said."""
    numbers = state._replace(key=jax.random.key_data(state.key))
    leaves = {f"{i:03d}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(numbers))}
    try:
        held = {"state": leaves, "history": {name: getattr(history, name) for name in _COLUMNS}}
        metadata = {"training": dict(marks), "sha256": _checksum(held)}
        checkpoint.save(path, held, metadata, overwrite=True, alone=True)
    except OSError as error:
        print(
            f"warning: The training cannot be kept in {path} ({error.strerror}); if the process is ended, it begins "
            "where it was kept last.",
            file=sys.stderr,
        )
        return False
    return True


def _read(
    path: Path, marks: Mapping[str, Any], shapes: Callable[[], FitState], anew: bool
) -> tuple[FitState, History] | None:
    """Return the training that is kept in a file, or None where a new one is to begin."""
    if not path.exists():
        return None
    try:
        return _going_on(path, marks, shapes)
    except InputError:
        if anew:
            return None
        raise


def _going_on(path: Path, marks: Mapping[str, Any], shapes: Callable[[], FitState]) -> tuple[FitState, History] | None:
    """Return the training that is kept in a file, or None, and say so, where it is ours and damaged."""
    try:
        held, metadata = checkpoint.load(path)
    except InputError as error:
        if not _begins_as_ours(path):
            raise InputError(
                f"{path} cannot be read as a training that is kept ({error}) Remove it or name another file, or pass "
                "anew=True (--force) to begin anew."
            ) from error
        _tell_lost(path, str(error))
        return None
    kept = metadata.get("training")
    if not isinstance(kept, dict) or set(held) != {"state", "history"}:
        raise InputError(f"{path} holds no training; expected what an earlier `fit` kept there. Name another file.")
    others = [name for name in marks if kept.get(name) != marks[name]]
    if others:
        raise InputError(
            f"{path} keeps the training of an ended `fit` of another {', '.join(others)}, which is not lost "
            "unasked; expected the same call. Give that to go on, or pass anew=True (--force) to begin anew."
        )
    found = _restored(held, shapes()) if metadata.get("sha256") == _checksum(held) else None
    if found is None:
        _tell_lost(path, "Its arrays are not those that were written.")
    return found


def _tell_lost(path: Path, why: str) -> None:
    print(f"warning: The training kept in {path} is damaged, and begins anew. {why}", file=sys.stderr)


def _begins_as_ours(path: Path) -> bool:
    """Return whether a file that cannot be read begins as one that `_write` made, so that nothing else is lost."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return b"params/state/000.npy" in file.read(100)


def _checksum(held: Mapping[str, Any]) -> str:
    """Return a hash of all arrays that are kept, with their names; nothing where there is something else."""
    if not all(isinstance(entry, np.ndarray) for part in held.values() for entry in _entries(part)):
        return ""
    named = [(f"{part}/{name}", held[part][name]) for part in sorted(held) for name in sorted(held[part])]
    return hashlib.sha256("".join(f"{name} {_digest(value)}\n" for name, value in named).encode()).hexdigest()


def _entries(part: Any) -> list[Any]:
    return list(part.values()) if isinstance(part, Mapping) else [None]


def _restored(held: Mapping[str, Any], shapes: FitState) -> tuple[FitState, History] | None:
    wanted, structure = jax.tree.flatten(shapes._replace(key=jax.eval_shape(jax.random.key_data, shapes.key)))
    names = [f"{i:03d}" for i in range(len(wanted))]
    leaves = [held["state"].get(name) for name in names]
    fits = set(names) == set(held["state"]) and all(
        np.shape(leaf) == want.shape and leaf.dtype == want.dtype for leaf, want in zip(leaves, wanted, strict=True)
    )
    fits = fits and set(held["history"]) == set(_COLUMNS)
    columns = [np.asarray(held["history"].get(name)) for name in _COLUMNS]
    if not fits or any(
        column.dtype != dtype or column.shape != columns[0].shape or column.ndim != 1
        for column, dtype in zip(columns, _TYPES, strict=True)
    ):
        return None
    state: FitState = jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in leaves])
    return state._replace(key=jax.random.wrap_key_data(state.key)), History(*columns)  # type: ignore[arg-type]
