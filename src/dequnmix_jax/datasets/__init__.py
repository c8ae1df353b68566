"""Scenes that come with the package, are found or downloaded, or are simulated.

* `registry`: named scenes and their references, `load("hysu")`, with a hash check of each download.
* `hysu`: the targets of the HySU scene, 25 squares of known area, and how to score an unmixing against them.
* `generator`: a model of scenes, 24 families from smooth fields to intimate mixtures under striped noise, on which what
  is learned is judged on families and minerals that it never saw: `FAMILIES`, `SceneShape`, `draw`, `draw_batch`.
* `synthetic`: linearly mixed scenes y = s a E + noise with known abundances, endmembers and brightness.
"""

from typing import TYPE_CHECKING

from dequnmix_jax.lazy import attach

if TYPE_CHECKING:
    from dequnmix_jax.datasets import generator, hysu, registry, synthetic
    from dequnmix_jax.datasets.generator import FAMILIES, SceneShape, draw, draw_batch

__all__ = ["FAMILIES", "SceneShape", "draw", "draw_batch", "generator", "hysu", "registry", "synthetic"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "datasets.generator.families": ["FAMILIES"],
        "datasets.generator.scenes": ["SceneShape", "draw", "draw_batch"],
    },
    ["generator", "hysu", "registry", "synthetic"],
)
