"""Masks and polygons beside a scene; the shapefile is one that GDAL wrote, the GeoPackage has its tables."""

import base64
import json
import sqlite3
import struct
import zlib

import h5py
import numpy as np
import pytest
import rasterio
from rasterio.features import geometry_mask
from rasterio.transform import Affine

from dequnmix_jax.checks import InputError
from dequnmix_jax.cli import main
from dequnmix_jax.equilibrium.config import Model
from dequnmix_jax.io.formats import open_source, read
from dequnmix_jax.io.scene_writer import write_scene
from dequnmix_jax.io.vectors.polygons import covered, inside, labels_of, read_polygons
from dequnmix_jax.scenes.georeference import Georeference
from dequnmix_jax.scenes.scene import Scene, check_scene
from dequnmix_jax.scenes.source import Window
from dequnmix_jax.tiles.run import Guard, Run
from dequnmix_jax.tiles.survey import view
from tests.io.test_missions import emit

H, W, B = 8, 6, 5
CUBE = np.random.default_rng(0).uniform(0.1, 0.6, (H, W, B)).astype(np.float32)
PLACE = Georeference("EPSG:32632", (10.0, 0.0, 500000.0, 0.0, -10.0, 5000080.0))
USE = np.zeros((H, W), np.uint8)
USE[1:4, 2:5], USE[6, 1] = 1, 4

# Two areas in EPSG:32632, of which one has a hole and the other two parts, as GDAL 3.11 writes them.
SHP = (
    "eNpjYFDnYsAKGPleMDMwsEJ5K1rkHEH0PKFgML2hDcK/AOUTAIxAnIVmVsNhqN6CVoRZTEAa5iB0uy9gUY/Eh5uHbj66/gtQ+bOofIbTUP4P7H"
    "x09TA+E7LfZrRiDaeGfTj89gKqfjtU/QzsfLB+JPXofLh6WLzA7BfAzm9Yhea+VVj0AwA2BFPc"
)
DBF = "eNpjruOWZWJgYEhkSGbABvISc1OhTGcQEYAuj2D6gQghNHlehfL8/BQFWgJDhbTM1JyUYoXDK2llhZEUAF2gIZg="


def scene(folder):
    write_scene(folder / "scene.tif", Scene(CUBE, georeference=PLACE, wavelengths=np.linspace(450, 900, B)))
    return folder / "scene.tif"


def raster(path, values, transform=PLACE.transform, **profile):
    shape = {"driver": "GTiff", "height": values.shape[0], "width": values.shape[1], "count": 1, "dtype": values.dtype}
    with rasterio.open(path, "w", **shape, crs="EPSG:32632", transform=Affine(*transform), **profile) as file:
        file.write(values, 1)
    return path


def square(x, y, width, height):
    return [[x, y], [x + width, y], [x + width, y - height], [x, y - height], [x, y]]


def geojson(path, *features, crs="EPSG:32632"):
    members = [
        {"type": "Feature", "properties": properties, "geometry": {"type": "Polygon", "coordinates": rings}}
        for properties, rings in features
    ]
    named = {} if crs is None else {"crs": {"type": "name", "properties": {"name": crs}}}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": members} | named))
    return path


def geopackage(path, *features, layers=("areas",)):
    """Write features (properties, rings) as OGC 12-128r19 has them, with an envelope and one more MultiPolygon."""
    base = sqlite3.connect(path)
    base.executescript(
        "CREATE TABLE gpkg_spatial_ref_sys (srs_name, srs_id, organization, organization_coordsys_id, definition);"
        "INSERT INTO gpkg_spatial_ref_sys VALUES ('UTM', 7, 'EPSG', 32632, 'PROJCS');"
        "CREATE TABLE gpkg_geometry_columns (table_name, column_name, geometry_type_name, srs_id, z, m);"
    )
    for layer in layers:
        base.execute("INSERT INTO gpkg_geometry_columns VALUES (?, 'geom', 'GEOMETRY', 7, 0, 0)", (layer,))
        base.execute(f'CREATE TABLE "{layer}" (fid INTEGER PRIMARY KEY, geom BLOB, name TEXT)')
        for name, rings in features:
            polygon = struct.pack("<BII", 1, 3, len(rings))
            for points in rings:
                polygon += struct.pack("<I", len(points)) + np.asarray(points, "<f8").tobytes()
            data = struct.pack("<BII", 1, 6, 1) + polygon
            blob = b"GP\0" + bytes([0b11]) + struct.pack("<i4d", 7, 0, 1, 0, 1) + data
            base.execute(f'INSERT INTO "{layer}" (geom, name) VALUES (?, ?)', (blob, name))
    base.commit()
    base.close()
    return path


def told(call, *words):
    with pytest.raises(InputError) as error:
        call()
    assert all(word in str(error.value) for word in words), str(error.value)
    return str(error.value)


def test_arrays_and_rasters_of_any_format_mark_the_same_pixels(tmp_path):
    path = scene(tmp_path)
    np.save(tmp_path / "m.npy", USE)
    raster(tmp_path / "m.tif", USE)
    write_scene(tmp_path / "m.img", Scene(USE[:, :, None].astype(np.float32), georeference=PLACE))
    for mask in (USE, USE > 0, USE[:, :, None], *(tmp_path / f"m.{kind}" for kind in ("npy", "tif", "img"))):
        found = read(path, mask=mask)
        np.testing.assert_array_equal(found.valid, USE > 0)
        assert not found.cube[USE == 0].any()
    assert "10 of 48 pixels." in " ".join(found.notes) and "by the mask" in " ".join(found.notes)
    np.testing.assert_array_equal(read(path, mask=USE, mask_values=[4]).valid, USE == 4)
    np.testing.assert_array_equal(read(path, mask=USE, mask_invert=True).valid, USE == 0)
    assert read(CUBE, mask=USE).valid.sum() == 10


def test_nodata_of_a_mask_is_used_in_no_way(tmp_path):
    values = USE.copy()
    values[0] = 255
    path = raster(tmp_path / "m.tif", values, nodata=255)
    np.testing.assert_array_equal(read(scene(tmp_path), mask=path).valid, USE > 0)
    inverted = read(tmp_path / "scene.tif", mask=path, mask_invert=True).valid
    np.testing.assert_array_equal(inverted, (USE == 0) & (values != 255))


def test_a_window_and_the_whole_have_one_mask_and_another_mask_is_another_run(tmp_path):
    path = scene(tmp_path)
    sources = [open_source(path, mask=mask) for mask in (USE, USE == 0)]
    values, valid = sources[0].read(Window(slice(2, 7), slice(1, 4)))
    np.testing.assert_array_equal(valid, USE[2:7, 1:4] > 0)
    np.testing.assert_array_equal(values[valid], CUBE[2:7, 1:4][valid])
    params = {"endmembers": np.ones((2, B), np.float32)}
    prints = [
        Run(params, view(source), Model(), None, None, Guard(source), lambda *_: None).fingerprint()
        for source in (*sources, open_source(path))
    ]
    assert len(set(prints)) == 3


def test_wrong_grids_and_empty_masks_are_said(tmp_path):
    path = scene(tmp_path)
    told(lambda: read(path, mask=np.ones((3, 4))), "(3, 4) rows and columns", "(8, 6)", "gdalwarp")
    told(lambda: read(path, mask=np.ones((H, W, 3))), "one number a pixel")
    told(
        lambda: read(path, mask=raster(tmp_path / "far.tif", USE, (10.0, 0, 500100.0, 0, -10.0, 5000080.0))),
        "10 pixels",
    )
    message = told(lambda: read(path, mask=np.zeros((H, W))), "none of the 48 pixels", "--mask-invert")
    assert "mask_invert=True" in message  # and what it says works
    assert read(path, mask=np.zeros((H, W)), mask_invert=True).valid.all()
    told(lambda: read(path, mask=tmp_path / "gone.tif"), "does not exist")
    told(lambda: read(path, mask_invert=True), "there is none", "--mask FILE")
    told(lambda: read(path, mask=USE, mask_values="ab"), "expected numbers")
    np.savez(tmp_path / "no_place.npz", cube=CUBE)
    areas = geojson(tmp_path / "a.geojson", ({}, [square(500020, 5000070, 30, 30)]))
    told(lambda: read(tmp_path / "no_place.npz", mask=areas), "no place on the ground", "raster of the same grid")
    assert read(tmp_path / "no_place.npz", mask=USE).valid.sum() == 10
    told(lambda: read(path, mask=areas, mask_values=[1]), "holds polygons")
    assert read(path, mask=areas, mask_invert=True).valid.sum() == 48 - 9


def test_polygons_of_every_format_contain_the_same_pixels(tmp_path):
    rings = [square(500020, 5000070, 30, 30), square(500030, 5000060, 10, 10)]  # with a hole
    path, expected = scene(tmp_path), np.zeros((H, W), np.bool_)
    expected[1:4, 2:5], expected[2, 3] = True, False
    degrees = geojson(tmp_path / "d.geojson", ({}, [_degrees(points) for points in rings]), crs=None)
    for mask in (
        geojson(tmp_path / "a.geojson", ({}, rings)),
        geopackage(tmp_path / "a.gpkg", ("one", rings)),
        degrees,
    ):
        np.testing.assert_array_equal(read(path, mask=mask).valid, expected, str(mask))
    two = geopackage(tmp_path / "two.gpkg", ("one", rings), layers=("areas", "more"))
    assert "two.gpkg:LAYER" in told(lambda: read(path, mask=two), "areas, more")
    np.testing.assert_array_equal(read(path, mask=f"{two}:more").valid, expected)
    far = geojson(tmp_path / "far.geojson", ({}, [square(600020, 5000070, 30, 30)]))
    told(lambda: read(path, mask=far), "No pixel of", "columns 10002 to 10005 of 8 x 6")
    both = ({}, [square(400020, 5000070, 30, 30)]), ({}, [square(600020, 5000070, 30, 30)])
    told(lambda: read(path, mask=geojson(tmp_path / "both.geojson", *both)), "Check their coordinate system")
    small = geojson(tmp_path / "small.geojson", ({}, [square(500020, 5000070, 3, 3)]))
    told(lambda: read(path, mask=small), "smaller than a pixel")


def _degrees(points):
    from rasterio.warp import transform

    return np.transpose(transform("EPSG:32632", "EPSG:4326", *np.transpose(points))).tolist()


def test_a_shapefile_of_gdal(tmp_path):
    for kind, text in (("shp", SHP), ("dbf", DBF)):
        (tmp_path / f"a.{kind}").write_bytes(zlib.decompress(base64.b64decode(text)))
    areas = read_polygons(tmp_path / "a.shp")
    assert labels_of(areas) == ("wood", "fields é") and [len(f.rings) for f in areas.features] == [2, 2]
    place = Georeference("EPSG:32632", (3.0, 0, 500000.0, 0, -3.0, 5000010.0))
    shapes = [{"type": "Polygon", "coordinates": [r.tolist() for r in f.rings]} for f in areas.features]
    truth = ~geometry_mask(shapes, (80, 60), Affine(*place.transform))
    found = covered(areas, place, (80, 60), "a scene")
    assert found.sum() == 588
    np.testing.assert_array_equal(found, truth)


def test_random_polygons_are_filled_as_gdal_fills_them():
    rng = np.random.default_rng(0)
    for _ in range(40):
        count = rng.integers(3, 30)
        angle, radius, centre = (
            np.sort(rng.uniform(0, 2 * np.pi, count)),
            rng.uniform(2, 40, count),
            rng.uniform(5, 45, 2),
        )
        ring = centre + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        (rows, columns), part = inside([ring], (50, 60))
        found = np.zeros((50, 60), np.bool_)
        found[rows, columns] = part
        closed = {"type": "Polygon", "coordinates": [[*ring.tolist(), ring[0].tolist()]]}
        np.testing.assert_array_equal(found, ~geometry_mask([closed], (50, 60), Affine.identity()))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.geojson", b"{", "is not JSON"),
        ("a.geojson", b"[1]", "not GeoJSON"),
        ("a.geojson", b'{"type": "Point", "coordinates": [1, 2]}', "is a Point; expected polygons"),
        ("a.geojson", b'{"type": "FeatureCollection", "features": []}', "holds no polygon"),
        ("a.geojson", b'{"type": "Polygon", "coordinates": [[[1, 2], [3, "x"], [1, 1]]]}', "Feature 0"),
        ("a.geojson", b'{"type": "Polygon", "coordinates": [[[1, 2], [3, 4]]]}', "a ring of 2 points"),
        ("a.gpkg", b"no database", "cannot be read as a GeoPackage"),
        ("a.shp", b"no shapes", "cannot be read as a shapefile"),
    ],
)
def test_damaged_polygons_are_said(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    told(lambda: read_polygons(tmp_path / name), said)


def test_a_cut_shapefile_is_said(tmp_path):
    data = zlib.decompress(base64.b64decode(SHP))
    for length in range(101, len(data) - 1, 17):
        (tmp_path / "a.shp").write_bytes(data[:length])
        try:
            assert read_polygons(tmp_path / "a.shp").features
        except InputError as error:
            assert "a.shp" in str(error)


NAMES = [b"Cloud flag", b"Cirrus flag", b"Water flag", b"Spacecraft Flag", b"Dilated Cloud Flag", b"AOD550",
         b"H2O (g cm-2)", b"Aggregate Flag"]  # fmt: skip


def test_the_mask_file_of_emit(tmp_path):
    path = emit(tmp_path / "e.nc")
    flags = np.zeros((5, 4, 8), np.float32)
    flags[0, 0, 0] = flags[1, 1, 1] = flags[2, 2, 2] = flags[3, 3, 3] = flags[4, 0, 4] = 1
    flags[:, :, 5:7] = 0.2, 1.5
    flags[..., 7] = flags[..., :5].any(axis=2)
    with h5py.File(tmp_path / "m.nc", "w") as file:
        file["mask"], file["sensor_band_parameters/mask_bands"] = flags, np.array(NAMES)
    found = read(path, mask=tmp_path / "m.nc")
    assert set(zip(*np.where(~found.valid), strict=True)) == {(0, 0), (1, 1), (3, 3), (4, 0)}  # water (2, 2) is used
    assert "Cloud flag 1, Cirrus flag 1, Spacecraft Flag 1, Dilated Cloud Flag 1" in " ".join(found.notes)
    told(lambda: read(path, mask=path), "expected EMIT's mask file")
    on_the_map = np.ones((7, 6), np.uint8)
    on_the_map[:2, 0] = 0  # both are of the sensor's pixel (0, 0)
    assert np.argwhere(~read(path, mask=on_the_map).valid).tolist() == [[0, 0]]
    areas = geojson(tmp_path / "a.geojson", ({}, [square(10.0, 31.0 - 0.0005, 0.0010, 0.0005)]), crs=None)
    assert np.argwhere(read(path, mask=areas).valid).tolist() == [[0, 0], [0, 1]]


def test_several_ranges_of_bands(tmp_path):
    np.savez(tmp_path / "s.npz", cube=np.ones((2, 3, 30)), wavelengths=np.linspace(400, 900, 30))

    def used(**options):
        return np.flatnonzero(read(tmp_path / "s.npz", **options).good_bands).tolist()

    assert used(bands=(2, 4)) == used(bands=[(2, 4)]) == used(bands=[[2, 4]]) == [2, 3, 4]
    assert used(bands=[(0, 1), (20, 21)]) == [0, 1, 20, 21]
    assert used(drop_bands=[(2, 28)]) == [0, 1, 29] and used(bands=[(0, 4)], drop_bands=(1, 3)) == [0, 4]
    assert "0 to 1, 20 (counted from 0)" in " ".join(read(tmp_path / "s.npz", bands=[(0, 1), (20, 20)]).notes)
    told(lambda: used(bands=[(0, 9), (20, 30)]), "Bands 20 to 30", "which has 30")
    told(lambda: used(drop_bands=[(5, 2)]), "the lower one first")
    for wrong in (3, "ab", [(1, 2, 3)], [(0.5, 2)], [(1, 2), 3]):
        told(lambda wrong=wrong: used(bands=wrong), "like [(0, 9), (20, 29)]")
    told(lambda: check_scene(read(tmp_path / "s.npz", drop_bands=(0, 29)).with_good_bands()), "marked bad")


def test_the_options_of_a_command(tmp_path, capsys):
    path = scene(tmp_path)
    geojson(tmp_path / "a.geojson", ({}, [square(500020, 5000070, 30, 30)]))

    def info(*words):
        assert main.main(["info", str(path), "--json", *words]) == 0
        return json.loads(capsys.readouterr().out)

    assert info("--mask", str(tmp_path / "a.geojson"))["valid_pixels"] == 9
    assert info("--mask", str(tmp_path / "a.geojson"), "--mask-invert")["valid_pixels"] == 39
    np.save(tmp_path / "m.npy", USE)
    assert info("--mask", str(tmp_path / "m.npy"), "--mask-values", "4,7")["valid_pixels"] == 1
    assert info("--bands", "0:1,3")["good_bands"] == info("--bands", "0:1", "--bands", "3:3")["good_bands"] == 3
    assert info("--drop-bands", "0,4")["good_bands"] == 3
    for words in (["--bands", "3:1"], ["--bands", "0:1,x"], ["--mask-values", "a"], ["--drop-bands", "-1:2"]):
        with pytest.raises(SystemExit):
            main.main(["info", str(path), *words])
