"""Choices: frozen, hashable dataclasses, static under jit. Numbers one may vmap over stand in `Rates`.

A part that may be made in several ways holds a value of `choices`: `constraint=Soft(slack=0.3)`.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from dequnmix_jax.checks import InputError
from dequnmix_jax.choices import (
    Analytic,
    Anderson,
    BiCGSTAB,
    Broyden,
    Cone,
    Conv,
    Energy,
    JaxoptAnderson,
    Network,
    Neumann,
    OneStep,
    Phantom,
    Picard,
    Residual,
    Simplex,
    Soft,
    Softmax,
    check_choices,
    check_range,
)


@dataclass(frozen=True)
class Solver:
    """How z = f(z) is solved.

    Attributes:
        method: Anderson(), Picard(), Broyden() or JaxoptAnderson(), with their numbers.
        tolerance: on RMS(f(z) - z) / RMS(f(z)); the RMS makes it independent of the size of the image. In float32 1e-6
            can be reached, a hundredth with a state in bfloat16 (`results/precision.md`).
        max_steps: most applications of f, and at least two: one for an image, one that measures it.
    """

    method: Anderson | Picard | Broyden | JaxoptAnderson = field(default_factory=Anderson)
    tolerance: float = 1e-4
    max_steps: int = 200

    def __post_init__(self) -> None:
        check_choices(self)
        check_range(self, "tolerance", 0.0, 1.0)
        check_range(self, "max_steps", 1, 1_000_000)

    @property
    def damping(self) -> float:
        """The damping of the method: 1 where it has none."""
        return 1.0 if isinstance(self.method, Broyden) else self.method.damping


@dataclass(frozen=True)
class Adjoint:
    """How the linear system (I - J^T) u = w of the gradient is solved.

    Attributes:
        method: BiCGSTAB() or Anderson(), which go on to the tolerance, or Neumann(), OneStep() or Phantom(), sums of a
            number of terms.
        tolerance: on RMS(w + J^T u - u) / RMS(w); a sum is only judged by it. None: that of the forward solve, its
            schedule included; the error of the gradient is the sum of both, and the tighter of two would be wasted.
        max_steps: most products with J^T of BiCGSTAB() and Anderson(); None: 200. A sum has its terms and takes none.
    """

    method: BiCGSTAB | Anderson | Neumann | OneStep | Phantom = field(default_factory=BiCGSTAB)
    tolerance: float | None = None
    max_steps: int | None = None

    def __post_init__(self) -> None:
        check_choices(self)
        if self.tolerance is not None:
            check_range(self, "tolerance", 0.0, 1.0)
        if self.max_steps is None:
            return
        check_range(self, "max_steps", 0, 1_000_000)
        if not isinstance(self.method, BiCGSTAB | Anderson):
            more = "" if isinstance(self.method, OneStep) else f" of {self.method.terms} terms"
            raise InputError(
                f"Adjoint.max_steps is {self.max_steps} with {self.method!r}, a sum{more}; expected None. Leave "
                "max_steps out, or write Adjoint(BiCGSTAB(), max_steps=...)."
            )

    @property
    def limit(self) -> int:
        """Most products with J^T."""
        match self.method:
            case OneStep():
                return 0
            case Neumann(terms) | Phantom(terms):
                return terms
        return 200 if self.max_steps is None else self.max_steps


@dataclass(frozen=True)
class Model:
    """The parts of the equilibrium map A = C(P(A - eta G(A; Y, E))).

    Attributes:
        gradient: G. Analytic(), Residual() or Energy(), with the size of its network.
        prox: P. None or Conv().
        constraint: C. Simplex(), Cone(), Soft() or Softmax().
        init: "physical": the analytic gradient is part of G and the network's last layers start at zero, so that
            the untrained equilibrium is the classical answer. "random": the network stands alone, and the softmax acts
            on A itself: A = softmax(gamma P(A - eta G)), the paper's map to the letter.
        metric: in which the step is taken and C projects. "data": M = E E^T / L + (proximity + curvature of the
            network) I, so that the physics is inverted exactly and only the network's part iterates. "euclidean":
            the literal map. Their equilibria are the same without a prox. Softmax() and a random init are always
            "euclidean".
        proximity: mu of that metric, relative to the largest eigenvalue of E E^T.
        step: eta, in units of 1 / (Lipschitz constant of G) or of the metric; below 2 the plain iteration converges for
            the convex G (`certificate`). None: the step of the smallest certified rate, between 1 and 2, for a convex G
            without prox on the cone or the simplex. With a random Residual(), whose constant is not known, eta itself.
        prior: of neighbours on abundances, after the equilibrium. "none", or "neighbours": maps whose pixels have
            errors of their own are smoothed, as strongly as `smoother` finds at the end of training, on the maps alone.
        forward, backward: the solvers of the equilibrium and of its adjoint.
    """

    gradient: Energy | Residual | Analytic = field(default_factory=Energy)
    prox: Conv | None = None
    constraint: Simplex | Cone | Soft | Softmax = field(default_factory=Cone)
    init: Literal["physical", "random"] = "physical"
    metric: Literal["data", "euclidean"] = "data"
    proximity: float = 5e-4
    step: float | None = 1.0
    prior: Literal["none", "neighbours"] = "none"
    forward: Solver = field(default_factory=Solver)
    backward: Adjoint = field(default_factory=Adjoint)

    def __post_init__(self) -> None:
        check_choices(self)
        check_range(self, "proximity", 1e-6, 10.0)
        if self.step is not None:
            check_range(self, "step", 1e-6, 2.0)
        elif (
            isinstance(self.gradient, Residual)
            or not self.physical
            or self.prox is not None
            or isinstance(self.constraint, Softmax)
        ):
            raise InputError(
                "Model.step is None, the step of the smallest certified rate; no such rate is known for a residual "
                "gradient, a random init, a prox or softmax. Give a number, for example 1.0."
            )
        if isinstance(self.gradient, Analytic) and not self.physical:
            raise InputError('Model(gradient=Analytic(), init="random") has nothing random; use init="physical".')

    @property
    def physical(self) -> bool:
        """Whether the data term is part of the map, and the untrained network silent."""
        return self.init == "physical"

    @property
    def in_data_metric(self) -> bool:
        """Whether the step is taken and projected in the metric of the data term."""
        return self.metric == "data" and self.physical and not isinstance(self.constraint, Softmax)

    @property
    def free_brightness(self) -> bool:
        """Whether the state is abundances times a brightness of the pixel, on the cone A >= 0."""
        return isinstance(self.constraint, Cone | Soft)

    @property
    def sums_to_one(self) -> bool:
        """Whether every state is projected on sum A = 1."""
        return isinstance(self.constraint, Simplex)

    @property
    def scales_endmembers(self) -> bool:
        """Whether E is taken at maximum 1."""
        return isinstance(self.constraint, Cone)

    @property
    def on_logits(self) -> bool:
        """Whether the state holds logits, with A = softmax(gamma z)."""
        return isinstance(self.constraint, Softmax) and self.physical

    @property
    def pools_in_loop(self) -> bool:
        """Whether attention pools over all pixels at every step of the solve: no part of a scene is then alone."""
        return isinstance(self.gradient, Residual) and self.gradient.attention

    @property
    def network(self) -> Network | None:
        """The network of the gradient, if it has one."""
        return None if isinstance(self.gradient, Analytic) else self.gradient

    @property
    def largest_kernel(self) -> int:
        """The largest side of all convolutions; 1 where there is none."""
        return max((part.kernel for part in (self.network, self.prox) if part is not None), default=1)

    @property
    def smooths(self) -> bool:
        """Whether a prior of neighbours smooths the maps."""
        return self.prior == "neighbours"


@dataclass(frozen=True)
class Training:
    """How an equilibrium model is trained on one scene, without any reference.

    The defaults are the paper's; `RECOMMENDED` is what our measurements support.

    Attributes:
        epochs: gradient steps on the whole image.
        decay_every: the rates are multiplied by `Rates.decay` after each so many steps.
        holdout: share of the bands, drawn anew at each step, that the equilibrium does not see and on which alone the
            loss is then taken (Batson & Royer 2019: noise that is independent from band to band cannot be fitted).
            0: all bands on both sides, as in the paper; reconstruction then rewards the fitting of noise, and the
            endmembers drift (measured on synthetic scenes: `experiments.choose_training`).
        subspace: "signal": E moves only along the directions of spectral space that hold more signal than noise
            (`noise.signal_subspace`). "all": in every band by itself, as in the paper.
        endmembers_first: share of the epochs, from the first on, in which E moves alone, with the network as it
            started; then E stands still and the network learns, both with the schedule from its beginning. 0: both at
            once, as in the paper; what the network smooths away, E then makes up for by growing (measured on synthetic
            scenes: `experiments.choose_training`).
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
"""Training and rates for a scene of one's own: `fit(key, cube, config, *RECOMMENDED, count=R)`.

With the paper's loss alone the endmembers drift outwards while the loss falls. Held-out bands keep noise from being
fitted, E moves among signals only and before the network, which it would otherwise make up for, and a weight on the
spread of the simplex holds it against spectral variability. What cannot show on the scene that it helps is undone.
One setting for all scenes, chosen on synthetic ones: `experiments.choose_training`.
"""
