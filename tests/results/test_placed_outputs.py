"""Written maps have the right georeference in other programs: rasterio and spectral read them."""

import hashlib
import json
import warnings

import numpy as np
import pytest
import rasterio
import spectral

try:
    import resource
except ImportError:  # Windows
    resource = None

from dequnmix_jax.checks import InputError
from dequnmix_jax.io import georaster
from dequnmix_jax.io.envi.writer import write_image
from dequnmix_jax.io.formats import read
from dequnmix_jax.io.georaster import write_maps
from dequnmix_jax.results.writer import write
from dequnmix_jax.scenes.georeference import Georeference, pixel_area
from dequnmix_jax.scenes.scene import Scene
from dequnmix_jax.types import Estimate

H, W, B, R = 4, 5, 6, 3
NAMES = ["soil, dry", "tree", "roof"]
UTM = rasterio.CRS.from_epsg(32632)
TRANSFORM = rasterio.Affine(30.0, 0.0, 600000.0, 0.0, -30.0, 5300000.0)


def cube():
    return np.random.default_rng(0).uniform(0.1, 0.9, (H, W, B)).astype(np.float32)


def estimate(height=H, width=W):
    abundances = np.random.default_rng(1).dirichlet(np.ones(R), (height, width)).astype(np.float32)
    return Estimate(abundances, np.linspace(0.1, 1, R * B).reshape(R, B), abundances[:, :, 0] + 1, abundances)


def tiff(path):
    profile = {"driver": "GTiff", "height": H, "width": W, "count": B, "dtype": "float32", "nodata": -1.0}
    values = cube()
    values[1, 2, 0] = -1
    with rasterio.open(path, "w", crs=UTM, transform=TRANSFORM, **profile) as file:
        file.write(values.transpose(2, 0, 1))
    return path


def envi(path):
    """Write an ENVI scene that is georeferenced only by its header fields."""
    fields = {"map info": "{UTM, 1.000, 1.000, 600000.000, 5300000.000, 3.0e+001, 3.0e+001, 32, North, WGS-84}"}
    return write_image(path, cube(), envi_fields=fields)[0]


def expected(masked):
    values = estimate().abundances.copy()
    if masked:
        values[1, 2] = -9999
    return values


@pytest.mark.parametrize("kind", [tiff, envi])
def test_geotiff_read_back_by_rasterio(tmp_path, kind):
    scene = read(kind(tmp_path / f"s.{'tif' if kind is tiff else 'img'}"))
    files = write(tmp_path / "out", estimate(), scene, names=NAMES, format="geotiff")
    assert {"abundances.tif", "brightness.tif"} <= {file.name for file in files if file.is_file()}
    assert not list((tmp_path / "out").glob("*.img"))
    with rasterio.open(tmp_path / "out" / "abundances.tif") as file:
        np.testing.assert_array_equal(file.read().transpose(1, 2, 0), expected(kind is tiff))
        assert file.crs == UTM and file.transform == TRANSFORM and set(file.dtypes) == {"float32"}
        assert list(file.descriptions) == NAMES
        assert file.nodata == (-9999 if kind is tiff else None)
        assert (file.read_masks(1) == 0).sum() == (1 if kind is tiff else 0)
    with rasterio.open(tmp_path / "out" / "brightness.tif") as file:
        assert file.count == 1 and file.descriptions == ("brightness (units of the scene)",) and file.crs == UTM
    again = read(tmp_path / "out" / "abundances.tif")
    np.testing.assert_array_equal(again.valid, scene.valid)


@pytest.mark.parametrize("kind", [tiff, envi])
def test_envi_read_back_by_spectral(tmp_path, kind):
    scene = read(kind(tmp_path / f"s.{'tif' if kind is tiff else 'img'}"))
    write(tmp_path / "out", estimate(), scene, names=NAMES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of spectral's own
        image = spectral.open_image(str(tmp_path / "out" / "abundances.hdr"))
        np.testing.assert_array_equal(np.asarray(image[:, :, :]), expected(kind is tiff))
        library = spectral.open_image(str(tmp_path / "out" / "endmembers.hdr"))
    place = [entry.strip() for entry in image.metadata["map info"]]
    assert place[0] == "UTM" and place[7:9] == ["32", "North"]
    assert [float(entry) for entry in place[3:7]] == [600000.0, 5300000.0, 30.0, 30.0]
    assert image.metadata["band names"] == ["soil; dry", "tree", "roof"]
    if kind is tiff:
        assert "UTM_Zone_32N" in "".join(image.metadata["coordinate system string"])
        assert float(image.metadata["data ignore value"]) == -9999
    with rasterio.open(tmp_path / "out" / "abundances.img") as file:
        assert file.crs.to_epsg() == 32632 and file.transform == TRANSFORM
    np.testing.assert_allclose(library.spectra, estimate().endmembers, rtol=1e-6)


def change():
    return np.random.default_rng(2).uniform(0, 1e-4, (H, W)).astype(np.float32)


def residual(scene):
    """Return the map by its definition, pixel by pixel."""
    found = np.full((H, W), -9999.0)
    for row, column in np.argwhere(scene.valid):
        at = estimate()
        mixed = at.brightness[row, column] * sum(at.abundances[row, column, r] * at.endmembers[r] for r in range(R))
        found[row, column] = np.sqrt(np.mean((scene.cube[row, column] - mixed) ** 2))
    return found


@pytest.mark.parametrize("kind", [tiff, envi])
@pytest.mark.parametrize("format", ["geotiff", "envi"])
def test_residual_and_convergence_lie_where_the_scene_lies(tmp_path, kind, format):
    scene = read(kind(tmp_path / f"s.{'tif' if kind is tiff else 'img'}"))
    write(tmp_path / "out", estimate(), scene, names=NAMES, format=format, convergence=change())
    expect = {
        "residual": residual(scene),
        "convergence": np.where(scene.valid, change(), -9999),
        "brightness": np.where(scene.valid, estimate().brightness, -9999),
    }
    units = {"residual": "units of the scene", "convergence": "relative change", "brightness": "units of the scene"}
    for name, values in expect.items():
        with rasterio.open(tmp_path / "out" / f"{name}.{'tif' if format == 'geotiff' else 'img'}") as file:
            np.testing.assert_allclose(file.read(1), values, rtol=1e-5)
            assert file.crs.to_epsg() == 32632 and file.transform == TRANSFORM and file.count == 1
            assert file.descriptions == (f"{name} ({units[name]})",)
            assert file.nodata == (-9999 if kind is tiff else None)
        if format == "envi":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of spectral's own
                image = spectral.open_image(str(tmp_path / "out" / f"{name}.hdr"))
                np.testing.assert_allclose(np.asarray(image[:, :, 0])[:, :, 0], values, rtol=1e-5)
            assert image.metadata["band names"] == [f"{name} ({units[name]})"]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["maps"]["residual"]["unit"] == "units of the scene"
    assert summary["maps"]["residual"]["mean"] == pytest.approx(expect["residual"][scene.valid].mean(), rel=1e-5)
    assert summary["pixel_area_m2"] == 900
    shares = estimate().abundances[scene.valid].sum(axis=0)
    np.testing.assert_allclose(summary["areas_m2"], 900 * shares, rtol=1e-5)
    if kind is envi:
        header = (tmp_path / "s.hdr").read_bytes()
        assert summary["source"]["header"]["sha256"] == hashlib.sha256(header).hexdigest()


@pytest.mark.parametrize(
    ("projection", "area"),
    [
        ("EPSG:32632", 900.0), ("EPSG:4326", None), ("", None), (UTM.to_wkt(), 900.0),
        (rasterio.CRS.from_epsg(3035).to_wkt(version="WKT2_2019"), 900.0),
        (rasterio.CRS.from_epsg(2263).to_wkt(version="WKT2_2019"), None),  # feet
        (rasterio.CRS.from_epsg(4326).to_wkt(), None),
    ],
)  # fmt: skip
def test_areas_are_known_in_metres_alone(projection, area):
    assert pixel_area(Georeference(projection, tuple(TRANSFORM)[:6]), {}) == area


def test_areas_of_envi_fields():
    assert pixel_area(None, {"map info": "{UTM, 1, 1, 0, 0, 3.0, 2.0, 32, North, WGS-84}"}) == 6
    assert pixel_area(None, {"map info": "{Albers, 1, 1, 0, 0, 3.0, 2.0, units=Meters}"}) == 6
    for text in ("{Geographic Lat/Lon, 1, 1, 10, 31, 0.5, 0.5, WGS-84}", "{UTM, 1, 1, 0, 0, 3, x, units=Meters}", "{}"):
        assert pixel_area(None, {"map info": text}) is None
    assert pixel_area(None, {}) is None


def swath():
    """Return a scene in sensor geometry whose table mirrors and rotates it and omits one pixel."""
    lookup = np.full((W + 1, H, 2), -1)
    for row in range(H):
        for column in range(W):
            lookup[column, H - 1 - row] = (row, column)
    return Scene(
        cube=cube(),
        name="swath",
        envi_fields={"map info": "{Geographic Lat/Lon, 1, 1, 10, 31, 0.5, 0.5, WGS-84}"},
        georeference=Georeference("EPSG:4326", (0.5, 0.0, 10.0, 0.0, -0.5, 31.0), lookup),
    )


@pytest.mark.parametrize("format", ["geotiff", "envi"])
def test_a_swath_is_rectified(tmp_path, format):
    write(tmp_path / "out", estimate(), swath(), format=format)
    with rasterio.open(tmp_path / "out" / f"abundances.{'tif' if format == 'geotiff' else 'img'}") as file:
        found = file.read().transpose(1, 2, 0)
        assert file.crs.to_epsg() == 4326 and file.transform == rasterio.Affine(0.5, 0.0, 10.0, 0.0, -0.5, 31.0)
        assert file.nodata == -9999
    np.testing.assert_array_equal(found[:W], estimate().abundances[::-1].transpose(1, 0, 2))
    assert (found[W] == -9999).all()
    with np.load(tmp_path / "out" / "estimate.npz") as arrays:
        assert arrays["abundances"].shape == (H, W, R)  # what `score` compares stays in the sensor's pixels


def test_without_a_place_nothing_is_invented(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write(tmp_path / "out", estimate(), Scene(cube=cube()), format="geotiff")
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning), rasterio.open(tmp_path / "out/abundances.tif") as file:
        assert file.crs is None and file.transform.is_identity and file.nodata is None


def test_large_pictures_are_tiled(tmp_path):
    scene = Scene(
        cube=np.ones((300, 260, B), np.float32), georeference=Georeference("EPSG:32632", tuple(TRANSFORM)[:6])
    )
    write(tmp_path / "out", estimate(300, 260), scene, format="geotiff")
    with rasterio.open(tmp_path / "out" / "abundances.tif") as file:
        assert file.block_shapes[0] == (256, 256)
        np.testing.assert_array_equal(file.read().transpose(1, 2, 0), estimate(300, 260).abundances)


def test_refusals(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="format is 'tiff'; expected envi, geotiff, cog, netcdf or mat"):
        write(tmp_path / "out", estimate(), Scene(cube=cube()), format="tiff")
    write(tmp_path / "out", estimate(), Scene(cube=cube()), format="geotiff")
    before = (tmp_path / "out" / "abundances.tif").read_bytes()
    with pytest.raises(InputError, match="exists already"):
        write(tmp_path / "out", estimate(), swath(), format="geotiff")
    monkeypatch.setitem(__import__("sys").modules, "rasterio", None)
    with pytest.raises(InputError, match=r"pip install 'dequnmix-jax\[geo\]'"):
        write(tmp_path / "out", estimate(), swath(), format="geotiff", overwrite=True)
    assert (tmp_path / "out" / "abundances.tif").read_bytes() == before  # the old output is whole
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


@pytest.mark.skipif(resource is None, reason="no limits on the size of files here")
@pytest.mark.parametrize("short", [1, 300, 10000])
def test_a_full_disk_is_an_error(tmp_path, short):
    """The disk fills near the end: GDAL would silently close a truncated file."""
    values = np.random.default_rng(0).random((50, 50, 3)).astype(np.float32)
    write_maps(tmp_path / "whole.tif", values, NAMES, None, None, "")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "whole.tif").stat().st_size - short, before[1]))
        with pytest.raises(OSError, match="File too large"):
            write_maps(tmp_path / "part.tif", values, NAMES, None, None, "")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def place(code, transform):
    return Georeference(rasterio.CRS.from_epsg(code).to_wkt(), transform)


def test_areas_on_the_ellipsoid():
    # An equal-area projection keeps areas to rounding; UTM to 0.9996 squared on its central meridian.
    np.testing.assert_allclose(georaster.ground_area(place(3035, (30, 0, 4e6, 0, -30, 3e6)), (40, 30)), 900, rtol=1e-9)
    utm = georaster.ground_area(place(32632, (30, 0, 5e5, 0, -30, 5e6)), (40, 30))
    np.testing.assert_allclose(utm, 900 / 0.9996**2, rtol=1e-5)
    # The whole ellipsoid WGS 84 has 510,065,621.7 square kilometres.
    whole = georaster.ground_area(place(4326, (1, 0, -180, 0, -1, 90)), (180, 360))
    assert whole[1] * 180 * 360 == pytest.approx(510065621.7e6, rel=0.01)
    # Mercator at 60 degrees is twice as long in both directions.
    mercator = georaster.ground_area(place(3857, (30, 0, 0, 0, -30, 8399737.9)), (4, 4))
    assert mercator[1] == pytest.approx(900 / 4, rel=0.01)
    assert georaster.ground_area(Georeference("", (30, 0, 0, 0, -30, 0)), (4, 4)) is None
    assert georaster.ground_area(place(32632, (1e9, 0, 1e12, 0, -1e9, 1e12)), (4, 4)) is None


@pytest.mark.parametrize(
    ("code", "transform", "area"),
    [
        (3857, (30, 0, 0, 0, -30, 8399737.9), 900 / 4),
        (4326, (1e-4, 0, 10, 0, -1e-4, 60), 1e-8 * 111412.24 * 55799.98),  # metres in a degree at 60 degrees
        (32632, (30, 0, 5e5, 0, -30, 5e6), 900.0),
    ],
)
def test_the_summary_takes_areas_that_the_projection_keeps(tmp_path, code, transform, area):
    scene = Scene(cube(), georeference=place(code, transform))
    write(tmp_path / "out", estimate(), scene)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["pixel_area_m2"] == pytest.approx(area, rel=0.01 if code == 3857 else 1e-4)
    assert any("do not keep areas" in note for note in summary["notes"]) == (code != 32632)


def steps(crs, transform, shape=(100, 200)):
    place = Georeference(crs, transform)
    return georaster.ground_steps(Scene(np.ones((2, 2, 1)), georeference=place), shape)


def test_steps_on_the_ground_and_north():
    """UTM: the scale of the projection is 0.9996 at its meridian. A degree of longitude at 60 north: 55.8 km."""
    found = steps("EPSG:32632", (30.0, 0.0, 500000.0, 0.0, -30.0, 5300000.0))
    assert found["metres_per_column"] == pytest.approx(30 / 0.9996, rel=1e-4) and abs(found["north"]) < 0.1
    degrees = steps("EPSG:4326", (0.01, 0.0, 10.0, 0.0, -0.01, 60.5))
    assert degrees["metres_per_column"] == pytest.approx(558.0, rel=1e-3)
    assert degrees["north"] == pytest.approx(0, abs=1e-6)
    turn = np.radians(25)  # rows and columns turned clockwise: north is to the left of up by as much
    c, s = 30 * np.cos(turn), 30 * np.sin(turn)
    turned = steps("EPSG:32632", (c, -s, 500000.0, -s, -c, 5300000.0))
    assert turned["metres_per_column"] == pytest.approx(30 / 0.9996, rel=1e-3)
    assert turned["north"] == pytest.approx(-25, abs=0.2)
    south_up = steps("EPSG:32632", (30.0, 0.0, 500000.0, 0.0, 30.0, 5300000.0))
    assert abs(south_up["north"]) == pytest.approx(180, abs=0.1)
    assert steps("", (30.0, 0.0, 500000.0, 0.0, -30.0, 5300000.0)) is None
    assert georaster.ground_steps(Scene(np.ones((2, 2, 1))), (2, 2)) is None
