"""Show text from a file safely: control characters are written as escapes and have no effect.

The name of a band, an endmember, a library or a file can contain terminal escape sequences (which move the cursor,
change the title or answer for the user), bells, and marks that reverse the direction of text. `shown` writes each of
them as an escape, such as \\x1b; everything that the command line prints passes through `Terminal`.
"""

import re
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

# C0, DEL and C1; line separators; direction marks, embeddings, overrides and isolates; annotation anchors; halves of
# surrogate pairs, by which Python represents undecodable bytes in file names; tags, which are invisible.
_CONTROLS = (
    "\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f"
)
_ANY = re.compile(f"[{_CONTROLS}]")
_BUT_LINES = re.compile(f"(?!\n)[{_CONTROLS}]")


def shown(text: str, lines: bool = False) -> str:
    """Return text with its control characters written as escapes, such as \\x1b or \\u202e.

    Args:
        text: any text.
        lines: keep line ends.

    >>> shown("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    return (_BUT_LINES if lines else _ANY).sub(lambda match: _escape(match[0]), text)


def reason_of(error: BaseException, length: int = 120) -> str:
    """Return what the error of another library says, on one line, cut between words; its kind if it says nothing.

    >>> reason_of(ValueError("no such\\n variable in the file"), 16)
    'no such ...'
    """
    return textwrap.shorten(str(error.__cause__ or error), length, placeholder=" ...") or type(error).__name__


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape", "backslashreplace").decode("ascii")


def as_text(name: str) -> str:
    """Return a name that can be encoded in UTF-8; undecodable bytes of a file name are written as \\udcff."""
    return str(name).encode("utf-8", "backslashreplace").decode("utf-8")


class Terminal:
    """A text stream that escapes all control characters except line ends.

    Attributes:
        behind: the raw stream, for output that moves the cursor on purpose.
    """

    def __init__(self, behind: TextIO) -> None:
        """Wrap a stream."""
        self.behind = behind

    def write(self, text: str) -> int:
        """Write text with its control characters escaped."""
        text = shown(text, lines=True)
        encoding = getattr(self.behind, "encoding", None) or "utf-8"
        # Characters that the terminal cannot encode are escaped too, instead of raising an error.
        self.behind.write(text.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        """Return any other attribute of the raw stream."""
        return getattr(self.behind, name)


@contextmanager
def guarded() -> Iterator[None]:
    """Pass everything printed to stdout and stderr through `Terminal`, for the duration of the block."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Terminal(before[0]), Terminal(before[1])
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
