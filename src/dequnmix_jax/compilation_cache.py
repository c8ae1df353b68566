"""Keep compiled programs between processes, in the user's cache folder."""

import os
import sys
import tempfile
from pathlib import Path

NO_CACHE = "DEQUNMIX_NO_CACHE"
"""Environment variable: 1 keeps no compiled program in the user's cache folder."""

_PROGRAMS = "programs"


def enable_compilation_cache(folder: str | os.PathLike[str] | None = None) -> Path | None:
    """Keep every compiled program on disk, so that the next process does not compile it again.

    The command line does this by itself. A program belongs to one shape of scene (small scenes: to a range of sizes,
    `scenes.padding`), one version of JAX and one kind of processor. Call it before anything is compiled. A folder that
    was chosen before (`jax_compilation_cache_dir`, or the variable JAX_COMPILATION_CACHE_DIR) stays. On CPUs the
    programs that `fit`, `run` and the command line spend most time on are stored as they run, in `programs` there
    (`ops.stored_programs`), and are not even traced again. Programs are executed as they are read: name a folder that
    only you can write to.

    Args:
        folder: where; None: `dequnmix_jax/jax` in the user's cache folder.

    Returns:
        The folder, or None where it cannot be written: then nothing is kept, and only time is lost.
    """
    import jax

    from dequnmix_jax.ops import stored_programs

    # Small programs too: compiling all of them again costs seconds, and each is a few kilobytes.
    threshold = "jax_persistent_cache_min_compile_time_secs"
    if getattr(jax.config, threshold) == 1.0:  # the default of JAX: nobody has chosen another
        jax.config.update(threshold, 0.0)
    chosen = getattr(jax.config, "jax_compilation_cache_dir", None)
    if chosen is not None:
        if "://" not in chosen:  # JAX can keep its cache in a bucket, too
            stored_programs.use(Path(chosen) / _PROGRAMS)
        return Path(chosen)
    try:
        place = user_cache() / "dequnmix_jax" / "jax" if folder is None else Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):  # permissions alone do not show a full or read-only disk
            pass
    except (OSError, RuntimeError):
        return None
    jax.config.update("jax_compilation_cache_dir", str(place))
    stored_programs.use(place / _PROGRAMS)
    return place


def user_cache() -> Path:
    """Return the user's cache folder, where the platform has it."""
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        return Path(chosen)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
