"""Pages of the notebooks: executed by `python docs/generate/gallery.py`, otherwise their sources."""

import json
from pathlib import Path


def cells(notebook: Path) -> list[tuple[str, str]]:
    """Return kind and text of each cell."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    return [(cell["cell_type"], "".join(cell["source"])) for cell in content["cells"]]


MAGIC = "%matplotlib inline\n"
"""What a notebook needs to show pictures, and a page does not show."""


def fenced(text: str, language: str = "python") -> str:
    """Return a fenced block."""
    return f"```{language}\n{text.removeprefix(MAGIC)}\n```"


def unexecuted(notebook: Path) -> str:
    """Return the page of a notebook without results."""
    parts = [text if kind == "markdown" else fenced(text) for kind, text in cells(notebook)]
    note = f"*Source: `notebooks/{notebook.name}`, shown without its results"
    note += ": `python docs/generate/gallery.py` computes them.*"
    return "\n\n".join([parts[0], note, *parts[1:]]) + "\n"


def pages(folder: Path, executed: Path) -> dict[str, str]:
    """Return a page for each notebook, by name; an executed one that is older than the notebook's text is not used."""
    made = {}
    for notebook in sorted(folder.glob("*.ipynb")):
        page, stamp = executed / notebook.stem / "page.md", executed / notebook.stem / "source.ipynb"
        fresh = page.exists() and stamp.exists() and stamp.read_bytes() == notebook.read_bytes()
        made[f"gallery/{notebook.stem}.md"] = page.read_text(encoding="utf-8") if fresh else unexecuted(notebook)
    return made
