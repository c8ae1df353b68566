"""Compiled equals eager: values that XLA recomputes with different rounding do not change a result.

Under the optimiser that a user has, so in a process of its own: the tests otherwise run without, and then nothing is
rounded differently.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dequnmix_jax as dq

_SCRIPT = Path(__file__).with_name("compare_compiled.py")


def run(groups, counts, limit=300):
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment |= {"JAX_NUMPY_DTYPE_PROMOTION": "standard", "JAX_NUMPY_RANK_PROMOTION": "allow"}
    words = [sys.executable, str(_SCRIPT), groups, counts]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=limit, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]


def test_projection_and_purest_pixels():
    """Cases in which copies of a value were once compared: two and three endmembers."""
    run("mixing,purest", "2,3")


@pytest.mark.slow
@pytest.mark.parametrize("groups", ["mixing", "exact", "purest", "search", "unmix"])
@pytest.mark.parametrize("counts", ["1,2,3,4", "5,6,7,8"])
def test_everything(groups, counts):
    """Every public function whose result depends on comparisons, by value or by its defining property."""
    run(groups, counts, 1500)


def test_comparators_sort():
    """By the zero-one principle (Knuth): a network that sorts these sorts everything."""
    from dequnmix_jax.mixing import _comparators

    rng = np.random.default_rng(0)
    for count in range(1, 33):
        values = (
            ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
            if count <= 12
            else rng.integers(0, 2, (9000, count))
        )
        columns = list(values.T)
        for high, low in _comparators(count):
            columns[high], columns[low] = (
                np.maximum(columns[high], columns[low]),
                np.minimum(columns[high], columns[low]),
            )
        assert (np.diff(np.stack(columns), axis=0) <= 0).all()


def test_projection_of_many_is_that_of_few():
    """Networks up to 32 entries, the sort beyond, against double precision in numpy."""
    rng = np.random.default_rng(1)
    for count in (1, 2, 7, 32, 33, 50):
        v = rng.standard_normal((200, count))
        v[:40] = np.round(v[:40])  # ties
        u = -np.sort(-v, axis=1)
        tau = ((np.cumsum(u, axis=1) - 1) / np.arange(1, count + 1)).max(axis=1, keepdims=True)
        found = dq.mixing.project_simplex(v.astype(np.float32))
        np.testing.assert_allclose(found, np.maximum(v - tau, 0), atol=2e-6)
