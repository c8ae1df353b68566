"""Hooks of mkdocs: pages that are made of the code, of `results/` and of the notebooks, and macros inside pages."""

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

sys.path.insert(0, str(Path(__file__).parent))
import command_line
import gallery_pages
import maths
import public_names
import result_pages

ROOT = Path(__file__).parents[2]


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages and the pictures of `results/`."""
    pages = public_names.pages() | {"reference/command_line.md": command_line.page()}
    pages |= result_pages.pages(ROOT / "results") | gallery_pages.pages(ROOT / "notebooks", ROOT / ".gallery")
    pages["changelog.md"] = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    for picture in sorted((ROOT / "results").glob("*.png")):
        files.append(File.generated(config, f"results/files/{picture.name}", abs_src_path=str(picture)))
    for picture in sorted((ROOT / ".gallery").glob("*/*.png")):
        name = f"gallery/{picture.parent.name}/{picture.name}"
        files.append(File.generated(config, name, abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Replace `{{ table NAME }}` by what the CSV files hold, and formulas by MathML."""
    records = "../" * page.file.src_uri.count("/") + "results/files/"
    return maths.replaced(result_pages.replaced(markdown, ROOT / "results", records))


_SHORT = 30
"""Letters of a word of code that is not divided between two lines."""


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Let each picture be opened by itself, and keep short words of code in one line."""
    html = re.sub(rf"<code>([^<\n]{{1,{_SHORT}}})</code>", r'<code class="short">\1</code>', html)
    return re.sub(r'(<img [^>]*src="([^"]+)"[^>]*>)', r'<a class="picture" href="\2">\1</a>', html)
