"""A stored program runs in the next process without being traced; one that cannot be used is compiled as usual."""

import os
import subprocess
import sys
from dataclasses import dataclass

import pytest

from dequnmix_jax.ops.stored_programs import _described, _remove_oldest

PROGRAM = """
import sys
from pathlib import Path
import jax
import jax.numpy as jnp
import numpy as np
from dequnmix_jax.ops import stored_programs
from dequnmix_jax.ops.quick_compile import quick_jit

def values(x, power, *, offset):
    print("traced", end=" ")
    return {"values": jnp.linalg.eigh(x)[0] ** power + offset}

def call(power=2, size=3, dtype=np.float32):
    x = np.diag(np.arange(1, size + 1)).astype(dtype)
    answer = quick_jit(lambda *_, **__: "quick", static_argnums=1)(values)(x, power, offset=jnp.zeros((), dtype))
    print(np.asarray(answer["values"]).round(4).tolist(), end=" ")

if sys.argv[1] == "cached":  # JAX's own cache has the program already
    jax.config.update("jax_compilation_cache_dir", sys.argv[2])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    if sys.argv[3:]:
        stored_programs.use(Path(sys.argv[2]) / "programs")
    call()
else:
    stored_programs.use(Path(sys.argv[2]))
    exec(sys.argv[1])
"""


def output_of(*arguments):
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}  # one device
    environment["OPENBLAS_NUM_THREADS"] = "1"
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_the_next_process_does_not_trace(tmp_path):
    """Each kind of argument that determines a program has a program of its own, and a damaged file is not used."""
    all_calls = "call(); call(3); call(size=4); call(); values.__qualname__ = 'other'; call()"
    first = output_of(all_calls, tmp_path)
    answers = ["[1.0, 4.0, 9.0]", "[1.0, 8.0, 27.0]", "[1.0, 4.0, 9.0, 16.0]", "[1.0, 4.0, 9.0]", "[1.0, 4.0, 9.0]"]
    traced = ["traced ", "traced ", "traced ", "", ""]  # the last has a file of its own; JAX remembers the trace
    assert first == " ".join(t + a for t, a in zip(traced, answers, strict=True))
    assert output_of(all_calls, tmp_path) == " ".join(answers)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 4
    content = files[0].read_bytes()
    for file in files:
        file.write_bytes(file.read_bytes()[:-100] + b"\0" * 100)
    assert output_of("call()", tmp_path) == f"traced {answers[0]}"
    for file in files:
        file.write_bytes(content[:10])
    setting = "jax.config.update('jax_numpy_rank_promotion', 'allow'); call()"
    assert output_of(setting, tmp_path) == f"traced {answers[0]}"
    assert len(list(tmp_path.iterdir())) == 5
    another_user = "import os; os.getuid = lambda: -1; call()"
    assert output_of("call()", tmp_path) == f"traced {answers[0]}"
    assert output_of("call()", tmp_path) == answers[0]
    assert output_of(another_user, tmp_path) == f"traced {answers[0]}"


def test_a_program_from_the_cache_of_jax_is_not_stored(tmp_path):
    """XLA would write it without its code, and it would fail when it runs."""
    assert output_of("cached", tmp_path) == "traced [1.0, 4.0, 9.0]"
    for _ in range(2):
        assert output_of("cached", tmp_path, "store") == "traced [1.0, 4.0, 9.0]"
    assert not list(tmp_path.glob("programs/*"))


def test_what_is_no_argument_of_a_program_is_not_stored(tmp_path):
    """Rounded operands of convolutions, and the search for NaN."""
    plain = output_of("call()", tmp_path)
    assert plain == "traced [1.0, 4.0, 9.0]"
    within = "from dequnmix_jax.ops.convolution import rounded_operands\nwith rounded_operands(lambda x: x): call()"
    assert output_of(within, tmp_path) == plain
    assert output_of("jax.config.update('jax_debug_nans', True); call()", tmp_path) == plain
    assert len(list(tmp_path.iterdir())) == 1


def test_threads_leave_the_settings_of_jax(tmp_path):
    script = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(4) as pool: list(pool.map(call, range(2, 6)))\n"
        "print(jax.config.jax_persistent_cache_min_compile_time_secs)"
    )
    assert output_of(script, tmp_path).splitlines()[-1].endswith(" 1.0")


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path):
    (tmp_path / "file").write_text("")
    assert output_of("call()", tmp_path / "file" / "programs") == "traced [1.0, 4.0, 9.0]"


@dataclass(frozen=True)
class Choice:
    memory: int
    name: str | None = None


def test_a_static_argument_is_described_by_its_values():
    assert _described((Choice(5), {"a": 1.0})) == _described((Choice(5), {"a": 1.0}))
    different = [Choice(5), Choice(6), Choice(5, "x"), (5, None), [5, None], 5, 5.0, "5", True, 1]
    assert len({repr(_described(value)) for value in different}) == len(different)
    with pytest.raises(TypeError, match="function has no description"):
        _described((Choice(5), lambda x: x))


def test_the_programs_that_were_not_used_for_longest_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("dequnmix_jax.ops.stored_programs.LARGEST_FOLDER", 250)
    for age, name in enumerate(("new", "middle", "old")):
        (tmp_path / name).write_bytes(b"x" * 100)
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    _remove_oldest(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"new", "middle"}
