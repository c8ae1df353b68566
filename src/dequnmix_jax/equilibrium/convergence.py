"""Where the solve has converged: a map of the change by one more step."""

import jax
import jax.numpy as jnp
import numpy as np

from dequnmix_jax import mixing
from dequnmix_jax.checks import Array
from dequnmix_jax.equilibrium import fixed_point_map, model
from dequnmix_jax.equilibrium.config import Model
from dequnmix_jax.ops.guards import positive
from dequnmix_jax.ops.quick_compile import effort_once, quick_jit
from dequnmix_jax.types import Estimate, Params, Trace


def last_change(params: Params, state: Array, cube: Array, config: Model, *, mask: Array | None = None) -> jax.Array:
    """Return how much one more application of the equilibrium map changes each pixel, relative to the scene.

        d_p = RMS_r(f(z) - z)_p / RMS(f(z)),

    r over endmembers, the denominator over endmembers and valid pixels: the RMS of d over the valid pixels is the
    relative residual of the state, as in `Trace` if no pixel is masked.

    Args:
        params: from `init` or `fit`.
        state: (H, W, R), `Estimate.state`.
        cube: (H, W, B), the scene of this state.
        config: the parts of the map.
        mask: (H, W) bool, True where the pixel is valid.

    Returns:
        (H, W), no unit; 0 in masked pixels.

    Raises:
        InputError: if shapes or values do not fit, in a sentence.
    """
    model.check(params, cube, config, mask)
    model.check_state(state, params, cube, "state")
    return _relative_change(*change_of(state, model.equilibrium_map(params, state, cube, config, mask=mask)), mask)


def change_of(state: jax.Array, image: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the RMS over endmembers of f(z) - z and the mean square of f(z), (H, W) each."""
    return jnp.sqrt(jnp.mean(jnp.square(image - state), axis=-1)), jnp.mean(jnp.square(image), axis=-1)


def _relative_change(change: jax.Array, square: jax.Array, mask: Array | None) -> jax.Array:
    valid = jnp.ones(change.shape, bool) if mask is None else jnp.asarray(mask)
    count = jnp.maximum(jnp.sum(valid), 1).astype(change.dtype)
    size = jnp.sqrt(jnp.sum(square) / count)
    return jnp.where(valid, change / positive(size), 0)


@quick_jit(lambda params, cube, *_, **__: effort_once(cube, np.shape(params["endmembers"])[0]), static_argnums=2)
def unmix_with_change(
    params: Params, cube: Array, config: Model, mask: Array | None = None
) -> tuple[Estimate, Trace, jax.Array]:
    """Return the result of `unmix` and its `last_change`, compiled as one program that factors the scene once."""
    model.check(params, cube, config, mask)
    estimate, trace, factors = model.equilibrium(params, mixing.wide(cube), config, mask=mask)
    image = fixed_point_map.state_map(config)(factors, estimate.state)
    return estimate, trace, _relative_change(*change_of(estimate.state, image), mask)
