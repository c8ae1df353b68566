"""Training that is interrupted and continued has the same bits; only one process writes; a full disk loses nothing."""

import itertools
import os
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.checks import InputError
from dequnmix_jax.cli import main
from dequnmix_jax.io.atomic import reserved
from dequnmix_jax.training import checkpoint, resume

H, W, B, R = 6, 7, 12, 3
CONFIG = dq.Model(gradient=dq.equilibrium.Energy(width=2))
CHOICES = dq.Training(epochs=12, endmembers_first=0.67, judged=True)
TIMEOUT = 240


def scene():
    spectra = np.random.default_rng(0).uniform(0.1, 0.9, (R, B))
    maps = np.random.default_rng(1).dirichlet(np.ones(R), (H, W))
    return (maps @ spectra).astype(np.float32)


def train(path, seed=0, every=0.0, replace=False, **changes):
    given = {"count": R, "keep": None if path is None else resume.Keep(path, every, replace)} | changes
    return resume.resumable_fit(jax.random.key(seed), jax.numpy.asarray(scene()), CONFIG, CHOICES, **given)


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert np.asarray(x).dtype == np.asarray(y).dtype
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


class Stop(Exception):  # noqa: N818
    """An exception that simulates the end of a process."""


@pytest.fixture
def pieces(monkeypatch):
    monkeypatch.setattr(resume, "_LARGEST_PIECE", 4)


def stopping(after):
    def on_progress(history):
        if history.loss.size == after:
            raise Stop

    return on_progress


def test_a_training_that_goes_on_gives_the_same_bits(tmp_path, pieces):
    whole = train(None)
    path = tmp_path / "kept"
    for steps in (8, 12):
        with pytest.raises(Stop):
            train(path, on_progress=stopping(steps))  # called before the piece is kept
    assert checkpoint.load(path)[0]["history"]["loss"].shape == (8,)
    same(train(path), whole)
    steps = []
    same(train(path, on_progress=lambda history: steps.append(history.loss.size)), whole)
    assert steps == [12]

    losses = []
    train(None, on_progress=lambda history: losses.append(history.loss.tolist()))
    assert [len(known) for known in losses] == [0, 4, 8, 12]
    for known, more in itertools.pairwise(losses):
        assert more[: len(known)] == known  # the later steps come last
    assert list(tmp_path.iterdir()) == [path]


def test_an_interruption_keeps_what_was_done(tmp_path, pieces):
    def interrupt(history):
        if history.loss.size == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="continues from step 4"):
        train(tmp_path / "kept", every=1e9, on_progress=interrupt)
    same(train(tmp_path / "kept"), train(None))


def test_a_training_of_something_else_is_replaced_on_request_only(tmp_path, pieces):
    path = tmp_path / "kept"
    with pytest.raises(Stop):
        train(path, on_progress=stopping(8))
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"another seed; expected the same call\. Repeat that call to continue"):
        train(path, seed=1)
    with pytest.raises(InputError, match="another start, rates"):
        train(path, count=2, rates=dq.Rates(spread=1.0))
    assert path.read_bytes() == before
    same(train(path, seed=1, replace=True), train(None, seed=1))


@pytest.fixture
def kept(tmp_path, pieces):
    """Return a file that keeps 8 steps of a training."""
    with pytest.raises(Stop):
        train(tmp_path / "kept", on_progress=stopping(12))  # called before the piece is kept
    return tmp_path / "kept"


@pytest.mark.parametrize("how", ["text", "model", "folder"])
def test_what_is_no_training_of_ours_is_refused(tmp_path, how, pieces):
    """The file is not changed, because it may be needed."""
    path = tmp_path / "kept"
    if how == "text":
        path.write_text("years of work")
    elif how == "model":
        checkpoint.save(path, {"endmembers": np.ones((R, B))}, {"model": {}})
    else:
        path.mkdir()
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(InputError, match=r"kept( there)?|a folder"):
        train(path)
    assert before is None or path.read_bytes() == before


@pytest.mark.parametrize("how", ["truncated", "value", "shape", "history", "nested"])
def test_a_damaged_training_begins_again_with_a_sentence(kept, how, pieces, capsys):
    held, metadata = checkpoint.load(kept)
    whole = kept.read_bytes()
    if how == "truncated":
        kept.write_bytes(whole[: len(whole) // 2])
    else:
        if how == "value":
            held["state"]["003"] = held["state"]["003"] + np.ones((), held["state"]["003"].dtype)
        elif how == "shape":
            held["state"]["003"] = np.ones(3)
        elif how == "history":
            held["history"]["loss"] = np.ones(3, np.float32)
        else:
            held["state"]["003"] = {"deeper": np.ones(3)}
        checkpoint.save(kept, held, metadata, overwrite=True)
    steps = []
    found = train(kept, on_progress=lambda history: steps.append(history.loss.size))
    said = capsys.readouterr().err
    assert steps == [0, 4, 8, 12] and said.count("warning:") == 1 and "is damaged, and starts again" in said
    same(found, train(None))
    same(train(kept), found)  # and what it keeps now is whole


def test_one_byte_changed_anywhere_never_goes_on_from_other_numbers(kept, capsys):
    key, cube = jax.random.key(0), jax.numpy.asarray(scene())
    marks = resume.fingerprint(key, cube, CONFIG, CHOICES, dq.RECOMMENDED[1], count=R)

    def shapes():
        return jax.eval_shape(lambda k, c: dq.training.fitting.begin(k, c, CONFIG, count=R), key, cube)

    whole, held = kept.read_bytes(), resume._read(kept, marks, shapes, False)
    found = []
    for place in np.random.default_rng(0).integers(0, len(whole), 60):
        kept.write_bytes(whole[:place] + bytes([whole[place] ^ 64]) + whole[place + 1 :])
        try:
            read = resume._read(kept, marks, shapes, False)
        except InputError:
            read = "refused"
            assert place < 100, place
        said = capsys.readouterr().err
        if read is None:
            assert "is damaged, and starts again" in said
        elif read != "refused":  # a byte that is not looked at, as a time in the archive
            same(read[1], held[1])
            same(read[0]._replace(key=0), held[0]._replace(key=0))
        found.append(read is None)
    assert sum(found) > 30


def test_a_training_with_another_mask_is_another(kept):
    mask = np.ones((H, W), bool)
    mask[0, 0] = False
    with pytest.raises(InputError, match="of another scene"):
        train(kept, mask=jax.numpy.asarray(mask))


def test_a_full_disk_does_not_end_a_training(tmp_path, pieces, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(np, "savez_compressed", full)
        found = train(tmp_path / "kept")
    same(found, train(None))
    said = capsys.readouterr().err
    assert "cannot be kept" in said and "No space left on device" in said
    assert not list(tmp_path.iterdir())


# --- as a user types it ----------------------------------------------------------------------------------------------


@pytest.fixture
def typed(tmp_path):
    np.savez(tmp_path / "s.npz", cube=scene())
    (tmp_path / "c.toml").write_text("[model]\nwidth = 2\n[training]\nepochs = 40\n")
    words = ["fit", str(tmp_path / "s.npz"), "--endmembers", str(R), "--config", str(tmp_path / "c.toml")]
    words += ["--start", "vca"]
    return [*words, "--checkpoint", "0", "-o", str(tmp_path / "m.npz")]


def start(words, **more):
    return subprocess.Popen(
        [sys.executable, "-m", "dequnmix_jax", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


def end(process):
    out, said = process.communicate(timeout=TIMEOUT)
    return process.returncode, out, said


def changed(path, before, process):
    limit = time.monotonic() + TIMEOUT
    while process.poll() is None and time.monotonic() < limit:
        if path.exists() and path.stat().st_mtime_ns != before:
            return True
        time.sleep(0.002)
    return False


def test_killed_at_random_moments_it_gives_the_same_bits(tmp_path, typed):
    draw = random.Random(0)
    kept, kills = resume.kept_beside(tmp_path / "m.npz"), 0
    for _ in range(3):
        process = start(typed)
        changed(kept, kept.stat().st_mtime_ns if kept.exists() else 0, process)
        time.sleep(draw.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        kills += end(process)[0] == -signal.SIGKILL
    assert kills and not (tmp_path / "m.npz").exists()
    status, _, said = end(start(typed))
    assert status == 0 and "note: Training resumes at step" in said
    whole = [*typed[:-1], str(tmp_path / "w.npz")]
    assert end(start(whole))[0] == 0
    same(checkpoint.load(tmp_path / "m.npz")[0], checkpoint.load(tmp_path / "w.npz")[0])
    names = {path.name for path in tmp_path.iterdir()}
    assert names <= {"s.npz", "c.toml", "m.npz", "w.npz"}, names


def test_two_processes_do_not_write_one_output(tmp_path, typed, capsys):
    with reserved(tmp_path / "m.npz"):
        assert main.main(typed) == 1
    said = capsys.readouterr().err
    assert f"Process {os.getpid()} is writing" in said and said.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"s.npz", "c.toml"}


def test_a_full_disk_and_a_folder_that_cannot_be_written(tmp_path, typed):
    (tmp_path / "m.npz").write_text("old")

    words = [*typed, "--force", "--epochs", "2"]
    # One block is more than the lock needs, and less than a model.
    full = ["bash", "-c", 'ulimit -f 1; exec "$@"', "bash", sys.executable, "-m", "dequnmix_jax", *words]
    environment = os.environ | {"DEQUNMIX_NO_CACHE": "1", "JAX_COMPILATION_CACHE_DIR": ""}
    status, out, said = end(subprocess.Popen(full, stdout=-1, stderr=-1, text=True, env=environment))
    lines = [line for line in said.splitlines() if not line.startswith(("warning: ", "note: ", "training: "))]
    assert status == 1 and not out and len(lines) == 1, said
    assert "File too large" in lines[0] and "m.npz" in lines[0]
    assert (tmp_path / "m.npz").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"s.npz", "c.toml", "m.npz"}
    status, _, said = end(start([*typed[:-1], "/proc/m.npz"]))
    assert status == 1 and said.count("\n") == 1 and "/proc/m.npz" in said
