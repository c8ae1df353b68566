"""Compiled programs are kept where a user keeps caches, the small ones too, and what was chosen stays."""

import jax
import pytest

import dequnmix_jax as dq
from dequnmix_jax import compilation_cache

NAMES = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


@pytest.fixture
def settings(monkeypatch):
    """Start from JAX's own settings, and give back those of the test process."""
    before = {name: getattr(jax.config, name) for name in NAMES}
    jax.config.update(NAMES[0], None)
    jax.config.update(NAMES[1], 1.0)
    yield monkeypatch
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.mark.parametrize(
    ("platform", "variable", "tail"),
    [("linux", None, ".cache"), ("darwin", None, "Library/Caches"), ("win32", "LOCALAPPDATA", "Local")],
)
def test_each_platform_has_its_own_cache_folder(platform, variable, tail, monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(compilation_cache.sys, "platform", platform)
    monkeypatch.setattr(compilation_cache.Path, "home", lambda: tmp_path)
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / tail))
    assert compilation_cache.user_cache() == tmp_path / tail


def test_the_cache_lies_where_the_user_keeps_caches(settings, tmp_path):
    (tmp_path / "file").write_text("")
    settings.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # no folder can be made there
    assert dq.enable_compilation_cache() is None
    assert jax.config.jax_compilation_cache_dir is None
    settings.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert dq.enable_compilation_cache() == tmp_path / "dequnmix_jax" / "jax"
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "dequnmix_jax" / "jax")
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 0


def test_a_choice_that_was_made_stays(settings, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "mine"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 3.0)
    assert dq.enable_compilation_cache(tmp_path / "other") == tmp_path / "mine"
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 3.0
    assert not (tmp_path / "other").exists()
