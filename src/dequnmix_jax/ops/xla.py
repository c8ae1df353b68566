"""Reductions over rows, forced evaluation, and loop carries under jax.shard_map."""

from functools import partial, reduce
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax


def largest(x: jax.Array, axis: int | None = None) -> jax.Array:
    """Return the maximum along an axis, or of all entries.

    Args:
        x: (...), floating point.
        axis: the axis of the reduction; None: all.

    Returns:
        The maximum; NaN if an entry is NaN. Its derivative is that of the first maximal entry.
    """
    return _along(x.reshape(-1), 0) if axis is None else _along(x, axis % x.ndim)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _along(x: jax.Array, axis: int) -> jax.Array:
    return jnp.max(x, axis=axis)


@_along.defjvp
def _along_jvp(axis: int, primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    (x,), (change,) = primals, tangents
    index = jnp.expand_dims(jnp.argmax(x, axis=axis), axis)
    is_first = lax.broadcasted_iota(index.dtype, x.shape, axis) == index
    return _along(x, axis), jnp.sum(jnp.where(is_first, change, 0), axis=axis)


def total(x: jax.Array) -> jax.Array:
    """Return the sum over the first axis."""
    return reduce(jnp.add, [x[r] for r in range(x.shape[0])])


def least(x: jax.Array) -> jax.Array:
    """Return the minimum over the first axis; NaN if an entry is NaN."""
    return reduce(jnp.minimum, [x[r] for r in range(x.shape[0])])


def most(x: jax.Array) -> jax.Array:
    """Return the maximum over the first axis; NaN if an entry is NaN."""
    return reduce(jnp.maximum, [x[r] for r in range(x.shape[0])])


def least_where(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the minimum over the first axis and its first row."""
    value, row = x[0], jnp.zeros(x.shape[1:], jnp.int32)
    for r in range(1, x.shape[0]):
        smaller = x[r] < value
        value, row = jnp.where(smaller, x[r], value), jnp.where(smaller, jnp.int32(r), row)
    return value, row


def computed(values: Any, flag: jax.Array) -> Any:
    """Return a tree of arrays that is computed before it is used; `flag` (), bool, must be True.

    XLA fuses the computation of a number per pixel into all its uses, and repeats it for each of the R or R^2 rows: at
    R = 20 the pivoting search took 20.7 us a pixel, and takes 3.2 with this. XLA does not fuse across a branch on a
    value unknown to the compiler (on a CPU an optimization_barrier is removed before fusion).
    """
    return lax.cond(flag, lambda x: x, lambda x: jax.tree.map(jnp.zeros_like, x), values)


T = TypeVar("T")


def alongside(carry: T, *data: Any) -> T:
    """Return `carry` unchanged, but dependent on the data for jax.shard_map.

    The first carry of a loop must vary over the devices if the next one does, and constants do not vary. The compiled
    code has no trace of this.

    Args:
        carry: a tree of arrays.
        data: trees of arrays; their first entries are read.
    """
    leaves = [leaf for leaf in jax.tree.leaves(data) if not _is_key(leaf) and jnp.size(leaf)]
    flag = jnp.zeros((), bool)
    for leaf in leaves:
        first = jnp.ravel(leaf)[0]
        flag = flag | ((first == first) & False)  # False for NaN too
    return jax.tree.map(lambda x: x if _is_key(x) else jnp.where(flag, x, x), carry)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.asarray(leaf).dtype, jax.dtypes.extended)
