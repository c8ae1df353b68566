"""A window of a scene on disk equals the same window of the scene in memory, in every format."""

import numpy as np
import pytest
import rasterio
import zarr

from dequnmix_jax.checks import InputError
from dequnmix_jax.io.formats import open_source
from dequnmix_jax.scenes.source import Source, Window, in_memory, marking_empty_bands
from tests.io.test_geotiff import cube as integers
from tests.io.test_geotiff import tiff
from tests.io.test_labelled_arrays import data_array, store
from tests.io.test_missions import emit, emit_cube, numbers, prisma

H, W, B = 7, 5, 4


def values(dtype=np.int16):
    found = np.random.default_rng(3).integers(1, 5000, (H, W, B)).astype(dtype)
    found[2, 3] = 77  # nodata
    found[5, 0, 1] = 77
    found[6, 4, 2] = 77  # in a bad band alone
    found[4, 4, 0] = 30000  # saturated
    return found


def envi(folder, interleave, order, dtype, offset):
    axes = {"bsq": (2, 0, 1), "bil": (0, 2, 1), "bip": (0, 1, 2)}[interleave]
    kind = np.dtype(dtype).newbyteorder(">" if order else "<")
    code = {"int16": 2, "float32": 4, "float64": 5, "uint16": 12}[np.dtype(dtype).name]
    (folder / "x.img").write_bytes(bytes(offset) + values(dtype).transpose(axes).astype(kind).tobytes())
    (folder / "x.hdr").write_text(
        f"ENVI\nsamples = {W}\nlines = {H}\nbands = {B}\nheader offset = {offset}\ndata type = {code}\n"
        f"interleave = {interleave}\nbyte order = {order}\ndata ignore value = 77\nbbl = {{1, 1, 0, 1}}\n"
        "reflectance scale factor = 10000\nsaturation value = 30000\n"
    )
    return folder / "x.hdr"


def scaled_tiff(folder):
    def then(file):
        file.scales, file.offsets = [1e-4] * 6, [0.01 * band for band in range(6)]
        file.write_mask(np.arange(20).reshape(4, 5) != 7)

    found = integers()
    found[1, 2, 3] = -1
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        return tiff(folder / "s.tif", found, then=then)


def tiff_of_several_nodata(folder):
    found = integers()
    found[0, 0, 0], found[1, 1, 1] = -1, -2
    bands = "".join(
        f'<PAMRasterBand band="{band}"><NoDataValue>{value}</NoDataValue></PAMRasterBand>'
        for band, value in ((1, -1), (2, -2))
    )
    (folder / "s.tif.aux.xml").write_text(f"<PAMDataset>{bands}</PAMDataset>")
    return tiff(folder / "s.tif", found)


def swath(folder):
    found = emit_cube()
    found[2, 1] = -9999
    return emit(folder / "e.nc", reflectance=found)


def two_detectors(folder):
    swir = numbers(5, 1)
    swir[:, 1] = 0  # 1380 nm: nothing comes through
    swir[4, 2, 3] = 0
    return prisma(folder / "p.he5", swir=swir)


def npy(folder):
    np.save(folder / "c.npy", values())
    return folder / "c.npy"


def npz(folder):
    np.savez(folder / "c.npz", cube=values(np.float32), mask=np.arange(H * W).reshape(H, W) != 9)
    return folder / "c.npz"


def chunks(_):
    return zarr.create_array({}, data=values(), chunks=(3, 2, 4))


FORMS = {
    **{f"envi {i} {o} {d}": (lambda folder, i=i, o=o, d=d: envi(folder, i, o, d, 13))
       for i in ("bsq", "bil", "bip") for o, d in ((0, "int16"), (1, "float64"), (1, "uint16"))},
    "envi float": lambda folder: envi(folder, "bip", 0, "float32", 0),
    "geotiff": scaled_tiff, "geotiff of several nodata": tiff_of_several_nodata,
    "emit": swath, "prisma": two_detectors, "npy": npy, "npz": npz,
    "zarr": lambda folder: store(folder / "s.zarr", 3, _FillValue=-9999.0, scale_factor=0.5),
    "zarr array": chunks, "xarray": lambda _: data_array(), "numpy": lambda _: values(np.float32),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_windows_are_those_of_the_scene(tmp_path, form, monkeypatch):
    monkeypatch.setattr("dequnmix_jax.scenes.source._PIECE", 1)  # one row at a time
    source = open_source(FORMS[form](tmp_path), saturation=29999 if form == "npy" else None)
    scene = source.scene()
    assert source.shape == scene.cube.shape and source.lazy == (form != "npz")
    height, width, bands = source.shape
    masked = 0
    for rows in (slice(0, 2), slice(1, height - 1), slice(height - 2, height)):
        for columns in (slice(0, width), slice(1, 3), slice(width - 1, width)):
            cube, mask = source.read(Window(rows, columns))
            np.testing.assert_array_equal(cube, scene.cube[rows, columns])
            np.testing.assert_array_equal(mask, scene.valid[rows, columns])
            masked += int((~mask).sum())
            chosen = np.arange(bands) % 2 == 0
            few, _ = source.read(Window(rows, columns), chosen)
            np.testing.assert_array_equal(few, cube[:, :, chosen])
    assert masked > 0 or form.startswith(("zarr", "xarray", "numpy"))


def test_a_file_that_shrinks_while_it_is_read(tmp_path):
    source = open_source(envi(tmp_path, "bil", 0, "int16", 0))
    data = (tmp_path / "x.img").read_bytes()
    (tmp_path / "x.img").write_bytes(data[:-8])
    source.read(Window(slice(0, 2), slice(0, W)))
    with pytest.raises(InputError, match="changed while it was read"):
        source.read(Window(slice(0, H), slice(0, W)))


@pytest.mark.parametrize("lazy", [True, False])
def test_bands_without_data_are_marked_bad(lazy):
    """EnMAP stores its nodata value in the bands of water vapour; each alone would mask every pixel."""
    stored = np.random.default_rng(0).integers(1, 9000, (9, 8, 6)).astype(np.int16)
    stored[:, :, [1, 4]] = stored[0] = -32768
    source = Source(stored.shape, in_memory(stored), nodata=-32768, lazy=lazy)
    marked = marking_empty_bands(source)
    np.testing.assert_array_equal(marked.good_bands, [True, False, True, True, False, True])
    assert "No pixel holds data in bands 1, 4 (counted from 0): marked bad." in marked.notes
    scene = marked.scene()
    assert scene.valid.sum() == 64 and scene.with_good_bands().cube.shape == (9, 8, 4)
    stored[5, 5, 4] = 1  # a band with one measurement is a band with data
    np.testing.assert_array_equal(marking_empty_bands(source).good_bands, np.arange(6) != 1)
    stored[5, 5, 1] = 1
    assert marking_empty_bands(source) is source
    stored[:] = -32768
    assert marking_empty_bands(source) is source


def test_a_band_of_nan_beside_a_nodata_value_is_without_data():
    stored = np.ones((4, 3, 3), np.float32)
    stored[:, :, 2] = np.nan
    marked = marking_empty_bands(Source(stored.shape, in_memory(stored), nodata=-9999.0))
    np.testing.assert_array_equal(marked.good_bands, [True, True, False])
    assert marking_empty_bands(Source(stored.shape, in_memory(stored))).good_bands is None
