"""Areas above their error, and summaries inside polygons."""

import csv
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.checks import InputError
from dequnmix_jax.cli import main
from dequnmix_jax.conventions import REFLECTANCE, SCALED
from dequnmix_jax.results import read_result, write, write_zones, zones
from dequnmix_jax.results.areas import above_error, distinctness
from dequnmix_jax.results.result import result_of
from dequnmix_jax.results.writer import write_result
from dequnmix_jax.scenes.georeference import Georeference
from dequnmix_jax.scenes.scene import Scene
from dequnmix_jax.types import Estimate
from tests.io.test_masks import geojson, square

H, W, B = 20, 30, 8
PLACE = Georeference("EPSG:32632", (2.0, 0.0, 500000.0, 0.0, -2.0, 5000040.0))
SPECTRA = np.array([[0.5] * 4 + [0.1] * 4, [0.1] * 4 + [0.5] * 4, [0.1, 0.5] * 4], np.float32)


def table(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def biased():
    """Return an estimate and its scene: material 3 lies in 6 pixels; a material without an endmember looks like 0.1."""
    truth = np.zeros((H, W, 3))
    truth[..., 0] = np.linspace(0, 1, W)
    truth[4:6, 7:10] = [0, 0, 1]
    truth[..., 1] = 1 - truth[..., 0] - truth[..., 2]
    foreign = np.array([0.3, -0.3, 0, 0, 0.3, -0.3, 0, 0]) * 0.15  # outside the mixtures
    cube = truth @ SPECTRA + np.where(truth[..., 2:] > 0, 0, foreign)
    fractions = truth.copy()
    background = truth[..., 2] == 0
    fractions[background] = 0.9 * truth[background] + [0, 0, 0.1]
    estimate = Estimate(
        fractions.astype(np.float32), SPECTRA, np.ones((H, W), np.float32), fractions.astype(np.float32)
    )
    return estimate, Scene(cube, georeference=PLACE, wavelengths=np.linspace(400, 900, B))


def test_distances_are_those_from_the_mixtures_of_the_others():
    """By hand: from (0, 0, 1) to the line through the other unit vectors it is sqrt(3/2), to their plane 1."""
    spectra = np.eye(3)
    np.testing.assert_allclose(distinctness(spectra, REFLECTANCE), np.sqrt(1.5))
    np.testing.assert_allclose(distinctness(spectra, SCALED), 1)
    np.testing.assert_allclose(distinctness(spectra[:2], REFLECTANCE), np.sqrt(2))
    np.testing.assert_allclose(distinctness(5 * spectra, SCALED), 1)  # of spectra divided by their maxima
    np.testing.assert_allclose(distinctness(np.ones((2, 3)), REFLECTANCE), 0)


def test_a_bias_of_a_missing_material_is_no_area():
    estimate, scene = biased()
    result = result_of(estimate, scene)
    areas, above = np.array(result.summary["areas_m2"]), np.array(result.summary["above_error"]["areas_m2"])
    assert areas[2] == pytest.approx(4 * (6 + 0.1 * (H * W - 6)), rel=1e-5)  # ten times too much
    assert above[2] == pytest.approx(4 * 6, rel=1e-5)
    assert above[1] > 0.8 * areas[1]  # what is common stays
    assert (above <= areas + 1e-6).all()


def test_without_a_residual_all_counts_and_parts_add_up():
    estimate, scene = biased()
    given = (estimate.abundances, estimate.brightness, np.zeros((H, W)), scene.valid, SPECTRA, REFLECTANCE)
    np.testing.assert_allclose(above_error(*given), estimate.abundances.sum(axis=(0, 1)), rtol=1e-5)
    residual = np.random.default_rng(0).uniform(0, 0.2, (H, W))
    mask = np.random.default_rng(1).uniform(size=(H, W)) < 0.7
    whole = above_error(*given[:2], residual, mask, SPECTRA, REFLECTANCE)
    parts = [
        above_error(estimate.abundances[s], estimate.brightness[s], residual[s], mask[s], SPECTRA, REFLECTANCE)
        for s in (slice(0, 7), slice(7, H))
    ]
    np.testing.assert_allclose(whole, sum(parts))
    by_hand = np.zeros(3)
    for row, column in np.argwhere(mask):
        for r in range(3):
            a = float(estimate.abundances[row, column, r])
            by_hand[r] += a * (a * distinctness(SPECTRA, REFLECTANCE)[r] > 2 * np.sqrt(B) * residual[row, column])
    np.testing.assert_allclose(whole, by_hand)
    assert (whole < estimate.abundances[mask].sum(axis=0)).all()


def test_a_conversion_changes_the_areas_too():
    estimate, scene = biased()
    spectra = SPECTRA * np.array([[1.0], [0.5], [1.0]], np.float32)
    result = result_of(estimate._replace(endmembers=spectra), scene)
    other = result.in_convention(SCALED)
    again = other.in_convention(REFLECTANCE)
    means = [np.array(r.summary["above_error"]["mean_abundances"]) for r in (result, other, again)]
    assert np.abs(means[0] - means[1]).max() > 1e-3
    np.testing.assert_allclose(means[0], means[2], rtol=1e-5)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zones")
    estimate, scene = biased()
    scene = Scene(scene.cube, np.arange(W)[None, :] + np.zeros((H, 1)) < 28, georeference=PLACE)
    write(folder / "out", estimate, scene, names=["soil", "leaf", "cloth"], format="geotiff")
    areas = [
        ({"name": "all of it"}, [square(500014, 5000032, 6, 4)]),
        ({"name": "half"}, [square(500014, 5000032, 6, 2)]),
        ({"name": "masked"}, [square(500056, 5000038, 4, 8)]),
        ({"name": "outside"}, [square(600000, 5000032, 6, 4)]),
    ]
    geojson(folder / "areas.geojson", *areas)
    geojson(folder / "far.geojson", areas[3])
    geojson(folder / "masked.geojson", areas[2])
    return folder


def test_areas_are_a_table_too(out):
    rows = table(out / "out" / "areas.csv")
    summary = json.loads((out / "out" / "summary.json").read_text())
    assert [row["endmember"] for row in rows] == ["soil", "leaf", "cloth"]
    for r, row in enumerate(rows):
        assert float(row["mean_fraction"]) == pytest.approx(summary["mean_abundances"][r], rel=1e-5)
        assert float(row["area_m2"]) == pytest.approx(summary["areas_m2"][r], rel=1e-5)
        assert float(row["area_m2_above_error"]) == pytest.approx(summary["above_error"]["areas_m2"][r], rel=1e-5)


def test_zones_by_hand(out):
    found = zones(out / "out", out / "areas.geojson")
    rows = {(row.polygon, row.endmember): row for row in found}
    cloth = rows["all of it", "cloth"]
    assert cloth.pixels == 6 and cloth.mean_fraction == pytest.approx(1, rel=1e-5)
    assert cloth.area_m2 == pytest.approx(24, rel=1e-4) and cloth.area_m2_above_error == pytest.approx(24, rel=1e-4)
    assert rows["half", "cloth"].area_m2 == pytest.approx(12, rel=1e-4)
    assert rows["all of it", "soil"].mean_fraction == 0
    for name in ("masked", "outside"):
        assert rows[name, "leaf"].pixels == 0 and rows[name, "leaf"].mean_fraction is None
    assert cloth.mean_fraction_sd is None


def test_zones_have_the_deviation_of_independent_noise(out, tmp_path):
    result = read_result(out / "out")
    rng = np.random.default_rng(0)
    sd = rng.uniform(0.01, 0.1, (H, W, 3)).astype(np.float32)
    _, scene = biased()
    write_result(tmp_path / "o", replace(result, abundances_sd=sd, mask=None), scene, format="geotiff")
    row = zones(tmp_path / "o", out / "areas.geojson")[2]
    expect = np.sqrt((sd[4:6, 7:10, 2] ** 2).sum()) / 6
    assert row.mean_fraction_sd == pytest.approx(expect, rel=1e-5)
    assert row.area_m2_sd == pytest.approx(24 * expect, rel=1e-4)
    rows = table(tmp_path / "o" / "areas.csv")
    assert float(rows[2]["mean_fraction_sd"]) == pytest.approx(np.sqrt((sd[..., 2] ** 2).sum()) / (H * W), rel=1e-4)


@pytest.mark.parametrize("place", ["r.nc", "netcdf", "mat", "envi"])
def test_zones_are_the_same_in_every_format(out, tmp_path, place):
    """A result in one NetCDF file, and folders whose maps are in one file."""
    pytest.importorskip("xarray")
    pytest.importorskip("scipy")
    result = read_result(out / "out")
    _, scene = biased()
    scene = Scene(scene.cube, result.mask, georeference=PLACE)
    write_result(tmp_path / place, result, scene, format=None if place == "r.nc" else place)
    expected = zones(out / "out", out / "areas.geojson")
    for row, expect in zip(zones(tmp_path / place, out / "areas.geojson"), expected, strict=True):
        assert row[:3] == expect[:3]
        assert [value is None for value in row] == [value is None for value in expect]
        numbers = [[value for value in values[3:] if value is not None] for values in (row, expect)]
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-5)


def test_zones_refuse_in_a_sentence(out, tmp_path):
    for areas, words in (("far", "No pixel of the result"), ("masked", "are masked")):
        with pytest.raises(InputError, match=words):
            zones(out / "out", out / f"{areas}.geojson")
    with pytest.raises(InputError, match="has an attribute 'owner'; expected one of name"):
        zones(out / "out", out / "areas.geojson", field="owner")
    assert zones(out / "out", out / "areas.geojson", field="name")
    with pytest.raises(InputError, match="not the output of an unmixing"):
        zones(tmp_path, out / "areas.geojson")
    estimate, scene = biased()
    write(tmp_path / "o", estimate, Scene(scene.cube))
    with pytest.raises(InputError, match="no place on the ground"):
        zones(tmp_path / "o", out / "areas.geojson")


def test_the_command(out, tmp_path, capsys):
    words = ["zones", str(out / "out"), str(out / "areas.geojson"), "-o", str(tmp_path / "z.csv")]
    assert main.main(words) == 0
    assert "without a valid pixel: masked, outside" in capsys.readouterr().out
    rows = table(tmp_path / "z.csv")
    assert len(rows) == 12 and rows[0]["polygon"] == "all of it" and rows[6]["mean_fraction"] == ""
    assert main.main(words) == 1 and "exists already" in capsys.readouterr().err
    assert main.main([*words, "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[2]["pixels"] == 6
    assert main.main([*words[:3], "-o", str(tmp_path / "z.txt")]) == 1
    assert "expected .csv" in capsys.readouterr().err
    rows = write_zones(tmp_path / "y.csv", out / "out", out / "areas.geojson")
    assert rows[0].polygon == "all of it" and (tmp_path / "y.csv").read_text() == (tmp_path / "z.csv").read_text()


def test_the_command_in_its_own_process_without_jax(out, tmp_path):
    program = "import sys; from dequnmix_jax.cli.main import main; sys.exit(main(sys.argv[1:]) or 'jax' in sys.modules)"
    words = ["zones", out / "out", out / "areas.geojson", "-o", tmp_path / "z.csv"]
    done = subprocess.run([sys.executable, "-c", program, *map(str, words)], capture_output=True, check=False)
    assert done.returncode == 0 and dq.results.zones is zones
