"""How a model is trained: frozen, hashable choices, and numbers that may be traced or mapped over."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from dequnmix_jax.checks import check_choices, check_range


@dataclass(frozen=True)
class Training:
    """How an equilibrium model is trained on one scene, without a reference.

    The defaults of the fields are the paper's (`PAPER`). The default of `fit` is `RECOMMENDED`, chosen by measurements
    on generated scenes.

    Attributes:
        epochs: gradient steps on the whole image.
        decay_every: interval in steps after which the rates are multiplied by `Rates.decay`.
        holdout: share of the bands that are held out of the equilibrium, drawn again in each step; the loss is taken on
            them alone (Batson & Royer 2019: noise that is independent between bands cannot be fitted). 0: all bands in
            both, as in the paper; reconstruction then fits noise, and the endmembers drift (measured on synthetic
            scenes: `experiments.defaults.training`).
        subspace: "signal": E moves only in the directions of spectral space with more signal than noise
            (`noise.signal_subspace`). "all": each band of E is free, as in the paper.
        endmembers_first: share of the epochs in which E is trained alone, before the network; then E is fixed and the
            network is trained. Each has the whole schedule. 0: both at once, as in the paper; E then grows to
            compensate for the smoothing by the network (measured on synthetic scenes: `experiments.defaults.training`).
        warm_start: initialise each solve with the equilibrium of the step before; on Samson 4 steps instead of 6, on
            DC1 17 instead of 32.
        probes: number of random directions in each step for the penalty on the Jacobian of the map, of weight
            `Rates.jacobian`; each costs two more applications of the map's derivative. 0: no penalty, no cost.
        loosest: tolerance of the solves in the first step, forward and adjoint; it falls geometrically to
            `Solver.tolerance` in the last. 0: that one throughout. Off by default, because it saves little (from 1e-3
            nothing on Samson, a seventh of the time on DC1) and a gradient at 1e-2 has an error of its own size
            (`results/schedule.md`, `results/gradient_error.md`).
        patience: stop after so many steps in which the best loss fell by less than `least`, relative, not counting
            those of `endmembers_first`. 0: never.
        least: see `patience`.
        judged: keep each stage (trained endmembers, trained network, prior) only if held-out bands show that it helps,
            both in pixels of the training and in held-out pixels (`stages`); otherwise keep the result of the stage
            before. False: keep every stage, as in the paper.
    """

    epochs: int = 300
    decay_every: int = 15
    holdout: float = 0.0
    subspace: Literal["all", "signal"] = "all"
    endmembers_first: float = 0.0
    warm_start: bool = True
    probes: int = 0
    loosest: float = 0.0
    patience: int = 0
    least: float = 1e-3
    judged: bool = False

    def __post_init__(self) -> None:
        check_choices(self)
        check_range(self, "epochs", 0, 1_000_000)
        check_range(self, "decay_every", 1, 1_000_000)
        check_range(self, "holdout", 0.0, 0.9)
        check_range(self, "endmembers_first", 0.0, 1.0)
        check_range(self, "probes", 0, 1000)
        check_range(self, "loosest", 0.0, 1.0)
        check_range(self, "patience", 0, 1_000_000)
        check_range(self, "least", 0.0, 1.0)

    @property
    def settled(self) -> int:
        """The step after which E is fixed and the network is trained; 0: both are trained together."""
        return round(self.endmembers_first * self.epochs)

    @property
    def phases(self) -> tuple[int, ...]:
        """Steps before E is fixed and judged, and steps after; all steps in one if stages are not judged."""
        if not self.judged or not 0 < self.settled < self.epochs:
            return (self.epochs,)
        return self.settled, self.epochs - self.settled


class Rates(NamedTuple):
    """Rates and weights of training: numbers that may be traced, or mapped over by jax.vmap.

    Attributes:
        network: learning rate of the network.
        endmembers: learning rate of E, relative to the RMS of the initial E.
        network_decay, endmember_decay: decoupled weight decay (AdamW).
        decay: factor of the schedule, applied every `Training.decay_every` steps.
        error: alpha, weight of the mean squared error beside the spectral angle.
        spread: weight of the size of the endmember simplex (`objective.spread`); 0 in the paper. `fit` multiplies it by
            `objective.variability_ratio`, by how much varying spectra enlarge the simplex, relative to its size.
        jacobian: weight of |J|_F^2 / size, J the Jacobian of the map at the equilibrium; see `Training.probes`.
    """

    network: Any = 0.01
    endmembers: Any = 0.007
    network_decay: Any = 1e-5
    endmember_decay: Any = 1e-5
    decay: Any = 0.8
    error: Any = 0.2
    spread: Any = 0.0
    jacobian: Any = 0.0


RECOMMENDED = (
    Training(epochs=100, holdout=0.5, subspace="signal", endmembers_first=0.6, judged=True),
    Rates(network=0.002, spread=2.0),
)
"""The defaults of `fit` and of the command line, chosen on generated scenes (`experiments.defaults.training`).

With the paper's loss alone the endmembers drift outwards while the loss falls. Held-out bands prevent the fitting of
noise; E moves in the signal subspace only, and before the network, for which it would otherwise compensate; a weight on
the spread of the simplex keeps it small under spectral variability. A stage that does not help on the scene is undone.
"""

PAPER = (Training(), Rates())
"""The paper's training and rates: `fit(key, cube, config, *PAPER, count=R)`."""
