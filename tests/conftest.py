"""What every test runs under: strict types, no silent broadcasting, two devices."""

import os

# Read once, when jax starts.
os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "strict"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
# Compilation is what the tests spend their time on: without LLVM's optimiser it takes half as long.
for flag in ("--xla_force_host_platform_device_count=2", "--xla_backend_optimization_level=0"):
    if flag.split("=")[0] not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " " + flag

from collections.abc import Iterator
from pathlib import Path

import jax
import pytest


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
