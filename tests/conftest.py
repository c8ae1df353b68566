"""What every test runs under: strict types, no silent broadcasting, eight devices."""

import os

# Read once, when jax starts.
os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "strict"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
# LAPACK's own threads wait for each other in busy loops where several processes share the cores: a QR decomposition of
# 62,500 x 200 that takes 0.2 s on one thread took 12 s of CPU time on two, beside another process.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Compilation is what the tests spend their time on: without LLVM's optimiser it takes half as long.
for flag in ("--xla_force_host_platform_device_count=8", "--xla_backend_optimization_level=0"):
    if flag.split("=")[0] not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " " + flag

from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

_MOST_MAPS = 30_000
"""Pieces of memory that compiled programs may hold: Linux allows a process 65,530 (vm.max_map_count), and a compiler
that gets no more ends the process. A program takes tens of them."""


@pytest.fixture(scope="module", autouse=True)
def few_programs() -> Iterator[None]:
    """Forget the programs that earlier files of tests have compiled when they are many."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and len(maps.read_bytes().splitlines()) > _MOST_MAPS:
        jax.clear_caches()


@pytest.fixture
def x64() -> Iterator[None]:
    """Run the test in double precision."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of real scenes, or skip."""
    folder = os.environ.get("DEQUNMIX_DATA")
    if not folder:
        pytest.skip("DEQUNMIX_DATA is not set: it names the folder of real scenes that cannot be shipped")
    return Path(folder)
