"""Metadata of values in a file: masks, missing values, gains, wavelengths, and the georeference of a part."""

import re

import h5py
import numpy as np
import pytest
import zarr

import dequnmix_jax as dq
from dequnmix_jax.checks import InputError
from dequnmix_jax.cli import main
from dequnmix_jax.io.envi import header as envi_header
from dequnmix_jax.io.envi.writer import write_library
from dequnmix_jax.io.formats import open_source, read
from dequnmix_jax.libraries.library import Library
from dequnmix_jax.scenes.scene import Scene
from dequnmix_jax.scenes.source import Source, Window
from tests.io.test_envi import image
from tests.io.test_geotiff import tiff
from tests.io.test_labelled_arrays import NM, Named, add, data_array
from tests.io.test_matlab import savemat
from tests.io.test_missions import emit, numbers, prisma

H, W, B = 4, 5, 6
CORNER = Window(slice(1, 3), slice(2, 5))


def cube():
    return np.random.default_rng(0).uniform(0.1, 0.9, (H, W, B)).astype(np.float32)


def windows_agree(held, **options):
    """Read the whole scene and a window, compare them, and return the scene."""
    scene = read(held, **options)
    values, mask = open_source(held, **options).read(CORNER)
    np.testing.assert_array_equal(values, scene.cube[CORNER])
    np.testing.assert_array_equal(mask, scene.valid[CORNER])
    return scene


# --- masked arrays of numpy ------------------------------------------------------------------------------------------


def masked():
    """Return a cube with a whole pixel, one value, and one value of band 5 masked; masked values are arbitrary."""
    hidden = np.zeros((H, W, B), bool)
    hidden[1, 2], hidden[2, 4, 0], hidden[3, 0, 5] = True, True, True
    return np.ma.masked_array(np.where(hidden, np.float32(np.nan), cube()), hidden, fill_value=1e20)


class Reads:
    """A variable whose slices are masked arrays and whose __array__ drops the mask, like those of netCDF4."""

    shape, dtype = (H, W, B), np.dtype(np.float32)

    def __getitem__(self, key):
        return masked()[key]

    def __array__(self, dtype=None, copy=None):
        return masked().filled()


@pytest.mark.parametrize("held", [masked, Reads], ids=["array", "variable"])
def test_a_masked_array_keeps_its_mask(held):
    found = windows_agree(held())
    assert np.argwhere(~found.valid).tolist() == [[1, 2], [2, 4], [3, 0]]
    np.testing.assert_array_equal(found.cube[found.valid], cube()[found.valid])
    assert not found.cube[~found.valid].any()
    assert any("3 of 20 pixels are masked" in note for note in found.notes)
    first = windows_agree(held(), bands=(0, 4))  # band 5 is marked bad and hides no pixel
    assert np.argwhere(~first.valid).tolist() == [[1, 2], [2, 4]]


def test_a_masked_array_of_named_axes():
    turned = Named(np.zeros((B, H, W)), ("band", "y", "x"))
    turned.values = masked().transpose(2, 0, 1)
    turned.__class__ = type("Masked", (Named,), {"__getitem__": lambda self, key: self.values[key]})
    found = windows_agree(turned)
    assert np.argwhere(~found.valid).tolist() == [[1, 2], [2, 4], [3, 0]]


def test_a_masked_array_and_nodata():
    values = masked()
    values.data[0, 0, 1] = -1
    assert np.argwhere(~windows_agree(values, nodata=-1).valid).tolist() == [[0, 0], [1, 2], [2, 4], [3, 0]]


def test_a_scene_of_a_masked_array():
    mask = np.ones((H, W), bool)
    mask[0, 3] = False
    found = Scene(masked(), mask=mask, good_bands=[1, 1, 1, 1, 1, 0])
    assert np.argwhere(~found.valid).tolist() == [[0, 3], [1, 2], [2, 4]]
    assert type(found.cube) is np.ndarray and not found.cube[1, 2].any()
    assert Scene(np.ma.masked_array(cube())).mask is None


def test_the_algorithms_refuse_a_masked_array():
    with pytest.raises(InputError, match=r"masked array of numpy.*Pass cube.filled\(0\)"):
        dq.abundances.fcls(masked(), cube()[0, :3])


# --- a fill value and NaN in one file --------------------------------------------------------------------------------


def holes():
    """Return a cube in which pixel (0, 1) holds -9999, pixel (2, 3) NaN in one band, and pixel (3, 3) infinity."""
    values = cube()
    values[0, 1], values[2, 3, 4], values[3, 3, 0] = -9999, np.nan, np.inf
    return values


def of_tiff(folder):
    return tiff(folder / "s.tif", holes(), nodata=-9999)


def of_tiff_band_by_band(folder):
    bands = "".join(
        f'<PAMRasterBand band="{band}"><NoDataValue>{-9999 if band < B else -1}</NoDataValue></PAMRasterBand>'
        for band in range(1, B + 1)
    )
    (folder / "s.tif.aux.xml").write_text(f"<PAMDataset>{bands}</PAMDataset>")
    return tiff(folder / "s.tif", holes())


def of_zarr(folder):
    group = zarr.open_group(str(folder / "s.zarr"), mode="w")
    add(group, 3, "r", holes(), ("y", "x", "band"), _FillValue=-9999.0)
    return folder / "s.zarr"


def of_zarr_two(folder):
    group = zarr.open_group(str(folder / "s.zarr"), mode="w", zarr_format=2)
    add(group, 2, "r", holes(), ("y", "x", "band"), -9999.0)
    return folder / "s.zarr"


def of_data_array(folder):
    return data_array(values=holes().transpose(2, 0, 1), attrs={"missing_value": -9999.0})


def of_envi(folder):
    (folder / "x.img").write_bytes(holes().tobytes())
    head = {"samples": W, "lines": H, "bands": B, "data type": 4, "interleave": "bip", "data ignore value": -9999}
    (folder / "x.hdr").write_text(envi_header.format_header(head))
    return folder / "x.img"


def of_emit(folder):
    values = np.resize(holes(), (5, 4, 6))
    good = {"sensor_band_parameters/good_wavelengths": np.ones(6)}
    return emit(folder / "e.nc", reflectance=values, **good)


WRITERS = [of_tiff, of_tiff_band_by_band, of_zarr, of_zarr_two, of_data_array, of_envi, of_emit]


@pytest.mark.parametrize("nodata", [None, np.nan], ids=["as declared", "nan asked for"])
@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_a_declared_fill_value_and_nan_are_both_missing(tmp_path, write, nodata):
    path = write(tmp_path)
    found = windows_agree(path, nodata=nodata) if write is not of_emit else read(path, nodata=nodata)
    raw = holes() if write is not of_emit else np.resize(holes(), (5, 4, 6))
    right = np.isfinite(raw).all(axis=2) & (raw != -9999).all(axis=2)
    np.testing.assert_array_equal(found.valid, right)
    assert np.isfinite(found.cube).all() and found.cube.min() >= 0
    assert any("NaN or infinity" in note for note in found.notes)


def test_a_value_asked_for_and_nan_are_both_missing(tmp_path):
    np.savez(tmp_path / "s.npz", cube=holes())
    savemat(tmp_path / "s.mat", {"cube": holes()})
    np.save(tmp_path / "s.npy", holes())
    for name in ("s.npz", "s.mat", "s.npy"):
        assert np.argwhere(~read(tmp_path / name, nodata=-9999).valid).tolist() == [[0, 1], [2, 3], [3, 3]]
        assert read(tmp_path / name).mask is None  # nothing is declared: NaN is said later, and not hidden


def test_a_nan_in_a_bad_band_hides_no_pixel(tmp_path):
    found = read(of_envi(tmp_path), bands=(0, 3))
    assert np.argwhere(~found.valid).tolist() == [[0, 1], [3, 3]]


def test_zero_stays_missing_in_prisma_where_nan_is_asked_for(tmp_path):
    vnir = numbers(4, 0)
    vnir[2, 1, 3] = 0
    path = prisma(tmp_path / "p.he5", vnir=vnir)
    for nodata in (None, np.nan):
        assert np.argwhere(~read(path, nodata=nodata).valid).tolist() == [[2, 3]]


def test_a_number_asked_for_replaces_the_declared_one(tmp_path):
    values = holes()
    found = read(of_tiff(tmp_path), nodata=float(values[1, 1, 1]))
    assert not found.valid[1, 1] and found.valid[0, 1]


def test_the_advice_of_the_error_works(tmp_path, capsys):
    """In a file that declares -9999 and holds NaN both are missing, also with `--nodata nan`."""
    for words in ([], ["--nodata", "nan"]):
        assert main.main(["info", str(of_tiff(tmp_path)), *words]) == 0
        out = capsys.readouterr().out
        assert "valid pixels: 17 of 20" in out and "cannot be unmixed" not in out and "-9999 to" not in out


# --- the nodata value of bands that are marked bad -------------------------------------------------------------------


@pytest.mark.parametrize("each", [False, True], ids=["one value", "one a band"])
def test_the_nodata_value_in_a_bad_band_hides_no_pixel(tmp_path, each):
    values = np.random.default_rng(1).integers(10, 99, (H, W, B)).astype(np.int16)
    values[1, 1, 2] = values[2, 2, 0] = -7  # band 2 (counted from 0) is bad

    def then(file):
        for band in range(1, B + 1):
            file.update_tags(band, bbl=str(int(band != 3)))

    if each:
        bands = "".join(
            f'<PAMRasterBand band="{band}"><NoDataValue>{-7 if band < B else -8}</NoDataValue></PAMRasterBand>'
            for band in range(1, B + 1)
        )
        (tmp_path / "s.tif.aux.xml").write_text(f"<PAMDataset>{bands}</PAMDataset>")
    path = tiff(tmp_path / "s.tif", values, then=then, **({} if each else {"nodata": -7}))
    found = windows_agree(path)
    assert found.good_bands.tolist() == [True, True, False, True, True, True]
    assert np.argwhere(~found.valid).tolist() == [[2, 2]]


# --- matrices of version 7.3 that MATLAB did not write ---------------------------------------------------------------


def test_a_hdf5_mat_file_without_matlabs_marks_is_not_turned(tmp_path):
    """MATLAB reverses the axes and marks its arrays; h5py, hdf5storage and Octave do neither."""
    values = cube()
    spectra = np.arange(1.0, 3 * B + 1).reshape(3, B)
    with h5py.File(tmp_path / "s.mat", "w") as file:
        file["cube"], file["endmembers"] = values, spectra
        marked = file.create_dataset("marked", data=values.T)
        marked.attrs["MATLAB_class"] = np.bytes_("double")
    np.testing.assert_array_equal(read(tmp_path / "s.mat", variable="cube").cube, values)
    np.testing.assert_array_equal(read(tmp_path / "s.mat", variable="marked").cube, values)
    np.testing.assert_array_equal(dq.io.read_truth(tmp_path / "s.mat").endmembers, spectra)


# --- gains and offsets of ENVI headers -------------------------------------------------------------------------------

GAINS, OFFSETS = np.array([1e-3, 2e-3, 5e-4, 1e-3, 4e-3]), np.array([0.0, -0.1, 0.2, 0.0, 0.01])


def listed(values):
    return "{" + ", ".join(f"{value:g}" for value in values) + "}"


def stored():
    values = np.random.default_rng(5).integers(100, 900, (4, 3, 5))
    values[1, 2, 0] = 50  # missing; as a value, 0.05
    values[2, 0, 1] = 100  # 0.1: what is missing is compared before the gains
    return values


def reads(folder, **fields):
    options = {name: fields.pop(name) for name in ("scale", "nodata") if name in fields}
    path = image(folder, values=stored(), code=2, interleave="bil", **fields)
    scene = read(path, **options)
    window = Window(slice(1, 3), slice(0, 3))
    values, mask = open_source(path, **options).read(window)
    np.testing.assert_array_equal(values, scene.cube[window])
    np.testing.assert_array_equal(mask, scene.valid[window])
    return scene


@pytest.mark.parametrize("word", ["data", "data_reflectance"])
def test_gains_and_offsets_are_applied_band_by_band(tmp_path, word):
    fields = {f"{word}_gain_values": listed(GAINS), f"{word}_offset_values": listed(OFFSETS)}
    found = reads(tmp_path, data_ignore_value=50, **fields)
    assert np.argwhere(~found.valid).tolist() == [[1, 2]]
    right = stored() * GAINS + OFFSETS
    np.testing.assert_allclose(found.cube[found.valid], right[found.valid], rtol=1e-6)
    words = word.replace("_", " ")
    assert any(
        "multiplied by 0.0005 to 0.004 and -0.1 to 0.2 added" in n and f"'{words} gain" in n for n in found.notes
    )


def test_gains_alone_offsets_alone_and_one_number_for_all(tmp_path):
    np.testing.assert_allclose(reads(tmp_path, data_gain_values=listed(GAINS)).cube, stored() * GAINS, rtol=1e-6)
    found = reads(tmp_path, data_offset_values=listed(OFFSETS))
    np.testing.assert_allclose(found.cube, stored() + OFFSETS, rtol=1e-6)
    np.testing.assert_allclose(reads(tmp_path, data_gain_values="{0.01}").cube, stored() * 0.01, rtol=1e-6)
    assert not any("multiplied" in note for note in reads(tmp_path, data_gain_values="{1, 1, 1, 1, 1}").notes)


def test_gains_of_reflectance_go_before_those_of_radiance(tmp_path):
    fields = {"data_gain_values": listed(9 * GAINS), "data_reflectance_gain_values": listed(GAINS)}
    found = reads(tmp_path, **fields)
    np.testing.assert_allclose(found.cube, stored() * GAINS, rtol=1e-6)
    assert any("'data gain values' were not applied" in note for note in found.notes)


def test_gains_and_a_scale_factor(tmp_path):
    same = {"data_gain_values": listed([1e-4] * 5), "reflectance_scale_factor": 10000}
    np.testing.assert_allclose(reads(tmp_path, **same).cube, stored() / 10000, rtol=1e-6)  # said twice, applied once
    one = {"data_gain_values": listed(GAINS), "reflectance_scale_factor": 1}
    np.testing.assert_allclose(reads(tmp_path, **one).cube, stored() * GAINS, rtol=1e-6)
    with pytest.raises(InputError, match=r"offsets of -0\.1 to 0\.2"):
        reads(tmp_path, **same, data_offset_values=listed(OFFSETS))
    two = {"data_gain_values": listed(GAINS), "reflectance_scale_factor": 10000}
    with pytest.raises(InputError, match=r"'reflectance scale factor = 10000'.*0.0005 to 0.004.*--scale NUMBER"):
        reads(tmp_path, **two)
    found = reads(tmp_path, scale=500, **two)  # as the message advises
    np.testing.assert_allclose(found.cube, stored() / 500, rtol=1e-6)
    assert any("'data gain values' were not applied, because a scale" in note for note in found.notes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{1, 2, 3}", "lists 3 values"),
        ("{a, 1, 1, 1, 1}", "not numbers"),
        ("{1, 1, nan, 1, 2}", "gain nan .* of band 3"),
        ("{1, 0, 2, 1, 1}", "gain 0 .* of band 2"),
        ("{1, 1, 1, 1, inf}", "gain inf .* of band 5"),
    ],
)
def test_gains_that_are_none(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        reads(tmp_path, data_gain_values=text)
    assert reads(tmp_path, data_gain_values=text, scale=10).cube.max() < 100  # as the message advises
    if "gain 0" in message:
        assert not reads(tmp_path, data_gain_values=text, bbl="{1, 0, 1, 1, 1}").cube[:, :, 1].any()


def test_gains_of_a_spectral_library(tmp_path):
    spectra = np.array([[100.0, 200, 300], [400, 500, -99]])
    path, header = write_library(tmp_path / "l.sli", spectra, ["a", "b"], np.array([500.0, 600, 700]))
    header.write_text(header.read_text() + "data gain values = {0.001, 0.002, 0.003}\ndata ignore value = -99\n")
    found = dq.libraries.read_library(path)
    np.testing.assert_allclose(found.spectra[0], spectra[0] * [0.001, 0.002, 0.003], rtol=1e-6)
    assert np.isnan(found.spectra[1, 2]) and any("multiplied by 0.001 to 0.003" in note for note in found.notes)
    np.testing.assert_allclose(dq.libraries.read_library(path, scale=10).spectra[0], spectra[0] / 10, rtol=1e-6)
    np.testing.assert_allclose(dq.io.read_truth(path).endmembers[0], spectra[0] * [0.001, 0.002, 0.003], rtol=1e-6)


# --- the place of a part ---------------------------------------------------------------------------------------------

WHOLE = {"crs_wkt": "EPSG:32632", "GeoTransform": "500000 30 0 5000000 0 -30"}


def placed(x, y, kind=np.float64, **attributes):
    """Return a cube with coordinates and the transform of the whole raster."""
    values = cube()[: len(y), : len(x)]
    coords = {
        "x": Named(np.asarray(x, kind), ("x",)),
        "y": Named(np.asarray(y, kind), ("y",)),
        "wavelength": Named(NM, ("band",), attrs={"units": "nm"}),
        "spatial_ref": Named(0, (), attrs=WHOLE | attributes),
    }
    return read(Named(values.transpose(2, 0, 1), ("band", "y", "x"), coords))


def test_a_part_lies_where_its_coordinates_say():
    x, y = 500015.0 + 30 * np.arange(9), 4999985.0 - 30 * np.arange(9)
    whole = placed(x[:W], y[:H])
    assert whole.georeference.transform == (30.0, 0.0, 500000.0, 0.0, -30.0, 5000000.0) and not whole.notes
    part = placed(x[3:8], y[2:6])
    assert part.georeference.transform == (30.0, 0.0, 500090.0, 0.0, -30.0, 4999940.0)
    assert any("up to 90 and 60 from where the transform" in note for note in part.notes)
    assert part.envi_fields["map info"].startswith("{UTM, 1, 1, 500090, 4999940, 30, 30, 32, North")
    second = placed(x[::2], y[::2][:H])  # every second pixel
    assert second.georeference.transform == (60.0, 0.0, 499985.0, 0.0, -60.0, 5000015.0)
    turned = placed(x[:W], y[:H][::-1])  # from south to north
    assert turned.georeference.transform == (30.0, 0.0, 500000.0, 0.0, 30.0, 4999880.0)
    row = placed(x[1:4], y[2:3])  # a single row has the transform's height
    assert row.georeference.transform == (30.0, 0.0, 500030.0, 0.0, -30.0, 4999940.0)


def test_coordinates_that_are_rounded_or_no_places():
    fine = {"GeoTransform": "500000 1 0 5000000.25 0 -1"}
    x, y = 500000.5 + np.arange(W), 4999999.75 - np.arange(H)
    rounded = placed(x, y, np.float32, **fine)  # northings in float32 are rounded to half a metre
    assert rounded.georeference.transform == (1.0, 0.0, 500000.0, 0.0, -1.0, 5000000.25) and not rounded.notes
    counted = placed(np.arange(3, 3 + W), np.arange(H))
    assert counted.georeference.transform == (30.0, 0.0, 500000.0, 0.0, -30.0, 5000000.0)
    assert any("count pixels" in note for note in counted.notes)
    uneven = placed([500015.0, 500045, 500075, 500225, 500255], 4999985.0 - 30 * np.arange(H))
    assert uneven.georeference is None and any("not evenly spaced" in note for note in uneven.notes)
    tilted = placed(x, y, GeoTransform="500000 30 5 5000000 5 -30")  # a turned raster has no coordinate a row
    assert tilted.georeference.transform == (30.0, 5.0, 500000.0, 5.0, -30.0, 5000000.0)


# --- wavelengths and widths that are no lengths ----------------------------------------------------------------------

WRONG = [np.inf, 0.0, -500.0, 1e300, np.nan]


def with_length(folder, kind, values, what):
    """Write a scene of B bands with the given wavelengths or widths."""
    good = 500.0 + 100 * np.arange(len(values))
    centres, widths = (values, np.full(len(values), 9.0)) if what == "wavelengths" else (good, values)
    if kind == "envi":
        text = {"wavelength": listed(centres), "wavelength_units": "nm", "fwhm": listed(widths)}
        return image(folder, **text)
    if kind == "npz":
        np.savez(folder / "s.npz", cube=cube(), wavelengths_nm=centres, fwhm_nm=widths)
        return folder / "s.npz"
    if kind == "mat":
        savemat(folder / "s.mat", {"cube": cube(), "wavelengths": centres})
        return folder / "s.mat"
    if kind == "tiff":

        def then(file):
            for band in range(B):
                unit = {"wavelength_units": "nm"}
                file.update_tags(
                    band + 1, wavelength=repr(float(centres[band])), fwhm=repr(float(widths[band])), **unit
                )

        return tiff(folder / "s.tif", cube(), then=then)
    if kind == "emit":
        names = ("sensor_band_parameters/wavelengths", "sensor_band_parameters/fwhm")
        return emit(folder / "e.nc", **dict(zip(names, (centres, widths), strict=True)))
    group = zarr.open_group(str(folder / "s.zarr"), mode="w")
    add(group, 3, "r", cube(), ("y", "x", "wavelength"))
    add(group, 3, "wavelength", centres, ("wavelength",), units="nm")
    add(group, 3, "fwhm", widths, ("wavelength",))
    return folder / "s.zarr"


@pytest.mark.parametrize("what", ["wavelengths", "fwhm"])
@pytest.mark.parametrize("kind", ["envi", "npz", "mat", "tiff", "emit", "zarr"])
def test_wavelengths_that_are_none_are_left_out_with_a_sentence(tmp_path, kind, what):
    if kind == "mat" and what == "fwhm":
        pytest.skip("MATLAB files have no widths")
    bands = 5 if kind == "envi" else B
    for wrong in WRONG:
        values = 500.0 + 100 * np.arange(bands) if what == "wavelengths" else np.full(bands, 9.0)
        values[2] = wrong
        found = read(with_length(tmp_path, kind, values, what))
        assert getattr(found, what) is None
        said = [note for note in found.notes if "in band 2 (counted from 0); they were left out" in note]
        # In a TIFF a number that is not there and one that is NaN are the same.
        assert said or (kind == "tiff" and np.isnan(wrong)), (wrong, found.notes)


@pytest.mark.parametrize("what", ["wavelengths", "fwhm"])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_scene_a_source_and_a_library_refuse_them(wrong, what):
    values = np.full(B, 500.0)
    values[4] = wrong
    with pytest.raises(InputError, match=rf"{what} hold .* in band 4 \(counted from 0\); expected nanometres above 0"):
        Scene(cube(), **{what: values})
    with pytest.raises(InputError, match="nanometres above 0"):
        Source((H, W, B), lambda window: None, **{what: values})
    name = {"wavelengths": "wavelengths_nm", "fwhm": "fwhm_nm"}[what]
    with pytest.raises(InputError, match="nanometres above 0"):
        Library(("a",), **({"wavelengths_nm": np.full(B, 500.0), "spectra": np.ones((1, B))} | {name: values}))


def test_wavelengths_of_prisma_that_are_none(tmp_path):
    for wrong in (np.inf, -500.0, 1e300, np.nan):
        centres = np.array([1010.0, wrong, 500.0, 0.0])
        with pytest.raises(InputError, match=r"List_Cw_Vnir hold .*nanometres above 0"):
            read(prisma(tmp_path / "p.he5", List_Cw_Vnir=centres))


def test_the_record_of_a_scene_without_its_wavelengths_is_written(tmp_path, capsys):
    values = 500.0 + 100 * np.arange(B)
    values[1] = np.inf
    path = with_length(tmp_path, "npz", values, "wavelengths")
    assert main.main(["info", str(path), "--json"]) == 0
    assert '"wavelengths_nm": null' in capsys.readouterr().out


# --- damage that ended in a warning or in a fault of the program -----------------------------------------------------


def test_an_array_without_values_is_refused(tmp_path):
    group = zarr.open_group(str(tmp_path / "s.zarr"), mode="w")
    add(group, 3, "r", np.zeros((4, 0, 6), np.float32), ("y", "x", "band"))
    with pytest.raises(InputError, match=r"\(4, 0, 6\) rows, columns and bands; expected at least one of each"):
        open_source(tmp_path / "s.zarr")


def test_a_table_of_a_map_that_holds_nan_sees_nothing_there(tmp_path):
    rows, columns = np.full((3, 3), 2.0), np.full((3, 3), 1.0)
    rows[0, 0], columns[0, 1], rows[0, 2] = np.nan, np.inf, -1e300
    path = emit(tmp_path / "e.nc", **{"location/glt_y": rows, "location/glt_x": columns})
    lookup = read(path).georeference.lookup
    assert lookup[1, 1].tolist() == [1, 0] and (lookup[0] == -1).all()


def test_a_signalling_nan_of_a_library_is_missing(tmp_path):
    path, _ = write_library(tmp_path / "l.sli", np.ones((2, 3)), ["a", "b"], np.array([500.0, 600, 700]))
    raw = np.frombuffer(path.read_bytes(), "<u4").copy()
    raw[1] = 0x7FA00000  # as numpy would not make it
    path.write_bytes(raw.tobytes())
    assert np.isnan(dq.libraries.read_library(path).spectra[0]).tolist() == [False, True, False]


@pytest.mark.parametrize(("factor", "scale"), [(1e40, 1e40), (-1e200, 1e200), (1e-50, 1e-50)])
def test_measurements_beyond_float32_are_refused_and_the_advice_works(tmp_path, factor, scale):
    values = cube().astype(np.float64)
    np.save(tmp_path / "a.npy", values * factor)
    with pytest.raises(InputError, match=rf"float32 cannot hold.*read with scale={re.escape(f'{scale:g}')} "):
        read(tmp_path / "a.npy")
    held = read(tmp_path / "a.npy", scale=scale).cube
    np.testing.assert_allclose(held, values * (factor / scale), rtol=1e-6)


def test_a_fill_value_beyond_float32_is_named_and_the_advice_works(tmp_path):
    values = cube().astype(np.float64)
    values[1, 2] = -1.7976931348623157e308
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(InputError, match=r"read with nodata=-1.7976931348623157e\+308 "):
        read(tmp_path / "a.npy")
    assert int((~read(tmp_path / "a.npy", nodata=-1.7976931348623157e308).mask).sum()) == 1
