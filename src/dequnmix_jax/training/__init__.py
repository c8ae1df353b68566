"""Train an equilibrium model on one scene, without a reference.

* `fit(key, cube, config, training, rates, count=R)`: minimise the loss of reconstruction on held-out bands.
* `resumable_fit(..., keep=Keep(path))`: the same, kept in a file from which an ended training continues.
* `model_for`, `rates_for`: the model and the rates that fit what `endmembers.select_endmembers` finds.
* `loss`: the loss as a pure function, for custom training loops.

`RECOMMENDED` is a pair (Training, Rates).
"""

from typing import TYPE_CHECKING

from dequnmix_jax.lazy import attach

if TYPE_CHECKING:
    from dequnmix_jax.training.config import RECOMMENDED, Rates, Training
    from dequnmix_jax.training.fitting import fit
    from dequnmix_jax.training.objective import loss
    from dequnmix_jax.training.recipe import model_for, rates_for
    from dequnmix_jax.training.resume import Keep, resumable_fit

__all__ = ["RECOMMENDED", "Keep", "Rates", "Training", "fit", "loss", "model_for", "rates_for", "resumable_fit"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "training.config": ["RECOMMENDED", "Rates", "Training"],
        "training.fitting": ["fit"],
        "training.objective": ["loss"],
        "training.recipe": ["model_for", "rates_for"],
        "training.resume": ["Keep", "resumable_fit"],
    },
)
