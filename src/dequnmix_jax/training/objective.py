"""The training objective, without a reference: the misfit of the reconstruction, and the spread of the simplex."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from dequnmix_jax import metrics, mixing
from dequnmix_jax.checks import check_cube, check_kind, check_mask, check_params
from dequnmix_jax.endmembers import noise
from dequnmix_jax.equilibrium import fixed_point_map, model
from dequnmix_jax.equilibrium.config import Model
from dequnmix_jax.equilibrium.scene_statistics import Scenewide
from dequnmix_jax.ops.guards import positive, unit_rows
from dequnmix_jax.ops.xla import largest
from dequnmix_jax.training.config import Rates
from dequnmix_jax.types import Estimate, Params


def loss(
    params: Params,
    cube: jax.Array,
    config: Model,
    rates: Rates | None = None,
    *,
    initial: jax.Array | None = None,
    mask: jax.Array | None = None,
    held_out: jax.Array | None = None,
    probes: jax.Array | None = None,
    tolerance: jax.Array | None = None,
    whole: Scenewide | None = None,
) -> tuple[jax.Array, dict[str, Any]]:
    """Return the training objective of an equilibrium model; it needs no reference.

    mean spectral angle(y, s a E) + alpha mean (y - s a E)^2 / max(Y)^2 + weight spread(E) [+ weight |J|_F^2 / size]

    The first two terms are the paper's (its cubes have maximum one). The third, zero by default, keeps the simplex of
    the endmembers small; with reconstruction alone it drifts outwards.

    Args:
        params, cube, config, mask: as `unmix`.
        rates: `error` is alpha, `spread` the weight of the third term.
        initial: (H, W, R), the first state of the solve.
        held_out: (B,) bool, bands that are left out of the equilibrium; the first two terms are taken on them alone.
        probes: (P, H, W, R), standard normal, for the penalty on the Jacobian (`jacobian_penalty`); None: no penalty.
        tolerance: overrides `config.forward.tolerance`.
        whole: numbers of the whole scene, if the cube holds parts of it.

    Returns:
        (loss, {"angle", "error", "trace", "state"}): angle in radians, error in units of the cube squared.

    Raises:
        InputError: if shapes or choices do not fit, in a sentence.
    """
    rates = Rates() if rates is None else rates
    check_params(params)
    check_kind(config, Model, "config")
    check_kind(rates, Rates, "rates")
    check_cube(cube)
    check_mask(mask, cube)
    cube = mixing.wide(cube)
    bands = None if held_out is None else (~held_out).astype(cube.dtype)
    estimate, trace, factors = model.equilibrium(
        params, cube, config, initial=initial, mask=mask, whole=whole, bands=bands, tolerance=tolerance
    )
    state = estimate.state
    total, parts = misfit(estimate, cube, rates, mask=mask, held_out=held_out)
    if probes is not None:
        total = total + rates.jacobian * jacobian_penalty(factors, lax.stop_gradient(state), config, probes)
    return total, parts | {"trace": trace, "state": state}


def misfit(
    estimate: Estimate,
    cube: jax.Array,
    rates: Rates,
    *,
    mask: jax.Array | None = None,
    held_out: jax.Array | None = None,
) -> tuple[jax.Array, dict[str, Any]]:
    """Return the first three terms of `loss` for any estimate.

    Returns:
        (their sum, {"angle", "error"}), as in `loss`.
    """
    valid = mixing.valid_pixels(cube, mask)
    valid_cube = jnp.where(valid[..., None], cube, 0)
    weight = jnp.ones(cube.shape[-1], cube.dtype) if held_out is None else held_out.astype(cube.dtype)
    target = valid_cube * weight[None, None]
    seen = estimate._replace(endmembers=estimate.endmembers * weight[None])
    if seen.fluctuation is not None:
        seen = seen._replace(fluctuation=seen.fluctuation * weight[None, None])
    rebuilt = model.reconstruct(seen)
    pixels = jnp.sum(valid).astype(cube.dtype)
    angle = jnp.sum(jnp.where(valid, metrics.spectral_angle(target, rebuilt), 0)) / pixels
    error = jnp.sum(jnp.square(rebuilt - target)) / (pixels * jnp.sum(weight))
    peak = largest(jnp.abs(valid_cube))
    total = angle + rates.error * error / jnp.square(positive(peak))
    return total + rates.spread * spread(estimate.endmembers), {"angle": angle, "error": error}


def spread(endmembers: jax.Array) -> jax.Array:
    """Return the RMS distance of the unit spectra from their mean: 0 for equal spectra, always below 1.

    The size of the simplex as in ICE (Berman et al. 2004, IEEE TGRS 42(10)), here its root: for similar spectra an
    angle in radians, as the first term of the loss. A determinant has no lower bound: on five similar minerals its
    logarithm made the spectra equal.
    """
    U = unit_rows(endmembers)
    square = jnp.mean(jnp.sum(jnp.square(U - jnp.mean(U, axis=0, keepdims=True)), axis=1))
    # Equal spectra differ by rounding; the root has no derivative at 0, and is set to 0.
    distinct = square > jnp.finfo(square.dtype).eps ** 2
    return jnp.where(distinct, jnp.sqrt(jnp.where(distinct, square, 1)), 0)


def variability_ratio(cube: jax.Array, endmembers: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Return how far spectral variability moves pixels out of the simplex, relative to its size.

    theta (1 - (1 - v)^(1/2)) / spread(E): theta = (1 - share of the energy that R directions hold)^(1/2) is the angle
    that no R spectra explain, v the `noise.variability`, so that white noise alone would leave (1 - v)^(1/2) of it.
    Variability also acts within the space of the simplex: about this share of the pixels lies outside the faces of the
    true simplex, and a fit gains by growing to include them. The derivative of the mean angle by the size of the
    simplex is the share of pixels outside, so that this is the natural unit of the weight of `spread`. White noise
    needs no such term: held-out bands distinguish the true simplex from a larger one, but variability is common to all
    bands.
    """
    count = endmembers.shape[0]
    unexplained = jnp.sqrt(noise.unexplained(cube, count, mask=mask))
    shift = unexplained * (1 - jnp.sqrt(1 - noise.variability(cube, count, mask=mask)))
    size = spread(endmembers)
    return shift / positive(size)


def jacobian_penalty(factors: fixed_point_map.Factors, state: jax.Array, config: Model, probes: jax.Array) -> jax.Array:
    """Estimate |J|_F^2 / size, the mean square of the singular values of the map's Jacobian at a state.

    |J|_F^2 = E |J^T v|^2 for standard normal v (Hutchinson 1989), averaged over the probes; differentiable.
    The derivative of the projection is that of the face on which a pixel lies.

    Reference:
        Bai, Koltun and Kolter, Stabilizing equilibrium models by Jacobian regularization, ICML 2021.
    """
    _, pull = jax.vjp(lambda z: fixed_point_map.state_map(config)(factors, z), state)
    return jnp.mean(lax.map(lambda v: jnp.mean(jnp.square(pull(v)[0])), probes))
