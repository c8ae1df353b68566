"""The parts of the equilibrium map as values: `constraint=Soft(slack=0.3)`. Frozen, hashable, static under jit."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from dequnmix_jax.checks import Choice, InputError, check_choices, check_range, ranged
from dequnmix_jax.conventions import REFLECTANCE, SCALED
from dequnmix_jax.solvers.config import Adjoint, Solver


@dataclass(frozen=True)
class Analytic(Choice):
    """G is the gradient of the data term alone: no network."""

    word: ClassVar[str] = "analytic"


@dataclass(frozen=True)
class Convolutions(Choice):
    """The size of the convolutions of a learned part.

    Attributes:
        width: channels.
        kernel: side of the convolutions, odd.
    """

    width: int = ranged(32, 1, 4096)
    kernel: int = ranged(3, 1, 31)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kernel % 2 == 0:
            raise InputError(
                f"{type(self).__name__}.kernel is {self.kernel}; expected an odd number, so that the image keeps its "
                "size."
            )


@dataclass(frozen=True)
class Network(Convolutions):
    """The fields that the networks of both learned gradients share.

    Attributes:
        width, kernel: see `Convolutions`.
        attention: whether CBAM is part of the network.
    """

    attention: bool = True


@dataclass(frozen=True)
class Residual(Network):
    """G is a network that reads A E - Y, as in the paper.

    Attributes:
        width, kernel, attention: see `Network`.
        normalisation: of the layers. "none", or "spectral": no layer has a norm above one. This limits the growth of
            the network but proves no Lipschitz constant: attention multiplies features with each other.
    """

    word: ClassVar[str] = "residual"
    normalisation: Literal["none", "spectral"] = "none"

    @property
    def spectral(self) -> bool:
        """Whether the norm of each layer is bounded by one."""
        return self.normalisation == "spectral"


@dataclass(frozen=True)
class Energy(Network):
    """G is W^T s sigma(W A - W v(Y)), the gradient of an energy that is convex for all weights.

    The equilibrium therefore exists and is reached. The energy pulls the abundances to v, an image from a network with
    CBAM; half of the filters W see its values, half its edges. Fields as `Network`.
    """

    word: ClassVar[str] = "energy"


@dataclass(frozen=True)
class Conv(Convolutions):
    """P is a learned proximal operator, by construction; `width` is the number of its filters."""

    word: ClassVar[str] = "conv"


@dataclass(frozen=True)
class Simplex(Choice):
    """Projection on A >= 0, sum A = 1: linear mixing."""

    word: ClassVar[str] = "simplex"


@dataclass(frozen=True)
class Cone(Choice):
    """A >= 0 with free brightness, abundances = A / sum A: scaled linear mixing; each spectrum of E has maximum 1."""

    word: ClassVar[str] = "cone"


@dataclass(frozen=True)
class Soft(Choice):
    """A >= 0 with a penalty on (sum A - 1)^2; E keeps its level.

    For materials that vary in brightness independently of each other.

    Attributes:
        slack: weight w of the penalty: |y - A E|^2 + (w |y|_rms)^2 (sum A - 1)^2, |y|_rms the RMS norm of the pixels.
            A good value is the error of the data over the spread of the brightness; a large one gives the simplex.
    """

    word: ClassVar[str] = "soft"
    slack: float = ranged(0.3, 1e-3, 1e3)


@dataclass(frozen=True)
class Softmax(Choice):
    """A = softmax(gamma z) on logits z: least squares regularised by entropy / gamma."""

    word: ClassVar[str] = "softmax"
    gamma: float = ranged(100.0, 1e-6, 1e6)


@dataclass(frozen=True)
class KHype(Choice):
    """The data term of K-Hype: a linear mixture and a smooth function of the spectra (`abundances.khype`).

    In the metric W = (I + K(E) / xi)^-1 over the bands, with the ridge mu |a|^2: convex as the linear term, with the
    same projection and a certificate.

    Attributes:
        mu: weight of |a|^2, for reflectance.
        xi: weight of the function. Large: linear mixing.
    """

    word: ClassVar[str] = "khype"
    mu: float = ranged(1e-4, 1e-9, 1e3)
    xi: float = ranged(10.0, 1e-6, 1e9)


@dataclass(frozen=True)
class PPNM(Choice):
    """The data term of the polynomial post-nonlinear model, y = x + b x o x, x = A E (`abundances.ppnm`).

    b is the least squares of the pixel at its abundances. The term is not convex: the map contracts near each strict
    minimum, nothing is certified, and `Trace.converged` says whether an equilibrium was reached. For b below -1/2 two
    mixtures may have one spectrum (`nonlinear_terms`, `folded`).
    """

    word: ClassVar[str] = "ppnm"


@dataclass(frozen=True)
class MLM(Choice):
    """The data term of the multilinear model, y = (1 - P) x / (1 - P x), x = A E (`abundances.mlm`).

    P is found as b of PPNM(), and nothing is certified either; no mixture is taken for another.
    """

    word: ClassVar[str] = "mlm"


@dataclass(frozen=True)
class Model:
    """The parts of the equilibrium map A = C(P(A - eta G(A; Y, E))).

    Attributes:
        gradient: G. Analytic(), Residual() or Energy(), with the size of its network.
        prox: P. None or Conv().
        constraint: C. Simplex(), Cone(), Soft() or Softmax().
        init: "physical": the analytic gradient is part of G and the network's last layers are initialised to zero, so
            that the untrained equilibrium is the classical solution. "random": G is the network alone, and the softmax
            acts on A itself: A = softmax(gamma P(A - eta G)), the literal map of the paper.
        metric: in which the step is taken and C projects. "data": M = E E^T / L + (proximity + curvature of the
            network) I, so that the data term is solved exactly and only the network's part iterates. "euclidean": the
            literal map. Their equilibria are the same without a prox. Softmax() and a random init are always
            "euclidean".
        proximity: mu of that metric, relative to the largest eigenvalue of E E^T.
        step: eta, in units of 1 / (Lipschitz constant of G) or of the metric; below 2 the plain iteration converges for
            a convex G (`certificate`). None: the step with the smallest certified rate, between 1 and 2, for a convex G
            without prox on the cone or the simplex. With a random Residual(), whose constant is unknown, eta itself.
        nonlinear: what the data term adds to A E, for reflectance, with Simplex() and a physical init. None: nothing,
            linear mixing; KHype(), PPNM() or MLM(). The last two are solved in the metric "data", a metric of each
            pixel, without a prox.
        prior: over neighbours, on the abundances of the equilibrium, estimated from the maps at the end of training.
            "none"; "neighbours": linear smoothing with the strength that `smoother` finds; "learned": a convex prior
            with learned filters or the linear one, whichever is estimated to leave less error (`learned_smoother`).
        forward, backward: the solvers of the equilibrium and of its adjoint.
    """

    gradient: Energy | Residual | Analytic = field(default_factory=Energy)
    prox: Conv | None = None
    constraint: Simplex | Cone | Soft | Softmax = field(default_factory=Cone)
    init: Literal["physical", "random"] = "physical"
    metric: Literal["data", "euclidean"] = "data"
    proximity: float = 5e-4
    step: float | None = 1.0
    nonlinear: KHype | PPNM | MLM | None = None
    prior: Literal["none", "neighbours", "learned"] = "none"
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
        if self.nonlinear is None:
            return
        word = self.nonlinear.word
        if not (self.sums_to_one and self.physical):
            raise InputError(
                f"Model.nonlinear is {word!r} with the constraint {self.constraint.word!r} and the init {self.init!r}; "
                'expected "simplex" and "physical", because products of spectra need reflectance at its own level. '
                'Write constraint="simplex" (--constraint simplex), or leave nonlinear out.'
            )
        if self.post_nonlinear and (self.metric != "data" or self.prox is not None or self.step is None):
            raise InputError(
                f"Model.nonlinear is {word!r} with metric={self.metric!r}, prox={self.prox!r} and step={self.step!r}; "
                'expected metric="data", prox=None and a number as step: each pixel has a metric of its own, for which '
                "neither a learned prox nor a certified step is known."
            )

    @property
    def post_nonlinear(self) -> bool:
        """Whether mixing is a function of A E with a number of each pixel, which the map finds."""
        return isinstance(self.nonlinear, PPNM | MLM)

    @property
    def physical(self) -> bool:
        """Whether the data term is part of the map, and the untrained network has no influence."""
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
        """Whether each spectrum of E is divided by its maximum."""
        return isinstance(self.constraint, Cone)

    @property
    def convention(self) -> str:
        """The convention of its fractions (`conventions`): "scaled" where the level of a spectrum has no influence."""
        return SCALED if self.scales_endmembers else REFLECTANCE

    @property
    def on_logits(self) -> bool:
        """Whether the state holds logits, with A = softmax(gamma z)."""
        return isinstance(self.constraint, Softmax) and self.physical

    @property
    def pools_in_loop(self) -> bool:
        """Whether attention pools over all pixels in each step of the solve, so that parts of a scene are coupled."""
        return isinstance(self.gradient, Residual) and self.gradient.attention

    @property
    def network(self) -> Network | None:
        """The network of the gradient, if it has one."""
        return None if isinstance(self.gradient, Analytic) else self.gradient

    @property
    def largest_kernel(self) -> int:
        """The largest side of all convolutions; 1 without any."""
        return max((part.kernel for part in (self.network, self.prox) if part is not None), default=1)

    @property
    def smooths(self) -> bool:
        """Whether a prior of neighbours smooths the maps."""
        return self.prior != "none"
