"""Adapters for the packages `bm3d` and `bm4d`, the denoisers with which plug-and-play unmixing was published.

Dabov, Foi, Katkovnik and Egiazarian, Image denoising by sparse 3-D transform-domain collaborative filtering, IEEE TIP
16(8), 2007 (each map separately); Maggioni, Katkovnik, Egiazarian and Foi, IEEE TIP 22(1), 2013 (BM4D: all maps as one
volume). Both packages are free for non-commercial use only: the package does not depend on them, and the experiments
use them if they are installed (extra `noncommercial`). Nothing guessed: their default profiles.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dequnmix_jax.checks import InputError


def _package(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError as error:
        raise InputError(
            f"The package {name} is not installed; this denoiser is an adapter for it. pip install "
            "'dequnmix-jax[noncommercial]' (free for non-commercial use only: read its licence), or use "
            "total_variation or non_local_means."
        ) from error


def bm3d(maps: jax.Array, sigma: jax.Array) -> jax.Array:
    """Denoise each map (H, W, R) by BM3D."""
    run = _package("bm3d").bm3d
    planes = np.moveaxis(np.asarray(maps, np.float64), -1, 0)
    return jnp.asarray(np.stack([run(plane, float(sigma)) for plane in planes], axis=-1), maps.dtype)


def bm4d(maps: jax.Array, sigma: jax.Array) -> jax.Array:
    """Denoise the volume (H, W, R) by BM4D."""
    run = _package("bm4d").bm4d
    return jnp.asarray(run(np.asarray(maps, np.float64), float(sigma)), maps.dtype)
