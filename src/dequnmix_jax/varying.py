"""Let what a loop begins with vary over devices as its data do: jax.shard_map asks for it."""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp

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
