"""`--log-file` and `--verbose`: keep what a command says, when it said it, and why it failed."""

import logging
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dequnmix_jax.checks import InputError
from dequnmix_jax.escaping import shown

LOGGER = logging.getLogger("dequnmix_jax")
"""What the command line says passes through this logger; programs that call `main` may attach handlers of their own."""


class _Copied:
    """A stream that also hands its complete lines to the logger."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._begun = stream, ""

    def write(self, text: str) -> int:
        """Write text, and log the lines that it ends."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            if line.strip():
                LOGGER.info(shown(line))
        return int(self._stream.write(text))

    def __getattr__(self, name: str) -> Any:
        """Return any other attribute of the stream."""
        return getattr(self._stream, name)


@contextmanager
def logged(path: Path | None, words: Sequence[str], version: str) -> Iterator[None]:
    """Append what is printed on stderr in this block to a file, with times; without a path do nothing.

    The first line of a block holds the command and versions, the last one the seconds that it took.

    Raises:
        InputError: the file cannot be written.
    """
    if path is None:
        yield
        return
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}; expected a file for the log.") from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level, before, began = LOGGER.level, sys.stderr, time.perf_counter()
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.DEBUG)
    sys.stderr = _Copied(before)
    try:
        LOGGER.debug("dequnmix %s, Python %s, %s", version, platform.python_version(), platform.platform())
        LOGGER.debug("command: dequnmix %s", shown(" ".join(map(str, words))))
        yield
    finally:
        LOGGER.debug("ended after %.1f s", time.perf_counter() - began)
        sys.stderr = before
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(level)
        handler.close()
