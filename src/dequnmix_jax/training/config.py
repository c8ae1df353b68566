"""How a model is trained: frozen, hashable choices, and the numbers that may be traced or mapped over."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from dequnmix_jax.checks import check_choices, check_range


@dataclass(frozen=True)
class Training:
    """How an equilibrium model is trained on one scene, without any reference.

    The defaults of the fields are the paper's (`PAPER`); `RECOMMENDED`, which `fit` takes by default, is what our
    measurements support.

    Attributes:
        epochs: gradient steps on the whole image.
        decay_every: the rates are multiplied by `Rates.decay` after each so many steps.
        holdout: share of the bands, drawn anew at each step, that the equilibrium does not see and on which alone the
            loss is then taken (Batson & Royer 2019: noise that is independent from band to band cannot be fitted).
            0: all bands on both sides, as in the paper; reconstruction then rewards the fitting of noise, and the
            endmembers drift (measured on synthetic scenes: `experiments.defaults.training`).
        subspace: "signal": E moves only along the directions of spectral space that hold more signal than noise
            (`noise.signal_subspace`). "all": in every band by itself, as in the paper.
        endmembers_first: share of the epochs, from the first on, in which E moves alone, with the network as it
            started; then E stands still and the network learns, both with the schedule from its beginning. 0: both at
            once, as in the paper; what the network smooths away, E then makes up for by growing (measured on synthetic
            scenes: `experiments.defaults.training`).
        warm_start: start each solve from the equilibrium of the step before; on Samson 4 steps in place of 6, on DC1
            17 in place of 32.
        probes: random directions a step in which the Jacobian of the map is measured, for the penalty of weight
            `Rates.jacobian`; each costs two more applications of the map's derivative. 0: no penalty, at no cost.
        loosest: tolerance of the first step's solves, forward and adjoint, from which it falls geometrically to
            `Solver.tolerance` at the last. 0: that one throughout. Off, because it saves little (from 1e-3 nothing on
            Samson, a seventh of the time on DC1) and a gradient at 1e-2 is wrong by its own size
            (`results/schedule.md`, `results/gradient_error.md`).
        patience: stop after so many steps in which the best loss fell by less than `least`, relative, not counting
            those of `endmembers_first`. 0: never.
        least: see `patience`.
        judged: each stage (trained endmembers, trained network, prior) is kept only where the scene itself shows that
            it helps, by held-out bands in pixels of the training and in pixels set aside from it (`stages`); otherwise
            the result of the stage before stands. False: every stage is kept, as in the paper.
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
        """The step at which E comes to rest and the network begins to learn; 0: they move together."""
        return round(self.endmembers_first * self.epochs)

    @property
    def phases(self) -> tuple[int, ...]:
        """Steps up to where E comes to rest and is judged, and from there on; all steps where it is not judged."""
        if not self.judged or not 0 < self.settled < self.epochs:
            return (self.epochs,)
        return self.settled, self.epochs - self.settled


class Rates(NamedTuple):
    """Rates and weights of training: plain numbers, each of which may be traced and mapped over by jax.vmap.

    Attributes:
        network: learning rate of the network.
        endmembers: learning rate of E, relative to the RMS of the start.
        network_decay, endmember_decay: decoupled weight decay (AdamW).
        decay: factor of the schedule, applied each `Training.decay_every` steps.
        error: alpha, weight of the mean squared error beside the spectral angle.
        spread: weight of the size of the endmember simplex (`objective.spread`); 0 in the paper. `fit` multiplies it by
            `objective.reach`, how far the varying spectra of the scene reach beyond a simplex of that size.
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
"""What `fit` and the command line take by default, chosen on generated scenes (`experiments.defaults.training`)."""

PAPER = (Training(), Rates())
"""The paper's training and rates: `fit(key, cube, config, *PAPER, count=R)`."""
