"""Checkpoints are restored bit for bit; other files are refused with a message."""

import json

import numpy as np
import pytest

from dequnmix_jax.checks import InputError
from dequnmix_jax.training import checkpoint

R, B = 3, 7


def params():
    generator = np.random.default_rng(0)
    return {
        "endmembers": generator.normal(size=(R, B)).astype(np.float32),
        "network": {
            "conv": {"kernel": generator.normal(size=(3, 3, 2)), "bias": np.zeros(2, np.float16)},
            "empty": {},
            "steps": np.int32(4),
            "flag": np.array([True, False]),
        },
    }


METADATA = {"configuration": {"scale": 1.5, "names": ["a", "ü"], "none": None}, "names": ["soil", "tree", "water"]}


def same(a, b):
    assert type(a) is type(b) or not isinstance(a, dict)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            same(a[key], b[key])
    else:
        a, b = np.asarray(a), np.asarray(b)
        assert a.dtype == b.dtype and a.shape == b.shape
        assert a.tobytes() == b.tobytes()


def test_round_trip_is_exact(tmp_path):
    path = checkpoint.save(tmp_path / "model", params(), METADATA)
    assert path == tmp_path / "model" and path.is_file()  # no suffix is added behind the user's back
    found, metadata = checkpoint.load(path)
    same(found, params())
    assert metadata == METADATA


def test_jax_arrays_round_trip(tmp_path):
    jnp = pytest.importorskip("jax.numpy")
    checkpoint.save(tmp_path / "m.npz", {"endmembers": jnp.ones((R, B))}, {})
    same(checkpoint.load(tmp_path / "m.npz")[0], {"endmembers": np.ones((R, B), np.float32)})


def test_nothing_is_overwritten_by_default(tmp_path):
    path = checkpoint.save(tmp_path / "m.npz", params(), METADATA)
    before = path.read_bytes()
    with pytest.raises(InputError, match="exists already"):
        checkpoint.save(path, {}, {})
    assert path.read_bytes() == before
    checkpoint.save(path, {"endmembers": np.ones((2, 2))}, {}, overwrite=True)
    assert checkpoint.load(path)[1] == {}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("tree", "metadata", "message"),
    [
        ({"a/b": np.ones(2)}, {}, "the key 'a/b'"),
        ({"a": {3: np.ones(2)}}, {}, "the key 3 in 'a/'"),
        ({"a": "text"}, {}, "The parameter a is str"),
        ({"a": [np.ones(2), "x"]}, {}, "The parameter a is list"),
        ({"a": np.array([object()])}, {}, "data type object"),
        ({}, {"rate": float("nan")}, "metadata do not fit JSON"),
        ({}, {"model": object()}, "metadata do not fit JSON"),
    ],
)
def test_what_cannot_be_kept(tmp_path, tree, metadata, message):
    with pytest.raises(InputError, match=message):
        checkpoint.save(tmp_path / "m.npz", tree, metadata)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keep", [0.0, 0.2, 0.5, 0.95])
def test_truncated(tmp_path, keep):
    path = checkpoint.save(tmp_path / "m.npz", params(), METADATA)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(InputError, match=r"m\.npz cannot be read as a numpy file"):
        checkpoint.load(path)


def test_damaged_byte(tmp_path):
    path = checkpoint.save(tmp_path / "m.npz", {"endmembers": np.random.default_rng(0).normal(size=(50, 50))}, {})
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        checkpoint.load(path)


def header(**changes):
    fields = {"format": 1, "written_by": "dequnmix_jax", "version": "0", "empty": [], "metadata": {}} | changes
    return np.array(json.dumps(fields))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"cube": np.ones((2, 2, 2))}, "not a checkpoint of dequnmix_jax: it holds cube"),
        ({"checkpoint.json": np.array("{")}, r"its checkpoint\.json cannot be understood"),
        ({"checkpoint.json": np.array("[1]")}, "cannot be understood"),
        ({"checkpoint.json": np.ones(3)}, "not a checkpoint"),
        ({"checkpoint.json": header(metadata=3)}, "cannot be understood"),
        ({"checkpoint.json": header(format=2)}, "format 2 and this version reads format 1"),
        ({"checkpoint.json": header(), "other": np.ones(2)}, "the entry 'other' is not a parameter"),
        ({"checkpoint.json": header(), "params/a": np.array("text")}, "the entry 'params/a' is not a parameter"),
        ({"checkpoint.json": header(), "params/a": np.ones(2), "params/a/b": np.ones(2)}, "both an array and a group"),
        ({"checkpoint.json": header(empty=["a"]), "params/a": np.ones(2)}, "'params/a' occurs twice"),
        ({"checkpoint.json": header(), "params/a": np.array([object()])}, "pickled Python objects"),
    ],
)
def test_foreign_and_hostile_files(tmp_path, arrays, message):
    np.savez(tmp_path / "m.npz", **arrays)
    with pytest.raises(InputError, match=message):
        checkpoint.load(tmp_path / "m.npz")


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(InputError, match=r"gone\.npz does not exist"):
        checkpoint.load(tmp_path / "gone.npz")
    with pytest.raises(InputError, match="is a folder"):
        checkpoint.load(tmp_path)


def test_other_r_or_b():
    checkpoint.check_matches(params(), R, B)
    checkpoint.check_matches(params())
    for bands in (156, 8, 6, 1):  # fewer and more than the model has
        with pytest.raises(InputError, match=f"trained on 7 bands and the scene has {bands}"):
            checkpoint.check_matches(params(), bands=bands)
    with pytest.raises(InputError, match="has 3 endmembers and 2 were asked for"):
        checkpoint.check_matches(params(), count=2)
    with pytest.raises(InputError, match="has 3 endmembers and 5 were asked for"):
        checkpoint.check_matches(params(), count=5)
    with pytest.raises(InputError, match="not a trained model"):
        checkpoint.check_matches({"network": {}})
