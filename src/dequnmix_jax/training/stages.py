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

**The prior.** Even and odd bands give two sets of maps, b_1 and b_2, whose errors from noise are independent. With D =
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
(`experiments/operator/prior_credit.py`). The learned prior is not linear; its gain, of the same meaning, is
`smoothing_gain.smoothing_gain`.

References:
    Batson and Royer, Noise2Self, ICML 2019 (held-out measurements of independent noise); Stein, Estimation of the mean
    of a multivariate normal distribution, Annals of Statistics 9(6), 1981; Zou, Hastie and Tibshirani, On the degrees
    of freedom of the lasso, Annals of Statistics 35(5), 2007 (the count of non-zero coefficients).
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dequnmix_jax.abundances.learned_smoothing import LearnedSmoother, correction
from dequnmix_jax.abundances.prior_choice import learned_smoother
from dequnmix_jax.abundances.smoothing import Smoother, identity_smoother, smooth_linearly, smoother
from dequnmix_jax.abundances.smoothing_gain import smoothing_gain
from dequnmix_jax.endmembers import noise
from dequnmix_jax.equilibrium import model
from dequnmix_jax.equilibrium.config import Model
from dequnmix_jax.equilibrium.model import reconstruct
from dequnmix_jax.equilibrium.scene_statistics import Scenewide, unit
from dequnmix_jax.mixing import valid_pixels, wide
from dequnmix_jax.ops.guards import positive
from dequnmix_jax.ops.quick_compile import effort_once, quick_jit
from dequnmix_jax.training.config import Training
from dequnmix_jax.types import ADEQUATE, NEEDED, Params, Stages, Verdict

if TYPE_CHECKING:
    from dequnmix_jax.training.fitting import FitState


SIDE = 4
"""Rows and columns of a block of pixels, which is held out as one and counts as one observation."""

HELD_OUT_SHARE = 0.2
"""Share of the pixels that are held out of training if its stages are judged."""

COUNTED = 0.5
"""Share of the errors by the halves of the spectrum that counts. With all of it a prior takes fine texture for errors
on some generated scenes (`experiments/operator/prior_credit.py`)."""

ALIKE = 0.5
"""Least share of the structure of the maps that halves of the spectrum have to have in common to show errors."""

_MOST = 0.5
"""Abundance above which a pixel speaks for a material."""

_POSITIVE = 1e-6
"""Abundances up to which an endmember counts as absent from a pixel."""

_FLOOR = 1e-6
"""Noise below this fraction of the RMS of the scene cannot be estimated in float32 (`noise.band_noise`)."""


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


def undecided(dtype: Any = jnp.float32) -> Verdict:
    """Return the verdict for a stage that is not judged: kept."""
    unknown = jnp.full(2, jnp.nan, dtype)
    return Verdict(unknown, unknown, unknown[0], unknown[0], jnp.asarray(True))


def hold_out_pixels(key: jax.Array, shape: tuple[int, ...], share: float = HELD_OUT_SHARE) -> jax.Array:
    """Return the pixels (H, W) that are held out of training: a share of the blocks, drawn without replacement."""
    rows, columns = (-(-n // SIDE) for n in shape)
    number = min(max(round(share * rows * columns), 1), rows * columns - 1)
    drawn = jax.random.permutation(key, rows * columns) < number
    blocks = jnp.repeat(jnp.repeat(drawn.reshape(rows, columns), SIDE, axis=0), SIDE, axis=1)
    return blocks[: shape[0], : shape[1]]


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
) -> tuple[Verdict, Params, Maps]:
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
        (verdict, the parameters that are kept, and their maps; by halves of the spectrum only with `config.prior`).
    """
    bands, dtype = cube.shape[2], cube.dtype
    cube = jnp.where(valid[..., None], cube, 0)
    sigma = noise.band_noise(cube, mask=valid)
    weight = 1 / jnp.square(jnp.maximum(sigma, _FLOOR * unit(cube, valid)))
    used = _subsets(bands, dtype, config.smooths)
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
    a = jnp.where(kept, A[1], A[0])
    maps = Maps(*(a[i % len(used)] for i in range(5)))
    return Verdict(gained, lower, after_all, material, kept), params, maps


def _subsets(bands: int, dtype: Any, halves: bool = True) -> jax.Array:
    """Return which bands the maps of `Maps` use, (5, B); without `halves` of the spectrum the first three, (3, B)."""
    number = jnp.arange(bands)
    even, lower = (number % 2 == 0).astype(dtype), (number < (bands + 1) // 2).astype(dtype)
    used = [jnp.ones(bands, dtype), even, 1 - even] + ([lower, 1 - lower] if halves else [])
    return jnp.stack(used)


def _lowest_of_materials(gain: jax.Array, A: jax.Array, valid: jax.Array) -> jax.Array:
    """Return the lowest gain (H, W) over the pixels of a material by maps A (H, W, R), in standard errors."""
    most = jnp.moveaxis((A > _MOST) & valid[..., None], 2, 0)
    return jnp.nanmin(lax.map(lambda pixels: standard_errors(gain, pixels), most))


@quick_jit(lambda maps, *_: effort_once(maps.whole, maps.whole.shape[2]), static_argnums=1)
def judge_prior(maps: Maps, config: Model, valid: jax.Array) -> tuple[Verdict, Smoother | LearnedSmoother]:
    """Judge the prior over neighbours, and return the smoother that is kept.

    Args:
        maps: of the parameters that are kept, from `judge` or `maps_of`.
        config: the parts of the map.
        valid: (H, W) bool.
    """
    return judge_by(maps, shared_errors(maps, valid), config.prior, valid)


def judge_by(maps: Maps, errors: jax.Array, prior: str, valid: jax.Array) -> tuple[Verdict, Smoother | LearnedSmoother]:
    """Judge the prior of a name, "learned" or "neighbours", by given errors v (`shared_errors`)."""
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


def _learned(
    params: Params, cube: jax.Array, config: Model, valid: jax.Array, whole: Scenewide | None
) -> LearnedSmoother:
    """Predict the learned prior from the maps and from those by half of the bands."""
    params = {name: part for name, part in params.items() if name != "prior"}
    maps = maps_of(params, cube, config, valid, whole)
    shared = shared_errors(maps, valid)
    return learned_smoother(maps.whole, maps.even, maps.odd, mask=valid, shared=shared)


def nugget(x: jax.Array, valid: jax.Array) -> jax.Array:
    """Return the nugget of x (H, W, C), summed over C: 3 G(1) - 3 G(2) + G(3), as in `smoother`."""
    return 3 * _semivariance(x, valid, 1) - 3 * _semivariance(x, valid, 2) + _semivariance(x, valid, 3)


def _semivariance(x: jax.Array, valid: jax.Array, distance: int) -> jax.Array:
    """Return half the mean squared difference of valid pixels at a distance along rows and columns, summed over C."""
    total, pairs = jnp.zeros((), x.dtype), jnp.zeros((), x.dtype)
    for axis in (0, 1):
        if x.shape[axis] > distance:
            ends = [(lax.slice_in_dim(v, distance, None, axis=axis), lax.slice_in_dim(v, 0, -distance, axis=axis))
                    for v in (x, valid)]  # fmt: skip
            both = (ends[1][0] & ends[1][1]).astype(x.dtype)
            total = total + jnp.sum(jnp.sum(jnp.square(ends[0][0] - ends[0][1]), axis=-1) * both)
            pairs = pairs + jnp.sum(both)
    return total / (2 * jnp.maximum(pairs, 1))


def standard_errors(gain: jax.Array, pixels: jax.Array) -> jax.Array:
    """Return the mean of a gain (H, W) over some pixels in units of its standard error, from the means of blocks."""
    rows, columns = (-(-n // SIDE) for n in gain.shape)
    padding = [(0, SIDE * blocks - n) for blocks, n in zip((rows, columns), gain.shape, strict=True)]

    def sums(x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.pad(x, padding).reshape(rows, SIDE, columns, SIDE), axis=(1, 3)).reshape(-1)

    number = sums(pixels.astype(gain.dtype))
    total = sums(jnp.where(pixels, gain, 0))
    all_pixels = jnp.sum(number)
    blocks = jnp.sum(number > 0).astype(gain.dtype)
    mean = jnp.sum(total) / jnp.where(all_pixels > 0, all_pixels, jnp.nan)
    spread = jnp.sum(jnp.square(total - number * mean)) * blocks / jnp.where(blocks > 1, blocks - 1, jnp.nan)
    error = jnp.sqrt(spread) / all_pixels
    # NaN from a single block stays, and keeps no stage.
    return jnp.where(mean == 0, 0, mean / jnp.where(error == 0, jnp.finfo(gain.dtype).tiny, error))


@quick_jit(lambda params, cube, *_: effort_once(cube, np.shape(params["endmembers"])[0]), static_argnums=2)
def maps_of(params: Params, cube: jax.Array, config: Model, valid: jax.Array, whole: Scenewide | None = None) -> Maps:
    """Return the maps of parameters without a prior, by all bands and by parts of them."""
    cube = jnp.where(valid[:, :, None], cube, 0)

    def one(bands: jax.Array) -> jax.Array:
        return model.equilibrium(params, cube, config, mask=valid, whole=whole, bands=bands).estimate.abundances

    return Maps(*lax.map(one, _subsets(cube.shape[2], cube.dtype)))


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
    kept, prior = judge_prior(maps, config, valid)
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
            return state.params | {"prior": _learned(state.params, cube, config, valid, whole)._asdict()}, None
        last = model.equilibrium(state.params, cube, config, initial=state.equilibrium, mask=mask, whole=whole)
        return state.params | {"prior": smoother(last.estimate.abundances, mask=mask)._asdict()}, None
    rest = (valid, state.held_out_pixels, whole)
    verdict, base = state.verdict, state.initial | {"endmembers": state.params["endmembers"]}
    if len(training.phases) == 1:  # both trained at once, or one of them alone
        verdict, base, _ = judge(state.initial, base, cube, config, True, *rest)
    after = base | {"network": state.params["network"]}
    learned, params, maps = judge(base, after, cube, config, False, *rest)
    verdicts = Stages(verdict, learned, undecided(cube.dtype))
    if not config.smooths:
        return params, verdicts
    kept, prior = judge_prior(maps, config, valid)
    return params | {"prior": prior._asdict()}, verdicts._replace(prior=kept)
