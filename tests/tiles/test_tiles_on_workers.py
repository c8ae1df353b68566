"""The tiles of one scene on the workers of Dask: the same bytes, and a dead worker costs one retry."""

import json
import os
import signal
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.cli import main
from dequnmix_jax.io.envi.writer import write_image
from dequnmix_jax.parallel import cluster
from dequnmix_jax.scenes.source import Source, Stored
from dequnmix_jax.tiles import tasks
from dequnmix_jax.training import checkpoint
from dequnmix_jax.training.words import words_of

H, W, B, R = 12, 10, 6, 3
CONFIG = dq.Model(gradient=dq.equilibrium.Analytic())
TILES = 9


@pytest.fixture(scope="module")
def client():
    """Return the client of two processes."""
    with cluster.local(2) as client:
        yield client


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a scene, a model and the result of one process."""
    folder = tmp_path_factory.mktemp("workers")
    rng = np.random.default_rng(5)
    spectra = rng.uniform(0.1, 0.9, (R, B)).astype(np.float32)
    scene = rng.dirichlet(np.ones(R), (H, W)).astype(np.float32) @ spectra * rng.uniform(0.5, 1.5, (H, W, 1))
    scene[5:9, 5:] = -9.0  # and one tile has no valid pixel
    write_image(folder / "scene.img", scene.astype(np.float32), nodata=-9.0)
    metadata = {"model": words_of(CONFIG), "seed": 0}
    checkpoint.save(folder / "model.npz", {"endmembers": spectra, "network": {}}, metadata)
    tiled(folder, folder / "scene.img", folder / "whole")
    return folder


def tiled(folder, scene, out, **options):
    params, _ = checkpoint.load(folder / "model.npz")
    return dq.unmix_tiled(params, scene, CONFIG, out, **{"tile": 4, "halo": 1} | options)


def content(folder):
    """Return every file, without the date."""
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    summary = json.loads(found.pop("summary.json"))
    summary.pop("run")
    return found, summary


def test_workers_write_the_bytes_of_one_process(folder, client, tmp_path):
    told = []
    found = tiled(folder, folder / "scene.img", tmp_path / "out", client=client, on_progress=lambda *a: told.append(a))
    assert found.tiles == TILES and found.resumed == 0 and [p.name for p in tmp_path.iterdir()] == ["out"]
    assert content(tmp_path / "out") == content(folder / "whole")
    assert [done for stage, _, done, _ in told if stage == "unmixing"] == list(range(TILES + 1))
    scene = dq.read(folder / "scene.img")  # in memory: it travels
    tiled(folder, scene, tmp_path / "memory", client=client)
    assert content(tmp_path / "memory")[0] == content(folder / "whole")[0]


def test_netcdf_is_written_while_a_client_is_at_work(folder, client, tmp_path):
    """xarray would ask the cluster for a lock of the file, which is in memory."""
    pytest.importorskip("xarray")
    tiled(folder, folder / "scene.img", tmp_path / "alone", format="netcdf")
    tiled(folder, folder / "scene.img", tmp_path / "workers", client=client, format="netcdf")
    one, other = (content(tmp_path / name)[0] for name in ("alone", "workers"))
    assert set(one) == set(other) >= {"maps.nc"}
    result = dq.read_result(folder / "whole")
    dq.results.write_result(tmp_path / "r.nc", result, dq.read(folder / "scene.img"))  # with a client in this process
    for path in (tmp_path / "r.nc", tmp_path / "workers" / "maps.nc"):
        np.testing.assert_array_equal(dq.read_result(path).abundances, result.abundances)


class Reader:
    """A scene that notes who reads which window, and once ends the process that reads a certain one."""

    def __init__(self, cube, notes, deadly, always=False):
        self.cube, self.notes, self.deadly, self.always = cube, notes, deadly, always

    def __call__(self, window):
        if window is None:
            return Stored(self.cube)
        place = (window.rows.start, window.columns.start, window.shape)
        tries = len(list(self.notes.glob(f"{place}-*")))
        (self.notes / f"{place}-{tries}-{os.getpid()}").touch()
        if place == self.deadly and (self.always or not tries):
            os.kill(os.getpid(), signal.SIGKILL)
        return Stored(self.cube[window])


def test_a_dead_worker_costs_one_retry_and_nothing_else(folder, client, tmp_path):
    scene = dq.read(folder / "scene.img")
    cube = np.where(scene.valid[..., None], scene.cube, -9.0).astype(np.float32)
    deadly = (3, 3, (6, 6))  # the window of the tile in the middle
    notes = tmp_path / "notes"
    notes.mkdir()
    source = Source(cube.shape, Reader(cube, notes, deadly), nodata=-9.0, name="scene")
    tiled(folder, source, tmp_path / "out", client=client)
    assert content(tmp_path / "out")[0] == content(folder / "whole")[0]
    names = [path.name for path in notes.iterdir()]
    tries = {place: sum(name.startswith(f"{place}-") for name in names) for place in {n.split("-")[0] for n in names}}
    assert len(tries) == TILES + 1  # and the strip of the survey
    assert tries.pop(str(deadly)) == 2 and set(tries.values()) == {1}
    # One that always dies ends the run with a sentence; the finished tiles are kept.
    source = Source(cube.shape, Reader(cube, notes, deadly, always=True), nodata=-9.0)
    with pytest.raises(cluster.WorkerLostError, match="ended before it was done"):
        tiled(folder, source, tmp_path / "again", client=client)
    assert (tmp_path / ".again.tiles" / "tiles.raw").exists() and not (tmp_path / "again").exists()


def test_interrupted_and_resumed_by_other_processes(folder, client, tmp_path):
    def stop(stage, share, done, total):
        if stage == "unmixing" and done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiled(folder, folder / "scene.img", tmp_path / "out", client=client, on_progress=stop)
    with (tmp_path / ".out.tiles" / "tiles.raw").open("r+b") as file:  # and a tile is spoilt
        file.seek(4096)
        file.write(b"\x07\x07")
    found = tiled(folder, folder / "scene.img", tmp_path / "out")
    assert 3 <= found.resumed < TILES
    assert content(tmp_path / "out") == content(folder / "whole")


def test_an_input_that_changes_is_refused(folder, client, tmp_path):
    for name in ("scene.img", "scene.hdr"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())

    def touch(stage, share, done, total):
        if stage == "unmixing" and done == 1:
            os.utime(tmp_path / "scene.img", (1, 1))

    with pytest.raises(dq.InputError, match="changed while it was read"):
        tiled(folder, tmp_path / "scene.img", tmp_path / "out", client=client, on_progress=touch)
    assert not (tmp_path / "out").exists()


def limit(size):
    """Limit the files that this process may write, as a disk that fills up."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def test_a_full_disk_is_a_sentence_and_the_tiles_are_kept(folder, client, tmp_path):
    client.run(limit, 1000)
    try:
        with pytest.raises(OSError, match="File too large") as error:
            tiled(folder, folder / "scene.img", tmp_path / "out", client=client)
    finally:
        client.run(limit, -1)
    assert str(error.value.filename).startswith(str(tmp_path)) and not (tmp_path / "out").exists()
    client.run(limit, 80_000)  # enough for the tiles, not for estimate.npz
    client.run(limit, -1)
    assert tiled(folder, folder / "scene.img", tmp_path / "out", client=client).tiles == TILES
    assert content(tmp_path / "out") == content(folder / "whole")


def test_other_versions_are_refused(folder):
    from dequnmix_jax.io.formats import open_source
    from dequnmix_jax.io.raw import Guard
    from dequnmix_jax.tiles.survey import view

    source = open_source(folder / "scene.img")
    part = tasks.Part(view(source), Guard(source), ("0.0", "0.0", "cpu"), {}, CONFIG, None)
    with pytest.raises(dq.InputError, match="Install the same versions"):
        tasks.check_worker(part)


def test_the_command_line(folder, client, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DEQUNMIX_NO_CACHE", "1")
    words = ["unmix", str(folder / "scene.img"), str(folder / "model.npz"), "--no-plots"]
    address = client.scheduler.address
    assert main.main([*words, "--tile", "4", "--halo", "1", "--scheduler", address, "-o", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.startswith("9 tiles of 4 x 4 pixels")
    assert (tmp_path / "out" / "abundances.img").read_bytes() == (folder / "whole" / "abundances.img").read_bytes()
    assert main.main([*words, "--jobs", "1", "-o", str(tmp_path / "one")]) == 0
    assert capsys.readouterr().out.startswith("1 tile of 12 x 10 pixels")  # as large as fit


@pytest.mark.slow
def test_a_network_with_pools_and_a_measured_halo(client, tmp_path):
    """All stages on workers, and the memory of one with tiles of 250 x 250 pixels and 285 bands."""
    bands, side = 285, 520
    rng = np.random.default_rng(0)
    spectra = np.sort(rng.uniform(0.1, 0.9, (4, bands)).astype(np.float32), axis=1)
    scene = rng.dirichlet(np.ones(4), (side, side)).astype(np.float32) @ spectra
    write_image(tmp_path / "scene.img", scene + rng.normal(0, 0.01, scene.shape).astype(np.float32))
    config = dq.Model(gradient=dq.equilibrium.Energy(width=16))
    params = dq.init(dq_key(), jnp.asarray(scene[:32, :32]), config, endmembers=jnp.asarray(spectra))
    params["network"]["energy"]["gain"] = jnp.full(16, 0.2)
    options = {"tile": 250, "client": client}
    found = dq.unmix_tiled(params, Path(tmp_path / "scene.img"), config, tmp_path / "two", **options)
    assert found.tiles == 9 and found.summary["tiles"]["halo"] > 0
    resident = max(client.run(peak).values())
    print(f"largest memory of a worker: {resident / 1e6:.0f} MB")
    assert resident < 1.2e9, resident
    dq.unmix_tiled(params, Path(tmp_path / "scene.img"), config, tmp_path / "one", tile=250)
    one, two = (dq.read(tmp_path / name / "abundances.img").cube for name in ("one", "two"))
    np.testing.assert_allclose(two, one, atol=1e-4)


def dq_key():
    import jax

    return jax.random.key(2)


def peak():
    """Return the largest memory of this process in bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])
