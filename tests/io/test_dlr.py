"""EnMAP and DESIS products, written in the layout that public readers describe; no product was at hand."""

import numpy as np
import pytest

from dequnmix_jax.checks import InputError
from dequnmix_jax.io.formats import open_source, read
from dequnmix_jax.scenes.source import Window

rasterio = pytest.importorskip("rasterio")

H, W, B = 6, 5, 8
NM = np.linspace(450.0, 2400.0, B)
STORED = np.random.default_rng(3).integers(200, 6000, (H, W, B)).astype(np.int16)
PLACE = {"crs": "EPSG:32632", "transform": rasterio.Affine(30, 0, 500000, 0, -30, 5000000)}
NAMES = {"enmap": "ENMAP01-____L2A-DT0000001_20250101T000000Z-", "desis": "DESIS-HSI-L2A-DT0001-20200101T000000-V0210-"}
GAINS = np.full(B, 1e-4)


def xml(kind, bands=B, gains=GAINS):
    if kind == "enmap":
        one = "<bandID number='{i}'><wavelengthCenterOfBand>{w}</wavelengthCenterOfBand><FWHMOfBand>8.5</FWHMOfBand>"
        one += "<GainOfBand>{g}</GainOfBand><OffsetOfBand>0</OffsetOfBand></bandID>"
    else:
        one = "<band><bandNumber>{i}</bandNumber><wavelengthCenterOfBand>{w}</wavelengthCenterOfBand>"
        one += "<wavelengthWidthOfBand>8.5</wavelengthWidthOfBand><gainOfBand>{g}</gainOfBand>"
        one += "<offsetOfBand>0</offsetOfBand></band>"
    centres, gains = np.resize(NM, bands), np.resize(gains, bands)
    inside = "".join(one.format(i=i + 1, w=centres[i], g=gains[i]) for i in range(bands))
    return f"<level_X><specific><bandCharacterisation>{inside}</bandCharacterisation></specific></level_X>"


def product(folder, kind="enmap", text=None, suffix="TIF", level="L2A", **options):
    name = NAMES[kind].replace("L2A", level)
    stored = STORED.copy()
    stored[0] = stored[:, :, 4] = -32768  # around the swath, and a band in the absorption of water vapour
    profile = {"driver": "GTiff", "height": H, "width": W, "count": B, "dtype": "int16", "nodata": -32768} | PLACE
    with rasterio.open(folder / f"{name}SPECTRAL_IMAGE.{suffix}", "w", **(profile | options)) as file:
        file.write(stored.transpose(2, 0, 1))
    (folder / f"{name}METADATA.XML").write_text(xml(kind) if text is None else text)
    return folder / f"{name}METADATA.XML"


@pytest.mark.parametrize(("kind", "suffix"), [("enmap", "TIF"), ("desis", "tif")])
def test_a_product_by_its_folder_and_by_either_file(tmp_path, kind, suffix):
    described = product(tmp_path, kind, suffix=suffix)
    image = next(entry for entry in tmp_path.iterdir() if entry.suffix.lower() == ".tif")
    (tmp_path / f"{NAMES[kind]}QL_QUALITY_CLOUD.TIF").write_bytes(b"")
    for path in (tmp_path, described, image):
        scene = read(path)
        np.testing.assert_allclose(scene.wavelengths, NM)
        assert (scene.fwhm == 8.5).all()
        np.testing.assert_array_equal(scene.good_bands, np.arange(B) != 4)
        np.testing.assert_array_equal(scene.mask, (np.arange(H) > 0)[:, None].repeat(W, 1))
        keep = np.arange(B) != 4
        np.testing.assert_allclose(scene.cube[1:][..., keep], STORED[1:][..., keep] * 1e-4, rtol=1e-6)
        assert scene.georeference.transform == PLACE["transform"][:6]
        assert any("QL_QUALITY_CLOUD.TIF, ...) were not applied" in note for note in scene.notes)
    values, mask = open_source(tmp_path).read(Window(slice(0, 3), slice(1, 4)))
    np.testing.assert_allclose(values[1:, :, 0], STORED[1:3, 1:4, 0] * 1e-4, rtol=1e-6)
    assert not mask[0].any() and mask[1:].all()


def test_options_override_the_product(tmp_path):
    path = product(tmp_path)
    np.testing.assert_allclose(read(path, scale=2e4).cube[1:, :, 0], STORED[1:, :, 0] / 2e4, rtol=1e-6)
    scene = read(path, ignore=[(400, 1000)])
    np.testing.assert_array_equal(scene.good_bands, (NM > 1000) & (np.arange(B) != 4))
    assert read(path, bands=(0, 2)).good_bands.sum() == 3


def test_level_1_is_radiance_with_gains_of_each_band(tmp_path):
    gains = np.linspace(0.01, 0.08, B)
    path = product(tmp_path, text=xml("enmap", gains=gains), level="L1C", nodata=None)
    scene = read(path)
    assert "The file holds radiance, not reflectance." in scene.notes
    np.testing.assert_allclose(scene.cube[1:, :, :4], STORED[1:, :, :4] * gains[:4], rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<a>", "is not whole XML"),
        ("<a/>", "describes no bands"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "defines entities"),
        (xml("enmap", bands=B - 1), "describes 7 bands and .* has 8"),
        (xml("enmap").replace("<FWHMOfBand>8.5", "<FWHMOfBand>wide", 1), "FWHMOfBand that are not numbers"),
        (xml("enmap", gains=[0.0]), r"gains that are 0 .*--scale NUMBER"),
    ],
)
def test_faults_of_the_metadata(tmp_path, text, message):
    path = product(tmp_path, text=text)
    with pytest.raises(InputError, match=message):
        read(path)
    if "gains" in message:
        np.testing.assert_allclose(read(path, scale=1e4).cube[1, :, 0], STORED[1, :, 0] / 1e4, rtol=1e-6)


def test_more_bands_described_than_there_are(tmp_path):
    scene = read(product(tmp_path, text=xml("enmap", bands=B + 2)))
    np.testing.assert_allclose(scene.wavelengths, NM)
    assert any("describes 10 bands, of which the first 8 were taken" in note for note in scene.notes)


def test_files_that_are_missing_or_several(tmp_path):
    path = product(tmp_path)
    product(tmp_path, "desis")
    with pytest.raises(InputError, match=r"holds 2 products .*Pass its METADATA\.XML"):
        read(tmp_path)
    assert read(path).cube.shape == (H, W, B)
    next(tmp_path.glob("ENMAP*.TIF")).unlink()
    with pytest.raises(InputError, match=r"has 0 files .*SPECTRAL_IMAGE\.TIF beside it"):
        read(path)
    path.unlink()
    alone = product(tmp_path)
    alone.unlink()
    assert read(next(tmp_path.glob("ENMAP*.TIF"))).wavelengths is None  # an image alone is a GeoTIFF
