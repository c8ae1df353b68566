"""The scenes that a STAC item or a collection of items names: the data asset of each.

SpatioTemporal Asset Catalog specification 1.0 and 1.1, Item and ItemCollection: "assets" by key, each with "href",
absolute or relative to the item, and optionally "roles" and "type".
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dequnmix_jax.checks import InputError
from dequnmix_jax.io.remote import as_place

SUFFIX = ".json"
"""Of a file that may hold STAC items; no scene has it."""

_READ = (
    ".nc",
    ".nc4",
    ".h5",
    ".he5",
    ".hdf5",
    ".tif",
    ".tiff",
    ".zarr",
    ".hdr",
    ".img",
    ".vrt",
    ".jp2",
    ".npz",
    ".mat",
)
_MOST = 50_000_000  # bytes of a file of items


def scenes_of(path: Path) -> list[Path]:
    """Return the scene of each item in a file, in the order of the file.

    The scene of an item is its asset with the role "data"; without such a role the only asset with the suffix of a
    format that is read. Metadata, thumbnails and masks have other roles.

    Args:
        path: a file or URL, of an Item or of an ItemCollection (FeatureCollection), as a search of an API returns it.

    Raises:
        InputError: the file is no STAC item or names no scene, or an item has several assets that may be the scene.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MOST + 1)
        whole = json.loads(text) if len(text) <= _MOST else None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} cannot be read as a STAC item ({' '.join(str(error).split())[:100]}); expected JSON. Check it."
        ) from error
    items = whole.get("features", [whole]) if isinstance(whole, Mapping) else None
    if not isinstance(items, list) or not items or not all(_is_item(item) for item in items):
        raise InputError(
            f"{path} is no STAC item; expected JSON with assets, of an Item or of an ItemCollection. Name the scenes "
            "themselves, or in a text file (.txt) with one in each line."
        )
    return [_scene_of(item, path) for item in items]


def _is_item(item: Any) -> bool:
    if not isinstance(item, Mapping) or not isinstance(item.get("assets"), Mapping):
        return False
    assets = item["assets"].values()
    return all(isinstance(asset, Mapping) and isinstance(asset.get("href"), str) and asset["href"] for asset in assets)


def _scene_of(item: Mapping[str, Any], path: Path) -> Path:
    assets = {str(key): asset for key, asset in item["assets"].items() if _suffix(asset["href"]) in _READ}
    data = {key: asset for key, asset in assets.items() if "data" in _roles(asset)}
    found = data or {key: asset for key, asset in assets.items() if not _roles(asset)}
    if len(found) != 1:
        keys = ", ".join(list(found or item["assets"])[:12]) or "none"
        raise InputError(
            f"The item {str(item.get('id'))[:60]!r} in {path} has {len(found)} assets that may be its scene "
            f"(of: {keys}); "
            "expected one with the role data. Write the addresses of the scenes into a text file, one in each line."
        )
    href = next(iter(found.values()))["href"]
    if "://" in href or href.startswith("/"):
        return as_place(href)
    folder = path.parent
    while href.startswith(("./", "../")):
        folder, href = (folder.parent, href[3:]) if href.startswith("../") else (folder, href[2:])
    return folder / href


def _roles(asset: Mapping[str, Any]) -> list[Any]:
    roles = asset.get("roles")
    return roles if isinstance(roles, list) else []


def _suffix(href: str) -> str:
    return as_place(href).suffix.lower()
