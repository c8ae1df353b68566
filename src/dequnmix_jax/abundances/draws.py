"""How sure fractions are, by draws: the spread over unmixings with other spectra of each class and other noise.

Each draw replaces the spectra of a class by as many drawn from it with replacement, adds noise to the pixels, and
unmixes the scene by the same method; the fraction of a spectrum that is drawn twice is counted once.

    Efron and Tibshirani, An Introduction to the Bootstrap, 1993; Ochoa et al., 2025 (EMIT's fractional cover: 20 draws)
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dequnmix_jax.abundances.known import unmix_known
from dequnmix_jax.abundances.methods import Known
from dequnmix_jax.checks import Array


class Spread(NamedTuple):
    """Maps over the draws.

    Attributes:
        abundances_sd, abundances_low, abundances_high: (H, W, R), standard deviation, and 5 % and 95 % of the draws.
        classes_sd, classes_low, classes_high: (H, W, K), the same of the sums of each class.
    """

    abundances_sd: jax.Array
    abundances_low: jax.Array
    abundances_high: jax.Array
    classes_sd: jax.Array
    classes_low: jax.Array
    classes_high: jax.Array


@partial(jax.jit, static_argnames=("known", "of", "draws"))
def bootstrap(
    key: Array,
    cube: jax.Array,
    endmembers: jax.Array,
    mask: jax.Array,
    norm: jax.Array,
    deviation: jax.Array | None,
    members: jax.Array,
    known: Known,
    of: tuple[int, ...],
    draws: int,
) -> Spread:
    """Return the spread of fractions over draws of spectra and noise.

    Args:
        key: of jax.random.
        cube, endmembers, mask, norm, known: as `unmix_known`; a spectrum of zeros, shade, is a class by itself.
        deviation: of the noise, (B,) or (H, W, B), or None for no noise.
        members: (R, K), 1 where a spectrum belongs to a class.
        of: R numbers, the class from which each spectrum is drawn.
        draws: D, their number.
    """
    count = endmembers.shape[0]
    groups = [np.flatnonzero(np.array(of) == number) for number in range(max(of) + 1)]

    def one(carry: None, key: jax.Array) -> tuple[None, tuple[jax.Array, jax.Array]]:
        spectra, noise = jax.random.split(key)
        at = jnp.zeros(count, jnp.int32)
        for number, rows in enumerate(groups):
            pick = jax.random.randint(jax.random.fold_in(spectra, number), (len(rows),), 0, len(rows))
            at = at.at[rows].set(jnp.asarray(rows, jnp.int32)[pick])
        Y = cube
        if deviation is not None:
            spread = deviation if deviation.ndim == 3 else deviation[None, None]
            Y = Y + jnp.where(mask[..., None], spread, 0) * jax.random.normal(noise, cube.shape, cube.dtype)
        drawn = unmix_known(Y, endmembers[at], mask, norm, known).abundances
        # Back to the spectra of the library.
        own = jnp.zeros_like(drawn).at[..., at].add(drawn)
        return None, (own, jnp.matmul(own, members, precision="highest"))

    _, (fractions, sums) = lax.scan(one, None, jax.random.split(key, draws))
    ends = jnp.asarray([0.05, 0.95], cube.dtype)
    parts = []
    for values in (fractions, sums):
        low, high = jnp.quantile(values, ends, axis=0)
        parts += [jnp.std(values, axis=0, ddof=1), low, high]
    return Spread(*parts)
