"""A written scene is read back unchanged in every format, by this program and by others."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from dequnmix_jax.checks import InputError
from dequnmix_jax.io.formats import read
from dequnmix_jax.io.scene_writer import write_scene
from dequnmix_jax.scenes.georeference import Georeference
from dequnmix_jax.scenes.scene import Scene

rasterio = pytest.importorskip("rasterio")
zarr = pytest.importorskip("zarr")
pytest.importorskip("rioxarray")

H, W, B = 5, 7, 6
FORMATS = ["s.npz", "s.img", "s.hdr", "s.tif", "s.nc", "s.zarr"]
PLACE = (30.0, 0.0, 600000.0, 0.0, -20.0, 5300000.0)


def scene(**fields):
    cube = np.random.default_rng(0).uniform(0.1, 0.9, (H, W, B)).astype(np.float32)
    mask = np.ones((H, W), bool)
    mask[1, 2] = mask[4, 6] = False
    cube[~mask] = 0
    whole = {
        "cube": cube,
        "wavelengths": 400 + np.array([0.123456789, 20, 40.5, 60, 80, 1000 / 3]),
        "fwhm": np.linspace(5, 6.1, B),
        "good_bands": np.array([1, 1, 0, 1, 1, 1], bool),
        "mask": mask,
        "name": "plot",
        "georeference": Georeference(rasterio.CRS.from_epsg(32632).to_wkt(), PLACE),
    }
    return Scene(**(whole | fields))


def placed(made):
    """Add the ENVI header fields that a reader would make of the georeference."""
    from dequnmix_jax.io.georaster import header_fields

    return replace(made, envi_fields=header_fields(made.georeference, []))


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_is_lost(tmp_path, name):
    made = placed(scene())
    written = write_scene(tmp_path / name, made)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in written}
    found = read(tmp_path / name)
    np.testing.assert_array_equal(found.cube, made.cube)
    np.testing.assert_array_equal(found.valid, made.valid)
    np.testing.assert_array_equal(found.wavelengths, made.wavelengths)
    np.testing.assert_allclose(found.fwhm, made.fwhm, rtol=1e-14)
    np.testing.assert_array_equal(found.good_bands, made.good_bands)
    if name in ("s.img", "s.hdr"):  # ENVI's own words for the place
        assert found.envi_fields == made.envi_fields
    else:
        assert found.georeference.transform == PLACE
        assert rasterio.CRS.from_user_input(found.georeference.crs).to_epsg() == 32632
    assert rasterio.CRS.from_user_input(found.crs).to_dict() == rasterio.CRS.from_epsg(32632).to_dict()
    assert not [note for note in found.notes if "assumed" in note]


@pytest.mark.parametrize("name", FORMATS)
def test_a_bare_cube_stays_bare(tmp_path, name):
    cube = scene().cube + np.float32(0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_scene(tmp_path / name, Scene(cube))
    found = read(tmp_path / name)
    np.testing.assert_array_equal(found.cube, cube)
    assert found.wavelengths is None and found.mask is None and found.georeference is None and found.fwhm is None


def test_other_programs_read_it(tmp_path):
    made = placed(scene())
    for name in ("s.tif", "s.img"):
        write_scene(tmp_path / name, made)
        with rasterio.open(tmp_path / name) as file:
            np.testing.assert_array_equal(file.read_masks(1) > 0, made.valid)
            assert file.crs.to_epsg() == 32632 and tuple(file.transform)[:6] == PLACE and file.nodata == -9999
    with rasterio.open(tmp_path / "s.tif") as file:
        assert file.descriptions[0] == "400.1234568 nm" and file.tags(3)["bbl"] == "0"
    write_scene(tmp_path / "s.zarr", made)
    group = zarr.open_group(str(tmp_path / "s.zarr"), mode="r")  # coordinates are those of the centres of pixels
    np.testing.assert_allclose(group["x"][:], 600015 + 30 * np.arange(W))
    np.testing.assert_allclose(group["y"][:], 5299990 - 20 * np.arange(H))


def test_xarray_reads_it(tmp_path):
    xarray = pytest.importorskip("xarray")
    made = placed(scene())
    write_scene(tmp_path / "s.zarr", made)
    with xarray.open_zarr(tmp_path / "s.zarr", consolidated=False) as data:
        assert data.reflectance.dims == ("y", "x", "band") and np.isnan(data.reflectance[1, 2]).all()
        np.testing.assert_allclose(data.x[:2], [600015, 600045])
        np.testing.assert_allclose(data.wavelength, made.wavelengths)
        assert data.good_wavelengths.values.tolist() == made.good_bands.tolist()


@pytest.mark.parametrize("name", FORMATS)
def test_a_value_that_marks_holes_elsewhere(tmp_path, name):
    made = scene()
    cube = made.cube.copy()
    cube[0, 0, 1] = -9999  # odd, and valid
    made = placed(scene(cube=cube))
    write_scene(tmp_path / name, made)
    found = read(tmp_path / name)
    np.testing.assert_array_equal(found.valid, made.valid)
    assert found.cube[0, 0, 1] == -9999


@pytest.mark.parametrize("name", ["s.img", "s.tif", "s.nc", "s.zarr"])
def test_a_swath_is_rectified(tmp_path, name):
    lookup = np.stack(np.meshgrid(np.arange(H), np.arange(W), indexing="ij"), axis=2)[:, ::-1].transpose(1, 0, 2).copy()
    lookup[0, 0] = -1
    made = placed(scene(georeference=Georeference("EPSG:4326", (0.5, 0, 10, 0, -0.5, 31), lookup)))
    write_scene(tmp_path / name, made)
    found = read(tmp_path / name)
    assert found.cube.shape == (W, H, B)
    rows, columns = lookup[..., 0], lookup[..., 1]
    valid = made.valid[rows, columns] & (rows >= 0)
    np.testing.assert_array_equal(found.valid, valid)
    np.testing.assert_array_equal(found.cube[valid], made.cube[rows, columns][valid])
    write_scene(tmp_path / "s.npz", made)
    kept = read(tmp_path / "s.npz")
    np.testing.assert_array_equal(kept.georeference.lookup, lookup)
    assert kept.cube.shape == (H, W, B)


def test_refusals(tmp_path):
    with pytest.raises(InputError, match=r"ends in '\.mat'; expected one of \.npz"):
        write_scene(tmp_path / "s.mat", scene())
    for name in ("s.npz", "s.tif", "s.nc", "s.zarr", "s.img"):
        write_scene(tmp_path / name, scene(cube=np.ones((H, W, B))))
    for name in ("s.npz", "s.nc", "s.zarr", "s.img", "s.hdr", "s.dat"):  # the last one has the header of another
        with pytest.raises(InputError, match="exists already"):
            write_scene(tmp_path / name, scene())
    with pytest.raises(InputError, match="would be taken for its header"):
        write_scene(tmp_path / "s.tif", scene(), overwrite=True)
    write_scene(tmp_path / "s.zarr", scene(), overwrite=True)
    np.testing.assert_array_equal(read(tmp_path / "s.zarr").cube, scene().cube)
    (tmp_path / "mine.zarr").mkdir()
    (tmp_path / "mine.zarr" / "diary.txt").write_text("mine")
    with pytest.raises(InputError, match="no Zarr store"):
        write_scene(tmp_path / "mine.zarr", scene(), overwrite=True)
    np.savez(tmp_path / "odd.npz", cube=scene().cube, transform=np.ones(5))
    with pytest.raises(InputError, match="expected six numbers"):
        read(tmp_path / "odd.npz")
