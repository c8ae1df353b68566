"""Unmixing tile by tile equals unmixing the whole scene; interruptions lose nothing."""

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
from dequnmix_jax.abundances import learned_smoothing, map_statistics
from dequnmix_jax.cli import main
from dequnmix_jax.datasets import synthetic
from dequnmix_jax.equilibrium import scene_statistics
from dequnmix_jax.io import formats
from dequnmix_jax.io.envi.writer import write_image
from dequnmix_jax.scenes.source import Window
from dequnmix_jax.tiles import grid, journal, survey
from dequnmix_jax.tiles import halo as tiles_halo
from dequnmix_jax.tiles import solve as tiles_solve
from dequnmix_jax.training import checkpoint
from dequnmix_jax.training.words import words_of
from experiments.shared import large_scenes

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
    """Return parameters of a network that differs from its initialisation, and smooths."""
    E = np.asarray(synthetic.spectra(jax.random.key(1), R, B)) * 0.95
    params = dq.init(jax.random.key(2), jnp.asarray(cube), config, endmembers=jnp.asarray(E))
    leaves, tree = jax.tree.flatten(params["network"])
    keys = jax.random.split(jax.random.key(3), len(leaves))
    moved = [x + strength * 0.3 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    params["network"] = jax.tree.unflatten(tree, moved)
    if "energy" in params["network"]:
        params["network"]["energy"] |= {"gain": jnp.full(8, 0.2), "log_scale": jnp.zeros(8)}
        if config.gradient.attention:
            shrink = params["network"]["net"]["attention"]["shrink"]
            shrink["kernel"] = jnp.abs(shrink["kernel"])  # a relu that is off would make the pools a constant
    if "prior" in params:
        if config.prior == "learned":
            # Filters of differences, bent at the size of the noise, as strong as for strong noise.
            weights = learned_smoothing.init_weights(jax.random.key(4))
            seen = jnp.full((R - 1, map_statistics.COUNT), 0.7)
            axes = 20 * learned_smoothing.identity_learned(R).directions
            prior = learned_smoothing.assemble(weights, seen, axes, axes.T / 400, jnp.asarray(True))
            params["prior"] = prior._asdict()
        else:
            params["prior"] |= {"strength": jnp.asarray([0.0, 0.3, 0.7])}
    return params


def whole_and_tiles(cube, config, params, size, halo, strict=True):
    """Return the abundances of the whole scene and those of its tiles."""
    valid = cube[:, :, 0] != HOLE
    expected, trace = jax.jit(dq.unmix, static_argnums=2)(
        params, jnp.asarray(np.where(valid[..., None], cube, 0)), config, mask=jnp.asarray(valid)
    )
    assert trace.converged or not strict
    seen = survey.view(formats.open_source(cube, nodata=HOLE))
    found = survey.scan(seen)
    whole = tiles_solve.statistics(params, seen, found, config, size)
    maps = np.zeros(expected.abundances.shape), np.zeros(expected.brightness.shape)
    for tile, answer, _, mask in tiles_solve.solve(params, seen, config, whole, grid.plan(H, W, *size, halo)):
        np.testing.assert_array_equal(mask, valid[tile.core])
        if answer is not None:
            maps[0][tile.core], maps[1][tile.core] = answer.abundances, answer.brightness
    return np.asarray(expected.abundances), np.asarray(expected.brightness), *maps


CASES = {
    "default": (dq.Model(gradient=dq.equilibrium.Energy(width=8), forward=TIGHT), (17, 12), 16),
    "whole rows": (dq.Model(gradient=dq.equilibrium.Energy(width=8), forward=TIGHT), (10, W), 16),
    "simplex": (
        dq.Model(gradient=dq.equilibrium.Energy(width=8), constraint=dq.equilibrium.Simplex(), forward=TIGHT),
        (16, 16),
        16,
    ),
    "prior": (
        dq.Model(
            gradient=dq.equilibrium.Energy(width=8),
            constraint=dq.equilibrium.Simplex(),
            prior="neighbours",
            forward=TIGHT,
        ),
        (16, 16),
        16,
    ),
    "learned prior": (
        dq.Model(
            gradient=dq.equilibrium.Analytic(), constraint=dq.equilibrium.Simplex(), prior="learned", forward=TIGHT
        ),
        (16, 16),
        20,
    ),
    "without attention": (
        dq.Model(gradient=dq.equilibrium.Energy(width=8, attention=False), forward=TIGHT),
        (16, 16),
        16,
    ),
    "prox": (
        dq.Model(
            gradient=dq.equilibrium.Energy(width=8),
            prox=dq.equilibrium.Conv(width=8),
            metric="euclidean",
            constraint=dq.equilibrium.Simplex(),
            forward=TIGHT,
        ),
        (20, 20),
        30,
    ),
    "residual": (dq.Model(gradient=dq.equilibrium.Residual(width=8, attention=False), forward=TIGHT), (16, 16), 16),
    "analytic": (dq.Model(gradient=dq.equilibrium.Analytic(), forward=TIGHT), (13, 9), 0),
}
SLOW = {"simplex", "whole rows", "without attention", "prox"}  # each compiles two programs


@pytest.mark.parametrize("case", [pytest.param(c, marks=pytest.mark.slow) if c in SLOW else c for c in CASES])
def test_tiles_give_the_answer_of_the_whole(cube, case):
    config, size, halo = CASES[case]
    params = learned(config, cube, 0.03 if isinstance(config.gradient, dq.equilibrium.Residual) else 1.0)
    A, s, tiled_A, tiled_s = whole_and_tiles(cube, config, params, size, halo)
    np.testing.assert_allclose(tiled_A, A, atol=1e-4)
    np.testing.assert_allclose(tiled_s, s, atol=1e-4)


def test_what_the_whole_scene_decides_is_needed(cube, monkeypatch):
    """Without the unit of the scene, or the pools of attention, tiles have seams."""
    config, size, halo = CASES["default"]
    params = learned(config, cube)
    apart = {}
    plain = tiles_solve.statistics

    def changed(how):
        monkeypatch.setattr(tiles_solve, "statistics", lambda *args: how(plain(*args)))
        A, _, tiled_A, _ = whole_and_tiles(cube, config, params, size, halo)
        return np.abs(A - tiled_A).max()

    apart["pools"] = changed(lambda whole: scene_statistics.Scenewide(whole.scale))
    apart["unit"] = changed(lambda whole: whole._replace(scale=whole.scale * 1.1))
    assert min(apart.values()) > 1e-3, apart


def test_without_a_halo_there_are_seams_and_the_measured_one_is_enough(cube):
    config, size, _ = CASES["default"]
    params = learned(config, cube)
    seen = survey.view(formats.open_source(cube, nodata=HOLE))
    found = survey.scan(seen)
    whole = tiles_solve.statistics(params, seen, found, config, size)
    reached = tiles_halo.measure(params, seen, config, whole)
    assert tiles_halo.network_reach(config) <= reached.halo < 30 and reached.error <= 1e-4 and 0 < reached.decay < 0.6
    errors = {}
    for halo in (0, reached.halo):
        A, _, tiled_A, _ = whole_and_tiles(cube, config, params, size, halo)
        errors[halo] = np.abs(A - tiled_A).max()
    assert errors[0] > 1e-3 and errors[reached.halo] < 1e-4
    assert tiles_halo.measure(params, seen, CASES["analytic"][0], whole).halo == 0


def test_a_prior_over_neighbours_couples_pixels_without_a_network():
    assert tiles_halo.couples_pixels(dq.Model(gradient=dq.equilibrium.Analytic(), prior="neighbours"))
    assert not tiles_halo.couples_pixels(dq.Model(gradient=dq.equilibrium.Analytic()))


def test_attention_over_the_state_cannot_be_tiled(cube, tmp_path):
    config = dq.Model(gradient=dq.equilibrium.Residual(width=4))
    with pytest.raises(dq.InputError, match="no tile can be unmixed alone"):
        dq.unmix_tiled(learned(config, cube), cube, config, tmp_path / "out")
    assert not list(tmp_path.iterdir())


# --- geometry and survey ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape, size, halo", [((46, 34), (17, 12), 5), ((7, 5), (7, 5), 3), ((9, 4), (2, 3), 0)])
def test_cores_make_up_the_scene_once(shape, size, halo):
    tiles = grid.plan(*shape, *size, halo)
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
    rows, columns = grid.choose_size(20_000, 500, 285, 16)
    seen = (rows + 32) * min(500, columns + 32)
    assert 4 * 285 * seen <= 1.02 * grid._BYTES and rows * columns / seen > 0.7
    assert grid.choose_size(40, 30, 285, 16) == (40, 30)
    assert grid.choose_size(1000, 500, 10, 4, size=300) == (300, 250)


def test_a_survey_says_what_check_scene_says(cube):
    values = cube.copy()
    values[20, 20] = 0
    values[21, 3, 4] = -0.5
    values[22, 3, 5] = 3.0
    values[..., 7] = 0.25
    values[20, 20, 7] = values[10:14, 5:9, 7] = 0.25
    scene = dq.read(values)
    found = survey.scan(survey.view(formats.open_source(values)))
    assert found.warnings == dq.scenes.scene.check_scene(scene)
    assert found.valid == H * W
    np.testing.assert_allclose(found.scale, np.sqrt(np.mean(np.square(values, dtype=np.float64))))
    values[5, 6, 3] = np.nan
    with pytest.raises(
        dq.InputError, match="NaN or infinite values in 1 of its valid pixels, the first at row 5, column 6"
    ):
        survey.scan(survey.view(formats.open_source(values)))
    dropped = survey.view(formats.open_source(values), drop=True)
    assert survey.scan(dropped).valid == dq.scenes.scene.mask_invalid(scene_with_nan := dq.read(values)).valid.sum()
    assert not dropped.read(Window(slice(0, H), slice(0, W)))[1][5, 6] and np.isnan(scene_with_nan.cube[5, 6, 3])
    with pytest.raises(dq.InputError, match="are masked"):
        survey.scan(survey.view(formats.open_source(np.zeros((3, 3, 2), np.float32), nodata=0.0)))
    with pytest.raises(dq.InputError, match="All 9 valid pixels of the scene are zero"):
        survey.scan(survey.view(formats.open_source(np.zeros((3, 3, 2), np.float32))))
    with pytest.raises(dq.InputError, match=r"values up to 1e\+20; expected at most 1e\+15.*--nodata=1e\+20"):
        survey.scan(survey.view(formats.open_source(np.full((3, 3, 2), 1e20, np.float32))))


# --- outputs ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def disk(tmp_path_factory, cube):
    """Return a folder with an ENVI scene and a model."""
    folder = tmp_path_factory.mktemp("disk")
    place = {"map info": "{UTM, 1, 1, 600000, 5300000, 30, 30, 32, North, WGS-84}"}
    write_image(folder / "scene.img", cube, nodata=HOLE, envi_fields=place)
    config = CASES["default"][0]
    metadata = {"model": words_of(config), "seed": 0}
    checkpoint.save(folder / "model.npz", jax.tree.map(np.asarray, learned(config, cube)), metadata)
    return folder


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
        assert other.envi_fields == one.envi_fields and (
            format == "envi" or other.georeference.transform == one.georeference.transform
        )
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
    assert set(other) - set(one) == {"tiles", "warnings"}
    assert set(one) - set(other) == {"residual_structure"}  # needs the whole cube
    assert other["notes"] == ["36 of 1564 pixels are masked."]
    assert other["source"] == one["source"] and other["valid_pixels"] == one["valid_pixels"]
    np.testing.assert_allclose(other["mean_abundances"], one["mean_abundances"], atol=1e-5)
    np.testing.assert_allclose(other["endmember_levels"], one["endmember_levels"], rtol=1e-3)
    assert other["tiles"]["halo"] == 16 and len(other["tiles"]["each"]) == 9
    formats.read_truth(tmp_path / "tiled")


def test_a_swath_is_rectified(tmp_path, cube):
    from tests.io.test_missions import emit

    small = cube[:5, :4, :6].copy()
    config = CASES["analytic"][0]
    params = {"endmembers": np.abs(np.random.default_rng(0).normal(size=(R, 6))).astype(np.float32), "network": {}}
    source = formats.open_source(emit(tmp_path / "e.nc", reflectance=small, **{
        "sensor_band_parameters/good_wavelengths": np.ones(6, np.float32)}))  # fmt: skip
    dq.unmix_tiled(params, source, config, tmp_path / "tiled", tile=2, format="cog")
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
import time
from tests import conftest
from tests.tiles import test_unmix_tiled
from dequnmix_jax.tiles import journal
plain = journal.Store.put
def put(self, *args):
    time.sleep({pause})
    return plain(self, *args)
journal.Store.put = put
test_unmix_tiled.unmixed(pathlib.Path({disk!r}), pathlib.Path({out!r}), format={format!r}, overwrite={overwrite})
"""


def start(disk, out, pause=0.0, format="envi", overwrite=False, limit=0, **popen):
    code = PROGRAM.format(
        tests=str(Path(__file__).parents[2]),
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
    """Return how many slots of the tiles hold a record."""
    path = work / "tiles.raw"
    return path.read_bytes().count(b'{"tile": ') if path.is_file() else 0


def content(folder):
    """Return every file, without the date."""
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
    with (work / "tiles.raw").open("r+b") as file:  # a tile that a power cut took
        file.write(bytes(64))
    last = unmixed(disk, out)
    assert 0 < last.resumed < seen[-1] + 1
    assert content(out) == content(tmp_path / "whole")
    assert not work.exists()


def test_other_choices_begin_again(disk, tmp_path, monkeypatch):
    def interrupted(self, tile, *args):
        if tile == 2:
            raise KeyboardInterrupt
        return plain(self, tile, *args)

    plain = journal.Store.put
    monkeypatch.setattr(journal.Store, "put", interrupted)
    with pytest.raises(KeyboardInterrupt):
        unmixed(disk, tmp_path / "out")
    assert finished(tmp_path / ".out.tiles") == 2
    monkeypatch.setattr(journal.Store, "put", plain)
    assert unmixed(disk, tmp_path / "out", tile=20).resumed == 0
    with pytest.raises(dq.InputError, match="exists already"):
        unmixed(disk, tmp_path / "out")


def test_an_input_that_changes_while_it_is_read(disk, tmp_path, monkeypatch):
    for name in ("scene.img", "scene.hdr", "model.npz"):
        (tmp_path / name).write_bytes((disk / name).read_bytes())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "summary.json").write_text("{}")
    plain = journal.Store.put

    def put(self, tile, *args):
        if tile == 1:
            os.utime(tmp_path / "scene.img")
        return plain(self, tile, *args)

    monkeypatch.setattr(journal.Store, "put", put)
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
        with pytest.raises(
            dq.InputError, match=r"has 1 kB free, and out needs up to 125 kB while it is made, \d+ B of"
        ):
            unmixed(disk, out, overwrite=True)
    # A limit of the size of files stands in for a disk that fills up on the way.
    environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    process = start(disk, out, overwrite=True, limit=40_000, env=environment)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 1 and "File too large" in error and "tiles.raw" in error
    assert content(out) == before


def test_a_geotiff_that_was_cut_is_noticed(tmp_path, monkeypatch):
    from dequnmix_jax.io import georaster

    values = np.random.default_rng(0).normal(size=(8, 5, 2)).astype(np.float32)
    asked = []

    def strips():
        asked.append(len(asked))
        yield 0, values + (len(asked) > 1)

    with pytest.raises(OSError, match="not whole"):
        georaster.write_strips(tmp_path / "x.tif", strips, values.shape, ("a", "b"), None, None, "")


def test_solvers_are_told_apart(disk, tmp_path):
    """The fingerprint contains everything that determines the result."""
    from dequnmix_jax.io.raw import Guard
    from dequnmix_jax.tiles.run import Run

    source = formats.open_source(disk / "scene.img")
    params, _ = checkpoint.load(disk / "model.npz")
    config = CASES["default"][0]
    run = Run(params, survey.view(source), config, 16, 16, Guard(source), lambda *_: None)
    others = [
        replace(run, tile=17), replace(run, halo=None),
        replace(run, config=replace(config, constraint=dq.equilibrium.Softmax())),
        replace(run, params=params | {"endmembers": params["endmembers"] * 1.0001}),
        replace(run, seen=survey.view(replace(source, scale=2.0))), replace(run, seen=survey.view(source, drop=True)),
        replace(run, seen=survey.view(replace(source, nodata=0.0))),
        replace(run, seen=survey.view(replace(source, saturation=3.0))),
        replace(run, seen=survey.view(replace(source, gains=np.ones(B), offsets=np.zeros(B)))),
        replace(run, seen=survey.view(replace(source, gains=np.ones(B), offsets=np.ones(B)))),
        replace(run, seen=survey.view(replace(source, good_bands=np.arange(B) > 0))),
    ]  # fmt: skip
    assert len({one.fingerprint() for one in [run, *others]}) == 12
    assert replace(run).fingerprint() == run.fingerprint()
    # Of a scene in memory the values and the mask, whatever file it came from.
    scene = source.scene()
    mask = scene.valid.copy()
    mask[0, 0] = False
    cube = scene.cube.copy()
    cube[0, 0, 0] += 1
    held = [scene, replace(scene, mask=mask), replace(scene, mask=None), replace(scene, cube=cube)]
    runs = [replace(run, seen=survey.view(one), guard=Guard(one)) for one in map(dq.scenes.source.source_of, held)]
    assert len({one.fingerprint() for one in [run, *runs]}) == 5
    assert (
        runs[0].fingerprint()
        == replace(runs[0], seen=survey.view(dq.scenes.source.source_of(source.scene()))).fingerprint()
    )


def test_memory_does_not_depend_on_the_rows(tmp_path):
    """Of two scenes the larger one has 270 MB more of values; the process that unmixes it has not.

    What a process of JAX holds at its peak varies by 40 MB from run to run: the difference must be well beyond that.
    """
    bands, columns, resident = 300, 60, {}
    spectra = np.asarray(synthetic.spectra(jax.random.key(1), R, bands))
    config = dq.Model(gradient=dq.equilibrium.Analytic())
    metadata = {"model": words_of(config), "seed": 0}
    checkpoint.save(tmp_path / "model.npz", {"endmembers": spectra, "network": {}}, metadata)
    rng = np.random.default_rng(0)
    for rows in (250, 4000):
        maps = rng.dirichlet(np.ones(R), (rows, columns)).astype(np.float32)
        np.save(tmp_path / "scene.npy", maps @ spectra)
        words = ["unmix", "scene.npy", "model.npz", "--no-plots", "--tile", "64", "-o", f"out{rows}"]
        command = [sys.executable, "-W", "ignore", "-m", "dequnmix_jax", *words]
        measured = [sys.executable, "-c", large_scenes.MEASURED, *command]
        answer = subprocess.run(measured, cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True)
        resident[rows] = int(answer.stdout.split()[-1]) * (1 if sys.platform == "darwin" else 1024) / 1e6
    assert resident[4000] - resident[250] < 120, resident


# --- what is kept is damaged -----------------------------------------------------------------------------------------

SLOT = 8192
SMALL = dq.Model(gradient=dq.equilibrium.Analytic())


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Return a folder with a scene of different tiles, the result, and the state of an interrupted run."""
    folder = tmp_path_factory.mktemp("small")
    rng = np.random.default_rng(5)
    spectra = rng.uniform(0.1, 0.9, (R, 6)).astype(np.float32)
    scene = rng.dirichlet(np.ones(R), (12, 10)).astype(np.float32) @ spectra * rng.uniform(0.5, 1.5, (12, 10, 1))
    scene[5:9, 5:] = HOLE  # and one tile has no valid pixel
    write_image(folder / "scene.img", scene.astype(np.float32), nodata=HOLE)
    np.save(folder / "spectra.npy", spectra)
    small_tiles(folder, folder / "whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dequnmix_jax.tiles.output.map_means", interrupted)
        with pytest.raises(KeyboardInterrupt):
            small_tiles(folder, folder / "out")
    return folder


def interrupted(*_, **__):
    raise KeyboardInterrupt


def small_tiles(folder, out, said=None, **options):
    params = {"endmembers": np.load(folder / "spectra.npy"), "network": {}}
    say = (lambda text: None) if said is None else said.append
    options = {"tile": 4, "halo": 1, "on_warning": say} | options
    return dq.unmix_tiled(params, folder / "scene.img", SMALL, out, **options)


def again(small, tmp_path, change):
    """Continue from the changed state of an interrupted run; return how many tiles were kept, and the output."""
    kept = {path.name: path.read_bytes() for path in (small / ".out.tiles").iterdir()}
    work, said = tmp_path / ".out.tiles", []
    work.mkdir()
    for name, content_ in (kept | change(kept)).items():
        (work / name).write_bytes(content_)
    found = small_tiles(small, tmp_path / "out", said)
    assert content(tmp_path / "out") == content(small / "whole") and not work.exists()
    for path in (tmp_path / "out").iterdir():
        path.unlink()
    (tmp_path / "out").rmdir()
    return found.resumed, said


def test_one_byte_changed_in_what_is_kept(small, tmp_path):
    rng = np.random.default_rng(0)
    assert again(small, tmp_path, lambda kept: {}) == (9, [])

    def anywhere(text):
        return rng.integers(len(text))

    def written(text):
        tile = rng.integers(9)
        slot, line = text[tile * SLOT :], text[tile * SLOT :].index(b"\n")
        record = journal._entry(slot[:4096])
        values = 4096 + 4 * 10 * np.prod([np.ptp(record[side]) for side in ("rows", "columns")])
        return tile * SLOT + rng.choice([rng.integers(line), rng.integers(4096, values)])

    def changed(name, where=anywhere):
        def change(kept):
            text, place = kept[name], where(kept[name])
            return {name: text[:place] + bytes([text[place] ^ 1 << rng.integers(8)]) + text[place + 1 :]}

        return change

    for _ in range(12):  # anywhere in what is written of a tile; the rest of a slot is empty
        resumed, said = again(small, tmp_path, changed("tiles.raw", written))
        assert resumed == 8 and not said
    for _ in range(8):
        resumed, said = again(small, tmp_path, changed("state.json"))
        assert resumed == 0 and len(said) == 1 and "was changed or damaged" in said[0]


def test_finished_tiles_are_not_done_again(small, tmp_path, monkeypatch):
    monkeypatch.setattr(tiles_solve, "solved_core", interrupted)
    monkeypatch.setattr(survey, "scan_strip", interrupted)
    assert again(small, tmp_path, lambda kept: {}) == (9, [])


WRONG = [
    *({"tile": value} for value in (9, -1, 1, 0.0, "0", True, None, [0], 10**30)),
    *({"rows": value} for value in ([0, 3], [0, 5], [4, 8], [0], "04", None, [0, float("nan")], [0, 10**12])),
    {"crc32": 0}, {"crc32": "1"}, {"valid": -1}, {"valid": 17}, {"valid": "9"}, {"valid": 9.0}, {"valid": float("nan")},
    {"steps": -1}, {"steps": 1.5}, {"steps": None}, {"residual": "1"}, {"residual": None}, {"converged": 1},
    {"size": None}, {"run": "of another input"}, {"run": None}, {"without": "run"},
    *({"without": name} for name in ("tile", "rows", "columns", "crc32", "valid", "steps", "residual", "converged",
                                     "size")),
]  # fmt: skip


def test_a_wrong_field_of_a_tile_is_done_again(small, tmp_path):
    """As written by another version or another run: the record has a valid checksum."""
    for wrong in WRONG:

        def changed(kept, wrong=wrong):
            entry = journal._entry(kept["tiles.raw"][:4096]) | wrong
            entry.pop(entry.pop("without", ""), None)
            return {"tiles.raw": journal._page(entry) + kept["tiles.raw"][4096:]}

        assert again(small, tmp_path, changed) == (8, []), wrong


STATES = [
    *({"survey": {"scale": value}} for value in (None, "1", 0.0, -1.0, float("nan"), float("inf"), True)),
    *({"survey": {"valid": value}} for value in (None, 0, 121, 1.5, float("nan"))),
    {"survey": {"warnings": None}}, {"survey": {"warnings": [1]}}, {"survey": {"colour_bands": [0, 1]}},
    {"survey": {"colour_bands": [0, 1, 6]}}, {"survey": {"colour_limits": [[0, 0, 0]]}},
    {"survey": {"colour_limits": [[0, 0, float("nan")], [1, 1, 1]]}}, {"survey": {"more": 1}},
    {"survey": {"scale": "without"}}, {"survey": []}, {"pools": None}, {"pools": [[1.0]]}, {"pools": "x"},
    {"reach": None}, {"reach": [1]}, {"reach": [-1, None, None]}, {"reach": [1.5, None, None]},
    {"reach": [1, "x", None]},
]  # fmt: skip


@pytest.mark.parametrize("sealed", [False, True])
def test_a_wrong_state_begins_again_with_a_sentence(small, tmp_path, sealed):
    """Whether it was edited, or written by a different program."""
    for wrong in [*STATES, *([] if sealed else [{"survey": {"scale": 0.25}}, {"reach": [2, None, None]}])]:

        def changed(kept, wrong=wrong):
            found = json.loads(kept["state.json"])
            for name, value in wrong.items():
                if isinstance(value, dict):
                    value = found["state"][name] | value
                    value = {key: entry for key, entry in value.items() if entry != "without"}
                found["state"][name] = value
            if sealed:
                found["sha256"] = journal._checksum(found["state"])
            return {"state.json": json.dumps(found).encode()}

        resumed, said = again(small, tmp_path, changed)
        assert resumed == 0 and len(said) == 1 and "all tiles are done again" in said[0], wrong
    for text in (b"", b"[]", b"{}", b"\xff", b"null", b'{"state": [], "sha256": ""}'):
        assert again(small, tmp_path, lambda kept, text=text: {"state.json": text})[0] == 0


def test_a_tile_that_is_lost_while_the_run_goes_on_is_done_again(small, tmp_path, monkeypatch):
    plain = journal.Store.put
    put = []

    def spoiling(self, tile, *rest, times=1):
        entry = plain(self, tile, *rest)
        put.append(tile)
        if tile == 4 and put.count(4) <= times:
            with self.path.open("r+b") as file:
                file.seek(tile * self.slot + 4096)
                file.write(b"\x07")
        return entry

    monkeypatch.setattr(journal.Store, "put", spoiling)
    small_tiles(small, tmp_path / "out")
    assert put == [*range(9), 4]
    assert content(tmp_path / "out") == content(small / "whole")
    put.clear()
    monkeypatch.setattr(journal.Store, "put", lambda *args: spoiling(*args, times=99))
    with pytest.raises(OSError, match="1 of 9 tiles are read back otherwise than they were written") as error:
        small_tiles(small, tmp_path / "other")
    assert error.value.filename.endswith("tiles.raw") and put == [*range(9), 4, 4, 4]


def test_files_of_others_in_the_folder_of_the_work_stay(small, tmp_path):
    (tmp_path / ".out.tiles").mkdir()
    (tmp_path / ".out.tiles" / "thesis.tex").write_text("years of work")
    small_tiles(small, tmp_path / "out")
    assert (tmp_path / ".out.tiles" / "thesis.tex").read_text() == "years of work"


# --- killed where it counts ------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from tests import conftest
from tests.tiles import test_unmix_tiled
from pathlib import Path
plain, count = os.{call}, 0
def call(source, target, *more, **options):
    global count
    if "{name}" in (os.path.basename(source), os.path.basename(target)):
        if {after}:
            plain(source, target, *more, **options)
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(source, target, *more, **options)
os.{call} = call
test_unmix_tiled.small_tiles(Path({small!r}), Path({out!r}), overwrite=True)
"""


@pytest.mark.parametrize(("call", "after"), [("rename", True), pytest.param("replace", True, marks=pytest.mark.slow)])
def test_killed_between_two_renamings(small, tmp_path, capsys, call, after):
    """Of `--force`: the old output is moved aside, the new one takes its place."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "summary.json").write_text("old")
    code = KILLED.format(tests=str(Path(__file__).parents[2]), call=call, name="out", after=after, small=str(small),
                         out=str(out))  # fmt: skip
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code]).returncode == -signal.SIGKILL
    assert out.exists() == (call == "replace")
    with pytest.raises(dq.InputError, match="exists already"):
        small_tiles(small, out)
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".tiles")] == ["out"]
    if call == "rename":
        assert (out / "summary.json").read_text() == "old" and "out is as it was" in capsys.readouterr().err
        assert small_tiles(small, out, overwrite=True).resumed == 9
    assert content(out) == content(small / "whole") and list(tmp_path.iterdir()) == [out]


# --- the same twice --------------------------------------------------------------------------------------------------


def test_two_undisturbed_runs_write_the_same_bytes(disk, tmp_path, monkeypatch):
    """In two folders, a day apart; one entry of summary.json and the page differs."""
    monkeypatch.setenv("DEQUNMIX_NO_CACHE", "1")
    found = []
    for day in ("2031-01-01", "2031-01-02"):
        folder = tmp_path / day
        folder.mkdir()
        monkeypatch.chdir(folder)
        monkeypatch.setattr("dequnmix_jax.results.summary.datetime", clock(day))
        (folder / "scene.img").write_bytes((disk / "scene.img").read_bytes())
        (folder / "scene.hdr").write_bytes((disk / "scene.hdr").read_bytes())
        words = ("unmix", "scene.img", disk / "model.npz", "--report", "page.html")
        assert command(*words, "--tile", 16, "--halo", 16, "-o", "out") == 0
        assert command("report", "scene.img", "--model", disk / "model.npz", "--result", "result", "-o", "r.html") == 0
        files_ = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for name in ("out/summary.json", "result/summary.json"):
            summary = json.loads(files_[name])
            assert summary.pop("run") == {"date": f"{day}T00:00:00+00:00"}
            assert day[:4] not in json.dumps(summary)
        for name in files_:
            times = files_[name].count(day.encode())
            assert times == (1 if name.endswith((".html", "summary.json")) else 0), name
            files_[name] = files_[name].replace(day.encode(), b"DAY")
        found.append(files_)
    assert len(found[0]) > 30 and set(found[0]) == set(found[1])
    assert [name for name in found[0] if found[0][name] != found[1][name]] == []


def clock(day):
    import datetime as real

    class Fixed(real.datetime):
        @classmethod
        def now(cls, zone=None):
            return cls.fromisoformat(day).replace(tzinfo=zone)

    return Fixed


# --- what tiles say together -----------------------------------------------------------------------------------------


def test_the_worst_tile_speaks_for_all():
    from dequnmix_jax.tiles.records import combined_trace, not_converged

    entries = [
        {"valid": 4, "steps": 5, "residual": 2e-6, "converged": True, "size": 1.0},
        {"valid": 0},
        {"valid": 2, "steps": 90, "residual": 3e-2, "converged": False, "size": 20.0},
        {"valid": 6, "steps": 7, "residual": 1e-7, "converged": True, "size": 6.0},
    ]
    trace, size = combined_trace(entries, 12)
    assert (int(trace.steps), bool(trace.converged)) == (90, False)
    assert float(trace.residual) == pytest.approx(3e-2) and size == pytest.approx((27 / 12) ** 0.5)
    (text,) = not_converged(entries, SMALL)
    assert "in 1 of 3 tiles" in text and "up to 3.00e-02" in text
    assert not_converged(entries[:2] + entries[3:], SMALL) == []
    entries.append({"valid": 1, "steps": 1, "residual": 5e-2, "converged": False, "size": 0.0})
    assert (
        "in 2 of 4 tiles" in not_converged(entries, SMALL)[0] and "up to 5.00e-02" in not_converged(entries, SMALL)[0]
    )


# --- the command line ------------------------------------------------------------------------------------------------


def command(*words):
    """Run the command line in this process and return its status."""
    return main.main([str(word) for word in words])


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
    assert set(found) - set(whole) == {"tiles"} and set(whole) - set(found) == {"residual_structure"}
    assert {Path(name).name for name in whole["files"]} == {Path(name).name for name in found["files"]}
    np.testing.assert_allclose(found["mean_abundances"], whole["mean_abundances"], atol=1e-5)
    np.testing.assert_allclose(
        dq.read(tmp_path / "tiled" / "residual.img").cube, dq.read(tmp_path / "whole" / "residual.img").cube, atol=1e-4
    )
    assert command(*words, "--tile", 16, "-o", tmp_path / "tiled") == 1
    assert "exists already" in capsys.readouterr().err
    result = dq.results.read_result(tmp_path / "tiled")
    assert result.composite.shape == (H, W, 3) and result.convergence is not None


def test_a_scene_that_does_not_fit_is_unmixed_in_tiles(disk, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DEQUNMIX_NO_CACHE", "1")
    monkeypatch.setattr("dequnmix_jax.cli.unmix_tiles._free_memory", lambda: 10**6)
    monkeypatch.setattr("dequnmix_jax.tiles.halo.windows", lambda *_: [])
    monkeypatch.setattr("dequnmix_jax.tiles.halo.width_of", lambda *_: tiles_halo.HaloWidth(16, 1e-7, 0.3))
    words = ("unmix", disk / "scene.img", disk / "model.npz", "-o", tmp_path / "out", "--report", tmp_path / "r.html")
    assert command(*words) == 0
    out, err = capsys.readouterr()
    assert (
        "unmixed in tiles: whole, it would take about 901 kB of memory, and 1 MB are free" in err
        and "halo of 16 pixels, beyond which" in out
    )
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"abundances.png", "endmembers.png", "composite.png", "estimate.npz"} <= names
    assert (tmp_path / "r.html").read_text().startswith("<!")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "r.html"]


def test_a_model_of_some_bands_is_applied_to_them_in_tiles(disk, tmp_path, capsys, monkeypatch):
    """A model that was trained without some bands knows the wavelengths of the others."""
    monkeypatch.setenv("DEQUNMIX_NO_CACHE", "1")
    cube = np.moveaxis(np.asarray(dq.read(disk / "scene.img").cube), 2, 0)[:6]
    cube = np.ascontiguousarray(np.moveaxis(cube, 0, 2)[:12, :10])
    np.savez(tmp_path / "scene.npz", cube=cube, wavelengths_nm=np.linspace(400, 500, 6), mask=cube[:, :, 0] != HOLE)
    metadata = {"model": words_of(SMALL), "seed": 0, "ignore": [[430.0, 450.0]], "bands": None}
    metadata["wavelengths_nm"] = [400.0, 420.0, 460.0, 480.0, 500.0]
    spectra = np.random.default_rng(0).uniform(0.1, 0.9, (R, 5)).astype(np.float32)
    checkpoint.save(tmp_path / "model.npz", {"endmembers": spectra, "network": {}}, metadata)
    opened, plain = [], formats.open_source
    monkeypatch.setattr(formats, "open_source", lambda *args, **options: opened.append(args) or plain(*args, **options))
    for out, more in (("whole", ()), ("tiled", ("--tile", 4, "--halo", 0))):
        words = ("unmix", tmp_path / "scene.npz", tmp_path / "model.npz", "--no-plots", "-o", tmp_path / out, *more)
        assert command(*words) == 0, capsys.readouterr().err
        assert "bands of the scene lie" not in capsys.readouterr().err
    assert len(opened) == 2  # once for each command
    whole, tiled = (dq.results.read_result(tmp_path / out) for out in ("whole", "tiled"))
    np.testing.assert_allclose(tiled.abundances, whole.abundances, atol=1e-3)
    assert whole.summary["reading"]["ignore"] == tiled.summary["reading"]["ignore"] == [[430.0, 450.0]]


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
        raise OSError(28, "No space left on device", str(self.path))

    with monkeypatch.context() as patch:
        patch.setattr(journal.Store, "put", full)
        assert command(*words, tmp_path / "out") == 1
    err = capsys.readouterr().err
    assert "No space left on device" in err and "Finished tiles are kept" in err

    def interrupted(self, *_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(journal.Store, "put", interrupted)
        assert command(*words, tmp_path / "out") == 130
    assert "finished tiles are kept" in capsys.readouterr().err


def test_progress_tells_tiles_a_second_and_the_time_left(capsys, monkeypatch):
    from dequnmix_jax.cli.unmix_tiles import _Progress

    times = iter([0.0, 10.0, 12.0, 14.0])
    monkeypatch.setattr("dequnmix_jax.cli.unmix_tiles.time.perf_counter", lambda: next(times))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    progress = _Progress()
    progress("looking through", 0.5, 0, 0)
    for done in range(4):
        progress("unmixing", done / 8, done, 8)
    lines = capsys.readouterr().err.split("\r")
    assert lines[1].startswith("looking through [############............] 50%")
    assert lines[-1].startswith("unmixing [#########...............] 3/8 tiles  0.5 tiles/s  0:10 left")
