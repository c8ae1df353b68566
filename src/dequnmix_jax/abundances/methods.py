"""Methods of unmixing by known spectra, as a value; needs no jax."""

from dataclasses import dataclass

from dequnmix_jax.checks import InputError, check_range
from dequnmix_jax.conventions import REFLECTANCE, SCALED

METHODS = ("fcls", "nnls", "scaled", "soft", "sunsal", "sunsal-tv")
"""The first is the default."""


@dataclass(frozen=True)
class Known:
    """How a scene is unmixed by known spectra; static under jit.

    Attributes:
        method: a word of `METHODS`.
        slack: w of "soft", the weight of the sum.
        sparsity: l of "sunsal" and "sunsal-tv", relative to n m.
        variation: v of "sunsal-tv", relative to n m.
    """

    method: str = METHODS[0]
    slack: float = 0.3
    sparsity: float = 1e-4
    variation: float = 1e-4

    def __post_init__(self) -> None:
        """Raise InputError for an unknown method or a number out of range."""
        if self.method not in METHODS:
            raise InputError(f"method is {self.method!r}; expected {', '.join(METHODS)}.")
        check_range(self, "slack", 1e-3, 1e3)
        check_range(self, "sparsity", 0.0, 1e3)
        check_range(self, "variation", 0.0, 1e3)

    @property
    def convention(self) -> str:
        """The convention of its fractions."""
        return SCALED if self.method == "scaled" else REFLECTANCE

    @property
    def by_pixel(self) -> bool:
        """Whether each pixel is solved by itself, so that a scene can be cut into tiles."""
        return self.method != "sunsal-tv"

    def check_count(self, count: int, bands: int) -> None:
        """Raise InputError where a method without a prior has more unknowns than a pixel has equations."""
        unknowns, prior = count - (self.method == "fcls"), self.method.startswith("sunsal")
        if unknowns > bands and not prior:
            raise InputError(
                f"There are {count} spectra and {bands} bands; expected no more spectra than bands for {self.method}, "
                "which cannot determine more fractions. Choose fewer spectra, or method sunsal, which prefers few."
            )

    def not_optimal(self, change: float) -> str:
        """Return the warning about fractions that a further step changes by a share of their size."""
        return (
            f"The optimum of {self.method} was not reached: a further step changes the fractions by {change:.1e} of "
            "their size; do not trust the maps."
        )
