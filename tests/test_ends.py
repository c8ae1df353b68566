"""Every job ends under default XLA flags, where batches of LAPACK calls could deadlock."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_SCRIPT = Path(__file__).with_name("run_to_the_end.py")


def run(count, constraint, jobs, limit):
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment |= {"JAX_NUMPY_DTYPE_PROMOTION": "standard", "JAX_NUMPY_RANK_PROMOTION": "allow"}
    words = [sys.executable, str(_SCRIPT), str(count), constraint, *jobs]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=limit, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_training_with_eight_endmembers():
    """Above seven endmembers the map uses the exact solver, whose derivative once did not end."""
    run(8, "simplex", ["fit"], 240)


@pytest.mark.slow
@pytest.mark.parametrize("constraint", ["simplex", "cone", "soft"])
@pytest.mark.parametrize("count", range(2, 17))
def test_every_constraint_and_count(count, constraint):
    run(count, constraint, ["gradient", "unmix", "fit"], 600)
