"""The command line from file to report: every command as a user types it, what other programs read, and refusals."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from dequnmix_jax.checks import InputError
from dequnmix_jax.cli import endmembers, main, report
from dequnmix_jax.cli.config_file import read_configuration
from dequnmix_jax.cli.parser import METHODS, parser
from dequnmix_jax.endmembers import selection
from dequnmix_jax.equilibrium.config import Cone, Energy, Model, Simplex, Softmax
from dequnmix_jax.io import formats
from dequnmix_jax.learned import selection as learned
from dequnmix_jax.libraries.reading import read_library
from dequnmix_jax.pipeline import choose
from dequnmix_jax.report.page import write_report
from dequnmix_jax.results.result import read_result
from dequnmix_jax.solvers.config import Solver
from dequnmix_jax.training import checkpoint
from dequnmix_jax.training.config import RECOMMENDED, Rates

pytest.importorskip("matplotlib")
H, W, B, R = 12, 10, 20, 3
SMALL = ["--endmembers", "3", "--epochs", "2", "--gradient", "analytic", "--start", "vca"]  # these compile faster
WAVELENGTHS = 400 + 20.0 * np.arange(B)


def spectra():
    x = np.linspace(0, 1, B)
    return np.stack([0.2 + 0.6 * np.exp(-((x - c) ** 2) / 0.05) for c in np.linspace(0.1, 0.9, R)])


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    monkeypatch.setenv("DEQUNMIX_NO_CACHE", "1")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with scene.npz, library.csv, and what one command makes of them: report, result and model."""
    folder = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(0)
    maps = rng.dirichlet(np.full(R, 0.5), (H, W))
    maps[np.arange(R), 0] = np.eye(R)
    cube = maps @ spectra() + 0.001 * rng.standard_normal((H, W, B))
    np.savez(folder / "scene.npz", cube=cube.astype(np.float32), wavelengths_nm=WAVELENGTHS)
    rows = [",".join(["wavelength_nm", "sand", "brick", "oak"])]
    rows += [",".join(f"{v:.6g}" for v in (w, *column)) for w, column in zip(WAVELENGTHS, spectra().T, strict=True)]
    (folder / "library.csv").write_text("\n".join(rows))
    words = [
        "report",
        "scene.npz",
        *SMALL,
        "--library",
        "library.csv",
        "--result",
        "out",
        "-o",
        "report.html",
        "--json",
    ]
    made = process(folder, *words)
    assert made.returncode == 0, made.stderr
    (folder / "said.json").write_text(made.stdout)
    return folder


def process(folder, *words, **more):
    environment = os.environ | {"DEQUNMIX_NO_CACHE": "1"}
    command = [sys.executable, "-m", "dequnmix_jax", *map(str, words)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, **more)


def run(*words):
    return main.main([str(word) for word in words])


def failure(capsys, *words):
    status = run(*words)
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if not line.startswith(("note: ", "warning: "))]
    assert status == 1 and len(lines) == 1 and out == "", err
    assert lines[0].startswith("dequnmix: ") and "fault of the program" not in err
    return lines[0]


def test_from_a_file_to_a_report_in_one_command(place):
    said = json.loads((place / "said.json").read_text())
    assert said["trace"]["converged"] and said["report"] == "report.html"
    named = {entry["endmember"]: entry for entry in said["library_names"]}
    assert list(named) == [f"endmember {i + 1}" for i in range(R)]
    labels = [
        entry["nearest"] if entry["sure"] else f"{name} (maybe {entry['nearest']})" for name, entry in named.items()
    ]
    assert said["endmembers"] == labels and any(entry["sure"] for entry in named.values())
    header = (place / "out" / "abundances.hdr").read_text()
    assert all(label in header for label in labels)
    assert [verdict["name"] for verdict in said["verdicts"]][:2] == ["converged", "distinct"]
    text = (place / "report.html").read_text()
    assert "sand" in text and "Training" in text and said["source"]["sha256"] in text
    names = {path.name for path in (place / "out").iterdir()}
    assert {"abundances.img", "residual.img", "convergence.img", "model.npz", "summary.json"} <= names
    found = read_result(place / "out")
    cube = np.load(place / "scene.npz")["cube"]
    mixed = (found.abundances * found.brightness[..., None]) @ found.referred
    np.testing.assert_allclose(found.residual, np.sqrt(((cube - mixed) ** 2).mean(axis=2)), atol=1e-6)
    summary = found.summary
    assert (
        summary["reading"] == {} and summary["history"]["steps"] and summary["configuration"]["training"]["epochs"] == 2
    )


def test_the_model_of_a_report_unmixes_alike(place, tmp_path, capsys):
    words = ["unmix", place / "scene.npz", place / "out" / "model.npz", "--no-plots", "--report", tmp_path / "r.html"]
    assert run(*words, "-o", tmp_path / "out", "--library", place / "library.csv", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert str(tmp_path / "r.html") in said["files"] and all(Path(path).exists() for path in said["files"])
    assert len(said["model_file"]["sha256"]) == 64
    first, second = read_result(place / "out"), read_result(tmp_path / "out")
    np.testing.assert_allclose(first.abundances, second.abundances, atol=1e-5)
    assert "sand" in (tmp_path / "r.html").read_text()
    assert first.convention == second.convention == said["convention"]
    np.testing.assert_allclose(first.endmembers, second.endmembers, rtol=1e-4)
    for option in (["--mixing", "linear"], ["--constraint", "soft"]):
        asked = ["report", place / "scene.npz", "--model", place / "out" / "model.npz", "-o", tmp_path / "no.html"]
        assert f"to which {option[0]} does not apply" in failure(capsys, *asked, *option)
        assert f"{option[0]} does not apply" in failure(capsys, "report", place / "out", *asked[-2:], *option)
    inside = tmp_path / "again" / "report.html"
    assert run(*words[:-1], inside, "-o", tmp_path / "again") == 0
    assert inside.is_file() and str(inside) in capsys.readouterr().out
    assert "exists already" in failure(capsys, *words, "-o", tmp_path / "third")
    assert not (tmp_path / "third").exists()


def test_a_result_with_its_scene(place, tmp_path, capsys):
    old = tmp_path / "old"
    assert run("unmix", place / "scene.npz", place / "out" / "model.npz", "-o", old, "--no-plots") == 0
    kept = dict(np.load(old / "estimate.npz"))
    del kept["residual"], kept["composite"]  # as earlier versions wrote it
    np.savez(old / "estimate.npz", **kept)  # as earlier versions wrote it
    assert run("report", old, "-o", tmp_path / "a.html") == 0
    assert run("report", old, place / "scene.npz", "-o", tmp_path / "b.html") == 0
    a, b = ((tmp_path / name).read_text() for name in ("a.html", "b.html"))
    assert "Colour composite" not in a and "holds no residual map" in a and "holds no residual map" not in b
    assert "Colour composite" in b and ">Residual<" in b and ">Residual<" not in a
    capsys.readouterr()
    np.save(tmp_path / "c.npy", np.ones((3, 3, 4), np.float32))
    assert "expected the scene that was unmixed" in failure(
        capsys, "report", old, tmp_path / "c.npy", "-o", tmp_path / "c.html"
    )
    assert "--endmembers does not apply" in failure(capsys, "report", old, "--endmembers", 3, "-o", tmp_path / "c.html")
    scene = place / "scene.npz"
    assert "either --endmembers N" in failure(capsys, "report", scene, "-o", tmp_path / "c.html")
    assert "not the output of an unmixing" in failure(
        capsys, "report", scene, scene, "--endmembers", 3, "-o", tmp_path / "c.html"
    )
    assert "exists already" in failure(capsys, "report", old, "-o", tmp_path / "a.html")
    assert not (tmp_path / "c.html").exists()


@pytest.mark.parametrize("name", ["r.pdf", "r", "folder"])
def test_a_page_is_not_written_under_another_suffix(place, tmp_path, capsys, name):
    (tmp_path / "folder").mkdir()
    said = failure(capsys, "report", place / "out", "-o", tmp_path / name, "--force")
    assert "expected .html or .htm" in said and f"Write {tmp_path / name.removesuffix('.pdf')}.html" in said
    words = ["unmix", place / "scene.npz", place / "out" / "model.npz", "-o", tmp_path / "o", "--report"]
    assert "expected .html or .htm" in failure(capsys, *words, tmp_path / name)
    with pytest.raises(InputError, match=r"expected \.html or \.htm"):
        write_report(tmp_path / name, read_result(place / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert run("report", place / "out", "-o", tmp_path / "r.HTM") == 0 and (tmp_path / "r.HTM").is_file()


def test_a_report_on_what_is_no_scene_says_what_it_is(place, tmp_path, capsys):
    page = ("-o", tmp_path / "r.html")
    assert "is a trained model" in failure(capsys, "report", place / "out" / "model.npz", *page)
    assert "name its folder" in failure(capsys, "report", place / "out" / "estimate.npz", *page)


def test_numbers_are_written_in_the_digits_of_their_precision(place):
    summary = json.loads((place / "out" / "summary.json").read_text())
    float32 = [*summary["history"]["loss"], *summary["history"]["residual"], summary["trace"]["residual"]]
    assert [str(number) for number in float32] == [str(np.float32(number)) for number in float32]


def test_what_is_missing_is_said_before_the_work(place, tmp_path, capsys, monkeypatch):
    scene, model = place / "scene.npz", place / "out" / "model.npz"
    words = ["unmix", scene, model, "-o", tmp_path / "out"]
    assert "does not exist" in failure(capsys, *words, "--library", place / "gone.csv")
    assert "does not exist" in failure(capsys, *words, "--report", tmp_path / "no" / "r.html")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "pip install 'dequnmix-jax[plots]'" in failure(capsys, "report", place / "out", "-o", tmp_path / "r.html")
    assert "[plots]" in failure(capsys, *words, "--no-plots", "--report", tmp_path / "r.html")
    monkeypatch.setitem(sys.modules, "rasterio", None)
    assert "[geo]" in failure(capsys, "convert", scene, "-o", tmp_path / "s.tif")
    monkeypatch.setitem(sys.modules, "zarr", None)
    assert "[zarr]" in failure(capsys, "convert", scene, "-o", tmp_path / "s.zarr")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", METHODS)
def test_endmembers(place, tmp_path, capsys, method):
    words = ["endmembers", place / "scene.npz", "--count", 3, "--method", method]
    assert run(*words, "-o", tmp_path / "e.sli") == 0
    assert "3 endmembers in 20 bands" in capsys.readouterr().out
    found = read_library(tmp_path / "e.sli")
    assert {path.name for path in tmp_path.iterdir()} == {"e.sli", "e.hdr"}
    np.testing.assert_allclose(found.wavelengths_nm, WAVELENGTHS)
    cosines = found.spectra @ spectra().T / np.outer(*(np.linalg.norm(s, axis=1) for s in (found.spectra, spectra())))
    nearest = np.arccos(np.minimum(cosines, 1)).argmin(axis=1)
    if method != "atgp":  # which looks for targets
        assert sorted(nearest) == [0, 1, 2] and np.arccos(np.minimum(cosines.max(axis=1), 1)).max() < 0.1
    if method in ("nfindr", "minimum-volume"):
        assert run(*words, "--scaled", "-o", tmp_path / "e.csv", "--json") == 0
        said = json.loads(capsys.readouterr().out)
        np.testing.assert_allclose(read_library(tmp_path / "e.csv").spectra, said["endmembers"], rtol=1e-6)


def test_endmembers_refuses(place, tmp_path, capsys):
    words = ["endmembers", place / "scene.npz", "--count", 3, "-o"]
    assert "expected .sli" in failure(capsys, *words, tmp_path / "e.txt")
    assert "--scaled does not apply" in failure(capsys, *words, tmp_path / "e.csv", "--scaled")
    (tmp_path / "e.hdr").write_text("mine")
    assert "exists already" in failure(capsys, *words, tmp_path / "e.sli", "--method", "vca")
    assert (tmp_path / "e.hdr").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


def test_counted_by_the_scene(place, tmp_path, capsys):
    assert run("endmembers", place / "scene.npz", "--count", "auto", "-o", tmp_path / "e.csv", "--method", "sivm") == 0
    out, err = capsys.readouterr()
    assert "note: 3 endmembers (" in err and "HySime 3." in err and "--count N sets another number" in err
    assert "3 endmembers in 20 bands" in out
    np.save(tmp_path / "few.npy", np.random.default_rng(0).random((3, 3, 20), np.float32))
    few = failure(capsys, "endmembers", tmp_path / "few.npy", "--count", "auto", "-o", tmp_path / "f.csv")
    assert "9 valid pixels and 20 bands" in few and "--count N" in few
    given = failure(capsys, "endmembers", place / "scene.npz", "--count", 3, "--max-endmembers", 5, "-o", "f.csv")
    assert "--max-endmembers limits what --count auto finds" in given
    with pytest.raises(SystemExit, match="2"):
        run("fit", place / "scene.npz", "--endmembers", "many", "-o", tmp_path / "m.npz")
    assert "'many' is neither a whole number nor auto" in capsys.readouterr().err


def test_a_count_never_runs_away(tmp_path, capsys):
    """Twenty directions of signal and the mean: no such number is looked for unless somebody asks for it."""
    rng = np.random.default_rng(0)
    cube = 1 + rng.random((30, 30, 20)) @ rng.random((20, 30)) + 0.001 * rng.standard_normal((30, 30, 30))
    np.save(tmp_path / "many.npy", cube.astype(np.float32))
    words = ["endmembers", tmp_path / "many.npy", "--count", "auto", "--method", "atgp", "--json", "-o"]
    assert run(*words, tmp_path / "e.csv") == 0
    said = json.loads(capsys.readouterr().out)
    assert len(said["endmembers"]) == said["count"]["number"] <= said["count"]["most"] == 15
    assert said["count"]["criteria"]["hysime"] == 21
    assert run(*words, tmp_path / "f.csv", "--max-endmembers", 4) == 0
    assert len(json.loads(capsys.readouterr().out)["endmembers"]) <= 4
    words = ["endmembers", tmp_path / "many.npy", "--count", 21, "--method", "atgp", "-o", tmp_path / "g.csv"]
    assert run(*words) == 0 and "21 endmembers in 30 bands" in capsys.readouterr().out


def test_a_count_is_said_before_the_work(place, tmp_path, capsys, monkeypatch):
    def work(*_, **__):
        assert "note: 3 endmembers (" in capsys.readouterr().err
        raise InputError("The work begins.")

    monkeypatch.setattr("dequnmix_jax.cli.fit.train", work)
    monkeypatch.setattr(report, "train", work)
    monkeypatch.setattr(endmembers, "find", work)
    for command, option, output in (("fit", "--endmembers", "m.npz"), ("report", "--endmembers", "r.html"),
                                    ("endmembers", "--count", "e.csv")):  # fmt: skip
        said = failure(capsys, command, place / "scene.npz", option, "auto", "-o", tmp_path / output)
        assert "The work begins." in said


def test_convert(place, tmp_path, capsys):
    out = tmp_path / "s.img"
    assert run("convert", place / "scene.npz", "--bands", "2:18", "-o", out, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["files"] == [str(out), str(tmp_path / "s.hdr")] and said["format"] == "envi"
    found = formats.read(out)
    np.testing.assert_array_equal(found.cube, np.load(place / "scene.npz")["cube"])
    assert found.good_bands.sum() == 17
    assert "exists already" in failure(capsys, "convert", place / "scene.npz", "-o", out)
    assert "is also the input" in failure(capsys, "convert", out, "-o", tmp_path / "s.hdr", "--force")
    shutil.copy(place / "scene.npz", tmp_path / "s.npz")  # its own earlier output lies beside it
    assert run("convert", tmp_path / "s.npz", "-o", out, "--force") == 0
    capsys.readouterr()
    assert "expected one of .npz" in failure(capsys, "convert", out, "-o", tmp_path / "s.png")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("fit s.npz --endmembers 3 -o m.npz --epochz 3", "dequnmix fit: unrecognized arguments: --epochz 3; did you "
         "mean --epochs? See `dequnmix fit --help`."),
        ("info scene.npz more", "dequnmix info: unrecognized arguments: more. See `dequnmix info --help`."),
        ("--nonsense info scene.npz", "dequnmix: unrecognized arguments: --nonsense. See `dequnmix --help`."),
        ("infos scene.npz", "See `dequnmix --help`."),
    ],
)  # fmt: skip
def test_an_unknown_word_points_to_the_help_of_its_command(capsys, words, said):
    with pytest.raises(SystemExit, match="2"):
        main.main(words.split())
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    ["unmix s.npz m.npz -o out --tile 8", "unmix s.npz --tile 8 m.npz -o out", "unmix --tile 8 -o out s.npz m.npz"],
)
def test_a_word_may_stand_after_an_option(words):
    read = parser("1").parse_args(words.split())
    assert [str(word) for word in (read.file, read.model, read.tile, read.output)] == ["s.npz", "m.npz", "8", "out"]


def test_an_option_that_has_no_effect_or_is_cut_short_is_refused(place, tmp_path, capsys):
    words = ("fit", place / "scene.npz", "--endmembers", "3", "-o", tmp_path / "m.npz")
    assert "expected --patches N with it" in failure(capsys, *words, "--patch-size", "8")
    with pytest.raises(SystemExit, match="2"):
        run(*words, "--epoch", "1")
    assert "--epoch" in capsys.readouterr().err and not (tmp_path / "m.npz").exists()


CONFIG = """
[model]
width = 8
step = "none"
[model.forward]
tolerance = 1e-3
[training]
epochs = 3
[rates]
spread = 1
"""


def test_choices_from_a_file(place, tmp_path, capsys):
    path = tmp_path / "c.toml"
    path.write_text(CONFIG)
    model, training, rates, stated = read_configuration(path)
    assert (model.gradient, model.step, model.forward) == (Energy(width=8), None, Solver(tolerance=1e-3))
    assert training.epochs == 3 and training.holdout == RECOMMENDED[0].holdout
    assert rates == RECOMMENDED[1]._replace(spread=1)
    assert stated == {"model.width", "model.step", "model.forward", "training.epochs", "rates.spread"}
    assert read_configuration(None) == (Model(), *RECOMMENDED, frozenset())
    assert read_configuration(None, {"constraint": "soft"}).stated == {"model.constraint"}
    path.write_text('[model]\ngradient = "analytic"\n[training]\nepochs = 7')
    words = ["fit", place / "scene.npz", "--endmembers", 3, "--config", path, "--epochs", 2, "-o", tmp_path / "m.npz"]
    assert run(*words, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["training"]["steps"] == 2 and said["endmembers"] == 3  # the option goes before the file


def test_a_start_that_is_chosen(place, tmp_path, capsys):
    words = ["fit", place / "scene.npz", *SMALL[:-2], "-o", tmp_path / "m.npz"]
    assert main.main([str(word) for word in words]) == 0
    told = capsys.readouterr().err
    assert "note: Endmembers: " in told and "Mixing: " in told
    _, metadata = checkpoint.load(tmp_path / "m.npz")
    mixing = next(word for word in ("(linear model)", "(soft", "(scaled") if word in metadata["start"])
    assert metadata["model"]["constraint"] == {"(linear model)": "simplex", "(soft": "soft", "(scaled": "cone"}[mixing]
    params, _ = checkpoint.load(tmp_path / "m.npz")
    assert metadata["model"]["prior"] == "learned" and {"directions", "strength", "filters"} <= set(params["prior"])
    (tmp_path / "c.toml").write_text('[model]\nconstraint = "softmax"\nprior = "none"\n[rates]\nendmembers = 0.5')
    more = ["--config", str(tmp_path / "c.toml"), "--constraint", "cone"]
    assert main.main([*map(str, words[:-1]), str(tmp_path / "n.npz"), *more]) == 0
    params, metadata = checkpoint.load(tmp_path / "n.npz")  # what is asked for stays, and options go before the file
    assert metadata["model"]["constraint"] == "cone" and "prior" not in params
    assert "Mixing: brightness varies per pixel (cone), as asked for." in metadata["start"]
    assert metadata["rates"]["endmembers"] == 0.5
    capsys.readouterr()
    out = tmp_path / "out"
    assert run("unmix", place / "scene.npz", tmp_path / "m.npz", "-o", out) == 0
    said = checkpoint.load(tmp_path / "m.npz")[1]["start"]
    assert read_result(out).summary["start"] == said
    assert np.all(np.abs(read_result(str(out)).abundances.sum(axis=-1) - 1) < 1e-5)
    assert main.main([*map(str, words), "--start", "auto", "--force", "--patches", "2"]) == 1
    assert "--start auto looks at the whole scene" in capsys.readouterr().err


def test_a_start_where_nothing_can_be_compared(place, tmp_path, capsys):
    words = ["fit", place / "scene.npz", *SMALL[:-2], "--bands", "1:5", "-o", tmp_path / "m.npz"]
    assert main.main([str(word) for word in words]) == 0
    assert "note: Endmembers: VCA. Mixing: cone. A comparison of candidates needs two" in capsys.readouterr().err
    _, metadata = checkpoint.load(tmp_path / "m.npz")
    assert "start" not in metadata and metadata["model"]["prior"] == "none"
    assert "expected at least twice as many" in failure(capsys, *words, "--force", "--start", "auto")


def test_rates_are_those_of_the_mixing_asked_for(monkeypatch):
    """Spectra that vary are fixed under the simplex, and trained if the cone is requested."""
    blank = selection.Selection(*[jnp.zeros(())] * len(selection.Selection._fields))
    found = blank.with_constraint("simplex")._replace(beyond=jnp.asarray(2.0))
    chosen = learned.OperatorSelection(*[jnp.zeros(())] * len(learned.OperatorSelection._fields))
    chosen = chosen._replace(rule=found, constraint_index=found.constraint_index)

    def select(*_, constraint=None, **__):
        word = constraint or "simplex"
        return chosen._replace(constraint_index=found.with_constraint(word).constraint_index)

    monkeypatch.setattr(learned, "select", select)
    monkeypatch.setattr(learned, "reason", lambda *_: "of no account")
    scene = formats.read(np.ones((4, 5, 6), np.float32))

    def rate(*asked, config=Model()):  # noqa: B008 - frozen
        _, config, rates, _ = choose(None, scene, 2, config, RECOMMENDED[1], set(asked))
        return config.constraint, rates.endmembers > 0

    assert rate() == (Simplex(), False)
    assert rate("model.constraint") == (Cone(), True)
    assert rate("model.constraint", config=Model(constraint=Softmax())) == (Softmax(), False)
    assert rate("rates.endmembers") == (Simplex(), True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[model]\nwitdh = 8", "the key model.witdh, which is unknown; expected one of gradient, prox"),
        ("[traning]", "the key traning, which is unknown; expected one of model, training, rates"),
        ("[model.forward]\nsteps = 3", "the key model.forward.steps, which is unknown; expected one of method"),
        ("[rates]\nspeed = 3", f"expected one of {', '.join(Rates._fields)}"),
        ("[rates]\nspread = 'much'", "rates.spread = 'much'; expected a number"),
        ("[rates]\nspread = nan", "expected a number that is not negative"),
        ("[training]\nepochs = 'ten'", "training.epochs = 'ten'; expected a whole number"),
        ("[training]\nepochs = true", "expected a whole number"),
        ("[training]\nepochs = -1", "Training.epochs is -1; expected a value from 0"),
        ("[model]\ngradient = 'newton'", "says model.gradient is 'newton'; expected one of"),
        ("[model]\nattention = 1", "expected true or false"),
        ("model = 3", "says model = 3; expected a table, [model]"),
        ("[model]\nforward = 3", "says model.forward = 3; expected a table"),
        ("[model", "is not TOML"),
        (None, "cannot be read"),
    ],
)
def test_choices_that_are_none(place, tmp_path, capsys, text, words):
    path = tmp_path / "c.toml"
    if text is not None:
        path.write_text(text)
    said = failure(capsys, "fit", place / "scene.npz", *SMALL[:2], "--config", path, "-o", tmp_path / "m.npz")
    assert words in said and str(path) in said


@pytest.mark.parametrize(
    "command",
    [
        "demo",
        "info",
        "fit",
        "unmix",
        "report",
        "endmembers",
        "convert",
        "score",
        "match",
        "zones",
        "env",
        "completion",
    ],
)
def test_every_command_has_help_with_examples(capsys, command):
    with pytest.raises(SystemExit, match="0"):
        run(command, "--help")
    text = capsys.readouterr().out
    assert f"example{'s' if text.count(f'  dequnmix {command} ') > 1 else ''}:\n  dequnmix {command} " in text
    assert ("--json" in text) == (command != "completion")


def test_the_examples_of_the_help_are_understood():
    parser = main.parser("0")
    commands = next(action for action in parser._actions if action.dest == "command").choices
    lines = [line for each in (parser, *commands.values()) for line in each.epilog.splitlines()]
    examples = [line.split("  ")[0].split()[1:] for line in map(str.strip, lines) if line.startswith("dequnmix ")]
    assert len(examples) > 20
    for words in examples:
        parser.parse_args(words)


def test_as_a_user(place, tmp_path):
    """Exit codes, and pipes whose reader closes."""
    wrong = process(tmp_path, "info", place / "scene.npz", "--ignore", "1490:1310")
    assert (wrong.returncode, wrong.stdout) == (2, "") and len(wrong.stderr.splitlines()) == 1
    assert "write the shorter wavelength first" in wrong.stderr
    missing = process(tmp_path, "report", "nowhere", "--endmembers", "3", "-o", "r.html")
    assert (missing.returncode, missing.stdout) == (1, "") and len(missing.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
    if sys.platform == "win32":
        return
    words = f"'{sys.executable}' -m dequnmix_jax info '{place / 'scene.npz'}' --json"
    for reader, expect in (("head -1", "{\n"), ("true", "")):
        shell = ["sh", "-c", f"{words} | {reader}"]
        piped = subprocess.run(shell, capture_output=True, text=True, check=False)
        assert (piped.returncode, piped.stdout, piped.stderr) == (0, expect, "")
