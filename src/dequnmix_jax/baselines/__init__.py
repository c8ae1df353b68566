"""The competitors, one file each, reimplemented in JAX from their papers.

`METHODS` names them for `dequnmix compare`; `competitor(name)` returns one, a value `Method(name, estimate)`. All get
the same cube, and the same initial endmembers (from VCA) where a method has none of its own. No reference is used in
training, stopping or constants. If a paper leaves something open, or its constants cannot be used, the docstring of the
file says what replaces them ("Guessed").
"""

from typing import TYPE_CHECKING

from dequnmix_jax.lazy import attach

if TYPE_CHECKING:
    from dequnmix_jax.baselines.catalogue import METHODS, competitor
    from dequnmix_jax.baselines.method import Method, MethodResult

__all__ = ["METHODS", "Method", "MethodResult", "competitor"]

__getattr__, __dir__ = attach(
    __name__, {"baselines.catalogue": ["METHODS", "competitor"], "baselines.method": ["Method", "MethodResult"]}
)
