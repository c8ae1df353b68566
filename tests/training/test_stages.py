"""A stage of training is kept only if the scene itself shows that it helps."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax import mixing
from dequnmix_jax.abundances import learned_smoothing, smoothing
from dequnmix_jax.abundances.smoothing_gain import smoothing_gain
from dequnmix_jax.datasets import synthetic
from dequnmix_jax.equilibrium import model
from dequnmix_jax.equilibrium.config import Analytic, Energy, Model, Simplex
from dequnmix_jax.training import fitting, pixel_blocks, prior_stage, stages
from dequnmix_jax.training.config import Rates, Training
from dequnmix_jax.training.verdict import sentences
from dequnmix_jax.types import ADEQUATE, Stages, Verdict

CONFIG = Model(gradient=Analytic(), constraint=Simplex())
SHAPE = (24, 20)
VALID = jnp.ones(SHAPE, bool)
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def sample():
    E = synthetic.spectra(jax.random.key(3), 3, 40)
    return synthetic.linear_scene(jax.random.key(4), SHAPE, E, 30.0, length=4.0, contrast=2.0)


@pytest.fixture(scope="module")
def aside():
    return pixel_blocks.hold_out_pixels(jax.random.key(0), SHAPE)


def of(E):
    return {"endmembers": E, "network": {}}


def test_a_fifth_of_the_blocks_is_set_aside():
    aside = np.asarray(pixel_blocks.hold_out_pixels(jax.random.key(1), (24, 20)))
    blocks = aside.reshape(6, 4, 5, 4)
    assert (blocks.all(axis=(1, 3)) == blocks.any(axis=(1, 3))).all()  # whole blocks of 4 x 4
    assert blocks.any(axis=(1, 3)).sum() == 6
    odd = np.asarray(pixel_blocks.hold_out_pixels(jax.random.key(1), (5, 3)))  # two blocks, one of them cut off
    assert odd.shape == (5, 3) and odd.any() and not odd.all()


def test_the_standard_error_is_that_of_the_means_of_blocks():
    draw = np.random.default_rng(0)
    gain, pixels = draw.normal(0.3, 1.0, (6, 9)).astype("f4"), draw.random((6, 9)) < 0.7
    blocks = [(slice(i, i + 4), slice(j, j + 4)) for i in (0, 4) for j in (0, 4, 8)]
    number = np.array([pixels[b].sum() for b in blocks], float)
    total = np.array([gain[b][pixels[b]].sum() for b in blocks], float)
    mean = total.sum() / number.sum()
    n = (number > 0).sum()
    assert n == 5  # one is empty, and no observation
    error = np.sqrt(np.sum((total - number * mean) ** 2) * n / (n - 1)) / number.sum()
    found = float(pixel_blocks.standard_errors(jnp.asarray(gain), jnp.asarray(pixels)))
    assert found == pytest.approx(mean / error, rel=1e-4)
    assert np.isnan(float(pixel_blocks.standard_errors(jnp.asarray(gain), jnp.zeros((6, 9), bool))))
    one = np.zeros((6, 9), bool)
    one[:4, :4] = True  # a single block has no spread
    assert np.isnan(float(pixel_blocks.standard_errors(jnp.asarray(gain), jnp.asarray(one))))


def test_a_scene_with_one_held_out_block_keeps_no_stage():
    unknown = jnp.asarray([jnp.nan, jnp.nan])
    one = Verdict(jnp.asarray([9.0, jnp.nan]), unknown, jnp.asarray(1.0), unknown[0], jnp.asarray(False))
    texts = sentences(Stages(one, one, one))
    assert len(texts) == 3 and all("too small to hold out two blocks" in text for text in texts)


@pytest.mark.parametrize(("risk", "said"), [(-3.0, "rises by 3.0 standard errors."), (1.0, "falls by 1.0 standard")])
def test_a_risk_that_rises_is_said_to_rise(risk, said):
    better = jnp.asarray([5.0, 5.0])
    verdict = Verdict(better, jnp.asarray([risk, 9.0]), jnp.asarray(1.0), jnp.asarray(0.0), jnp.asarray(False))
    texts = sentences(Stages(verdict, verdict, stages.undecided()))
    assert all(f"But the risk with all bands {said}" in text and "-" not in text.split("But")[1] for text in texts[:2])


def test_the_better_endmembers_stand_whichever_come_first(sample, aside):
    true = of(sample.endmembers)
    worse = of(sample.endmembers * (1 + 0.15 * jnp.sin(jnp.arange(40) / 4))[None])
    config = replace(CONFIG, prior="neighbours")  # for the maps
    verdict, stands, maps = stages.judge(worse, true, sample.cube, config, True, VALID, aside)
    assert bool(verdict.kept) and float(jnp.min(verdict.bands)) > 5 and float(jnp.min(verdict.risk)) > 5
    assert 0.9 < float(verdict.misfit) < ADEQUATE
    np.testing.assert_array_equal(stands["endmembers"], true["endmembers"])
    np.testing.assert_allclose(maps.whole, sample.abundances, atol=0.1)
    verdict, stands, _ = stages.judge(true, worse, sample.cube, CONFIG, True, VALID, aside)
    assert not bool(verdict.kept) and float(jnp.max(verdict.bands)) < -5
    np.testing.assert_array_equal(stands["endmembers"], true["endmembers"])


def test_what_helps_only_in_pixels_of_the_training_is_left_out(sample, aside):
    true = sample.endmembers
    worse = true * (1 + 0.15 * jnp.sin(jnp.arange(40) / 4))[None]
    # In the pixels set aside the worse spectra are the right ones.
    A = jnp.asarray(sample.abundances)
    noise = sample.cube - mixing.linear_mix(A, true)
    cube = jnp.where(aside[..., None], mixing.linear_mix(A, worse), mixing.linear_mix(A, true)) + noise
    verdict, stands, _ = stages.judge(of(worse), of(true), cube, CONFIG, True, VALID, aside)
    assert float(verdict.bands[0]) > 2 > float(verdict.bands[1]) and not bool(verdict.kept)
    np.testing.assert_array_equal(stands["endmembers"], worse)


def test_a_gain_that_one_material_pays_for_is_no_gain(sample, aside):
    # Two spectra become right; a few pixels of the third, which were fitted, are not any more.
    bend = 1 + 0.15 * jnp.sin(jnp.arange(40) / 4)
    true = sample.endmembers
    pure = jnp.zeros((*SHAPE, 3)).at[..., 2].set(1.0)
    corner = jnp.zeros(SHAPE, bool).at[:8, :8].set(True)
    A = jnp.where(corner[..., None], pure, sample.abundances.at[..., 2].set(0.0) + 1e-3)
    A = A / jnp.sum(A, axis=-1, keepdims=True)
    noise = sample.cube - mixing.linear_mix(sample.abundances, true)
    cube = mixing.linear_mix(A, true) + noise
    before, after = true.at[:2].multiply(bend[None]), true.at[2].multiply(0.85 + 0.15 * bend)
    verdict, stands, _ = stages.judge(of(before), of(after), cube, CONFIG, True, VALID, aside & ~corner)
    assert float(jnp.min(verdict.bands)) > 2 and float(jnp.min(verdict.risk)) > 2
    assert float(verdict.material) < -2 and not bool(verdict.kept)
    np.testing.assert_array_equal(stands["endmembers"], before)
    (text, *_) = sentences(Stages(verdict, stages.undecided(), stages.undecided()))
    assert "left out" in text and "one material's own pixels are fitted worse by" in text
    better, *_ = stages.judge(of(before), of(true), cube, CONFIG, True, VALID, aside & ~corner)
    assert bool(better.kept) and float(better.material) > -2


def test_where_the_model_does_not_hold_to_the_noise_endmembers_are_not_moved(sample, aside):
    bent = sample.cube + 0.3 * (jnp.sin(30 * sample.cube) * 0.05)
    worse = of(sample.endmembers * (1 + 0.15 * jnp.sin(jnp.arange(40) / 4))[None])
    verdict, _, _ = stages.judge(worse, of(sample.endmembers), bent, CONFIG, True, VALID, aside)
    assert float(jnp.min(verdict.bands)) > 2 and float(verdict.misfit) > ADEQUATE and not bool(verdict.kept)


def test_pixels_without_data_say_nothing(sample, aside):
    valid = VALID.at[:, 15:].set(False)
    spoiled = jnp.where(valid[..., None], sample.cube, jnp.nan)
    clean = jnp.where(valid[..., None], sample.cube, 0.0)
    worse = of(sample.endmembers * 1.1)
    found = [stages.judge(worse, of(sample.endmembers), c, CONFIG, True, valid, aside)[0] for c in (spoiled, clean)]
    np.testing.assert_array_equal(found[0].bands, found[1].bands)
    assert np.isfinite(np.asarray(found[0].bands)).all()


def test_without_the_noise_nothing_is_kept(aside):
    sample = synthetic.linear_scene(jax.random.key(4), (6, 6), synthetic.spectra(jax.random.key(3), 3, 40), 30.0)
    few, here = jnp.ones((6, 6), bool), pixel_blocks.hold_out_pixels(jax.random.key(0), (6, 6))
    verdict, _, _ = stages.judge(
        of(sample.endmembers * 1.2), of(sample.endmembers), sample.cube, CONFIG, True, few, here
    )
    assert not bool(verdict.kept) and np.isnan(np.asarray(verdict.bands)).all()
    found = Stages(verdict, verdict, stages.undecided())
    assert sentences(found)[0] == (
        "Trained endmembers: left out, because the noise of the scene cannot be estimated without more valid pixels "
        "than bands."
    )


def maps_of(A, E, key, snr, texture=0.0):
    """Return the maps of a scene mixed from abundances, by the true endmembers."""
    own, noise = jax.random.split(key)
    cube = mixing.linear_mix(A * (1 + texture * jax.random.normal(own, A.shape)), E)
    cube = synthetic.add_noise(noise, cube, snr)
    valid = jnp.ones(A.shape[:2], bool)
    return prior_stage.maps_of(of(E), cube, CONFIG, valid), valid


def test_the_prior_smooths_noise_and_leaves_texture():
    E = synthetic.spectra(jax.random.key(3), 3, 40)
    smooth = synthetic.abundance_field(jax.random.key(5), (24, 24), 3, length=6.0, contrast=0.3)
    rough = synthetic.abundance_field(jax.random.key(6), (24, 24), 3, length=0.6, contrast=1.0)
    kept = {}
    for name, A, snr in (("smooth", smooth, 15.0), ("rough", rough, 30.0)):
        maps, valid = maps_of(A, E, jax.random.key(7), snr)
        asked = smoothing.smoother(maps.whole)
        verdict, stands = prior_stage.judge_prior(maps, "neighbours", valid)
        assert float(jnp.max(asked.strength)) > 0.01  # the maps alone ask for it in both
        before, after = (
            float(jnp.sqrt(jnp.mean((x - A) ** 2))) for x in (maps.whole, smoothing.smooth(maps.whole, asked))
        )
        kept[name] = bool(verdict.kept), float(jnp.max(stands.strength)) > 0, after < before
    assert kept == {"smooth": (True, True, True), "rough": (False, False, False)}


def test_the_learned_prior_is_kept_for_noise_and_not_for_texture():
    E = synthetic.spectra(jax.random.key(3), 3, 40)
    smooth = synthetic.abundance_field(jax.random.key(5), (24, 24), 3, length=6.0, contrast=0.3)
    rough = synthetic.abundance_field(jax.random.key(6), (24, 24), 3, length=0.6, contrast=1.0)
    for A, snr, right in ((smooth, 15.0, True), (rough, 30.0, False)):
        maps, valid = maps_of(A, E, jax.random.key(7), snr)
        verdict, found = prior_stage.judge_prior(maps, "learned", valid)
        assert float(jnp.max(smoothing.smoother(maps.whole).strength)) > 0.01  # the maps alone ask for it in both
        after = smoothing_error(found, maps, A)
        assert after < 0.95 if right else after <= 1.001
        assert bool(verdict.kept) or not right
    # What a prior that takes texture for noise would do is seen.
    alone = jax.jit(learned_smoothing.look)(maps.whole, None, valid)
    blind = learned_smoothing.assemble(learned_smoothing.init_weights(KEY), *alone)
    blind = blind._replace(strength=5 * blind.strength)
    gain = smoothing_gain(
        maps.whole, (maps.even - maps.odd) / 2, lambda x: x + learned_smoothing.correction(x, valid, blind)
    )
    assert smoothing_error(blind, maps, A) > 1.2 and float(pixel_blocks.standard_errors(gain, valid)) < -2


def smoothing_error(prior, maps, A):
    """Return the RMSE of smoothed maps over that of the maps."""
    smoothed = learned_smoothing.smooth_learned(maps.whole, prior)
    return float(jnp.sqrt(jnp.mean((smoothed - A) ** 2) / jnp.mean((maps.whole - A) ** 2)))


def test_the_gain_of_smoothing_is_that_of_the_truth():
    """Linear smoothing of maps with known noise: the estimate is the decrease of the error, on average over draws."""
    A = synthetic.abundance_field(jax.random.key(5), (24, 24), 3, length=4.0)

    def mean_of_rows(x):
        return (x + jnp.roll(x, 1, axis=0) + jnp.roll(x, -1, axis=0)) / 3

    @jax.jit
    def both(key):
        halves = A[None] + 0.2 * jax.random.normal(key, (2, *A.shape))
        whole = (halves[0] + halves[1]) / 2
        decrease = jnp.sum(jnp.square(whole - A) - jnp.square(mean_of_rows(whole) - A))
        return jnp.sum(smoothing_gain(whole, (halves[0] - halves[1]) / 2, mean_of_rows)), decrease

    found, right = map(np.asarray, jax.lax.map(both, jax.random.split(jax.random.key(1), 200)))
    error = (found - right).std() / 200**0.5
    assert abs((found - right).mean()) < 3 * error and error < 0.05 * abs(right.mean())


def varied_scene(A, E, key, size):
    """Return the maps of a scene whose spectra vary in shape, smoothly over the bands, in each pixel on its own."""
    shape, noise = jax.random.split(key)
    b = np.arange(E.shape[1])
    window = np.exp(-0.5 * (np.subtract.outer(b, b) / 6) ** 2)
    window = jnp.asarray(window / np.linalg.norm(window, axis=0), jnp.float32)
    varied = E[None, None] * jnp.exp(size * jax.random.normal(shape, (*A.shape, E.shape[1])) @ window)
    cube = synthetic.add_noise(noise, jnp.einsum("hwr,hwrb->hwb", A, varied), 40.0)
    valid = jnp.ones(A.shape[:2], bool)
    return prior_stage.maps_of(of(E), cube, CONFIG, valid), valid


def with_isolated_pixels(key, A):
    """Return maps of which a tenth of the pixels is pure and alone."""
    where, which = jax.random.split(key)
    pure = jax.nn.one_hot(jax.random.randint(which, A.shape[:2], 0, A.shape[2]), A.shape[2])
    return jnp.where(jax.random.uniform(where, (*A.shape[:2], 1)) < 0.1, pure, A)


def test_errors_of_spectra_that_vary_are_no_texture():
    """Even and odd bands give the same wrong maps; the halves of the spectrum show that they are wrong."""
    E = synthetic.spectra(jax.random.key(11), 4, 40)
    A = synthetic.abundance_field(jax.random.key(5), (40, 40), 4, length=8.0, contrast=0.3)
    maps, valid = varied_scene(A, E, jax.random.key(7), 0.08)
    errors = maps.whole - A
    true = float(jnp.mean(jnp.sum(jnp.square(errors), axis=-1)))
    found = float(prior_stage.shared_errors(maps, valid))
    assert 0.1 * true < found < true
    for prior in ("neighbours", "learned"):
        verdict, kept = prior_stage.judge_prior(maps, prior, valid)
        alone, _ = prior_stage.judge_prior(maps, prior, valid, jnp.zeros(()))
        assert bool(verdict.kept) and float(verdict.bands[0]) > float(alone.bands[0]) + 2
        smooth = smoothing.smooth if prior == "neighbours" else learned_smoothing.smooth_learned
        assert float(dq.metrics.armse(smooth(maps.whole, kept), A) / dq.metrics.armse(maps.whole, A)) < 0.8


def test_texture_stays_where_spectra_vary():
    """A tenth of the pixels is pure and alone: by the variogram these are errors, and the halves show that not all are.

    By the variogram alone the learned prior would be kept, and harm.
    """
    E = synthetic.spectra(jax.random.key(11), 4, 40)
    A = synthetic.abundance_field(jax.random.key(11), (40, 40), 4, length=8.0)
    drawn, key = jax.random.split(jax.random.key(1))
    A = with_isolated_pixels(drawn, A)
    maps, valid = varied_scene(A, E, key, 0.08)
    before = dq.metrics.armse(maps.whole, A)
    for prior in ("neighbours", "learned"):
        _, found = prior_stage.judge_prior(maps, prior, valid)
        smooth = smoothing.smooth if prior == "neighbours" else learned_smoothing.smooth_learned
        assert float(dq.metrics.armse(smooth(maps.whole, found), A) / before) < 1.03
    verdict, found = prior_stage.judge_prior(maps, "learned", valid, prior_stage.nugget(maps.whole, valid))
    after = dq.metrics.armse(learned_smoothing.smooth_learned(maps.whole, found), A)
    assert bool(verdict.kept) and float(after / before) > 1.2


def test_halves_that_distinguish_no_materials_show_no_errors():
    """The upper half of the spectra is the same for all: its maps have no texture, which is no reason to smooth."""
    E = synthetic.spectra(jax.random.key(3), 3, 40)
    E = jnp.where((jnp.arange(40) < 20)[None], E, jnp.mean(E, axis=0)[None])
    smooth = synthetic.abundance_field(jax.random.key(6), (40, 40), 3, length=8.0, contrast=1.0)
    A = (smooth + jax.random.dirichlet(jax.random.key(8), jnp.ones(3), (40, 40))) / 2
    cube = synthetic.add_noise(jax.random.key(2), mixing.linear_mix(A, E), 30.0)
    valid = jnp.ones((40, 40), bool)
    maps = prior_stage.maps_of(of(E), cube, CONFIG, valid)
    noise_left = jnp.mean(jnp.sum(jnp.square((maps.even - maps.odd) / 2), axis=-1))
    assert float(prior_stage.shared_errors(maps, valid)) <= 0.1 * float(noise_left)
    _, found = prior_stage.judge_prior(maps, "learned", valid)
    after = dq.metrics.armse(learned_smoothing.smooth_learned(maps.whole, found), A)
    assert float(after / dq.metrics.armse(maps.whole, A)) < 1.01


def test_a_prior_that_changes_nothing_is_left_out():
    """Rounding in one direction is a gain of many standard errors, of nothing."""
    A = synthetic.abundance_field(jax.random.key(5), (24, 24), 3, length=6.0, contrast=0.3)
    D = 1e-3 * jax.random.normal(jax.random.key(1), A.shape)
    gain = prior_stage._acting(jnp.asarray(500.0), A, A + 1e-7 * D)
    assert float(gain) == 0 and float(prior_stage._acting(jnp.asarray(500.0), A, A + D)) == 500
    A = with_isolated_pixels(jax.random.key(100), synthetic.abundance_field(KEY, (40, 40), 4, length=8.0))
    noise = 0.01 * jax.random.normal(jax.random.key(2), (2, *A.shape))
    even, odd = A[None] + noise - jnp.mean(noise, axis=-1, keepdims=True)
    maps = prior_stage.Maps((even + odd) / 2, even, odd, A, A)
    valid = jnp.ones((40, 40), bool)
    verdict, prior = prior_stage.judge_prior(maps, "learned", valid, jnp.zeros(()))
    assert not bool(verdict.kept) and float(jnp.max(prior.strength)) == 0


def test_the_nugget_is_that_of_the_smoother():
    draw = np.random.default_rng(0)
    A, valid = draw.random((9, 8, 2)).astype("f4"), draw.random((9, 8)) < 0.8
    A = np.where(valid[..., None], A, 0)

    @jax.jit
    def both(A, valid):
        G = [smoothing.semivariance(A, valid, h)[0] for h in (1, 2, 3)]
        return jnp.trace(3 * G[0] - 3 * G[1] + G[2]), prior_stage.nugget(A, valid)

    trace, found = both(A, valid)
    assert float(found) == pytest.approx(float(trace), rel=1e-4)


PLAN = Training(epochs=6, endmembers_first=0.5, judged=True)
HARM = Rates(endmembers=0.3, network=0.5)
"""Rates at which six steps spoil both."""


def test_a_training_that_harms_leaves_the_start(sample):
    config = Model(gradient=Energy(width=4), constraint=Simplex(), prior="neighbours")
    E = sample.endmembers
    run = jax.jit(lambda cube: fitting.fit(jax.random.key(0), cube, config, PLAN, HARM, endmembers=E))
    params, history = run(sample.cube)
    start = model.init(jax.random.key(0), sample.cube, config, endmembers=sample.endmembers)
    assert float(jnp.max(history.stages.endmembers.bands)) < -5  # what was trained is far worse
    np.testing.assert_array_equal(params["endmembers"], start["endmembers"])
    np.testing.assert_array_equal(params["network"]["energy"]["gain"], 0)
    assert not bool(history.stages.endmembers.kept) and not bool(history.stages.network.kept)
    assert history.loss.shape == (6,)
    said = sentences(history.stages)
    assert [text.split(":")[0] for text in said] == ["Trained endmembers", "Trained network", "Prior over neighbours"]
    assert all("left out" in text for text in said[:2])


def test_pixels_set_aside_teach_nothing(sample):
    config = Model(gradient=Energy(width=4), constraint=Simplex())
    state = fitting.begin(jax.random.key(0), sample.cube, config, endmembers=sample.endmembers)
    spoiled = jnp.where(state.held_out_pixels[..., None], 0.7, sample.cube)

    @jax.jit
    def run(state, cube):
        return fitting.advance(state, cube, config, PLAN, Rates(), 2)[0].params["endmembers"]

    np.testing.assert_allclose(run(state, spoiled), run(state, sample.cube), atol=1e-5)
