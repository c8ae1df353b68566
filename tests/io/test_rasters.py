"""Rasters of GDAL besides GeoTIFF, and TIFF files beside an ESRI header, against rasterio's own writing."""

import numpy as np
import pytest

from dequnmix_jax.checks import InputError
from dequnmix_jax.io import formats
from dequnmix_jax.io.formats import open_source, read
from dequnmix_jax.scenes.source import Window

rasterio = pytest.importorskip("rasterio")
shutil = pytest.importorskip("rasterio.shutil")

HEIGHT, WIDTH, BANDS = 20, 18, 5
STORED = np.random.default_rng(1).integers(0, 10000, (HEIGHT, WIDTH, BANDS)).astype(np.int16)
NM = np.linspace(450, 900, BANDS)
PLACE = {"crs": "EPSG:32632", "transform": rasterio.Affine(30, 0, 500000, 0, -30, 5000000)}
ESRI = (
    f"BYTEORDER      I\nLAYOUT         BIL\nNROWS          {HEIGHT}\nNCOLS          {WIDTH}\nNBANDS         {BANDS}\n"
    "NBITS          16\nPIXELTYPE      SIGNEDINT\nULXMAP         500015\nULYMAP         4999985\nXDIM 30\nYDIM 30\n"
)


def tiff(path, stored=STORED):
    profile = {"driver": "GTiff", "height": HEIGHT, "width": WIDTH, "count": stored.shape[2], "dtype": "int16"}
    with rasterio.open(path, "w", **profile, **PLACE) as file:
        file.write(stored.transpose(2, 0, 1))
    return path


def virtual(folder, *, source="s.tif", relative=1, extra="", outside=""):
    bands = "".join(
        f'<VRTRasterBand dataType="Int16" band="{i + 1}"><Description>{w:.1f} nm</Description>{extra}<SimpleSource>'
        f'<SourceFilename relativeToVRT="{relative}">{source}</SourceFilename><SourceBand>{i + 1}</SourceBand>'
        "</SimpleSource></VRTRasterBand>"
        for i, w in enumerate(NM)
    )
    path = folder / "s.vrt"
    path.write_text(f'<VRTDataset rasterXSize="{WIDTH}" rasterYSize="{HEIGHT}">{outside}{bands}</VRTDataset>')
    return path


def test_a_virtual_raster_with_its_wavelengths_scale_and_nodata(tmp_path):
    tiff(tmp_path / "s.tif")
    missing = int(STORED[3, 4, 0])
    extra = f"<NoDataValue>{missing}</NoDataValue><Offset>0.5</Offset><Scale>0.0001</Scale>"
    place = "<SRS>EPSG:32632</SRS><GeoTransform>500000, 30, 0, 5000000, 0, -30</GeoTransform>"
    path = virtual(tmp_path, extra=extra, outside=place)
    scene = read(path)
    hidden = (missing == STORED).any(axis=2)
    np.testing.assert_array_equal(scene.mask, ~hidden)
    np.testing.assert_allclose(scene.cube[~hidden], 0.5 + STORED[~hidden] / 10000, rtol=1e-6)
    np.testing.assert_allclose(scene.wavelengths, NM)
    assert scene.georeference.transform == PLACE["transform"][:6]
    assert any("virtual raster names: s.tif" in note for note in scene.notes)
    values, _ = open_source(path, nodata=-1, scale=1).read(Window(slice(5, 9), slice(2, 17)))
    np.testing.assert_array_equal(values, STORED[5:9, 2:17])


def test_a_nodata_value_beyond_the_type_of_the_band(tmp_path):
    STORED.transpose(0, 2, 1).astype("<f4").tofile(tmp_path / "s.bil")
    floats = ESRI.replace("NBITS          16", "NBITS 32").replace("SIGNEDINT", "FLOAT")
    (tmp_path / "s.hdr").write_text(floats + "NODATA 1e308\n")
    np.testing.assert_array_equal(read(tmp_path / "s.bil").cube, STORED)


def test_bands_of_other_types(tmp_path):
    tiff(tmp_path / "s.tif")
    path = virtual(tmp_path)
    path.write_text(path.read_text().replace('dataType="Int16" band="2"', 'dataType="Float32" band="2"'))
    np.testing.assert_array_equal(read(path).cube, STORED)


def test_a_virtual_raster_does_not_read_raw_bytes_or_other_machines(tmp_path):
    path = virtual(tmp_path)
    whole = path.read_text()
    path.write_text(whole.replace('dataType="Int16"', 'dataType="Int16" subClass="VRTRawRasterBand"'))
    with pytest.raises(InputError, match="reads raw bytes of other files"):
        read(path)
    for source in ("/vsicurl/http://localhost/s.tif", "/vsis3/bucket/s.tif"):
        with pytest.raises(InputError, match="another machine"):
            read(virtual(tmp_path, source=source, relative=0))
    with pytest.raises(InputError, match="cannot be read as VRT"):
        read(virtual(tmp_path, source="gone.tif"))


@pytest.mark.parametrize(
    ("driver", "name"), [("HFA", "s.img"), ("JP2OpenJPEG", "s.jp2"), ("PCIDSK", "s.pix"), ("RST", "s.rst")]
)
def test_other_drivers(tmp_path, driver, name):
    """JPEG 2000 and Idrisi are written as copies of another raster alone, and Idrisi holds one band."""
    count = 1 if driver == "RST" else BANDS
    source = tiff(tmp_path / "t.tif", stored=STORED[:, :, :count])
    lossless = {"QUALITY": "100", "REVERSIBLE": "YES"} if driver == "JP2OpenJPEG" else {}
    shutil.copy(source, tmp_path / name, driver=driver, **lossless)
    assert formats.kind_of_file(tmp_path / name) == "raster"
    scene = read(tmp_path / name)
    np.testing.assert_array_equal(scene.cube, STORED[:, :, :count])
    assert scene.georeference.transform == PLACE["transform"][:6]


@pytest.mark.parametrize("name", ["s.hdr", "s.HDR"])
def test_a_tiff_beside_an_esri_header_is_read(tmp_path, name):
    """As ArcGIS and exports of .bil leave it."""
    path = tiff(tmp_path / "s.tif")
    (tmp_path / name).write_text(ESRI)
    np.testing.assert_array_equal(read(path).cube, STORED)


def test_esri_bil_by_either_file(tmp_path):
    STORED.transpose(0, 2, 1).astype("<i2").tofile(tmp_path / "s.bil")
    (tmp_path / "s.hdr").write_text(ESRI)
    for name in ("s.bil", "s.hdr"):
        scene = read(tmp_path / name)
        np.testing.assert_array_equal(scene.cube, STORED)
        assert scene.georeference.transform == PLACE["transform"][:6]
    (tmp_path / "s.bsq").write_bytes(b"\0")
    with pytest.raises(InputError, match=r"with s\.bil, s\.bsq beside it"):
        read(tmp_path / "s.hdr")


def test_an_envi_header_is_not_esris(tmp_path):
    (tmp_path / "s.hdr").write_text("ENVI\n" + ESRI)
    STORED.tofile(tmp_path / "s.bil")
    with pytest.raises(InputError, match="no field 'lines'"):
        read(tmp_path / "s.bil")
