"""A result in one file: Cloud Optimized GeoTIFF and MATLAB, and the formats of a folder."""

import gc
import json
import sys
from dataclasses import replace

import numpy as np
import pytest

try:
    import resource
except ImportError:  # Windows
    resource = None

import dequnmix_jax as dq
from dequnmix_jax.checks import InputError
from dequnmix_jax.io.formats import read, read_truth
from dequnmix_jax.results.result import result_of
from dequnmix_jax.results.writer import write_result
from dequnmix_jax.scenes.georeference import Georeference
from dequnmix_jax.scenes.scene import Scene
from dequnmix_jax.types import Estimate
from tests.io.test_xarrays import PLACE, UTM, B, H, W, scene
from tests.results.test_labelled import NAMES, R, estimate, unmixed

rasterio = pytest.importorskip("rasterio")


def optimized(path):
    """Return whether a GeoTIFF is laid out for reading over a network, by GDAL and by rio-cogeo where it is there."""
    with rasterio.open(path) as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG" and file.block_shapes[0] == (512, 512)
    if "rio_cogeo" in sys.modules or __import__("importlib").util.find_spec("rio_cogeo"):
        from rio_cogeo import cog_validate

        assert cog_validate(path, strict=True) == (True, [], [])
    return True


def test_all_maps_are_bands_of_a_geotiff(tmp_path):
    made = unmixed()
    assert dq.write(tmp_path / "r.tif", estimate(), made, names=NAMES) == [tmp_path / "r.tif"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.tif"] and optimized(tmp_path / "r.tif")
    with rasterio.open(tmp_path / "r.tif") as file:
        residual = "residual (units of the scene)"
        assert file.descriptions == (*NAMES, "brightness (units of the scene)", residual)
        assert file.crs == rasterio.CRS.from_user_input(UTM) and tuple(file.transform)[:6] == PLACE
        bands = file.read()
        assert file.nodata == -9999 and (bands[:, ~made.valid] == -9999).all()
        np.testing.assert_array_equal(bands[:R][:, made.valid].T, estimate().abundances[made.valid])
        np.testing.assert_array_equal(bands[R][made.valid], estimate().brightness[made.valid])
    dq.write(tmp_path / "plain.tif", estimate(), made, names=NAMES, format="geotiff")
    with rasterio.open(tmp_path / "plain.tif") as file:
        assert "LAYOUT" not in file.tags(ns="IMAGE_STRUCTURE")
        np.testing.assert_array_equal(file.read(), bands)


def test_large_pictures_have_overviews(tmp_path):
    """Overviews hold means, in which masked pixels do not count."""
    side = 600
    mask = np.ones((side, side), bool)
    mask[:, 1::2] = False
    made = Scene(np.ones((side, side, B), np.float32), mask, georeference=Georeference(UTM, PLACE))
    abundances = np.full((side, side, 2), 0.25, np.float32)
    abundances[..., 1] = 0.75
    abundances[~mask] = 0
    parts = Estimate(abundances, np.ones((2, B)), np.ones((side, side), np.float32), abundances)
    dq.write(tmp_path / "out", parts, made, format="cog")
    assert optimized(tmp_path / "out" / "abundances.tif") and optimized(tmp_path / "out" / "residual.tif")
    with rasterio.open(tmp_path / "out" / "abundances.tif") as file:
        assert file.overviews(1) == [2]
    with rasterio.open(tmp_path / "out" / "abundances.tif", overview_level=0) as file:
        assert file.shape == (300, 300)
        np.testing.assert_array_equal(file.read(1), np.full((300, 300), 0.25))


def test_matlab_reads_pictures_in_its_own_order(tmp_path):
    loadmat = pytest.importorskip("scipy.io").loadmat
    made = unmixed()
    dq.write(tmp_path / "r.mat", estimate(), made, names=NAMES)
    held = loadmat(tmp_path / "r.mat")
    assert held["H"].item() == H and held["W"].item() == W and held["order"].item() == "F"
    np.testing.assert_array_equal(held["Y"].T.reshape(H, W, B - 1, order="F"), made.cube)
    np.testing.assert_array_equal(held["A"].T.reshape(H, W, R, order="F"), estimate().abundances)
    np.testing.assert_array_equal(held["E"].T, estimate().endmembers)
    assert [name.item() for name in held["names"].ravel()] == list(NAMES)
    pixel = 2 * H + 1  # row 1, column 2 of the masked pixel
    assert held["valid_mask"][1, 2] == 0 and (held["A"][:, pixel] == 0).all()
    found = read(tmp_path / "r.mat")
    np.testing.assert_array_equal(found.cube, made.cube)
    np.testing.assert_array_equal(found.valid, made.valid)
    np.testing.assert_array_equal(found.wavelengths, made.wavelengths)
    truth = read_truth(tmp_path / "r.mat")
    np.testing.assert_array_equal(truth.abundances, estimate().abundances)
    np.testing.assert_array_equal(truth.endmembers, estimate().endmembers)
    assert truth.names == NAMES


def test_scaled_fractions_are_written_with_their_spectra(tmp_path):
    """Y is A times brightness times E in both conventions."""
    loadmat = pytest.importorskip("scipy.io").loadmat
    spectra = estimate().endmembers / estimate().endmembers.max(axis=1, keepdims=True)
    parts = estimate()._replace(endmembers=spectra)
    exact = (parts.abundances @ spectra * parts.brightness[..., None]).astype(np.float32)
    made = scene(cube=np.pad(exact, ((0, 0), (0, 0), (0, 1))), good_bands=np.arange(B) < B - 1).with_good_bands()
    dq.write(tmp_path / "r.mat", parts, made, convention="scaled")
    held = loadmat(tmp_path / "r.mat")
    assert held["convention"].item() == "scaled"
    np.testing.assert_allclose(held["E"] @ held["A"] * held["brightness"], held["Y"], atol=1e-6)


def test_a_folder_holds_the_maps_in_one_file(tmp_path):
    pytest.importorskip("rioxarray")
    for format, name in (("netcdf", "maps.nc"), ("mat", "maps.mat")):
        files = dq.write(tmp_path / format, estimate(), unmixed(), names=NAMES, format=format)
        assert {"endmembers.csv", "estimate.npz", "summary.json", name} <= {file.name for file in files}
        assert not [*(tmp_path / format).glob("*.img"), *(tmp_path / format).glob("*.tif")]
        np.testing.assert_array_equal(read_truth(tmp_path / format / name).abundances, estimate().abundances)
    assert json.loads(json.dumps(dq.read_result(tmp_path / "netcdf" / "maps.nc").summary))["scene"] == "plot"


def test_refusals(tmp_path):
    for name, format, words in (
        ("r.tif", "envi", "the format is 'envi'; expected cog or geotiff"),
        ("r.nc", "cog", "the format is 'cog'; expected netcdf"),
        ("r.mat", "netcdf", "the format is 'netcdf'; expected mat"),
    ):
        with pytest.raises(InputError, match=words):
            dq.write(tmp_path / name, estimate(), unmixed(), format=format)
    dq.write(tmp_path / "r.tif", estimate(), unmixed())
    before = (tmp_path / "r.tif").read_bytes()
    with pytest.raises(InputError, match="exists already"):
        dq.write(tmp_path / "r.tif", estimate(), unmixed())
    assert (tmp_path / "r.tif").read_bytes() == before
    (tmp_path / "s.hdr").write_text("ENVI")
    with pytest.raises(InputError, match=r"s\.hdr lies beside .*s\.tif and would be taken for its header"):
        dq.write(tmp_path / "s.tif", estimate(), unmixed())
    (tmp_path / "folder.tif").mkdir()  # a folder of this name stays one
    dq.write(tmp_path / "folder.tif", estimate(), unmixed(), overwrite=True)
    assert (tmp_path / "folder.tif" / "summary.json").is_file()


@pytest.mark.skipif(resource is None, reason="no limits on the size of files here")
@pytest.mark.parametrize("name", ["r.tif", "r.nc", "r.mat"])
def test_a_full_disk_is_an_error(tmp_path, name):
    """HDF5 would end the process, and GDAL silently close a truncated file."""
    dq.write(tmp_path / name, estimate(), unmixed())
    whole = (tmp_path / name).read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) - 300, before[1]))
        with pytest.raises(OSError, match="File too large"):
            dq.write(tmp_path / name, estimate(), unmixed(), overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [entry.name for entry in tmp_path.iterdir()] == [name] and (tmp_path / name).read_bytes() == whole
    gc.collect()  # views of memory that the error keeps would end the process here


def with_classes():
    """Return a result of two classes with standard deviations, as known spectra give it, and its scene."""
    made = unmixed()
    found = result_of(estimate(), made, names=NAMES, class_of=("ground", "plant", "ground"))
    deviations = np.where(made.valid[..., None], np.linspace(0.01, 0.02, R, dtype=np.float32), np.float32(0))
    return replace(found, abundances_sd=deviations, classes_sd=deviations[..., :2] / 2), made


def test_sums_of_classes_and_deviations_are_in_every_single_file(tmp_path):
    found, made = with_classes()
    for name in ("r.tif", "r.nc", "r.mat"):
        write_result(tmp_path / name, found, made)
    labels = ("class ground", "class plant", *(f"sd of {name}" for name in NAMES))
    with rasterio.open(tmp_path / "r.tif") as file:
        assert file.descriptions[R + 2 :] == (*labels, "sd of class ground", "sd of class plant")
        bands = file.read()[R + 2 :, made.valid].T
    expected = np.concatenate([found.classes, found.abundances_sd, found.classes_sd], axis=2)
    np.testing.assert_array_equal(bands, expected[made.valid])
    held = pytest.importorskip("scipy.io").loadmat(tmp_path / "r.mat")
    for name, values in (("classes", found.classes), ("abundances_sd", found.abundances_sd)):
        np.testing.assert_array_equal(held[name].T.reshape(H, W, -1, order="F"), values)
    assert [word.item() for word in held["class_names"].ravel()] == ["ground", "plant"]
    np.testing.assert_array_equal(read(tmp_path / "r.mat").cube, made.cube)
    pytest.importorskip("rioxarray")
    back = dq.read_result(tmp_path / "r.nc")
    assert back.class_of == found.class_of
    for name in ("classes", "abundances_sd", "classes_sd"):
        np.testing.assert_array_equal(getattr(back, name), getattr(found, name))
    data = dq.to_xarray(back)
    np.testing.assert_array_equal(data.classes.sel({"class": "plant"}).values[made.valid], expected[made.valid][:, 1])
    assert data.class_of.values.tolist() == ["ground", "plant", "ground"]
