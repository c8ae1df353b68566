"""One way to end: what the system or a scheduler sends to end a process ends it as Ctrl-C does, with all cleared up."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")

_AGAIN = 0.02
"""Seconds after which a signal is raised again that came where Python drops exceptions."""


class Asked:
    """Which signal asked the process to end.

    Attributes:
        number: of the signal, that of Ctrl-C as long as there was none.
    """

    def __init__(self) -> None:
        """Nobody has asked yet."""
        self.number: int = signal.SIGINT
        self._first = True

    def __call__(self, number: int, frame: Any) -> None:
        """Raise KeyboardInterrupt where the program is; a second signal of the kind ends the process at once."""
        signal.signal(number, signal.SIG_DFL)
        if self._first:
            self._first, self.number = False, number
            raise KeyboardInterrupt

    def again(self) -> None:
        """Raise it once more, a moment later."""
        self._first = True
        signal.signal(self.number, self)
        later = threading.Timer(_AGAIN, os.kill, (os.getpid(), self.number))
        later.daemon = True
        later.start()

    def listen(self) -> dict[int, Any]:
        """Answer all signals of the kind from now on, but those that somebody has chosen an answer for."""
        before = {}
        for name in _NAMES:
            number = getattr(signal, name, None)
            # One that is ignored stays so: `nohup` asks for that.
            if number is not None and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                before[number] = signal.signal(number, self)
        return before


@contextmanager
def ended_cleanly() -> Iterator[Asked]:
    """Let every signal that asks this process to end raise KeyboardInterrupt, for as long as the block lasts.

    Outside the main thread, where Python lets nobody answer signals, nothing changes.
    """
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before, hook = asked.listen(), sys.unraisablehook

    def dropped(what: Any) -> None:
        # In a destructor, or where JAX collects garbage, an exception ends nothing and is only printed.
        if what.exc_type is KeyboardInterrupt:
            asked.again()
        else:
            hook(what)

    sys.unraisablehook = dropped
    try:
        yield asked
    finally:
        sys.unraisablehook = hook
        for number, answer in before.items():
            signal.signal(number, answer)
