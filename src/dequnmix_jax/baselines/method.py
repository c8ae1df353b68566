"""A competitor as a value: a name, a function from a cube and initial spectra to a result, and its convention."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from dequnmix_jax.endmembers import selection


class MethodResult(NamedTuple):
    """What a method finds.

    Attributes:
        abundances: (H, W, R), >= 0 and summing to one.
        endmembers: (R, B), units of the cube.
        constraint_index: () int32, index into `selection.CONSTRAINTS`, if the method finds it from the scene; None:
            `Method.constraint`.
    """

    abundances: jax.Array
    endmembers: jax.Array
    constraint_index: jax.Array | None = None


Estimate = Callable[[jax.Array, jax.Array, jax.Array], MethodResult]
"""(key, cube (H, W, B), start (R, B) in the units of the cube) -> MethodResult."""


class Method(NamedTuple):
    """A competitor.

    Attributes:
        name: as in the tables.
        estimate: safe under jit and vmap where `pure`.
        constraint: "simplex"; "cone": abundances refer to spectra of maximum one, and each pixel has a brightness; or
            "soft": each pixel has a brightness, and spectra count as they are.
        pure: whether it runs in JAX under one jit; not if it calls another package or inspects values.
        draws: whether a method that is not pure depends on the key and must run for each of several equal starts.
    """

    name: str
    estimate: Estimate
    constraint: str = "simplex"
    pure: bool = True
    draws: bool = False

    def constraint_of(self, result: MethodResult) -> str:
        """Return the constraint of a result."""
        if result.constraint_index is None:
            return self.constraint
        return selection.CONSTRAINTS[int(result.constraint_index)]
