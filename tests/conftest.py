"""Settings of all tests: strict types, no silent broadcasting, eight devices."""

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
from typing import Any

import jax
import pytest

_MOST_MAPS = 30_000
"""Pieces of memory that compiled programs may hold: Linux allows a process 65,530 (vm.max_map_count), and a compiler
that gets no more ends the process. A program takes tens of them."""


_SLOW_LIMIT = 1800
"""Seconds that a test marked slow may take; all others have the limit of pyproject.toml."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow tests more time."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_SLOW_LIMIT))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Distribute files as `loadfile` does, but do not repeat a test that has ended its process.

    A limit of time ends the process. xdist's own scheduler hands the rest of the file to another process, the test that
    hangs first of all: with two processes it would hang nine times. And where one test is left for a new process, it
    waits for ever: a process begins a test when it knows the next one, or that there is none.
    """
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def remove_node(self, node: Any) -> str | None:
            work = self.assigned_work.pop(node)
            crashed = next((test for unit in work.values() for test, done in unit.items() if not done), None)
            if crashed is not None:
                for scope, unit in work.items():
                    if crashed in unit:
                        unit[crashed] = True
                    if not all(unit.values()):
                        self.workqueue[scope] = unit
                for other in self.assigned_work:
                    self._reschedule(other)
            return crashed

        def _reschedule(self, node: Any) -> None:
            if node not in self.registered_collections:  # it still collects
                return
            super()._reschedule(node)
            while not node.shutting_down and self._pending_of(self.assigned_work[node]) < 2:
                super()._reschedule(node)

    return Scheduling(config, log)


@pytest.fixture(scope="module", autouse=True)
def few_programs() -> Iterator[None]:
    """Clear the compiled programs of earlier test files if there are many."""
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
