"""`env`, `completion`, `--log-file` and `--verbose`: what a report of a fault needs."""

import json
import logging
import sys

import jax
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.cli import env, main


def run(*words):
    return main.main([str(word) for word in words])


@pytest.fixture
def scene(tmp_path):
    path = tmp_path / "scene.npz"
    np.savez(path, cube=np.full((3, 4, 5), 0.3, np.float32), wavelengths_nm=np.linspace(400, 900, 5))
    return path


def test_env_states_versions_devices_and_cache(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    (tmp_path / "program").write_bytes(b"1234")
    assert run("env", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["packages"]["dequnmix-jax"] == dq.__version__ and found["packages"]["jax"] == jax.__version__
    assert found["devices"] == [f"{d.platform} {d.device_kind}" for d in jax.devices()]
    assert found["cache"] == {"folder": str(tmp_path), "files": 1, "bytes": 4}
    assert run("env") == 0
    text = capsys.readouterr().out
    assert f"jax: {jax.__version__}" in text and f"JAX_COMPILATION_CACHE_DIR={tmp_path}" in text


def test_env_reports_a_broken_driver_and_a_missing_package(monkeypatch):
    def fails():
        raise RuntimeError("no driver")

    monkeypatch.setattr(jax, "devices", fails)
    monkeypatch.setattr(env, "PACKAGES", ("no-such-package",))
    found = env.environment()
    assert found["devices"] == ["none: RuntimeError: no driver"] and found["packages"] == {"no-such-package": None}


def test_a_log_holds_command_messages_and_end(scene, tmp_path, capsys):
    log = tmp_path / "run.log"
    assert run("info", scene, "--log-file", log) == 0
    assert run("info", tmp_path / "no\x1b[2Jwhere", "--log-file", log) == 1
    err = capsys.readouterr().err
    text = log.read_text(encoding="utf-8")
    assert text.count("command: dequnmix info") == 2 and text.count("ended after") == 2
    assert "exit status 0" in text and "exit status 1" in text
    assert err.strip() in text and "Traceback" in text and "Traceback" not in err
    assert "\x1b" not in text
    assert not logging.getLogger("dequnmix_jax").handlers and sys.stderr.write


def test_a_log_that_cannot_be_written(scene, tmp_path, capsys):
    assert run("info", scene, "--log-file", tmp_path / "missing" / "run.log") == 1
    out, err = capsys.readouterr()
    assert "cannot be written" in err and len(err.splitlines()) == 1 and out == ""


def test_verbose_shows_the_traceback(tmp_path, capsys):
    assert run("info", tmp_path / "nowhere", "-v") == 1
    err = capsys.readouterr().err
    assert "Traceback" in err and err.splitlines()[-1].startswith("dequnmix: ")


def test_completion_knows_commands_and_options(capsys):
    pytest.importorskip("shtab", reason="pip install 'dequnmix-jax[completion]'")
    assert run("completion", "bash") == 0
    script = capsys.readouterr().out
    assert "endmembers" in script and "--library-scale" in script


def test_completion_says_what_is_missing(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert run("completion", "zsh") == 1
    assert "dequnmix-jax[completion]" in capsys.readouterr().err
