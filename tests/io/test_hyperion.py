"""Hyperion: one TIFF a band, in the layout that public readers describe; no product was at hand."""

import numpy as np
import pytest

from dequnmix_jax.checks import InputError
from dequnmix_jax.io.formats import open_source, read
from dequnmix_jax.io.missions.hyperion import CENTRES_NM
from dequnmix_jax.scenes.source import Window

rasterio = pytest.importorskip("rasterio")

H, W = 5, 4
NUMBERS = (3, 20, 50, 70, 71, 100, 200, 230)
STORED = np.random.default_rng(0).integers(100, 9000, (H, W, len(NUMBERS))).astype(np.int16)
SCENE = "EO1H0440342010123110KF_"
FACTORS = "GROUP = RADIANCE_SCALING\n  SCALING_FACTOR_VNIR = 40.000000\n  SCALING_FACTOR_SWIR = 80.000000\nEND_GROUP\n"


def band(folder, number, values, name=None):
    profile = {"driver": "GTiff", "height": values.shape[0], "width": values.shape[1], "count": 1, "dtype": "int16"}
    place = {"crs": "EPSG:32616", "transform": rasterio.Affine(30, 0, 5e5, 0, -30, 4e6)}
    with rasterio.open(folder / (name or f"{SCENE}B{number:03d}_L1T.TIF"), "w", **profile, **place) as file:
        file.write(values, 1)


def scene(folder, text=FACTORS):
    for i, number in enumerate(NUMBERS):
        values = STORED[:, :, i].copy()
        values[0] = 0
        band(folder, number, values)
    if text is not None:
        (folder / f"{SCENE}MTL_L1T.TXT").write_text(text)
    return folder


def test_a_folder_of_bands(tmp_path):
    assert CENTRES_NM.size == 242 and CENTRES_NM[70] == 851.92
    for detector in (CENTRES_NM[:70], CENTRES_NM[70:]):
        assert ((np.diff(detector) > 9.9) & (np.diff(detector) < 10.3)).all()
    found = read(scene(tmp_path))
    np.testing.assert_allclose(found.wavelengths, CENTRES_NM[np.array(NUMBERS) - 1])
    assert found.good_bands.tolist() == [False, True, True, False, False, True, True, False]
    np.testing.assert_array_equal(found.mask, (np.arange(H) > 0)[:, None].repeat(W, 1))
    divisors = np.where(np.array(NUMBERS) <= 70, 40.0, 80.0)
    np.testing.assert_allclose(found.cube[1:], STORED[1:] / divisors, rtol=1e-6)
    assert found.georeference.transform == (30, 0, 5e5, 0, -30, 4e6)
    assert "The file holds radiance, not reflectance." in found.notes
    assert any("234 of the 242 bands have no file" in note for note in found.notes)
    values, _ = open_source(tmp_path).read(Window(slice(2, 4), slice(1, 3)))
    np.testing.assert_allclose(values, STORED[2:4, 1:3] / divisors, rtol=1e-6)
    np.testing.assert_allclose(read(tmp_path, scale=10).cube[1:], STORED[1:] / 10, rtol=1e-6)


@pytest.mark.parametrize("text", [None, "SCALING_FACTOR_VNIR = 40\n", FACTORS.replace("80.0", "nan")])
def test_factors_that_are_not_given_are_assumed_and_said(tmp_path, text):
    assert any("40 (bands 1 to 70) and 80 were assumed" in note for note in read(scene(tmp_path, text)).notes)


def test_files_that_do_not_go_together(tmp_path):
    scene(tmp_path)
    band(tmp_path, 20, STORED[:, :, 0], name="EO1H9990342010123110KF_B020_L1T.TIF")
    with pytest.raises(InputError, match="both of band 20; expected one scene"):
        read(tmp_path)
    (tmp_path / "EO1H9990342010123110KF_B020_L1T.TIF").unlink()
    band(tmp_path, 50, STORED[:2, :, 0])
    with pytest.raises(InputError, match=r"B050_L1T\.TIF has \(2, 4, 1\) .*expected one band of the same size"):
        read(tmp_path)
