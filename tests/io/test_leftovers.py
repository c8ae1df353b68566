"""A process that dies at any moment, by any signal, loses no output, leaves no files and blocks no other process."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dequnmix_jax.checks import InputError
from dequnmix_jax.cli import main
from dequnmix_jax.io import disk_space, leftovers
from dequnmix_jax.io.atomic import replacing_file, replacing_folder, reserved
from dequnmix_jax.results.writer import placed_together

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

# A process that has imported everything and runs programs in forks of itself: an interpreter takes seconds to start.
SERVER = """
import json, os, signal, sys
import dequnmix_jax, dequnmix_jax.cli.unmix
# Whoever runs the tests may ignore signals (`nohup`, `&` in a script), and programs inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
for line in sys.stdin:
    asked = json.loads(line)
    if "wait" in asked:
        print(json.dumps(os.waitstatus_to_exitcode(os.waitpid(asked["wait"], 0)[1])), flush=True)
        continue
    child = os.fork()
    if child == 0:
        said = os.open(asked["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1), os.dup2(said, 2)
        sys.argv = ["program", *asked["words"]]
        try:
            exec(asked["program"], {"__name__": "program"})
            sys.stdout.flush()
            os._exit(0)
        except Exception as error:
            os.write(2, f"{type(error).__name__}: {error}".encode())
            os._exit(1)
        except SystemExit as error:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(error.code)
    print(child, flush=True)
"""

PREAMBLE = """
import os, shutil, signal, sys
from pathlib import Path
from dequnmix_jax.io import leftovers
from dequnmix_jax.io.atomic import reserved, replacing_file, replacing_folder
from dequnmix_jax.io.lock import Lock
from dequnmix_jax.results.writer import placed_together

here, kill_at, seen = Path(sys.argv[1]), sys.argv[2], {}

def watch(module, name):
    plain = getattr(module, name)
    def call(*args, **kwargs):
        number = seen[name] = seen.get(name, 0) + 1
        if kill_at == f"before {name} {number}":
            os.kill(os.getpid(), signal.SIGKILL)
        found = plain(*args, **kwargs)
        if kill_at == f"after {name} {number}":
            os.kill(os.getpid(), signal.SIGKILL)
        return found
    setattr(module, name, call)

for module, names in ((os, ("rename", "replace", "mkdir", "chmod")), (shutil, ("rmtree",)),
                      (leftovers, ("settle",)), (Lock, ("write",))):
    for name in names:
        watch(module, name)
"""

FOLDER = """
with replacing_folder(here / "out", overwrite=True) as folder:
    (folder / "a").write_text("new")
    (folder / "b").write_text("new")
"""

PAIR = """
with placed_together(here / "out", here / "page.html", "force" in sys.argv) as (folder, page):
    (folder / "summary.json").write_text("new")
    page.write_text("new")
"""


def moments(**calls):
    """Return the points at which a process may die: around every call that changes the disk."""
    return [
        f"{when} {call} {n + 1}" for call, count in calls.items() for n in range(count) for when in ("before", "after")
    ]


class Server:
    def __init__(self, folder):
        environment = os.environ | {"JAX_PLATFORMS": "cpu"}
        command = [sys.executable, "-W", "ignore", "-c", SERVER]
        self.process = subprocess.Popen(command, stdin=-1, stdout=-1, text=True, env=environment)
        self.said = folder / "said"

    def ask(self, **words):
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, program, *words):
        return self.ask(program=program, words=[str(word) for word in words], said=str(self.said))

    def end(self, child):
        """Wait for a program, and return its status and output."""
        return self.ask(wait=child), self.said.read_text()

    def run(self, program, folder, kill_at="", *words):
        return self.end(self.start(PREAMBLE + program, folder, kill_at, *words))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    found = Server(tmp_path_factory.mktemp("server"))
    yield found
    found.process.stdin.close()
    found.process.stdout.close()
    found.process.wait(timeout=60)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def texts(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def old_output(folder):
    (folder / "out").mkdir()
    for name in ("a", "b"):
        (folder / "out" / name).write_text("old")


KILLED = moments(write=2, mkdir=2, chmod=1, rename=1, replace=1, settle=1, rmtree=1)


@posix
@pytest.mark.parametrize("moment", KILLED)
def test_killed_anywhere_the_folder_is_the_old_or_the_new_one(server, tmp_path, moment):
    old_output(tmp_path)
    status, said = server.run(FOLDER, tmp_path, moment)
    assert status == -signal.SIGKILL, (status, said)  # the program comes by there
    whole = [{"a": text, "b": text} for text in ("old", "new")]
    if (tmp_path / "out").exists():
        assert texts(tmp_path / "out") in whole
    with pytest.raises(InputError, match="out exists already"), reserved(tmp_path / "out"):
        pass  # whoever comes next finds it, and nothing else
    assert texts(tmp_path / "out") in whole and names(tmp_path) == ["out"]
    assert server.run(FOLDER, tmp_path)[0] == 0
    assert texts(tmp_path / "out") == whole[1] and names(tmp_path) == ["out"]


@posix
def test_a_lost_name_is_said_when_it_is_back(server, tmp_path, capsys):
    old_output(tmp_path)
    server.run(FOLDER, tmp_path, "after rename 1")
    assert not (tmp_path / "out").exists()
    with replacing_folder(tmp_path / "out", overwrite=True):
        assert texts(tmp_path / "out") == {"a": "old", "b": "old"}  # at once, and not when the new one is complete
    said = capsys.readouterr().err
    assert said.startswith("note: ") and "out is as it was: a process was ended while" in said


@posix
@pytest.mark.parametrize("force", [(), ("force",)])
@pytest.mark.parametrize("moment", moments(write=4, mkdir=1, chmod=2, replace=2, settle=2))
def test_killed_anywhere_two_outputs_can_be_made_again(server, tmp_path, moment, force):
    if force:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "summary.json").write_text("old")
        (tmp_path / "page.html").write_text("old")
    status, said = server.run(PAIR, tmp_path, moment, *force)
    assert status == -signal.SIGKILL, (status, said)
    there = [name for name in ("out", "page.html") if (tmp_path / name).exists()]
    status, said = server.run(PAIR, tmp_path, "", *force)
    complete = not force and there == ["out", "page.html"]
    assert (status, "exists already" in said) == ((1, True) if complete else (0, False)), said
    assert names(tmp_path) == ["out", "page.html"]
    assert (tmp_path / "out" / "summary.json").read_text() == (tmp_path / "page.html").read_text() == "new"


@posix
def test_half_of_two_outputs_is_only_taken_back_by_who_makes_both(server, tmp_path):
    """Another program may be using it, or may have changed it."""
    killed = "after replace 1"
    assert server.run(PAIR, tmp_path, killed)[0] == -signal.SIGKILL
    assert (tmp_path / "out").exists() and not (tmp_path / "page.html").exists()
    with replacing_file(tmp_path / "page.html") as page:
        assert texts(tmp_path / "out") == {"summary.json": "new"}
        page.write_text("of another command")
    with pytest.raises(InputError, match="out exists already"), reserved(tmp_path / "out"):
        pass
    assert names(tmp_path) == ["out", "page.html"] and texts(tmp_path / "out") == {"summary.json": "new"}
    other = tmp_path / "other"
    other.mkdir()
    server.run(PAIR, other, killed)
    (other / "out" / "notes.txt").write_text("mine")
    status, said = server.run(PAIR, other)
    assert status == 1 and "out exists already" in said
    assert texts(other / "out") == {"summary.json": "new", "notes.txt": "mine"} and names(other) == ["out"]


@posix
def test_what_was_kept_to_make_an_output_goes_when_it_is_placed(server, tmp_path):
    program = """
(here / ".out.tiles").mkdir()
(here / ".out.tiles" / "maps.raw").write_text("large")
with reserved(here / "out") as outputs:
    outputs.part(here / "out").write_text("new")
    outputs.place(spent=[here / ".out.tiles" / "maps.raw", here / ".out.tiles"])
"""
    assert server.run(program, tmp_path, "before replace 1")[0] == -signal.SIGKILL
    (tmp_path / "out").write_text("of somebody")
    with pytest.raises(InputError, match="exists already"), reserved(tmp_path / "out"):
        pass
    assert (tmp_path / "out").read_text() == "of somebody"
    (tmp_path / "out").unlink()
    assert (tmp_path / ".out.tiles" / "maps.raw").exists()  # not placed: it is needed
    (tmp_path / ".out.tiles" / "maps.raw").unlink()
    (tmp_path / ".out.tiles").rmdir()
    assert server.run(program, tmp_path, "after replace 1")[0] == -signal.SIGKILL
    with pytest.raises(InputError, match="exists already"), reserved(tmp_path / "out"):
        pass
    assert names(tmp_path) == ["out"]


@posix
def test_files_of_others_and_of_living_processes_stay(server, tmp_path):
    mine = [".out.0123456789ab.part", ".out.backup.old", ".out.abc.part", "..out.part", ".out.part"]
    for name in mine:
        (tmp_path / name).write_text("mine")
    server.run(FOLDER, tmp_path, "before replace 1")
    assert len(names(tmp_path)) == len(mine) + 2  # its lock and its part
    ready = "\nwith reserved(here / 'out') as outputs:\n    outputs.part(here / 'out').write_text('half')\n"
    child = server.start(PREAMBLE + ready + "    import time; time.sleep(60)\n", tmp_path, "")
    part, limit = None, time.monotonic() + 30
    while part is None and time.monotonic() < limit:
        found = [path for path in tmp_path.glob(".out.*.part") if path.name not in mine and path.is_file()]
        part = next((path for path in found if path.read_text() == "half"), None)  # it is there before it is written
    assert part is not None
    with pytest.raises(InputError, match=f"Process {child} is writing"), reserved(tmp_path / "out"):
        pass
    assert part.read_text() == "half"
    os.kill(child, signal.SIGKILL)
    server.end(child)
    with replacing_file(tmp_path / "out") as new:
        new.write_text("new")
    assert names(tmp_path) == sorted([*mine, "out"]) and all((tmp_path / name).read_text() == "mine" for name in mine)


def test_a_file_that_is_no_lock_is_nobodys_to_remove(tmp_path):
    for content in ("years of work", '{"dependencies": []}', "[]"):
        (tmp_path / ".out.lock").write_text(content)
        with (
            pytest.raises(InputError, match=r"\.out\.lock is not a lock of this program"),
            replacing_file(tmp_path / "out"),
        ):
            pass
        assert (tmp_path / ".out.lock").read_text() == content
    (tmp_path / ".out.lock").write_text("12345")  # of an earlier version
    with replacing_file(tmp_path / "out"):
        pass
    assert names(tmp_path) == ["out"]


def test_an_earlier_output_whose_place_was_taken_is_kept(tmp_path, capsys):
    """A process dies between two renamings, and another program makes a folder of that name."""
    target = tmp_path / "out"
    aside = leftovers.aside_of(target, "abc")
    aside.mkdir()
    (aside / "out").write_text("old")
    leftovers.part_of(target, "abc").write_text("new")
    target.write_text("of somebody")
    said = leftovers.settle(target, "abc")
    assert texts(tmp_path) == {"out": "of somebody", "out.abc.old": "old"} and "out.abc.old now" in said[0]


def test_a_failed_replacement_puts_the_old_folder_back(tmp_path, monkeypatch):
    old_output(tmp_path)
    plain = os.replace

    def refused(source, target):
        if str(target).endswith("out"):
            raise OSError(5, "Input/output error", str(source))
        plain(source, target)

    monkeypatch.setattr(os, "replace", refused)
    with (
        pytest.raises(OSError, match="Input/output error") as error,
        replacing_folder(tmp_path / "out", overwrite=True),
    ):
        pass
    assert error.value.filename == str(tmp_path / "out")
    assert texts(tmp_path / "out") == {"a": "old", "b": "old"} and names(tmp_path) == ["out"]


def test_of_two_outputs_that_cannot_both_be_placed_neither_is(tmp_path, monkeypatch):
    plain = os.replace

    def interrupted(source, target):
        if str(target).endswith("page.html"):
            raise KeyboardInterrupt
        plain(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    with (
        pytest.raises(KeyboardInterrupt),
        placed_together(tmp_path / "out", tmp_path / "page.html", False) as (_, page),
    ):
        page.write_text("new")
    assert names(tmp_path) == []


def test_outputs_are_renamed_and_not_copied(tmp_path):
    """So no reader ever sees a partial output."""
    with replacing_file(tmp_path / "file") as part:
        part.write_text("new")
        number = part.stat().st_ino
    assert (tmp_path / "file").stat().st_ino == number
    for _ in range(2):
        with replacing_folder(tmp_path / "out", overwrite=True) as folder:
            (folder / "a").write_text("new")
            numbers = folder.stat().st_ino, (folder / "a").stat().st_ino
        assert ((tmp_path / "out").stat().st_ino, (tmp_path / "out" / "a").stat().st_ino) == numbers


# --- signals ---------------------------------------------------------------------------------------------------------

BLOCKED = """
import signal, sys, time
from pathlib import Path
from dequnmix_jax.cli import info as command, main
from dequnmix_jax.io.atomic import replacing_folder

here = Path(sys.argv[1])
if "ignored" in sys.argv:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

def info(args):
    with replacing_folder(here / "out", overwrite=True) as folder:
        (folder / "a").write_text("new")
        (here / "ready").touch()
        limit = time.monotonic() + 60
        while time.monotonic() < limit and not (here / "go").exists():
            time.sleep(0.01)

command.info = info
sys.exit(main.main(["info", "nothing"]))
"""


def blocked(server, folder, *words, program=BLOCKED):
    """Start a command that waits in the middle of an output."""
    old_output(folder)
    child = server.start(program, folder, *words)
    limit = time.monotonic() + 60
    while not (folder / "ready").exists() and time.monotonic() < limit:
        time.sleep(0.005)
    (folder / "ready").unlink()
    return child


@posix
@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_signals_that_ask_to_end_are_one(server, tmp_path, name, status):
    child = blocked(server, tmp_path)
    assert len(names(tmp_path)) == 3  # the old output, the new one half made, its lock
    os.kill(child, getattr(signal, name))
    found, said = server.end(child)
    assert found == status and said.strip() == "dequnmix: interrupted; no output is half written."
    assert names(tmp_path) == ["out"] and texts(tmp_path / "out") == {"a": "old", "b": "old"}


DROPPED = BLOCKED.replace(
    '(here / "ready").touch()',
    """
        class Waiting:
            def __del__(self):  # where an exception ends nothing
                (here / "ready").touch()
                limit = time.monotonic() + 30
                while time.monotonic() < limit:
                    time.sleep(0.01)
        waiting = Waiting()
        del waiting""",
)


@posix
def test_a_signal_that_comes_where_exceptions_are_dropped_is_not_lost(server, tmp_path):
    """As in a destructor, or when JAX collects garbage."""
    child = blocked(server, tmp_path, program=DROPPED)
    os.kill(child, signal.SIGTERM)
    status, said = server.end(child)
    assert status == 143 and said.strip() == "dequnmix: interrupted; no output is half written."
    assert names(tmp_path) == ["out"] and texts(tmp_path / "out") == {"a": "old", "b": "old"}


DISTRIBUTED = BLOCKED.replace(
    '(here / "ready").touch()',
    """
        from dequnmix_jax.parallel.processes import join
        join()
        (here / "ready").touch()""",
)


@posix
def test_jax_does_not_take_a_signal_for_itself(server, tmp_path):
    """With several processes, JAX would only record SIGTERM, and the process would continue."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0"}
    child = blocked(server, tmp_path, program=f"import os\nos.environ |= {words}\n{DISTRIBUTED}")
    os.kill(child, signal.SIGTERM)
    assert server.end(child)[0] == 143
    assert names(tmp_path) == ["out"] and texts(tmp_path / "out") == {"a": "old", "b": "old"}


@posix
def test_a_signal_that_is_ignored_stays_so(server, tmp_path):
    """As under `nohup`."""
    child = blocked(server, tmp_path, "ignored")
    os.kill(child, signal.SIGHUP)
    time.sleep(0.1)
    (tmp_path / "go").touch()
    assert server.end(child) == (0, "")
    assert texts(tmp_path / "out") == {"a": "new"}


@posix
def test_handlers_are_as_they_were_after_a_command(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert main.main(["info", str(tmp_path / "nothing.npz")]) == 1
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


# --- a full disk -----------------------------------------------------------------------------------------------------


def test_bytes_in_words():
    found = [disk_space.in_words(count) for count in (0, 999, 1000, 1234, 99_400, 999_499, 1_000_000, 3.7e9, 2e12)]
    assert found == ["0 B", "999 B", "1 kB", "1.2 kB", "99 kB", "999 kB", "1 MB", "3.7 GB", "2 TB"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_says_which_file_where_and_how_much_is_free(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 4096, "total": 2 * 10**9})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)

    def fills(path, needed=None):
        with disk_space.writing(path, needed), open("/dev/full", "wb", buffering=0) as file:  # noqa: PTH123
            file.write(bytes(10))  # the system's own error: it has no name

    with pytest.raises(OSError, match="No space left on device") as error:
        fills(tmp_path / "maps.raw", 5_000_000)
    free = f"4.1 kB of 2 GB free in the file system of {tmp_path}"
    assert error.value.strerror == f"No space left on device (5 MB needed, {free})"
    assert error.value.filename == str(tmp_path / "maps.raw")
    with (
        pytest.raises(OSError, match="No space left on device") as error,
        replacing_folder(tmp_path / "out") as folder,
    ):
        fills(folder / "abundances.img")
    assert error.value.strerror == f"No space left on device ({free})"  # of the folder that the user knows
    assert error.value.filename == str(tmp_path / "out" / "abundances.img")
    with pytest.raises(OSError, match="No space") as error, replacing_file(tmp_path / "x"):
        raise OSError(28, "No space left on device")  # whoever forgot to say of what
    assert error.value.filename == str(tmp_path / "x") and free in error.value.strerror
    assert names(tmp_path) == []


def test_other_errors_are_not_about_the_output(tmp_path):
    for wrong in (OSError("words of its own"), OSError(111, "Connection refused"), FileNotFoundError(2, "No", "input")):
        with pytest.raises(type(wrong)) as error, replacing_file(tmp_path / "x"):
            raise wrong
        assert error.value is wrong
    assert main.sentence_of(OSError("words of its own")).startswith("words of its own: an output.")


@posix
@pytest.mark.parametrize("limit", [400, 6_000, 40_000])
def test_a_disk_that_fills_on_the_way_is_one_sentence(server, tmp_path, limit):
    """A limit on the file size simulates it: any written file may be the one that fails."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "s.npz", cube=rng.uniform(0.1, 0.9, (40, 30, 10)).astype(np.float32))
    program = f"""
import resource
from dequnmix_jax.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
sys.exit(main.main(["convert", str(here / "s.npz"), "-o", str(here / "x.img")]))
"""
    status, said = server.run(program, tmp_path)
    assert status == 1 and said.count("\n") <= 2 and "fault of the program" not in said, said
    assert "File too large (" in said and f"free in the file system of {tmp_path}" in said and "x.img" in said
    assert names(tmp_path) == ["s.npz"]
