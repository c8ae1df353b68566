"""How fixed points and their adjoints are solved, as values. Frozen, hashable, static under jit."""

from dataclasses import dataclass, field
from typing import ClassVar

from dequnmix_jax.checks import Choice, InputError, check_choices, check_range, ranged


@dataclass(frozen=True)
class Anderson(Choice):
    """Anderson acceleration, safeguarded (`forward.solve`).

    Attributes:
        memory: m, how many differences are kept; memory of 2 m + 5 states.
        ridge: of the least-squares step, relative to its unit diagonal.
        restart: the differences are dropped after so many steps; 0: only after a refused step. To 1e-4 that takes half
            the steps on stiff linear maps, nine tenths to eleven tenths on scenes (`results/solver_choices.md`).
        damping: beta in z + beta (f(z) - z), in (0, 1].
    """

    word: ClassVar[str] = "anderson"
    memory: int = ranged(5, 1, 100)
    ridge: float = ranged(1e-6, 0.0, 1.0)
    restart: int = ranged(20, 0, 1_000_000)
    damping: float = ranged(1.0, 1e-6, 1.0)


@dataclass(frozen=True)
class Picard(Choice):
    """The plain iteration z <- z + damping (f(z) - z), damping in (0, 1]."""

    word: ClassVar[str] = "picard"
    damping: float = ranged(1.0, 1e-6, 1.0)


@dataclass(frozen=True)
class Broyden(Choice):
    """Broyden's method, from jaxopt; it keeps 4 `memory` updates."""

    word: ClassVar[str] = "broyden"
    memory: int = ranged(5, 1, 100)


@dataclass(frozen=True)
class JaxoptAnderson(Choice):
    """Anderson acceleration of jaxopt, without safeguards: differences kept, and damping in (0, 1]."""

    word: ClassVar[str] = "jaxopt_anderson"
    memory: int = ranged(5, 1, 100)
    damping: float = ranged(1.0, 1e-6, 1.0)


@dataclass(frozen=True)
class BiCGSTAB(Choice):
    """Biconjugate gradients, stabilised (van der Vorst 1992)."""

    word: ClassVar[str] = "bicgstab"


@dataclass(frozen=True)
class Neumann(Choice):
    """u = sum of (J^T)^i w, i = 0 .. `terms`: so many products with J^T, whatever the residual."""

    word: ClassVar[str] = "neumann"
    terms: int = ranged(200, 0, 1_000_000)


@dataclass(frozen=True)
class OneStep(Choice):
    """u = w: the gradient of the last application alone."""

    word: ClassVar[str] = "one_step"


@dataclass(frozen=True)
class Phantom(Choice):
    """The damped sum of Geng et al. 2021 (`implicit.adjoint_trace`): `terms` products, tau = `damping` in (0, 1]."""

    word: ClassVar[str] = "phantom"
    terms: int = ranged(200, 0, 1_000_000)
    damping: float = ranged(0.5, 1e-6, 1.0)


Method = Anderson | Picard | Broyden | JaxoptAnderson
"""Methods of `Solver`."""

AdjointMethod = BiCGSTAB | Anderson | Neumann | OneStep | Phantom
"""Methods of `Adjoint`."""


@dataclass(frozen=True)
class Solver:
    """How z = f(z) is solved.

    Attributes:
        method: Anderson(), Picard(), Broyden() or JaxoptAnderson(), with their numbers.
        tolerance: on RMS(f(z) - z) / RMS(f(z)); the RMS makes it independent of the size of the image. In float32 1e-6
            can be reached, a hundredth with a state in bfloat16 (`results/precision.md`).
        max_steps: largest number of applications of f, at least two: one for an image, one that measures it.
    """

    method: Method = field(default_factory=Anderson)
    tolerance: float = 1e-4
    max_steps: int = 200

    def __post_init__(self) -> None:
        check_choices(self)
        check_range(self, "tolerance", 0.0, 1.0)
        check_range(self, "max_steps", 1, 1_000_000)

    @property
    def damping(self) -> float:
        """The damping of the method; 1 for Broyden()."""
        return 1.0 if isinstance(self.method, Broyden) else self.method.damping


@dataclass(frozen=True)
class Adjoint:
    """How the linear system (I - J^T) u = w of the gradient is solved.

    Attributes:
        method: BiCGSTAB() or Anderson(), which iterate to the tolerance, or Neumann(), OneStep() or Phantom(), sums of
            a fixed number of terms.
        tolerance: on RMS(w + J^T u - u) / RMS(w); for a sum it decides `converged` only. None: that of the forward
            solve, its schedule included; the error of the gradient is the sum of both errors, and a tighter tolerance
            of one of them has no benefit.
        max_steps: largest number of products with J^T of BiCGSTAB() and Anderson(); None: 200. None for a sum, which
            has `terms`.
    """

    method: AdjointMethod = field(default_factory=BiCGSTAB)
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
            terms = "" if isinstance(self.method, OneStep) else f" of {self.method.terms} terms"
            raise InputError(
                f"Adjoint.max_steps is {self.max_steps} with {self.method!r}, a sum{terms}; expected None. Leave "
                "max_steps out, or write Adjoint(BiCGSTAB(), max_steps=...)."
            )

    @property
    def limit(self) -> int:
        """Largest number of products with J^T."""
        match self.method:
            case OneStep():
                return 0
            case Neumann(terms) | Phantom(terms):
                return terms
        return 200 if self.max_steps is None else self.max_steps
