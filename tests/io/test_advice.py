"""Advice is executed: each error that names an option, a call or a file is raised, and what it says is done."""

import ast
import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.checks import InputError, check_finite
from dequnmix_jax.cli import main
from dequnmix_jax.io.formats import read, read_truth
from dequnmix_jax.results.score import read_reference
from dequnmix_jax.scenes.scene import Scene, check_scene, mask_invalid
from tests.io.test_envi import image

ROOT = Path(dq.__file__).parent
WINGS = ("io", "scenes", "libraries", "cli")
NAMES_ADVICE = re.compile(r"--[a-z]|\b[a-z]+=[A-Z('{]|\b[Pp]ass\b|\bRemove\b|\bCall the\b|`[a-z]")

# What is not done here: who does it, or why not.
ELSEWHERE = {
    "of endmembers that are found in the scene are by the spread": "tests/test_start_uncertainty.py",
    "--unit model takes the unit of the training of a MODEL": "tests/tiles/test_unit_of_the_model.py",
    "compares other ways to find the endmembers": "tests/test_start_uncertainty.py passes --endmembers",
    "exists already and is not overwritten": "tests/results/test_writer.py",
    "too many for an ENVI header": "a header of 64 MB",
    "too many for a virtual raster": "a text of 64 MB",
    "is a trained model, which `fit` made": "tests/cli/test_cli.py unmixes by a model",
    "and the spectrum has {} values": "tests/libraries/test_library.py passes those of the same spectrometer",
    "names a source on another machine": "no other machine",
    "is a virtual raster, which names other files": "tests/io/test_remote.py reads the raster itself",
    "is a virtual file of GDAL of another kind": "tests/io/test_remote.py passes paths",
    "The server does not say how many bytes": "no such server",
    "expected one. Pass its METADATA.XML": "tests/io/test_dlr.py passes it",
    "holds gains that are 0 or not finite": "tests/io/test_dlr.py passes a scale",
    "The scene is unmixed in tiles, from disk to disk, and": "tests/cli",
    "holds the maps of a result, not a scene; expected the scene that was unmixed. `read_result`": "tests/cli",
    "--scaled does not apply": "tests/cli",
    "--patch-size is the size": "tests/cli",
    "--fixed does not apply to": "tests/cli/test_fixed.py",
    "--max-endmembers limits what": "tests/cli/test_commands.py",
    "--fixed spectra stay while": "tests/cli/test_fixed.py",
    "without a library; expected --fixed FILE": "tests/cli/test_fixed.py",
    "The fixed spectra do not cover": "tests/cli/test_fixed.py",
    "is a folder without estimate.npz; expected one that `dequnmix unmix` made": "tests/libraries/test_library.py",
    "is not the output of an unmixing": "tests/cli",
    "expected either --endmembers N": "tests/cli",
    "--start auto looks at the whole scene": "tests/cli",
    "to the spectra of a library; expected --endmembers LIBRARY as well": "tests/cli/test_known.py",
    "--epochs and --seed are for the training of --method deq": "tests/cli/test_known.py",
    "--draws applies to --uncertainty-by draws": "tests/cli/test_known.py",
    "to --method {}; expected that method. Write it": "tests/cli/test_known.py",
    "The spectra have no classes, of which the best are kept": "tests/cli/test_known.py",
    "is a MODEL and {} a LIBRARY": "tests/cli/test_known.py",
    "is one file, and there are many scenes": "tests/test_many_scenes.py",
    "scenes and no model are given; expected -m MODEL": "tests/test_many_scenes.py",
    "No model and no spectra are given": "tests/cli/test_known.py",
    "does not exist; expected a spectral library (ENVI, CSV, USGS text) for --endmembers": "tests/cli/test_known.py",
    "looks at the whole scene, which": "tests/cli/test_known.py",
    "--uncertainty is computed for a whole scene": "tests/cli/test_known.py",
    "--halo is for a model whose pixels depend on each other": "tests/cli/test_known.py",
    "for a training, and the spectra of": "tests/cli/test_known.py",
    "uses none of the {} pixels of": "tests/io/test_masks.py",
    "to which mask_values (--mask-values) does not apply": "tests/io/test_masks.py",
    "says how a mask is read, and there is none": "tests/io/test_masks.py",
    "which float32 cannot hold.{} If these are measurements": "tests/scenes/test_values.py",
    "bands that other spectra cover; expected spectra over one range": "tests/libraries/test_chosen.py",
}
DONE: dict[str, object] = {}
CUBE = np.random.default_rng(0).uniform(0.1, 0.6, (4, 3, 5)).astype(np.float32)


def sentence(node):
    """Return the text of a message, {} for what it fills in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(v.value) if isinstance(v, ast.Constant) else "{}" for v in node.values)
    return "{}"


def advice_in(wing):
    for path in sorted((ROOT / wing).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "InputError" and node.args:
                text = sentence(node.args[0])
                if NAMES_ADVICE.search(text):
                    yield f"{path.relative_to(ROOT)}: {text}"


def does(words):
    """Mark a test as the one that does what the sentence with these words says."""

    def mark(function):
        DONE[words] = function
        return function

    return mark


@pytest.mark.parametrize("wing", WINGS)
def test_every_sentence_of_advice_is_known(wing):
    known = [*DONE, *ELSEWHERE]
    missing = [text for text in advice_in(wing) if not any(words in text for words in known)]
    assert not missing, "\n".join(missing)


def test_no_entry_is_of_a_sentence_that_is_gone():
    texts = [text for wing in WINGS for text in advice_in(wing)]
    assert not [words for words in (*DONE, *ELSEWHERE) if not any(words in text for text in texts)]


def told(call, words):
    """Return the message of the error that a call raises."""
    with pytest.raises(InputError) as error:
        call()
    assert words in str(error.value), str(error.value)
    return str(error.value)


@does("divided by its scale or multiplied by its gains, are beyond all numbers")
def test_another_divisor_of_a_library(tmp_path):
    (tmp_path / "l.csv").write_text("wavelength_nm,a,b\n400,0.1,0.3\n500,0.2,0.4\n")
    told(lambda: dq.libraries.read_library(tmp_path / "l.csv", scale=1e-320), "Pass scale=1, or another divisor")
    np.testing.assert_allclose(dq.libraries.read_library(tmp_path / "l.csv", scale=1).spectra[0], [0.1, 0.2])


@does("so bands cannot be ignored by their range")
def test_bands_instead_of_ranges(tmp_path):
    np.save(tmp_path / "s.npy", CUBE)
    told(lambda: read(tmp_path / "s.npy", ignore=[(400, 500)]), "bands=(first, last)")
    assert read(tmp_path / "s.npy", bands=(1, 3)).good_bands.sum() == 3


@does("says 'reflectance scale factor = {}', and")
def test_a_scale_overrides_fields_that_contradict(tmp_path):
    values = np.arange(60).reshape(4, 3, 5)
    fields = {"reflectance_scale_factor": "100", "data_gain_values": "{" + ", ".join(["0.5"] * 5) + "}"}
    path = image(tmp_path, values=values, **fields)
    told(lambda: read(path), "--scale NUMBER")
    np.testing.assert_allclose(read(path, scale=100).cube, values / 100)
    path = image(tmp_path, values=values, reflectance_scale_factor="100")  # the other field is removed
    np.testing.assert_allclose(read(path).cube, values / 100)


@does("says gain {} and offset {} of band {}")
def test_a_scale_overrides_a_gain_of_zero(tmp_path):
    values = np.arange(60).reshape(4, 3, 5)
    path = image(tmp_path, values=values, data_gain_values="{0, 1, 2, 3, 4}")
    told(lambda: read(path), "--scale NUMBER")
    np.testing.assert_allclose(read(path, scale=10).cube, values / 10)


@does("' twice, as '")
def test_one_of_two_fields_is_removed(tmp_path):
    path = image(tmp_path, data_ignore_value="7")
    header = path.with_suffix(".hdr")
    whole = header.read_text()
    header.write_text(whole + "data ignore value = 8\n")
    assert "as '7' and as '8'" in told(lambda: read(path), "Remove the wrong one")
    header.write_text(whole.replace("value = 7", "value = 8"))
    assert read(path).valid.sum() == 11
    header.write_text(whole + "data ignore value = 7\n")  # the same value twice contradicts nothing
    assert read(path).valid.sum() == 11


@does("has no data file beside it; expected {}, {}.img")
def test_the_data_file_may_be_passed(tmp_path):
    path = image(tmp_path, name="x.anything")
    told(lambda: read(tmp_path / "x.hdr"), "or pass the data file")
    assert read(path).cube.shape == (4, 3, 5)


@does("could describe {}; expected one data file")
def test_one_of_two_data_files_is_passed(tmp_path):
    path = image(tmp_path)
    (tmp_path / "x.dat").write_bytes(b"")
    told(lambda: read(tmp_path / "x.hdr"), "Pass the data file instead")
    assert read(path).cube.shape == (4, 3, 5)


@does("is a table, not a scene")
def test_a_table_is_read_as_a_library(tmp_path):
    (tmp_path / "t.csv").write_text("wavelength_nm,a\n400,0.1\n500,0.2\n")
    told(lambda: read(tmp_path / "t.csv"), "libraries.read_library read")
    assert dq.libraries.read_library(tmp_path / "t.csv").names == ("a",)


@does("is a folder without estimate.npz; expected one that `write` made")
def test_a_file_instead_of_a_folder(tmp_path):
    np.savez(tmp_path / "truth.npz", endmembers=np.ones((2, 5)))
    told(lambda: read_truth(tmp_path), "or a file")
    assert read_truth(tmp_path / "truth.npz").endmembers.shape == (2, 5)


class Dataset(dict):
    """What of an xarray Dataset is used."""

    @property
    def data_vars(self):
        return self


@does("The data set holds {}; expected one cube")
def test_a_variable_of_a_dataset():
    dataset = Dataset(a=CUBE, b=2 * CUBE)
    told(lambda: read(dataset), "Pass variable=NAME, or the array itself")
    np.testing.assert_array_equal(read(dataset, variable="b").cube, 2 * CUBE)
    np.testing.assert_array_equal(read(dataset["a"]).cube, CUBE)


@does("none of which is known to be the cube")
@does("has no real matrix or cube named")
def test_a_variable_of_a_matlab_file(tmp_path):
    savemat = pytest.importorskip("scipy.io").savemat
    savemat(tmp_path / "s.mat", {"one": CUBE, "two": 2 * CUBE})
    message = told(lambda: read(tmp_path / "s.mat"), "Pass variable=NAME (--variable NAME)")
    assert told(lambda: read(tmp_path / "s.mat", variable="three"), "Pass one of these") and "one (4, 3, 5)" in message
    np.testing.assert_allclose(read(tmp_path / "s.mat", variable="two").cube, 2 * CUBE)


@does("and none of these is known to be the cube")
@does("has no array named {}; it holds")
def test_a_variable_of_a_npz(tmp_path):
    np.savez(tmp_path / "s.npz", one=CUBE, two=2 * CUBE)
    told(lambda: read(tmp_path / "s.npz"), "Pass variable=NAME (--variable NAME)")
    told(lambda: read(tmp_path / "s.npz", variable="three"), "Pass one of these")
    np.testing.assert_array_equal(read(tmp_path / "s.npz", variable="two").cube, 2 * CUBE)


@does("expected one cube of three axes, or its name")
def test_a_variable_of_a_zarr_group(tmp_path):
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(str(tmp_path / "s.zarr"), mode="w")
    for name, values in (("one", CUBE), ("two", 2 * CUBE)):
        (getattr(group, "create_array", None) or group.create_dataset)(name, shape=values.shape, dtype="f4")[...] = (
            values
        )
    told(lambda: read(tmp_path / "s.zarr"), "Pass variable=NAME")
    np.testing.assert_array_equal(read(tmp_path / "s.zarr", variable="two").cube, 2 * CUBE)


@does("which is not a square number, and nothing in the file says")
@does("and nothing in the file tells bands from pixels")
@does("expected (bands, pixels). Check that these variables belong together")
@does("columns make {}; expected the two to agree")
@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"cube": np.ones((5, 12)), "wavelengths_nm": np.arange(400, 405)}, "--shape ROWS COLUMNS"),
        ({"cube": np.ones((5, 12))}, "tells bands from pixels; pass shape=(rows, columns)"),
        ({"cube": np.ones((5, 12)), "wavelengths_nm": np.arange(400, 409)}, "or pass shape=(rows, columns)"),
        ({"cube": np.ones((12, 5)), "wavelengths_nm": np.arange(400, 405)}, "--shape ROWS COLUMNS"),
    ],
)
def test_the_shape_of_a_matrix(tmp_path, arrays, words):
    np.savez(tmp_path / "s.npz", **arrays)
    told(lambda: read(tmp_path / "s.npz"), words)
    told(lambda: read(tmp_path / "s.npz", shape=(4, 4)), "the other variables say 16 pixels")
    if arrays.get("wavelengths_nm", np.ones(5)).size == 5:
        assert read(tmp_path / "s.npz", shape=(4, 3)).cube.shape == (4, 3, 5)
    savemat = pytest.importorskip("scipy.io").savemat
    savemat(tmp_path / "s.mat", {"A": np.full((3, 12), 1 / 3), "H": 2, "W": 5})
    told(lambda: read_truth(tmp_path / "s.mat"), "2 rows x 5 columns make 10; expected the two to agree")
    assert read_truth(tmp_path / "s.mat", shape=(4, 3)).abundances.shape == (4, 3, 3)


ESRI = "BYTEORDER I\nLAYOUT BIL\nNROWS 4\nNCOLS 3\nNBANDS 5\nNBITS 32\nPIXELTYPE FLOAT\n"


@does("is an ESRI header with {} beside it")
def test_the_data_file_of_an_esri_header(tmp_path):
    pytest.importorskip("rasterio")
    CUBE.transpose(0, 2, 1).astype("<f4").tofile(tmp_path / "s.bil")
    (tmp_path / "s.bsq").write_bytes(b"\0")
    (tmp_path / "s.hdr").write_text(ESRI)
    told(lambda: read(tmp_path / "s.hdr"), "Pass the data file")
    np.testing.assert_array_equal(read(tmp_path / "s.bil").cube, CUBE)


@does("reads raw bytes of other files")
def test_a_virtual_raster_of_raw_bytes_is_converted(tmp_path):
    """By what gdal_translate calls."""
    shutil = pytest.importorskip("rasterio.shutil")
    CUBE[:, :, 0].astype("<f4").tofile(tmp_path / "raw.bin")
    (tmp_path / "s.vrt").write_text(
        '<VRTDataset rasterXSize="3" rasterYSize="4"><VRTRasterBand dataType="Float32" band="1" '
        'subClass="VRTRawRasterBand"><SourceFilename relativeToVRT="1">raw.bin</SourceFilename><ImageOffset>0'
        "</ImageOffset><PixelOffset>4</PixelOffset><LineOffset>12</LineOffset><ByteOrder>LSB</ByteOrder></VRTRasterBand>"
        "</VRTDataset>"
    )
    told(lambda: read(tmp_path / "s.vrt"), "Convert it by `gdal_translate`")
    shutil.copy(tmp_path / "s.vrt", tmp_path / "s.tif", driver="GTiff")
    np.testing.assert_array_equal(read(tmp_path / "s.tif").cube[:, :, 0], CUBE[:, :, 0])


def table(folder, text):
    (folder / "t.csv").write_text(text)
    return folder / "t.csv"


@does("has one column; expected wavelengths in the first")
@does("holds values without wavelengths, and no single file")
def test_wavelengths_of_a_spectrum_in_one_column(tmp_path):
    told(lambda: dq.libraries.read_library(table(tmp_path, "0.1\n0.2\n0.3\n")), "begins with a line that names it")
    path = table(tmp_path, "grass\n0.1\n0.2\n0.3\n")
    told(lambda: dq.libraries.read_library(path), "Pass wavelengths=FILE (--wavelengths FILE)")
    (tmp_path / "w.txt").write_text("micrometres\n0.4\n0.5\n0.6\n")
    library = dq.libraries.read_library(path, wavelengths=tmp_path / "w.txt")
    np.testing.assert_allclose(library.wavelengths_nm, [400, 500, 600])


@does("has band numbers in its first column")
def test_the_library_beside_a_table_of_band_numbers(tmp_path):
    from dequnmix_jax.io.envi.writer import write_library
    from dequnmix_jax.libraries.csv import write_table

    spectra = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    write_table(tmp_path / "endmembers.csv", spectra, ("a", "b"), None)
    write_library(tmp_path / "endmembers.sli", spectra, ("a", "b"), None)
    told(lambda: dq.libraries.read_library(tmp_path / "endmembers.csv"), "pass the .sli file beside it")
    np.testing.assert_allclose(read_reference(tmp_path / "endmembers.sli").endmembers, spectra, rtol=1e-6)


@does("could hold a spectrum in each column")
def test_the_orientation_of_a_table(tmp_path):
    text = "id,400,500,600\n450,1,2,3\n550,4,5,6\n"
    told(lambda: dq.libraries.read_library(table(tmp_path, text)), "Call the first cell wavelength_nm")
    assert dq.libraries.read_library(table(tmp_path, text.replace("id", "wavelength_nm"))).spectra.shape == (3, 2)
    rows = text.replace("450", "a").replace("550", "b")
    assert dq.libraries.read_library(table(tmp_path, rows)).names == ("a", "b")


@does("in its first column; expected wavelengths. Remove")
def test_a_column_that_counts(tmp_path):
    text = "index,a,b\n" + "".join(f"{i},{400 + i},{i}\n" for i in range(1, 5))
    told(lambda: dq.libraries.read_library(table(tmp_path, text)), "--units um")
    micrometres = 1000.0 * np.arange(1, 5)
    np.testing.assert_allclose(dq.libraries.read_library(table(tmp_path, text), units="um").wavelengths_nm, micrometres)
    named = table(tmp_path, text.replace("index", "wavelength_um"))
    np.testing.assert_allclose(dq.libraries.read_library(named).wavelengths_nm, micrometres)
    removed = table(tmp_path, re.sub(r"^[^,]*,", "", text, flags=re.MULTILINE))
    np.testing.assert_allclose(dq.libraries.read_library(removed).wavelengths_nm, 400 + np.arange(1, 5))


@does("they may be nanometres, ")
@does("no unit is given; expected nanometres")
@pytest.mark.parametrize(
    ("numbers", "units", "expected"),
    [
        ((4500, 24000), "nm", (4500, 24000)),
        ((4500, 24000), "angstrom", (450, 2400)),
        ((4000, 20000), "cm-1", (500, 2500)),
        ((50, 400), "um", (50000, 400000)),
    ],
)
def test_a_unit_that_is_not_given(tmp_path, numbers, units, expected):
    text = f"wavelength,a\n{numbers[0]},0.1\n{numbers[1]},0.2\n"
    message = told(lambda: dq.libraries.read_library(table(tmp_path, text)), "no unit is given")
    assert f"units='{units}'" in message or f"'{units}'" in message
    library = dq.libraries.read_library(table(tmp_path, text), units=units)
    np.testing.assert_allclose(library.wavelengths_nm, expected)
    if units == "nm":
        library = dq.libraries.read_library(table(tmp_path, text.replace("wavelength", f"wavelength_{units}")))
        np.testing.assert_allclose(library.wavelengths_nm, expected)


@does("do not increase: {} nm is followed by")
def test_bands_that_occur_twice_or_overlap(tmp_path):
    text = "wavelength_nm,a\n400,1\n600,3\n500,2\n600,3\n"
    told(lambda: dq.libraries.read_library(table(tmp_path, text)), "sort=True (--sort)")
    told(lambda: dq.libraries.read_library(table(tmp_path, text), sort=True), "Remove bands that occur twice")
    library = dq.libraries.read_library(table(tmp_path, text.removesuffix("600,3\n")), sort=True)
    assert library.spectra[0].tolist() == [1, 2, 3]


@does("holds no USGS spectra (.txt or .asc)")
def test_a_file_instead_of_a_folder_of_other_spectra(tmp_path):
    path = table(tmp_path, "wavelength_nm,a\n400,1\n500,2\n")
    told(lambda: dq.libraries.read_library(tmp_path), "or pass a file")
    assert dq.libraries.read_library(path).names == ("a",)


def broken(**metadata):
    """Return a scene with NaN in one pixel."""
    cube = CUBE.copy()
    cube[1, 2, 3] = np.nan
    return Scene(cube, **metadata)


def test_the_cures_of_nan_in_a_pixel(tmp_path):
    scene = broken()
    message = told(lambda: check_scene(scene), "Leave them out by dq.scenes.mask_invalid(scene), of an array")
    np.save(tmp_path / "s.npy", scene.cube)
    mask = np.isfinite(scene.cube).all(-1)
    ways = [dq.scenes.mask_invalid(scene), dq.scenes.mask_invalid(dq.Scene(scene.cube))]
    for cured in (dataclasses.replace(scene, mask=mask), *ways, read(tmp_path / "s.npy", nodata=np.nan)):
        check_scene(cured)
        assert cured.valid.sum() == 11
    assert "--nodata nan" in message
    message = told(lambda: check_finite(scene.cube), "Pass mask=numpy.isfinite(cube).all(-1)")
    check_finite(scene.cube, eval(re.search(r"mask=(numpy\S+\))", message)[1], {"numpy": np, "cube": scene.cube}))


def test_the_cures_of_nan_in_bands_marked_bad():
    scene = broken(good_bands=np.arange(5) != 3)
    told(lambda: check_scene(scene), "use scene.with_good_bands()")
    check_scene(scene.with_good_bands())


@pytest.mark.parametrize("good", [None, np.arange(5) != 0])
def test_the_cures_of_a_band_of_nan(tmp_path, good):
    cube = CUBE.copy()
    cube[:, :, 3] = np.nan
    nm = np.linspace(400, 500, 5)
    scene = Scene(cube, wavelengths=nm, good_bands=good)
    message = told(lambda: check_scene(scene), "holds no finite value in band 3")
    code = re.search(r"or by (.*)\.$", message)[1]
    kept = eval(code, {"scene": scene, "dataclasses": dataclasses, "numpy": np})
    check_scene(kept)
    assert kept.cube.shape[2] == (4 if good is None else 3)
    low, high = re.search(r"--ignore ([\d.]+):([\d.]+)", message).groups()
    np.savez(tmp_path / "s.npz", cube=cube, wavelengths_nm=nm)
    check_scene(read(tmp_path / "s.npz", ignore=[(float(low), float(high))]).with_good_bands())
    message = told(lambda: check_finite(cube), "holds no finite value in band 3")
    keep = eval(re.search(r"keep = (.*), cube\[", message)[1], {"numpy": np, "cube": cube})
    check_finite(cube[:, :, keep])


def test_a_fill_value_beside_nan(tmp_path):
    """The advice for NaN must not turn a declared -9999 into a measurement."""
    cube = CUBE.copy()
    cube[0, 0], cube[1, 2, 3] = -9999, np.nan
    (tmp_path / "s.hdr").write_text("")
    path = image(tmp_path, values=cube, data_ignore_value="-9999")
    for options in ({}, {"nodata": np.nan}):
        scene = read(path, **options)
        check_scene(scene)
        assert scene.valid.sum() == 10 and scene.cube[scene.valid].min() > 0


def test_a_fill_value_that_is_not_declared(tmp_path):
    cube = CUBE.copy()
    cube[0, 0] = -9999
    np.save(tmp_path / "s.npy", cube)
    warning = next(text for text in check_scene(read(tmp_path / "s.npy")) if "negative" in text)
    value = re.search(r"--nodata=(\S+)\)", warning)[1]
    scene = read(tmp_path / "s.npy", nodata=float(value))
    assert scene.valid.sum() == 11 and check_scene(scene) == []


def test_pixels_of_zeros(tmp_path):
    cube = CUBE.copy()
    cube[2, 2] = 0
    np.save(tmp_path / "s.npy", cube)
    scene = read(tmp_path / "s.npy")
    assert "mask_invalid(scene) (--nodata 0)" in check_scene(scene)[0]
    for cured in (mask_invalid(scene), read(tmp_path / "s.npy", nodata=0)):
        assert check_scene(cured) == [] and cured.valid.sum() == 11


@pytest.mark.parametrize("first", [None, 10, 100])
def test_the_scale_that_is_advised_is_enough(tmp_path, first):
    """With a scale that is too small given, the advice was the rest of it, and so on in a circle."""
    np.save(tmp_path / "s.npy", np.round(CUBE * 10000).astype(np.int16))
    warnings = check_scene(read(tmp_path / "s.npy", scale=first))
    scale = re.search(r"--scale (\S+)\)", warnings[0])[1]
    assert float(scale) == 10000
    scene = read(tmp_path / "s.npy", scale=float(scale))
    assert check_scene(scene) == []
    np.testing.assert_allclose(scene.cube, CUBE, atol=1e-4)


@pytest.mark.parametrize(("brightest", "scale"), [(1400, "10000"), (11752, "10000"), (15500, "100000")])
def test_bright_pixels_do_not_change_the_scale_that_is_advised(tmp_path, brightest, scale):
    values = np.round(CUBE * 1000)
    values[0, 0] = brightest
    np.save(tmp_path / "s.npy", values.astype(np.int16))
    assert f"read with scale={scale} (--scale {scale})" in check_scene(read(tmp_path / "s.npy"))[0]


def test_the_scale_beside_gains_of_the_file(tmp_path):
    values = np.round(CUBE * 10000)
    path = image(tmp_path, values=values, data_gain_values="{" + ", ".join(["0.01"] * 5) + "}")
    scale = re.search(r"--scale (\S+)\)", check_scene(read(path))[0])[1]
    np.testing.assert_allclose(read(path, scale=float(scale)).cube, CUBE, atol=1e-4)
    path = image(tmp_path, values=values, data_gain_values="{0.01, 0.02, 0.01, 0.01, 0.01}")
    assert "--scale" not in check_scene(read(path))[0]  # no divisor of all bands does it


def test_a_cube_with_its_bands_first():
    grid = np.linspace(0, 1, 25)
    spectra = np.stack([0.15 + 0.6 * np.exp(-((grid - centre) ** 2) / 0.05) for centre in (0.1, 0.5, 0.9)])
    cube = np.random.default_rng(1).dirichlet(np.full(3, 0.7), (24, 20)) @ spectra
    assert not read(cube).notes
    scene = read(np.moveaxis(cube, 2, 0))
    assert "pass numpy.moveaxis(cube, 0, 2)" in scene.notes[0]
    right = read(np.moveaxis(np.moveaxis(cube, 2, 0), 0, 2))
    assert not right.notes
    np.testing.assert_array_equal(right.cube, cube.astype(np.float32))


@pytest.mark.parametrize("words", [["--nodata", "1", "--nodata=2"], ["--scale", "1", "--scale", "1"]])
def test_an_option_given_twice_is_refused(tmp_path, capsys, words):
    np.savez(tmp_path / "s.npz", cube=CUBE, wavelengths_nm=np.linspace(400, 500, 5))
    with pytest.raises(SystemExit):
        main.main(["info", str(tmp_path / "s.npz"), *words])
    assert "is given twice, as" in capsys.readouterr().err
    assert main.main(["info", str(tmp_path / "s.npz"), *words[:2]]) == 0
    ignored = ["--ignore", "400:410", "--ignore", "490:500"]  # of which there may be several
    assert main.main(["info", str(tmp_path / "s.npz"), *ignored]) == 0
