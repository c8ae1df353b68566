r"""Judge a prior over neighbours on the maps of a scene: it is kept only if they show that it helps.

Even and odd bands give two sets of maps, b_1 and b_2, whose errors from noise are independent. With D =
(b_1 - b_2) / 2 and S the smoother (linear before its last projection),

    gain = |D|^2 - |S D|^2 + v (1 - |S D|^2 / |D|^2 + |D - S D|^2 / |D|^2) - <b_1 - S b_1, b_2 - S b_2>

is an unbiased estimate of the decrease of the squared error of the maps: the noise that is smoothed away, less the
signal common to both sets that is smoothed away. The latter includes texture, and also errors that even and odd bands
share, since the spectra of a material that vary from pixel to pixel vary alike in neighbouring bands. v is a lower
estimate of their mean square. Maps by the lower and by the upper half of the bands, c_1 and c_2, share the texture,
but not those errors, or less. With N the nugget over the pixels (`smoothing.smoother`), S the variance beyond it, which
is structure without errors, and f(c_1, c_2) = (f(c_1 + c_2) - f(c_1 - c_2)) / 4,

    v = 1/2 max(N(b) - N(c_1, c_2) / alpha - |D|^2, 0),    alpha = min(S(c_1, c_2) / S(b), 1),

b the maps by all bands; alpha is what noise and the bound at 0 leave of the structure in halves that distinguish the
materials less. Below `ALIKE` they distinguish too little, and v is 0. Errors that all bands share, of the level of a
material, stay texture. The factor 1/2 (`COUNTED`) was chosen on generated scenes
(`experiments/operator/prior_texture.py`). The learned prior is not linear; its gain, of the same meaning, is
`smoothing_gain.smoothing_gain`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dequnmix_jax.abundances.learned_smoothing import LearnedSmoother, correction
from dequnmix_jax.abundances.prior_choice import learned_smoother
from dequnmix_jax.abundances.smoothing import Smoother, identity_smoother, semivariance, smooth_linearly, smoother
from dequnmix_jax.abundances.smoothing_gain import smoothing_gain
from dequnmix_jax.equilibrium import model
from dequnmix_jax.equilibrium.config import Model
from dequnmix_jax.equilibrium.scene_statistics import Scenewide
from dequnmix_jax.ops.guards import positive
from dequnmix_jax.ops.quick_compile import effort_once, quick_jit
from dequnmix_jax.training.pixel_blocks import standard_errors
from dequnmix_jax.types import NEEDED, Params, Verdict

COUNTED = 0.5
"""Share of the errors by the halves of the spectrum that counts. With all of it a prior takes fine texture for errors
on some generated scenes (`experiments/operator/prior_texture.py`)."""

ALIKE = 0.5
"""Least share of the structure of the maps that halves of the spectrum have to have in common to show errors."""


class Maps(NamedTuple):
    """Maps of the parameters that are kept.

    Attributes:
        whole, even, odd: (H, W, R), abundances by all bands, by the even ones and by the odd ones.
        lower, upper: (H, W, R), by the lower and by the upper half of the bands.
    """

    whole: jax.Array
    even: jax.Array
    odd: jax.Array
    lower: jax.Array
    upper: jax.Array


def band_subsets(bands: int, dtype: Any) -> jax.Array:
    """Return which bands the maps of `Maps` use, (5, B)."""
    number = jnp.arange(bands)
    even, lower = (number % 2 == 0).astype(dtype), (number < (bands + 1) // 2).astype(dtype)
    return jnp.stack([jnp.ones(bands, dtype), even, 1 - even, lower, 1 - lower])


@quick_jit(lambda params, cube, *_: effort_once(cube, np.shape(params["endmembers"])[0]), static_argnums=2)
def maps_of(params: Params, cube: jax.Array, config: Model, valid: jax.Array, whole: Scenewide | None = None) -> Maps:
    """Return the maps of parameters without a prior, by all bands and by parts of them."""
    cube = jnp.where(valid[:, :, None], cube, 0)

    def one(bands: jax.Array) -> jax.Array:
        return model.equilibrium(params, cube, config, mask=valid, whole=whole, bands=bands).estimate.abundances

    return Maps(*lax.map(one, band_subsets(cube.shape[2], cube.dtype)))


@quick_jit(lambda maps, *_: effort_once(maps.whole, maps.whole.shape[2]), static_argnums=1)
def judge_prior(
    maps: Maps, prior: str, valid: jax.Array, errors: jax.Array | None = None
) -> tuple[Verdict, Smoother | LearnedSmoother]:
    """Judge a prior, and return the smoother that is kept.

    Args:
        maps: of the parameters that are kept, from `stages.judge` or `maps_of`.
        prior: "learned" or "neighbours".
        valid: (H, W) bool.
        errors: v (); None: those of `shared_errors`.
    """
    errors = shared_errors(maps, valid) if errors is None else errors
    if prior == "learned":
        return _judge_learned(maps, errors, valid)
    estimated = smoother(maps.whole, mask=valid)
    dtype, count = maps.whole.dtype, maps.whole.shape[2]

    def smoothed(A: jax.Array) -> jax.Array:
        return smooth_linearly(A, valid, estimated)

    D = (maps.even - maps.odd) / 2
    SD = smoothed(D)
    removed = [A - smoothed(A) for A in (maps.even, maps.odd)]
    decrease = jnp.sum(jnp.square(D) - jnp.square(SD) - removed[0] * removed[1], axis=-1)
    size = jnp.maximum(jnp.sum(jnp.square(D)), jnp.finfo(dtype).tiny)
    taken = 1 - jnp.sum(jnp.square(SD)) / size + jnp.sum(jnp.square(D - SD)) / size
    gain = standard_errors(decrease + errors * taken, valid)
    verdict = _verdict(_acting(gain, maps.whole, smoothed(maps.whole)))
    none = identity_smoother(count)
    parts = (jnp.where(verdict.kept, a, b.astype(dtype)) for a, b in zip(estimated, none, strict=True))
    return verdict, Smoother(*parts)


def shared_errors(maps: Maps, valid: jax.Array) -> jax.Array:
    """Return v (), the mean square of a pixel's errors that even and odd bands share, as far as it is sure."""
    whole, even, odd, lower, upper = (jnp.where(valid[..., None], x, 0) for x in maps)
    pixels = jnp.maximum(jnp.sum(valid), 1).astype(whole.dtype)

    def parts(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return N and S."""
        centred = jnp.where(valid[..., None], x - (jnp.sum(x, axis=(0, 1)) / pixels)[None, None], 0)
        errors = nugget(x, valid)
        return errors, jnp.sum(jnp.square(centred)) / pixels - errors

    all_bands, added, taken = parts(whole), parts(lower + upper), parts(lower - upper)
    common = [jnp.maximum((a - b) / 4, 0) for a, b in zip(added, taken, strict=True)]
    alpha = jnp.minimum(common[1] / positive(all_bands[1]), 1)
    noise_left = jnp.sum(jnp.square((even - odd) / 2)) / pixels
    found = COUNTED * jnp.maximum(all_bands[0] - common[0] / jnp.maximum(alpha, ALIKE) - noise_left, 0)
    return jnp.where((all_bands[1] > 0) & (alpha >= ALIKE), found, 0)


def _acting(gain: jax.Array, A: jax.Array, smoothed: jax.Array) -> jax.Array:
    """Return the gain, 0 where the maps change by no more than rounding, which would be a gain too."""
    change = jnp.sum(jnp.square(A - smoothed)) / positive(jnp.sum(jnp.square(A)))
    acts = change > (100 * float(jnp.finfo(A.dtype).eps)) ** 2
    return jnp.where(acts | jnp.isnan(gain), gain, 0)


def _verdict(gain: jax.Array) -> Verdict:
    """Return the verdict on a prior from its gain in standard errors."""
    unknown = jnp.full(2, jnp.nan, gain.dtype)
    return Verdict(jnp.stack([gain, gain]), unknown, unknown[0], unknown[0], gain > NEEDED)


def _judge_learned(maps: Maps, shared: jax.Array, valid: jax.Array) -> tuple[Verdict, LearnedSmoother]:
    """Predict the learned prior, and judge it by the gain that the halves of the bands show (`smoothing_gain`)."""
    prior = learned_smoother(maps.whole, maps.even, maps.odd, mask=valid, shared=shared)

    def smoothed(A: jax.Array) -> jax.Array:
        return A + correction(A, valid, prior)

    gain = smoothing_gain(maps.whole, (maps.even - maps.odd) / 2, smoothed, shared)
    verdict = _verdict(_acting(standard_errors(gain, valid), maps.whole, smoothed(maps.whole)))
    return verdict, prior._replace(strength=jnp.where(verdict.kept, prior.strength, 0))


def unjudged_prior(
    params: Params, cube: jax.Array, config: Model, valid: jax.Array, whole: Scenewide | None
) -> LearnedSmoother:
    """Return the learned prior of parameters, without a verdict."""
    params = {name: part for name, part in params.items() if name != "prior"}
    maps = maps_of(params, cube, config, valid, whole)
    return learned_smoother(maps.whole, maps.even, maps.odd, mask=valid, shared=shared_errors(maps, valid))


def nugget(x: jax.Array, valid: jax.Array) -> jax.Array:
    """Return the nugget of maps (H, W, R), summed over R: 3 G(1) - 3 G(2) + G(3), as in `smoother`."""
    near, far, farther = (jnp.trace(semivariance(x, valid, distance)[0]) for distance in (1, 2, 3))
    return 3 * near - 3 * far + farther
