"""Commands that compile nothing do not import jax, whose import takes most of a second."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

_PROGRAM = """
import json, sys
from dequnmix_jax.cli.main import main
try:
    status = main(sys.argv[1:])
except SystemExit as error:
    status = error.code
heavy = {"jax", "jaxopt", "flax", "optax", "scipy", "matplotlib"}
print(json.dumps([status, sorted(heavy & set(sys.modules))]), file=sys.stderr)
"""

COMMANDS = (
    "demo", "info", "fit", "unmix", "report", "compare", "endmembers", "convert", "score", "match", "zones", "env",
    "completion",
)  # fmt: skip


def heavy(*words):
    """Return the exit status of a command, and the heavy packages that it imported."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *words], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    return json.loads(done.stderr.splitlines()[-1])


@pytest.mark.parametrize("words", [("--help",), ("--version",), *((name, "--help") for name in COMMANDS)], ids=" ".join)
def test_help_does_not_import_jax(words):
    assert heavy(*words) == [0, []]


@pytest.mark.parametrize("words", [(), ("nonsense",), ("fit",), ("unmix", "a", "b", "--nonsense")], ids=" ".join)
def test_usage_errors_do_not_import_jax(words):
    assert heavy(*words) == [2, []]


def test_info_does_not_import_jax(tmp_path):
    path = tmp_path / "scene.npz"
    np.savez(path, cube=np.ones((3, 4, 5), np.float32), wavelengths=np.linspace(400, 900, 5))
    assert heavy("info", str(path)) == [0, []]


def test_the_package_itself_does_not_import_jax():
    text = "import sys, dequnmix_jax as dq; dir(dq); dq.InputError; dq.Model(); dq.read; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", text], check=False).returncode == 0
