"""How the files are read: by the functions of the command line."""

from pathlib import Path

from dequnmix_jax.io import formats
from dequnmix_jax.scenes.scene import check_scene, mask_invalid
from dequnmix_jax.scenes.source import Window
from dequnmix_jax.training import checkpoint
from dequnmix_jax.training.checkpoint import check_params, model_from


def read_scene(path: Path) -> None:
    """Read a scene as `dequnmix info` does, and a window of it as tiles do."""
    source = formats.open_source(path)
    height, width, _ = source.shape
    source.read(Window(slice(height // 2, height), slice(0, max(1, width // 2))), source.good_bands)
    scene = formats.read(path).with_good_bands()
    scene.bands_nearest()
    check_scene(mask_invalid(scene))


def read_reference(path: Path) -> None:
    """Read a scene and the reference beside it."""
    try:
        formats.read_truth(path)
    finally:
        read_scene(path)


def read_checkpoint(path: Path) -> None:
    """Read a checkpoint as `unmix` does."""
    params, metadata = checkpoint.load(path)
    checkpoint.check_matches(params)
    check_params(params, model_from(metadata, path), path)
