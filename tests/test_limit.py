"""The time limit of a test ends a compiled call that never returns, and only that test."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

_HANGING = """
import jax, pytest

@pytest.mark.timeout(3)
def test_a_compiled_call_that_never_returns():
    jax.jit(lambda x: jax.lax.while_loop(lambda y: y >= 0, abs, x))(1.0).block_until_ready()

def test_the_next_one():
    pass
"""


def test_a_compiled_call_that_never_returns_is_ended_once_and_the_rest_runs(tmp_path):
    (tmp_path / "test_hanging.py").write_text(_HANGING)
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        ROOT / "pyproject.toml",
        "--rootdir",
        tmp_path,
        "-p",
        "tests.conftest",
    ]
    words += ["-p", "no:cacheprovider", "-q", "-n1", tmp_path]
    home = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    found = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, env=home, cwd=ROOT)
    assert "1 failed, 1 passed" in found.stdout, found.stdout + found.stderr
    assert "crashed while running 'test_hanging.py::test_a_compiled_call_that_never_returns'" in found.stdout


def test_every_test_has_a_limit(request):
    assert 0 < float(request.config.getini("timeout")) <= 300
    assert request.config.getini("timeout_method") == "thread"


@pytest.mark.slow
def test_a_slow_test_has_a_longer_one(request):
    assert request.node.get_closest_marker("timeout").args[0] > 300
