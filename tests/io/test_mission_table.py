"""Missions of the table, in files written in the layouts that public readers describe; no real product was at hand."""

import numpy as np
import pytest

from dequnmix_jax.checks import InputError
from dequnmix_jax.io.formats import open_source, read
from dequnmix_jax.io.missions import table
from dequnmix_jax.scenes.source import Window

h5py = pytest.importorskip("h5py")

H, W, B = 6, 5, 8
CUBE = np.random.default_rng(2).uniform(0.05, 0.6, (H, W, B)).astype(np.float32)
NM = np.linspace(450, 2400, B)
WIDTHS = np.full(B, 7.5)
WKT = 'PROJCS["WGS 84 / UTM zone 11N",GEOGCS["WGS 84"]]'
PLACE = (4.0, 0.0, 500000.0, 0.0, -4.0, 4200000.0)


def aviris(file, cube="reflectance"):
    held = file.create_dataset(f"{cube}/{cube}", data=CUBE.transpose(2, 0, 1))
    held.attrs["_FillValue"], held.attrs["grid_mapping"] = np.float32(-9999), "transverse_mercator"
    file[f"{cube}/wavelength"], file[f"{cube}/fwhm"] = NM, WIDTHS
    file["northing"] = 4200000.0 - 4.0 * (np.arange(H) + 0.5)
    file["easting"] = 500000.0 + 4.0 * (np.arange(W) + 0.5)
    file["transverse_mercator"] = np.int32(0)
    file["transverse_mercator"].attrs["crs_wkt"] = WKT
    return held


def tanager(file, root="SWATHS", name="surface_reflectance"):
    fields = f"HDFEOS/{root}/HYP/Data Fields"
    held = file.create_dataset(f"{fields}/{name}", data=CUBE.transpose(2, 0, 1))
    held.attrs["wavelengths"], held.attrs["fwhm"] = NM, WIDTHS
    file[f"{fields}/nodata_pixels"] = np.zeros((H, W), np.uint8)
    if root == "GRIDS":
        file["HDFEOS/GRIDS/HYP"].attrs["epsg_code"] = 32611
        corners = "UpperLeftPointMtrs=(500000.0,4200000.0)\n\tLowerRightMtrs=(500020.0,4199976.0)"
        file["HDFEOS INFORMATION/StructMetadata.0"] = f"GROUP=GridStructure\n\t{corners}\nEND".encode()
    return held


def neon(file):
    stored = np.round(CUBE * 1e4).astype(np.int16)
    held = file.create_dataset("SJER/Reflectance/Reflectance_Data", data=stored)
    held.attrs["Scale_Factor"], held.attrs["Data_Ignore_Value"] = 1e4, -9999.0
    group = file["SJER/Reflectance"]
    group.attrs["Band_Window_1_Nanometers"], group.attrs["Band_Window_2_Nanometers"] = [1300, 1600], [1800, 1950]
    group["Metadata/Spectral_Data/Wavelength"], group["Metadata/Spectral_Data/FWHM"] = NM, WIDTHS
    group["Metadata/Coordinate_System/Map_Info"] = (
        b"UTM,1.0,1.0,500000.0,4200000.0,4.0,4.0,11,North,WGS-84,units=Meters"
    )
    group["Metadata/Coordinate_System/EPSG Code"] = b"32611"
    return held


def pace(file):
    held = file.create_dataset("geophysical_data/Rrs", data=np.round((CUBE - 0.05) / 2e-5).astype(np.int16))
    held.attrs["scale_factor"], held.attrs["add_offset"] = np.float32(2e-5), np.float32(0.05)
    held.attrs["_FillValue"] = np.int16(-32767)
    file["sensor_band_parameters/wavelength_3d"] = NM
    return held


WRITERS = {
    "aviris": (aviris, "s.nc", PLACE),
    "tanager basic": (tanager, "s.h5", None),
    "tanager ortho": (lambda file: tanager(file, "GRIDS"), "s.h5", PLACE),
    "neon": (neon, "s.h5", PLACE),
    "pace": (pace, "s.nc", None),
}


def write(folder, name, change=lambda held: None):
    writer, file_name, _ = WRITERS[name]
    with h5py.File(folder / file_name, "w") as file:
        change(writer(file))
    return folder / file_name


@pytest.mark.parametrize("name", WRITERS)
def test_cube_wavelengths_widths_and_place(tmp_path, name):
    path = write(tmp_path, name)
    scene = read(path)
    np.testing.assert_allclose(scene.cube, CUBE, atol=6e-5)
    assert scene.mask is None or scene.mask.all()
    np.testing.assert_allclose(scene.wavelengths, NM)
    assert name == "pace" or (scene.fwhm == WIDTHS).all()
    place = WRITERS[name][2]
    assert (scene.georeference is None) == (place is None)
    if place is not None:
        np.testing.assert_allclose(scene.georeference.transform, place)
        assert scene.georeference.crs in ("EPSG:32611", WKT)
    window = Window(slice(1, 4), slice(2, 5))
    np.testing.assert_array_equal(open_source(path).read(window)[0], scene.cube[1:4, 2:5])


@pytest.mark.parametrize("name", WRITERS)
def test_missing_values_are_masked(tmp_path, name):
    def change(held):
        axes = (0, 1, 2) if name in ("neon", "pace") else (1, 2, 0)
        stored = held[()].transpose(axes)
        stored[2, 3, 1] = -32767 if name == "pace" else -9999
        held[...] = stored.transpose(np.argsort(axes))

    scene = read(write(tmp_path, name, change))
    assert not scene.mask[2, 3] and scene.mask.sum() == H * W - 1
    assert scene.cube.min() >= 0


def test_pixels_without_data_of_tanager(tmp_path):
    def change(held):
        held.parent["nodata_pixels"][0] = 1
        held.attrs["good_wavelengths"] = (np.arange(B) != 3).astype(np.uint8)

    path = write(tmp_path, "tanager basic", change)
    scene = read(path)
    np.testing.assert_array_equal(scene.mask, np.arange(H)[:, None].repeat(W, 1) > 0)
    np.testing.assert_array_equal(scene.good_bands, np.arange(B) != 3)
    assert not open_source(path).read(Window(slice(0, 1), slice(0, W)))[1].any()


def test_a_mask_of_other_pixels_is_refused(tmp_path):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        tanager(file)
        del file["HDFEOS/SWATHS/HYP/Data Fields/nodata_pixels"]
        file["HDFEOS/SWATHS/HYP/Data Fields/nodata_pixels"] = np.zeros((H - 1, W), np.uint8)
    with pytest.raises(InputError, match=r"nodata_pixels' of shape \(5, 5\) and a cube of 6 x 5 pixels"):
        read(tmp_path / "s.h5")


def test_bad_bands_of_neon(tmp_path):
    scene = read(write(tmp_path, "neon"))
    bad = ((NM >= 1300) & (NM <= 1600)) | ((NM >= 1800) & (NM <= 1950))
    assert bad.any()
    np.testing.assert_array_equal(scene.good_bands, ~bad)


def test_radiance_is_said(tmp_path):
    with h5py.File(tmp_path / "s.nc", "w") as file:
        aviris(file, "radiance")
    assert "The file holds radiance, not reflectance." in read(tmp_path / "s.nc").notes


def test_units_of_the_wavelengths_and_bands_on_another_axis(tmp_path):
    with h5py.File(tmp_path / "s.nc", "w") as file:
        aviris(file)
        del file["reflectance/wavelength"], file["reflectance/reflectance"]
        file["reflectance/wavelength"] = NM / 1000
        file["reflectance/wavelength"].attrs["units"] = "micrometers"
        file["reflectance/fwhm"].attrs["units"] = "nm"
        file["reflectance/reflectance"] = CUBE
    scene = read(tmp_path / "s.nc")
    np.testing.assert_array_equal(scene.cube, CUBE)
    np.testing.assert_allclose(scene.wavelengths, NM)
    assert (scene.fwhm == WIDTHS).all() and any("on axis 2" in note for note in scene.notes)


def test_the_options_override_the_file(tmp_path):
    path = write(tmp_path, "neon")
    np.testing.assert_allclose(read(path, scale=2e4).cube, CUBE / 2, atol=6e-5)
    scene = read(path, nodata=int(np.round(CUBE[0, 0, 0] * 1e4)))
    assert not scene.mask[0, 0]


@pytest.mark.parametrize(
    ("wrong", "change", "message"),
    [
        (
            "wavelength",
            lambda held: held.parent.create_dataset("wavelength", data=NM[:3]),
            "3 wavelengths and .* of 8 bands",
        ),
        (
            "wavelength",
            lambda held: held.parent.create_dataset("wavelength", data=NM[:, None]),
            "array of real numbers with 1 axes",
        ),
        (
            "fwhm",
            lambda held: held.parent.create_dataset("fwhm", data=NM[:3]),
            "3 values in 'reflectance/fwhm' for 8 bands",
        ),
        ("", lambda held: held.attrs.__setitem__("scale_factor", "two"), "says scale_factor = two; expected numbers"),
    ],
)
def test_files_that_do_not_fit(tmp_path, wrong, change, message):
    with h5py.File(tmp_path / "s.nc", "w") as file:
        held = aviris(file)
        for name in ("wavelength", "fwhm"):
            if name == wrong:
                del file[f"reflectance/{name}"]
        change(held)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "s.nc")


def test_an_unknown_layout_is_answered_by_the_known_ones(tmp_path):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["other"] = CUBE
    with pytest.raises(InputError) as error:
        read(tmp_path / "s.h5")
    assert all(mission.name in str(error.value) for mission in table.MISSIONS)
