"""The learned operator: trained once on generated scenes whose truth is known, then used on any scene without training.

    selection = dq.learned.select(key, cube, count)     # endmembers, mixing model, expected error

* `selection`: candidates, scores, choice, equilibrium, choice again.
* `joint`: endmembers (with the exact abundances that belong to them) as the fixed point of a learned map of facets.
* `choice`: a set network that predicts the error of every way to unmix the scene, and how sure it is.
* `features`: what the networks read: ratios and shares, no size and no unit.
* `count_endmembers(cube)`: how many endmembers there are, with the criteria side by side (`count`).
* `weights`: the weights that the package ships, with the command, seed, generator and versions that made them.

Training is `experiments.operator.train`; what it is worth on families of scenes that were left out of it is in
`results/left_out.md`. `dq.run` and `dequnmix report` use it; `fit` starts from it and trains on the scene.
"""

from typing import TYPE_CHECKING

from dequnmix_jax.lazy import attach

if TYPE_CHECKING:
    from dequnmix_jax.learned import choice, count, features, joint, selection, weights
    from dequnmix_jax.learned.count import Count, count_endmembers
    from dequnmix_jax.learned.selection import WAYS, OperatorSelection, reason, select
    from dequnmix_jax.learned.weights import OperatorWeights, Provenance, shipped

__all__ = [  # noqa: RUF022 - in the order a reader meets them
    "select", "OperatorSelection", "reason", "WAYS",
    "count_endmembers", "Count",
    "OperatorWeights", "Provenance", "shipped",
    "selection", "joint", "choice", "features", "weights", "count",
]  # fmt: skip

__getattr__, __dir__ = attach(
    __name__,
    {
        "learned.selection": ["select", "OperatorSelection", "reason", "WAYS"],
        "learned.count": ["count_endmembers", "Count"],
        "learned.weights": ["OperatorWeights", "Provenance", "shipped"],
    },
    ["selection", "joint", "choice", "features", "weights", "count"],
)  # fmt: skip
