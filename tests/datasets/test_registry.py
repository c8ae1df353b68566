"""Named scenes: shipped ones match their description; others are found, downloaded and checked, or explained."""

import os
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from dequnmix_jax.checks import InputError
from dequnmix_jax.datasets import hysu, registry
from dequnmix_jax.scenes.scene import check_scene

SHIPPED = ("hysu", "hapke_relab", "dc1", "misicnet_sim1", "emit_mini", "minerals")


@pytest.fixture
def folder() -> Path:
    path = os.environ.get("DEQUNMIX_DATA", "")
    if not path or not (Path(path) / "hysu.npz").is_file():
        pytest.skip("DEQUNMIX_DATA does not name a folder with the original files")
    return Path(path)


@pytest.mark.parametrize(
    ("name", "shape", "count", "angle"),
    [
        ("hysu", (86, 123, 135), 6, None),
        ("hapke_relab", (60, 60, 461), 3, None),
        ("dc1", (75, 75, 224), 5, 1e-4),
        ("misicnet_sim1", (105, 105, 224), 6, 1e-4),
    ],
)
def test_shipped_scene_and_truth(name, shape, count, angle):
    scene, truth = registry.load(name)
    assert scene.cube.shape == shape and scene.name == name
    assert truth.endmembers.shape == (count, shape[2])
    assert check_scene(scene, count=count) == []
    assert scene.cube.min() >= 0 and scene.cube.max() < 1
    if truth.abundances is not None:
        np.testing.assert_allclose(truth.abundances.sum(axis=2), 1, atol=2e-4)
        assert truth.reference
    if angle is not None:  # exact linear mixtures: cube, maps and spectra share one orientation and order
        np.testing.assert_allclose(truth.abundances @ truth.endmembers, scene.cube, atol=2e-4)


def test_emit_has_bad_bands_and_no_truth():
    scene, truth = registry.load("emit_mini")
    assert scene.cube.shape == (10, 10, 285) and scene.good_bands.sum() == 244
    assert truth.abundances is None and truth.endmembers is None


def test_the_scene_of_the_demo_says_what_its_fractions_refer_to():
    scene, truth = registry.load("minerals")
    assert scene.cube.shape == (60, 60, 100) and truth.endmembers.shape == (4, 100)
    assert truth.convention == "scaled" and len(truth.names) == 4
    np.testing.assert_allclose(truth.abundances.sum(axis=2), 1, atol=2e-3)


@pytest.mark.slow
def test_the_scene_of_the_demo_is_the_one_that_is_drawn():
    from experiments.comparison import demo_scenes

    drawn = demo_scenes.drawn(demo_scenes.SHIPPED, demo_scenes.Settings().size)
    scene, truth = registry.load("minerals")
    np.testing.assert_allclose(scene.cube, drawn.cube, rtol=2e-3, atol=1e-4)
    np.testing.assert_allclose(truth.endmembers, drawn.endmembers, atol=1e-5)


@pytest.mark.parametrize("name", SHIPPED[:-1])
def test_shipped_values_are_those_of_the_source(folder, name):
    scene, truth = registry.load(name)
    with np.load(folder / f"{name}.npz", allow_pickle=False) as source:
        np.testing.assert_allclose(scene.cube, source["cube"], rtol=0, atol=1e-7)
        for field in ("abundances", "endmembers"):
            if field in source.files:
                np.testing.assert_array_equal(getattr(truth, field), source[field])


def test_shipped_files_are_small_free_and_credited():
    data = files("dequnmix_jax") / "data"
    found = {entry.name for entry in data.iterdir()}
    files_here = (*SHIPPED, "count", "usgs_minerals", "operator", "operator_spatial")
    assert found == {f"{name}.npz" for name in files_here} | {"CREDITS.md", "APACHE-2.0.txt"}
    credits = (data / "CREDITS.md").read_text(encoding="utf-8")
    assert [name for name in files_here if f"`{name}.npz`" not in credits] == []
    assert len((data / "usgs_minerals.npz").read_bytes()) < 300_000
    assert sum(len(entry.read_bytes()) for entry in data.iterdir()) < 4_000_000


# --- HySU targets --------------------------------------------------------------------------------------------------


def test_targets_of_hysu():
    targets = hysu.hysu_targets()
    np.testing.assert_allclose(targets.area_m2, targets.side_m**2)
    assert targets.roi_material.shape == (86, 123, 5) and targets.roi_material.sum() == 319
    assert set(np.unique(targets.roi_size)) == set(range(6))
    scene, truth = registry.load("hysu")
    assert truth.names[:5] == targets.materials
    # The right region on the right picture: in the middle of each largest target, its library spectrum is nearest.
    for index in range(5):
        region = (targets.roi_size == 1) & targets.roi_material[:, :, index]
        row, column = np.argwhere(region).mean(axis=0).round().astype(int)
        pixel = scene.cube[row, column]
        cosines = truth.endmembers @ pixel / np.linalg.norm(truth.endmembers, axis=1) / np.linalg.norm(pixel)
        assert cosines.argmax() == index


def test_areas_of_full_and_empty_maps():
    targets = hysu.hysu_targets()
    names = ("grass", *targets.materials)
    maps = np.zeros((86, 123, 6))
    assert (hysu.target_areas(maps, names) == 0).all()
    maps[..., 3] = 1
    areas = hysu.target_areas(maps, names)
    assert areas[2, 0] == pytest.approx(33 * 0.49) and areas[2, 4] == pytest.approx(4 * 0.49)  # blue fabric alone
    assert areas.sum() == pytest.approx(areas[2].sum())
    with pytest.raises(InputError, match=r"shape \(86, 123, 6\) and 2 names"):
        hysu.target_areas(maps, names[:2])
    with pytest.raises(InputError, match="No map is named bitumen"):
        hysu.target_areas(maps, ("grass", "tar", *names[2:]))


def test_areas_of_the_known_fcls_maps(folder):
    with np.load(folder / "hysu.npz", allow_pickle=False) as source:
        areas = hysu.target_areas(source["abundances_fcls"], tuple(source["names"].tolist()))
    # Smallest and largest of the five materials, from the largest targets to the smallest, as they were first measured
    # from the source; within one unit of their last digit (we find 1.0148 where 1.02 was noted).
    expected = np.array([(8.4, 8.9), (3.6, 4.1), (0.79, 1.02), (0.18, 0.29), (0.03, 0.17)])
    unit = np.array([0.1, 0.1, 0.01, 0.01, 0.01])[:, None]
    found = np.stack([areas.min(axis=0), areas.max(axis=0)], axis=1)
    assert (np.abs(found - expected) <= unit).all(), found


# --- found and fetched ---------------------------------------------------------------------------------------------


def test_names_and_unknown_name():
    assert registry.names()[:6] == SHIPPED
    with pytest.raises(InputError, match="no data set 'sansom'; expected one of hysu"):
        registry.load("sansom")


@pytest.mark.parametrize("name", ["samson_authors", "samson_zhu", "samson_rasti", "hapke_sim1"])
def test_named_scene_in_the_folder(folder, name):
    scene, truth = registry.load(name, download=False)
    assert scene.name == name and truth.abundances.shape[:2] == scene.cube.shape[:2]
    assert truth.endmembers.shape[1] == scene.cube.shape[2]
    if name.startswith("samson"):
        assert truth.names == ("soil", "tree", "water")
        np.testing.assert_allclose(scene.wavelengths[[0, -1]], [401, 889])


def test_library(folder):
    spectra, names, wavelengths = registry.library()
    assert spectra.shape == (498, 224) and len(names) == 498 and wavelengths.shape == (224,)
    assert registry.library(pruned=True)[0].shape == (240, 224)


def test_files_without_a_public_place_are_explained(tmp_path, monkeypatch):
    monkeypatch.setenv("DEQUNMIX_DATA", str(tmp_path))
    with pytest.raises(InputError, match=r"samson_zhu\.npz was not found .*load\('samson_authors'\)"):
        registry.load("samson_zhu")
    monkeypatch.delenv("DEQUNMIX_DATA")
    with pytest.raises(InputError, match="put it into a folder, and name it by DEQUNMIX_DATA"):
        registry.library()


def test_no_download_says_where_the_file_is(tmp_path, monkeypatch):
    monkeypatch.setenv("DEQUNMIX_DATA", str(tmp_path))
    with pytest.raises(InputError, match=r"put data/samson_dataset\.mat of github\.com/\S+, 3,906,556 bytes"):
        registry.load("samson_authors", download=False)


def test_git_blob(tmp_path):
    (tmp_path / "hello").write_bytes(b"hello\n")
    assert registry.git_blob(tmp_path / "hello") == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object


@pytest.mark.parametrize("named", ["samson_authors.mat", "samson_dataset.mat"])
def test_another_file_of_the_same_name_is_refused(tmp_path, monkeypatch, named):
    (tmp_path / named).write_bytes(b"Samson as others have it")
    monkeypatch.setenv("DEQUNMIX_DATA", str(tmp_path))
    with pytest.raises(InputError, match=r"holds 24 bytes with git blob .*3,906,556 bytes, git blob 75a8a329d180"):
        registry.load("samson_authors")


@pytest.fixture
def web(tmp_path, monkeypatch):
    """A simulated web of one page, and an empty download folder, without network access."""
    pooch = pytest.importorskip("pooch", reason="downloads need pooch (extra io)")
    page = {"content": b"", "error": None, "asked": []}

    class Downloader:
        def __call__(self, url, output_file, pooch, check_only=False):
            page["asked"].append(url)
            if page["error"] is not None:
                raise page["error"]
            Path(output_file).write_bytes(page["content"])

    monkeypatch.setattr(pooch, "HTTPDownloader", Downloader)
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    monkeypatch.setenv("DEQUNMIX_DATA", str(tmp_path))
    return page


def test_wrong_download_is_refused_and_not_kept(tmp_path, web):
    web["content"] = b"<html>404</html>"
    with pytest.raises(InputError, match=r"https://raw\S+/apex_dataset\.mat holds 16 bytes .*git blob 405e7d09b029"):
        registry.load("apex")
    assert list((tmp_path / "cache" / "dequnmix_jax").iterdir()) == []


def test_failed_download_says_what_to_do(tmp_path, web):
    web["error"] = ConnectionError("no route")
    with pytest.raises(InputError, match=r"could not be downloaded .*ConnectionError.*Or put data/apex_dataset\.mat"):
        registry.load("apex")
    assert list((tmp_path / "cache" / "dequnmix_jax").iterdir()) == []


def test_right_download_is_kept_and_not_repeated(folder, web):
    web["content"] = (folder / "samson_authors.mat").read_bytes()
    scene, truth = registry.load("samson_authors")
    assert scene.cube.shape == (95, 95, 156) and truth.initial_endmembers is not None
    registry.load("samson_authors")
    assert len(web["asked"]) == 1 and "ChentongWang/DEQ4Unmixing" in web["asked"][0]


def test_without_pooch_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pooch", None)
    monkeypatch.setenv("DEQUNMIX_DATA", str(tmp_path))
    with pytest.raises(InputError, match=r"pip install 'dequnmix-jax\[io\]'"):
        registry.load("apex")
