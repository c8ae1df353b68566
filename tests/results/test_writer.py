"""`write` makes its folder completely or not at all."""

import csv
import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from dequnmix_jax.checks import InputError
from dequnmix_jax.cli.match import read_spectra
from dequnmix_jax.io.atomic import replacing_file, replacing_folder
from dequnmix_jax.io.envi.image import read_library
from dequnmix_jax.io.formats import read, read_truth
from dequnmix_jax.results.result import read_result
from dequnmix_jax.results.writer import write
from dequnmix_jax.scenes.georeference import Georeference
from dequnmix_jax.scenes.scene import Scene
from dequnmix_jax.training.words import plain
from dequnmix_jax.types import Estimate, Trace

H, W, B, R = 4, 5, 6, 3


def cube():
    return np.random.default_rng(0).uniform(0.1, 0.9, (H, W, B)).astype(np.float32)


def scene(**fields):
    return Scene(**({"cube": cube(), "name": "plot"} | fields))


@dataclass(frozen=True)
class Choices:
    rate: float = 0.5
    steps: tuple[int, ...] = (1, 2)


def estimate():
    abundances = np.random.default_rng(1).dirichlet(np.ones(R), (H, W))
    return Estimate(abundances, np.linspace(0, 1, R * B).reshape(R, B), np.ones((H, W)), abundances + 1)


def source(tmp_path):
    np.savez(tmp_path / "in.npz", cube=cube(), wavelengths_nm=400.0 + 50 * np.arange(B), crs='{"map info": "{UTM, 1}"}')
    found = read(tmp_path / "in.npz")
    mask = np.ones((H, W), bool)
    mask[1, 2] = False
    return Scene(**(vars(found) | {"mask": mask}))


def test_a_value_becomes_what_json_can_hold():
    value = {"a": np.float32(0.5), "b": (math.nan, -math.inf), "c": np.array([1, 2]), 3: Path("x"), "d": Choices()}
    expected = {"a": 0.5, "b": [None, None], "c": [1, 2], "3": "x", "d": {"rate": 0.5, "steps": [1, 2]}}
    assert plain(value) == expected and plain(np.array(["a", "b"])) == ["a", "b"]
    with pytest.raises(InputError, match="The record holds object; expected numbers, text"):
        plain({"a": [object()]})


def test_write_makes_everything(tmp_path):
    found = source(tmp_path)
    trace = Trace(np.int32(7), np.float32("nan"), np.bool_(False))
    files = write(tmp_path / "out", estimate(), found, names=["a", "b, c", "d"], configuration=Choices(), trace=trace)
    assert all(file.is_file() for file in files)
    assert {file.name for file in files} == {file.name for file in (tmp_path / "out").iterdir()}
    maps = read(tmp_path / "out" / "abundances.img")
    np.testing.assert_allclose(maps.cube[0], estimate().abundances[0], rtol=1e-6)
    assert not maps.valid[1, 2] and maps.valid.sum() == H * W - 1
    assert maps.envi_fields == {"map info": "{UTM, 1}"}
    assert read(tmp_path / "out" / "brightness.hdr").cube.shape == (H, W, 1)
    spectra, names, wavelengths = read_library(tmp_path / "out" / "endmembers.sli")
    np.testing.assert_allclose(spectra, estimate().endmembers, rtol=1e-6)
    assert names == ("a", "b; c", "d") and wavelengths[1] == 450
    with (tmp_path / "out" / "endmembers.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["wavelength_nm", "a", "b, c", "d"] and len(rows) == B + 1
    np.testing.assert_allclose([float(v) for v in rows[2][1:]], estimate().endmembers[:, 1], rtol=1e-7)
    text = (tmp_path / "out" / "summary.json").read_text()
    assert '"steps": [1, 2]' in text and len(text.splitlines()) < 150  # lists of numbers in one line
    summary = json.loads(text)
    assert summary["source"]["sha256"] == hashlib.sha256((tmp_path / "in.npz").read_bytes()).hexdigest()
    assert summary["configuration"] == {"rate": 0.5, "steps": [1, 2]}
    assert summary["trace"] == {"steps": 7, "residual": None, "converged": False}
    assert summary["valid_pixels"] == H * W - 1 and set(summary["versions"]) >= {
        "python",
        "numpy",
        "jax",
        "dequnmix-jax",
    }
    assert repr(read_result(tmp_path / "out")) == f"<Result: 3 endmembers in {H} x {W} pixels, {B} bands>"
    truth = read_truth(tmp_path / "out")
    np.testing.assert_allclose(truth.abundances, estimate().abundances, rtol=1e-6)
    assert truth.names == ("a", "b, c", "d")
    with pytest.raises(InputError, match="output of an unmixing, which `score` reads"):
        read(tmp_path / "out")


def test_write_takes_jax_arrays(tmp_path):
    jnp = pytest.importorskip("jax.numpy")
    plain = Estimate(*(jnp.asarray(value, jnp.float32) for value in estimate()[:4]))
    write(tmp_path / "out", plain, scene())
    np.testing.assert_allclose(read_truth(tmp_path / "out").endmembers, estimate().endmembers, rtol=1e-6)
    assert read_truth(tmp_path / "out").names == ("endmember 1", "endmember 2", "endmember 3")


def test_nothing_is_overwritten_by_default(tmp_path):
    write(tmp_path / "out", estimate(), scene())
    before = (tmp_path / "out" / "summary.json").read_bytes()
    with pytest.raises(InputError, match="exists already"):
        write(tmp_path / "out", estimate(), scene())
    assert (tmp_path / "out" / "summary.json").read_bytes() == before
    write(tmp_path / "out", estimate(), scene(name="second"), overwrite=True)
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["scene"] == "second"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_foreign_folder_is_not_replaced(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"holds files and no summary\.json"):
        write(tmp_path / "thesis", estimate(), scene(), overwrite=True)
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years of work"
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file"):
        write(tmp_path / "file", estimate(), scene(), overwrite=True)


def test_failed_write_leaves_the_old_folder(tmp_path, monkeypatch):
    write(tmp_path / "out", estimate(), scene())
    before = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    with pytest.raises(InputError, match="The record holds object"):
        write(tmp_path / "out", estimate(), scene(), configuration={"model": object()}, overwrite=True)
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("change", "names", "message"),
    [
        ({"abundances": np.ones((2, 2, R))}, None, r"abundances have shape \(2, 2, 3\) and the scene \(4, 5, 6\)"),
        ({"endmembers": np.ones((R, B + 1))}, None, "endmembers have 7 bands and the cube has 6"),
        ({}, ["a"], "1 name for 3 endmembers given"),
    ],
)
def test_estimate_that_does_not_fit(tmp_path, change, names, message):
    with pytest.raises(InputError, match=message):
        write(tmp_path / "out", estimate()._replace(**change), scene(), names=names)
    assert list(tmp_path.iterdir()) == []


def test_means_and_areas_count_valid_pixels_alone(tmp_path):
    """By hand: 19 valid pixels hold 0.5, 0.3 and 0.2; the other values of the masked pixel do not count."""
    shares = np.broadcast_to([0.5, 0.3, 0.2], (H, W, R)).copy()
    shares[1, 2] = [0.0, 0.0, 1.0]
    mask, light = np.ones((H, W), bool), np.full((H, W), 2.0)
    mask[1, 2], light[1, 2] = False, 50.0
    georeference = Georeference("EPSG:32632", (30.0, 0.0, 600000.0, 0.0, -20.0, 5300000.0))
    write(
        tmp_path / "out",
        estimate()._replace(abundances=shares, brightness=light),
        scene(mask=mask, georeference=georeference),
    )
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    np.testing.assert_allclose(summary["mean_abundances"], [0.5, 0.3, 0.2])
    np.testing.assert_allclose(summary["areas_m2"], np.multiply([0.5, 0.3, 0.2], 19 * 600))
    assert summary["maps"]["brightness"]["mean"] == 2


def test_atomic_file(tmp_path):
    target = tmp_path / "a.txt"
    with pytest.raises(RuntimeError), replacing_file(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with replacing_file(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole" and target.stat().st_mode & 0o600 == 0o600
    with pytest.raises(InputError, match="exists already"), replacing_file(target):
        pass
    with pytest.raises(InputError, match="does not exist"), replacing_folder(tmp_path / "no" / "where"):
        pass
    with pytest.raises(InputError, match="is a folder"), replacing_file(tmp_path, overwrite=True):
        pass


def test_widths_of_the_bands_reach_the_match(tmp_path):
    centres, widths = 400.0 + 50 * np.arange(B), np.full(B, 9.5)
    write(tmp_path / "out", estimate(), scene(wavelengths=centres, fwhm=widths))
    np.testing.assert_array_equal(read_spectra(tmp_path / "out").fwhm_nm, widths)


def test_a_folder_is_hashed_whole(tmp_path):
    (tmp_path / "s.zarr" / "c").mkdir(parents=True)
    (tmp_path / "s.zarr" / "zarr.json").write_text("{}")
    sums = []
    for content in ("1", "1", "2"):
        (tmp_path / "s.zarr" / "c" / "0").write_text(content)
        write(tmp_path / "out", estimate(), scene(source=tmp_path / "s.zarr"), overwrite=True)
        sums.append(json.loads((tmp_path / "out" / "summary.json").read_text())["source"])
    assert sums[0] == sums[1] != sums[2] and sums[0]["bytes"] == 3 and sums[0]["file"] == "s.zarr"
