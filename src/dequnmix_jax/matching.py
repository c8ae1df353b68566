"""Match two sets of things one to one, at the least cost."""

import numpy as np

from dequnmix_jax.scene import Array


def match(cost: Array) -> tuple[Array, Array]:
    """Return the matching with the least sum of costs, each row and each column used at most once.

    Args:
        cost: (M, N), finite; M and N may differ.

    Returns:
        Rows and columns, min(M, N) of each: row[i] is matched with column[i].

    Reference:
        Kuhn, The Hungarian method for the assignment problem, Naval Research Logistics 2, 1955.
    """
    import jax.numpy as jnp
    from optax.assignment import hungarian_algorithm

    rows, columns = hungarian_algorithm(jnp.asarray(cost, jnp.float32))
    return np.asarray(rows), np.asarray(columns)
