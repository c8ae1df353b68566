"""Commands and lines of Python that the pages say to copy: each runs on a small scene, or here is why it does not."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.cli import main
from dequnmix_jax.io.envi.writer import write_library
from dequnmix_jax.io.missions import table as missions
from dequnmix_jax.io.scene_writer import write_scene
from dequnmix_jax.scenes.georeference import Georeference
from dequnmix_jax.training import checkpoint
from dequnmix_jax.training.words import words_of
from tests.io.test_masks import geopackage
from tests.test_documentation import PAGES, blocks, commands, name

pytest.importorskip("rasterio", reason="pip install 'dequnmix-jax[all]'")
pytest.importorskip("matplotlib", reason="pip install 'dequnmix-jax[all]'")

H, W, B, R = 12, 14, 130, 6
WAVELENGTHS = np.linspace(400, 2400, B)
NAMES = ("red_metal", "blue_fabric", "soil", "grass", "water", "shade")
CLASSES = ("target", "target", "ground", "plants", "dark", "dark")

ELSEWHERE = {
    "://": "another machine; tests/io/test_remote.py and tests/parallel have servers of their own",
    "--patch-size": "the patches are larger than the scene here; tests/tiles/test_patches.py trains on some",
    "emit20250324t221005_jpl_unmix_ex": "a file that may not be shipped; tests/cli/test_known.py has a stand-in",
}
"""Why a command with these letters does not run here."""

SLOW = ("report", "fit", "compare", "demo")
"""Commands that choose endmembers or train: seconds to minutes each."""

LONG = (["--uncertainty", "scene"], ["unmix", "granules.txt"], ["--draws", "20"], ["--method", "mesma"])
"""Words of commands that compile for seconds, or repeat what others do."""


def all_commands():
    """Return (page, words) of each command in a block without a mark, which no other test runs; each output once."""
    found = {}
    for path in PAGES:
        for how, kind, text in blocks(path):
            for words in commands(text) if kind == "sh" and not how else ():
                output = words.index("-o") if "-o" in words else len(words)
                found.setdefault(tuple(words[:output] + words[output + 2 :]), (path, words))
    return list(found.values())


def kind_of(words):
    if any(letters in word for letters in ELSEWHERE for word in words):
        return "elsewhere"
    by_library = "--endmembers" in words and words[words.index("--endmembers") + 1].endswith(".csv")
    of_result = words[0] == "report" and "--endmembers" not in words
    long = any(option == words[i : i + 2] for option in LONG for i in range(len(words)))
    return "slow" if long or (words[0] in SLOW and not by_library and not of_result) else "cheap"


def of_kind(kind):
    """Return the commands of a kind, as parameters of a test."""
    wanted = [(path, words) for path, words in all_commands() if kind_of(words) == kind]
    return [pytest.param(words, id=f"{name(path)}: {' '.join(words)}") for path, words in wanted]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """Return a folder with the files that the commands name."""
    folder = tmp_path_factory.mktemp("bench")
    rng = np.random.default_rng(0)
    x = np.linspace(0, 1, B)
    spectra = np.stack([0.1 + 0.5 * np.exp(-((x - c) ** 2) / 0.02) for c in np.linspace(0.05, 0.95, R)])
    maps = rng.dirichlet(np.full(R, 0.3), (H, W))
    cube = (maps @ spectra + 0.003 * rng.standard_normal((H, W, B))).astype(np.float32)
    place = Georeference("EPSG:32632", (10.0, 0.0, 500000.0, 0.0, -10.0, 5000120.0))
    scene = dq.Scene(cube, wavelengths=WAVELENGTHS, georeference=place, name="bench")
    for file in ("scene.hdr", "large.hdr", "2024/a.nc", "2024/b.nc"):
        (folder / file).parent.mkdir(exist_ok=True)
        write_scene(folder / file, scene)
    rows = [["name", "Class", *(f"{value:.2f}" for value in WAVELENGTHS)]]
    rows += [[word, kind, *map(str, row)] for word, kind, row in zip(NAMES, CLASSES, spectra, strict=True)]
    (folder / "library.csv").write_text("\n".join(map(",".join, rows)))
    (folder / "targets.csv").write_text("\n".join(map(",".join, rows[:3])))
    write_library(folder / "library.sli", spectra.astype(np.float32), NAMES, WAVELENGTHS)
    sides = [[500000, 5000120], [500060, 5000120], [500060, 5000060], [500000, 5000060], [500000, 5000120]]
    field = {
        "type": "Feature",
        "properties": {"name": "north"},
        "geometry": {"type": "Polygon", "coordinates": [sides]},
    }
    crs = {"type": "name", "properties": {"name": "EPSG:32632"}}
    text = json.dumps({"type": "FeatureCollection", "features": [field], "crs": crs})
    (folder / "fields.geojson").write_text(text)
    geopackage(folder / "clouds.gpkg", ("cloud", [sides]), layers=("clouds",))
    use = np.zeros((H, W, 1), np.float32)
    use[2:9] = 4
    for file in ("clear.tif", "classes.img"):
        write_scene(folder / file, dq.Scene(use, georeference=place))
    write_scene(folder / "uncertainty.nc", dq.Scene(np.full_like(cube, 0.003), wavelengths=WAVELENGTHS))
    three = rng.dirichlet(np.full(3, 0.3), (H, W))
    truth = {"A": three, "M": spectra[:3].T, "Y": (three @ spectra[:3]).astype(np.float32)}
    scipy = pytest.importorskip("scipy.io", reason="pip install 'dequnmix-jax[all]'")
    for file in ("scene.mat", "truth.mat"):
        scipy.savemat(folder / file, truth)
    config = dq.Model(gradient=dq.equilibrium.Analytic())
    metadata = {"model": words_of(config), "seed": 0}
    checkpoint.save(folder / "model.npz", {"endmembers": spectra.astype(np.float32), "network": {}}, metadata)
    (folder / "granules.txt").write_text("2024/a.nc\n2024/b.nc\n")
    item = {"type": "Feature", "stac_version": "1.0.0", "id": "a", "assets": {"data": {"href": "2024/a.nc"}}}
    (folder / "search.json").write_text(json.dumps({"type": "FeatureCollection", "features": [item]}))
    result = dq.unmix_with(scene, folder / "library.csv")
    dq.results.write_result(folder / "result", result, scene)
    return folder


def runs(words, bench, folder, monkeypatch):
    """Run a command in a copy of the files, with one process in place of several."""
    shutil.copytree(bench, folder, dirs_exist_ok=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DEQUNMIX_NO_CACHE", "1")
    if words[0] == "zones":
        shutil.copytree("result", "out")
    if "result" not in words[:-1]:
        shutil.rmtree("result")
    if "all.csv" in words and words[0] == "unmix":  # the command before it in the block makes it
        shutil.copy("library.csv", "all.csv")
    several = any("*" in word or word.endswith((".txt", ".json")) for word in words) or "--jobs" in words
    words = [word for i, word in enumerate(words) if word != "--jobs" and (not i or words[i - 1] != "--jobs")]
    assert main.main([*words, *(["--jobs", "1"] if several else [])]) == 0
    if "-o" in words:
        assert Path(words[words.index("-o") + 1]).exists()


def test_every_command_is_run_or_known():
    kinds = [kind_of(words) for _, words in all_commands()]
    assert kinds.count("cheap") >= 15 and kinds.count("elsewhere") <= 4
    used = {letters for _, words in all_commands() for letters in ELSEWHERE if any(letters in word for word in words)}
    assert used == set(ELSEWHERE)


@pytest.mark.parametrize("words", of_kind("cheap"))
def test_a_command_that_takes_little_runs(words, bench, tmp_path, monkeypatch):
    runs(words, bench, tmp_path / "here", monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("words", of_kind("slow"))
def test_a_command_that_takes_long_runs(words, bench, tmp_path, monkeypatch):
    runs(words, bench, tmp_path / "here", monkeypatch)


ABSENT = {
    "dask_jobqueue": "a cluster with SLURM",
    "dask_kubernetes": "a cluster with Kubernetes",
}
"""What a block with these letters needs that is not here; test_documentation.py still looks its names up."""


def given(path, bench):
    """Return the names that the text around the blocks of a page supposes."""
    names = {"dq": dq}
    if path.stem == "training":
        cube = dq.read(bench / "scene.hdr").cube
        names |= {"cube": cube, "key": jax.random.key(0)}
        names["selection"] = dq.endmembers.select_endmembers(jax.random.key(0), cube, 3)
    if path.stem == "mission":
        names |= vars(missions)
    return names


def of_python(slow):
    """Return (page, text) of each block of Python without a mark, as parameters of a test."""
    found = []
    for path in PAGES:
        for number, (how, kind, text) in enumerate(blocks(path)):
            long = "dq.run" in text or "dq.fit" in text or "unmix_many" in text or "LocalCluster" in text
            if kind == "python" and not how and long == slow:
                found.append(pytest.param(path, text, id=f"{name(path)}, block {number}"))
    return found


def run_python(path, text, bench, folder, monkeypatch):
    """Run a block in a copy of the files, with two processes in place of eight."""
    absent = [why for letters, why in ABSENT.items() if letters in text]
    if absent:
        compile(text, str(path), "exec")
        pytest.skip(f"{absent[0]} is needed")
    shutil.copytree(bench, folder)
    monkeypatch.chdir(folder)
    shutil.rmtree("result")
    names = given(path, bench)
    # A reader has the defaults of JAX, not the strict ones of the tests.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec(compile(text.replace("n_workers=8", "n_workers=2"), str(path), "exec"), names)
    return names


@pytest.mark.parametrize(("path", "text"), of_python(slow=False))
def test_a_block_of_python_runs(path, text, bench, tmp_path, monkeypatch):
    run_python(path, text, bench, tmp_path / "here", monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize(("path", "text"), of_python(slow=True))
def test_a_long_block_of_python_runs(path, text, bench, tmp_path, monkeypatch):
    names = run_python(path, text, bench, tmp_path / "here", monkeypatch)
    if "result" in names:
        assert names["result"].abundances.shape == (H, W, 5) or "unmix_with" in text
        assert Path(tmp_path / "here" / "report.html").exists()
    if "rows" in names:
        assert len(names["rows"]) == 2 and not names["failed"]
    for open_ in ("client", "cluster"):
        if open_ in names:
            names[open_].close()
