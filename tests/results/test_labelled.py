"""Results as data sets of xarray, and in one NetCDF file: nothing is lost, and other programs read it."""

import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.checks import InputError
from dequnmix_jax.equilibrium.config import Analytic
from dequnmix_jax.io.formats import read, read_truth
from dequnmix_jax.scenes.georeference import Georeference
from dequnmix_jax.types import Estimate
from tests.io.test_xarrays import PLACE, UTM, B, H, W, scene

xarray = pytest.importorskip("xarray")
pytest.importorskip("rioxarray")
h5py = pytest.importorskip("h5py")

R = 3
NAMES = ("soil, dry", "tree", "röof")
MAPS = ("abundances", "brightness", "state", "residual", "convergence")


def estimate(bands=B - 1):
    rng = np.random.default_rng(1)
    abundances = rng.dirichlet(np.ones(R), (H, W)).astype(np.float32)
    abundances[~scene().valid] = 0
    light = np.where(scene().valid, rng.uniform(0.9, 1.1, (H, W)), 0).astype(np.float32)
    return Estimate(abundances, rng.uniform(0.1, 1, (R, bands)).astype(np.float32), light, abundances * 2)


def unmixed(**fields):
    return scene(**fields).with_good_bands()


def result(tmp_path, **fields):
    change = np.where(scene().valid, np.float32(1e-5), np.float32(0))
    dq.write(tmp_path / "out", estimate(), unmixed(**fields), names=NAMES, convergence=change)
    return dq.read_result(tmp_path / "out")


def test_a_result_goes_there_and_back(tmp_path):
    made = result(tmp_path)
    assert made.georeference.transform == PLACE
    data = dq.to_xarray(made)
    assert data.abundances.dims == ("y", "x", "endmember") and data.endmembers.dims == ("endmember", "band")
    assert data.endmember.values.tolist() == list(NAMES)
    assert data.rio.crs.to_epsg() == 32632 and tuple(data.rio.transform())[:6] == PLACE
    assert np.isnan(data.abundances.values[1, 2]).all()
    np.testing.assert_array_equal(data.abundances.sel(endmember="tree").values[0], made.abundances[0, :, 1])
    data.to_netcdf(tmp_path / "r.nc", engine="h5netcdf")
    found = dq.read_result(tmp_path / "r.nc")
    for name in (*MAPS, "endmembers", "mask", "wavelengths_nm", "fwhm_nm", "composite"):
        one, other = getattr(made, name), getattr(found, name)
        np.testing.assert_array_equal(other, one)
        assert other.dtype == one.dtype, name
    assert (found.names, found.convention, found.composite_bands) == (NAMES, made.convention, made.composite_bands)
    assert found.summary == made.summary and found.georeference.transform == PLACE
    np.testing.assert_array_equal(read_truth(tmp_path / "r.nc").abundances, made.abundances)
    maps = read(tmp_path / "r.nc", variable="abundances")
    np.testing.assert_array_equal(maps.valid, scene().valid)
    part = data.isel(y=slice(2, 5))
    part.to_netcdf(tmp_path / "part.nc", engine="h5netcdf")
    found = dq.read_result(tmp_path / "part.nc")
    assert found.georeference.transform == (30.0, 0.0, 600000.0, 0.0, -20.0, 5299960.0)
    np.testing.assert_array_equal(found.abundances, made.abundances[2:5])


def test_the_written_file_is_read_by_others(tmp_path):
    dq.write(tmp_path / "r.nc", estimate(), unmixed(), names=NAMES)
    with xarray.open_dataset(tmp_path / "r.nc", engine="h5netcdf", decode_coords="all") as data:
        assert data.rio.crs.to_epsg() == 32632 and tuple(data.rio.transform())[:6] == PLACE
        np.testing.assert_array_equal(data.abundances.values[0], estimate().abundances[0])
        assert np.isnan(data.brightness.values[~scene().valid]).all() and np.isnan(data.abundances.rio.nodata)
        assert data.wavelength.attrs["units"] == "nm"
        assert data.abundances.attrs["comment"].startswith("Share of each endmember")
    with h5py.File(tmp_path / "r.nc") as file:  # without a library that knows CF
        assert file["abundances"].attrs["grid_mapping"] in ("spatial_ref", b"spatial_ref")


def test_an_estimate_takes_coordinates_from_what_was_unmixed():
    array = dq.to_xarray(unmixed()).reflectance
    data = dq.to_xarray(estimate(), array)
    assert data.rio.crs.to_epsg() == 32632
    np.testing.assert_array_equal(data.x.values, array.x.values)
    np.testing.assert_array_equal(data.wavelength.values, array.wavelength.values)
    with pytest.raises(InputError, match=r"expected its scene as well: to_xarray\(estimate, scene\)"):
        dq.to_xarray(estimate())
    with pytest.raises(InputError, match="to_xarray got ndarray; expected a Scene, a Result or an Estimate"):
        dq.to_xarray(np.ones(3))


def test_a_swath_is_rectified(tmp_path):
    lookup = np.stack(np.meshgrid(np.arange(H), np.arange(W), indexing="ij"), axis=2)[:, ::-1].transpose(1, 0, 2).copy()
    lookup[0, 0] = -1
    made = result(tmp_path, georeference=Georeference("EPSG:4326", (0.5, 0, 10, 0, -0.5, 31), lookup))
    np.testing.assert_array_equal(made.georeference.lookup, lookup)
    data = dq.to_xarray(made)
    seen = (lookup[..., 0] >= 0) & scene().valid[lookup[..., 0], lookup[..., 1]]
    np.testing.assert_array_equal(data.valid.values == 1, seen)
    expected = made.abundances[lookup[..., 0], lookup[..., 1]][seen]
    np.testing.assert_array_equal(data.abundances.values[seen], expected)
    assert np.isnan(data.abundances.values[~seen]).all() and data.rio.crs.to_epsg() == 4326


def test_a_data_set_in_is_a_data_set_out():
    import jax

    data = dq.to_xarray(scene(georeference=Georeference(UTM, PLACE)))
    training = dq.Training(epochs=1)
    maps = dq.run(data, 3, jax.random.key(0), training=training, config=dq.Model(gradient=Analytic()))
    assert isinstance(maps, xarray.Dataset) and maps.abundances.dims == ("y", "x", "endmember")
    assert maps.rio.crs.to_epsg() == 32632 and tuple(maps.rio.transform())[:6] == PLACE
    assert maps.wavelength.attrs["units"] == "nm" and maps.abundances.shape == (H, W, 3)
    np.testing.assert_array_equal(maps.x.values, data.x.values)
    assert np.isnan(maps.brightness.values[1, 2])
    assert dq.to_xarray(maps) is maps
    found = dq.read_result(maps)
    np.testing.assert_array_equal(found.abundances, np.nan_to_num(maps.abundances.values))
    assert found.summary["history"] is not None and found.georeference.transform == PLACE
    with pytest.raises(InputError, match="The data set holds brightness; expected the result of an unmixing"):
        dq.read_result(maps[["brightness"]])


def test_an_equilibrium_of_a_data_array_has_its_coordinates():
    import jax

    given = scene(georeference=Georeference(UTM, PLACE))
    array = dq.to_xarray(given).reflectance
    used = given.with_good_bands()
    config = dq.Model(gradient=Analytic())
    params = dq.init(jax.random.key(0), used.cube, config, endmembers=used.cube[0, :3] + 0.1)
    maps, trace = dq.unmix(params, array, config)
    other, _ = dq.unmix(params, used.cube, config, mask=used.valid)
    assert maps.rio.crs.to_epsg() == 32632 and trace.converged
    np.testing.assert_array_equal(maps.y.values, array.y.values)
    np.testing.assert_array_equal(np.nan_to_num(maps.abundances.values), other.abundances)
    mask = used.valid.copy()
    mask[3] = False
    assert np.isnan(dq.unmix(params, array, config, mask=mask)[0].abundances.values[3]).all()
    with pytest.raises(InputError, match=r"mask has shape \(2,\) and type bool; expected"):
        dq.unmix(params, array, config, mask=mask[0, :2])


def test_known_spectra_of_a_data_array_give_a_data_set():
    array = dq.to_xarray(scene(georeference=Georeference(UTM, PLACE))).reflectance
    used = scene().with_good_bands()
    maps = dq.unmix_with(array, used.cube[0, :3] + 0.1)
    assert isinstance(maps, xarray.Dataset) and maps.abundances.sizes["endmember"] == 3
    assert maps.rio.crs.to_epsg() == 32632


@pytest.mark.parametrize("damage", ["abundances", "summary", "no json"])
def test_what_is_no_result(tmp_path, damage):
    dq.write(tmp_path / "r.nc", estimate(), unmixed())
    with h5py.File(tmp_path / "r.nc", "a") as file:
        if damage == "no json":
            file.attrs["summary"] = "{"
        elif damage == "summary":
            del file.attrs["summary"]
        else:
            del file["abundances"]
    words = {"no json": "is not JSON"}.get(damage, "expected the result of an unmixing")
    with pytest.raises(InputError, match=words):
        dq.read_result(tmp_path / "r.nc")
