"""Which scenes the words of a batch mean, and the names of their outputs."""

import glob
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dequnmix_jax.checks import InputError
from dequnmix_jax.io import stac
from dequnmix_jax.io.remote import Remote, as_place

_PATTERN = "*?["


def is_list(word: Path) -> bool:
    """Return whether a word means several scenes: a pattern, a text file, or a STAC item or collection of items."""
    if word.suffix.lower() == stac.SUFFIX:
        return True
    if isinstance(word, Remote):
        return False
    return word.suffix.lower() == ".txt" or _is_pattern(word)


def _is_pattern(word: Path) -> bool:
    return not isinstance(word, Remote) and any(c in str(word) for c in _PATTERN) and not word.exists()


def places_of(scenes: Any) -> list[Path]:
    """Return the scenes that paths, URLs, patterns and text files name, each once.

    Raises:
        InputError: a pattern or a text file names none, or a text file cannot be read.
    """
    words = [scenes] if isinstance(scenes, str | os.PathLike) else list(scenes)
    places = [place for word in words for place in _expanded(word if isinstance(word, Remote) else as_place(word))]
    if not places:
        raise InputError("No scenes are given; expected paths, patterns or text files. Name at least one.")
    several: dict[Any, Path] = {}  # one scene may be named in several ways
    for place in places:
        several.setdefault(place if isinstance(place, Remote) else place.resolve(), place)
    return list(several.values())


def _expanded(word: Any) -> list[Path]:
    if not is_list(word):
        return [word]
    if word.suffix.lower() == stac.SUFFIX and not _is_pattern(word):
        return _of_items(word)
    if word.suffix.lower() == ".txt" and word.exists():
        found = [
            place
            for line in _lines(word)
            for match in (_matches(line) if _is_pattern(line) else [line])
            for place in _of_items(match)
        ]
    else:
        found = [place for match in _matches(word) for place in _of_items(match)]
    if not found:
        raise InputError(f"{word} names no scene; expected at least one. Check the spelling and the folder.")
    return found


def _of_items(place: Path) -> list[Path]:
    return stac.scenes_of(place) if place.suffix.lower() == stac.SUFFIX else [place]


def _matches(pattern: Path) -> list[Path]:
    """Return the paths that a pattern matches, sorted."""
    return [Path(name) for name in sorted(glob.glob(str(pattern), recursive=True))]  # noqa: PTH207 - of absolute ones too


def _lines(path: Path) -> list[Any]:
    """Return the scenes that a text file names."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); expected a list of scenes, one in each line.") from error
    return [as_place(line.strip()) for line in lines if line.strip() and not line.lstrip().startswith("#")]


def names_for(places: Sequence[Path], taken: Mapping[str, str] | None = None) -> list[str]:
    """Return a name for the output of each scene: that of its file, with its folders where several have that name.

    Args:
        places: the scenes, all different.
        taken: names that outputs of scenes have already; these keep theirs, and no other gets it.
    """
    taken = {} if taken is None else taken
    known = [taken.get(str(place)) for place in places]
    used = set(taken.values())
    # The folders above, one after the other, until all names differ; then the suffix too.
    parts = [[*(part for part in _parents(place) if part), place.stem] for place in places]
    depth = [1] * len(places)
    names = [part[-1] for part in parts]
    for _ in range(max(map(len, parts))):
        twice = Counter(names)
        clash = [
            own is None and (twice[name] > 1 or name in used) and deep < len(part)
            for own, name, deep, part in zip(known, names, depth, parts, strict=True)
        ]
        if not any(clash):
            break
        depth = [deep + more for deep, more in zip(depth, clash, strict=True)]
        names = ["_".join(part[-deep:]) for part, deep in zip(parts, depth, strict=True)]
    twice = Counter(names)
    found = [
        own or (name if twice[name] == 1 and name not in used else f"{name}{place.suffix}".replace(".", "_"))
        for own, name, place in zip(known, names, places, strict=True)
    ]
    used |= {own for own in known if own}
    for number, name in enumerate(found):
        if known[number] is None:
            several = 1
            while found[number] in used:  # such as a/b_x and a_b/x
                several += 1
                found[number] = f"{name}_{several}"
            used.add(found[number])
    return found


def _parents(place: Path) -> list[str]:
    text = str(place.parent) if isinstance(place, Remote) else str(place.parent.resolve())
    return text.replace("://", "/").strip("/").replace("\\", "/").replace(":", "").split("/")
