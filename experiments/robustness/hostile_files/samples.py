"""The content of valid files, and how often it is damaged."""

import numpy as np

from experiments.robustness.mutations import Random, Tree, spoil_bytes, spoil_tree

H, W, B, R = 6, 5, 9, 3
CENTRES = np.linspace(450.0, 2400.0, B)
CUBE = np.random.default_rng(0).uniform(0.05, 0.6, (H, W, B)).astype(np.float32)
MAPS = np.random.default_rng(1).dirichlet(np.ones(R), (H, W)).astype(np.float32)
SPECTRA = np.random.default_rng(2).uniform(0.1, 0.9, (R, B)).astype(np.float32)


def often(draw: Random, tree: Tree) -> Tree:
    """Spoil named arrays in two cases of three."""
    return spoil_tree(draw, tree) if draw.random() < 0.65 else tree


def perhaps(draw: Random, data: bytes) -> bytes:
    """Spoil bytes in one case of three."""
    return spoil_bytes(draw, data) if draw.random() < 0.35 else data
