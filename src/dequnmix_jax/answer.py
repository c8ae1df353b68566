"""Read an equilibrium: from a state of the map to abundances, spectra and brightness, and back to a cube."""

import jax
import jax.numpy as jnp

from dequnmix_jax import mixing, neighbours, scenewide
from dequnmix_jax.checks import check_kind
from dequnmix_jax.choices import Softmax
from dequnmix_jax.config import Model
from dequnmix_jax.records import Estimate, Params


def read_state(
    params: Params,
    state: jax.Array,
    cube: jax.Array,
    config: Model,
    mask: jax.Array | None = None,
    whole: scenewide.Scenewide | None = None,
) -> Estimate:
    """Turn a state of the map into abundances, endmembers and brightness, smoothed by the parameters' prior."""
    E = params["endmembers"]
    valid = jnp.ones(cube.shape[:2], bool) if mask is None else mask
    brightness = valid.astype(cube.dtype)
    if config.free_brightness:
        A, brightness = mixing.normalise_abundances(state, mask)
    else:
        A = state
        if isinstance(config.constraint, Softmax) and config.on_logits:
            A = jax.nn.softmax(config.constraint.gamma * state, axis=-1)
        A = jnp.where(valid[..., None], A, 0)
    if config.scales_endmembers:
        brightness = brightness * (scenewide.unit(cube, mask) if whole is None else whole.scale)
        E = mixing.scale_to_unit_maximum(E)
    if "prior" in params:
        A = neighbours.smooth(A, neighbours.Smoother(**params["prior"]), mask=valid)
    return Estimate(A, E, brightness, state)


def reconstruct(estimate: Estimate) -> jax.Array:
    """Mix an estimate back: Y = s A E, (H, W, B), in the units of the cube; 0 in masked pixels."""
    check_kind(estimate, Estimate, "estimate", "`unmix` returns a pair: estimate, trace = unmix(...).")
    return mixing.scaled_mix(estimate.abundances, estimate.endmembers, estimate.brightness)
