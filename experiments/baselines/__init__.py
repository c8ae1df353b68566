"""The competitors, one file each, written anew from their papers; experiments only, not part of the package.

Each file makes values `Method(name, estimate)`. All get the same cube and the same start (endmembers, from VCA), and no
reference: none takes part in training, stopping or constants. Where a paper leaves something open, or its constants
cannot be taken over, the docstring of the file says what was put in their place.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax


class Found(NamedTuple):
    """What a method finds: abundances (H, W, R), >= 0 and summing to one, and endmembers (R, B).

    `scaled` () bool: what `Method.scaled` says, where the method finds that out from the scene; `bright` () bool:
    whether a pixel has a brightness of its own, where that is not the same (soft mixing, on spectra as they are).
    """

    abundances: jax.Array
    endmembers: jax.Array
    scaled: jax.Array | None = None
    bright: jax.Array | None = None


Estimate = Callable[[jax.Array, jax.Array, jax.Array], Found]
"""(key, cube (H, W, B), start (R, B) in the units of the cube) -> Found."""


class Method(NamedTuple):
    """A competitor.

    Attributes:
        name: as in the tables.
        estimate: safe under jit and vmap where `pure`.
        scaled: whether abundances are those of spectra of maximum one (each pixel has a brightness), or linear.
        pure: whether all of it is JAX under one jit; one that calls another package, or looks at values, is not.
        draws: whether one that is not pure depends on the key, and so is run for each of several equal starts.
    """

    name: str
    estimate: Estimate
    scaled: bool = False
    pure: bool = True
    draws: bool = False
