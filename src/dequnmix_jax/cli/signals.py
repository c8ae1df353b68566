"""End cleanly: SIGTERM and SIGHUP raise KeyboardInterrupt as Ctrl-C does, so that everything is cleaned up."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")

_AGAIN = 0.02
"""Seconds until a signal is raised again that arrived where Python drops exceptions."""


class EndSignal:
    """The signal that asked the process to end.

    Attributes:
        number: of the signal; SIGINT until there is one.
    """

    def __init__(self) -> None:
        """Begin without a signal."""
        self.number: int = signal.SIGINT
        self._first = True

    def __call__(self, number: int, frame: Any) -> None:
        """Raise KeyboardInterrupt in the running code; a second signal of this kind ends the process at once."""
        signal.signal(number, signal.SIG_DFL)
        if self._first:
            self._first, self.number = False, number
            raise KeyboardInterrupt

    def raise_later(self) -> None:
        """Raise the signal again, a moment later."""
        self._first = True
        signal.signal(self.number, self)
        later = threading.Timer(_AGAIN, os.kill, (os.getpid(), self.number))
        later.daemon = True
        later.start()

    def listen(self) -> dict[int, Any]:
        """Handle these signals from now on, except those with a handler of their own; return the old handlers."""
        before = {}
        for name in _NAMES:
            number = getattr(signal, name, None)
            # An ignored signal stays ignored, as under `nohup`.
            if number is not None and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                before[number] = signal.signal(number, self)
        return before


@contextmanager
def ended_cleanly() -> Iterator[EndSignal]:
    """Raise KeyboardInterrupt for every signal that asks this process to end, within the block.

    Outside the main thread, where Python handles no signals, nothing changes.
    """
    end = EndSignal()
    if threading.current_thread() is not threading.main_thread():
        yield end
        return
    before, hook = end.listen(), sys.unraisablehook

    def dropped(unraisable: Any) -> None:
        # In a destructor, or where JAX collects garbage, an exception is only printed.
        if unraisable.exc_type is KeyboardInterrupt:
            end.raise_later()
        else:
            hook(unraisable)

    sys.unraisablehook = dropped
    try:
        yield end
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)
