"""Abundances A of pixels Y = A E with known endmembers E: Y (H, W, B), E (R, B), A (H, W, R).

* `fcls`: A >= 0 and sum A = 1 (Heinz and Chang 2001), exact; `scls`: the sum alone; `ucls`: no constraint.
* `nnls`: A >= 0; `scaled_nnls`: A >= 0, divided by its sum, which is the brightness of the pixel; `soft_nnls`: A >= 0
  with (sum A - 1)^2 weighed against the data.
* `sunsal`, `collaborative_sunsal`, `sunsal_tv`: sparse regression on a library (Bioucas-Dias and Figueiredo 2010;
  Iordache, Bioucas-Dias and Plaza 2012, 2014), |Y - A E|^2 / 2 + lambda |A|_1.
* `smoother`, `smooth`: maps smoothed by as much as their own noise supports; `learned_smoother`, `smooth_learned`: by a
  convex prior with learned filters or the linear one, whichever is estimated to leave less error.
* `nonlinear`: models of mixing that is not linear (Fan, Nascimento, GBM, PPNM, MLM); `fan`, `nascimento`, `gbm`,
  `ppnm`, `mlm`: their inverses; `khype`, `skhype`: a linear mixture and a smooth function of its spectra, by a kernel;
  `residual_component`: a linear mixture and a part that few pixels have.
* `mesma`, `Mesma`: in each pixel the best model of few classes, one spectrum of each (Roberts et al. 1998).
* `unmix_known`, `Known`: any of these by its name, with the measured error of the solution.
* `deviations`, `free_bounds`: standard deviations and 90 % intervals of the fractions of `unmix_known`, in closed
  form; `bootstrap`: by draws of spectra and noise; `scene_errors`: the covariance of what spectra do not explain.
* `kkt_residual`: how far maps are from the optimality conditions.
"""

from typing import TYPE_CHECKING

from dequnmix_jax.lazy import attach

if TYPE_CHECKING:
    from dequnmix_jax.abundances import nonlinear
    from dequnmix_jax.abundances.covariance import SceneErrors, scene_errors
    from dequnmix_jax.abundances.draws import Spread, bootstrap
    from dequnmix_jax.abundances.kernel import Kernelled, khype, skhype
    from dequnmix_jax.abundances.known import Unmixed, unmix_known
    from dequnmix_jax.abundances.learned_smoothing import LearnedSmoother, smooth_learned
    from dequnmix_jax.abundances.least_squares import fcls, kkt_residual, nnls, scaled_nnls, scls, soft_nnls, ucls
    from dequnmix_jax.abundances.methods import Known, Mesma
    from dequnmix_jax.abundances.multiple import Multiple, mesma
    from dequnmix_jax.abundances.nonlinear_inversion import Mixed, fan, gbm, mlm, nascimento, ppnm
    from dequnmix_jax.abundances.prior_choice import learned_smoother
    from dequnmix_jax.abundances.residual_part import Component, residual_component
    from dequnmix_jax.abundances.smoothing import Smoother, smooth, smoother
    from dequnmix_jax.abundances.sparse import Admm, collaborative_sunsal, sunsal, sunsal_tv
    from dequnmix_jax.abundances.uncertainty import Bounds, Deviations, deviations, free_bounds
    from dequnmix_jax.types import Descent

__all__ = [
    "Admm",
    "Bounds",
    "Component",
    "Descent",
    "Deviations",
    "Kernelled",
    "Known",
    "LearnedSmoother",
    "Mesma",
    "Mixed",
    "Multiple",
    "SceneErrors",
    "Smoother",
    "Spread",
    "Unmixed",
    "bootstrap",
    "collaborative_sunsal",
    "deviations",
    "fan",
    "fcls",
    "free_bounds",
    "gbm",
    "khype",
    "kkt_residual",
    "learned_smoother",
    "mesma",
    "mlm",
    "nascimento",
    "nnls",
    "nonlinear",
    "ppnm",
    "residual_component",
    "scaled_nnls",
    "scene_errors",
    "scls",
    "skhype",
    "smooth",
    "smooth_learned",
    "smoother",
    "soft_nnls",
    "sunsal",
    "sunsal_tv",
    "ucls",
    "unmix_known",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "abundances.least_squares": ["fcls", "kkt_residual", "nnls", "scaled_nnls", "scls", "soft_nnls", "ucls"],
        "abundances.learned_smoothing": ["LearnedSmoother", "smooth_learned"],
        "abundances.known": ["Unmixed", "unmix_known"],
        "abundances.multiple": ["Multiple", "mesma"],
        "abundances.methods": ["Known", "Mesma"],
        "abundances.nonlinear_inversion": ["Mixed", "fan", "gbm", "mlm", "nascimento", "ppnm"],
        "abundances.kernel": ["Kernelled", "khype", "skhype"],
        "abundances.prior_choice": ["learned_smoother"],
        "abundances.residual_part": ["Component", "residual_component"],
        "abundances.smoothing": ["Smoother", "smooth", "smoother"],
        "abundances.sparse": ["Admm", "collaborative_sunsal", "sunsal", "sunsal_tv"],
        "abundances.draws": ["Spread", "bootstrap"],
        "abundances.covariance": ["SceneErrors", "scene_errors"],
        "abundances.uncertainty": ["Bounds", "Deviations", "deviations", "free_bounds"],
        "types": ["Descent"],
    },
    ["nonlinear"],
)
