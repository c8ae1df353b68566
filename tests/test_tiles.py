"""A scene unmixed tile by tile is the scene unmixed whole; nothing of it is lost, whatever happens on the way."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax import checkpoint, cli, files, journal, reach, scenewide, streaming, survey, synthetic, tiling
from dequnmix_jax.envi_writing import write_image
from dequnmix_jax.source import Window
from experiments import large_scene

H, W, B, R = 46, 34, 12, 3
TIGHT = dq.Solver(tolerance=2e-6, max_steps=1000)
HOLE = -9.0


@pytest.fixture(scope="module")
def cube():
    found = synthetic.linear_scene(jax.random.key(0), (H, W), synthetic.spectra(jax.random.key(1), R, B), 30.0).cube
    found = np.array(found) * np.linspace(0.4, 1.6, H, dtype=np.float32)[:, None, None]  # no tile is like the scene
    found[10:14, 5:9] = found[30, :20] = HOLE
    return found


def learned(config, cube, strength=1.0):
    """Return parameters of a network that has moved away from its start, and smooths."""
    E = np.asarray(synthetic.spectra(jax.random.key(1), R, B)) * 0.95
    params = dq.init(jax.random.key(2), jnp.asarray(cube), config, endmembers=jnp.asarray(E))
    leaves, tree = jax.tree.flatten(params["network"])
    keys = jax.random.split(jax.random.key(3), len(leaves))
    moved = [x + strength * 0.3 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    params["network"] = jax.tree.unflatten(tree, moved)
    if "energy" in params["network"]:
        params["network"]["energy"] |= {"gain": jnp.full(config.width, 0.2), "log_scale": jnp.zeros(config.width)}
        if config.attention:
            shrink = params["network"]["net"]["attention"]["shrink"]
            shrink["kernel"] = jnp.abs(shrink["kernel"])  # a relu that is off would make the pools a constant
    if "prior" in params:
        params["prior"] |= {"strength": jnp.asarray([0.0, 0.3, 0.7])}
    return params


def whole_and_tiles(cube, config, params, size, halo, strict=True):
    """Return the abundances of the whole scene and those of its tiles."""
    valid = cube[:, :, 0] != HOLE
    expected, trace = jax.jit(dq.unmix, static_argnums=2)(
        params, jnp.asarray(np.where(valid[..., None], cube, 0)), config, mask=jnp.asarray(valid)
    )
    assert trace.converged or not strict
    seen = survey.view(files.open_source(cube, nodata=HOLE))
    found = survey.look(seen)
    whole = streaming.statistics(params, seen, found.scale, found.valid, config, size)
    maps = np.zeros(expected.abundances.shape), np.zeros(expected.brightness.shape)
    for tile, answer, _, mask in streaming.solve(params, seen, config, whole, tiling.plan(H, W, *size, halo)):
        np.testing.assert_array_equal(mask, valid[tile.core])
        if answer is not None:
            maps[0][tile.core], maps[1][tile.core] = answer.abundances, answer.brightness
    return np.asarray(expected.abundances), np.asarray(expected.brightness), *maps


CASES = {
    "default": (dq.Model(width=8, forward=TIGHT), (17, 12), 16),
    "whole rows": (dq.Model(width=8, forward=TIGHT), (10, W), 16),
    "simplex": (dq.Model(width=8, constraint="simplex", forward=TIGHT), (16, 16), 16),
    "prior": (dq.Model(width=8, constraint="simplex", prior="neighbours", forward=TIGHT), (16, 16), 16),
    "without attention": (dq.Model(width=8, attention=False, forward=TIGHT), (16, 16), 16),
    "prox": (dq.Model(width=8, prox="conv", metric="euclidean", constraint="simplex", forward=TIGHT), (20, 20), 30),
    "residual": (dq.Model(width=8, gradient="residual", attention=False, forward=TIGHT), (16, 16), 16),
    "analytic": (dq.Model(gradient="analytic", forward=TIGHT), (13, 9), 0),
}
SLOW = {"simplex", "whole rows", "without attention", "prox"}  # each compiles two programs


@pytest.mark.parametrize("case", [pytest.param(c, marks=pytest.mark.slow) if c in SLOW else c for c in CASES])
def test_tiles_give_the_answer_of_the_whole(cube, case):
    config, size, halo = CASES[case]
    params = learned(config, cube, 0.03 if config.gradient == "residual" else 1.0)
    A, s, tiled_A, tiled_s = whole_and_tiles(cube, config, params, size, halo)
    np.testing.assert_allclose(tiled_A, A, atol=1e-4)
    np.testing.assert_allclose(tiled_s, s, atol=1e-4)


def test_what_the_whole_scene_decides_is_needed(cube, monkeypatch):
    """Without the unit of the scene, or the pools of attention, tiles have seams."""
    config, size, halo = CASES["default"]
    params = learned(config, cube)
    apart = {}
    plain = streaming.statistics

    def changed(how):
        monkeypatch.setattr(streaming, "statistics", lambda *args: how(plain(*args)))
        A, _, tiled_A, _ = whole_and_tiles(cube, config, params, size, halo)
        return np.abs(A - tiled_A).max()

    apart["pools"] = changed(lambda whole: scenewide.Scenewide(whole.scale))
    apart["unit"] = changed(lambda whole: whole._replace(scale=whole.scale * 1.1))
    assert min(apart.values()) > 1e-3, apart


def test_without_a_halo_there_are_seams_and_the_measured_one_is_enough(cube):
    config, size, _ = CASES["default"]
    params = learned(config, cube)
    seen = survey.view(files.open_source(cube, nodata=HOLE))
    found = survey.look(seen)
    whole = streaming.statistics(params, seen, found.scale, found.valid, config, size)
    reached = reach.measure(params, seen, config, whole)
    assert reach.network_reach(config) <= reached.halo < 30 and reached.error <= 1e-4 and 0 < reached.decay < 0.6
    errors = {}
    for halo in (0, reached.halo):
        A, _, tiled_A, _ = whole_and_tiles(cube, config, params, size, halo)
        errors[halo] = np.abs(A - tiled_A).max()
    assert errors[0] > 1e-3 and errors[reached.halo] < 1e-4
    assert reach.measure(params, seen, CASES["analytic"][0], whole).halo == 0


def test_a_prior_over_neighbours_couples_pixels_without_a_network():
    assert reach.couples_pixels(dq.Model(gradient="analytic", prior="neighbours"))
    assert not reach.couples_pixels(dq.Model(gradient="analytic"))


def test_attention_over_the_state_cannot_be_tiled(cube, tmp_path):
    config = dq.Model(width=4, gradient="residual")
    with pytest.raises(dq.InputError, match="no tile can be unmixed alone"):
        dq.unmix_tiled(learned(config, cube), cube, config, tmp_path / "out")
    assert not list(tmp_path.iterdir())


# --- geometry and survey ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape, size, halo", [((46, 34), (17, 12), 5), ((7, 5), (7, 5), 3), ((9, 4), (2, 3), 0)])
def test_cores_make_up_the_scene_once(shape, size, halo):
    tiles = tiling.plan(*shape, *size, halo)
    count = np.zeros(shape, int)
    for tile in tiles.tiles:
        count[tile.core] += 1
        rows, columns = tile.inside
        np.testing.assert_array_equal(np.arange(*tile.window.rows.indices(10**6))[rows], np.r_[tile.core.rows])
        np.testing.assert_array_equal(np.arange(*tile.window.columns.indices(10**6))[columns], np.r_[tile.core.columns])
        assert tile.window.shape <= tiles.shape
        for side, core, full in zip(tile.window, tile.core, shape, strict=True):
            assert side.start in (0, core.start - halo) and side.stop in (full, core.stop + halo)
    assert (count == 1).all()


def test_tiles_fit_their_memory_and_waste_little():
    rows, columns = tiling.choose_size(20_000, 500, 285, 16)
    seen = (rows + 32) * min(500, columns + 32)
    assert 4 * 285 * seen <= 1.02 * tiling._BYTES and rows * columns / seen > 0.7
    assert tiling.choose_size(40, 30, 285, 16) == (40, 30)
    assert tiling.choose_size(1000, 500, 10, 4, size=300) == (300, 250)


def test_a_survey_says_what_check_scene_says(cube):
    values = cube.copy()
    values[20, 20] = 0
    values[21, 3, 4] = -0.5
    values[22, 3, 5] = 3.0
    values[..., 7] = 0.25
    values[20, 20, 7] = values[10:14, 5:9, 7] = 0.25
    scene = dq.read(values)
    found = survey.look(survey.view(files.open_source(values)))
    assert found.warnings == dq.scene.check_scene(scene)
    assert found.valid == H * W
    np.testing.assert_allclose(found.scale, np.sqrt(np.mean(np.square(values, dtype=np.float64))))
    values[5, 6, 3] = np.nan
    with pytest.raises(
        dq.InputError, match="NaN or infinite values in 1 of its valid pixels, the first at row 5, column 6"
    ):
        survey.look(survey.view(files.open_source(values)))
    dropped = survey.view(files.open_source(values), drop=True)
    assert survey.look(dropped).valid == dq.scene.mask_invalid(scene_with_nan := dq.read(values)).valid.sum()
    assert not dropped.read(Window(slice(0, H), slice(0, W)))[1][5, 6] and np.isnan(scene_with_nan.cube[5, 6, 3])
    with pytest.raises(dq.InputError, match="are masked"):
        survey.look(survey.view(files.open_source(np.zeros((3, 3, 2), np.float32), nodata=0.0)))


# --- outputs ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def disk(tmp_path_factory, cube):
    """Return a folder with an ENVI scene and a model."""
    folder = tmp_path_factory.mktemp("disk")
    place = {"map info": "{UTM, 1, 1, 600000, 5300000, 30, 30, 32, North, WGS-84}"}
    write_image(folder / "scene.img", cube, nodata=HOLE, ground=place)
    config = CASES["default"][0]
    metadata = {"model": dataclass_dict(config), "seed": 0}
    checkpoint.save(folder / "model.npz", jax.tree.map(np.asarray, learned(config, cube)), metadata)
    return folder


def dataclass_dict(config):
    import dataclasses

    return dataclasses.asdict(config)


def unmixed(disk, out, **options):
    params, _ = checkpoint.load(disk / "model.npz")
    options = {"tile": 16, "halo": 16} | options
    return dq.unmix_tiled(params, disk / "scene.img", CASES["default"][0], out, **options)


@pytest.mark.parametrize("format", ["envi", "geotiff"])
def test_the_output_is_that_of_write(disk, tmp_path, format):
    params, _ = checkpoint.load(disk / "model.npz")
    scene, config = dq.read(disk / "scene.img"), CASES["default"][0]
    mask = jnp.asarray(scene.mask)
    estimate, trace = jax.jit(dq.unmix, static_argnums=2)(params, jnp.asarray(scene.cube), config, mask=mask)
    dq.write(tmp_path / "whole", jax.tree.map(np.asarray, estimate), scene, trace=trace, format=format)
    found = unmixed(disk, tmp_path / "tiled", format=format)
    assert found.trace.converged and found.tiles == 9 and found.resumed == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tiled", "whole"]
    suffix = ".img" if format == "envi" else ".tif"
    names = {p.name for p in (tmp_path / "whole").iterdir()}
    assert {p.name for p in (tmp_path / "tiled").iterdir()} == names | {f"convergence{suffix}"} | (
        {"convergence.hdr"} if format == "envi" else set()
    )
    for name in ("abundances", "brightness", "residual"):
        one, other = (dq.read(tmp_path / folder / f"{name}{suffix}") for folder in ("whole", "tiled"))
        np.testing.assert_allclose(other.cube, one.cube, atol=1e-4)
        np.testing.assert_array_equal(other.mask, one.mask)
        assert other.crs == one.crs and (format == "envi" or other.ground.transform == one.ground.transform)
    with np.load(tmp_path / "whole" / "estimate.npz") as one, np.load(tmp_path / "tiled" / "estimate.npz") as other:
        assert set(one.files) - set(other.files) == {"state"} and set(other.files) - set(one.files) == {"convergence"}
        for name in other.files:
            if name == "composite":
                np.testing.assert_allclose(other[name].astype(int), one[name].astype(int), atol=1)
            elif name != "convergence":
                assert other[name].dtype == one[name].dtype and other[name].shape == one[name].shape
                if other[name].dtype.kind == "f":
                    np.testing.assert_allclose(other[name], one[name], atol=1e-4)
                else:
                    np.testing.assert_array_equal(other[name], one[name])
        change = other["convergence"]
    assert change.max() < 1e-4 and (change[scene.valid] > 0).any()
    one, other = (json.loads((tmp_path / folder / "summary.json").read_text()) for folder in ("whole", "tiled"))
    assert set(other) - set(one) == {"tiles", "warnings"} and not set(one) - set(other)
    assert other["notes"] == ["36 of 1564 pixels are masked."]
    assert other["source"] == one["source"] and other["valid_pixels"] == one["valid_pixels"]
    np.testing.assert_allclose(other["mean_abundances"], one["mean_abundances"], atol=1e-5)
    assert other["tiles"]["halo"] == 16 and len(other["tiles"]["each"]) == 9
    files.read_truth(tmp_path / "tiled")


def test_a_swath_is_rectified(tmp_path, cube):
    from test_missions import emit

    small = cube[:5, :4, :6].copy()
    config = CASES["analytic"][0]
    params = {"endmembers": np.abs(np.random.default_rng(0).normal(size=(R, 6))).astype(np.float32), "network": {}}
    source = files.open_source(emit(tmp_path / "e.nc", reflectance=small, **{
        "sensor_band_parameters/good_wavelengths": np.ones(6, np.float32)}))  # fmt: skip
    dq.unmix_tiled(params, source, config, tmp_path / "tiled", tile=2, format="geotiff")
    scene = source.scene()
    estimate, _ = dq.unmix(params, jnp.asarray(scene.cube), config)
    dq.write(tmp_path / "whole", estimate, scene, format="geotiff")
    one, other = (dq.read(tmp_path / folder / "abundances.tif") for folder in ("whole", "tiled"))
    np.testing.assert_allclose(other.cube, one.cube, atol=1e-5)
    np.testing.assert_array_equal(other.mask, one.mask)


# --- nothing lost ----------------------------------------------------------------------------------------------------

PROGRAM = """
import sys, pathlib, resource
if {limit}:
    resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
sys.path.insert(0, {tests!r})
import conftest, test_tiles, time
from dequnmix_jax import journal
plain = journal.Work.put
def put(self, *args):
    time.sleep({pause})
    return plain(self, *args)
journal.Work.put = put
test_tiles.unmixed(pathlib.Path({disk!r}), pathlib.Path({out!r}), format={format!r}, overwrite={overwrite})
"""


def start(disk, out, pause=0.0, format="envi", overwrite=False, limit=0, **popen):
    code = PROGRAM.format(
        tests=str(Path(__file__).parent),
        disk=str(disk),
        out=str(out),
        pause=pause,
        format=format,
        overwrite=overwrite,
        limit=limit,
    )
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        **popen,
    )


def finished(work):
    path = work / "done.jsonl"
    return len(path.read_bytes().splitlines()) if path.is_file() else 0


def content(folder):
    """Return every file but the date."""
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    summary = json.loads(found.pop("summary.json"))
    assert set(summary.pop("run")) == {"date"}
    return found, summary


def test_killed_and_resumed_the_result_has_the_same_bits(disk, tmp_path):
    expected = start(disk, tmp_path / "whole")
    expected.communicate(timeout=120)
    assert expected.returncode == 0
    out, work = tmp_path / "out", tmp_path / ".out.tiles"
    rng = random.Random(0)
    seen = []
    for goal in (1, rng.randint(3, 4), rng.randint(6, 7)):
        process = start(disk, out, pause=0.2)
        deadline = time.monotonic() + 120
        while finished(work) < goal and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL and not out.exists()
        seen.append(finished(work))
    assert seen == sorted(seen) and 0 < seen[0] < seen[-1] < 9
    with (work / "done.jsonl").open("ab") as file:  # a line torn by the end of the process
        file.write(b'{"tile": 8, "rows": [32')
    with (work / "maps.raw").open("r+b") as file:  # and a tile that a power cut took
        file.write(bytes(64))
    last = unmixed(disk, out)
    assert 0 < last.resumed < seen[-1] + 1
    assert content(out) == content(tmp_path / "whole")
    assert not work.exists()


def test_other_choices_begin_anew(disk, tmp_path, monkeypatch):
    def interrupted(self, tile, *args):
        if tile == 2:
            raise KeyboardInterrupt
        return plain(self, tile, *args)

    plain = journal.Work.put
    monkeypatch.setattr(journal.Work, "put", interrupted)
    with pytest.raises(KeyboardInterrupt):
        unmixed(disk, tmp_path / "out")
    assert finished(tmp_path / ".out.tiles") == 2
    monkeypatch.setattr(journal.Work, "put", plain)
    assert unmixed(disk, tmp_path / "out", tile=20).resumed == 0
    with pytest.raises(dq.InputError, match="exists already"):
        unmixed(disk, tmp_path / "out")


def test_an_input_that_changes_while_it_is_read(disk, tmp_path, monkeypatch):
    for name in ("scene.img", "scene.hdr", "model.npz"):
        (tmp_path / name).write_bytes((disk / name).read_bytes())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "summary.json").write_text("{}")
    plain = journal.Work.put

    def put(self, tile, *args):
        if tile == 1:
            os.utime(tmp_path / "scene.img")
        return plain(self, tile, *args)

    monkeypatch.setattr(journal.Work, "put", put)
    with pytest.raises(dq.InputError, match="changed while it was read"):
        unmixed(tmp_path, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "summary.json").read_text() == "{}"


def test_two_processes_do_not_write_the_same_output(disk, tmp_path):
    first = start(disk, tmp_path / "out", pause=0.5)
    while not (tmp_path / ".out.tiles" / "state.json").exists() and first.poll() is None:
        time.sleep(0.01)
    try:
        with pytest.raises(dq.InputError, match="is writing"):
            unmixed(disk, tmp_path / "out")
    finally:
        first.kill()
        first.communicate()


def test_a_full_disk_leaves_the_old_output(disk, tmp_path, monkeypatch):
    out = tmp_path / "out"
    unmixed(disk, out)
    before = content(out)
    usage = type("Usage", (), {"free": 1000})
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: usage)
        with pytest.raises(dq.InputError, match="MB free and the output needs"):
            unmixed(disk, out, overwrite=True)
    # A limit of the size of files stands in for a disk that fills up on the way.
    environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    process = start(disk, out, overwrite=True, limit=40_000, env=environment)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 1 and "File too large" in error and "maps.raw" in error
    assert content(out) == before


def test_a_geotiff_that_was_cut_is_noticed(tmp_path, monkeypatch):
    from dequnmix_jax import georaster

    values = np.random.default_rng(0).normal(size=(8, 5, 2)).astype(np.float32)
    asked = []

    def strips():
        asked.append(len(asked))
        yield 0, values + (len(asked) > 1)

    with pytest.raises(OSError, match="not whole"):
        georaster.write_strips(tmp_path / "x.tif", strips, values.shape, ("a", "b"), None, None, "")


def test_solvers_are_told_apart(disk, tmp_path):
    """What decides the result is in the fingerprint."""
    from dequnmix_jax.tiled_run import Guard, Run

    source = files.open_source(disk / "scene.img")
    params, _ = checkpoint.load(disk / "model.npz")
    config = CASES["default"][0]
    run = Run(params, survey.view(source), config, 16, 16, Guard(source), lambda *_: None)
    others = [
        replace(run, tile=17), replace(run, halo=None), replace(run, config=replace(config, gamma=7.0)),
        replace(run, params=params | {"endmembers": params["endmembers"] * 1.0001}),
        replace(run, seen=survey.view(replace(source, scale=2.0))), replace(run, seen=survey.view(source, drop=True)),
    ]  # fmt: skip
    assert len({one.fingerprint() for one in [run, *others]}) == 7
    assert replace(run).fingerprint() == run.fingerprint()


def test_memory_does_not_depend_on_the_rows(tmp_path):
    """Of two scenes the larger one has 270 MB more of values; the process that unmixes it has not.

    What a process of JAX holds at its peak varies by 40 MB from run to run: the difference must be well beyond that.
    """
    bands, columns, resident = 300, 60, {}
    spectra = np.asarray(synthetic.spectra(jax.random.key(1), R, bands))
    config = dq.Model(gradient="analytic")
    metadata = {"model": dataclass_dict(config), "seed": 0}
    checkpoint.save(tmp_path / "model.npz", {"endmembers": spectra, "network": {}}, metadata)
    rng = np.random.default_rng(0)
    for rows in (250, 4000):
        maps = rng.dirichlet(np.ones(R), (rows, columns)).astype(np.float32)
        np.save(tmp_path / "scene.npy", maps @ spectra)
        words = ["unmix", "scene.npy", "model.npz", "--no-plots", "--tile", "64", "-o", f"out{rows}"]
        command = [sys.executable, "-W", "ignore", "-m", "dequnmix_jax", *words]
        measured = [sys.executable, "-c", large_scene.MEASURED, *command]
        answer = subprocess.run(measured, cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True)
        resident[rows] = int(answer.stdout.split()[-1]) * (1 if sys.platform == "darwin" else 1024) / 1e6
    assert resident[4000] - resident[250] < 120, resident


# --- the command line ------------------------------------------------------------------------------------------------


def command(*words):
    """Run the command line in this process and return its status."""
    return cli.main([str(word) for word in words])


def test_the_command_line(disk, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DEQUNMIX_NO_CACHE", "1")
    words = ("unmix", disk / "scene.img", disk / "model.npz", "--no-plots")
    assert command(*words, "--tile", 16, "--halo", 16, "-o", tmp_path / "tiled", "--json") == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["tiles"]["halo"] == 16 and found["tiles"]["count"] == 9 and found["trace"]["converged"]
    assert "\r" not in err and "in tiles" not in err  # as asked, and nobody watches
    assert command(*words, "-o", tmp_path / "whole", "--json") == 0
    whole = json.loads(capsys.readouterr().out)
    assert set(found) - set(whole) == {"tiles"} and not set(whole) - set(found)
    assert {Path(name).name for name in whole["files"]} == {Path(name).name for name in found["files"]}
    np.testing.assert_allclose(found["mean_abundances"], whole["mean_abundances"], atol=1e-5)
    np.testing.assert_allclose(
        dq.read(tmp_path / "tiled" / "residual.img").cube, dq.read(tmp_path / "whole" / "residual.img").cube, atol=1e-4
    )
    assert command(*words, "--tile", 16, "-o", tmp_path / "tiled") == 1
    assert "exists already" in capsys.readouterr().err
    result = dq.read_result(tmp_path / "tiled")
    assert result.composite.shape == (H, W, 3) and result.convergence is not None


def test_a_scene_that_does_not_fit_is_unmixed_in_tiles(disk, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DEQUNMIX_NO_CACHE", "1")
    monkeypatch.setattr("dequnmix_jax.command_tiles._free", lambda: 10**6)
    monkeypatch.setattr("dequnmix_jax.reach.measure", lambda *_: reach.Reach(16, 1e-7, 0.3))
    words = ("unmix", disk / "scene.img", disk / "model.npz", "-o", tmp_path / "out", "--report", tmp_path / "r.html")
    assert command(*words) == 0
    out, err = capsys.readouterr()
    assert "unmixed in tiles: whole it would take about 0.0 GB" in err and "halo of 16 pixels, beyond which" in out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"abundances.png", "endmembers.png", "composite.png", "estimate.npz"} <= names
    assert (tmp_path / "r.html").read_text().startswith("<!")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "r.html"]


def test_failures_are_one_sentence(disk, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DEQUNMIX_NO_CACHE", "1")
    words = ("unmix", disk / "scene.img", disk / "model.npz", "--tile", 16, "--halo", 4, "--no-plots", "-o")

    def fails(target):
        assert command(*words, target) == 1
        lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("note: ")]
        assert len(lines) == 1 and "fault of the program" not in lines[0], lines
        return lines[0]

    assert "does not exist" in fails(tmp_path / "nowhere" / "out")

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied", str(tmp_path / ".out.tiles"))

    with monkeypatch.context() as patch:  # root may write into every folder
        patch.setattr(Path, "mkdir", refused)
        assert "Permission denied" in fails(tmp_path / "out")

    def full(self, *_):
        raise OSError(28, "No space left on device", str(self.folder / "maps.raw"))

    with monkeypatch.context() as patch:
        patch.setattr(journal.Work, "put", full)
        assert command(*words, tmp_path / "out") == 1
    err = capsys.readouterr().err
    assert "No space left on device" in err and "Finished tiles are kept" in err

    def interrupted(self, *_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(journal.Work, "put", interrupted)
        assert command(*words, tmp_path / "out") == 130
    assert "finished tiles are kept" in capsys.readouterr().err


def test_progress_tells_tiles_a_second_and_the_time_left(capsys, monkeypatch):
    from dequnmix_jax.command_tiles import _Progress

    times = iter([0.0, 10.0, 12.0, 14.0])
    monkeypatch.setattr("dequnmix_jax.command_tiles.time.perf_counter", lambda: next(times))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    progress = _Progress()
    progress("looking through", 0.5, 0, 0)
    for done in range(4):
        progress("unmixing", done / 8, done, 8)
    lines = capsys.readouterr().err.split("\r")
    assert lines[1].startswith("looking through [############............] 50%")
    assert lines[-1].startswith("unmixing [#########...............] 3/8 tiles  0.5 tiles/s  0:10 left")
