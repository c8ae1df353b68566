"""EMIT and PRISMA files, written in the documented layouts of the missions."""

import h5py
import numpy as np
import pytest

from dequnmix_jax.checks import InputError
from dequnmix_jax.io.formats import read
from dequnmix_jax.scenes.georeference import rectify

H, W, B = 5, 4, 6

# --- EMIT ------------------------------------------------------------------------------------------------------------


def emit_cube():
    return np.random.default_rng(0).uniform(0.05, 0.6, (H, W, B)).astype(np.float32)


def emit(path, *, without=(), **changes):
    """Write an EMIT L2A file: a slightly rotated swath of 5 x 4 pixels in a map of 7 x 6."""
    rng = np.random.default_rng(1)
    glt = np.zeros((2, 7, 6), np.int32)
    for row in range(H):
        for column in range(W):
            glt[:, row + 1, column + (row > 2)] = (column + 1, row + 1)
    glt[:, 0, 0] = (-1, -1)  # filled from the neighbour
    content = {
        "reflectance": emit_cube(),
        "sensor_band_parameters/wavelengths": np.array([381.0, 500.0, 1350.0, 1400.0, 1700.0, 2493.0], np.float32),
        "sensor_band_parameters/fwhm": np.full(B, 8.5, np.float32),
        "sensor_band_parameters/good_wavelengths": np.array([1, 1, 1, 0, 1, 1], np.float32),
        "location/lat": rng.uniform(30, 31, (H, W)),
        "location/lon": rng.uniform(10, 11, (H, W)),
        "location/glt_x": glt[0],
        "location/glt_y": glt[1],
    } | changes
    with h5py.File(path, "w") as file:
        for name, values in content.items():
            if name not in without:
                file[name] = values
        if "reflectance" in file:
            file["reflectance"].attrs["_FillValue"] = np.array([-9999.0], np.float32)
        file.attrs["geotransform"] = np.array([10.0, 0.0005, 0.0, 31.0, 0.0, -0.0005])
        file.attrs["spatial_ref"] = np.bytes_(WKT)
    return path


WKT = (
    'GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563,AUTHORITY["EPSG","7030"]],'
    'AUTHORITY["EPSG","6326"]],PRIMEM["Greenwich",0,AUTHORITY["EPSG","8901"]],UNIT["degree",0.0174532925199433,'
    'AUTHORITY["EPSG","9122"]],AXIS["Latitude",NORTH],AXIS["Longitude",EAST],AUTHORITY["EPSG","4326"]]'
)


def test_emit(tmp_path):
    values = emit_cube()
    values[2, 1] = -9999
    values[3, 3, 3] = -9999  # in a bad band
    found = read(emit(tmp_path / "e.nc", reflectance=values))
    assert np.argwhere(~found.valid).tolist() == [[2, 1]]
    np.testing.assert_array_equal(found.cube[0], values[0])
    assert found.good_bands.tolist() == [True, True, True, False, True, True]
    np.testing.assert_allclose(found.wavelengths[[0, -1]], [381.0, 2493.0])
    np.testing.assert_allclose(found.with_good_bands().fwhm, np.full(5, 8.5))
    assert found.georeference.transform == (0.0005, 0.0, 10.0, 0.0, -0.0005, 31.0)
    assert found.envi_fields["map info"].startswith("{Geographic Lat/Lon, 1, 1, 10, 31, 0.0005, 0.0005")


def test_emit_is_rectified_by_its_table(tmp_path):
    found = read(emit(tmp_path / "e.nc"))
    picture = rectify(found.cube, found.georeference, -1.0)
    assert picture.shape == (7, 6, B)
    np.testing.assert_array_equal(picture[1:4, :4], found.cube[:3])
    np.testing.assert_array_equal(picture[4:6, 1:5], found.cube[3:])
    np.testing.assert_array_equal(picture[0, 0], found.cube[0, 0])
    assert (picture[6] == -1).all() and (picture[0, 1:] == -1).all() and (picture[1:4, 4:] == -1).all()


def test_emit_with_ignored_ranges_and_saturation(tmp_path):
    values = emit_cube()
    values[1, 1, 0], values[2, 2, 2] = 1.1, 1.1
    found = read(emit(tmp_path / "e.nc", reflectance=values), ignore=[(1310, 1490)], saturation=1.1)
    assert found.good_bands.tolist() == [True, True, False, False, True, True]
    assert np.argwhere(~found.valid).tolist() == [[1, 1]]


def test_emit_without_a_map(tmp_path):
    found = read(emit(tmp_path / "e.nc", without=("location/glt_x",)))
    assert found.georeference is None and any("no table of the map" in note for note in found.notes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sensor_band_parameters/wavelengths": np.ones(B + 1)}, "7 values in 'sensor_band_parameters/wavelengths'"),
        ({"reflectance": np.ones((H, W))}, r"shape \(5, 4\), type f under 'reflectance'"),
        ({"location/glt_x": np.full((7, 6), W + 1)}, r"lookup names the pixel \(4, 4\)"),
    ],
)
def test_emit_that_does_not_fit(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        read(emit(tmp_path / "e.nc", **changes))


# --- PRISMA ----------------------------------------------------------------------------------------------------------

ROWS, COLUMNS = 6, 5
VNIR = np.array([1010.0, 700.0, 500.0, 0.0])  # from long to short; the last one is missing
SWIR = np.array([2500.0, 1380.0, 1100.0, 950.0, 0.0])


def numbers(bands, seed):
    return np.random.default_rng(seed).integers(500, 60000, (ROWS, bands, COLUMNS)).astype(np.uint16)


def prisma(path, *, level="2D", vnir=None, swir=None, errors=None, without=(), **changes):
    """Write a PRISMA Level 2 file."""
    vnir, swir = (numbers(VNIR.size, 0) if vnir is None else vnir), (numbers(SWIR.size, 1) if swir is None else swir)
    errors = errors or {}
    attributes = {
        "List_Cw_Vnir": VNIR.astype(np.float32), "List_Cw_Swir": SWIR.astype(np.float32),
        "List_Fwhm_Vnir": np.where(VNIR > 0, 11.0, 0.0), "List_Fwhm_Swir": np.where(SWIR > 0, 12.0, 0.0),
        "L2ScaleVnirMin": np.float32(-0.1), "L2ScaleVnirMax": np.float32(1.2),
        "L2ScaleSwirMin": np.float32(0.0), "L2ScaleSwirMax": np.float32(0.9),
        "Epsg_Code": np.int64(32633),
        "Product_ULcorner_easting": 400015.0, "Product_ULcorner_northing": 4700165.0,
        "Product_URcorner_easting": 400135.0, "Product_URcorner_northing": 4700165.0,
        "Product_LLcorner_easting": 400015.0, "Product_LLcorner_northing": 4700015.0,
        "Product_LRcorner_easting": 400135.0, "Product_LRcorner_northing": 4700015.0,
    } | changes  # fmt: skip
    fields = f"HDFEOS/SWATHS/PRS_L{level}_HCO/Data Fields"
    with h5py.File(path, "w") as file:
        for name, values in (("VNIR", vnir), ("SWIR", swir)):
            file[f"{fields}/{name}_Cube"] = values
            file[f"{fields}/{name}_PIXEL_L2_ERR_MATRIX"] = errors.get(name, np.zeros(values.shape, np.uint8))
        for name, value in attributes.items():
            if name not in without:
                file.attrs[name] = value
    return path


def test_prisma(tmp_path):
    found = read(prisma(tmp_path / "p.he5"))
    np.testing.assert_allclose(found.wavelengths, [500, 700, 950, 1010, 1100, 1380, 2500])
    np.testing.assert_allclose(found.fwhm, [11, 11, 12, 11, 12, 12, 12])
    assert found.good_bands.tolist() == [True, True, False, True, True, True, True]  # 950 nm is seen by VNIR
    assert found.cube.shape == (ROWS, COLUMNS, 7) and found.mask is None
    np.testing.assert_allclose(found.cube[:, :, 0], -0.1 + numbers(4, 0)[:, 2] * 1.3 / 65535, rtol=1e-5)
    np.testing.assert_allclose(found.cube[:, :, 4], numbers(5, 1)[:, 2] * 0.9 / 65535, rtol=1e-5)
    assert found.georeference.transform == (30.0, 0.0, 400000.0, 0.0, -30.0, 4700180.0)
    assert found.envi_fields["map info"].startswith("{UTM, 1, 1, 400000, 4700180, 30, 30, 33, North,WGS-84")
    assert any("2 bands left out: missing" in note for note in found.notes)


def test_prisma_corners_at_the_edges(tmp_path):
    east = {f"Product_{name}corner_easting": 400150.0 for name in ("UR", "LR")}
    west = {f"Product_{name}corner_easting": 400000.0 for name in ("UL", "LL")}
    north = {f"Product_{name}corner_northing": 4700180.0 for name in ("UL", "UR")}
    south = {f"Product_{name}corner_northing": 4700000.0 for name in ("LL", "LR")}
    found = read(prisma(tmp_path / "p.he5", **east, **west, **north, **south))
    assert found.georeference.transform == (30.0, 0.0, 400000.0, 0.0, -30.0, 4700180.0)
    far = read(prisma(tmp_path / "q.he5", Product_URcorner_easting=500000.0))
    assert far.georeference is None and any("do not fill" in note for note in far.notes)


def test_prisma_padding_errors_and_lost_bands(tmp_path):
    vnir, swir = numbers(4, 0), numbers(5, 1)
    vnir[0], swir[0] = 0, 0  # padding
    swir[:, 1] = 0  # 1380 nm: nothing comes through
    errors = {"VNIR": np.zeros(vnir.shape, np.uint8), "SWIR": np.zeros(swir.shape, np.uint8)}
    errors["VNIR"][1, 1, 1] = 1  # invalid
    errors["VNIR"][2, 1, 2] = 2  # negative: stays
    errors["SWIR"][3, 0, 3] = 3  # saturated
    errors["SWIR"][4, 3, 0] = 1  # in a band that is marked bad (950 nm)
    found = read(prisma(tmp_path / "p.he5", vnir=vnir, swir=swir, errors=errors))
    assert found.good_bands.tolist() == [True, True, False, True, True, False, True]
    expected = np.ones((ROWS, COLUMNS), bool)
    expected[0], expected[1, 1], expected[3, 3] = False, False, False
    np.testing.assert_array_equal(found.valid, expected)


def test_prisma_other_levels_have_no_place(tmp_path):
    found = read(prisma(tmp_path / "p.he5", level="2C"))
    assert found.georeference is None and found.cube.shape == (ROWS, COLUMNS, 7)
    assert "The file holds radiance, not reflectance." in read(prisma(tmp_path / "b.he5", level="2B")).notes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"without": ("List_Cw_Vnir",)}, "no attribute List_Cw_Vnir"),
        ({"without": ("L2ScaleSwirMax",)}, "L2ScaleSwirMax = nan"),
        ({"List_Cw_Swir": np.ones(3)}, "expected 5 numbers"),
        ({"swir": np.ones((2, 5, 2), np.uint16)}, "expected the same rows and columns"),
        ({"errors": {"VNIR": np.zeros((1, 1, 1), np.uint8)}}, "its error matrix of shape"),
        ({"vnir": np.array([["a"]], "S1")}, "type S"),
    ],
)
def test_prisma_that_does_not_fit(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        read(prisma(tmp_path / "p.he5", **changes))


# --- any HDF5 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0.05, 0.5, 0.98])
def test_truncated(tmp_path, keep):
    path = emit(tmp_path / "e.nc")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(InputError, match=r"e\.nc cannot be read as HDF5"):
        read(path)


def test_more_declared_than_a_file_can_hold(tmp_path):
    path = emit(tmp_path / "e.nc", without=("reflectance",))
    with h5py.File(path, "r+") as file:
        file.create_dataset("reflectance", shape=(10**6, 10**4, B), dtype="f4", chunks=(64, 64, B))
    with pytest.raises(InputError, match="declares 1000000 x 10000 x 6 values"):
        read(path)


def test_other_layouts_are_named(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["something"] = np.ones(3)
    with pytest.raises(InputError, match="holds something; expected the layout of EMIT L2A"):
        read(tmp_path / "x.h5")


def test_without_h5py_the_extra_is_named(tmp_path, monkeypatch):
    path = emit(tmp_path / "e.nc")
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(InputError, match=r"pip install 'dequnmix-jax\[geo\]'"):
        read(path)


def test_prisma_level_1_is_radiance(tmp_path):
    """radiance = DN / ScaleFactor - Offset; codes 1, 2 and 4 of the error matrix are no measurement, 0 is one."""
    scales = {"ScaleFactor_Vnir": 100.0, "ScaleFactor_Swir": 50.0, "Offset_Vnir": 1.0, "Offset_Swir": 0.0}
    vnir = numbers(VNIR.size, 0)
    vnir[1, 2, 1] = 0
    path = prisma(tmp_path / "p.he5", level="1", vnir=vnir, **scales)
    fields = "HDFEOS/SWATHS/PRS_L1_HCO/Data Fields"
    with h5py.File(path, "r+") as file:
        for name in ("VNIR", "SWIR"):
            file.move(f"{fields}/{name}_PIXEL_L2_ERR_MATRIX", f"{fields}/{name}_PIXEL_SAT_ERR_MATRIX")
        for column, code in enumerate((1, 2, 3, 4)):
            file[f"{fields}/VNIR_PIXEL_SAT_ERR_MATRIX"][3, 2, column] = code
    found = read(path)
    assert "The file holds radiance, not reflectance." in found.notes and found.georeference is None
    assert np.argwhere(~found.mask).tolist() == [[3, 0], [3, 1], [3, 3]]
    np.testing.assert_allclose(found.cube[found.mask][:, 0], (vnir[:, 2] / 100 - 1)[found.mask], rtol=1e-6)
    np.testing.assert_allclose(found.cube[found.mask][:, 4], (numbers(5, 1)[:, 2] / 50)[found.mask], rtol=1e-6)
    with h5py.File(path, "r+") as file:
        file.attrs["ScaleFactor_Vnir"] = 0.0
    with pytest.raises(InputError, match=r"ScaleFactor_Vnir = 0 .*expected a positive divisor"):
        read(path)
