"""The deep equilibrium model of unmixing (Wang, Gao, Zhu and Chen, arXiv 2604.11279, 2026).

A* = C(P(A* - eta G(A*; Y, E))): G the gradient of the data term with a learned part, P a learned proximal operator, C
the constraint. Y (H, W, B), E (R, B), A (H, W, R).

* `init(key, cube, config, endmembers=E)` draws parameters; `unmix(params, cube, config)` solves;
  `reconstruct(estimate)` mixes the cube back; `equilibrium_map` applies the map once.
* `certificate`: a proved bound of the rate of convergence; `last_change`: where the solve has settled.
* `pixel_parameter`, `folded`: b or P of each pixel of a nonlinear model, and where another mixture may fit as well.

`Model` holds one value for each part: gradient `Energy`, `Residual` or `Analytic`; constraint `Simplex`, `Cone`, `Soft`
or `Softmax`; prox `Conv` or None; nonlinear `KHype`, `PPNM`, `MLM` or None.
"""

from typing import TYPE_CHECKING

from dequnmix_jax.lazy import attach

if TYPE_CHECKING:
    from dequnmix_jax.equilibrium.certify import Certificate, certificate
    from dequnmix_jax.equilibrium.config import (
        MLM,
        PPNM,
        Analytic,
        Cone,
        Conv,
        Energy,
        KHype,
        Model,
        Residual,
        Simplex,
        Soft,
        Softmax,
    )
    from dequnmix_jax.equilibrium.convergence import last_change
    from dequnmix_jax.equilibrium.model import equilibrium_map, init, reconstruct, unmix
    from dequnmix_jax.equilibrium.nonlinear_terms import folded, pixel_parameter

__all__ = [
    "MLM",
    "PPNM",
    "Analytic",
    "Certificate",
    "Cone",
    "Conv",
    "Energy",
    "KHype",
    "Model",
    "Residual",
    "Simplex",
    "Soft",
    "Softmax",
    "certificate",
    "equilibrium_map",
    "folded",
    "init",
    "last_change",
    "pixel_parameter",
    "reconstruct",
    "unmix",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "equilibrium.certify": ["Certificate", "certificate"],
        "equilibrium.config": [
            "Analytic",
            "Cone",
            "Conv",
            "Energy",
            "KHype",
            "MLM",
            "Model",
            "PPNM",
            "Residual",
            "Simplex",
            "Soft",
            "Softmax",
        ],
        "equilibrium.convergence": ["last_change"],
        "equilibrium.model": ["equilibrium_map", "init", "reconstruct", "unmix"],
        "equilibrium.nonlinear_terms": ["folded", "pixel_parameter"],
    },
)
