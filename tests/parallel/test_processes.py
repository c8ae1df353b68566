"""Several processes of one job divide the scenes of an experiment, over the loopback."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import dequnmix_jax as dq
from experiments.shared.together import together


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_failure_of_one_is_said_by_the_others(tmp_path):
    alone, second = dq.parallel.Team(0, 2, "t"), dq.parallel.Team(1, 2, "t")
    target = tmp_path / "out"
    with pytest.raises(KeyError), together(second, target, "prepared"):
        raise KeyError
    with (
        pytest.raises(dq.InputError, match="Process 1 of 2 failed"),
        together(alone, target, "prepared"),
    ):
        pass


def test_without_a_cluster_it_says_what_to_set():
    code = (
        "import dequnmix_jax as dq\ntry:\n    dq.parallel.join_team()\nexcept dq.InputError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "JAX_COORDINATOR_ADDRESS" in done.stdout and done.stdout.count("\n") == 1


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
