"""Check that the search of a built site finds every public name.

python docs/generate/check.py site
"""

import html
import json
import re
import sys
from pathlib import Path

from public_names import places


def missing(site: Path) -> list[str]:
    """Return the public names that are not the title of an entry of the search."""
    entries = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))["docs"]
    titles = (html.unescape(re.sub(r"<[^>]+>", "", entry["title"])) for entry in entries)
    found = {title.split()[0] for title in titles if title.strip()}
    return sorted(set(places()) - found)


if __name__ == "__main__":
    lacking = missing(Path(sys.argv[1]))
    print(f"{len(places())} public names, {len(lacking)} of them not found: {', '.join(lacking)}")
    sys.exit(bool(lacking))
