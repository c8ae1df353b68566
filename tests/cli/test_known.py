"""`dequnmix unmix SCENE --endmembers LIBRARY`: a stand-in of EMIT's example, options, tiles, and what is refused."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from dequnmix_jax.cli import main
from dequnmix_jax.io import formats
from dequnmix_jax.results.result import read_result
from dequnmix_jax.tiles import journal

pytest.importorskip("matplotlib")
H, W, R = 6, 5, 4
CENTRES = 400.0 + 10 * np.arange(30)
BANDS = 420.0 + 25 * np.arange(11)  # the last, 670 nm, is within the library
NAMES = ("SOIL", "SOIL", "PV", "NPV")


def spectra(wavelengths):
    x = (wavelengths - 400) / 300
    return np.stack(
        [0.2 + 0.3 * x, 0.1 + 0.5 * x**2, 0.05 + 0.6 / (1 + np.exp(20 * (0.5 - x))), 0.3 + 0.1 * np.sin(6 * x)]
    )


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    monkeypatch.setenv("DEQUNMIX_NO_CACHE", "1")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with scene.npz, truth.npy and classes.csv, a class and 10,000 times a spectrum in each row."""
    folder = tmp_path_factory.mktemp("known")
    truth = np.random.default_rng(0).dirichlet(np.full(R, 0.7), (H, W))
    np.savez(folder / "scene.npz", cube=(truth @ spectra(BANDS)).astype(np.float32), wavelengths_nm=BANDS)
    np.save(folder / "truth.npy", truth)
    order = [*range(16), *range(17, 30), 16]  # overlapping spectrometers are not sorted
    rows = [",".join(["Class", *(f"{CENTRES[i]:g}" for i in order)])]
    rows += [
        ",".join([name, *(f"{1e4 * row[i]:.8g}" for i in order)])
        for name, row in zip(NAMES, spectra(CENTRES), strict=True)
    ]
    (folder / "classes.csv").write_text("\n".join(rows))
    return folder


KNOWN = ("--endmembers", "classes.csv", "--library-scale", "10000")


def run(*words):
    return main.main([str(word) for word in words])


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    return place


def failure(capsys, *words):
    """Run words that must fail, and return the one line on stderr."""
    status = run(*words)
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if not line.startswith(("note: ", "warning: "))]
    assert status == 1 and out == "" and len(lines) == 1 and "fault of the program" not in err, err
    return lines[0]


def test_one_command_maps_the_classes(place):
    """In a process of its own, as a user types it."""
    words = ["unmix", "scene.npz", *KNOWN, "--class", "Class", "--uncertainty", "0.01"]
    words += ["--report", "page.html", "-o", "out", "--json"]
    command = [sys.executable, "-m", "dequnmix_jax", *words]
    environment = os.environ | {"DEQUNMIX_NO_CACHE": "1"}
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    truth = np.load(place / "truth.npy")
    result = read_result(place / "out")
    np.testing.assert_allclose(result.abundances, truth, atol=0.02)  # the library is interpolated between its samples
    expected = [truth[..., :2].sum(axis=2).mean(), truth[..., 2].mean(), truth[..., 3].mean()]
    assert said["classes"]["names"] == ["SOIL", "PV", "NPV"]
    np.testing.assert_allclose(said["classes"]["mean_abundances"], expected, atol=0.01)
    assert said["endmembers"] == ["SOIL 1", "SOIL 2", "PV", "NPV"]
    assert said["configuration"]["method"]["method"] == "fcls"
    np.testing.assert_array_equal(formats.read(place / "out" / "classes.img").cube, result.classes)
    np.testing.assert_array_equal(formats.read(place / "out" / "abundances_sd.img").cube, result.abundances_sd)
    np.testing.assert_array_equal(formats.read(place / "out" / "classes_sd.img").cube, result.classes_sd)
    assert "sd of class SOIL" in (place / "out" / "classes_sd.hdr").read_text()
    assert said["uncertainty"]["noise"] == "given" and 0 < said["uncertainty"]["mean_classes_sd"][0] < 0.2
    assert (place / "out" / "classes.png").stat().st_size > 1000
    page = (place / "page.html").read_text()
    assert (
        "class SOIL" in page
        and "SOIL 1, SOIL 2" in page
        and "The solution" in page
        and "Uncertainty of the fractions" in page
    )


@pytest.mark.slow
def test_tiles_of_mixing_that_is_not_linear(here, tmp_path):
    """The residual is that of the model in both ways, with a page."""
    more = (*KNOWN, "--method", "ppnm")
    assert run("unmix", "scene.npz", *more, "--report", tmp_path / "page.html", "-o", tmp_path / "whole") == 0
    assert run("unmix", "scene.npz", *more, "--tile", "3", "-o", tmp_path / "tiles") == 0
    whole, tiles = (read_result(tmp_path / name) for name in ("whole", "tiles"))
    for name in ("abundances", "brightness", "residual"):
        np.testing.assert_allclose(getattr(tiles, name), getattr(whole, name), atol=2e-5)
    assert whole.summary["configuration"]["method"]["method"] == "ppnm"


@pytest.mark.parametrize("words", [("--method", "nnls"), ("--method", "soft", "--format", "geotiff")])
def test_tiles_are_the_whole_scene(here, tmp_path, words):
    if "geotiff" in words:
        pytest.importorskip("rasterio")
    more = (*KNOWN, "--class", "class", "--no-plots", *words)
    assert run("unmix", "scene.npz", *more, "-o", tmp_path / "whole") == 0
    assert run("unmix", "scene.npz", *more, "--tile", "3", "-o", tmp_path / "tiles") == 0
    whole, tiles = (read_result(tmp_path / name) for name in ("whole", "tiles"))
    for name in ("abundances", "brightness", "residual", "classes"):
        np.testing.assert_allclose(getattr(tiles, name), getattr(whole, name), atol=2e-6)
    np.testing.assert_array_equal(tiles.endmembers, whole.endmembers)
    assert tiles.class_of == whole.class_of == NAMES and tiles.names == whole.names
    np.testing.assert_allclose(
        tiles.summary["classes"]["mean_abundances"], whole.summary["classes"]["mean_abundances"], atol=1e-6
    )
    assert tiles.summary["configuration"] == whole.summary["configuration"]
    suffix = "tif" if "geotiff" in words else "img"
    images = [formats.read(tmp_path / name / f"classes.{suffix}").cube for name in ("whole", "tiles")]
    np.testing.assert_array_equal(images[1], tiles.classes)
    np.testing.assert_array_equal(images[0], whole.classes)


def test_mesma_in_tiles_is_mesma_of_the_whole_scene(here, tmp_path):
    more = (*KNOWN, "--class", "Class", "--method", "mesma", "--shade", "kept", "--no-plots", "--threshold", "0.001")
    assert run("unmix", "scene.npz", *more, "--report", tmp_path / "page.html", "-o", tmp_path / "whole") == 0
    assert run("unmix", "scene.npz", *more, "--tile", "3", "-o", tmp_path / "tiles") == 0
    whole, tiles = (read_result(tmp_path / name) for name in ("whole", "tiles"))
    assert whole.names == tiles.names == ("SOIL 1", "SOIL 2", "PV", "NPV", "shade")
    np.testing.assert_allclose(tiles.abundances, whole.abundances, atol=2e-6)
    np.testing.assert_array_equal(tiles.models, whole.models)
    assert not ((whole.abundances[..., 0] > 0) & (whole.abundances[..., 1] > 0)).any()  # one spectrum of a class
    assert tiles.summary["models"] == whole.summary["models"] and len(whole.summary["models"]) > 1
    assert tiles.summary["configuration"] == whole.summary["configuration"]
    assert whole.summary["configuration"]["method"]["threshold"] == 0.001
    images = [formats.read(tmp_path / name / "models.img").cube for name in ("whole", "tiles")]
    np.testing.assert_array_equal(images[0], whole.models)
    np.testing.assert_array_equal(images[1], tiles.models)
    assert "class shade" in (tmp_path / "page.html").read_text()


def test_models_of_any_spectra_and_a_brightness_that_is_divided_out(here, tmp_path, capsys):
    mesma = (*KNOWN, "--class", "Class", "--method", "mesma", "--threshold", "0", "--no-plots")
    truth = np.load("truth.npy")
    shaded = np.linspace(0.4, 1.6, H * W, dtype=np.float32).reshape(H, W, 1) * formats.read("scene.npz").cube
    np.savez(tmp_path / "shaded.npz", cube=shaded, wavelengths_nm=BANDS)
    free = (*mesma, "--combine", "spectra", "--max-classes", "4", "--normalise")
    assert run("unmix", tmp_path / "shaded.npz", *free, "-o", tmp_path / "out") == 0
    found = read_result(tmp_path / "out")
    np.testing.assert_allclose(found.abundances, truth, atol=2e-2)  # of the interpolation
    assert found.summary["configuration"]["method"]["combine"] == "spectra" and found.class_names == (
        "SOIL",
        "PV",
        "NPV",
    )
    assert run("unmix", tmp_path / "shaded.npz", *KNOWN, "--normalise", "--no-plots", "-o", tmp_path / "fcls") == 0
    np.testing.assert_allclose(read_result(tmp_path / "fcls").abundances, truth, atol=2e-2)  # of the interpolation
    capsys.readouterr()
    assert "does not apply to nnls" in failure(
        capsys, "unmix", "scene.npz", *KNOWN, "--method", "nnls", "--normalise", "-o", tmp_path / "no"
    )
    assert "--combine applies to --method mesma" in failure(
        capsys, "unmix", "scene.npz", *KNOWN, "--combine", "spectra", "-o", tmp_path / "no"
    )


def test_options_of_mesma(here, tmp_path, capsys):
    mesma = (*KNOWN, "--class", "Class", "--method", "mesma")
    words = ("--prune", "masa:1", "--max-classes", "1", "--fractions=-0.05:1.05", "--max-rmse", "0.02", "--models", "2")
    assert run("unmix", "scene.npz", *mesma, *words, "--seed", "3", "--no-plots", "-o", tmp_path / "out") == 0
    result = read_result(tmp_path / "out")
    said = result.summary["configuration"]["method"]
    assert said["seed"] == 3 and said["models"] == 2 and said["lowest"] == -0.05 and len(result.names) == 3
    none = result.models[..., 0] == 0
    assert none.any() and not result.abundances[none].any()
    assert result.summary["models"][0] == {"model": 0, "classes": [], "share": none.mean()}
    capsys.readouterr()
    for words, sentence in (
        ((*KNOWN, "--method", "mesma"), "no classes are named"),
        ((*KNOWN, "--shade", "kept"), "--shade applies to --method mesma"),
        ((*mesma, "--bands", "0:1", "--shade", "kept"), "Models have up to 3 classes and shade, and the scene 2 bands"),
        ((*mesma, "--prune", "best"), "prune is 'best'; expected a measure and the number"),
        ((*KNOWN, "--prune", "ear:1"), "The spectra have no classes, of which the best are kept"),
        ((*mesma, "--seed", "1"), "--epochs and --seed are for"),
    ):
        assert sentence in failure(capsys, "unmix", "scene.npz", *words, "-o", tmp_path / "no"), words


def test_uncertainty_by_a_file_bounds_and_draws(here, tmp_path, capsys):
    deviation = np.full((H, W, len(BANDS)), 0.01, np.float32)
    deviation[0, 0] = 0.03
    np.savez(tmp_path / "sd.npz", cube=deviation, wavelengths_nm=BANDS)
    (tmp_path / "sd.csv").write_text("band,sd\n" + "\n".join(f"{i},0.01" for i in range(len(BANDS))))
    more = (*KNOWN, "--class", "Class", "--no-plots", "--bounds")
    for name, words in {
        "image": ("--uncertainty", tmp_path / "sd.npz", "--report", tmp_path / "page.html"),
        "table": ("--uncertainty", tmp_path / "sd.csv"),
        "draws": ("--uncertainty-by", "draws", "--draws", "5", "--seed", "1"),
    }.items():
        assert run("unmix", "scene.npz", *more, *words, "-o", tmp_path / name) == 0
    image, table, draws = (read_result(tmp_path / name) for name in ("image", "table", "draws"))
    np.testing.assert_allclose(image.classes_sd[1:], table.classes_sd[1:], rtol=1e-4)
    np.testing.assert_allclose(image.classes_sd[0, 0], 3 * table.classes_sd[0, 0], rtol=1e-4)
    assert (image.classes_p05 <= image.classes + 1e-6).all() and (image.classes <= image.classes_p95 + 1e-6).all()
    np.testing.assert_array_equal(formats.read(tmp_path / "image" / "classes_p95.img").cube, image.classes_p95)
    assert "95 % of class SOIL" in (tmp_path / "image" / "classes_p95.hdr").read_text()
    said = draws.summary["uncertainty"]
    assert said["by"] == "draws" and said["draws"] == 5 and "Classes of one spectrum" in said["meaning"]
    assert draws.classes_sd[..., 0].mean() > 0.01 and draws.classes_p95.shape == draws.classes.shape
    assert "Uncertainty of the fractions" in (tmp_path / "page.html").read_text()
    np.save(tmp_path / "few.npy", np.ones(3))
    capsys.readouterr()
    for words, sentence in (
        (("--uncertainty", tmp_path / "few.npy"), "holds 3 standard deviations; expected one for each of the 11 bands"),
        (("--uncertainty-by", "closed-form"), "needs a noise, and none is given"),
        (("--draws", "5"), "--draws applies to --uncertainty-by draws"),
        (("--uncertainty-by", "off", "--uncertainty", "0.1"), "expected no uncertainty and no bounds with it"),
        (("--uncertainty-by", "draws", "--uncertainty", "scene"), "draws of spectra count them twice"),
        (("--uncertainty-by", "draws", "--spectra", "PV,NPV"), "No class has two spectra to draw from"),
    ):
        assert sentence in failure(capsys, "unmix", "scene.npz", *more[:-1], *words, "-o", tmp_path / "no"), words


def test_an_ended_run_goes_on_with_its_tiles_and_not_with_those_of_another_method(here, tmp_path, monkeypatch, capsys):
    def interrupted(self, tile, *args):
        if tile == 2:
            raise KeyboardInterrupt
        return plain(self, tile, *args)

    plain = journal.Store.put
    words = ("unmix", "scene.npz", *KNOWN, "--no-plots", "--tile", "3", "-o", tmp_path / "out", "--method")
    monkeypatch.setattr(journal.Store, "put", interrupted)
    assert run(*words, "nnls") == 130
    monkeypatch.setattr(journal.Store, "put", plain)
    capsys.readouterr()
    assert run(*words, "nnls") == 0
    assert "2 of 4 tiles were finished by an earlier run" in capsys.readouterr().err
    monkeypatch.setattr(journal.Store, "put", interrupted)
    assert run(*words, "nnls", "--force") == 130
    monkeypatch.setattr(journal.Store, "put", plain)
    capsys.readouterr()
    assert run(*words, "soft", "--force") == 0  # the model of both has the same constraint
    assert "finished by an earlier run" not in capsys.readouterr().err


def test_spectra_by_name_bands_and_mask(here, tmp_path):
    cube = np.load("scene.npz")["cube"]
    cube[0, 0] = 0
    np.savez(tmp_path / "masked.npz", cube=cube, wavelengths_nm=BANDS)
    words = (*KNOWN, "--spectra", "PV,NPV", "--spectra", "SOIL 2", "--ignore", "440:480", "--nodata", "0", "--no-plots")
    assert run("unmix", tmp_path / "masked.npz", *words, "--method", "sunsal", "--sparsity", "0.01",
               "-o", tmp_path / "out") == 0  # fmt: skip
    result = read_result(tmp_path / "out")
    assert result.names == ("PV", "NPV", "SOIL 2") and result.classes is None
    assert result.wavelengths_nm.tolist() == [w for w in BANDS if not 440 <= w <= 480]
    assert not result.valid[0, 0] and not result.abundances[0, 0].any()
    assert result.summary["configuration"]["method"]["sparsity"] == 0.01


def test_the_result_in_one_file(here, tmp_path, capsys):
    pytest.importorskip("rioxarray")
    words = ("unmix", "scene.npz", *KNOWN, "--class", "Class", "--uncertainty", "0.01", "--no-plots")
    assert run(*words, "-o", tmp_path / "out") == 0 and run(*words, "-o", tmp_path / "r.nc") == 0
    assert str(tmp_path / "r.nc") in capsys.readouterr().out.splitlines()
    folder, single = read_result(tmp_path / "out"), read_result(tmp_path / "r.nc")
    for name in ("abundances", "classes", "abundances_sd", "classes_sd"):
        np.testing.assert_array_equal(getattr(single, name), getattr(folder, name))
    assert single.class_of == folder.class_of
    assert run("report", "scene.npz", *KNOWN, "--result", tmp_path / "k.tif", "-o", tmp_path / "page.html") == 0
    assert (tmp_path / "k.tif").is_file()
    capsys.readouterr()
    tiles = failure(capsys, *words[:-3], "--no-plots", "--tile", "3", "-o", tmp_path / "t.nc")
    assert "in tiles, from disk to disk" in tiles and "expected a folder" in tiles


def test_a_report_in_one_command(here, tmp_path):
    words = ("report", "scene.npz", *KNOWN, "--class", "name", "--method", "soft", "--result", tmp_path / "kept")
    assert run(*words, "-o", tmp_path / "page.html") == 0
    assert read_result(tmp_path / "kept").class_names == ("SOIL", "PV", "NPV")
    assert not (tmp_path / "kept" / "model.npz").exists()
    assert "class NPV" in (tmp_path / "page.html").read_text()
    again = tmp_path / "again.html"  # from the folder, whose classes are kept
    assert run("report", tmp_path / "kept", "-o", again) == 0 and "class NPV" in again.read_text()


def test_what_does_not_fit_is_a_sentence(here, tmp_path, capsys):
    out = ("-o", tmp_path / "out")
    for words, sentence in (
        ((), "No model and no spectra are given"),
        (("--endmembers", "3"), "A number of endmembers goes with a model"),
        (("model.npz", *KNOWN), "model.npz is a MODEL and classes.csv a LIBRARY; expected one of the two"),
        (("--endmembers", "auto"), "auto does not exist; expected a spectral library"),
        (("model.npz", "--class", "Class"), "--class applies to the spectra of a library"),
        (("model.npz", "--method", "nnls", "--seed", "1"), "--method and --seed apply to the spectra of a library"),
        ((*KNOWN, "--epochs", "3"), "--epochs and --seed are for the training of --method deq"),
        ((*KNOWN, "--class", "Klass"), "no column 'Klass' of classes; expected one of: Class, name"),
        ((*KNOWN, "--spectra", "GV"), "no spectrum 'GV'; expected names among: SOIL, PV, NPV"),
        ((*KNOWN, "--spectra", "PV"), "expected at least two"),
        ((*KNOWN, "--sparsity", "1"), "sparsity has no effect on the method 'fcls'"),
        ((*KNOWN, "--method", "sunsal-tv", "--tile", "3"), "expected a method of single pixels for tiles"),
        ((*KNOWN, "--tile", "3", "--uncertainty", "0.01"), "--uncertainty is computed for a whole scene"),
        (
            (*KNOWN, "--uncertainty", "best"),
            "uncertainty is 'best'; expected bands, residual, scene or a number above 0",
        ),
        ((*KNOWN, "--uncertainty", "0"), "standard deviations above 0"),
        ((*KNOWN, "--method", "sunsal-tv", "--uncertainty", "bands"), "sunsal-tv has no closed form"),
        ((*KNOWN, "--tile", "3", "--halo", "1"), "--halo is for a model"),
        ((*KNOWN, "--bands", "0:2", "--method", "nnls"), "There are 4 spectra and 3 bands"),
        (KNOWN[:2], "Divide the library, for example by 10000 (--library-scale 10000"),
        ((*KNOWN[:2], "--tile", "3"), "Divide the library, for example by 10000 (--library-scale 10000"),
    ):
        assert sentence in failure(capsys, "unmix", "scene.npz", *words, *out), words
    assert not list(tmp_path.iterdir())
    page = ("-o", tmp_path / "page.html")
    for words, sentence in (
        (("--endmembers", "3", "--class", "Class"), "--class applies to the spectra of a library"),
        ((*KNOWN, "--mixing", "scaled", "--epochs", "2"), "--mixing and --epochs are for a training"),
        ((*KNOWN, "--model", "model.npz"), "expected either --endmembers N"),
    ):
        assert sentence in failure(capsys, "report", "scene.npz", *words, *page), words


@pytest.mark.slow  # it compiles the training of a network
def test_the_operator_is_trained_in_one_command(here, tmp_path):
    words = (*KNOWN, "--method", "deq", "--epochs", "1", "--seed", "2", "--class", "Class", "--no-plots")
    assert run("unmix", "scene.npz", *words, "-o", tmp_path / "out") == 0
    result = read_result(tmp_path / "out")
    assert result.class_names == ("SOIL", "PV", "NPV") and result.summary["configuration"]["rates"]["endmembers"] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("unmix s.mat --endmembers l.csv -o s.mat", "s.mat is also the input"),
        ("unmix s.mat --endmembers l.nc -o l.nc", "l.nc is also the input"),
        ("unmix s.mat --endmembers l.csv --uncertainty noise.tif -o noise.tif", "noise.tif is also the input"),
        ("unmix s.mat out/model.npz -o out", "out/model.npz is an input and lies in out"),
        ("report s.mat --endmembers l.csv --result s.mat -o r.html", "s.mat is also the input"),
        (
            "report s.mat --endmembers 3 --fixed out/e.csv --result out -o r.html",
            "out/e.csv is an input and lies in out",
        ),
        ("endmembers s.mat --count 3 --fixed l.csv -o l.csv", "l.csv is also the input"),
        ("fit s.mat --endmembers 3 --mask mask.npz -o mask.npz", "mask.npz is also the input"),
        ("zones out l.csv -o l.csv", "l.csv is also the input"),
    ],
)
def test_no_output_replaces_an_input(tmp_path, monkeypatch, capsys, words, said):
    """With --force too; the inputs keep their bytes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    names = ("s.mat", "l.csv", "l.nc", "noise.tif", "mask.npz", "out/model.npz", "out/e.csv", "out/summary.json")
    for name in names:
        (tmp_path / name).write_text("kept")
    assert run(*words.split(), "--force") == 1
    assert said in capsys.readouterr().err.replace(os.sep, "/")
    assert all((tmp_path / name).read_text() == "kept" for name in names)
