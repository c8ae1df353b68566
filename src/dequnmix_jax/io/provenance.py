"""Provenance of an output: checksums of input files, and versions of packages."""

import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dequnmix_jax.io.remote import Remote

SUMMARY = "summary.json"
"""Name of the file that marks a folder as the output of an unmixing."""


def file_record(path: Path) -> dict[str, Any]:
    """Return name, size in bytes and sha256 of a file, or of a folder (see `_folder`).

    Of a file elsewhere, its URL in place of the checksum, for which all of it would be read.
    """
    if isinstance(path, Remote):
        return {"file": path.name, "url": str(path)} | ({"bytes": path.stat().st_size} if path.is_file() else {})
    if path.is_dir():
        return _folder(path)
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": _sha256(path)}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _folder(path: Path) -> dict[str, Any]:
    """Return name, size and hash of a folder (Zarr); the hash is that of lines "sha256 name", sorted by name."""
    files = sorted((file.relative_to(path).as_posix(), file) for file in path.rglob("*") if file.is_file())
    digest = hashlib.sha256("".join(f"{_sha256(file)} {name}\n" for name, file in files).encode())
    return {"file": path.name, "bytes": sum(file.stat().st_size for _, file in files), "sha256": digest.hexdigest()}


def package_version(package: str) -> str:
    """Return the version of an installed package, or "unknown"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
