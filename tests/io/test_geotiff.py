"""Reading GeoTIFF: bands, masks, scales, wavelengths from every usual place, and the georeference."""

import shutil
import warnings

import numpy as np
import pytest
import rasterio
import rasterio.warp
from rasterio.enums import ColorInterp

from dequnmix_jax.checks import InputError
from dequnmix_jax.io.envi.header import format_header
from dequnmix_jax.io.formats import read
from dequnmix_jax.io.georaster import envi_fields_of, georeference_from_envi
from dequnmix_jax.scenes.georeference import Georeference

H, W, B = 4, 5, 6
NM = 450.0 + 100 * np.arange(B)
PLACE = {"crs": "EPSG:32632", "transform": rasterio.Affine(30.0, 0.0, 600000.0, 0.0, -30.0, 5300000.0)}


def cube():
    return np.random.default_rng(0).integers(100, 9000, (H, W, B)).astype(np.int16)


def tiff(path, values=None, *, then=None, **profile):
    values = cube() if values is None else values
    shape = {"height": values.shape[0], "width": values.shape[1], "count": values.shape[2], "dtype": values.dtype}
    with rasterio.open(path, "w", driver="GTiff", **(PLACE | shape | profile)) as file:
        file.write(values.transpose(2, 0, 1))
        if then is not None:
            then(file)
    return path


def test_values_and_place(tmp_path):
    found = read(tiff(tmp_path / "s.tif"))
    np.testing.assert_array_equal(found.cube, cube())
    assert found.mask is None and found.wavelengths is None and found.good_bands is None
    assert found.georeference.transform == tuple(PLACE["transform"])[:6]
    assert rasterio.CRS.from_user_input(found.georeference.crs).to_epsg() == 32632
    assert found.envi_fields["map info"].startswith("{UTM, 1, 1, 600000, 5300000, 30, 30, 32, North,WGS-84")
    assert "UTM_Zone_32N" in found.envi_fields["coordinate system string"]


def test_blocks_make_the_same_picture(tmp_path, monkeypatch):
    values = np.random.default_rng(1).normal(size=(70, 33, 3)).astype(np.float32)
    path = tiff(tmp_path / "s.tif", values, tiled=True, blockxsize=16, blockysize=16, compress="deflate")
    monkeypatch.setattr("dequnmix_jax.io.geotiff._BLOCK", 1)
    np.testing.assert_array_equal(read(path).cube, values)


def imagery(file):
    for band in range(1, B + 1):
        file.update_tags(band, ns="IMAGERY", CENTRAL_WAVELENGTH_UM=str(NM[band - 1] / 1000), FWHM_UM="0.01")
        file.set_band_description(band, "700 nm")  # the metadata count for more


def envi_bands(file):
    for band in range(1, B + 1):
        file.update_tags(band, wavelength=str(NM[band - 1]), wavelength_units="Nanometers", bbl=str(int(band != 2)))


def envi_list(file):
    text = ",".join(f"{value / 1000:g}" for value in NM)
    file.update_tags(ns="ENVI", wavelength=f"{{{text}}}", wavelength_units="Micrometers", bbl="{1,0,1,1,1,1}")


def descriptions(file):
    for band in range(1, B + 1):
        file.set_band_description(band, f"band {band} ({NM[band - 1]:.1f} nm)")


def micrometres(file):
    for band in range(1, B + 1):
        file.set_band_description(band, f"{NM[band - 1] / 1000:.6f} Micrometers")


def plain_numbers(file):
    for band in range(1, B + 1):
        file.set_band_description(band, f"{NM[band - 1]:.1f}")


@pytest.mark.parametrize("then", [imagery, envi_bands, envi_list, descriptions, micrometres, plain_numbers])
def test_wavelengths_from_every_place(tmp_path, then):
    found = read(tiff(tmp_path / "s.tif", then=then))
    np.testing.assert_allclose(found.wavelengths, NM, rtol=1e-12)
    if then is imagery:
        np.testing.assert_allclose(found.fwhm, 10.0)
    if then in (envi_bands, envi_list):
        assert found.good_bands.tolist() == [True, False, True, True, True, True]


def test_band_numbers_are_no_wavelengths(tmp_path):
    def then(file):
        for band in range(1, B + 1):
            file.set_band_description(band, str(band))

    assert read(tiff(tmp_path / "s.tif", then=then)).wavelengths is None


def test_scale_and_offset_of_each_band(tmp_path):
    def then(file):
        file.scales = [1e-4] * 5 + [2e-4]
        file.offsets = [0.0] * 5 + [-0.1]

    values = cube()
    values[1, 2, 3] = -9999
    path = tiff(tmp_path / "s.tif", values, then=then, nodata=-9999)
    found = read(path)
    gains, offsets = np.array([1e-4] * 5 + [2e-4]), np.array([0.0] * 5 + [-0.1])
    expected = (values * gains + offsets).astype(np.float32)
    expected[1, 2] = 0
    np.testing.assert_array_equal(found.cube, expected)
    assert any("multiplied by 0.0001 to 0.0002" in note for note in found.notes)
    np.testing.assert_allclose(read(path, scale=1000).cube[0], values[0] / 1000, rtol=1e-6)  # the user is right


def test_nodata_of_the_file_masks(tmp_path):
    values = cube()
    values[1, 2, 3] = -9999
    found = read(tiff(tmp_path / "s.tif", values, nodata=-9999))
    assert not found.valid[1, 2] and found.valid.sum() == H * W - 1 and (found.cube[1, 2] == 0).all()
    assert read(tmp_path / "s.tif", nodata=float(values[0, 0, 0])).valid[1, 2]


def test_nodata_of_each_band_masks(tmp_path):
    values = cube()
    values[0, 0, 0], values[1, 1, 1], values[2, 2, 0] = -1, -2, -2  # -2 means nothing in the first band
    path = tiff(tmp_path / "s.tif", values)
    bands = "".join(
        f'<PAMRasterBand band="{band}"><NoDataValue>{value}</NoDataValue></PAMRasterBand>'
        for band, value in ((1, -1), (2, -2))
    )
    (tmp_path / "s.tif.aux.xml").write_text(f"<PAMDataset>{bands}</PAMDataset>")
    assert np.argwhere(~read(path).valid).tolist() == [[0, 0], [1, 1]]


def test_mask_band_masks(tmp_path):
    def then(file):
        mask = np.ones((H, W), bool)
        mask[3, 1] = False
        file.write_mask(mask)

    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        found = read(tiff(tmp_path / "s.tif", then=then))
    assert np.argwhere(~found.valid).tolist() == [[3, 1]] and found.cube.shape == (H, W, B)


def test_alpha_is_a_mask_and_no_band(tmp_path):
    values = np.random.default_rng(2).integers(1, 200, (H, W, 4)).astype(np.uint8)
    values[:, :, 3] = 255
    values[2, 3, 3] = 0

    def then(file):
        file.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]

    found = read(tiff(tmp_path / "s.tif", values, then=then))
    assert found.cube.shape == (H, W, 3) and np.argwhere(~found.valid).tolist() == [[2, 3]]
    assert any("alpha band" in note for note in found.notes)


def test_ignored_ranges_and_saturation(tmp_path):
    values = cube()
    values[0, 1, 0], values[0, 2, 3] = 10000, 10000  # the second one lies in an ignored band
    found = read(tiff(tmp_path / "s.tif", values, then=descriptions), ignore=[(700, 760), (930, 1e4)], saturation=10000)
    assert found.good_bands.tolist() == [True, True, True, False, True, False]
    assert np.argwhere(~found.valid).tolist() == [[0, 1]]
    with pytest.raises(InputError, match="shorter wavelength first"):
        read(tmp_path / "s.tif", ignore=[(760, 700)])
    tiff(tmp_path / "plain.tif")
    with pytest.raises(InputError, match="has no wavelengths"):
        read(tmp_path / "plain.tif", ignore=[(700, 760)])


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")  # of the writing here
def test_without_a_place(tmp_path):
    path = tiff(tmp_path / "s.tif", crs=None, transform=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read(path)
    assert found.georeference is None and found.envi_fields == {}


def test_an_envi_header_without_a_place_leaves_that_of_the_tiff(tmp_path):
    tiff(tmp_path / "s.tif")
    fields = {"samples": W, "lines": H, "bands": B, "data type": 2, "interleave": "tif", "file type": "TIFF"}
    (tmp_path / "s.hdr").write_text(format_header(fields))
    found = read(tmp_path / "s.tif")
    assert found.georeference.transform[2] == 600000 and "map info" in found.envi_fields


@pytest.mark.parametrize("keep", [0.1, 0.6])
def test_truncated(tmp_path, keep):
    path = tiff(tmp_path / "s.tif", np.random.default_rng(0).normal(size=(50, 50, 4)), compress="deflate")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(InputError, match=r"s\.tif cannot be read as TIFF"):
        read(path)


def test_more_declared_than_a_file_can_hold(tmp_path):
    """A sparse file of a few kilobytes that declares 400 GB is refused before memory is allocated."""
    profile = {"driver": "GTiff", "height": 100_000, "width": 1_000_000, "count": 2, "dtype": "int16"}
    with rasterio.open(tmp_path / "s.tif", "w", SPARSE_OK=True, BIGTIFF="YES", tiled=True,
                       blockxsize=16384, blockysize=16384, **PLACE, **profile):  # fmt: skip
        pass
    with pytest.raises(InputError, match="declares 100000 x 1000000 x 2 values"):
        read(tmp_path / "s.tif")


def test_what_is_no_spectral_picture(tmp_path):
    path = tiff(tmp_path / "c.tif", np.ones((H, W, 2), np.complex64))
    with pytest.raises(InputError, match="complex64; expected real numbers"):
        read(path)
    with pytest.raises(InputError, match="variable, shape and order do not apply"):
        read(path, variable="Y")


def test_without_rasterio_the_extra_is_named(tmp_path, monkeypatch):
    path = tiff(tmp_path / "s.tif")
    monkeypatch.setitem(__import__("sys").modules, "rasterio", None)
    with pytest.raises(InputError, match=r"pip install 'dequnmix-jax\[geo\]'"):
        read(path)


# --- Georeferencing fields of ENVI and coordinate reference systems -------------------------------------------------


@pytest.mark.parametrize("epsg", [32632, 32733, 4326, 3035])
def test_a_place_survives_envi(epsg):
    step = 0.0005 if epsg == 4326 else 30.0
    georeference = Georeference(f"EPSG:{epsg}", (step, 0.0, 11.25, 0.0, -step, 48.5))
    found = georeference_from_envi(envi_fields_of(georeference))
    np.testing.assert_allclose(found.transform, georeference.transform, rtol=1e-12)
    one, two = (rasterio.CRS.from_user_input(place.crs) for place in (georeference, found))
    x, y = (11.25, 48.5) if epsg == 4326 else (500000.0, 5200000.0)
    there, back = (rasterio.warp.transform(crs, "EPSG:4326", [x], [y]) for crs in (one, two))
    np.testing.assert_allclose(there, back, rtol=1e-9)


def test_fields_that_describe_no_place():
    assert georeference_from_envi({}) is None and georeference_from_envi({"map info": "{nonsense}"}) is None
    with pytest.raises(InputError, match="coordinate system 'EPSG:999999' is unknown"):
        envi_fields_of(Georeference("EPSG:999999", (1.0, 0.0, 0.0, 0.0, -1.0, 0.0)))


@pytest.mark.parametrize("name", ["all_targets", "full"])
def test_real_hysu_tiff_without_its_header(data_dir, tmp_path, name):
    """The TIFF of HySU has values and georeference; its header adds wavelengths, scale and nodata."""
    path = data_dir / "raw" / "hysu" / "HySpex" / name / f"DLR_HySU_HS_{name}.tif"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    shutil.copyfile(path, tmp_path / "alone.tif")
    alone, whole = read(tmp_path / "alone.tif", scale=10000, nodata=15000), read(path)
    np.testing.assert_array_equal(alone.cube, whole.cube)
    assert alone.georeference.transform == whole.georeference.transform
    np.testing.assert_allclose(georeference_from_envi(whole.envi_fields).transform, alone.georeference.transform)
