"""The number of endmembers and their selection without the truth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dequnmix_jax as dq
from dequnmix_jax.checks import InputError
from dequnmix_jax.datasets import synthetic
from dequnmix_jax.endmembers import candidates, noise, selection

COUNTS = jax.jit(
    lambda Y: (
        dq.endmembers.hysime(Y).number,
        dq.endmembers.virtual_dimension(Y, whitened=False).number,
        dq.endmembers.virtual_dimension(Y).number,
    )
)


@pytest.mark.parametrize("count", [3, 6])
@pytest.mark.parametrize("snr", [20.0, 40.0])
def test_the_number_of_endmembers_is_found(count, snr):
    E = synthetic.spectra(jax.random.key(count), count, 40)
    cube = synthetic.linear_scene(jax.random.key(1), (50, 50), E, snr, contrast=2.0).cube
    ours, plain, white = (int(x) for x in COUNTS(cube))
    assert ours == count
    # The test asks for a part of the mean in each direction: where one has little, it is missed.
    assert count - 1 <= plain <= count and count - 1 <= white <= count
    assert all(x.dtype == jnp.int32 for x in COUNTS(cube))


def test_whitening_sees_what_coloured_noise_hides():
    E = synthetic.spectra(jax.random.key(3), 3, 40)
    cube = synthetic.linear_scene(jax.random.key(1), (50, 50), E, contrast=2.0).cube
    sigma = jnp.where(jnp.arange(40) < 8, 0.3, 0.002)
    ours, plain, white = COUNTS(cube + sigma[None, None] * jax.random.normal(jax.random.key(2), cube.shape))
    assert int(white) == 3 and int(plain) <= 3 and 2 <= int(ours) <= 3


def test_masks_and_too_few_pixels():
    E = synthetic.spectra(jax.random.key(3), 3, 30)
    cube = synthetic.linear_scene(jax.random.key(1), (40, 40), E, 30.0, contrast=2.0).cube
    mask = jnp.ones((40, 40), bool).at[:, 30:].set(False)
    spoiled = jnp.where(mask[..., None], cube, jnp.nan)
    both = jax.jit(
        lambda cube, mask: (dq.endmembers.hysime(cube, mask=mask), dq.endmembers.virtual_dimension(cube, mask=mask))
    )
    for masked, cut in zip(both(spoiled, mask), both(cube.at[:, 30:].set(7.0), mask), strict=True):
        assert int(masked.number) == int(cut.number) == 3
        np.testing.assert_allclose(masked.evidence[:3], cut.evidence[:3], rtol=1e-4)
    few = both(cube, jnp.zeros((40, 40), bool).at[:5, :5].set(True))
    assert [int(found.number) for found in few] == [0, 0]
    assert np.isnan(few[0].thresholds).all()
    with pytest.raises(InputError, match="probability"):
        dq.endmembers.virtual_dimension(cube, false_alarm=0.7)
    with pytest.raises(InputError, match="NaN"):
        dq.endmembers.virtual_dimension(spoiled, whitened=False)


def test_float32_sees_a_scene_without_noise():
    E = synthetic.spectra(jax.random.key(3), 3, 30)
    cube = synthetic.linear_scene(jax.random.key(1), (40, 40), E, contrast=2.0).cube
    assert int(dq.endmembers.virtual_dimension(cube, whitened=False).number) == 3
    assert jnp.isfinite(dq.endmembers.hysime(jnp.zeros((9, 9, 5))).evidence).all()


def test_the_distance_from_the_simplex_is_the_noise_or_the_variability():
    E = synthetic.spectra(jax.random.key(3), 3, 30)
    cube = synthetic.linear_scene(jax.random.key(1), (40, 40), E, 30.0, contrast=2.0).cube
    np.testing.assert_allclose(noise.simplex_noise(cube, 3), jnp.square(noise.band_noise(cube)), rtol=0.1)
    own = 1 + 0.5 * jax.random.normal(jax.random.key(6), (40, 40, 1)) * jnp.linspace(-1.0, 1.0, 30)[None, None]
    assert noise.simplex_noise(cube * own, 3).mean() > 1.5 * noise.simplex_noise(cube, 3).mean()
    assert jnp.isfinite(noise.simplex_noise(cube[:5, :5], 3)).all()


DECIDE = jax.jit(lambda scores, whole: selection.decide(scores, whole, selection.Weights()))


@pytest.fixture(scope="module")
def begin():
    """Return `select_endmembers`, compiled once for all scenes of this file."""
    return jax.jit(lambda key, cube, mask: dq.endmembers.select_endmembers(key, cube, 3, mask=mask))


def sample(purity, brightness):
    E = synthetic.spectra(jax.random.key(3), 3, 24)
    return synthetic.linear_scene(
        jax.random.key(1), (16, 16), E, 35.0, purity=purity, brightness=brightness, contrast=2.0, length=4.0
    )


def test_a_start_is_chosen_and_said(begin):
    mask = jnp.ones((16, 16), bool).at[3].set(False)
    for purity, brightness in ((1.0, 0.0), (0.8, 0.3)):
        scene = sample(purity, brightness)
        found = begin(jax.random.key(0), jnp.where(mask[..., None], scene.cube, jnp.nan), mask)
        assert found.constraint == ("cone" if brightness else "simplex")
        row = candidates.CANDIDATES[int(found.chosen)]
        assert row.constraint == found.constraint
        if purity < 1:
            assert row.method == "minimum volume"
        assert int(found.chosen) == int(jnp.argmin(found.cost)) and float(found.margin) >= 0
        # Two spectra that are equal have no volume.
        assert all(jnp.isfinite(x).all() for x in found.scores._replace(volume=found.scores.error))
        np.testing.assert_allclose(found.abundances.sum(-1), mask.astype(jnp.float32), atol=1e-5)
        order = dq.metrics.align(found.endmembers, scene.endmembers)
        assert float(dq.metrics.msad(found.endmembers[order], scene.endmembers)) < 0.06
        text = dq.endmembers.reason(found)
        assert text.startswith(f"Endmembers: {row.method}") and ("refined" in text) == row.purified
        assert ("scaled linear model" in text) == (found.constraint == "cone")
        assert ("Confidence: low" in text) == bool(found.unsure) and "inf" not in text


def test_the_decision_follows_the_scores():
    half = len(candidates.CANDIDATES) // 2
    flat = jnp.ones(2 * half)
    scores = candidates.Scores(0.1 * flat, 0.1 * flat, -flat, 0.01 * flat, 0.9 * flat, 0.06 * flat)
    scores = scores._replace(error=scores.error.at[half + 3].set(0.05))
    quiet = candidates.SceneScores(jnp.zeros(()), jnp.zeros(()), *jnp.zeros((2, 2)))

    @jax.jit
    def decide(error, v):
        return selection.decide(scores._replace(error=error), quiet._replace(variability=v), selection.Weights())

    found = decide(scores.error, 0.0)
    assert candidates.CANDIDATES[int(found.chosen)] == candidates.Candidate("minimum volume", False, "cone")
    assert not bool(found.unsure) and float(found.margin) > 0.5 and found.constraint == "cone"
    np.testing.assert_allclose(found.brightness, np.log(2), rtol=1e-5)
    np.testing.assert_allclose(found.shared, np.log(5 / 3), rtol=1e-5)
    assert jnp.isinf(found.cost[:half]).all()
    # The purified is preferred to an equal of another kind; of two alike to rounding the first is taken.
    twin = decide(scores.error.at[half + 6].set(0.05), 0.0)
    assert int(twin.chosen) == half + 6
    np.testing.assert_allclose(twin.margin, selection.Weights().purified, atol=1e-5)
    for less in (1 - 1e-6, 1 + 1e-6):
        alike = scores.error.at[half + 1].set(0.05 * less)
        assert int(decide(alike, 0.0).chosen) == half + 1
    # One that fits a little worse is preferred only where the spectra vary.
    worse = scores.error.at[half + 6].set(0.06)
    assert int(decide(worse, 0.0).chosen) == half + 3 and int(decide(worse, 0.9).chosen) == half + 6
    # There a minimum volume must fit better by more than an extreme pixel of the same kind.
    extreme = scores.error.at[half + 1].set(0.055)
    assert int(decide(extreme, 0.0).chosen) == half + 3 and int(decide(extreme, 0.9).chosen) == half + 1
    # A candidate whose figures are not numbers is never chosen, and where there is no figure at all nothing is NaN.
    assert int(decide(scores.error.at[half + 3].set(jnp.nan), 0.0).chosen) != half + 3
    blank = decide(jnp.full(2 * half, jnp.nan), 0.0)
    assert blank.constraint == "simplex" and float(blank.brightness) == 0
    # Mixing stays linear up to the threshold.
    below, above = (decide(0.1 * flat.at[half + 3].set(float(np.exp(-x))), 0.0) for x in (0.09, 0.11))
    assert below.constraint == "simplex" != above.constraint
    # A brightness that the neighbours do not share is variability of the materials, whose bright pixels are no level.
    alone = DECIDE(scores._replace(shared=0.1 * flat), quiet)
    row = candidates.CANDIDATES[int(alone.chosen)]
    assert alone.constraint == "soft" and row.purified and row.constraint == "cone" and bool(alone.unsure)
    # Unless one brightness of each pixel leaves little of the error.
    rough = DECIDE(scores._replace(error=scores.error.at[half + 3].set(0.035), shared=0.1 * flat), quiet)  # fmt: skip
    assert rough.constraint == "cone" and not bool(rough.unsure)
    # The word is that of an index, which survives vmap: of each scene its own.
    shared = jnp.stack([scores.shared, 0.1 * flat])
    both = jax.vmap(lambda shared: DECIDE(scores._replace(shared=shared), quiet))(shared)
    assert [selection.CONSTRAINTS[i] for i in both.constraint_index] == ["cone", "soft"]
    # Above the noise a small difference is a large one.
    floor = 0.0975**2 * jnp.ones(2)
    small = scores._replace(error=0.1 * flat.at[half:].set(0.98), shared=0.1 * flat.at[:half].set(0.98))
    assert DECIDE(small, quiet).constraint != "cone"
    assert DECIDE(small, quiet._replace(floor=floor)).constraint == "cone"


def test_each_doubt_has_its_reason():
    half = len(candidates.CANDIDATES) // 2
    flat = jnp.ones(2 * half)
    scores = candidates.Scores(0.1 * flat, 0.1 * flat, -flat, 0.01 * flat, 0.9 * flat, 0.1 * flat)
    quiet = candidates.SceneScores(jnp.zeros(()), jnp.zeros(()), *jnp.zeros((2, 2)))
    scaled = scores.error.at[half:].set(0.03)
    cases = [
        (scores, quiet, []),
        (scores, quiet._replace(lacking=jnp.asarray([1.0, 0.0])), [0]),
        (scores, quiet._replace(lacking=jnp.asarray([0.0, 1.0])), []),  # of the other mixing
        (scores._replace(error=scaled), quiet._replace(lacking=jnp.asarray([0.0, 1.0])), [0]),
        (scores, quiet._replace(beyond=jnp.asarray(1.0)), [1]),
        (scores._replace(error=scores.error.at[half:].set(0.06)), quiet, [2]),
        (scores._replace(purity=0.69 * flat), quiet, [3]),
        (scores._replace(purity=0.71 * flat), quiet, []),
        (scores._replace(instability=0.051 * flat), quiet, [4]),
        (scores._replace(instability=jnp.nan * flat), quiet, [4]),
    ]
    for one, whole, doubts in cases:
        found = DECIDE(one, whole)._replace(endmembers=jnp.ones((3, 8)))
        assert np.flatnonzero(found.doubts).tolist() == doubts and bool(found.unsure) == bool(doubts)
        text = dq.endmembers.reason(found)
        assert ("Confidence: low" in text) == bool(doubts) and "inf" not in text
        if doubts == [0]:
            assert "signal exceeds noise in 2 of the 3 directions" in text
        if doubts == [2]:  # soft mixing asks for purified spectra alone: there is no other kind
            assert jnp.isinf(found.margin)


def test_the_reason_is_three_short_sentences():
    half = len(candidates.CANDIDATES) // 2
    flat = jnp.ones(2 * half)
    scores = candidates.Scores(0.1 * flat, 0.1 * flat, -flat, 0.01 * flat, 0.9 * flat, 0.05 * flat)
    quiet = candidates.SceneScores(jnp.zeros(()), jnp.zeros(()), *jnp.zeros((2, 2)))

    def say(error, shared=scores.shared, whole=quiet, constraint=None):
        found = DECIDE(scores._replace(error=error, shared=shared), whole)._replace(endmembers=jnp.ones((3, 8)))
        return dq.endmembers.reason(found, constraint)

    scaled = scores.error.at[half:].set(0.08).at[half + 5].set(0.071)
    assert say(scaled) == (
        "Endmembers: SiVM, refined on the purest pixels. Mixing: brightness varies per pixel (scaled linear model); "
        "held-out bands fit 29 % better than with sum-to-one. Confidence: high."
    )
    # The runner-up of another kind has an error of 0.08 and lacks the bonus of a purified one, 1 %.
    assert (
        "Confidence: low, the runner-up is within 14 %: signal exceeds noise in more directions than 3 spectra"
        in say(scaled, whole=quiet._replace(beyond=jnp.asarray(1.0)))
    )
    linear = "Mixing: abundances sum to one (linear model); with a brightness per pixel, held-out bands fit "
    assert linear + "no better. " in say(scores.error)
    assert linear + "5 % better. " in say(scores.error.at[half:].set(0.095))
    assert linear + "100 % worse. " in say(scores.error.at[half:].set(0.2))
    assert linear + "more than ten times worse. " in say(scores.error.at[half:].set(1.2))
    soft = say(scaled, shared=0.1 * flat)
    assert "29 % better, but with that of the neighbours no better. Confidence: low: each" in soft
    # A model without any error is better without bound.
    assert "more than 99 % better than" in say(scores.error.at[half:].set(0.0))
    # What the caller asks for is not said to be found.
    for word, text in (("simplex", "abundances sum to one (simplex)"), ("softmax", "abundances sum to one (softmax)")):
        said = say(scaled, constraint=word)
        assert f"Mixing: {text}, as asked for; with a brightness per pixel, held-out bands fit 29 % better. Con" in said
        assert "scaled" not in said
    for word in ("cone", "soft"):
        assert f"({word}), as asked for; with" in say(scores.error, constraint=word)


@pytest.mark.parametrize(("known", "noisy"), [(1, 0.0), (1, 1e-5), (1, 1e-2), (2, 0.0), (2, 1e-3), (0, 0.0), (0, 1e-3)])
def test_a_scene_of_fewer_directions_than_materials_is_said_to_be_one(begin, known, noisy):
    """Multiples of one spectrum (1), mixtures of two (2) and a constant (0), for three endmembers."""
    E, draw = np.asarray(synthetic.spectra(jax.random.key(3), 3, 24)), np.random.default_rng(0)
    if known == 2:
        cube = draw.dirichlet(np.ones(2), (16, 16)) @ E[:2]
    else:
        cube = (draw.uniform(0.5, 1.5, (16, 16, 1)) if known else np.ones((16, 16, 1))) * E[0]
    cube = jnp.asarray(cube + noisy * draw.standard_normal(cube.shape), jnp.float32)
    found = begin(jax.random.key(0), cube, jnp.ones((16, 16), bool))
    assert bool(found.unsure) and bool(found.doubts[0])
    assert jnp.isfinite(found.abundances).all() and jnp.isfinite(found.endmembers).all()
    np.testing.assert_allclose(found.abundances.sum(-1), 1, atol=1e-5)
    # Light and dark pixels of one material mix linearly, as two endmembers would.
    assert f"signal exceeds noise in {max(known, 1) + (known == 1)} of the 3 directions" in dq.endmembers.reason(found)


def test_directions_of_signal_are_counted_about_the_mean_and_about_zero():
    count = jax.jit(lambda cube, mask: noise.signal_directions(cube, mask=mask))
    E, draw = np.asarray(synthetic.spectra(jax.random.key(3), 6, 24)), np.random.default_rng(0)
    mask = jnp.ones((16, 16), bool).at[2].set(False)
    for materials in (2, 3, 6):
        maps = draw.dirichlet(np.ones(materials), (16, 16))
        bright = draw.uniform(0.5, 1.5, (16, 16, 1))
        for factor, expected in ((1.0, [materials, materials]), (bright, [materials + 1, materials])):
            for size in (0.0, 1e-4):
                cube = factor * (maps @ E[:materials]) + size * draw.standard_normal((16, 16, 24))
                cube[2] = np.nan
                assert count(jnp.asarray(cube, jnp.float32), mask).tolist() == expected
    few = jnp.zeros((16, 16), bool).at[0].set(True)
    assert count(jnp.asarray(cube, jnp.float32), few).tolist() == [24, 24]  # the noise is unknown
    assert count(jnp.zeros((16, 16, 24)), mask).tolist() == [1, 0]


def test_a_start_follows_a_factor_on_the_cube(begin):
    mask = jnp.ones((16, 16), bool)
    for purity, brightness in ((1.0, 0.0), (0.8, 0.3)):
        cube = sample(purity, brightness).cube
        found = begin(jax.random.key(0), cube, mask)
        for factor in (1e-6, 1 / 3, 1e4, 1e6):
            other = begin(jax.random.key(0), jnp.float32(factor) * cube, mask)
            for name in ("chosen", "constraint_index", "doubts"):
                assert (getattr(other, name) == getattr(found, name)).all()
            np.testing.assert_allclose(other.endmembers / factor, found.endmembers, atol=2e-3)
            np.testing.assert_allclose(other.abundances, found.abundances, atol=5e-3)


QUIET = candidates.SceneScores(
    **{name: jnp.zeros(2 if name in ("floor", "lacking") else ()) for name in candidates.SceneScores._fields}
)
"""A scene without noise, whose spectra do not vary."""


def test_a_purified_candidate_may_fit_worse_where_spectra_vary():
    """Compared with an extreme pixel, so that only its own allowance decides: log 1.2 = 0.18 < 0.02 + 0.35 v."""
    half = len(candidates.CANDIDATES) // 2
    flat = jnp.ones(2 * half)
    error = flat.at[half + 1].set(0.05).at[half + 5].set(0.06)
    scores = candidates.Scores(error, flat, -flat, 0.01 * flat, flat, 0.1 * flat)
    plain, pure = (candidates.CANDIDATES[half + i] for i in (1, 5))
    assert plain.method == pure.method != candidates.METHODS[-1] and pure.purified and not plain.purified
    weights = selection.Weights(purified=0.02, varied=0.35)
    chosen = [
        int(selection.decide(scores, QUIET._replace(variability=jnp.asarray(v)), weights).chosen)
        for v in (0.0, 0.4, 0.6)
    ]
    assert chosen == [half + 1, half + 1, half + 5]


def test_each_doubt_alone_makes_a_choice_unsure():
    """All else is sure: pure candidates, halves of the pixels that agree, and no more directions than spectra."""
    half = len(candidates.CANDIDATES) // 2
    flat = jnp.ones(2 * half)
    sure = candidates.Scores(flat.at[0].set(0.1).at[half].set(0.1), flat, -flat, 0.01 * flat, flat, 0.1 * flat)
    weights = selection.Weights(bright=0.16, shared=0.15, pure=0.7, unstable=0.05)
    soft = sure._replace(error=sure.error.at[half].set(0.05))
    for scores, whole, doubts in (
        (sure, QUIET, []),
        (sure, QUIET._replace(lacking=jnp.asarray([1.0, 0.0])), [0]),
        (sure, QUIET._replace(beyond=jnp.asarray(1.0)), [1]),
        (soft, QUIET, [2]),
        (sure._replace(purity=0.69 * flat), QUIET, [3]),
        (sure._replace(instability=0.051 * flat), QUIET, [4]),
    ):
        found = selection.decide(scores, whole, weights)
        assert np.flatnonzero(found.doubts).tolist() == doubts and bool(found.unsure) == bool(doubts), doubts


MEASURE = jax.jit(candidates.measure)
TWICE = jnp.asarray([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
"""Two spectra that are the same in the even and in the odd bands: each half of the bands shows the abundances."""


def measured(abundances, others, scaled):
    """Score a scene with different abundances (H, W, 2) in its even and odd bands."""
    cube = jnp.stack([abundances, others], axis=-1).reshape(*abundances.shape[:2], 4)
    pair = jnp.stack([jnp.stack([E, E]) for E in (TWICE, TWICE, TWICE[::-1])])  # of a linear and a scaled candidate
    scores = MEASURE(pair, cube, jnp.ones(cube.shape[:2], bool))
    return jax.tree.map(lambda x: x[int(scaled)], scores)


def test_a_brightness_that_neighbours_share_explains_what_the_simplex_leaves():
    """Brightness rises along the columns: the mean of the neighbours is that of the pixel, but for the border."""
    brightness = jnp.broadcast_to(1 + jnp.arange(20) / 20, (10, 20))
    mixed = jnp.stack([0.25 * brightness, 0.75 * brightness], axis=-1)
    simplex, cone = measured(mixed, mixed, False), measured(mixed, mixed, True)
    assert float(simplex.error) > 0.2 and float(simplex.shared) < 0.1 * float(simplex.error)
    assert float(cone.error) < 1e-5 and float(cone.shared) == float(cone.error)


@pytest.mark.parametrize("scaled", [False, True])
def test_bands_are_judged_by_the_half_that_has_not_seen_them(scaled):
    """By hand: each half is explained without error by itself, and the other by the difference of the two."""
    one, two = ((1.0, 2.0), (3.0, 1.0)) if scaled else ((0.25, 0.75), (0.5, 0.5))
    found = measured(*(jnp.broadcast_to(jnp.asarray(x), (10, 20, 2)) for x in (one, two)), scaled)
    square = 2 * sum((a - b) ** 2 for a, b in zip(one, two, strict=True)) / sum(a**2 for a in (*one, *two))
    np.testing.assert_allclose(found.error, np.sqrt(square), rtol=1e-5)
    np.testing.assert_allclose(found.shared, np.sqrt(square), rtol=1e-5)
    assert float(found.instability) < 1e-6  # the same spectra in another order


def test_purity_is_what_one_pixel_in_a_hundred_exceeds():
    """By hand: of 200 pixels the second purest counts, 0.8 of the one material and 0.9 of the other."""
    share = jnp.full(200, 0.5).at[::30].set(jnp.asarray([0.9, 0.8, 0.7, 0.6, 0.05, 0.1, 0.3]))
    A = jnp.stack([share, 1 - share], axis=-1).reshape(10, 20, 2)
    np.testing.assert_allclose(measured(A, A, False).purity, (0.8 + 0.9) / 2, rtol=1e-5)


def test_the_brightness_around_a_pixel_is_that_of_its_eight_neighbours():
    level = jnp.asarray([[1.0, 2.0, 3.0], [4.0, 100.0, 6.0], [7.0, 8.0, 9.0]])
    valid = jnp.ones((3, 3), bool).at[2, 2].set(False)
    found = candidates._neighbour_brightness(level[..., None], valid)
    np.testing.assert_allclose(found[1, 1, 0], (1 + 2 + 3 + 4 + 6 + 7 + 8) / 7, rtol=1e-5)
    np.testing.assert_allclose(found[0, 0, 0], (2 + 4 + 100) / 3, rtol=1e-5)


def test_spectra_rest_where_they_vary_and_brightness_is_not_free():
    half = len(candidates.CANDIDATES) // 2
    flat = 0.1 * jnp.ones(2 * half)
    linear = candidates.Scores(*(flat,) * 6)
    scaled = linear._replace(error=flat.at[half:].set(0.05), shared=flat.at[:half].set(0.06))
    for scores, beyond, moves in ((linear, 0.0, 1), (linear, 1.0, 0), (scaled, 0.0, 1), (scaled, 3.0, 1)):
        whole = candidates.SceneScores(jnp.zeros(()), jnp.asarray(beyond), *jnp.zeros((2, 2)))
        found = DECIDE(scores, whole)
        assert (found.constraint == "cone") == (scores is scaled)
        rates = dq.training.rates_for(found)
        np.testing.assert_allclose(rates.endmembers, moves * dq.RECOMMENDED[1].endmembers, rtol=1e-6)
        assert rates._replace(endmembers=0) == dq.RECOMMENDED[1]._replace(endmembers=0)
        assert dq.training.rates_for(found, dq.Rates(error=4.0)).error == 4.0
        assert dq.training.model_for(found).prior == "learned"


def test_brightness_that_each_material_has_by_itself_is_not_left_to_linear_mixing(begin):
    """One brightness for each pixel, independent of its neighbours, explains it exactly: the constraint is the cone."""
    key = jax.random.key(3)
    scene = sample(1.0, 0.0)
    own = jnp.exp(0.15 * jax.random.normal(key, (*scene.abundances.shape, 1)))
    cube = jnp.sum(scene.abundances[..., None] * own * scene.endmembers[None, None], axis=2)
    found = begin(jax.random.key(0), cube, jnp.ones((16, 16), bool))
    assert float(found.shared) < 0.15 * float(found.brightness)
    assert found.constraint == "cone" and "scaled linear model" in dq.endmembers.reason(found)
    assert dq.training.model_for(found).constraint == dq.equilibrium.Cone()
    order = dq.metrics.align(found.endmembers, scene.endmembers)
    truth = scene.abundances * jnp.max(scene.endmembers, axis=1)[None, None]
    error = dq.metrics.armse(found.abundances[..., order], truth / jnp.sum(truth, axis=-1, keepdims=True))
    linear = dq.metrics.armse(dq.abundances.fcls(cube, found.endmembers)[..., order], scene.abundances)
    assert float(error) < 0.8 * float(linear)
    assert dq.training.model_for(found.with_constraint("soft")).constraint == dq.equilibrium.Soft()
    assert dq.training.model_for(found.with_constraint("softmax")).constraint == dq.equilibrium.Simplex()


def test_too_few_bands_are_named():
    with pytest.raises(InputError, match="twice as many"):
        dq.endmembers.select_endmembers(jax.random.key(0), jnp.ones((5, 5, 5)), 3)
