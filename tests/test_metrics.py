"""Properties of the error measures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dequnmix_jax import metrics
from dequnmix_jax.checks import InputError

ANGLE = jax.jit(metrics.spectral_angle)
SLOPES = jax.jit(jax.grad(metrics.spectral_angle, argnums=(0, 1)))
ALIGN = jax.jit(metrics.align)
MAPS = (metrics.armse, metrics.pooled_rmse, metrics.psnr, metrics.sre, metrics.mean_spectral_angle)


def positive(seed, *shape, dtype="float32"):
    return np.random.default_rng(seed).uniform(0.1, 1.0, size=shape).astype(dtype)


def test_the_angle_is_the_angle(x64):
    a, b = positive(0, 50, 9, dtype="d"), positive(1, 50, 9, dtype="d")
    cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    np.testing.assert_allclose(metrics.spectral_angle(a, b), np.arccos(cosine), rtol=1e-9)
    np.testing.assert_allclose(metrics.spectral_angle(3.0 * a, 0.1 * b), metrics.spectral_angle(b, a), rtol=1e-12)


def test_small_and_special_angles_in_single_precision():
    for angle in (1e-6, 1e-4, 1.0, np.pi / 2, np.pi):
        b = np.asarray([np.cos(angle), np.sin(angle)], "f")
        np.testing.assert_allclose(ANGLE(np.asarray([2, 0], "f"), b), angle, rtol=1e-5)
    zero, one = np.zeros(3, "f"), np.ones(3, "f")
    np.testing.assert_allclose(metrics.spectral_angle(zero, one), np.pi / 2, rtol=1e-6)
    assert metrics.spectral_angle(zero, zero) == 0


@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (0.0, 1.0), (0.0, 0.0), (1.0, -1.0), (2.0, 0.5)])
def test_the_angle_has_a_finite_gradient_everywhere(a, b):
    x, y = a * jnp.asarray(positive(0, 7)), b * jnp.asarray(positive(0, 7))
    assert all(jnp.isfinite(g).all() for g in SLOPES(x, y))


def test_the_gradient_of_the_angle(x64):
    a, b, direction = (jnp.asarray(positive(s, 7, dtype="d")) for s in range(3))
    step = 1e-6
    ends = [ANGLE(a + t * direction, b) for t in (step, -step)]
    slope = jnp.sum(SLOPES(a, b)[0] * direction)
    np.testing.assert_allclose(slope, (ends[0] - ends[1]) / (2 * step), rtol=1e-7)


def test_errors_by_hand(x64):
    reference = np.zeros((1, 2, 2)) + 0.5
    estimate = reference + np.asarray([[[0.1, 0.0], [-0.1, 0.4]]])
    np.testing.assert_allclose(metrics.armse(estimate, reference), (0.1 + 0.4 / np.sqrt(2)) / 2)
    np.testing.assert_allclose(metrics.pooled_rmse(estimate, reference), np.sqrt((0.01 + 0.01 + 0.16) / 4))
    np.testing.assert_allclose(metrics.psnr(estimate, reference), 10 * np.log10(0.25 / 0.045))
    np.testing.assert_allclose(metrics.sre(estimate, reference), 10 * np.log10(1.0 / 0.18))


@pytest.mark.parametrize("measure", MAPS)
def test_masked_pixels_do_not_exist(measure):
    run, a, b = jax.jit(measure), positive(0, 4, 5, 3), positive(1, 4, 5, 3)
    mask = np.zeros((4, 5), bool)
    mask[1:3, :4] = True
    hole = np.where(mask[..., None], a, np.nan).astype("f")
    expected = run(a[1:3, :4], b[1:3, :4])
    np.testing.assert_allclose(run(hole, np.where(mask[..., None], b, 1e9).astype("f"), mask), expected, rtol=1e-5)
    slope = jax.jit(jax.grad(measure))(hole, b, mask)
    assert jnp.isfinite(slope).all() and (slope[~mask] == 0).all()


@pytest.mark.parametrize("measure", MAPS)
def test_measures_vmap(measure):
    run, a, b = jax.jit(measure), positive(0, 3, 4, 5, 6), positive(1, 3, 4, 5, 6)
    np.testing.assert_allclose(jax.vmap(run)(a, b), [run(x, y) for x, y in zip(a, b, strict=True)], rtol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_alignment_undoes_a_permutation(count):
    E = positive(count, 4, count, 30)
    orders = np.stack([np.random.default_rng(s).permutation(count) for s in range(4)])
    shuffled = np.take_along_axis(E, orders[:, :, None], axis=1) * 1.7
    found = jax.vmap(ALIGN)(shuffled, E)
    np.testing.assert_array_equal(found, np.argsort(orders, axis=1))


def test_alignment_is_the_best_assignment_and_not_the_greedy_one():
    at = lambda *degrees: np.stack([[np.cos(np.radians(d)), np.sin(np.radians(d))] for d in degrees]).astype("f")  # noqa: E731
    # Estimate 10 is nearest to reference 14, but then 30 has to go all the way to 0: 34 in all against 26.
    np.testing.assert_array_equal(ALIGN(at(10, 30), at(14, 0)), [1, 0])
    assert sorted(np.asarray(ALIGN(np.full((2, 2), np.nan, "f"), positive(0, 2, 2)))) == [0, 1]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: metrics.spectral_angle(np.ones(3), np.ones((2, 3))), "same number of axes"),
        (lambda: metrics.armse(np.ones((2, 2, 3)), np.ones((2, 3, 3))), "that of the other argument"),
        (lambda: metrics.msad(np.ones((2, 3)), np.ones((3, 3))), "as many in both"),
        (lambda: metrics.sre(np.ones((2, 2, 3)), np.ones((2, 2, 3)), np.ones((2, 2))), "expected bool"),
    ],
)
def test_wrong_shapes_are_named(call, words):
    with pytest.raises(InputError, match=words):
        call()


def test_convention_errors_vanish_for_the_fractions_that_made_the_cube():
    draw = np.random.default_rng(0)
    E = jnp.asarray([[3.0], [0.4]]) * jnp.asarray(draw.uniform(0.1, 1.0, (2, 6)), jnp.float32)
    A = jnp.asarray(draw.dirichlet([1.0, 1.0], (4, 3)), jnp.float32)
    s = jnp.asarray(draw.uniform(0.5, 2.0, (4, 3, 1)), jnp.float32)
    unit = E / jnp.max(E, axis=1, keepdims=True)
    errors = jax.jit(metrics.convention_errors)
    mask = jnp.ones((4, 3), bool).at[1, 1].set(False)
    Y = jnp.stack([7.0 * A @ E, s * (A @ E), s * (A @ unit)]).at[:, 1, 1].set(jnp.nan)
    found = np.stack([errors(A, E, cube, mask) for cube in Y])
    assert (np.diag(found) < 1e-5).all() and found[0, 1] < 1e-5
    assert found[0, 2] > 0.02 and found[1, 0] > 0.1 and found[1, 2] > 0.02 and (found[2, :2] > 0.02).all()
    slope = jax.jit(jax.grad(lambda A: jnp.sum(metrics.convention_errors(A, E, Y[0], mask))))
    assert jnp.isfinite(slope(A)).all()
    with pytest.raises(InputError, match="mixture of the abundances"):
        metrics.convention_errors(A, E, Y[0][..., :5])


def test_matching_is_compiled_once_for_a_shape():
    rng = np.random.default_rng(0)
    E = rng.uniform(0.1, 0.9, (3, 7)).astype(np.float32)
    metrics.align(E, E)
    metrics.match(rng.uniform(size=(3, 3)))
    seen: list[str] | None = []
    jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: seen is None or seen.append(name))
    jax.jit(lambda x: x + 1)(E)
    assert any("backend_compile" in name for name in seen)  # the name of the event is still this
    seen.clear()
    for _ in range(3):
        metrics.align(rng.permutation(E), E)
        metrics.match(rng.uniform(size=(3, 3)))
    compiled, seen = [name for name in seen if "backend_compile" in name], None
    assert not compiled
