"""Keep compiled programs on disk in the form in which they run, so that the next process need not trace them again.

The compilation cache of JAX saves compiling alone: tracing and lowering come first, because its key is the lowered
program. Here the key is what the program is made from: the source of this package, versions, settings of JAX, the
function, its static arguments, and the shapes of the others. A program that cannot be described so, or cannot be read
back, is compiled as usual. Reading a program runs what the file holds, as with the cache of JAX: the folder is the
user's own.
"""

import hashlib
import os
import pickle
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import fields, is_dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from threading import RLock
from typing import Any

import jax
import numpy as np
from jax.experimental import serialize_executable

LARGEST_FOLDER = 500_000_000
"""Bytes of stored programs beyond which the oldest are removed; those of one size of scene are about 10 MB."""

_folder: Path | None = None
_loaded: dict[str, Any] = {}
_hits = [0]
_one_at_a_time = RLock()  # a setting of JAX changes while a program is compiled
_suspended: ContextVar[bool] = ContextVar("_suspended", default=False)

_UNRELATED = ("jax_compilation_cache", "jax_persistent_cache", "jax_log", "jax_dump", "jax_traceback", "jax_explain")
"""Settings of JAX, by their beginning, that do not change a program."""


def use(folder: Path | None) -> None:
    """Store programs in a folder, made if needed; None: do not store any."""
    global _folder
    if folder is not None:
        _count_hits()
    _folder = folder
    _loaded.clear()


@cache
def _count_hits() -> None:
    """Count in `_hits` how often JAX reads a program from its cache."""

    def listen(event: str, **_: Any) -> None:
        if event == "/jax/compilation_cache/cache_hits":
            _hits[0] += 1

    jax.monitoring.register_event_listener(listen)


@contextmanager
def suspended() -> Iterator[None]:
    """Neither read nor store programs in this context: for what changes a program and is no argument of it."""
    token = _suspended.set(True)
    try:
        yield
    finally:
        _suspended.reset(token)


def call(
    function: Callable[..., Any],
    compiled: Any,
    static: tuple[Any, ...],
    dynamic: tuple[tuple[Any, ...], Mapping[str, Any]],
    given: tuple[tuple[Any, ...], Mapping[str, Any]],
) -> Any:
    """Call a function by its stored program, which is made on the first call.

    Args:
        function: that is compiled.
        compiled: `jax.jit` of it.
        static: everything besides function and arguments that determines the program: static arguments, options.
        dynamic: positional and keyword arguments that are not static.
        given: all arguments, for `compiled`.
    """
    name = _name(function, static, dynamic)
    if name is None:
        return compiled(*given[0], **given[1])
    with _one_at_a_time:
        if _loaded.get(name) is None:
            _loaded[name] = _read(name)
        if _loaded[name] is None:
            program, is_new = _compiled(compiled.lower(*given[0], **given[1]))
            _loaded[name] = program
            if is_new:
                _write(name, program)
    return _loaded[name](*dynamic[0], **dynamic[1])


def _compiled(lowered: Any) -> tuple[Any, bool]:
    """Compile a program, and return it and whether it is new: one from JAX's cache cannot be stored a second time.

    XLA writes such a program without its machine code, and it fails when it runs. So new ones are kept out of JAX's
    cache, which would only hold them twice.
    """
    threshold = "jax_persistent_cache_min_compile_time_secs"
    before, read = getattr(jax.config, threshold), _hits[0]
    jax.config.update(threshold, 1e9)
    try:
        program = lowered.compile()
    finally:
        jax.config.update(threshold, before)
    return program, _hits[0] == read


def _name(function: Callable[..., Any], static: Any, dynamic: Any) -> str | None:
    """Return the name of the file of a program; None if it cannot be stored."""
    if _folder is None or _suspended.get() or jax.device_count() > 1:
        return None
    # To look for NaN, JAX runs a program again, operation by operation.
    if any(getattr(jax.config, f"jax_{name}", False) for name in ("disable_jit", "debug_nans", "debug_infs")):
        return None
    leaves, structure = jax.tree.flatten(dynamic)
    try:
        described = _described(static)
        shapes = [(str(x.dtype), x.shape, x.weak_type) for x in map(jax.typeof, leaves)]
    except TypeError:
        return None
    settings = [(name, getattr(jax.config, name, None)) for name in sorted(jax.config.values)
                if not name.startswith(_UNRELATED)]  # fmt: skip
    parts = (_origin(), settings, function.__module__, function.__qualname__, described, str(structure), shapes)
    return f"{function.__name__}-{hashlib.sha256(repr(parts).encode()).hexdigest()}"


def _described(value: Any) -> Any:
    """Return a value as text that is the same in every process; TypeError for a kind that has none."""
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if is_dataclass(value) and not isinstance(value, type):
        entries = tuple(_described(getattr(value, item.name)) for item in fields(value))
        return (type(value).__module__, type(value).__qualname__, *entries)
    if isinstance(value, tuple | list):
        return (type(value).__qualname__, *(_described(item) for item in value))
    if isinstance(value, dict):
        return tuple((_described(name), _described(value[name])) for name in sorted(value))
    raise TypeError(f"{type(value).__name__} has no description.")


@cache
def _origin() -> tuple[str, ...]:
    """Return what this process makes programs from: sources, versions, and the processor."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode() + b"\0" + path.read_bytes())
    versions = [version(name) for name in ("jax", "jaxlib", "numpy", "flax", "optax", "jaxopt")]
    device = jax.devices()[0]
    return (
        digest.hexdigest(), *versions, os.environ.get("XLA_FLAGS", ""), device.platform, device.device_kind,
        platform.machine(), platform.python_version(), _processor(),
    )  # fmt: skip


def _processor() -> str:
    """Return the instructions that the processor knows: folders are shared between machines."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    return platform.processor()


def _read(name: str) -> Any:
    """Return a stored program, or None if there is none that can be loaded."""
    assert _folder is not None
    path = _folder / name
    try:
        if hasattr(os, "getuid") and path.stat().st_uid != os.getuid():
            return None  # another user's file is not executed
        content = path.read_bytes()
        digest, payload = content[:32], content[32:]
        if hashlib.sha256(payload).digest() != digest:
            return None
        _load_lapack()
        program = serialize_executable.deserialize_and_load(*pickle.loads(payload))
    except Exception:  # whatever is wrong with the file, the program can be compiled
        return None
    with suppress(OSError):
        os.utime(path)  # the oldest are removed first
    return program


@cache
def _load_lapack() -> None:
    """Make JAX find LAPACK's functions, which it does while it lowers one; without, calling them ends the process."""
    jax.jit(jax.lax.linalg.cholesky).lower(jax.ShapeDtypeStruct((1, 1), np.float32))


def _write(name: str, program: Any) -> None:
    """Store a program, whole or not at all; where that fails only time is lost."""
    assert _folder is not None
    try:
        payload = pickle.dumps(serialize_executable.serialize(program))
        _folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_folder.parent, prefix=".") as temporary:
            file = Path(temporary) / name
            file.write_bytes(hashlib.sha256(payload).digest() + payload)
            file.replace(_folder / name)
        _remove_oldest(_folder)
    except Exception:
        return


def _remove_oldest(folder: Path) -> None:
    """Remove the programs that were not used for the longest time while the folder is too large."""
    entries = sorted(((path.stat().st_mtime, path.stat().st_size, path) for path in folder.iterdir()), reverse=True)
    total = 0
    for _, size, path in entries:
        total += size
        if total > LARGEST_FOLDER:
            path.unlink(missing_ok=True)
