r"""Choose the prior over neighbours of a scene, and its strength, by the error that it is estimated to leave.

Two priors share one form (`learned_smoothing`): that with learned filters, whose strengths a network predicts from
errors of noise, and the linear one, whose strengths come from the nugget of the maps and so from all errors that are
independent between pixels, of varying spectra too. Each is tried at several strengths. That with the largest estimated
gain (`smoothing_gain`) is returned; none at all, strength 0, has a gain of zero.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dequnmix_jax.abundances.learned_smoothing import (
    LearnedSmoother,
    SpatialWeights,
    assemble,
    contrasts,
    correction,
    in_filters,
    look,
    shipped_weights,
)
from dequnmix_jax.abundances.smoothing import Smoother, checked, estimated, smooth_linearly
from dequnmix_jax.abundances.smoothing_gain import smoothing_gain
from dequnmix_jax.checks import Array, InputError, check_kind, concrete

PARTS = (0.1, 0.25, 0.5, 1.0)
"""Parts of the learned strengths that are tried."""

MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Multiples of the linear strengths that are tried."""


def learned_smoother(
    abundances: Array,
    even: Array,
    odd: Array,
    *,
    mask: Array | None = None,
    weights: SpatialWeights | None = None,
    shared: Array | float | None = None,
) -> LearnedSmoother:
    """Predict the prior over neighbours of a scene from its maps.

    The difference of the maps by even and by odd bands shows the errors from noise, and which prior, the learned one at
    a part of the predicted strengths or the linear one at a multiple of its own, has the least estimated risk
    (`smoothing_gain`). From the maps alone, as `smoother` does it, texture is mistaken for errors, on families that the
    network never saw by factors (`experiments.operator.spatial`).

    Args:
        abundances: (H, W, R), R >= 2, from any method, by all bands.
        even, odd: (H, W, R), maps of the same endmembers by the even and by the odd bands.
        mask: (H, W) bool, True where the pixel is valid.
        weights: of the operator; None: those of the package.
        shared: mean square of the errors of a pixel, summed over the maps, that both halves share and that are
            independent from pixel to pixel, as spectra that vary make them (`dq.run` estimates it from the halves of
            the spectrum); None: only noise counts.

    Returns:
        A LearnedSmoother, of strength 0 with fewer than 100 pairs of valid pixels three apart and for constant maps.
        Its derivative in the maps is zero, that in the weights is exact at the chosen part of the strengths.

    Raises:
        InputError: if the shapes do not fit or R is 1, or outside jit if valid values are not finite or `shared` is
            negative.
    """
    A, valid = checked(abundances, mask)
    for name, half in (("even", even), ("odd", odd)):
        if np.shape(half) != A.shape:
            raise InputError(
                f"{name} has shape {np.shape(half)}; expected maps of the shape of the abundances, {A.shape}. Unmix "
                "with the same endmembers by even and by odd bands."
            )
    if A.shape[2] < 2:
        raise InputError("abundances hold 1 map; expected at least 2, since a single fraction is 1 everywhere.")
    halves = [checked(half, mask, name)[0].astype(A.dtype) for name, half in (("even", even), ("odd", odd))]
    difference = (halves[0] - halves[1]) / 2
    weights = shipped_weights() if weights is None else weights
    check_kind(weights, SpatialWeights, "weights", "Leave it out for the weights of the package.")
    given = SpatialWeights(*(jnp.asarray(w, A.dtype) for w in weights))
    return _chosen(A, difference, valid, given, _size(shared, A.dtype))


def _size(shared: Array | float | None, dtype: Any) -> jax.Array:
    """Return v (), 0 if it is not given; raise InputError unless it is one number that can be a mean square."""
    if shared is None:
        return jnp.zeros((), dtype)
    if np.shape(shared) != ():
        raise InputError(f"shared has shape {np.shape(shared)}; expected one number, of all pixels.")
    if concrete(shared) and not 0 <= float(shared) < np.inf:
        raise InputError(
            f"shared is {float(shared)}; expected a mean square, finite and >= 0. Leave it out if it is not known."
        )
    return jnp.asarray(shared, dtype)


@jax.jit
def _chosen(
    A: jax.Array, difference: jax.Array, valid: jax.Array, weights: SpatialWeights, shared: jax.Array
) -> LearnedSmoother:
    learned = assemble(weights, *look(A, difference, valid))
    A, difference, fixed = lax.stop_gradient((A, difference, learned))
    basis = jnp.asarray(contrasts(A.shape[2]), A.dtype)
    linear = estimated(jnp.matmul(A, basis, precision="highest"), valid)

    def by_learned(part: jax.Array, x: jax.Array) -> jax.Array:
        return x + correction(x, valid, fixed._replace(strength=part * fixed.strength))

    def by_linear(multiple: jax.Array, x: jax.Array) -> jax.Array:
        c = jnp.matmul(x, basis, precision="highest")
        moved = smooth_linearly(c, valid, Smoother(linear.directions, multiple * linear.strength))
        return x + jnp.matmul(moved - c, basis.T, precision="highest")

    def gains(ways: tuple[float, ...], smooth: Callable[[jax.Array, jax.Array], jax.Array]) -> jax.Array:
        def one(size: jax.Array) -> jax.Array:
            gain = smoothing_gain(A, difference, lambda x: smooth(size, x), shared)
            return jnp.sum(jnp.where(valid, gain, 0))

        return lax.map(one, jnp.asarray(ways, A.dtype))

    found = jnp.concatenate([jnp.zeros(1, A.dtype), gains(PARTS, by_learned), gains(MULTIPLES, by_linear)])
    best = jnp.argmax(jnp.where(jnp.isfinite(found), found, -jnp.inf))
    size = jnp.asarray((0.0, *PARTS, *MULTIPLES), A.dtype)[best]
    other = in_filters(linear, A.shape[2])
    chosen = jax.tree.map(lambda a, b: jnp.where(best > len(PARTS), b, a), learned, other)
    return chosen._replace(strength=size * chosen.strength)
