"""Let what a loop begins with vary over devices as its data do: jax.shard_map asks for it."""

from functools import partial, reduce
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax


def largest(x: jax.Array, axis: int | None = None) -> jax.Array:
    """Return the maximum along an axis, or of all entries.

    Args:
        x: (...), floating point.
        axis: the one that is left out of the answer; None: all.

    Returns:
        The maximum; NaN where there is one. Its derivative is that of the first entry that has it.
    """
    return _along(x.reshape(-1), 0) if axis is None else _along(x, axis % x.ndim)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _along(x: jax.Array, axis: int) -> jax.Array:
    return jnp.max(x, axis=axis)


@_along.defjvp
def _along_jvp(axis: int, primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    (x,), (change,) = primals, tangents
    place = jnp.expand_dims(jnp.argmax(x, axis=axis), axis)
    here = lax.broadcasted_iota(place.dtype, x.shape, axis) == place
    return _along(x, axis), jnp.sum(jnp.where(here, change, 0), axis=axis)


def total(x: jax.Array) -> jax.Array:
    """Return the sum over the first axis."""
    return reduce(jnp.add, [x[r] for r in range(x.shape[0])])


def least(x: jax.Array) -> jax.Array:
    """Return the minimum over the first axis; NaN where there is one."""
    return reduce(jnp.minimum, [x[r] for r in range(x.shape[0])])


def most(x: jax.Array) -> jax.Array:
    """Return the maximum over the first axis; NaN where there is one."""
    return reduce(jnp.maximum, [x[r] for r in range(x.shape[0])])


def least_where(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the minimum over the first axis and the first row that holds it."""
    value, row = x[0], jnp.zeros(x.shape[1:], jnp.int32)
    for r in range(1, x.shape[0]):
        smaller = x[r] < value
        value, row = jnp.where(smaller, x[r], value), jnp.where(smaller, jnp.int32(r), row)
    return value, row


def computed(values: Any, flag: jax.Array) -> Any:
    """Return a tree of arrays that is in memory before it is used; `flag` (), bool, is to be True.

    XLA fuses what computes a number for each pixel into everything that uses it, and computes it anew for each of the
    R or R^2 rows there: at R = 20 the pivoting search took 20.7 us a pixel, and 3.2 with this. It does not fuse across
    a branch that it cannot foresee (an optimization_barrier is gone before fusion, on a CPU).
    """
    return lax.cond(flag, lambda x: x, lambda x: jax.tree.map(jnp.zeros_like, x), values)


T = TypeVar("T")


def alongside(start: T, *data: Any) -> T:
    """Return `start`, made to depend on the data in nothing but form.

    Under jax.shard_map the carry of a loop has to vary over the devices from the beginning if it does after a step, and
    zeros vary nowhere. The same numbers come back; compiled code has nothing of it.

    Args:
        start: a tree of arrays.
        data: trees of arrays, of which the first entries are looked at.
    """
    leaves = [leaf for leaf in jax.tree.leaves(data) if not _is_key(leaf) and jnp.size(leaf)]
    flag = jnp.zeros((), bool)
    for leaf in leaves:
        first = jnp.ravel(leaf)[0]
        flag = flag | ((first == first) & False)  # NaN as well gives False
    return jax.tree.map(lambda x: x if _is_key(x) else jnp.where(flag, x, x), start)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.asarray(leaf).dtype, jax.dtypes.extended)
