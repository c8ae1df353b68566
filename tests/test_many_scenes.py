"""Many scenes: each has an output, what is finished is kept, a failure or a dead process costs one row or one retry."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax import many_scenes
from dequnmix_jax.cli import main
from dequnmix_jax.datasets import synthetic
from dequnmix_jax.io.envi.writer import write_image
from dequnmix_jax.io.lock import only_writer
from dequnmix_jax.io.remote import as_place
from dequnmix_jax.parallel import cluster
from dequnmix_jax.training import checkpoint
from dequnmix_jax.training.words import words_of

B, R = 12, 3
LENGTHS = {
    "wavelength": f"{{{', '.join(str(500 + 10 * band) for band in range(B))}}}",
    "wavelength units": "Nanometers",
}
CONFIG = dq.Model(gradient=dq.equilibrium.Analytic())


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Return a folder with four scenes, of which the third is not one, and a model."""
    folder = tmp_path_factory.mktemp("scenes")
    spectra = synthetic.spectra(jax.random.key(1), R, B)
    for name in "abcd":
        cube = synthetic.linear_scene(jax.random.key(ord(name)), (9, 7), spectra, 30.0).cube
        write_image(folder / f"{name}.img", np.asarray(cube), spectral=LENGTHS)
    (folder / "c.img").write_bytes(b"not a scene")
    metadata = {"model": words_of(CONFIG), "seed": 0}
    checkpoint.save(folder / "model.npz", {"endmembers": np.asarray(spectra), "network": {}}, metadata)
    return folder


@pytest.fixture(scope="module")
def client():
    """Return the client of two processes."""
    with cluster.local(2) as client:
        yield client


def table(folder):
    with (folder / "batch.csv").open(newline="") as file:
        return {Path(row["scene"]).stem: row for row in csv.DictReader(file)}


def maps(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "summary.json"}


# --- names -----------------------------------------------------------------------------------------------------------


def test_patterns_texts_and_paths_name_scenes_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.hdr", "a.hdr", "c.nc", "odd[1].nc"):
        Path(name).touch()
    Path("list.txt").write_text("# granules\n\nc.nc\n*.hdr\nhttps://host/x/scene.nc\n")
    assert many_scenes.places_of("*.hdr") == [Path("a.hdr"), Path("b.hdr")]
    found = many_scenes.places_of(["b.hdr", "list.txt", "odd[1].nc"])
    assert found == [*map(Path, ("b.hdr", "c.nc", "a.hdr")), as_place("https://host/x/scene.nc"), Path("odd[1].nc")]
    for nothing in ("*.tif", []):
        with pytest.raises(dq.InputError, match="expected"):
            many_scenes.places_of(nothing)
    Path("empty.txt").touch()
    with pytest.raises(dq.InputError, match="names no scene"):
        many_scenes.places_of("empty.txt")


def test_names_differ_and_stay():
    def names(*places, taken=None):
        return many_scenes.names_for([Path(place) for place in places], taken)

    assert names("/x/a.nc", "/x/b.nc") == ["a", "b"]
    assert names("/x/p/a.nc", "/x/q/a.nc", "/x/b.nc") == ["p_a", "q_a", "b"]
    assert names("/x/a.nc", "/x/a.hdr") == ["x_a_nc", "x_a_hdr"]
    assert names("/x/q/a.nc", "/x/p/a.nc", taken={"/x/p/a.nc": "a"}) == ["q_a", "a"]
    url = as_place("https://host/x/a.nc")
    assert many_scenes.names_for([url, Path("/y/a.nc")]) == ["x_a", "y_a"]


# --- in this process -------------------------------------------------------------------------------------------------


def test_a_failure_is_a_row_and_what_is_finished_is_kept(scenes, tmp_path):
    out, seen = tmp_path / "out", []

    def again(**options):
        seen.clear()
        options = {"jobs": 1, "on_row": lambda row, done, total: seen.append((row.state, done, total))} | options
        return dq.unmix_many(scenes / "?.hdr", scenes / "model.npz", out, **options)

    rows = again()
    assert [row.state for row in rows] == ["done", "done", "failed", "done"] and "truncated" in rows[2].sentence
    assert [done for _, done, _ in seen] == [1, 2, 3, 4] and {total for *_, total in seen} == {4}
    assert sorted(path.name for path in out.iterdir()) == [".batch.json", "a", "b", "batch.csv", "d"]
    assert {name: row["state"] for name, row in table(out).items()} == dict(
        zip("abcd", (r.state for r in rows), strict=True)
    )
    params, _ = checkpoint.load(scenes / "model.npz")
    scene = dq.read(scenes / "b.img")
    estimate, _ = jax.jit(dq.unmix, static_argnums=2)(params, jnp.asarray(scene.cube), CONFIG)
    np.testing.assert_allclose(dq.read_result(out / "b").abundances, estimate.abundances, atol=1e-5)
    before = maps(out / "a")
    assert [row.state for row in again()] == ["kept", "kept", "failed", "kept"]
    assert again()[0].seconds == pytest.approx(rows[0].seconds, abs=0.01)  # of the run that did it
    assert again(overwrite=True)[0].state == "done" and maps(out / "a") == before
    # Other scenes of the same names go beside them, and the rows of these stay.
    other = tmp_path / "other"
    other.mkdir()
    for suffix in (".img", ".hdr"):
        (other / f"a{suffix}").write_bytes((scenes / f"b{suffix}").read_bytes())
    (row,) = dq.unmix_many([other / "a.hdr"], (params, CONFIG), out, jobs=1)
    assert row[1::2] == ("other_a", "done") and len((out / "batch.csv").read_text().splitlines()) == 6
    assert maps(out / "a") == before
    # Of another model nothing is kept in silence.
    metadata = {"model": words_of(CONFIG), "seed": 1}
    checkpoint.save(tmp_path / "model.npz", params, metadata)
    rows = dq.unmix_many(scenes / "[ab].hdr", tmp_path / "model.npz", out, jobs=1)
    assert [row.state for row in rows] == ["failed"] * 2 and "is of another model" in rows[0].sentence


def test_one_batch_at_a_time_and_choices_that_do_not_fit(scenes, tmp_path):
    words = (scenes / "a.hdr", scenes / "model.npz", tmp_path / "out")
    (tmp_path / "out").mkdir()
    held = subprocess.Popen([sys.executable, "-c", HOLD.format(path=str(tmp_path / "out" / "batch.csv"))],
                            stdout=subprocess.PIPE, text=True)  # fmt: skip
    try:
        assert held.stdout.readline() == "held\n"
        with pytest.raises(dq.InputError, match="is writing"):
            dq.unmix_many(*words, jobs=1)
    finally:
        held.kill()
        held.communicate()
    with pytest.raises(dq.InputError, match="tuple of 1 value;"):
        dq.unmix_many(scenes / "a.hdr", (1,), tmp_path / "out")
    with pytest.raises(dq.InputError, match="at least 1"), cluster.local(0):
        pass
    with only_writer(tmp_path / "out" / "batch.csv"):
        pass


HOLD = """
import time
from pathlib import Path
from dequnmix_jax.io.lock import only_writer
with only_writer(Path({path!r})):
    print("held", flush=True)
    time.sleep(60)
"""


def test_without_dask_the_error_names_the_extra(scenes, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(dq.InputError, match=r"needs Dask: pip install 'dequnmix-jax\[dask\]', or .*jobs=1"):
        dq.unmix_many(scenes / "[ab].hdr", scenes / "model.npz", tmp_path / "out", jobs=2)
    assert dq.unmix_many(scenes / "a.hdr", scenes / "model.npz", tmp_path / "out", jobs=1)[0].state == "done"


# --- in other processes ----------------------------------------------------------------------------------------------


def count(task):
    """Record a try in a folder; then do what the task says."""
    folder, name, what = task
    if (folder / name).exists():  # done, and the process that knew it is dead
        return name
    tries = len(list(folder.glob(f"{name}-*")))
    (folder / f"{name}-{tries}-{os.getpid()}").touch()
    if what == "dies" or (what == "dies once" and not tries):
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "raises" or (what == "raises once" and not tries):
        raise OSError(5, "Input/output error", str(folder / name))
    if what == "does not fit":
        raise dq.InputError(f"{name} does not fit.")
    time.sleep(0.02)
    (folder / name).touch()
    return name


def test_a_dead_process_costs_one_retry_and_a_poisoned_task_one_failure(client, tmp_path, monkeypatch):
    kinds = ["fits"] * 32
    kinds[5], kinds[9], kinds[13], kinds[20], kinds[30] = (
        "dies once", "dies", "raises once", "raises", "does not fit",
    )  # fmt: skip
    tasks = [(tmp_path, f"t{number:02d}", kind) for number, kind in enumerate(kinds)]
    outcomes = {one.number: one for one in cluster.run(count, tasks, client)}
    assert set(outcomes) == set(range(32))
    failed = {number: one.error for number, one in outcomes.items() if one.error is not None}
    assert set(failed) == {9, 20, 30}
    assert isinstance(failed[9], cluster.WorkerLostError) and "jobs=1" in str(failed[9])
    assert isinstance(failed[20], OSError) and str(failed[30]) == "t30 does not fit."
    tries = {number: len(list(tmp_path.glob(f"t{number:02d}-*"))) for number in range(32)}
    wanted = dict.fromkeys(range(32), 1) | {5: 2, 9: 3, 13: 2, 20: 3}
    assert tries == wanted
    assert len({path.name.split("-")[2] for path in tmp_path.glob("*-*")}) >= 2  # both processes worked


def test_tasks_in_this_process_are_tried_again_too(tmp_path):
    kinds = ("fits", "raises once", "raises", "does not fit")
    outcomes = list(cluster.run(count, [(tmp_path, kind, kind) for kind in kinds]))
    assert [one.value for one in outcomes] == ["fits", "raises once", None, None]
    assert isinstance(outcomes[2].error, OSError) and isinstance(outcomes[3].error, dq.InputError)
    assert [len(list(tmp_path.glob(f"{kind}-*"))) for kind in kinds] == [1, 2, 3, 1]


def environment(_):
    return {name: os.environ.get(name) for name in ("MALLOC_TRIM_THRESHOLD_", "OPENBLAS_NUM_THREADS", cluster.JOBS)}


def test_workers_have_one_thread_and_no_threshold_of_malloc(client):
    (found,) = cluster.run(environment, [None], client)
    assert found.value == {"MALLOC_TRIM_THRESHOLD_": None, "OPENBLAS_NUM_THREADS": "1", cluster.JOBS: "2"}
    assert set(client.nthreads().values()) == {1} and client.cluster.scheduler.allowed_failures == 2


def blocked(_):
    return [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])]


def test_workers_do_not_hear_an_interrupt(client):
    """A terminal sends Ctrl-C to all processes of a command; each worker would print a traceback."""
    (found,) = cluster.run(blocked, [None], client)
    assert found.value == [signal.SIGINT] and not blocked(None)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [3.0, 4.0, 5.0, 7.0])
def test_an_interrupt_is_one_sentence(scenes, tmp_path, seconds):
    """While the workers start, and while they work."""
    command = [sys.executable, "-m", "dequnmix_jax", "unmix", str(scenes / "a.img"), str(scenes / "model.npz")]
    command += ["--tile", "1", "--halo", "0", "--jobs", "2", "--no-plots", "-o", str(tmp_path / "out")]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    time.sleep(seconds)
    os.killpg(started.pid, signal.SIGINT)
    said = started.communicate(timeout=60)[1]
    assert started.returncode == 130 and "dequnmix: interrupted; " in said and "Traceback" not in said, said


def command(*words):
    return main.main([str(word) for word in words])


def test_the_command_line_on_a_scheduler(scenes, client, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DEQUNMIX_NO_CACHE", "1")
    words = ("unmix", scenes / "a.hdr", scenes / "b.hdr", scenes / "c.hdr", "-m", scenes / "model.npz", "--no-plots")
    address = client.scheduler.address
    assert command(*words, "--scheduler", address, "-o", tmp_path / "out") == 1
    printed = capsys.readouterr()
    assert printed.out.splitlines() == ["3 scenes: 2 done, 1 failed", str(tmp_path / "out" / "batch.csv")]
    assert "1 of 3 scenes failed" in printed.err and "c.hdr: " in printed.err and len(printed.err.splitlines()) == 2
    rows = table(tmp_path / "out")
    assert rows["c"]["state"] == "failed" and "truncated" in rows["c"]["sentence"]
    # The same bytes as one scene alone makes, and what is done stays done.
    assert command("unmix", scenes / "a.hdr", scenes / "model.npz", "--no-plots", "-o", tmp_path / "alone") == 0
    assert maps(tmp_path / "out" / "a") == maps(tmp_path / "alone")
    capsys.readouterr()
    assert command(*words[:3], *words[4:], "--json", "--jobs", 1, "-o", tmp_path / "out") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kept"] == 2 and [one["state"] for one in found["scenes"]] == ["kept", "kept"]


def test_what_the_words_mean(scenes, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DEQUNMIX_NO_CACHE", "1")
    monkeypatch.setattr(cluster, "_PATIENCE", 0.5)
    a, b, d, model = (scenes / name for name in ("a.hdr", "b.hdr", "d.hdr", "model.npz"))

    def says(*words):
        assert command(*words, "-o", tmp_path / "out") == 1
        return capsys.readouterr().err

    assert "3 scenes and no model are given; expected -m MODEL" in says("unmix", a, b, d)
    assert "are both given" in says("unmix", a, b, "-m", model, "--jobs", 2, "--scheduler", "tcp://127.0.0.1:1")
    assert "No Dask scheduler answers at tcp://127.0.0.1:1" in says(
        "unmix", a, b, "-m", model, "--scheduler", "tcp://127.0.0.1:1"
    )
    assert command("unmix", a, b, "-m", model, "-o", tmp_path / "x.nc") == 1
    assert "Pass -o FOLDER" in capsys.readouterr().err
    assert "9" in says("unmix", a, b, d, "-m", model, "--endmembers", 9)
    # Known spectra: all words are scenes.
    library = tmp_path / "library.csv"
    spectra, _ = checkpoint.load(model)
    np.savetxt(
        library,
        np.c_[500 + 10 * np.arange(B), spectra["endmembers"].T],
        delimiter=",",
        header="wavelength_nm,x,y,z",
        comments="",
    )
    (tmp_path / "scenes.txt").write_text(f"{a}\n{b}\n")
    words = ("unmix", tmp_path / "scenes.txt", "--endmembers", library, "--no-plots", "--jobs", 1)
    assert command(*words, "-o", tmp_path / "known") == 0, capsys.readouterr().err
    assert sorted(table(tmp_path / "known")) == ["a", "b"]


def test_pages_of_many_results(scenes, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DEQUNMIX_NO_CACHE", "1")
    dq.unmix_many(scenes / "[ab].hdr", scenes / "model.npz", tmp_path / "out", jobs=1)
    words = ("report", tmp_path / "out" / "[ab]", "--jobs", 1, "-o", tmp_path / "pages")
    assert command(*words) == 0, capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "pages").glob("[!.]*")) == ["a.html", "b.html", "batch.csv"]
    assert command(*words) == 0 and "2 scenes: 2 kept" in capsys.readouterr().out


def test_outputs_of_other_options_or_another_state_of_a_scene_are_not_kept(scenes, tmp_path):
    one = tmp_path / "one.img"
    for suffix in (".img", ".hdr"):
        one.with_suffix(suffix).write_bytes((scenes / "a").with_suffix(suffix).read_bytes())
    words = {"jobs": 1}
    assert dq.unmix_many(one, scenes / "model.npz", tmp_path / "out", **words)[0].state == "done"
    assert dq.unmix_many(one, scenes / "model.npz", tmp_path / "out", **words)[0].state == "kept"
    row = dq.unmix_many(one, scenes / "model.npz", tmp_path / "out", scale=2.0, **words)[0]
    assert row.state == "failed" and "was made with other options" in row.sentence
    assert (
        dq.unmix_many(one, scenes / "model.npz", tmp_path / "out", overwrite=True, scale=2.0, **words)[0].state
        == "done"
    )
    assert dq.unmix_many(one, scenes / "model.npz", tmp_path / "out", scale=2.0, **words)[0].state == "kept"
    one.write_bytes((scenes / "b.img").read_bytes())
    os.utime(one, (1, 1))
    assert dq.unmix_many(one, scenes / "model.npz", tmp_path / "out", scale=2.0, **words)[0].state == "failed"


def test_a_table_of_another_kind_is_not_replaced(scenes, tmp_path):
    (tmp_path / "batch.csv").write_text("my,own,table\n1,2,3\n")
    with pytest.raises(dq.InputError, match=r"is another table \(my, own, table\)"):
        dq.unmix_many(scenes / "a.img", scenes / "model.npz", tmp_path, jobs=1)
    assert (tmp_path / "batch.csv").read_text().startswith("my,own")
    with pytest.raises(dq.InputError, match="retries is -1; expected a whole number from 0"):
        dq.unmix_many(scenes / "a.img", scenes / "model.npz", tmp_path, jobs=1, retries=-1)


def test_names_that_would_meet_differ(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = [Path(name) for name in ("p/a/b_x.npz", "p/a_b/x.npz", "q/b_x.npz", "q/x.npz")]
    names = many_scenes.names_for(places)
    assert len(set(names)) == 4
    Path("s.npz").touch()
    assert many_scenes.places_of(["s.npz", str(tmp_path / "s.npz"), "../" + tmp_path.name + "/s.npz"]) == [
        Path("s.npz")
    ]
