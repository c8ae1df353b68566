"""The values of choices: each carries the numbers of its own kind, checked, and no others.

    gradient    Energy(width, kernel, attention) | Residual(width, kernel, attention, normalisation) | Analytic()
    prox        Conv(width, kernel) | None
    constraint  Simplex() | Cone() | Soft(slack) | Softmax(gamma)
    forward     Solver(Anderson(memory, ridge, restart, damping) | Picard(damping) | Broyden(memory) | JaxoptAnderson())
    backward    Adjoint(BiCGSTAB() | Anderson() | Neumann(terms) | OneStep() | Phantom(terms, damping))

All are frozen and hashable, so that they are static under jit. `word` is the name of a value in files and on the
command line (`choice_words`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from dequnmix_jax.checks import InputError


class Choice:
    """One of the values that a field may hold; `word` is its name in files."""

    word: ClassVar[str]


def check_choices(config: Any) -> None:
    """Raise InputError where a field is not one of the words or of the values that its type allows."""
    hints = get_type_hints(type(config))
    owner = type(config).__name__
    for item in fields(config):
        value, allowed = getattr(config, item.name), get_args(hints[item.name])
        kinds = [kind for kind in allowed if isinstance(kind, type) and issubclass(kind, Choice)]
        if get_origin(hints[item.name]) is Literal and value not in allowed:
            words = ", ".join(repr(word) for word in allowed)
            raise InputError(f"{owner}.{item.name} is {value!r}; expected one of {words}.")
        if kinds and not isinstance(value, allowed):
            found = f"the class {value.__name__}" if isinstance(value, type) else repr(value)
            raise InputError(f"{owner}.{item.name} is {found}; {_to_write(item.name, value, kinds, allowed)}.")
        if is_dataclass(hints[item.name]) and not isinstance(value, hints[item.name]):
            kind, given = hints[item.name].__name__, f"{value!r}" if isinstance(value, Choice) else ""
            raise InputError(f"{owner}.{item.name} is {value!r}; write {item.name}={kind}({given}).")
        if hints[item.name] is bool and not isinstance(value, bool):
            raise InputError(f"{owner}.{item.name} is {value!r}; expected True or False.")


def _to_write(name: str, value: Any, kinds: Sequence[type[Choice]], allowed: Sequence[type]) -> str:
    """Return what to write in the place of something that is no value of a choice."""
    for kind in kinds:
        if value is kind or value == kind.word:
            return f"write {name}={kind()!r}"
    none = type(None) in allowed
    if none and value == "none":
        return f"write {name}=None"
    return f"expected one of {', '.join([*(repr(kind()) for kind in kinds), *['None'] * none])}"


def check_range(config: Any, name: str, low: float, high: float) -> None:
    """Raise InputError unless a field is a number of its type between two others, both included."""
    value = getattr(config, name)
    whole = get_type_hints(type(config))[name] is int
    kind: Any = Integral if whole else Real
    if not isinstance(value, kind) or isinstance(value, bool):
        what = "an integer" if whole else "a number"
    elif not low <= value <= high:
        what = "a value"
    else:
        return
    raise InputError(f"{type(config).__name__}.{name} is {value!r}; expected {what} from {low:g} to {high:g}.")


def _check_layers(config: Any) -> None:
    """Raise InputError where channels or kernel of a choice cannot be built."""
    check_range(config, "width", 1, 4096)
    check_range(config, "kernel", 1, 31)
    if config.kernel % 2 == 0:
        raise InputError(
            f"{type(config).__name__}.kernel is {config.kernel}; expected an odd number, so that the image keeps its "
            "size."
        )


@dataclass(frozen=True)
class Anderson(Choice):
    """Anderson acceleration, safeguarded (`solvers.solve`).

    Attributes:
        memory: m, how many differences are kept; 2 m + 5 states are held.
        ridge: of the least-squares step, relative to its unit diagonal.
        restart: the differences are forgotten after so many steps and new ones gathered; 0: only where a step is
            refused. To 1e-4 that takes half the steps on stiff linear maps, nine tenths to eleven tenths on scenes
            (`results/solver_choices.md`).
        damping: beta in z + beta (f(z) - z), in (0, 1].
    """

    word: ClassVar[str] = "anderson"
    memory: int = 5
    ridge: float = 1e-6
    restart: int = 20
    damping: float = 1.0

    def __post_init__(self) -> None:
        check_range(self, "memory", 1, 100)
        check_range(self, "ridge", 0.0, 1.0)
        check_range(self, "restart", 0, 1_000_000)
        check_range(self, "damping", 1e-6, 1.0)


@dataclass(frozen=True)
class Picard(Choice):
    """The plain iteration z <- z + damping (f(z) - z), damping in (0, 1]."""

    word: ClassVar[str] = "picard"
    damping: float = 1.0

    def __post_init__(self) -> None:
        check_range(self, "damping", 1e-6, 1.0)


@dataclass(frozen=True)
class Broyden(Choice):
    """Broyden's method, walked by jaxopt; it keeps 4 `memory` updates."""

    word: ClassVar[str] = "broyden"
    memory: int = 5

    def __post_init__(self) -> None:
        check_range(self, "memory", 1, 100)


@dataclass(frozen=True)
class JaxoptAnderson(Choice):
    """Anderson acceleration of jaxopt, without safeguards: differences kept, and damping in (0, 1]."""

    word: ClassVar[str] = "jaxopt_anderson"
    memory: int = 5
    damping: float = 1.0

    def __post_init__(self) -> None:
        check_range(self, "memory", 1, 100)
        check_range(self, "damping", 1e-6, 1.0)


@dataclass(frozen=True)
class BiCGSTAB(Choice):
    """Biconjugate gradients, stabilised (van der Vorst 1992)."""

    word: ClassVar[str] = "bicgstab"


@dataclass(frozen=True)
class Neumann(Choice):
    """u = sum of (J^T)^i w, i = 0 .. `terms`: so many products with J^T, whatever is left."""

    word: ClassVar[str] = "neumann"
    terms: int = 200

    def __post_init__(self) -> None:
        check_range(self, "terms", 0, 1_000_000)


@dataclass(frozen=True)
class OneStep(Choice):
    """u = w: the gradient of the last application alone."""

    word: ClassVar[str] = "one_step"


@dataclass(frozen=True)
class Phantom(Choice):
    """The damped sum of Geng et al. 2021 (`implicit.adjoint_trace`): `terms` products, tau = `damping` in (0, 1]."""

    word: ClassVar[str] = "phantom"
    terms: int = 200
    damping: float = 0.5

    def __post_init__(self) -> None:
        check_range(self, "terms", 0, 1_000_000)
        check_range(self, "damping", 1e-6, 1.0)


@dataclass(frozen=True)
class Analytic(Choice):
    """G is the gradient of the data term alone: no network."""

    word: ClassVar[str] = "analytic"


@dataclass(frozen=True)
class Network(Choice):
    """What the networks of the two learned gradients share.

    Attributes:
        width: channels.
        kernel: side of the convolutions, odd.
        attention: with CBAM or without.
    """

    width: int = 32
    kernel: int = 3
    attention: bool = True

    def __post_init__(self) -> None:
        check_choices(self)
        _check_layers(self)


@dataclass(frozen=True)
class Residual(Network):
    """G is a network that reads A E - Y, as in the paper.

    Attributes:
        width, kernel, attention: see `Network`.
        normalisation: of the layers. "none", or "spectral": none has a norm above one. It keeps the network from
            growing steep but certifies nothing: attention multiplies features with each other.
    """

    word: ClassVar[str] = "residual"
    normalisation: Literal["none", "spectral"] = "none"

    @property
    def spectral(self) -> bool:
        """Whether no layer may have a norm above one."""
        return self.normalisation == "spectral"


@dataclass(frozen=True)
class Energy(Network):
    """G is W^T s sigma(W A - W v(Y)), the gradient of a convex energy whatever its weights are.

    The equilibrium therefore exists and is reached. v, a network with CBAM, is the image that the abundances are drawn
    to; half of the filters W see its values, half its edges. Fields as `Network`.
    """

    word: ClassVar[str] = "energy"


@dataclass(frozen=True)
class Conv(Choice):
    """P is a learned proximal operator, by construction.

    Attributes:
        width: filters.
        kernel: side of the filters, odd.
    """

    word: ClassVar[str] = "conv"
    width: int = 32
    kernel: int = 3

    def __post_init__(self) -> None:
        _check_layers(self)


@dataclass(frozen=True)
class Simplex(Choice):
    """Projection on A >= 0, sum A = 1: linear mixing."""

    word: ClassVar[str] = "simplex"


@dataclass(frozen=True)
class Cone(Choice):
    """A >= 0 with free brightness, abundances = A / sum A: scaled mixing; E is taken at maximum 1."""

    word: ClassVar[str] = "cone"


@dataclass(frozen=True)
class Soft(Choice):
    """As the cone, with E at its own level and (sum A - 1)^2 weighed against the data.

    For materials each of which varies in brightness by itself.

    Attributes:
        slack: weight of the sum, w: |y - A E|^2 + (w |y|_rms)^2 (sum A - 1)^2, |y|_rms the RMS norm of the pixels:
            error of the data over spread of the brightness. Large: the simplex.
    """

    word: ClassVar[str] = "soft"
    slack: float = 0.3

    def __post_init__(self) -> None:
        check_range(self, "slack", 1e-3, 1e3)


@dataclass(frozen=True)
class Softmax(Choice):
    """A = softmax(gamma z) on logits z, the least squares regularised by entropy / gamma."""

    word: ClassVar[str] = "softmax"
    gamma: float = 100.0

    def __post_init__(self) -> None:
        check_range(self, "gamma", 1e-6, 1e6)
