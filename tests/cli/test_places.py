"""Masks, bands, places and verdicts from a scene to a table, as a user types it, in processes of their own."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dequnmix_jax.cli import main
from dequnmix_jax.io.scene_writer import write_scene
from dequnmix_jax.results import read_result
from dequnmix_jax.scenes.georeference import Georeference
from dequnmix_jax.scenes.scene import Scene
from tests.io.test_masks import geojson, square

H, W, B = 24, 20, 12
WAVELENGTHS = np.linspace(450, 900, B)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("places")
    rng = np.random.default_rng(0)
    spectra = 0.1 + 0.5 * np.exp(-((np.arange(B) - np.array([[1], [6], [10]])) ** 2) / 8)
    maps = rng.dirichlet(np.full(3, 0.5), (H, W))
    cube = maps @ spectra + rng.normal(0, 1e-3, (H, W, B))
    cube[:, :, 0] = 7.0  # a band that is to be dropped
    place = Georeference("EPSG:32632", (5.0, 0.0, 500000.0, 0.0, -5.0, 5000120.0))
    write_scene(folder / "scene.tif", Scene(cube, wavelengths=WAVELENGTHS, georeference=place))
    rows = [["wavelength_nm", "sand", "clay", "leaf"], *np.column_stack([WAVELENGTHS, spectra.T]).tolist()]
    (folder / "library.csv").write_text("\n".join(",".join(map(str, row)) for row in rows))
    geojson(folder / "field.geojson", ({"name": "field"}, [square(500010, 5000110, 60, 80)]))
    np.savez(folder / "truth.npz", maps=maps)
    return folder


def dequnmix(folder, *words):
    command = [str(Path(sys.executable).parent / "dequnmix"), *map(str, words)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


OPTIONS = ("--endmembers", "library.csv", "--mask", "field.geojson", "--drop-bands", "0", "--no-plots",
           "--format", "geotiff")  # fmt: skip


def test_from_a_mask_to_a_table(folder):
    said = dequnmix(folder, "unmix", "scene.tif", *OPTIONS, "-o", "out")
    assert "good: converged, distinct, half, residual, areas" in said and "!" not in said
    result = read_result(folder / "out")
    inside = np.zeros((H, W), bool)
    inside[2:18, 2:14] = True
    np.testing.assert_array_equal(result.valid, inside)
    truth = np.load(folder / "truth.npz")["maps"]
    np.testing.assert_allclose(result.abundances[inside], truth[inside], atol=0.02)
    assert result.summary["reading"] == {"mask": "field.geojson", "drop_bands": [[0, 0]]}
    assert result.summary["place"]["metres_per_column"] == pytest.approx(5, rel=1e-3)
    dequnmix(folder, "zones", "out", "field.geojson", "-o", "zones.csv")
    rows = list(csv.DictReader((folder / "zones.csv").read_text().splitlines()))
    assert [row["endmember"] for row in rows] == ["sand", "clay", "leaf"] and rows[0]["pixels"] == "192"
    area = sum(float(row["area_m2"]) for row in rows)
    assert area == pytest.approx(192 * 25, rel=1e-3)
    # The scene of a result is read as it was, mask and bands too.
    again = dequnmix(folder, "report", "out", "scene.tif", "-o", "r.html")
    assert again.splitlines()[-1] == "report: r.html"
    page = (folder / "r.html").read_text()
    assert "Conclusion" in page and "20 m" in page and "--mask field.geojson" in page


def test_tiles_have_the_same_mask_and_areas(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    assert main.main(["unmix", "scene.tif", *OPTIONS, "--tile", "9", "-o", "tiled"]) == 0
    assert "good: converged" in capsys.readouterr().out
    assert main.main(["unmix", "scene.tif", *OPTIONS, "-o", "whole"]) == 0
    tiled, whole = (json.loads((folder / name / "summary.json").read_text()) for name in ("tiled", "whole"))
    assert tiled["valid_pixels"] == whole["valid_pixels"] == 192
    for name in ("mean_abundances", "areas_m2"):
        np.testing.assert_allclose(tiled["above_error"][name], whole["above_error"][name], rtol=1e-4)
    assert tiled["place"] == whole["place"]
    named = [verdict["name"] for verdict in whole["verdicts"]]
    assert [verdict["name"] for verdict in tiled["verdicts"]] == [name for name in named if name != "residual"]
    table = [(folder / name / "areas.csv").read_text().splitlines() for name in ("tiled", "whole")]
    assert table[0][0] == table[1][0] and len(table[0]) == len(table[1]) == 4
