"""The command line, as a user meets it: whole runs on small scenes, and one sentence for each failure."""

import json
import os
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest

from dequnmix_jax.cli import demo, main, options, progress
from dequnmix_jax.datasets import hysu
from dequnmix_jax.io import formats
from dequnmix_jax.io.envi.writer import write_image
from dequnmix_jax.results.result import read_result
from dequnmix_jax.training import checkpoint, resume

H, W, B, R = 12, 10, 20, 3
SMALL = ["--endmembers", "3", "--epochs", "2", "--gradient", "analytic", "--start", "vca"]  # these compile faster


def spectra(count=R, bands=B):
    x = np.linspace(0, 1, bands)
    return np.stack([0.2 + 0.6 * np.exp(-((x - c) ** 2) / 0.05) for c in np.linspace(0.1, 0.9, count)])


def abundances(count=R):
    maps = np.random.default_rng(0).dirichlet(np.full(count, 0.5), (H, W))
    maps[np.arange(count), 0] = np.eye(count)  # a pure pixel of each
    return maps


def scene(path, name="scene.npz", **arrays):
    cube = (abundances() @ spectra()).astype(np.float32)
    content = {"cube": cube, "wavelengths_nm": 400.0 + 20 * np.arange(B)} | arrays
    np.savez(path / name, **{key: value for key, value in content.items() if value is not None})
    return path / name


def run(*words):
    return main.main([str(word) for word in words])


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    """Leave the compilation cache of the test process alone."""
    monkeypatch.setenv("DEQUNMIX_NO_CACHE", "1")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a folder with scene.npz, model.npz and truth.npz."""
    folder = tmp_path_factory.mktemp("trained")
    np.savez(folder / "truth.npz", abundances=abundances(), endmembers=spectra(), names=["a", "b", "c"], note="made up")
    before = os.environ.get("DEQUNMIX_NO_CACHE")
    os.environ["DEQUNMIX_NO_CACHE"] = "1"
    try:
        assert run("fit", scene(folder), *SMALL, "-o", folder / "model.npz") == 0
    finally:
        os.environ.pop("DEQUNMIX_NO_CACHE")
        if before is not None:
            os.environ["DEQUNMIX_NO_CACHE"] = before
    return folder


def failure(capsys, *words):
    """Run words that must fail, and return the one line on stderr."""
    status = run(*words)
    out, err = capsys.readouterr()
    assert status == 1, err
    lines = [line for line in err.splitlines() if not line.startswith(("note: ", "warning: "))]
    assert len(lines) == 1, err
    assert lines[0].startswith("dequnmix: ")
    assert "Traceback" not in err
    assert "fault of the program" not in err
    assert out == ""
    return lines[0]


def test_fit_unmix_score(trained, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("unmix", trained / "scene.npz", trained / "model.npz", "-o", out) == 0
    printed, err = capsys.readouterr()
    assert "converged" in printed
    # What each stage took, and nothing else, on a pipe too.
    assert [re.fullmatch(r"(.*): \d+\.\d s", line)[1] for line in err.splitlines()] == ["unmixing", "maps and pictures"]
    named = {path.name for path in out.iterdir()}
    assert {"abundances.img", "abundances.hdr", "endmembers.csv", "estimate.npz", "summary.json"} <= named
    assert {"abundances.png", "endmembers.png", "composite.png"} <= named
    assert all(str(out / name) in printed for name in named)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]  # nothing temporary is left

    assert run("score", out, trained / "truth.npz", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    estimate = read_result(out).in_convention(found["convention"]["reference"])
    order = [int(row["estimate"].split()[1]) - 1 for row in found["endmembers"]]
    error = estimate.abundances[:, :, order] - abundances()
    rmse = np.sqrt((error**2).mean(axis=(0, 1)))
    np.testing.assert_allclose([row["rmse"] for row in found["endmembers"]], rmse, rtol=1e-4, atol=1e-6)
    assert found["armse"] == pytest.approx(rmse.mean(), rel=1e-4, abs=1e-6)
    assert found["pooled_rmse"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-4, abs=1e-6)
    assert found["msad"] == pytest.approx(np.mean([row["sad"] for row in found["endmembers"]]))
    assert found["armse"] < 1e-4  # linear, pure pixels, no noise
    raw = formats.read_truth(out).abundances[:, :, order] - abundances()
    assert found["as_they_are"]["armse"] == pytest.approx(np.sqrt((raw**2).mean(axis=(0, 1))).mean(), rel=1e-4)
    assert found["as_they_are"]["armse"] > 5e-4
    assert found["reference"] == "made up"
    assert [row["reference"] for row in found["endmembers"]] == ["a", "b", "c"]
    assert run("score", out, trained / "truth.npz") == 0
    text = capsys.readouterr().out
    assert "reference: made up" in text
    assert f"aRMSE {found['armse']:.4f}" in text


def test_the_checkpoint_says_how_it_was_made(trained):
    params, metadata = checkpoint.load(trained / "model.npz")
    assert params["endmembers"].shape == (R, B)
    assert metadata["model"]["forward"]["method"] == "anderson"
    assert metadata["training"]["epochs"] == 2
    assert metadata["seed"] == 0
    assert metadata["scene"]["shape"] == [H, W, B]
    assert len(metadata["history"]["loss"]) == 2
    assert metadata["wavelengths_nm"][-1] == 400 + 20 * (B - 1)


def test_commands_get_frozen_options_and_no_namespace():
    """The namespace of argparse ends where the options are made of it."""
    folder = Path(main.__file__).parent
    assert {path.stem for path in folder.glob("*.py") if "Namespace" in path.read_text()} == {"main", "options"}
    words = ["report", "s.img", "--shape", "2", "3", "--ignore", "1:2", "--ignore", "3:4", "--start", "vca", "-o", "r"]
    made = options.options_of(options.ReportOptions, main.parser("0").parse_args(words))
    assert made.scene.given() == {"shape": (2, 3), "ignore": ((1.0, 2.0), (3.0, 4.0))}
    assert (made.scene.file, made.output, made.training.start) == (Path("s.img"), Path("r"), "vca")
    assert hash(made) == hash(options.options_of(options.ReportOptions, main.parser("0").parse_args(words)))
    with pytest.raises(FrozenInstanceError):
        made.scene.nodata = 0.0


@pytest.mark.slow
def test_pieces_do_not_change_the_fit(tmp_path, monkeypatch):
    config = tmp_path / "config.toml"
    config.write_text("[training]\njudged = false\n", encoding="utf-8")
    kept = []
    for size in (2, 1):
        monkeypatch.setattr(resume, "_LARGEST_PIECE", size)
        model = tmp_path / f"{size}.npz"
        assert run("fit", scene(tmp_path), *SMALL, "--config", config, "-o", model) == 0
        kept.append(checkpoint.load(model))
    (whole, record), (pieces, other) = kept
    assert len(record["history"]["loss"]) == 2
    assert np.ptp(record["history"]["loss"]) > 0  # it trained
    np.testing.assert_allclose(pieces["endmembers"], whole["endmembers"], rtol=1e-4)
    np.testing.assert_allclose(other["history"]["loss"], record["history"]["loss"], rtol=1e-4)


def test_masked_pixels_stay_out(trained, tmp_path, capsys):
    cube = np.array(formats.read(trained / "scene.npz").cube)
    cube[11, 9] = -9999
    cube[0, 5] = np.nan
    masked = scene(tmp_path, cube=cube)
    out = tmp_path / "out"
    words = ["unmix", masked, trained / "model.npz", "-o", out, "--no-plots"]
    assert "NaN or infinite values in 1 of 120 valid pixels" in failure(capsys, *words)
    assert run(*words, "--nodata", "-9999") == 0
    found = formats.read_truth(out).abundances
    assert not found[11, 9].any()
    assert not found[0, 5].any()
    assert "note: 1 of 120 pixels hold NaN or infinity" in capsys.readouterr().err
    assert not list(out.glob("*.png"))
    assert run("score", out, trained / "truth.npz", "--json") == 0
    assert json.loads(capsys.readouterr().out)["armse"] < 0.1  # masked pixels are not counted


def test_ignored_bands_saturation_and_geotiff(trained, tmp_path, capsys):
    """`unmix` ignores what `fit` ignored, unless an option says otherwise."""
    rasterio = pytest.importorskip("rasterio")
    cube = ((abundances() @ spectra()) * 10000).astype(np.uint16)
    cube[5, 5, 0] = 65535  # saturated
    cube[6, 6, 3] = 65535  # likewise, in a band that is left out
    profile = {"driver": "GTiff", "height": H, "width": W, "count": B, "dtype": "uint16", "crs": "EPSG:32632"}
    place = rasterio.Affine(30.0, 0.0, 600000.0, 0.0, -30.0, 5300000.0)
    with rasterio.open(tmp_path / "s.tif", "w", transform=place, **profile) as file:
        file.write(cube.transpose(2, 0, 1))
        for band in range(B):
            file.set_band_description(band + 1, f"{400 + 20 * band} nm")
    reading = ["--scale", "10000", "--saturation", "65535"]
    model = tmp_path / "m.npz"
    ranges = ["--ignore", "450:465", "--ignore=700:720"]
    assert run("fit", tmp_path / "s.tif", *SMALL, *reading, *ranges, "-o", model) == 0
    said = capsys.readouterr().err
    assert "1 band between 450 and 465 nm ignored" in said and "2 bands between 700 and 720 nm ignored" in said
    assert "1 of 120 pixels reach the saturation value 65535" in said
    unmix = ("unmix", tmp_path / "s.tif", model, *reading, "--no-plots", "--format", "geotiff")
    assert run(*unmix, "-o", tmp_path / "out") == 0
    assert "2 bands between 700 and 720 nm ignored" in capsys.readouterr().err
    with rasterio.open(tmp_path / "out" / "abundances.tif") as file:
        maps = file.read()
        assert file.crs.to_epsg() == 32632 and file.transform == place and file.nodata == -9999
        assert file.descriptions == ("endmember 1", "endmember 2", "endmember 3")
    assert np.argwhere(maps[0] == -9999).tolist() == [[5, 5]]
    assert run(*unmix, "-o", tmp_path / "out") == 1 and "exists already" in capsys.readouterr().err
    assert run("info", tmp_path / "s.tif", *ranges, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["good_bands"] == B - 3 and found["transform"] == [30.0, 0.0, 600000.0, 0.0, -30.0, 5300000.0]


@pytest.mark.parametrize("text", ["1490:1310", "1310", "a:b", "nan:1", "1:2:3"])
def test_ranges_that_are_none(trained, capsys, text):
    with pytest.raises(SystemExit) as stop:
        run("info", trained / "scene.npz", "--ignore", text)
    err = capsys.readouterr().err
    assert stop.value.code == 2 and err.startswith("dequnmix info: argument --ignore: ")
    assert len(err.splitlines()) == 1


def test_a_model_remembers_its_bands(trained, tmp_path, capsys):
    model, words = tmp_path / "m.npz", ["unmix", trained / "scene.npz", tmp_path / "m.npz", "--no-plots"]
    assert run("fit", trained / "scene.npz", *SMALL, "--bands", "2:17", "-o", model) == 0
    assert run(*words, "-o", tmp_path / "out") == 0
    assert formats.read_truth(tmp_path / "out").endmembers.shape == (R, 16)
    assert "4 of 20 bands left out" in capsys.readouterr().err
    assert "16 bands and the scene has 20" in failure(capsys, *words, "-o", tmp_path / "o", "--bands", "0:19")


def test_not_converged_is_said(trained, tmp_path, capsys):
    params, metadata = checkpoint.load(trained / "model.npz")
    metadata["model"]["forward"] |= {"max_steps": 1, "tolerance": 1e-9}
    checkpoint.save(tmp_path / "m.npz", params, metadata)
    assert run("unmix", trained / "scene.npz", tmp_path / "m.npz", "-o", tmp_path / "o", "--no-plots") == 0
    out, err = capsys.readouterr()
    assert "not converged" in out
    assert [line[:54] for line in err.splitlines() if not line.endswith(" s")] == [
        "warning: The equilibrium was not reached within 1 steps"[:54]
    ]


def test_score_without_spectra_says_so(trained, tmp_path, capsys):
    np.savez(tmp_path / "maps.npz", abundances=abundances()[:, :, ::-1])
    assert run("score", trained / "truth.npz", tmp_path / "maps.npz", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert "because spectra are missing" in found["matched_by"]
    assert found["armse"] == pytest.approx(0, abs=1e-6)
    assert found["msad"] is None
    assert [row["estimate"] for row in found["endmembers"]] == ["c", "b", "a"]
    assert run("score", trained / "truth.npz", tmp_path / "maps.npz") == 0


def test_info(trained, tmp_path, capsys):
    good = np.ones(B)
    good[4] = 0
    both = scene(tmp_path, abundances=abundances(), endmembers=spectra(), bbl=good)
    assert run("info", both) == 0
    text = capsys.readouterr().out
    assert "12 rows, 10 columns, 20 bands" in text
    assert "wavelengths: 400.0 to 780.0 nm" in text
    assert "good bands: 19 of 20" in text
    assert "reference: abundances (12, 10, 3) and endmembers (3, 20)" in text
    assert run("info", both, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["good_bands"] == 19
    assert found["reference"]["endmembers"] == [3, 20]
    assert found["problem"] is None


def test_info_says_what_is_odd(trained, tmp_path, capsys):
    cube = np.array(formats.read(trained / "scene.npz").cube)
    cube[..., 3] = 0.5
    cube[2, 2] = 0
    cube[1, 1, 0] = -0.1
    assert run("info", scene(tmp_path, cube=cube)) == 0
    text = capsys.readouterr().out
    assert "zero in every band" in text
    assert "negative" in text
    cube[0, 0, 0] = np.inf
    assert run("info", scene(tmp_path, cube=cube), "--json") == 0
    assert "NaN or infinite" in json.loads(capsys.readouterr().out)["problem"]
    assert "1 band is constant" in failure_text(capsys, scene(tmp_path, cube=np.where(cube == np.inf, 0.3, cube)))


def failure_text(capsys, path):
    """Return what `info` prints of a scene with its zero pixel masked."""
    assert run("info", path, "--nodata", "0") == 0
    return capsys.readouterr().out


def test_bad_input_is_one_sentence(trained, tmp_path, capsys):
    cube = formats.read(trained / "scene.npz").cube
    model = tmp_path / "m.npz"

    def fit(path, *words):
        return failure(capsys, "fit", path, *(words or SMALL), "-o", model)

    assert "does not exist" in fit(tmp_path / "nowhere.npz")
    whole = scene(tmp_path)
    (tmp_path / "cut.npz").write_bytes(whole.read_bytes()[:3000])
    assert "truncated" in fit(tmp_path / "cut.npz")
    write_image(tmp_path / "e.img", cube, band_names=[f"b{i}" for i in range(B)])
    content = (tmp_path / "e.img").read_bytes()
    (tmp_path / "e.img").write_bytes(content[:-100])
    assert "e.img" in fit(tmp_path / "e.img")
    (tmp_path / "e.img").write_bytes(content)
    header = tmp_path / "e.hdr"
    header.write_text(header.read_text().replace("lines = 12", "lines = 13"))
    assert "e.img" in fit(tmp_path / "e.img")
    holed = np.array(cube)
    holed[3, 4, 5] = np.nan
    assert "row 3, column 4" in fit(scene(tmp_path, cube=holed))
    assert "21 endmembers asked for in 20 bands" in fit(scene(tmp_path), "--endmembers", 21)
    few = scene(tmp_path, cube=cube[:1, :2])
    assert "3 endmembers asked for in 2 valid pixels" in fit(few)
    assert "1 endmember asked for" in fit(scene(tmp_path), "--endmembers", 1)
    assert "--prox is 'cone'; expected one of" in fit(scene(tmp_path), *SMALL, "--prox", "cone")
    assert "is also the input" in failure(capsys, "fit", whole, *SMALL, "-o", whole, "--force")
    assert not model.exists()
    assert not list(tmp_path.glob(".*"))


def test_matrix_of_unknown_order(trained, tmp_path, capsys):
    scipy_io = pytest.importorskip("scipy.io")
    cube = formats.read(trained / "scene.npz").cube
    scipy_io.savemat(tmp_path / "s.mat", {"Y": cube.reshape(-1, B).T})  # 120 pixels: no square, nothing else says
    words = ["fit", tmp_path / "s.mat", *SMALL, "-o", tmp_path / "m.npz"]
    assert "--shape" in failure(capsys, *words)
    assert "pixels" in failure(capsys, *words, "--shape", 5, 5)
    for shape in (["--shape", 12, 10, "--order", "C"], ["--shape", 10, 12, "--order", "F"]):
        assert run("info", tmp_path / "s.mat", *shape, "--json") == 0
        found = json.loads(capsys.readouterr().out)
        assert [found["rows"], found["columns"], found["bands"]] == [*map(int, shape[1:3]), B]


def test_models_that_do_not_fit(trained, tmp_path, capsys):
    model, out = trained / "model.npz", tmp_path / "out"
    fewer = scene(tmp_path, cube=formats.read(trained / "scene.npz").cube[..., :12], wavelengths_nm=None)
    assert "20 bands and the scene has 12" in failure(capsys, "unmix", fewer, model, "-o", out)
    words = ["unmix", trained / "scene.npz"]
    assert "has 3 endmembers and 4" in failure(capsys, *words, model, "-o", out, "--endmembers", 4)
    assert "not a checkpoint" in failure(capsys, *words, trained / "scene.npz", "-o", out)
    params, metadata = checkpoint.load(model)
    checkpoint.save(tmp_path / "a.npz", params, {})
    assert "does not say how its model was made" in failure(capsys, *words, tmp_path / "a.npz", "-o", out)
    checkpoint.save(tmp_path / "b.npz", params | {"network": {"first": np.ones(3)}}, metadata)
    assert "do not fit the model" in failure(capsys, *words, tmp_path / "b.npz", "-o", out)
    assert not out.exists()


def test_nothing_is_overwritten_by_default(trained, tmp_path, capsys):
    kept = tmp_path / "m.npz"
    kept.write_text("mine")
    assert "--force" in failure(capsys, "fit", trained / "scene.npz", *SMALL, "-o", kept)
    assert kept.read_text() == "mine"
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    words = ["unmix", trained / "scene.npz", trained / "model.npz", "-o", out, "--no-plots"]
    assert "--force" in failure(capsys, *words)
    assert "not an earlier output" in failure(capsys, *words, "--force")
    assert "not an earlier output" in failure(capsys, "demo", "-o", out, "--force")
    assert (out / "mine.txt").read_text() == "mine"
    (out / "mine.txt").unlink()
    assert run(*words, "--force") == 0
    assert run(*words, "--force") == 0
    capsys.readouterr()
    assert "does not exist" in failure(capsys, *words[:-2], tmp_path / "no" / "out")


def test_references_that_do_not_fit(trained, tmp_path, capsys):
    truth = trained / "truth.npz"

    def score(**arrays):
        np.savez(tmp_path / "t.npz", **arrays)
        return failure(capsys, "score", truth, tmp_path / "t.npz")

    assert "3 endmembers and the reference 2" in score(endmembers=spectra(2))
    assert "expected the same (endmembers, bands)" in score(endmembers=spectra()[:, :5])
    assert "expected the same (rows, columns" in score(abundances=abundances()[:5])
    assert "NaN" in score(endmembers=np.full((R, B), np.nan))
    assert "folder without estimate.npz" in failure(capsys, "score", tmp_path, truth)


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (OSError(28, "No space left on device", "m.npz"), 1, "No space left on device: m.npz"),
        (PermissionError(13, "Permission denied", "m.npz"), 1, "Permission denied: m.npz"),
        (MemoryError(), 1, "too little memory"),
        (RuntimeError("odd\nvery"), 1, "fault of the program"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_other_failures(monkeypatch, capsys, error, status, words):
    def fails(args):
        raise error

    monkeypatch.setattr(main, "_run", fails)
    assert run("demo") == status
    err = capsys.readouterr().err
    assert words in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("writable", [True, False])
def test_programs_are_kept_where_that_is_possible(writable, tmp_path):
    cache = tmp_path / "cache"
    if not writable:
        cache.write_text("a file, in which no folder can be made")
    kept_out = ("DEQUNMIX_NO_CACHE", "JAX_COMPILATION_CACHE_DIR")
    environment = {name: value for name, value in os.environ.items() if name not in kept_out} | {
        "XDG_CACHE_HOME": str(cache),
    }
    words = ["fit", str(scene(tmp_path)), *SMALL, "-o", str(tmp_path / "model.npz")]
    run = subprocess.run(
        [sys.executable, "-m", "dequnmix_jax", *words], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "model.npz").exists()
    assert "cache" not in run.stderr.lower()
    assert any(path.is_file() for path in cache.rglob("*")) == writable


def test_pieces_divide_the_epochs():
    assert [resume.piece_of(epochs) for epochs in (0, 1, 7, 11, 12, 60, 300)] == [10, 1, 7, 1, 6, 10, 10]


def test_progress_is_quiet_where_nobody_watches(capsys, monkeypatch):
    progress.Line().show("x")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    line = progress.Line()
    line.show("long text")
    line.show("x")
    line.clear()
    assert capsys.readouterr().err == "\rlong text\rx        \r \r"


def test_as_a_process(tmp_path):
    def process(*words):
        command = [sys.executable, "-m", "dequnmix_jax", *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)

    shown = process("--version")
    assert (shown.returncode, shown.stdout.split()[0], shown.stderr) == (0, "dequnmix", "")
    failed = process("info", "nowhere.mat")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith("dequnmix: nowhere.mat does not exist")
    assert len(failed.stderr.splitlines()) == 1


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit, match="0"):
        run("--help")
    assert "dequnmix fit scene.mat --endmembers 3 -o model.npz" in capsys.readouterr().out


@pytest.mark.parametrize("count", [2, 5])
def test_names_come_from_near_spectra_alone(count):
    library = spectra(3)
    found = np.r_[2 * library[[2, 0]], 1 - spectra(4)][:count]  # brightness does not matter
    naming = hysu.name_endmembers(found, library, ("a", "b", "c"))
    assert naming.names[:2] == ("c", "a")
    assert naming.names[2:] == tuple(f"unnamed {i + 1}" for i in range(count - 2))
    np.testing.assert_allclose(naming.angles[:2], 0, atol=1e-3)
    assert np.isnan(naming.angles[2:]).all()


def test_areas_of_a_perfect_unmixing():
    targets = demo.hysu.hysu_targets()
    maps = targets.roi_material.astype(float)
    areas = hysu.areas_found(maps[..., :4], targets.materials[:4])
    assert np.isnan(areas[4]).all()
    np.testing.assert_allclose(areas[:4], demo.hysu.target_areas(maps, targets.materials)[:4])


@pytest.mark.slow
def test_demo(tmp_path, capsys):
    """Ours is nearer to the truth than the classical way, by the program's own scoring too."""
    assert run("demo", "-o", tmp_path / "d") == 0
    printed, _ = capsys.readouterr()
    named = {path.name for path in (tmp_path / "d").iterdir()}
    assert {"comparison.png", "abundances.img", "abundances.png", "scene.npz", "summary.json", "demo.json"} <= named
    assert all(str(tmp_path / "d" / name) in printed for name in named)
    errors = json.loads((tmp_path / "d" / "demo.json").read_text())["errors"]
    assert errors["dequnmix"]["armse"] < 0.8 * errors["VCA + FCLS"]["armse"]
    assert run("score", tmp_path / "d", tmp_path / "d" / "scene.npz", "--json") == 0
    score = json.loads(capsys.readouterr().out)
    assert score["armse"] == pytest.approx(errors["dequnmix"]["armse"], rel=1e-3)
    assert [row["estimate"] for row in score["endmembers"]] == [row["reference"] for row in score["endmembers"]]
    assert run("report", tmp_path / "d", "-o", tmp_path / "d.html") == 0


@pytest.mark.slow
def test_demo_on_a_measured_scene(tmp_path, capsys):
    assert run("demo", "--scene", "hysu", "-o", tmp_path / "d", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["found_m2"]["VCA + FCLS"][0][0] == pytest.approx(9, rel=0.3)
    given = np.array(found["found_m2"]["target spectra given"], float)
    np.testing.assert_allclose(given[:, 0], 9, rtol=0.15)
    assert {"areas.png", "targets.csv"} <= {path.name for path in (tmp_path / "d").iterdir()}
    assert run("report", tmp_path / "d", "-o", tmp_path / "d.html") == 0
    assert "0.49 m² on the ground" in (tmp_path / "d.html").read_text(encoding="utf-8")


def test_bands_in_another_order_than_the_models(trained, tmp_path, capsys):
    """In reverse order the maps were those of another scene, with a warning among others."""
    nm = np.linspace(450, 2400, B)
    with np.load(trained / "scene.npz") as file:
        cube = file["cube"]
    np.savez(tmp_path / "s.npz", cube=cube, wavelengths_nm=nm)
    np.savez(tmp_path / "reversed.npz", cube=cube[:, :, ::-1], wavelengths_nm=nm[::-1])
    np.savez(tmp_path / "other.npz", cube=cube, wavelengths_nm=nm + 500)
    model, unmix = tmp_path / "m.npz", ("--no-plots", "-o")
    assert run("fit", tmp_path / "s.npz", *SMALL, "-o", model) == 0
    assert run("unmix", tmp_path / "s.npz", model, *unmix, tmp_path / "a") == 0
    capsys.readouterr()
    assert run("unmix", tmp_path / "reversed.npz", model, *unmix, tmp_path / "b") == 0
    assert "matched by wavelength" in capsys.readouterr().err
    assert run("unmix", tmp_path / "reversed.npz", model, *unmix, tmp_path / "c", "--tile", "8") == 0
    first, second, tiled = (formats.read_truth(tmp_path / name) for name in "abc")
    np.testing.assert_allclose(second.abundances, first.abundances, atol=1e-5)
    np.testing.assert_allclose(tiled.abundances, first.abundances, atol=1e-3)
    assert run("report", tmp_path / "b", tmp_path / "reversed.npz", "-o", tmp_path / "r.html") == 0
    capsys.readouterr()
    assert "lie up to 500.0 nm" in failure(capsys, "unmix", tmp_path / "other.npz", model, *unmix, tmp_path / "d")


def test_a_result_in_one_file(trained, tmp_path, capsys):
    pytest.importorskip("rioxarray")
    scene, model = trained / "scene.npz", trained / "model.npz"
    assert run("unmix", scene, model, "-o", tmp_path / "out", "--no-plots") == 0
    for name in ("r.nc", "r.tif", "r.mat"):
        capsys.readouterr()
        assert run("unmix", scene, model, "-o", tmp_path / name) == 0
        assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "r.mat", "r.nc", "r.tif"]
    whole, one = read_result(tmp_path / "out"), read_result(tmp_path / "r.nc")
    np.testing.assert_array_equal(one.abundances, whole.abundances)
    found = []
    for name in ("out", "r.nc"):
        capsys.readouterr()
        assert run("score", tmp_path / name, trained / "truth.npz", "--json") == 0
        found.append(json.loads(capsys.readouterr().out)["armse"])
    assert found[0] == found[1]
    assert run("report", tmp_path / "r.nc", "-o", tmp_path / "page.html") == 0
    assert run("match", tmp_path / "r.nc", tmp_path / "out" / "endmembers.csv") == 0
    capsys.readouterr()
    assert "`read_result`, `score` and `report` read the result" in failure(capsys, "info", tmp_path / "r.nc")
    assert "exists already" in failure(capsys, "unmix", scene, model, "-o", tmp_path / "r.nc")
    assert run("unmix", scene, model, "-o", tmp_path / "r.nc", "--force") == 0
    capsys.readouterr()
    words = failure(capsys, "unmix", scene, model, "-o", tmp_path / "r.nc", "--force", "--format", "envi")
    assert "the format is 'envi'; expected netcdf" in words
    words = failure(capsys, "unmix", scene, model, "-o", tmp_path / "t.tif", "--tile", "8")
    assert "Pass -o FOLDER --format cog" in words
    assert run("unmix", scene, model, "-o", tmp_path / "t", "--format", "cog", "--tile", "8", "--no-plots") == 0
