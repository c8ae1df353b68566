"""Show text that came from a file: what a name holds of control characters is written out, and does nothing.

A name of a band, an endmember, a library or a file can hold the escape sequences of a terminal (which move its cursor,
change its title or answer for the user), bells, and the marks that turn the direction of what follows. `shown` writes
each of them as an escape, such as \\x1b; `Terminal` is the door of all that the command line prints.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

# C0, DEL and C1; separators of lines; direction: marks, embeddings, overrides and isolates; anchors of annotations;
# halves of surrogate pairs, which Python makes of bytes in file names that are no text; tags, which no font shows.
_CONTROLS = (
    "\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f"
)
_ANY = re.compile(f"[{_CONTROLS}]")
_BUT_LINES = re.compile(f"(?!\n)[{_CONTROLS}]")


def shown(text: str, lines: bool = False) -> str:
    """Return text with its control characters written out, one of them as \\x1b or \\u202e; all else as it is.

    Args:
        text: any text.
        lines: leave the ends of lines as they are.

    >>> shown("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    return (_BUT_LINES if lines else _ANY).sub(lambda found: _escape(found[0]), text)


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape", "backslashreplace").decode("ascii")


def as_text(name: str) -> str:
    """Return a name that every file can hold: bytes of a file's name that are no text are written as \\udcff."""
    return str(name).encode("utf-8", "backslashreplace").decode("utf-8")


class Terminal:
    """A stream of text through which no control character passes but the ends of lines.

    Attributes:
        behind: the stream, for those who move the cursor on purpose.
    """

    def __init__(self, behind: TextIO) -> None:
        """Stand before a stream."""
        self.behind = behind

    def write(self, text: str) -> int:
        """Write text with its control characters written out."""
        text = shown(text, lines=True)
        encoding = getattr(self.behind, "encoding", None) or "utf-8"
        # What the terminal cannot show is written out too, in place of an error at the end of the work.
        self.behind.write(text.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        """Return anything else of the stream behind."""
        return getattr(self.behind, name)


@contextmanager
def guarded() -> Iterator[None]:
    """Let all that is printed meanwhile pass through `Terminal`, on stdout and on stderr."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Terminal(before[0]), Terminal(before[1])
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
