"""Damaged files of every kind give a scene or a message.

The full run is `python -m experiments.robustness.fuzz`.
"""

import csv
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from dequnmix_jax.checks import InputError
from dequnmix_jax.io.formats import read
from dequnmix_jax.io.npz_arrays import load
from experiments.robustness import fuzz
from experiments.robustness.hostile_files import KINDS

CASES = 25
PROGRAM = (
    "import sys; from experiments.robustness.fuzz import work; "
    "[work(name, 0, 0, int(sys.argv[2])) for name in sys.argv[3:]]"
)


def test_some_hundreds_of_hostile_files_end_in_words():
    words = [sys.executable, "-c", PROGRAM, "-", str(CASES), *KINDS]
    found = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    cases = [json.loads(line) for line in found.stdout.splitlines() if line.startswith('{"index"')]
    faults = [case for case in cases if case["end"] not in ("read", "refused")]
    assert not faults, faults
    assert len(cases) == CASES * len(KINDS), found.stderr[-500:]
    ends = [case["end"] for case in cases]
    assert min(ends.count("read"), ends.count("refused")) > len(ends) // 10  # neither all harmless nor all hopeless
    assert max(case["memory"] for case in cases) < 2**28


def test_the_experiment_counts_what_ends_otherwise(tmp_path, capfd):
    target = fuzz.main(fuzz.Settings(cases=6, piece=3, kinds=("configuration",)), tmp_path)
    with target.with_suffix(".csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["kind of file"] for row in rows] == ["configuration", "all"]
    assert rows[0]["cases"] == "6" and int(rows[0]["read"]) + int(rows[0]["refused"]) == 6
    assert "python -m experiments.robustness.fuzz" in target.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [".npy", "ENVI library", "library, table", "library, USGS text", "configuration"])
def test_the_same_seed_makes_the_same_files(tmp_path, name):
    made = []
    for turn in "ab":
        folder = tmp_path / turn
        folder.mkdir()
        KINDS[name].make(np.random.default_rng([0, 3]), folder)
        made.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert made[0] == made[1]


def bomb(path, declared, size):
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {declared}, }}\n".encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        head = np.lib.format.magic(1, 0) + len(text).to_bytes(2, "little")
        archive.writestr("cube.npy", head + text + bytes(size))
    return path


@pytest.mark.parametrize("declared", [(1000, 1000, 100), (10**6, 10**6, 285)])
def test_a_zip_bomb_is_refused_before_memory_is_taken(tmp_path, declared):
    with pytest.raises(InputError, match=r"would grow from \d+ bytes"):
        load(bomb(tmp_path / "s.npz", declared, 10**8))


@pytest.mark.parametrize("value", [1e308, np.inf])
def test_huge_values_in_a_mat_file_do_not_hang(tmp_path, value):
    from scipy.io import savemat

    stored = {"Y": np.full((4, 25), value), "S_GT": np.full((5, 5, 2), 1e307), "A": np.ones((2, 25))}
    savemat(tmp_path / "s.mat", stored)
    if np.isfinite(value):
        with pytest.raises(InputError, match=r"float32 cannot hold.*read with scale=1e\+300 "):
            read(tmp_path / "s.mat")
    scale = 1e300 if np.isfinite(value) else None
    assert read(tmp_path / "s.mat", scale=scale).cube.shape == (5, 5, 4)


def test_other_codecs_doubled_names_and_other_members(tmp_path):
    np.savez(tmp_path / "s.npz", cube=np.ones((2, 3, 4), np.float32))
    with zipfile.ZipFile(tmp_path / "s.npz", "a") as archive:
        archive.writestr("README", "made by hand")
    assert load(tmp_path / "s.npz").keys() == {"cube"}
    with zipfile.ZipFile(tmp_path / "s.npz", "a") as archive:
        archive.writestr("cube", archive.read("cube.npy"))
    with pytest.raises(InputError, match="two arrays named 'cube'"):
        load(tmp_path / "s.npz")
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("cube.npy", b"x")
    with pytest.raises(InputError, match="method 14 of zip"):
        load(tmp_path / "x.npz")
