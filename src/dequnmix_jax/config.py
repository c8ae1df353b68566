"""Choices: frozen, hashable dataclasses, static under jit. Numbers one may vmap over stand in `Rates`."""

from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from dequnmix_jax.checks import InputError, check_kind


def _check_choices(config: Any) -> None:
    """Raise InputError where a field is not one of the words its type allows."""
    hints = get_type_hints(type(config))
    for item in fields(config):
        value = getattr(config, item.name)
        if get_origin(hints[item.name]) is Literal and value not in get_args(hints[item.name]):
            allowed = ", ".join(repr(word) for word in get_args(hints[item.name]))
            raise InputError(f"{type(config).__name__}.{item.name} is {value!r}; expected one of {allowed}.")


def _check_range(config: Any, name: str, low: float, high: float) -> None:
    value = getattr(config, name)
    whole = get_type_hints(type(config))[name] is int
    kind: Any = Integral if whole else Real
    if not isinstance(value, kind):
        raise InputError(
            f"{type(config).__name__}.{name} is {value!r}; expected {'an integer' if whole else 'a number'} from "
            f"{low:g} to {high:g}."
        )
    if not low <= value <= high:
        raise InputError(f"{type(config).__name__}.{name} is {value!r}; expected a value from {low:g} to {high:g}.")


@dataclass(frozen=True)
class Solver:
    """How z = f(z) is solved.

    Attributes:
        method: "anderson" (safeguarded, ours), "picard" (plain or damped iteration), "broyden" and
            "jaxopt_anderson" (both walked by jaxopt).
        tolerance: on RMS(f(z) - z) / RMS(f(z)); the RMS makes it independent of the size of the image. In float32 1e-6
            can be reached, a hundredth with a state in bfloat16 (`results/precision.md`).
        max_steps: most applications of f, and at least two: one for an image, one that measures it.
        memory: m, how many differences Anderson (or Broyden) keeps; 2 m + 5 states are held.
        damping: beta in z + beta (f(z) - z), in (0, 1].
        ridge: of the least-squares step, relative to its unit diagonal.
        restart: Anderson forgets its differences after so many steps and gathers new ones; 0: only where a step is
            refused. To 1e-4 that takes half the steps on stiff linear maps, nine tenths to eleven tenths on scenes
            (`results/solver_choices.md`).
    """

    method: Literal["anderson", "picard", "broyden", "jaxopt_anderson"] = "anderson"
    tolerance: float = 1e-4
    max_steps: int = 200
    memory: int = 5
    damping: float = 1.0
    ridge: float = 1e-6
    restart: int = 20

    def __post_init__(self) -> None:
        _check_choices(self)
        _check_range(self, "tolerance", 0.0, 1.0)
        _check_range(self, "max_steps", 1, 1_000_000)
        _check_range(self, "memory", 1, 100)
        _check_range(self, "damping", 1e-6, 1.0)
        _check_range(self, "ridge", 0.0, 1.0)
        _check_range(self, "restart", 0, 1_000_000)


@dataclass(frozen=True)
class Adjoint:
    """How the linear system (I - J^T) u = w of the gradient is solved.

    Attributes:
        method: "bicgstab", "anderson", "neumann" (u = sum of (J^T)^i w, i = 0 .. max_steps), "one_step" (u = w) or
            "phantom" (the damped sum of Geng et al. 2021; `implicit.adjoint_trace`).
        tolerance: on RMS(w + J^T u - u) / RMS(w). None: that of the forward solve, its schedule included; the error
            of the gradient is the sum of both, and the tighter of two would be wasted.
        max_steps: most products with J^T (for "neumann" and "phantom" exactly this many).
        memory: of "anderson".
        damping: tau of "phantom", in (0, 1].
    """

    method: Literal["bicgstab", "anderson", "neumann", "one_step", "phantom"] = "bicgstab"
    tolerance: float | None = None
    max_steps: int = 200
    memory: int = 5
    damping: float = 0.5

    def __post_init__(self) -> None:
        _check_choices(self)
        if self.tolerance is not None:
            _check_range(self, "tolerance", 0.0, 1.0)
        _check_range(self, "max_steps", 0, 1_000_000)
        _check_range(self, "memory", 1, 100)
        _check_range(self, "damping", 1e-6, 1.0)


@dataclass(frozen=True)
class Model:
    """The parts of the equilibrium map A = C(P(A - eta G(A; Y, E))).

    Attributes:
        gradient: G. "analytic": the gradient of the data term, no network. "residual": a network with CBAM
            attention reads A E - Y, as in the paper. "energy": W^T s sigma(W A - W v(Y)), the gradient of a convex
            energy whatever its weights are, so that the equilibrium exists and is reached; v, a network with CBAM, is
            the image that the abundances are drawn to, half of the filters W see its values, half its edges.
        prox: P. "none" or "conv": a learned proximal operator, again by construction.
        constraint: C. "simplex": projection on A >= 0, sum A = 1 (linear mixing). "cone": A >= 0 with free
            brightness, abundances = A / sum A (scaled mixing; E is taken at maximum 1). "soft": the same with E at its
            own level and (sum A - 1)^2 weighed against the data (`slack`), for materials each of which varies in
            brightness by itself. "softmax": A = softmax(gamma z) on logits z, the least squares regularised by
            entropy / gamma.
        start: "physical": the analytic gradient is part of G and the network's last layers start at zero, so that
            the untrained equilibrium is the classical answer. "random": the network stands alone, and the softmax acts
            on A itself: A = softmax(gamma P(A - eta G)), the paper's map to the letter.
        metric: in which the step is taken and C projects. "data": M = E E^T / L + (proximity + curvature of the
            network) I, so that the physics is inverted exactly and only the network's part iterates. "euclidean":
            the literal map. Their equilibria are the same without a prox. "softmax" and a random start are always
            "euclidean".
        proximity: mu of that metric, relative to the largest eigenvalue of E E^T.
        step: eta, in units of 1 / (Lipschitz constant of G) or of the metric; below 2 the plain iteration converges for
            the convex G (`certificate`). None: the step of the smallest certified rate, between 1 and 2, for a convex G
            without prox on the cone or the simplex. With a random "residual" network, whose constant is not known, eta
            itself.
        width: channels of the networks.
        kernel: side of their convolutions, odd.
        prior: of neighbours on abundances, after the equilibrium. "none", or "neighbours": maps whose pixels have
            errors of their own are smoothed, as strongly as `smoother` finds at the end of training, on the maps alone.
        slack: of "soft", weight of the sum, w: |y - A E|^2 + (w |y|_rms)^2 (sum A - 1)^2, |y|_rms the RMS norm of the
            pixels: error of the data over spread of the brightness. Large: the simplex.
        gamma: scale of the softmax.
        attention: with CBAM or without.
        normalisation: of the "residual" network's layers. "none", or "spectral": none has a norm above one. It keeps
            the network from growing steep but certifies nothing: attention multiplies features with each other.
        forward, backward: the solvers of the equilibrium and of its adjoint.
    """

    gradient: Literal["analytic", "residual", "energy"] = "energy"
    prox: Literal["none", "conv"] = "none"
    constraint: Literal["simplex", "cone", "soft", "softmax"] = "cone"
    start: Literal["physical", "random"] = "physical"
    metric: Literal["data", "euclidean"] = "data"
    proximity: float = 5e-4
    step: float | None = 1.0
    width: int = 32
    kernel: int = 3
    prior: Literal["none", "neighbours"] = "none"
    slack: float = 0.3
    gamma: float = 100.0
    attention: bool = True
    normalisation: Literal["none", "spectral"] = "none"
    forward: Solver = field(default_factory=Solver)
    backward: Adjoint = field(default_factory=Adjoint)

    def __post_init__(self) -> None:
        check_kind(self.forward, Solver, "Model.forward")
        check_kind(self.backward, Adjoint, "Model.backward")
        _check_choices(self)
        _check_range(self, "proximity", 1e-6, 10.0)
        if self.step is not None:
            _check_range(self, "step", 1e-6, 2.0)
        elif (
            self.gradient == "residual"
            or (self.start, self.prox) != ("physical", "none")
            or (self.constraint == "softmax")
        ):
            raise InputError(
                "Model.step is None, the step of the smallest certified rate; no such rate is known for a residual "
                "gradient, a random start, a prox or softmax. Give a number, for example 1.0."
            )
        _check_range(self, "width", 1, 4096)
        _check_range(self, "kernel", 1, 31)
        _check_range(self, "slack", 1e-3, 1e3)
        _check_range(self, "gamma", 1e-6, 1e6)
        if self.kernel % 2 == 0:
            raise InputError(
                f"Model.kernel is {self.kernel}; expected an odd number, so that the image keeps its size."
            )
        if self.normalisation == "spectral" and self.gradient != "residual":
            raise InputError(
                f'Model(gradient={self.gradient!r}, normalisation="spectral") has nothing to normalise: '
                'the "energy" holds its norm by construction. Use gradient="residual" or normalisation="none".'
            )
        if self.gradient == "analytic" and self.start == "random":
            raise InputError('Model(gradient="analytic", start="random") has nothing random; use start="physical".')

    @property
    def in_data_metric(self) -> bool:
        """Whether the step is taken and projected in the metric of the data term."""
        return self.metric == "data" and self.start == "physical" and self.constraint != "softmax"

    @property
    def free_brightness(self) -> bool:
        """Whether the state is abundances times a brightness of the pixel, on the cone A >= 0."""
        return self.constraint in ("cone", "soft")

    @property
    def on_logits(self) -> bool:
        """Whether the state holds logits, with A = softmax(gamma z)."""
        return self.constraint == "softmax" and self.start == "physical"


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
        _check_choices(self)
        _check_range(self, "epochs", 0, 1_000_000)
        _check_range(self, "decay_every", 1, 1_000_000)
        _check_range(self, "holdout", 0.0, 0.9)
        _check_range(self, "endmembers_first", 0.0, 1.0)
        _check_range(self, "probes", 0, 1000)
        _check_range(self, "loosest", 0.0, 1.0)
        _check_range(self, "patience", 0, 1_000_000)
        _check_range(self, "least", 0.0, 1.0)

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
