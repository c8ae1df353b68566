"""Methods of unmixing by known spectra, as a value; needs no jax."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from math import inf, prod
from typing import Any

from dequnmix_jax.checks import InputError, check_range, how_many
from dequnmix_jax.conventions import REFLECTANCE, SCALED

METHODS = ("fcls", "nnls", "scaled", "soft", "sunsal", "sunsal-tv")
"""Methods of all spectra at once; the first is the default."""

NONLINEAR = ("nascimento", "fan", "gbm", "ppnm", "mlm", "khype", "skhype")
"""Methods for mixing that is not linear; for reflectance."""

BRIGHTEST = 2.0
"""Value of a spectrum above which it cannot be reflectance."""

MESMA = "mesma"
"""The method that chooses one spectrum of each class in each pixel."""

NO_SHADE, NORMALISED, KEPT = "none", "normalised", "kept"
SHADES = (NO_SHADE, NORMALISED, KEPT)
"""What is done about shade; the first is the default."""

COMBINED = ("classes", "spectra")
"""What a model of mesma combines; the first is the default."""

MOST_MODELS = 2_000_000
"""Models that `Mesma` tries at most."""


@dataclass(frozen=True)
class Known:
    """How a scene is unmixed by known spectra; static under jit.

    Attributes:
        method: a word of `METHODS` or `NONLINEAR`.
        slack: w of "soft", the weight of the sum.
        sparsity: l of "sunsal" and "sunsal-tv", relative to n m.
        variation: v of "sunsal-tv", relative to n m.
        normalised: divide each pixel and each spectrum by its brightness, the mean over the bands, first (Wu 2004); the
            fractions are converted back, so that they refer to the spectra at their level. For methods that hold the
            sum.
    """

    method: str = METHODS[0]
    slack: float = 0.3
    sparsity: float = 1e-4
    variation: float = 1e-4
    normalised: bool = False

    def __post_init__(self) -> None:
        """Raise InputError for an unknown method or a number out of range."""
        if self.method not in (*METHODS, *NONLINEAR) and not isinstance(self, Mesma):
            raise InputError(f"method is {self.method!r}; expected {', '.join((*METHODS, *NONLINEAR))}.")
        check_range(self, "slack", 1e-3, 1e3)
        check_range(self, "sparsity", 0.0, 1e3)
        check_range(self, "variation", 0.0, 1e3)
        if self.normalised and (self.method not in ("fcls", MESMA) or getattr(self, "shade", NO_SHADE) != NO_SHADE):
            raise InputError(
                f"A brightness that is divided out (normalised, --normalise) does not apply to {self.method}"
                f"{' with shade' if self.method == MESMA else ''}; expected fcls, or mesma without shade: the others "
                "leave the brightness of a pixel free. Leave it out."
            )

    def record(self) -> dict[str, Any]:
        """Return what summary.json says about the method."""
        return asdict(self)

    @property
    def convention(self) -> str:
        """The convention of its fractions."""
        return SCALED if self.method == "scaled" else REFLECTANCE

    @property
    def sums_to_one(self) -> bool:
        """Whether the coefficients sum to one, and not to a brightness."""
        return (self.method == "fcls" and not self.normalised) or self.nonlinear

    @property
    def nonlinear(self) -> bool:
        """Whether mixing is not linear, so that s a E is not what the method fits."""
        return self.method in NONLINEAR

    @property
    def by_pixel(self) -> bool:
        """Whether each pixel is solved by itself, so that a scene can be cut into tiles."""
        return self.method != "sunsal-tv"

    def check_count(self, count: int, bands: int) -> None:
        """Raise InputError where a method without a prior has more unknowns than a pixel has equations."""
        unknowns, prior = count - (self.method == "fcls" or self.nonlinear), self.method.startswith("sunsal")
        if unknowns > bands and not prior:
            raise InputError(
                f"There are {how_many(count, 'spectrum')} and {how_many(bands, 'band')}; expected no more spectra than "
                f"bands for {self.method}, which cannot determine more fractions. Choose fewer spectra, or method "
                "sunsal, which prefers few."
            )

    def check_values(self, highest: float) -> None:
        """Raise InputError where a nonlinear method is to unmix by spectra that are no reflectance."""
        if self.nonlinear and highest > BRIGHTEST:
            raise InputError(
                f"The spectra reach {highest:.4g}; expected reflectance, at most about 1, for {self.method}: products "
                "of spectra in other units mean nothing. Divide the library (library_scale, --library-scale), and the "
                "scene (scale, --scale)."
            )

    def not_optimal(self, change: float) -> str:
        """Return the warning about fractions that a further step changes by a share of their size."""
        return (
            f"The optimum of {self.method} was not reached: a further step changes the fractions by {change:.1e} of "
            "their size; do not trust the maps."
        )


@dataclass(frozen=True)
class Mesma(Known):
    """Rules by which a model is chosen in each pixel (`abundances.mesma`); static under jit.

    Attributes:
        max_classes: R, classes of a model at most; no more than there are.
        threshold: a larger model is taken where it lowers the RMSE by more than this, units of the scene.
        shade: "none"; "normalised": a spectrum of zeros takes part, fractions are divided by what is not shade, and
            brightness is that sum; or "kept": the fraction of shade is a map.
        lowest, highest: fractions that a model may have. With 0 and 1 its answer is that of fully constrained least
            squares. Otherwise it is the answer with the sum to one alone, and a model with a fraction outside is
            discarded (Roberts et al. 1998: -0.05 and 1.05).
        most_shade: the same for shade, where fractions may lie outside 0 and 1.
        largest_rmse: models with a larger error are discarded; a pixel without any model has no fractions.
        draws: models of each number of classes that are tried, drawn without replacement; None: all.
        seed: of the draws.
        combine: "classes", at most one spectrum of each class in a model; or "spectra", any spectra, and the fractions
            of a class are summed: with `draws` the way that SpectralUnmixing of EMIT calls sma-best.
        members: the number of the class of each spectrum (`of`).
    """

    method: str = MESMA
    max_classes: int = 3
    threshold: float = 0.007
    shade: str = NO_SHADE
    lowest: float = 0.0
    highest: float = 1.0
    most_shade: float = 1.0
    largest_rmse: float = inf
    draws: int | None = None
    seed: int = 0
    combine: str = "classes"
    members: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Raise InputError for a word that is unknown or a number out of range."""
        super().__post_init__()
        if self.shade not in SHADES:
            raise InputError(f"shade is {self.shade!r}; expected {', '.join(SHADES)}.")
        if self.combine not in COMBINED:
            raise InputError(f"combine is {self.combine!r}; expected {', '.join(COMBINED)}.")
        if type(self.max_classes) is not int or self.max_classes < 1:
            raise InputError(f"max_classes is {self.max_classes!r}; expected a whole number above 0.")
        if self.draws is not None and (type(self.draws) is not int or self.draws < 1):
            raise InputError(f"draws is {self.draws!r}; expected a whole number above 0, or None.")
        check_range(self, "threshold", 0.0, 1e9)
        if not (self.lowest <= 0 and self.highest >= 1):
            raise InputError(
                f"Fractions are to lie in {self.lowest:g} to {self.highest:g}; expected a range that holds 0 to 1."
            )
        if not self.largest_rmse > 0:
            raise InputError(f"largest_rmse (--max-rmse) is {self.largest_rmse!r}; expected a number above 0.")

    def record(self) -> dict[str, Any]:
        """Return what summary.json says about the method, which names the classes elsewhere."""
        left_out = ("members", "slack", "sparsity", "variation")
        words = {name: value for name, value in asdict(self).items() if name not in left_out}
        return {**words, "models": self.models}

    def of(self, classes: Sequence[str]) -> "Mesma":
        """Return the rules for spectra of these classes."""
        if self.combine == "spectra":
            return replace(self, members=tuple(range(len(classes))))
        order = {name: number for number, name in enumerate(dict.fromkeys(classes))}
        return replace(self, members=tuple(order[name] for name in classes))

    @property
    def shaded(self) -> bool:
        """Whether shade takes part."""
        return self.shade != NO_SHADE

    @property
    def exact(self) -> bool:
        """Whether answers are those of fully constrained least squares."""
        return self.lowest == 0 and self.highest == 1

    @property
    def most_classes(self) -> int:
        """Classes of the largest model."""
        return min(self.max_classes, 1 + max(self.members))

    @property
    def sums_to_one(self) -> bool:
        """Whether the coefficients sum to one, and not to a brightness."""
        return self.shade != NORMALISED and not self.normalised

    @property
    def models(self) -> int:
        """Number of models of all sizes."""
        groups = [self.members.count(number) for number in range(1 + max(self.members))]
        sizes = [sum(map(prod, combinations(groups, size))) for size in range(1, self.most_classes + 1)]
        return sum(sizes if self.draws is None else [min(size, self.draws) for size in sizes])

    def check_count(self, count: int, bands: int) -> None:
        """Raise InputError where there are too many models, or a model has more unknowns than a pixel has equations."""
        if self.most_classes - (not self.shaded) > bands:
            raise InputError(
                f"Models have up to {how_many(self.most_classes, 'class')}{' and shade' if self.shaded else ''}, and "
                f"the scene {how_many(bands, 'band')}; expected no more unknowns than bands. Choose max_classes "
                f"{bands} or less."
            )
        if self.models > MOST_MODELS:
            raise InputError(
                f"{how_many(count, 'spectrum')} in {how_many(1 + max(self.members), 'class')} make {self.models:,} "
                f"models of up to {how_many(self.most_classes, 'class')}; expected at most {MOST_MODELS:,}. Choose "
                "fewer spectra of each class (prune), fewer classes (max_classes), or models at random (draws)."
            )
