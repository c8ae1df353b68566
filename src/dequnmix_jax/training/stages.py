r"""Judge each stage of training on the scene itself: a stage without evidence that it helps is undone.

Training fits a reconstruction, and a better reconstruction is not always a better unmixing. A stage (trained
endmembers, then the trained network, then the prior over neighbours) is therefore kept only if held-out data show a
gain larger than its uncertainty; otherwise the result of the stage before is kept.

**Endmembers and network.** Abundances from half of the bands predict the other half. The misfit of a pixel, in units of
the noise of each band (`noise.band_noise`), is

    q_p = mean over held-out bands b of ((y_pb - (s a E)_pb) / sigma_b)^2,

1 if noise alone is left. The gain q(before) - q(after) is averaged in blocks of 4 x 4 pixels, and its mean over the
blocks must exceed `NEEDED` standard errors, both over the blocks of the training and over held-out blocks
(`Training.judged`). Trained endmembers have to pass two more tests, because abundances from half of the bands are noisy
predictors, and favour a simplex that is slightly too small: by Stein's unbiased estimate of the risk with all bands,

    r_p = mean_b ((y_pb - (s a E)_pb) / sigma_b)^2 + 2 d_p / B - 1,

d_p the degrees of freedom: the number of positive abundances, less one if they sum to one. And they must reach the
level of the noise: if the misfit after training is more than `ADEQUATE` times the noise, it is one of the model and not
of its endmembers, which would move to compensate for it.

**Each material.** Most pixels of a scene are mixed, and a simplex that is too small at one corner can fit them better,
while the few pixels of that material fit worse. So no material may lose: over the pixels in which it is more than half
before the stage, the gain (of the risk for endmembers, of the held-out bands for the network) must not be below
-`NEEDED` standard errors. A material that is more than half in fewer than two blocks says nothing. Endmembers that were
taken from these pixels fit their noise as well, so that this rule favours the stage before.

**The prior** is judged on maps of the parameters that are kept (`prior_stage`).

References:
    Batson and Royer, Noise2Self, ICML 2019 (held-out measurements of independent noise); Stein, Estimation of the mean
    of a multivariate normal distribution, Annals of Statistics 9(6), 1981; Zou, Hastie and Tibshirani, On the degrees
    of freedom of the lasso, Annals of Statistics 35(5), 2007 (the count of non-zero coefficients).
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dequnmix_jax.abundances.smoothing import smoother
from dequnmix_jax.endmembers import noise
from dequnmix_jax.equilibrium import model
from dequnmix_jax.equilibrium.config import Model
from dequnmix_jax.equilibrium.model import reconstruct
from dequnmix_jax.equilibrium.scene_statistics import Scenewide, unit
from dequnmix_jax.mixing import valid_pixels, wide
from dequnmix_jax.ops.quick_compile import effort_once, quick_jit
from dequnmix_jax.training.config import Training
from dequnmix_jax.training.pixel_blocks import standard_errors
from dequnmix_jax.training.prior_stage import Maps, band_subsets, judge_prior, maps_of, unjudged_prior
from dequnmix_jax.types import ADEQUATE, NEEDED, Params, Stages, Verdict

if TYPE_CHECKING:
    from dequnmix_jax.training.fitting import FitState


_MOST = 0.5
"""Abundance above which a pixel speaks for a material."""

_POSITIVE = 1e-6
"""Abundances up to which an endmember counts as absent from a pixel."""

_FLOOR = 1e-6
"""Noise below this fraction of the RMS of the scene cannot be estimated in float32 (`noise.band_noise`)."""


def undecided(dtype: Any = jnp.float32) -> Verdict:
    """Return the verdict for a stage that is not judged: kept."""
    unknown = jnp.full(2, jnp.nan, dtype)
    return Verdict(unknown, unknown, unknown[0], unknown[0], jnp.asarray(True))


# One program for both stages; run eagerly, each operation would be compiled.
@quick_jit(
    lambda before, _, cube, *__: effort_once(cube, np.shape(before["endmembers"])[0]),
    static_argnums=3,
)
def judge(
    before: Params,
    after: Params,
    cube: jax.Array,
    config: Model,
    moved: bool | jax.Array,
    valid: jax.Array,
    held_out: jax.Array,
    whole: Scenewide | None = None,
) -> tuple[Verdict, Params, Maps | None]:
    """Judge parameters against those of the stage before.

    Args:
        before, after: without a prior.
        cube: (H, W, B), any units.
        config: the parts of the map.
        moved: whether the endmembers are judged; otherwise the network is.
        valid: (H, W) bool.
        held_out: (H, W) bool, pixels held out of training (`hold_out_pixels`).
        whole: numbers of the whole scene, if the cube holds parts of it.

    Returns:
        (verdict, the parameters that are kept, and their maps for `prior_stage.judge_prior`; None without a prior).
    """
    bands, dtype = cube.shape[2], cube.dtype
    cube = jnp.where(valid[..., None], cube, 0)
    sigma = noise.band_noise(cube, mask=valid)
    weight = 1 / jnp.square(jnp.maximum(sigma, _FLOOR * unit(cube, valid)))
    # The halves of the spectrum are for the prior, which is judged on the maps of the last call; one compiled program
    # serves all calls.
    used = band_subsets(bands, dtype) if config.smooths else band_subsets(bands, dtype)[:3]
    predicted = jnp.concatenate([used[:1], 1 - used[1:]])

    def one(entry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        late, bands_used, bands_predicted = entry
        params = jax.tree.map(lambda a, b: jnp.where(late, b, a), before, after)
        estimate = model.equilibrium(params, cube, config, mask=valid, whole=whole, bands=bands_used).estimate
        residual = jnp.where(valid[..., None], cube - reconstruct(estimate), 0)
        left = jnp.matmul(jnp.square(residual), bands_predicted * weight, precision="highest")
        left = left / jnp.sum(bands_predicted)
        return estimate.abundances, left

    late = jnp.repeat(jnp.asarray([False, True]), len(used))
    answers = lax.map(one, (late, jnp.tile(used, (2, 1)), jnp.tile(predicted, (2, 1))))
    A, left = (x.reshape(2, len(used), *x.shape[1:]) for x in answers)
    misfit = (left[:, 1] + left[:, 2]) / 2
    parts = valid & ~held_out, valid & held_out
    gain = misfit[0] - misfit[1]
    gained = jnp.stack([standard_errors(gain, part) for part in parts])
    pixels = jnp.maximum(jnp.sum(valid), 1).astype(dtype)
    after_all = jnp.sum(jnp.where(valid, misfit[1], 0)) / pixels
    kept = jnp.all(gained > NEEDED)  # False where NaN: the noise could not be estimated
    one_less = 0 if config.free_brightness else 1
    freedom = jnp.sum(A[:, 0] > _POSITIVE, axis=-1) - one_less
    risk = left[:, 0] + (2 / bands) * freedom.astype(dtype)
    lower = jnp.stack([standard_errors(risk[0] - risk[1], part) for part in parts])
    kept = kept & (~jnp.asarray(moved) | (jnp.all(lower > NEEDED) & (after_all <= ADEQUATE)))
    material = _lowest_of_materials(jnp.where(moved, risk[0] - risk[1], gain), A[0, 0], valid)
    kept = kept & ~(material < -NEEDED)  # NaN: no material speaks
    lower = jnp.where(moved, lower, jnp.nan)
    params = jax.tree.map(lambda a, b: jnp.where(kept, b, a), before, after)
    maps = Maps(*jnp.where(kept, A[1], A[0])) if config.smooths else None
    return Verdict(gained, lower, after_all, material, kept), params, maps


def _lowest_of_materials(gain: jax.Array, A: jax.Array, valid: jax.Array) -> jax.Array:
    """Return the lowest gain (H, W) over the pixels of a material by maps A (H, W, R), in standard errors."""
    most = jnp.moveaxis((A > _MOST) & valid[..., None], 2, 0)
    return jnp.nanmin(lax.map(lambda pixels: standard_errors(gain, pixels), most))


def without_training(
    key: jax.Array, cube: jax.Array, config: Model, endmembers: jax.Array, *, mask: jax.Array | None = None
) -> tuple[Params, Stages | None]:
    """Return parameters of given endmembers, with an untrained network, and the verdict on the prior.

    The prior over neighbours is estimated on the maps and kept only where halves of the bands show that it helps, as
    at the end of a judged training.

    Args:
        key: of the network's first weights.
        cube: (H, W, B), any units.
        config: the parts of the map.
        endmembers: (R, B), in the units of the cube.
        mask: (H, W) bool, True for valid pixels.
    """
    bare = replace(config, prior="none")
    params = _init(key, cube, bare, endmembers, mask)
    if not config.smooths:
        return params, None
    valid = valid_pixels(cube, mask)
    maps = maps_of(params, wide(cube), bare, valid)
    kept, prior = judge_prior(maps, config.prior, valid)
    none = undecided(maps.whole.dtype)
    return params | {"prior": prior._asdict()}, Stages(none, none, kept)


@quick_jit(lambda _, cube, __, endmembers, ___: effort_once(cube, np.shape(endmembers)[0]), static_argnums=2)
def _init(key: jax.Array, cube: jax.Array, config: Model, endmembers: jax.Array, mask: jax.Array | None) -> Params:
    return model.init(key, cube, config, endmembers=endmembers, mask=mask)


def settle(
    state: "FitState",
    cube: jax.Array,
    config: Model,
    *,
    mask: jax.Array | None = None,
    whole: Scenewide | None = None,
) -> "FitState":
    """Judge the trained endmembers, between the `phases`; if they do not help, restore the initial ones.

    The network is then trained with the endmembers that are kept. Arguments as for `advance`.
    """
    valid = valid_pixels(cube, mask)
    after = state.initial | {"endmembers": state.params["endmembers"]}
    verdict, kept, _ = judge(state.initial, after, wide(cube), config, True, valid, state.held_out_pixels, whole)
    return state._replace(params=state.params | {"endmembers": kept["endmembers"]}, verdict=verdict)


def finish(
    state: "FitState",
    cube: jax.Array,
    config: Model,
    training: Training | None = None,
    *,
    mask: jax.Array | None = None,
    whole: Scenewide | None = None,
) -> tuple[Params, Stages | None]:
    """Return the parameters of a finished training, and the verdicts on its stages if they are judged.

    The prior (`Model.prior`) is estimated on the maps of one more solve (`smoothing.smoother`); `cube` and `whole` as
    for `advance`.
    """
    cube = wide(cube)
    valid = valid_pixels(cube, mask)
    if training is None or not training.judged:
        if not config.smooths:
            return state.params, None
        if config.prior == "learned":
            return state.params | {"prior": unjudged_prior(state.params, cube, config, valid, whole)._asdict()}, None
        last = model.equilibrium(state.params, cube, config, initial=state.equilibrium, mask=mask, whole=whole)
        return state.params | {"prior": smoother(last.estimate.abundances, mask=mask)._asdict()}, None
    rest = (valid, state.held_out_pixels, whole)
    verdict, base = state.verdict, state.initial | {"endmembers": state.params["endmembers"]}
    if len(training.phases) == 1:  # both trained at once, or one of them alone
        verdict, base, _ = judge(state.initial, base, cube, config, True, *rest)
    after = base | {"network": state.params["network"]}
    learned, params, maps = judge(base, after, cube, config, False, *rest)
    verdicts = Stages(verdict, learned, undecided(cube.dtype))
    if maps is None:
        return params, verdicts
    kept, prior = judge_prior(maps, config.prior, valid)
    return params | {"prior": prior._asdict()}, verdicts._replace(prior=kept)
