"""`dequnmix env`: versions, devices, caches and variables, for the report of a fault."""

import json
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dequnmix_jax.checks import how_many
from dequnmix_jax.cli.options import EnvOptions
from dequnmix_jax.compilation_cache import user_cache

PACKAGES = (
    "dequnmix-jax", "jax", "jaxlib", "flax", "optax", "jaxopt", "numpy", "scipy", "matplotlib", "rasterio", "h5py",
    "zarr", "pooch", "flatbuffers", "dask", "distributed",
)  # fmt: skip
"""What is needed, then the extras."""

VARIABLES = (
    "DEQUNMIX_DATA", "DEQUNMIX_NO_CACHE", "DEQUNMIX_TRACEBACK", "JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_X64",
    "JAX_PLATFORMS", "NPROC", "OPENBLAS_NUM_THREADS", "XDG_CACHE_HOME", "XLA_FLAGS",
)  # fmt: skip
"""Variables that change what the program does."""


def environment() -> dict[str, Any]:
    """Return what a report of a fault needs, ready for JSON."""
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "packages": {name: _version(name) for name in PACKAGES},
        "devices": _devices(),
        "cache": _cache(),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def env(options: EnvOptions) -> None:
    """Print the environment."""
    found = environment()
    if options.json:
        print(json.dumps(found, indent=2))
        return
    print(f"python {found['python']}, {found['platform']}, {found['cores']} cores")
    for name, number in found["packages"].items():
        print(f"{name}: {number or 'not installed'}")
    print(f"devices: {', '.join(found['devices'])}")
    cache = found["cache"]
    print(f"cache: {cache['folder']}, {how_many(cache['files'], 'file')}, {cache['bytes'] / 1e6:.0f} MB")
    for name, value in found["variables"].items():
        print(f"{name}={value}")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _devices() -> list[str]:
    """Return the devices that jax finds, or why it finds none: a broken driver is what such a report is about."""
    try:
        import jax

        return [f"{device.platform} {device.device_kind}" for device in jax.devices()]
    except Exception as error:
        return [f"none: {type(error).__name__}: {error}"]


def _cache() -> dict[str, Any]:
    chosen = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    try:
        folder = Path(chosen) if chosen else user_cache() / "dequnmix_jax" / "jax"
        sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    except (OSError, RuntimeError):  # no home folder, or no permission
        return {"folder": chosen, "files": 0, "bytes": 0}
    return {"folder": str(folder), "files": len(sizes), "bytes": sum(sizes)}
