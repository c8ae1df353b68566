"""Several processes on one scene over the loopback: the result of one process, and a killed job that continues."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.datasets import synthetic
from dequnmix_jax.equilibrium import config
from dequnmix_jax.io.envi.writer import write_image
from dequnmix_jax.parallel import processes as parallel_processes
from dequnmix_jax.training import checkpoint
from dequnmix_jax.training import config as training_config
from dequnmix_jax.training.checkpoint import model_metadata

H, W, B, R = 60, 20, 10, 3


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """Return a folder with a scene, a model and the result of one process."""
    folder = tmp_path_factory.mktemp("job")
    spectra = synthetic.spectra(jax.random.key(1), R, B)
    cube = np.asarray(synthetic.linear_scene(jax.random.key(0), (H, W), spectra, 30.0).cube)
    write_image(folder / "scene.img", cube)
    chosen = config.Model(gradient=dq.equilibrium.Energy(width=4))
    params = dq.init(jax.random.key(2), jnp.asarray(cube), chosen, endmembers=spectra)
    params["network"]["energy"]["gain"] = jnp.full(4, 0.1)
    scene = dq.read(folder / "scene.img")
    history = dq.fit(jax.random.key(0), jnp.asarray(cube), chosen, training_config.Training(epochs=0), count=R)[1]
    metadata = model_metadata(scene, chosen, training_config.Training(epochs=0), training_config.Rates(), 0, history)
    checkpoint.save(folder / "model.npz", jax.tree.map(np.asarray, params), metadata)
    done = run(folder, "one")
    said = done.communicate(timeout=120)
    assert done.returncode == 0, said
    return folder


def run(folder, output, rank=0, size=1, port=None, **more):
    """Start a process of a job of `size` processes."""
    environment = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS",)} | more
    command = ["unmix", "scene.img", "model.npz", "--tile", "10", "--halo", "6", "--no-plots", "-o", output]
    if size > 1:
        command.append("--distributed")
        environment |= {
            "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
            "JAX_NUM_PROCESSES": str(size),
            "JAX_PROCESS_ID": str(rank),
        }
    return subprocess.Popen(
        [sys.executable, "-m", "dequnmix_jax", *command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def together(folder, output, size, **more):
    port = free_port()
    return [run(folder, output, rank, size, port, **more) for rank in range(size)]


def same(folder, a, b):
    for name in ("abundances.img", "brightness.img", "residual.img", "convergence.img", "estimate.npz"):
        assert (folder / a / name).read_bytes() == (folder / b / name).read_bytes(), name


@pytest.mark.parametrize("size", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_divide_the_tiles_and_write_what_one_writes(job, size):
    output = f"{size} processes"
    processes = together(job, output, size)
    told = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [0] * size, told
    assert told[0][0].startswith("12 tiles") and not any(out for out, _ in told[1:])  # the first one speaks for all
    assert json.loads((job / output / "summary.json").read_text())["processes"] == size
    same(job, "one", output)
    assert not list(job.glob(f".{output}*"))  # nothing is left beside it


def test_a_killed_process_leaves_a_state_that_can_be_resumed(job):
    """If one is killed, the others end too; the same command, with one process or two, continues."""
    first, second = together(job, "killed", 2)
    records = job / ".killed.tiles" / "done.jsonl.1"
    until = time.monotonic() + 120
    while not (records.exists() and records.stat().st_size) and second.poll() is None and time.monotonic() < until:
        time.sleep(0.002)
    second.send_signal(signal.SIGKILL)
    first.send_signal(signal.SIGKILL)  # as the scheduler of a cluster does; without one it takes half a minute
    first.communicate(), second.communicate()
    if (job / "killed").exists():
        pytest.skip("the job was over before it was killed")
    assert (job / ".killed.tiles" / "maps.raw").exists()
    process = run(job, "killed")
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0 and "tiles were finished by an earlier run" in said, said
    same(job, "one", "killed")


def test_a_failure_of_one_is_said_by_the_others(tmp_path):
    alone, second = parallel_processes.Team(0, 2, "t"), parallel_processes.Team(1, 2, "t")
    target = tmp_path / "out"
    with pytest.raises(KeyError), parallel_processes.together(second, target, "prepared"):
        raise KeyError
    with (
        pytest.raises(dq.InputError, match="Process 1 of 2 failed"),
        parallel_processes.together(alone, target, "prepared"),
    ):
        pass
    assert parallel_processes.Team(1, 3).mine(list(range(7))) == [1, 4]


def test_without_a_cluster_it_says_what_to_set(job):
    done = subprocess.run(
        [sys.executable, "-m", "dequnmix_jax", "unmix", "scene.img", "model.npz", "-o", "x", "--distributed"],
        cwd=job,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "JAX_COORDINATOR_ADDRESS" in done.stderr and done.stderr.count("\n") == 1


EXPERIMENT = """
from dataclasses import dataclass
from experiments.shared import results_table as tables

@dataclass(frozen=True)
class Settings:
    scenes: tuple[str, ...] = ("a", "b", "c")

def main(settings, folder):
    rows = [{"scene": name, "figure": 1.5, "figure_sd": 0.25} for name in settings.scenes]
    return tables.write(folder, "made_up", rows, "python -m made_up", f"A note. {settings}")

tables.command_line("Made up.", main, Settings(), Settings(("a",)))
"""


def test_processes_divide_the_scenes_of_an_experiment(tmp_path):
    (tmp_path / "made_up.py").write_text(EXPERIMENT)
    root = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    port = free_port()
    processes = [
        subprocess.Popen(
            [sys.executable, "made_up.py", "--distributed", "-o", "found"],
            cwd=tmp_path,
            env=os.environ
            | {"PYTHONPATH": paths, "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}"}
            | {"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    told = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    rows = [line for line in (tmp_path / "found" / "made_up.md").read_text().splitlines() if line.startswith("| ")]
    assert rows == ["| scene | figure |", "| a | 1.5 (0.25) |", "| b | 1.5 (0.25) |", "| c | 1.5 (0.25) |"]
    assert (tmp_path / "found" / "made_up.csv").read_text().split() == ["scene,figure,figure_sd", *(
        f"{name},1.5,0.25" for name in "abc"
    )]  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "found").iterdir()) == ["made_up.csv", "made_up.md"]
