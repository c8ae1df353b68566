"""Zarr stores of both formats, and arrays of any library in memory."""

import base64
import json
import shutil
import struct

import jax.numpy as jnp
import numpy as np
import pytest
import zarr

from dequnmix_jax.checks import InputError
from dequnmix_jax.io.formats import read

H, W, B = 4, 5, 6
NM = 450.0 + 100 * np.arange(B)


def cube():
    return np.random.default_rng(0).uniform(0.1, 0.9, (H, W, B)).astype(np.float32)


# --- Zarr ------------------------------------------------------------------------------------------------------------


def add(group, version, name, values, dims, fill=None, **attributes):
    named = {"dimension_names": dims} if version == 3 else {}
    chunks = tuple(max(n, 1) for n in values.shape)  # zarr 3.4 refuses a length of zero
    array = group.create_array(name, shape=values.shape, dtype=values.dtype, chunks=chunks, fill_value=fill, **named)
    array[...] = values
    array.attrs.update(attributes | ({} if version == 3 else {"_ARRAY_DIMENSIONS": list(dims)}))


def store(path, version, *, fill=None, **attributes):
    """Write a group as xarray does: bands first, wavelengths in micrometres, coordinates of a UTM zone."""
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    values = cube().transpose(2, 0, 1).copy()
    values[2, 1, 3] = -9999
    add(group, version, "reflectance", values, ("wavelength", "y", "x"), fill, **attributes)
    add(group, version, "wavelength", NM / 1000, ("wavelength",), units="um")
    add(group, version, "fwhm", np.full(B, 0.01), ("wavelength",))
    add(group, version, "good_wavelengths", np.array([1, 1, 0, 1, 1, 1]), ("wavelength",))
    add(group, version, "y", 4999985.0 - 30 * np.arange(H), ("y",))
    add(group, version, "x", 500015.0 + 30 * np.arange(W), ("x",))
    add(group, version, "spatial_ref", np.array([0]), ("one",), crs_wkt="EPSG:32632")
    return path


@pytest.mark.parametrize("version", [2, 3])
def test_a_group_as_xarray_writes_it(tmp_path, version):
    found = read(store(tmp_path / "s.zarr", version, _FillValue=-9999.0))
    np.testing.assert_array_equal(found.cube[0], cube()[0])
    assert found.mask is None  # the missing value lies in a bad band
    np.testing.assert_allclose(found.wavelengths, NM)
    np.testing.assert_allclose(found.fwhm, 10.0)
    assert found.good_bands.tolist() == [True, True, False, True, True, True]
    assert found.georeference.transform == (30.0, 0.0, 500000.0, 0.0, -30.0, 5000000.0)
    assert found.envi_fields["map info"].startswith("{UTM, 1, 1, 500000, 5000000, 30, 30, 32, North")
    assert found.name == "s"


@pytest.mark.parametrize("how", ["attribute", "base64", "format 2"])
def test_fill_values(tmp_path, how):
    path, version = tmp_path / "s.zarr", 2 if how == "format 2" else 3
    fill = {"attribute": -9999.0, "base64": base64.b64encode(struct.pack("<d", -9999.0)).decode()}.get(how)
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    values = cube()
    values[1, 3] = -9999
    attributes = {} if fill is None else {"_FillValue": fill}
    add(group, version, "r", values, ("y", "x", "band"), -9999.0 if how == "format 2" else 0.0, **attributes)
    assert np.argwhere(~read(path).valid).tolist() == [[1, 3]]


def test_a_fill_value_of_zero_is_only_the_default_of_zarr(tmp_path):
    group = zarr.open_group(str(tmp_path / "s.zarr"), mode="w", zarr_format=2)
    values = cube()
    values[1, 3, 0] = 0
    add(group, 2, "r", values, ("y", "x", "band"), 0.0)
    assert read(tmp_path / "s.zarr").valid.all()


@pytest.mark.parametrize("version", [2, 3])
def test_a_bare_array(tmp_path, version):
    array = zarr.create_array(
        str(tmp_path / "a.zarr"), shape=(H, W, B), dtype="int16", chunks=(2, 2, B), zarr_format=version
    )
    values = (cube() * 10000).astype(np.int16)
    array[...] = values
    found = read(tmp_path / "a.zarr", scale=10000)
    np.testing.assert_allclose(found.cube, cube(), atol=1e-4)
    assert found.wavelengths is None and found.mask is None
    with pytest.raises(InputError, match="holds one array"):
        read(tmp_path / "a.zarr", variable="r")


def test_scale_and_offset_of_the_attributes(tmp_path):
    group = zarr.open_group(str(tmp_path / "s.zarr"), mode="w")
    values = (cube() * 1000).astype(np.int16)
    add(group, 3, "r", values, ("y", "x", "band"), scale_factor=1e-3, add_offset=-0.05)
    np.testing.assert_allclose(read(tmp_path / "s.zarr").cube, values * 1e-3 - 0.05, rtol=1e-6)
    np.testing.assert_allclose(read(tmp_path / "s.zarr", scale=1000).cube, values / 1000, rtol=1e-6)


def test_which_cube(tmp_path):
    group = zarr.open_group(str(tmp_path / "s.zarr"), mode="w")
    for name in ("a", "b"):
        add(group, 3, name, cube(), ("y", "x", "band"))
    with pytest.raises(InputError, match=r"holds [ab] \(4, 5, 6\), [ab] \(4, 5, 6\); expected one cube"):
        read(tmp_path / "s.zarr")
    np.testing.assert_array_equal(read(tmp_path / "s.zarr", variable="b").cube, cube())


def test_damage(tmp_path):
    path = store(tmp_path / "s.zarr", 3)
    chunk = next(file for file in (path / "reflectance" / "c").rglob("*") if file.is_file())
    chunk.write_bytes(chunk.read_bytes()[:20])
    with pytest.raises(InputError, match=r"s\.zarr cannot be read as Zarr"):
        read(path)
    shutil.rmtree(path / "reflectance" / "c")
    assert "1 of 1 chunks of reflectance are not stored; they hold the fill value." in read(path).notes
    text = json.loads((path / "reflectance" / "zarr.json").read_text()) | {"shape": "nonsense"}
    (path / "reflectance" / "zarr.json").write_text(json.dumps(text))
    with pytest.raises(InputError, match=r"s\.zarr cannot be read as Zarr"):
        read(path)


def test_more_declared_than_a_store_can_hold(tmp_path):
    zarr.create_array(str(tmp_path / "a.zarr"), shape=(10**6, 10**4, B), dtype="f4", chunks=(64, 64, B))
    with pytest.raises(InputError, match="declares 1000000 x 10000 x 6 values"):
        read(tmp_path / "a.zarr")


def test_without_zarr_the_extra_is_named(tmp_path, monkeypatch):
    path = store(tmp_path / "s.zarr", 3)
    monkeypatch.setitem(__import__("sys").modules, "zarr", None)
    with pytest.raises(InputError, match=r"pip install 'dequnmix-jax\[zarr\]'"):
        read(path)


# --- memory ----------------------------------------------------------------------------------------------------------


class Named:
    """The interface of an xarray DataArray that the reader uses."""

    def __init__(self, values, dims, coords=None, attrs=None, encoding=None, name=None):
        self.values, self.dims, self.coords = np.asarray(values), dims, coords or {}
        self.attrs, self.encoding, self.name = attrs or {}, encoding or {}, name
        self.shape, self.dtype, self.ndim = self.values.shape, self.values.dtype, self.values.ndim

    def __getitem__(self, key):
        return Named(self.values[key], self.dims)

    def __array__(self, dtype=None, copy=None):
        return self.values if dtype is None else self.values.astype(dtype)


def data_array(**changes):
    coords = {
        "band": Named(np.arange(1, B + 1), ("band",)),
        "wavelength": Named(NM, ("band",), attrs={"units": "nanometers"}),
        "spatial_ref": Named(0, (), attrs={"crs_wkt": "EPSG:32632", "GeoTransform": "500000 30 0 5000000 0 -30"}),
    }
    given = {"values": cube().transpose(2, 0, 1), "dims": ("band", "y", "x"), "coords": coords, "name": "plot"}
    return Named(**(given | changes))


def test_a_data_array():
    found = read(data_array())
    np.testing.assert_array_equal(found.cube, cube())
    np.testing.assert_allclose(found.wavelengths, NM)
    assert found.georeference.transform == (30.0, 0.0, 500000.0, 0.0, -30.0, 5000000.0)
    assert found.name == "plot" and found.source is None


def test_band_numbers_are_no_wavelengths():
    assert read(data_array(coords={"band": Named(np.arange(1, B + 1), ("band",))})).wavelengths is None


def test_axes_by_name():
    for dims, axes in (
        (("x", "band", "y"), (1, 2, 0)),
        (("lat", "lon", "other"), (0, 1, 2)),
        (("wavelength", "downtrack", "crosstrack"), (2, 0, 1)),
    ):
        np.testing.assert_array_equal(read(Named(cube().transpose(axes), dims)).cube, cube())
    time = Named(cube()[None], ("time", "y", "x", "band"))
    np.testing.assert_array_equal(read(time).cube, cube())
    with pytest.raises(InputError, match=r"axes time \(2\), y \(4\), x \(5\), band \(6\)"):
        read(Named(np.stack([cube(), cube()]), ("time", "y", "x", "band")))
    with pytest.raises(InputError, match="expected rows, columns and bands"):
        read(Named(cube(), ("a", "b", "c")))


def test_decoded_fill_values_are_nan():
    values = cube()
    values[1, 3, 2] = np.nan
    found = read(Named(values, ("y", "x", "band"), encoding={"_FillValue": -9999.0}))
    assert np.argwhere(~found.valid).tolist() == [[1, 3]] and np.isfinite(found.cube).all()


def test_ignored_ranges_of_a_data_array():
    found = read(data_array(), ignore=[(640, 760)], saturation=float(cube()[0, 0, 0]) + 10)
    assert found.good_bands.tolist() == [True, True, False, False, True, True]


class DataSet(dict):
    """The interface of an xarray Dataset that the reader uses."""

    data_vars = property(lambda self: self)


def test_a_data_set():
    one = DataSet(reflectance=data_array(), quality=Named(np.ones((H, W)), ("y", "x")))
    np.testing.assert_array_equal(read(one).cube, cube())
    two = DataSet(a=data_array(), b=data_array())
    with pytest.raises(InputError, match="holds a, b; expected one cube"):
        read(two)
    np.testing.assert_array_equal(read(two, variable="b").cube, cube())


def test_real_xarray():
    xarray = pytest.importorskip("xarray")
    held = xarray.DataArray(
        cube().transpose(2, 0, 1), dims=("band", "y", "x"), coords={"wavelength": ("band", NM, {"units": "nm"})}
    )
    np.testing.assert_array_equal(read(held).cube, cube())
    np.testing.assert_allclose(read(held.to_dataset(name="r")).wavelengths, NM)


class Sliced:
    """Has a shape and can be sliced once."""

    def __init__(self, values):
        self.values, self.shape = values, values.shape

    def __getitem__(self, key):
        assert key == (slice(None),) * 3
        return self.values


@pytest.mark.parametrize("held", [np.asarray, jnp.asarray, memoryview, Sliced])
def test_plain_arrays(held):
    np.testing.assert_array_equal(read(held(cube())).cube, cube())


def test_what_is_no_array():
    with pytest.raises(InputError, match="dict is neither a path nor an array"):
        read({})
    with pytest.raises(InputError, match=r"has shape \(4, 5\); expected \(rows, columns, bands\)"):
        read(cube()[:, :, 0])
    with pytest.raises(InputError, match="data type complex64"):
        read(cube().astype(np.complex64))
    with pytest.raises(InputError, match="shape and order do not apply"):
        read(cube(), shape=(2, 10))
