"""Scenes as data sets of xarray, in memory and in NetCDF: there and back, and files of other programs."""

import warnings

import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.checks import InputError
from dequnmix_jax.io import xarrays
from dequnmix_jax.io.formats import open_source, open_xarray, read
from dequnmix_jax.io.scene_writer import write_scene
from dequnmix_jax.scenes.georeference import Georeference
from dequnmix_jax.scenes.scene import Scene
from dequnmix_jax.scenes.source import Window

xarray = pytest.importorskip("xarray")
rioxarray = pytest.importorskip("rioxarray")
rasterio = pytest.importorskip("rasterio")

H, W, B = 6, 7, 5
NM = 450.0 + 100 * np.arange(B)
PLACE = (30.0, 0.0, 600000.0, 0.0, -20.0, 5300000.0)
UTM = "EPSG:32632"


def scene(**fields):
    cube = np.random.default_rng(0).uniform(0.1, 0.9, (H, W, B)).astype(np.float32)
    mask = np.ones((H, W), bool)
    mask[1, 2] = mask[4, 6] = False
    cube[~mask] = 0
    whole = {
        "cube": cube,
        "mask": mask,
        "wavelengths": NM,
        "fwhm": np.linspace(5, 6.1, B),
        "good_bands": np.array([1, 1, 0, 1, 1], bool),
        "name": "plot",
        "georeference": Georeference(UTM, PLACE),
    }
    return Scene(**(whole | fields))


def same(found, made):
    np.testing.assert_array_equal(found.cube, made.cube)
    np.testing.assert_array_equal(found.valid, made.valid)
    for name in ("wavelengths", "fwhm", "good_bands"):
        np.testing.assert_array_equal(getattr(found, name), getattr(made, name))
    if made.georeference is None:
        assert found.georeference is None
    else:
        assert found.georeference.transform == made.georeference.transform
        assert (found.crs is None) == (made.crs is None)
        assert made.crs is None or rasterio.CRS.from_user_input(found.crs) == rasterio.CRS.from_user_input(made.crs)


def test_a_scene_goes_there_and_back(tmp_path):
    made = scene()
    data = dq.to_xarray(made)
    assert data.reflectance.dims == ("y", "x", "band") and data.wavelength.attrs["units"] == "nm"
    assert data.rio.crs.to_epsg() == 32632 and tuple(data.rio.transform())[:6] == PLACE
    assert data.x.attrs["standard_name"] == "projection_x_coordinate" and data.x.attrs["units"] == "metre"
    assert np.isnan(data.reflectance.values[1, 2]).all() and not np.isnan(data.reflectance.values[0]).any()
    band = data.reflectance.sel(wavelength=560, method="nearest")
    np.testing.assert_array_equal(band.values[0], made.cube[0, :, 1])
    same(read(data), made)
    same(read(data.reflectance), made)
    assert read(data).name == "plot"
    same(read(data * 1), made)  # arithmetic drops attributes and encoding, and leaves NaN
    data.to_netcdf(tmp_path / "own.nc", engine="h5netcdf")
    same(read(tmp_path / "own.nc"), made)
    same(dq.read(dq.open_xarray(tmp_path / "own.nc")), made)


@pytest.mark.parametrize("transform", [PLACE, (20.0, 5.0, 600000.0, 5.0, -20.0, 5300000.0)])
@pytest.mark.parametrize("crs", [UTM, "EPSG:4326", ""])
def test_any_place(tmp_path, transform, crs):
    made = scene(georeference=Georeference(crs, transform), mask=None)
    same(read(dq.to_xarray(made)), made)
    for name in ("s.nc", "s.zarr"):
        write_scene(tmp_path / name, made)
        same(read(tmp_path / name), made)


def test_a_part_lies_where_its_coordinates_say(tmp_path):
    part = dq.to_xarray(scene()).isel(y=slice(2, 5), x=slice(3, 7))
    expected = (30.0, 0.0, 600090.0, 0.0, -20.0, 5299960.0)
    assert read(part).georeference.transform == expected
    part.to_netcdf(tmp_path / "part.nc", engine="h5netcdf")
    assert read(tmp_path / "part.nc").georeference.transform == expected
    assert tuple(open_xarray(tmp_path / "part.nc").rio.transform())[:6] == expected


def test_other_programs_read_the_netcdf_file(tmp_path):
    made = scene()
    write_scene(tmp_path / "s.nc", made)
    with xarray.open_dataset(tmp_path / "s.nc", engine="h5netcdf", decode_coords="all") as data:
        assert np.isnan(data.reflectance.values).sum() == 2 * B
        assert data.rio.crs.to_epsg() == 32632 and tuple(data.rio.transform())[:6] == PLACE
        assert data.attrs["Conventions"].startswith("CF-") and data.attrs["title"] == "plot"
        assert data.spatial_ref.attrs["grid_mapping_name"] == "transverse_mercator"
        np.testing.assert_array_equal(data.wavelength.values, NM)
        assert data.reflectance.encoding["zlib"]


def test_windows_are_read_from_the_file(tmp_path):
    write_scene(tmp_path / "s.nc", scene())
    source = open_source(tmp_path / "s.nc")
    assert source.lazy and source.name == "s"
    values, mask = source.read(Window(slice(1, 4), slice(2, 6)))
    np.testing.assert_array_equal(values, scene().cube[1:4, 2:6])
    np.testing.assert_array_equal(mask, scene().valid[1:4, 2:6])


def foreign(path, engine="h5netcdf", **attributes):
    """Write a file as a product would: integers, bands first, micrometres, a grid mapping of any name without WKT."""
    values = np.round(scene().cube.transpose(2, 0, 1) * 10000).astype(np.int16)
    values[:, 1, 2] = -999
    values[:, 4, 6] = 7777
    mapping = rasterio.CRS.from_user_input(UTM)
    from pyproj import CRS

    cf = {name: value for name, value in CRS.from_wkt(mapping.to_wkt()).to_cf().items() if name != "crs_wkt"}
    own = {"grid_mapping": "utm", "_FillValue": np.int16(-999), "scale_factor": 1e-4, "add_offset": 0.01} | attributes
    data = xarray.Dataset(
        {"sr": (("bands", "y", "x"), values, own), "utm": ((), np.int32(0), cf)},
        {
            "wavelength": ("bands", NM / 1000, {"units": "um"}),
            "y": ("y", 5299990 - 20.0 * np.arange(H)),
            "x": ("x", 600015 + 30.0 * np.arange(W)),
        },
    )
    form = {"format": "NETCDF3_CLASSIC"} if engine == "scipy" else {}
    data.to_netcdf(path, engine=engine, **form)
    return path


@pytest.mark.parametrize("engine", ["h5netcdf", "scipy"])
def test_a_grid_mapping_without_wkt(tmp_path, engine):
    path = foreign(tmp_path / "f.nc", engine)
    found = read(path)
    np.testing.assert_allclose(found.cube[0], np.round(scene().cube[0] * 10000) * 1e-4 + 0.01, rtol=1e-6)
    assert np.argwhere(~found.valid).tolist() == [[1, 2]]
    np.testing.assert_allclose(found.wavelengths, NM)
    assert found.georeference.transform == PLACE
    assert rasterio.CRS.from_user_input(found.crs).to_dict() == rasterio.CRS.from_user_input(UTM).to_dict()
    raw = read(path, scale=10000, nodata=7777)  # options override the attributes
    np.testing.assert_allclose(raw.cube[0], np.round(scene().cube[0] * 10000) / 10000, rtol=1e-6)
    assert np.argwhere(~raw.valid).tolist() == [[4, 6]]
    with xarray.open_dataset(path, engine=engine, decode_coords="all") as data:  # decoded by xarray: the same scene
        again = read(data.load())
    np.testing.assert_allclose(again.cube, found.cube, rtol=1e-6)
    np.testing.assert_array_equal(again.valid, found.valid)
    assert again.georeference.transform == PLACE


def test_without_pyproj_the_missing_crs_is_said(tmp_path, monkeypatch):
    path = foreign(tmp_path / "f.nc")
    with xarray.open_dataset(path, engine="h5netcdf", decode_coords="all") as data:
        held = data.load()
    monkeypatch.setitem(__import__("sys").modules, "pyproj", None)
    xarrays._crs_of.cache_clear()
    found = read(held)
    xarrays._crs_of.cache_clear()
    assert found.georeference is None
    assert any("transverse_mercator comes without WKT" in note and "[xarray]" in note for note in found.notes)


def test_degrees_without_a_grid_mapping(tmp_path):
    data = xarray.Dataset(
        {"sr": (("lat", "lon", "band"), scene().cube)},
        {
            "lat": ("lat", 50 - 0.5 * np.arange(H), {"units": "degrees_north"}),
            "lon": ("lon", 8 + 0.5 * np.arange(W), {"units": "degrees_east"}),
        },
    )
    found = read(data)
    assert found.crs == "EPSG:4326" and found.georeference.transform == (0.5, 0.0, 7.75, 0.0, -0.5, 50.25)
    assert any("WGS 84 was taken" in note for note in found.notes)


def test_one_of_several_cubes_is_named(tmp_path):
    data = dq.to_xarray(scene())
    data["uncertainty"] = data["reflectance"] * 0.5
    data.to_netcdf(tmp_path / "two.nc", engine="h5netcdf")
    with pytest.raises(InputError, match="holds reflectance, uncertainty; expected one cube"):
        read(tmp_path / "two.nc")
    same(read(tmp_path / "two.nc", variable="reflectance"), scene())


@pytest.mark.parametrize("engine", ["h5netcdf", "scipy"])
def test_damage_is_one_sentence(tmp_path, engine):
    whole = foreign(tmp_path / "f.nc", engine).read_bytes()
    path = tmp_path / "cut.nc"
    rng = np.random.default_rng(0)
    refused = 0
    for case in range(40):
        data = bytearray(whole[: int(rng.integers(1, len(whole)))] if case % 2 else whole)
        for place in rng.integers(0, min(len(data), 4000), 4):
            data[place] = int(rng.integers(256))
        path.write_bytes(data)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                assert read(path).cube.size
        except InputError as error:
            refused += 1
            assert "\n" not in str(error) and str(path) in str(error)
    assert refused >= 20


def test_values_of_other_files_are_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    write_scene(tmp_path / "s.nc", scene())
    with h5py.File(tmp_path / "s.nc", "a") as file:
        file["more"] = h5py.ExternalLink("secret.h5", "/x")
    for call in (read, dq.read_result):
        with pytest.raises(InputError, match="links to another file"):
            call(tmp_path / "s.nc")


def test_axes_of_another_size_are_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "s.nc", "w") as file:
        file["r"] = scene().cube
        for place, (name, size) in enumerate((("y", W), ("x", H), ("band", B))):
            file[name] = np.arange(size)
            file[name].make_scale(name)
            file["r"].dims[place].attach_scale(file[name])
    with pytest.raises(InputError, match=f"holds {H} values of '/r' along an axis of {W}"):
        read(tmp_path / "s.nc")


def test_more_declared_than_the_file_can_hold(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "s.nc", "w") as file:
        file.attrs["Conventions"] = "CF-1.8"
        file.create_dataset("r", (10**5, 10**5, 5), "f4", chunks=(64, 64, 5))
    with pytest.raises(InputError, match="declares 100000 x 100000 x 5 values"):
        read(tmp_path / "s.nc")


def test_without_xarray_the_extra_is_named(tmp_path, monkeypatch):
    path = foreign(tmp_path / "f.nc")
    monkeypatch.setitem(__import__("sys").modules, "xarray", None)
    for call in (
        lambda: read(path),
        lambda: open_xarray(path),
        lambda: xarrays.scene_dataset(scene()),
        lambda: dq.to_xarray(scene()),
        lambda: write_scene(tmp_path / "s.nc", scene()),
        lambda: write_scene(tmp_path / "s.zarr", scene()),
    ):
        with pytest.raises(InputError, match=r"pip install 'dequnmix-jax\[xarray\]'"):
            call()
    assert [entry.name for entry in tmp_path.iterdir()] == ["f.nc"]
