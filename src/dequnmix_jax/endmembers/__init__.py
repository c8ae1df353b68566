"""Endmembers E (R, B) of a scene (H, W, B), and how many there are.

* `select_endmembers(key, cube, count)`: try several methods and choose by held-out bands; `reason` says why.
* Pure pixels: `vca` (Nascimento and Dias 2005), `sivm` (simplex volume maximisation), `nfindr`, `atgp`; `purify`
  averages the purest pixels.
* No pure pixels: `minimum_volume`.
* With abundances at once: `mvc_nmf`, `qmv_nmf`, `l_half_nmf`, `sgs_nmf` (on `superpixels`), `gl_nmf`.
* How many: `hysime` (Bioucas-Dias and Nascimento 2008), `virtual_dimension` (Chang and Du 2004).
"""

from typing import TYPE_CHECKING

from dequnmix_jax.lazy import attach

if TYPE_CHECKING:
    from dequnmix_jax.endmembers.candidates import Scores
    from dequnmix_jax.endmembers.dimension import Dimension, hysime, virtual_dimension
    from dequnmix_jax.endmembers.minimum_volume_simplex import minimum_volume
    from dequnmix_jax.endmembers.nmf import l_half_nmf, mvc_nmf, sgs_nmf
    from dequnmix_jax.endmembers.nmf_descent import Factoring
    from dequnmix_jax.endmembers.nmf_graph import gl_nmf
    from dequnmix_jax.endmembers.nmf_quadratic import qmv_nmf
    from dequnmix_jax.endmembers.pure_pixel import atgp, nfindr, purify, sivm, vca
    from dequnmix_jax.endmembers.selection import Selection, Weights, reason, select_endmembers
    from dequnmix_jax.endmembers.slic import Superpixels, superpixels
    from dequnmix_jax.types import Descent

__all__ = [
    "Descent",
    "Dimension",
    "Factoring",
    "Scores",
    "Selection",
    "Superpixels",
    "Weights",
    "atgp",
    "gl_nmf",
    "hysime",
    "l_half_nmf",
    "minimum_volume",
    "mvc_nmf",
    "nfindr",
    "purify",
    "qmv_nmf",
    "reason",
    "select_endmembers",
    "sgs_nmf",
    "sivm",
    "superpixels",
    "vca",
    "virtual_dimension",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "endmembers.candidates": ["Scores"],
        "endmembers.dimension": ["Dimension", "hysime", "virtual_dimension"],
        "endmembers.minimum_volume_simplex": ["minimum_volume"],
        "endmembers.nmf": ["l_half_nmf", "mvc_nmf", "sgs_nmf"],
        "endmembers.nmf_descent": ["Factoring"],
        "endmembers.nmf_graph": ["gl_nmf"],
        "endmembers.nmf_quadratic": ["qmv_nmf"],
        "endmembers.pure_pixel": ["atgp", "nfindr", "purify", "sivm", "vca"],
        "endmembers.selection": ["Selection", "Weights", "reason", "select_endmembers"],
        "endmembers.slic": ["Superpixels", "superpixels"],
        "types": ["Descent"],
    },
)
