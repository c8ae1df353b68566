"""Checkpoints of a trained model."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from dequnmix_jax.training.words import words_of
from experiments.robustness.hostile_files.numpy_files import archive
from experiments.robustness.hostile_files.samples import CUBE, SPECTRA, often, perhaps
from experiments.robustness.mutations import Random, Tree, spoil_json_text

_CHECKPOINT: list[tuple[Tree, dict[str, Any]]] = []


def _checkpoint_seed() -> tuple[Tree, dict[str, Any]]:
    import jax

    import dequnmix_jax as dq

    config = dq.Model(gradient=dq.equilibrium.Energy(width=2))
    params = dq.init(jax.random.key(0), jax.numpy.asarray(CUBE), config, endmembers=jax.numpy.asarray(SPECTRA))
    leaves = {
        "params/" + "/".join(str(key.key) for key in path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    header = {"format": 1, "written_by": "dequnmix_jax", "version": "1", "empty": []}
    header["metadata"] = {"model": words_of(config), "seed": 0, "ignore": [], "bands": None}
    return leaves, header


def make_checkpoint(draw: Random, folder: Path) -> Path:
    """Make a checkpoint."""
    if not _CHECKPOINT:
        _CHECKPOINT.append(_checkpoint_seed())
    leaves, header = _CHECKPOINT[0]
    text = json.dumps(header).encode()
    if draw.random() < 0.6:
        text = spoil_json_text(draw, text)
    tree = often(draw, leaves | {"checkpoint.json": np.array(text.decode("utf-8", "replace"))})
    path = folder / "m.npz"
    path.write_bytes(perhaps(draw, archive(draw, tree)))
    return path
