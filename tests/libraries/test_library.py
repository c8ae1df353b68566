"""Spectral libraries: every format gives the same numbers, every fault of a file a sentence."""

import json

import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.checks import InputError
from dequnmix_jax.cli import main

UM = np.array([0.5, 0.75, 1.0, 2.0, 2.5])
SPECTRA = np.array([[0.1, 0.2, 0.3, 0.4, 0.5], [0.9, 0.7, np.nan, 0.3, 0.1]])
NAMES = ("grass, dry", "red metal")


def envi(folder, *, order="<", kind="f8", code=5, extra="", spectra=SPECTRA, wavelengths=UM, units="Micrometers"):
    values = np.where(np.isnan(spectra), -1.23e34 if kind.startswith("f") else -999, spectra)
    values.astype(order + kind).tofile(folder / "lib.sli")
    listed = ", ".join(f"{value:.10g}" for value in wavelengths)
    (folder / "lib.hdr").write_text(
        f"ENVI\nsamples = {spectra.shape[1]}\nlines = {spectra.shape[0]}\nbands = 1\nheader offset = 0\n"
        f"file type = ENVI Spectral Library\ndata type = {code}\ninterleave = bsq\nbyte order = {int(order == '>')}\n"
        f"wavelength units = {units}\nspectra names = {{grass; dry, red metal}}\nwavelength = {{{listed}}}\n{extra}"
    )
    return folder / "lib.sli"


def splib07(path, title, values):
    path.write_text(f" splib07a Record=5932: {title}\n" + "".join(f" {value:.7e}\n" for value in values))
    return path


def usgs_folder(folder):
    splib07(folder / "splib07a_Wavelengths_ASD_0.35-2.5_microns.txt", "Wavelengths ASD", UM)
    splib07(folder / "splib07a_Bandpass_(FWHM)_ASDFR_Standard.txt", "Bandpass", np.full(5, 0.01))
    splib07(folder / "splib07a_Bandpass_(FWHM)_ASDNG_HighRes.txt", "Bandpass", np.full(5, 0.02))
    chapter = folder / "ChapterM_Minerals"
    chapter.mkdir()
    values = np.where(np.isnan(SPECTRA), -1.23e34, SPECTRA)
    return [
        splib07(chapter / f"splib07a_{name}_ASDNGb_AREF.txt", f"{name}   ASDNGb AREF", row)
        for name, row in zip(("Kaolinite", "Alunite"), values, strict=True)
    ]


def same(library, names=NAMES, atol=1e-7):
    assert library.names == names
    np.testing.assert_allclose(library.wavelengths_nm, 1000 * UM)
    np.testing.assert_allclose(library.spectra, SPECTRA, atol=atol)
    assert library.spectra.dtype == np.float32


@pytest.mark.parametrize(("order", "kind", "code"), [("<", "f4", 4), (">", "f8", 5), (">", "i2", 2), ("<", "i4", 3)])
def test_envi_library_of_either_byte_order_and_every_type(tmp_path, order, kind, code):
    whole = kind.startswith("i")
    spectra = SPECTRA * 10000 if whole else SPECTRA
    extra = "reflectance scale factor = 10000\ndata ignore value = -999\n" if whole else ""
    path = envi(tmp_path, order=order, kind=kind, code=code, extra=extra + "fwhm = {0.01, 0.01, 0.01, 0.02, 0.02}\n",
                spectra=spectra)  # fmt: skip
    library = dq.libraries.read_library(path)
    same(library, ("grass; dry", "red metal"))
    np.testing.assert_allclose(library.fwhm_nm, [10, 10, 10, 20, 20])
    assert any("1 of 10 values are missing" in note for note in library.notes)


def test_wavenumbers_run_backwards_and_become_nanometres(tmp_path):
    path = envi(tmp_path, wavelengths=1e4 / UM, units="Wavenumber", extra="fwhm = {100, 100, 100, 100, 100}\n")
    library = dq.libraries.read_library(path)
    np.testing.assert_allclose(library.wavelengths_nm, 1000 * UM)
    np.testing.assert_allclose(library.fwhm_nm, (1000 * UM) ** 2 * 100 / 1e7)
    backwards = envi(tmp_path, wavelengths=UM[::-1])
    library = dq.libraries.read_library(backwards)
    np.testing.assert_allclose(library.spectra[0], SPECTRA[0, ::-1])
    assert any("reversed" in note for note in library.notes)


@pytest.mark.parametrize(
    "text",
    [
        'wavelength_um,"grass, dry",red metal\n0.5,0.1,0.9\n0.75,0.2,0.7\n1,0.3,\n2,0.4,0.3\n2.5,0.5,0.1\n',
        "# made by hand\n\nWavelength [nm];grass, dry;red metal\n500;0,1;0,9\n750;0,2;0,7\n# aside\n1000;0,3;NaN\n"
        "2000;0,4;0,3\n2500;0,5;0,1\n",
        "% wavelength (micron)\tgrass, dry\tred metal\n0.5\t0.1\t0.9\n.75\t.2\t.7\n1.0\t.3\t-1.23e34\n2\t.4\t.3\n"
        "2.5\t.5\t.1",
        "ENVI ASCII Plot File [Mon Jun 07 11:45:37 2021]\nColumn 1: Wavelength\nColumn 2: grass, dry~~1\n"
        "Column 3: red metal~~2\n 0.5  0.1 0.9\n 0.75 0.2 0.7\n 1.0  0.3 nan\n 2.0  0.4 0.3\n 2.5  0.5 0.1\n",
    ],
)  # fmt: skip
def test_tables(tmp_path, text):
    (tmp_path / "t.csv").write_text("﻿" + text, encoding="utf-8")
    same(dq.libraries.read_library(tmp_path / "t.csv"))


def test_table_without_names_or_unit_says_what_it_assumed(tmp_path):
    (tmp_path / "t.txt").write_text("400 1000\n401 2000\n")
    library = dq.libraries.read_library(tmp_path / "t.txt", scale=10000)
    assert library.names == ("spectrum 1",) and library.wavelengths_nm.tolist() == [400, 401]
    assert {"nanometres were assumed", "were numbered", "divided by 10000"} <= {
        words for note in library.notes for words in ("nanometres were assumed", "were numbered", "divided by 10000")
        if words in note
    }  # fmt: skip
    (tmp_path / "w.csv").write_text("wavelength,FWHM (nm),a\n0.4,0.01,1\n0.5,0.02,2\n")
    library = dq.libraries.read_library(tmp_path / "w.csv", units="um", nodata=2)
    assert library.names == ("a",) and library.fwhm_nm.tolist() == [10, 20] and np.isnan(library.spectra[0, 1])


def test_usgs_version_7_finds_wavelengths_and_bandpass(tmp_path):
    files = usgs_folder(tmp_path)
    one, both, folder = (
        dq.libraries.read_library(files[0]),
        dq.libraries.read_library(files),
        dq.libraries.read_library(files[0].parent),
    )
    same(both, ("Kaolinite   ASDNGb AREF", "Alunite   ASDNGb AREF"))
    assert folder.names == both.names[::-1] and one.names == both.names[:1]
    np.testing.assert_allclose(one.fwhm_nm, 20)  # of ASDNG, and not of ASDFR
    other = splib07(tmp_path / "elsewhere.txt", "Wavelengths", 2 * UM)
    np.testing.assert_allclose(
        dq.libraries.read_library(files[0], wavelengths=other, fwhm=other).wavelengths_nm, 2000 * UM
    )


def test_usgs_version_6(tmp_path):
    head = "USGS Digital Spectral Library splib06a\nClark and others 2007, USGS, Data Series 231.\n" + "\n" * 12
    rows = "".join(f"  {w:.6f}  {x:.6g}  0.000000\n" for w, x in zip(UM, [0.9, 0.7, -1.23e34, 0.3, 0.1], strict=True))
    (tmp_path / "a.asc").write_text(head + "Butlerite GDS25   W1R1Ba AREF\ncopy of splib05a r 1027\n" + rows)
    library = dq.libraries.read_library(tmp_path / "a.asc")
    assert library.names == ("Butlerite GDS25   W1R1Ba AREF",)
    np.testing.assert_allclose(library.spectra[0], SPECTRA[1], atol=1e-7)
    np.testing.assert_allclose(library.wavelengths_nm, 1000 * UM)


def test_faults_of_envi_libraries(tmp_path):
    path = envi(tmp_path)
    header = path.with_suffix(".hdr")
    text = header.read_text()
    listed = text[text.index("wavelength = ") :]
    for new, words in (
        (text.replace(listed, ""), "has no wavelengths"),
        (text.replace(listed, "wavelength = {1, 2, 3}"), "lists 3 values"),
        (text.replace(listed, "wavelength = {1, 3, 2, 4, 5}"), "do not increase: 3000 nm is followed by 2000"),
        (text.replace(listed, "wavelength = {1, 2, nan, 4, 5}"), "the first of them nan nm in band 2"),
        (text.replace(listed, "wavelength = {1, 2, 3, 4, inf}"), "the first of them inf nm in band 4"),
        (text.replace("units = Micrometers", "units = Index"), "gives no wavelengths"),
        (text.replace("lines = 2", "lines = 999999999999"), "expected the two to agree"),
        (text.replace("lines = 2", "lines = -2"), "not negative"),
        (text.replace("data type = 5", "data type = 9"), "complex"),
        (text + "reflectance scale factor = 0\n", "The scale is 0"),
        (text + "fwhm = {a, b, c, d, e}\n", "not numbers"),
        (text + "fwhm = {1, 2,", "never closes it"),
        (text.replace("Spectral Library", "Standard"), "not a spectral library"),
    ):
        header.write_text(new)
        with pytest.raises(InputError, match=words):
            dq.libraries.read_library(path)
    header.write_text(text.replace(listed, "wavelength = {1, 3, 2, 4, 5}"))
    np.testing.assert_allclose(dq.libraries.read_library(path, sort=True).spectra[0], SPECTRA[0, [0, 2, 1, 3, 4]])
    header.write_text(text)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match="truncated"):
        dq.libraries.read_library(path)
    with pytest.raises(InputError, match="does not apply"):
        dq.libraries.read_library(path, units="nm")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("a\0b", "is not text"),
        ("wavelength,a\n", "no row of numbers"),
        ("wavelength,a\n400,1\n401,1,2\n", "3 columns in line 3"),
        ("wavelength,a\n400,1\n401,x\n", "in line 3; expected numbers"),
        ("wavelength,a\n400,1\n400,2\n", "do not increase"),
        ("index,a\n0,1\n1,2\n2,3\n", "counts from 0 to 2"),
        (
            "id,400,500,600\n10,1,2,3\n20,1,2,3\n",
            "each column, with wavelengths 10 to 20, or one in each row, with wavelen",
        ),
        ("wavelength (nm or um),a\n400,1\n401,2\n", "names nanometres and micrometres"),
        ("wavelength,a\n-4,1\n400,2\n", "no positive wavelength in line 2"),
        ("wavelength,a\n50,1\n400,2\n", "no unit is given"),
        ("wavelength_nm,fwhm\n400,1\n401,2\n", "no spectrum"),
        ("wavelength,a\n400,1\n500,2\n# end\n3;4\n", "1 column in line 5"),
        ("splib07a Record=1: Kaolinite\n0.1\n0.2\n", "without wavelengths"),
        ("splib07a Record=1: Kaolinite\n", "a title and no values"),
        ("splib07a Record=1: Kaolinite\n0.1\nend\n", "'end' in line 3"),
        ("USGS Spectral Library\n1 2\n", "no row of three numbers"),
        ("USGS Spectral Library\na\nb\n1 2 3\n4 5\n", "in line 5; expected three numbers"),
    ],
)
def test_faults_of_text_libraries(tmp_path, text, words):
    (tmp_path / "bad.txt").write_text(text)
    with pytest.raises(InputError, match=words):
        dq.libraries.read_library(tmp_path / "bad.txt")


def test_faults_of_many_files(tmp_path):
    files = usgs_folder(tmp_path)
    short = splib07(tmp_path / "short.txt", "Short", UM[:4])
    for call, words in (
        (lambda: dq.libraries.read_library(tmp_path / "none.csv"), "does not exist"),
        (lambda: dq.libraries.read_library([]), "list of files is empty"),
        (lambda: dq.libraries.read_library([files[0], short]), "holds 4 values and .* 5"),
        (lambda: dq.libraries.read_library(files[0], wavelengths=short), "holds 4 wavelengths and the spectrum has 5"),
        (lambda: dq.libraries.read_library(files[0], wavelengths=tmp_path / "none"), "cannot be read"),
        (lambda: dq.libraries.read_library(short, units="feet"), "expected 'nm', 'um'"),
        (lambda: dq.libraries.Library(("a",), [1.0], np.ones((2, 1))), "one name a spectrum"),
        (lambda: dq.libraries.Library(("a",), [1.0, 2.0], np.ones((1, 1))), "one value for each of 1 bands"),
        (lambda: dq.libraries.Library(("a",), [1.0], np.array([["x"]])), "expected real numbers"),
    ):
        with pytest.raises(InputError, match=words):
            call()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no USGS spectra"):
        dq.libraries.read_library(tmp_path / "empty")


def gaussian_dip(nm, depth, centre, sigma, blur):
    """Return 1 - depth exp(-(l - c)^2 / 2 s^2) convolved with a Gaussian of standard deviation `blur`."""
    wide = np.hypot(sigma, blur)
    return 1 - depth * sigma / wide * np.exp(-((nm - centre) ** 2) / (2 * wide**2))


@pytest.mark.parametrize("own", [None, 4.0])
@pytest.mark.parametrize("step", [0.25, 1.0])
def test_resampling_convolves_a_gaussian_with_a_gaussian(own, step):
    samples = np.arange(400.0, 1000.1, step)
    blur = 0.0 if own is None else own / 2.3548200450309493
    widths = None if own is None else np.full(samples.size, own)
    library = dq.libraries.Library(("dip",), samples, gaussian_dip(samples, 0.5, 700, 12, blur)[None], widths)
    bands = np.arange(395.0, 1010.0, 7.3)
    seen = dq.libraries.resample(library, bands, 10.0)
    outside = (bands < 405) | (bands > 995) if own is None else (bands < 404) | (bands > 996)
    np.testing.assert_array_equal(np.isnan(seen.spectra[0]), outside)
    exact = gaussian_dip(bands, 0.5, 700, 12, 10 / 2.3548200450309493)
    # What is left is linear interpolation between samples, step^2 / 8 of the curvature 0.5 / 12^2 at most.
    np.testing.assert_allclose(seen.spectra[0][~outside], exact[~outside], atol=step**2 * 0.5 / 144 / 8 + 1e-6)
    assert any(f"{outside.sum()} of 85 new bands lie outside" in note for note in seen.notes)
    assert seen.fwhm_nm.tolist() == [10.0] * 85


def test_resampling_without_widths_is_linear_and_exact_on_the_librarys_bands():
    library = dq.libraries.Library(NAMES, 1000 * UM, SPECTRA, np.full(5, 10.0))
    assert repr(library).startswith("<Library: ") and len(repr(library)) < 80
    for fwhm in (None, 10.0, 5.0):
        seen = dq.libraries.resample(library, 1000 * UM, fwhm)
        np.testing.assert_allclose(seen.spectra, SPECTRA, atol=1e-7)
    seen = dq.libraries.resample(library, [2250.0, 600.0, 499.0], [1.0, 1.0, 1.0])
    np.testing.assert_allclose(seen.spectra[0], [0.45, 0.14, np.nan], atol=1e-6)
    # Rounding alone does not push a band off the end of the range.
    np.testing.assert_allclose(dq.libraries.resample(library, [499.9999, 2500.0001]).spectra[0], [0.1, 0.5], atol=1e-6)
    # A missing value is not bridged: 0.95 of a band known is enough, half is not.
    seen = dq.libraries.resample(library, [762.5, 875.0])
    np.testing.assert_allclose(seen.spectra[1], [0.7, np.nan], atol=1e-6)


def test_faults_of_resampling():
    library = dq.libraries.Library(NAMES, 1000 * UM, SPECTRA)
    for bands, fwhm, words in (
        ([0.5, 0.7], None, "Check the units"),
        ([-500.0], None, "nanometres above 0"),
        (["a"], None, "numbers in nanometres"),
        ([600.0, 700.0], [10.0], "one value for each of 2"),
        ([600.0], 0.0, "nanometres above 0"),
    ):
        with pytest.raises(InputError, match=words):
            dq.libraries.resample(library, bands, fwhm)
    with pytest.raises(InputError, match="do not increase"):
        dq.libraries.resample(dq.libraries.Library(("a",), [500.0, 400.0], np.ones((1, 2))), [450.0])


def test_matching_by_angle_over_common_bands():
    spectra = np.array([[1, 0, 1, 1], [1, 1, 0, 0], [2, 2, 0, 0], [np.nan, np.nan, np.nan, 5], [0, 0, 0, 0]], float)
    library = dq.libraries.Library(tuple("abcde"), [1.0, 2.0, 3.0, 4.0], spectra)
    found = np.array([[3, 3, 0, 0], [1, np.nan, 1, 1]], float)
    nearest = dq.libraries.match(found, library, count=4)
    assert nearest.names[0] == ("b", "c", "a", "") and nearest.names[1][0] == "a"
    assert nearest.rows[0].tolist() == [1, 2, 0, -1]
    np.testing.assert_allclose(nearest.angles[0], [0, 0, np.arccos(1 / np.sqrt(6)), np.nan], atol=1e-7)
    assert nearest.bands[0].tolist() == [4, 4, 4, 0] and nearest.bands[1, 0] == 3
    assert nearest.ties.tolist() == [2, 1]
    # One common band makes an angle of nothing, however small the share asked for.
    assert "d" not in sum(dq.libraries.match(found, library, count=5, overlap=0.01).names, ())


def test_faults_of_matching():
    library = dq.libraries.Library(("a",), [1.0, 2.0, 3.0], [[1.0, np.nan, np.nan]])
    for found, options, words in (
        (np.ones((1, 2)), {}, "have 2 bands"),
        (np.ones(3), {}, "one spectrum a row"),
        (np.ones((1, 3)), {"count": 2}, "2 names are asked for"),
        (np.ones((1, 3)), {"overlap": 0.0}, "share of the bands"),
        (np.full((1, 3), np.nan), {}, "NaN in every band"),
        (np.ones((1, 3)), {}, "can be compared with no library spectrum"),
    ):
        with pytest.raises(InputError, match=words):
            dq.libraries.match(found, library, **options)


def test_shade_gets_no_name():
    library = dq.libraries.Library(("a", "b"), [1.0, 2.0, 3.0], [[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    nearest = dq.libraries.match([[0.0, 0.0, np.nan], [1.0, 2.0, 3.0]], library, count=2)
    assert nearest.names == (("", ""), ("a", "b"))
    assert nearest.rows.tolist() == [[-1, -1], [0, 1]] and nearest.ties.tolist() == [0, 1]
    assert np.isnan(nearest.angles[0]).all() and nearest.bands[0].tolist() == [0, 0]


def test_the_real_libraries(data_dir):
    folder = data_dir / "raw" / "hysu" / "spectral_libraries"
    if not folder.is_dir():
        pytest.skip("DEQUNMIX_DATA does not hold raw/hysu")
    image = dq.libraries.read_library(folder / "HySpex_library" / "DLR_HySU_HS_library.lib", scale=10000)
    plot = dq.libraries.read_library(folder / "HySpex_library" / "DLR_HySU_HS_library_ASCII.txt", scale=10000)
    field = dq.libraries.read_library(folder / "SVC_data" / "DLR_HySU_SVC.hdr", scale=10000)
    np.testing.assert_allclose(plot.spectra[[0, 1, 2, 3, 4, 6]], image.spectra, atol=1e-5)
    nearest = dq.libraries.match(field.spectra, dq.libraries.resample(image, field.wavelengths_nm))
    assert [names[0] for names in nearest.names] == list(image.names)
    # AVIRIS at half its resolution: a spectrum of 1995 is nearest to itself, though its neighbours are close.
    with np.load(data_dir / "usgs_1995_library.npz", allow_pickle=False) as file:
        known = np.unique(file["spectra"], axis=0)
        minerals = dq.libraries.Library(
            tuple(map(str, range(len(known)))), file["wavelengths_nm"], known, np.full(224, 10.0)
        )
    coarse = dq.libraries.resample(minerals, minerals.wavelengths_nm[1:-1:2], 20.0)
    nearest = dq.libraries.match(coarse.spectra, dq.libraries.resample(minerals, coarse.wavelengths_nm))
    assert (nearest.rows[:, 0] == np.arange(len(known))).mean() > 0.98


def test_match_on_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DEQUNMIX_NO_CACHE", "1")
    (tmp_path / "out").mkdir()
    known = [0, 1, 3, 4]
    found = {"endmembers": 3 * SPECTRA[:, known], "wavelengths_nm": 1000 * UM[known]}
    np.savez(tmp_path / "out" / "estimate.npz", **found)
    rows = "".join(f"{w},{a},{b}\n" for w, a, b in zip(UM, *SPECTRA, strict=True))
    (tmp_path / "lib.csv").write_text("um,rising,falling\n" + rows)
    words = ["match", str(tmp_path / "out"), str(tmp_path / "lib.csv"), "--count", "1"]
    assert main.main(words) == 0
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines() if not line.startswith("note: ")]
    assert lines[1:] == [["endmember", "1", "rising", "0.0000", "4"], ["endmember", "2", "falling", "0.0000", "4"]]
    assert "interpolated linearly" in out
    assert main.main([*words, "--json"]) == 0
    assert [row["library"] for row in json.loads(capsys.readouterr().out)["matches"]] == ["rising", "falling"]
    np.savez(tmp_path / "out" / "estimate.npz", endmembers=SPECTRA)
    (tmp_path / "other").mkdir()
    for place, said in (("out", "holds no wavelengths_nm"), ("other", "folder without estimate.npz")):
        assert main.main(["match", str(tmp_path / place), str(tmp_path / "lib.csv")]) == 1
        assert said in capsys.readouterr().err


def test_spectra_in_rows(tmp_path):
    """The layout of EMIT's unmixing: a row of wavelengths, then a class and its values in each row."""
    path = tmp_path / "rows.csv"
    path.write_text("\ufeffClass,400.5,500,600.25\nSOIL,1000,0,2000\nSOIL,10,20,\nPV,1,2,3\n", encoding="utf-8")
    found = dq.libraries.read_library(path, scale=10000)
    assert found.names == ("SOIL", "SOIL", "PV")
    np.testing.assert_allclose(found.wavelengths_nm, [400.5, 500, 600.25])
    np.testing.assert_allclose(found.spectra[:2], [[0.1, 0, 0.2], [0.001, 0.002, np.nan]])
    assert "Each row holds a spectrum, below a row of wavelengths." in found.notes
    path.write_text("Class,400,500\nSOIL,1,two\n")
    with pytest.raises(InputError, match="holds no row of numbers"):
        dq.libraries.read_library(path)


NM = np.array([450.0, 900.0, 1350.0, 1800.0, 2400.0])
GRASS = np.array([0.1, 0.5, 0.3, 0.2, 0.1])


def table(folder, *lines):
    (folder / "t.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "t.csv"


@pytest.mark.parametrize("head", ["Spectrum", "Column 1", "Band number / wavelength", "instrument="])
def test_letters_inside_a_word_name_no_unit(tmp_path, head):
    path = table(tmp_path, f"{head},grass", *(f"{w},{v}" for w, v in zip(NM, GRASS, strict=True)))
    library = dq.libraries.read_library(path)
    np.testing.assert_allclose(library.wavelengths_nm, NM)
    assert "nanometres were assumed" in library.notes[0]


@pytest.mark.parametrize(("head", "units"), [("Wavenumber (cm-1)", ""), ("position", "cm-1")])
def test_tables_in_wavenumbers(tmp_path, head, units):
    rows = (f"{1e7 / w:.9g},{v}" for w, v in zip(NM[::-1], GRASS[::-1], strict=True))
    library = dq.libraries.read_library(table(tmp_path, f"{head},grass", *rows), units=units)
    np.testing.assert_allclose(library.wavelengths_nm, NM, rtol=1e-6)
    np.testing.assert_allclose(library.spectra[0], GRASS)


def test_widths_of_a_table_state_their_unit(tmp_path):
    path = table(tmp_path, "wavelength_um,FWHM (nm),a", *(f"{w / 1000},12,1" for w in np.arange(400, 500, 10)))
    np.testing.assert_allclose(dq.libraries.read_library(path).fwhm_nm, 12)


@pytest.mark.parametrize(
    ("head", "cells", "left_out"),
    [
        ("name,class", ("m0,soil", "m1,plant"), "class"),
        ("Class,Name", ("soil,m0", "plant,m1"), "Class"),  # the column called a name names the spectra
        ("id,material", ("0,m0", "1,m1"), "id"),
    ],
)
def test_columns_of_text_before_a_spectrum_in_each_row(tmp_path, head, cells, left_out):
    rows = [f"{cell}," + ",".join(map(str, k * GRASS)) for k, cell in enumerate(cells, 1)]
    library = dq.libraries.read_library(table(tmp_path, f"{head}," + ",".join(map(str, NM)), *rows))
    assert library.names == ("m0", "m1")
    np.testing.assert_allclose(library.spectra, [GRASS, 2 * GRASS], rtol=1e-6)
    assert any(f"columns {left_out} were left out" in note for note in library.notes)


def test_a_number_names_the_spectrum_of_each_row(tmp_path):
    """Numbers that count are no wavelengths: read by columns, this table held wavelengths of 1 and 2 micrometres."""
    rows = [f"{k}," + ",".join(map(str, k * GRASS)) for k in (1, 2)]
    library = dq.libraries.read_library(table(tmp_path, "id," + ",".join(map(str, NM)), *rows))
    assert library.names == ("1", "2")
    np.testing.assert_allclose(library.wavelengths_nm, NM)
    np.testing.assert_allclose(library.spectra, [GRASS, 2 * GRASS], rtol=1e-6)


@pytest.mark.parametrize("head", ["wavelength_nm,1,2", "nm,400,500", "wavelength,5,7", "x,1,2"])
def test_numbers_may_name_the_columns(tmp_path, head):
    path = table(tmp_path, head, *(f"{w},{v},{2 * v}" for w, v in zip(NM, GRASS, strict=True)))
    library = dq.libraries.read_library(path)
    assert library.names == tuple(head.split(",")[1:])
    np.testing.assert_allclose(library.wavelengths_nm, NM)


def test_the_advice_on_an_ambiguous_table_works(tmp_path):
    lines = ["id,400,500,600", "450,.1,.2,.3", "550,.4,.5,.6"]
    with pytest.raises(InputError, match="each column, with wavelengths 450 to 550, or one in each row, with wav"):
        dq.libraries.read_library(table(tmp_path, *lines))
    columns = dq.libraries.read_library(table(tmp_path, lines[0].replace("id", "wavelength_nm"), *lines[1:]))
    rows = dq.libraries.read_library(table(tmp_path, lines[0], *(f"m{line}" for line in lines[1:])))
    assert columns.wavelengths_nm.tolist() == [450, 550] and rows.wavelengths_nm.tolist() == [400, 500, 600]
    np.testing.assert_allclose(rows.spectra, columns.spectra.T)


def test_a_column_that_counts_the_rows(tmp_path):
    """As pandas writes its index."""
    rows = [f"{i},{w},{v}" for i, (w, v) in enumerate(zip(NM, GRASS, strict=True))]
    library = dq.libraries.read_library(table(tmp_path, ",wavelength,grass", *rows))
    assert library.names == ("grass",) and any("counts the rows" in note for note in library.notes)
    np.testing.assert_allclose(library.wavelengths_nm, NM)
    rows = [f"{i},{v}" for i, v in enumerate(GRASS, 1)]
    path = table(tmp_path, "index,grass", *rows)
    with pytest.raises(InputError, match="counts from 1 to 5"):
        dq.libraries.read_library(path)
    np.testing.assert_allclose(dq.libraries.read_library(path, units="um").wavelengths_nm, 1000 * np.arange(1, 6))
    path = table(tmp_path, "wavelength_um,grass", *rows)
    np.testing.assert_allclose(dq.libraries.read_library(path).wavelengths_nm, 1000 * np.arange(1, 6))


@pytest.mark.parametrize("head", ["wavelength_nm,a,", "wavelength_nm,a"])
def test_a_delimiter_at_the_end_of_the_lines_makes_no_spectrum(tmp_path, head):
    path = table(tmp_path, head, *(f"{w},{v}," for w, v in zip(NM, GRASS, strict=True)))
    library = dq.libraries.read_library(path)
    assert library.names == ("a",) and np.isfinite(library.spectra).all()


@pytest.mark.parametrize("fill", [-9999, -999])
def test_a_fill_value_that_is_not_declared_is_missing_and_said(tmp_path, fill):
    path = table(tmp_path, "wavelength_nm,a", "450,0.1", f"500,{fill}", "600,0.3")
    library = dq.libraries.read_library(path)
    assert np.isnan(library.spectra[0, 1]) and any(f"{fill} was taken for one" in note for note in library.notes)
    path = table(tmp_path, "wavelength_nm,a", "450,-4000", f"500,{fill}", "600,-20000")  # of such numbers it is one
    assert np.isfinite(dq.libraries.read_library(path).spectra).all()


def ecostress(path, name, centres, values, *, x="Wavelength (micrometers)", y="Reflectance (percentage)"):
    head = [f"Name: {name}", "Type: vegetation", "Class: tree", "Wavelength Range: VSWIR", "First Column: X",
            "Second Column: Y", f"X Units: {x}", f"Y Units: {y}", "Additional Information: none", ""]  # fmt: skip
    path.write_text("\n".join(head + [f"{w:.6g}\t{v:.6g}" for w, v in zip(centres, values, strict=True)]) + "\n")
    return path


def test_ecostress_and_aster_spectra(tmp_path):
    """Layout after the ECOSTRESS library's files; no file of the library was at hand."""
    one = ecostress(tmp_path / "oak.spectrum.txt", "White Oak", NM / 1000, 100 * GRASS)
    (tmp_path / "oak.ancillary.txt").write_text("Name: White Oak\nsomething else: 1\n")
    library = dq.libraries.read_library(one)
    assert library.names == ("White Oak",) and any("divided by 100" in note for note in library.notes)
    np.testing.assert_allclose(library.wavelengths_nm, NM)
    np.testing.assert_allclose(library.spectra[0], GRASS, rtol=1e-6)
    # From long to short wavelengths, as the ASTER library has them, and on other bands.
    other = ecostress(tmp_path / "soil.spectrum.txt", "Brown Soil", [2.0, 1.0, 0.5], [40, 20, 10])
    for read in (dq.libraries.read_library(tmp_path), dq.libraries.read_library([one, other])):
        assert read.names == ("White Oak", "Brown Soil")
        union = np.union1d(NM, [500, 1000, 2000])
        np.testing.assert_allclose(read.wavelengths_nm, union)
        np.testing.assert_allclose(read.spectra[0], np.interp(union, NM, GRASS), rtol=1e-5)
        soil = np.interp(union, [500, 1000, 2000], [0.1, 0.2, 0.4], left=np.nan, right=np.nan)
        np.testing.assert_allclose(read.spectra[1], soil, rtol=1e-5)
        assert any("different wavelengths" in note for note in read.notes)
    one.write_text(one.read_text() + "2.5\n")
    with pytest.raises(InputError, match="in line 16; expected two numbers"):
        dq.libraries.read_library(one)


def test_spectra_of_a_spectra_vista(tmp_path):
    """Layout after the instrument's files; its last column is the reflectance in per cent."""
    path = tmp_path / "gr.0001.sig"
    head = "/*** Spectra Vista SIG Data ***/\nname= C:\\data\\gr.0001.sig\ninstrument= HI: 1\nunits= Radiance\ndata=\n"
    path.write_text(
        head + "".join(f"{w:.1f}  500.1  {500.1 * v:.4f}  {100 * v:.2f}\n" for w, v in zip(NM, GRASS, strict=True))
    )
    library = dq.libraries.read_library(path)
    np.testing.assert_allclose(library.wavelengths_nm, NM)
    np.testing.assert_allclose(library.spectra[0], GRASS, rtol=1e-5)
