"""Execute the notebooks without Jupyter and keep text and pictures in `.gallery`, for the pages of the site.

python docs/generate/gallery.py [NAME ...]
"""

import ast
import contextlib
import io
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from gallery_pages import MAGIC, cells, fenced

ROOT = Path(__file__).parents[2]


def _execute(text: str, space: dict[str, Any]) -> Any:
    """Execute a cell and return what its last line shows."""
    tree = ast.parse(text.removeprefix(MAGIC))
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), space)
    return None if last is None else eval(compile(ast.Expression(last.value), "cell", "eval"), space)


def _shown(value: Any, folder: Path, number: int) -> str:
    """Return how a page shows the value of a cell: a picture, or text."""
    if hasattr(value, "savefig"):
        value.savefig(folder / f"{number}.png", dpi=110, facecolor="white")
        return f"![result of the cell above]({folder.name}/{number}.png)"
    return "" if value is None else fenced(repr(value), "text")


def execute(notebook: Path, folder: Path) -> None:
    """Execute a notebook in an empty folder and write its page; fail if it leaves a file behind."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    space, parts, here, began = {"__name__": "__main__"}, [], Path.cwd(), time.perf_counter()
    with tempfile.TemporaryDirectory() as empty:
        os.chdir(empty)
        try:
            for number, (kind, text) in enumerate(cells(notebook)):
                if kind == "markdown":
                    parts.append(text)
                    continue
                printed = io.StringIO()
                with contextlib.redirect_stdout(printed):
                    value = _execute(text, space)
                parts.append(fenced(text))
                parts += [fenced(printed.getvalue().rstrip(), "text")] if printed.getvalue() else []
                parts += [_shown(value, folder, number)]
            left = sorted(path.name for path in Path(empty).iterdir())
            assert not left, f"{notebook.name} leaves {', '.join(left)} behind"
        finally:
            os.chdir(here)
    note = f"*Source: `notebooks/{notebook.name}`; executed in {time.perf_counter() - began:.0f} s.*"
    page = "\n\n".join([parts[0], note, *(part for part in parts[1:] if part)]) + "\n"
    (folder / "page.md").write_text(page, encoding="utf-8")
    (folder / "source.ipynb").write_bytes(notebook.read_bytes())


if __name__ == "__main__":
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        if len(sys.argv) < 2 or path.stem in sys.argv[1:]:
            execute(path, ROOT / ".gallery" / path.stem)
            print(path.stem)
