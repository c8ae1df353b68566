"""Where an unmixing has settled and where it has not: a map of what one more step would change."""

import jax
import jax.numpy as jnp
import numpy as np

from dequnmix_jax import mixing
from dequnmix_jax.checks import Array, InputError, check_array
from dequnmix_jax.equilibrium import fixed_point_map, model
from dequnmix_jax.equilibrium.config import Model
from dequnmix_jax.ops.quick_compile import is_small, quick_jit
from dequnmix_jax.solvers.forward import solve
from dequnmix_jax.types import Estimate, Params, Trace


def last_change(params: Params, state: Array, cube: Array, config: Model, *, mask: Array | None = None) -> jax.Array:
    """Return how much one more application of the equilibrium map changes each pixel, relative to the scene.

        d_p = RMS_r(f(z) - z)_p / RMS(f(z)),

    r over endmembers, the denominator over endmembers and valid pixels: the RMS of d over the valid pixels is the
    relative residual of the state, as `Trace` has it where no pixel is masked.

    Args:
        params: from `init` or `fit`.
        state: (H, W, R), `Estimate.state`.
        cube: (H, W, B), the scene that it belongs to.
        config: the parts of the map.
        mask: (H, W) bool, True where the pixel is valid.

    Returns:
        (H, W), no unit; 0 in masked pixels.

    Raises:
        InputError: where shapes or values do not fit, in a sentence.
    """
    model.check(params, cube, config, mask)
    check_array(state, "state")
    if np.shape(state) != (*np.shape(cube)[:2], np.shape(params["endmembers"])[0]):
        raise InputError(
            f"state has shape {np.shape(state)}; expected one state for each pixel and endmember, "
            f"{(*np.shape(cube)[:2], np.shape(params['endmembers'])[0])}. Pass Estimate.state of the same scene."
        )
    return _change(state, model.equilibrium_map(params, state, cube, config, mask=mask), mask)


def _change(state: jax.Array, after: jax.Array, mask: Array | None) -> jax.Array:
    valid = jnp.ones(after.shape[:2], bool) if mask is None else jnp.asarray(mask)
    count = jnp.maximum(jnp.sum(valid), 1).astype(after.dtype)
    size = jnp.sqrt(jnp.sum(jnp.mean(jnp.square(after), axis=-1)) / count)
    change = jnp.sqrt(jnp.mean(jnp.square(after - state), axis=-1))
    return jnp.where(valid, change / jnp.where(size > 0, size, 1), 0)


@quick_jit(lambda params, cube, *_, **__: is_small(cube, np.shape(params["endmembers"])[0]), static_argnums=2)
def unmix_with_change(
    params: Params, cube: Array, config: Model, mask: Array | None = None
) -> tuple[Estimate, Trace, jax.Array]:
    """Return what `unmix` returns and `last_change` of it, compiled as one program that factors the scene once."""
    model.check(params, cube, config, mask)
    cube = mixing.wide(cube)
    theta, f = fixed_point_map.factor(params, cube, config, mask), fixed_point_map.state_map(config)
    state, trace = solve(f, config.forward, theta, fixed_point_map.start_state(params, cube, config))
    return model.read_state(params, state, cube, config, mask), trace, _change(state, f(theta, state), mask)
