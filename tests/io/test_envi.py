"""ENVI files: every layout against bytes written by hand, and a sentence for every contradiction."""

import gzip
import os
import re
from pathlib import Path

import numpy as np
import pytest

from dequnmix_jax.checks import InputError
from dequnmix_jax.io.envi.header import DATA_TYPES, read_header
from dequnmix_jax.io.envi.image import open_image, read_library
from dequnmix_jax.io.envi.writer import write_image, write_library, write_strips
from dequnmix_jax.scenes.read_options import ReadOptions
from dequnmix_jax.scenes.source import Window

LINES, SAMPLES, BANDS = 4, 3, 5
VALUES = np.arange(LINES * SAMPLES * BANDS).reshape(LINES, SAMPLES, BANDS)

# Loops in the order of the file, fastest last: the definition of the three interleaves, written out.
ORDERS = {
    "bsq": [(i, j, b) for b in range(BANDS) for i in range(LINES) for j in range(SAMPLES)],
    "bil": [(i, j, b) for i in range(LINES) for b in range(BANDS) for j in range(SAMPLES)],
    "bip": [(i, j, b) for i in range(LINES) for j in range(SAMPLES) for b in range(BANDS)],
}


def read_envi(path, **options):
    return open_image(path, ReadOptions(**options)).scene()


@pytest.fixture
def raw() -> Path:
    folder = os.environ.get("DEQUNMIX_DATA", "")
    path = Path(folder) / "raw"
    if not folder or not path.is_dir():
        pytest.skip("DEQUNMIX_DATA does not name a folder with raw/")
    return path


def image(folder, *, values=VALUES, code=4, interleave="bsq", order=0, offset=0, drop=(), name="x.img", **fields):
    """Write an image byte by byte, and its header; return the data file."""
    dtype = np.dtype(DATA_TYPES[code]).newbyteorder("<" if order == 0 else ">")
    flat = np.array([values[place] for place in ORDERS.get(interleave, ORDERS["bsq"])]).astype(dtype)
    (folder / name).write_bytes(b"\0" * offset + flat.tobytes())
    header = {"samples": SAMPLES, "lines": LINES, "bands": BANDS, "header offset": offset, "file type": "ENVI Standard"}
    header |= {"data type": code, "interleave": interleave, "byte order": order}
    header |= {key.replace("_", " "): value for key, value in fields.items()}
    text = "".join(f"{key} = {value}\n" for key, value in header.items() if key not in drop)
    (folder / "x.hdr").write_text("ENVI\n; a comment\n" + text)
    return folder / name


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
@pytest.mark.parametrize("code", sorted(DATA_TYPES))
def test_every_layout_gives_the_same_cube(tmp_path, code, interleave, order):
    scene = read_envi(image(tmp_path, code=code, interleave=interleave, order=order, offset=16))
    assert scene.cube.dtype == np.float32
    assert scene.cube.flags.c_contiguous
    np.testing.assert_array_equal(scene.cube, VALUES)
    assert scene.notes == () and scene.mask is None


def test_plain_float_bip_is_memory_mapped(tmp_path):
    base = read_envi(image(tmp_path, interleave="bip")).cube
    while base.base is not None and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)


def test_missing_fields_are_assumed_and_said(tmp_path):
    path = image(tmp_path, code=2, drop=("byte order", "header offset", "interleave"))
    scene = read_envi(path)
    np.testing.assert_array_equal(scene.cube, VALUES)
    assert [
        word for word in ("byte order", "header offset", "interleave") if not any(word in n for n in scene.notes)
    ] == []


@pytest.mark.parametrize(
    ("values", "unit", "note"),
    [
        ([400, 500, 600, 700, 800], "Nanometers", None),
        ([0.4, 0.5, 0.6, 0.7, 0.8], "Micrometers", None),
        ([0.4, 0.5, 0.6, 0.7, 0.8], "Unknown", "micrometres were assumed"),
        ([400, 500, 600, 700, 800], None, "nanometres were assumed"),
        ([0.4, 0.5, 0.6, 0.7, 0.8], "Nanometers", "says nanometres"),
        ([25000, 20000, 1e7 / 600, 1e7 / 700, 12500], "Wavenumber", "Wavenumbers"),
    ],
)
def test_wavelengths_come_in_nanometres(tmp_path, values, unit, note):
    fields = {"wavelength": "{" + ",\n ".join(map(repr, values)) + "}"} | ({"wavelength_units": unit} if unit else {})
    scene = read_envi(image(tmp_path, **fields))
    np.testing.assert_allclose(scene.wavelengths, [400, 500, 600, 700, 800], rtol=1e-12)
    assert (len(scene.notes) == 0) if note is None else (note in scene.notes[0])


def test_micrometres_beyond_one_hundred(tmp_path):
    """Libraries of minerals reach 216 micrometres; nanometres labelled as micrometres are still recognised."""
    far = "{0.4, 1.0, 2.5, 25.0, 216.0}"
    scene = read_envi(image(tmp_path, wavelength=far, wavelength_units="Micrometers", fwhm="{0.01, 0.01, 0.02, 1, 2}"))
    np.testing.assert_allclose(scene.wavelengths, [400, 1000, 2500, 25000, 216000])
    np.testing.assert_allclose(scene.fwhm, [10, 10, 20, 1000, 2000])
    assert not scene.notes
    scene = read_envi(image(tmp_path, wavelength="{400, 500, 600, 700, 800}", wavelength_units="Micrometers"))
    assert scene.wavelengths[0] == 400 and "says micrometres" in scene.notes[0]


def test_band_index_is_no_wavelength(tmp_path):
    scene = read_envi(image(tmp_path, wavelength="{1, 2, 3, 4, 5}", wavelength_units="Index"))
    assert scene.wavelengths is None
    assert "not a unit of wavelength" in scene.notes[0]


def test_bad_bands_as_floats(tmp_path):
    scene = read_envi(image(tmp_path, bbl="{1.0, 0.0, 1.000000e+00, 0, 1}"))
    np.testing.assert_array_equal(scene.good_bands, [True, False, True, False, True])
    assert scene.with_good_bands().cube.shape == (LINES, SAMPLES, 3)


@pytest.mark.parametrize("field", ["wavelength", "bbl"])
def test_list_of_another_length_is_refused(tmp_path, field):
    with pytest.raises(InputError, match=f"lists 3 values in '{field}' and says 'bands = 5'"):
        read_envi(image(tmp_path, **{field: "{1, 1, 1}"}))


@pytest.mark.parametrize(
    ("code", "ignore", "masked"),
    [(2, "15000", 1), (1, "-9999", 0), (4, "nan", 1), (4, "-3.40282e+38", 1), (12, "0.5", 0)],
)
def test_data_ignore_value_masks(tmp_path, code, ignore, masked):
    values = VALUES.astype(np.float64)
    if masked:
        values[1, 2, 3] = np.finfo(np.float32).min if "e+38" in ignore else float(ignore)
    scene = read_envi(image(tmp_path, values=values, code=code, data_ignore_value=ignore))
    assert int((~scene.valid).sum()) == masked
    if masked:
        assert not scene.valid[1, 2]
        assert (scene.cube[1, 2] == 0).all()  # NaN times a mask of 0 would stay NaN
        assert "1 of 12 pixels" in scene.notes[0]
    expected = np.where(scene.valid[:, :, None], values, 0)
    np.testing.assert_array_equal(scene.cube, expected.astype(np.float32))


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("code", [2, 4, 12])
def test_saturation_of_the_header_or_the_user_masks(tmp_path, code, order):
    values = VALUES.astype(np.float64)
    values[0, 1, 2], values[1, 2, 1] = 30000, 20000  # the second one in a bad band
    path = image(tmp_path, values=values, code=code, order=order, saturation_value="30000", bbl="{1, 0, 1, 1, 1}")
    scene = read_envi(path)
    assert np.argwhere(~scene.valid).tolist() == [[0, 1]] and "reach the saturation value 30000" in scene.notes[-1]
    assert read_envi(path, saturation=40000).mask is None
    assert int((~read_envi(path, saturation=float(values[1, 0, 0])).valid).sum()) > 1


def test_ignored_ranges_and_widths(tmp_path):
    fields = {"wavelength": "{0.45, 0.55, 0.65, 0.75, 0.85}", "fwhm": "{.01, .01, .02, .01, .01}"}
    scene = read_envi(image(tmp_path, wavelength_units="Micrometers", **fields), ignore=[(540, 660)])
    assert scene.good_bands.tolist() == [True, False, False, True, True]
    np.testing.assert_allclose(scene.fwhm, [10, 10, 20, 10, 10])
    np.testing.assert_allclose(scene.with_good_bands().fwhm, [10, 10, 10])


def test_both_ends_of_an_ignored_range_are_ignored(tmp_path):
    fields = {"wavelength": "{450, 550, 650, 750, 850}", "wavelength_units": "Nanometers"}
    scene = read_envi(image(tmp_path, **fields), ignore=[(550, 650), (850, 900)])
    assert scene.good_bands.tolist() == [True, False, False, True, False]


def test_ignore_value_in_a_bad_band_does_not_mask(tmp_path):
    values = VALUES.copy()
    values[..., 1] = 9999
    scene = read_envi(image(tmp_path, values=values, data_ignore_value="9999", bbl="{1, 0, 1, 1, 1}"))
    assert scene.mask is None


def test_scale_factor_divides_after_masking(tmp_path):
    path = image(tmp_path, code=2, reflectance_scale_factor="10", data_ignore_value="7")
    scene = read_envi(path)
    assert not scene.valid[np.argwhere((VALUES == 7).any(-1))[0][0], np.argwhere((VALUES == 7).any(-1))[0][1]]
    np.testing.assert_allclose(scene.cube[3], VALUES[3] / 10, rtol=1e-6)
    np.testing.assert_array_equal(read_envi(path, scale=1, nodata=-1).cube, VALUES)
    with pytest.raises(InputError, match=r"The scale is 0\.0"):
        read_envi(image(tmp_path, reflectance_scale_factor="0"))


def test_gzip_inside(tmp_path):
    path = image(tmp_path, code=4, file_compression=1)
    plain = path.read_bytes()
    path.write_bytes(gzip.compress(plain))
    np.testing.assert_array_equal(read_envi(path).cube, VALUES)
    path.write_bytes(gzip.compress(plain)[:-20])
    with pytest.raises(InputError, match="cannot be unpacked"):
        read_envi(path)
    path.write_bytes(plain)
    with pytest.raises(InputError, match="cannot be unpacked"):
        read_envi(path)
    path.write_bytes(gzip.compress(plain[:100]))
    with pytest.raises(InputError, match="unpacked, 100 bytes and its header describes 240"):
        read_envi(path)


def test_gzip_that_the_header_does_not_mention(tmp_path):
    path = image(tmp_path)
    path.write_bytes(gzip.compress(path.read_bytes()))
    np.testing.assert_array_equal(read_envi(path).cube, VALUES)


def test_truncated_file_says_both_sizes(tmp_path):
    path = image(tmp_path)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(InputError, match=r"holds 233 bytes and its header describes 240 .*truncated"):
        read_envi(path)


def test_longer_file_says_both_sizes_and_an_offset(tmp_path):
    path = image(tmp_path)
    path.write_bytes(b"\0" * 32 + path.read_bytes())
    with pytest.raises(InputError, match=r"holds 272 bytes and its header describes 240 .*'header offset = 32'"):
        read_envi(path)


def test_other_data_type_is_suggested(tmp_path):
    path = image(tmp_path, code=5)
    header = path.with_suffix(".hdr")
    header.write_text(header.read_text().replace("data type = 5", "data type = 4"))
    with pytest.raises(InputError, match="fit a data type of 8 bytes"):
        read_envi(path)


def test_swapped_samples_and_lines_are_noticed(tmp_path):
    smooth = np.add.outer(np.linspace(0, 5, 20), np.sin(np.linspace(0, 6, 30)))[:, :, None] * np.ones(3)
    write_image(tmp_path / "x.img", smooth)
    header = tmp_path / "x.hdr"
    assert read_envi(header).notes == ()
    header.write_text(header.read_text().replace("samples = 30\nlines = 20", "samples = 20\nlines = 30"))
    assert "may be swapped" in read_envi(header).notes[0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data_type": 6}, "'data type = 6', complex"),
        ({"data_type": 99}, "'data type = 99', no type"),
        ({"samples": "many"}, "'samples = many'"),
        ({"samples": -3}, "'samples = -3'"),
        ({"bands": 0}, "0 bands"),
        ({"interleave": "bqs"}, "'interleave = bqs'"),
        ({"byte_order": 7}, "'byte order = 7'"),
        ({"data_ignore_value": "none"}, "'data ignore value = none'"),
        ({"wavelength": "{a, b, c, d, e}"}, "'wavelength' that are not numbers"),
        ({"file_type": "ENVI Spectral Library"}, "spectral library, not an image"),
    ],
)
def test_nonsense_in_a_header(tmp_path, fields, message):
    with pytest.raises(InputError, match=message):
        read_envi(image(tmp_path, **fields))


def test_missing_field_is_named(tmp_path):
    with pytest.raises(InputError, match="no field 'lines'"):
        read_envi(image(tmp_path, drop=("lines",)))


def test_missing_and_ambiguous_files(tmp_path):
    path = image(tmp_path)
    (tmp_path / "x.dat").write_bytes(b"")
    with pytest.raises(InputError, match=r"could describe x\.img, x\.dat"):
        read_envi(tmp_path / "x.hdr")
    (tmp_path / "x.dat").unlink()
    path.unlink()
    with pytest.raises(InputError, match="no data file beside it"):
        read_envi(tmp_path / "x.hdr")
    with pytest.raises(InputError, match=r"does not exist, though its header x\.hdr does"):
        read_envi(path)
    (tmp_path / "x.hdr").unlink()
    with pytest.raises(InputError, match=r"expected x\.img\.hdr or x\.hdr"):
        read_envi(path)


def test_headers_that_are_none(tmp_path):
    for content, message in [(b"ENVY\n", "begin with the line ENVI"), (b"", "begin with the line ENVI")]:
        (tmp_path / "x.hdr").write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_header(tmp_path / "x.hdr")
    (tmp_path / "x.hdr").write_text("ENVI\nsamples = 3\nband names = {a,\n b,\n")
    with pytest.raises(InputError, match=r"opens a brace in line 3 \(band names\)"):
        read_header(tmp_path / "x.hdr")
    with pytest.raises(InputError, match=r"gone\.hdr cannot be read"):
        read_header(tmp_path / "gone.hdr")


def test_latin_header_with_windows_lines(tmp_path):
    (tmp_path / "x.hdr").write_bytes("ENVI\r\nwavelength units = \xb5m\r\nMap  Info = {a,\r\n b}\r\n".encode("latin-1"))
    assert read_header(tmp_path / "x.hdr") == {"wavelength units": "µm", "map info": "{a,\n b}"}


def test_an_image_written_in_strips_is_the_image(tmp_path):
    values = (VALUES / 7).astype(np.float32)
    height = values.shape[0]
    strips = [(first, values[first : first + 2]) for first in range(0, height, 2)]
    files = write_strips(tmp_path / "a.img", iter(strips[::-1]), values.shape, nodata=-9999)
    np.testing.assert_array_equal(read_envi(files[0]).cube, values)
    write_image(tmp_path / "b.img", values, nodata=-9999)
    assert files[0].read_bytes() == (tmp_path / "b.img").read_bytes()


def test_written_image_reads_back(tmp_path):
    fields = {"map info": "{UTM, 1, 1, 669639.6, 5328106, 0.7, 0.7, 32, North, WGS-84}", "x start": "4976"}
    files = write_image(
        tmp_path / "a.img", VALUES / 7, band_names=["soil, dry", *"bcde"], envi_fields=fields, nodata=-9999
    )
    assert files == [tmp_path / "a.img", tmp_path / "a.hdr"]
    scene = read_envi(files[0])
    np.testing.assert_array_equal(scene.cube, (VALUES / 7).astype(np.float32))
    assert dict(scene.envi_fields) == fields
    header = read_header(files[1])
    assert "soil; dry" in header["band names"]
    assert header["data ignore value"] == "-9999"
    with pytest.raises(InputError, match="exists already"):
        write_image(tmp_path / "a.img", VALUES)
    write_image(tmp_path / "a.img", VALUES, overwrite=True)
    np.testing.assert_array_equal(read_envi(files[0]).cube, VALUES)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.hdr", "a.img"]


def test_written_library_reads_back(tmp_path):
    spectra = np.linspace(0, 1, 10).reshape(2, 5)
    write_library(tmp_path / "e.sli", spectra, ["grass", "red metal"], [400, 500.5, 600, 700, 800])
    found, names, wavelengths = read_library(tmp_path / "e.sli")
    np.testing.assert_array_equal(found, spectra.astype(np.float32))
    assert names == ("grass", "red metal")
    np.testing.assert_array_equal(wavelengths, [400, 500.5, 600, 700, 800])
    with pytest.raises(InputError, match="one name a row"):
        write_library(tmp_path / "f.sli", spectra, ["grass"])
    with pytest.raises(InputError, match="not a spectral library"):
        read_library(image(tmp_path))


def test_real_emit_image_equals_its_npz(raw):
    scene = read_envi(raw / "emit" / "emit20250324t221005_jpl_unmix_ex.hdr")
    with np.load(raw.parent / "emit_mini.npz", allow_pickle=False) as known:
        np.testing.assert_array_equal(scene.cube, known["cube"])
        np.testing.assert_allclose(scene.wavelengths, known["wavelengths_nm"], rtol=1e-6)
        np.testing.assert_array_equal(scene.good_bands, known["bbl"] > 0)
    assert scene.mask is None


def test_real_hysu_library_and_regions(raw):
    hysu = raw / "hysu"
    spectra, names, wavelengths = read_library(
        hysu / "spectral_libraries" / "HySpex_library" / "DLR_HySU_HS_library.lib", scale=10000
    )
    with np.load(raw.parent / "hysu.npz", allow_pickle=False) as known:
        np.testing.assert_allclose(spectra, known["endmembers"], atol=1e-7)
        np.testing.assert_allclose(wavelengths, known["wavelengths_nm"], rtol=1e-6)
        sizes = read_envi(hysu / "HySpex" / "all_targets" / "TargetsROIs" / "ENVI" / "targetsSizeROI.hdr")
        np.testing.assert_array_equal(sizes.cube[:, :, 0], known["roi_size"])
    assert names == ("Bitumen", "Red Metal Sheets", "Blue Fabric", "Red Fabric", "Green Fabric", "Grass")
    assert sizes.envi_fields["map info"].startswith("{UTM, 1.000, 1.000, 669639.600")


@pytest.mark.parametrize("name", ["full", "large_targets", "small_targets", "all_targets"])
def test_real_hysu_tiff(raw, name):
    path = raw / "hysu" / "HySpex" / name / f"DLR_HySU_HS_{name}.tif"
    try:
        import rasterio  # noqa: F401
    except ImportError:
        with pytest.raises(InputError, match=r"dequnmix-jax\[geo\]"):
            read_envi(path)
        return
    scene = read_envi(path)
    assert scene.cube.min() > 0 and scene.cube.max() < 1.2
    if name == "full":
        with np.load(raw.parent / "hysu.npz", allow_pickle=False) as known:
            np.testing.assert_array_equal(scene.cube, known["cube"])


def smooth(height=12, width=9, bands=6):
    """Return a cube whose neighbours are alike, as those of a picture, each value another."""
    rows, columns, band = np.meshgrid(np.arange(height), np.arange(width), np.arange(bands), indexing="ij")
    return (0.3 + 0.02 * np.sin(rows / 3 + band) + 0.03 * np.cos(columns / 2) + 0.02 * band).astype("<f4")


AXES = {"bsq": (2, 0, 1), "bil": (0, 2, 1), "bip": (0, 1, 2)}


def framed(folder, interleave, major=(0, 0), minor=(0, 0), *, offset=0, before=0, after=0, **fields):
    """Write a smooth image with bytes between its values, and return the data file and the cube."""
    cube, blob = smooth(), b"\x7f" * before + b"\0" * offset
    for outer in cube.transpose(AXES[interleave]):
        runs = b"".join(b"\x11" * minor[0] + run.tobytes() + b"\x22" * minor[1] for run in outer)
        blob += b"\x33" * major[0] + runs + b"\x44" * major[1]
    (folder / "f.img").write_bytes(blob + b"\x7f" * after)
    lines, samples, bands = cube.shape
    head = {"samples": samples, "lines": lines, "bands": bands, "header offset": offset, "data type": 4}
    head |= {"interleave": interleave, "byte order": 0} | {name.replace("_", " "): v for name, v in fields.items()}
    (folder / "f.img.hdr").write_text("ENVI\n" + "".join(f"{name} = {value}\n" for name, value in head.items()))
    return folder / "f.img", cube


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
def test_frame_offsets_are_left_out(tmp_path, interleave):
    major, minor = (3, 5), (2, 8)
    names = {"major_frame_offsets": "{3, 5}", "minor_frame_offsets": "{2, 8}"}
    path, cube = framed(tmp_path, interleave, major, minor, offset=7, **names)
    scene = read_envi(path)
    np.testing.assert_array_equal(scene.cube, cube)
    assert any("frame offsets (3, 5) and (2, 8)" in note for note in scene.notes)
    np.testing.assert_array_equal(
        open_image(path, ReadOptions()).read(Window(slice(2, 5), slice(1, 4)))[0], cube[2:5, 1:4]
    )
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="Correct 'major frame offsets' and 'minor frame offsets'"):
        read_envi(path)


@pytest.mark.parametrize("text", ["{1}", "{-1, 0}", "{a, b}"])
def test_frame_offsets_that_are_none(tmp_path, text):
    path, _ = framed(tmp_path, "bil", minor_frame_offsets=text)
    with pytest.raises(InputError, match="expected two whole numbers"):
        read_envi(path)


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
@pytest.mark.parametrize(
    "more",
    [{"before": 144}, {"after": 144}, {"major": (0, 12)}, {"major": (12, 0)}, {"minor": (0, 4)}, {"minor": (4, 0)}],
)
def test_the_advice_on_a_longer_file_gives_the_picture(tmp_path, interleave, more):
    """A header offset that shears the picture is not advised where the bytes lie elsewhere."""
    path, cube = framed(tmp_path, interleave, **more)
    with pytest.raises(InputError) as error:
        read_envi(path)
    text = str(error.value).partition("It would fit ")[2]
    found = []
    for advice in text.split(", or "):
        header, data = path.with_name("f.img.hdr").read_text(), path.read_bytes()
        if field := re.search(r"with '(.*?) = (.*?)'", advice):
            kept = [line for line in header.splitlines() if not line.startswith(field[1])]
            path.with_name("f.img.hdr").write_text("\n".join([*kept, f"{field[1]} = {field[2]}"]))
        else:
            path.write_bytes(data[: -int(re.search(r"its last (\d+) bytes", advice)[1])])
        found.append(np.array_equal(read_envi(path).cube, cube))
        path.with_name("f.img.hdr").write_text(header)
        path.write_bytes(data)
    assert any(found), text
    assert "minor" not in more or "header offset" not in text, text


def test_wavelengths_in_the_names_of_bands(tmp_path):
    names = ", ".join(f"Band {i + 1} ({nm:.4f} Nanometers)" for i, nm in enumerate([400, 500, 600, 700, 800]))
    scene = read_envi(image(tmp_path, band_names=f"{{{names}}}"))
    np.testing.assert_allclose(scene.wavelengths, [400, 500, 600, 700, 800])
    assert any("band names were taken" in note for note in scene.notes)
    assert read_envi(image(tmp_path, band_names="{Band 1, Band 2, Band 3, Band 4, Band 5}")).wavelengths is None


def test_large_numbers_without_a_unit_are_left_out(tmp_path):
    """4000 to 20000 are nanometres of a thermal sensor, angstroms or wavenumbers."""
    values = "{4000, 8000, 12000, 16000, 20000}"
    scene = read_envi(image(tmp_path, wavelength=values))
    assert scene.wavelengths is None and "nanometres, angstroms or wavenumbers" in scene.notes[0]
    np.testing.assert_allclose(
        read_envi(image(tmp_path, wavelength=values, wavelength_units="nm")).wavelengths[0], 4000
    )
    scene = read_envi(image(tmp_path, wavelength=values, wavelength_units="1/cm"))
    np.testing.assert_allclose(scene.wavelengths, [2500, 1250, 2500 / 3, 625, 500])
