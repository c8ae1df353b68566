"""An extension of griffe: arguments that a docstring describes together, `a, b: text`, become one entry each."""

import re
from typing import Any

import griffe

_JOINT = re.compile(r"(?m)^(\s{4,})(\w+)((?:, \w+)+): ")


def separated(text: str) -> str:
    """Return a docstring with one entry for each argument.

    >>> print(separated("Args:\\n    a, b: numbers.\\n    c: another."))
    Args:
        b: see `a`.
        a: numbers.
        c: another.
    """

    def lines(found: re.Match[str]) -> str:
        space, first, others = found.groups()
        further = [f"{space}{name}: see `{first}`." for name in others.split(", ")[1:]]
        return "\n".join([*further, f"{space}{first}: "]).replace("\n\n", "\n")

    head, *sections = re.split(r"(?m)^(?=\s*(?:Args|Attributes):\s*$)", text)
    return head + "".join(_JOINT.sub(lines, section) for section in sections)


class JointNames(griffe.Extension):
    """Separates joint names in every docstring."""

    def on_object(self, *, obj: Any, **kwargs: Any) -> None:
        """Change the docstring of an object when it is loaded."""
        if obj.docstring is not None:
            obj.docstring.value = separated(obj.docstring.value)
