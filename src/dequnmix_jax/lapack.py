"""Decompositions of one matrix a scene, which a CPU takes one after the other under jax.vmap.

jaxlib divides a batch of LAPACK calls among the threads on which XLA itself runs, and waits for them there: two batches
at the same time, on as many threads, wait for each other for ever (jaxlib 0.10.2: 64 scenes on two cores, one thread in
a batched QR and one in a batched eigenvalue decomposition). One matrix at a time divides nothing.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap

Decomposition = Callable[[jax.Array], tuple[jax.Array, ...]]


def _one_by_one(plain: Decomposition) -> Decomposition:
    """Return a function that does the same, its batches in turn on a CPU and side by side elsewhere."""
    single = custom_vmap(plain)

    @single.def_vmap
    def mapped(_: int, batched: list[bool], x: jax.Array) -> tuple[Any, Any]:
        found = lax.platform_dependent(x, cpu=lambda x: lax.map(single, x), default=jax.vmap(plain))
        return found, jax.tree.map(lambda _: True, found)

    differentiable = jax.custom_jvp(single)  # the batching rule has no transpose of its own
    differentiable.defjvp(lambda primals, tangents: jax.jvp(plain, primals, tangents))
    return differentiable


eigh: Decomposition = _one_by_one(lambda x: tuple(jnp.linalg.eigh(x)))
"""Eigenvalues, smallest first, and eigenvectors as columns, of a symmetric matrix."""

qr_root: Decomposition = _one_by_one(lambda x: (jnp.linalg.qr(x, mode="r"),))
"""The triangular factor of a QR decomposition, alone in a tuple."""

svd: Decomposition = _one_by_one(lambda x: tuple(jnp.linalg.svd(x)))
"""U, singular values and V^T."""
