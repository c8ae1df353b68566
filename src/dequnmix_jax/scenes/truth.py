"""The reference of a scene: abundances, spectra, names, and the authors' own initialisation."""

from dataclasses import dataclass

import numpy as np

from dequnmix_jax.checks import InputError
from dequnmix_jax.conventions import check_convention
from dequnmix_jax.scenes.scene import Array


@dataclass(frozen=True, eq=False)
class Truth:
    """A reference to score an estimate against, or to initialise from.

    Attributes:
        abundances: (H, W, R) float32, or None.
        endmembers: (R, B) float32, one spectrum a row, or None.
        names: R names of the endmembers, or None.
        reference: its origin, in words.
        initial_endmembers: (R, B), the authors' initial spectra (M1 in their files, from VCA), or None.
        initial_abundances: (H, W, R), the authors' initial abundances (A1, from FCLS), or None.
        notes: one sentence for each assumption made while reading.
        convention: of the abundances, a word of `conventions.MEANINGS`, or None if it is unknown.
    """

    abundances: Array | None = None
    endmembers: Array | None = None
    names: tuple[str, ...] | None = None
    reference: str = ""
    initial_endmembers: Array | None = None
    initial_abundances: Array | None = None
    notes: tuple[str, ...] = ()
    convention: str | None = None

    def __post_init__(self) -> None:
        """Convert the arrays to float32 and check that they agree on the number of endmembers."""
        if self.convention is not None:
            check_convention(self.convention, "convention of the reference")
        counts = {}
        for name, axis, ndim in (
            ("abundances", 2, 3),
            ("endmembers", 0, 2),
            ("initial_endmembers", 0, 2),
            ("initial_abundances", 2, 3),
        ):
            values = getattr(self, name)
            if values is None:
                continue
            values = np.ascontiguousarray(values, np.float32)
            expected = "(rows, columns, endmembers)" if ndim == 3 else "(endmembers, bands)"
            if values.ndim != ndim:
                raise InputError(f"{name} of the reference have shape {values.shape}; expected {expected}.")
            object.__setattr__(self, name, values)
            counts[name] = values.shape[axis]
        if self.names is not None:
            object.__setattr__(self, "names", tuple(str(name) for name in self.names))
            counts["names"] = len(self.names)
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{count} in {name}" for name, count in counts.items())
            raise InputError(f"The reference disagrees about the number of endmembers: {listed}; expected one number.")
