"""Formulas between dollars become MathML, which browsers show without a script."""

import re

from latex2mathml.converter import convert

_BLOCK = re.compile(r"(?m)^\$\$(.+?)\$\$\s*$", re.DOTALL)
_INLINE = re.compile(r"(?<![\\$\w])\$([^$\n`]+?)\$(?![\w$])")
_CODE = re.compile(r"(```.*?```|~~~.*?~~~|`[^`\n]+`)", re.DOTALL)


def replaced(markdown: str) -> str:
    """Return a page with `$...$` and lines of `$$...$$` as MathML; code is left as it is.

    >>> replaced("`$x$` and $x$").startswith("`$x$` and <math")
    True
    """
    parts = _CODE.split(markdown)
    for i in range(0, len(parts), 2):
        parts[i] = _BLOCK.sub(lambda found: "\n" + convert(found[1].strip(), display="block") + "\n", parts[i])
        parts[i] = _INLINE.sub(lambda found: convert(found[1]), parts[i])
    return "".join(parts)
